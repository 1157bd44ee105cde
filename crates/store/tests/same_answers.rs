//! A namespace over a database with a cache of any size answers as one over a plain map does, also while entries are applied.

use meta::{
    Applied, COUNTERS_KEY, Caller, Counters, CreateDirectory, CreateFile, Entry, Family, Format, Ids, MemoryStore,
    MountSpec, Namespace, Op, Read, Record, Remove, Rename, Store,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::conformance::{SetWhenDropped, StillClock};
use store::{CacheConfig, Eviction, HeapStore, MemoryDisk, Published, RocksConfig, RocksStore};
use types::{AgeMs, ClusterId, ContainerId, GfsPath, InodeId, LogIndex, Mode, OperationId, UnixMs};

const CLUSTER: ClusterId = ClusterId(7);
/// Every path of three levels over two names.
const PATHS: [&str; 14] = [
    "/a", "/b", "/a/a", "/a/b", "/b/a", "/b/b", "/a/a/a", "/a/a/b", "/a/b/a", "/a/b/b", "/b/a/a", "/b/a/b", "/b/b/a",
    "/b/b/b",
];
/// Entries applied and published together.
const BATCH: usize = 3;
/// Far more than a directory here has.
const ALL: usize = 100;

#[derive(Clone, Copy, Debug)]
enum Do {
    File(usize),
    Directory(usize),
    Rename(usize, usize),
    Remove(usize),
}

fn path(at: usize) -> GfsPath {
    GfsPath::parse(PATHS[at]).expect("a path")
}

fn does(length: usize) -> impl Strategy<Value = Vec<Do>> {
    let any = || 0..PATHS.len();
    let one = prop_oneof![
        2 => any().prop_map(Do::File),
        2 => any().prop_map(Do::Directory),
        3 => (any(), any()).prop_map(|(from, to)| Do::Rename(from, to)),
        1 => any().prop_map(Do::Remove),
    ];
    proptest::collection::vec(one, 1..length)
}

fn root() -> Caller {
    Caller { user: "root".into(), groups: vec!["root".into()], superuser: true }
}

fn entry(at: u64, op: Op) -> Entry {
    Entry {
        wall: UnixMs(i64::try_from(at).expect("few")),
        age: AgeMs(at),
        who: root(),
        operation: Some(OperationId(at.into())),
        ids: Ids { inode: InodeId(10 * at), container: ContainerId(10 * at), count: 4 },
        op,
    }
}

fn op(one: Do) -> Op {
    let mode = Mode::new(0o755);
    match one {
        Do::File(at) => Op::CreateFile(CreateFile {
            path: path(at),
            block_bytes: 64 << 20,
            recursive: true,
            mode,
            write_type: None,
        }),
        Do::Directory(at) => {
            Op::CreateDirectory(CreateDirectory { path: path(at), recursive: true, allow_exists: false, mode })
        }
        Do::Rename(from, to) => Op::Rename(Rename { path: path(from), to: path(to) }),
        Do::Remove(at) => Op::Remove(Remove { path: path(at), recursive: true, goosefs_only: true }),
    }
}

/// The log: the format, then what is to be done.
fn log(does: &[Do]) -> Vec<(LogIndex, Entry)> {
    let format = Op::Format(Format {
        cluster: CLUSTER,
        owner: "root".into(),
        group: "root".into(),
        mode: Mode::new(0o755),
        root: MountSpec::plain("file:///under"),
    });
    let ops = [format].into_iter().chain(does.iter().map(|one| op(*one)));
    (1..).zip(ops).map(|(at, op)| (LogIndex(at), entry(at, op))).collect()
}

/// All that users could ask: the status of every path, and the entries of `/` and of the directories below it.
fn answers(read: &dyn Read) -> Result<Vec<String>, meta::StoreError> {
    let mut answers = Vec::new();
    for at in 0..PATHS.len() {
        let found = meta::status(read, &root(), &path(at))?;
        if let Ok(status) = &found
            && status.spot.inode.is_directory()
        {
            answers.push(format!("{:?}", meta::children(read, status.spot.inode.id, None, ALL)?));
        }
        answers.push(format!("{found:?}"));
    }
    answers.push(format!("{:?}", meta::children(read, meta::ROOT, None, ALL)?));
    Ok(answers)
}

fn applied(read: &dyn Read) -> Result<LogIndex, meta::StoreError> {
    let counters = read.get(Family::State, COUNTERS_KEY)?;
    Ok(counters.map(|bytes| Counters::decode(&bytes)).transpose()?.map_or(LogIndex(0), |counters| counters.applied))
}

/// What a plain map says after each batch, and what became of each entry.
fn truth(log: &[(LogIndex, Entry)]) -> (BTreeMap<LogIndex, Vec<String>>, Vec<Vec<Applied>>) {
    let mut store = MemoryStore::default();
    let mut namespace = Namespace::open(&store).expect("empty");
    let (mut states, mut outcomes) = (BTreeMap::new(), Vec::new());
    for batch in log.chunks(BATCH) {
        let (changes, applied) = namespace.apply(&store, batch).expect("memory answers");
        store.apply(&changes);
        states.insert(changes.applied, answers(&store).expect("memory answers"));
        outcomes.push(applied);
    }
    (states, outcomes)
}

/// Applies the log over `store` behind a cache, with `readers` asking all the time, and compares everything.
fn run<S: Store>(store: S, config: &CacheConfig, readers: usize, log: &[(LogIndex, Entry)]) {
    let (states, outcomes) = truth(log);
    let published = Published::new(Arc::new(store), config, Arc::new(StillClock), 7).expect("empty");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                // At least once, and once more when all is done.
                let mut is_last = false;
                while !is_last {
                    is_last = done.load(Ordering::Acquire);
                    let (index, seen) = published
                        .read(|view| Ok::<_, meta::StoreError>((applied(view)?, answers(view)?)))
                        .expect("read");
                    if index > LogIndex(0) {
                        assert_eq!(seen, states[&index], "a reader at {index}");
                    }
                }
            });
        }
        let _over = SetWhenDropped(&done);
        let mut namespace = Namespace::open(&published.latest()).expect("empty");
        for (batch, expected) in log.chunks(BATCH).zip(&outcomes) {
            let (changes, applied) = namespace.apply(&published.latest(), batch).expect("apply");
            assert_eq!(&applied, expected);
            let at = changes.applied;
            published.publish(changes).expect("publish");
            let (latest, raw) = (answers(&published.latest()), answers(&**published.store()));
            let state = &states[&at];
            assert!(latest.expect("read") == *state && raw.expect("read") == *state, "at {at}");
            // A page is noted, then kept, then found.
            for _ in 0..3 {
                assert_eq!(&published.read(|view| answers(view)).expect("read"), state);
            }
            assert_eq!(published.live_drift().expect("read"), Vec::<String>::new());
        }
    });
    assert_eq!(namespace_is_whole(&published), Vec::<String>::new());
}

