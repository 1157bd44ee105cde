//! Inserts one name the store was asked for, with the directories above it.

use crate::effect::Done;
use crate::entry::LoadPath;
use crate::index::plain;
use crate::op::load_page::Owner;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::walk::Stop;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &LoadPath) -> Outcome {
    let resolved = step.walk_unchecked(&op.path)?;
    let stale = || Stop::from(Reject::Stale(format!("{} changed since its store was asked", op.path)));
    let key = if resolved.missing.is_empty() { resolved.last().key.clone() } else { resolved.missing_key() };
    if resolved.mount.id != op.mount || plain(&key) != plain(&op.key) {
        return Err(stale());
    }
    let levels = op.path.below(&resolved.mount.path).unwrap_or_default().split('/').filter(|name| !name.is_empty());
    if !levels.eq(op.chain.iter().map(|found| found.name.as_str())) {
        let why = format!("what the store said does not lead to {}; that is a bug of the leader", op.path);
        return Err(Reject::Invalid(why).into());
    }
    if resolved.missing.is_empty() {
        return Ok(Done::Inode(resolved.last().inode.id));
    }
    let above = resolved.last();
    let removed_at = above.inode.directory().map(|directory| directory.removed_at);
    if removed_at > Some(op.seen) || resolved.changed_since(op.seen) {
        return Err(stale());
    }
    step.check_covered(above.mount, &key, &op.path)?;
    let new = &op.chain[op.chain.len() - resolved.missing.len()..];
    if let Some(odd) = new.split_last().and_then(|(_, parents)| parents.iter().find(|found| !found.directory)) {
        return Err(Reject::Invalid(format!("the store has a file {} above {}", odd.name, op.path)).into());
    }

    let owner = Owner::of(&resolved);
    step.mark_persisted(&resolved.spots)?;
    let mut at = above.clone();
    for found in new {
        let inode = owner.inode(step, found)?;
        let made = step.link(&at, &found.name, inode);
        step.edit_directory(&at, |directory| directory.children = directory.children.saturating_add(1))?;
        at = made;
    }
    Ok(Done::Inode(at.inode.id))
}
