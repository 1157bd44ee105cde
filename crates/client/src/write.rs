//! The write path: a new file's bytes to workers, and through one of them to the under store.

mod block;

use crate::op::{mutation_as, status::Freshness};
use crate::transport::{WriteStream, WriteTarget, signed};
use crate::{Error, FileStatus, FileSystem, Remove, Result, WorkerStatus, link};
use block::BlockWrite;
use bytes::{Bytes, BytesMut};
use proto::convert;
use proto::grpc::file::{
    CommitLocationPOptions, CommitLocationPRequest, CompleteFilePOptions, CompleteFilePRequest, CreateFilePOptions,
    CreateFilePRequest, RemoveBlocksPRequest, ScheduleAsyncPersistencePOptions,
};
use proto::shared::dataserver::CreateUfsFileOptions;
use proto::shared::shared::FileLocation;
use tonic::Status;
use types::{BlockId, ChecksumKind, ErrorKind, FileId, GfsPath, LoadMetadata, Mode, OperationId, WriteType};

/// Workers tried for a stream before its first byte.
const MAX_OPEN_TRIES: usize = 3;

/// How a file is made. What is None comes from the settings.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    pub write_type: Option<WriteType>,
    pub block_bytes: Option<u64>,
    pub mode: Mode,
    /// Make missing parents.
    pub recursive: bool,
}

impl Default for WriteOptions {
    fn default() -> WriteOptions {
        WriteOptions { write_type: None, block_bytes: None, mode: Mode::new(0o644), recursive: true }
    }
}

/// A file being written. Readers see it when [`Writer::close`] has returned. Dropped without `close`, its streams are
/// reset and nothing becomes readable; [`Writer::cancel`] also removes the name.
pub struct Writer {
    fs: FileSystem,
    status: FileStatus,
    write_type: WriteType,
    /// Bytes of a chunk not sent yet.
    pending: BytesMut,
    written: u64,
    crc32c: u32,
    block: Option<BlockWrite>,
    /// Blocks committed so far.
    committed: Vec<BlockId>,
    last_location: Option<FileLocation>,
    store: Option<WriteStream>,
    /// The cache failed and the store carries on alone, or an ASYNC_THROUGH file found no worker.
    store_only: bool,
    force_persisted: bool,
    broken: bool,
}

impl FileSystem {
    /// Makes a file and opens it for writing.
    ///
    /// Errors: AlreadyExists, NotFound for a missing parent, Denied, Unavailable without a worker.
    pub async fn create(&self, path: &GfsPath, options: WriteOptions) -> Result<Writer> {
        self.create_as(path, options, self.operation_id()).await
    }

    pub(crate) async fn create_as(
        &self,
        path: &GfsPath,
        options: WriteOptions,
        operation: OperationId,
    ) -> Result<Writer> {
        let write_type = self.effective_write_type(path, &options).await?;
        let config = self.config();
        let persists = write_type == WriteType::AsyncThrough;
        let wait_ms = config.persist_wait.map_or(-1, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let request = CreateFilePRequest {
            path: Some(path.to_string()),
            options: Some(CreateFilePOptions {
                block_size_bytes: Some(signed(options.block_bytes.unwrap_or(config.block_bytes))),
                recursive: Some(options.recursive),
                mode: Some(convert::mode::to_wire(options.mode)),
                write_type: Some(convert::write_type::to_wire(Some(write_type))),
                common_options: mutation_as(operation),
                persistence_wait_time: persists.then_some(wait_ms),
                ..CreateFilePOptions::default()
            }),
        };
        let answer = self.shared.master.ask("create", path.as_str(), request).await?;
        let info = answer.file_info.ok_or_else(|| Error::Message {
            verb: "create",
            subject: path.to_string(),
            what: "it lacks the status".into(),
        })?;
        self.opened(FileStatus::from_wire(info)?, write_type).await
    }

    /// A writer of a file that was just made. Errors: what keeps its store from taking it; then it is taken back.
    pub(crate) async fn opened(&self, status: FileStatus, write_type: WriteType) -> Result<Writer> {
        let mut writer = Writer::new(self.clone(), status, write_type);
        if write_type.is_through()
            && let Err(error) = writer.open_store().await
        {
            writer.take_back_after(&error).await;
            return Err(error);
        }
        Ok(writer)
    }

    pub(crate) async fn complete(&self, path: &GfsPath, request: CompleteFilePRequest) -> Result<()> {
        self.shared.master.ask("complete", path.as_str(), request).await.map(drop)
    }

    /// The caller's type, else the settings', else what the nearest existing directory says, else CACHE_THROUGH.
    pub(crate) async fn effective_write_type(&self, path: &GfsPath, options: &WriteOptions) -> Result<WriteType> {
        if let Some(write_type) = options.write_type.or(self.config().write_type) {
            return Ok(write_type);
        }
        let mut directory = path.parent();
        while let Some(path) = directory {
            if let Some(status) = self.find(&path).await? {
                return Ok(status.inner_write_type().unwrap_or(WriteType::CacheThrough));
            }
            directory = path.parent();
        }
        Ok(WriteType::CacheThrough)
    }
}

impl Writer {
    fn new(fs: FileSystem, status: FileStatus, write_type: WriteType) -> Writer {
        Writer {
            fs,
            status,
            write_type,
            pending: BytesMut::new(),
            written: 0,
            crc32c: 0,
            block: None,
            committed: Vec::new(),
            last_location: None,
            store: None,
            store_only: write_type == WriteType::Through,
            force_persisted: false,
            broken: false,
        }
    }

