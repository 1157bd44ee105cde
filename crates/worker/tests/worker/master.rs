//! A master that says what a test told it to, and remembers what it was told.

use parking_lot::Mutex;
use proto::internal::worker_master_server::{WorkerMaster, WorkerMasterServer};
use proto::internal::*;
use rpc::{ClusterKey, Routes, Running, Server, ServerConfig, SessionKey, Side, Transcript, WorkerToken};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use types::{BlockId, ContainerId, WriteType};

/// A file as this master knows it.
#[derive(Clone, Debug)]
pub struct File {
    pub key: String,
    pub fingerprint: String,
    pub length: u64,
    pub block_bytes: u64,
    pub complete: bool,
    pub write_type: WriteType,
    pub cacheable: bool,
    /// Who may read and write it; None: everybody.
    pub only: Option<String>,
}

#[derive(Default)]
pub struct State {
    pub cluster: u128,
    pub incarnation: u64,
    pub files: BTreeMap<u64, File>,
    pub uri: String,
    pub right_valid_ms: u32,
    /// Blocks as reported, with their resident bytes.
    pub blocks: BTreeMap<u64, BlockReport>,
    pub registrations: u64,
    pub directories: Vec<Directory>,
    pub identity: Vec<u8>,
    pub epoch: u64,
    pub sequence: u64,
    pub last_answer: HeartbeatResponse,
    /// Given out with the next answer.
    pub orders: HeartbeatResponse,
    pub metrics: HashMap<String, f64>,
    pub resolves: u64,
    /// Keys whose objects were about to appear.
    pub announced: Vec<String>,
    pub closed: Vec<CloseStreamRequest>,
    /// Files go away just before their streams are reported closed.
    pub closes_late: bool,
    pub granted: Vec<(u64, u32)>,
    pub refuse_grants: bool,
    pub ended: Vec<EndPersistRequest>,
    pub changed: Vec<ReportChangedRequest>,
    /// What a file becomes when it is reported changed.
    pub after_change: BTreeMap<u64, File>,
    pub sessions: BTreeSet<Vec<u8>>,
    /// It begins anew when it has given a persist, and then so many times between a hello and the proof that follows.
    pub forgets_hellos: u64,
}

/// What was said, and the key once the worker has proven itself.
type Handshake = (Transcript, Option<SessionKey>);

pub struct Master {
    pub state: Mutex<State>,
    token: WorkerToken,
    handshakes: Mutex<HashMap<Vec<u8>, Handshake>>,
}

/// A master that listens. Dropping it is its death.
pub struct Listening {
    pub master: Arc<Master>,
    running: Running,
}

impl Master {
    /// Makes the key file too.
    pub fn new(key_file: &Path, uri: &str) -> Arc<Master> {
        let key = ClusterKey::create(key_file).expect("a new key file");
        let state =
            State { cluster: 0xC1, incarnation: 1, uri: uri.to_owned(), right_valid_ms: 60_000, ..State::default() };
        Arc::new(Master { state: Mutex::new(state), token: key.token(), handshakes: Mutex::default() })
    }

    pub fn listen(self: &Arc<Master>, address: &str) -> Listening {
        let server = Server::bind(address, ServerConfig { threads: 1, ..ServerConfig::default() }).expect("a port");
        let master = Arc::clone(self);
        let running = server
            .serve(move |_| Routes::new().service(WorkerMasterServer::from_arc(Arc::clone(&master))))
            .expect("threads");
        Listening { master: Arc::clone(self), running }
    }

    pub fn add(&self, container: u64, file: File) {
        self.state.lock().files.insert(container, file);
    }

    pub fn change(&self, container: u64, edit: impl FnOnce(&mut File)) {
        edit(self.state.lock().files.get_mut(&container).expect("a known file"));
    }

    /// Bytes of a block the worker said it has.
    pub fn reported(&self, block: BlockId) -> Option<BlockReport> {
        self.state.lock().blocks.get(&block.to_wire().cast_unsigned()).copied()
    }

