//! One direction to one other master: notes by frames, which whoever sends writes where it stands, or, to an older release, a
//! bounded queue and a stream; and a task that keeps either open.

use super::{Identity, Inbox, MESSAGE_BYTES, SESSION, VERSION};
use crate::core::{Event, Said};
use bytes::Bytes;
use journal::MemberId;
use parking_lot::Mutex;
use proto::internal::peers_client::PeersClient;
use proto::internal::{
    PeerHelloRequest, PeerHelloResponse, PeerMessage, PeerNote, PeerProveRequest, PeerProveResponse,
};
use rpc::{Frames, Side, Transcript, Watch};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use types::LogIndex;

/// Messages that may wait for the connection, and their bytes: what raft keeps on its way to one member, within reason.
const WAITING: usize = 1024;
const WAITING_BYTES: usize = 32 << 20;
/// How long opening a connection and the handshake on it may take.
const OPEN_WITHIN: Duration = Duration::from_secs(3);
/// A peer that vanished without a word is noticed after about both together.
const WATCH: Watch = Watch { ask_after: Duration::from_secs(1), silence: Duration::from_secs(2), always: true };
/// Pauses between tries: doubled from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a lane carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Parts of the log: large.
    Log,
    /// Heartbeats, votes, answers: small and urgent.
    Rest,
    /// No messages: a checkpoint's files.
    Snapshot,
}

/// From where to where.
pub struct Course {
    pub identity: Arc<Identity>,
    pub inbox: Arc<Inbox>,
    pub to: MemberId,
    pub address: String,
    pub what: What,
}

/// How messages go while there is a connection.
enum Way {
    /// Each names the session.
    Notes(Arc<Frames>, Bytes),
    /// To a master that does not know frames; with the bytes that wait.
    Stream(mpsc::Sender<PeerMessage>, Arc<AtomicUsize>),
}

type Open = Arc<Mutex<Option<Way>>>;

/// The sending end.
pub struct Lane {
    identity: Arc<Identity>,
    open: Open,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lane {
    pub fn start(course: Course, runtime: &tokio::runtime::Handle) -> Lane {
        let (identity, open) = (Arc::clone(&course.identity), Open::default());
        let task = runtime.spawn(Task { course, open: Arc::clone(&open) }.run());
        Lane { identity, open, task }
    }

    /// Sends a message, or queues it; false when there is no connection, or too much waits already. Never blocks.
    pub fn send(&self, message: Bytes, everywhere: LogIndex) -> bool {
        let bytes = message.len();
        let short_of_room = self.identity.rooms.own().to_wire();
        let message = PeerMessage { message, everywhere: everywhere.0, short_of_room };
        match self.open.lock().as_ref() {
            None => false,
            Some(Way::Notes(frames, session)) => {
                let note = PeerNote { session: session.clone(), message: Some(message) };
                frames.note(&note, WAITING_BYTES).unwrap_or(false)
            }
            Some(Way::Stream(queue, waiting)) => {
                if waiting.load(Ordering::Relaxed) + bytes > WAITING_BYTES {
                    return false;
                }
                waiting.fetch_add(bytes, Ordering::Relaxed);
                let queued = queue.try_send(message).is_ok();
                if !queued {
                    waiting.fetch_sub(bytes, Ordering::Relaxed);
                }
                queued
            }
        }
    }
}

struct Task {
    course: Course,
    open: Open,
}

impl Task {
    async fn run(self) {
        let (mut failures, mut told) = (0_u32, String::new());
        loop {
            let opened = tokio::time::timeout(OPEN_WITHIN, open_either(&self.course)).await;
            let why = match opened.unwrap_or_else(|_| Err(format!("no answer within {OPEN_WITHIN:?}"))) {
                Ok(line) => {
                    failures = 0;
                    told.clear();
                    let by_frames = matches!(line, Either::Frames(_));
                    tracing::info!(to = %self.course.to, address = %self.course.address, what = ?self.course.what, by_frames, "connected to another master");
                    if self.course.what == What::Rest {
                        self.course.inbox.push(Event::Met(self.course.to, line.said())).await;
                    }
                    let why = match line {
                        Either::Frames(line) => self.note(line).await,
                        Either::Stream(line) => self.deliver(line).await,
                    };
                    *self.open.lock() = None;
                    why
                }
                Err(why) => why,
            };
            if why != told {
                tracing::warn!(to = %self.course.to, address = %self.course.address, what = ?self.course.what, %why, "no connection to another master, trying again");
                told = why;
            }
            self.course.inbox.push(Event::Unreachable(self.course.to)).await;
            tokio::time::sleep(FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE)).await;
            failures += 1;
        }
    }

    /// Lets notes be sent until the connection ends; why it ended.
    async fn note(&self, line: Line<Frames>) -> String {
        let frames = Arc::new(line.client);
        *self.open.lock() = Some(Way::Notes(frames.clone(), line.session));
        frames.over().await.message().to_owned()
    }

