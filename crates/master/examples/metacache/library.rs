//! A library's cache in the same place: quick_cache. One thread uses it, so it needs none of the guards ours has.

use crate::front::{Counts, Front};
use bytes::Bytes;
use hashbrown::DefaultHashBuilder;
use meta::{Applied, Changes, Entry, Family, Namespace, Read, Store, StoreError};
use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;
use std::cell::Cell;
use std::sync::Arc;
use store::RocksStore;
use types::LogIndex;

pub struct Library {
    store: Arc<RocksStore>,
    /// By the hash function it would take itself.
    cache: Cache<Vec<u8>, Option<Bytes>, UnitWeighter, DefaultHashBuilder>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl Library {
    pub fn new(store: Arc<RocksStore>, capacity: usize) -> Library {
        let weight = u64::try_from(capacity).expect("usize is at most 64 bits");
        let cache = Cache::with(capacity, weight, UnitWeighter, DefaultHashBuilder::default(), Default::default());
        Library { store, cache, hits: Cell::new(0), misses: Cell::new(0) }
    }
}

fn keeps(family: Family) -> bool {
    matches!(family, Family::State | Family::Edges | Family::Inodes | Family::Containers | Family::Mounts)
}

fn key(family: Family, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(1 + key.len());
    whole.push(family as u8);
    whole.extend_from_slice(key);
    whole
}

impl Read for Library {
    fn get(&self, family: Family, of: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if !keeps(family) {
            return self.store.get(family, of);
        }
        let key = key(family, of);
        if let Some(known) = self.cache.get(&key) {
            self.hits.set(self.hits.get() + 1);
            return Ok(known);
        }
        self.misses.set(self.misses.get() + 1);
        let found = self.store.get(family, of)?;
        self.cache.insert(key, found.clone());
        Ok(found)
    }
    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.store.scan(family, start, end, limit)
    }
}

impl Front for Library {
    fn look(&self, look: &mut dyn FnMut(&dyn Read) -> Result<(), StoreError>) {
        look(self).expect("the database answers");
    }
    fn apply(&self, namespace: &mut Namespace, batch: &[(LogIndex, Entry)]) -> (Changes, Vec<Applied>) {
        namespace.apply(self, batch).expect("the database answers")
    }
    fn publish(&self, changes: Changes) {
        self.store.commit(&changes).expect("the database takes it");
        for change in changes.changes.iter().filter(|change| keeps(change.family)) {
            let key = key(change.family, &change.key);
            if self.cache.peek(&key).is_some() {
                self.cache.insert(key, change.value.as_ref().map(|value| Bytes::copy_from_slice(value)));
            }
        }
    }
    fn counts(&self) -> Counts {
        // Whatever came and is not there any more.
        let len = u64::try_from(self.cache.len()).expect("it fits");
        Counts {
            hits: self.hits.get(),
            misses: self.misses.get(),
            evictions: self.misses.get().saturating_sub(len),
            evicting: None,
        }
    }
}
