//! What the metadata consist of and what they take.

use crate::census::{AGE_DAYS, Census, Known};
use crate::shared::Shared;
use proto::admin::{AgeClass, LargeDirectory, MetadataCensus, MetadataReportResponse, RecordCache, RecordFamily};
use store::KindStatistics;

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// - `largest`: the directories of the census, with their paths of now.
pub fn report(shared: &Shared, known: &Known, largest: Vec<LargeDirectory>) -> MetadataReportResponse {
    let cache = shared.state.statistics().cache;
    let usage = shared.state.store().usage();
    let (walk_began, walk_inodes) = known.walking.unwrap_or_default();
    MetadataReportResponse {
        inodes: count(shared.state.live_count()),
        store: shared.config.metastore.name().to_owned(),
        caches: vec![
            kind("inodes", cache.inodes),
            kind("edges", cache.edges),
            kind("listings", cache.listings),
            kind("others", cache.others),
        ],
        cache_bytes: count(cache.bytes),
        cache_capacity_bytes: count(cache.capacity_bytes),
        cache_capacity_entries: count(cache.capacity_entries),
        families: usage.families.iter().map(family).collect(),
        block_cache_bytes: usage.block_cache_bytes,
        block_cache_capacity_bytes: usage.block_cache_capacity_bytes,
        delayed_to_bytes_per_s: usage.delayed_to_bytes_per_s,
        stopped: usage.is_stopped,
        background_errors: usage.background_errors,
        live_bytes: count(shared.state.live_bytes()),
        locations: count(shared.locations.count()),
        location_bytes: count(shared.locations.memory_bytes()),
        census: known.last.as_ref().map(|last| census(last, largest)),
        walk_began_unix_ms: walk_began.0,
        walk_inodes,
    }
}

fn kind(name: &str, kind: KindStatistics) -> RecordCache {
    let KindStatistics { hits, misses, evictions, entries, .. } = kind;
    RecordCache { kind: name.to_owned(), entries, hits, misses, evictions }
}

fn family(of: &meta::FamilyUsage) -> RecordFamily {
    RecordFamily {
        name: of.family.name().to_owned(),
        keys: of.keys,
        disk_bytes: of.disk_bytes,
        memtable_bytes: of.memtable_bytes,
        pending_compaction_bytes: of.pending_compaction_bytes,
        level0_files: of.level0_files,
    }
}

fn census(of: &Census, largest: Vec<LargeDirectory>) -> MetadataCensus {
    let limits = AGE_DAYS.iter().map(|days| u32::try_from(*days).expect("a few years")).chain([0]);
    MetadataCensus {
        began_unix_ms: of.began.0,
        ended_unix_ms: of.ended.0,
        files: of.files,
        directories: of.directories,
        bytes: of.bytes,
        incomplete: of.incomplete,
        not_persisted: of.not_persisted,
        to_be_persisted: of.to_be_persisted,
        persisted: of.persisted,
        lost: of.lost,
        ages: limits
            .zip(&of.ages)
            .map(|(below_days, class)| AgeClass { below_days, files: class.files, bytes: class.bytes })
            .collect(),
        largest,
        unreadable: of.unreadable,
    }
}
