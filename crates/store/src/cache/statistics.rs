//! What a cache counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is looked up, as users are told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Inode,
    Edge,
    Other,
    Listing,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Inode, Kind::Edge, Kind::Other, Kind::Listing];
}

/// Counts of one kind since the start, and what is held now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KindStatistics {
    pub hits: u64,
    pub misses: u64,
    /// Time the store took for what was missed.
    pub loading: Duration,
    /// Entries that went to make room.
    pub evictions: u64,
    /// Time it took to choose and drop them.
    pub evicting: Duration,
    /// Records held, or entries of pages.
    pub entries: u64,
}

/// Counts since the start, and what is held now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CacheStatistics {
    /// Places of inodes, by inode id.
    pub inodes: KindStatistics,
    /// Inodes, by parent and name.
    pub edges: KindStatistics,
    /// Pages of directories.
    pub listings: KindStatistics,
    /// Counters, containers, mounts.
    pub others: KindStatistics,
    /// Found in the store and not kept, because it changed meanwhile.
    pub fills_dropped: u64,
    /// Estimate of the memory used, never above the bound.
    pub bytes: usize,
    pub capacity_bytes: usize,
    pub capacity_entries: usize,
}

impl CacheStatistics {
    /// All kinds together.
    pub fn total(&self) -> KindStatistics {
        let kinds = [self.inodes, self.edges, self.listings, self.others];
        kinds.into_iter().fold(KindStatistics::default(), |sum, kind| KindStatistics {
            hits: sum.hits + kind.hits,
            misses: sum.misses + kind.misses,
            loading: sum.loading + kind.loading,
            evictions: sum.evictions + kind.evictions,
            evicting: sum.evicting + kind.evicting,
            entries: sum.entries + kind.entries,
        })
    }

    pub(super) fn of_mut(&mut self, kind: Kind) -> &mut KindStatistics {
        match kind {
            Kind::Inode => &mut self.inodes,
            Kind::Edge => &mut self.edges,
            Kind::Other => &mut self.others,
            Kind::Listing => &mut self.listings,
        }
    }
}

/// The counters of one segment.
#[derive(Default)]
pub(super) struct Counts {
    kinds: [KindCounts; Kind::ALL.len()],
    fills_dropped: AtomicU64,
}

#[derive(Default)]
struct KindCounts {
    hits: AtomicU64,
    misses: AtomicU64,
    loading_ns: AtomicU64,
    evictions: AtomicU64,
    evicting_ns: AtomicU64,
}

impl Counts {
    fn of(&self, kind: Kind) -> &KindCounts {
        &self.kinds[kind as usize]
    }
    pub(super) fn looked_up(&self, kind: Kind, is_hit: bool) {
        let counts = self.of(kind);
        let count = if is_hit { &counts.hits } else { &counts.misses };
        count.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn loaded(&self, kind: Kind, took: Duration) {
        self.of(kind).loading_ns.fetch_add(nanos(took), Ordering::Relaxed);
    }
    pub(super) fn evicted(&self, kind: Kind, took: Duration) {
        self.of(kind).evictions.fetch_add(1, Ordering::Relaxed);
        self.of(kind).evicting_ns.fetch_add(nanos(took), Ordering::Relaxed);
    }
    pub(super) fn dropped_fill(&self) {
        self.fills_dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, sum: &mut CacheStatistics) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for kind in Kind::ALL {
            let (of, counts) = (sum.of_mut(kind), self.of(kind));
            of.hits += load(&counts.hits);
            of.misses += load(&counts.misses);
            of.loading += Duration::from_nanos(load(&counts.loading_ns));
            of.evictions += load(&counts.evictions);
            of.evicting += Duration::from_nanos(load(&counts.evicting_ns));
        }
        sum.fills_dropped += load(&self.fills_dropped);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
