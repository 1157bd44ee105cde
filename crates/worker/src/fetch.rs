//! Missing pieces from under stores: one fetch for each, however many wait.
//!
//! Is:     flights: ranged reads of one object, cut into pieces as they arrive, handed to readers and to the store at
//!         once. A reader that misses joins the flight that will bring its piece, or starts one.
//! Owns:   the flights under way, and the memory of what they brought until it is stored or read.
//! Never:  asks a store twice for a piece that is on its way; mixes versions; runs far ahead of its slowest reader, or
//!         on when nobody reads and nobody is expected.

mod ahead;
mod flight;
mod sequence;
#[cfg(test)]
mod tests;

pub use flight::{Taken, Ticket};
pub use sequence::Sequences;

use crate::budget::Budget;
use crate::error::WorkerError;
use crate::metrics::Metrics;
use crate::mounts::{Mounts, parse_key};
use crate::resolve::Resolver;
use crate::store::{BlockStore, Lease, Origin};
use ahead::Ahead;
use flight::{Flight, Plan};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use types::BlockId;

/// Least a miss fetches, if that much is missing: 1 MiB.
pub const MISS_PIECES: u32 = 16;
/// A reader waits for a flight that will reach its piece within this many pieces (8 MiB); for one further away it
/// starts its own, and the first ends there.
const JOIN_PIECES: u32 = 128;

/// A reader's need.
pub struct Wanted {
    pub block: BlockId,
    pub origin: Origin,
    /// Where the block lies in the object.
    pub place: Range<u64>,
    /// The piece it cannot go on without.
    pub piece: u32,
    /// End of what it will read next, in pieces.
    pub until: u32,
    /// Where arriving pieces are stored. None: they only pass by, for this reader alone.
    pub lease: Option<Arc<Lease>>,
}

/// How a need is met.
pub enum Attached {
    /// By this flight.
    Flight(Ticket),
    /// It is in the store by now.
    Present,
}

/// All flights of a worker. Clones share them.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    mounts: Arc<Mounts>,
    resolver: Arc<Resolver>,
    runtime: Handle,
    tasks: TaskTracker,
    flights: Mutex<HashMap<BlockId, Vec<Arc<Flight>>>>,
    ahead: Ahead,
}

impl Fetcher {
    /// Flights run on the present runtime, as tasks of `tasks`.
    pub fn new(
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
        mounts: Arc<Mounts>,
        resolver: Arc<Resolver>,
        tasks: TaskTracker,
    ) -> Fetcher {
        let (runtime, flights) = (Handle::current(), Mutex::default());
        let ahead = Ahead::default();
        Fetcher { inner: Arc::new(Inner { budget, metrics, mounts, resolver, runtime, tasks, flights, ahead }) }
    }

    /// Joins the flight that brings a piece, or starts one. Never waits.
    pub fn attach(&self, wanted: Wanted) -> Result<Attached, WorkerError> {
        let key = parse_key(&wanted.origin.key)?;
        let mut flights = self.inner.flights.lock();
        if let Some(lease) = &wanted.lease {
            let flying = flights.get(&wanted.block).map_or(&[][..], Vec::as_slice);
            if let Some(ticket) =
                flying.iter().find_map(|flight| flight.join(wanted.piece, JOIN_PIECES, &wanted.origin))
            {
                return Ok(Attached::Flight(ticket));
            }
            // Looked at after the flights, which let go of a piece only when it is stored: what was in none of them and
            // is not here is missing.
            if lease.has(wanted.piece) {
                return Ok(Attached::Present);
            }
        }
        let end = self.extent(&flights, &wanted);
        let flight = Arc::new(Flight::new(wanted.piece, end, wanted.origin.clone(), wanted.lease.is_some()));
        let ticket = flight.board(wanted.piece);
        if wanted.lease.is_some() {
            flights.entry(wanted.block).or_default().push(Arc::clone(&flight));
        }
        drop(flights);
        self.inner.metrics.fetches.inc();
        let plan = Plan { block: wanted.block, origin: wanted.origin, key, place: wanted.place, lease: wanted.lease };
        let run = flight::run(Arc::clone(&self.inner), flight, plan);
        self.inner.tasks.spawn_on(run, &self.inner.runtime);
        Ok(Attached::Flight(ticket))
    }

    /// Begins to bring a block that will probably be read next, and holds a place in its flight until the reader takes it
    /// or some seconds have passed. Returns at once; what fails is left to the reader.
    pub fn go_ahead(&self, store: BlockStore, block: BlockId, origin: Origin, place: Range<u64>) {
        let fetcher = self.clone();
        let bring = async move {
            let length = place.end - place.start;
            let Ok(lease) = store.lease_to_fill(block, length, &origin).await else { return };
            let until = tier::piece_count(length).unwrap_or(tier::MAX_PIECES);
            let lease = Some(Arc::new(lease));
            let wanted = Wanted { block, origin, place, piece: 0, until, lease };
            if let Ok(Attached::Flight(ticket)) = fetcher.attach(wanted) {
                fetcher.inner.ahead.hold(block, ticket).await;
            }
        };
        self.inner.tasks.spawn_on(bring, &self.inner.runtime);
    }

    /// The place held for the reader of a block.
    pub fn take_held(&self, block: BlockId) -> Option<Ticket> {
        self.inner.ahead.take(block)
    }

    /// Readers that wait for flights of a block.
    #[cfg(test)]
    pub fn waiting(&self, block: BlockId) -> usize {
        let flights = self.inner.flights.lock();
        flights.get(&block).map_or(0, |flying| flying.iter().map(|flight| flight.readers()).sum())
    }

    /// Gives up the places that are held, so that a stop need not wait for them.
    pub fn close(&self) {
        self.inner.ahead.close();
    }

    /// Resolves when no flight brings anything of the block: all that was fetched is stored, if it could be.
    pub async fn settled(&self, block: BlockId) {
        loop {
            let flying = self.inner.flights.lock().get(&block).and_then(|flying| flying.first().cloned());
            let Some(flight) = flying else { return };
            flight.landed().await;
        }
    }

    /// End of a new flight: what the reader will want, at least 1 MiB, up to what is here or on its way already.
    fn extent(&self, flights: &HashMap<BlockId, Vec<Arc<Flight>>>, wanted: &Wanted) -> u32 {
        let length = wanted.place.end - wanted.place.start;
        let pieces = tier::piece_count(length).unwrap_or(tier::MAX_PIECES);
        let Some(lease) = &wanted.lease else { return wanted.until.min(pieces).max(wanted.piece + 1) };
        let mut end = wanted.until.max(wanted.piece + MISS_PIECES).min(pieces);
        for flight in flights.get(&wanted.block).map_or(&[][..], Vec::as_slice) {
            end = flight.give_way(wanted.piece, end);
        }
        lease.missing_until(wanted.piece, end).max(wanted.piece + 1)
    }
}
