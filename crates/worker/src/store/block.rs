//! One block on disk: reading verified pieces, filling in missing ones.

use super::Inner;
use super::io::BlockFile;
use super::layout::Copy;
use super::sidecar::{Origin, Sidecar};
use crate::budget::BUFFER_BYTES;
use crate::error::WorkerError;
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use tier::{Class, PIECE_BYTES, Presence};
use tracing::warn;
use types::{BlockId, DirIndex};

/// What is known of a block's pieces.
pub(super) struct Table {
    pub presence: Presence,
    pub crcs: Vec<u32>,
    pub origin: Option<Origin>,
    pub class: Class,
    /// Counts changes, so that a sidecar written meanwhile is told from a current one.
    pub version: u64,
}

impl Table {
    pub(super) fn sidecar(&self, block: BlockId) -> Sidecar {
        Sidecar {
            block,
            class: self.class,
            origin: self.origin.clone(),
            presence: self.presence.clone(),
            crcs: self.crcs.clone(),
        }
    }
}

/// An open block. The file is made with its first piece.
pub(super) struct Block {
    pub copy: Copy,
    pub dir: DirIndex,
    pub length: u64,
    file: Mutex<Option<Arc<dyn BlockFile>>>,
    pub table: Mutex<Table>,
}

impl Block {
    pub(super) fn new(copy: Copy, dir: DirIndex, file: Option<Arc<dyn BlockFile>>, table: Table) -> Block {
        Block { copy, dir, length: table.presence.length(), file: Mutex::new(file), table: Mutex::new(table) }
    }
}

/// Gives an open back when it is dropped, unless a lease took it over.
pub(super) struct OpenGuard {
    inner: Option<Arc<Inner>>,
    copy: Copy,
}

impl OpenGuard {
    pub(super) fn new(inner: Arc<Inner>, copy: Copy) -> OpenGuard {
        OpenGuard { inner: Some(inner), copy }
    }
    /// The open goes on, in a lease.
    pub(super) fn keep(mut self) {
        self.inner = None;
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            inner.close(self.copy);
        }
    }
}

/// A block that stays here while this lives. Dropping it never waits.
pub struct Lease {
    inner: Arc<Inner>,
    block: Arc<Block>,
}

/// What a read found.
#[derive(Debug)]
pub enum ReadOutcome {
    /// Exactly the bytes asked for, verified.
    Bytes(Bytes),
    /// This piece is not here, or was damaged and has just been dropped.
    Missing { piece: u32 },
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.inner.close(self.block.copy);
    }
}

impl Lease {
    pub(super) fn new(inner: Arc<Inner>, block: Arc<Block>) -> Lease {
        Lease { inner, block }
    }

    pub fn id(&self) -> BlockId {
        self.block.copy.block
    }
    /// Of the whole block, here or not.
    pub fn length(&self) -> u64 {
        self.block.length
    }
    /// Whether bytes from `origin` may stand beside those that are here. Beside a whole block none have to: it is of the
    /// generation its id names, wherever that was moved since.
    pub fn agrees(&self, origin: &Origin) -> bool {
        let table = self.block.table.lock();
        match &table.origin {
            Some(own) => own == origin || table.presence.is_whole(),
            None => table.presence.is_whole(),
        }
    }
    pub fn is_whole(&self) -> bool {
        self.block.table.lock().presence.is_whole()
    }
    pub fn has(&self, piece: u32) -> bool {
        self.block.table.lock().presence.has(piece)
    }
    /// End of the present pieces that begin at `piece`; see [`Presence::present_until`].
    pub fn present_until(&self, piece: u32, limit: u32) -> u32 {
        self.block.table.lock().presence.present_until(piece, limit)
    }
    /// End of the missing pieces that begin at `piece`; see [`Presence::missing_until`].
    pub fn missing_until(&self, piece: u32, limit: u32) -> u32 {
        self.block.table.lock().presence.missing_until(piece, limit)
    }
    pub fn class(&self) -> Class {
        self.block.table.lock().class
    }

    /// The block is kept for another reason from now on.
    pub fn reclass(&self, class: Class) {
        let mut state = self.inner.state.lock();
        if state.stored.get(&self.id()).is_none_or(|stored| stored.serial != self.block.copy.serial) {
            return;
        }
        state.tiers.reclass(self.id(), class);
        let mut table = self.block.table.lock();
        table.class = class;
        table.version += 1;
        drop(table);
        state.dirty.insert(self.id());
        state.changed.insert(self.id());
        drop(state);
        self.inner.wake.notify_one();
    }

