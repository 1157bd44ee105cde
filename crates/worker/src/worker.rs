//! A worker, put together.

use crate::assembly::{Assembly, Ways, open_store};
use crate::config::WorkerConfig;
use crate::dial::Tcp;
use crate::error::WorkerError;
use crate::fetch::Fetcher;
use crate::grpc::{READ_BLOCK, Service, WRITE_BLOCK};
use crate::master_link::MasterLink;
use crate::metrics::Metrics;
use crate::mounts::open_described;
use crate::peers::Sockets;
use crate::store::BlockStore;
use crate::store::io::BlockIo;
use crate::web::{Web, router};
use proto::admin::worker_admin_server::WorkerAdminServer;
use proto::grpc::block::block_worker_server::BlockWorkerServer;
use rpc::{
    AuthType, Channels, Groups, Identify, IdentityRules, Impersonation, Routes, Running, Sasl, Server, ServerConfig,
    WorkerToken,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tower::Layer;
use tracing::{info, warn};
use types::{Clock, Entropy, WorkerId};

/// What a worker takes from outside.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub io: Arc<dyn BlockIo>,
}

impl Env {
    /// The machine's own.
    pub fn system() -> Env {
        Env {
            clock: Arc::new(rpc::SystemClock),
            entropy: Arc::new(rpc::SystemEntropy),
            io: Arc::new(crate::store::io::real::RealIo),
        }
    }
}

/// A worker that runs. Dropping it cuts everything; [`Worker::stop`] drains.
pub struct Worker {
    server: Running,
    web_addr: SocketAddr,
    link: Arc<MasterLink>,
    store: BlockStore,
    metrics: Arc<Metrics>,
    registered: Arc<AtomicBool>,
    tasks: TaskTracker,
    fetcher: Fetcher,
    stop: watch::Sender<bool>,
    driver: JoinHandle<()>,
    web: JoinHandle<()>,
}

impl Worker {
    /// Opens the directories, binds both ports, starts to serve and to look for a master. Returns before a master
    /// answered: [`Worker::is_registered`] and `/readyz` tell.
    ///
    /// Runs on the present tokio runtime; connections have threads of their own. Errors: a sentence for each thing that
    /// is wrong with directories, key file, addresses.
    pub async fn start(config: WorkerConfig, env: Env) -> Result<Worker, WorkerError> {
        let setup = |error: rpc::Error| WorkerError::Layout { why: types::sentence(&error) };
        let token = WorkerToken::load(&config.key_file).map_err(setup)?;
        let metrics = Arc::new(Metrics::default());
        let (store, identity) = {
            let (config, io, metrics) = (config.clone(), Arc::clone(&env.io), Arc::clone(&metrics));
            let fresh = env.entropy.next_u128();
            let open = move || open_store(&config, io, metrics, fresh);
            tokio::task::spawn_blocking(open).await.map_err(|_| WorkerError::Stopping)?.map_err(no_directory)?
        };
        std::fs::create_dir_all(&config.work_dir)
            .map_err(|error| no_directory(WorkerError::disk("make", &config.work_dir, error)))?;
        let channels = Channels::open(&config.work_dir.join("channels")).map_err(setup)?;
        let server_config = ServerConfig {
            name: "GooseFS worker RPC".to_owned(),
            hint: format!("The web pages are on port {}.", config.web_addr.port()),
            threads: config.rpc_threads.max(1),
            ..ServerConfig::default()
        };
        let server = Server::bind(&config.rpc_addr.to_string(), server_config).map_err(|error| {
            let why = types::sentence(&error);
            WorkerError::Layout { why: format!("{why}; see goosefs.worker.bind.host and goosefs.worker.rpc.port") }
        })?;
        let web_listener = tokio::net::TcpListener::bind(config.web_addr).await.map_err(|error| {
            let address = config.web_addr;
            WorkerError::Layout {
                why: format!(
                    "cannot listen on {address} for web pages: {error}; set goosefs.worker.web.bind.host to an address \
                     of this host and goosefs.worker.web.port to a free port"
                ),
            }
        })?;
        let unknown = |error| WorkerError::Disk {
            verb: "look up the address of",
            path: "the web listener".into(),
            source: Arc::new(error),
        };
        let web_addr = web_listener.local_addr().map_err(unknown)?;

        let ways = Ways {
            token: Arc::new(token),
            dial: Arc::new(Tcp::new(config.master_timeout)),
            opens: Arc::new(open_described),
            peers: Arc::new(Sockets::new(config.nosasl)),
            clock: Arc::clone(&env.clock),
            entropy: Arc::clone(&env.entropy),
        };
        let parts = Assembly::new(config.clone(), ways, store.clone(), identity, Arc::clone(&metrics));
        let server = serve(server, &config, Arc::clone(&parts.service), channels, &env).map_err(setup)?;
        info!(rpc = %server.local_addr(), web = %web_addr, blocks = store.block_count(), "worker serves");

        let (stop, stopped) = watch::channel(false);
        let driver = parts.driver(server.local_addr().port(), web_addr.port());
        let driver = tokio::spawn(driver.run(stopped.clone()));
        let Assembly { leader: link, fetcher, tasks, registered, .. } = parts;
        let pages =
            router(Web { store: store.clone(), metrics: Arc::clone(&metrics), registered: Arc::clone(&registered) });
        let web = tokio::spawn(async move {
            let mut stopped = stopped;
            let end = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(web_listener, pages).with_graceful_shutdown(end).await {
                warn!(%error, "web pages ended");
            }
        });
        Ok(Worker { server, web_addr, link, store, metrics, registered, tasks, fetcher, stop, driver, web })
    }

