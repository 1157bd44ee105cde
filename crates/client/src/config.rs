//! What a client is told at its start: plain values, already parsed and checked.

use std::time::Duration;
use types::{ChecksumKind, LoadMetadata, WriteType};

/// How a connection says who is at its other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auth {
    /// SASL PLAIN with the user's name.
    Simple,
    /// No handshake; servers take the caller for their NOSASL user.
    Nosasl,
}

/// Everything a [`crate::FileSystem`] needs to know. The defaults are those of `docs/settings.md`.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Every master, as host and port. At least one.
    pub masters: Vec<(String, u16)>,
    pub user: String,
    pub auth: Auth,
    /// How long a connection may take to open, handshake included.
    pub connect_timeout: Duration,
    /// How long one metadata call may take, all retries included.
    pub rpc_timeout: Duration,
    /// How long a client that was connected before looks for a leading master.
    pub polling_timeout: Duration,
    /// How long a worker may be silent in the middle of a stream.
    pub data_timeout: Duration,
    /// Bytes of one message to a worker.
    pub write_chunk_bytes: usize,
    /// Bytes of one message asked of a worker; below 4 MiB.
    pub read_chunk_bytes: usize,
    /// Messages a worker may send ahead of a sequential reader.
    pub prefetch_window: u32,
    /// Block size of new files.
    pub block_bytes: u64,
    /// Where new files go; None: as the directory's `innerWriteType` says, and CACHE_THROUGH without one.
    pub write_type: Option<WriteType>,
    pub checksum: ChecksumKind,
    /// False: reads leave nothing in the cache.
    pub read_caches: bool,
    /// When the store is asked about a path.
    pub load: LoadMetadata,
    /// Age at which known metadata are compared with the store; None: never.
    pub sync_interval: Option<Duration>,
    /// Workers an ASYNC_THROUGH file is written to, and the fewest it may be.
    pub replicas: usize,
    pub replicas_min: usize,
    /// Rest before an ASYNC_THROUGH file is uploaded; None: not until asked for.
    pub persist_wait: Option<Duration>,
    pub persist_on_rename: bool,
    /// Workers tried for one block.
    pub read_workers: usize,
    /// Workers asked what they hold before a read; 0: none.
    pub check_replicas: usize,
    /// Room a worker must have left to take part in ASYNC_THROUGH, in bytes and as a share of its capacity.
    pub worker_remain_bytes: u64,
    pub worker_remain_ratio: f64,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            masters: vec![("localhost".into(), 9200)],
            user: "nobody".into(),
            auth: Auth::Simple,
            connect_timeout: Duration::from_secs(30),
            rpc_timeout: Duration::from_secs(300),
            polling_timeout: Duration::from_secs(30),
            data_timeout: Duration::from_secs(3600),
            write_chunk_bytes: 1 << 20,
            read_chunk_bytes: 1 << 20,
            prefetch_window: 8,
            block_bytes: 64 << 20,
            write_type: None,
            checksum: ChecksumKind::Crc32c,
            read_caches: true,
            load: LoadMetadata::Once,
            sync_interval: None,
            replicas: 2,
            replicas_min: 1,
            persist_wait: Some(Duration::ZERO),
            persist_on_rename: false,
            read_workers: 3,
            check_replicas: 0,
            worker_remain_bytes: 128 << 20,
            worker_remain_ratio: 0.015,
        }
    }
}
