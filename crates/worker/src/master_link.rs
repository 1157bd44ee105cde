//! What a worker asks of the masters, on their internal port.
//!
//! Is:     one session with the leader: hello, mutual proof of the cluster's key, then calls that carry the session.
//! Owns:   the connection, the session key, which master answered last.
//! Never:  decides when to register or beat (the core does); sends the key.

use crate::core::Known;
use crate::dial::{Dial, Wire};
use crate::error::WorkerError;
use crate::store::{DirectoryReport, Identity, Report};
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use proto::internal as wire;
use proto::internal::worker_master_client::WorkerMasterClient;
use rpc::{SessionKey, Side, Transcript, WorkerToken};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{Binary, MetadataValue};
use tonic::{Request, Status};
use types::{Attempt, ClusterId, ContainerId, ErrorKind, Fingerprint, Incarnation, MountId, Secret, WorkerId};

/// The version of `goosefs.internal.v1` this release speaks.
const VERSION: u32 = 1;
const SESSION_HEADER: &str = "goosefs-session-bin";
/// Blocks in one message of a registration.
const REGISTER_CHUNK: usize = 10_000;
/// A registration may take this many times as long as another call: it carries every block.
const REGISTER_PATIENCE: u32 = 12;
/// After all masters failed, calls fail at once for this long instead of each waiting for the same failure.
const QUIET: Duration = Duration::from_millis(300);
/// Between rounds over several masters, none of which leads: first and longest.
const FIRST_REST: Duration = Duration::from_millis(25);
const LONGEST_REST: Duration = Duration::from_millis(500);
/// Sessions tried for one call: the first may be over, the second may meet a master that just lost its lead.
const CALL_TRIES: usize = 4;

/// The way to the masters. Calls are cancel-safe: dropping one gives up the answer.
pub struct MasterLink {
    masters: Vec<String>,
    token: Arc<WorkerToken>,
    patience: Duration,
    dial: Arc<dyn Dial>,
    own: Mutex<Identity>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// The master to try first.
    turn: usize,
    quiet_until: Option<Instant>,
    last_error: String,
    /// A master answered, and refused this worker: said again while it is quiet.
    refusal: Option<WorkerError>,
}

struct Session {
    client: WorkerMasterClient<Wire>,
    header: MetadataValue<Binary>,
    key: SessionKey,
}

impl Session {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert_bin(SESSION_HEADER, self.header.clone());
        request
    }
}

/// What a master said to a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registered {
    pub worker: WorkerId,
    pub epoch: u64,
    pub cluster: ClusterId,
    pub incarnation: Incarnation,
    pub heartbeat_interval: Duration,
}

/// What a registration says besides the blocks.
#[derive(Clone, Debug)]
pub struct Presence {
    pub host: String,
    pub rpc_port: u16,
    pub web_port: u16,
    pub started_unix_ms: i64,
    pub directories: Vec<DirectoryReport>,
    pub kept_bytes: u64,
}

/// A mounted under store as the master describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountFacts {
    pub uri: String,
    pub read_only: bool,
    pub properties: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
}

impl MasterLink {
    pub fn new(
        masters: Vec<String>,
        token: Arc<WorkerToken>,
        patience: Duration,
        dial: Arc<dyn Dial>,
        own: Identity,
    ) -> MasterLink {
        MasterLink { masters, token, patience, dial, own: Mutex::new(own), state: tokio::sync::Mutex::default() }
    }

    /// Who this worker is; updated when it joined a cluster.
    pub fn own(&self) -> Identity {
        *self.own.lock()
    }
    pub fn set_own(&self, own: Identity) {
        *self.own.lock() = own;
    }

    /// Why a master that answers refuses this worker; None while nobody does.
    pub async fn refusal(&self) -> Option<String> {
        self.state.lock().await.refusal.as_ref().map(WorkerError::sentence)
    }

    /// Tells a master everything that is here.
    ///
    /// - `known`: the session to join it under, if another master gave one.
    pub async fn register(
        &self,
        presence: Presence,
        blocks: Vec<Report>,
        known: Known,
    ) -> Result<Registered, WorkerError> {
        let own = self.own();
        let blocks = Arc::new(blocks);
        let head = wire::RegisterHead {
            worker: own.worker.map_or(0, |worker| worker.0),
            identity: Bytes::copy_from_slice(&own.identity.to_be_bytes()),
            incarnation: own.incarnation.0,
            host: presence.host,
            rpc_port: u32::from(presence.rpc_port),
            web_port: u32::from(presence.web_port),
            started_unix_ms: presence.started_unix_ms,
            directories: presence.directories.iter().map(directory).collect(),
            persist_used_bytes: presence.kept_bytes,
            epoch: known.epoch,
            sequence: known.sequence,
        };
        let patience = self.patience * REGISTER_PATIENCE;
        let answer = self
            .call("register with the master", patience, |session| {
                let parts = parts(head.clone(), Arc::clone(&blocks));
                async move { session.client.clone().register(session.request(parts)).await }
            })
            .await?;
        let cluster = cluster_of(&answer.cluster)?;
        Ok(Registered {
            worker: WorkerId(answer.worker),
            epoch: answer.epoch,
            cluster,
            incarnation: Incarnation(answer.incarnation),
            heartbeat_interval: Duration::from_millis(u64::from(answer.heartbeat_interval_ms).max(1)),
        })
    }

