//! Any entry may go, found by walking: the baseline of our measurements, as fixed in docs/design/0011-metadata-cache.md.
//!
//! Is:     a table of buckets with chains of slots, and draws from a seed.
//! Never:  used because it is good: an eviction walks half of the segment.

use super::{Policy, at};

/// No slot.
const NONE: u32 = u32::MAX;
const BUCKETS_MIN: usize = 16;

/// Uniformly drawn, reached by a walk from the segment's first bucket. An eviction costs O(segment), all else O(1).
pub struct Random {
    /// The first slot of each bucket's chain; a power of two.
    buckets: Vec<u32>,
    links: Vec<Link>,
    entries: usize,
    dice: u64,
}

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    hash: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { buckets: vec![NONE; BUCKETS_MIN], links: Vec::new(), entries: 0, dice: seed }
    }

    fn bucket(&self, hash: u64) -> usize {
        usize::try_from(hash & 0xFFFF_FFFF).expect("32 bits fit") & (self.buckets.len() - 1)
    }

    fn push(&mut self, slot: u32, hash: u64) {
        let bucket = self.bucket(hash);
        self.links[at(slot)] = Link { next: self.buckets[bucket], hash };
        self.buckets[bucket] = slot;
    }

    fn grow(&mut self) {
        let buckets = vec![NONE; self.buckets.len() * 2];
        for first in std::mem::replace(&mut self.buckets, buckets) {
            let mut slot = first;
            while slot != NONE {
                let Link { next, hash } = self.links[at(slot)];
                self.push(slot, hash);
                slot = next;
            }
        }
    }

    /// A number below `bound`, each as likely as any other but for one part in 2^32.
    fn draw(&mut self, bound: usize) -> usize {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let drawn = crate::mix::mix(self.dice) >> 32;
        let bound = u64::try_from(bound).expect("counts of memory fit 64 bits");
        usize::try_from((drawn * bound) >> 32).expect("below a count of memory")
    }
}

impl Policy for Random {
    fn inserted(&mut self, slot: u32, hash: u64) {
        if self.links.len() <= at(slot) {
            self.links.resize(at(slot) + 1, Link { next: NONE, hash: 0 });
        }
        self.push(slot, hash);
        self.entries += 1;
        if self.entries > self.buckets.len() / 4 * 3 {
            self.grow();
        }
    }

    fn touched(&mut self, _slot: u32) {}

    fn removed(&mut self, slot: u32) {
        let bucket = self.bucket(self.links[at(slot)].hash);
        let mut before = NONE;
        let mut held = self.buckets[bucket];
        while held != slot {
            (before, held) = (held, self.links[at(held)].next);
        }
        let next = self.links[at(slot)].next;
        if before == NONE {
            self.buckets[bucket] = next;
        } else {
            self.links[at(before)].next = next;
        }
        self.entries -= 1;
    }

    fn evict(&mut self) -> Option<u32> {
        if self.entries == 0 {
            return None;
        }
        let mut to_pass = self.draw(self.entries);
        for bucket in 0..self.buckets.len() {
            let mut slot = self.buckets[bucket];
            while slot != NONE {
                if to_pass == 0 {
                    self.removed(slot);
                    return Some(slot);
                }
                to_pass -= 1;
                slot = self.links[at(slot)].next;
            }
        }
        unreachable!("the draw is below the number of entries, and each is in a chain")
    }
}
