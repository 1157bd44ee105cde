//! A worker's parts, put together on an open block store: all of it but the ports.

use crate::budget::Budget;
use crate::config::WorkerConfig;
use crate::dial::Dial;
use crate::driver;
use crate::error::WorkerError;
use crate::fetch::{Fetcher, Sequences};
use crate::grpc::{ASYNC_CACHES_MAX, Service};
use crate::master_link::MasterLink;
use crate::metrics::Metrics;
use crate::mounts::{Mounts, OpenStore};
use crate::peers::Peers;
use crate::persist::Persister;
use crate::read::Reads;
use crate::resolve::Resolver;
use crate::store::io::BlockIo;
use crate::store::{BlockStore, Identity};
use crate::write::Writes;
use rpc::WorkerToken;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use types::{Clock, Entropy};

#[cfg(test)]
pub mod tests;

/// Of the memory budget, the share block data in flight may take; connections, tables and the runtime have the rest.
const DATA_SHARE: u64 = 2;

/// Opens the storage directories; see [`BlockStore::open`]. `fresh` names this worker if all of them are new. Blocking.
pub fn open_store(
    config: &WorkerConfig,
    io: Arc<dyn BlockIo>,
    metrics: Arc<Metrics>,
    fresh: u128,
) -> Result<(BlockStore, Identity), WorkerError> {
    let budget = Budget::new(config.memory_budget_bytes / DATA_SHARE);
    BlockStore::open(&config.directories, config.tier_settings(), io, budget, metrics, fresh)
}

/// What the parts talk to.
pub struct Ways {
    pub token: Arc<WorkerToken>,
    pub dial: Arc<dyn Dial>,
    pub opens: Arc<OpenStore>,
    pub peers: Arc<dyn Peers>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// The parts, and how to call the worker from outside.
pub struct Assembly {
    config: WorkerConfig,
    ways: Ways,
    store: BlockStore,
    metrics: Arc<Metrics>,
    mounts: Arc<Mounts>,
    /// One way to each master.
    links: Vec<Arc<MasterLink>>,
    /// The way to whoever leads.
    pub leader: Arc<MasterLink>,
    pub fetcher: Fetcher,
    pub tasks: TaskTracker,
    pub service: Arc<Service>,
    pub registered: Arc<AtomicBool>,
}

impl Assembly {
    /// Fetches run on the present runtime. Nothing is asked of anybody yet.
    pub fn new(
        config: WorkerConfig,
        ways: Ways,
        store: BlockStore,
        identity: Identity,
        metrics: Arc<Metrics>,
    ) -> Assembly {
        let patience = config.master_timeout;
        let link = |masters: &[String]| {
            let (token, dial) = (Arc::clone(&ways.token), Arc::clone(&ways.dial));
            Arc::new(MasterLink::new(masters.to_vec(), token, patience, dial, identity))
        };
        let leader = link(&config.masters);
        // With one master both ways are one.
        let links = match &config.masters[..] {
            [] | [_] => vec![Arc::clone(&leader)],
            several => several.iter().map(|master| link(std::slice::from_ref(master))).collect(),
        };
        let tasks = TaskTracker::new();
        let resolver = Arc::new(Resolver::new(Arc::clone(&leader), Arc::clone(&ways.clock), Arc::clone(&metrics)));
        let mounts = Arc::new(Mounts::new(
            Arc::clone(&leader),
            Arc::clone(&ways.opens),
            Arc::clone(&ways.clock),
            Arc::clone(&ways.entropy),
            config.fetches_per_store,
        ));
        let fetcher = Fetcher::new(
            Arc::clone(store.budget()),
            Arc::clone(&metrics),
            Arc::clone(&mounts),
            Arc::clone(&resolver),
            tasks.clone(),
        );
        let reads = Arc::new(Reads {
            store: store.clone(),
            resolver: Arc::clone(&resolver),
            fetcher: fetcher.clone(),
            sequences: Sequences::default(),
            metrics: Arc::clone(&metrics),
        });
        let writes = Arc::new(Writes {
            store: store.clone(),
            resolver,
            mounts: Arc::clone(&mounts),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&ways.clock),
        });
        let loads = Arc::new(Semaphore::new(ASYNC_CACHES_MAX));
        let service = Arc::new(Service { reads, writes, tasks: tasks.clone(), loads });
        let registered = Arc::new(AtomicBool::new(false));
        Assembly { config, ways, store, metrics, mounts, links, leader, fetcher, tasks, service, registered }
    }

    /// The loop of a worker that clients reach at these ports.
    pub fn driver(&self, rpc_port: u16, web_port: u16) -> driver::Driver {
        let persister = Persister::new(
            self.store.clone(),
            Arc::clone(&self.mounts),
            Arc::clone(&self.leader),
            Arc::clone(&self.metrics),
            Arc::clone(&self.ways.peers),
            self.config.persist_concurrency,
        );
        let parts = driver::Parts {
            store: self.store.clone(),
            links: self.links.clone(),
            leader: Arc::clone(&self.leader),
            resolver: Arc::clone(&self.service.reads.resolver),
            persister: Arc::new(persister),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::clone(&self.ways.clock),
            host: self.config.hostname.clone(),
            rpc_port,
            web_port,
            registered: Arc::clone(&self.registered),
        };
        driver::Driver::new(parts, self.ways.entropy.next_u64())
    }
}
