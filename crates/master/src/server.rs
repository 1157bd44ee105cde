//! Starts a master and stops it: opens the state, runs the core, serves the ports.

use crate::config::{GroupConfig, MasterConfig, Metastore};
use crate::core::{Core, CoreConfig};
use crate::driver::{Driver, Handle, channel, on_persisted};
use crate::error::Error;
use crate::peers::{Group, Members, Peers};
use crate::shared::Shared;
use crate::stores::{Opener, Stores};
use crate::wire::admin::Operators;
use crate::wire::file_system::{Checks, FileSystem};
use crate::wire::metrics::ClientMetrics;
use crate::wire::namespace::{reach, split_secrets};
use crate::wire::version::Version;
use crate::wire::worker_manager::WorkerManager;
use crate::wire::worker_master::WorkerGate;
use journal::disk::RealDisk;
use journal::{Boot, JournalLog, LogWriter, MemberId, Node, NodeConfig, Recovered, SegmentLog, SegmentOptions};
use meta::{Format, MountSpec, Namespace};
use proto::admin::admin_server::AdminServer;
use proto::grpc::block::worker_manager_master_client_service_server::WorkerManagerMasterClientServiceServer;
use proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientServiceServer;
use proto::grpc::metric::metrics_master_client_service_server::MetricsMasterClientServiceServer;
use proto::grpc::version::service_version_client_service_server::ServiceVersionClientServiceServer;
use proto::internal::worker_master_server::WorkerMasterServer;
use rpc::{
    AuthType, Channels, ClusterKey, Groups, Identify, IdentityRules, Impersonation, MAX_MESSAGE_BYTES, Routes, Running,
    Sasl, Server, ServerConfig,
};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{DirDisk, HeapStore, Lru, Published, RocksConfig, RocksStore};
use tokio::sync::watch;
use tower::Layer;
use types::{Clock, ClusterId, Entropy, Mode};

/// The only member of a group of one.
const MEMBER: MemberId = MemberId(1);
/// Ticks of the log's member in one election timeout: enough that members draw different ones.
const ELECTION_TICKS: u32 = 25;
/// Committed entries applied in one turn of one of several masters: heartbeats do not wait longer than that takes.
const APPLY_BYTES: usize = 256 << 10;
/// What a store may still be carrying out after the master that asked it was deposed, beyond the lease.
pub(crate) const STORE_REST: Duration = Duration::from_secs(2);
/// How long a start may take from an opened state to leading.
const LEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long the core's own proposals may take.
const TASK_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest `Bytes` of a listing message and its like.
const ANSWER_BYTES: usize = rpc::MAX_ANSWER_BYTES;
/// File with the channel registrations, below the work directory.
const CHANNELS: &str = "channels";

/// A running master.
pub struct Master {
    handle: Handle,
    rpc: Running,
    internal: Running,
    web: tokio::task::JoinHandle<()>,
    web_addr: SocketAddr,
    core: std::thread::JoinHandle<()>,
    fatal: watch::Receiver<Option<String>>,
}

