//! goosefs.internal.v1: what workers ask of the master, on its internal port.

use crate::core::{Event, RETRY_MS, Want};
use crate::driver::Handle;
use crate::error::Error;
use crate::locations::Session as Rows;
use crate::registry::{Beat, Commands, Directory};
use crate::stores::Stores;
use meta::{
    AnnounceStream, CloseStream, Done, FailPersist, Family, FinishPersist, GrantPersist, Op, Record, RegisterWorker,
    Spot, Status as FileStatus, WorkerRecord,
};
use parking_lot::Mutex;
use proto::convert;
use proto::internal::worker_master_server::WorkerMaster;
use proto::internal::*;
use rpc::{ClusterKey, SessionKey, Side, Transcript, WorkerToken};
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use types::{
    Attempt, BlockId, ContainerId, MountId, PersistenceState, Principal, Proof, ReadPolicy, Right, SessionEpoch,
    WorkerId,
};

/// The version of this protocol.
pub const VERSION: u32 = 1;
/// Metadata that names a session.
pub const SESSION: &str = "goosefs-session-bin";
/// Sessions kept; the oldest is forgotten beyond that and its worker says hello again.
const SESSIONS: usize = 10_000;
/// Longest part of a worker's error text that is kept.
const ERROR_CHARS: usize = 1_000;

type Answer<T> = Result<Response<T>, Status>;

struct Session {
    transcript: Transcript,
    /// Set once the worker has proven itself.
    key: Option<SessionKey>,
}

pub struct WorkerGate {
    handle: Handle,
    stores: Arc<Stores>,
    token: WorkerToken,
    groups: Arc<rpc::Groups>,
    sessions: Mutex<BTreeMap<Vec<u8>, Session>>,
}

impl WorkerGate {
    pub fn new(handle: Handle, stores: Arc<Stores>, key: &ClusterKey, groups: Arc<rpc::Groups>) -> WorkerGate {
        WorkerGate { handle, stores, token: key.token(), groups, sessions: Mutex::default() }
    }

    /// Refuses a call whose session has not proven the cluster's key.
    fn proven<T>(&self, request: &Request<T>) -> Result<Vec<u8>, Error> {
        let unproven =
            || Error::Unauthenticated("this worker has not proven the cluster's key; say hello again".to_owned());
        let session =
            request.metadata().get_bin(SESSION).and_then(|value| value.to_bytes().ok()).ok_or_else(unproven)?;
        let known = self.sessions.lock().get(session.as_ref()).is_some_and(|session| session.key.is_some());
        if known { Ok(session.to_vec()) } else { Err(unproven()) }
    }

    fn random(&self) -> Vec<u8> {
        let entropy = &self.handle.shared.entropy;
        (0..4).flat_map(|_| entropy.next_u64().to_be_bytes()).collect()
    }

    fn cluster(&self) -> Result<(Vec<u8>, u64), Error> {
        let counters = self.handle.shared.counters();
        let cluster = counters.as_ref().and_then(|counters| counters.cluster);
        let cluster = cluster.ok_or(Error::Starting("the namespace is being made"))?;
        Ok((cluster.0.to_be_bytes().to_vec(), counters.map_or(0, |counters| counters.incarnation.0)))
    }