fn namespace_is_whole<S: Store>(published: &Published<S>) -> Vec<String> {
    let namespace = Namespace::open(&published.latest()).expect("read");
    namespace.check_invariants(&published.latest()).expect("read")
}

fn heap() -> HeapStore {
    let disk = MemoryDisk::new("/db");
    HeapStore::format(&disk, CLUSTER).expect("format");
    HeapStore::open(Arc::new(disk), CLUSTER).expect("open")
}

fn configs() -> impl Strategy<Value = CacheConfig> {
    let entries = proptest::sample::select(vec![1, 2, 3, 8, 16, 40, 100, 1000, usize::MAX]);
    let bytes = proptest::sample::select(vec![1 << 10, 8 << 10, 1 << 20]);
    let eviction = proptest::sample::select(Eviction::ALL.to_vec());
    (entries, bytes, eviction).prop_map(|(entries, bytes, eviction)| CacheConfig { entries, bytes, eviction })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn heap_behind_any_cache(does in does(40), config in configs()) {
        run(heap(), &config, 0, &log(&does));
    }

    #[test]
    fn heap_behind_any_cache_with_readers(does in does(60), config in configs()) {
        run(heap(), &config, 2, &log(&does));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn rocks_behind_any_cache_with_readers(does in does(60), config in configs()) {
        let dir = tempfile::tempdir().expect("a directory");
        RocksStore::format(dir.path(), CLUSTER).expect("format");
        let small = RocksConfig { memtable_bytes: 1 << 20, ..RocksConfig::default() };
        run(RocksStore::open(dir.path(), &small, CLUSTER).expect("open"), &config, 2, &log(&does));
    }
}

/// A long history, so that readers and entries really meet; one cache per size and policy.
#[test]
fn readers_race_a_long_history_behind_the_smallest_caches() {
    let mut chance = testkit::Chance::new(11);
    let long: Vec<Do> = (0..3_000)
        .map(|_| {
            let mut any = || chance.below(PATHS.len());
            let (from, to) = (any(), any());
            match any() {
                0..4 => Do::File(from),
                4..7 => Do::Directory(from),
                7..12 => Do::Rename(from, to),
                _ => Do::Remove(from),
            }
        })
        .collect();
    let log = log(&long);
    for (entries, eviction) in [(1, Eviction::LRU), (9, Eviction::RANDOM), (20, Eviction::S3FIFO), (200, Eviction::LRU)]
    {
        run(heap(), &CacheConfig { entries, bytes: 1 << 20, eviction }, 2, &log);
    }
}
