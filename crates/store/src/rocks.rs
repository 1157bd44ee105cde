//! The store on disk: one RocksDB with a column family per [`Family`].
//!
//! Is:     a [`Store`] without a log of its own. A commit lives in the memtables until they are flushed, all families
//!         at one moment; a crash takes back whole commits, the newest first.
//! Owns:   its directory, which RocksDB locks, and the threads that flush and compact.
//! Never:  flushes because it is dropped: whoever stops cleanly calls [`Store::flush`], and a drop is a crash.

mod options;
mod repair;
mod statistics;

pub use options::{Compression, Filter, RocksConfig, Tables};
pub use repair::{Gap, Repaired};

use crate::error::{check_dir, from_io, from_rocks, in_use};
use crate::{durable, key, marker};
use bytes::Bytes;
use meta::{Changes, Family, Read, Store, StoreError, Usage};
use options::Tuning;
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, FlushOptions, ReadOptions, WaitForCompactOptions,
    WriteBatch, WriteOptions, properties,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use types::{ClusterId, ErrorKind, LogIndex};

/// Room made for the answer of a scan before its length is known.
const SCAN_RESERVE: usize = 64;
/// A checkpoint takes what was flushed: RocksDB's word for "whatever the size of the write-ahead log", of which there is none.
const NO_FLUSH: u64 = u64::MAX;

/// Tables rewritten in one step of a compaction that somebody asked for: some seconds of work.
const COMPACTION_BYTES: usize = 256 << 20;

/// From a key to a key, both included; None: from the first, to the last.
type Range = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A metadata database on disk.
///
/// Invariants: `flushed <= applied`; what is on disk is at least `flushed`; `applied` is the index in the database.
pub struct RocksStore {
    db: DB,
    dir: PathBuf,
    cluster: ClusterId,
    unlogged: WriteOptions,
    /// One commit at a time, so that the index never goes back.
    committing: Mutex<()>,
    applied: AtomicU64,
    flushed: AtomicU64,
    tuning: Tuning,
}

impl RocksStore {
    /// Makes an empty database of `cluster` in `dir`, which is created if absent and must be empty.
    ///
    /// Errors: `AlreadyExists` if anything is there, else what the disk said. Cost: some fsyncs.
    pub fn format(dir: &Path, cluster: ClusterId) -> Result<(), StoreError> {
        let what = format!("cannot format the metadata database at {}", dir.display());
        fs::create_dir_all(dir).map_err(|error| from_io(&what, &error))?;
        if fs::read_dir(dir).map_err(|error| from_io(&what, &error))?.next().is_some() {
            let what = format!("{what}: the directory is not empty; move away what it holds");
            return Err(StoreError { what, kind: ErrorKind::AlreadyExists });
        }
        let store = RocksStore::start(dir, Tuning::new(&RocksConfig::default(), true), cluster, |dir, options| {
            DB::open_cf_descriptors(&options.database(), dir, options.families())
                .map_err(|error| from_rocks(&what, &error))
        })?;
        store.commit(&Changes::default())?;
        store.flush()?;
        // Last, so that a directory with a marker is a whole database.
        durable::write(&dir.join(marker::NAME), &marker::encode(marker::Kind::Rocks, cluster))
            .and_then(|()| durable::sync_parent(dir))
            .map_err(|error| from_io(&what, &error))
    }

    /// Opens the database of `cluster` in `dir` and takes its lock.
    ///
    /// Refuses, with a sentence that says what to do: a missing directory (`NotFound`), one that was never formatted,
    /// belongs to another cluster or has a newer format (`Precondition`), a damaged one (`Corrupt`), and one that
    /// another process holds (`Busy`). Cost: some milliseconds; files are opened as they are needed.
    pub fn open(dir: &Path, config: &RocksConfig, cluster: ClusterId) -> Result<RocksStore, StoreError> {
        RocksStore::open_tuned(dir, Tuning::new(config, false), cluster)
    }

    fn open_tuned(dir: &Path, tuning: Tuning, cluster: ClusterId) -> Result<RocksStore, StoreError> {
        check_dir(dir)?;
        marker::check(dir, fs::read(dir.join(marker::NAME)), marker::Kind::Rocks, cluster)?;
        let store = RocksStore::start(dir, tuning, cluster, |dir, options| {
            DB::open_cf_descriptors(&options.database(), dir, options.families()).map_err(|error| refusal(dir, &error))
        })?;
        let applied = store.stored_applied()?;
        store.applied.store(applied.0, Ordering::Release);
        store.flushed.store(applied.0, Ordering::Release);
        Ok(store)
    }

    /// Whose database the one in `dir` is, by its marker alone. Errors: as those of [`RocksStore::open`].
    pub fn cluster_of(dir: &Path) -> Result<ClusterId, StoreError> {
        check_dir(dir)?;
        marker::cluster(dir, fs::read(dir.join(marker::NAME)), marker::Kind::Rocks)
    }

