//! Inserts what a store lists in a directory, where nothing of that name is known, was removed meanwhile, or is under an
//! intent.

use crate::effect::Done;
use crate::entry::{Found, LoadPage};
use crate::key::edge_key;
use crate::record::{Directory, File, Inode, Load, Node};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::{Family, Read};
use crate::walk::{Resolved, Spot, Stop, child};
use std::collections::BTreeMap;
use types::{InodeId, LoadId, LogIndex, Mode, PersistenceState, WriteType};

/// Block size of files that come from a store.
pub(crate) const BLOCK_BYTES: u64 = 64 << 20;
pub(crate) const FILE_MODE: Mode = Mode::new(0o644);
pub(crate) const DIRECTORY_MODE: Mode = Mode::new(0o755);

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &LoadPage) -> Outcome {
    let load = find(step, op.directory, op.load)?;
    let stale = || Reject::Stale(format!("the directory of {} was removed, moved or replaced", op.load));
    let resolved = step.locate(op.directory)?.ok_or_else(stale)?;
    let spot = resolved.last();
    if spot.mount != load.mount || spot.key != load.key || resolved.changed_since(LogIndex(load.id.0)) {
        return Err(stale().into());
    }
    if let Some(intent) = step.index.covering_above(spot.mount, &spot.key) {
        return Err(Reject::Covered { path: spot.path.clone(), intent }.into());
    }

    let owner = Owner::of(&resolved);
    let mut inserted = 0;
    for item in &op.items {
        inserted += u64::from(take(step, spot, item, &owner)?);
    }
    step.edit_directory(spot, |directory| {
        directory.children += inserted;
        directory.loaded |= op.last && !load.holes;
    })?;
    if !op.items.is_empty() {
        step.mark_persisted(&resolved.spots)?;
    }
    if op.last {
        step.end_load(op.directory)?;
    }
    Ok(Done::Nothing)
}

/// The session, if it is still the open one.
pub(crate) fn find(step: &Step<'_, '_>, directory: InodeId, load: LoadId) -> Result<Load, Reject> {
    let found = step.index.loads.get(&directory).filter(|found| found.id == load).cloned();
    found.ok_or_else(|| Reject::Stale(format!("{load} of {directory} is not open any more")))
}

/// Inserts one item; tells whether it did.
fn take(step: &mut Step<'_, '_>, directory: &Spot, item: &Found, owner: &Owner) -> Result<bool, Stop> {
    if let Some(known) = child(step.txn, directory, &item.name)? {
        let is_new_there = known.inode.directory().is_some_and(|known| !known.persisted);
        if item.directory && is_new_there && !known.is_mount_root() {
            step.edit_directory(&known, |known| known.persisted = true)?;
        }
        return Ok(false);
    }
    let was_removed = step.read().get(Family::Loads, &edge_key(directory.inode.id, &item.name))?.is_some();
    let key = directory.key_of(&item.name, item.directory);
    let cannot_be_named = directory.path.join(&item.name).is_err();
    if was_removed || cannot_be_named || step.index.covering(directory.mount, &key).is_some() {
        return Ok(false);
    }
    let inode = owner.inode(step, item)?;
    step.link(directory, &item.name, inode);
    Ok(true)
}

/// Whom inodes from a store belong to when the store does not say: the owner of the mount's root.
pub(crate) struct Owner {
    owner: String,
    group: String,
}

impl Owner {
    pub fn of(resolved: &Resolved) -> Owner {
        let mount = resolved.mount.id;
        let root = resolved.spots.iter().find(|spot| spot.mount == mount).expect("its root is on the way");
        Owner { owner: root.inode.owner.clone(), group: root.inode.group.clone() }
    }

    /// Whether an inode belongs to them.
    pub fn is_of(&self, inode: &Inode) -> bool {
        inode.owner == self.owner && inode.group == self.group
    }

    /// The inode of what a store has. Takes ids.
    pub fn inode(&self, step: &mut Step<'_, '_>, found: &Found) -> Result<Inode, Stop> {
        let (id, container) = step.take_ids()?;
        let modified = found.modified.unwrap_or(step.wall);
        let (mode, node) = if found.directory {
            (DIRECTORY_MODE, Node::Directory(directory()))
        } else {
            (FILE_MODE, Node::File(file(found)))
        };
        Ok(Inode {
            id,
            container,
            owner: found.owner.clone().unwrap_or_else(|| self.owner.clone()),
            group: found.group.clone().unwrap_or_else(|| self.group.clone()),
            mode: found.mode.unwrap_or(mode),
            created: modified,
            modified,
            changed: step.at,
            store_key: None,
            xattrs: BTreeMap::new(),
            node,
        })
    }
}

fn directory() -> Directory {
    Directory { children: 0, loaded: false, persisted: true, removed_at: LogIndex(0), mount: None }
}

/// The content of a file as its store has it.
pub(crate) fn file(found: &Found) -> File {
    File {
        complete: true,
        length: found.length,
        block_bytes: BLOCK_BYTES,
        write_type: WriteType::CacheThrough,
        persistence: PersistenceState::Persisted,
        fingerprint: found.fingerprint.clone(),
        closed: None,
        checksum: None,
        locations: Vec::new(),
        opened: types::AgeMs(0),
    }
}
