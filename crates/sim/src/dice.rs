//! Chance, all of it from one seed.

use std::sync::atomic::{AtomicU64, Ordering};
use types::Entropy;

/// A seeded generator (splitmix64). One per purpose, so that a draw here does not move what is drawn there.
pub struct Dice(AtomicU64);

impl Dice {
    /// The stream of this purpose. Streams of different purposes have nothing to do with each other.
    pub fn new(seed: u64, purpose: &str) -> Dice {
        let mut state = seed ^ 0x51_7C_C1_B7_27_22_0A_95;
        for byte in purpose.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(17);
        }
        Dice(AtomicU64::new(state))
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A number of `[from, to)`.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    /// True once in `times`.
    pub fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// True in so many of a thousand.
    pub fn per_mille(&self, of: u64) -> bool {
        self.below(1000) < of
    }

    /// An index of something with `len` elements, at least one.
    pub fn index(&self, len: usize) -> usize {
        let len = u64::try_from(len).expect("lengths fit 64 bits");
        usize::try_from(self.below(len)).expect("below a length")
    }

    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }
}

impl Entropy for Dice {
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
