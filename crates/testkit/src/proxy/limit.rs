//! The bandwidth of everything together.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Unused time that may be caught up with: timers are a millisecond coarse, and a sleep that took longer must not cost
/// bandwidth.
const CREDIT: Duration = Duration::from_millis(5);

/// What one connection may send before the next has its turn.
const TURN: Duration = Duration::from_millis(1);
const SMALLEST_PIECE_BYTES: usize = 16 << 10;

/// Within any time t passes at most `rate × (t + CREDIT)`, whoever sends.
pub(super) struct Limit(Mutex<State>);

struct State {
    bytes_per_s: Option<u64>,
    /// When the line has carried everything accepted so far.
    free_at: Instant,
}

impl Limit {
    pub(super) fn new() -> Limit {
        Limit(Mutex::new(State { bytes_per_s: None, free_at: Instant::now() }))
    }

    pub(super) fn set(&self, bytes_per_s: Option<u64>) {
        self.0.lock().bytes_per_s = bytes_per_s;
    }

    /// How much to send at once: all of `largest` without a limit, else about [`TURN`]'s worth, so that connections take
    /// turns and a timer is worth its while.
    pub(super) fn piece_bytes(&self, largest: usize) -> usize {
        let Some(bytes_per_s) = self.0.lock().bytes_per_s else { return largest };
        let turn = u128::from(bytes_per_s) * TURN.as_micros() / 1_000_000;
        usize::try_from(turn).map_or(largest, |turn| turn.clamp(SMALLEST_PIECE_BYTES, largest))
    }

    /// Returns when `bytes` have had the time to pass.
    pub(super) async fn pass(&self, bytes: usize) {
        let wait = self.0.lock().reserve(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

impl State {
    fn reserve(&mut self, bytes: usize, now: Instant) -> Duration {
        let Some(bytes_per_s) = self.bytes_per_s else { return Duration::ZERO };
        let takes_ns = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(bytes_per_s.max(1)));
        let takes = Duration::from_nanos(u64::try_from(takes_ns).unwrap_or(u64::MAX));
        let start = now.checked_sub(CREDIT).map_or(self.free_at, |earliest| self.free_at.max(earliest));
        self.free_at = start + takes;
        self.free_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_passes_than_the_rate_and_no_less() {
        let start = Instant::now();
        let mut state = State { bytes_per_s: Some(1_000_000), free_at: start };
        // Three senders, each sleeping a millisecond too long: the sum keeps the rate.
        let mut clocks = [start; 3];
        for turn in 0..3000 {
            let sender = turn % 3;
            clocks[sender] += state.reserve(1000, clocks[sender]) + Duration::from_millis(1);
        }
        let took = clocks.iter().max().expect("three senders").duration_since(start).as_secs_f64();
        assert!((2.99..3.02).contains(&took), "3 MB at 1 MB/s took {took} s");
    }

    #[test]
    fn an_idle_line_saves_up_no_more_than_the_credit() {
        let start = Instant::now();
        let mut state = State { bytes_per_s: Some(1_000_000), free_at: start };
        let later = start + Duration::from_secs(60);
        assert_eq!(state.reserve(5000, later), Duration::ZERO);
        assert_eq!(state.reserve(5000, later), Duration::from_millis(5));
    }
}
