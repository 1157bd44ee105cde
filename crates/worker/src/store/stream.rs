//! One block as a stream writes it: appended, flushed, then committed at once or gone.

use super::block::{Block, Table, chunks};
use super::io::BlockFile;
use super::layout::{Copy, unfinished};
use super::{Inner, Lease, Stored};
use crate::error::WorkerError;
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use tier::{Class, PIECE_BYTES, Presence, Stage};
use types::{BlockId, DirIndex, ErrorKind};

/// Space is promised to a stream in steps of this, so that many small blocks do not each hold a whole one's.
const RESERVE_STEP_BYTES: u64 = 1024 * 1024;

/// A block being written. Dropping it without [`BlockStream::commit`] discards it.
pub struct BlockStream {
    inner: Arc<Inner>,
    copy: Copy,
    dir: DirIndex,
    class: Class,
    limit_bytes: u64,
    reserved_bytes: u64,
    /// Between calls it is always here; a call that was cancelled took it along.
    ink: Option<Ink>,
    over: bool,
}

/// What the writing thread needs.
struct Ink {
    file: Arc<dyn BlockFile>,
    path: PathBuf,
    written_bytes: u64,
    crcs: Vec<u32>,
}

impl Ink {
    /// Appends; checksums grow with the bytes.
    fn append(&mut self, data: &[u8]) -> Result<(), WorkerError> {
        self.file.write_at(data, self.written_bytes).map_err(|error| WorkerError::disk("write", &self.path, error))?;
        let open_bytes = self.written_bytes % PIECE_BYTES;
        let room = usize::try_from(PIECE_BYTES - open_bytes).expect("at most 64 KiB").min(data.len());
        let (head, rest) = data.split_at(if open_bytes > 0 { room } else { 0 });
        if let Some(last) = self.crcs.last_mut().filter(|_| !head.is_empty()) {
            *last = crc32c::crc32c_append(*last, head);
        }
        self.crcs.extend(chunks(rest).map(crc32c::crc32c));
        self.written_bytes += u64::try_from(data.len()).expect("a message is smaller than 2^64");
        Ok(())
    }
}

impl BlockStream {
    /// A directory that fails at once is shut, and another one is tried.
    pub(super) async fn create(
        inner: Arc<Inner>,
        block: BlockId,
        class: Class,
        limit_bytes: u64,
    ) -> Result<BlockStream, WorkerError> {
        if tier::piece_count(limit_bytes).is_none() {
            return Err(WorkerError::Invalid(format!("{block}: blocks of {limit_bytes} bytes are not supported")));
        }
        let mut tries = inner.dirs.len();
        loop {
            match BlockStream::begin(&inner, block, class, limit_bytes).await {
                Err(WorkerError::Disk { .. } | WorkerError::DiskFull { .. }) if tries > 1 => tries -= 1,
                other => return other,
            }
        }
    }

    async fn begin(
        inner: &Arc<Inner>,
        block: BlockId,
        class: Class,
        limit_bytes: u64,
    ) -> Result<BlockStream, WorkerError> {
        let copy = Copy { block, serial: inner.next_serial() };
        let (dir, gone, first_bytes) = {
            let mut state = inner.state.lock();
            // A full step if there is room for it, else what any block needs.
            let (step, least) = (limit_bytes.min(RESERVE_STEP_BYTES), limit_bytes.min(PIECE_BYTES));
            let (placed, first_bytes) = match state.tiers.place(block, step, class) {
                Ok(placed) => (placed, step),
                Err(full) if full.kind() == ErrorKind::Full => (state.tiers.place(block, least, class)?, least),
                Err(other) => return Err(other.into()),
            };
            let gone = inner.make_room(&mut state, &placed.moves);
            state.tiers.begin(block, placed.dir, class, Stage::Writing, first_bytes);
            state.stored.insert(block, Stored { serial: copy.serial, length: limit_bytes });
            (placed.dir, gone, first_bytes)
        };
        // From here on dropping the stream undoes what was entered.
        let mut stream = BlockStream {
            inner: Arc::clone(inner),
            copy,
            dir,
            class,
            limit_bytes,
            reserved_bytes: first_bytes,
            ink: None,
            over: false,
        };
        let path = unfinished(&inner.dir(dir).data(copy));
        let io = Arc::clone(&inner.io);
        let make = move || {
            for old in gone {
                let _ = io.remove(&old);
            }
            let file = io.create(&path).map_err(|error| WorkerError::disk("create", &path, error))?;
            Ok(Ink { file, path, written_bytes: 0, crcs: Vec::new() })
        };
        let made = inner.blocking(make).await?;
        stream.ink = Some(made.inspect_err(|error| inner.write_failed(dir, error))?);
        Ok(stream)
    }

    /// Received so far.
    pub fn written_bytes(&self) -> u64 {
        self.ink.as_ref().map_or(0, |ink| ink.written_bytes)
    }

    /// Adds bytes at the end. Errors: past the limit, no room, or the disk; the stream is over then.
    pub async fn append(&mut self, data: Bytes) -> Result<(), WorkerError> {
        let more = u64::try_from(data.len()).expect("a message is smaller than 2^64");
        let end = self.written_bytes() + more;
        if end > self.limit_bytes {
            self.over = true;
            return Err(WorkerError::Invalid(format!(
                "{} gets {end} bytes, but its file has blocks of {} bytes",
                self.copy.block, self.limit_bytes
            )));
        }
        let gone = self.reserve(end)?;
        let io = Arc::clone(&self.inner.io);
        self.with_ink(move |ink| {
            for old in gone {
                let _ = io.remove(&old);
            }
            ink.append(&data)
        })
        .await?;
        self.inner.state.lock().tiers.fill(self.copy.block, more);
        Ok(())
    }