    pub async fn heartbeat(&self, beat: wire::HeartbeatRequest) -> Result<wire::HeartbeatResponse, WorkerError> {
        self.call("send a heartbeat", self.patience, |session| {
            let request = session.request(beat.clone());
            async move { session.client.clone().heartbeat(request).await }
        })
        .await
    }

    pub async fn resolve(&self, question: wire::ResolveRequest) -> Result<wire::ResolveResponse, WorkerError> {
        self.call("ask the master about a file", self.patience, |session| {
            let request = session.request(question.clone());
            async move { session.client.clone().resolve(request).await }
        })
        .await
    }

    pub async fn mount(&self, mount: MountId) -> Result<MountFacts, WorkerError> {
        let opened = self
            .call_with("ask the master for an under store", self.patience, |session| {
                let request = session.request(wire::MountRequest { mount: mount.0 });
                async move {
                    let answer = session.client.clone().mount(request).await?.into_inner();
                    Ok((answer, session))
                }
            })
            .await?;
        let (answer, session) = opened;
        let unseal = |(name, sealed): (String, Bytes)| {
            let secret = session.key.open(&sealed, name.as_bytes()).map_err(|error| {
                WorkerError::Refused(format!(
                    "secret {name} of {mount} cannot be opened: {error}; check that the key file is the cluster's"
                ))
            })?;
            Ok((name, secret))
        };
        Ok(MountFacts {
            uri: answer.uri,
            read_only: answer.read_only,
            properties: answer.properties.into_iter().collect(),
            secrets: answer.secrets.into_iter().map(unseal).collect::<Result<_, WorkerError>>()?,
        })
    }

    /// Returns false when it comes too late: the file is not being written there any more.
    pub async fn close_stream(
        &self,
        container: ContainerId,
        fingerprint: Option<&Fingerprint>,
        length: u64,
    ) -> Result<bool, WorkerError> {
        let print = print(fingerprint);
        self.call("report a written file to the master", self.patience, |session| {
            let message = wire::CloseStreamRequest { container: container.0, fingerprint: print.clone(), length };
            let request = session.request(message);
            async move { session.client.clone().close_stream(request).await }
        })
        .await
        .map(|answer| !answer.stale)
    }

    pub async fn grant_persist(&self, container: ContainerId, attempt: Attempt) -> Result<(), WorkerError> {
        self.call("ask the master to complete a persist", self.patience, |session| {
            let message = wire::GrantPersistRequest { container: container.0, attempt: attempt.0 };
            let request = session.request(message);
            async move { session.client.clone().grant_persist(request).await }
        })
        .await
        .map(drop)
    }

    /// `outcome`: version and length of what was written, or why it was not. Returns false when it comes too late: another
    /// attempt, or none, counts by now.
    pub async fn end_persist(
        &self,
        container: ContainerId,
        attempt: Attempt,
        outcome: Result<(Option<Fingerprint>, u64), &WorkerError>,
    ) -> Result<bool, WorkerError> {
        let message = match outcome {
            Ok((fingerprint, length)) => wire::EndPersistRequest {
                container: container.0,
                attempt: attempt.0,
                error: String::new(),
                fingerprint: print(fingerprint.as_ref()),
                length,
                store_is_well: true,
            },
            Err(error) => wire::EndPersistRequest {
                container: container.0,
                attempt: attempt.0,
                error: error.sentence(),
                fingerprint: String::new(),
                length: 0,
                store_is_well: error.is_of_the_cluster(),
            },
        };
        self.call("report a persist to the master", self.patience, |session| {
            let request = session.request(message.clone());
            async move { session.client.clone().end_persist(request).await }
        })
        .await
        .map(|answer| !answer.stale)
    }

    pub async fn report_changed(
        &self,
        container: ContainerId,
        fingerprint: Option<&Fingerprint>,
    ) -> Result<(), WorkerError> {
        let print = print(fingerprint);
        self.call("report a changed object to the master", self.patience, |session| {
            let request =
                session.request(wire::ReportChangedRequest { container: container.0, fingerprint: print.clone() });
            async move { session.client.clone().report_changed(request).await }
        })
        .await
        .map(drop)
    }

