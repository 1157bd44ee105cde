//! How RocksDB is set up, and within how much memory. Why so, and what was measured: `docs/design/0013-rocksdb-settings.md`.
//!
//! Source: <https://github.com/facebook/rocksdb/wiki/Setup-Options-and-Basic-Tuning>

use crate::key;
use meta::Family;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DataBlockIndexType,
    InfoLogger, LogLevel, Options, SliceTransform,
};

const BLOOM_BITS_PER_KEY: f64 = 10.0;
const TABLE_FORMAT: i32 = 6;
/// Of a compressor's window, and its level: RocksDB's own defaults.
const WINDOW_BITS: i32 = -14;
const COMPRESSION_LEVEL: i32 = 32_767;
const COMPRESSION_STRATEGY: i32 = 0;
/// Bytes a dictionary is trained with, as so many of its own: what zstd's authors advise.
const TRAINED_BY: i32 = 100;
/// Of the places of a block's hash table, the part that is taken.
const HASH_RATIO: f64 = 0.75;
/// Files of the top level at which commits slow down, and at which they wait.
const LEVEL0_SLOWDOWN: i32 = 20;
const LEVEL0_STOP: i32 = 36;
/// Files of the top level from which on no change should be taken: what was taken already still fits, eight flushes of it.
pub(super) const LEVEL0_BEHIND: i32 = LEVEL0_STOP - 8;
/// Part of a memtable that its filter of prefixes and keys may take.
const MEMTABLE_BLOOM_RATIO: f64 = 0.05;
/// Flushes and compactions at once.
const BACKGROUND_JOBS: i32 = 4;
/// Memtables of one family: one filling, two being flushed; beyond that commits wait.
const MEMTABLES: i32 = 3;
/// Memtables of one family that wait for their flush from which on no change should be taken: one is filling yet.
pub(super) const WAITING_MEMTABLES: i32 = MEMTABLES - 1;
/// Memtables begin a flush at half the budget: what is being flushed needs the other half.
const MEMTABLE_SHARE: usize = 2;
/// Pieces in which memtables take memory; small beside the budget, for each family holds one.
const ARENA_SHARE: usize = 128;
const ARENA_BYTES_MIN: usize = 8 * 1024;
const ARENA_BYTES_MAX: usize = 1024 * 1024;

/// The bounds of one database.
#[derive(Clone, Debug)]
pub struct RocksConfig {
    /// Blocks, indexes and filters held in memory, in bytes.
    pub block_cache_bytes: usize,
    /// Commits not yet on disk, in bytes, over all families. At half of it a flush begins by itself.
    pub memtable_bytes: usize,
    /// Table files held open.
    pub max_open_files: i32,
    /// How tables are written.
    pub tables: Tables,
}

impl Default for RocksConfig {
    fn default() -> RocksConfig {
        RocksConfig {
            block_cache_bytes: 256 << 20,
            memtable_bytes: 128 << 20,
            max_open_files: 1024,
            tables: Tables::SHIPPED,
        }
    }
}

/// How tables are written. Any program reads what any of them wrote: a bench compares them, a master has [`Tables::SHIPPED`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tables {
    /// Of one block of records, before compression.
    pub block_bytes: usize,
    pub filter: Filter,
    /// Filters of the last level, which has nine tenths of the records, only in families that are asked for what is not there.
    pub lean_filters: bool,
    /// Indexes and filters in pieces of a block's size, of which only the used ones are in memory.
    pub partitions: bool,
    /// A hash table in each block beside the search by halves.
    pub hashed_blocks: bool,
    pub last_level: Compression,
}

/// What says that a record is not in a table without looking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filter {
    Bloom,
    /// A third smaller for thrice the work of making it.
    Ribbon,
}

/// Of the last level; the ones above it are always written with LZ4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    Lz4,
    Zstd,
    /// With a dictionary of so many bytes in each table.
    ZstdDictionary(i32),
}

impl Tables {
    pub const SHIPPED: Tables = Tables {
        block_bytes: 16 * 1024,
        filter: Filter::Bloom,
        lean_filters: false,
        partitions: false,
        hashed_blocks: false,
        last_level: Compression::Zstd,
    };
}

/// A [`RocksConfig`] with the parts all families share.
pub(super) struct Tuning {
    config: RocksConfig,
    create: bool,
    /// Nothing is compacted unasked.
    still: bool,
    pub(super) blocks: Cache,
}

impl Tuning {
    pub(super) fn new(config: &RocksConfig, create: bool) -> Tuning {
        let blocks = Cache::new_lru_cache(config.block_cache_bytes);
        Tuning { config: config.clone(), create, still: false, blocks }
    }

