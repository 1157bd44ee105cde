//! Who goes first: the trait, and the policies there are.

use super::{Lru, Random, S3Fifo};

/// Who goes first when a segment is full. A policy knows slots, small numbers that are reused, and nothing else.
pub trait Policy: Send + Sync {
    /// `slot` now holds an entry whose key hashes to `hash`.
    fn inserted(&mut self, slot: u32, hash: u64);
    /// The entry in `slot` was used.
    fn touched(&mut self, slot: u32);
    /// The entry in `slot` is gone for a reason of its own.
    fn removed(&mut self, slot: u32);
    /// Chooses an entry to go and forgets it. None only if there is none.
    fn evict(&mut self) -> Option<u32>;
}

/// A policy by name, and how to make one for each segment.
#[derive(Clone, Copy, Debug)]
pub struct Eviction {
    /// As `goosefs.master.metastore.cache.type` has it.
    pub name: &'static str,
    /// Segments of a cache that is large enough; a power of two.
    pub segments: usize,
    /// Makes one from a seed.
    pub make: fn(u64) -> Box<dyn Policy>,
}

/// Segments, so that readers on different cores seldom meet.
const SEGMENTS: usize = 64;

impl Eviction {
    pub const LRU: Eviction = Eviction { name: "LRU", segments: SEGMENTS, make: |_| Box::new(Lru::default()) };
    /// The segments of the maps it stands for.
    pub const RANDOM: Eviction = Eviction { name: "RANDOM", segments: 16, make: |seed| Box::new(Random::new(seed)) };
    pub const S3FIFO: Eviction = Eviction { name: "S3FIFO", segments: SEGMENTS, make: |_| Box::new(S3Fifo::default()) };
    pub const ALL: [Eviction; 3] = [Eviction::LRU, Eviction::RANDOM, Eviction::S3FIFO];

    pub fn named(name: &str) -> Option<Eviction> {
        Eviction::ALL.into_iter().find(|eviction| eviction.name == name)
    }
}
