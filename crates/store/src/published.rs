//! How readers see a consistent state while one writer applies batches.
//!
//! Is:     a store with versions in front: readers note the version of what they look at and look again if it moved.
//! Owns:   the versions ([`stripes`]), a clean cache of records, and the latch for readers that met bad luck repeatedly.
//! Never:  lets a reader see part of a commit, lets it wait for a commit that touches nothing it reads, or starves it.

mod stripes;
mod tracked;

pub use tracked::Tracked;

use crate::cache::{self, Cache, CacheStatistics, Policy};
use bytes::Bytes;
use meta::{Changes, Family, Read, Store, StoreError};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stripes::{Slot, Stripes};

/// Attempts of a read before it takes the latch. A first conflict is common under load; a third means that the reader
/// touches what every batch touches, and waiting for one commit is cheaper than going on.
const READ_RETRIES: usize = 3;

/// A store as the readers of a member see it. One writer publishes; any number of threads read.
///
/// What readers rely on: everything one call of [`Published::read`] saw is the state after one and the same commit.
/// Why that holds stands in `published/stripes.rs`.
pub struct Published<S: ?Sized> {
    stripes: Stripes,
    /// Held by the writer while it publishes, and shared by readers that gave up on versions.
    latch: RwLock<()>,
    cache: Cache,
    retries: AtomicU64,
    latched: AtomicU64,
    store: Arc<S>,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PublishedStatistics {
    pub cache: CacheStatistics,
    /// Attempts thrown away because something moved.
    pub retries: u64,
    /// Reads that took the latch in the end.
    pub latched: u64,
}

impl<S: Store + ?Sized> Published<S> {
    /// Puts versions and a cache of `cache_bytes` (0: none) with one `policy` per shard in front of `store`, which nobody
    /// else may commit to from now on. Memory: half a MiB, and the cache as it fills.
    pub fn new(store: Arc<S>, cache_bytes: usize, policy: impl Fn() -> Box<dyn Policy>) -> Published<S> {
        Published {
            stripes: Stripes::new(),
            latch: RwLock::new(()),
            cache: Cache::new(cache_bytes, policy),
            retries: AtomicU64::new(0),
            latched: AtomicU64::new(0),
            store,
        }
    }

    /// Commits `changes` so that readers see all of them or none. Publishers queue.
    ///
    /// Errors: the store's; then the member has to stop, and readers see what the store has. Cost: the commit, and a few
    /// stores and a hash per change.
    pub fn publish(&self, changes: &Changes) -> Result<(), StoreError> {
        let slots = Stripes::touched(changes);
        let _alone = self.latch.write();
        let _moving = self.stripes.moving(&slots);
        let committed = self.store.commit(changes);
        if self.cache.is_on() {
            for change in changes.changes.iter().filter(|change| cache::keeps(change.family)) {
                match &committed {
                    Ok(()) => self.cache.update(change.family, &change.key, change.value.as_ref()),
                    // Nobody knows what the store has now.
                    Err(_) => self.cache.forget(change.family, &change.key),
                }
            }
        }
        committed
    }

    /// Calls `f` with a view of one moment, again if that moment passed under it, and returns what it last returned.
    ///
    /// `f` must be bounded and change nothing outside: it runs up to four times, and what it returns is
    /// thrown away, errors included, if a record it saw changed before its last look at the store. When its view breaks,
    /// each further look is an error of kind `Busy`; pass it on. The last run holds up the writer. Do not read or publish
    /// from within `f`: it might wait for itself.
    pub fn read<R>(&self, mut f: impl FnMut(&Tracked<'_, S>) -> R) -> R {
        for _ in 0..READ_RETRIES {
            let view = Tracked::new(self);
            let result = f(&view);
            if !view.has_moved() {
                return result;
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
        }
        self.latched.fetch_add(1, Ordering::Relaxed);
        let _unchanged = self.latch.read();
        f(&Tracked::latched(self))
    }

    /// The newest state, for the writer: nothing changes but by its hand.
    pub fn latest(&self) -> Latest<'_, S> {
        Latest(self)
    }

    /// The store behind: to flush, to write a checkpoint, for its figures. Never to commit.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    pub fn statistics(&self) -> PublishedStatistics {
        PublishedStatistics {
            cache: self.cache.statistics(),
            retries: self.retries.load(Ordering::Relaxed),
            latched: self.latched.load(Ordering::Relaxed),
        }
    }

    /// One record, from the cache or the store. `version` is that of `slot`, loaded before.
    fn look_up(&self, family: Family, key: &[u8], slot: Slot, version: u64) -> Result<Option<Bytes>, StoreError> {
        if !self.cache.is_on() || !cache::keeps(family) {
            return self.store.get(family, key);
        }
        if let Some(known) = self.cache.get(family, key) {
            return Ok(known);
        }
        let value = self.store.get(family, key)?;
        self.cache.fill(family, key, value.as_ref(), || {
            stripes::is_settled(version) && self.stripes.version(slot) == version
        });
        Ok(value)
    }
}

/// The records as the last commit left them, through the cache, one by one: see [`Published::latest`].
///
/// Only the thread that publishes may take several records from it as belonging together.
pub struct Latest<'a, S: ?Sized>(&'a Published<S>);

impl<S: Store + ?Sized> Read for Latest<'_, S> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let slot = Stripes::of_key(family, key);
        self.0.look_up(family, key, slot, self.0.stripes.version(slot))
    }

    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.0.store.scan(family, start, end, limit)
    }
}

#[cfg(test)]
mod tests;
