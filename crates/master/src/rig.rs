//! A master without threads, sockets and timers: the simulator owns it, tells it the time and carries out what it asks for.
//!
//! Is:     the parts a start puts together, on a log and a database that were opened already, and what the driver does
//!         between an inbox and the core.
//! Owns:   one run of one master. A crash is to drop it.
//! Never:  decides anything; part of a product binary.

use crate::config::MasterConfig;
use crate::core::{Action, Core, Event, JobError, JobOk, Now, Ticket};
use crate::driver::{Inbox, Message, Reply, channel};
use crate::error::Error;
use crate::shared::Shared;
use crate::stores::Stores;
use crate::wire::batches::Batches;
use crate::wire::file_system::{Checks, FileSystem};
use crate::wire::version::Version;
use crate::wire::worker_master::WorkerGate;
use journal::{Boot, LogReader, MemberId, Membership, Node, Recovered};
use meta::{Family, MountSpec, ROOT_MOUNT, Read, StoreError};
use proto::admin::{batches_calls, batches_server};
use proto::grpc::file::file_system_master_client_service_calls;
use proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientService;
use proto::grpc::version::service_version_client_service_calls;
use proto::internal::worker_master_server::WorkerMasterServer;
use rpc::ClusterKey;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::codegen::http::Request;
use tower::Service as _;
use types::{BlockId, Clock, ContainerId, Entropy, LogIndex, Term, WorkerId};
use ufs::UnderStore;

pub use crate::core::{Job, JobId};
pub use crate::install::{Dirs, Files, INCOMING, InstallError, Place, SENT, Snapshot};
pub use crate::locations::{Locations, Session};
pub use crate::peers::{Arrivals, Source, Visit};

/// Everything a run of a master stands on.
pub struct Parts {
    /// Its group decides the times of the log's member, and who the founders are.
    pub config: MasterConfig,
    pub own: MemberId,
    pub recovered: Recovered,
    pub log: Arc<dyn LogReader>,
    pub state: Arc<dyn meta::Store>,
    pub under: Arc<dyn UnderStore>,
    pub key: Arc<ClusterKey>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// The answer to a worker's request, to be driven by whoever holds it.
pub type Answering = Pin<Box<dyn Future<Output = rpc::Answer> + Send>>;

/// Work at the under store, to be driven by whoever holds it.
pub type Work = Pin<Box<dyn Future<Output = Result<JobOk, JobError>> + Send>>;

pub struct Rig {
    core: Core,
    shared: Arc<Shared>,
    stores: Arc<Stores>,
    under: Arc<dyn UnderStore>,
    fs: FileSystem,
    gate: Arc<WorkerGate>,
    inbox: Inbox,
    waiting: BTreeMap<Ticket, Reply>,
}

impl Rig {
    /// Errors: as those of a start on this log and database.
    pub fn open(parts: Parts) -> Result<Rig, Error> {
        let Parts { config, own, recovered, log, state, under, key, clock, entropy } = parts;
        let start = |err: journal::Error| Error::Start(types::sentence(&err));
        let told = config.group.clone().ok_or(Error::Start("a rig is one of several masters".to_owned()))?;
        let applied = state.applied();
        let founders = || Membership::founding((1..).map(MemberId).zip(told.members.iter().cloned()));
        let members = crate::server::members_with(own, &*state, founders)?;
        let (shared, namespace) = crate::server::publish(&config, state, clock.clone(), entropy.clone())?;
        let boot = Boot { applied, now: clock.monotonic(), seed: entropy.next_u64() };
        let node_config = crate::server::one_of_several(&told, own, members);
        let rest = node_config.lease + crate::server::STORE_REST;
        let node = Node::new(node_config, recovered, log, boot).map_err(start)?;
        let root = MountSpec::plain(under.uri());
        let cluster = types::ClusterId(entropy.next_u128());
        let core_config = crate::server::core_config(&config, cluster, root, rest);
        let (handle, inbox) = channel(shared.clone());
        let stores = Arc::new(Stores::new(shared.clone(), key.clone()));
        stores.put(ROOT_MOUNT, under.clone());
        let groups = rpc::Groups::none(shared.clock.clone());
        let gate = Arc::new(WorkerGate::new(handle.clone(), stores.clone(), &key, groups));
        let fs = FileSystem { handle, checks: Arc::new(Checks::default()), key };
        let core = Core::new(core_config, node, namespace, shared.clone());
        Ok(Rig { core, shared, stores, under, fs, gate, inbox, waiting: BTreeMap::new() })
    }

    /// The service official clients call. What it is asked is taken up by the next [`Rig::turn`].
    pub fn file_system(&self) -> Arc<dyn FileSystemMasterClientService> {
        Arc::new(self.fs.clone())
    }

    /// The service our own clients send many changes to.
    pub fn batches(&self) -> Arc<dyn batches_server::Batches> {
        Arc::new(Batches(self.fs.clone()))
    }

