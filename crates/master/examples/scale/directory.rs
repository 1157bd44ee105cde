//! One directory with as many children as the tree has files, against a small one; and a rename of a whole tree.

use crate::process;
use crate::world::{Ground, LARGE, World, child_of_large, complete, create_only, file, mixed, name, rocks, root};
use crate::{Plan, float, us_each};
use meta::{Op, Remove, Rename};
use std::time::Duration;
use store::CacheConfig;
use types::GfsPath;

const SMALL: &str = "/bench/small";
const SMALL_CHILDREN: u64 = 1_000;
/// Operations in a row, then it is the other directory's turn.
const SLICE: u64 = 64;
const SLICES: u64 = 200;
/// Renames of a tree.
const MOVES: u64 = 100;
/// Names made here come after all others.
const NEW: u64 = 90_000_000;

pub fn measure(plan: &Plan, ground: &Ground) {
    let mut world = World::open(ground, &rocks(&ground.config), &CacheConfig::of_bytes(256 << 20));
    let before = world.compacted_bytes();
    let cpu = process::cpu();
    world.load_large(plan.files);
    world.settle();
    let each = us_each(process::cpu() - cpu, plan.files);
    let rate = 1e6 / each;
    let what =
        format!("{} objects of one directory loaded in pages of 1000, applied and published: CPU each", plan.files);
    plan.figure("5", &what, &format!("{each:.1} µs, {rate:.0} per CPU-second, RocksDB's among it"), None);
    let disk = float(world.compacted_bytes() - before) / float(plan.files);
    let what = "disk bytes of a loaded inode after compaction, entity tags of 32 digits among them";
    plan.figure("4", what, &format!("{disk:.1}"), Some(("≤ 90", disk <= 90.0)));

    world.make_directory(SMALL);
    let small = |n: u64| child(SMALL, n);
    world.apply((0..SMALL_CHILDREN).flat_map(|n| [create_only(small(n)), complete(small(n), 1)]));
    if plan.does("directory") {
        operations(plan, &mut world);
        cold_status(plan, &world);
        moves(plan, &mut world);
    }
    ground.adopt(world);
}

fn child(directory: &str, n: u64) -> GfsPath {
    GfsPath::parse(&format!("{directory}/{}", name(n).as_str())).expect("a path")
}

fn moved(directory: &str, n: u64) -> GfsPath {
    GfsPath::parse(&format!("{directory}/moved-{n}")).expect("a path")
}

/// What one kind of operation does to the nth new child of a directory.
type Act = fn(&mut World, &str, std::ops::Range<u64>);

fn operations(plan: &Plan, world: &mut World) {
    let acts: [(&str, Act); 4] = [
        ("create", |world, directory, new| {
            let ops = new.flat_map(|n| [create_only(child(directory, n)), complete(child(directory, n), 1)]);
            world.apply(ops);
        }),
        ("stat", |world, directory, new| {
            for n in new {
                let path = child(directory, n);
                let found = world.state.read(|view| meta::status(view, &root(), &path));
                assert!(found.expect("the database answers").is_ok(), "it was made");
            }
        }),
        ("rename", |world, directory, new| {
            world.apply(new.map(|n| Op::Rename(Rename { path: child(directory, n), to: moved(directory, n) })));
        }),
        ("delete", |world, directory, new| {
            let remove = |n| Remove { path: moved(directory, n), recursive: false, goosefs_only: false };
            world.apply(new.map(|n| Op::Remove(remove(n))));
        }),
    ];
    for (what, act) in acts {
        let mut used: [Vec<Duration>; 2] = Default::default();
        for slice in 0..SLICES {
            let new = NEW + slice * SLICE..NEW + (slice + 1) * SLICE;
            for (used, directory) in used.iter_mut().zip([LARGE, SMALL]) {
                let before = process::thread_cpu();
                act(world, directory, new.clone());
                used.push(process::thread_cpu() - before);
            }
        }
        let [large, small] = used.map(|mut used| us_each(crate::quantile(&mut used, 500), SLICE));
        let ratio = large / small;
        let what = format!("{what} in a directory of {} children against one of {SMALL_CHILDREN}: CPU", plan.files);
        let text = format!("{ratio:.2} × ({large:.1} against {small:.1} µs)");
        plan.figure("5", &what, &text, Some(("≤ 1.2 ×", ratio <= 1.2)));
    }
}

/// Inodes nobody looked at lately: there and in the tree of small directories.
fn cold_status(plan: &Plan, world: &World) {
    let places: [fn(u64) -> GfsPath; 2] = [child_of_large, file];
    let [large, tree] = places.map(|path| {
        let before = process::thread_cpu();
        for n in 0..SLICE * SLICES {
            let path = path(mixed(n) % plan.files);
            let found = world.state.read(|view| meta::status(view, &root(), &path));
            assert!(found.expect("the database answers").is_ok(), "it was made");
        }
        us_each(process::thread_cpu() - before, SLICE * SLICES)
    });
    let what = "stat of any child of the large directory against any file of the tree: CPU";
    let text = format!("{:.2} × ({large:.1} against {tree:.1} µs)", large / tree);
    plan.figure("5", what, &text, None);
}

/// A tree, and an empty directory, there and back.
fn moves(plan: &Plan, world: &mut World) {
    world.make_directory("/bench/empty");
    let [tree, empty] = ["/bench/tree", "/bench/empty"].map(|directory| {
        let path = |text: &str| GfsPath::parse(text).expect("a path");
        let (here, there) = (path(directory), path(&format!("{directory}-moved")));
        let before = process::thread_cpu();
        for _ in 0..MOVES / 2 {
            world.apply([Op::Rename(Rename { path: here.clone(), to: there.clone() })]);
            world.apply([Op::Rename(Rename { path: there.clone(), to: here.clone() })]);
        }
        us_each(process::thread_cpu() - before, MOVES)
    });
    let ratio = tree / empty;
    let what = format!("rename of a directory with {} files below it against an empty one: CPU", plan.files);
    let text = format!("{ratio:.2} × ({tree:.1} against {empty:.1} µs)");
    plan.figure("5", &what, &text, Some(("≤ 1.2 ×", ratio <= 1.2)));
}
