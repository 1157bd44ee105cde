//! Forgets what was not used for a time and can be had from its store again, just as it is. The store is not touched, and the
//! directory is not `loaded` any more: who asks for the name, or lists the directory, brings it back.

use crate::effect::Done;
use crate::entry::{EXPIRIES, Expire};
use crate::op::load_page::Owner;
use crate::reject::Reject;
use crate::step::{Gone, Outcome, Step};
use crate::uses::{UsedSince, is_as_loaded, uses};
use crate::walk::Stop;
use types::InodeId;

/// Most inodes one entry looks at.
const MAX_STEP: usize = 1_000;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &Expire) -> Outcome {
    if step.counters.rules < EXPIRIES {
        let why = format!("rules {} are in force, and metadata expire from {EXPIRIES} on", step.counters.rules);
        return Err(Reject::Refused(why).into());
    }
    let uses = uses(step.txn)?;
    let mut used = UsedSince::new(&uses, step.age, op.unused_ms)
        .ok_or_else(|| Reject::Stale(format!("uses were not noted for {} ms yet", op.unused_ms)))?;
    let mut freed = 0;
    for inode in op.inodes.iter().take(MAX_STEP) {
        freed += u32::from(expire(step, *inode, &mut used)?);
    }
    Ok(Done::Collected { freed, more: false })
}

/// Whether it went.
fn expire(step: &mut Step<'_, '_>, inode: InodeId, used: &mut UsedSince) -> Result<bool, Stop> {
    let Some(resolved) = step.locate(inode)? else { return Ok(false) };
    let spot = resolved.last();
    let owner = Owner::of(&resolved);
    let is_free = step.index.covering(spot.mount, &spot.key).is_none()
        && step.index.granted(spot.mount, &spot.key).is_none()
        && !step.index.loads.contains_key(&inode);
    if !is_free || !is_as_loaded(&spot.inode) || !owner.is_of(&spot.inode) || used.has(step.txn, &spot.inode)? {
        return Ok(false);
    }

    step.unlink(resolved.parent(), spot, Gone::Unasked)?;
    Ok(true)
}
