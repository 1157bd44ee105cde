//! Measurements that want a process of their own, with nothing in its memory yet: this program again, by another first word.
//! Each says numbers by name, one a line.

use crate::process;
use crate::world::{Ground, World, file, mixed, root, runtime};
use bytes::Bytes;
use meta::{Family, Read, Store};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::{CacheConfig, Eviction, RocksConfig};
use types::ClusterId;

pub const NAME: &str = "child";
/// Both caches of a process that looks at cold inodes: small, so that they are full whatever the tree's size.
const CACHE_BYTES: usize = 32 << 20;
/// Look-ups after which they are.
const LOOKS: u64 = 400_000;
/// Inodes held by the process that measures cached ones.
const HELD: u64 = 400_000;

/// What a child said.
pub struct Said(BTreeMap<String, u64>);

impl Said {
    pub fn number(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("the child says nothing of {name}"))
    }
    /// A time it said in nanoseconds.
    pub fn time(&self, name: &str) -> Duration {
        Duration::from_nanos(self.number(name))
    }
}

/// Runs this program as a child that does `what` in the directories of a master.
pub fn ask(what: &str, dir: &Path, cluster: ClusterId, files: u64, env: &[(&str, &str)]) -> Said {
    let own = std::env::current_exe().expect("this program");
    let output = Command::new(own)
        .args([NAME, what])
        .arg(dir)
        .args([format!("{:x}", cluster.0), files.to_string()])
        .envs(env.iter().copied())
        .stderr(Stdio::inherit())
        .output()
        .expect("run this program again");
    assert!(output.status.success(), "{what} ended with {}", output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Said(text.lines().filter_map(pair).collect())
}

fn say(name: &str, value: u64) {
    println!("{name} {value}");
}

fn say_time(name: &str, time: Duration) {
    say(name, u64::try_from(time.as_nanos()).expect("not centuries"));
}

pub fn run() {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [what, dir, cluster, files] = &arguments[..] else { panic!("a child has four arguments") };
    let config = crate::world::config(Path::new(dir));
    let cluster = ClusterId(u128::from_str_radix(cluster, 16).expect("hexadecimal"));
    let ground = Ground { config, cluster };
    let files = files.parse().expect("a whole number");
    match what.as_str() {
        "cold" => cold(&ground, files),
        "cached" => cached(&ground, files),
        "start" => start(&ground),
        "replay" => crate::replay::run(&ground),
        "churn" => crate::allocator::run(&ground, files),
        _ => panic!("no child does {what:?}"),
    }
}

/// Starts the master, and stops it.
fn start(ground: &Ground) {
    runtime().block_on(async {
        let began = Instant::now();
        let master = ground.start().await;
        say_time("took", began.elapsed());
        master.stop(Duration::from_secs(10)).await.expect("it stops");
    });
}

/// Opens the database, fills two small caches by looking at files all over the tree, and says what is beside them.
fn cold(ground: &Ground, files: u64) {
    let cache = CacheConfig { entries: usize::MAX, bytes: CACHE_BYTES, eviction: Eviction::LRU };
    let rocks = RocksConfig { block_cache_bytes: CACHE_BYTES, ..RocksConfig::default() };
    let began = Instant::now();
    let world = World::open(ground, &rocks, &cache);
    say_time("opened", began.elapsed());
    for look in 0..LOOKS {
        let n = mixed(look) % files;
        let found = world.state.read(|view| meta::status(view, &root(), &file(n))).expect("the database answers");
        let container = found.expect("it was made").spot.inode.container;
        if look % 8 == 0 {
            let by_id = world.state.read(|view| meta::by_container(view, container)).expect("the database answers");
            assert!(by_id.is_some(), "its container leads back to it");
        }
    }
    process::trim();
    let (database, ours) = (world.state.store().usage(), world.state.statistics().cache);
    assert!(ours.total().evictions > 0, "{files} files do not fill the cache");
    let fixed = database.block_cache_bytes + u64::try_from(ours.bytes).expect("64 bits") + database.memtable_bytes();
    let live = u64::try_from(world.state.live_bytes()).expect("64 bits");
    say("allocated", process::allocated_bytes());
    say("resident", process::resident_bytes());
    say("beside", process::allocated_bytes().saturating_sub(fixed + live));
    say("fixed", fixed);
    say("live", live);
    say("readers", database.table_reader_bytes);
    say("block_cache", database.block_cache_bytes);
}

/// What the allocator gives for inodes that are held in the cache, after each was looked at by its path.
fn cached(ground: &Ground, files: u64) {
    let cache = CacheConfig { entries: usize::MAX, bytes: 2 << 30, eviction: Eviction::LRU };
    let rocks = RocksConfig { block_cache_bytes: CACHE_BYTES, ..RocksConfig::default() };
    let world = World::open(ground, &rocks, &cache);
    let look = |n: u64| {
        let found = world.state.read(|view| meta::status(view, &root(), &file(n))).expect("the database answers");
        assert!(found.is_ok(), "it was made");
    };
    let beside = || process::allocated_bytes().saturating_sub(world.state.store().usage().block_cache_bytes);
    let held = || world.state.statistics().cache.edges.entries;
    // The database's own memory first, by other files than those that are held.
    let half = files / 2;
    (0..20_000).for_each(|n| look(half + mixed(n) % half));
    let (before, before_held) = (beside(), held());
    (0..HELD.min(half)).for_each(look);
    say("bytes", beside().saturating_sub(before));
    say("inodes", held() - before_held);
    // Again: a hit must cost no memory.
    (0..HELD.min(half)).for_each(look);
    say("bytes_hit", beside().saturating_sub(before));
    let counted = world.state.statistics().cache;
    say("counted", u64::try_from(counted.bytes).expect("64 bits") / counted.total().entries.max(1));
    let key = Bytes::from_static(&[0; 8]);
    assert!(world.state.latest().get(Family::Inodes, &key).expect("the database answers").is_none());
}
