//! Which directory of a tier takes the next block.

mod greedy;
mod max_free;
mod round_robin;

use crate::directory::Directory;

/// The choice among directories that all have room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Allocator {
    /// The one with most bytes free: directories fill evenly.
    #[default]
    MaxFree,
    /// The next one after the last choice: writes spread over spindles.
    RoundRobin,
    /// The first one: one directory after the other.
    Greedy,
}

impl Allocator {
    /// Position in `candidates` of the directory that takes `need_bytes`, or None if none has room.
    ///
    /// `last` is the position chosen before. Cost: one pass.
    pub(crate) fn choose(self, candidates: &[&Directory], need_bytes: u64, last: usize) -> Option<usize> {
        match self {
            Allocator::MaxFree => max_free::choose(candidates, need_bytes),
            Allocator::RoundRobin => round_robin::choose(candidates, need_bytes, last),
            Allocator::Greedy => greedy::choose(candidates, need_bytes),
        }
    }
}
