//! What a master is told at its start: plain values, already parsed and checked.

use crate::core::{ExpiryConfig, WalkConfig};
use std::collections::BTreeMap;
use std::net::SocketAddr;
#[cfg(any(test, feature = "test-support"))]
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use store::CacheConfig;
use types::Secret;

/// Where the namespace's records live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metastore {
    /// In memory, with files of the last flush.
    Heap,
    /// In RocksDB.
    Rocks,
}

impl Metastore {
    /// As the setting has it.
    pub fn name(self) -> &'static str {
        match self {
            Metastore::Heap => "HEAP",
            Metastore::Rocks => "ROCKS",
        }
    }
}

/// The group this master is one of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// Every member's `host:port` for the others, this one's too.
    pub members: Vec<String>,
    /// This member's, as it stands there.
    pub own: String,
    /// Where this member listens for the others.
    pub listen: SocketAddr,
    /// Silence of a leader after which a member stands for election; later ids wait up to half as long again.
    pub election_timeout: Duration,
    /// Rest between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// Applied entries kept for members that lack them; who lacks more gets a snapshot.
    pub retained_entries: u64,
    /// Bytes of snapshots sent in a second; None: no limit.
    pub snapshot_bandwidth: Option<u64>,
    /// `goosefs.master.embedded.journal.leader.priority`: of masters that have caught up, one with the highest leads.
    pub priority: u32,
    /// The majority of the group is lost for good, and this member goes on alone: an operator's word, for one start.
    pub recover: bool,
}

#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// The name clients and workers use for this master.
    pub hostname: String,
    /// `goosefs.master.rpc.port`: official clients, and `goosefs.v1`.
    pub rpc_addr: SocketAddr,
    /// `goosefs.master.web.port`: health and metrics.
    pub web_addr: SocketAddr,
    /// `goosefs.internal.v1`: workers.
    pub internal_addr: SocketAddr,
    /// The masters of which this is one; None: it is alone.
    pub group: Option<GroupConfig>,
    /// `goosefs.master.journal.folder`
    pub journal_dir: PathBuf,
    /// `goosefs.master.metastore.dir`
    pub metastore_dir: PathBuf,
    pub metastore: Metastore,
    /// Small files of this master: channel registrations.
    pub work_dir: PathBuf,
    /// `goosefs.security.secret.key.file`
    pub key_file: PathBuf,
    /// `goosefs.master.backup.directory`: a path in the root under store.
    pub backup_dir: String,

    /// `goosefs.master.mount.table.root.ufs`, used when the namespace is made; later it must be the same.
    pub root_ufs: String,
    pub root_properties: BTreeMap<String, String>,
    pub root_secrets: BTreeMap<String, Secret>,
    /// Mode of `/` when the namespace is made.
    pub root_mode: u16,

    /// The operating-system user that runs the master.
    pub superuser: String,
    pub supergroup: String,
    pub permission_enabled: bool,
    /// `goosefs.security.authentication.type` = NOSASL
    pub nosasl: bool,
    /// The user NOSASL clients are.
    pub nosasl_user: String,
    pub strict_channel: bool,

    /// Ready only with a live worker: `goosefs local` is ready when all its roles are.
    pub ready_with_worker: bool,

    /// Threads that serve connections.
    pub rpc_threads: usize,
    /// Bytes of each log segment.
    pub segment_bytes: u64,
    /// Entries after which the store is flushed and the log cut (`goosefs.master.journal.checkpoint.period.entries`).
    pub checkpoint_entries: u64,
    /// The cache in front of the database.
    pub cache: CacheConfig,
    /// `goosefs.master.process.memory.budget`
    pub memory_budget_bytes: u64,
    /// The longest that calls wait for their turn and it is nothing unusual; where that lasts, some are refused. Zero: never.
    pub late: Duration,
    /// How long a client's mutation may wait for its outcome.
    pub request_timeout: Duration,
    /// How long a request waits for an operation on the store that covers its name.
    pub intent_wait: Duration,
    /// How long outcomes of operation ids are kept, in age.
    pub operation_retention: Duration,
    /// An incomplete file without a live stream goes after this long, in age.
    pub incomplete_expiry: Duration,
    /// Before the first try to persist a file.
    pub persist_delay: Duration,
    /// The leader's walk through all inodes, for figures and expiry; None: there is none.
    pub walk: Option<WalkConfig>,
    /// What becomes of metadata that nobody uses; None: they stay. Needs the walk.
    pub expiry: Option<ExpiryConfig>,
    /// Files persisted at once.
    pub persist_concurrency: usize,
    /// How long a name the store did not have is remembered as missing; zero: never.
    pub negative_cache: Duration,
    /// How long a worker may keep a principal's right.
    pub right_valid: Duration,
    /// `goosefs.master.worker.heartbeat.interval`
    pub heartbeat_interval: Duration,
    /// A worker silent for this long is lost (`goosefs.master.worker.timeout`).
    pub worker_timeout: Duration,
    /// Ring points of a worker (`goosefs.master.consistent.hash.virtual.node.num.per.worker`).
    pub virtual_nodes: u32,
}

#[cfg(any(test, feature = "test-support"))]
impl MasterConfig {
    /// Small, quick to time out, and without a place on any disk.
    pub fn for_tests() -> MasterConfig {
        let any = "127.0.0.1:0".parse().expect("an address");
        MasterConfig {
            hostname: "localhost".into(),
            rpc_addr: any,
            web_addr: any,
            internal_addr: any,
            group: None,
            journal_dir: "/none".into(),
            metastore_dir: "/none".into(),
            metastore: Metastore::Heap,
            work_dir: "/none".into(),
            key_file: "/none".into(),
            backup_dir: String::new(),
            root_ufs: "mem://root".into(),
            root_properties: BTreeMap::new(),
            root_secrets: BTreeMap::new(),
            root_mode: 0o755,
            superuser: "root".into(),
            supergroup: "supergroup".into(),
            permission_enabled: true,
            nosasl: false,
            nosasl_user: "nobody".into(),
            strict_channel: false,
            ready_with_worker: false,
            rpc_threads: 1,
            segment_bytes: 1 << 20,
            checkpoint_entries: 50,
            cache: CacheConfig::of_bytes(1 << 20),
            memory_budget_bytes: 1 << 30,
            late: Duration::from_secs(1),
            request_timeout: Duration::from_secs(5),
            intent_wait: Duration::from_secs(2),
            operation_retention: Duration::from_secs(900),
            incomplete_expiry: Duration::from_secs(3600),
            persist_delay: Duration::from_secs(1),
            persist_concurrency: 4,
            walk: Some(WalkConfig { per_second: 10_000, every: Duration::from_secs(60) }),
            expiry: None,
            negative_cache: Duration::ZERO,
            right_valid: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(1),
            worker_timeout: Duration::from_secs(10),
            virtual_nodes: 100,
        }
    }

    /// The same with its places below a directory.
    pub fn below(self, dir: &Path) -> MasterConfig {
        MasterConfig {
            journal_dir: dir.join("journal"),
            metastore_dir: dir.join("metastore"),
            work_dir: dir.join("work"),
            key_file: dir.join("key"),
            root_ufs: dir.join("ufs").to_str().expect("a plain name").to_owned(),
            ..self
        }
    }
}
