//! Tells a queue that stands from one that swells for a moment.

use crate::time::Monotonic;
use std::time::Duration;

/// Watches how long things wait. A wait above the bound is a burst, which passes by itself; waits above it for twice as long
/// as the bound, one after the other, are more work than can be done, and something has to be turned away.
#[derive(Clone, Debug)]
pub struct Patience {
    late: Duration,
    since: Option<Monotonic>,
}

impl Patience {
    /// - `late`: the longest wait that is nothing unusual. Zero: it never runs out.
    pub fn new(late: Duration) -> Patience {
        Patience { late, since: None }
    }

    /// Notes that something waited `waited` until `now`; whether that is one too many.
    pub fn is_over(&mut self, now: Monotonic, waited: Duration) -> bool {
        if self.late.is_zero() || waited <= self.late {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now - since >= 2 * self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    #[test]
    fn it_runs_out_when_waits_stay_long_and_is_back_with_a_short_one() {
        let mut patience = Patience::new(LATE);
        let long = Duration::from_millis(101);
        assert!(!patience.is_over(at(1_000), long));
        assert!(!patience.is_over(at(1_199), long));
        assert!(patience.is_over(at(1_200), long));
        assert!(patience.is_over(at(1_300), long));
        assert!(!patience.is_over(at(1_301), LATE));
        assert!(!patience.is_over(at(1_302), long), "it begins anew");
        assert!(!patience.is_over(at(1_501), long));
        assert!(patience.is_over(at(1_502), long));
    }

    #[test]
    fn a_bound_of_nothing_is_none() {
        let mut patience = Patience::new(Duration::ZERO);
        assert!((0..100).all(|s| !patience.is_over(at(s * 1_000), Duration::from_secs(60))));
    }
}