    async fn submit(&self, op: Op) -> Result<Done, Error> {
        let result = self.handle.submit(&Principal::system(), None, op).await;
        if matches!(&result, Err(Error::Rejected(meta::Reject::Stale(_)))) {
            self.handle.shared.metrics.stale_fences.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        result
    }

    /// The same for a report that may come too late. Returns whether it did.
    async fn report(&self, op: Op) -> Result<bool, Error> {
        match self.submit(op).await {
            Ok(_) => Ok(false),
            Err(Error::Rejected(meta::Reject::Stale(why))) => {
                tracing::info!(%why, "a worker's report came too late");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Records blocks a worker holds; those of containers that are gone are told back to it, by whoever leads then. A
    /// standby may not have heard of a container yet: its blocks are kept until it has.
    fn record(&self, worker: WorkerId, rows: Rows, blocks: &[BlockReport]) -> Result<(), Error> {
        let shared = &self.handle.shared;
        // Noted before anything is looked up: what is made later is not judged.
        let (applied, given_out) = (shared.applied(), self.given_out());
        let left_out = shared.read_any(|read| meta::left_out(read))?;
        let mut last: Option<(ContainerId, bool)> = None;
        for report in blocks {
            let Some(block) = BlockId::from_wire(report.block.cast_signed()) else { continue };
            let container = block.container();
            let known = match last {
                Some((id, known)) if id == container => known,
                Some(_) | None => shared.state.is_live(container),
            };
            last = Some((container, known));
            if known || container >= given_out {
                shared.locations.add(rows, block, report.resident_bytes);
                if report.unpersisted {
                    shared.streams.lock().heard(container, shared.clock.monotonic());
                    let persisted =
                        shared.read_any(|read| meta::by_container(read, container))?.is_some_and(|status| {
                            status.spot.inode.file().is_some_and(|f| f.persistence == PersistenceState::Persisted)
                        });
                    if persisted {
                        shared.registry.lock().evictable(worker, container);
                    }
                }
            } else if left_out.holds(container) {
                shared.registry.lock().quarantine(worker, block, report.resident_bytes);
            } else {
                shared.registry.lock().free(worker, container, 1);
            }
        }
        if shared.applied() != applied {
            self.drop_deleted(blocks)?;
        }
        Ok(())
    }

    /// A file deleted while its blocks were recorded took its rows along before they were all there: takes them out again.
    fn drop_deleted(&self, blocks: &[BlockReport]) -> Result<(), Error> {
        let reported = blocks.iter().filter_map(|report| BlockId::from_wire(report.block.cast_signed()));
        let mut containers: Vec<ContainerId> = reported.map(BlockId::container).collect();
        containers.dedup();
        let given_out = self.given_out();
        let left_out = self.handle.shared.read_any(|read| meta::left_out(read))?;
        for container in containers {
            if container >= given_out || left_out.holds(container) || self.handle.shared.state.is_live(container) {
                continue;
            }
            for (worker, blocks) in self.handle.shared.locations.remove_container(container) {
                self.handle.shared.registry.lock().free(worker, container, blocks);
            }
        }
        Ok(())
    }

    /// An unknown container below this one is gone; others this master may not have heard of yet.
    fn given_out(&self) -> ContainerId {
        self.handle.shared.counters().map(|counters| counters.next_container).unwrap_or_default()
    }

    fn worker_record(&self, id: WorkerId) -> Result<Option<WorkerRecord>, Error> {
        self.handle.shared.read_any(|read| {
            let bytes = read.get(Family::Workers, &meta::worker_key(id))?;
            bytes.map(|bytes| WorkerRecord::decode(&bytes)).transpose()
        })
    }

    /// Gives a worker its id and a new epoch, through the log.
    async fn new_session(&self, head: &RegisterHead) -> Result<WorkerRecord, Error> {
        let shared = &self.handle.shared;
        let known = (head.worker != 0).then_some(WorkerId(head.worker));
        let live_elsewhere = known.is_some_and(|id| shared.registry.lock().is_live(id));
        let identity = <[u8; 16]>::try_from(head.identity.as_ref())
            .map_err(|_| Error::Invalid("a worker's identity has 16 bytes".to_owned()))?;
        let op = RegisterWorker {
            worker: known,
            new_id: WorkerId((shared.entropy.next_u64() >> 2).max(1)),
            identity: u128::from_be_bytes(identity),
            host: head.host.clone(),
            rpc_port: port(head.rpc_port)?,
            web_port: port(head.web_port)?,
            session_lost: !live_elsewhere,
        };
        let done = self.submit(Op::RegisterWorker(op)).await?;
        let Done::Worker { id, .. } = done else {
            return Err(Error::Refused("a registration was answered with something else; report this".to_owned()));
        };
        self.worker_record(id)?.ok_or_else(|| Error::Refused(format!("{id} was forgotten while it registered")))
    }

    /// Finds the session a worker has already, by which it joins this master, too.
    fn known_session(&self, head: &RegisterHead) -> Result<WorkerRecord, Error> {
        let (id, epoch) = (WorkerId(head.worker), SessionEpoch(head.epoch));
        match self.worker_record(id)? {
            Some(record) if record.epoch == epoch => Ok(record),
            Some(record) if record.epoch > epoch => {
                Err(Error::NotFound(format!("{id} has begun {}: {epoch} is over; register anew", record.epoch)))
            }
            Some(_) | None if self.handle.shared.leads() => {
                Err(Error::NotFound(format!("{epoch} of {id} is unknown; register anew")))
            }
            Some(_) | None => Err(Error::Starting("it has not heard of this worker's session yet")),
        }
    }

    async fn mount_of(&self, id: MountId) -> Result<meta::Mount, Error> {
        let mount = self.handle.read(|read| meta::mount(read, id)).await?;
        mount.ok_or_else(|| Error::NotFound(format!("{id} is not mounted")))
    }

    async fn resolve_status(&self, request: &ResolveRequest) -> Result<FileStatus, Error> {
        if request.container != 0 {
            let container = ContainerId(request.container);
            let status = self.handle.read(|read| meta::by_container(read, container)).await?;
            return status
                .ok_or_else(|| Error::NotFound(format!("no file owns {container}: it was removed or rewritten")));
        }
        let mount = MountId(request.mount);
        let status = self.handle.read(|read| meta::by_key(read, mount, &request.key)).await?;
        status.ok_or_else(|| nothing_stands_at(mount, &request.key))
    }

    /// Where the store is not known to hold anything yet: from here on it may, whatever becomes of the worker.
    async fn announce(&self, file: &Spot) -> Result<(), Error> {
        let parent = self.handle.read(|read| meta::by_inode(read, file.parent)).await?;
        let holds = |parent: FileStatus| parent.spot.inode.directory().is_some_and(|directory| directory.persisted);
        if parent.is_some_and(holds) {
            return Ok(());
        }
        let op = AnnounceStream { container: file.inode.container };
        self.submit(Op::AnnounceStream(op)).await.map(drop)
    }

    /// The file that is to stay at this place, for a worker that is about to complete an upload to it. Asked twice: what
    /// took the place away before the upload was noted is seen, what does later sees the upload.
    async fn resolve_to_complete(&self, request: &ResolveRequest) -> Result<FileStatus, Error> {
        let spot = self.settled_at(request).await?.spot;
        self.note_upload(spot.inode.container, spot.mount, &spot.key);
        self.settled_at(request).await
    }

    async fn settled_at(&self, request: &ResolveRequest) -> Result<FileStatus, Error> {
        let mount = MountId(request.mount);
        let status = self.handle.read(|read| meta::settled_at(read, mount, &request.key)).await?;
        status.ok_or_else(|| nothing_stands_at(mount, &request.key))
    }

    fn persist_record(&self, container: ContainerId) -> Result<Option<meta::Persist>, Error> {
        self.handle.shared.read_any(|read| meta::persist(read, container))
    }

    /// Something may be on its way to this place in the store.
    fn note_upload(&self, container: ContainerId, mount: MountId, key: &str) {
        let shared = &self.handle.shared;
        shared.uploads.lock().heard(container, mount, key, shared.clock.monotonic());
    }

    async fn check_right(&self, request: &ResolveRequest, status: &FileStatus) -> Result<(), Error> {
        if request.user.is_empty() {
            return Ok(());
        }
        let shared = &self.handle.shared;
        let groups = self.groups.of(&request.user).await.to_vec();
        let principal = Principal { user: request.user.clone(), groups, proof: Proof::Claimed };
        let who = shared.authority.caller(&principal);
        let spot = &status.spot;
        // The writer of a file that is not complete may write it whatever its mode says, as with an open descriptor.
        if request.access() == Access::Write {
            return who.check_owner("content", &spot.inode, &spot.path).map_err(Error::from);
        }
        let path = &spot.path;
        match self.handle.read(|read| meta::status(read, &who, path)).await? {
            Ok(reached) => who.check(Right::READ, &reached.spot.inode, path).map_err(Error::from),
            Err(reject) => Err(reject.into()),
        }
    }
}

#[tonic::async_trait]
impl WorkerMaster for WorkerGate {
    async fn hello(&self, request: Request<HelloRequest>) -> Answer<HelloResponse> {
        let request = request.into_inner();
        if request.version != VERSION {
            let why = format!(
                "worker release {} speaks version {} of the internal protocol, this master {VERSION}; upgrade the older one",
                request.release, request.version
            );
            return Err(Error::Refused(why).into());
        }
        let (cluster, incarnation) = self.cluster()?;
        if !request.cluster.is_empty() && request.cluster != cluster {
            let why =
                "this worker belongs to another cluster; point it at its own master, or give it empty directories";
            return Err(Error::Refused(why.to_owned()).into());
        }
        let session = self.random();
        let transcript = Transcript {
            versions: (request.version, VERSION),
            cluster: cluster.clone(),
            incarnation,
            worker: Transcript::read_challenge(&request.challenge).map_err(|err| Error::Invalid(err.to_string()))?,
            master: Transcript::challenge(),
        };
        let proof = self.token.prove(Side::Master, &transcript);
        let challenge = transcript.master.to_vec();
        let mut sessions = self.sessions.lock();
        while sessions.len() >= SESSIONS {
            sessions.pop_first();
        }
        sessions.insert(session.clone(), Session { transcript, key: None });
        Ok(Response::new(HelloResponse {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: cluster.into(),
            incarnation,
            proof: proof.to_vec().into(),
            challenge: challenge.into(),
            session: session.into(),
        }))
    }

    async fn prove(&self, request: Request<ProveRequest>) -> Answer<ProveResponse> {
        let request = request.into_inner();
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(request.session.as_ref()) else {
            return Err(Error::Unauthenticated("this session is unknown; say hello again".to_owned()).into());
        };
        if let Err(err) = self.token.verify(Side::Worker, &session.transcript, &request.proof) {
            let why = format!("{err}; goosefs.security.secret.key.file must be the same on all servers");
            return Err(Error::Unauthenticated(why).into());
        }
        session.key = Some(self.token.session(&session.transcript));
        Ok(Response::new(ProveResponse {}))
    }

    async fn register(&self, request: Request<Streaming<RegisterRequest>>) -> Answer<RegisterResponse> {
        self.proven(&request)?;
        let shared = self.handle.shared.clone();
        let mut parts = request.into_inner();
        let Some(RegisterRequest { part: Some(register_request::Part::Head(head)) }) = parts.message().await? else {
            return Err(Error::Invalid("a registration begins with its head".to_owned()).into());
        };
        let (cluster, incarnation) = self.cluster()?;
        if head.incarnation > incarnation {
            let why = format!(
                "this worker is of incarnation {} of the cluster, this master of {incarnation}, which was given up: it must not run any more",
                head.incarnation
            );
            return Err(Error::Refused(why).into());
        }
        let record = if head.epoch == 0 { self.new_session(&head).await? } else { self.known_session(&head)? };
        let (id, epoch) = (record.id, record.epoch);
        let rows = shared.locations.open(id);
        let earlier = {
            let mut registry = shared.registry.lock();
            let earlier = registry.begin(&record, rows, head.sequence, shared.clock.monotonic());
            let directories = head.directories.into_iter().map(directory).collect();
            registry.set_use(id, epoch, directories, head.persist_used_bytes, Some(head.started_unix_ms));
            earlier
        };
        earlier.into_iter().for_each(|rows| shared.locations.close(rows));
        while let Some(part) = parts.message().await? {
            match part.part {
                Some(register_request::Part::Blocks(blocks)) => self.record(id, rows, &blocks.blocks)?,
                Some(register_request::Part::Head(_)) | None => {
                    return Err(Error::Invalid("a registration has one head, then blocks".to_owned()).into());
                }
            }
        }
        if !shared.registry.lock().finish(id, epoch, shared.clock.monotonic()) {
            return Err(Error::Refused(format!("{id} registered again meanwhile")).into());
        }
        if shared.leads() {
            self.handle.tell(Event::WorkerReady(id))?;
        }
        tracing::info!(worker = %id, %epoch, host = %record.host, port = record.rpc_port, "worker registered");
        Ok(Response::new(RegisterResponse {
            worker: id.0,
            epoch: epoch.0,
            incarnation,
            heartbeat_interval_ms: u32::try_from(shared.config.heartbeat_interval.as_millis()).unwrap_or(u32::MAX),
            cluster: cluster.into(),
        }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        self.proven(&request)?;
        let shared = self.handle.shared.clone();
        let beat = request.into_inner();
        let (id, epoch) = (WorkerId(beat.worker), SessionEpoch(beat.epoch));
        let (verdict, rows) = {
            let mut registry = shared.registry.lock();
            (registry.beat(id, epoch, beat.sequence, shared.clock.monotonic()), registry.rows(id, epoch))
        };
        let commands = match (verdict, rows) {
            (Beat::Register, _) | (Beat::Apply, None) => {
                return Ok(Response::new(HeartbeatResponse { register: true, ..Default::default() }));
            }
            (Beat::Repeat(commands), _) => commands,
            (Beat::Apply, Some(rows)) => {
                let leads = shared.leads();
                for raw in &beat.removed {
                    if let Some(block) = BlockId::from_wire(raw.cast_signed()) {
                        let is_last = shared.locations.remove(rows, block);
                        let mut registry = shared.registry.lock();
                        registry.removed(id, block);
                        if !leads {
                            registry.dropped(id, block.container(), is_last);
                        }
                    }
                }
                self.record(id, rows, &beat.added)?;
                for (name, by) in &beat.metrics {
                    shared.metrics.add_worker(name, *by);
                }
                let mut registry = shared.registry.lock();
                let directories = beat.directories.into_iter().map(directory).collect();
                registry.set_use(id, epoch, directories, beat.persist_used_bytes, None);
                // Only a leader gives orders. What a standby noted it tells once it leads.
                if leads {
                    registry.commands(id, epoch)
                } else {
                    registry.trim(id);
                    Commands::default()
                }
            }
        };
        Ok(Response::new(HeartbeatResponse { term: shared.term().0, ..answer(commands) }))
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Answer<ResolveResponse> {
        self.proven(&request)?;
        let request = request.into_inner();
        let status = match request.completing {
            true => self.resolve_to_complete(&request).await?,
            false => self.resolve_status(&request).await?,
        };
        self.check_right(&request, &status).await?;
        let spot = &status.spot;
        let file =
            spot.inode.file().ok_or_else(|| meta::Reject::IsDirectory(spot.path.clone())).map_err(Error::from)?;
        let shared = &self.handle.shared;
        shared.uses.note(spot.inode.container);
        if request.access() == Access::Write {
            if file.complete {
                return Err(Error::from(meta::Reject::Complete { path: spot.path.clone() }).into());
            }
            // By its place in the store a file is asked for that is to be written there.
            if request.container == 0 {
                meta::check_reaches_store(&spot.path, file.write_type).map_err(Error::from)?;
            }
            if status.mount.read_only && file.write_type.is_through() {
                return Err(Error::from(meta::Reject::ReadOnly(status.mount.path.clone())).into());
            }
            shared.streams.lock().heard(spot.inode.container, shared.clock.monotonic());
            if request.completing {
                self.announce(spot).await?;
            }
        }
        let persisted = file.persistence == PersistenceState::Persisted;
        let in_store = persisted || file.write_type.is_through() || request.access() == Access::Write;
        Ok(Response::new(ResolveResponse {
            container: spot.inode.container.0,
            mount: spot.mount.0,
            key: if in_store { spot.key.clone() } else { String::new() },
            fingerprint: convert::fingerprint::to_wire(file.fingerprint.as_ref()),
            length: file.length,
            block_bytes: file.block_bytes,
            complete: file.complete,
            write_type: file.write_type.number(),
            persisted,
            cacheable: status.mount.read_policy != Some(ReadPolicy::NoCache),
            right_valid_ms: u32::try_from(shared.config.right_valid.as_millis()).unwrap_or(u32::MAX),
            owner: spot.inode.owner.clone(),
            group: spot.inode.group.clone(),
            mode: u32::from(spot.inode.mode.bits()),
            stays_in_cache: file.persistence == PersistenceState::NotPersisted && !meta::reaches_store(file.write_type),
        }))
    }

    async fn mount(&self, request: Request<MountRequest>) -> Answer<MountResponse> {
        let session = self.proven(&request)?;
        let mount = self.mount_of(MountId(request.into_inner().mount)).await?;
        let secrets = self.stores.unseal(&mount).map_err(Error::from)?;
        let sessions = self.sessions.lock();
        let key = sessions.get(&session).and_then(|session| session.key.as_ref());
        let key = key.ok_or_else(|| Error::Unauthenticated("this session has ended; say hello again".to_owned()))?;
        let seal = |(name, secret): (&String, &types::Secret)| {
            (name.clone(), key.seal(secret.expose(), name.as_bytes()).into())
        };
        Ok(Response::new(MountResponse {
            mount: mount.id.0,
            uri: mount.uri.clone(),
            read_only: mount.read_only,
            properties: mount.properties.clone().into_iter().collect(),
            secrets: secrets.iter().map(seal).collect(),
        }))
    }

    async fn close_stream(&self, request: Request<CloseStreamRequest>) -> Answer<CloseStreamResponse> {
        self.proven(&request)?;
        let request = request.into_inner();
        let container = ContainerId(request.container);
        let op = CloseStream {
            container,
            fingerprint: convert::fingerprint::from_wire(&request.fingerprint).map_err(Error::from)?,
            length: request.length,
        };
        let stale = self.report(Op::CloseStream(op)).await?;
        if !stale {
            self.handle.shared.uploads.lock().landed(container);
        }
        Ok(Response::new(CloseStreamResponse { stale }))
    }

    async fn grant_persist(&self, request: Request<GrantPersistRequest>) -> Answer<GrantPersistResponse> {
        self.proven(&request)?;
        let request = request.into_inner();
        let op = GrantPersist { container: ContainerId(request.container), attempt: Attempt(request.attempt) };
        if let Some(record) = self.persist_record(op.container)? {
            self.note_upload(op.container, record.mount, &record.key);
        }
        self.submit(Op::GrantPersist(op)).await?;
        Ok(Response::new(GrantPersistResponse {}))
    }

    async fn end_persist(&self, request: Request<EndPersistRequest>) -> Answer<EndPersistResponse> {
        self.proven(&request)?;
        let request = request.into_inner();
        let (container, attempt) = (ContainerId(request.container), Attempt(request.attempt));
        let op = if request.error.is_empty() {
            let fingerprint = convert::fingerprint::from_wire(&request.fingerprint).map_err(Error::from)?;
            Op::FinishPersist(FinishPersist { container, attempt, fingerprint, length: request.length })
        } else {
            tracing::warn!(%container, %attempt, error = %request.error, "a persist failed");
            let retry_after_ms = if request.store_is_well {
                RETRY_MS
            } else {
                self.handle.shared.pauses.lock().refused(container, attempt)
            };
            let error = request.error.chars().take(ERROR_CHARS).collect();
            Op::FailPersist(FailPersist { container, attempt, retry_after_ms, error })
        };
        let is_success = matches!(op, Op::FinishPersist(_));
        let record = self.persist_record(container)?.filter(|record| record.granted && record.attempt == attempt);
        if let Some(record) = &record {
            self.note_upload(container, record.mount, &record.key);
        }
        let stale = self.report(op).await?;
        // An earlier attempt that was given up may still land.
        if is_success && !stale && record.is_some_and(|record| !record.uncertain) {
            self.handle.shared.uploads.lock().landed(container);
        }
        Ok(Response::new(EndPersistResponse { stale }))
    }

    async fn report_changed(&self, request: Request<ReportChangedRequest>) -> Answer<ReportChangedResponse> {
        self.proven(&request)?;
        let request = request.into_inner();
        let container = ContainerId(request.container);
        if let Some(status) = self.handle.read(|read| meta::by_container(read, container)).await? {
            let spot = status.spot;
            self.handle.want(Want::Inode { inode: spot.inode.id, mount: spot.mount, key: spot.key }).await?;
        }
        Ok(Response::new(ReportChangedResponse {}))
    }
}

fn port(raw: u32) -> Result<u16, Error> {
    u16::try_from(raw).map_err(|_| Error::Invalid(format!("{raw} is no port; ports go from 1 to 65535")))
}

fn directory(wire: proto::internal::Directory) -> Directory {
    Directory {
        tier: wire.tier,
        alias: wire.tier_alias,
        path: wire.path,
        capacity_bytes: wire.capacity_bytes,
        used_bytes: wire.used_bytes,
        lost: wire.lost,
    }
}

fn nothing_stands_at(mount: MountId, key: &str) -> Error {
    Error::NotFound(format!("no file stands at key {key:?} of {mount}"))
}

fn answer(commands: Commands) -> HeartbeatResponse {
    let raw = |containers: Vec<ContainerId>| containers.into_iter().map(|id| id.0).collect();
    HeartbeatResponse {
        register: false,
        free: raw(commands.free),
        evictable: raw(commands.evictable),
        persist: commands.persist,
        cancel_persist: raw(commands.cancel_persist),
        term: 0,
    }
}
