//! The log as raft-rs asks for it.
//!
//! Is:     bounds and terms of the whole log, its latest entries in memory, a reader for the rest.
//! Owns:   the cache: everything not yet persisted, and persisted entries up to `cache_bytes`.
//! Never:  gives raft-rs an error it would panic on: a failed read is kept for `Node::drain` to report.

use super::{NodeConfig, SnapshotMark};
use crate::{EntryKind, Error, LogEntry, LogReader, MemberId, Recovered, TermRuns};
use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use types::{LogIndex, Term};

/// What an entry costs in memory beyond its payload, about.
const ENTRY_OVERHEAD_BYTES: usize = 64;

pub(super) struct Tail {
    state: RaftState,
    terms: TermRuns,
    /// The latest entries; the last one is the log's last, if there is any.
    cached: VecDeque<LogEntry>,
    cached_bytes: usize,
    cache_bytes: usize,
    persisted: u64,
    /// Where changes of the membership stand.
    changes: BTreeSet<u64>,
    snapshot: Option<SnapshotMark>,
    reader: Arc<dyn LogReader>,
    failure: RefCell<Option<Error>>,
    snapshots_wanted: RefCell<Vec<MemberId>>,
}

/// An entry of ours from one of raft-rs.
pub(super) fn from_raft(entry: Entry) -> LogEntry {
    let (kind, payload) = match entry.get_entry_type() {
        EntryType::EntryNormal => (EntryKind::Normal, entry.data),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => (EntryKind::Change, entry.context),
    };
    LogEntry { index: LogIndex(entry.index), term: Term(entry.term), kind, payload: Bytes::from(payload) }
}

/// A change of the membership for raft-rs, which looks at the type alone until it is applied.
pub(super) fn change_entry(index: u64, term: u64, payload: Vec<u8>) -> Entry {
    let mut entry = Entry { index, term, context: payload, ..Entry::default() };
    entry.set_entry_type(EntryType::EntryConfChange);
    entry
}

fn to_raft(entry: &LogEntry) -> Entry {
    if entry.kind == EntryKind::Change {
        return change_entry(entry.index.0, entry.term.0, entry.payload.to_vec());
    }
    Entry { index: entry.index.0, term: entry.term.0, data: entry.payload.to_vec(), ..Entry::default() }
}

fn cost(entry: &LogEntry) -> usize {
    entry.payload.len() + ENTRY_OVERHEAD_BYTES
}

impl Tail {
    /// The stored commit index may lag: what was applied was committed, what was purged too.
    pub(super) fn new(
        config: &NodeConfig,
        recovered: Recovered,
        reader: Arc<dyn LogReader>,
        applied: LogIndex,
    ) -> Tail {
        let stored = recovered.hard_state;
        let purged = LogIndex(recovered.terms.first - 1);
        let hard_state = HardState {
            term: stored.term.0,
            vote: stored.vote.map_or(0, |member| member.0),
            commit: stored.commit.max(applied).max(purged).0,
        };
        let conf_state = ConfState {
            voters: config.members.voters().map(|member| member.0).collect(),
            learners: config.members.learners().map(|member| member.0).collect(),
            ..ConfState::default()
        };
        // What is applied is safe in the store: a snapshot can be made of it.
        let snapshot = recovered.terms.term(applied).map(|term| SnapshotMark { index: applied, term });
        Tail {
            state: RaftState::new(hard_state, conf_state),
            persisted: recovered.terms.last,
            changes: recovered.changes.iter().map(|index| index.0).collect(),
            snapshot: snapshot.filter(|mark| mark.index > LogIndex(0)),
            terms: recovered.terms,
            cached: VecDeque::new(),
            cached_bytes: 0,
            cache_bytes: config.cache_bytes,
            reader,
            failure: RefCell::new(None),
            snapshots_wanted: RefCell::new(Vec::new()),
        }
    }

    /// Takes new entries, replacing what they overlap. They are readable at once, persisted later.
    pub(super) fn append(&mut self, entries: &[LogEntry]) {
        let Some(first) = entries.first().map(|entry| entry.index.0) else { return };
        if first <= self.terms.last {
            self.terms.truncate_from(first);
            self.changes.split_off(&first);
            self.persisted = self.persisted.min(first - 1);
            while self.cached.back().is_some_and(|entry| entry.index.0 >= first) {
                let dropped = self.cached.pop_back().expect("it was just looked at");
                self.cached_bytes -= cost(&dropped);
            }
        }
        for entry in entries {
            assert_eq!(entry.index.0, self.terms.last + 1, "raft-rs appends without holes");
            self.terms.push(entry.term.0);
            if entry.kind == EntryKind::Change {
                self.changes.insert(entry.index.0);
            }
            self.cached_bytes += cost(entry);
            self.cached.push_back(entry.clone());
        }
    }

