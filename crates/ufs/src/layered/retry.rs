//! When to try again, and how long to wait before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use types::Entropy;

/// What one retry costs, in units of what one success earns: at most one retry for ten successes once the reserve is used.
const RETRY_COST: u64 = 10;
/// The reserve: 100 retries in a row.
const BUDGET_MAX: u64 = 100 * RETRY_COST;

/// Keeps a failing store from being asked several times as often as a healthy one.
pub(super) struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Budget {
        Budget(AtomicU64::new(BUDGET_MAX))
    }
}

impl Budget {
    pub fn earn(&self) {
        self.change(|left| Some((left + 1).min(BUDGET_MAX)));
    }
    /// False when the budget is used up.
    pub fn spend(&self) -> bool {
        self.change(|left| left.checked_sub(RETRY_COST))
    }
    fn change(&self, step: impl FnMut(u64) -> Option<u64>) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

pub(super) struct Backoff {
    pub first: Duration,
    pub max: Duration,
    pub entropy: Arc<dyn Entropy>,
}

impl Backoff {
    /// After `tried` attempts (1 or more): between half and all of the doubled pause.
    pub fn pause(&self, tried: u32) -> Duration {
        let full = self.first.saturating_mul(2u32.saturating_pow(tried.saturating_sub(1))).min(self.max);
        let half_ns = u64::try_from(full.as_nanos() / 2).unwrap_or(u64::MAX);
        full - Duration::from_nanos(self.entropy.next_u64() % half_ns.saturating_add(1).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);
    impl Entropy for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_are_jittered() {
        let pauses = |chance| {
            let (first, max) = (Duration::from_millis(100), Duration::from_millis(350));
            let backoff = Backoff { first, max, entropy: Arc::new(Fixed(chance)) };
            [1, 2, 3, 40].map(|tried| backoff.pause(tried).as_millis())
        };
        assert_eq!(pauses(0), [100, 200, 350, 350]);
        let jittered = pauses(u64::MAX / 3);
        assert!(jittered.iter().zip(pauses(0)).all(|(less, full)| *less >= full / 2 && *less <= full), "{jittered:?}");
    }

    #[test]
    fn the_budget_ends_and_is_earned_again() {
        let budget = Budget::default();
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 100);
        (0..RETRY_COST).for_each(|_| budget.earn());
        assert!(budget.spend() && !budget.spend());
    }
}
