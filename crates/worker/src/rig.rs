//! A worker without ports and threads: the simulator owns it, tells it the time, and hands it requests.
//!
//! Is:     all parts of a worker, its loop too, on a runtime of one thread whose time goes on only when it is told.
//! Owns:   one run of one worker. A crash is to drop it: what its tasks had under way is gone.
//! Never:  decides anything; part of a product binary.

use crate::assembly::{Assembly, open_store};
use crate::error::WorkerError;
use crate::grpc::{READ_BLOCK, WRITE_BLOCK, read_block, write_block};
use crate::metrics::Metrics;
use crate::store::BlockStore;
use crate::worker::Env;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected};
use proto::grpc::block::block_worker_server::BlockWorkerServer;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use tower::Service as _;
use types::WorkerId;

pub use crate::assembly::Ways;
pub use crate::config::WorkerConfig;
pub use crate::dial::{Dial, Wire};
pub use crate::master_link::MountFacts;
pub use crate::mounts::OpenStore;
pub use crate::peers::{Arriving, Peers};
pub use crate::store::Report;

/// How often all tasks get their turn before time stands still again: chains of tasks that wake each other are shorter.
const TURNS: usize = 32;

/// A whole answer, its trailers too.
pub type Whole = http::Response<Collected<Bytes>>;

/// A request being served. Dropping it is a client that went away.
pub struct Served {
    answer: oneshot::Receiver<Result<Whole, Status>>,
    task: AbortHandle,
}

/// One run of one worker.
pub struct Rig {
    // Dropped first: tasks end before what they use.
    runtime: Runtime,
    begun: Instant,
    parts: Assembly,
    store: BlockStore,
    _stop: watch::Sender<bool>,
}

impl Rig {
    /// Opens the directories and begins to look for masters. The disk of `env` must not block
    /// ([`crate::BlockIo::pace`]).
    ///
    /// - `rpc_port`: where others are told to reach this worker.
    ///
    /// Errors: as those of a start on these directories.
    pub fn open(config: WorkerConfig, env: &Env, ways: Ways, rpc_port: u16) -> Result<Rig, WorkerError> {
        assert!(env.io.pace().is_some(), "threads that wait for disks are not of this thread");
        let metrics = Arc::new(Metrics::default());
        let fresh = env.entropy.next_u128();
        let (store, identity) = open_store(&config, Arc::clone(&env.io), Arc::clone(&metrics), fresh)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without IO needs nothing of the system");
        let (stop, stopped) = watch::channel(false);
        let (parts, begun) = {
            let _entered = runtime.enter();
            let parts = Assembly::new(config, ways, store.clone(), identity, metrics);
            tokio::spawn(parts.driver(rpc_port, 0).run(stopped));
            (parts, Instant::now())
        };
        Ok(Rig { runtime, begun, parts, store, _stop: stop })
    }

    /// Everything that happens until so much time has passed since the start.
    pub fn live_until(&self, since_start: Duration) {
        let until = self.begun + since_start;
        self.runtime.block_on(async {
            sleep_until(until).await;
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Begins to serve a request of the block service, as a connection hands it over: the caller's principal is one of its
    /// extensions. It goes on with [`Rig::live_until`].
    pub fn serve(&self, request: http::Request<rpc::Body>) -> Served {
        let service = Arc::clone(&self.parts.service);
        let (tell, answer) = oneshot::channel();
        let task = self.runtime.spawn(async move {
            let answer = match request.uri().path() {
                READ_BLOCK => read_block::serve(service, request).await,
                WRITE_BLOCK => write_block::serve(service, request).await,
                _ => match BlockWorkerServer::from_arc(service).call(request).await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                },
            };
            let (head, body) = answer.into_parts();
            let whole = body.collect().await.map(|body| http::Response::from_parts(head, body));
            // Whoever asked may be gone.
            let _ = tell.send(whole);
        });
        Served { answer, task: task.abort_handle() }
    }

    /// All committed blocks.
    pub fn blocks(&self) -> Vec<Report> {
        self.store.reports()
    }

    /// None until a master gave one.
    pub fn id(&self) -> Option<WorkerId> {
        self.parts.leader.own().worker
    }

    /// A master accepts it now.
    pub fn is_registered(&self) -> bool {
        self.parts.registered.load(Ordering::Relaxed)
    }

    /// Panics when the store's accounting is wrong.
    pub fn check_invariants(&self) {
        self.store.check_invariants();
    }
}

impl Served {
    /// The answer, once; Some(Err) if it was broken off.
    pub fn take(&mut self) -> Option<Result<Whole, Status>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(Status::unavailable("it was broken off"))),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}
