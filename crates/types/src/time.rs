//! Times: what users see, what expires, and what a process measures.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};
use std::time::Duration;

/// Wall-clock milliseconds since 1970, as shown to users. Never used to expire or to order anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct UnixMs(pub i64);

/// Milliseconds a cluster has had a leader, carried on by each new leader from the last applied value. Every expiry
/// counts in it: it never runs backwards and does not count time nobody served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct AgeMs(pub u64);

impl Add<Duration> for AgeMs {
    type Output = AgeMs;
    fn add(self, more: Duration) -> AgeMs {
        AgeMs(self.0.saturating_add(u64::try_from(more.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Time passed on this machine since some fixed instant (CLOCK_BOOTTIME in production: it counts sleep too).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Monotonic(pub Duration);

impl Add<Duration> for Monotonic {
    type Output = Monotonic;
    fn add(self, more: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(more))
    }
}
impl Sub for Monotonic {
    type Output = Duration;
    /// Zero when `earlier` is later.
    fn sub(self, earlier: Monotonic) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
