//! Which containers belong to a file: a compressed bitmap in memory, kept beside the records it follows from.
//!
//! Is:     a pure function of the family `containers`, in chunks of neighbouring ids, and those chunks as records of the
//!         store's own, written by the commits that change them.
//! Owns:   the chunks in memory.
//! Never:  decides what a container that does not live means.
//!
//! Invariants: after a publish returned, a container lives here exactly when `containers` has it; the record [`LIVE_KEY`] names
//! the applied index of the database exactly when the records of chunks are those of that index.

mod chunk;

use crate::key;
use bytes::Bytes;
use chunk::{CHUNK_BITS, Chunk};
use hashbrown::HashMap;
use meta::{Change, Changes, Family, KEYS_END, Store, StoreError, for_each_between, key_after};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{ContainerId, LogIndex};

/// Of [`Family::State`]: the applied index that the chunks belong to, encoded as that one is.
const LIVE_KEY: &[u8] = b"live";
/// Of [`Family::State`]: a chunk stands under this and its number, 8 bytes, big endian.
const CHUNK_PREFIX: &[u8] = b"live/";
/// All chunks: from the first possible key to one that sorts behind every chunk.
const CHUNKS: (&[u8], &[u8]) = (CHUNK_PREFIX, b"live0");
/// Maps, so that readers seldom meet.
const MAPS: usize = 16;
const _: () = assert!(MAPS.is_power_of_two());

/// See the module.
pub(crate) struct Live {
    maps: Box<[RwLock<HashMap<u64, Chunk>>]>,
    /// The database's chunks are not of its applied index: the next commit writes all.
    is_stale: AtomicBool,
}

/// Where the written bitmap of containers that live and the records of containers differ; nothing if the bitmap is not
/// of the database's applied index, as then the next start makes it anew. For a database that nobody has published.
///
/// Cost: a look at every container. Errors: the store's; `Corrupt` for a chunk that cannot be read.
pub fn live_drift(store: &(impl Store + ?Sized)) -> Result<Vec<String>, StoreError> {
    let live = Live::open(store)?;
    if live.is_stale.load(Ordering::Relaxed) { Ok(Vec::new()) } else { live.drift(store) }
}

/// The change after which the next start makes that bitmap anew.
pub fn forget_live() -> Change {
    Change { family: Family::State, key: Bytes::from_static(LIVE_KEY), value: None }
}

/// What a commit makes of the chunks it touches. None: nothing lives in it any more.
pub(crate) struct Fresh {
    chunks: BTreeMap<u64, Option<Chunk>>,
    is_whole: bool,
}

/// Whether the record follows from others and is written by the store alone.
pub(crate) fn is_derived(family: Family, key: &[u8]) -> bool {
    family == Family::State && (key == LIVE_KEY || key.starts_with(CHUNK_PREFIX))
}

impl Live {
    /// Reads what `store` has, of chunks that fit it, else of containers.
    ///
    /// Cost: one record per 2048 containers given out, or one per container that lives. Errors: the store's; `Corrupt` for a
    /// chunk that cannot be read.
    pub(crate) fn open(store: &(impl Store + ?Sized)) -> Result<Live, StoreError> {
        let live = Live { maps: (0..MAPS).map(|_| RwLock::default()).collect(), is_stale: AtomicBool::new(false) };
        let written = store.get(Family::State, LIVE_KEY)?.map(|value| key::decode_applied(&value)).transpose()?;
        if written == Some(store.applied()) {
            live.read_chunks(store)?;
        } else {
            live.read_containers(store)?;
            live.is_stale.store(true, Ordering::Relaxed);
        }
        Ok(live)
    }

    fn read_chunks(&self, store: &(impl Store + ?Sized)) -> Result<(), StoreError> {
        for_each_between(store, Family::State, CHUNKS, |key, value| {
            let number = number_of(&key[CHUNK_PREFIX.len()..])?;
            let chunk = Chunk::decode(value).ok_or_else(|| damaged(key))?;
            self.map(number).write().insert(number, chunk);
            Ok(())
        })
    }

