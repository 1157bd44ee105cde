//! Records kept in memory in front of a store.
//!
//! Is:     a map from key to record or to its absence, bounded in bytes, in shards, with a [`Policy`] that says who goes.
//! Owns:   copies of records. All are clean: dropping any of them loses nothing.
//! Never:  reads the store, and never keeps a value its caller cannot vouch for (see [`Cache::fill`]).

mod lru;

pub use lru::Lru;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use meta::Family;
use parking_lot::Mutex;
use std::hash::BuildHasher;

/// Shards, so that readers on different cores seldom wait for each other.
const SHARDS: usize = 16;
const _: () = assert!(SHARDS.is_power_of_two());

/// Memory of an entry besides its key and value: the slot, its place in index and policy, and the allocator's share
/// (measured by the example `reads`, rounded up).
const ENTRY_BYTES: usize = 192;

/// Who goes first when a shard is full. A policy knows slots, small numbers that are reused, and nothing else.
pub trait Policy: Send {
    /// `slot` now holds an entry whose key hashes to `hash`.
    fn inserted(&mut self, slot: u32, hash: u64);
    /// The entry in `slot` was used.
    fn touched(&mut self, slot: u32);
    /// The entry in `slot` is gone for a reason of its own.
    fn removed(&mut self, slot: u32);
    /// Chooses an entry to go and forgets it. None only if there is none. Cost: constant, amortised.
    fn evict(&mut self) -> Option<u32>;
}

/// Counts since the start, and what is held now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CacheStatistics {
    pub hits: u64,
    pub misses: u64,
    /// Entries that went to make room.
    pub evictions: u64,
    /// Records read from the store and not kept, because they changed meanwhile.
    pub fills_dropped: u64,
    pub entries: u64,
    /// Estimate of the memory used, never above the bound.
    pub bytes: u64,
    pub capacity_bytes: u64,
}

/// See the module. A capacity of zero switches it off.
pub(crate) struct Cache {
    hasher: DefaultHashBuilder,
    shards: Box<[Mutex<Shard>]>,
    shard_bytes: usize,
}

struct Shard {
    index: HashTable<u32>,
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    policy: Box<dyn Policy>,
    bytes: usize,
    counts: CacheStatistics,
}

struct Entry {
    hash: u64,
    family: Family,
    key: Box<[u8]>,
    value: Option<Bytes>,
}

impl Entry {
    fn bytes(&self) -> usize {
        weight(&self.key, self.value.as_ref())
    }
}

fn weight(key: &[u8], value: Option<&Bytes>) -> usize {
    ENTRY_BYTES + key.len() + value.map_or(0, Bytes::len)
}

/// Whether records of `family` are kept: those that every operation looks up by key.
pub(crate) fn keeps(family: Family) -> bool {
    match family {
        Family::State | Family::Edges | Family::Inodes | Family::Containers | Family::Mounts => true,
        Family::Operations
        | Family::Intents
        | Family::Detached
        | Family::Loads
        | Family::Persists
        | Family::Workers
        | Family::Incomplete => false,
    }
}

impl Cache {
    pub(crate) fn new(capacity_bytes: usize, policy: impl Fn() -> Box<dyn Policy>) -> Cache {
        let shard = || {
            Mutex::new(Shard {
                index: HashTable::new(),
                slots: Vec::new(),
                free: Vec::new(),
                policy: policy(),
                bytes: 0,
                counts: CacheStatistics::default(),
            })
        };
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Cache { hasher: DefaultHashBuilder::default(), shards, shard_bytes: capacity_bytes / SHARDS }
    }

