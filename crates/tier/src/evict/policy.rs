//! The order in which blocks leave one directory.

use super::epoch::Epoch;
use super::lrfu::Lrfu;
use super::lru::Lru;
use super::s3fifo::S3Fifo;
use types::BlockId;

/// An order over the blocks of one directory that may leave it. It goes on knowing a block that may not leave for a while.
///
/// Cost of every method: O(log n), amortised.
pub trait Policy: Send {
    /// A block that may leave, and was just used: written, filled or read. It is not listed yet.
    fn list(&mut self, block: BlockId, bytes: u64);
    /// A listed block must stay for now.
    fn unlist(&mut self, block: BlockId);
    /// A block that is not listed is here no more.
    fn forget(&mut self, block: BlockId, why: Gone);
    /// All that are listed, the first to leave first.
    fn victims(&self) -> Box<dyn Iterator<Item = BlockId> + '_>;
    /// How many those are.
    fn len(&self) -> usize;
}

/// Why a block is here no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// To make room for others: it may come back.
    Evicted,
    /// It was freed, or is of no use any more.
    Removed,
}

/// Which policy: `goosefs.worker.block.annotator.class`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Eviction {
    /// Least recently used first.
    #[default]
    Lru,
    /// Least recently and frequently used first: a use weighs `attenuation`^(−`step` × uses since).
    Lrfu { step: f64, attenuation: f64 },
    /// What was used once passes through a tenth of the room: for scans beside reuse.
    S3Fifo,
    /// Fill, then keep: for data that are read in turns, each time all of them, and do not fit.
    Epoch,
}

impl Eviction {
    pub(crate) fn policy(self) -> Box<dyn Policy> {
        match self {
            Eviction::Lru => Box::new(Lru::default()),
            Eviction::Lrfu { step, attenuation } => Box::new(Lrfu::new(step, attenuation)),
            Eviction::S3Fifo => Box::new(S3Fifo::default()),
            Eviction::Epoch => Box::new(Epoch::default()),
        }
    }
}
