//! Puts a file on its way to the under store; a file that is there stays as it is, one on its way need not wait for its next try.

use crate::effect::Done;
use crate::entry::{HASTENED_PERSISTS, SchedulePersist};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use types::PersistenceState;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &SchedulePersist) -> Outcome {
    let resolved = step.walk(&op.path)?;
    let spot = resolved.found(&op.path)?;
    let Some(file) = spot.inode.file() else { return Err(Reject::IsDirectory(op.path.clone()).into()) };
    resolved.check_writable()?;
    step.check_writer(spot)?;
    if !file.complete {
        return Err(Reject::Incomplete(op.path.clone()).into());
    }
    match file.persistence {
        PersistenceState::Persisted => Ok(Done::Inode(spot.inode.id)),
        PersistenceState::ToBePersisted => {
            if step.counters.rules >= HASTENED_PERSISTS {
                step.hasten_persist(spot.inode.container, op.after_ms)?;
            }
            Ok(Done::Inode(spot.inode.id))
        }
        PersistenceState::Lost => {
            let why = format!("the only copies of {} are lost, so there is nothing to write to its store", op.path);
            Err(Reject::Refused(why).into())
        }
        PersistenceState::NotPersisted => {
            step.edit_file(spot, |file| file.persistence = PersistenceState::ToBePersisted)?;
            step.schedule_persist(spot.inode.container, spot.inode.id, op.after_ms);
            Ok(Done::Inode(spot.inode.id))
        }
    }
}
