//! Gives an inode another name, never over something that exists.
//!
//! What only exists here moves at once, and so does any directory: one edge. What stands in the store gets an intent: a
//! file moves when the store has moved its object, a directory keeps its old key until the store has moved the tree.

use crate::effect::Done;
use crate::entry::Rename;
use crate::op::close_stream::reaches_store;
use crate::record::{Directory, File, IntentKind, Node};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::walk::{Resolved, Spot, Stop};
use types::{GfsPath, Name, PersistenceState, Right};

/// What is moved where.
struct Move<'a> {
    entry: &'a Spot,
    from: &'a Spot,
    target: &'a Resolved,
    name: &'a Name,
    to_key: String,
}

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &Rename) -> Outcome {
    let source = step.walk(&op.path)?;
    let entry = source.found(&op.path)?;
    if entry.is_mount_root() {
        return Err(Reject::MountRoot { path: op.path.clone(), verb: "renamed" }.into());
    }
    if op.to != op.path && op.to.is_within(&op.path) {
        return Err(Reject::IntoItself { from: op.path.clone(), to: op.to.clone() }.into());
    }
    let target = step.walk(&op.to)?;
    let name = match target.missing.as_slice() {
        [] => return Err(Reject::AlreadyExists(op.to.clone()).into()),
        [name] => name,
        _ => return Err(Reject::NotFound(op.to.parent().unwrap_or_else(GfsPath::root)).into()),
    };
    let (from, to) = (source.parent(), target.last());
    if entry.mount != to.mount {
        let (from_store, to_store) = (source.mount.uri.clone(), target.mount.uri.clone());
        return Err(Reject::AcrossStores { from: op.path.clone(), to: op.to.clone(), from_store, to_store }.into());
    }
    source.check_writable()?;
    step.check_removable(from, entry)?;
    step.who.check(Right::WRITE.and(Right::EXECUTE), &to.inode, &to.path)?;
    let to_key = to.key_of(name, entry.inode.is_directory());
    step.check_covered(entry.mount, &entry.key, &op.path)?;
    step.check_covered(entry.mount, &to_key, &op.to)?;
    step.check_granted(entry.mount, &entry.key, &op.path)?;
    let moved = Move { entry, from, target: &target, name, to_key };
    match &entry.inode.node {
        Node::File(file) => rename_file(step, &moved, file),
        Node::Directory(directory) => rename_directory(step, &moved, directory),
    }
}

fn rename_file(step: &mut Step<'_, '_>, moved: &Move<'_>, file: &File) -> Outcome {
    let entry = moved.entry;
    // A stream to the store may be open, or was closed, under the old key.
    if !file.complete && reaches_store(file.write_type) {
        return Err(Reject::Incomplete(entry.path.clone()).into());
    }
    match file.persistence {
        PersistenceState::Persisted => {
            let kind = IntentKind::RenameFile {
                from: entry.key.clone(),
                to: moved.to_key.clone(),
                fingerprint: file.fingerprint.clone(),
                inode: entry.inode.id,
                to_parent: moved.target.last().inode.id,
                to_name: moved.name.clone(),
            };
            // The store makes them before it moves the object, and may then refuse.
            step.mark_persisted(&moved.target.spots)?;
            return Ok(Done::Pending(step.open_intent(entry.mount, kind, true)));
        }
        PersistenceState::ToBePersisted => leave_no_object(step, entry)?,
        PersistenceState::NotPersisted | PersistenceState::Lost => {}
    }
    step.move_edge(entry, moved.from, moved.target.last(), moved.name, |_| {})?;
    Ok(Done::Inode(entry.inode.id))
}

/// An attempt to persist that was granted and failed may have left an object under the old key.
fn leave_no_object(step: &mut Step<'_, '_>, entry: &Spot) -> Result<(), Stop> {
    if let Some(mut persist) = step.persist(entry.inode.container)?.filter(|persist| persist.uncertain) {
        persist.uncertain = false;
        step.put_persist(entry.inode.container, &persist);
        step.delete_object(entry, None, false);
    }
    Ok(())
}

fn rename_directory(step: &mut Step<'_, '_>, moved: &Move<'_>, directory: &Directory) -> Outcome {
    let entry = moved.entry;
    let at = step.at;
    // Where not every name of the store is known, it may hold something below the new one.
    let known = moved.target.last().inode.directory().is_some_and(|to| to.loaded);
    let store_key = directory.persisted.then(|| entry.key.clone());
    step.move_edge(entry, moved.from, moved.target.last(), moved.name, |inode| {
        inode.store_key = store_key;
        if let Node::Directory(directory) = &mut inode.node {
            directory.removed_at = at;
            directory.loaded &= known;
        }
    })?;
    if directory.persisted {
        step.mark_persisted(&moved.target.spots)?;
        let kind = IntentKind::MoveTree {
            from: entry.key.clone(),
            to: moved.to_key.clone(),
            inode: entry.inode.id,
            parent: entry.parent,
            name: entry.name.clone().expect("only / has no name, and it is a mount's root"),
        };
        step.open_intent(entry.mount, kind, false);
    }
    Ok(Done::Inode(entry.inode.id))
}
