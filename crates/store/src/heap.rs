//! The store in memory, with the crash rules of the one on disk.
//!
//! Is:     a [`Store`] that keeps every record in memory. A flush writes what changed since the last one as one file; now
//!         and then the files are merged into one. A crash takes back what came after the last flush.
//! Owns:   the files named `heap-…` on the disk it was given.
//! Never:  touches the disk outside `open`, `flush` and `checkpoint`, nor while readers or commits wait for it.

mod disk;
mod file;

pub use disk::{DirDisk, HeapDisk, MemoryDisk};

use crate::error::{damaged, from_io};
use crate::{key, marker};
use bytes::Bytes;
use file::{Contents, Image};
use meta::{Change, Changes, Family, FamilyUsage, Read, Store, StoreError, Usage};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{ClusterId, ErrorKind, LogIndex};

/// Files of changes beside the whole one before they are merged.
const MAX_DELTAS: usize = 64;
/// Changes may always grow to this many bytes before they are merged, however small the whole file is.
const MERGE_BYTES_MIN: u64 = 1 << 20;

/// A metadata database in memory.
///
/// Invariants: what the files say is the state at `flushed`; with `unflushed` on top it is `records` at `applied`.
pub struct HeapStore {
    disk: Arc<dyn HeapDisk>,
    cluster: ClusterId,
    live: RwLock<Live>,
    /// One flush at a time.
    files: Mutex<Files>,
    flushed: AtomicU64,
}

struct Live {
    records: [BTreeMap<Bytes, Bytes>; Family::ALL.len()],
    applied: LogIndex,
    unflushed: BTreeMap<(Family, Bytes), Option<Bytes>>,
}

/// What is on the disk.
struct Files {
    next: u64,
    whole_bytes: u64,
    deltas: usize,
    delta_bytes: u64,
}

impl HeapStore {
    /// Makes an empty database of `cluster` on `disk`, which must be empty.
    ///
    /// Errors: `AlreadyExists` if anything is there, else what the disk said.
    pub fn format(disk: &dyn HeapDisk, cluster: ClusterId) -> Result<(), StoreError> {
        let what = format!("cannot format the metadata database at {}", disk.place().display());
        if !disk.list().map_err(|error| from_io(&what, &error))?.is_empty() {
            let what = format!("{what}: the directory is not empty; move away what it holds");
            return Err(StoreError { what, kind: ErrorKind::AlreadyExists });
        }
        // The marker last, so that a disk with a marker is a whole database.
        let index = (Family::State, Bytes::from_static(key::APPLIED_KEY));
        let records = [(index, key::encode_applied(LogIndex(0)))].into();
        let empty = file::encode(&Image { applied: LogIndex(0), records }.into_contents());
        disk.replace(&file::name(0, true), &empty)
            .and_then(|()| disk.replace(marker::NAME, &marker::encode(marker::Kind::Heap, cluster)))
            .map_err(|error| from_io(&what, &error))
    }

    /// Reads the database of `cluster` from `disk` into memory.
    ///
    /// Refuses a disk that was never formatted, belongs to another cluster or has a newer format (`Precondition`) and a
    /// damaged one (`Corrupt`). Cost: all files are read.
    pub fn open(disk: Arc<dyn HeapDisk>, cluster: ClusterId) -> Result<HeapStore, StoreError> {
        marker::check(disk.place(), disk.read(marker::NAME), marker::Kind::Heap, cluster)?;
        let (image, files) = load(&*disk)?;
        let mut live = Live { records: Default::default(), applied: image.applied, unflushed: BTreeMap::new() };
        for ((family, key), value) in image.records {
            live.family_mut(family).insert(key, value);
        }
        let flushed = AtomicU64::new(live.applied.0);
        Ok(HeapStore { disk, cluster, live: RwLock::new(live), files: Mutex::new(files), flushed })
    }

    /// Whose database the one on `disk` is, by its marker alone. Errors: as those of [`HeapStore::open`].
    pub fn cluster_of(disk: &dyn HeapDisk) -> Result<ClusterId, StoreError> {
        marker::cluster(disk.place(), disk.read(marker::NAME), marker::Kind::Heap)
    }

    /// Number of records of all families. Cost: a few additions.
    pub fn count(&self) -> usize {
        self.live.read().records.iter().map(BTreeMap::len).sum()
    }

    fn failed(&self, verb: &str, error: &std::io::Error) -> StoreError {
        from_io(format_args!("cannot {verb} the metadata database at {}", self.disk.place().display()), error)
    }

    /// Writes everything on the disk as one file and removes the others.
    fn merge(&self, files: &mut Files) -> Result<(), StoreError> {
        let (image, _) = load(&*self.disk)?;
        let bytes = file::encode(&image.into_contents());
        self.disk.replace(&file::name(files.next, true), &bytes).map_err(|error| self.failed("merge", &error))?;
        *files = Files { next: files.next + 1, whole_bytes: length(&bytes), deltas: 0, delta_bytes: 0 };
        // Left over after a crash here, they are ignored: older than a whole file.
        sweep(&*self.disk, files.next - 1).map_err(|error| self.failed("merge", &error))
    }
}

impl Live {
    fn family(&self, family: Family) -> &BTreeMap<Bytes, Bytes> {
        &self.records[usize::from(file::number(family))]
    }
    fn family_mut(&mut self, family: Family) -> &mut BTreeMap<Bytes, Bytes> {
        &mut self.records[usize::from(file::number(family))]
    }
    fn apply(&mut self, change: Change) {
        let Change { family, key, value } = change;
        match value.clone() {
            Some(value) => self.family_mut(family).insert(key.clone(), value),
            None => self.family_mut(family).remove(&key),
        };
        self.unflushed.insert((family, key), value);
    }
}

