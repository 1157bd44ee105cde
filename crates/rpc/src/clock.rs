//! The real time and the real chance.

use ring::rand::{SecureRandom, SystemRandom};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;
use types::{Clock, Entropy, Monotonic, UnixMs};

/// CLOCK_REALTIME for what users see, CLOCK_BOOTTIME for what is measured: it goes on while the machine sleeps, so a
/// lease does not outlive a suspend.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix(&self) -> UnixMs {
        let now = clock_gettime(ClockId::Realtime);
        UnixMs(now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000))
    }

    fn monotonic(&self) -> Monotonic {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).expect("time since boot is not negative");
        let nanos = u32::try_from(now.tv_nsec).expect("nanoseconds are below a second");
        Monotonic(Duration::new(seconds, nanos))
    }
}

/// The system's random numbers, good enough for keys.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
        u64::from_ne_bytes(bytes)
    }

    fn next_u128(&self) -> u128 {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
        u128::from_ne_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_forwards_and_agree_with_the_standard_library() {
        let clock = SystemClock;
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
        let theirs = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let apart_ms = i128::from(clock.unix().0) - i128::try_from(theirs.as_millis()).expect("fits");
        assert!(apart_ms.abs() < 10_000, "{apart_ms} ms apart");
    }

    #[test]
    fn chance_does_not_repeat() {
        let entropy = SystemEntropy;
        assert_ne!(entropy.next_u64(), entropy.next_u64());
        assert_ne!(entropy.next_u128(), entropy.next_u128());
    }
}
