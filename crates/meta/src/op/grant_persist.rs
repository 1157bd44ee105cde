//! Lets one attempt complete its upload: from here until its end the object may appear at any moment.

use crate::effect::Done;
use crate::entry::GrantPersist;
use crate::op::begin_persist::{find, stale};
use crate::reject::Reject;
use crate::step::{Outcome, Step};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &GrantPersist) -> Outcome {
    let (resolved, mut persist) = find(step, op.container)?;
    let spot = resolved.last();
    if op.attempt != persist.attempt {
        return Err(stale(op.container, op.attempt, &persist));
    }
    if persist.key != spot.key {
        let why = format!("{} was renamed while it was uploaded; begin another attempt", spot.path);
        return Err(Reject::Stale(why).into());
    }
    resolved.check_writable()?;
    step.check_covered(spot.mount, &spot.key, &spot.path)?;

    persist.granted = true;
    step.put_persist(op.container, &persist);
    step.mark_persisted(&resolved.spots[..resolved.spots.len() - 1])?;
    Ok(Done::Inode(spot.inode.id))
}