    fn start(
        dir: &Path,
        tuning: Tuning,
        cluster: ClusterId,
        open: impl FnOnce(&Path, &Tuning) -> Result<DB, StoreError>,
    ) -> Result<RocksStore, StoreError> {
        let db = open(dir, &tuning)?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(RocksStore {
            db,
            dir: dir.to_owned(),
            cluster,
            unlogged,
            committing: Mutex::new(()),
            applied: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            tuning,
        })
    }

    /// Waits until no flush and no compaction is left to do: for benches, between two steps.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.db.wait_for_compact(&WaitForCompactOptions::default()).map_err(|error| {
            let dir = self.dir.display();
            from_rocks(format_args!("cannot wait for the compaction of the metadata database at {dir}"), &error)
        })
    }

    /// Keeps RocksDB from compacting by itself, or lets it again: a compaction that does not keep up, for tests.
    #[cfg(any(test, feature = "test-support"))]
    pub fn stall_compaction(&self, stalled: bool) -> Result<(), StoreError> {
        let value = if stalled { "true" } else { "false" };
        for family in Family::ALL {
            self.db
                .set_options_cf(self.family(family), &[("disable_auto_compactions", value)])
                .map_err(|error| from_rocks("cannot change how RocksDB compacts", &error))?;
        }
        Ok(())
    }

    fn background_errors(&self) -> u64 {
        let errors = self.db.property_int_value_cf(self.family(Family::State), properties::BACKGROUND_ERRORS);
        errors.ok().flatten().unwrap_or(0)
    }

    /// Ranges of a family's keys that follow each other, each with about [`COMPACTION_BYTES`] of tables, cut where one ends.
    fn steps(&self, family: Family) -> Result<Vec<Range>, StoreError> {
        let files =
            self.db.live_files().map_err(|error| from_rocks("cannot list the tables of the database", &error))?;
        let own = files.into_iter().filter(|file| file.column_family_name == family.name());
        let mut ends: Vec<(Vec<u8>, usize)> = own.filter_map(|file| Some((file.end_key?, file.size))).collect();
        ends.sort();
        let (mut steps, mut start, mut bytes) = (Vec::new(), None, 0);
        for (end, size) in ends {
            bytes += size;
            if bytes >= COMPACTION_BYTES {
                // The key that follows, so that no table belongs to two steps.
                let next = [&end[..], &[0]].concat();
                steps.push((start.replace(next), Some(end)));
                bytes = 0;
            }
        }
        steps.push((start, None));
        Ok(steps)
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("the database was opened with every family")
    }

    /// The index in the database itself.
    fn stored_applied(&self) -> Result<LogIndex, StoreError> {
        let value = self.get(Family::State, key::APPLIED_KEY)?.unwrap_or_default();
        key::decode_applied(&value)
    }

    /// Makes `fresh` a whole database directory but for its name. Returns the applied index it holds.
    fn copy(&self, fresh: &Path) -> Result<LogIndex, StoreError> {
        let what = format!("cannot write a checkpoint of the metadata database to {}", fresh.display());
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint_with_log_size(fresh, NO_FLUSH))
            .map_err(|error| from_rocks(&what, &error))?;
        // Flushes went on meanwhile, so only the copy itself knows which moment it shows.
        let applied =
            RocksStore::start(fresh, Tuning::new(&RocksConfig::default(), false), self.cluster, |dir, options| {
                DB::open_cf_descriptors_read_only(&options.database(), dir, options.families(), false)
                    .map_err(|error| from_rocks(&what, &error))
            })?
            .stored_applied()?;
        durable::write(&fresh.join(marker::NAME), &marker::encode(marker::Kind::Rocks, self.cluster))
            .map_err(|error| from_io(&what, &error))?;
        Ok(applied)
    }

    fn failed(&self, verb: &str, family: Family, key: &[u8], error: &rocksdb::Error) -> StoreError {
        let (dir, key) = (self.dir.display(), key.escape_ascii());
        from_rocks(format_args!("cannot {verb} {}/{key} in the metadata database at {dir}", family.name()), error)
    }
}

impl Read for RocksStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.db.get_pinned_cf(self.family(family), key);
        let value = value.map_err(|error| self.failed("read", family, key, &error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if start >= end || limit == 0 {
            return Ok(Vec::new());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        // Prefix filters may only be asked when no key of another prefix can be meant.
        options.set_total_order_seek(key::common_prefix(start, end).is_none());
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(family), options);
        let mut found = Vec::with_capacity(limit.min(SCAN_RESERVE));
        cursor.seek(start);
        while found.len() < limit
            && let Some((key, value)) = cursor.item()
        {
            found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            cursor.next();
        }
        cursor.status().map_err(|error| self.failed("list", family, start, &error))?;
        Ok(found)
    }
}