impl Master {
    /// Opens the state, takes the lead, and serves. Returns when metadata are served; one of several masters returns when
    /// it takes part, whoever leads.
    ///
    /// Errors: one sentence each for a port in use, a directory that is missing, not formatted, damaged, foreign, or of a
    /// newer release, a missing key, a root store that cannot be reached or is another than before. Must be called on a
    /// multi-threaded tokio runtime, which then also runs the jobs at under stores.
    pub async fn start(
        config: MasterConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Master, Error> {
        let began = clock.monotonic();
        let rpc = bind(config.rpc_addr, &config, "GooseFS master RPC", "goosefs.master.rpc.port")?;
        let internal = "GooseFS internal RPC, for workers";
        let internal = bind(config.internal_addr, &config, internal, "goosefs.master.internal.rpc.port")?;
        let peers = config.group.as_ref().map(|group| {
            bind(group.listen, &config, "GooseFS journal, for other masters", "goosefs.master.embedded.journal.port")
        });
        let peers = peers.transpose()?;
        let web = tokio::net::TcpListener::bind(config.web_addr).await.map_err(|err| {
            Error::Start(format!(
                "cannot listen on {} for web pages: {err}; set goosefs.master.web.bind.host to an address of this host \
                 and goosefs.master.web.port to a free port",
                config.web_addr
            ))
        })?;
        let key = Arc::new(ClusterKey::load(&config.key_file).map_err(start)?);
        let group = open_group(&config)?;
        let (log, recovered) = open_log(&config, group.as_ref().map(|_| key.group_id()))?;
        let state = open_state(&config, recovered.cluster)?;
        let opener = Opener { clock: clock.clone(), entropy: entropy.clone() };
        let root = root_mount(&config, &*state, &key, &opener).await?;
        let policy = || -> Box<dyn store::Policy> { Box::new(Lru::default()) };
        let published = Published::new(state.clone(), config.cache_bytes, policy);
        let applied = state.applied();
        // The cluster of a group is what the first leader's first entry says.
        let cluster = if group.is_some() { ClusterId(entropy.next_u128()) } else { recovered.cluster };
        let tail = recovered.last().0.saturating_sub(applied.0);
        let shared = Arc::new(Shared::new(config.clone(), published, clock.clone(), entropy.clone()));
        let namespace = Namespace::open(&shared.state.latest())?;
        for worker in shared.read_any(meta::workers)? {
            shared.registry.lock().expect(&worker);
        }
        let boot = Boot { applied, now: clock.monotonic(), seed: entropy.next_u64() };
        let node_config = node_config(&config, group.as_ref());
        let rest = node_config.lease + STORE_REST;
        let node = Node::new(node_config, recovered, log.reader(), boot).map_err(start)?;
        let (handle, inbox) = channel(shared.clone());
        let alone = node.is_alone();
        let peers = match (peers, group) {
            (Some(server), Some(group)) => Peers::start(server, group, &key, &handle).map_err(start)?,
            _ => Peers::nobody(),
        };
        let writer = LogWriter::start(log, clock.clone(), on_persisted(&handle))
            .map_err(|err| Error::Start(format!("start the journal's thread: {err}")))?;
        let stores = Arc::new(Stores::new(shared.clone(), key.clone()));
        let (fatal, fatal_seen) = watch::channel(None);
        let driver = Driver {
            core: Core::new(core_config(&config, cluster, root, rest), node, namespace, shared.clone()),
            writer,
            stores: stores.clone(),
            handle: handle.clone(),
            peers,
            runtime: tokio::runtime::Handle::current(),
            fatal,
        };
        let core = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || driver.run(inbox))
            .map_err(|err| Error::Start(format!("start the state thread: {err}")))?;
        if alone {
            wait_for_lead(&shared, fatal_seen.clone()).await?;
        }
        let leads = shared.leads();
        tracing::info!(tail, took = ?(clock.monotonic() - began), applied = shared.applied().0, leads, "state opened");

        let groups = Groups::system(clock.clone());
        let fs = FileSystem { handle: handle.clone(), checks: Arc::new(Checks::default()), key: key.clone() };
        let rpc = serve_clients(rpc, &config, &shared, fs, groups.clone())?;
        let gate = Arc::new(WorkerGate::new(handle.clone(), stores, &key, groups));
        let workers = WorkerMasterServer::from_arc(gate).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let routes = Routes::new().service(workers);
        let internal = internal.serve(move |_| routes.clone()).map_err(start)?;
        let web_addr = web.local_addr().map_err(|err| Error::Start(format!("the web port: {err}")))?;
        let pages = crate::web::routes(shared.clone());
        let web = tokio::spawn(async move {
            if let Err(err) = axum::serve(web, pages).await {
                tracing::error!(%err, "the web port stopped");
            }
        });
        Ok(Master { handle, rpc, internal, web, web_addr, core, fatal: fatal_seen })
    }

    /// Where clients connect, with the real port.
    pub fn rpc_addr(&self) -> SocketAddr {
        self.rpc.local_addr()
    }
    /// Where workers connect.
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal.local_addr()
    }
    pub fn web_addr(&self) -> SocketAddr {
        self.web_addr
    }

    /// Whether clients can work: it leads, or follows who does.
    pub fn is_ready(&self) -> bool {
        self.handle.shared.is_ready()
    }

    /// Workers that are registered and alive.
    pub fn live_workers(&self) -> usize {
        self.handle.shared.registry.lock().live()
    }

    /// Resolves with the reason when this master can no longer go on. Cancel-safe.
    pub async fn failed(&self) -> String {
        let mut fatal = self.fatal.clone();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the state thread ended".to_owned(),
        }
    }

    /// Stops accepting, lets calls end within `drain`, flushes so that the next start replays nothing, and ends.
    pub async fn stop(self, drain: Duration) -> Result<(), Error> {
        self.rpc.stop(drain).await;
        self.internal.stop(drain).await;
        self.web.abort();
        let drained = self.handle.drain(drain.max(Duration::from_secs(10))).await;
        self.handle.stop();
        let core = self.core;
        // The thread ends once it has read the stop; joining it must not block the runtime.
        let joined = tokio::task::spawn_blocking(move || core.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            return Err(Error::Start(
                "the state thread panicked; the journal holds everything acknowledged".to_owned(),
            ));
        }
        drained
    }
}

