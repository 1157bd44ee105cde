//! The other masters of a group: who they are, the messages to them and from them, snapshots for who is far behind.
//!
//! Is:     the transport of the replicated log, on port 9202. Messages are opaque; each may be lost.
//! Owns:   the group's file, connections in both directions, bounded queues, the inbox, checkpoints that are fetched.
//! Never:  waits on the state thread; uses a message of a peer that has not proven the cluster's key and its disk.

mod fetch;
mod gate;
mod group;
mod inbox;
mod lane;
mod sender;
mod wait;

#[cfg(feature = "test-support")]
pub use fetch::{Arrivals, Source, Visit};
pub use group::{Group, Members};
pub use inbox::Inbox;
pub use sender::MAX_FETCHES;
#[cfg(feature = "test-support")]
pub use sender::take;
pub use wait::wait_for_admission;

use crate::driver::Handle;
use crate::install::Snapshot;
use crate::room::Rooms;
use fetch::Fetch;
use gate::Gate;
use journal::{MemberId, Membership, Outgoing, SnapshotOffer};
use lane::{Course, Lane};
use parking_lot::Mutex;
use proto::internal::peers_calls;
use proto::internal::peers_server::PeersServer;
use rpc::{ClusterKey, FrameService, Routes, Running, Server, WorkerToken};
use sender::Sender;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use types::{ClusterId, LogIndex};

