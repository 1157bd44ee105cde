//! A master's directories, and a namespace in them that is filled by entries, one batch after the other.

use master::rig::{Dirs, INCOMING, Place, Snapshot};
use master::{Master, MasterConfig, Metastore, WalkConfig};
use meta::{
    Caller, CompleteFile, CreateDirectory, CreateFile, Done, Entry, Found, Ids, LoadPage, Namespace, Op, OpenLoad,
    Store,
};
use rpc::{SystemClock, SystemEntropy};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{CacheConfig, Published, RocksConfig, RocksStore};
use types::{
    AgeMs, ClusterId, ContainerId, Fingerprint, GfsPath, InodeId, LogIndex, Mode, Name, OperationId, Term, UnixMs,
    WriteType,
};

pub const PER_DIRECTORY: u64 = 1_000;
/// Entries applied at once, as a busy master does.
const BATCH: u64 = 256;
/// Objects in a page of a load, as stores list them.
const PAGE: u64 = 1_000;
/// Wall time of the first file: 2026.
const BEGAN_MS: i64 = 1_767_225_600_000;
pub const LARGE: &str = "/bench/large";

/// Where a master lives.
pub struct Ground {
    pub config: MasterConfig,
    pub cluster: ClusterId,
}

impl Ground {
    /// Formats a master with its namespace made, stopped.
    pub fn make(dir: &Path) -> Ground {
        let config = config(dir);
        std::fs::create_dir_all(&config.root_ufs).expect("a root store");
        let cluster = master::format(&config, &SystemEntropy, false).expect("empty directories");
        let ground = Ground { config, cluster };
        runtime().block_on(async {
            let master = ground.start().await;
            master.stop(Duration::from_secs(10)).await.expect("it stops");
        });
        ground
    }

    pub async fn start(&self) -> Master {
        Master::start(self.config.clone(), Arc::new(SystemClock), Arc::new(SystemEntropy))
            .await
            .expect("a healthy master")
    }

    /// Makes the database, which was filled without a log, one that the log goes on behind.
    pub fn adopt(&self, world: World) {
        let index = LogIndex(world.at);
        let incoming = self.config.metastore_dir.join(INCOMING);
        world.state.store().flush().expect("flush");
        world.state.store().checkpoint(&incoming).expect("a checkpoint");
        drop(world);
        let files = std::fs::read_dir(&incoming).expect("it was written").map(|file| {
            let file = file.expect("it was written");
            let name = file.file_name().into_string().expect("plain names");
            (name, file.metadata().expect("it is there").len())
        });
        let snapshot = Snapshot { index, term: Term(1), files: files.collect() };
        let files = Dirs { journal: &self.config.journal_dir, metastore: &self.config.metastore_dir };
        let options = journal::SegmentOptions { segment_bytes: self.config.segment_bytes };
        let place = Place { files, cluster: self.cluster, options };
        place.begin(&snapshot).expect("it is whole");
        place.finish().expect("it is installed");
    }
}

/// A runtime for a master's jobs.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads")
}

/// A master as it is set up by default, but for its places.
pub fn config(dir: &Path) -> MasterConfig {
    MasterConfig {
        metastore: Metastore::Rocks,
        nosasl: true,
        nosasl_user: "root".to_owned(),
        segment_bytes: 64 << 20,
        checkpoint_entries: 2_000_000,
        cache: CacheConfig::of_bytes(256 << 20),
        memory_budget_bytes: 2 << 30,
        late: Duration::ZERO,
        request_timeout: Duration::from_secs(60),
        worker_timeout: Duration::from_secs(36_000),
        walk: Some(WalkConfig { per_second: 5_000, every: Duration::from_secs(3_600) }),
        ..MasterConfig::for_tests().below(dir)
    }
}

/// What a master with these settings gives its database.
pub fn rocks(config: &MasterConfig) -> RocksConfig {
    let block_cache_bytes = usize::try_from(config.memory_budget_bytes / 4).expect("64 bits");
    RocksConfig { block_cache_bytes, ..RocksConfig::default() }
}

pub fn root() -> Caller {
    Caller { user: "root".into(), groups: vec!["root".into()], superuser: true }
}

/// The name of the nth file: as jobs name their output, with four bytes that do not compress.
pub fn name(n: u64) -> Name {
    Name::new(&format!("part-{n:08}-{:08x}.parquet", mixed(n) >> 32)).expect("a name")
}

/// The nth file of the tree of small directories.
pub fn file(n: u64) -> GfsPath {
    GfsPath::parse(&format!("/bench/tree/directory-{}/{}", n / PER_DIRECTORY, name(n).as_str())).expect("a path")
}

/// The nth child of the large directory.
pub fn child_of_large(n: u64) -> GfsPath {
    GfsPath::parse(&format!("{LARGE}/{}", name(n).as_str())).expect("a path")
}

/// A number that looks like chance and follows from `n`.
pub fn mixed(n: u64) -> u64 {
    testkit::Chance::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).word()
}

/// A namespace over its database, without a log.
pub struct World {
    pub state: Published<RocksStore>,
    pub namespace: Namespace,
    /// The last entry.
    pub at: u64,
    next_id: u64,
}

impl World {
    pub fn open(ground: &Ground, rocks: &RocksConfig, cache: &CacheConfig) -> World {
        World::open_at(&ground.config.metastore_dir, ground.cluster, rocks, cache)
    }

