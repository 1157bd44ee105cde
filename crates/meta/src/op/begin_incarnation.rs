//! A forced recovery, or a start from a backup: from here on containers are given out far above whatever another history of
//! this namespace gave out, and those in between are known as left out.

use crate::entry::BeginIncarnation;
use crate::key::LEFT_OUT_KEY;
use crate::op::NOTHING;
use crate::record::LeftOut;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::Family;
use crate::txn::fetch;
use types::{ContainerId, Incarnation};

/// Containers left out: more than a group that went on without this one gives out in years.
const JUMP: u64 = 1 << 32;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &BeginIncarnation) -> Outcome {
    let Incarnation(now) = step.counters.incarnation;
    if op.after != step.counters.incarnation {
        let why = format!("{} is over, {} goes on", op.after, step.counters.incarnation);
        return Err(Reject::Stale(why).into());
    }

    let from = step.counters.next_container;
    let to = ContainerId(from.0 + JUMP);
    let mut left_out: LeftOut = fetch(step.txn, Family::State, LEFT_OUT_KEY)?.unwrap_or_default();
    left_out.ranges.push((from, to));
    step.txn.put(Family::State, LEFT_OUT_KEY, &left_out);
    step.counters.incarnation = Incarnation(now + 1);
    step.counters.next_container = to;
    NOTHING
}