/// The version of the protocol between masters.
const VERSION: u32 = 1;
/// Metadata that names a session.
const SESSION: &str = "goosefs-session-bin";
/// Largest message: one entry of the largest size a log takes, and some.
pub const MESSAGE_BYTES: usize = 8 << 20;
/// How long a stop waits for work that waits for a disk.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// What both directions need: who this is, and how it shows it.
struct Identity {
    group: Mutex<Group>,
    /// What is in the group's file and never changes.
    own: MemberId,
    disk: u128,
    /// The founders'.
    addresses: Vec<String>,
    /// Where others reach this master.
    own_address: String,
    priority: u32,
    cluster: ClusterId,
    token: WorkerToken,
    /// Who the members are, as far as this one has applied.
    members: Mutex<Arc<Membership>>,
    /// What the masters say of their disks.
    rooms: Arc<Rooms>,
    /// Whether this master leads at the moment.
    leads: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Identity {
    /// - `group`: this member's file.
    fn new(
        group: Group,
        own_address: String,
        members: Arc<Membership>,
        key: &ClusterKey,
        rooms: Arc<Rooms>,
        leads: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Identity {
        Identity {
            rooms,
            leads: Box::new(leads),
            own: group.own,
            disk: group.disk,
            addresses: group.members.addresses(),
            own_address,
            priority: 0,
            cluster: key.group_id(),
            token: key.peer_token(),
            members: Mutex::new(members),
            group: Mutex::new(group),
        }
    }

    /// What a proof between two members covers besides challenges and versions.
    fn context(&self, from: (MemberId, u128), to: (MemberId, u128)) -> Vec<u8> {
        let mut bytes = self.cluster.0.to_be_bytes().to_vec();
        for (member, disk) in [from, to] {
            bytes.extend_from_slice(&member.0.to_be_bytes());
            bytes.extend_from_slice(&disk.to_be_bytes());
        }
        bytes
    }

    /// Whether a master that waits may be told to be `member`. A leader knows of every promotion before its term; a learner
    /// has not voted, nor counted for a commit.
    fn admits(&self, member: MemberId) -> bool {
        (self.leads)() && self.members.lock().seat(member).is_some_and(|seat| !seat.voter)
    }

    fn was_removed(&self, member: MemberId) -> bool {
        self.members.lock().was_removed(member)
    }
}

/// The lanes to one other member.
struct Lanes {
    address: String,
    log: Lane,
    rest: Lane,
}

/// The connections to others: to all members, and to who is heard of before the log says that it is one.
struct Network {
    identity: Arc<Identity>,
    inbox: Arc<Inbox>,
    /// Where lanes live: on the thread that serves the port. What is said in answer to another master needs no other thread.
    thread: OnceLock<tokio::runtime::Handle>,
    lanes: Mutex<BTreeMap<MemberId, Lanes>>,
}

impl Network {
    fn course(&self, to: MemberId, address: &str, what: lane::What) -> Course {
        Course { identity: self.identity.clone(), inbox: self.inbox.clone(), to, address: address.to_owned(), what }
    }

    /// Begins to look for a member, if that was not begun, and as soon as there is a thread for it.
    fn look_for(&self, to: MemberId, address: &str) {
        let Some(thread) = self.thread.get() else { return };
        let mut lanes = self.lanes.lock();
        let known = lanes.get(&to).is_some_and(|known| known.address == address);
        if known || to == self.identity.own || address.is_empty() {
            return;
        }
        let lane = |what| Lane::start(self.course(to, address, what), thread);
        let new = Lanes { address: address.to_owned(), log: lane(lane::What::Log), rest: lane(lane::What::Rest) };
        lanes.insert(to, new);
    }

    /// From now on there is a thread for lanes. Of several the first counts.
    fn begin(&self, thread: tokio::runtime::Handle) {
        self.thread.get_or_init(|| thread);
        let members = self.identity.members.lock().clone();
        self.look_for_all(&members);
    }

    /// These are the members now.
    fn set_members(&self, members: &Arc<Membership>) {
        *self.identity.members.lock() = members.clone();
        self.lanes.lock().retain(|id, _| !members.was_removed(*id));
        self.look_for_all(members);
    }

    fn look_for_all(&self, members: &Membership) {
        for (id, seat) in members.iter() {
            self.look_for(id, &seat.address);
        }
    }
}

/// What the way to others is made of.
pub struct PeersConfig {
    pub server: Server,
    pub group: Group,
    /// Where others reach this master.
    pub own_address: String,
    /// `goosefs.master.embedded.journal.leader.priority`
    pub priority: u32,
    pub members: Arc<Membership>,
    pub metastore_dir: PathBuf,
    /// `ROCKS` or `HEAP`.
    pub store: &'static str,
    /// Bytes of snapshots sent in a second, to all together; None: no limit.
    pub snapshot_bandwidth: Option<u64>,
}

/// The way to and from all other members. Dropping it cuts everything; [`Peers::stop`] waits until that has happened.
pub struct Peers {
    network: Option<Arc<Network>>,
    inbox: Arc<Inbox>,
    fetch: Option<Fetch>,
    server: Option<Running>,
    /// Where a snapshot is fetched, which waits for disks.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Peers {
    /// Of a master alone: nobody.
    pub fn nobody() -> Peers {
        Peers { network: None, inbox: Arc::default(), fetch: None, server: None, runtime: None }
    }

    /// Serves and begins to look for the others. A snapshot that arrived whole is told to `fetched`. Errors: threads cannot
    /// be made.
    pub fn start(
        config: PeersConfig,
        key: &ClusterKey,
        handle: &Handle,
        fetched: watch::Sender<Option<Snapshot>>,
    ) -> Result<Peers, rpc::Error> {
        let inbox = Arc::new(Inbox::new(handle.clone()));
        let shared = handle.shared.clone();
        let leads = move || shared.leads();
        let rooms = handle.shared.rooms.clone();
        let identity = Identity::new(config.group, config.own_address, config.members.clone(), key, rooms, leads);
        let identity = Arc::new(Identity { priority: config.priority, ..identity });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fetch")
            .enable_all()
            .build()
            .map_err(|source| rpc::Error::StartThread { name: "fetch".to_owned(), source })?;
        let network = Arc::new(Network {
            identity: identity.clone(),
            inbox: inbox.clone(),
            thread: OnceLock::new(),
            lanes: Mutex::default(),
        });
        let shared = handle.shared.clone();
        let sender = Sender::new(shared, config.metastore_dir.clone(), config.store, config.snapshot_bandwidth);
        let gate = Gate::new(identity, inbox.clone(), handle.shared.entropy.clone());
        let kept = Arc::downgrade(&sender);
        let gate = Arc::new(gate.with_network(network.clone()).with_sender(sender));
        let server = config.server.with_frames(peers_calls(&gate, FrameService::without_identity()));
        let service = PeersServer::from_arc(gate).max_decoding_message_size(MESSAGE_BYTES);
        let routes = Routes::new().service(service);
        let begins = network.clone();
        let server = server.serve(move |_| {
            begins.begin(tokio::runtime::Handle::current());
            tokio::spawn(Sender::look_after(kept.clone()));
            routes.clone()
        })?;
        let shared = handle.shared.clone();
        let fetch = Fetch::new(config.metastore_dir, config.store, fetched, move || shared.applied());
        Ok(Peers { network: Some(network), inbox, fetch: Some(fetch), server: Some(server), runtime: Some(runtime) })
    }

    /// Sends, or gives up at once: false.
    ///
    /// - `everywhere`: up to here every member's log is known to reach.
    pub fn send(&self, message: Outgoing, everywhere: LogIndex) -> bool {
        let Some(network) = &self.network else { return false };
        let lanes = network.lanes.lock();
        let Some(lanes) = lanes.get(&message.to) else { return false };
        let lane = if message.carries_log() { &lanes.log } else { &lanes.rest };
        lane.send(message.bytes, everywhere)
    }

    /// What arrived since the last look.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// These are the members now.
    pub fn set_members(&self, members: &Arc<Membership>) {
        if let Some(network) = &self.network {
            network.set_members(members);
        }
    }

    /// Begins to fetch what was offered, unless something is being fetched.
    pub fn fetch(&self, offer: SnapshotOffer) {
        let (Some(network), Some(fetch)) = (&self.network, &self.fetch) else { return };
        let address = network.lanes.lock().get(&offer.from).map(|lanes| lanes.address.clone());
        // Who offers something was met, or will be: the offer comes again.
        let Some(address) = address else { return };
        let Some(runtime) = &self.runtime else { return };
        fetch.begin(network.course(offer.from, &address, lane::What::Snapshot), offer, runtime.handle());
    }

    /// Cuts everything; when it returns, nothing of it holds the state. Not for a thread of a runtime.
    pub fn stop(mut self) {
        let (server, runtime) = (self.server.take(), self.runtime.take());
        drop(self);
        let Some(runtime) = runtime else { return };
        if let Some(server) = server {
            runtime.block_on(server.stop(Duration::ZERO));
        }
        runtime.shutdown_timeout(ENDS_WITHIN);
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A challenge's worth of chance, to name a session.
fn random(entropy: &dyn types::Entropy) -> Vec<u8> {
    (0..4).flat_map(|_| entropy.next_u64().to_be_bytes()).collect()
}

#[cfg(test)]
mod tests;
