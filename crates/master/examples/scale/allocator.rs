//! Whether the allocator's arenas grow without bound: a master's reads from many threads and its writes, in turns, round by
//! round, with the settings of glibc and with whatever is loaded before it.

use crate::child::ask;
use crate::process;
use crate::world::{Ground, World, child_of_large, complete, create_only, file, mixed, root};
use crate::{Plan, float};
use meta::{Op, Remove, Store};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store::{CacheConfig, RocksConfig};
use types::GfsPath;

const ROUNDS: u64 = 12;
const ROUND: Duration = Duration::from_secs(10);
const READERS: u64 = 16;
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2"];

pub fn measure(plan: &Plan, dir: &Path) {
    let ground = Ground::make(dir);
    let mut world = World::open(&ground, &RocksConfig::default(), &CacheConfig::of_bytes(256 << 20));
    world.grow(0, plan.few());
    world.load_large(plan.few());
    world.settle();
    drop(world);
    let mut ways: Vec<(String, Vec<(&str, &str)>)> = vec![
        ("glibc as it is".to_owned(), Vec::new()),
        ("glibc, two arenas".to_owned(), vec![("MALLOC_ARENA_MAX", "2")]),
        (
            "glibc, trim and map thresholds of 128 KiB".to_owned(),
            vec![("MALLOC_TRIM_THRESHOLD_", "131072"), ("MALLOC_MMAP_THRESHOLD_", "131072")],
        ),
    ];
    ways.extend(
        LIBRARIES
            .iter()
            .filter(|library| Path::new(library).exists())
            .map(|library| ((*library).to_owned(), vec![("LD_PRELOAD", *library)])),
    );
    for (name, env) in &ways {
        let said = ask("churn", dir, ground.cluster, plan.few(), env);
        let mib = |name: String| said.number(&name) >> 20;
        let rounds: Vec<String> = (0..ROUNDS).map(|round| mib(format!("resident{round}")).to_string()).collect();
        let last = ROUNDS - 1;
        let text = format!(
            "{} MiB after each round; allocated at the end {}, {:.0} thousand reads a CPU-second",
            rounds.join(", "),
            mib(format!("allocated{last}")),
            float(said.number("reads")) / said.time("cpu").as_secs_f64() / 1e3,
        );
        plan.figure("3", name, &text, None);
    }
}

/// The child: readers all over the tree, a writer that makes and removes files, and the database's own threads.
pub fn run(ground: &Ground, files: u64) {
    let rocks = RocksConfig { block_cache_bytes: 64 << 20, memtable_bytes: 32 << 20, ..RocksConfig::default() };
    let mut world = World::open(ground, &rocks, &CacheConfig::of_bytes(64 << 20));
    let (mut reads, cpu) = (0, process::cpu());
    for round in 0..ROUNDS {
        let over = AtomicBool::new(false);
        let state = &world.state;
        reads += std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS)
                .map(|reader| {
                    let over = &over;
                    scope.spawn(move || {
                        let mut count = 0;
                        while !over.load(Ordering::Relaxed) {
                            let n = mixed(count * READERS + reader + round * 1_000_003) % files;
                            let path = if n.is_multiple_of(2) { file(n) } else { child_of_large(n) };
                            let found = state.read(|view| meta::status(view, &root(), &path));
                            assert!(found.expect("the database answers").is_ok(), "it was made");
                            if count % 500 == reader {
                                let page = state
                                    .read(|view| meta::list(view, &root(), &path.parent().expect("one"), None, 1_000));
                                drop(page.expect("the database answers"));
                            }
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            std::thread::sleep(ROUND / 2);
            over.store(true, Ordering::Relaxed);
            readers.into_iter().map(|reader| reader.join().expect("it reads")).sum::<u64>()
        });
        let began = Instant::now();
        for batch in 0.. {
            if began.elapsed() > ROUND / 2 {
                break;
            }
            let path = |n: u64| GfsPath::parse(&format!("/bench/churn/{}/file-{n}", n % 10)).expect("a path");
            let new = batch * 64..(batch + 1) * 64;
            world.apply(new.clone().flat_map(|n| [create_only(path(n)), complete(path(n), n)]));
            let remove = |n| Op::Remove(Remove { path: path(n), recursive: false, goosefs_only: false });
            world.apply(new.map(remove));
            if batch % 200 == 0 {
                world.state.store().flush().expect("flush");
            }
        }
        println!("resident{round} {}", process::resident_bytes());
        println!("allocated{round} {}", process::allocated_bytes());
        println!("arenas{round} {}", process::arena_bytes());
    }
    println!("reads {reads}\ncpu {}", (process::cpu() - cpu).as_nanos());
}
