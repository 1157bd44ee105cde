//! Starts a master and stops it: opens the state, runs the core, serves the ports.

use crate::audits::Audits;
use crate::backup::Backups;
use crate::compaction::Compactions;
use crate::config::{GroupConfig, MasterConfig, Metastore};
use crate::core::{self, Core, CoreConfig};
use crate::driver::{Driver, Handle, Progress, channel, on_persisted};
use crate::error::Error;
use crate::install::{Dirs, Place, Snapshot};
use crate::peers::{Group, MAX_FETCHES, MESSAGE_BYTES, Peers, PeersConfig, wait_for_admission};
use crate::room::Rooms;
use crate::shared::Shared;
use crate::stores::{Opener, Stores};
use crate::wire::admin::Operators;
use crate::wire::batches::Batches;
use crate::wire::file_system::{Checks, FileSystem};
use crate::wire::metrics::ClientMetrics;
use crate::wire::namespace::{reach, split_secrets};
use crate::wire::version::Version;
use crate::wire::worker_manager::WorkerManager;
use crate::wire::worker_master::WorkerGate;
use journal::disk::RealDisk;
use journal::{
    Boot, JournalLog, LogWriter, MemberId, Membership, Node, NodeConfig, Recovered, SegmentLog, SegmentOptions,
};
use meta::{Format, MountSpec, Namespace};
use proto::admin::admin_server::AdminServer;
use proto::admin::batches_server::BatchesServer;
use proto::admin::{admin_calls, batches_calls};
use proto::grpc::block::worker_manager_master_client_service_calls;
use proto::grpc::block::worker_manager_master_client_service_server::WorkerManagerMasterClientServiceServer;
use proto::grpc::file::file_system_master_client_service_calls;
use proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientServiceServer;
use proto::grpc::metric::metrics_master_client_service_calls;
use proto::grpc::metric::metrics_master_client_service_server::MetricsMasterClientServiceServer;
use proto::grpc::version::service_version_client_service_calls;
use proto::grpc::version::service_version_client_service_server::ServiceVersionClientServiceServer;
use proto::internal::worker_master_server::WorkerMasterServer;
use rpc::{
    AuthType, Channels, ClusterKey, FrameService, Groups, Identify, IdentityRules, Impersonation, MAX_MESSAGE_BYTES,
    Overload, Routes, Running, Sasl, Server, ServerConfig,
};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use store::{DirDisk, HeapStore, Published, RocksConfig, RocksStore};
use tokio::sync::watch;
use tower::Layer;
use types::{Clock, ClusterId, Entropy, Mode, Monotonic};

const GROUP_KEY: &str = "goosefs.master.embedded.journal.addresses";
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

/// How long handing the lead over may take at a clean stop; then the master stops as a leader.
const HANDS_OVER_WITHIN: Duration = Duration::from_secs(3);
/// After it callers are told for this long to ask another master, before their connections end: a call that crosses the end of
/// its connection fails in an official client, and one that is told to go elsewhere does not.
const CALLERS_LEAVE_WITHIN: Duration = Duration::from_millis(300);
/// How often it is looked whether something has come to pass.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A hand-over that came to nothing is tried again after this long.
const ASK_AGAIN: Duration = Duration::from_millis(700);
/// How often it is looked how full the disks are.
const LOOK_AT_DISKS_EVERY: Duration = Duration::from_secs(1);

/// Why a master that nobody asked to stop cannot go on as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// A person must look at it.
    Failed(String),
    /// A snapshot is here: the next start of this process installs it.
    Reopen,
}

/// A running master.
pub struct Master {
    handle: Handle,
    rpc: Running,
    internal: Running,
    web: tokio::task::JoinHandle<()>,
    rooms: tokio::task::JoinHandle<()>,
    web_addr: SocketAddr,
    core: JoinHandle<()>,
    fatal: watch::Receiver<Option<String>>,
    fetched: watch::Receiver<Option<Snapshot>>,
}

