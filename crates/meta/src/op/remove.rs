//! Removes a file, or a directory with what is below it.
//!
//! The edge goes at once. What stands in the store is deleted under an intent, unless only our knowledge is dropped;
//! what hangs below a directory is freed later, in steps.

use crate::effect::Done;
use crate::entry::Remove;
use crate::op::close_stream::reaches_store;
use crate::record::{Directory, File, IntentKind, Node};
use crate::reject::Reject;
use crate::step::{Gone, Outcome, Step};
use crate::walk::Spot;
use types::Right;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &Remove) -> Outcome {
    let resolved = step.walk(&op.path)?;
    let entry = resolved.found(&op.path)?;
    if entry.is_mount_root() {
        return Err(Reject::MountRoot { path: op.path.clone(), verb: "removed" }.into());
    }
    let parent = resolved.parent();
    if !op.goosefs_only {
        resolved.check_writable()?;
    }
    step.check_removable(parent, entry)?;
    if let Node::Directory(directory) = &entry.inode.node {
        check_directory(step, op, entry, directory)?;
    }
    step.check_covered(entry.mount, &entry.key, &op.path)?;
    // An upload that may be completed at any moment could land on whatever takes the name next.
    step.check_granted(entry.mount, &entry.key, &op.path)?;
    if op.goosefs_only {
        step.unlink(parent, entry, Gone::Here)?;
        return Ok(Done::Nothing);
    }
    match &entry.inode.node {
        Node::File(file) => remove_file(step, parent, entry, file),
        Node::Directory(directory) => remove_directory(step, parent, entry, directory),
    }
}

fn check_directory(step: &Step<'_, '_>, op: &Remove, entry: &Spot, directory: &Directory) -> Result<(), Reject> {
    let is_empty = directory.children == 0;
    if !is_empty && !op.recursive {
        return Err(Reject::NotEmpty(op.path.clone()));
    }
    if !is_empty {
        step.who.check(Right::WRITE.and(Right::EXECUTE), &entry.inode, &entry.path)?;
    }
    // What the store has below it would go with it unseen.
    if !op.recursive && !op.goosefs_only && directory.persisted && !directory.loaded {
        let why =
            format!("{} was not loaded from its store yet, so nobody knows whether it is empty; list it", op.path);
        return Err(Reject::Busy(why));
    }
    Ok(())
}

fn remove_file(step: &mut Step<'_, '_>, parent: &Spot, entry: &Spot, file: &File) -> Outcome {
    let persist = step.persist(entry.inode.container)?;
    // A stream whose close was never reported, because its worker was killed, may have left its object all the same.
    let unreported = !file.complete && reaches_store(file.write_type);
    let in_store = entry.inode.is_in_store() || unreported || persist.is_some_and(|persist| persist.uncertain);
    step.unlink(parent, entry, Gone::Everywhere)?;
    if !in_store {
        return Ok(Done::Nothing);
    }
    let fingerprint = match &file.closed {
        Some((fingerprint, _)) => fingerprint.clone(),
        None => file.fingerprint.clone(),
    };
    Ok(Done::Pending(step.delete_object(entry, fingerprint, true)))
}

fn remove_directory(step: &mut Step<'_, '_>, parent: &Spot, entry: &Spot, directory: &Directory) -> Outcome {
    step.unlink(parent, entry, Gone::Everywhere)?;
    if directory.persisted {
        let name = entry.name.clone().expect("only / has no name, and it is a mount's root");
        let kind = IntentKind::DeleteTree { key: entry.key.clone(), parent: entry.parent, name };
        step.open_intent(entry.mount, kind, false);
    }
    Ok(Done::Nothing)
}
