//! The words of the log: entries, batches, hard state, and the terms of a range of indexes.

use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use types::{ClusterId, LogIndex, Term};

/// A member of the consensus group. Never 0, never reused for another disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member-{}", self.0)
    }
}
impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names one [`AppendBatch`] of one run of a [`crate::Node`], counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct BatchSeq(pub u64);

/// Whose business an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EntryKind {
    /// The state machine's.
    #[default]
    Normal,
    /// The group's own: its payload is a [`crate::Change`].
    Change,
}

/// One entry of the log. An empty payload is the entry with which a leader opens its term: nothing to apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    pub index: LogIndex,
    pub term: Term,
    pub kind: EntryKind,
    pub payload: Bytes,
}

/// What a member may never forget: its term, whom it voted for in it, and how far it knows the log committed.
/// The stored commit index may lag behind the true one; it is never ahead of the stored log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    pub term: Term,
    pub vote: Option<MemberId>,
    pub commit: LogIndex,
}

/// What must reach the disk before [`crate::Node::persisted`] is called for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendBatch {
    pub seq: BatchSeq,
    /// Set when the entries replace stored ones: everything from here on is void. Equals the first entry's index.
    pub truncate_from: Option<LogIndex>,
    /// Consecutive; empty when only the hard state changed.
    pub entries: Vec<LogEntry>,
    /// The whole hard state as of this batch; its commit index is at most the last index after this batch.
    pub hard_state: HardState,
}

/// What a log holds when it is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    pub cluster: ClusterId,
    pub hard_state: HardState,
    /// Bounds and terms of the kept entries.
    pub terms: TermRuns,
    /// Where changes of the membership stand, ascending.
    pub changes: Vec<LogIndex>,
    /// A torn last batch that was cut, for the log line.
    pub cut: Option<Cut>,
}

impl Recovered {
    /// First readable index; `last + 1` when the log is empty.
    pub fn first(&self) -> LogIndex {
        LogIndex(self.terms.first)
    }
    /// Last index, or the one before the first when the log is empty.
    pub fn last(&self) -> LogIndex {
        LogIndex(self.terms.last)
    }
}

/// Where a torn batch was cut off: it was written, never synced, never acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    pub path: PathBuf,
    pub offset: u64,
}

/// The bounds of a log and the term of every index in it, as runs of equal terms: a few words however long the log.
///
/// Invariants: `first >= 1`; `last + 1 >= first`; run starts and terms ascend strictly; the first run starts at or
/// before `first - 1`, so the term just before the log is known too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TermRuns {
    pub(crate) first: u64,
    pub(crate) last: u64,
    runs: VecDeque<(u64, u64)>,
}

impl TermRuns {
    /// An empty log that begins after `index`, whose term is `term`. `(0, 0)` for a new log.
    pub(crate) fn after(index: u64, term: u64) -> TermRuns {
        TermRuns { first: index + 1, last: index, runs: VecDeque::from([(index, term)]) }
    }

    /// The term of `index`; None outside `[first - 1, last]`.
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        if index.0 + 1 < self.first || index.0 > self.last {
            return None;
        }
        let after = self.runs.partition_point(|&(start, _)| start <= index.0);
        Some(Term(self.runs[after.checked_sub(1)?].1))
    }

    /// Appends one entry at `last + 1`.
    pub(crate) fn push(&mut self, term: u64) {
        self.last += 1;
        if self.runs.back().is_none_or(|&(_, known)| known != term) {
            self.runs.push_back((self.last, term));
        }
    }

    /// Forgets `index` and everything after it. Below `first`, the log becomes empty.
    pub(crate) fn truncate_from(&mut self, index: u64) {
        debug_assert!(index >= self.first, "a cut below the log needs the term before it: use `after`");
        self.last = self.last.min(index - 1);
        while self.runs.len() > 1 && self.runs.back().is_some_and(|&(start, _)| start >= index) {
            self.runs.pop_back();
        }
    }

    /// Forgets entries below `first`, but keeps the term just before it.
    pub(crate) fn drop_below(&mut self, first: u64) {
        let first = first.min(self.last + 1);
        if first <= self.first {
            return;
        }
        self.first = first;
        while self.runs.len() > 1 && self.runs[1].0 < first {
            self.runs.pop_front();
        }
    }

    /// Panics where an invariant of the type does not hold.
    pub fn check_invariants(&self) {
        assert!(self.first >= 1 && self.last + 1 >= self.first, "bounds: {self:?}");
        assert!(self.runs.front().is_some_and(|&(start, _)| start < self.first), "base term: {self:?}");
        let pairs = self.runs.iter().zip(self.runs.iter().skip(1));
        assert!(pairs.clone().all(|(a, b)| a.0 < b.0 && a.1 < b.1), "runs ascend: {self:?}");
        assert!(self.runs.back().is_some_and(|&(start, _)| start <= self.last.max(self.first - 1)), "end: {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> TermRuns {
        let mut runs = TermRuns::after(0, 0);
        terms.iter().for_each(|&term| runs.push(term));
        runs.check_invariants();
        runs
    }

    #[test]
    fn terms_are_known_from_just_before_the_log_to_its_end() {
        let runs = log(&[1, 1, 2, 4, 4]);
        let seen: Vec<_> = (0..7).map(|index| runs.term(LogIndex(index)).map(|term| term.0)).collect();
        assert_eq!(seen, [Some(0), Some(1), Some(1), Some(2), Some(4), Some(4), None]);
    }

    #[test]
    fn cutting_and_purging_keep_the_term_before_the_log() {
        let mut runs = log(&[1, 1, 2, 4, 4]);
        runs.drop_below(4);
        runs.check_invariants();
        assert_eq!((runs.term(LogIndex(2)), runs.term(LogIndex(3))), (None, Some(Term(2))));
        runs.truncate_from(4);
        runs.check_invariants();
        assert_eq!((runs.first, runs.last), (4, 3));
        runs.push(5);
        runs.check_invariants();
        assert_eq!(runs.term(LogIndex(4)), Some(Term(5)));
    }
}
