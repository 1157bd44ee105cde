//! One ranged read of an object, shared by all who wait for its pieces.

use super::Inner;
use crate::budget::BUFFER_BYTES;
use crate::error::WorkerError;
use crate::store::{Lease, Origin};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use tier::PIECE_BYTES;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use types::BlockId;
use ufs::{Key, UfsError};

/// Pieces handed on together; the first bite is one piece, so that the first byte does not wait for a second piece.
const BITE_PIECES_MAX: u32 = 4;
/// How far a flight runs ahead of its slowest reader: 8 MiB, to cover a round trip on a fast store.
const AHEAD_PIECES: u32 = 128;
/// The same when nothing is stored, so that all of it stays in memory.
const PASSING_AHEAD_PIECES: u32 = 16;
/// Stored bytes kept in memory for readers just behind.
const KEPT_BYTES: usize = 1024 * 1024;
/// Bites on their way to the disk at once.
const STORING_MAX: usize = 4;
/// A flight nobody waits for any more is finished if no more than this is left of it, else stopped.
const LINGER_PIECES: u32 = 16;

/// What a flight brings and where.
pub struct Plan {
    pub block: BlockId,
    pub origin: Origin,
    pub key: Key,
    /// Where the block lies in the object.
    pub place: Range<u64>,
    pub lease: Option<Arc<Lease>>,
}

/// Invariants: pieces `[start, at)` have arrived, `[at, end)` are claimed; `end` may come nearer, never go away;
/// segments are in order and end at `at`.
struct Progress {
    at: u32,
    end: u32,
    segments: VecDeque<Segment>,
    /// Each reader and the piece it is at.
    readers: Vec<(u64, u32)>,
    next_reader: u64,
    /// Whether arriving pieces are stored; false from the start, or since the store had no room.
    storing: bool,
    outcome: Option<Result<(), WorkerError>>,
}

struct Segment {
    first: u32,
    pieces: u32,
    data: Bytes,
    stored: bool,
}

pub struct Flight {
    origin: Origin,
    progress: Mutex<Progress>,
    /// For readers: something arrived, or it is over.
    news: Notify,
    /// For the flight: a reader moved or left.
    moved: Notify,
}

/// A reader's place in a flight. Dropping it leaves.
pub struct Ticket {
    flight: Arc<Flight>,
    reader: u64,
    joined: bool,
}

/// What a flight gives a reader.
pub enum Taken {
    Bytes(Bytes),
    /// This flight does not bring it (any more): look in the store, then for another one.
    Elsewhere,
    Failed(WorkerError),
}

impl Flight {
    pub fn new(start: u32, end: u32, origin: Origin, storing: bool) -> Flight {
        let progress = Progress {
            at: start,
            end,
            segments: VecDeque::new(),
            readers: Vec::new(),
            next_reader: 0,
            storing,
            outcome: None,
        };
        Flight { origin, progress: Mutex::new(progress), news: Notify::new(), moved: Notify::new() }
    }

    /// The place of the reader for whom it begins, at `piece`.
    pub fn board(self: &Arc<Flight>, piece: u32) -> Ticket {
        self.place(piece, false)
    }

    fn place(self: &Arc<Flight>, piece: u32, joined: bool) -> Ticket {
        let mut progress = self.progress.lock();
        let reader = progress.next_reader;
        progress.next_reader += 1;
        progress.readers.push((reader, piece));
        Ticket { flight: Arc::clone(self), reader, joined }
    }

    #[cfg(test)]
    pub fn readers(&self) -> usize {
        self.progress.lock().readers.len()
    }

