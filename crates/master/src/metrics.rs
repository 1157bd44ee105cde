//! What the master counts, with the real product's names where it has them.

use crate::shared::Shared;
use journal::WriterStats;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::CacheStatistics;
use types::Timings;

/// Different names clients may report; more are dropped and counted.
const CLIENT_NAMES: usize = 1_000;

/// Counters that have no other home.
#[derive(Default)]
pub struct Metrics {
    clients: Mutex<BTreeMap<String, f64>>,
    workers: Mutex<BTreeMap<String, f64>>,
    /// Messages that carried an old fence: session, attempt, container.
    pub stale_fences: AtomicU64,
    /// Containers found in the location table that the namespace does not have. Stays 0 unless there is a bug.
    pub location_drift: AtomicU64,
    /// How often the whole location table was compared with the namespace.
    pub location_audits: AtomicU64,
    /// Removed directories of which inodes are still to be freed, as far as they are known here.
    pub detached: AtomicU64,
    /// Inodes freed below removed directories.
    pub collected: AtomicU64,
    /// Keys of under stores left out of listings because they cannot be a path, counted at each listing.
    pub skipped_keys: AtomicU64,
    /// Inodes forgotten because nobody used them.
    pub metadata_expired: AtomicU64,
    /// Calls that were not begun because more was asked than could be done.
    pub refused: Arc<AtomicU64>,
    /// Of each entry proposed here: from then until it was committed.
    pub commits: Timings,
    journal: OnceLock<Arc<WriterStats>>,
}

impl Metrics {
    /// Adds to a client's counter.
    pub fn add_client(&self, name: &str, by: f64) {
        add(&self.clients, &format!("Client.{name}"), by);
    }
    /// Adds to a cluster-wide sum of the workers' counters.
    pub fn add_worker(&self, name: &str, by: f64) {
        add(&self.workers, &format!("Cluster.{name}"), by);
    }
    /// What the log's writer counts, from its start on.
    pub fn watch_journal(&self, stats: Arc<WriterStats>) {
        // There is one writer in a master's life.
        let _ = self.journal.set(stats);
    }
    pub fn clear_clients(&self) {
        self.clients.lock().clear();
    }
}

fn add(map: &Mutex<BTreeMap<String, f64>>, name: &str, by: f64) {
    let mut map = map.lock();
    if let Some(value) = map.get_mut(name) {
        *value += by;
    } else if map.len() < CLIENT_NAMES {
        map.insert(name.to_owned(), by);
    }
}

