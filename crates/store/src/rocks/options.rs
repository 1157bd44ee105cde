//! How RocksDB is set up, and within how much memory.
//!
//! Source: <https://github.com/facebook/rocksdb/wiki/Setup-Options-and-Basic-Tuning>

use crate::key;
use meta::Family;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, InfoLogger, LogLevel, Options, SliceTransform,
};

const BLOCK_BYTES: usize = 16 * 1024;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const TABLE_FORMAT: i32 = 6;
/// Part of a memtable that its filter of prefixes and keys may take.
const MEMTABLE_BLOOM_RATIO: f64 = 0.05;
/// Flushes and compactions at once.
const BACKGROUND_JOBS: i32 = 4;
/// Memtables of one family: one filling, two being flushed; beyond that commits wait.
const MEMTABLES: i32 = 3;
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
}

impl Default for RocksConfig {
    fn default() -> RocksConfig {
        RocksConfig { block_cache_bytes: 256 << 20, memtable_bytes: 128 << 20, max_open_files: 1024 }
    }
}

/// A [`RocksConfig`] with the parts all families share.
pub(super) struct Tuning {
    config: RocksConfig,
    create: bool,
    pub(super) blocks: Cache,
}

impl Tuning {
    pub(super) fn new(config: &RocksConfig, create: bool) -> Tuning {
        Tuning { config: config.clone(), create, blocks: Cache::new_lru_cache(config.block_cache_bytes) }
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
        let mut tables = BlockBasedOptions::default();
        tables.set_block_size(BLOCK_BYTES);
        tables.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        tables.set_format_version(TABLE_FORMAT);
        tables.set_block_cache(&self.blocks);
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_cache_index_and_filter_blocks_with_high_priority(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);

        let mut options = Options::default();
        options.set_block_based_table_factory(&tables);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_write_buffer_size(self.memtable_bytes());
        options.set_max_write_buffer_number(MEMTABLES);
        options
            .set_arena_block_size((self.config.memtable_bytes / ARENA_SHARE).clamp(ARENA_BYTES_MIN, ARENA_BYTES_MAX));
        if family.is_some_and(key::is_prefixed) {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(key::PREFIX_BYTES));
        }
        // Where most of what is looked for is not there: a new name, an operation that was not tried before.
        if family.is_some_and(|family| key::is_prefixed(family) || family == Family::Operations) {
            options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
            options.set_memtable_whole_key_filtering(true);
        }
        options
    }
}
