//! What every [`JournalLog`] must do. Implementations call [`log`] from their tests.

use super::JournalLog;
use crate::{AppendBatch, BatchSeq, Error, HardState, LogEntry, MemberId, Recovered};
use bytes::Bytes;
use types::{LogIndex, Term};

/// A log that can be closed and opened again, as after a restart.
pub trait Reopen {
    type Log: JournalLog;
    /// Opens what the last log of this harness left; the first call opens a freshly formatted one.
    fn open(&mut self) -> (Self::Log, Recovered);
}

/// A batch of entries `(index, term, payload)`; the hard state carries the highest term and no vote.
pub fn batch(seq: u64, truncate_from: Option<u64>, entries: &[(u64, u64, &[u8])], commit: u64) -> AppendBatch {
    let entries: Vec<_> = entries
        .iter()
        .map(|&(index, term, payload)| LogEntry {
            kind: crate::EntryKind::Normal,
            index: LogIndex(index),
            term: Term(term),
            payload: Bytes::copy_from_slice(payload),
        })
        .collect();
    let term = entries.last().map_or(Term(1), |entry| entry.term);
    AppendBatch {
        seq: BatchSeq(seq),
        truncate_from: truncate_from.map(LogIndex),
        entries,
        hard_state: HardState { term, vote: Some(MemberId(1)), commit: LogIndex(commit) },
    }
}

/// Runs the whole suite. Panics with the rule that was broken.
pub fn log<R: Reopen>(harness: &mut R) {
    a_new_log_is_empty(harness);
    what_was_synced_is_there_after_a_restart(harness);
    replaced_entries_are_gone(harness);
    bad_batches_change_nothing(harness);
    reads_are_bounded(harness);
    purged_entries_are_refused_and_the_rest_stays(harness);
}

fn append<L: JournalLog>(log: &mut L, batch: &AppendBatch) {
    log.append(batch).expect("a batch that continues the log");
    log.sync().expect("a healthy disk");
}

fn payloads<L: JournalLog>(log: &L, from: u64, to: u64) -> Vec<Vec<u8>> {
    let read = log.reader().read(LogIndex(from), LogIndex(to), usize::MAX).expect("kept entries");
    assert!(read.iter().zip(from..).all(|(entry, index)| entry.index.0 == index), "in order, without holes");
    read.into_iter().map(|entry| entry.payload.to_vec()).collect()
}

fn a_new_log_is_empty<R: Reopen>(harness: &mut R) {
    let (log, recovered) = harness.open();
    assert_eq!((recovered.first(), recovered.last()), (LogIndex(1), LogIndex(0)));
    assert_eq!(recovered.hard_state, HardState::default());
    assert!(payloads(&log, 1, 1).is_empty());
}

fn what_was_synced_is_there_after_a_restart<R: Reopen>(harness: &mut R) {
    let (mut log, _) = harness.open();
    append(&mut log, &batch(1, None, &[(1, 1, b""), (2, 1, b"two")], 0));
    append(&mut log, &batch(2, None, &[], 2));
    append(&mut log, &batch(3, None, &[(3, 2, b"three")], 2));
    drop(log);
    let (log, recovered) = harness.open();
    assert_eq!((recovered.first(), recovered.last()), (LogIndex(1), LogIndex(3)));
    let hard_state = HardState { term: Term(2), vote: Some(MemberId(1)), commit: LogIndex(2) };
    assert_eq!(recovered.hard_state, hard_state);
    assert_eq!([0, 1, 2, 3].map(|index| recovered.terms.term(LogIndex(index)).map(|t| t.0)), [0, 1, 1, 2].map(Some));
    assert_eq!(payloads(&log, 1, 4), [&b""[..], b"two", b"three"]);
}

fn replaced_entries_are_gone<R: Reopen>(harness: &mut R) {
    let (mut log, _) = harness.open();
    append(&mut log, &batch(4, None, &[(4, 2, b"old four"), (5, 2, b"old five"), (6, 2, b"old six")], 2));
    append(&mut log, &batch(5, Some(5), &[(5, 3, b"five")], 4));
    assert_eq!(payloads(&log, 3, 6), [&b"three"[..], b"old four", b"five"]);
    drop(log);
    let (log, recovered) = harness.open();
    assert_eq!((recovered.last(), recovered.terms.term(LogIndex(5))), (LogIndex(5), Some(Term(3))));
    assert_eq!(payloads(&log, 3, 6), [&b"three"[..], b"old four", b"five"]);
}