/// Why a start failed, with all causes.
fn start(err: impl std::error::Error) -> Error {
    Error::Start(types::sentence(&err))
}

/// - `key`: the setting that names the port.
fn bind(address: SocketAddr, config: &MasterConfig, name: &str, key: &str) -> Result<Server, Error> {
    let hint = format!("The web pages are on port {}.", config.web_addr.port());
    let server = ServerConfig { name: name.to_owned(), hint, threads: config.rpc_threads, ..ServerConfig::default() };
    let bound = Server::bind(&address.to_string(), server);
    bound.map_err(|err| Error::Start(format!("{}; see goosefs.master.bind.host and {key}", types::sentence(&err))))
}

/// The group's file, if this master is one of several by its journal and by its settings alike.
fn open_group(config: &MasterConfig) -> Result<Option<Group>, Error> {
    const KEY: &str = "goosefs.master.embedded.journal.addresses";
    let dir = config.journal_dir.display();
    match (Group::open(&config.journal_dir).map_err(start)?, &config.group) {
        (None, None) => Ok(None),
        (Some(group), Some(wanted)) => {
            let members = Members::new(&wanted.members).map_err(Error::Start)?;
            group.check(&members).map_err(start)?;
            if members.id(&wanted.own) != Some(group.own) {
                return Err(Error::Start(format!(
                    "{dir} is the journal of {}, but this master is {}; start it with its own journal directory",
                    members.address(group.own).unwrap_or_default(),
                    wanted.own
                )));
            }
            Ok(Some(group))
        }
        (Some(group), None) => Err(Error::Start(format!(
            "{dir} is the journal of a group of masters; set {KEY}={} as before",
            group.members.addresses().join(",")
        ))),
        // Not formatted at all: the log says so better.
        (None, Some(_)) if !config.journal_dir.exists() => Ok(None),
        (None, Some(_)) => Err(Error::Start(format!(
            "{dir} was not formatted for a group of masters, but {KEY} names several; take the setting out to go on with \
             this master alone, or format all masters with it, which begins an empty namespace"
        ))),
    }
}

fn node_config(config: &MasterConfig, group: Option<&Group>) -> NodeConfig {
    let (Some(group), Some(told)) = (group, &config.group) else { return NodeConfig::new(MEMBER, vec![MEMBER]) };
    one_of_several(told, group.own, group.members.ids())
}

/// The log's member of one of several masters.
pub(crate) fn one_of_several(told: &GroupConfig, own: MemberId, all: Vec<MemberId>) -> NodeConfig {
    let (tick, heartbeat_ticks, election_ticks) = ticks(told);
    NodeConfig {
        tick,
        heartbeat_ticks,
        election_ticks,
        lease: told.election_timeout / 5 * 4,
        max_committed_bytes: APPLY_BYTES,
        ..NodeConfig::new(own, all)
    }
}

/// The member's tick, and heartbeat and election timeout in ticks.
fn ticks(group: &GroupConfig) -> (Duration, u32, u32) {
    let tick = (group.election_timeout / ELECTION_TICKS).min(group.heartbeat).max(Duration::from_millis(1));
    let count = |time: Duration| u32::try_from(time.as_nanos() / tick.as_nanos()).unwrap_or(u32::MAX / 4).max(1);
    (tick, count(group.heartbeat), count(group.election_timeout))
}

/// - `bound_to`: the id the log must have, if it is known.
fn open_log(config: &MasterConfig, bound_to: Option<ClusterId>) -> Result<(SegmentLog<RealDisk>, Recovered), Error> {
    let options = SegmentOptions { segment_bytes: config.segment_bytes };
    let (log, recovered) = SegmentLog::open(RealDisk, &config.journal_dir, bound_to, options).map_err(start)?;
    if let Some(cut) = &recovered.cut {
        tracing::warn!(file = %cut.path.display(), offset = cut.offset, "a torn batch at the end of the log was cut: it was never acknowledged");
    }
    Ok((log, recovered))
}

fn open_state(config: &MasterConfig, cluster: ClusterId) -> Result<Arc<dyn meta::Store>, Error> {
    Ok(match config.metastore {
        Metastore::Rocks => {
            let cache = usize::try_from(config.memory_budget_bytes / 4).unwrap_or(usize::MAX);
            let rocks = RocksConfig { block_cache_bytes: cache, ..RocksConfig::default() };
            Arc::new(RocksStore::open(&config.metastore_dir, &rocks, cluster)?)
        }
        Metastore::Heap => {
            let disk = DirDisk::open(&config.metastore_dir)
                .map_err(|err| Error::Start(format!("open {}: {err}", config.metastore_dir.display())))?;
            Arc::new(HeapStore::open(Arc::new(disk), cluster)?)
        }
    })
}