    /// Where clients connect.
    pub fn rpc_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }
    /// Where health and metrics are.
    pub fn web_addr(&self) -> SocketAddr {
        self.web_addr
    }
    /// A master accepts this worker now.
    pub fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }
    /// Why a master that answers does not take this worker; it is asked again all the same.
    pub async fn refusal(&self) -> Option<String> {
        self.link.refusal().await
    }
    /// None until a master gave one.
    pub fn id(&self) -> Option<WorkerId> {
        self.link.own().worker
    }
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    /// Blocks here.
    pub fn block_count(&self) -> usize {
        self.store.block_count()
    }
    /// Memory block data in flight take now.
    pub fn held_bytes(&self) -> u64 {
        self.store.budget().held_bytes()
    }
    /// How many read or fill a block now.
    #[doc(hidden)]
    pub fn opens(&self, block: types::BlockId) -> u32 {
        self.store.opens(block)
    }
    /// Panics when the store's accounting is wrong.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.store.check_invariants();
    }

    /// Stops accepting, lets streams end until `drain` has passed, writes what is not on disk yet. The directories are
    /// free for another worker when it returns.
    pub async fn stop(self, drain: Duration) {
        let cut = self.server.stop(drain).await;
        if cut > 0 {
            warn!(connections = cut, "connections cut at the end of the drain");
        }
        self.stop.send_replace(true);
        self.fetcher.close();
        self.tasks.close();
        if timeout(drain, self.tasks.wait()).await.is_err() {
            warn!(tasks = self.tasks.len(), "tasks did not end in time");
        }
        let _ = self.driver.await;
        let _ = timeout(drain, self.web).await;
        self.store.release();
        info!("worker stopped");
    }
}

/// What keeps a worker from starting is told with what to do about it.
fn no_directory(error: WorkerError) -> WorkerError {
    match &error {
        WorkerError::Disk { source, .. } => {
            WorkerError::Layout { why: format!("cannot {}; {}", error.sentence(), types::remedy(source)) }
        }
        _ => error,
    }
}

/// Routes on one port: SASL, the block service, its two streams without tonic's codec, and our own service.
fn serve(
    server: Server,
    config: &WorkerConfig,
    service: Arc<Service>,
    channels: Arc<Channels>,
    env: &Env,
) -> Result<Running, rpc::Error> {
    let rules = IdentityRules {
        auth: if config.nosasl { AuthType::NoSasl } else { AuthType::Simple },
        nosasl_user: config.nosasl_user.clone(),
        strict_channel: config.strict_channel,
    };
    let groups = Groups::system(Arc::clone(&env.clock));
    let sasl =
        Sasl::new(rules.clone(), Impersonation::none(), Arc::clone(&channels), Arc::clone(&groups), server.stopping());
    let identify = Identify::new(rules, channels, groups);
    server.serve(move |_| {
        let (reads, writes) = (Arc::clone(&service), Arc::clone(&service));
        let blocks = BlockWorkerServer::from_arc(Arc::clone(&service))
            .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(rpc::MAX_ANSWER_BYTES);
        let admin = WorkerAdminServer::from_arc(Arc::clone(&service))
            .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(rpc::MAX_ANSWER_BYTES);
        let routes = Routes::new()
            .service(sasl.server())
            .service(blocks)
            .service(admin)
            .method(READ_BLOCK, move |request| crate::grpc::read_block::serve(Arc::clone(&reads), request))
            .method(WRITE_BLOCK, move |request| crate::grpc::write_block::serve(Arc::clone(&writes), request));
        identify.layer(routes)
    })
}
