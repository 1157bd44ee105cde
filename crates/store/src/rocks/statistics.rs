//! What a database uses, and how it fares: RocksDB's own figures.

use super::options::Tuning;
use meta::{Family, FamilyUsage, Usage};
use rocksdb::properties::{self, PropName};
use rocksdb::{ColumnFamily, DB};

pub(super) fn collect(db: &DB, tuning: &Tuning, families: &[(Family, &ColumnFamily)]) -> Usage {
    // A property RocksDB does not answer counts as nothing: a figure for people.
    let value =
        |family: &ColumnFamily, name: &PropName| db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
    let sum = |name: &PropName| -> u64 { families.iter().map(|(_, family)| value(family, name)).sum() };
    // Those of the whole database are the same whichever family is asked.
    let whole = |name: &PropName| families.first().map_or(0, |(_, family)| value(family, name));
    let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let each = |(family, handle): &(Family, &ColumnFamily)| FamilyUsage {
        family: *family,
        keys: value(handle, properties::ESTIMATE_NUM_KEYS),
        disk_bytes: value(handle, properties::TOTAL_SST_FILES_SIZE),
        live_disk_bytes: value(handle, properties::LIVE_SST_FILES_SIZE),
        memtable_bytes: value(handle, properties::SIZE_ALL_MEM_TABLES),
        pending_compaction_bytes: value(handle, properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        level0_files: level0_files(db, handle),
    };
    Usage {
        families: families.iter().map(each).collect(),
        active_memtable_bytes: sum(properties::CUR_SIZE_ACTIVE_MEM_TABLE),
        waiting_memtables: sum(properties::NUM_IMMUTABLE_MEM_TABLE),
        block_cache_bytes: bytes(tuning.blocks.get_usage()),
        block_cache_capacity_bytes: bytes(tuning.config().block_cache_bytes),
        block_cache_pinned_bytes: bytes(tuning.blocks.get_pinned_usage()),
        table_reader_bytes: sum(properties::ESTIMATE_TABLE_READERS_MEM),
        pending_compactions: sum(properties::COMPACTION_PENDING),
        running_compactions: whole(properties::NUM_RUNNING_COMPACTIONS),
        pending_flushes: sum(properties::MEM_TABLE_FLUSH_PENDING),
        running_flushes: whole(properties::NUM_RUNNING_FLUSHES),
        delayed_to_bytes_per_s: whole(properties::ACTUAL_DELAYED_WRITE_RATE),
        is_stopped: whole(properties::IS_WRITE_STOPPED) > 0,
        live_versions: sum(properties::NUM_LIVE_VERSIONS),
        background_errors: whole(properties::BACKGROUND_ERRORS),
    }
}

/// Files of the top level of one family.
pub(super) fn level0_files(db: &DB, family: &ColumnFamily) -> u64 {
    let files = db.property_value_cf(family, properties::num_files_at_level(0)).ok().flatten();
    files.and_then(|files| files.parse().ok()).unwrap_or(0)
}

/// Each figure under its metric's name, without the role's: those of the public ancestor, which has two databases of which this
/// is the one of inodes, and after them our own.
pub(super) fn named(usage: &Usage) -> Vec<(String, u64)> {
    let of_all = |of: fn(&FamilyUsage) -> u64| usage.families.iter().map(of);
    let whole = [
        ("InodeTotalSstFilesSize", usage.disk_bytes()),
        ("InodeLiveSstFilesSize", usage.live_disk_bytes()),
        ("InodeSizeAllMemTables", usage.memtable_bytes()),
        ("InodeCurSizeActiveMemTable", usage.active_memtable_bytes),
        ("InodeNumImmutableMemTable", usage.waiting_memtables),
        ("InodeEstimateNumKeys", usage.keys()),
        ("InodeBlockCacheCapacity", usage.block_cache_capacity_bytes),
        ("InodeBlockCacheUsage", usage.block_cache_bytes),
        ("InodeBlockCachePinnedUsage", usage.block_cache_pinned_bytes),
        ("InodeEstimateTableReadersMem", usage.table_reader_bytes),
        ("InodeEstimatedMemUsage", usage.memory_bytes()),
        ("InodeEstimatePendingCompactionBytes", of_all(|family| family.pending_compaction_bytes).sum()),
        ("InodeCompactionPending", usage.pending_compactions),
        ("InodeNumRunningCompactions", usage.running_compactions),
        ("InodeMemTableFlushPending", usage.pending_flushes),
        ("InodeNumRunningFlushes", usage.running_flushes),
        ("InodeNumLiveVersions", usage.live_versions),
        ("InodeBackgroundErrors", usage.background_errors),
        // Of the family that has most: it is the one that slows commits down.
        ("Level0Files", of_all(|family| family.level0_files).max().unwrap_or(0)),
        ("DelayedWriteBytesPerSecond", usage.delayed_to_bytes_per_s),
        ("WriteStopped", u64::from(usage.is_stopped)),
    ];
    let mut named: Vec<(String, u64)> =
        whole.into_iter().map(|(name, value)| (format!("Rocks{name}"), value)).collect();
    for family in &usage.families {
        let name = family.family.name();
        named.push((format!("RocksRecords.{name}"), family.keys));
        named.push((format!("RocksDiskBytes.{name}"), family.live_disk_bytes));
        named.push((format!("RocksMemTableBytes.{name}"), family.memtable_bytes));
    }
    named
}
