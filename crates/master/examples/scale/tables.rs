//! Ways to write tables, compared on the records a master has: what docs/design/0013-rocksdb-settings.md chose by.

use crate::process;
use crate::world::{Ground, World, child_of_large, file, mixed, name, root};
use crate::{Plan, float, us_each};
use meta::{Family, Store};
use rustix::fs::Advice;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};
use store::{CacheConfig, Compression, Filter, RocksConfig, Tables};
use types::{ClusterId, GfsPath};

const OFF: CacheConfig = CacheConfig { entries: 0, bytes: 0, eviction: store::Eviction::LRU };
/// Less than the tables take, more than their indexes and filters.
const SMALL_CACHE: usize = 16 << 20;
const LARGE_CACHE: usize = 1 << 30;
const COLD: u64 = 4_000;
const WARM: u64 = 100_000;
/// Files that are looked at again and again.
const HOT: u64 = 5_000;
/// Files made with each way of writing.
const MADE: u64 = 200_000;

pub fn measure(plan: &Plan, dir: &Path) {
    let ground = Ground::make(dir);
    let (config, files) = (RocksConfig { block_cache_bytes: 256 << 20, ..RocksConfig::default() }, plan.few());
    let mut world = World::open(&ground, &config, &CacheConfig::of_bytes(256 << 20));
    world.grow(0, files);
    world.load_large(files);
    world.settle();
    let shipped = Tables::SHIPPED;
    let ways = [
        ("shipped", shipped),
        ("blocks of 4 KiB", Tables { block_bytes: 4 << 10, ..shipped }),
        ("blocks of 8 KiB", Tables { block_bytes: 8 << 10, ..shipped }),
        ("blocks of 16 KiB", Tables { block_bytes: 16 << 10, ..shipped }),
        ("blocks of 32 KiB", Tables { block_bytes: 32 << 10, ..shipped }),
        ("last level LZ4", Tables { last_level: Compression::Lz4, ..shipped }),
        ("last level Zstandard", Tables { last_level: Compression::Zstd, ..shipped }),
        ("Zstandard, dictionary of 16 KiB", Tables { last_level: Compression::ZstdDictionary(16 << 10), ..shipped }),
        ("Ribbon filters", Tables { filter: Filter::Ribbon, ..shipped }),
        ("all filters", Tables { lean_filters: false, ..shipped }),
        ("lean filters", Tables { lean_filters: true, ..shipped }),
        ("whole indexes and filters", Tables { partitions: false, ..shipped }),
        ("partitions", Tables { partitions: true, ..shipped }),
        ("plain blocks", Tables { hashed_blocks: false, ..shipped }),
        ("hashed blocks", Tables { hashed_blocks: true, ..shipped }),
    ];
    for (name, tables) in ways {
        // What the shipped way is already needs no second look.
        if tables == shipped && name != "shipped" {
            continue;
        }
        let copy = dir.join("copy");
        world.state.store().checkpoint(&copy).expect("a copy");
        let text = way(&copy, ground.cluster, files, tables);
        plan.figure("3", name, &text, None);
        std::fs::remove_dir_all(&copy).expect("it was made here");
    }
}

/// Rewrites a copy this way and measures it.
fn way(dir: &Path, cluster: ClusterId, files: u64, tables: Tables) -> String {
    let open = |block_cache_bytes: usize| {
        let config = RocksConfig { block_cache_bytes, tables, ..RocksConfig::default() };
        World::open_at(dir, cluster, &config, &OFF)
    };
    let world = open(LARGE_CACHE);
    let (before, began) = (process::cpu(), Instant::now());
    let bytes = float(world.compacted_bytes()) / float(2 * files);
    let (compacting, took) = (process::cpu() - before, began.elapsed());
    drop(world);

    let world = open(SMALL_CACHE);
    look(&world, 0..200, |n| file(mixed(n) % files));
    forget_pages(dir);
    let cold = by_clock(&world, COLD, |n| file(mixed(n + 1_000) % files));
    drop(world);

    let world = open(LARGE_CACHE);
    look(&world, 0..HOT, file);
    let hot = by_cpu(&world, WARM, |n| file(mixed(n) % HOT));
    let absent = by_cpu(&world, WARM, |n| {
        let directory = file(mixed(n) % files).parent().expect("it is in one");
        GfsPath::parse(&format!("{directory}/{}-not", name(n).as_str())).expect("a path")
    });
    let before = process::thread_cpu();
    let mut entries = 0;
    let large = world.inode(&child_of_large(0).parent().expect("it is in one"));
    let mut after = None;
    loop {
        let page =
            world.state.read(|view| meta::children(view, large, after.as_ref(), 1_000)).expect("the database answers");
        entries += u64::try_from(page.len()).expect("few");
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
    }
    let listing = us_each(process::thread_cpu() - before, entries);
    drop(world);

    let config = RocksConfig { block_cache_bytes: 256 << 20, tables, ..RocksConfig::default() };
    let mut world = World::open_at(dir, cluster, &config, &CacheConfig::of_bytes(64 << 20));
    let before = process::cpu();
    world.grow(files, files + MADE);
    world.settle();
    let made = us_each(process::cpu() - before, MADE);
    let edges = world.state.store().usage().families.iter().find(|one| one.family == Family::Edges).map(|one| one.keys);
    assert!(edges.is_some_and(|edges| edges > files), "the families are told apart");
    format!(
        "{bytes:.1} bytes an inode; compaction {:.1} µs of CPU an inode, {:.0} s; cold stat p50 {:.0}, p99 {:.0} µs; of RocksDB's \
         cache {hot:.1}, of an absent name {absent:.1} µs of CPU; listing {listing:.2} µs an entry; a file made {made:.1} µs",
        us_each(compacting, 2 * files),
        took.as_secs_f64(),
        cold.0,
        cold.1,
    )
}

fn look(world: &World, range: std::ops::Range<u64>, path: impl Fn(u64) -> GfsPath) {
    for n in range {
        let path = path(n);
        let found = world.state.read(|view| meta::status(view, &root(), &path));
        drop(found.expect("the database answers"));
    }
}

/// Median and 99th percentile of single looks, in µs.
fn by_clock(world: &World, count: u64, path: impl Fn(u64) -> GfsPath) -> (f64, f64) {
    let mut times: Vec<Duration> = (0..count)
        .map(|n| {
            let began = Instant::now();
            look(world, n..n + 1, &path);
            began.elapsed()
        })
        .collect();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    (us(crate::quantile(&mut times, 500)), us(crate::quantile(&mut times, 990)))
}

fn by_cpu(world: &World, count: u64, path: impl Fn(u64) -> GfsPath) -> f64 {
    let before = process::thread_cpu();
    look(world, 0..count, path);
    us_each(process::thread_cpu() - before, count)
}

/// Has Linux forget what it read of these files; others keep theirs.
fn forget_pages(dir: &Path) {
    for file in std::fs::read_dir(dir).expect("the database").filter_map(Result::ok) {
        if let Ok(file) = File::open(file.path()) {
            file.sync_all().expect("a healthy disk");
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("Linux takes the advice");
        }
    }
}