/// Every metric with its value now.
pub fn values(shared: &Shared) -> BTreeMap<String, f64> {
    let mut out = shared.metrics.clients.lock().clone();
    out.extend(shared.metrics.workers.lock().clone());
    let registry = shared.registry.lock();
    let tiers = registry.tiers();
    let mut set = |name: String, value: u64| {
        out.insert(name, to_f64(value));
    };
    for (alias, (capacity, used)) in &tiers {
        set(format!("Cluster.CapacityTotalTier{alias}"), *capacity);
        set(format!("Cluster.CapacityUsedTier{alias}"), *used);
    }
    let (capacity, used) = tiers.values().fold((0, 0), |sum, tier| (sum.0 + tier.0, sum.1 + tier.1));
    set("Cluster.CapacityTotal".into(), capacity);
    set("Cluster.CapacityUsed".into(), used);
    set("Cluster.CapacityFree".into(), capacity.saturating_sub(used));
    set("Cluster.Workers".into(), u64::try_from(registry.live()).unwrap_or(u64::MAX));
    set("Cluster.LostWorkers".into(), u64::try_from(registry.lost()).unwrap_or(u64::MAX));
    set("Master.LastAppliedCommitJournalIndex".into(), shared.applied().0);
    let tail = shared.applied().0.saturating_sub(shared.state.store().flushed().0);
    set("Master.JournalEntriesSinceCheckPoint".into(), tail);
    set("Master.BlockLocations".into(), u64::try_from(shared.locations.count()).unwrap_or(u64::MAX));
    set("Master.BlockLocationBytes".into(), u64::try_from(shared.locations.memory_bytes()).unwrap_or(u64::MAX));
    set("Master.IsLeader".into(), u64::from(shared.leads()));
    set("Master.BlockLocationDrift".into(), shared.metrics.location_drift.load(Ordering::Relaxed));
    set("Master.BlockLocationAudits".into(), shared.metrics.location_audits.load(Ordering::Relaxed));
    set("Master.DetachedDirectories".into(), shared.metrics.detached.load(Ordering::Relaxed));
    set("Master.CollectedInodes".into(), shared.metrics.collected.load(Ordering::Relaxed));
    set("Master.StaleFences".into(), shared.metrics.stale_fences.load(Ordering::Relaxed));
    set("Master.MetadataExpired".into(), shared.metrics.metadata_expired.load(Ordering::Relaxed));
    set("Master.RefusedCalls".into(), shared.metrics.refused.load(Ordering::Relaxed));
    set("Master.SkippedStoreKeys".into(), shared.metrics.skipped_keys.load(Ordering::Relaxed));
    let (short, free) = (shared.rooms.own(), &shared.rooms.free);
    set("Master.JournalDiskShort".into(), u64::from(short.journal));
    set("Master.JournalDiskFreeBytes".into(), free.journal.load(Ordering::Relaxed));
    set("Master.MetastoreDiskShort".into(), u64::from(short.metastore));
    set("Master.MetastoreDiskFreeBytes".into(), free.metastore.load(Ordering::Relaxed));
    cache(&mut set, &shared.state.statistics().cache);
    for (name, value) in shared.state.store().figures() {
        set(format!("Master.{name}"), value);
    }
    set("Master.LiveContainerBytes".into(), u64::try_from(shared.state.live_bytes()).unwrap_or(u64::MAX));
    timer(&mut set, "Master.JournalFlushTimer", &shared.metrics.commits);
    if let Some(journal) = shared.metrics.journal.get() {
        timer(&mut set, "Master.JournalSyncTimer", &journal.flushes);
        set("Master.JournalEntries".into(), journal.entries.load(Ordering::Relaxed));
        set("Master.JournalEntryBytes".into(), journal.payload_bytes.load(Ordering::Relaxed));
        set("Master.JournalSyncs".into(), journal.syncs.load(Ordering::Relaxed));
    }
    out
}

/// The metadata cache. `LoadTimes` are nanoseconds in all, as with the real product; `EvictingTimes`, which it does not
/// publish, too.
fn cache(set: &mut impl FnMut(String, u64), cache: &CacheStatistics) {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let kinds =
        [("Inode", cache.inodes), ("Edge", cache.edges), ("Listing", cache.listings), ("OtherRecord", cache.others)];
    for (name, kind) in kinds {
        set(format!("Master.{name}CacheHits"), kind.hits);
        set(format!("Master.{name}CacheMisses"), kind.misses);
        set(format!("Master.{name}CacheLoadTimes"), nanos(kind.loading));
        set(format!("Master.{name}CacheEvictions"), kind.evictions);
        set(format!("Master.{name}CacheEvictingTimes"), nanos(kind.evicting));
        set(format!("Master.{name}CacheSize"), kind.entries);
    }
    set("Master.MetadataCacheBytes".into(), u64::try_from(cache.bytes).unwrap_or(u64::MAX));
}

/// Count, mean and quantiles in microseconds.
fn timer(set: &mut impl FnMut(String, u64), name: &str, timings: &Timings) {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let count = timings.count();
    set(format!("{name}.Count"), count);
    set(format!("{name}.MeanUs"), micros(timings.sum()) / count.max(1));
    for (suffix, per_mille) in [("P50", 500), ("P95", 950), ("P99", 990), ("P999", 999)] {
        set(format!("{name}.{suffix}Us"), micros(timings.quantile(per_mille)));
    }
}

/// The same as Prometheus text.
pub fn prometheus(values: &BTreeMap<String, f64>) -> String {
    let mut out = String::new();
    for (name, value) in values {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        writeln!(out, "# TYPE {name} gauge\n{name} {value}").expect("writing to a string cannot fail");
    }
    out
}

/// Counts fit a double up to 2^53, far beyond what is counted here.
fn to_f64(value: u64) -> f64 {
    let high = u32::try_from(value >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(value & 0xFFFF_FFFF).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}
