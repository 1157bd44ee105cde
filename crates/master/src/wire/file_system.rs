//! FileSystemMasterClientService: the namespace, for official clients.

use super::file_info::file_info;
use super::{caller, path};
use crate::core::Want;
use crate::driver::Handle;
use crate::error::Error;
use crate::holds::Hold;
use crate::shared::Shared;
use futures::stream::{self, StreamExt};
use meta::{Caller, Checksum, CreateDirectory, CreateFile, Done, Op, Reject, Remove, Rename, SetAttribute, Status};
use prost::Message;
use proto::convert;
use proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientService;
use proto::grpc::file::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tonic::codegen::BoxStream;
use tonic::{Request, Response};
use types::{BlockId, FileId, GfsPath, InodeId, LoadMetadata, MAX_DEPTH, Mode, Name, OperationId, Principal, WorkerId};

/// Entries read from the namespace at once, and sent in one message at most: about half a millisecond of a thread that has
/// other calls to answer.
const LIST_STEP: usize = 250;
/// Bytes of one listing message; official clients refuse 4 MiB.
const LIST_MESSAGE_BYTES: usize = 1 << 20;
/// Default mode of files and directories when a call says none.
const FILE_MODE: u16 = 0o644;
const DIRECTORY_MODE: u16 = 0o755;
/// What the official clients call their default block size.
const DEFAULT_BLOCK_BYTES: i64 = 64 << 20;
/// Times an operation looks at its store anew because what is above was moved meanwhile.
const LOOK_TRIES: usize = 4;
/// Times a directory is listed anew because it changed meanwhile.
const LIST_TRIES: usize = 8;
/// Paths in one batched status call, and of these looked up at once: a slow store holds up few of them.
const STATUS_BATCH: usize = 10_000;
const STATUS_LOOKS: usize = 64;
/// What an entry of a repeated field takes beside its own bytes, at most.
const ENTRY_BYTES: usize = 6;

type Answer<T> = Result<Response<T>, tonic::Status>;

/// How fresh metadata must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// The namespace as it is.
    Never,
    /// Ask the store for what is unknown.
    Once,
    /// Ask the store for everything.
    Always,
    /// Ask for what was not checked for this long.
    Within(Duration),
}

#[derive(Clone)]
pub struct FileSystem {
    pub handle: Handle,
    pub checks: Arc<Checks>,
    pub key: Arc<rpc::ClusterKey>,
}

/// When inodes were last compared with their store: soft state of this leader, bounded.
#[derive(Default)]
pub struct Checks {
    at: parking_lot::Mutex<hashbrown::HashMap<InodeId, types::Monotonic>>,
    /// Directories whose entries were compared; an inode itself may be checked without them.
    listed: parking_lot::Mutex<hashbrown::HashMap<InodeId, types::Monotonic>>,
    missing: parking_lot::Mutex<hashbrown::HashMap<GfsPath, types::Monotonic>>,
}

/// Inodes and missing names remembered.
const CHECKS: usize = 200_000;

impl Checks {
    fn note(&self, inode: InodeId, now: types::Monotonic) {
        remember(&mut self.at.lock(), inode, now);
    }
    fn note_listed(&self, directory: InodeId, now: types::Monotonic) {
        remember(&mut self.listed.lock(), directory, now);
    }
    fn is_listing_younger(&self, directory: InodeId, now: types::Monotonic, than: Duration) -> bool {
        self.listed.lock().get(&directory).is_some_and(|at| now - *at < than)
    }
    fn is_younger(&self, inode: InodeId, now: types::Monotonic, than: Duration) -> bool {
        self.at.lock().get(&inode).is_some_and(|at| now - *at < than)
    }
    fn note_missing(&self, path: &GfsPath, now: types::Monotonic) {
        remember(&mut self.missing.lock(), path.clone(), now);
    }
    fn is_missing(&self, path: &GfsPath, now: types::Monotonic, within: Duration) -> bool {
        !within.is_zero() && self.missing.lock().get(path).is_some_and(|at| now - *at < within)
    }
}

fn remember<K: Eq + std::hash::Hash>(map: &mut hashbrown::HashMap<K, types::Monotonic>, key: K, now: types::Monotonic) {
    if map.len() >= CHECKS {
        map.clear();
    }
    map.insert(key, now);
}

impl FileSystem {
    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn who(&self, principal: &Principal) -> Caller {
        self.shared().authority.caller(principal)
    }

    /// The status of a path as fresh as asked for, or why not.
    pub async fn status(&self, principal: &Principal, path: &GfsPath, fresh: Freshness) -> Result<Status, Error> {
        for _ in 0..LOOK_TRIES {
            let expiries = self.shared().holds.expiries();
            match self.status_once(principal, path, fresh).await {
                Err(Error::Rejected(Reject::NotFound(_))) if self.shared().holds.expiries() != expiries => {}
                other => return other,
            }
        }
        let why = format!("Busy: {path} expires faster than its store can be asked for it; try again");
        Err(Error::Rejected(Reject::Busy(why)))
    }