    pub fn open_at(dir: &Path, cluster: ClusterId, rocks: &RocksConfig, cache: &CacheConfig) -> World {
        let store = Arc::new(RocksStore::open(dir, rocks, cluster).expect("a whole database"));
        let state = Published::new(store, cache, Arc::new(SystemClock), 7).expect("a readable database");
        let namespace = Namespace::open(&state.latest()).expect("a readable database");
        let counters = namespace.counters();
        let next_id = counters.next_inode.0.max(counters.next_container.0);
        World { at: namespace.applied().0, state, namespace, next_id }
    }

    fn stamp(&mut self, op: Op, operation: Option<OperationId>) -> (LogIndex, Entry) {
        self.at += 1;
        // Those the bench makes that take any.
        let count =
            if let Op::CreateFile(CreateFile { path, .. }) | Op::CreateDirectory(CreateDirectory { path, .. }) = &op {
                path.depth()
            } else if let Op::LoadPage(page) = &op {
                page.items.len()
            } else {
                0
            };
        let ids = Ids {
            inode: InodeId(self.next_id),
            container: ContainerId(self.next_id),
            count: u32::try_from(count).expect("few"),
        };
        self.next_id += u64::from(ids.count);
        let wall = UnixMs(BEGAN_MS + i64::try_from(self.at).expect("few"));
        (LogIndex(self.at), Entry { wall, age: AgeMs(self.at), who: root(), operation, ids, op })
    }

    /// Applies and publishes one batch. Every one of it must be taken.
    pub fn apply(&mut self, ops: impl IntoIterator<Item = Op>) -> Vec<Done> {
        let batch: Vec<_> = ops.into_iter().map(|op| self.stamp(op, None)).collect();
        let (changes, applied) = self.namespace.apply(&self.state.latest(), &batch).expect("the database answers");
        self.state.publish(changes).expect("the database takes it");
        applied.into_iter().map(|applied| applied.outcome.expect("nothing is in its way")).collect()
    }

    /// Creates and completes the files `from..to` of the tree.
    pub fn grow(&mut self, from: u64, to: u64) {
        for first in (from..to).step_by(usize::try_from(BATCH).expect("small")) {
            let files = first..to.min(first + BATCH);
            self.apply(files.flat_map(|n| create(file(n), mixed(n) >> 34)));
            if (first - from).is_multiple_of(BATCH * 4_000) {
                eprintln!("{first} of {to} files");
            }
        }
    }

    pub fn make_directory(&mut self, path: &str) {
        let path = GfsPath::parse(path).expect("a path");
        let mode = Mode::new(0o755);
        self.apply([Op::CreateDirectory(CreateDirectory { path, recursive: true, allow_exists: true, mode })]);
    }

    /// Fills the large directory by pages of a store's listing.
    pub fn load_large(&mut self, count: u64) {
        self.make_directory(LARGE);
        let large = self.inode(&GfsPath::parse(LARGE).expect("a path"));
        let opened = self.apply([Op::OpenLoad(OpenLoad { directory: large, seen: LogIndex(self.at) })]);
        let [Done::Load(load)] = opened[..] else { panic!("{opened:?}") };
        for first in (0..count).step_by(usize::try_from(PAGE).expect("small")) {
            let items: Vec<Found> = (first..count.min(first + PAGE)).map(object).collect();
            let last = first + PAGE >= count;
            self.apply([Op::LoadPage(LoadPage { directory: large, load, items, last })]);
            if first % (PAGE * 1_000) == 0 {
                eprintln!("{first} of {count} objects");
            }
        }
    }

    pub fn inode(&self, path: &GfsPath) -> InodeId {
        let found = self.state.read(|view| meta::status(view, &root(), path));
        found.expect("the database answers").expect("it is there").spot.inode.id
    }

    /// Everything is on disk and nothing is left to compact.
    pub fn settle(&self) {
        self.state.store().flush().expect("flush");
        self.state.store().settle().expect("settle");
    }

    /// Bytes on disk once every record stands there once.
    pub fn compacted_bytes(&self) -> u64 {
        self.settle();
        self.state.store().compact(&mut || true).expect("compact");
        self.state.store().settle().expect("settle");
        self.state.store().usage().live_disk_bytes()
    }
}

pub fn create(path: GfsPath, length: u64) -> [Op; 2] {
    [create_only(path.clone()), complete(path, length)]
}

pub fn create_only(path: GfsPath) -> Op {
    Op::CreateFile(CreateFile {
        path,
        block_bytes: 64 << 20,
        recursive: true,
        mode: Mode::new(0o644),
        write_type: Some(WriteType::MustCache),
    })
}

pub fn complete(path: GfsPath, length: u64) -> Op {
    Op::CompleteFile(CompleteFile {
        path,
        file: None,
        length,
        checksum: None,
        locations: Vec::new(),
        persist_after_ms: None,
        force_persisted: false,
    })
}

/// An object as a store lists it: an entity tag and a length of its own.
fn object(n: u64) -> Found {
    let tag = format!("{:016x}{:016x}", mixed(n), mixed(!n));
    Found {
        name: name(n),
        directory: false,
        length: mixed(n) >> 34,
        modified: Some(UnixMs(BEGAN_MS - i64::try_from(mixed(n) >> 30).expect("34 bits"))),
        fingerprint: Some(Fingerprint::Etag(tag)),
        owner: None,
        group: None,
        mode: None,
    }
}
