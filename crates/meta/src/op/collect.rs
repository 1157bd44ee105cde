//! Frees what hangs below a detached directory, a bounded number of inodes at a time. Directories found there that are
//! not empty are detached in their turn, so the work left is always in the state.

use crate::effect::Done;
use crate::entry::Collect;
use crate::index::Went;
use crate::key::{edge_range, inode_key};
use crate::record::{Inode, Record};
use crate::step::{Outcome, Step};
use crate::store::{Family, Read};

/// Most inodes one entry frees.
const MAX_STEP: u32 = 10_000;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &Collect) -> Outcome {
    if step.read().get(Family::Detached, &inode_key(op.directory))?.is_none() {
        return Ok(Done::Collected { freed: 0, more: false });
    }
    let limit = usize::try_from(op.limit.clamp(1, MAX_STEP)).expect("a small number");
    let (start, end) = edge_range(op.directory, None);
    let start = step.index.progress.edges_from(op.directory, start);
    let page = step.read().scan(Family::Edges, &start, &end, limit + 1)?;
    let more = page.len() > limit;

    for (key, value) in page.iter().take(limit) {
        step.txn.delete(Family::Edges, key);
        step.forget(&Inode::decode(value)?)?;
    }
    let last = page.get(limit - 1).map(|(key, _)| key.clone()).filter(|_| more);
    step.went = Some(Went::Collected(op.directory, last));
    if !more {
        step.txn.delete(Family::Detached, inode_key(op.directory));
    }
    let freed = u32::try_from(page.len().min(limit)).expect("at most the limit");
    Ok(Done::Collected { freed, more })
}