    /// Sends what is queued until the connection ends; why it ended.
    async fn deliver(&self, line: Line) -> String {
        let (sender, receiver) = mpsc::channel(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        *self.open.lock() = Some(Way::Stream(sender, Arc::clone(&waiting)));
        let messages = ReceiverStream::new(receiver).map(move |message: PeerMessage| {
            waiting.fetch_sub(message.message.len(), Ordering::Relaxed);
            message
        });
        let mut request = Request::new(messages);
        request.metadata_mut().insert_bin(SESSION, MetadataValue::from_bytes(&line.session));
        let mut client = line.client;
        match client.deliver(request).await {
            Ok(_) => "it ended the connection".to_owned(),
            Err(status) => status.message().to_owned(),
        }
    }
}

/// A connection whose both ends have proven themselves.
pub struct Line<C = PeersClient<Channel>> {
    pub client: C,
    pub session: Bytes,
    /// What the other end says of itself.
    pub said: Said,
}

/// The way to make one: both ends say who they are, and prove it.
trait Introduce {
    async fn hello(&mut self, hello: PeerHelloRequest) -> Result<PeerHelloResponse, Status>;
    async fn prove(&mut self, prove: PeerProveRequest) -> Result<PeerProveResponse, Status>;
}

impl Introduce for Frames {
    async fn hello(&mut self, hello: PeerHelloRequest) -> Result<PeerHelloResponse, Status> {
        self.call(&hello).await
    }
    async fn prove(&mut self, prove: PeerProveRequest) -> Result<PeerProveResponse, Status> {
        self.call(&prove).await
    }
}

impl Introduce for PeersClient<Channel> {
    async fn hello(&mut self, hello: PeerHelloRequest) -> Result<PeerHelloResponse, Status> {
        Ok(PeersClient::hello(self, hello).await?.into_inner())
    }
    async fn prove(&mut self, prove: PeerProveRequest) -> Result<PeerProveResponse, Status> {
        Ok(PeersClient::prove(self, prove).await?.into_inner())
    }
}

enum Either {
    Frames(Line<Frames>),
    Stream(Line),
}

impl Either {
    fn said(&self) -> Said {
        match self {
            Either::Frames(line) => line.said,
            Either::Stream(line) => line.said,
        }
    }
}

/// By frames where the other master knows them.
async fn open_either(course: &Course) -> Result<Either, String> {
    let opened = Frames::open_unnamed(&course.address, WATCH, Instant::now() + OPEN_WITHIN).await;
    match opened.map_err(|err| types::sentence(&err))?.filter(Frames::has::<PeerNote>) {
        Some(frames) => Ok(Either::Frames(meet(course, frames).await?)),
        None => Ok(Either::Stream(open(course).await?)),
    }
}

pub async fn open(course: &Course) -> Result<Line, String> {
    let endpoint = endpoint(course)?;
    meet(course, client(endpoint.connect().await)?).await
}

/// Opens on a thread of its own at the other end, unless that is of an older release.
pub async fn open_apart(course: &Course) -> Result<Line, String> {
    let endpoint = endpoint(course)?;
    let apart = async { meet(course, client(rpc::connect_apart(&endpoint).await)?).await };
    match apart.await {
        Ok(line) => Ok(line),
        Err(_) => open(course).await,
    }
}

fn client(connected: Result<Channel, tonic::transport::Error>) -> Result<PeersClient<Channel>, String> {
    let channel = connected.map_err(|err| types::sentence(&err))?;
    Ok(PeersClient::new(channel).max_encoding_message_size(MESSAGE_BYTES))
}

fn endpoint(course: &Course) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{}", course.address))
        .map_err(|err| format!("{} is no address: {err}", course.address))?
        .connect_timeout(OPEN_WITHIN)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(WATCH.ask_after)
        .keep_alive_timeout(WATCH.silence)
        .keep_alive_while_idle(true);
    Ok(endpoint)
}

/// Both ends prove themselves.
async fn meet<C: Introduce>(course: &Course, mut client: C) -> Result<Line<C>, String> {
    let (identity, to) = (&course.identity, course.to);
    let challenge = Transcript::challenge();
    let hello = PeerHelloRequest {
        version: VERSION,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: identity.cluster.0.to_be_bytes().to_vec().into(),
        from: identity.own.0,
        to: to.0,
        disk: identity.disk.to_be_bytes().to_vec().into(),
        members: identity.addresses.clone(),
        challenge: challenge.to_vec().into(),
        address: identity.own_address.clone(),
        admits: identity.admits(to),
    };
    let answer = client.hello(hello).await.map_err(|status| status.message().to_owned())?;
    if answer.version != VERSION {
        return Err(format!(
            "release {} speaks version {} of the protocol between masters, this one {VERSION}; upgrade the older one",
            answer.release, answer.version
        ));
    }
    let disk = super::gate::disk(&answer.disk)?;
    let transcript = Transcript {
        versions: (VERSION, answer.version),
        cluster: identity.context((identity.own, identity.disk), (to, disk)),
        incarnation: 0,
        worker: challenge,
        master: Transcript::read_challenge(&answer.challenge).map_err(|err| err.to_string())?,
    };
    identity.token.verify(Side::Master, &transcript, &answer.proof).map_err(|_| super::gate::OTHER_KEY.to_owned())?;
    identity.group.lock().meet(to, disk, &course.address).map_err(|err| err.to_string())?;
    let proof = identity.token.prove(Side::Worker, &transcript).to_vec().into();
    let prove = PeerProveRequest { session: answer.session.clone(), proof };
    client.prove(prove).await.map_err(|status| status.message().to_owned())?;
    let said = Said { rules: answer.rules.max(meta::FIRST_RULES), priority: answer.priority };
    Ok(Line { client, session: answer.session, said })
}
