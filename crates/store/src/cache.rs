//! Values kept in memory in front of a store.
//!
//! Is:     a map from key to value, bounded in entries and in bytes, in segments, with a [`Policy`] each that says who goes.
//! Owns:   copies of what the store has. All are clean: dropping any of them loses nothing.
//! Never:  reads the store, and never keeps a value its caller cannot vouch for (see [`Cache::fill`]).

mod lru;
mod page;
mod policy;
mod random;
mod rings;
mod s3fifo;
mod segment;
mod statistics;
mod touches;

pub use lru::Lru;
pub(crate) use page::{Page, Seen, page_key};
pub use policy::{Eviction, Policy};
pub use random::Random;
pub use s3fifo::S3Fifo;
pub use statistics::{CacheStatistics, KindStatistics};

use bytes::Bytes;
use foldhash::fast::FixedState;
use meta::Family;
use segment::{Entry, Segment};
use statistics::Kind;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;
use types::{Clock, Monotonic};

/// Memory of an entry besides its key and value: the slot, its place in index and policy, the count of its readers, and what
/// the allocator rounds up (measured by the example `scale` of the master, rounded up).
const ENTRY_BYTES: usize = 128;
/// A segment's share is at least this, or there are fewer segments.
const SEGMENT_ENTRIES_MIN: usize = 64;
const SEGMENT_BYTES_MIN: usize = 16 << 10;

/// The bounds of a cache, and who leaves it first.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Records, and entries of pages, held at once; 0 switches it off.
    pub entries: usize,
    /// Memory held; 0 switches it off.
    pub bytes: usize,
    pub eviction: Eviction,
}

impl CacheConfig {
    /// Bounded in bytes alone, LRU.
    pub fn of_bytes(bytes: usize) -> CacheConfig {
        CacheConfig { entries: usize::MAX, bytes, eviction: Eviction::LRU }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.entries > 0 && self.bytes > 0
    }

    /// `part` parts of `whole`, of both bounds.
    pub(crate) fn share(&self, part: usize, whole: usize) -> CacheConfig {
        let of = |bound: usize| bound / whole * part + bound % whole * part / whole;
        CacheConfig { entries: of(self.entries), bytes: of(self.bytes), eviction: self.eviction }
    }
}

/// What can be held.
pub(crate) trait Held: Sized {
    /// As it lies in memory, with the family and the key it is held under.
    type Kept;
    /// A copy of its own: it must not keep the buffer alive that it was cut from.
    fn keep(self, family: Family, key: &[u8]) -> Self::Kept;
    fn family(kept: &Self::Kept) -> Family;
    fn key(kept: &Self::Kept) -> &[u8];
    /// What was kept. Cost: a counted reference.
    fn give(kept: &Self::Kept) -> Self;
    /// Its memory, the key's with it.
    fn bytes(kept: &Self::Kept) -> usize;
    /// As how many entries it counts.
    fn entries(kept: &Self::Kept) -> usize;
    /// What a value of this family is counted as.
    fn kind(family: Family) -> Kind;
}

/// A record, or its absence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known(pub(crate) Option<Bytes>);

/// A record behind its key, in one buffer.
pub(crate) struct Joined {
    whole: Bytes,
    key_length: u16,
    family: Family,
    is_present: bool,
}

impl Held for Known {
    type Kept = Joined;

    fn keep(self, family: Family, key: &[u8]) -> Joined {
        let value = self.0.as_deref().unwrap_or_default();
        let whole = Bytes::from([key, value].concat());
        let key_length = u16::try_from(key.len()).expect("ids and names are short");
        Joined { whole, key_length, family, is_present: self.0.is_some() }
    }
    fn family(kept: &Joined) -> Family {
        kept.family
    }
    fn key(kept: &Joined) -> &[u8] {
        &kept.whole[..usize::from(kept.key_length)]
    }
    fn give(kept: &Joined) -> Known {
        Known(kept.is_present.then(|| kept.whole.slice(usize::from(kept.key_length)..)))
    }
    fn bytes(kept: &Joined) -> usize {
        kept.whole.len()
    }
    fn entries(_: &Joined) -> usize {
        1
    }
    fn kind(family: Family) -> Kind {
        match family {
            Family::Inodes => Kind::Inode,
            Family::Edges => Kind::Edge,
            Family::State
            | Family::Containers
            | Family::Operations
            | Family::Mounts
            | Family::Intents
            | Family::Detached
            | Family::Loads
            | Family::Persists
            | Family::Workers
            | Family::Incomplete => Kind::Other,
        }
    }
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

/// See the module.
pub(crate) struct Cache<V: Held> {
    hasher: FixedState,
    segments: Box<[Segment<V>]>,
    bounds: Bounds,
    clock: Arc<dyn Clock>,
}

/// The place of a slot in a vector.
fn at(slot: u32) -> usize {
    usize::try_from(slot).expect("32 bits fit")
}

/// What one segment may hold.
#[derive(Clone, Copy)]
struct Bounds {
    entries: usize,
    bytes: usize,
}

impl<V: Held> Cache<V> {
    /// - `clock`: measures how long evictions take.
    /// - `seed`: of hashes and draws; unknown to users, or they could choose names that collide.
    pub(crate) fn new(config: &CacheConfig, clock: Arc<dyn Clock>, seed: u64) -> Cache<V> {
        let most = (config.entries / SEGMENT_ENTRIES_MIN).min(config.bytes / SEGMENT_BYTES_MIN);
        let count = config.eviction.segments.min(most.max(1).next_power_of_two());
        // Rounded down: the last one would be too small.
        let count = if count > most.max(1) { count / 2 } else { count };
        assert!(count.is_power_of_two(), "{} segments of {}", config.eviction.segments, config.eviction.name);
        let make = |number: usize| {
            let number = u64::try_from(number).expect("few");
            Segment::new((config.eviction.make)(seed.wrapping_add(number)))
        };
        let bounds = Bounds { entries: config.entries / count, bytes: config.bytes / count };
        Cache { hasher: FixedState::with_seed(seed), segments: (0..count).map(make).collect(), bounds, clock }
    }

