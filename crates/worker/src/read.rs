//! Reading a block: from the cache, else from its under store, which fills the cache on the way.
//!
//! Is:     a cursor over one block for one caller; each step gives the next bytes.
//! Owns:   the lease on the block and the place in a flight, both given back when it is dropped.
//! Never:  gives bytes the master has not allowed the caller to read, or bytes of another version than it began with.

use crate::budget::BUFFER_BYTES;
use crate::error::WorkerError;
use crate::fetch::{Attached, Fetcher, Sequences, Taken, Ticket, Wanted};
use crate::metrics::Metrics;
use crate::resolve::{Facts, Resolver};
use crate::store::{BlockStore, Lease, ReadOutcome};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use tier::PIECE_BYTES;
use types::{BlockId, Principal};

/// Blocks of a file read through here, one after the other, before the next one is expected here too: with several
/// workers a neighbour is here by chance.
const RUN_BLOCKS: u32 = 2;
/// How near the end of a block its successor is begun; as much of it is then fetched.
const AHEAD_BYTES: u64 = 8 * 1024 * 1024;
/// Times one step may find that what it was about to read has just left, before it gives up.
const STEP_TRIES: usize = 64;

/// What reads need of the worker.
pub struct Reads {
    pub store: BlockStore,
    pub resolver: Arc<Resolver>,
    pub fetcher: Fetcher,
    pub sequences: Sequences,
    pub metrics: Arc<Metrics>,
}

/// What a caller asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadSpec {
    pub block: BlockId,
    /// Within the block.
    pub offset: u64,
    /// None: to the end of the block.
    pub length: Option<u64>,
    /// A positioned read: what follows may not be wanted.
    pub positioned: bool,
    /// Missing bytes only pass by.
    pub no_cache: bool,
}

/// A read under way.
pub struct BlockRead {
    reads: Arc<Reads>,
    who: Principal,
    facts: Arc<Facts>,
    spec: ReadSpec,
    /// Of the block in its file.
    place: Range<u64>,
    at: u64,
    end: u64,
    /// How far missing bytes are fetched ahead.
    ahead_end: u64,
    lease: Option<Arc<Lease>>,
    ticket: Option<Ticket>,
    /// A place in a flight that this read takes up again when it gets to what is not stored yet: held while the read was
    /// expected, or kept while it reads from the disk.
    held: Option<Ticket>,
    /// The next block is still to be thought of.
    looks_ahead: bool,
    /// Bytes were given out: another content is an error from now on.
    committed: bool,
    /// The master was asked anew because the store contradicted the facts.
    looked_again: bool,
    /// A fetch that somebody else had begun failed, and another one was asked for.
    began_anew: bool,
    /// The master confirmed that the content is in no store.
    storeless: bool,
}

impl Drop for BlockRead {
    fn drop(&mut self) {
        self.reads.metrics.active_reads.dec();
    }
}

impl BlockRead {
    /// Checks the caller's right and what there is to read. The range is cut at the end of the block.
    pub async fn open(reads: Arc<Reads>, who: Principal, spec: ReadSpec) -> Result<BlockRead, WorkerError> {
        let facts = reads.resolver.for_read(&who, spec.block.container()).await?;
        let mut read = BlockRead {
            place: 0..0,
            at: spec.offset,
            end: 0,
            ahead_end: 0,
            lease: None,
            ticket: None,
            held: None,
            looks_ahead: false,
            committed: false,
            looked_again: false,
            began_anew: false,
            storeless: false,
            reads,
            who,
            facts,
            spec,
        };
        read.reads.metrics.active_reads.inc();
        read.reads.metrics.read_streams.inc();
        read.measure()?;
        read.expect_next();
        Ok(read)
    }

    /// A stream over blocks that follow each other: takes the place held for it, and will prepare the next block.
    fn expect_next(&mut self) {
        if self.spec.positioned || self.spec.no_cache {
            return;
        }
        let through = self.end == self.place.end - self.place.start;
        self.held = self.reads.fetcher.take_held(self.spec.block);
        self.looks_ahead = through && self.reads.sequences.run_before(self.spec.block) >= RUN_BLOCKS;
    }

