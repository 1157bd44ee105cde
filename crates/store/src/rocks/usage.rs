//! What a database uses, for people to look at.

use super::options::Tuning;
use super::statistics::level0_files;
use meta::{Family, FamilyUsage, Usage};
use rocksdb::properties::PropName;
use rocksdb::{ColumnFamily, DB, properties};

/// What it uses by family. A property RocksDB does not answer counts as nothing: figures for people, nobody decides by them.
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
