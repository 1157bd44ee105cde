//! `goosefs fsadmin report metadata`

use crate::output;
use client::{FileSystem, MetadataReport};
use jiff::tz::TimeZone;
use proto::admin::MetadataCensus;
use serde_json::{Value, json};
use std::time::Duration;
use types::UnixMs;

pub async fn run(fs: &FileSystem, json: bool) -> anyhow::Result<()> {
    let report = fs.metadata_report().await?;
    if json {
        println!("{}", document(&report));
    } else {
        print!("{}", layout(&report, &TimeZone::system()));
    }
    Ok(())
}

/// Bytes of tables and memtables.
fn disk_bytes(report: &MetadataReport) -> u64 {
    report.families.iter().map(|family| family.disk_bytes).sum()
}

fn per_inode(bytes: u64, report: &MetadataReport) -> u64 {
    bytes / report.inodes.max(1)
}

fn milliseconds(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to - from).unwrap_or(0))
}

fn layout(report: &MetadataReport, zone: &TimeZone) -> String {
    let mut out = String::from("GooseFS metadata:\n");
    let mut field = |name: &str, value: String| out.push_str(&format!("    {name}: {value}\n"));
    field("Inodes", report.inodes.to_string());
    if let Some(census) = &report.census {
        field("Files", census.files.to_string());
        field("Directories", census.directories.to_string());
        field("File Size", output::size(census.bytes));
        let states = [
            ("persisted", census.persisted),
            ("to be persisted", census.to_be_persisted),
            ("not persisted", census.not_persisted),
            ("incomplete", census.incomplete),
            ("lost", census.lost),
        ];
        let states: Vec<String> =
            states.iter().filter(|(_, files)| *files > 0).map(|(name, files)| format!("{files} {name}")).collect();
        field("File States", if states.is_empty() { "no files".to_owned() } else { states.join(", ") });
        if census.unreadable > 0 {
            field("Unreadable Records", census.unreadable.to_string());
        }
    }
    field("Figures Of Files", freshness(report, zone));
    let disk = disk_bytes(report);
    field("Size On Disk", format!("{} ({} bytes an inode)", output::size(disk), per_inode(disk, report)));
    let cached: u64 = report.caches.iter().map(|cache| cache.entries).sum();
    field(
        "Cache",
        format!(
            "{} of {}, {cached} of {} entries ({} bytes an entry)",
            output::size(report.cache_bytes),
            output::size(report.cache_capacity_bytes),
            report.cache_capacity_entries,
            report.cache_bytes / cached.max(1)
        ),
    );
    field("Containers", format!("{} of memory", output::size(report.live_bytes)));
    field("Block Locations", format!("{} in {} of memory", report.locations, output::size(report.location_bytes)));
    out.push_str("\nCaches:\n");
    out.push_str(&indented(&caches(report)));
    out.push_str(&format!("\nDatabase ({}):\n", report.store));
    out.push_str(&indented(&families(report)));
    out.push_str(&database(report));
    if let Some(census) = &report.census {
        out.push_str("\nFiles by time since they were modified:\n");
        out.push_str(&indented(&ages(census)));
        out.push_str("\nLargest directories:\n");
        let rows: Vec<Vec<String>> =
            census.largest.iter().map(|one| vec![one.entries.to_string(), one.path.clone()]).collect();
        out.push_str(&indented(&rows));
    }
    out
}

/// How old what a walk found is.
fn freshness(report: &MetadataReport, zone: &TimeZone) -> String {
    let last = report.census.as_ref().map(|census| {
        let took = milliseconds(census.began_unix_ms, census.ended_unix_ms);
        format!("as of {}, from a walk of {} s", output::time(UnixMs(census.ended_unix_ms), zone), took.as_secs())
    });
    let began = UnixMs(report.walk_began_unix_ms);
    let walking = (began.0 > 0).then(|| {
        let (seen, all) = (report.walk_inodes, report.inodes);
        format!("a walk that began {} has seen {seen} of {all} inodes", output::time(began, zone))
    });
    match (last, walking) {
        (Some(last), Some(walking)) => format!("{last}; {walking}"),
        (Some(one), None) => one,
        (None, Some(walking)) => format!("none yet: {walking}"),
        (None, None) => "none: goosefs.master.metadata.walk.rate is 0, or no walk has begun yet".to_owned(),
    }
}

fn row<const N: usize>(cells: [String; N]) -> Vec<String> {
    cells.to_vec()
}

