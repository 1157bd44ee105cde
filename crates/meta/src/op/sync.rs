//! What the store says now of an inode we know. Only what is wholly the store's, and unchanged since before it was asked,
//! follows it; everything else is left to the next sync.

use crate::effect::{Done, Effect};
use crate::entry::{Found, Sync};
use crate::key::{container_key, edge_range};
use crate::op::load_page;
use crate::record::{Directory, File, Inode, Node, Record};
use crate::reject::Reject;
use crate::step::{Gone, Outcome, Step};
use crate::store::{Family, Read};
use crate::walk::{Resolved, Stop};
use types::{LogIndex, PersistenceState};

/// Inodes looked at to see whether a directory that vanished held anything of ours. Larger ones are only marked as not
/// loaded: their files vanish one by one.
const MAX_INODES: usize = 1_000;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &Sync) -> Outcome {
    let stale = || Reject::Stale(format!("{} was removed or moved since its store was asked", op.inode));
    let resolved = step.locate(op.inode)?.ok_or_else(stale)?;
    let spot = resolved.last();
    if spot.key != op.key {
        return Err(stale().into());
    }
    if spot.is_mount_root() || resolved.changed_since(op.seen) {
        return Ok(Done::Nothing);
    }
    step.check_covered(spot.mount, &spot.key, &spot.path)?;
    match &spot.inode.node {
        Node::File(file) => sync_file(step, &resolved, file, op.found.as_ref()),
        Node::Directory(directory) => sync_directory(step, &resolved, directory, op),
    }
}

fn is_the_stores(file: &File) -> bool {
    file.complete && file.persistence == PersistenceState::Persisted
}

fn sync_file(step: &mut Step<'_, '_>, resolved: &Resolved, file: &File, found: Option<&Found>) -> Outcome {
    let (parent, spot) = (resolved.parent(), resolved.last());
    if !is_the_stores(file) {
        return Ok(Done::Nothing);
    }
    match found {
        None => step.unlink(parent, spot, Gone::Everywhere)?,
        // The next load brings in what stands there now.
        Some(found) if found.directory => step.unlink(parent, spot, Gone::Here)?,
        Some(found) if is_same(&spot.inode, file, found) => {
            if file.fingerprint.is_none() && found.fingerprint.is_some() {
                step.edit_file(spot, |file| file.fingerprint.clone_from(&found.fingerprint))?;
            }
        }
        Some(found) => begin_generation(step, resolved, found)?,
    }
    Ok(Done::Nothing)
}

/// Whether the object is the one we know: by its version if both have one, else by length and time.
fn is_same(inode: &Inode, file: &File, found: &Found) -> bool {
    match (&file.fingerprint, &found.fingerprint) {
        (Some(ours), Some(theirs)) => ours == theirs,
        (None, _) | (_, None) => file.length == found.length && Some(inode.modified) == found.modified,
    }
}

/// Blocks of the old content become garbage, never wrong answers: the file gets another container.
fn begin_generation(step: &mut Step<'_, '_>, resolved: &Resolved, found: &Found) -> Result<(), Stop> {
    let spot = resolved.last();
    let (_, container) = step.take_ids()?;
    let old = spot.inode.container;
    step.txn.delete(Family::Containers, container_key(old));
    step.own_container(container, spot.inode.id);
    let (at, modified) = (step.at, found.modified.unwrap_or(step.wall));
    step.edit(spot, |inode| {
        inode.container = container;
        inode.modified = modified;
        inode.changed = at;
        inode.node = Node::File(load_page::file(found));
    })?;
    step.effects.push(Effect::FreeContainer(old));
    Ok(())
}

fn sync_directory(step: &mut Step<'_, '_>, resolved: &Resolved, directory: &Directory, op: &Sync) -> Outcome {
    let (parent, spot) = (resolved.parent(), resolved.last());
    match &op.found {
        Some(found) if found.directory => step.mark_persisted(&resolved.spots)?,
        None if !directory.persisted => {}
        None | Some(_) if directory.removed_at > op.seen => {}
        None | Some(_) if holds_only_the_stores(step, spot.inode.id, op.seen)? => {
            let gone = if op.found.is_some() { Gone::Here } else { Gone::Everywhere };
            step.unlink(parent, spot, gone)?;
        }
        None | Some(_) => step.edit_directory(spot, |directory| directory.loaded = false)?,
    }
    Ok(Done::Nothing)
}

/// Whether everything below came from the store, is complete, and did not change since `seen`. No for large trees.
fn holds_only_the_stores(step: &Step<'_, '_>, top: types::InodeId, seen: LogIndex) -> Result<bool, Stop> {
    let mut left = MAX_INODES;
    let mut directories = vec![top];
    while let Some(at) = directories.pop() {
        let (start, end) = edge_range(at, None);
        let page = step.read().scan(Family::Edges, &start, &end, left + 1)?;
        if page.len() > left {
            return Ok(false);
        }
        left -= page.len();
        for (_, value) in &page {
            let inode = Inode::decode(value)?;
            let ours = match &inode.node {
                Node::File(file) => !is_the_stores(file),
                Node::Directory(directory) => !directory.persisted || directory.removed_at > seen,
            };
            if ours || inode.changed > seen {
                return Ok(false);
            }
            if inode.is_directory() {
                directories.push(inode.id);
            }
        }
    }
    Ok(true)
}