    pub fn path(&self) -> &GfsPath {
        &self.status.path
    }

    /// The generation being written.
    pub fn file(&self) -> FileId {
        self.status.file
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Where the file goes: asked for, or found in settings and directory.
    pub fn write_type(&self) -> WriteType {
        self.write_type
    }

    /// Appends `data`. Waits while workers are behind; at most a few chunks are held here.
    ///
    /// After an error the writer is of no more use but to be cancelled.
    pub async fn write(&mut self, data: &[u8]) -> Result<()> {
        self.check()?;
        let chunk_bytes = self.fs.config().write_chunk_bytes.max(1);
        let mut rest = data;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(chunk_bytes - self.pending.len()));
            self.pending.extend_from_slice(now);
            rest = later;
            if self.pending.len() == chunk_bytes {
                let chunk = self.pending.split().freeze();
                self.broken = true;
                self.send(chunk).await?;
                self.broken = false;
            }
        }
        Ok(())
    }

    /// Makes what was written so far durable at the workers that take it. The file stays incomplete.
    pub async fn flush(&mut self) -> Result<()> {
        self.check()?;
        self.broken = true;
        self.send_pending().await?;
        if let Some(store) = &mut self.store {
            store.flush().await.map_err(|status| self.refused("flush", &status))?;
        }
        if let Some(block) = &mut self.block
            && let Err(error) = block.flush().await
        {
            self.give_up_cache(error)?;
        }
        self.broken = false;
        Ok(())
    }