    /// Entries up to `index` are safe on disk and may leave memory. None: the batch had no entries.
    pub(super) fn persisted_to(&mut self, index: Option<u64>) {
        self.persisted = self.persisted.max(index.unwrap_or(0).min(self.terms.last));
        while self.cached_bytes > self.cache_bytes
            && self.cached.front().is_some_and(|entry| entry.index.0 <= self.persisted)
        {
            let evicted = self.cached.pop_front().expect("it was just looked at");
            self.cached_bytes -= cost(&evicted);
        }
    }

    /// Forgets entries below `first`; false if they were already gone.
    pub(super) fn drop_below(&mut self, first: u64) -> bool {
        if first <= self.terms.first {
            return false;
        }
        self.terms.drop_below(first);
        self.changes = self.changes.split_off(&first);
        while self.cached.front().is_some_and(|entry| entry.index.0 < first) {
            let dropped = self.cached.pop_front().expect("it was just looked at");
            self.cached_bytes -= cost(&dropped);
        }
        true
    }

    pub(super) fn set_snapshot(&mut self, mark: SnapshotMark) {
        if self.snapshot.is_none_or(|known| known.index < mark.index) {
            self.snapshot = Some(mark);
        }
    }

    pub(super) fn snapshot_mark(&self) -> Option<SnapshotMark> {
        self.snapshot
    }

    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.take()
    }

    pub(super) fn take_snapshots_wanted(&self) -> Vec<MemberId> {
        self.snapshots_wanted.take()
    }

    /// Entries of `[low, high)` up to about `max_bytes`, at least one.
    fn collect(&self, low: u64, high: u64, max_bytes: usize) -> Result<Vec<Entry>, Error> {
        let cached_from = self.cached.front().map_or(self.terms.last + 1, |entry| entry.index.0);
        let mut found: Vec<Entry> = Vec::new();
        if low < cached_from {
            let read = self.reader.read(LogIndex(low), LogIndex(high.min(cached_from)), max_bytes)?;
            found.extend(read.iter().map(to_raft));
        }
        let mut bytes: usize = found.iter().map(|entry| entry.data.len()).sum();
        let next = low + u64::try_from(found.len()).expect("usize is at most 64 bits");
        if next < cached_from {
            return Ok(found);
        }
        let skipped = usize::try_from(next - cached_from).expect("within the cache");
        for entry in self.cached.iter().skip(skipped).take_while(|entry| entry.index.0 < high) {
            bytes += entry.payload.len();
            if !found.is_empty() && bytes > max_bytes {
                break;
            }
            found.push(to_raft(entry));
        }
        Ok(found)
    }

    pub(super) fn check_invariants(&self) {
        self.terms.check_invariants();
        assert_eq!(self.cached_bytes, self.cached.iter().map(cost).sum::<usize>());
        assert!(self.persisted <= self.terms.last);
        if let (Some(first), Some(last)) = (self.cached.front(), self.cached.back()) {
            assert!(last.index.0 == self.terms.last && first.index.0 >= self.terms.first);
            assert!(first.index.0 <= self.persisted + 1, "what is not persisted is in memory");
        }
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.state.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.terms.first {
            return Err(StorageError::Compacted.into());
        }
        // Without a limit raft-rs only looks for membership changes among committed, unapplied entries, before a campaign.
        // It gets those alone: a whole unapplied log must not be loaded to find them.
        let Some(max_bytes) = max_size.into() else {
            return Ok(self.changes.range(low..high).map(|index| change_entry(*index, 0, Vec::new())).collect());
        };
        match self.collect(low, high, usize::try_from(max_bytes).unwrap_or(usize::MAX)) {
            Ok(found) => Ok(found),
            Err(failure) => {
                self.failure.replace(Some(failure));
                if context.can_async() {
                    return Err(StorageError::LogTemporarilyUnavailable.into());
                }
                Ok(Vec::new())
            }
        }
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.terms.term(LogIndex(index)) {
            Some(term) => Ok(term.0),
            None if index < self.terms.first => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.terms.first)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.terms.last)
    }

    /// Snapshots travel on a way of their own: raft-rs gets the mark, and who needs one in vain is noted.
    fn snapshot(&self, _request_index: u64, to: u64) -> raft::Result<Snapshot> {
        if let Some(mark) = self.snapshot.filter(|mark| mark.index.0 + 1 >= self.terms.first) {
            let mut snapshot = Snapshot::default();
            let meta = snapshot.mut_metadata();
            (meta.index, meta.term) = (mark.index.0, mark.term.0);
            return Ok(snapshot);
        }
        let mut wanted = self.snapshots_wanted.borrow_mut();
        if !wanted.contains(&MemberId(to)) {
            wanted.push(MemberId(to));
        }
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}
