//! The read path: a file's bytes from the workers that have them.

mod plan;

use crate::link::kind_of;
use crate::transport::{ReadSpec, ReadStream, signed};
use crate::{Error, FileStatus, FileSystem, Result, WorkerStatus};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use plan::Fetch;
use proto::shared::dataserver::OpenUfsBlockOptions;
use std::sync::Arc;
use tonic::Status;
use types::{ErrorKind, GfsPath};

/// Reads of one block from the store a worker may have under way for us.
const STORE_CONCURRENCY: i32 = 8;
/// Blocks of one positioned read fetched at once.
const PARALLEL_FETCHES: usize = 4;

/// An open file. Reads one generation of it: what the store gets meanwhile is a new file to be opened.
pub struct Reader {
    fs: FileSystem,
    status: Arc<FileStatus>,
    position: u64,
    open: Option<Open>,
}

/// The block a sequential read is in.
struct Open {
    stream: ReadStream,
    worker: WorkerStatus,
    /// Bytes of the block still to come.
    left: u64,
    /// Workers not tried yet.
    others: std::vec::IntoIter<WorkerStatus>,
}

impl FileSystem {
    /// Opens a file for reading. Errors: NotFound, Denied, and Precondition for directories and incomplete files.
    pub async fn open(&self, path: &GfsPath) -> Result<Reader> {
        let status = self.status(path).await?;
        self.open_status(status)
    }

    /// Opens a file whose status is known, without asking again.
    pub fn open_status(&self, status: FileStatus) -> Result<Reader> {
        let path = || status.path.to_string();
        if status.folder {
            return Err(Error::IsDirectory { verb: "read", path: path() });
        }
        if !status.completed {
            return Err(Error::Incomplete { verb: "read", path: path() });
        }
        let covered = status.blocks.last().map_or(0, |block| block.offset + block.length);
        if covered != status.length {
            let what = format!("its blocks cover {covered} of {} bytes", status.length);
            return Err(Error::Message { verb: "read", subject: path(), what });
        }
        Ok(Reader { fs: self.clone(), status: Arc::new(status), position: 0, open: None })
    }
}

impl Reader {
    /// What the file was when it was opened.
    pub fn status(&self) -> &FileStatus {
        &self.status
    }

    /// Where the next sequential read begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves the next sequential read to `position`; past the end it finds nothing.
    pub fn seek(&mut self, position: u64) {
        if position != self.position {
            self.position = position;
            self.open = None;
        }
    }