    /// Reads `range` of the block, of which the whole pieces around it must fit one buffer (1 MiB).
    ///
    /// Every piece is verified. One that does not hold is dropped and counted, and the answer is `Missing`; if the block
    /// exists nowhere else it stays and the answer is the error `Damaged`. Waits for the memory budget. Cancel-safe.
    pub async fn read(&self, range: Range<u64>) -> Result<ReadOutcome, WorkerError> {
        let pieces = pieces_of(&range);
        let start = u64::from(pieces.start) * PIECE_BYTES;
        let end = (u64::from(pieces.end) * PIECE_BYTES).min(self.block.length);
        assert!(range.end <= self.block.length && range.start < range.end, "{range:?} lies within the block");
        assert!(end - start <= BUFFER_BYTES, "{range:?} fits one buffer");
        let crcs: Vec<u32> = {
            let table = self.block.table.lock();
            let until = table.presence.present_until(pieces.start, pieces.end);
            if until < pieces.end {
                return Ok(ReadOutcome::Missing { piece: until });
            }
            table.crcs[index(pieces.start)..index(pieces.end)].to_vec()
        };
        let Some(file) = self.block.file.lock().clone() else {
            return Ok(ReadOutcome::Missing { piece: pieces.start });
        };
        let mut buffer = self.inner.budget.buffer(end - start).await;
        let at_once = file.read_now(buffer.bytes_mut(), start).unwrap_or(0);
        let bytes = if at_once == buffer.bytes_mut().len() {
            verify(buffer.bytes_mut(), &crcs).map(|()| buffer.freeze(at_once))
        } else {
            let (inner, dir) = (Arc::clone(&self.inner), self.block.dir);
            let read = move || {
                let skip = u64::try_from(at_once).unwrap_or(0);
                match file.read_at(&mut buffer.bytes_mut()[at_once..], start + skip) {
                    Ok(()) => verify(buffer.bytes_mut(), &crcs),
                    Err(error) => {
                        inner.read_failed(dir, &error);
                        read_singly(file.as_ref(), buffer.bytes_mut(), start, &crcs)
                    }
                }
                .map(|()| {
                    let length = buffer.bytes_mut().len();
                    buffer.freeze(length)
                })
            };
            self.inner.blocking(read).await?
        };
        match bytes {
            Ok(bytes) => {
                let skip = usize::try_from(range.start - start).expect("within a buffer");
                let length = usize::try_from(range.end - range.start).expect("within a buffer");
                Ok(ReadOutcome::Bytes(bytes.slice(skip..skip + length)))
            }
            Err(bad) => self.damaged(pieces.start + bad),
        }
    }

    /// A piece did not hold.
    fn damaged(&self, piece: u32) -> Result<ReadOutcome, WorkerError> {
        self.inner.metrics.damaged_pieces.inc();
        let block = self.id();
        let mut state = self.inner.state.lock();
        let mut table = self.block.table.lock();
        if table.class != Class::Evictable {
            warn!(%block, piece, "piece of a block that exists nowhere else is damaged");
            return Err(WorkerError::Damaged { block, offset: u64::from(piece) * PIECE_BYTES });
        }
        if table.presence.remove(piece) {
            table.version += 1;
            warn!(%block, piece, "damaged piece dropped, it will be read again from its under store");
            let bytes = table.presence.bytes_of(piece);
            if state.stored.get(&block).is_some_and(|stored| stored.serial == self.block.copy.serial) {
                state.tiers.shrink(block, bytes);
                state.dirty.insert(block);
                state.changed.insert(block);
            }
        }
        Ok(ReadOutcome::Missing { piece })
    }

    /// Stores pieces that were missing: `data` begins with piece `first` and ends with a whole piece, or with the block.
    /// Returns how many bytes are new. Errors: no room, or the disk; nothing is changed then.
    pub async fn fill(&self, first: u32, data: Bytes) -> Result<u64, WorkerError> {
        let start = u64::from(first) * PIECE_BYTES;
        let end = start + u64::try_from(data.len()).unwrap_or(u64::MAX);
        assert!(end == self.block.length || end.is_multiple_of(PIECE_BYTES), "fills end with whole pieces");
        let block = self.id();
        let (new_bytes, gone) = {
            let mut state = self.inner.state.lock();
            if state.stored.get(&block).is_none_or(|stored| stored.serial != self.block.copy.serial) {
                return Err(tier::Full::Gone { block }.into());
            }
            let new_bytes = missing_bytes(&self.block.table.lock().presence, pieces_of(&(start..end)));
            let moves = state.tiers.place_more(block, new_bytes)?;
            let gone = self.inner.make_room(&mut state, &moves);
            state.tiers.reserve(block, new_bytes);
            state.tiers.open(block);
            (new_bytes, gone)
        };
        // The caller may leave at any moment: the write keeps the block, and what it reserved, until it is done.
        let kept = OpenGuard::new(Arc::clone(&self.inner), self.block.copy);
        let (inner, open) = (Arc::clone(&self.inner), Arc::clone(&self.block));
        let fill = move || {
            let _kept = kept;
            inner.fill(&open, first, start, &data, new_bytes, &gone)
        };
        self.inner.blocking(fill).await?
    }
}

