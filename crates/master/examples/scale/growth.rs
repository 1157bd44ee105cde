//! What one inode more costs: memory while it is cold, memory while it is cached, disk, and time of a start.

use crate::child::{Said, ask};
use crate::process;
use crate::world::{Ground, PER_DIRECTORY, World, rocks};
use crate::{Plan, float, growth_each, ms, us_each};
use std::path::Path;
use std::time::Duration;
use store::CacheConfig;

/// A start may take this long, whatever the tree.
const START: Duration = Duration::from_secs(3);

/// Leaves the tree behind, its database compacted, for a master to start on.
pub fn measure(plan: &Plan, ground: &Ground) {
    let (few, all) = (plan.few(), plan.files);
    let small = grow(plan, ground, 0, few);
    let grown = grow(plan, ground, few, all);
    if !plan.does("growth") {
        return;
    }
    let what =
        format!("resident bytes a cold inode takes beside caches and bitmap, {few} to {all} files, of the allocator");
    let beside = growth_each(small.cold.number("beside"), grown.cold.number("beside"), all - few);
    plan.figure("4", &what, &format!("{beside:.2}"), Some(("≤ 8", beside <= 8.0)));
    let live = growth_each(small.cold.number("live"), grown.cold.number("live"), all - few);
    let resident = growth_each(small.cold.number("resident"), grown.cold.number("resident"), all - few) - live;
    plan.figure("4", "the same of anonymous pages", &format!("{resident:.2}"), Some(("≤ 8", resident <= 8.0)));
    let per_id = format!("{live:.2} (three container ids are given out for a path of three names)");
    plan.figure("4", "bytes of the live-container bitmap for an inode", &per_id, None);

    let cached = ask("cached", home(ground), ground.cluster, all, &[]);
    let each = float(cached.number("bytes_hit")) / float(cached.number("inodes").max(1));
    let text = format!("{each:.0} (counted against the cache's bound as {})", cached.number("counted"));
    plan.figure("4", "bytes of a cached inode, of the allocator", &text, Some(("≤ 250", each <= 250.0)));

    let inodes = all + all / PER_DIRECTORY;
    let disk = float(grown.disk_bytes) / float(inodes);
    let what = "disk bytes of an inode after compaction, names of 30 bytes";
    plan.figure("4", what, &format!("{disk:.1}"), Some(("≤ 90", disk <= 90.0)));

    for (files, said) in [(few, &small.start), (all, &grown.start)] {
        let took = said.time("took");
        let what = format!("start of a master with {files} files and an empty log tail");
        plan.figure("4", &what, &format!("{:.0} ms", ms(took)), Some(("≤ 3 s", took <= START)));
    }
}

struct Grown {
    cold: Said,
    start: Said,
    disk_bytes: u64,
}

fn home(ground: &Ground) -> &Path {
    ground.config.metastore_dir.parent().expect("it has one")
}

fn grow(plan: &Plan, ground: &Ground, from: u64, to: u64) -> Grown {
    let mut world = World::open(ground, &rocks(&ground.config), &CacheConfig::of_bytes(256 << 20));
    let before = process::cpu();
    world.grow(from, to);
    world.settle();
    let each = us_each(process::cpu() - before, to - from);
    let what =
        format!("creating and completing files {from} to {to}, applied and published: CPU each, RocksDB's among it");
    plan.figure("4", &what, &format!("{each:.1} µs"), None);
    let disk_bytes = world.compacted_bytes();
    ground.adopt(world);
    let cold = ask("cold", home(ground), ground.cluster, to, &[]);
    let start = ask("start", home(ground), ground.cluster, to, &[]);
    Grown { cold, start, disk_bytes }
}