    /// The value, if it is held. Cost: a hash and a lock taken shared.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Option<V> {
        self.get_if(family, key, |_| true)
    }

    /// The value, if it is held and still `is_good`; else it is dropped, and counts as missed.
    pub(crate) fn get_if(&self, family: Family, key: &[u8], is_good: impl FnOnce(&V) -> bool) -> Option<V> {
        let hash = self.hash(family, key);
        let segment = self.segment(hash);
        let found = segment.get(hash, family, key, is_good);
        segment.looked_up(V::kind(family), matches!(found, segment::Found::Good(_)));
        match found {
            segment::Found::Good(value) => Some(value),
            segment::Found::Bad => {
                segment.change().forget(hash, family, key);
                None
            }
            segment::Found::Nothing => None,
        }
    }

    /// Keeps what a reader found in the store, if `is_current` still says so once nobody else can touch the segment.
    ///
    /// Whoever changes what the store has must make `is_current` false before it changes, and call [`Cache::update`] or
    /// [`Cache::forget`] after: then either this sees it, or that one comes later and corrects it.
    /// `loading`: how long the store took.
    pub(crate) fn fill(
        &self,
        family: Family,
        key: &[u8],
        value: V,
        loading: Duration,
        is_current: impl FnOnce() -> bool,
    ) {
        let hash = self.hash(family, key);
        let segment = self.segment(hash);
        segment.loaded(V::kind(family), loading);
        let entry = Entry::<V> { hash, kept: value.keep(family, key) };
        if entry.bytes() > self.bounds.bytes || entry.entries() > self.bounds.entries {
            return;
        }
        let mut inner = segment.change();
        if !is_current() {
            segment.dropped_fill();
            return;
        }
        inner.put(entry);
        self.shrink(segment, &mut inner);
    }

    /// Counts what was missed and read, and is not kept.
    pub(crate) fn loaded(&self, family: Family, key: &[u8], loading: Duration) {
        self.segment(self.hash(family, key)).loaded(V::kind(family), loading);
    }

    /// Gives a key its new value, if the key is held.
    pub(crate) fn update(&self, family: Family, key: &[u8], value: impl FnOnce() -> V) {
        let hash = self.hash(family, key);
        let segment = self.segment(hash);
        let mut inner = segment.change();
        if inner.replace(hash, family, key, value) {
            self.shrink(segment, &mut inner);
        }
    }

    /// Drops what is known of a key.
    pub(crate) fn forget(&self, family: Family, key: &[u8]) {
        let hash = self.hash(family, key);
        self.segment(hash).change().forget(hash, family, key);
    }

    /// Evicts until the bounds hold. Ends, since each turn removes an entry.
    fn shrink(&self, segment: &Segment<V>, inner: &mut segment::Inner<V>) {
        let mut began: Option<Monotonic> = None;
        while inner.exceeds(self.bounds) {
            let start = *began.get_or_insert_with(|| self.clock.monotonic());
            let family = inner.evict();
            let now = self.clock.monotonic();
            segment.evicted(V::kind(family), now - start);
            began = Some(now);
        }
    }

    /// Adds what it counted and holds. Cost: a look at every segment.
    pub(crate) fn add_to(&self, sum: &mut CacheStatistics) {
        sum.capacity_entries =
            sum.capacity_entries.saturating_add(self.bounds.entries.saturating_mul(self.segments.len()));
        sum.capacity_bytes = sum.capacity_bytes.saturating_add(self.bounds.bytes.saturating_mul(self.segments.len()));
        self.segments.iter().for_each(|segment| segment.add_to(sum));
    }

    pub(crate) fn hash(&self, family: Family, key: &[u8]) -> u64 {
        self.hasher.hash_one((family, key))
    }

    fn segment(&self, hash: u64) -> &Segment<V> {
        // The index within a segment uses the low and the highest bits, so take some from between.
        let bits = usize::try_from(hash >> 40 & 0xFFFF).expect("sixteen bits");
        &self.segments[bits & (self.segments.len() - 1)]
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        self.segments.iter().for_each(|segment| segment.check_invariants(self.bounds));
    }
}

#[cfg(test)]
mod tests;
