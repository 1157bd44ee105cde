//! What the namespace asks of a database.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{ErrorKind, LogIndex};

/// A group of records with one key layout. The number is part of the on-disk format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Family {
    /// `counters` → [`crate::Counters`]; other short ASCII names belong to the store.
    State = 0,
    /// `parent inode id (8, big endian) ‖ name` → [`crate::Inode`].
    Edges = 1,
    /// `inode id (8)` → [`crate::Parent`]: where the inode's edge stands.
    Inodes = 2,
    /// `container (8)` → inode id (8).
    Containers = 3,
    /// `0 ‖ operation id (16)` → [`crate::OperationRecord`], and `1 ‖ age (8) ‖ operation id (16)` → nothing.
    Operations = 4,
    /// `mount id (8)` → [`crate::Mount`].
    Mounts = 5,
    /// `intent id (8)` → [`crate::Intent`].
    Intents = 6,
    /// `inode id (8)` of a detached directory → [`crate::Detached`].
    Detached = 7,
    /// `directory inode id (8)` → [`crate::Load`], and `directory inode id (8) ‖ name` → nothing: removed while loading.
    Loads = 8,
    /// `container (8)` → [`crate::Persist`].
    Persists = 9,
    /// `worker id (8)` → [`crate::WorkerRecord`].
    Workers = 10,
    /// `age opened (8) ‖ container (8)` of a file that is not complete → nothing.
    Incomplete = 11,
}

impl Family {
    pub const ALL: [Family; 12] = [
        Family::State,
        Family::Edges,
        Family::Inodes,
        Family::Containers,
        Family::Operations,
        Family::Mounts,
        Family::Intents,
        Family::Detached,
        Family::Loads,
        Family::Persists,
        Family::Workers,
        Family::Incomplete,
    ];
    /// The name of the column family on disk.
    pub fn name(self) -> &'static str {
        match self {
            Family::State => "state",
            Family::Edges => "edges",
            Family::Inodes => "inodes",
            Family::Containers => "containers",
            Family::Operations => "operations",
            Family::Mounts => "mounts",
            Family::Intents => "intents",
            Family::Detached => "detached",
            Family::Loads => "loads",
            Family::Persists => "persists",
            Family::Workers => "workers",
            Family::Incomplete => "incomplete",
        }
    }
}

/// A database that did not answer. Nothing the namespace can decide about: the member stops.
#[derive(thiserror::Error, Debug, Clone)]
#[error("{what}")]
pub struct StoreError {
    /// The whole sentence: verb, family, key, and the database's own words.
    pub what: String,
    /// [`ErrorKind::Corrupt`] for a record that cannot be read, else what the database said.
    pub kind: ErrorKind,
}

/// A consistent view of the records.
pub trait Read {
    /// The record under `key`. Cost: one point lookup.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Up to `limit` records with `start <= key < end`, in key order. Cost: one seek and `limit` steps.
    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError>;
}

/// One record put (`Some`) or deleted (`None`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub family: Family,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// Everything a batch of entries changes, at most one change per key, with the index of its last entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    pub applied: LogIndex,
    pub changes: Vec<Change>,
}

/// A database with the crash rules of DESIGN §2: each commit is atomic; what was committed after the last flush may be
/// lost in a crash, and then exactly a suffix of the commits is; a checkpoint is a complete copy of one moment.
pub trait Store: Read + Send + Sync {
    /// Applies all changes and the applied index at once, or nothing.
    fn commit(&self, changes: &Changes) -> Result<(), StoreError>;

    /// The index of the last commit; zero in an empty store.
    fn applied(&self) -> LogIndex;

    /// Makes all commits so far survive a crash. Returns the applied index it covers. May run beside commits and reads.
    fn flush(&self) -> Result<LogIndex, StoreError>;

    /// The applied index covered by the last flush that returned.
    fn flushed(&self) -> LogIndex;

    /// Writes a complete copy to `dir`, which must not exist: of what was flushed last, or of a later commit. Returns the
    /// applied index of the copy.
    fn checkpoint(&self, dir: &std::path::Path) -> Result<LogIndex, StoreError>;

    /// What it uses and how it fares, for people to look at. Cost: some microseconds a family, no IO.
    fn usage(&self) -> Usage;

    /// Whether its own work on disk does not keep up, so that commits would soon have to wait for it: no more changes should
    /// be taken in then. Those under way can still be committed. Cost: some microseconds.
    fn is_behind(&self) -> bool {
        false
    }

