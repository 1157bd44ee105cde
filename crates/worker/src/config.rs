//! What a worker is told at its start: plain values, already parsed and checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tier::{Allocator, Eviction, Medium, Permille, Settings, Volatile, Watermarks};
use types::Ordinal;

/// One storage directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryConfig {
    /// `goosefs.worker.tieredstore.level{x}.dirs.path`
    pub path: PathBuf,
    /// The x of `level{x}`; 0 is the fastest.
    pub tier: Ordinal,
    /// `…dirs.mediumtype`
    pub medium: Medium,
    /// `…dirs.quota`
    pub quota_bytes: u64,
    /// `…watermark.high.ratio` and `…watermark.low.ratio`
    pub watermarks: Watermarks,
}

#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The name clients, masters and other workers use for this worker.
    pub hostname: String,
    /// `goosefs.worker.rpc.port`: BlockWorker and SASL. Port 0 takes a free one.
    pub rpc_addr: SocketAddr,
    /// `goosefs.worker.web.port`: health and metrics.
    pub web_addr: SocketAddr,
    /// `host:port` of each master's `goosefs.internal.v1`.
    pub masters: Vec<String>,
    pub directories: Vec<DirectoryConfig>,
    /// `goosefs.worker.read.cache.min.ratio`
    pub read_share_min: Permille,
    /// `goosefs.worker.tieredstore.free.ahead.bytes`
    pub free_ahead_bytes: u64,
    /// Whether blocks that exist nowhere else may rest on MEM directories.
    pub volatile: Volatile,
    /// `goosefs.worker.allocator.class`
    pub allocator: Allocator,
    /// `goosefs.worker.block.annotator.class`
    pub eviction: Eviction,
    /// Small files of this worker: channel registrations.
    pub work_dir: PathBuf,
    /// `goosefs.security.secret.key.file`, or a token file made from it.
    pub key_file: PathBuf,

    /// `goosefs.security.authentication.type` = NOSASL
    pub nosasl: bool,
    /// The user NOSASL clients are.
    pub nosasl_user: String,
    /// `goosefs.security.authentication.strict.channel`
    pub strict_channel: bool,

    /// Threads that serve connections.
    pub rpc_threads: usize,
    /// `goosefs.worker.process.memory.budget`: what this process may hold beyond its tiers.
    pub memory_budget_bytes: u64,
    /// Ranged reads of one under store at once.
    pub fetches_per_store: usize,
    /// Files persisted at once.
    pub persist_concurrency: usize,
    /// How long one call to a master may take.
    pub master_timeout: Duration,
}

impl WorkerConfig {
    /// A configuration for `directories` that answers on free ports of the loopback interface; the rest are defaults.
    pub fn local(directories: Vec<DirectoryConfig>, work_dir: PathBuf, key_file: PathBuf) -> WorkerConfig {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        WorkerConfig {
            hostname: "127.0.0.1".into(),
            rpc_addr: loopback,
            web_addr: loopback,
            masters: Vec::new(),
            directories,
            read_share_min: Settings::default().read_share_min,
            free_ahead_bytes: 0,
            volatile: Volatile::Refuse,
            allocator: Allocator::MaxFree,
            eviction: Eviction::Lru,
            work_dir,
            key_file,
            nosasl: false,
            nosasl_user: "nobody".into(),
            strict_channel: false,
            rpc_threads: 2,
            memory_budget_bytes: 512 * 1024 * 1024,
            fetches_per_store: 64,
            persist_concurrency: 4,
            master_timeout: Duration::from_secs(10),
        }
    }

    pub(crate) fn tier_settings(&self) -> Settings {
        Settings {
            read_share_min: self.read_share_min,
            free_ahead_bytes: self.free_ahead_bytes,
            volatile: self.volatile,
            allocator: self.allocator,
            eviction: self.eviction,
        }
    }
}