    /// Resolves when it is over.
    pub async fn landed(&self) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.progress.lock().outcome.is_some() {
                return;
            }
            news.await;
        }
    }

    /// A place for a reader, if this flight has the piece in memory or brings it soon.
    pub fn join(self: &Arc<Flight>, piece: u32, within: u32, origin: &Origin) -> Option<Ticket> {
        let fits = {
            let progress = self.progress.lock();
            let soon = piece >= progress.at && piece < progress.end && piece - progress.at <= within;
            let here = progress.segments.iter().any(|segment| segment.has(piece));
            self.origin == *origin && progress.outcome.is_none() && (soon || here)
        };
        fits.then(|| self.place(piece, true))
    }

    /// Settles claims with a new flight over `[start, end)`: one ahead of it bounds it, one that would reach `start` much
    /// later ends there. Returns the new end.
    pub fn give_way(&self, start: u32, end: u32) -> u32 {
        let mut progress = self.progress.lock();
        if progress.at <= start {
            progress.end = progress.end.min(start.max(progress.at));
            return end;
        }
        // What has arrived here and is not stored yet counts as on its way.
        let first = progress.segments.front().map_or(progress.at, |segment| segment.first);
        if first > start { end.min(first) } else { end }
    }
}

impl Segment {
    fn has(&self, piece: u32) -> bool {
        piece >= self.first && piece < self.first + self.pieces
    }
}

impl Progress {
    fn slowest(&self) -> Option<u32> {
        self.readers.iter().map(|(_, piece)| *piece).min()
    }

    /// Drops what no reader needs from memory, keeping at most `keep_bytes` of what is stored.
    fn trim(&mut self, keep_bytes: usize) {
        let slowest = self.slowest().unwrap_or(u32::MAX);
        let mut held: usize = self.segments.iter().map(|segment| segment.data.len()).sum();
        while let Some(front) = self.segments.front() {
            let passed = front.first + front.pieces <= slowest;
            let spare = front.stored && (passed || held > keep_bytes);
            if !(spare || (!self.storing && passed)) {
                break;
            }
            held -= front.data.len();
            self.segments.pop_front();
        }
    }
}

impl Ticket {
    /// Whether the flight had begun before this reader came: how it ends may say nothing about the store as it is now.
    pub fn joined(&self) -> bool {
        self.joined
    }

    /// The reader is at this piece, which it got from elsewhere.
    pub fn move_to(&self, piece: u32) {
        self.move_in(&mut self.flight.progress.lock(), piece);
    }

    fn move_in(&self, progress: &mut Progress, piece: u32) {
        if let Some((_, at)) = progress.readers.iter_mut().find(|(reader, _)| *reader == self.reader)
            && *at != piece
        {
            *at = piece;
            self.flight.moved.notify_waiters();
        }
    }

    /// The bytes from `offset` of the block on, at most `most`, as soon as they are there. Cancel-safe.
    pub async fn take(&self, offset: u64, most: u64) -> Taken {
        let piece = u32::try_from(offset / PIECE_BYTES).unwrap_or(u32::MAX);
        loop {
            let news = self.flight.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            {
                let mut progress = self.flight.progress.lock();
                self.move_in(&mut progress, piece);
                if let Some(segment) = progress.segments.iter().find(|segment| segment.has(piece)) {
                    let skip = offset - u64::from(segment.first) * PIECE_BYTES;
                    let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(segment.data.len());
                    let here = segment.data.len() - skip;
                    let take = usize::try_from(most).unwrap_or(usize::MAX).min(here);
                    return Taken::Bytes(segment.data.slice(skip..skip + take));
                }
                match &progress.outcome {
                    Some(Err(error)) if piece >= progress.at => return Taken::Failed(error.clone()),
                    Some(_) => return Taken::Elsewhere,
                    None if piece < progress.at || piece >= progress.end => return Taken::Elsewhere,
                    None => {}
                }
            }
            news.await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.flight.progress.lock().readers.retain(|(reader, _)| *reader != self.reader);
        self.flight.moved.notify_waiters();
    }
}

/// Ends a flight, however it ends: takes it out of the table, then tells its readers.
struct Landing {
    inner: Arc<Inner>,
    flight: Arc<Flight>,
    block: BlockId,
    outcome: Result<(), WorkerError>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.inner.flights.lock();
        if let Some(flying) = flights.get_mut(&self.block) {
            flying.retain(|other| !Arc::ptr_eq(other, &self.flight));
            if flying.is_empty() {
                flights.remove(&self.block);
            }
        }
        drop(flights);
        let outcome = std::mem::replace(&mut self.outcome, Ok(()));
        self.flight.progress.lock().outcome = Some(outcome);
        self.flight.news.notify_waiters();
        self.inner.metrics.active_fetches.dec();
    }
}

