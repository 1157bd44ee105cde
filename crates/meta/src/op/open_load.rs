//! Opens a load session: from here on, removals in the directory are remembered until its last page.

use crate::effect::Done;
use crate::entry::OpenLoad;
use crate::key::inode_key;
use crate::record::Load;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::Family;
use types::LoadId;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &OpenLoad) -> Outcome {
    let gone = || Reject::Stale(format!("{} is not a directory any more", op.directory));
    let resolved = step.locate(op.directory)?.ok_or_else(gone)?;
    let spot = resolved.last();
    let directory = spot.inode.directory().ok_or_else(gone)?;
    if let Some(load) = step.index.loads.get(&op.directory) {
        return Err(Reject::Busy(format!("{} is being loaded already ({})", spot.path, load.id)).into());
    }
    if directory.removed_at > op.seen || resolved.changed_since(op.seen) {
        return Err(Reject::Stale(format!("{} changed since its store was asked", spot.path)).into());
    }
    if let Some(intent) = step.index.covering_above(spot.mount, &spot.key) {
        return Err(Reject::Covered { path: spot.path.clone(), intent }.into());
    }

    let load = Load {
        id: LoadId(step.at.0),
        mount: spot.mount,
        key: spot.key.clone(),
        seen: op.seen,
        since: step.age,
        removed: 0,
        holes: false,
        reached: None,
    };
    step.txn.put(Family::Loads, inode_key(op.directory), &load);
    Ok(Done::Load(load.id))
}
