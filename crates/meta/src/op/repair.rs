//! Puts right what an audit found, if it is still so: the rules stand in `audit/mend.rs`.

use crate::audit::mend::mend;
use crate::entry::{REPAIRS, Repair};
use crate::reject::Reject;
use crate::step::{Outcome, Step};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &Repair) -> Outcome {
    if step.counters.rules < REPAIRS {
        let why = format!("rules {} are in force, and repairs come with {REPAIRS}", step.counters.rules);
        return Err(Reject::Refused(why).into());
    }
    mend(step, &op.fault)
}