    /// What clients of ours ask by frames, as far as a cluster without a network has it.
    pub fn calls<C: proto::Calls>(&self, calls: C) -> C {
        let calls = service_version_client_service_calls(&Arc::new(Version(self.shared.clone())), calls);
        let calls = file_system_master_client_service_calls(&Arc::new(self.fs.clone()), calls);
        batches_calls(&Arc::new(Batches(self.fs.clone())), calls)
    }

    /// Serves a request of a worker, as the internal port hands it over. What it asks for is taken up by the next
    /// [`Rig::turn`].
    pub fn serve_worker(&self, request: Request<rpc::Body>) -> Answering {
        let answer = WorkerMasterServer::from_arc(self.gate.clone())
            .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES)
            .call(request);
        Box::pin(async move { answer.await.unwrap_or_else(|never: Infallible| match never {}) })
    }

    pub fn step(&mut self, now: Now, event: Event) {
        self.core.step(now, event);
    }

    /// Takes what the services asked for, turns the core, and gives the answers that are ready. The rest is for the owner.
    /// Errors: this master cannot go on.
    pub fn turn(&mut self, now: Now) -> Result<Vec<Action>, String> {
        for message in self.inbox.take() {
            match message {
                Message::Event(event) => self.core.step(now, event),
                Message::Ask(ticket, event, reply) => {
                    self.waiting.insert(ticket, reply);
                    self.core.step(now, event);
                }
                Message::AskMany(waiting, event) => {
                    self.waiting.extend(waiting);
                    self.core.step(now, event);
                }
                Message::Failed(why) => return Err(why),
                Message::Stop => {}
            }
        }
        let mut rest = Vec::new();
        for action in self.core.turn(now)? {
            match action {
                Action::Reply(ticket, result) => {
                    if let Some(reply) = self.waiting.remove(&ticket) {
                        // The caller may have gone; its effect stands.
                        let _ = reply.send(result);
                    }
                }
                Action::MountsChanged => {
                    self.stores.forget();
                    self.stores.put(ROOT_MOUNT, self.under.clone());
                }
                other => rest.push(other),
            }
        }
        Ok(rest)
    }

    /// The job's work; its outcome goes back as [`Event::JobDone`].
    pub fn execute(&self, job: Job) -> Work {
        let stores = self.stores.clone();
        Box::pin(async move { stores.execute(job).await })
    }

    /// Brings the database to its disk; the index goes back as [`Event::Flushed`].
    pub fn flush(&self) -> Result<LogIndex, StoreError> {
        self.shared.state.store().flush()
    }

    /// Makes a checkpoint for another master, as its sender does. Returns its last entry and that one's term.
    pub fn checkpoint(&self, place: &Path) -> Result<(LogIndex, Term), Error> {
        crate::peers::take(&self.shared, place)
    }

    /// Who the members are, as far as it has applied.
    pub fn members(&self) -> Option<Arc<Membership>> {
        self.shared.group().members
    }

    /// Whether the core has more to do at once.
    pub fn is_unfinished(&self) -> bool {
        self.core.is_unfinished()
    }

    pub fn leads(&self) -> bool {
        self.shared.leads()
    }

    /// Whether it would answer a read by itself now.
    pub fn has_lease(&self) -> bool {
        self.shared.has_lease()
    }

    pub fn applied(&self) -> LogIndex {
        self.shared.applied()
    }

    pub fn term(&self) -> Term {
        self.shared.group().term
    }

    /// The term of an entry that is in its log, safe there or not yet; None: it is not, or was cut off.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.core.term_at(index)
    }

    /// Inodes that this master, while it led, had the group forget since its start.
    pub fn expired(&self) -> u64 {
        self.shared.metrics.metadata_expired.load(Ordering::Relaxed)
    }

    pub fn open_intents(&self) -> usize {
        self.core.namespace().intents().count()
    }

    /// Every block this master knows a place of, with the worker that holds it, in order.
    pub fn locations(&self) -> Vec<(BlockId, WorkerId)> {
        let (containers, _) = self.shared.locations.containers(ContainerId(0), usize::MAX);
        let of = |container: ContainerId| {
            let rows = self.shared.locations.of(container).into_iter();
            rows.filter_map(move |(index, worker, _)| Some((container.block(index)?, worker)))
        };
        containers.into_iter().flat_map(of).collect()
    }

    /// Whether a file owns this container.
    pub fn is_owned(&self, container: ContainerId) -> Result<bool, Error> {
        let key = meta::container_key(container);
        self.shared.read_any(|read| Ok(read.get(Family::Containers, &key)?.is_some()))
    }

    /// What is broken in the records, by a full recount.
    pub fn recount(&self) -> Result<Vec<String>, StoreError> {
        let mut wrong = self.core.namespace().check_invariants(&self.shared.state.latest())?;
        wrong.extend(self.shared.state.live_drift()?);
        Ok(wrong)
    }

    /// Looks at the state as it is here, whoever leads.
    pub fn look<R>(&self, look: impl FnMut(&dyn Read) -> Result<R, StoreError>) -> Result<R, Error> {
        self.shared.read_any(look)
    }
}
