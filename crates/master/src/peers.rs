//! The other masters of a group: who they are, the messages to them and from them.
//!
//! Is:     the transport of the replicated log, on port 9202. Messages are opaque; each may be lost.
//! Owns:   the group's file, connections in both directions, bounded queues, the inbox.
//! Never:  waits on the state thread; uses a message of a peer that has not proven the cluster's key and its disk.

mod gate;
mod group;
mod inbox;
mod lane;

pub use group::{Group, Members};
pub use inbox::Inbox;

use crate::driver::Handle;
use gate::Gate;
use journal::{MemberId, Outgoing};
use lane::Lane;
use parking_lot::Mutex;
use proto::internal::peers_server::PeersServer;
use rpc::{ClusterKey, Routes, Running, Server, WorkerToken};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{ClusterId, LogIndex};

/// The version of the protocol between masters.
const VERSION: u32 = 1;
/// Metadata that names a session.
const SESSION: &str = "goosefs-session-bin";
/// Largest message: one entry of the largest size a log takes, and some.
const MESSAGE_BYTES: usize = 8 << 20;

/// What both directions need: who this is, and how it shows it.
struct Identity {
    group: Mutex<Group>,
    /// What is in the group's file and never changes.
    own: MemberId,
    disk: u128,
    addresses: Vec<String>,
    cluster: ClusterId,
    token: WorkerToken,
}

impl Identity {
    /// What a proof between two members covers besides challenges and versions.
    fn context(&self, from: (MemberId, u128), to: (MemberId, u128)) -> Vec<u8> {
        let mut bytes = self.cluster.0.to_be_bytes().to_vec();
        for (member, disk) in [from, to] {
            bytes.extend_from_slice(&member.0.to_be_bytes());
            bytes.extend_from_slice(&disk.to_be_bytes());
        }
        bytes
    }
}

/// The lanes to one other member.
struct Lanes {
    log: Lane,
    rest: Lane,
}

/// The way to and from all other members. Dropping it cuts everything.
pub struct Peers {
    lanes: BTreeMap<MemberId, Lanes>,
    inbox: Arc<Inbox>,
    server: Option<Running>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Peers {
    /// Of a master alone: nobody.
    pub fn nobody() -> Peers {
        Peers { lanes: BTreeMap::new(), inbox: Arc::default(), server: None, runtime: None }
    }

    /// Serves `server` and begins to look for the others. Errors: threads cannot be made.
    pub fn start(server: Server, group: Group, key: &ClusterKey, handle: &Handle) -> Result<Peers, rpc::Error> {
        let inbox = Arc::new(Inbox::new(handle.clone()));
        let identity = Arc::new(Identity {
            own: group.own,
            disk: group.disk,
            addresses: group.members.addresses(),
            cluster: key.group_id(),
            token: key.peer_token(),
            group: Mutex::new(group),
        });
        let gate = Arc::new(Gate::new(identity.clone(), inbox.clone(), handle.shared.entropy.clone()));
        let service = PeersServer::from_arc(gate).max_decoding_message_size(MESSAGE_BYTES);
        let routes = Routes::new().service(service);
        let server = server.serve(move |_| routes.clone())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("peers")
            .enable_all()
            .build()
            .map_err(|source| rpc::Error::StartThread { name: "peers".to_owned(), source })?;
        let others: Vec<(MemberId, String)> = {
            let group = identity.group.lock();
            group.members.iter().filter(|(id, _)| *id != group.own).map(|(id, at)| (id, at.to_owned())).collect()
        };
        let lane = |to: MemberId, address: &str, what| {
            Lane::start(
                lane::Course {
                    identity: identity.clone(),
                    inbox: inbox.clone(),
                    to,
                    address: address.to_owned(),
                    what,
                },
                runtime.handle(),
            )
        };
        let lanes = others
            .into_iter()
            .map(|(to, at)| (to, Lanes { log: lane(to, &at, lane::What::Log), rest: lane(to, &at, lane::What::Rest) }))
            .collect();
        Ok(Peers { lanes, inbox, server: Some(server), runtime: Some(runtime) })
    }

    /// Sends, or gives up at once: false.
    ///
    /// - `everywhere`: up to here every member's log is known to reach.
    pub fn send(&self, message: Outgoing, everywhere: LogIndex) -> bool {
        let Some(lanes) = self.lanes.get(&message.to) else { return false };
        let lane = if message.carries_log() { &lanes.log } else { &lanes.rest };
        lane.send(message.bytes, everywhere)
    }

    /// What arrived since the last look.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
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
