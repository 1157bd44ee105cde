//! A new attempt to persist a file begins, to the key the file has now.

use crate::effect::Done;
use crate::entry::BeginPersist;
use crate::record::Persist;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::walk::{Resolved, Stop};
use types::{Attempt, ContainerId};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &BeginPersist) -> Outcome {
    let (resolved, mut persist) = find(step, op.container)?;
    let spot = resolved.last();
    if op.attempt != Attempt(persist.attempt.0 + 1) {
        return Err(stale(op.container, op.attempt, &persist));
    }
    resolved.check_writable()?;
    step.check_covered(spot.mount, &spot.key, &spot.path)?;

    persist.uncertain |= persist.granted;
    persist.granted = false;
    persist.attempt = op.attempt;
    persist.mount = spot.mount;
    persist.key.clone_from(&spot.key);
    step.put_persist(op.container, &persist);
    Ok(Done::Inode(spot.inode.id))
}

/// The file and its persist. Stale when it was removed or needs none any more.
pub(crate) fn find(step: &Step<'_, '_>, container: ContainerId) -> Result<(Resolved, Persist), Stop> {
    let gone = || Reject::Stale(format!("{} was removed, or needs no persist any more", container.file()));
    let persist = step.persist(container)?.ok_or_else(gone)?;
    let resolved = step.locate_container(container)?.ok_or_else(gone)?;
    Ok((resolved, persist))
}

pub(crate) fn stale(container: ContainerId, attempt: Attempt, persist: &Persist) -> Stop {
    let why = format!("{attempt} to persist {} comes when {} is the last", container.file(), persist.attempt);
    Reject::Stale(why).into()
}
