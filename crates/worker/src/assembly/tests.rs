//! A worker's parts without ports and threads, beside a master and a store that a test controls: all in one process.

#[path = "../../tests/worker/master.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
pub mod master;

use super::{Assembly, Ways, open_store};
use crate::config::{DirectoryConfig, WorkerConfig};
use crate::dial::{Dial, Wire};
use crate::error::WorkerError;
use crate::master_link::MountFacts;
use crate::metrics::Metrics;
use crate::peers::Sockets;
use crate::store::BlockStore;
use crate::store::io::memory::MemoryIo;
use master::{File, Master};
use proto::internal::worker_master_server::WorkerMasterServer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tier::{Medium, Watermarks};
use tower::Service as _;
use tower::util::BoxCloneSyncService;
use types::{Ordinal, WriteType};
use ufs::{Key, UfsError, UnderStore, WriteOptions};

static STORES: AtomicU64 = AtomicU64::new(0);

/// Everything a stream of a client meets.
pub struct Parts {
    pub assembly: Assembly,
    pub store: BlockStore,
    pub metrics: Arc<Metrics>,
    pub master: Arc<Master>,
    /// What is below, without what `new` put in front of it.
    pub under: Arc<dyn UnderStore>,
}

/// The way to a master that is in this process.
struct Here(Arc<Master>);

#[tonic::async_trait]
impl Dial for Here {
    async fn dial(&self, _address: &str) -> Result<Wire, WorkerError> {
        let server = WorkerMasterServer::from_arc(Arc::clone(&self.0));
        let ask = move |request: http::Request<tonic::body::Body>| {
            let mut server = server.clone();
            async move {
                match server.call(request).await {
                    Ok(answer) => Ok(answer),
                    Err(never) => match never {},
                }
            }
        };
        Ok(BoxCloneSyncService::new(tower::service_fn(ask)))
    }
}

impl Parts {
    /// On the present runtime. `front` is put in front of the store.
    pub fn new(front: impl Fn(Arc<dyn UnderStore>) -> Arc<dyn UnderStore> + Send + Sync + 'static) -> Parts {
        let uri = format!("mem://parts-{}", STORES.fetch_add(1, Ordering::Relaxed));
        let under = ufs::open(&uri, &BTreeMap::new(), &BTreeMap::new()).expect("a store in memory");
        let home = tempfile::tempdir().expect("a directory");
        let key_file = home.path().join("key");
        let master = Master::new(&key_file, &uri);
        let token = rpc::ClusterKey::load(&key_file).expect("just made").token();
        let directory = DirectoryConfig {
            path: "/blocks".into(),
            tier: Ordinal(0),
            medium: Medium::Ssd,
            quota_bytes: 256 << 20,
            watermarks: Watermarks::default(),
        };
        let mut config = WorkerConfig::local(vec![directory], home.path().join("work"), key_file);
        config.masters = vec!["here:0".to_owned()];
        let metrics = Arc::new(Metrics::default());
        let (store, identity) =
            open_store(&config, Arc::new(MemoryIo::default()), Arc::clone(&metrics), 7).expect("a disk in memory");
        let front = Arc::new(front(Arc::clone(&under)));
        let opens = move |_: &MountFacts| -> Result<Arc<dyn UnderStore>, UfsError> { Ok(Arc::clone(&front)) };
        let ways = Ways {
            token: Arc::new(token),
            dial: Arc::new(Here(Arc::clone(&master))),
            opens: Arc::new(opens),
            peers: Arc::new(Sockets::new(false)),
            clock: Arc::new(rpc::SystemClock),
            entropy: Arc::new(rpc::SystemEntropy),
        };
        let assembly = Assembly::new(config, ways, store.clone(), identity, Arc::clone(&metrics));
        Parts { assembly, store, metrics, master, under }
    }

    /// An object in the store, and a complete file that stands for it.
    pub async fn object(&self, container: u64, content: &[u8], block_bytes: u64) {
        let key = format!("data/{container}");
        let at = Key::parse(&key).expect("a key");
        let mut writer = self.under.write(&at, WriteOptions::default()).await.expect("memory");
        writer.write(content.to_vec().into()).await.expect("memory");
        let fingerprint = writer.finish().await.expect("memory").fingerprint.expect("memory has tags").to_string();
        let length = u64::try_from(content.len()).expect("small");
        let file = File { key, fingerprint, length, complete: true, ..being_written("", block_bytes) };
        self.master.add(container, file);
    }
}

/// A file that is being written, at a key of the store or in the cache alone.
pub fn being_written(key: &str, block_bytes: u64) -> File {
    File {
        key: key.to_owned(),
        fingerprint: String::new(),
        length: 0,
        block_bytes,
        complete: false,
        write_type: if key.is_empty() { WriteType::MustCache } else { WriteType::Through },
        cacheable: true,
        only: None,
    }
}
