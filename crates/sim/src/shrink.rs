//! Makes a failing schedule small: leaves out what is not needed to fail in the same way.

use crate::schedule::Schedule;
use crate::trace::Keep;
use crate::{Kind, Plan, run};

/// Runs a shrinking may take.
const RUNS: usize = 300;

/// The smallest schedule found that still fails as `kind`. Leaves out ever smaller parts, as Zeller's ddmin does.
pub fn shrink(plan: Plan, schedule: &Schedule, kind: Kind) -> Schedule {
    let mut best = schedule.clone();
    let mut part = best.0.len().div_ceil(2);
    let mut runs = 0;
    while part > 0 {
        let mut from = 0;
        let mut shorter = false;
        while from < best.0.len() && runs < RUNS {
            let mut without = best.clone();
            without.0.drain(from..(from + part).min(best.0.len()));
            runs += 1;
            if run(plan, &without, Keep::Digest).verdict.is_err_and(|failure| failure.kind == kind) {
                best = without;
                shorter = true;
            } else {
                from += part;
            }
        }
        if !shorter || runs >= RUNS {
            part /= 2;
        }
    }
    best
}