    async fn status_once(&self, principal: &Principal, path: &GfsPath, fresh: Freshness) -> Result<Status, Error> {
        let who = self.who(principal);
        let known = self.handle.read(|read| meta::status(read, &who, path)).await?;
        let fresh = match &known {
            Ok(status) => self.effective(status.mount.read_policy, fresh),
            Err(_) => fresh,
        };
        let now = self.shared().clock.monotonic();
        let want = match (&known, fresh) {
            (_, Freshness::Never) | (Ok(_), Freshness::Once) => None,
            (Err(Reject::NotFound(_)), _) => self.want_path(&who, path).await?,
            (Err(_), _) => None,
            (Ok(status), Freshness::Always) => want_inode(status),
            (Ok(status), Freshness::Within(age)) => {
                let young = self.checks.is_younger(status.spot.inode.id, now, age);
                if young { None } else { want_inode(status) }
            }
        };
        let Some(want) = want else { return known.map_err(Error::from) };
        if fresh != Freshness::Always && self.checks.is_missing(path, now, self.shared().config.negative_cache) {
            return known.map_err(Error::from);
        }
        self.handle.want(want).await?;
        let found = self.handle.read(|read| meta::status(read, &who, path)).await?;
        match &found {
            Ok(status) => self.checks.note(status.spot.inode.id, now),
            Err(_) => self.checks.note_missing(path, now),
        }
        // Gone and perhaps replaced by a new object: look once for the name itself.
        if let (Ok(_), Err(Reject::NotFound(_))) = (&known, &found)
            && let Some(want) = self.want_path(&who, path).await?
        {
            self.handle.want(want).await?;
            return self.handle.read(|read| meta::status(read, &who, path)).await?.map_err(Error::from);
        }
        found.map_err(Error::from)
    }

    /// A consistent namespace checks whatever the call leaves to it.
    fn effective(&self, policy: Option<types::ReadPolicy>, fresh: Freshness) -> Freshness {
        match (fresh, policy) {
            (Freshness::Once, Some(policy)) if policy.is_consistent() => Freshness::Always,
            (fresh, _) => fresh,
        }
    }

    /// The store's key of a path that is not in the namespace; None when it can be in no store.
    async fn want_path(&self, who: &Caller, path: &GfsPath) -> Result<Option<Want>, Error> {
        let resolved = self.handle.read(|read| meta::resolve(read, who, path)).await?;
        Ok(resolved.ok().and_then(|resolved| Want::path(path, &resolved)))
    }

    /// Makes sure that what stands at a path and above it is known, so that a mutation sees what the store has. What is known
    /// does not expire until the answer is dropped: after the mutation. No store is asked for an operation that took effect before.
    pub(super) async fn prepare(
        &self,
        principal: &Principal,
        operation: Option<OperationId>,
        path: &GfsPath,
    ) -> Result<Hold, Error> {
        self.handle.admit_change()?;
        let who = self.who(principal);
        for _ in 0..LOOK_TRIES {
            let expiries = self.shared().holds.expiries();
            let resolved = self.handle.read(|read| meta::resolve(read, &who, path)).await?;
            let Ok(resolved) = resolved else { return Ok(Hold::none()) };
            let is_known = resolved.missing.is_empty();
            if !is_known {
                self.look_for(&who, operation, path, &resolved).await?;
            }
            let hold = match self.shared().holds.is_on() {
                true => self.hold(&who, path, is_known).await?,
                false => Some(Hold::none()),
            };
            let has_expired = !is_known && self.shared().holds.expiries() != expiries;
            if let Some(hold) = hold.filter(|_| !has_expired) {
                return Ok(hold);
            }
        }
        Err(Error::Moved)
    }

    /// Keeps what is known of a path from expiring. None: some of it has, or is about to and has by now.
    ///
    /// - `is_known`: the whole path was.
    async fn hold(&self, who: &Caller, path: &GfsPath, is_known: bool) -> Result<Option<Hold>, Error> {
        let shared = self.shared();
        let ended = shared.holds.an_end();
        let resolve = || self.handle.read(|read| meta::resolve(read, who, path));
        let Ok(resolved) = resolve().await? else { return Ok(Some(Hold::none())) };
        let last = &resolved.last().inode;
        let Some(hold) = Hold::of(shared, last.container) else {
            ended.await;
            return Ok(None);
        };
        // From here on it stays, if it has not gone just before.
        let Ok(again) = resolve().await? else { return Ok(Some(hold)) };
        let is_same = again.last().inode.id == last.id && (again.missing.is_empty() || !is_known);
        Ok(is_same.then_some(hold))
    }

