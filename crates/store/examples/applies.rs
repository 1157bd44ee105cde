//! What the state machine costs: creates applied and published one batch after the other, as a follower or a replay does.
//!
//! `cargo run --release -p store --example applies`

use meta::{Caller, CreateFile, Entry, Format, Ids, MountSpec, Namespace, Op, Record, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{CacheConfig, HeapStore, MemoryDisk, Published, RocksConfig, RocksStore};
use types::{AgeMs, Clock, ClusterId, ContainerId, GfsPath, InodeId, LogIndex, Mode, Monotonic, OperationId, UnixMs};

const BATCH: u64 = 32;
const RUN: u64 = 100_000;
const RUNS: u64 = 4;
const DIRECTORIES: u64 = 100;
const CACHE_BYTES: usize = 256 << 20;

/// The machine's clock.
struct Watch(Instant);

impl Clock for Watch {
    fn unix(&self) -> UnixMs {
        UnixMs(0)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }
}

fn watch() -> Arc<Watch> {
    Arc::new(Watch(Instant::now()))
}

struct Replay<S> {
    namespace: Namespace,
    state: Published<S>,
    made: u64,
}

fn entry(at: u64, op: Op) -> Entry {
    Entry {
        wall: UnixMs(i64::try_from(at).expect("few")),
        age: AgeMs(at),
        who: Caller { user: "root".into(), groups: vec!["root".into()], superuser: true },
        operation: Some(OperationId(u128::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))),
        ids: Ids { inode: InodeId(10 * at), container: ContainerId(10 * at), count: 4 },
        op,
    }
}

fn create(at: u64) -> Entry {
    let path = format!("/bench/directory-{}/file-{at:08}", at % DIRECTORIES);
    let create = CreateFile {
        path: GfsPath::parse(&path).expect("a path"),
        block_bytes: 64 << 20,
        recursive: true,
        mode: Mode::new(0o644),
        write_type: None,
    };
    entry(at, Op::CreateFile(create))
}

impl<S: Store> Replay<S> {
    fn new(store: S) -> Replay<S> {
        let state = Published::new(Arc::new(store), &CacheConfig::of_bytes(CACHE_BYTES), watch(), 7).expect("readable");
        let namespace = Namespace::open(&state.latest()).expect("an empty store");
        let root = MountSpec::plain("file:///under");
        let format =
            Format { cluster: ClusterId(7), owner: "root".into(), group: "root".into(), mode: Mode::new(0o755), root };
        let mut replay = Replay { namespace, state, made: 1 };
        replay.apply(&[(LogIndex(1), entry(1, Op::Format(format)))]);
        replay
    }

    fn apply(&mut self, batch: &[(LogIndex, Entry)]) {
        let (changes, applied) = self.namespace.apply(&self.state.latest(), batch).expect("apply");
        assert!(applied.iter().all(|applied| applied.outcome.is_ok()), "{applied:?}");
        self.state.publish(changes).expect("publish");
    }

    /// Decodes, applies and publishes so many creates; CPU of each.
    fn run(&mut self) -> Duration {
        let batches: Vec<Vec<_>> = (0..RUN / BATCH)
            .map(|batch| {
                let first = self.made + 1 + batch * BATCH;
                (first..first + BATCH).map(|at| (LogIndex(at), create(at).encode())).collect()
            })
            .collect();
        self.made += RUN / BATCH * BATCH;
        let began = cpu();
        for batch in &batches {
            let batch: Vec<_> =
                batch.iter().map(|(at, bytes)| (*at, Entry::decode(bytes).expect("an entry"))).collect();
            self.apply(&batch);
        }
        (cpu() - began) / u32::try_from(RUN / BATCH * BATCH).expect("few")
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("it does not run backwards")
}

fn measure<S: Store>(name: &str, store: S) {
    let mut replay = Replay::new(store);
    let times: Vec<Duration> = (0..RUNS).map(|_| replay.run()).collect();
    let best = times.iter().min().expect("some runs");
    println!(
        "{name:5}  a create applied: {best:?} of CPU at best, {:.0} per CPU-second, all runs: {times:?}",
        1.0 / best.as_secs_f64()
    );
}

fn main() {
    let cluster = ClusterId(7);
    let disk = MemoryDisk::new("/db");
    HeapStore::format(&disk, cluster).expect("format");
    measure("HEAP", HeapStore::open(Arc::new(disk), cluster).expect("open"));

    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("rocks");
    RocksStore::format(&place, cluster).expect("format");
    measure("ROCKS", RocksStore::open(&place, &RocksConfig::default(), cluster).expect("open"));
}
