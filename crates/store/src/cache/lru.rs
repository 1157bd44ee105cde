//! The least recently used entry goes first.

use super::Policy;
use super::rings::Rings;

/// Least recently used first. Every step is O(1).
#[derive(Default)]
pub struct Lru(Rings<1>);

const RING: usize = 0;

impl Policy for Lru {
    fn inserted(&mut self, slot: u32, _hash: u64) {
        self.0.push_front(RING, slot);
    }

    fn touched(&mut self, slot: u32) {
        self.0.remove(RING, slot);
        self.0.push_front(RING, slot);
    }

    fn removed(&mut self, slot: u32) {
        self.0.remove(RING, slot);
    }

    fn evict(&mut self) -> Option<u32> {
        self.0.pop_back(RING)
    }
}