    fn read_containers(&self, store: &(impl Store + ?Sized)) -> Result<(), StoreError> {
        for_each_between(store, Family::Containers, (&[], KEYS_END), |key, _| {
            let (number, place) = split(ContainerId(number_of(key)?));
            self.map(number).write().entry(number).or_default().set(place, true);
            Ok(())
        })
    }

    /// Whether a file owns `container`. Cost: a lock taken shared, and a look at one chunk.
    pub(crate) fn holds(&self, container: ContainerId) -> bool {
        let (number, place) = split(container);
        self.map(number).read().get(&number).is_some_and(|chunk| chunk.has(place))
    }

    /// Differences from the records of `store`, by a recount of all.
    pub(crate) fn drift(&self, store: &(impl Store + ?Sized)) -> Result<Vec<String>, StoreError> {
        let (mut wrong, mut records) = (Vec::new(), 0usize);
        for_each_between(store, Family::Containers, (&[], KEYS_END), |key, _| {
            let container = ContainerId(number_of(key)?);
            records += 1;
            if !self.holds(container) {
                wrong.push(format!("{container} has a file and does not live"));
            }
            Ok(())
        })?;
        let live = self.count();
        if live != records - wrong.len() {
            wrong.push(format!("{live} containers live, {records} have a file"));
        }
        Ok(wrong)
    }

    /// How many containers live. Cost: a look at every chunk.
    pub(crate) fn count(&self) -> usize {
        self.maps.iter().map(|map| map.read().values().map(Chunk::count).sum::<usize>()).sum()
    }

    /// Compares up to `chunks` chunks from number `from` on with the records of `store`, which nobody may change meanwhile. What
    /// is wrong, as sentences, and the number to go on from. `mend`: what is wrong is made from the records, and the next commit
    /// writes all chunks.
    ///
    /// Cost: the records of these chunks, and a look at every chunk's number.
    pub(crate) fn compare(
        &self,
        store: &(impl Store + ?Sized),
        from: u64,
        chunks: usize,
        mend: bool,
    ) -> Result<(Vec<String>, Option<u64>), StoreError> {
        let (mut wrong, mut at) = (Vec::new(), from);
        for _ in 0..chunks {
            let Some(number) = self.next(store, at)? else { return Ok((wrong, None)) };
            let start = number << CHUNK_BITS;
            let last = start | ((1 << CHUNK_BITS) - 1);
            let (first, end) = (start.to_be_bytes(), key_after(&last.to_be_bytes()));
            let mut right = Chunk::default();
            for_each_between(store, Family::Containers, (&first[..], &end[..]), |key, _| {
                right.set(split(ContainerId(number_of(key)?)).1, true);
                Ok::<_, StoreError>(())
            })?;
            let held = self.map(number).read().get(&number).cloned().unwrap_or_default();
            if !right.same(&held) {
                let (from, to) = (ContainerId(start), ContainerId(last));
                wrong.push(format!(
                    "of {from} to {to} {} live by the bitmap and {} have a record",
                    held.count(),
                    right.count()
                ));
                if mend {
                    let mut map = self.map(number).write();
                    match right.is_empty() {
                        true => map.remove(&number),
                        false => map.insert(number, right),
                    };
                    self.is_stale.store(true, Ordering::Relaxed);
                }
            }
            at = number + 1;
            if last == u64::MAX {
                return Ok((wrong, None));
            }
        }
        Ok((wrong, Some(at)))
    }

    /// The lowest number from `from` on of a chunk that is held, or that a record belongs to.
    fn next(&self, store: &(impl Store + ?Sized), from: u64) -> Result<Option<u64>, StoreError> {
        let held =
            self.maps.iter().filter_map(|map| map.read().keys().copied().filter(|number| *number >= from).min()).min();
        let start = from << CHUNK_BITS;
        let page = store.scan(Family::Containers, &start.to_be_bytes(), KEYS_END, 1)?;
        let recorded = page.first().map(|(key, _)| number_of(key)).transpose()?.map(|id| split(ContainerId(id)).0);
        Ok(held.into_iter().chain(recorded).min())
    }