    fn session<T>(&self, request: &Request<T>) -> Result<Vec<u8>, Status> {
        let session = request.metadata().get_bin("goosefs-session-bin").and_then(|value| value.to_bytes().ok());
        let session = session.map(|bytes| bytes.to_vec()).unwrap_or_default();
        match self.state.lock().sessions.contains(&session) {
            true => Ok(session),
            false => Err(Status::unauthenticated("say hello first")),
        }
    }
}

impl Listening {
    pub fn address(&self) -> String {
        self.running.local_addr().to_string()
    }

    /// Gone, with all it remembered of sessions; what it knows of files stays.
    pub async fn die(self) -> (Arc<Master>, String) {
        let address = self.address();
        self.running.stop(std::time::Duration::ZERO).await;
        self.master.state.lock().sessions.clear();
        (self.master, address)
    }
}

#[tonic::async_trait]
impl WorkerMaster for Master {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let request = request.into_inner();
        let state = self.state.lock();
        let cluster = state.cluster.to_be_bytes().to_vec();
        let transcript = Transcript {
            versions: (request.version, 1),
            cluster: cluster.clone(),
            incarnation: state.incarnation,
            worker: Transcript::read_challenge(&request.challenge).expect("32 bytes"),
            master: Transcript::challenge(),
        };
        let session = transcript.master[..16].to_vec();
        let answer = HelloResponse {
            version: 1,
            release: "test".into(),
            cluster: cluster.into(),
            incarnation: state.incarnation,
            proof: self.token.prove(Side::Master, &transcript).to_vec().into(),
            challenge: transcript.master.to_vec().into(),
            session: session.clone().into(),
        };
        self.handshakes.lock().insert(session, (transcript, None));
        Ok(Response::new(answer))
    }

    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<ProveResponse>, Status> {
        let request = request.into_inner();
        let mut handshakes = self.handshakes.lock();
        let mut state = self.state.lock();
        if state.forgets_hellos > 0 {
            state.forgets_hellos -= 1;
            return Err(Status::unauthenticated("this session is unknown; say hello again"));
        }
        let (transcript, key) = handshakes.get_mut(request.session.as_ref()).expect("a hello came before");
        self.token
            .verify(Side::Worker, transcript, &request.proof)
            .map_err(|e| Status::unauthenticated(e.to_string()))?;
        *key = Some(self.token.session(transcript));
        state.sessions.insert(request.session.to_vec());
        Ok(Response::new(ProveResponse {}))
    }

    async fn register(
        &self,
        request: Request<Streaming<RegisterRequest>>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.session(&request)?;
        let mut parts = request.into_inner();
        let Some(register_request::Part::Head(head)) = parts.message().await?.and_then(|part| part.part) else {
            return Err(Status::invalid_argument("a head first"));
        };
        let mut blocks = BTreeMap::new();
        while let Some(part) = parts.message().await? {
            let Some(register_request::Part::Blocks(more)) = part.part else {
                return Err(Status::invalid_argument("blocks after the head"));
            };
            blocks.extend(more.blocks.into_iter().map(|report| (report.block, report)));
        }
        let mut state = self.state.lock();
        state.blocks = blocks;
        state.registrations += 1;
        state.epoch += 1;
        state.sequence = 0;
        state.directories = head.directories;
        state.identity = head.identity.to_vec();
        Ok(Response::new(RegisterResponse {
            worker: if head.worker == 0 { 4711 } else { head.worker },
            epoch: state.epoch,
            incarnation: state.incarnation,
            heartbeat_interval_ms: 100,
            cluster: state.cluster.to_be_bytes().to_vec().into(),
        }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        self.session(&request)?;
        let beat = request.into_inner();
        let mut state = self.state.lock();
        if beat.epoch != state.epoch {
            return Ok(Response::new(HeartbeatResponse { register: true, ..Default::default() }));
        }
        if beat.sequence == state.sequence + 1 {
            state.sequence += 1;
            beat.removed.iter().for_each(|block| {
                state.blocks.remove(block);
            });
            state.blocks.extend(beat.added.iter().map(|report| (report.block, *report)));
            for (name, by) in beat.metrics {
                *state.metrics.entry(name).or_default() += by;
            }
            state.directories = beat.directories;
            state.last_answer = std::mem::take(&mut state.orders);
            if state.forgets_hellos > 0 && !state.last_answer.persist.is_empty() {
                state.sessions.clear();
            }
        } else {
            assert_eq!(beat.sequence, state.sequence, "a repeat or the next one");
        }
        Ok(Response::new(state.last_answer.clone()))
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        self.session(&request)?;
        let question = request.into_inner();
        let mut state = self.state.lock();
        state.resolves += 1;
        if question.completing {
            state.announced.push(question.key.clone());
        }
        let found = match question.container {
            0 => state.files.iter().find(|(_, file)| file.key == question.key && !file.complete),
            id => state.files.get_key_value(&id),
        };
        let Some((container, file)) = found else {
            return Err(Status::not_found("no file owns this container: it was removed or rewritten"));
        };
        if file.only.as_ref().is_some_and(|user| *user != question.user) {
            return Err(Status::permission_denied(format!("{} may not do that", question.user)));
        }
        Ok(Response::new(ResolveResponse {
            container: *container,
            mount: 1,
            key: file.key.clone(),
            fingerprint: file.fingerprint.clone(),
            length: file.length,
            block_bytes: file.block_bytes,
            complete: file.complete,
            write_type: file.write_type.number(),
            persisted: !file.key.is_empty(),
            cacheable: file.cacheable,
            right_valid_ms: state.right_valid_ms,
            owner: String::new(),
            group: String::new(),
            mode: 0o644,
            stays_in_cache: file.key.is_empty() && file.write_type == WriteType::MustCache,
        }))
    }

    async fn mount(&self, request: Request<MountRequest>) -> Result<Response<MountResponse>, Status> {
        let session = self.session(&request)?;
        let handshakes = self.handshakes.lock();
        let key = handshakes[&session].1.as_ref().expect("proven");
        let _sealed = key.seal(b"unused", b"unused");
        let uri = self.state.lock().uri.clone();
        Ok(Response::new(MountResponse { mount: 1, uri, ..MountResponse::default() }))
    }

    async fn close_stream(
        &self,
        request: Request<CloseStreamRequest>,
    ) -> Result<Response<CloseStreamResponse>, Status> {
        self.session(&request)?;
        let request = request.into_inner();
        let mut state = self.state.lock();
        let stale = state.closes_late && state.files.remove(&request.container).is_some();
        state.closed.push(request);
        Ok(Response::new(CloseStreamResponse { stale }))
    }

    async fn grant_persist(
        &self,
        request: Request<GrantPersistRequest>,
    ) -> Result<Response<GrantPersistResponse>, Status> {
        self.session(&request)?;
        let request = request.into_inner();
        let mut state = self.state.lock();
        if state.refuse_grants {
            return Err(Status::failed_precondition("this attempt is over"));
        }
        state.granted.push((request.container, request.attempt));
        Ok(Response::new(GrantPersistResponse {}))
    }

    async fn end_persist(&self, request: Request<EndPersistRequest>) -> Result<Response<EndPersistResponse>, Status> {
        self.session(&request)?;
        self.state.lock().ended.push(request.into_inner());
        Ok(Response::new(EndPersistResponse { stale: false }))
    }

    async fn report_changed(
        &self,
        request: Request<ReportChangedRequest>,
    ) -> Result<Response<ReportChangedResponse>, Status> {
        self.session(&request)?;
        let request = request.into_inner();
        let mut state = self.state.lock();
        match state.after_change.remove(&request.container) {
            Some(file) => {
                state.files.insert(request.container, file);
            }
            None => {
                state.files.remove(&request.container);
            }
        }
        state.changed.push(request);
        Ok(Response::new(ReportChangedResponse {}))
    }
}

/// The block of a file.
pub fn block(container: u64, index: u64) -> BlockId {
    ContainerId(container).block(index).expect("small")
}