/// The task of a flight.
pub async fn run(inner: Arc<Inner>, flight: Arc<Flight>, plan: Plan) {
    inner.metrics.active_fetches.inc();
    let outcome = Err(WorkerError::Stopping);
    let mut landing = Landing { inner: Arc::clone(&inner), flight: Arc::clone(&flight), block: plan.block, outcome };
    landing.outcome = match fly(&inner, &flight, &plan).await {
        Ok(Ended::Done) => Ok(()),
        Ok(Ended::Abandoned) => {
            inner.metrics.fetch_cancels.inc();
            Ok(())
        }
        Err(error) => {
            inner.metrics.fetch_failures.inc();
            tracing::warn!(block = %plan.block, error = %error.sentence(), "fetch from an under store failed");
            Err(error)
        }
    };
}

enum Ended {
    Done,
    Abandoned,
}

async fn fly(inner: &Arc<Inner>, flight: &Arc<Flight>, plan: &Plan) -> Result<Ended, WorkerError> {
    tokio::select! {
        biased;
        ended = bring(inner, flight, plan) => ended,
        () = flight.abandoned() => Ok(Ended::Abandoned),
    }
}

impl Flight {
    /// Resolves when nobody waits any more and much is left to do.
    async fn abandoned(&self) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let progress = self.progress.lock();
                let left = progress.end.saturating_sub(progress.at);
                if progress.readers.is_empty() && left > LINGER_PIECES {
                    return;
                }
            }
            moved.await;
        }
    }

    /// Resolves when the slowest reader is near enough for the next bite.
    async fn caught_up(&self) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let progress = self.progress.lock();
                let ahead = if progress.storing { AHEAD_PIECES } else { PASSING_AHEAD_PIECES };
                if progress.slowest().is_none_or(|slowest| progress.at.saturating_sub(slowest) < ahead) {
                    return;
                }
            }
            moved.await;
        }
    }
}