    /// What the chunks take, up to what the allocator adds. Cost: a look at every chunk.
    pub(crate) fn memory_bytes(&self) -> usize {
        let of = |map: &RwLock<HashMap<u64, Chunk>>| {
            let map = map.read();
            map.allocation_size() + map.values().map(Chunk::heap_bytes).sum::<usize>()
        };
        self.maps.iter().map(of).sum()
    }

    /// What `changes` make of the chunks. Only the one writer asks.
    pub(crate) fn prepare(&self, changes: &Changes) -> Fresh {
        let mut chunks: BTreeMap<u64, Option<Chunk>> = BTreeMap::new();
        let is_whole = self.is_stale.load(Ordering::Relaxed);
        if is_whole {
            for map in &self.maps {
                chunks.extend(map.read().iter().map(|(number, chunk)| (*number, Some(chunk.clone()))));
            }
        }
        for change in changes.changes.iter().filter(|change| change.family == Family::Containers) {
            let Some(container) = change.key.as_ref().try_into().ok().map(u64::from_be_bytes) else { continue };
            let (number, place) = split(ContainerId(container));
            let held = || Some(self.map(number).read().get(&number).cloned().unwrap_or_default());
            let chunk = chunks.entry(number).or_insert_with(held).get_or_insert_default();
            chunk.set(place, change.value.is_some());
        }
        for chunk in chunks.values_mut() {
            if chunk.as_ref().is_some_and(Chunk::is_empty) {
                *chunk = None;
            }
        }
        Fresh { chunks, is_whole }
    }

    /// The commit stands: readers see what it made.
    pub(crate) fn adopt(&self, fresh: Fresh) {
        for (number, chunk) in fresh.chunks {
            let mut map = self.map(number).write();
            match chunk {
                Some(chunk) => map.insert(number, chunk),
                None => map.remove(&number),
            };
        }
        if fresh.is_whole {
            self.is_stale.store(false, Ordering::Relaxed);
        }
    }

    fn map(&self, number: u64) -> &RwLock<HashMap<u64, Chunk>> {
        &self.maps[usize::try_from(number & 0xFFFF).expect("sixteen bits") & (MAPS - 1)]
    }
}

impl Fresh {
    /// The records that go into the commit of `applied`. If all are written anew, those that the database has and nothing
    /// lives in are found by `store`.
    pub(crate) fn records(&self, store: &(impl Store + ?Sized), applied: LogIndex) -> Result<Vec<Change>, StoreError> {
        let record = |key: Bytes, value| Change { family: Family::State, key, value };
        let mut records: Vec<Change> = self
            .chunks
            .iter()
            .map(|(number, chunk)| record(chunk_key(*number), chunk.as_ref().map(Chunk::encode)))
            .collect();
        if self.is_whole {
            for_each_between(store, Family::State, CHUNKS, |key, _| {
                let number = number_of(&key[CHUNK_PREFIX.len()..])?;
                if !self.chunks.contains_key(&number) {
                    records.push(record(key.clone(), None));
                }
                Ok(())
            })?;
        }
        records.push(record(Bytes::from_static(LIVE_KEY), Some(key::encode_applied(applied))));
        Ok(records)
    }
}

fn split(container: ContainerId) -> (u64, u16) {
    let place = container.0 & ((1 << CHUNK_BITS) - 1);
    (container.0 >> CHUNK_BITS, u16::try_from(place).expect("eleven bits fit"))
}

fn chunk_key(number: u64) -> Bytes {
    [CHUNK_PREFIX, &number.to_be_bytes()].concat().into()
}

fn number_of(key: &[u8]) -> Result<u64, StoreError> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| damaged(key))
}

fn damaged(key: &[u8]) -> StoreError {
    crate::error::damaged(format_args!("the record {} of what containers live cannot be read", key.escape_ascii()))
}

#[cfg(test)]
mod tests;
