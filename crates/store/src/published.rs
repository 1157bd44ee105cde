//! How readers see a consistent state while one writer applies batches.
//!
//! Is:     a store with versions in front: readers note the version of what they look at and look again if it moved.
//! Owns:   the versions ([`stripes`]), clean caches of records and pages, the bitmap of containers that live, and the latch
//!         for readers that met bad luck repeatedly.
//! Never:  lets a reader see part of a commit, lets it wait for a commit that touches nothing it reads, or starves it.

mod stripes;
mod tracked;

pub use tracked::Tracked;

use crate::cache::{self, Cache, CacheConfig, CacheStatistics, Known, Page, Seen};
use crate::live::Live;
use bytes::Bytes;
use meta::{Changes, Family, Read, Store, StoreError};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stripes::{Slot, Stripes};
use types::{Clock, ContainerId};

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
    /// None if it is switched off.
    caches: Option<Caches>,
    pub(crate) live: Live,
    clock: Arc<dyn Clock>,
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
    /// Puts versions, caches within `config`, and the bitmap of containers in front of `store`, which nobody else may commit to
    /// from now on.
    ///
    /// - `clock`: measures how long the store and evictions take.
    /// - `seed`: of the cache's hashes; users must not know it.
    /// - Memory: half a MiB, the bitmap (an eighth of a byte per container id given out, at most), and the caches as they fill.
    /// - Errors: the store's, or a bitmap that cannot be read. Cost: reads the bitmap; after another program wrote to the
    ///   database, every container.
    pub fn new(
        store: Arc<S>,
        config: &CacheConfig,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Published<S>, StoreError> {
        Ok(Published {
            stripes: Stripes::new(),
            latch: RwLock::new(()),
            caches: config.is_on().then(|| Caches::new(config, &clock, seed)),
            live: Live::open(&*store)?,
            clock,
            retries: AtomicU64::new(0),
            latched: AtomicU64::new(0),
            store,
        })
    }

    /// Commits `changes` so that readers see all of them or none. Publishers queue.
    ///
    /// Errors: the store's; then the member has to stop, and readers see what the store has. Cost: the commit, a few stores and
    /// a hash per change, and a record per 2048 containers of which some came or went.
    pub fn publish(&self, mut changes: Changes) -> Result<(), StoreError> {
        let _alone = self.latch.write();
        let live = self.live.prepare(&changes);
        changes.changes.extend(live.records(&*self.store, changes.applied)?);
        let slots = Stripes::touched(&changes);
        let _moving = self.stripes.moving(&slots);
        let committed = self.store.commit(&changes);
        if let Some(caches) = &self.caches {
            for change in changes.changes.iter().filter(|change| cache::keeps(change.family)) {
                match &committed {
                    Ok(()) => {
                        caches.records.update(change.family, &change.key, || Known(change.value.clone()));
                    }
                    // Nobody knows what the store has now.
                    Err(_) => caches.records.forget(change.family, &change.key),
                }
            }
        }
        if committed.is_ok() {
            self.live.adopt(live);
        }
        committed
    }

    /// Whether a file owns `container`, as of the last commit or, while one is being published, the one before it. Never
    /// reads the store or its caches.
    pub fn is_live(&self, container: ContainerId) -> bool {
        self.live.holds(container)
    }

    /// Where the bitmap and the records of containers differ, by a full recount while nothing is published; nothing, unless there
    /// is a bug.
    pub fn live_drift(&self) -> Result<Vec<String>, StoreError> {
        self.live.drift(&*self.store)
    }

    /// As [`Published::live_drift`], for up to `chunks` chunks of 2048 containers from number `from` on, with commits waiting as
    /// long; and the number to go on from, if any. `mend`: what is wrong is made anew from the records.
    pub fn compare_live(&self, from: u64, chunks: usize, mend: bool) -> Result<(Vec<String>, Option<u64>), StoreError> {
        let _unchanged = self.latch.read();
        self.live.compare(&*self.store, from, chunks, mend)
    }

    /// How many containers belong to an inode, those of what waits to be collected among them. Cost: a look at every 2048 of
    /// them.
    pub fn live_count(&self) -> usize {
        self.live.count()
    }

    /// Memory of what is known of containers.
    pub fn live_bytes(&self) -> usize {
        self.live.memory_bytes()
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
        let mut cache = CacheStatistics::default();
        if let Some(caches) = &self.caches {
            caches.records.add_to(&mut cache);
            caches.pages.iter().for_each(|pages| pages.add_to(&mut cache));
        }
        PublishedStatistics {
            cache,
            retries: self.retries.load(Ordering::Relaxed),
            latched: self.latched.load(Ordering::Relaxed),
        }
    }

    /// One record, from the cache or the store. `version` is that of `slot`, loaded before.
    fn look_up(&self, family: Family, key: &[u8], slot: Slot, version: u64) -> Result<Option<Bytes>, StoreError> {
        let Some(caches) = self.caches.as_ref().filter(|_| cache::keeps(family)) else {
            return self.store.get(family, key);
        };
        if let Some(Known(value)) = caches.records.get(family, key) {
            return Ok(value);
        }
        let began = self.clock.monotonic();
        let value = self.store.get(family, key)?;
        let loading = self.clock.monotonic() - began;
        caches.records.fill(family, key, Known(value.clone()), loading, || self.stands(slot, version));
        Ok(value)
    }

    /// A page of edges, from the cache or the store; a page that was asked for before is kept. `version` is that of `slot`,
    /// the directory's, loaded before.
    fn page(
        &self,
        (start, end): (&[u8], &[u8]),
        limit: usize,
        slot: Slot,
        version: u64,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let Some(caches) = &self.caches else { return self.store.scan(Family::Edges, start, end, limit) };
        let Some(pages) = &caches.pages else { return self.store.scan(Family::Edges, start, end, limit) };
        let key = cache::page_key(start, end, limit);
        if let Some(page) = pages.get_if(Family::Edges, &key, |page: &Page| page.version == version) {
            return Ok(page.entries.to_vec());
        }
        let began = self.clock.monotonic();
        let found = self.store.scan(Family::Edges, start, end, limit)?;
        let loading = self.clock.monotonic() - began;
        if caches.seen.again(pages.hash(Family::Edges, &key)) {
            let page = Page::copy(version, &found);
            pages.fill(Family::Edges, &key, page, loading, || self.stands(slot, version));
        } else {
            pages.loaded(Family::Edges, &key, loading);
        }
        Ok(found)
    }

    /// Whether nothing in `slot` changed since its version was this one, and none is changing.
    fn stands(&self, slot: Slot, version: u64) -> bool {
        stripes::is_settled(version) && self.stripes.version(slot) == version
    }
}

/// What is kept in memory.
struct Caches {
    records: Cache<Known>,
    /// None when its share is nothing.
    pages: Option<Cache<Page>>,
    seen: Seen,
}

impl Caches {
    fn new(config: &CacheConfig, clock: &Arc<dyn Clock>, seed: u64) -> Caches {
        let (records, pages) = config.parts();
        Caches {
            records: Cache::new(&records, clock.clone(), seed),
            pages: pages.is_on().then(|| Cache::new(&pages, clock.clone(), !seed)),
            seen: Seen::new(),
        }
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
