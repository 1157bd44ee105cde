//! goosefs.internal.v1.Peers: what other masters send here.

use super::{Identity, Inbox, SESSION, VERSION, random};
use crate::core::Event;
use crate::error::Error;
use journal::MemberId;
use parking_lot::Mutex;
use proto::internal::peers_server::Peers;
use proto::internal::*;
use rpc::{Side, Transcript};
use std::collections::VecDeque;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use types::{Entropy, LogIndex};

/// Sessions kept: a few per member suffice, and the oldest is forgotten beyond that.
const SESSIONS: usize = 256;
/// What to tell a peer whose proof is wrong.
pub const OTHER_KEY: &str = "the other master does not hold this cluster's key: goosefs.security.secret.key.file must be \
                             the same file on all masters";

type Answer<T> = Result<Response<T>, Status>;

struct Session {
    name: Vec<u8>,
    transcript: Transcript,
    from: MemberId,
    disk: u128,
    proven: bool,
}

pub struct Gate {
    identity: Arc<Identity>,
    inbox: Arc<Inbox>,
    entropy: Arc<dyn Entropy>,
    /// Oldest first.
    sessions: Mutex<VecDeque<Session>>,
}

impl Gate {
    pub fn new(identity: Arc<Identity>, inbox: Arc<Inbox>, entropy: Arc<dyn Entropy>) -> Gate {
        Gate { identity, inbox, entropy, sessions: Mutex::default() }
    }

    /// Why a caller cannot be one of this group; None: it says the right things.
    fn refusal(&self, hello: &PeerHelloRequest) -> Option<String> {
        let identity = &self.identity;
        if hello.version != VERSION {
            return Some(format!(
                "release {} speaks version {} of the protocol between masters, this one {VERSION}; upgrade the older one",
                hello.release, hello.version
            ));
        }
        if hello.cluster != identity.cluster.0.to_be_bytes().as_slice() {
            return Some("the other master was formatted with another key, so it belongs to another cluster; format it with this cluster's goosefs.security.secret.key.file, or correct goosefs.master.embedded.journal.addresses".to_owned());
        }
        if hello.members != identity.addresses {
            return Some(format!(
                "the other master was formatted for the group {}, this one for {}; goosefs.master.embedded.journal.addresses must be the same on all masters when they are formatted",
                hello.members.join(","),
                identity.addresses.join(",")
            ));
        }
        let from = MemberId(hello.from);
        if MemberId(hello.to) != identity.own
            || from == identity.own
            || identity.group.lock().members.address(from).is_none()
        {
            return Some(format!(
                "{from} looks for {}, and this is {}; two masters have the same address in goosefs.master.embedded.journal.addresses, or a name leads to the wrong host",
                MemberId(hello.to),
                identity.own
            ));
        }
        None
    }
}

/// A disk id from the wire.
pub fn disk(bytes: &[u8]) -> Result<u128, String> {
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| format!("a disk id has 16 bytes, not {}", bytes.len()))?;
    Ok(u128::from_be_bytes(bytes))
}

#[tonic::async_trait]
impl Peers for Gate {
    async fn hello(&self, request: Request<PeerHelloRequest>) -> Answer<PeerHelloResponse> {
        let hello = request.into_inner();
        if let Some(why) = self.refusal(&hello) {
            return Err(Error::Refused(why).into());
        }
        let (identity, from) = (&self.identity, MemberId(hello.from));
        let disk = disk(&hello.disk).map_err(Error::Invalid)?;
        let transcript = Transcript {
            versions: (hello.version, VERSION),
            cluster: identity.context((from, disk), (identity.own, identity.disk)),
            incarnation: 0,
            worker: Transcript::read_challenge(&hello.challenge).map_err(|err| Error::Invalid(err.to_string()))?,
            master: Transcript::challenge(),
        };
        let (name, proof) = (random(&*self.entropy), identity.token.prove(Side::Master, &transcript));
        let challenge = transcript.master.to_vec();
        let mut sessions = self.sessions.lock();
        while sessions.len() >= SESSIONS {
            sessions.pop_front();
        }
        sessions.push_back(Session { name: name.clone(), transcript, from, disk, proven: false });
        Ok(Response::new(PeerHelloResponse {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            disk: identity.disk.to_be_bytes().to_vec().into(),
            proof: proof.to_vec().into(),
            challenge: challenge.into(),
            session: name.into(),
        }))
    }

    async fn prove(&self, request: Request<PeerProveRequest>) -> Answer<PeerProveResponse> {
        let request = request.into_inner();
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.iter_mut().find(|session| session.name == request.session) else {
            return Err(Error::Unauthenticated("this session is unknown; say hello again".to_owned()).into());
        };
        if self.identity.token.verify(Side::Worker, &session.transcript, &request.proof).is_err() {
            return Err(Error::Unauthenticated(OTHER_KEY.to_owned()).into());
        }
        self.identity.group.lock().meet(session.from, session.disk).map_err(|err| Error::Refused(err.to_string()))?;
        session.proven = true;
        Ok(Response::new(PeerProveResponse {}))
    }

    async fn deliver(&self, request: Request<Streaming<PeerMessage>>) -> Answer<PeerDelivered> {
        let name = request.metadata().get_bin(SESSION).and_then(|value| value.to_bytes().ok()).unwrap_or_default();
        let from = {
            let sessions = self.sessions.lock();
            sessions.iter().find(|session| session.name == name && session.proven).map(|session| session.from)
        };
        let from = from.ok_or_else(|| {
            Error::Unauthenticated("this master has not proven the cluster's key; say hello again".to_owned())
        })?;
        let mut messages = request.into_inner();
        while let Some(PeerMessage { message, everywhere }) = messages.message().await? {
            if !self.inbox.push(Event::PeerMessage { from, message, everywhere: LogIndex(everywhere) }) {
                tracing::debug!(%from, "a message was dropped: too many wait for the state thread");
            }
        }
        Ok(Response::new(PeerDelivered {}))
    }
}