fn heads<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

fn caches(report: &MetadataReport) -> Vec<Vec<String>> {
    let mut rows = vec![heads(["Kind", "Entries", "Hits", "Misses", "Hit Ratio", "Evictions"])];
    for cache in &report.caches {
        let asked = cache.hits + cache.misses;
        let ratio = if asked == 0 { "-".to_owned() } else { format!("{}%", output::percent(cache.hits, asked)) };
        rows.push(row([
            cache.kind.clone(),
            cache.entries.to_string(),
            cache.hits.to_string(),
            cache.misses.to_string(),
            ratio,
            cache.evictions.to_string(),
        ]));
    }
    rows
}

fn families(report: &MetadataReport) -> Vec<Vec<String>> {
    let mut rows = vec![heads(["Family", "Keys", "On Disk", "Memtables", "To Be Compacted", "Top Level Files"])];
    for family in &report.families {
        rows.push(row([
            family.name.clone(),
            family.keys.to_string(),
            output::size(family.disk_bytes),
            output::size(family.memtable_bytes),
            output::size(family.pending_compaction_bytes),
            family.level0_files.to_string(),
        ]));
    }
    rows
}

/// What families share.
fn database(report: &MetadataReport) -> String {
    let stalls = match (report.stopped, report.delayed_to_bytes_per_s) {
        (true, _) => "commits wait until compaction has caught up".to_owned(),
        (false, 0) => "none".to_owned(),
        (false, rate) => format!("commits are slowed down to {} a second", output::size(rate)),
    };
    let mut out = format!(
        "    Block Cache: {} of {}\n    Stalls: {stalls}\n",
        output::size(report.block_cache_bytes),
        output::size(report.block_cache_capacity_bytes)
    );
    if report.background_errors > 0 {
        out.push_str(&format!("    Background Errors: {}; see the master's log\n", report.background_errors));
    }
    out
}

fn ages(census: &MetadataCensus) -> Vec<Vec<String>> {
    let mut rows = vec![heads(["Days", "Files", "Share", "Size"])];
    let mut from = 0;
    for class in &census.ages {
        let days =
            if class.below_days == 0 { format!("{from} or more") } else { format!("{from} to {}", class.below_days) };
        from = class.below_days;
        rows.push(row([
            days,
            class.files.to_string(),
            format!("{}%", output::percent(class.files, census.files.max(1))),
            output::size(class.bytes),
        ]));
    }
    rows
}

fn indented(rows: &[Vec<String>]) -> String {
    output::columns(rows).lines().map(|line| format!("    {line}\n")).collect()
}

fn document(report: &MetadataReport) -> Value {
    let caches: Vec<Value> = report
        .caches
        .iter()
        .map(|cache| {
            json!({
                "kind": cache.kind,
                "entries": cache.entries,
                "hits": cache.hits,
                "misses": cache.misses,
                "evictions": cache.evictions,
            })
        })
        .collect();
    let families: Vec<Value> = report
        .families
        .iter()
        .map(|family| {
            json!({
                "name": family.name,
                "keys": family.keys,
                "diskBytes": family.disk_bytes,
                "memtableBytes": family.memtable_bytes,
                "pendingCompactionBytes": family.pending_compaction_bytes,
                "level0Files": family.level0_files,
            })
        })
        .collect();
    let walking = (report.walk_began_unix_ms > 0)
        .then(|| json!({ "beganMs": report.walk_began_unix_ms, "inodes": report.walk_inodes }));
    let disk = disk_bytes(report);
    json!({
        "inodes": report.inodes,
        "diskBytes": disk,
        "diskBytesPerInode": per_inode(disk, report),
        "caches": caches,
        "cacheBytes": report.cache_bytes,
        "cacheCapacityBytes": report.cache_capacity_bytes,
        "cacheCapacityEntries": report.cache_capacity_entries,
        "liveContainerBytes": report.live_bytes,
        "blockLocations": report.locations,
        "blockLocationBytes": report.location_bytes,
        "store": report.store,
        "families": families,
        "blockCacheBytes": report.block_cache_bytes,
        "blockCacheCapacityBytes": report.block_cache_capacity_bytes,
        "delayedToBytesPerSecond": report.delayed_to_bytes_per_s,
        "stopped": report.stopped,
        "backgroundErrors": report.background_errors,
        "census": report.census.as_ref().map(census),
        "walking": walking,
    })
}