    /// Rewrites what is on disk so that deleted and replaced records take no room, in steps of a bounded size. Runs beside
    /// commits and reads.
    ///
    /// - `goes_on`: asked before each step; false ends it.
    /// - Returns whether all was done. Errors: the database's, and nothing is lost by it.
    /// - Cost: reads and writes the whole database; room for one step more.
    fn compact(&self, goes_on: &mut dyn FnMut() -> bool) -> Result<bool, StoreError> {
        Ok(goes_on())
    }

    /// The same by the metric's name without the role's, as far as there are metrics of it.
    fn figures(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

/// What a database uses now of disk and memory, and how it fares. Sizes in bytes; "files" are table files. What it does not
/// count is 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// In their order.
    pub families: Vec<FamilyUsage>,
    /// The part of memtables that takes commits.
    pub active_memtable_bytes: u64,
    /// Memtables that wait to be written.
    pub waiting_memtables: u64,
    /// Blocks, indexes and filters of files in memory, their bound, and the part that cannot be evicted now.
    pub block_cache_bytes: u64,
    pub block_cache_capacity_bytes: u64,
    pub block_cache_pinned_bytes: u64,
    /// What open files take in memory besides.
    pub table_reader_bytes: u64,
    pub pending_compactions: u64,
    pub running_compactions: u64,
    pub pending_flushes: u64,
    pub running_flushes: u64,
    /// Bytes a second that commits are slowed down to, because compaction does not keep up; 0: they are not.
    pub delayed_to_bytes_per_s: u64,
    /// Commits wait until compaction or a flush has caught up.
    pub is_stopped: bool,
    /// Versions that a reader or a compaction still holds.
    pub live_versions: u64,
    /// Errors of background work; anything but 0 needs a person.
    pub background_errors: u64,
}

/// What the records of one family take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FamilyUsage {
    pub family: Family,
    /// Records; an estimate where the database does not count them: deleted and overwritten ones that wait for a compaction
    /// may be among them.
    pub keys: u64,
    /// Files on disk, those of old versions that a reader or checkpoint still holds included, and those of the newest version.
    pub disk_bytes: u64,
    pub live_disk_bytes: u64,
    /// Of commits that are not on disk yet, and what of them is on its way there.
    pub memtable_bytes: u64,
    /// What compaction has yet to rewrite; growth means that it does not keep up.
    pub pending_compaction_bytes: u64,
    /// Files of the top level; many make reads slow, then commits.
    pub level0_files: u64,
}

impl FamilyUsage {
    /// Of a family whose records are counted and nothing else.
    pub fn of_keys(family: Family, keys: u64) -> FamilyUsage {
        FamilyUsage {
            family,
            keys,
            disk_bytes: 0,
            live_disk_bytes: 0,
            memtable_bytes: 0,
            pending_compaction_bytes: 0,
            level0_files: 0,
        }
    }
}

impl Usage {
    pub fn keys(&self) -> u64 {
        self.sum(|family| family.keys)
    }
    pub fn disk_bytes(&self) -> u64 {
        self.sum(|family| family.disk_bytes)
    }
    pub fn live_disk_bytes(&self) -> u64 {
        self.sum(|family| family.live_disk_bytes)
    }
    pub fn memtable_bytes(&self) -> u64 {
        self.sum(|family| family.memtable_bytes)
    }
    /// What it takes of memory.
    pub fn memory_bytes(&self) -> u64 {
        self.block_cache_bytes + self.table_reader_bytes + self.memtable_bytes()
    }

    fn sum(&self, of: impl Fn(&FamilyUsage) -> u64) -> u64 {
        self.families.iter().map(of).sum()
    }
}

/// A plain map: for unit tests of this crate's rules. Crash rules live in the `store` crate's stores.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct MemoryStore {
    records: BTreeMap<(Family, Bytes), Bytes>,
}

impl MemoryStore {
    /// Applies `changes` at once.
    pub fn apply(&mut self, changes: &Changes) {
        for change in &changes.changes {
            let key = (change.family, change.key.clone());
            match &change.value {
                Some(value) => self.records.insert(key, value.clone()),
                None => self.records.remove(&key),
            };
        }
    }
    /// Number of records in `family`.
    pub fn count(&self, family: Family) -> usize {
        self.records.range((family, Bytes::new())..).take_while(|((f, _), _)| *f == family).count()
    }
}

impl Read for MemoryStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.records.get(&(family, Bytes::copy_from_slice(key))).cloned())
    }
    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let range = (family, Bytes::copy_from_slice(start))..(family, Bytes::copy_from_slice(end));
        Ok(self.records.range(range).take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}
