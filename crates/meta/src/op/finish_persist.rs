//! The store holds the file now.

use crate::effect::{Done, Effect};
use crate::entry::FinishPersist;
use crate::key::container_key;
use crate::op::begin_persist::{find, stale};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::Family;
use types::PersistenceState;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &FinishPersist) -> Outcome {
    let (resolved, persist) = find(step, op.container)?;
    let spot = resolved.last();
    if op.attempt != persist.attempt || !persist.granted {
        return Err(stale(op.container, op.attempt, &persist));
    }
    let length = spot.inode.file().map_or(0, |file| file.length);
    if length != op.length {
        return Err(Reject::StreamLength { path: spot.path.clone(), closed: op.length, length }.into());
    }

    step.txn.delete(Family::Persists, container_key(op.container));
    let at = step.at;
    step.edit(spot, |inode| inode.changed = at)?;
    step.edit_file(spot, |file| {
        file.persistence = PersistenceState::Persisted;
        file.fingerprint.clone_from(&op.fingerprint);
        file.locations.clear();
    })?;
    step.effects.push(Effect::Evictable(op.container));
    Ok(Done::Inode(spot.inode.id))
}
