//! Uses noted by readers, for a policy that only one thread at a time may tell.

use super::Policy;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Uses noted before they must be told, or are lost: two cache lines of slots.
const NOTES: usize = 32;

/// Notes are taken while the segment's lock is held shared, and told while it is held alone, so all atomics are relaxed: the
/// lock orders them.
pub(super) struct Touches {
    next: AtomicUsize,
    slots: [AtomicU32; NOTES],
}

impl Touches {
    pub(super) fn new() -> Touches {
        Touches { next: AtomicUsize::new(0), slots: std::array::from_fn(|_| AtomicU32::new(0)) }
    }

    /// Notes a use of `slot`. Whether it is time to tell: each time another array full was noted.
    pub(super) fn note(&self, slot: u32) -> bool {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = self.slots.get(at) {
            place.store(slot, Ordering::Relaxed);
        }
        (at + 1).is_multiple_of(NOTES)
    }

    /// Tells `policy` what was noted, in order. Every slot noted is still filled: whoever empties one tells first.
    pub(super) fn tell(&self, policy: &mut dyn Policy) {
        let noted = self.next.load(Ordering::Relaxed);
        if noted == 0 {
            return;
        }
        for slot in &self.slots[..noted.min(NOTES)] {
            policy.touched(slot.load(Ordering::Relaxed));
        }
        self.next.store(0, Ordering::Relaxed);
    }
}
