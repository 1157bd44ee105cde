//! How long something takes, counted while it happens.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Each power of two is divided into so many buckets.
const STEPS: u64 = 8;
/// Powers of two of a microsecond beyond the first eight microseconds: up to an hour.
const POWERS: u64 = 30;
const BUCKETS: usize = (STEPS * (POWERS + 1)) as usize;

/// Durations in buckets of microseconds, each an eighth of a power of two wide. All counts only grow; recording costs three
/// atomic additions.
#[derive(Debug)]
pub struct Timings {
    buckets: [AtomicU64; BUCKETS],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings { buckets: [const { AtomicU64::new(0) }; BUCKETS], count: AtomicU64::new(0), sum_us: AtomicU64::new(0) }
    }
}

impl Timings {
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Relaxed);
        self.count.fetch_add(1, Relaxed);
        self.sum_us.fetch_add(micros, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Relaxed))
    }

    /// What `per_mille` of the durations do not exceed, rounded up by an eighth at most; zero without any.
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let rank = (counts.iter().sum::<u64>() * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        at.map_or(Duration::ZERO, |at| Duration::from_micros(upper(at)))
    }
}

/// Where a duration is counted; the last bucket takes everything above.
fn bucket(micros: u64) -> usize {
    let power = (u64::BITS - (micros / STEPS).leading_zeros()).saturating_sub(1);
    let index = u64::from(power) * STEPS + (micros >> power);
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest duration of a bucket, in microseconds.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let power = (bucket / STEPS).saturating_sub(1);
    let step = bucket - power * STEPS;
    ((step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_bucket_that_ends_at_or_after_it_and_no_more_than_an_eighth_later() {
        for micros in (0..5_000).chain([1 << 20, (1 << 20) + 1, 3_599_999_999]) {
            let at = bucket(micros);
            assert!(upper(at) >= micros && upper(at) - micros <= micros / 8, "{micros} {at} {}", upper(at));
            assert!(at == 0 || upper(at - 1) < micros, "{micros} is in the first that takes it");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_what_was_recorded() {
        let timings = Timings::default();
        assert_eq!(timings.quantile(500), Duration::ZERO);
        (1..=100).for_each(|ms| timings.record(Duration::from_millis(ms)));
        assert_eq!((timings.count(), timings.sum()), (100, Duration::from_millis(5050)));
        for (per_mille, ms) in [(10, 1), (500, 50), (990, 99), (1000, 100)] {
            let (found, wanted) = (timings.quantile(per_mille), Duration::from_millis(ms));
            assert!(found >= wanted && found <= wanted * 9 / 8, "{per_mille}: {found:?}");
        }
    }
}