fn bad_batches_change_nothing<R: Reopen>(harness: &mut R) {
    let (mut log, before) = harness.open();
    let hole = batch(6, None, &[(7, 3, b"x")], 4);
    let silent_cut = batch(6, None, &[(5, 3, b"x")], 4);
    let torn_in_the_middle = batch(6, None, &[(6, 3, b"x"), (8, 3, b"x")], 4);
    let cut_of_a_committed_entry = batch(6, Some(4), &[(4, 4, b"x")], 4);
    for bad in [hole, silent_cut, torn_in_the_middle, cut_of_a_committed_entry] {
        assert!(matches!(log.append(&bad), Err(Error::Gap { .. })), "{bad:?}");
    }
    drop(log);
    let (_, after) = harness.open();
    assert_eq!((before.terms, before.hard_state), (after.terms, after.hard_state));
}

fn reads_are_bounded<R: Reopen>(harness: &mut R) {
    let (mut log, _) = harness.open();
    let payload = [7; 100];
    let many: Vec<_> = (6..26).map(|index| (index, 3, &payload[..])).collect();
    append(&mut log, &batch(7, None, &many, 5));
    let reader = log.reader();
    let read = |from, to, max| reader.read(LogIndex(from), LogIndex(to), max);
    assert_eq!(read(6, 26, 1).expect("kept").len(), 1, "at least one");
    let some = read(6, 26, 1000).expect("kept").len();
    assert!((8..=10).contains(&some), "about 1000 bytes, not {some} entries");
    assert_eq!(read(20, 26, usize::MAX).expect("kept").len(), 6);
    assert!(matches!(read(20, 27, 1), Err(Error::Beyond { .. })));
}

fn purged_entries_are_refused_and_the_rest_stays<R: Reopen>(harness: &mut R) {
    let (mut log, _) = harness.open();
    log.purge_below(LogIndex(20)).expect("a purge");
    assert_eq!(payloads(&log, 20, 26).len(), 6);
    drop(log);
    let (log, recovered) = harness.open();
    assert!(recovered.first() <= LogIndex(20) && recovered.last() == LogIndex(25));
    assert!(recovered.terms.term(LogIndex(recovered.first().0 - 1)).is_some());
    assert_eq!(payloads(&log, 20, 26).len(), 6);
    if recovered.first() > LogIndex(1) {
        let below = LogIndex(recovered.first().0 - 1);
        assert!(matches!(log.reader().read(below, LogIndex(21), 1), Err(Error::Purged { .. })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemLog;
    use std::sync::{Arc, Mutex};
    use types::ClusterId;

    /// Hands the same [`MemLog`] out again and again.
    struct Memory(Arc<Mutex<MemLog>>);
    struct Borrowed(Arc<Mutex<MemLog>>);

    impl JournalLog for Borrowed {
        fn append(&mut self, batch: &AppendBatch) -> Result<(), Error> {
            self.0.lock().unwrap().append(batch)
        }
        fn sync(&mut self) -> Result<(), Error> {
            self.0.lock().unwrap().sync()
        }
        fn purge_below(&mut self, index: LogIndex) -> Result<(), Error> {
            self.0.lock().unwrap().purge_below(index)
        }
        fn reader(&self) -> Arc<dyn crate::LogReader> {
            self.0.lock().unwrap().reader()
        }
    }

    impl Reopen for Memory {
        type Log = Borrowed;
        fn open(&mut self) -> (Borrowed, Recovered) {
            self.0.lock().unwrap().crash();
            let recovered = self.0.lock().unwrap().recovered();
            (Borrowed(self.0.clone()), recovered)
        }
    }

    #[test]
    fn the_log_in_memory_conforms() {
        log(&mut Memory(Arc::new(Mutex::new(MemLog::new(ClusterId(7))))));
    }
}