impl Master {
    /// Opens the state, takes the lead, and serves. Returns when metadata are served; one of several masters returns when
    /// it takes part, whoever leads; one that was formatted to join a group first waits until that takes it in.
    ///
    /// Errors: one sentence each for a port in use, a directory that is missing, not formatted, damaged, foreign, or of a
    /// newer release, a missing key, a root store that cannot be reached or is another than before. Must be called on a
    /// multi-threaded tokio runtime, which then also runs the jobs at under stores.
    pub async fn start(
        config: MasterConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Master, Error> {
        let key = Arc::new(ClusterKey::load(&config.key_file).map_err(start)?);
        let group = join_group(&config, &key, &entropy).await?;
        let began = clock.monotonic();
        let threads = config.rpc_threads;
        let rpc = bind(config.rpc_addr, &config, serving("GooseFS master RPC", threads), "goosefs.master.rpc.port")?;
        let internal = "GooseFS internal RPC, for workers";
        let internal =
            bind(config.internal_addr, &config, serving(internal, threads), "goosefs.master.internal.rpc.port")?;
        let peers = config.group.as_ref().map(|group| bind_journal(group, &config)).transpose()?;
        let web = tokio::net::TcpListener::bind(config.web_addr).await.map_err(|err| {
            Error::Start(format!(
                "cannot listen on {} for web pages: {err}; set goosefs.master.web.bind.host to an address of this host \
                 and goosefs.master.web.port to a free port",
                config.web_addr
            ))
        })?;
        let web_addr = web.local_addr().map_err(|err| Error::Start(format!("the web port: {err}")))?;
        let channels = open_channels(&config.work_dir)?;
        let place = place(&config, &key);
        if group.is_some()
            && let Some(snapshot) = place.finish().map_err(start)?
        {
            tracing::info!(index = %snapshot.index, term = %snapshot.term, "a snapshot took the place of the state");
        }
        let (log, recovered) = open_log(&config, group.as_ref().map(|_| key.group_id()))?;
        let state = open_state(&config, &config.metastore_dir, recovered.cluster)?;
        place.sweep().map_err(start)?;
        let opener = Opener { clock: clock.clone(), entropy: entropy.clone() };
        let root = root_mount(&config, &*state, &key, &opener).await?;
        let applied = state.applied();
        // The cluster of a group is what the first leader's first entry says.
        let cluster = if group.is_some() { ClusterId(entropy.next_u128()) } else { recovered.cluster };
        let tail = recovered.last().0.saturating_sub(applied.0);
        let (shared, namespace) = publish(&config, state.clone(), clock.clone(), entropy.clone())?;
        let boot = Boot { applied, now: clock.monotonic(), seed: entropy.next_u64() };
        let mut members = members_of(&config, &*state, group.as_ref())?;
        let recover = config.group.as_ref().is_some_and(|group| group.recover);
        if let Some(group) = group.as_ref().filter(|_| recover) {
            reduce_to(group.own, &mut members, &*state)?;
        }
        let node_config = node_config(&config, group.as_ref(), members.clone());
        let rest = node_config.lease + STORE_REST;
        let node = Node::new(node_config, recovered, log.reader(), boot).map_err(start)?;
        let (handle, inbox) = channel(shared.clone());
        let alone = config.group.is_none();
        let (snapshots, fetched) = watch::channel(None);
        let peers = match (peers, group, &config.group) {
            (Some(server), Some(group), Some(told)) => {
                let config = PeersConfig {
                    server,
                    group,
                    own_address: told.own.clone(),
                    priority: told.priority,
                    members: Arc::new(members),
                    metastore_dir: config.metastore_dir.clone(),
                    store: config.metastore.name(),
                    snapshot_bandwidth: told.snapshot_bandwidth,
                };
                Peers::start(config, &key, &handle, snapshots).map_err(start)?
            }
            _ => Peers::nobody(),
        };
        let writer = LogWriter::start(log, clock.clone(), on_persisted(&handle))
            .map_err(|err| Error::Start(format!("start the journal's thread: {err}")))?;
        shared.metrics.watch_journal(writer.stats());
        let stores = Arc::new(Stores::new(shared.clone(), key.clone()));
        let (fatal, fatal_seen) = watch::channel(None);
        let driver = Driver {
            core: Core::new(
                CoreConfig { recover, ..core_config(&config, cluster, root, rest) },
                node,
                namespace,
                shared.clone(),
            ),
            writer: Arc::new(writer),
            stores: stores.clone(),
            handle: handle.clone(),
            peers,
            runtime: tokio::runtime::Handle::current(),
            fatal,
            progress: Progress::default(),
        };
        let core = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || driver.run(inbox))
            .map_err(|err| Error::Start(format!("start the state thread: {err}")))?;
        if alone && let Err(why) = wait_for_lead(&shared, fatal_seen.clone()).await {
            // Who is told that the start failed may do with the files what he likes.
            end(&handle, core).await?;
            return Err(why);
        }
        let leads = shared.leads();
        tracing::info!(tail, took = ?(clock.monotonic() - began), applied = shared.applied().0, leads, "state opened");

        let groups = Groups::system(clock.clone());
        let fs = FileSystem { handle: handle.clone(), checks: Arc::new(Checks::default()), key: key.clone() };
        let backups = Arc::new(Backups::new(shared.clone(), stores.clone(), key.clone()));
        let audits = Arc::new(Audits::new(handle.clone()));
        let operators = Operators { fs: fs.clone(), backups, audits, compactions: Compactions::default() };
        let gate = Arc::new(WorkerGate::new(handle.clone(), stores, &key, groups.clone()));
        let workers = WorkerMasterServer::from_arc(gate).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let routes = Routes::new().service(workers);
        let serve = || {
            let rpc = serve_clients(rpc, &config, &shared, channels, fs, operators, groups)?;
            Ok((rpc, internal.serve(move |_| routes.clone()).map_err(start)?))
        };
        let (rpc, internal) = match serve() {
            Ok(serving) => serving,
            Err(why) => {
                end(&handle, core).await?;
                return Err(why);
            }
        };
        let rooms = look_at_disks(shared.rooms.clone(), config.journal_dir.clone(), config.metastore_dir.clone());
        let rooms = tokio::spawn(rooms);
        let pages = crate::web::routes(shared.clone());
        let web = tokio::spawn(async move {
            if let Err(err) = axum::serve(web, pages).await {
                tracing::error!(%err, "the web port stopped");
            }
        });
        Ok(Master { handle, rpc, internal, web, web_addr, rooms, core, fatal: fatal_seen, fetched })
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

    /// The service official clients call, for calls from this process.
    #[cfg(feature = "test-support")]
    pub fn file_system(
        &self,
    ) -> Result<
        Arc<dyn proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientService>,
        Error,
    > {
        let key = Arc::new(ClusterKey::load(&self.handle.shared.config.key_file).map_err(start)?);
        Ok(Arc::new(FileSystem { handle: self.handle.clone(), checks: Arc::default(), key }))
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

    /// Resolves when this master cannot go on as it is: see [`Ended`]. Cancel-safe.
    pub async fn ended(&self) -> Ended {
        let mut fetched = self.fetched.clone();
        let snapshot = async {
            match fetched.wait_for(Option::is_some).await {
                Ok(snapshot) => snapshot.clone().expect("it was waited for"),
                // Of a master alone nobody sends any.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            why = self.failed() => Ended::Failed(why),
            snapshot = snapshot => {
                let config = &self.handle.shared.config;
                let key = ClusterKey::load(&config.key_file).map_err(start);
                match key.and_then(|key| place(config, &key).begin(&snapshot).map_err(start)) {
                    Ok(()) => Ended::Reopen,
                    Err(why) => Ended::Failed(why.to_string()),
                }
            }
        }
    }

    /// Hands the lead over to a voter that is likely to take it, if this master leads others; calls that are under way go on there.
    /// Whether another master leads instead of this one.
    async fn hand_over(&self) -> bool {
        let shared = &self.handle.shared;
        let began = shared.clock.monotonic();
        let mut asked: Option<Monotonic> = None;
        loop {
            let (group, now) = (shared.group(), shared.clock.monotonic());
            if !shared.leads() && asked.is_none() {
                return false;
            }
            if let Some(to) = group.leader.filter(|leader| asked.is_some() && Some(*leader) != group.own) {
                tracing::info!(%to, took = ?(now - began), "the lead was handed over");
                return true;
            }
            if now - began > HANDS_OVER_WITHIN {
                tracing::warn!("nobody took the lead over, stopping with it");
                return false;
            }
            // One that just began promises its leader silence for a moment: it is asked again, or another one is.
            if asked.is_none_or(|at| now - at > ASK_AGAIN) && shared.leads() {
                let Some(next) = group.successor else { return false };
                if let Err(why) = self.handle.hand_over(next).await {
                    tracing::debug!(to = %next, %why, "the lead cannot be handed over yet");
                }
                asked = Some(now);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Hands the lead over, stops accepting, lets calls end within `drain`, flushes so that the next start replays nothing, and ends.
    pub async fn stop(self, drain: Duration) -> Result<(), Error> {
        if self.hand_over().await {
            tokio::time::sleep(CALLERS_LEAVE_WITHIN).await;
        }
        self.rpc.stop(drain).await;
        self.internal.stop(drain).await;
        self.web.abort();
        self.rooms.abort();
        // They hold the state: who is told that this master ended may open its files again.
        let _ = (self.web.await, self.rooms.await);
        let drained = self.handle.drain(drain.max(Duration::from_secs(10))).await;
        end(&self.handle, self.core).await?;
        drained
    }
}

/// Looks again and again how full the disks are. Ends when it is aborted.
async fn look_at_disks(rooms: Arc<Rooms>, journal: PathBuf, metastore: PathBuf) {
    loop {
        let (looking, at) = (rooms.clone(), (journal.clone(), metastore.clone()));
        // A disk that hangs holds up this look and no other work; it holds nothing that a stop waits for.
        let look = move || looking.look(&at.0, &at.1);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(look).await {
            tracing::debug!(%error, "a disk cannot be asked how full it is");
        }
        tokio::time::sleep(LOOK_AT_DISKS_EVERY).await;
    }
}

/// Stops the state thread and waits until it has ended.
async fn end(handle: &Handle, core: JoinHandle<()>) -> Result<(), Error> {
    handle.stop();
    // It ends once it has read the stop; joining it must not block the runtime.
    let joined = tokio::task::spawn_blocking(move || core.join()).await;
    let panicked = || Error::Start("the state thread panicked; the journal holds everything acknowledged".to_owned());
    if matches!(joined, Ok(Ok(()))) { Ok(()) } else { Err(panicked()) }
}

/// Why a start failed, with all causes.
fn start(err: impl std::error::Error) -> Error {
    Error::Start(types::sentence(&err))
}

fn serving(name: &str, threads: usize) -> ServerConfig {
    ServerConfig { name: name.to_owned(), threads, ..ServerConfig::default() }
}

/// - `key`: the setting that names the port.
fn bind(address: SocketAddr, config: &MasterConfig, server: ServerConfig, key: &str) -> Result<Server, Error> {
    let hint = format!("The web pages are on port {}.", config.web_addr.port());
    let server = ServerConfig { hint, ..server };
    let bound = Server::bind(&address.to_string(), server);
    bound.map_err(|err| Error::Start(format!("{}; see goosefs.master.bind.host and {key}", types::sentence(&err))))
}

fn bind_journal(group: &GroupConfig, config: &MasterConfig) -> Result<Server, Error> {
    // One: what is sent to others goes out by the thread that hears them.
    // A checkpoint on its way to a member delays no message.
    let server = serving("GooseFS journal, for other masters", 1);
    let server = ServerConfig { apart: MAX_FETCHES, max_message_bytes: MESSAGE_BYTES, ..server };
    bind(group.listen, config, server, "goosefs.master.embedded.journal.port")
}

/// The group's file, of a master that has an id; one that waits for it waits here.
async fn join_group(
    config: &MasterConfig,
    key: &ClusterKey,
    entropy: &Arc<dyn Entropy>,
) -> Result<Option<Group>, Error> {
    match (open_group(config)?, &config.group) {
        (Some(group), Some(told)) if group.is_waiting() => {
            let server = bind_journal(told, config)?;
            wait_for_admission(server, group, &told.own, key, entropy.clone()).await.map_err(start)?;
            open_group(config)
        }
        (group, _) => Ok(group),
    }
}

/// Where a snapshot is installed.
fn place<'a>(config: &'a MasterConfig, key: &ClusterKey) -> Place<Dirs<'a>> {
    Place {
        files: Dirs { journal: &config.journal_dir, metastore: &config.metastore_dir },
        cluster: key.group_id(),
        options: SegmentOptions { segment_bytes: config.segment_bytes },
    }
}

/// Who the members are as of what the state holds. Error: this master is none any more.
fn members_of(config: &MasterConfig, state: &dyn meta::Store, group: Option<&Group>) -> Result<Membership, Error> {
    let Some(group) = group else { return Ok(Membership::founding([(MEMBER, String::new())])) };
    let members = members_with(group.own, state, || group.members.membership())?;
    let (now, told) = (members.addresses(), config.group.as_ref().map(|group| group.members.clone()));
    if told.is_some_and(|told| told.iter().any(|address| !now.contains(address)) || told.len() != now.len()) {
        tracing::warn!(
            members = now.join(","),
            "the members of the group are not those of {GROUP_KEY}; the group knows better: correct the setting"
        );
    }
    Ok(members)
}

/// - `founders`: who they are if nothing has changed since the group was founded.
pub(crate) fn members_with(
    own: MemberId,
    state: &dyn meta::Store,
    founders: impl FnOnce() -> Membership,
) -> Result<Membership, Error> {
    let members = core::members(state)?.unwrap_or_else(founders);
    if members.was_removed(own) {
        return Err(Error::Start(format!(
            "{own}, this master, was removed from the group; to take it in again format it with `goosefs formatMaster \
             --force --join`, start it, and run `goosefs fsadmin journal quorum add` with its address"
        )));
    }
    Ok(members)
}

/// This member is all that is left of its group, by an operator's word: from here on its own vote is a majority. Safe when it
/// returns; the log hears of it from the leader it becomes.
fn reduce_to(own: MemberId, members: &mut Membership, state: &dyn meta::Store) -> Result<(), Error> {
    let lost: Vec<String> =
        members.iter().filter(|(id, _)| *id != own).map(|(id, seat)| format!("{id} ({})", seat.address)).collect();
    tracing::warn!(%own, lost = lost.join(", "), applied = %state.applied(), "RECOVERING FROM A LOST QUORUM: the members named are given up for good; what they acknowledged without this one is lost, and their disks must never be started again");
    members.reduce_to(own);
    state.commit(&meta::Changes { changes: vec![core::record(members)], applied: state.applied() })?;
    state.flush()?;
    Ok(())
}

/// The group's file, if this master is one of several by its journal and by its settings alike.
fn open_group(config: &MasterConfig) -> Result<Option<Group>, Error> {
    let dir = config.journal_dir.display();
    match (Group::open(&config.journal_dir).map_err(start)?, &config.group) {
        (None, None) => Ok(None),
        (Some(group), Some(wanted)) => {
            let founder = group.members.address(group.own);
            if let Some(address) = founder.filter(|address| *address != wanted.own) {
                return Err(Error::Start(format!(
                    "{dir} is the journal of {address}, but this master is {}; start it with its own journal directory",
                    wanted.own
                )));
            }
            Ok(Some(group))
        }
        (Some(group), None) => Err(Error::Start(format!(
            "{dir} is the journal of a group of masters; set {GROUP_KEY}={} as before",
            group.members.addresses().join(",")
        ))),
        // Not formatted at all: the log says so better.
        (None, Some(_)) if !config.journal_dir.exists() => Ok(None),
        (None, Some(_)) => Err(Error::Start(format!(
            "{dir} was not formatted for a group of masters, but {GROUP_KEY} names several; take the setting out to go on with \
             this master alone, or format all masters with it, which begins an empty namespace"
        ))),
    }
}

fn node_config(config: &MasterConfig, group: Option<&Group>, members: Membership) -> NodeConfig {
    let (Some(group), Some(told)) = (group, &config.group) else { return NodeConfig::new(MEMBER, vec![MEMBER]) };
    one_of_several(told, group.own, members)
}

/// The log's member of one of several masters.
pub(crate) fn one_of_several(told: &GroupConfig, own: MemberId, members: Membership) -> NodeConfig {
    let (tick, heartbeat_ticks, election_ticks) = ticks(told);
    NodeConfig {
        tick,
        heartbeat_ticks,
        election_ticks,
        lease: told.election_timeout / 5 * 4,
        max_committed_bytes: APPLY_BYTES,
        retained_entries: told.retained_entries,
        members,
        ..NodeConfig::new(own, vec![own])
    }
}

/// The member's tick, and heartbeat and election timeout in ticks.
fn ticks(group: &GroupConfig) -> (Duration, u32, u32) {
    let tick = (group.election_timeout / ELECTION_TICKS).min(group.heartbeat).max(Duration::from_millis(1));
    let count = |time: Duration| u32::try_from(time.as_nanos() / tick.as_nanos()).unwrap_or(u32::MAX / 4).max(1);
    (tick, count(group.heartbeat), count(group.election_timeout))
}

/// - `bound_to`: the id the log must have, if it is known.
pub(crate) fn open_log(
    config: &MasterConfig,
    bound_to: Option<ClusterId>,
) -> Result<(SegmentLog<RealDisk>, Recovered), Error> {
    let options = SegmentOptions { segment_bytes: config.segment_bytes };
    let (log, recovered) = SegmentLog::open(RealDisk, &config.journal_dir, bound_to, options).map_err(start)?;
    if let Some(cut) = &recovered.cut {
        tracing::warn!(file = %cut.path.display(), offset = cut.offset, "a torn batch at the end of the log was cut: it was never acknowledged");
    }
    Ok((log, recovered))
}

/// - `dir`: the metastore, or a copy of one.
pub(crate) fn open_state(config: &MasterConfig, dir: &Path, cluster: ClusterId) -> Result<Arc<dyn meta::Store>, Error> {
    Ok(match config.metastore {
        Metastore::Rocks => {
            let cache = usize::try_from(config.memory_budget_bytes / 4).unwrap_or(usize::MAX);
            let rocks = RocksConfig { block_cache_bytes: cache, ..RocksConfig::default() };
            Arc::new(RocksStore::open(dir, &rocks, cluster)?)
        }
        Metastore::Heap => {
            let disk = DirDisk::open(dir).map_err(|err| Error::Start(format!("open {}: {err}", dir.display())))?;
            Arc::new(HeapStore::open(Arc::new(disk), cluster)?)
        }
    })
}

/// An opened database as servers and the core see it, and the namespace in it; the workers it knows are expected.
pub(crate) fn publish(
    config: &MasterConfig,
    state: Arc<dyn meta::Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<(Arc<Shared>, Namespace), Error> {
    let published = Published::new(state, &config.cache, clock.clone(), entropy.next_u64())?;
    let shared = Arc::new(Shared::new(config.clone(), published, clock, entropy));
    let namespace = Namespace::open(&shared.state.latest())?;
    for worker in shared.read_any(meta::workers)? {
        shared.registry.lock().expect(&worker);
    }
    Ok((shared, namespace))
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
        late: config.late,
        intent_wait: config.intent_wait,
        operation_retention: config.operation_retention,
        incomplete_expiry: config.incomplete_expiry,
        walk: config.walk,
        expiry: config.expiry,
        persist_concurrency: config.persist_concurrency,
        worker_timeout: config.worker_timeout,
        task_timeout: TASK_TIMEOUT,
        intent_rest,
        recover: false,
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
    channels: Arc<Channels>,
    fs: FileSystem,
    operators: Operators,
    groups: Arc<Groups>,
) -> Result<Running, Error> {
    let rules = IdentityRules {
        auth: if config.nosasl { AuthType::NoSasl } else { AuthType::Simple },
        nosasl_user: config.nosasl_user.clone(),
        strict_channel: config.strict_channel,
    };
    let version = Arc::new(Version(shared.clone()));
    let managers = Arc::new(WorkerManager(shared.clone()));
    let metrics = Arc::new(ClientMetrics(shared.clone()));
    let batches = Arc::new(Batches(fs.clone()));
    let fs = Arc::new(fs);
    let operators = Arc::new(operators);
    let identify = Identify::new(rules.clone(), channels.clone(), groups.clone());
    let frames = FrameService::new(identify.clone(), Impersonation::none());
    let frames = service_version_client_service_calls(&version, frames);
    let frames = file_system_master_client_service_calls(&fs, frames);
    let frames = worker_manager_master_client_service_calls(&managers, frames);
    let frames = metrics_master_client_service_calls(&metrics, frames);
    let frames = batches_calls(&batches, frames);
    let frames = admin_calls(&operators, frames);
    let file_system = FileSystemMasterClientServiceServer::from_arc(fs)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(ANSWER_BYTES);
    let metrics = MetricsMasterClientServiceServer::from_arc(metrics).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let batches = BatchesServer::from_arc(batches)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(ANSWER_BYTES);
    let routes = Routes::new()
        .service(ServiceVersionClientServiceServer::from_arc(version))
        .service(file_system)
        .service(WorkerManagerMasterClientServiceServer::from_arc(managers))
        .service(metrics)
        .service(batches)
        .service(AdminServer::from_arc(operators));
    server
        .with_frames(frames)
        .with_overload(Overload { late: config.late, refused: shared.metrics.refused.clone() })
        .serve(move |thread| {
            let (rules, stopping) = (rules.clone(), thread.stopping.clone());
            let sasl = Sasl::new(rules, Impersonation::none(), channels.clone(), groups.clone(), stopping);
            thread.paced(identify.layer(routes.clone().service(sasl.server())))
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
