//! The files, and which of them are used how often.

use crate::front::{CLUSTER, WatchClock, root};
use meta::{Change, CompleteFile, CreateFile, Entry, Family, Format, Ids, MountSpec, Namespace, Op, Record, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{CacheConfig, Published, RocksConfig, RocksStore};
use types::{AgeMs, ContainerId, GfsPath, InodeId, LogIndex, Mode, OperationId, UnixMs};

const PER_DIRECTORY: u64 = 1_000;
const BATCH: u64 = 256;
/// As YCSB has it.
const SKEW: f64 = 0.99;
/// Prime, so that ranks are spread over all files, each once.
const SPREAD: u64 = 2_654_435_761;

/// A database with files, closed. Each measurement opens a copy of its own.
pub struct Tree {
    place: PathBuf,
    pub containers: Vec<ContainerId>,
    pub zipf: Zipf,
}

pub fn path(file: u64, is_moved: bool) -> GfsPath {
    let name = if is_moved { 'g' } else { 'f' };
    GfsPath::parse(&format!("/bench/directory-{}/{name}-{file:08}", file / PER_DIRECTORY)).expect("a path")
}

pub fn entry(at: u64, op: Op, operation: Option<OperationId>) -> Entry {
    Entry {
        wall: UnixMs(i64::try_from(at).expect("few")),
        age: AgeMs(at),
        who: root(),
        operation,
        ids: Ids { inode: InodeId(4 * at), container: ContainerId(4 * at), count: 4 },
        op,
    }
}

impl Tree {
    pub fn grow(dir: &Path, files: u64) -> Tree {
        let place = dir.join("tree");
        RocksStore::format(&place, CLUSTER).expect("format");
        let store = RocksStore::open(&place, &rocks(), CLUSTER).expect("open");
        let state =
            Published::new(Arc::new(store), &CacheConfig::of_bytes(256 << 20), WatchClock::new(), 7).expect("open");
        let mut namespace = Namespace::open(&state.latest()).expect("empty");
        let format = Op::Format(Format {
            cluster: CLUSTER,
            owner: "root".into(),
            group: "root".into(),
            mode: Mode::new(0o755),
            root: MountSpec::plain("file:///under"),
        });
        let mut apply = |batch: &[(LogIndex, Entry)]| -> Vec<Change> {
            let (changes, applied) = namespace.apply(&state.latest(), batch).expect("apply");
            assert!(applied.iter().all(|applied| applied.outcome.is_ok()), "{applied:?}");
            state.publish(changes.clone()).expect("publish");
            changes.changes
        };
        apply(&[(LogIndex(1), entry(1, format, None))]);
        let mut containers = vec![ContainerId(0); usize::try_from(files).expect("it fits memory")];
        for first in (0..files).step_by(usize::try_from(BATCH).expect("small")) {
            let range = first..files.min(first + BATCH);
            let batch: Vec<_> = range.clone().flat_map(two_entries).collect();
            for change in apply(&batch).into_iter().filter(|change| change.family == Family::Edges) {
                let inode = meta::Inode::decode(&change.value.expect("nothing is removed")).expect("an inode");
                let name = change.key.get(8..).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
                if let Some(file) = name.strip_prefix("f-").and_then(|file| file.parse::<usize>().ok()) {
                    containers[file] = inode.container;
                }
            }
            if first % (1_000 * BATCH) == 0 {
                eprintln!("{first} of {files} files");
            }
        }
        assert!(containers.iter().all(|container| container.0 > 0), "every file has one");
        state.store().flush().expect("flush");
        Tree { place, containers, zipf: Zipf::new(files) }
    }

    /// A copy of the database, opened, at the index it holds.
    pub fn open(&self, name: &str) -> Arc<RocksStore> {
        let copy = self.place.with_file_name(format!("copy for {name}"));
        RocksStore::open(&self.place, &rocks(), CLUSTER).expect("open").checkpoint(&copy).expect("copy");
        Arc::new(RocksStore::open(&copy, &rocks(), CLUSTER).expect("open"))
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_dir_all(self.place.with_file_name(format!("copy for {name}"))).expect("it was made here");
    }
}

/// Creates and completes a file.
fn two_entries(file: u64) -> [(LogIndex, Entry); 2] {
    let path = path(file, false);
    let create = CreateFile {
        path: path.clone(),
        block_bytes: 64 << 20,
        recursive: true,
        mode: Mode::new(0o644),
        write_type: None,
    };
    let complete = CompleteFile {
        path,
        file: None,
        length: 0,
        checksum: None,
        locations: Vec::new(),
        persist_after_ms: None,
        force_persisted: false,
    };
    [(2 + 2 * file, Op::CreateFile(create)), (3 + 2 * file, Op::CompleteFile(complete))]
        .map(|(at, op)| (LogIndex(at), entry(at, op, None)))
}

/// What a master with the default budget gives its database.
fn rocks() -> RocksConfig {
    RocksConfig { block_cache_bytes: 512 << 20, ..RocksConfig::default() }
}

/// Numbers below a bound, few of them often.
///
/// Source: Gray et al., "Quickly generating billion-record synthetic databases", 1994,
/// <https://doi.org/10.1145/191839.191886>
#[derive(Clone)]
pub struct Zipf {
    count: u64,
    sum: f64,
    alpha: f64,
    eta: f64,
    dice: testkit::Chance,
}

impl Zipf {
    fn new(count: u64) -> Zipf {
        let zeta = |count: u64| (1..=count).map(|rank| crate::float(rank).powf(-SKEW)).sum::<f64>();
        let sum = zeta(count);
        let eta = (1.0 - (2.0 / crate::float(count)).powf(1.0 - SKEW)) / (1.0 - zeta(2) / sum);
        Zipf { count, sum, alpha: 1.0 / (1.0 - SKEW), eta, dice: testkit::Chance::new(42) }
    }

    /// The same law, other draws.
    pub fn with_seed(&self, seed: u64) -> Zipf {
        Zipf { dice: testkit::Chance::new(seed), ..self.clone() }
    }

    /// The next file.
    pub fn next(&mut self) -> u64 {
        let drawn = crate::float(self.dice.word() >> 11) / crate::float(1 << 53);
        let scaled = drawn * self.sum;
        let rank = if scaled < 1.0 {
            0
        } else if scaled < 1.0 + 0.5_f64.powf(SKEW) {
            1
        } else {
            let share = (self.eta * drawn - self.eta + 1.0).powf(self.alpha);
            floor(crate::float(self.count) * share)
        };
        let spread = u128::from(rank.min(self.count - 1)) * u128::from(SPREAD) % u128::from(self.count);
        u64::try_from(spread).expect("below a number of 64 bits")
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and small")]
fn floor(value: f64) -> u64 {
    value as u64
}
