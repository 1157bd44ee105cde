//! The database behind a cache, as a master sees it.

use meta::{Applied, Caller, Changes, Entry, Namespace, Read, StoreError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{CacheConfig, Eviction, Policy, Published, RocksStore};
use types::{Clock, ClusterId, LogIndex, Monotonic, UnixMs};

pub const CLUSTER: ClusterId = ClusterId(7);

pub fn root() -> Caller {
    Caller { user: "root".into(), groups: vec!["root".into()], superuser: true }
}

/// The machine's clock.
pub struct WatchClock(Instant);

impl WatchClock {
    pub fn new() -> Arc<WatchClock> {
        Arc::new(WatchClock(Instant::now()))
    }
}

impl Clock for WatchClock {
    fn unix(&self) -> UnixMs {
        UnixMs(0)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }
}

/// What a cache counted.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    /// None: it does not say.
    pub evicting: Option<Duration>,
}

impl Counts {
    pub fn since(self, before: Counts) -> Counts {
        Counts {
            hits: self.hits - before.hits,
            misses: self.misses - before.misses,
            evictions: self.evictions - before.evictions,
            evicting: self.evicting.zip(before.evicting).map(|(now, before)| now - before),
        }
    }

    pub fn hit_ratio(self) -> f64 {
        crate::float(self.hits) / crate::float((self.hits + self.misses).max(1))
    }
}

pub trait Front {
    /// A consistent read, as a handler makes it.
    fn look(&self, look: &mut dyn FnMut(&dyn Read) -> Result<(), StoreError>);
    fn apply(&self, namespace: &mut Namespace, batch: &[(LogIndex, Entry)]) -> (Changes, Vec<Applied>);
    fn publish(&self, changes: Changes);
    fn counts(&self) -> Counts;
}

impl Front for Published<RocksStore> {
    fn look(&self, look: &mut dyn FnMut(&dyn Read) -> Result<(), StoreError>) {
        self.read(|view| look(view)).expect("the database answers");
    }
    fn apply(&self, namespace: &mut Namespace, batch: &[(LogIndex, Entry)]) -> (Changes, Vec<Applied>) {
        namespace.apply(&self.latest(), batch).expect("the database answers")
    }
    fn publish(&self, changes: Changes) {
        Published::publish(self, changes).expect("the database takes it");
    }
    fn counts(&self) -> Counts {
        let total = self.statistics().cache.total();
        Counts { hits: total.hits, misses: total.misses, evictions: total.evictions, evicting: Some(total.evicting) }
    }
}

/// Ours, bounded in entries alone.
pub fn published(store: Arc<RocksStore>, capacity: usize, eviction: Eviction) -> Published<RocksStore> {
    let config = CacheConfig { entries: capacity, bytes: usize::MAX, eviction };
    Published::new(store, &config, WatchClock::new(), 7).expect("open")
}

/// The victims of RANDOM without its walk: what its hit ratio alone is worth.
pub const DRAWN: Eviction = Eviction { name: "RANDOM, no walk", segments: 16, make: |seed| Box::new(Drawn::new(seed)) };

/// Any entry, in one step.
struct Drawn {
    slots: Vec<u32>,
    /// Where each slot stands in `slots`.
    places: Vec<usize>,
    dice: testkit::Chance,
}

impl Drawn {
    fn new(seed: u64) -> Drawn {
        Drawn { slots: Vec::new(), places: Vec::new(), dice: testkit::Chance::new(seed) }
    }
}

impl Policy for Drawn {
    fn inserted(&mut self, slot: u32, _hash: u64) {
        let at = usize::try_from(slot).expect("32 bits fit");
        if self.places.len() <= at {
            self.places.resize(at + 1, 0);
        }
        self.places[at] = self.slots.len();
        self.slots.push(slot);
    }
    fn touched(&mut self, _slot: u32) {}
    fn removed(&mut self, slot: u32) {
        let place = self.places[usize::try_from(slot).expect("32 bits fit")];
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.places[usize::try_from(*moved).expect("32 bits fit")] = place;
        }
    }
    fn evict(&mut self) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[self.dice.below(self.slots.len())];
        self.removed(slot);
        Some(slot)
    }
}