    /// Asks the store for what is missing of a path, and of what is above it.
    async fn look_for(
        &self,
        who: &Caller,
        operation: Option<OperationId>,
        path: &GfsPath,
        resolved: &meta::Resolved,
    ) -> Result<(), Error> {
        // A directory whose entries are all known needs no look; the name itself may be only in the store.
        let loaded = resolved.spots.last().and_then(|spot| spot.inode.directory()).is_some_and(|d| !d.persisted);
        if loaded && resolved.spots.last().is_some_and(|spot| !spot.path.is_root() && spot.path != resolved.mount.path)
        {
            return Ok(());
        }
        match self.want_path(who, path).await? {
            Some(_) if self.has_run(operation).await? => return Ok(()),
            Some(want) => self.handle.want(want).await?,
            None => return Ok(()),
        }
        self.know_above(who, path).await
    }

    /// A name that the store does not have may belong into a directory that it has and that is not known yet: looked for
    /// from above, until one is missing there too. Cost: nothing if one name is missing at most, else a request more than
    /// there are directories to be found.
    async fn know_above(&self, who: &Caller, path: &GfsPath) -> Result<(), Error> {
        for _ in 0..MAX_DEPTH {
            let Ok(resolved) = self.handle.read(|read| meta::resolve(read, who, path)).await? else { return Ok(()) };
            let [name, _, ..] = &resolved.missing[..] else { return Ok(()) };
            let above = resolved.last().path.join(name).map_err(|err| Error::Rejected(err.into()))?;
            let Some(want) = self.want_path(who, &above).await? else { return Ok(()) };
            self.handle.want(want).await?;
            if self.handle.read(|read| meta::status(read, who, &above)).await?.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes sure that the entries of a directory are known, as fresh as asked for.
    async fn list(&self, principal: &Principal, path: &GfsPath, fresh: Freshness) -> Result<(), Error> {
        for _ in 0..LIST_TRIES {
            match self.list_once(principal, path, fresh).await {
                // It changed while the store was asked: what came is not all.
                Err(Error::Rejected(Reject::Busy(_) | Reject::Stale(_))) => {}
                other => return other,
            }
        }
        let why = format!("Busy: {path} changes faster than its store can be listed; try again");
        Err(Error::Rejected(Reject::Busy(why)))
    }

    async fn list_once(&self, principal: &Principal, path: &GfsPath, fresh: Freshness) -> Result<(), Error> {
        let who = self.who(principal);
        let status = self.status(principal, path, fresh).await?;
        let Some(directory) = status.spot.inode.directory() else { return Ok(()) };
        let inode = status.spot.inode.id;
        let now = self.shared().clock.monotonic();
        let compare = match self.effective(status.mount.read_policy, fresh) {
            Freshness::Never => return Ok(()),
            Freshness::Once if directory.loaded => return Ok(()),
            Freshness::Once => false,
            Freshness::Always => true,
            Freshness::Within(age) if directory.loaded && self.checks.is_listing_younger(inode, now, age) => {
                return Ok(());
            }
            Freshness::Within(_) => true,
        };
        who.check(types::Right::READ, &status.spot.inode, path).map_err(Error::from)?;
        let want = Want::Directory { inode, mount: status.spot.mount, key: status.spot.key, compare };
        // A large directory takes longer than one request may: for as long as the caller waits, its pages come.
        while !self.handle.want_listing(want.clone()).await? {}
        self.checks.note_listed(inode, now);
        Ok(())
    }

    /// Whether this operation took effect before: then no look at a store may refuse it any more.
    pub async fn has_run(&self, operation: Option<OperationId>) -> Result<bool, Error> {
        let Some(id) = operation else { return Ok(false) };
        Ok(self.handle.read(|read| meta::operation(read, id)).await?.is_some())
    }

    async fn submit(&self, principal: &Principal, operation: Option<OperationId>, op: Op) -> Result<Done, Error> {
        self.handle.submit(principal, operation, op).await
    }

    /// The same for what makes `path`, after a look whether the store has it; and once more if what is above was moved
    /// in the store while this waited.
    pub(super) async fn submit_new(
        &self,
        principal: &Principal,
        operation: Option<OperationId>,
        path: &GfsPath,
        op: Op,
    ) -> Result<Done, Error> {
        for _ in 0..LOOK_TRIES {
            let _hold = self.prepare(principal, operation, path).await?;
            match self.submit(principal, operation, op.clone()).await {
                Err(Error::Moved) => {}
                other => return other,
            }
        }
        Err(Error::Moved)
    }

    /// As [`FileSystem::prepare`] for what is to be removed. `unchecked`: what the store holds below it unknown to us may go.
    pub(super) async fn look_before_removing(
        &self,
        principal: &Principal,
        operation: Option<OperationId>,
        op: &Remove,
        unchecked: bool,
    ) -> Result<Hold, Error> {
        if op.goosefs_only || self.has_run(operation).await? {
            return Ok(Hold::none());
        }
        let hold = self.prepare(principal, None, &op.path).await?;
        match op.recursive {
            true if unchecked => {}
            true => self.refuse_unknown(principal, &op.path).await?,
            false => self.know_children(principal, &op.path).await?,
        }
        Ok(hold)
    }

    /// The message for an inode an operation made or found at `path`.
    pub(super) async fn info_of(
        &self,
        principal: &Principal,
        path: &GfsPath,
        inode: InodeId,
    ) -> Result<FileInfo, Error> {
        let who = self.who(principal);
        let look = |read: &dyn meta::Read| {
            match meta::status(read, &who, path)? {
                // One look-up a level, of what was just looked up; from its id there are two.
                Ok(status) if status.spot.inode.id == inode => Ok(Some(status)),
                Ok(_) | Err(_) => meta::by_inode(read, inode),
            }
        };
        let status = self.handle.read(look).await?;
        let status = status.ok_or_else(|| Error::NotFound("the file was removed meanwhile".to_owned()))?;
        Ok(file_info(self.shared(), &status))
    }
}

fn want_inode(status: &Status) -> Option<Want> {
    let spot = &status.spot;
    // The root of a mount is what it is; what the store never had cannot have changed there.
    let in_store = match &spot.inode.node {
        meta::Node::Directory(directory) => directory.persisted && directory.mount.is_none() && !spot.path.is_root(),
        meta::Node::File(file) => file.complete && file.persistence == types::PersistenceState::Persisted,
    };
    in_store.then(|| Want::Inode { inode: spot.inode.id, mount: spot.mount, key: spot.key.clone() })
}

/// The call's own wish; a positive interval means no check while younger.
pub fn freshness(kind: Option<i32>, common: Option<&FileSystemMasterCommonPOptions>) -> Result<Freshness, Error> {
    let interval_ms = common.and_then(|common| common.sync_interval_ms).unwrap_or(-1);
    let kind = convert::load_metadata::from_wire(kind)?;
    Ok(match (kind, interval_ms) {
        (LoadMetadata::Never, _) => Freshness::Never,
        (LoadMetadata::Always, _) | (LoadMetadata::Once, 0) => Freshness::Always,
        (LoadMetadata::Once, ms) => {
            u64::try_from(ms).map_or(Freshness::Once, |ms| Freshness::Within(Duration::from_millis(ms)))
        }
    })
}

pub fn operation(common: Option<&FileSystemMasterCommonPOptions>) -> Result<Option<OperationId>, Error> {
    let id = common.and_then(|common| common.operation_id.as_ref());
    Ok(id.map(convert::operation_id::from_wire).transpose()?)
}

fn wire_mode(mode: Option<&proto::grpc::PMode>, default: u16) -> Result<Mode, Error> {
    match mode {
        Some(mode) => Ok(convert::mode::from_wire(mode)?),
        None => Ok(Mode::new(default)),
    }
}

pub(super) fn file_id(raw: Option<i64>) -> Result<Option<FileId>, Error> {
    match raw {
        None | Some(0) => Ok(None),
        Some(raw) => Ok(Some(convert::id::file(raw)?)),
    }
}

fn locations(list: &[proto::shared::shared::FileLocation]) -> Result<Vec<(BlockId, Vec<WorkerId>)>, Error> {
    list.iter()
        .map(|at| {
            let block = convert::id::block(at.block_id.unwrap_or(0))?;
            Ok((block, at.worker_id.iter().filter_map(|id| u64::try_from(*id).ok()).map(WorkerId).collect()))
        })
        .collect()
}

#[tonic::async_trait]
impl FileSystemMasterClientService for FileSystem {
    async fn get_status(&self, request: Request<GetStatusPRequest>) -> Answer<GetStatusPResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let path = path(request.path.as_deref())?;
        let fresh = freshness(options.load_metadata_type, options.common_options.as_ref())?;
        let status = self.status(&who, &path, fresh).await?;
        self.shared().uses.note(status.spot.inode.container);
        Ok(Response::new(GetStatusPResponse { file_info: Some(file_info(self.shared(), &status)) }))
    }

    async fn get_status_batch(&self, request: Request<GetStatusBatchPRequest>) -> Answer<GetStatusBatchPResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        if request.paths.len() > STATUS_BATCH {
            let why = format!("{} paths in one call, at most {STATUS_BATCH} are taken; split it", request.paths.len());
            return Err(Error::Invalid(why).into());
        }
        let options = request.options.unwrap_or_default();
        let fresh = freshness(options.load_metadata_type, options.common_options.as_ref())?;
        let count = request.paths.len();
        let this = self.clone();
        let look = move |text: String| {
            let (this, who) = (this.clone(), who.clone());
            async move {
                let status = async { this.status(&who, &path(Some(&text))?, fresh).await };
                (status.await, text)
            }
        };
        let mut looks = stream::iter(request.paths).map(look).buffered(STATUS_LOOKS);
        let mut answer = GetStatusBatchPResponse::default();
        let mut bytes = 0;
        while let Some((status, text)) = looks.next().await {
            match status {
                Ok(status) => {
                    self.shared().uses.note(status.spot.inode.container);
                    let info = file_info(self.shared(), &status);
                    bytes += info.encoded_len() + ENTRY_BYTES;
                    answer.file_infos.push(info);
                }
                Err(err) if err.is_of_this_master() => return Err(err.into()),
                // The contract has no room for why; GetStatus of this path says it.
                Err(_) => {
                    bytes += text.len() + ENTRY_BYTES;
                    answer.failed_paths.push(text);
                }
            }
            // Other connections of this thread have their turn.
            if (answer.file_infos.len() + answer.failed_paths.len()).is_multiple_of(STATUS_LOOKS) {
                tokio::task::yield_now().await;
            }
            if bytes > rpc::MAX_ANSWER_BYTES {
                let fit = answer.file_infos.len() + answer.failed_paths.len() - 1;
                let why = format!(
                    "the answer about {count} paths is longer than {} bytes, of these {fit} fit; split the call",
                    rpc::MAX_ANSWER_BYTES
                );
                return Err(Error::Invalid(why).into());
            }
        }
        Ok(Response::new(answer))
    }

