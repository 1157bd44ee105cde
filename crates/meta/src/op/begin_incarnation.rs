//! A forced recovery: from here on containers are given out far above whatever the lost masters may give out.

use crate::entry::BeginIncarnation;
use crate::op::NOTHING;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use types::{ContainerId, Incarnation};

/// Containers left out: more than a group that went on without this one gives out in years.
const JUMP: u64 = 1 << 32;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &BeginIncarnation) -> Outcome {
    let Incarnation(now) = step.counters.incarnation;
    if op.after != step.counters.incarnation {
        let why = format!("{} is over, {} goes on", op.after, step.counters.incarnation);
        return Err(Reject::Stale(why).into());
    }

    step.counters.incarnation = Incarnation(now + 1);
    step.counters.next_container = ContainerId(step.counters.next_container.0 + JUMP);
    NOTHING
}
