//! goosefs.internal.v1.Peers: what other masters send here.

use super::sender::Sender;
use super::{Identity, Inbox, Members, Network, SESSION, VERSION, random};
use crate::core::Event;
use crate::error::Error;
use crate::room::Short;
use journal::MemberId;
use parking_lot::Mutex;
use proto::internal::peers_server::Peers;
use proto::internal::*;
use rpc::{Side, Transcript};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
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
    /// As whom it calls this master.
    to: MemberId,
    disk: u128,
    address: String,
    founders: Vec<String>,
    proven: bool,
}

pub struct Gate {
    identity: Arc<Identity>,
    inbox: Arc<Inbox>,
    entropy: Arc<dyn Entropy>,
    /// Oldest first.
    sessions: Mutex<VecDeque<Session>>,
    /// Absent while this master waits for an id.
    network: Option<Arc<Network>>,
    sender: Option<Arc<Sender>>,
    admitted: watch::Sender<bool>,
}

impl Gate {
    pub fn new(identity: Arc<Identity>, inbox: Arc<Inbox>, entropy: Arc<dyn Entropy>) -> Gate {
        let (sessions, admitted) = (Mutex::default(), watch::Sender::new(false));
        Gate { identity, inbox, entropy, sessions, network: None, sender: None, admitted }
    }

    /// Who is met before the log says that it is a member is answered, too.
    pub fn with_network(self, network: Arc<Network>) -> Gate {
        Gate { network: Some(network), ..self }
    }

    pub fn with_sender(self, sender: Arc<Sender>) -> Gate {
        Gate { sender: Some(sender), ..self }
    }

    /// Turns true when a leader has called this master by an id.
    pub fn admitted(&self) -> watch::Receiver<bool> {
        self.admitted.subscribe()
    }

    /// Whose session the metadata name.
    fn session<T>(&self, request: &Request<T>) -> Result<MemberId, Error> {
        let name = request.metadata().get_bin(SESSION).and_then(|value| value.to_bytes().ok()).unwrap_or_default();
        self.proven(&name)
    }

    /// Who has proven to be the other end of a session.
    fn proven(&self, name: &[u8]) -> Result<MemberId, Error> {
        let sessions = self.sessions.lock();
        // The newest are those in use.
        let from =
            sessions.iter().rev().find(|session| session.name == name && session.proven).map(|session| session.from);
        from.ok_or_else(|| {
            Error::Unauthenticated("this master has not proven the cluster's key; say hello again".to_owned())
        })
    }

    /// Takes a message in, and lets this thread act on it.
    async fn hear(&self, from: MemberId, told: PeerMessage) -> Result<(), Error> {
        let PeerMessage { message, everywhere, short_of_room } = told;
        self.identity.rooms.heard(from, Short::from_wire(short_of_room));
        if self.identity.was_removed(from) {
            return Err(Error::Refused(removed(from)));
        }
        if !self.inbox.push(Event::PeerMessage { from, message, everywhere: LogIndex(everywhere) }).await {
            tracing::debug!(%from, "a message was dropped: too many wait for the state thread");
        }
        Ok(())
    }

    fn is_ready(&self) -> Result<(), Error> {
        match self.identity.own {
            MemberId(0) => Err(Error::Starting("it was just taken into the group")),
            _ => Ok(()),
        }
    }

    /// A proven member of the group calls this master, which has no id yet, by one.
    fn admit(&self, to: MemberId, founders: &[String]) -> Result<(), Error> {
        let members = Members::new(founders).map_err(Error::Invalid)?;
        if members.address(to).is_some() || to == MemberId(0) {
            return Err(Error::Refused(format!(
                "this master has a blank disk and cannot be {to}, who founded the group: a blank disk joins under a new id"
            )));
        }
        let mut group = self.identity.group.lock();
        if group.is_waiting() {
            group.admit(to, members).map_err(|err| Error::Refused(err.to_string()))?;
        } else if group.own != to {
            return Err(Error::Refused(format!("this master is {} by now", group.own)));
        }
        drop(group);
        self.admitted.send_replace(true);
        Ok(())
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
        let waits = identity.own == MemberId(0);
        let from = MemberId(hello.from);
        if identity.was_removed(from) {
            return Some(removed(from));
        }
        if waits && !hello.admits {
            return Some("this master waits for the leading one to take it into the group".to_owned());
        }
        if hello.members != identity.addresses && !waits {
            return Some(format!(
                "the other master was formatted for the group {}, this one for {}; goosefs.master.embedded.journal.addresses must be the same on all masters when they are formatted",
                hello.members.join(","),
                identity.addresses.join(",")
            ));
        }
        if (MemberId(hello.to) != identity.own && !waits) || from == identity.own {
            return Some(format!(
                "{from} looks for {}, and this is {}; two masters have the same address in goosefs.master.embedded.journal.addresses, or a name leads to the wrong host",
                MemberId(hello.to),
                identity.own
            ));
        }
        None
    }
}

/// What a master is told that is a member no longer.
fn removed(from: MemberId) -> String {
    format!(
        "{from} was removed from the group; stop it, and to take it in again format it with `goosefs formatMaster --force --join`"
    )
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
            cluster: identity.context((from, disk), (MemberId(hello.to), identity.disk)),
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
        sessions.push_back(Session {
            name: name.clone(),
            transcript,
            from,
            to: MemberId(hello.to),
            disk,
            address: hello.address,
            founders: hello.members,
            proven: false,
        });
        Ok(Response::new(PeerHelloResponse {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            disk: identity.disk.to_be_bytes().to_vec().into(),
            proof: proof.to_vec().into(),
            challenge: challenge.into(),
            session: name.into(),
            rules: meta::RULES_VERSION,
            priority: identity.priority,
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
        if self.identity.own == MemberId(0) {
            self.admit(session.to, &session.founders)?;
        }
        let known = {
            let members = self.identity.members.lock();
            members.seat(session.from).map(|seat| seat.address.clone())
        };
        let address = known.as_ref().unwrap_or(&session.address);
        let met = self.identity.group.lock().meet(session.from, session.disk, address);
        met.map_err(|err| Error::Refused(err.to_string()))?;
        session.proven = true;
        if let (Some(network), None) = (&self.network, known) {
            network.look_for(session.from, &session.address);
        }
        Ok(Response::new(PeerProveResponse {}))
    }

    async fn deliver(&self, request: Request<Streaming<PeerMessage>>) -> Answer<PeerDelivered> {
        let from = self.session(&request)?;
        self.is_ready()?;
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            self.hear(from, message).await?;
        }
        Ok(Response::new(PeerDelivered {}))
    }

    async fn note(&self, request: Request<PeerNote>) -> Answer<PeerDelivered> {
        let PeerNote { session, message } = request.into_inner();
        let from = self.proven(&session)?;
        self.is_ready()?;
        self.hear(from, message.unwrap_or_default()).await?;
        Ok(Response::new(PeerDelivered {}))
    }

    async fn checkpoint(&self, request: Request<CheckpointRequest>) -> Answer<CheckpointResponse> {
        self.session(&request)?;
        let sender = self.sender.as_ref().ok_or(Error::Starting("it has no state yet"))?;
        Ok(Response::new(sender.checkpoint(&request.into_inner().have).await?))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Answer<BoxStream<FetchPiece>> {
        self.session(&request)?;
        let sender = self.sender.as_ref().ok_or(Error::Starting("it has no state yet"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(sender.fetch(&request.into_inner())?))))
    }
}