    async fn list_status(&self, request: Request<ListStatusPRequest>) -> Answer<BoxStream<ListStatusPResponse>> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let path = path(request.path.as_deref())?;
        let fresh = freshness(options.load_metadata_type, options.common_options.as_ref())?;
        self.list(&principal, &path, fresh).await?;
        if options.load_metadata_only() {
            return Ok(Response::new(Box::pin(tokio_stream::empty())));
        }
        let who = self.who(&principal);
        let (after, is_over, ready) = (None, false, VecDeque::default());
        let mut listing = Listing { fs: self.clone(), principal, who, path, fresh, after, is_over, ready };
        // What is wrong with it is the answer, not the end of one.
        listing.read().await?;
        Ok(Response::new(Box::pin(stream::try_unfold(listing, Listing::next))))
    }

    async fn create_file(&self, request: Request<CreateFilePRequest>) -> Answer<CreateFilePResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let path = path(request.path.as_deref())?;
        let block_bytes = options.block_size_bytes.unwrap_or(DEFAULT_BLOCK_BYTES);
        let block_bytes = u64::try_from(block_bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
            Error::Invalid(format!("block size {block_bytes} is not positive; pass for example {DEFAULT_BLOCK_BYTES}"))
        })?;
        let op = Op::CreateFile(CreateFile {
            path: path.clone(),
            block_bytes,
            recursive: options.recursive.unwrap_or(false),
            mode: wire_mode(options.mode.as_ref(), FILE_MODE)?,
            write_type: convert::write_type::from_wire(options.write_type).map_err(Error::from)?,
        });
        let operation = operation(options.common_options.as_ref())?;
        let done = self.submit_new(&who, operation, &path, op).await?;
        let Done::Inode(inode) = done else { return Err(unexpected("create", &done)) };
        let info = self.info_of(&who, &path, inode).await?;
        Ok(Response::new(CreateFilePResponse { file_info: Some(info) }))
    }

    async fn complete_file(&self, request: Request<CompleteFilePRequest>) -> Answer<CompleteFilePResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let delay = self.shared().config.persist_delay;
        let persist_after_ms = options
            .async_persist_options
            .as_ref()
            .and_then(|persist| persist_delay(persist.persistence_wait_time.unwrap_or(0), delay));
        let length = options.ufs_length.unwrap_or(0);
        let length = u64::try_from(length)
            .map_err(|_| Error::Invalid(format!("length {length} is negative; pass the number of bytes written")))?;
        let operation = operation(options.common_options.as_ref())?;
        let op = Op::CompleteFile(meta::CompleteFile {
            path: path(request.path.as_deref())?,
            file: file_id(request.inode_id)?,
            length,
            checksum: checksum(options.crc_type, options.crc_value.unwrap_or(0))?,
            locations: locations(&options.locations)?,
            persist_after_ms,
            force_persisted: options.force_persisted(),
        });
        self.submit(&who, operation, op).await?;
        Ok(Response::new(CompleteFilePResponse {}))
    }

    async fn create_directory(&self, request: Request<CreateDirectoryPRequest>) -> Answer<CreateDirectoryPResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let path = path(request.path.as_deref())?;
        let operation = operation(options.common_options.as_ref())?;
        let op = Op::CreateDirectory(CreateDirectory {
            path: path.clone(),
            recursive: options.recursive.unwrap_or(false),
            allow_exists: options.allow_exists.unwrap_or(false),
            mode: wire_mode(options.mode.as_ref(), DIRECTORY_MODE)?,
        });
        self.submit_new(&who, operation, &path, op).await?;
        Ok(Response::new(CreateDirectoryPResponse {}))
    }

    async fn remove(&self, request: Request<DeletePRequest>) -> Answer<DeletePResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let path = path(request.path.as_deref())?;
        let operation = operation(options.common_options.as_ref())?;
        let op = Remove { path, recursive: options.recursive(), goosefs_only: options.goosefs_only() };
        let _hold = self.look_before_removing(&who, operation, &op, options.unchecked()).await?;
        self.submit(&who, operation, Op::Remove(op)).await?;
        Ok(Response::new(DeletePResponse {}))
    }

    async fn rename(&self, request: Request<RenamePRequest>) -> Answer<RenamePResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let (from, to) = (path(request.path.as_deref())?, path(request.dst_path.as_deref())?);
        let operation = operation(options.common_options.as_ref())?;
        let _holds = [self.prepare(&who, operation, &from).await?, self.prepare(&who, operation, &to).await?];
        let op = Op::Rename(Rename { path: from, to });
        self.submit(&who, operation, op).await?;
        Ok(Response::new(RenamePResponse {}))
    }

    async fn set_attribute(&self, request: Request<SetAttributePRequest>) -> Answer<SetAttributePResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let path = path(request.path.as_deref())?;
        let operation = operation(options.common_options.as_ref())?;
        let _hold = self.prepare(&who, operation, &path).await?;
        if let Some(write_type) = convert::write_type::from_wire(options.write_p_type).map_err(Error::from)? {
            let op = meta::SetXattr {
                path: path.clone(),
                name: "innerWriteType".to_owned(),
                value: Some(write_type.name().as_bytes().to_vec()),
            };
            self.submit(&who, None, Op::SetXattr(op)).await?;
        }
        let op = SetAttribute {
            path,
            mode: options.mode.as_ref().map(|mode| wire_mode(Some(mode), 0)).transpose()?,
            owner: options.owner.clone().filter(|owner| !owner.is_empty()),
            group: options.group.clone().filter(|group| !group.is_empty()),
            recursive: options.recursive(),
        };
        if op.mode.is_some() || op.owner.is_some() || op.group.is_some() {
            self.submit(&who, operation, Op::SetAttribute(op)).await?;
        }
        Ok(Response::new(SetAttributePResponse {}))
    }

    async fn remove_blocks(&self, request: Request<RemoveBlocksPRequest>) -> Answer<RemoveBlocksPResponse> {
        caller(&request)?;
        for raw in request.into_inner().block_ids {
            let Some(block) = BlockId::from_wire(raw) else { continue };
            // Only blocks of files that were never completed: the rest is not the caller's to drop.
            let status = self.handle.read(|read| meta::by_container(read, block.container())).await?;
            let incomplete = status.is_none_or(|s| s.spot.inode.file().is_some_and(|file| !file.complete));
            if incomplete {
                for (worker, blocks) in self.shared().locations.remove_container(block.container()) {
                    self.shared().registry.lock().free(worker, block.container(), blocks);
                }
            }
        }
        Ok(Response::new(RemoveBlocksPResponse {}))
    }

    async fn commit_location(&self, request: Request<CommitLocationPRequest>) -> Answer<CommitLocationPResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let op = Op::CommitLocation(meta::CommitLocation {
            path: path(request.path.as_deref())?,
            file: file_id(request.inode_id)?,
            locations: locations(&options.locations)?,
        });
        self.submit(&who, None, op).await?;
        Ok(Response::new(CommitLocationPResponse {}))
    }

    async fn schedule_async_persistence(
        &self,
        request: Request<ScheduleAsyncPersistencePRequest>,
    ) -> Answer<ScheduleAsyncPersistencePResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let operation = operation(options.common_options.as_ref())?;
        let wait = options.persistence_wait_time.unwrap_or(0);
        if let Some(after_ms) = persist_delay(wait, self.shared().config.persist_delay) {
            let op = meta::SchedulePersist { path: path(request.path.as_deref())?, after_ms };
            self.submit(&who, operation, Op::SchedulePersist(op)).await?;
        }
        Ok(Response::new(ScheduleAsyncPersistencePResponse {}))
    }

    async fn free(&self, request: Request<FreePRequest>) -> Answer<FreePResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let options = request.options.unwrap_or_default();
        let path = path(request.path.as_deref())?;
        self.free_below(&who, &path, options.recursive()).await?;
        Ok(Response::new(FreePResponse {}))
    }

    async fn get_file_path(&self, request: Request<GetFilePathPRequest>) -> Answer<GetFilePathPResponse> {
        caller(&request)?;
        let id =
            file_id(request.into_inner().file_id)?.ok_or_else(|| Error::Invalid("a file id is needed".to_owned()))?;
        let status = self.handle.read(|read| meta::by_container(read, id.container())).await?;
        let status = status.ok_or_else(|| Error::NotFound(format!("{id} does not exist")))?;
        Ok(Response::new(GetFilePathPResponse { path: Some(status.spot.path.as_str().to_owned()) }))
    }

    async fn check_access(&self, request: Request<CheckAccessPRequest>) -> Answer<CheckAccessPResponse> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let path = path(request.path.as_deref())?;
        let bits = request.options.unwrap_or_default().bits.unwrap_or(1);
        let right = u8::try_from(bits - 1).ok().and_then(types::Right::from_bits);
        let right = right.ok_or_else(|| Error::Invalid(format!("{bits} is no set of rights; pass 1 to 8")))?;
        let status = self.status(&principal, &path, Freshness::Once).await?;
        self.who(&principal).check(right, &status.spot.inode, &path).map_err(Error::from)?;
        Ok(Response::new(CheckAccessPResponse {}))
    }

    async fn create_namespace(&self, request: Request<CreateNamespacePRequest>) -> Answer<CreateNamespacePResponse> {
        super::namespace::create(self, request).await
    }
    async fn update_namespace(&self, request: Request<UpdateNamespacePRequest>) -> Answer<UpdateNamespacePResponse> {
        super::namespace::update(self, request).await
    }
    async fn delete_namespace(&self, request: Request<DeleteNamespacePRequest>) -> Answer<DeleteNamespacePResponse> {
        super::namespace::delete(self, request).await
    }
    async fn list_namespace(
        &self,
        request: Request<ListNamespacePRequest>,
    ) -> Answer<BoxStream<ListNamespacePResponse>> {
        super::namespace::list(self, request).await
    }
    async fn stat_namespace(&self, request: Request<StatNamespacePRequest>) -> Answer<StatNamespacePResponse> {
        super::namespace::stat(self, request).await
    }
    async fn set_namespace_attribute(
        &self,
        request: Request<SetNamespaceAttributePRequest>,
    ) -> Answer<SetNamespaceAttributePResponse> {
        super::namespace::set_attribute(self, request).await
    }
}

