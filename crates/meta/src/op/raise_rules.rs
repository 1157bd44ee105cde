//! Every member of the group supports these rules: from the next entry on they are in force.

use crate::entry::{RULES_VERSION, RaiseRules};
use crate::op::NOTHING;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::StoreError;
use types::ErrorKind;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &RaiseRules) -> Outcome {
    if op.version > RULES_VERSION {
        // Not a rejection: others do apply it, and from here on apply what this release cannot.
        let what = Reject::Rules(op.version, RULES_VERSION).to_string();
        return Err(StoreError { what, kind: ErrorKind::Invalid }.into());
    }
    if op.version < step.counters.rules {
        let why = format!("rules {} are in force, {} would be a step back", step.counters.rules, op.version);
        return Err(Reject::Stale(why).into());
    }

    step.counters.rules = op.version;
    NOTHING
}
