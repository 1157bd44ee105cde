//! What a database uses.

use super::options::Tuning;
use meta::{Family, FamilyUsage, Usage};
use rocksdb::properties::PropName;
use rocksdb::{ColumnFamily, DB, properties};

/// A moment's use of disk and memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RocksStatistics {
    /// Table files on disk, those of old versions that a reader or checkpoint still holds included.
    pub disk_bytes: u64,
    /// Commits not yet on disk.
    pub memtable_bytes: u64,
    /// The bound of the block cache.
    pub block_cache_capacity_bytes: u64,
    /// Blocks, indexes and filters in memory.
    pub block_cache_bytes: u64,
    /// The part of them that cannot be evicted now.
    pub block_cache_pinned_bytes: u64,
    /// What compaction has yet to rewrite; growth means it does not keep up.
    pub pending_compaction_bytes: u64,
    /// Files of the top level; many make reads slow, then commits.
    pub level0_files: u64,
    /// Errors of background work; anything but 0 needs a person.
    pub background_errors: u64,
}

/// The same by family. A property RocksDB does not answer counts as nothing: figures for people, nobody decides by them.
pub(super) fn usage(db: &DB, tuning: &Tuning, families: &[(Family, &ColumnFamily)]) -> Usage {
    let value = |of: &ColumnFamily, name: &PropName| db.property_int_value_cf(of, name).ok().flatten().unwrap_or(0);
    let of = |(family, handle): &(Family, &ColumnFamily)| FamilyUsage {
        family: *family,
        keys: value(handle, properties::ESTIMATE_NUM_KEYS),
        disk_bytes: value(handle, properties::TOTAL_SST_FILES_SIZE),
        memtable_bytes: value(handle, properties::SIZE_ALL_MEM_TABLES),
        pending_compaction_bytes: value(handle, properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        level0_files: level0_files(db, handle),
    };
    // One answer for the whole database, asked of any family.
    let whole = |name| families.first().map_or(0, |(_, handle)| value(handle, name));
    Usage {
        families: families.iter().map(of).collect(),
        block_cache_bytes: u64::try_from(tuning.blocks.get_usage()).unwrap_or(u64::MAX),
        block_cache_capacity_bytes: u64::try_from(tuning.config().block_cache_bytes).unwrap_or(u64::MAX),
        delayed_to_bytes_per_s: whole(properties::ACTUAL_DELAYED_WRITE_RATE),
        is_stopped: whole(properties::IS_WRITE_STOPPED) != 0,
        background_errors: whole(properties::BACKGROUND_ERRORS),
    }
}

fn level0_files(db: &DB, family: &ColumnFamily) -> u64 {
    let files = db.property_value_cf(family, properties::num_files_at_level(0)).ok().flatten();
    files.and_then(|files| files.parse().ok()).unwrap_or(0)
}

pub(super) fn collect<const N: usize>(db: &DB, tuning: &Tuning, families: [&ColumnFamily; N]) -> RocksStatistics {
    // A property RocksDB does not answer counts as nothing: a figure for people, nobody decides by it.
    let value = |family, name| db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
    let sum = |name| families.iter().map(|family| value(*family, name)).sum();
    let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    RocksStatistics {
        disk_bytes: sum(properties::TOTAL_SST_FILES_SIZE),
        memtable_bytes: sum(properties::SIZE_ALL_MEM_TABLES),
        block_cache_capacity_bytes: bytes(tuning.config().block_cache_bytes),
        block_cache_bytes: bytes(tuning.blocks.get_usage()),
        block_cache_pinned_bytes: bytes(tuning.blocks.get_pinned_usage()),
        pending_compaction_bytes: sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        level0_files: families.iter().map(|family| level0_files(db, family)).sum(),
        // One count for the whole database, asked of any family.
        background_errors: families.first().map_or(0, |family| value(*family, properties::BACKGROUND_ERRORS)),
    }
}
