//! Tells a queue that stands from one that swells for a moment.

use crate::time::Monotonic;
use std::time::Duration;

/// Watches how long things wait. A wait above the bound is a burst, which passes by itself; waits above it for twice as long
/// as the bound, one after the other, are more work than can be done, and something has to be turned away: until a wait of a
/// quarter of the bound or less says that there is hardly anything left to turn away.
#[derive(Clone, Debug)]
pub struct Patience {
    late: Duration,
    since: Option<Monotonic>,
    is_over: bool,
}

impl Patience {
    /// - `late`: the longest wait that is nothing unusual. Zero: it never runs out.
    pub fn new(late: Duration) -> Patience {
        Patience { late, since: None, is_over: false }
    }

    /// Notes that something waited `waited` until `now`; whether that is one too many.
    pub fn is_over(&mut self, now: Monotonic, waited: Duration) -> bool {
        if self.late.is_zero() {
            return false;
        }
        if self.is_over {
            self.is_over = waited > self.late / 4;
            return self.is_over;
        }
        self.since = if waited > self.late { self.since.or(Some(now)) } else { None };
        self.is_over = self.since.take_if(|since| now - *since >= 2 * self.late).is_some();
        self.is_over
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
    fn it_runs_out_when_waits_stay_long_and_is_back_with_one_that_is_short_indeed() {
        let mut patience = Patience::new(LATE);
        let long = Duration::from_millis(101);
        assert!(!patience.is_over(at(1_000), long));
        assert!(!patience.is_over(at(1_199), long));
        assert!(patience.is_over(at(1_200), long));
        assert!(patience.is_over(at(1_300), long));
        assert!(patience.is_over(at(1_301), LATE), "some is turned away: so waits are shorter");
        assert!(patience.is_over(at(1_302), Duration::from_millis(26)));
        assert!(!patience.is_over(at(1_303), Duration::from_millis(25)));
        assert!(!patience.is_over(at(1_304), long), "it begins anew");
        assert!(!patience.is_over(at(1_503), long));
        assert!(patience.is_over(at(1_504), long));
    }

    #[test]
    fn one_wait_within_the_bound_makes_a_burst_of_what_came_before() {
        let mut patience = Patience::new(LATE);
        let long = Duration::from_millis(101);
        for ms in (1_000..2_000).step_by(150) {
            assert!(!patience.is_over(at(ms), long));
            assert!(!patience.is_over(at(ms + 149), long));
            assert!(!patience.is_over(at(ms + 149), LATE));
        }
    }

    #[test]
    fn a_bound_of_nothing_is_none() {
        let mut patience = Patience::new(Duration::ZERO);
        assert!((0..100).all(|s| !patience.is_over(at(s * 1_000), Duration::from_secs(60))));
    }
}
