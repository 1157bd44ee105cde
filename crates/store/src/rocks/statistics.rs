//! What a database uses, and how it fares.

use super::options::Tuning;
use meta::Family;
use rocksdb::properties::{self, PropName};
use rocksdb::{ColumnFamily, DB};

/// A moment of one database. Sizes in bytes; "files" are table files.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RocksStatistics {
    /// Files on disk, those of old versions that a reader or checkpoint still holds included.
    pub disk_bytes: u64,
    /// Files of the newest version.
    pub live_disk_bytes: u64,
    /// Commits not yet on disk, and what of them is on its way there.
    pub memtable_bytes: u64,
    /// The part of it that takes commits.
    pub active_memtable_bytes: u64,
    pub waiting_memtables: u64,
    /// Records, deleted and overwritten ones that wait for a compaction among them.
    pub records: u64,
    /// The bound of the block cache.
    pub block_cache_capacity_bytes: u64,
    /// Blocks, indexes and filters in memory.
    pub block_cache_bytes: u64,
    /// The part of them that cannot be evicted now.
    pub block_cache_pinned_bytes: u64,
    /// What open files take in memory besides.
    pub table_reader_bytes: u64,
    /// What compaction has yet to rewrite; growth means it does not keep up.
    pub pending_compaction_bytes: u64,
    pub pending_compactions: u64,
    pub running_compactions: u64,
    pub pending_flushes: u64,
    pub running_flushes: u64,
    /// Files of the top level of that family which has most; many make reads slow, then commits.
    pub level0_files: u64,
    /// How fast commits may be while compaction is behind, in bytes a second; 0: as fast as they can.
    pub delayed_write_bytes_per_second: u64,
    /// Commits wait until compaction or a flush has caught up.
    pub is_write_stopped: bool,
    /// Versions that a reader or a compaction still holds.
    pub live_versions: u64,
    /// Errors of background work; anything but 0 needs a person.
    pub background_errors: u64,
    /// By family, in their order.
    pub families: Vec<FamilyStatistics>,
}

/// Of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FamilyStatistics {
    pub family: Family,
    /// An estimate.
    pub records: u64,
    /// Files of the newest version, in bytes.
    pub disk_bytes: u64,
    pub memtable_bytes: u64,
}

impl RocksStatistics {
    /// What the database takes of memory.
    pub fn memory_bytes(&self) -> u64 {
        self.block_cache_bytes + self.table_reader_bytes + self.memtable_bytes
    }

    /// Each figure under its metric's name, without the role's: those of the public ancestor, which has two databases of which
    /// this is the one of inodes, and after them our own.
    pub fn named(&self) -> Vec<(String, u64)> {
        let whole = [
            ("InodeTotalSstFilesSize", self.disk_bytes),
            ("InodeLiveSstFilesSize", self.live_disk_bytes),
            ("InodeSizeAllMemTables", self.memtable_bytes),
            ("InodeCurSizeActiveMemTable", self.active_memtable_bytes),
            ("InodeNumImmutableMemTable", self.waiting_memtables),
            ("InodeEstimateNumKeys", self.records),
            ("InodeBlockCacheCapacity", self.block_cache_capacity_bytes),
            ("InodeBlockCacheUsage", self.block_cache_bytes),
            ("InodeBlockCachePinnedUsage", self.block_cache_pinned_bytes),
            ("InodeEstimateTableReadersMem", self.table_reader_bytes),
            ("InodeEstimatedMemUsage", self.memory_bytes()),
            ("InodeEstimatePendingCompactionBytes", self.pending_compaction_bytes),
            ("InodeCompactionPending", self.pending_compactions),
            ("InodeNumRunningCompactions", self.running_compactions),
            ("InodeMemTableFlushPending", self.pending_flushes),
            ("InodeNumRunningFlushes", self.running_flushes),
            ("InodeNumLiveVersions", self.live_versions),
            ("InodeBackgroundErrors", self.background_errors),
            ("Level0Files", self.level0_files),
            ("DelayedWriteBytesPerSecond", self.delayed_write_bytes_per_second),
            ("WriteStopped", u64::from(self.is_write_stopped)),
        ];
        let mut named: Vec<(String, u64)> =
            whole.into_iter().map(|(name, value)| (format!("Rocks{name}"), value)).collect();
        for FamilyStatistics { family, records, disk_bytes, memtable_bytes } in &self.families {
            named.push((format!("RocksRecords.{}", family.name()), *records));
            named.push((format!("RocksDiskBytes.{}", family.name()), *disk_bytes));
            named.push((format!("RocksMemTableBytes.{}", family.name()), *memtable_bytes));
        }
        named
    }
}

pub(super) fn collect(db: &DB, tuning: &Tuning, families: &[(Family, &ColumnFamily)]) -> RocksStatistics {
    // A property RocksDB does not answer counts as nothing: a figure for people.
    let value = |family: &ColumnFamily, name: &PropName| db.property_int_value_cf(family, name).ok().flatten();
    let of = |name: &'static PropName| families.iter().map(move |(_, family)| value(family, name).unwrap_or(0));
    let sum = |name| of(name).sum();
    let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    // Those of the whole database are the same whichever family is asked.
    let whole = |name| of(name).max().unwrap_or(0);
    let each = |(family, handle): &(Family, &ColumnFamily)| FamilyStatistics {
        family: *family,
        records: value(handle, properties::ESTIMATE_NUM_KEYS).unwrap_or(0),
        disk_bytes: value(handle, properties::LIVE_SST_FILES_SIZE).unwrap_or(0),
        memtable_bytes: value(handle, properties::SIZE_ALL_MEM_TABLES).unwrap_or(0),
    };
    RocksStatistics {
        disk_bytes: sum(properties::TOTAL_SST_FILES_SIZE),
        live_disk_bytes: sum(properties::LIVE_SST_FILES_SIZE),
        memtable_bytes: sum(properties::SIZE_ALL_MEM_TABLES),
        active_memtable_bytes: sum(properties::CUR_SIZE_ACTIVE_MEM_TABLE),
        waiting_memtables: sum(properties::NUM_IMMUTABLE_MEM_TABLE),
        records: sum(properties::ESTIMATE_NUM_KEYS),
        block_cache_capacity_bytes: bytes(tuning.config().block_cache_bytes),
        block_cache_bytes: bytes(tuning.blocks.get_usage()),
        block_cache_pinned_bytes: bytes(tuning.blocks.get_pinned_usage()),
        table_reader_bytes: sum(properties::ESTIMATE_TABLE_READERS_MEM),
        pending_compaction_bytes: sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        pending_compactions: sum(properties::COMPACTION_PENDING),
        running_compactions: whole(properties::NUM_RUNNING_COMPACTIONS),
        pending_flushes: sum(properties::MEM_TABLE_FLUSH_PENDING),
        running_flushes: whole(properties::NUM_RUNNING_FLUSHES),
        level0_files: families.iter().map(|(_, family)| level0_files(db, family)).max().unwrap_or(0),
        delayed_write_bytes_per_second: whole(properties::ACTUAL_DELAYED_WRITE_RATE),
        is_write_stopped: whole(properties::IS_WRITE_STOPPED) > 0,
        live_versions: whole(properties::NUM_LIVE_VERSIONS),
        background_errors: whole(properties::BACKGROUND_ERRORS),
        families: families.iter().map(each).collect(),
    }
}

/// Files of the top level of one family.
pub(super) fn level0_files(db: &DB, family: &ColumnFamily) -> u64 {
    let files = db.property_value_cf(family, properties::num_files_at_level(0)).ok().flatten();
    files.and_then(|files| files.parse().ok()).unwrap_or(0)
}