    async fn call<T, F>(
        &self,
        verb: &'static str,
        patience: Duration,
        work: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, WorkerError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.call_with(verb, patience, |session| {
            let call = work(session);
            async move { call.await.map(tonic::Response::into_inner) }
        })
        .await
    }

    /// One call: with the session there is, with a new one when that is over, with the next master when the one asked
    /// does not lead. Never past the deadline.
    async fn call_with<T, F>(
        &self,
        verb: &'static str,
        patience: Duration,
        work: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, WorkerError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + patience;
        let mut words = String::new();
        // Of several masters one leads again shortly; a single one is asked a few times.
        let tries = if self.masters.len() > 1 { usize::MAX } else { CALL_TRIES };
        for number in 0..tries {
            if number >= self.masters.len()
                && self.masters.len() > 1
                && !rest(number / self.masters.len(), deadline).await
            {
                break;
            }
            let session = match self.session(verb, deadline).await {
                Err(error @ WorkerError::NoMaster { .. }) if self.masters.len() > 1 && Instant::now() < deadline => {
                    words = error.sentence();
                    continue;
                }
                session => session?,
            };
            match timeout_at(deadline, work(Arc::clone(&session))).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => match rpc::kind_of(&status) {
                    ErrorKind::Unauthenticated => self.end(&session, 0, &status).await,
                    ErrorKind::Unavailable => {
                        words = status.message().to_owned();
                        self.end(&session, 1, &status).await;
                    }
                    kind => return Err(WorkerError::Master { verb, kind, words: status.message().to_owned() }),
                },
                Err(_) => {
                    let silent = Status::deadline_exceeded(format!("no answer within {} ms", patience.as_millis()));
                    self.end(&session, 1, &silent).await;
                    return Err(WorkerError::NoMaster { verb, words: silent.message().to_owned() });
                }
            }
        }
        Err(WorkerError::NoMaster { verb, words })
    }

    /// This session is over; the next one is tried `skip` masters on.
    async fn end(&self, session: &Arc<Session>, skip: usize, why: &Status) {
        let mut state = self.state.lock().await;
        if state.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            state.session = None;
            state.turn += skip;
            state.last_error = why.message().to_owned();
        }
    }

    /// The session there is, or a new one with the first master that answers.
    async fn session(&self, verb: &'static str, deadline: Instant) -> Result<Arc<Session>, WorkerError> {
        let no_master = |words: &str| WorkerError::NoMaster { verb, words: words.to_owned() };
        let mut state = timeout_at(deadline, self.state.lock()).await.map_err(|_| no_master("masters are slow"))?;
        if let Some(session) = &state.session {
            return Ok(Arc::clone(session));
        }
        if state.quiet_until.is_some_and(|until| Instant::now() < until) {
            return Err(state.refusal.clone().unwrap_or_else(|| no_master(&state.last_error)));
        }
        state.refusal = None;
        for step in 0..self.masters.len() {
            let turn = state.turn + step;
            let address = &self.masters[turn % self.masters.len()];
            match timeout_at(deadline, self.hello(address)).await {
                Ok(Ok(session)) => {
                    let session = Arc::new(session);
                    (state.session, state.turn, state.quiet_until) = (Some(Arc::clone(&session)), turn, None);
                    return Ok(session);
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => state.last_error = error.sentence(),
                Ok(Err(error)) => {
                    (state.refusal, state.quiet_until) = (Some(error.clone()), Some(Instant::now() + QUIET));
                    return Err(error);
                }
                Err(_) => state.last_error = format!("{address} does not answer in time"),
            }
        }
        if self.masters.is_empty() {
            state.last_error = "no master address is configured".into();
        }
        state.quiet_until = Some(Instant::now() + QUIET);
        Err(no_master(&state.last_error))
    }

    async fn hello(&self, address: &str) -> Result<Session, WorkerError> {
        let verb = "say hello to the master";
        let words = |status: Status| {
            let kind = rpc::kind_of(&status);
            WorkerError::Master { verb, kind, words: format!("{address} says: {}", status.message()) }
        };
        let mut client = WorkerMasterClient::new(self.dial.dial(address).await?);
        let own = self.own();
        let challenge = Transcript::challenge();
        let hello = wire::HelloRequest {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: own.cluster.map(|cluster| Bytes::copy_from_slice(&cluster.0.to_be_bytes())).unwrap_or_default(),
            challenge: Bytes::copy_from_slice(&challenge),
        };
        let answer = client.hello(hello).await.map_err(words)?.into_inner();
        if answer.version != VERSION {
            return Err(WorkerError::Refused(format!(
                "master {address} (release {}) speaks version {} of the internal protocol, this worker version {VERSION}; \
                 upgrade the older one",
                answer.release, answer.version
            )));
        }
        let refused = |error: rpc::Error| {
            WorkerError::Refused(format!("master {address}: {error}; give master and worker the same key file"))
        };
        let transcript = Transcript {
            versions: (VERSION, answer.version),
            cluster: answer.cluster.to_vec(),
            incarnation: answer.incarnation,
            worker: challenge,
            master: Transcript::read_challenge(&answer.challenge).map_err(refused)?,
        };
        self.token.verify(Side::Master, &transcript, &answer.proof).map_err(refused)?;
        let cluster = cluster_of(&answer.cluster)?;
        same_cluster(address, &own, cluster, Incarnation(answer.incarnation))?;
        let proof = Bytes::copy_from_slice(&self.token.prove(Side::Worker, &transcript));
        let prove = wire::ProveRequest { session: answer.session.clone(), proof };
        client.prove(prove).await.map_err(|status| match rpc::kind_of(&status) {
            // Both have the same key, as its proof showed: it began anew in between, and has forgotten what it said.
            ErrorKind::Unauthenticated => words(Status::unavailable(status.message())),
            _ => words(status),
        })?;
        let key = self.token.session(&transcript);
        let header = MetadataValue::from_bytes(&answer.session);
        Ok(Session { client, header, key })
    }
}