    /// What was received is in the file, and on disk if the block must stay. Returns how many bytes that are.
    pub async fn flush(&mut self) -> Result<u64, WorkerError> {
        if self.class != Class::Evictable {
            self.with_ink(|ink| ink.file.sync().map_err(|error| WorkerError::disk("sync", &ink.path, error))).await?;
        }
        Ok(self.written_bytes())
    }

    /// Makes the block visible, in one step, and durable first if it must stay. An empty one is discarded. When it
    /// returns an error nothing is visible. Not cancel-safe: run it in a task of its own.
    pub async fn commit(mut self) -> Result<u64, WorkerError> {
        let length = self.written_bytes();
        if length == 0 || self.over {
            return Ok(0);
        }
        let (inner, copy, dir, class) = (Arc::clone(&self.inner), self.copy, self.dir, self.class);
        let table = self.with_ink(move |ink| inner.place_file(copy, dir, class, ink)).await?;
        let Some(ink) = self.ink.take() else { return Err(self.gone()) };
        let mut state = self.inner.state.lock();
        if state.stored.get(&copy.block).is_none_or(|stored| stored.serial != copy.serial) {
            let at = self.inner.dir(dir);
            state.trash.extend([at.meta(copy), at.data(copy)]);
            drop(state);
            self.over = true;
            return Err(self.gone());
        }
        state.tiers.commit(copy.block, class);
        state.stored.insert(copy.block, Stored { serial: copy.serial, length });
        let open = Arc::new(Block::new(copy, dir, Some(ink.file), table));
        state.open.insert(copy.block, Arc::clone(&open));
        state.changed.insert(copy.block);
        drop(state);
        self.over = true;
        // The stream's open becomes a lease and ends like one.
        drop(Lease::new(Arc::clone(&self.inner), open));
        self.inner.wake.notify_one();
        Ok(length)
    }

    fn gone(&self) -> WorkerError {
        tier::Full::Gone { block: self.copy.block }.into()
    }

    /// Promises space up to `end`; returns the files to remove first.
    fn reserve(&mut self, end: u64) -> Result<Vec<PathBuf>, WorkerError> {
        if end <= self.reserved_bytes {
            return Ok(Vec::new());
        }
        let wanted = end.div_ceil(RESERVE_STEP_BYTES).saturating_mul(RESERVE_STEP_BYTES).min(self.limit_bytes);
        let mut state = self.inner.state.lock();
        if state.stored.get(&self.copy.block).is_none_or(|stored| stored.serial != self.copy.serial) {
            return Err(self.gone());
        }
        let mut more = wanted - self.reserved_bytes;
        let moves = match state.tiers.place_more(self.copy.block, more) {
            Err(full) if full.kind() == ErrorKind::Full && wanted > end => {
                more = end - self.reserved_bytes;
                state.tiers.place_more(self.copy.block, more)?
            }
            other => other?,
        };
        let gone = self.inner.make_room(&mut state, &moves);
        state.tiers.reserve(self.copy.block, more);
        self.reserved_bytes += more;
        Ok(gone)
    }

    async fn with_ink<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Ink) -> Result<T, WorkerError> + Send + 'static,
    ) -> Result<T, WorkerError> {
        let Some(mut ink) = self.ink.take() else { return Err(self.gone()) };
        let (out, ink) = self.inner.blocking(move || (work(&mut ink), ink)).await?;
        self.ink = Some(ink);
        out.inspect_err(|error| {
            self.over = true;
            self.inner.write_failed(self.dir, error);
        })
    }
}

impl Drop for BlockStream {
    fn drop(&mut self) {
        if self.ink.is_none() && self.over {
            return; // committed, or already undone
        }
        let mut state = self.inner.state.lock();
        if state.stored.get(&self.copy.block).is_some_and(|stored| stored.serial == self.copy.serial) {
            self.inner.forget(&mut state, self.copy.block);
            state.changed.remove(&self.copy.block);
        }
        state.trash.push(unfinished(&self.inner.dir(self.dir).data(self.copy)));
        drop(state);
        self.inner.wake.notify_one();
    }
}

impl Inner {
    /// Moves a finished file and its sidecar into place. Blocking.
    fn place_file(&self, copy: Copy, dir: DirIndex, class: Class, ink: &mut Ink) -> Result<Table, WorkerError> {
        let durable = class != Class::Evictable;
        let at = self.dir(dir);
        let (data, meta) = (at.data(copy), at.meta(copy));
        let bug = || WorkerError::Bug(format!("{} has {} bytes", copy.block, ink.written_bytes));
        let presence = Presence::whole(ink.written_bytes).ok_or_else(bug)?;
        let table = Table { presence, crcs: ink.crcs.clone(), origin: None, class, version: 0 };
        if durable {
            ink.file.sync().map_err(|error| WorkerError::disk("sync", &ink.path, error))?;
        }
        let bytes = table.sidecar(copy.block).encode();
        let beside = unfinished(&meta);
        let sidecar = self.io.create(&beside).map_err(|error| WorkerError::disk("create", &beside, error))?;
        sidecar.write_at(&bytes, 0).map_err(|error| WorkerError::disk("write", &beside, error))?;
        if durable {
            sidecar.sync().map_err(|error| WorkerError::disk("sync", &beside, error))?;
        }
        // The data first: a sidecar without data means nothing, and the sweep removes either alone.
        self.io.rename(&ink.path, &data).map_err(|error| WorkerError::disk("rename into place", &data, error))?;
        self.io.rename(&beside, &meta).map_err(|error| WorkerError::disk("rename into place", &meta, error))?;
        if durable {
            let shard = at.shard_of(copy.block);
            self.io.sync_dir(&shard).map_err(|error| WorkerError::disk("sync", &shard, error))?;
        }
        Ok(table)
    }
}
