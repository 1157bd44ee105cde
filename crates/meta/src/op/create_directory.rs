//! Makes a directory that exists only here; the store gets it with the first object below it.

use crate::effect::Done;
use crate::entry::CreateDirectory;
use crate::record::Node;
use crate::step::{Outcome, Step};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &CreateDirectory) -> Outcome {
    let resolved = step.walk(&op.path)?;
    if op.allow_exists && resolved.missing.is_empty() && resolved.last().inode.is_directory() {
        return Ok(Done::Inode(resolved.last().inode.id));
    }
    step.check_new(&resolved, &op.path, op.recursive)?;
    let directory = Step::new_directory(&resolved.last().inode);
    let made = step.make(&resolved, op.mode, op.mode, Node::Directory(directory))?;
    Ok(Done::Inode(made.inode.id))
}
