//! Drops outcomes nobody will ask for any more. Those that are not decided yet stay.

use crate::entry::ForgetOperations;
use crate::index::Went;
use crate::key::{operation_age_of, operation_age_range, operation_key};
use crate::op::NOTHING;
use crate::record::OperationRecord;
use crate::step::{Outcome, Step};
use crate::store::{Family, Read};
use crate::txn::fetch;

/// Most outcomes one entry drops.
const MAX_STEP: u32 = 10_000;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &ForgetOperations) -> Outcome {
    let (start, end) = operation_age_range(op.before);
    let limit = usize::try_from(op.limit.min(MAX_STEP)).expect("a small number");
    let start = step.index.progress.operations_from(&start);
    let mut is_first = true;
    for (key, _) in step.read().scan(Family::Operations, &start, &end, limit)? {
        let (_, operation) = operation_age_of(&key)?;
        let record: Option<OperationRecord> = fetch(step.txn, Family::Operations, operation_key(operation))?;
        if record.is_some_and(|record| record.pending.is_some()) {
            is_first = false;
            continue;
        }
        // What is remembered from here on is not older than this entry.
        if is_first && op.before <= step.age {
            step.went = Some(Went::Forgot(key.clone()));
        }
        step.txn.delete(Family::Operations, key);
        step.txn.delete(Family::Operations, operation_key(operation));
    }
    NOTHING
}
