//! What a database uses.

use super::options::Tuning;
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
        level0_files: families
            .iter()
            .map(|family| {
                let files = db.property_value_cf(*family, properties::num_files_at_level(0)).ok().flatten();
                files.and_then(|files| files.parse::<u64>().ok()).unwrap_or(0)
            })
            .sum(),
        // One count for the whole database, asked of any family.
        background_errors: families.first().map_or(0, |family| value(*family, properties::BACKGROUND_ERRORS)),
    }
}
