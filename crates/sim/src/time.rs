//! Simulated time, and what each machine's clocks make of it.

use crate::dice::Dice;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use types::{Clock, Monotonic, UnixMs};

/// At what rates the masters' clocks run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Clocks {
    /// Each at a rate of its own, at most 4 % off. The lease allows for a tenth between two.
    #[default]
    Bounded,
    /// Each at a rate of its own between less than a third and twice true time: no promise holds.
    Wild,
    /// In parts per thousand above true time: the first master's, and those of all others.
    Set { first: i64, others: i64 },
}

/// Parts per thousand above true time, from and to.
const WILD: (i64, i64) = (-700, 1000);

impl Clocks {
    /// The rate of the master at `at`, in parts per thousand above true time.
    pub fn drift(self, at: usize, dice: &Dice) -> i64 {
        let from_to = |from: i64, to: i64| from + i64::try_from(dice.below(from.abs_diff(to) + 1)).expect("small");
        match self {
            Clocks::Bounded => from_to(-40, 40),
            Clocks::Wild => from_to(WILD.0, WILD.1),
            Clocks::Set { first, .. } if at == 0 => first,
            Clocks::Set { others, .. } => others,
        }
    }

    /// Thousandths of true time that the slowest may count, as far as that matters to who waits for it.
    pub fn slowest(self) -> u64 {
        match self {
            Clocks::Bounded | Clocks::Set { .. } => 1000,
            Clocks::Wild => 1000 - WILD.0.unsigned_abs(),
        }
    }
}

/// Milliseconds since 1970 at which simulations begin.
const BEGINS: i64 = 1_700_000_000_000;

/// The true time, in microseconds since the simulation began. Clones are the same line.
#[derive(Clone, Default)]
pub struct Timeline(Arc<AtomicU64>);

impl Timeline {
    pub fn now_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on to `at_us`. Never back.
    pub fn advance(&self, at_us: u64) {
        assert!(at_us >= self.now_us(), "time runs forward");
        self.0.store(at_us, Ordering::Relaxed);
    }
}

/// The clocks of one machine: a monotonic one with a start and a rate of its own, and a wall clock that can be set.
pub struct MachineClock {
    line: Timeline,
    /// How much faster than true time it runs, in parts per thousand.
    drift: i64,
    booted_us: AtomicU64,
    wall_ms: AtomicI64,
}

impl MachineClock {
    pub fn new(line: Timeline, drift: i64) -> MachineClock {
        MachineClock { line, drift, booted_us: AtomicU64::new(0), wall_ms: AtomicI64::new(0) }
    }

    /// The machine was switched off and on: its monotonic clock begins anew.
    pub fn reboot(&self) {
        self.booted_us.store(self.line.now_us(), Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    pub fn jump(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for MachineClock {
    fn unix(&self) -> UnixMs {
        let passed_ms = i64::try_from(self.line.now_us() / 1000).expect("centuries fit");
        UnixMs(BEGINS + passed_ms + self.wall_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        let up_us = self.line.now_us() - self.booted_us.load(Ordering::Relaxed);
        let up_us = i64::try_from(up_us).expect("centuries fit");
        let shown = up_us + up_us / 1000 * self.drift + 1_000_000;
        Monotonic(Duration::from_micros(u64::try_from(shown).expect("drift is below one")))
    }
}

/// A clock that is read once per turn and believed until the next one: the planted bug of a leader that slept.
pub struct StoppedClock {
    inner: Arc<MachineClock>,
    mono_us: AtomicU64,
}

impl StoppedClock {
    pub fn new(inner: Arc<MachineClock>) -> StoppedClock {
        let clock = StoppedClock { inner, mono_us: AtomicU64::new(0) };
        clock.read();
        clock
    }

    /// Looks at the true clock.
    pub fn read(&self) {
        let micros = u64::try_from(self.inner.monotonic().0.as_micros()).expect("centuries fit");
        self.mono_us.store(micros, Ordering::Relaxed);
    }
}

impl Clock for StoppedClock {
    fn unix(&self) -> UnixMs {
        self.inner.unix()
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(Duration::from_micros(self.mono_us.load(Ordering::Relaxed)))
    }
}
