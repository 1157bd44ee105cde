//! Three queues: new entries prove themselves in a small one before they may displace what is in use.
//!
//! Source: Yang et al., "FIFO queues are all you need for cache eviction", 2023, <https://doi.org/10.1145/3600006.3613147>

use super::rings::Rings;
use super::{Policy, at};
use hashbrown::HashMap;
use std::collections::VecDeque;

const SMALL: usize = 0;
const MAIN: usize = 1;
/// The small queue is one part of so many.
const SMALL_SHARE: usize = 10;
/// More uses than this do not count.
const USES_MAX: u8 = 3;
/// Uses in the small queue after which an entry moves to main.
const PROVEN: u8 = 2;

/// Scan-resistant: what is used once passes through a tenth of the room. Every step is O(1), evictions amortised.
#[derive(Default)]
pub struct S3Fifo {
    rings: Rings<2>,
    entries: Vec<Entry>,
    ghosts: Ghosts,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    hash: u32,
    uses: u8,
    is_main: bool,
}

impl Entry {
    fn ring(&self) -> usize {
        if self.is_main { MAIN } else { SMALL }
    }
}

/// Hashes of what left the small queue, the oldest first.
#[derive(Default)]
struct Ghosts {
    /// With the number under which each was last remembered.
    known: HashMap<u32, u32>,
    order: VecDeque<(u32, u32)>,
    last: u32,
}

impl Ghosts {
    /// Remembers a hash, and at most `most` in all.
    fn remember(&mut self, hash: u32, most: usize) {
        self.last = self.last.wrapping_add(1);
        self.known.insert(hash, self.last);
        self.order.push_back((hash, self.last));
        while self.order.len() > most
            && let Some((hash, number)) = self.order.pop_front()
        {
            // Unless it was taken back, or remembered anew since.
            if self.known.get(&hash) == Some(&number) {
                self.known.remove(&hash);
            }
        }
    }

    /// Whether it was remembered; not any more.
    fn take(&mut self, hash: u32) -> bool {
        self.known.remove(&hash).is_some()
    }
}

impl S3Fifo {
    fn entry(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[at(slot)]
    }

    /// From the small queue; None if all in it had proven themselves.
    fn evict_small(&mut self) -> Option<u32> {
        while let Some(slot) = self.rings.pop_back(SMALL) {
            let entry = self.entry(slot);
            if entry.uses >= PROVEN {
                (entry.uses, entry.is_main) = (0, true);
                self.rings.push_front(MAIN, slot);
                continue;
            }
            let hash = entry.hash;
            self.ghosts.remember(hash, self.rings.len(MAIN));
            return Some(slot);
        }
        None
    }

    fn evict_main(&mut self) -> Option<u32> {
        while let Some(slot) = self.rings.pop_back(MAIN) {
            let entry = self.entry(slot);
            if entry.uses == 0 {
                return Some(slot);
            }
            entry.uses -= 1;
            self.rings.push_front(MAIN, slot);
        }
        None
    }
}

impl Policy for S3Fifo {
    fn inserted(&mut self, slot: u32, hash: u64) {
        let needed = at(slot) + 1;
        if self.entries.len() < needed {
            self.entries.resize(needed, Entry::default());
        }
        let hash = u32::try_from(hash >> 32).expect("the upper half");
        let is_main = self.ghosts.take(hash);
        *self.entry(slot) = Entry { hash, uses: 0, is_main };
        self.rings.push_front(if is_main { MAIN } else { SMALL }, slot);
    }

    fn touched(&mut self, slot: u32) {
        let entry = self.entry(slot);
        entry.uses = USES_MAX.min(entry.uses + 1);
    }

    fn removed(&mut self, slot: u32) {
        let ring = self.entry(slot).ring();
        self.rings.remove(ring, slot);
    }

    fn evict(&mut self) -> Option<u32> {
        let (small, main) = (self.rings.len(SMALL), self.rings.len(MAIN));
        let from_small = if small * SMALL_SHARE > small + main { self.evict_small() } else { None };
        from_small.or_else(|| self.evict_main()).or_else(|| self.evict_small())
    }
}