impl Inner {
    /// The blocking half of [`Lease::fill`]: the reservation is used up or given back, whatever happens to the caller.
    fn fill(
        &self,
        open: &Block,
        first: u32,
        start: u64,
        data: &[u8],
        reserved_bytes: u64,
        gone: &[PathBuf],
    ) -> Result<u64, WorkerError> {
        for path in gone {
            let _ = self.io.remove(path);
        }
        let path = self.dir(open.dir).data(open.copy);
        let crcs: Vec<u32> = chunks(data).map(crc32c::crc32c).collect();
        let written = self
            .file_of(open, &path)
            .and_then(|file| file.write_at(data, start).map_err(|error| WorkerError::disk("write", &path, error)));
        let block = open.copy.block;
        let mut state = self.state.lock();
        let current = state.stored.get(&block).is_some_and(|stored| stored.serial == open.copy.serial);
        if let Err(error) = written {
            if current {
                state.tiers.release(block, reserved_bytes);
            }
            drop(state);
            self.write_failed(open.dir, &error);
            return Err(error);
        }
        if !current {
            drop(state);
            let _ = self.io.remove(&path);
            return Err(tier::Full::Gone { block }.into());
        }
        let mut new_bytes = 0;
        let mut table = open.table.lock();
        for (piece, crc) in (first..).zip(crcs) {
            table.crcs[index(piece)] = crc;
            if table.presence.insert(piece) {
                new_bytes += table.presence.bytes_of(piece);
            }
        }
        table.version += 1;
        drop(table);
        state.tiers.fill(block, new_bytes);
        state.tiers.release(block, reserved_bytes.saturating_sub(new_bytes));
        state.dirty.insert(block);
        state.changed.insert(block);
        Ok(new_bytes)
    }

    fn file_of(&self, open: &Block, path: &std::path::Path) -> Result<Arc<dyn BlockFile>, WorkerError> {
        let mut file = open.file.lock();
        if let Some(file) = file.as_ref() {
            return Ok(Arc::clone(file));
        }
        let made = self.io.create(path).map_err(|error| WorkerError::disk("create", path, error))?;
        *file = Some(Arc::clone(&made));
        Ok(made)
    }
}

fn index(piece: u32) -> usize {
    usize::try_from(piece).expect("32 bits fit a usize here")
}

/// The pieces that hold any byte of `range`.
pub(crate) fn pieces_of(range: &Range<u64>) -> Range<u32> {
    let piece = |number: u64| u32::try_from(number).expect("a block has at most 2^18 pieces");
    piece(range.start / PIECE_BYTES)..piece(range.end.div_ceil(PIECE_BYTES))
}

fn missing_bytes(presence: &Presence, pieces: Range<u32>) -> u64 {
    pieces.filter(|piece| !presence.has(*piece)).map(|piece| presence.bytes_of(piece)).sum()
}

/// Whole pieces of `data`, the last one perhaps short.
pub(crate) fn chunks(data: &[u8]) -> std::slice::Chunks<'_, u8> {
    data.chunks(usize::try_from(PIECE_BYTES).expect("64 KiB"))
}

/// Errors with the first piece whose checksum does not hold, counted from the first of `data`.
fn verify(data: &[u8], crcs: &[u32]) -> Result<(), u32> {
    let bad = chunks(data).zip(crcs).position(|(piece, crc)| crc32c::crc32c(piece) != *crc);
    bad.map_or(Ok(()), |at| Err(u32::try_from(at).expect("at most 16 pieces a buffer")))
}

/// A read failed: once more, piece by piece, for one failure is no damage. Errors with the first piece that cannot be had.
fn read_singly(file: &dyn BlockFile, into: &mut [u8], start: u64, crcs: &[u32]) -> Result<(), u32> {
    let mut offset = start;
    let step = usize::try_from(PIECE_BYTES).expect("64 KiB");
    for (number, (piece, crc)) in (0..).zip(into.chunks_mut(step).zip(crcs)) {
        if file.read_at(piece, offset).is_err() || crc32c::crc32c(piece) != *crc {
            return Err(number);
        }
        offset += PIECE_BYTES;
    }
    Ok(())
}
