//! How long changes wait for their turn in the log, for those who would bring more of them.
//!
//! Is:     what the core said last, and a gate that is open until it says that waits have been too long for too long. Then it
//!         lets through what can be expected to wait for half as long as is nothing unusual.
//! Never:  holds up anything: what it refuses was not looked at yet, which is what makes refusing cheap.

use crate::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use types::Monotonic;

#[derive(Debug, Default)]
pub struct Waits {
    /// Waits have been too long for too long.
    is_over: AtomicBool,
    /// When that came, in nanoseconds, which had its turn last.
    came: AtomicU64,
}

impl Waits {
    /// The core took up what came at `came`.
    pub fn took(&self, came: Monotonic, is_over: bool) {
        self.came.store(u64::try_from(came.0.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.is_over.store(is_over, Ordering::Relaxed);
    }

    /// Nothing waits.
    pub fn rest(&self) {
        self.is_over.store(false, Ordering::Relaxed);
    }

    /// Whether what comes now may wait for its turn. Error: how long that would be, about, if `late` is the longest that is
    /// nothing unusual.
    pub fn admit(&self, now: Monotonic, late: Duration) -> Result<(), Error> {
        if !self.is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let waits = now - Monotonic(Duration::from_nanos(self.came.load(Ordering::Relaxed)));
        if waits < late / 2 { Ok(()) } else { Err(Error::Late(waits)) }
    }
}
