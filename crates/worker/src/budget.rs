//! The memory block data may take while they are in flight: one bound for the whole worker.
//!
//! Is:     a semaphore counted in bytes, and a pool of buffers whose bytes hold their share of it until they are gone.
//! Owns:   the idle buffers.
//! Never:  gives a byte away without a share: what is in flight is what is held.

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use tier::PIECE_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Size of a full buffer: what one read from disk or one message carries.
pub const BUFFER_BYTES: u64 = 1024 * 1024;
/// Smallest budget that still lets every kind of stream move: a few pieces for each of them in turn.
pub const BUDGET_BYTES_MIN: u64 = 8 * BUFFER_BYTES;
/// Idle buffers kept for reuse; more are given back to the allocator.
const IDLE_BUFFERS_MAX: usize = 16;
/// Unit of the semaphore, so that its 32-bit counts reach far enough.
const UNIT_BYTES: u64 = 1024;
/// When less than this share of the budget is free, streams take smaller bites, so that slow readers, who hold what
/// they took, leave room for the others.
const PLENTY: u64 = 2;
/// A bite is at most this share of what is free.
const BITE: u64 = 16;

const _: () = assert!(BUFFER_BYTES.is_multiple_of(PIECE_BYTES) && PIECE_BYTES.is_multiple_of(UNIT_BYTES));

/// Bytes in flight, bounded.
pub struct Budget {
    free: Arc<Semaphore>,
    total_bytes: u64,
    idle: Mutex<Vec<Vec<u8>>>,
}

/// A share of the budget; given back when dropped.
pub struct Hold {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// At least [`BUDGET_BYTES_MIN`], whatever is asked for.
    pub fn new(total_bytes: u64) -> Arc<Budget> {
        let total_bytes = total_bytes.clamp(BUDGET_BYTES_MIN, 1 << 40);
        let permits = usize::try_from(total_bytes / UNIT_BYTES).expect("at most 2^30 units");
        Arc::new(Budget { free: Arc::new(Semaphore::new(permits)), total_bytes, idle: Mutex::new(Vec::new()) })
    }

    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Held by somebody now.
    pub fn held_bytes(&self) -> u64 {
        self.total_bytes - self.free_bytes()
    }

    fn free_bytes(&self) -> u64 {
        u64::try_from(self.free.available_permits())
            .unwrap_or(u64::MAX)
            .saturating_mul(UNIT_BYTES)
            .min(self.total_bytes)
    }

    /// How much of `wanted_bytes` to take at once: all of it while there is plenty, less when there is not, in whole
    /// pieces, never less than one.
    pub fn bite(&self, wanted_bytes: u64) -> u64 {
        let free = self.free_bytes();
        if free >= self.total_bytes / PLENTY {
            return wanted_bytes;
        }
        let pieces = (free / BITE / PIECE_BYTES).max(1);
        wanted_bytes.min(pieces * PIECE_BYTES)
    }

    /// Waits for `bytes` (at most the whole budget). Cancel-safe.
    pub async fn hold(&self, bytes: u64) -> Hold {
        let units = u32::try_from(bytes.min(self.total_bytes).div_ceil(UNIT_BYTES)).expect("at most 2^30 units");
        // Never closed: the semaphore lives as long as the budget. A closed one would only mean not to count.
        Hold { _permit: Arc::clone(&self.free).acquire_many_owned(units).await.ok() }
    }

    /// A zeroed or reused buffer of `bytes`, at most [`BUFFER_BYTES`], once the budget allows it. Cancel-safe.
    pub async fn buffer(self: &Arc<Budget>, bytes: u64) -> Buffer {
        assert!(bytes <= BUFFER_BYTES, "a buffer holds at most {BUFFER_BYTES} bytes, not {bytes}");
        let hold = self.hold(bytes).await;
        let length = usize::try_from(bytes).expect("at most a MiB");
        let mut data = if bytes > BUFFER_BYTES / 2 { self.idle.lock().pop().unwrap_or_default() } else { Vec::new() };
        // A reused buffer keeps old bytes: whoever takes it fills it before it is frozen.
        data.resize(length, 0);
        Buffer { data, home: Arc::clone(self), _hold: hold }
    }

    fn take_back(&self, data: Vec<u8>) {
        let full = u64::try_from(data.capacity()).is_ok_and(|capacity| capacity == BUFFER_BYTES);
        if full {
            let mut idle = self.idle.lock();
            if idle.len() < IDLE_BUFFERS_MAX {
                idle.push(data);
            }
        }
    }
}

/// Memory that holds its share of the budget.
pub struct Buffer {
    data: Vec<u8>,
    home: Arc<Budget>,
    _hold: Hold,
}

impl Buffer {
    /// To be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }
    /// The first `length` bytes, shared without a copy. The share is given back when the last clone is dropped.
    pub fn freeze(mut self, length: usize) -> Bytes {
        self.data.truncate(length);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.take_back(std::mem::take(&mut self.data));
    }
}

/// Bytes that came from elsewhere, with their share of the budget attached.
struct Accounted {
    data: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Accounted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Hold {
    /// `data`, which keep this share until the last clone is dropped.
    pub fn attach(self, data: Bytes) -> Bytes {
        Bytes::from_owner(Accounted { data, _hold: self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frozen_bytes_hold_their_share_until_the_last_clone_is_gone() {
        let budget = Budget::new(BUDGET_BYTES_MIN);
        let buffer = budget.buffer(BUFFER_BYTES).await;
        let bytes = buffer.freeze(10);
        let part = bytes.slice(3..5);
        drop(bytes);
        assert_eq!(budget.held_bytes(), BUFFER_BYTES);
        drop(part);
        assert_eq!(budget.held_bytes(), 0);
        let attached = budget.hold(5).await.attach(Bytes::from_static(b"hello"));
        assert_eq!((budget.held_bytes(), attached.len()), (UNIT_BYTES, 5));
    }

    #[tokio::test]
    async fn bites_shrink_as_the_budget_is_used_up() {
        let budget = Budget::new(64 * BUFFER_BYTES);
        assert_eq!(budget.bite(BUFFER_BYTES), BUFFER_BYTES);
        let most = budget.hold(60 * BUFFER_BYTES).await;
        assert_eq!(budget.bite(BUFFER_BYTES), 4 * PIECE_BYTES);
        let rest = budget.hold(4 * BUFFER_BYTES).await;
        assert_eq!(budget.bite(BUFFER_BYTES), PIECE_BYTES);
        drop((most, rest));
        assert_eq!(budget.held_bytes(), 0);
    }
}