impl FileSystem {
    /// A recursive delete that was not told to skip the look refuses while the store holds what we do not know.
    async fn refuse_unknown(&self, principal: &Principal, path: &GfsPath) -> Result<(), Error> {
        let who = self.who(principal);
        let mut directories = vec![path.clone()];
        while let Some(path) = directories.pop() {
            let status = match self.handle.read(|read| meta::status(read, &who, &path)).await? {
                Ok(status) => status,
                Err(Reject::NotFound(_)) => continue,
                Err(reject) => return Err(reject.into()),
            };
            let Some(directory) = status.spot.inode.directory() else { continue };
            if directory.persisted && !directory.loaded {
                let before = directory.children;
                self.list(principal, &path, Freshness::Once).await?;
                let status = self.handle.read(|read| meta::status(read, &who, &path)).await?.map_err(Error::from)?;
                if status.spot.inode.directory().is_some_and(|d| d.children > before) {
                    let why = format!(
                        "{path} holds entries in the under store that were not known here; they are listed now: \
                         look at them, then remove again, or pass the unchecked option"
                    );
                    return Err(Error::Refused(why));
                }
            }
            let mut after: Option<Name> = None;
            loop {
                let page = self
                    .handle
                    .read(|read| meta::children(read, status.spot.inode.id, after.as_ref(), LIST_STEP))
                    .await?;
                for (name, child) in &page {
                    if child.is_directory() {
                        directories.push(path.join(name).map_err(|err| Error::Rejected(err.into()))?);
                    }
                }
                after = match page.last() {
                    Some((name, _)) if page.len() == LIST_STEP => Some(name.clone()),
                    Some(_) | None => break,
                };
            }
        }
        Ok(())
    }