    /// Near the end of a block, begins to bring the next one if it is in a store.
    fn look_ahead(&mut self) {
        let length = self.place.end - self.place.start;
        if !self.spec.positioned && self.at == length {
            self.reads.sequences.pass(self.spec.block);
        }
        if !self.looks_ahead || length - self.at > AHEAD_BYTES {
            return;
        }
        self.looks_ahead = false;
        let block = self.spec.block;
        let Some(next) = block.container().block(block.index() + 1) else { return };
        let place = self.facts.range_of(next);
        if let Some(origin) = self.facts.origin().filter(|_| self.facts.cacheable && !place.is_empty()) {
            self.reads.fetcher.go_ahead(self.reads.store.clone(), next, origin, place);
        }
    }

    /// The next bytes, at most 1 MiB and never empty; None after the last. Cancel-safe. Errors end the read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, WorkerError> {
        if self.at >= self.end {
            return Ok(None);
        }
        for _ in 0..STEP_TRIES {
            if let Some(bytes) = self.step().await? {
                self.at += u64::try_from(bytes.len()).expect("at most a MiB");
                self.committed = true;
                self.reads.metrics.read_bytes.inc_by(u64::try_from(bytes.len()).expect("at most a MiB"));
                self.look_ahead();
                return Ok(Some(bytes));
            }
        }
        Err(WorkerError::Busy { what: "changes under a read", limit: STEP_TRIES })
    }

    /// Sets the range from the facts.
    fn measure(&mut self) -> Result<(), WorkerError> {
        let (facts, spec) = (&self.facts, &self.spec);
        if !facts.complete {
            return Err(WorkerError::Incomplete { container: facts.container });
        }
        self.place = facts.range_of(spec.block);
        let length = self.place.end - self.place.start;
        if length == 0 {
            return Err(WorkerError::NotHere { block: spec.block });
        }
        if spec.offset > length {
            return Err(WorkerError::Invalid(format!(
                "{} has {length} bytes, the read begins at {}; read within the block",
                spec.block, spec.offset
            )));
        }
        self.end = spec.length.map_or(length, |wanted| spec.offset.saturating_add(wanted).min(length));
        let ahead = match spec.positioned {
            true => self.reads.sequences.note(spec.block, &(spec.offset..self.end)),
            false => 0,
        };
        self.ahead_end = self.end.saturating_add(ahead).min(length);
        Ok(())
    }

    /// One try: bytes, or None when something was found out and the next try knows more.
    async fn step(&mut self) -> Result<Option<Bytes>, WorkerError> {
        if let Some(ticket) = &self.ticket {
            match ticket.take(self.at, (self.end - self.at).min(BUFFER_BYTES)).await {
                Taken::Bytes(bytes) => {
                    let count = u64::try_from(bytes.len()).expect("at most a MiB");
                    self.reads.metrics.read_store_bytes.inc_by(count);
                    return Ok(Some(bytes));
                }
                // Stored, and out of memory before this slow reader came. It goes on from the disk and keeps its place: left
                // by its last reader, the flight would be broken off, and what was not stored yet fetched again.
                Taken::Elsewhere => self.held = self.ticket.take(),
                // It had begun before this read came: the store may be well again by now.
                Taken::Failed(WorkerError::Store { .. }) if ticket.joined() && !self.began_anew => {
                    self.began_anew = true;
                    self.ticket = None;
                }
                Taken::Failed(error) => {
                    self.ticket = None;
                    self.look_again(error).await?;
                }
            }
        }
        if self.lease.is_none() {
            self.lease =
                self.reads.store.lease(self.spec.block).await?.filter(|lease| self.is_ours(lease)).map(Arc::new);
        }
        let piece = piece_of(self.at);
        if let Some(lease) = self.lease.clone().filter(|lease| lease.has(piece)) {
            if let Some(held) = &self.held {
                held.move_to(piece);
            }
            return self.fetch_piece(&lease, piece).await;
        }
        self.miss(piece).await.map(|()| None)
    }

    /// Whether a cached copy is of the version and length this read is about.
    fn is_ours(&self, lease: &Lease) -> bool {
        let length = self.place.end - self.place.start;
        match self.facts.origin() {
            Some(origin) => lease.length() == length && lease.agrees(&origin),
            None => lease.length() >= length,
        }
    }

    async fn fetch_piece(&mut self, lease: &Lease, piece: u32) -> Result<Option<Bytes>, WorkerError> {
        let first = u64::from(piece) * PIECE_BYTES;
        let bite = self.reads.store.budget().bite(BUFFER_BYTES);
        let pieces = u32::try_from(bite / PIECE_BYTES).unwrap_or(1).max(1);
        let until = lease.present_until(piece, piece + pieces);
        let end = (first + u64::from(until - piece) * PIECE_BYTES).min(self.end).min(lease.length());
        if end <= self.at {
            return Ok(None);
        }
        match lease.read(self.at..end).await? {
            ReadOutcome::Bytes(bytes) => {
                let count = u64::try_from(bytes.len()).expect("at most a MiB");
                self.reads.metrics.read_cached_bytes.inc_by(count);
                Ok(Some(bytes))
            }
            ReadOutcome::Missing { piece } => {
                tracing::debug!(block = %self.spec.block, piece, "piece left or was damaged, looked for elsewhere");
                Ok(None)
            }
        }
    }

    /// Gets on a flight that brings the piece.
    async fn miss(&mut self, piece: u32) -> Result<(), WorkerError> {
        let block = self.spec.block;
        let Some(origin) = self.facts.origin() else { return self.look_for_store().await };
        let length = self.place.end - self.place.start;
        let caching = self.facts.cacheable && !self.spec.no_cache;
        if caching && self.lease.as_ref().is_none_or(|lease| !self.is_ours(lease)) {
            self.lease = match self.reads.store.lease_to_fill(block, length, &origin).await {
                Ok(lease) => Some(Arc::new(lease)),
                Err(WorkerError::Full(why)) => {
                    tracing::debug!(%block, %why, "read without caching");
                    None
                }
                Err(error) => return Err(error),
            };
        }
        let wanted = Wanted {
            block,
            origin,
            place: self.place.clone(),
            piece,
            until: u32::try_from(self.ahead_end.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX),
            lease: self.lease.clone().filter(|_| caching),
        };
        match self.reads.fetcher.attach(wanted)? {
            Attached::Flight(ticket) => {
                self.ticket = Some(ticket);
                self.held = None;
            }
            Attached::Present => {}
        }
        Ok(())
    }

    /// By what is known the content is in no store, and the block is not here. It may have been persisted and evicted
    /// since: the master is asked once more.
    async fn look_for_store(&mut self) -> Result<(), WorkerError> {
        if self.storeless {
            return Err(WorkerError::NotHere { block: self.spec.block });
        }
        self.storeless = true;
        let facts = self.reads.resolver.again(&self.who, self.spec.block.container()).await?;
        if (facts.length, facts.block_bytes) != (self.facts.length, self.facts.block_bytes) && self.committed {
            return Err(WorkerError::Superseded { block: self.spec.block });
        }
        self.facts = facts;
        self.measure()
    }

    /// A flight failed. If the object is another version now, the master is asked anew, once: the same generation may have
    /// been moved, and goes on where it is now. Else the read fails.
    async fn look_again(&mut self, error: WorkerError) -> Result<(), WorkerError> {
        if self.looked_again || !matches!(error, WorkerError::Superseded { .. }) {
            return Err(error);
        }
        self.looked_again = true;
        let facts =
            self.reads.resolver.again(&self.who, self.spec.block.container()).await.map_err(|_| error.clone())?;
        let same_size = (facts.length, facts.block_bytes) == (self.facts.length, self.facts.block_bytes);
        if facts.origin() == self.facts.origin() || (self.committed && !same_size) {
            return Err(error);
        }
        self.facts = facts;
        self.lease = None;
        self.measure()
    }
}

fn piece_of(offset: u64) -> u32 {
    tier::piece_of(offset).expect("offsets lie within a block that was measured")
}