/// Reads the range and hands on what arrives.
async fn bring(inner: &Arc<Inner>, flight: &Arc<Flight>, plan: &Plan) -> Result<Ended, WorkerError> {
    let failed = |source: UfsError| WorkerError::Store { block: plan.block, source };
    let mounted = inner.mounts.get(plan.origin.mount).await?;
    let length = plan.place.end - plan.place.start;
    let byte = |piece: u32| (u64::from(piece) * PIECE_BYTES).min(length);
    let (start, end) = {
        let progress = flight.progress.lock();
        (byte(progress.at), byte(progress.end))
    };
    let range = plan.place.start + start..plan.place.start + end;
    let opened = mounted.store.read(&plan.key, range, plan.origin.fingerprint.as_ref()).await;
    let mut body = match opened {
        Ok(stream) => stream.body,
        Err(error) => return Err(superseded(inner, plan, error).await),
    };
    let mut carry = Bytes::new();
    let mut storing: JoinSet<(u32, Result<u64, WorkerError>)> = JoinSet::new();
    let mut bite = 1;
    loop {
        while let Some(stored) = storing.try_join_next() {
            note_stored(flight, stored.ok());
        }
        let (at, end) = {
            let mut progress = flight.progress.lock();
            let scarce = inner.budget.bite(BUFFER_BYTES) < BUFFER_BYTES;
            progress.trim(if scarce { 0 } else { KEPT_BYTES });
            (progress.at, progress.end)
        };
        if at >= end {
            break;
        }
        tokio::select! {
            biased;
            () = flight.caught_up() => {}
            Some(stored) = storing.join_next() => {
                note_stored(flight, stored.ok());
                continue;
            }
        }
        let bite_bytes = inner.budget.bite(u64::from(bite.min(end - at)) * PIECE_BYTES);
        let need = bite_bytes.min(length - byte(at));
        bite = (bite * 2).min(BITE_PIECES_MAX);
        let mut buffer = tokio::select! {
            biased;
            buffer = inner.budget.buffer(need) => buffer,
            Some(stored) = storing.join_next() => {
                note_stored(flight, stored.ok());
                continue;
            }
        };
        let mut left = buffer.bytes_mut();
        while !left.is_empty() {
            if carry.is_empty() {
                carry = match body.next().await {
                    Some(Ok(bytes)) => bytes,
                    Some(Err(error)) => return Err(superseded(inner, plan, error).await),
                    None => {
                        let short = ufs::Failure::Short {
                            expected_bytes: need,
                            got_bytes: need - u64::try_from(left.len()).unwrap_or(0),
                        };
                        return Err(failed(UfsError::new(
                            ufs::Verb::Read,
                            mounted.store.uri(),
                            Some(&plan.key),
                            short,
                        )));
                    }
                };
            }
            let take = carry.len().min(left.len());
            let (now, later) = std::mem::take(&mut left).split_at_mut(take);
            carry.copy_to_slice(now);
            left = later;
        }
        inner.metrics.fetch_bytes.inc_by(need);
        let data = buffer.freeze(usize::try_from(need).expect("at most a MiB"));
        let pieces = u32::try_from(need.div_ceil(PIECE_BYTES)).expect("at most 16");
        let lease = {
            let mut progress = flight.progress.lock();
            progress.segments.push_back(Segment { first: at, pieces, data: data.clone(), stored: false });
            progress.at = at + pieces;
            plan.lease.clone().filter(|_| progress.storing)
        };
        flight.news.notify_waiters();
        match lease {
            Some(lease) => {
                if storing.len() >= STORING_MAX
                    && let Some(stored) = storing.join_next().await
                {
                    note_stored(flight, stored.ok());
                }
                storing.spawn(async move { (at, lease.fill(at, data).await) });
            }
            None => {
                inner.metrics.passed_bytes.inc_by(need);
            }
        }
    }
    while let Some(stored) = storing.join_next().await {
        note_stored(flight, stored.ok());
    }
    // What was not stored stays in memory until its readers have it.
    loop {
        let moved = flight.moved.notified();
        tokio::pin!(moved);
        moved.as_mut().enable();
        {
            let mut progress = flight.progress.lock();
            progress.trim(0);
            if progress.segments.is_empty() {
                return Ok(Ended::Done);
            }
        }
        moved.await;
    }
}

/// A bite is stored, or could not be: then the rest of the flight only passes by.
fn note_stored(flight: &Flight, stored: Option<(u32, Result<u64, WorkerError>)>) {
    let Some((first, outcome)) = stored else { return };
    let mut progress = flight.progress.lock();
    match outcome {
        Ok(_) => {
            if let Some(segment) = progress.segments.iter_mut().find(|segment| segment.first == first) {
                segment.stored = true;
            }
        }
        Err(error) => {
            if progress.storing {
                tracing::debug!(error = %error.sentence(), "fetched bytes are not cached");
            }
            progress.storing = false;
        }
    }
    drop(progress);
    flight.news.notify_waiters();
}

/// The object is another one, or gone: the master is told to look, and what is known here is forgotten. Other errors
/// stay what they are.
async fn superseded(inner: &Inner, plan: &Plan, error: UfsError) -> WorkerError {
    if !error.is_changed() && !error.is_not_found() {
        return WorkerError::Store { block: plan.block, source: error };
    }
    inner.metrics.changed_objects.inc();
    let container = plan.block.container();
    inner.resolver.forget(container);
    let told = inner.resolver.link().report_changed(container, plan.origin.fingerprint.as_ref()).await;
    if let Err(unheard) = told {
        tracing::warn!(%container, error = %unheard.sentence(), "cannot tell the master that an object changed");
    }
    WorkerError::Superseded { block: plan.block }
}