impl Store for RocksStore {
    fn commit(&self, changes: &Changes) -> Result<(), StoreError> {
        let _alone = self.committing.lock();
        key::assert_commit(changes, self.applied());
        let mut batch = WriteBatch::default();
        for change in &changes.changes {
            match &change.value {
                Some(value) => batch.put_cf(self.family(change.family), &change.key, value),
                None => batch.delete_cf(self.family(change.family), &change.key),
            }
        }
        batch.put_cf(self.family(Family::State), key::APPLIED_KEY, key::encode_applied(changes.applied));
        self.db.write_opt(batch, &self.unlogged).map_err(|error| {
            let (dir, applied) = (self.dir.display(), changes.applied);
            from_rocks(format_args!("cannot commit {applied} to the metadata database at {dir}"), &error)
        })?;
        self.applied.store(changes.applied.0, Ordering::Release);
        Ok(())
    }

    fn applied(&self) -> LogIndex {
        LogIndex(self.applied.load(Ordering::Acquire))
    }

    fn flush(&self) -> Result<LogIndex, StoreError> {
        // Read before the flush begins: commits beside it may or may not be covered, these are.
        let covered = self.applied();
        let families = Family::ALL.map(|family| self.family(family));
        self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(|error| {
            let dir = self.dir.display();
            from_rocks(format_args!("cannot flush the metadata database at {dir}"), &error)
        })?;
        self.flushed.fetch_max(covered.0, Ordering::AcqRel);
        Ok(covered)
    }

    fn flushed(&self) -> LogIndex {
        LogIndex(self.flushed.load(Ordering::Acquire))
    }

    fn usage(&self) -> Usage {
        statistics::collect(&self.db, &self.tuning, &Family::ALL.map(|family| (family, self.family(family))))
    }

    fn is_behind(&self) -> bool {
        // Of what RocksDB does not answer nobody decides anything.
        let of = |family, name| self.db.property_int_value_cf(self.family(family), name).ok().flatten().unwrap_or(0);
        let is_behind = |family| {
            let level0 = statistics::level0_files(&self.db, self.family(family));
            of(family, properties::NUM_IMMUTABLE_MEM_TABLE) >= u64::from(options::WAITING_MEMTABLES.unsigned_abs())
                || level0 >= u64::from(options::LEVEL0_BEHIND.unsigned_abs())
        };
        of(Family::State, properties::IS_WRITE_STOPPED) > 0 || Family::ALL.into_iter().any(is_behind)
    }

    fn compact(&self, goes_on: &mut dyn FnMut() -> bool) -> Result<bool, StoreError> {
        let before = self.background_errors();
        let mut whole = CompactOptions::default();
        whole.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        // Beside what RocksDB compacts by itself: a long run of this holds nothing up.
        whole.set_exclusive_manual_compaction(false);
        for family in Family::ALL {
            for (start, end) in self.steps(family)? {
                if !goes_on() {
                    return Ok(false);
                }
                self.db.compact_range_cf_opt(self.family(family), start.as_deref(), end.as_deref(), &whole);
                // The call has no outcome of its own.
                if self.background_errors() > before {
                    let what = format!(
                        "cannot compact the metadata database at {}: RocksDB gave up, and its words are in the log of this \
                         master; see that its disk is well and has room",
                        self.dir.display()
                    );
                    return Err(StoreError { what, kind: ErrorKind::Unavailable });
                }
            }
        }
        Ok(true)
    }

    fn figures(&self) -> Vec<(String, u64)> {
        statistics::named(&self.usage())
    }

    fn checkpoint(&self, dir: &Path) -> Result<LogIndex, StoreError> {
        let what = format!("cannot write a checkpoint of the metadata database to {}", dir.display());
        if dir.exists() {
            let what = format!("{what}: something is there already; name a directory that does not exist");
            return Err(StoreError { what, kind: ErrorKind::AlreadyExists });
        }
        let fresh = durable::partial(dir);
        durable::remove_dir(&fresh).map_err(|error| from_io(&what, &error))?;
        let applied = self.copy(&fresh)?;
        durable::rename(&fresh, dir).map_err(|error| from_io(&what, &error))?;
        Ok(applied)
    }
}

/// Why a database of ours did not open.
fn refusal(dir: &Path, error: &rocksdb::Error) -> StoreError {
    let what = format!("cannot open the metadata database at {}", dir.display());
    let words: &str = error.as_ref();
    if words.contains("lock hold by current process") || words.contains("While lock file") {
        return in_use(dir);
    }
    match error.kind() {
        // The marker is there, so what RocksDB misses or does not know was there once.
        rocksdb::ErrorKind::InvalidArgument | rocksdb::ErrorKind::NotFound => {
            crate::error::damaged(format_args!("{what}: {words}"))
        }
        _ if words.contains("No such file") => crate::error::damaged(format_args!("{what}: {words}")),
        _ => from_rocks(what, error),
    }
}

#[cfg(test)]
mod tests;