    /// A directory whose entries are only in the store is not empty.
    async fn know_children(&self, principal: &Principal, path: &GfsPath) -> Result<(), Error> {
        let who = self.who(principal);
        let status = self.handle.read(|read| meta::status(read, &who, path)).await?;
        let unknown = status.is_ok_and(|s| s.spot.inode.directory().is_some_and(|d| d.persisted && !d.loaded));
        if unknown { self.list(principal, path, Freshness::Once).await } else { Ok(()) }
    }

    /// Drops cached blocks of what the store holds. Unpersisted data stay.
    async fn free_below(&self, principal: &Principal, path: &GfsPath, recursive: bool) -> Result<(), Error> {
        let who = self.who(principal);
        let status = self.handle.read(|read| meta::status(read, &who, path)).await?.map_err(Error::from)?;
        if status.spot.inode.is_directory() && !recursive {
            return Err(Reject::IsDirectory(path.clone()).into());
        }
        let mut waiting = vec![status.spot.inode];
        while let Some(inode) = waiting.pop() {
            if let Some(file) = inode.file() {
                if file.persistence == types::PersistenceState::Persisted {
                    for (worker, blocks) in self.shared().locations.remove_container(inode.container) {
                        self.shared().registry.lock().free(worker, inode.container, blocks);
                    }
                }
                continue;
            }
            let mut after: Option<Name> = None;
            loop {
                let page = self.handle.read(|read| meta::children(read, inode.id, after.as_ref(), LIST_STEP)).await?;
                after = page.last().filter(|_| page.len() == LIST_STEP).map(|(name, _)| name.clone());
                waiting.extend(page.into_iter().map(|(_, child)| child));
                if after.is_none() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

/// A negative wait: never by itself.
pub(super) fn persist_delay(wait_ms: i64, least: Duration) -> Option<u64> {
    let least = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
    u64::try_from(wait_ms).ok().map(|wait| wait.max(least))
}

pub(super) fn checksum(kind: Option<i32>, value: i64) -> Result<Option<Checksum>, Error> {
    let Some(kind) = kind else { return Ok(None) };
    let kind = u8::try_from(kind).ok().filter(|kind| *kind <= 2);
    let kind = kind.ok_or_else(|| Error::Invalid("the checksum type is unknown; pass 0, 1 or 2".to_owned()))?;
    let value = u32::try_from(value & 0xFFFF_FFFF).expect("masked to 32 bits");
    Ok(Some(Checksum { kind, value }))
}

/// A listing under way, at the pace of who reads it: a message is made when there is room to send it, and others have
/// their turn before the next one.
struct Listing {
    fs: FileSystem,
    principal: Arc<Principal>,
    who: Caller,
    path: GfsPath,
    fresh: Freshness,
    /// The name to go on after.
    after: Option<Name>,
    /// All pages were read.
    is_over: bool,
    /// Of the page that was read last.
    ready: VecDeque<ListStatusPResponse>,
}

impl Listing {
    async fn next(mut self) -> Result<Option<(ListStatusPResponse, Listing)>, tonic::Status> {
        while self.ready.is_empty() && !self.is_over {
            tokio::task::yield_now().await;
            self.read().await?;
        }
        Ok(self.ready.pop_front().map(|message| (message, self)))
    }

    /// Reads one more page, of a directory whose entries are all known at that moment.
    async fn read(&mut self) -> Result<(), Error> {
        for _ in 0..LIST_TRIES {
            let list = |read: &dyn meta::Read| meta::list(read, &self.who, &self.path, self.after.as_ref(), LIST_STEP);
            let page = self.fs.handle.read(list).await?.map_err(Error::from)?;
            if self.has_expired(&page.parent) {
                self.fs.list(&self.principal, &self.path, self.fresh).await?;
                continue;
            }
            self.ready.extend(messages(self.fs.shared(), &page));
            (self.after, self.is_over) = (page.next.clone(), page.next.is_none());
            return Ok(());
        }
        let why = format!("Busy: entries of {} expire faster than they can be listed; try again", self.path);
        Err(Error::Rejected(Reject::Busy(why)))
    }

    /// Whether entries of what was listed from its store before may have been forgotten since.
    fn has_expired(&self, parent: &Status) -> bool {
        let is_partly_known = parent.spot.inode.directory().is_some_and(|d| d.persisted && !d.loaded);
        let takes_what_is_there = self.fs.effective(parent.mount.read_policy, self.fresh) == Freshness::Never;
        is_partly_known && !takes_what_is_there && self.fs.shared().holds.is_on()
    }
}

/// Cuts a page into messages that stay well below what clients accept.
fn messages(shared: &Shared, page: &meta::Page) -> Vec<ListStatusPResponse> {
    let mut out = Vec::new();
    let mut message = ListStatusPResponse::default();
    let mut bytes = 0;
    for status in &page.entries {
        let info = file_info(shared, status);
        bytes += info.encoded_len();
        message.file_infos.push(info);
        if bytes >= LIST_MESSAGE_BYTES {
            out.push(std::mem::take(&mut message));
            bytes = 0;
        }
    }
    if !message.file_infos.is_empty() {
        out.push(message);
    }
    out
}

pub(super) fn unexpected(what: &str, done: &Done) -> tonic::Status {
    rpc::status(types::ErrorKind::Internal, format!("{what} ended as {done:?}, which is a bug; report it"))
}