    /// The same, but what is in the files stays as it is.
    pub(super) fn still(self) -> Tuning {
        Tuning { still: true, ..self }
    }

    pub(super) fn config(&self) -> &RocksConfig {
        &self.config
    }

    fn memtable_bytes(&self) -> usize {
        self.config.memtable_bytes / MEMTABLE_SHARE
    }

    /// Options of the database as a whole.
    pub(super) fn database(&self) -> Options {
        // The one option without a setter; it makes a drop leave what a crash leaves.
        let mut options = Options::default()
            .get_options_from_string("avoid_flush_during_shutdown=true")
            .expect("RocksDB knows this option");
        options.create_if_missing(self.create);
        options.create_missing_column_families(self.create);
        options.set_error_if_exists(self.create);
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(self.memtable_bytes());
        options.set_max_open_files(self.config.max_open_files);
        options.set_max_background_jobs(BACKGROUND_JOBS);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, words| match level {
            LogLevel::Error | LogLevel::Fatal => tracing::error!(words = words.trim_end(), "metadata database"),
            LogLevel::Warn => tracing::warn!(words = words.trim_end(), "metadata database"),
            // Every start prints all its options as headers, whatever level is asked for.
            LogLevel::Debug | LogLevel::Info | LogLevel::Header => {
                tracing::trace!(words = words.trim_end(), "metadata database");
            }
        }));
        options
    }

    /// Every family, and RocksDB's own `default`, which stays empty.
    pub(super) fn families(&self) -> Vec<ColumnFamilyDescriptor> {
        let ours = Family::ALL.map(|family| ColumnFamilyDescriptor::new(family.name(), self.family(Some(family))));
        let unused = ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, self.family(None));
        ours.into_iter().chain([unused]).collect()
    }

    fn family(&self, family: Option<Family>) -> Options {
        let how = self.config.tables;
        let mut tables = BlockBasedOptions::default();
        tables.set_block_size(how.block_bytes);
        match how.filter {
            Filter::Bloom => tables.set_bloom_filter(BLOOM_BITS_PER_KEY, false),
            Filter::Ribbon => tables.set_ribbon_filter(BLOOM_BITS_PER_KEY),
        }
        if how.partitions {
            tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
            tables.set_partition_filters(true);
            tables.set_metadata_block_size(how.block_bytes);
            tables.set_pin_top_level_index_and_filter(true);
        }
        if how.hashed_blocks {
            tables.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
            tables.set_data_block_hash_ratio(HASH_RATIO);
        }
        tables.set_format_version(TABLE_FORMAT);
        tables.set_block_cache(&self.blocks);
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_cache_index_and_filter_blocks_with_high_priority(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);

        let mut options = Options::default();
        options.set_block_based_table_factory(&tables);
        options.set_compression_type(DBCompressionType::Lz4);
        match how.last_level {
            Compression::Lz4 => options.set_bottommost_compression_type(DBCompressionType::Lz4),
            Compression::Zstd => options.set_bottommost_compression_type(DBCompressionType::Zstd),
            Compression::ZstdDictionary(bytes) => {
                options.set_bottommost_compression_type(DBCompressionType::Zstd);
                options.set_bottommost_compression_options(
                    WINDOW_BITS,
                    COMPRESSION_LEVEL,
                    COMPRESSION_STRATEGY,
                    bytes,
                    true,
                );
                options.set_bottommost_zstd_max_train_bytes(bytes * TRAINED_BY, true);
            }
        }
        // What is looked up there is there, but for new names, and operations that were not tried before.
        options.set_optimize_filters_for_hits(how.lean_filters && !family.is_some_and(is_asked_for_what_is_not_there));
        options.set_level_zero_slowdown_writes_trigger(LEVEL0_SLOWDOWN);
        options.set_level_zero_stop_writes_trigger(LEVEL0_STOP);
        options.set_disable_auto_compactions(self.still);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_write_buffer_size(self.memtable_bytes());
        options.set_max_write_buffer_number(MEMTABLES);
        options
            .set_arena_block_size((self.config.memtable_bytes / ARENA_SHARE).clamp(ARENA_BYTES_MIN, ARENA_BYTES_MAX));
        if family.is_some_and(key::is_prefixed) {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(key::PREFIX_BYTES));
        }
        if family.is_some_and(is_asked_for_what_is_not_there) {
            options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
            options.set_memtable_whole_key_filtering(true);
        }
        options
    }
}

/// Where most of what is looked for is not there: a new name, an operation that was not tried before.
fn is_asked_for_what_is_not_there(family: Family) -> bool {
    key::is_prefixed(family) || family == Family::Operations
}
