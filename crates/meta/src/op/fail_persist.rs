//! An attempt to persist came to nothing; the next is due later.

use crate::effect::{Done, Effect};
use crate::entry::FailPersist;
use crate::op::begin_persist::{find, stale};
use crate::step::{Outcome, Step};
use types::AgeMs;

/// Of the store's words that are kept.
const MAX_ERROR_CHARS: usize = 500;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &FailPersist) -> Outcome {
    let (resolved, mut persist) = find(step, op.container)?;
    if op.attempt != persist.attempt {
        return Err(stale(op.container, op.attempt, &persist));
    }

    persist.uncertain |= persist.granted;
    persist.granted = false;
    persist.failures = persist.failures.saturating_add(1);
    persist.due = AgeMs(step.age.0.saturating_add(op.retry_after_ms));
    persist.last_error = op.error.chars().take(MAX_ERROR_CHARS).collect();
    step.put_persist(op.container, &persist);
    step.effects.push(Effect::Persist(op.container));
    Ok(Done::Inode(resolved.last().inode.id))
}
