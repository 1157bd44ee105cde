//! A log in memory: the model of the real one, and the log of tests that need no disk.

use super::{JournalLog, LogReader};
use crate::{AppendBatch, EntryKind, Error, HardState, LogEntry, NewStart, Recovered, TermRuns};
use std::sync::{Arc, Mutex};
use types::{ClusterId, LogIndex};

/// Entries in a `Vec`; a crash forgets what was not synced.
pub struct MemLog {
    cluster: ClusterId,
    state: Arc<Mutex<Content>>,
    synced: Content,
}

#[derive(Clone)]
struct Content {
    entries: Vec<LogEntry>,
    terms: TermRuns,
    hard_state: HardState,
}

impl MemLog {
    /// A new, empty log.
    pub fn new(cluster: ClusterId) -> MemLog {
        let empty = Content { entries: Vec::new(), terms: TermRuns::after(0, 0), hard_state: HardState::default() };
        MemLog { cluster, state: Arc::new(Mutex::new(empty.clone())), synced: empty }
    }

    /// Loses everything since the last sync.
    pub fn crash(&mut self) {
        *self.lock() = self.synced.clone();
    }

    /// What opening the log would report.
    pub fn recovered(&self) -> Recovered {
        let content = self.lock();
        let changes = content.entries.iter().filter(|entry| entry.kind == EntryKind::Change);
        Recovered {
            cluster: self.cluster,
            hard_state: content.hard_state,
            terms: content.terms.clone(),
            changes: changes.map(|entry| entry.index).collect(),
            cut: None,
        }
    }

    /// Begins it anew behind a snapshot, as `SegmentLog::reset` does.
    pub fn reset(&mut self, start: NewStart) {
        let content = Content {
            entries: Vec::new(),
            terms: TermRuns::after(start.after.0, start.after_term.0),
            hard_state: HardState { commit: start.after, ..start.hard_state },
        };
        *self.lock() = content.clone();
        self.synced = content;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.state.lock().expect("no holder panics")
    }
}

/// Refuses a batch that does not continue `terms`, or would void a committed entry.
pub(crate) fn check_continues(terms: &TermRuns, commit: LogIndex, batch: &AppendBatch) -> Result<(), Error> {
    let last = LogIndex(terms.last);
    let Some(first) = batch.entries.first().map(|entry| entry.index) else { return Ok(()) };
    let consecutive = batch.entries.windows(2).all(|pair| pair[0].index.0 + 1 == pair[1].index.0);
    let lands = match batch.truncate_from {
        None => first.0 == last.0 + 1,
        Some(from) => from == first && first <= last && first > commit && first.0 >= terms.first,
    };
    if consecutive && lands {
        return Ok(());
    }
    Err(Error::Gap { found: first, last, commit })
}

/// Checks the bounds of a read.
pub(crate) fn check_range(terms: &TermRuns, from: LogIndex, to: LogIndex) -> Result<(), Error> {
    if from.0 < terms.first {
        return Err(Error::Purged { index: from, first: LogIndex(terms.first) });
    }
    if to.0 > terms.last + 1 {
        return Err(Error::Beyond { index: to, last: LogIndex(terms.last) });
    }
    Ok(())
}

impl JournalLog for MemLog {
    fn append(&mut self, batch: &AppendBatch) -> Result<(), Error> {
        let mut content = self.lock();
        check_continues(&content.terms, content.hard_state.commit, batch)?;
        if let Some(from) = batch.truncate_from {
            content.entries.retain(|entry| entry.index < from);
            content.terms.truncate_from(from.0);
        }
        content.entries.extend_from_slice(&batch.entries);
        batch.entries.iter().for_each(|entry| content.terms.push(entry.term.0));
        content.hard_state = batch.hard_state;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        let content = self.lock().clone();
        self.synced = content;
        Ok(())
    }

    fn purge_below(&mut self, index: LogIndex) -> Result<(), Error> {
        let purged = {
            let mut content = self.lock();
            content.entries.retain(|entry| entry.index >= index);
            content.terms.drop_below(index.0);
            content.clone()
        };
        self.synced = purged;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(MemReader(self.state.clone()))
    }
}

struct MemReader(Arc<Mutex<Content>>);

impl LogReader for MemReader {
    fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<LogEntry>, Error> {
        let content = self.0.lock().expect("no holder panics");
        check_range(&content.terms, from, to)?;
        let mut bytes = 0;
        let wanted = content.entries.iter().filter(|entry| from <= entry.index && entry.index < to);
        let fits = wanted.take_while(|entry| {
            let first = bytes == 0;
            bytes += entry.payload.len() + 1;
            first || bytes <= max_bytes
        });
        Ok(fits.cloned().collect())
    }
}
