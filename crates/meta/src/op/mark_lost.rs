//! The only copies of a file are gone for good.

use crate::effect::Done;
use crate::entry::MarkLost;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use types::PersistenceState;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &MarkLost) -> Outcome {
    let resolved = step.locate_container(op.container)?;
    let file = resolved.as_ref().and_then(|resolved| resolved.last().inode.file());
    let (Some(resolved), Some(file)) = (&resolved, file) else {
        return Err(Reject::Stale(format!("{} was removed", op.container.file())).into());
    };
    let spot = resolved.last();
    let only_cached = match file.persistence {
        PersistenceState::NotPersisted | PersistenceState::ToBePersisted | PersistenceState::Lost => file.complete,
        PersistenceState::Persisted => false,
    };
    if !only_cached {
        return Err(Reject::Stale(format!("{} stands in its store, or is still written", spot.path)).into());
    }
    step.check_granted(spot.mount, &spot.key, &spot.path)?;

    step.edit_file(spot, |file| file.persistence = PersistenceState::Lost)?;
    step.cancel_persist(op.container)?;
    Ok(Done::Inode(spot.inode.id))
}