    /// The record, or its absence (`Some(None)`), if known. Cost: a hash and a mutex nobody holds for long.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Option<Option<Bytes>> {
        let hash = self.hash(family, key);
        let mut shard = self.shard(hash).lock();
        let Some(slot) = shard.find(hash, family, key) else {
            shard.counts.misses += 1;
            return None;
        };
        shard.counts.hits += 1;
        shard.policy.touched(slot);
        Some(shard.entry(slot).value.clone())
    }

    /// Keeps what a reader found in the store, if `is_current` still says so once nobody else can touch the shard.
    ///
    /// Whoever changes records must make `is_current` false before the store changes, and call [`Cache::update`] or
    /// [`Cache::forget`] after: then either this sees it, or that one comes later and corrects it.
    pub(crate) fn fill(&self, family: Family, key: &[u8], value: Option<&Bytes>, is_current: impl FnOnce() -> bool) {
        if weight(key, value) > self.shard_bytes {
            return;
        }
        let value = value.map(own);
        let hash = self.hash(family, key);
        let mut shard = self.shard(hash).lock();
        if !is_current() {
            shard.counts.fills_dropped += 1;
            return;
        }
        match shard.find(hash, family, key) {
            Some(slot) => shard.replace(slot, value),
            None => shard.insert(Entry { hash, family, key: key.into(), value }),
        }
        shard.shrink(self.shard_bytes);
    }

    /// Gives a key its new value, if the key is held.
    pub(crate) fn update(&self, family: Family, key: &[u8], value: Option<&Bytes>) {
        let hash = self.hash(family, key);
        let mut shard = self.shard(hash).lock();
        if let Some(slot) = shard.find(hash, family, key) {
            shard.replace(slot, value.map(own));
            shard.shrink(self.shard_bytes);
        }
    }

    /// Drops what is known of a key.
    pub(crate) fn forget(&self, family: Family, key: &[u8]) {
        let hash = self.hash(family, key);
        let mut shard = self.shard(hash).lock();
        if let Some(slot) = shard.find(hash, family, key) {
            shard.policy.removed(slot);
            shard.take(slot);
        }
    }

    pub(crate) fn statistics(&self) -> CacheStatistics {
        let count = |count: usize| u64::try_from(count).expect("counts of memory fit 64 bits");
        let mut sum =
            CacheStatistics { capacity_bytes: count(self.shard_bytes * SHARDS), ..CacheStatistics::default() };
        for shard in &self.shards {
            let shard = shard.lock();
            sum.hits += shard.counts.hits;
            sum.misses += shard.counts.misses;
            sum.evictions += shard.counts.evictions;
            sum.fills_dropped += shard.counts.fills_dropped;
            sum.entries += count(shard.index.len());
            sum.bytes += count(shard.bytes);
        }
        sum
    }

    /// Whether anything can be held at all.
    pub(crate) fn is_on(&self) -> bool {
        self.shard_bytes > 0
    }

    fn hash(&self, family: Family, key: &[u8]) -> u64 {
        self.hasher.hash_one((family, key))
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The index within a shard uses the low and the highest bits, so take some from between.
        let mask = u64::try_from(SHARDS - 1).expect("few shards");
        &self.shards[usize::try_from(hash >> 40 & mask).expect("below the number of shards")]
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        for shard in &self.shards {
            let shard = shard.lock();
            assert!(shard.bytes <= self.shard_bytes);
            assert_eq!(shard.bytes, shard.slots.iter().flatten().map(Entry::bytes).sum::<usize>());
            assert_eq!(shard.index.len() + shard.free.len(), shard.slots.len());
            assert_eq!(shard.index.len(), shard.slots.iter().flatten().count());
        }
    }
}

/// A copy of its own: a record must not keep the buffer alive that it was cut from.
fn own(value: &Bytes) -> Bytes {
    Bytes::copy_from_slice(value)
}

impl Shard {
    fn find(&self, hash: u64, family: Family, key: &[u8]) -> Option<u32> {
        let is_it = |slot: &u32| {
            let entry = self.entry(*slot);
            entry.family == family && *entry.key == *key
        };
        self.index.find(hash, is_it).copied()
    }

    fn entry(&self, slot: u32) -> &Entry {
        self.slots[at(slot)].as_ref().expect("the index and the policy name filled slots only")
    }

    fn insert(&mut self, entry: Entry) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("a shard is far smaller than 2^32 entries")
        });
        self.bytes += entry.bytes();
        self.policy.inserted(slot, entry.hash);
        let hash = entry.hash;
        self.slots[at(slot)] = Some(entry);
        let slots = &self.slots;
        self.index.insert_unique(hash, slot, |slot| slots[at(*slot)].as_ref().map_or(0, |entry| entry.hash));
    }

    fn replace(&mut self, slot: u32, value: Option<Bytes>) {
        let entry = self.slots[at(slot)].as_mut().expect("the index names filled slots only");
        let before = entry.bytes();
        entry.value = value;
        self.bytes = self.bytes - before + entry.bytes();
        self.policy.touched(slot);
    }

    /// Empties a slot that the policy has forgotten.
    fn take(&mut self, slot: u32) {
        let entry = self.slots[at(slot)].take().expect("only filled slots are emptied");
        self.bytes -= entry.bytes();
        self.index.find_entry(entry.hash, |held| *held == slot).expect("every filled slot is in the index").remove();
        self.free.push(slot);
    }

    /// Evicts until the shard fits. Ends, since each turn removes an entry.
    fn shrink(&mut self, capacity_bytes: usize) {
        while self.bytes > capacity_bytes {
            let slot = self.policy.evict().expect("bytes are held by entries, and the policy knows each");
            self.take(slot);
            self.counts.evictions += 1;
        }
    }
}

fn at(slot: u32) -> usize {
    usize::try_from(slot).expect("32 bits fit")
}

#[cfg(test)]
mod tests;
