//! A file that was on its way to its store stays where it is cached, until somebody asks for it again.

use crate::effect::Done;
use crate::entry::HoldPersist;
use crate::op::begin_persist::find;
use crate::step::{Outcome, Step};
use types::PersistenceState;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &HoldPersist) -> Outcome {
    let (resolved, _) = find(step, op.container)?;
    let spot = resolved.last();
    step.cancel_persist(op.container)?;
    step.edit_file(spot, |file| file.persistence = PersistenceState::NotPersisted)?;
    Ok(Done::Inode(spot.inode.id))
}
