//! Which reads go on where the last one ended, and how far ahead that justifies to fetch.

use crate::recent::Recent;
use parking_lot::Mutex;
use std::ops::Range;
use tier::PIECE_BYTES;
use types::{BlockId, ContainerId};

/// Blocks whose last read is remembered; at most twice as many.
const REMEMBERED: usize = 4096;
/// Read-ahead of the first read that goes on; doubles with each further one.
const FIRST_AHEAD_BYTES: u64 = 1024 * 1024;
/// Longest read-ahead.
const AHEAD_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Remembers where reads of a block ended, and which blocks of a file were read through one after the other.
pub struct Sequences {
    last: Mutex<Recent<BlockId, (u64, u32)>>,
    /// The last block read through, and how many were, without a gap.
    passed: Mutex<Recent<ContainerId, (u64, u32)>>,
}

impl Default for Sequences {
    fn default() -> Sequences {
        Sequences { last: Mutex::new(Recent::new(REMEMBERED)), passed: Mutex::new(Recent::new(REMEMBERED)) }
    }
}

impl Sequences {
    /// A stream has read a block to its end.
    pub fn pass(&self, block: BlockId) {
        let run = self.run_before(block).saturating_add(1);
        self.passed.lock().insert(block.container(), (block.index(), run));
    }

    /// How many blocks right before this one were read through here.
    pub fn run_before(&self, block: BlockId) -> u32 {
        match self.passed.lock().get(&block.container()) {
            Some((last, run)) if last + 1 == block.index() => run,
            Some(_) | None => 0,
        }
    }

    /// Notes a read; returns how many bytes past its end will probably be read next: 0 unless it goes on where the one
    /// before ended.
    pub fn note(&self, block: BlockId, range: &Range<u64>) -> u64 {
        let mut last = self.last.lock();
        let streak = match last.get(&block) {
            Some((end, streak)) if range.start >= end && range.start - end < PIECE_BYTES => streak.saturating_add(1),
            Some(_) | None => 0,
        };
        last.insert(block, (range.end, streak));
        match streak {
            0 => 0,
            1.. => (FIRST_AHEAD_BYTES << (streak - 1).min(16)).min(AHEAD_BYTES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::ContainerId;

    #[test]
    fn only_reads_that_go_on_are_read_ahead() {
        let block = ContainerId(1).block(0).expect("small");
        let seen = Sequences::default();
        let mib = 1024 * 1024;
        assert_eq!(seen.note(block, &(0..1000)), 0);
        assert_eq!(seen.note(block, &(1000..2000)), mib);
        assert_eq!(seen.note(block, &(2000..3000)), 2 * mib);
        assert_eq!(seen.note(block, &(9 * mib..9 * mib + 5)), 0, "a jump");
        assert_eq!(seen.note(block, &(0..5)), 0);
    }

    #[test]
    fn a_run_of_blocks_ends_at_a_gap() {
        let block = |index| ContainerId(1).block(index).expect("small");
        let seen = Sequences::default();
        assert_eq!(seen.run_before(block(0)), 0);
        seen.pass(block(0));
        seen.pass(block(1));
        assert_eq!((seen.run_before(block(2)), seen.run_before(block(3)), seen.run_before(block(1))), (2, 0, 0));
        seen.pass(block(3));
        assert_eq!(seen.run_before(block(4)), 1);
    }
}