/// A pause between rounds over all masters; false when none is left before the deadline.
async fn rest(round: usize, deadline: Instant) -> bool {
    let pause = FIRST_REST.saturating_mul(1 << round.min(8)).min(LONGEST_REST);
    let next = Instant::now() + pause;
    if next >= deadline {
        return false;
    }
    tokio::time::sleep_until(next).await;
    true
}

/// A worker never carries its blocks into another cluster, nor back to a history that a later one of the same cluster has
/// replaced. Into that later one it does: the master knows which blocks may not be of its history.
fn same_cluster(
    address: &str,
    own: &Identity,
    cluster: ClusterId,
    incarnation: Incarnation,
) -> Result<(), WorkerError> {
    let Some(known) = own.cluster else { return Ok(()) };
    if known != cluster {
        return Err(WorkerError::Refused(format!(
            "master {address} leads {cluster}, but this worker's directories belong to {known}; correct the master's \
             address, or give the worker empty directories"
        )));
    }
    if own.incarnation > incarnation {
        return Err(WorkerError::Refused(format!(
            "master {address} is of {incarnation}, which was given up for {}; it must not run any more: stop it, and see \
             docs/losing-a-master.md",
            own.incarnation
        )));
    }
    if own.incarnation < incarnation {
        tracing::warn!(%address, "the cluster goes on as {incarnation}, after a restore or a lost quorum; this worker was of {}", own.incarnation);
    }
    Ok(())
}

fn cluster_of(bytes: &[u8]) -> Result<ClusterId, WorkerError> {
    let bytes = <[u8; 16]>::try_from(bytes)
        .map_err(|_| WorkerError::Refused(format!("the master names its cluster in {} bytes, not 16", bytes.len())))?;
    Ok(ClusterId(u128::from_be_bytes(bytes)))
}

fn print(fingerprint: Option<&Fingerprint>) -> String {
    fingerprint.map(ToString::to_string).unwrap_or_default()
}

/// The messages of a registration: the head, then the blocks in chunks.
fn parts(
    head: wire::RegisterHead,
    blocks: Arc<Vec<Report>>,
) -> impl futures::Stream<Item = wire::RegisterRequest> + Send + 'static {
    use wire::register_request::Part;
    let chunks = blocks.len().div_ceil(REGISTER_CHUNK);
    let messages = (0..chunks).map(move |chunk| {
        let end = ((chunk + 1) * REGISTER_CHUNK).min(blocks.len());
        let blocks = blocks[chunk * REGISTER_CHUNK..end].iter().map(block_report).collect();
        wire::RegisterRequest { part: Some(Part::Blocks(wire::RegisterBlocks { blocks })) }
    });
    stream::iter(std::iter::once(wire::RegisterRequest { part: Some(Part::Head(head)) }).chain(messages))
}

/// A block as the wire says it.
pub fn block_report(report: &Report) -> wire::BlockReport {
    wire::BlockReport {
        block: report.block.to_wire().cast_unsigned(),
        resident_bytes: report.resident_bytes,
        unpersisted: report.unpersisted,
    }
}

/// A directory as the wire says it.
pub fn directory(report: &DirectoryReport) -> wire::Directory {
    wire::Directory {
        index: u32::from(report.index.0),
        tier: u32::from(report.tier),
        tier_alias: report.medium.name().to_owned(),
        path: report.path.display().to_string(),
        capacity_bytes: report.capacity_bytes,
        used_bytes: report.used_bytes,
        lost: report.lost.clone(),
    }
}