    /// The next bytes in file order, as they arrive, never empty; None at the end.
    ///
    /// A worker that fails is replaced by the next one, at the offset reached. Error: the last worker's, when all
    /// failed. Not cancel-safe in one respect only: a chunk a dropped call had received is read again.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        while self.position < self.status.length {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.open_at_position().await?,
            };
            match open.stream.next().await {
                Ok(Some(data)) => {
                    let length = u64::try_from(data.len()).expect("a chunk is small");
                    self.position += length;
                    open.left -= length;
                    self.open = (open.left > 0).then_some(open);
                    return Ok(Some(data));
                }
                Ok(None) => {
                    let short = self.short(open.left);
                    self.open = Some(self.failover(open, &Status::data_loss(short.to_string()), short).await?);
                }
                Err(status) => {
                    let error = Error::refused("read", self.status.path.as_str(), &status);
                    self.open = Some(self.failover(open, &status, error).await?);
                }
            }
        }
        Ok(None)
    }

    /// Up to `length` bytes at `offset`, fewer only at the end of the file. Does not move the sequential position;
    /// any number may run at once. Cost: one stream per block touched, memory for the whole answer.
    pub async fn read_at(&self, offset: u64, length: u64) -> Result<Bytes> {
        if offset > self.status.length {
            let path = self.status.path.to_string();
            return Err(Error::OutOfRange { path, offset, length: self.status.length });
        }
        let end = offset.saturating_add(length).min(self.status.length);
        let fetches = plan::fetches(&self.status.blocks, offset, end);
        let mut parts: Vec<Bytes> =
            stream::iter(fetches).map(|fetch| self.fetch(fetch)).buffered(PARALLEL_FETCHES).try_concat().await?;
        if parts.len() == 1 {
            return Ok(parts.swap_remove(0));
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(end - offset).unwrap_or(0));
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        Ok(whole.freeze())
    }

    /// One positioned part, from whichever worker delivers it.
    async fn fetch(&self, fetch: Fetch) -> Result<Vec<Bytes>> {
        let mut others = self.sources(&fetch).await?.into_iter();
        let mut parts = Vec::new();
        let mut left = fetch;
        let mut open = self.open_stream(left, None, &mut others, None).await?;
        while left.length > 0 {
            let (status, error) = match open.stream.next().await {
                Ok(Some(data)) => {
                    let length = u64::try_from(data.len()).expect("a chunk is small");
                    left = Fetch { offset: left.offset + length, length: left.length - length, ..left };
                    parts.push(data);
                    continue;
                }
                Ok(None) => {
                    let short = self.short(left.length);
                    (Status::data_loss(short.to_string()), short)
                }
                Err(status) => {
                    let error = Error::refused("read", self.status.path.as_str(), &status);
                    (status, error)
                }
            };
            self.fs.shared.workers.note_failure(&open.worker, open.stream.connection(), &status);
            open = self.open_stream(left, None, &mut others, Some(error)).await?;
        }
        Ok(parts)
    }

    /// The rest of the block at the position.
    fn rest_of_block(&self) -> Option<Fetch> {
        plan::fetches(&self.status.blocks, self.position, self.status.length).into_iter().next()
    }

    async fn open_at_position(&self) -> Result<Open> {
        let fetch =
            self.rest_of_block().expect("the position is before the end, and open checked that blocks cover it");
        let mut others = self.sources(&fetch).await?.into_iter();
        let opened = self.open_stream(fetch, Some(self.fs.config().prefetch_window), &mut others, None).await?;
        Ok(Open { stream: opened.stream, worker: opened.worker, left: fetch.length, others })
    }

    /// The same block from the next worker, from where `failed` stopped.
    async fn failover(&self, mut failed: Open, status: &Status, error: Error) -> Result<Open> {
        self.fs.shared.workers.note_failure(&failed.worker, failed.stream.connection(), status);
        let fetch = self.rest_of_block().expect("a block that failed has bytes left");
        let window = Some(self.fs.config().prefetch_window);
        let opened = self.open_stream(fetch, window, &mut failed.others, Some(error)).await?;
        Ok(Open { stream: opened.stream, worker: opened.worker, left: fetch.length, others: failed.others })
    }

    async fn sources(&self, fetch: &Fetch) -> Result<Vec<WorkerStatus>> {
        let shared = &self.fs.shared;
        let path = self.status.path.as_str();
        let live = shared.workers.live(&shared.master, "read", path).await?;
        let block = self.fs.verified(&self.status.blocks[fetch.index], &live).await;
        let count = shared.config.read_workers.max(1);
        let found = live.sources(&block, count, |id| shared.workers.has_failed(id));
        if found.is_empty() { Err(Error::NoWorker { verb: "read", subject: path.to_owned() }) } else { Ok(found) }
    }

    /// Opens `fetch` at the first of `others` that takes it. Error: the last one's, or `error` when none is left.
    async fn open_stream(
        &self,
        fetch: Fetch,
        prefetch_window: Option<u32>,
        others: &mut impl Iterator<Item = WorkerStatus>,
        mut error: Option<Error>,
    ) -> Result<Opened> {
        let config = self.fs.config();
        for worker in others.by_ref() {
            let spec = ReadSpec {
                block: fetch.block,
                offset: fetch.offset,
                length: fetch.length,
                chunk_bytes: config.read_chunk_bytes,
                store: store_options(&self.status, fetch.index, config.read_caches),
                prefetch_window,
            };
            match self.open_at(&worker, spec).await {
                Ok(stream) => return Ok(Opened { stream, worker }),
                Err(status) => {
                    error = Some(Error::refused("read", self.status.path.as_str(), &status));
                }
            }
        }
        Err(error.unwrap_or_else(|| Error::NoWorker { verb: "read", subject: self.status.path.to_string() }))
    }

    /// A worker that restarted does not know our connection any more: then once more on a new one.
    async fn open_at(&self, worker: &WorkerStatus, spec: ReadSpec) -> std::result::Result<ReadStream, Status> {
        let (workers, patience) = (&self.fs.shared.workers, self.fs.config().data_timeout);
        let connection = workers.connection(worker).await?;
        let status = match ReadStream::open(connection.clone(), spec.clone(), patience).await {
            Ok(stream) => return Ok(stream),
            Err(status) => status,
        };
        workers.note_failure(worker, &connection, &status);
        if kind_of(&status) != ErrorKind::Unauthenticated {
            return Err(status);
        }
        let connection = workers.connection(worker).await?;
        let opened = ReadStream::open(connection.clone(), spec, patience).await;
        opened.inspect_err(|status| workers.note_failure(worker, &connection, status))
    }

    fn short(&self, left: u64) -> Error {
        let fetch = self.rest_of_block();
        let (block, expected) = fetch.map_or((String::new(), 0), |f| {
            let block = &self.status.blocks[f.index];
            (block.block.to_string(), block.length)
        });
        Error::Short { path: self.status.path.to_string(), block, got: expected.saturating_sub(left), expected }
    }
}

struct Opened {
    stream: ReadStream,
    worker: WorkerStatus,
}

/// Where the store has the block at `index`; None for files in no store.
pub(crate) fn store_options(status: &FileStatus, index: usize, caches: bool) -> Option<OpenUfsBlockOptions> {
    let block = status.blocks.get(index)?;
    (!status.ufs_path.is_empty()).then(|| OpenUfsBlockOptions {
        ufs_path: Some(status.ufs_path.clone()),
        offset_in_file: Some(signed(block.offset)),
        block_size: Some(signed(block.length)),
        max_ufs_read_concurrency: Some(STORE_CONCURRENCY),
        mount_id: Some(status.mount_id),
        no_cache: Some(!(caches && status.cacheable)),
        file_length: Some(signed(status.length)),
        ..OpenUfsBlockOptions::default()
    })
}
