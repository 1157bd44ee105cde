//! Time and chance come in from outside: production wires the real ones, tests and the simulator seeded ones.

use crate::{Monotonic, UnixMs};

/// Where a component reads the time.
pub trait Clock: Send + Sync {
    fn unix(&self) -> UnixMs;
    fn monotonic(&self) -> Monotonic;
}

/// Where a component gets chance from.
pub trait Entropy: Send + Sync {
    fn next_u64(&self) -> u64;
    fn next_u128(&self) -> u128 {
        u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())
    }
}
