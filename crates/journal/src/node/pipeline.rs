//! What is on its way to the disk.
//!
//! Is:     one outstanding batch, and the next one, which gathers everything that comes meanwhile (group commit).
//! Owns:   messages that must not be sent before a batch is safe.
//! Never:  has two batches outstanding; acknowledges a Ready before all earlier ones.

use super::Outgoing;
use crate::{AppendBatch, BatchSeq, HardState, LogEntry};
use raft::eraftpb;
use types::{LogIndex, Term};

pub(super) struct Pipeline {
    outstanding: Option<Outstanding>,
    next: Option<Gathering>,
    last_seq: u64,
    /// Last index handed to the writer.
    handed: u64,
}

struct Outstanding {
    seq: BatchSeq,
    done: Done,
}

#[derive(Default)]
struct Gathering {
    entries: Vec<LogEntry>,
    last_ready: u64,
    messages: Vec<Outgoing>,
}

/// What a finished batch sets free.
#[derive(Default)]
pub(super) struct Done {
    pub last_ready: u64,
    /// Last index of its entries, if it had any.
    pub last_index: Option<u64>,
    pub messages: Vec<Outgoing>,
}

impl Pipeline {
    /// Over a log that ends at `last`.
    pub(super) fn new(last: LogIndex) -> Pipeline {
        Pipeline { outstanding: None, next: None, last_seq: 0, handed: last.0 }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_none() && self.next.is_none()
    }

    /// Takes the Ready `number`. If it has nothing to write and nothing is on its way, its messages come back: they may go
    /// now and the Ready counts as persisted. A changed commit index alone is not worth a write; it rides with the next. But see
    /// [`Pipeline::note_commit`].
    pub(super) fn add(
        &mut self,
        number: u64,
        must_sync: bool,
        entries: Vec<LogEntry>,
        messages: Vec<Outgoing>,
    ) -> Option<Vec<Outgoing>> {
        assert!(must_sync || entries.is_empty(), "entries must be synced");
        if must_sync || self.next.is_some() {
            let next = self.next.get_or_insert_default();
            if let Some(first) = entries.first() {
                next.entries.retain(|entry| entry.index < first.index);
            }
            next.entries.extend(entries);
            next.last_ready = number;
            next.messages.extend(messages);
            return None;
        }
        let Some(outstanding) = &mut self.outstanding else { return Some(messages) };
        outstanding.done.last_ready = number;
        outstanding.done.messages.extend(messages);
        None
    }

    /// Has the commit index written even if nothing else is to be: a change of the members was handed out by the Ready `number`.
    /// A member that forgets over a restart that the change is committed goes by the earlier members, and may wait for the
    /// vote of one that is gone for good.
    pub(super) fn note_commit(&mut self, number: u64) {
        let next = self.next.get_or_insert_default();
        next.last_ready = next.last_ready.max(number);
    }

    /// The next batch, unless one is outstanding or there is none. `state` is raft-rs' hard state now.
    pub(super) fn start(&mut self, state: &eraftpb::HardState) -> Option<AppendBatch> {
        if self.outstanding.is_some() {
            return None;
        }
        let Gathering { entries, last_ready, messages } = self.next.take()?;
        let first = entries.first().map(|entry| entry.index);
        let truncate_from = first.filter(|first| first.0 <= self.handed);
        let last_index = entries.last().map(|entry| entry.index.0);
        self.handed = last_index.unwrap_or(self.handed);
        self.last_seq += 1;
        let seq = BatchSeq(self.last_seq);
        self.outstanding = Some(Outstanding { seq, done: Done { last_ready, last_index, messages } });
        // A leader may know a commit beyond its own disk; what is stored must not.
        let commit = LogIndex(state.commit.min(self.handed));
        let hard_state = HardState { term: Term(state.term), vote: super::output::member(state.vote), commit };
        Some(AppendBatch { seq, truncate_from, entries, hard_state })
    }

    /// The outstanding batch is safe.
    pub(super) fn finish(&mut self, seq: BatchSeq) -> Done {
        let outstanding = self.outstanding.take().expect("a batch is persisted only after it was handed out");
        assert_eq!(outstanding.seq, seq, "batches are persisted in order");
        outstanding.done
    }
}
