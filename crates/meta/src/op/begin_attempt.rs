//! The leader is about to touch the store for an intent; answers of older attempts close nothing any more.

use crate::effect::Done;
use crate::entry::BeginAttempt;
use crate::key::intent_key;
use crate::op::close_intent::find;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::Family;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &BeginAttempt) -> Outcome {
    let mut intent = find(step, op.intent)?;
    if op.attempt <= intent.attempt {
        let why = format!("{} at {} comes after {}", op.attempt, op.intent, intent.attempt);
        return Err(Reject::Stale(why).into());
    }

    intent.attempt = op.attempt;
    step.txn.put(Family::Intents, intent_key(op.intent), &intent);
    Ok(Done::Nothing)
}