    /// Commits everything and completes the file: store first, then the last block, then the master. Acknowledged
    /// means as durable as the write type promises.
    ///
    /// On an error what was written is taken back as far as servers answer. Not cancel-safe: a dropped `close` may
    /// have completed the file.
    pub async fn close(mut self) -> Result<()> {
        match self.complete().await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.take_back_after(&error).await;
                Err(error)
            }
        }
    }

    /// Takes back what failed with `error`. Not after a timeout: its outcome is open, and removing could undo what
    /// was done after all.
    pub(crate) async fn take_back_after(&mut self, error: &Error) {
        if error.kind() == ErrorKind::Timeout {
            return;
        }
        if let Err(second) = self.take_back().await {
            tracing::warn!(path = %self.status.path, error = %second, "a failed write could not be taken back");
        }
    }

    /// Gives the write up: resets its streams, frees its blocks and removes the name.
    pub async fn cancel(mut self) -> Result<()> {
        self.take_back().await
    }

    async fn take_back(&mut self) -> Result<()> {
        // Dropped unfinished, both are reset, and the workers discard.
        self.block = None;
        self.store = None;
        let path = self.status.path.clone();
        if !self.committed.is_empty() {
            let block_ids: Vec<i64> = self.committed.iter().map(|block| block.to_wire()).collect();
            let request = RemoveBlocksPRequest { block_ids };
            self.fs.shared.master.ask("free the blocks of", path.as_str(), request).await?;
        }
        let how = Remove { recursive: false, goosefs_only: false, unchecked: true };
        let known = Freshness { load: LoadMetadata::Never, sync_interval: None };
        let taken = async {
            match self.fs.status_with(&path, known).await? {
                there if there.file == self.status.file => self.fs.remove(&path, how).await,
                // Ours was moved or removed, and somebody else has the name.
                _ => Ok(()),
            }
        };
        match taken.await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        if self.broken { Err(Error::WriterBroken { path: self.status.path.to_string() }) } else { Ok(()) }
    }

    fn refused(&self, verb: &'static str, status: &Status) -> Error {
        Error::refused(verb, self.status.path.as_str(), status)
    }

    async fn send_pending(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = self.pending.split().freeze();
        self.send(chunk).await
    }

    /// One chunk to the store and to the cache, cut where blocks end.
    async fn send(&mut self, chunk: Bytes) -> Result<()> {
        if self.fs.config().checksum == ChecksumKind::Crc32c {
            self.crc32c = crc32c::crc32c_append(self.crc32c, &chunk);
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = self.status.block_bytes - self.written % self.status.block_bytes;
            let part = rest.split_to(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            if let Err(error) = self.send_to_cache(&part).await {
                self.give_up_cache(error)?;
            }
            if let Some(store) = &mut self.store {
                let sent = store.send(part.clone()).await;
                sent.map_err(|status| self.refused("write", &status))?;
            }
            self.written += u64::try_from(part.len()).expect("a chunk is small");
            if self.written.is_multiple_of(self.status.block_bytes)
                && let Err(error) = self.commit_block(false).await
            {
                self.give_up_cache(error)?;
            }
        }
        Ok(())
    }

    async fn send_to_cache(&mut self, part: &Bytes) -> Result<()> {
        if self.store_only {
            return Ok(());
        }
        if self.block.is_none() {
            let index = self.written / self.status.block_bytes;
            let block = self.status.file.container().block(index).ok_or_else(|| Error::Message {
                verb: "write",
                subject: self.status.path.to_string(),
                what: format!("a file has at most 2^24 blocks of {} bytes; use larger blocks", self.status.block_bytes),
            })?;
            match BlockWrite::open(&self.fs, &self.status, block, self.write_type).await {
                Ok(opened) => self.block = Some(opened),
                // Nobody has room, and not a byte is placed yet: the store takes it all.
                Err(error) if self.degrades(&error) => {
                    tracing::warn!(path = %self.status.path, %error, "no worker has room, writing to the store instead");
                    self.open_store().await?;
                    self.store_only = true;
                    self.force_persisted = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let block = self.block.as_mut().expect("opened just above");
        block.send(part.clone()).await
    }

    fn degrades(&self, error: &Error) -> bool {
        self.write_type == WriteType::AsyncThrough
            && self.written == 0
            && !self.status.ufs_path.is_empty()
            && matches!(error, Error::TooFewWorkers { found: 0, .. })
    }

    /// CACHE_THROUGH goes on without its cache; every other type fails with `error`.
    fn give_up_cache(&mut self, error: Error) -> Result<()> {
        if self.write_type != WriteType::CacheThrough {
            return Err(error);
        }
        tracing::warn!(path = %self.status.path, %error, "the cache failed, the store alone carries on");
        self.block = None;
        self.store_only = true;
        Ok(())
    }

    /// Commits the open block, if any. Blocks before the last tell the master where an unpersisted copy is.
    async fn commit_block(&mut self, is_last: bool) -> Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        let id = block.id();
        let location = block.finish(self.status.block_bytes).await?;
        self.committed.push(id);
        if self.write_type == WriteType::AsyncThrough {
            if !is_last {
                self.commit_location(id, location.clone()).await?;
            }
            self.last_location = Some(location);
        }
        Ok(())
    }

    async fn commit_location(&self, block: BlockId, location: FileLocation) -> Result<()> {
        let request = CommitLocationPRequest {
            path: Some(self.status.path.to_string()),
            inode_id: Some(self.status.file.to_wire()),
            block_id: Some(block.to_wire()),
            options: Some(CommitLocationPOptions { locations: vec![location] }),
        };
        self.fs.shared.master.ask("place the blocks of", self.status.path.as_str(), request).await.map(drop)
    }

    async fn complete(&mut self) -> Result<()> {
        self.check()?;
        self.broken = true;
        self.send_pending().await?;
        // An empty ASYNC_THROUGH or cached file has no block; an empty file in the store is an object all the same.
        if let Some(mut store) = self.store.take() {
            store.flush().await.map_err(|status| self.refused("flush", &status))?;
            store.finish().await.map_err(|status| self.refused("close", &status))?;
        }
        if let Err(error) = self.commit_block(true).await {
            self.give_up_cache(error)?;
        }
        let reached_store = self.write_type.is_through() || self.force_persisted;
        match self.complete_at_master().await {
            Err(error) if reached_store && error.kind() != ErrorKind::Denied => self.recover_completion(error).await,
            outcome => outcome,
        }
    }

    /// How long after its completion the file goes to its store; None: it does not go there by itself.
    pub(crate) fn persist_wait_ms(&self) -> Option<i64> {
        let persists = self.write_type == WriteType::AsyncThrough && !self.force_persisted;
        let wait = self.fs.config().persist_wait.filter(|_| persists)?;
        Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
    }

    /// The wire's number of the kind, and the value so far.
    pub(crate) fn checksum(&self) -> (i32, u32) {
        let (kind, value) = match self.fs.config().checksum {
            ChecksumKind::Crc32c => (ChecksumKind::Crc32c, self.crc32c),
            ChecksumKind::Null | ChecksumKind::Crc32 => (ChecksumKind::Null, 0),
        };
        (convert::checksum::to_wire(kind), value)
    }

    async fn complete_at_master(&self) -> Result<()> {
        self.fs.complete(&self.status.path, self.completion(self.fs.operation_id())).await
    }

    /// What completes the file as it is now.
    pub(crate) fn completion(&self, operation: OperationId) -> CompleteFilePRequest {
        let (crc_type, crc) = self.checksum();
        CompleteFilePRequest {
            path: Some(self.status.path.to_string()),
            inode_id: Some(self.status.file.to_wire()),
            options: Some(CompleteFilePOptions {
                ufs_length: Some(signed(self.written)),
                async_persist_options: self.persist_wait_ms().map(|wait_ms| ScheduleAsyncPersistencePOptions {
                    common_options: None,
                    persistence_wait_time: Some(wait_ms),
                }),
                common_options: mutation_as(operation),
                crc_type: Some(crc_type),
                crc_value: Some(i64::from(crc)),
                locations: self.last_location.iter().cloned().collect(),
                force_persisted: self.force_persisted.then_some(true),
            }),
        }
    }

    /// The store has the object but the master could not be told: drop what the master knows, let it look at the
    /// store, and take the file it finds there for ours if it is as long.
    async fn recover_completion(&self, error: Error) -> Result<()> {
        let path = &self.status.path;
        tracing::warn!(%path, %error, "the file is in the store, but could not be completed; looking at the store");
        let how = Remove { recursive: false, goosefs_only: true, unchecked: true };
        if let Err(second) = self.fs.remove(path, how).await
            && second.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        match self.fs.status_with(path, Freshness::NOW).await {
            Ok(found) if found.completed && found.length == self.written => Ok(()),
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// Opens the stream to the under store through a worker chosen at random.
    async fn open_store(&mut self) -> Result<()> {
        if self.status.ufs_path.is_empty() {
            let path = self.status.path.to_string();
            return Err(Error::NoStore { path, write_type: self.write_type.name() });
        }
        let target = WriteTarget::StoreFile(Box::new(CreateUfsFileOptions {
            ufs_path: Some(self.status.ufs_path.clone()),
            owner: Some(self.status.owner.clone()),
            group: Some(self.status.group.clone()),
            mode: Some(i32::from(self.status.mode.bits())),
            mount_id: Some(self.status.mount_id),
            acl: None,
        }));
        let path = self.status.path.as_str();
        let shared = &self.fs.shared;
        let live = shared.workers.live(&shared.master, "write", path).await?;
        let mut candidates: Vec<&WorkerStatus> = live.members.iter().collect();
        let turn = usize::try_from(self.fs.operation_id().0 % 1_000_000_007).unwrap_or(0) % candidates.len().max(1);
        candidates.rotate_left(turn);
        candidates.sort_by_key(|worker| shared.workers.has_failed(worker.worker));
        self.store = Some(open_first(&self.fs, path, candidates.into_iter().cloned(), target).await?.1);
        Ok(())
    }
}

/// A write stream at the first of `workers` that can be reached. Error: the last one's.
async fn open_first(
    fs: &FileSystem,
    path: &str,
    workers: impl Iterator<Item = WorkerStatus>,
    target: WriteTarget,
) -> Result<(WorkerStatus, WriteStream)> {
    let mut error = Error::NoWorker { verb: "write", subject: path.to_owned() };
    for worker in workers.take(MAX_OPEN_TRIES) {
        match fs.shared.workers.connection(&worker).await {
            Ok(connection) => {
                let stream = WriteStream::open(connection, target, fs.config().data_timeout);
                return Ok((worker, stream));
            }
            Err(status) => {
                let address = link::address(&worker.host, worker.port);
                let why = status.message().to_owned();
                error = Error::Worker { verb: "write", subject: path.to_owned(), address, why };
            }
        }
    }
    Err(error)
}
