//! Counts of what was asked of a store: plain atomics, read by whoever exports them.

use crate::error::Verb;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets in microseconds; one more bucket holds what is slower.
pub const LATENCY_BOUNDS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];
/// Buckets of a latency histogram.
pub const BUCKET_COUNT: usize = LATENCY_BOUNDS_US.len() + 1;

/// Counters of one store, by verb.
#[derive(Default)]
pub struct Metrics {
    verbs: [Counters; Verb::ALL.len()],
}

#[derive(Default)]
struct Counters {
    attempts: AtomicU64,
    errors: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
    latency_us_sum: AtomicU64,
    buckets: [AtomicU64; BUCKET_COUNT],
}

/// The counters of one verb at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerbCounts {
    /// Requests made, repeated ones included. For reads the openings, for writes the openings and the finishings.
    pub attempts: u64,
    /// Those that failed, also when a later one succeeded.
    pub errors: u64,
    /// Attempts after the first, and reads resumed in the middle.
    pub retries: u64,
    /// Content moved by reads and writes.
    pub bytes: u64,
    pub latency_us_sum: u64,
    /// Attempts by duration; bounds in [`LATENCY_BOUNDS_US`], not cumulative.
    pub buckets: [u64; BUCKET_COUNT],
}

impl Metrics {
    /// The counters of one verb now.
    pub fn of(&self, verb: Verb) -> VerbCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = self.counters(verb);
        VerbCounts {
            attempts: read(&counters.attempts),
            errors: read(&counters.errors),
            retries: read(&counters.retries),
            bytes: read(&counters.bytes),
            latency_us_sum: read(&counters.latency_us_sum),
            buckets: std::array::from_fn(|at| read(&counters.buckets[at])),
        }
    }

    pub(super) fn record(&self, verb: Verb, latency: Duration, is_ok: bool) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < latency_us);
        let counters = self.counters(verb);
        add(&counters.attempts, 1);
        add(&counters.errors, u64::from(!is_ok));
        add(&counters.latency_us_sum, latency_us);
        add(&counters.buckets[bucket], 1);
    }

    pub(super) fn retried(&self, verb: Verb) {
        add(&self.counters(verb).retries, 1);
    }

    /// An attempt that began well and failed later.
    pub(super) fn failed(&self, verb: Verb) {
        add(&self.counters(verb).errors, 1);
    }

    pub(super) fn moved(&self, verb: Verb, bytes: usize) {
        add(&self.counters(verb).bytes, u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn counters(&self, verb: Verb) -> &Counters {
        let at = Verb::ALL.iter().position(|one| *one == verb).expect("ALL holds every verb");
        &self.verbs[at]
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