/// The root store: reached when the namespace is made, compared afterwards.
async fn root_mount(
    config: &MasterConfig,
    state: &dyn meta::Store,
    key: &ClusterKey,
    opener: &Opener,
) -> Result<MountSpec, Error> {
    let known = meta::mounts(state)?.into_iter().find(|mount| mount.path.is_root());
    let all = config.root_properties.clone().into_iter().collect();
    let (properties, mut secrets) = split_secrets(all);
    secrets.extend(config.root_secrets.clone());
    let uri = match &known {
        None => reach(opener, &config.root_ufs, &properties, &secrets).await?,
        Some(_) => {
            opener.open(&config.root_ufs, &properties, &secrets).map(|store| store.uri().to_owned()).map_err(start)?
        }
    };
    if let Some(known) = known.filter(|known| known.uri != uri) {
        return Err(Error::Start(format!(
            "the root of this namespace is {}, but goosefs.master.mount.table.root.ufs says {uri}; set it back, or format \
             a new cluster",
            known.uri
        )));
    }
    let seal = |secret: &types::Secret| key.seal(secret.expose(), crate::stores::SECRET_CONTEXT.as_bytes());
    Ok(MountSpec {
        uri,
        read_only: false,
        shared: false,
        properties,
        secrets: secrets.iter().map(|(name, secret)| (name.clone(), seal(secret))).collect(),
        write_policy: None,
        read_policy: None,
    })
}

pub(crate) fn core_config(
    config: &MasterConfig,
    cluster: ClusterId,
    root: MountSpec,
    intent_rest: Duration,
) -> CoreConfig {
    CoreConfig {
        checkpoint_entries: config.checkpoint_entries,
        intent_wait: config.intent_wait,
        operation_retention: config.operation_retention,
        incomplete_expiry: config.incomplete_expiry,
        persist_concurrency: config.persist_concurrency,
        worker_timeout: config.worker_timeout,
        task_timeout: TASK_TIMEOUT,
        intent_rest,
        format: Format {
            cluster,
            owner: config.superuser.clone(),
            group: config.supergroup.clone(),
            mode: Mode::new(config.root_mode),
            root,
        },
    }
}

async fn wait_for_lead(shared: &Shared, mut fatal: watch::Receiver<Option<String>>) -> Result<(), Error> {
    let begun = shared.clock.monotonic();
    loop {
        if shared.leads() {
            return Ok(());
        }
        if let Some(why) = fatal.borrow_and_update().clone() {
            return Err(Error::Start(why));
        }
        if shared.clock.monotonic() - begun > LEAD_WITHIN && shared.applied() == shared.state.store().applied() {
            return Err(Error::Start(format!("this master did not take the lead within {LEAD_WITHIN:?}")));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn serve_clients(
    server: Server,
    config: &MasterConfig,
    shared: &Arc<Shared>,
    fs: FileSystem,
    groups: Arc<Groups>,
) -> Result<Running, Error> {
    let channels = open_channels(&config.work_dir)?;
    let rules = IdentityRules {
        auth: if config.nosasl { AuthType::NoSasl } else { AuthType::Simple },
        nosasl_user: config.nosasl_user.clone(),
        strict_channel: config.strict_channel,
    };
    let file_system = FileSystemMasterClientServiceServer::new(fs.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(ANSWER_BYTES);
    let metrics = MetricsMasterClientServiceServer::new(ClientMetrics(shared.clone()));
    let routes = Routes::new()
        .service(ServiceVersionClientServiceServer::new(Version(shared.clone())))
        .service(file_system)
        .service(WorkerManagerMasterClientServiceServer::new(WorkerManager(shared.clone())))
        .service(metrics.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .service(AdminServer::new(Operators { fs }));
    let identify = Identify::new(rules.clone(), channels.clone(), groups.clone());
    server
        .serve(move |thread| {
            let (rules, stopping) = (rules.clone(), thread.stopping.clone());
            let sasl = Sasl::new(rules, Impersonation::none(), channels.clone(), groups.clone(), stopping);
            identify.layer(routes.clone().service(sasl.server()))
        })
        .map_err(start)
}

fn open_channels(work_dir: &Path) -> Result<Arc<Channels>, Error> {
    std::fs::create_dir_all(work_dir)
        .map_err(|err| Error::Start(format!("cannot make {}: {err}; {}", work_dir.display(), types::remedy(&err))))?;
    Channels::open(&work_dir.join(CHANNELS)).map_err(start)
}

#[cfg(test)]
mod tests;