fn census(of: &MetadataCensus) -> Value {
    let ages: Vec<Value> = of
        .ages
        .iter()
        .map(|class| {
            let below = (class.below_days > 0).then_some(class.below_days);
            json!({ "belowDays": below, "files": class.files, "bytes": class.bytes })
        })
        .collect();
    json!({
        "beganMs": of.began_unix_ms,
        "endedMs": of.ended_unix_ms,
        "files": of.files,
        "directories": of.directories,
        "bytes": of.bytes,
        "incomplete": of.incomplete,
        "notPersisted": of.not_persisted,
        "toBePersisted": of.to_be_persisted,
        "persisted": of.persisted,
        "lost": of.lost,
        "ages": ages,
        "largest": of.largest.iter().map(|one| json!({ "path": one.path, "entries": one.entries })).collect::<Vec<_>>(),
        "unreadable": of.unreadable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::admin::{AgeClass, LargeDirectory, RecordCache, RecordFamily};

    fn sample() -> MetadataReport {
        MetadataReport {
            inodes: 1_000,
            store: "ROCKS".into(),
            caches: vec![RecordCache { kind: "edges".into(), entries: 10, hits: 3, misses: 1, evictions: 2 }],
            cache_bytes: 3_000,
            cache_capacity_bytes: 256 << 20,
            cache_capacity_entries: 1_000_000,
            families: vec![RecordFamily {
                name: "edges".into(),
                keys: 1_000,
                disk_bytes: 80_000,
                memtable_bytes: 4_096,
                pending_compaction_bytes: 0,
                level0_files: 1,
            }],
            block_cache_bytes: 1 << 20,
            block_cache_capacity_bytes: 8 << 20,
            census: Some(MetadataCensus {
                began_unix_ms: 1_763_838_000_000,
                ended_unix_ms: 1_763_838_012_000,
                files: 990,
                directories: 10,
                bytes: 10 << 20,
                persisted: 980,
                lost: 10,
                ages: vec![
                    AgeClass { below_days: 1, files: 495, bytes: 1 << 20 },
                    AgeClass { below_days: 0, files: 495, bytes: 9 << 20 },
                ],
                largest: vec![LargeDirectory { path: "/d".into(), entries: 500 }],
                ..MetadataCensus::default()
            }),
            ..MetadataReport::default()
        }
    }

    #[test]
    fn layout_of_a_report() {
        assert_eq!(
            layout(&sample(), &TimeZone::UTC),
            "GooseFS metadata:
    Inodes: 1000
    Files: 990
    Directories: 10
    File Size: 10.00MB
    File States: 980 persisted, 10 lost
    Figures Of Files: as of 11-22-2025 19:00:12:000, from a walk of 12 s
    Size On Disk: 78.12KB (80 bytes an inode)
    Cache: 3000B of 256.00MB, 10 of 1000000 entries (300 bytes an entry)
    Containers: 0B of memory
    Block Locations: 0 in 0B of memory

Caches:
    Kind   Entries  Hits  Misses  Hit Ratio  Evictions
    edges  10       3     1       75%        2

Database (ROCKS):
    Family  Keys  On Disk  Memtables  To Be Compacted  Top Level Files
    edges   1000  78.12KB  4096B      0B               1
    Block Cache: 1024.00KB of 8.00MB
    Stalls: none

Files by time since they were modified:
    Days       Files  Share  Size
    0 to 1     495    50%    1024.00KB
    1 or more  495    50%    9.00MB

Largest directories:
    500  /d
"
        );
    }

    #[test]
    fn a_report_before_the_first_walk_has_ended_says_so() {
        let mut report = MetadataReport { census: None, walk_began_unix_ms: 1_763_838_000_000, ..sample() };
        report.walk_inodes = 400;
        report.stopped = true;
        let shown = layout(&report, &TimeZone::UTC);
        assert!(
            shown.contains(
                "Figures Of Files: none yet: a walk that began 11-22-2025 19:00:00:000 has seen 400 of 1000 inodes\n"
            ),
            "{shown}"
        );
        assert!(!shown.contains("Largest") && shown.contains("Stalls: commits wait until"), "{shown}");
        assert_eq!(document(&report)["census"], Value::Null);
        assert_eq!(document(&report)["walking"]["inodes"], 400);
        assert_eq!(document(&sample())["census"]["ages"][1]["belowDays"], Value::Null);
    }
}