impl Read for HeapStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.live.read().family(family).get(key).cloned())
    }

    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let live = self.live.read();
        let range =
            live.family(family).range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Excluded(end)));
        Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl Store for HeapStore {
    fn commit(&self, changes: &Changes) -> Result<(), StoreError> {
        // Copies, made before the lock: a record must not keep the buffer alive that it was cut from.
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let applied = Change {
            family: Family::State,
            key: Bytes::from_static(key::APPLIED_KEY),
            value: Some(key::encode_applied(changes.applied)),
        };
        let copies: Vec<Change> = changes
            .changes
            .iter()
            .map(|change| Change {
                family: change.family,
                key: copy(&change.key),
                value: change.value.as_ref().map(copy),
            })
            .chain([applied])
            .collect();
        let mut live = self.live.write();
        key::assert_commit(changes, live.applied);
        for change in copies {
            live.apply(change);
        }
        live.applied = changes.applied;
        Ok(())
    }

    fn applied(&self) -> LogIndex {
        self.live.read().applied
    }

    fn flush(&self) -> Result<LogIndex, StoreError> {
        let mut files = self.files.lock();
        let (applied, unflushed) = {
            let mut live = self.live.write();
            (live.applied, std::mem::take(&mut live.unflushed))
        };
        if unflushed.is_empty() {
            return Ok(applied);
        }
        let delta = Contents { whole: false, from: self.flushed(), applied, records: unflushed };
        let bytes = file::encode(&delta);
        if let Err(error) = self.disk.replace(&file::name(files.next, false), &bytes) {
            // Nobody knows whether the file is there. If so, the next flush replaces it by one that holds more.
            let mut live = self.live.write();
            for (key, value) in delta.records {
                live.unflushed.entry(key).or_insert(value);
            }
            return Err(self.failed("flush", &error));
        }
        files.next += 1;
        files.deltas += 1;
        files.delta_bytes += length(&bytes);
        self.flushed.store(applied.0, Ordering::Release);
        if files.deltas >= MAX_DELTAS || files.delta_bytes > files.whole_bytes.max(MERGE_BYTES_MIN) {
            self.merge(&mut files)?;
        }
        Ok(applied)
    }

    fn flushed(&self) -> LogIndex {
        LogIndex(self.flushed.load(Ordering::Acquire))
    }

    /// Which family's records a file holds how much of is not counted: nothing is said of the disk.
    fn usage(&self) -> Usage {
        let live = self.live.read();
        let of = |family| FamilyUsage::of_keys(family, u64::try_from(live.family(family).len()).unwrap_or(u64::MAX));
        Usage { families: Family::ALL.map(of).to_vec(), ..Usage::default() }
    }

    fn checkpoint(&self, dir: &Path) -> Result<LogIndex, StoreError> {
        let (image, _) = {
            let _unchanged = self.files.lock();
            load(&*self.disk)?
        };
        let applied = image.applied;
        let whole = file::encode(&image.into_contents());
        let marker = marker::encode(marker::Kind::Heap, self.cluster);
        self.disk.create_dir(dir, &[(&file::name(0, true), &whole), (marker::NAME, &marker)]).map_err(|error| {
            from_io(format_args!("cannot write a checkpoint of the metadata database to {}", dir.display()), &error)
        })?;
        Ok(applied)
    }
}

/// The state that the files on `disk` describe: the newest whole one and the changes after it.
fn load(disk: &dyn HeapDisk) -> Result<(Image, Files), StoreError> {
    let what = format!("cannot read the metadata database at {}", disk.place().display());
    let read = |number, whole| {
        let name = file::name(number, whole);
        let bytes = disk.read(&name).map_err(|error| from_io(format_args!("{what}: {name}"), &error))?;
        let contents = file::decode(&bytes).map_err(|why| damaged(format_args!("{what}: {name} {why}")))?;
        Ok((contents, length(&bytes)))
    };
    let names = disk.list().map_err(|error| from_io(&what, &error))?;
    let found: BTreeSet<(u64, bool)> = names.iter().filter_map(|name| file::parse_name(name)).collect();
    let first = found.iter().filter(|(_, whole)| *whole).map(|(number, _)| *number).max();
    let first = first.ok_or_else(|| damaged(format_args!("{what}: it holds no whole file")))?;
    let (contents, whole_bytes) = read(first, true)?;
    let mut image = Image::new(contents);
    let mut files = Files { next: first + 1, whole_bytes, deltas: 0, delta_bytes: 0 };
    // A merge that failed may have left a whole file with the number of the changes that followed it.
    for (number, _) in found.range((first, false)..).filter(|(_, whole)| !*whole) {
        let (contents, bytes) = read(*number, false)?;
        if contents.from != image.applied {
            let name = file::name(*number, false);
            return Err(damaged(format_args!("{what}: the file before {name} is missing")));
        }
        files = Files { next: number + 1, deltas: files.deltas + 1, delta_bytes: files.delta_bytes + bytes, ..files };
        image.apply(contents);
    }
    Ok((image, files))
}

/// Removes the files older than `first`.
fn sweep(disk: &dyn HeapDisk, first: u64) -> std::io::Result<()> {
    for name in disk.list()? {
        if file::parse_name(&name).is_some_and(|(number, _)| number < first) {
            disk.remove(&name)?;
        }
    }
    Ok(())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("no file is longer than 2^64 bytes")
}

#[cfg(test)]
mod tests;
