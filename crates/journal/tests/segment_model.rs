//! The segment log against a list in memory, with a crash at any point.
//!
//! What must hold: nothing that was synced is lost, nothing is invented, and only the tail of the batch that was not
//! synced may be missing.

use bytes::Bytes;
use journal::disk::SimDisk;
use journal::{
    AppendBatch, BatchSeq, EntryKind, Error, HardState, JournalLog, LogEntry, MemberId, Recovered, SegmentLog,
    SegmentOptions,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;
use types::{ClusterId, LogIndex, Term};

const OPTIONS: SegmentOptions = SegmentOptions { segment_bytes: 8192 };

#[derive(Clone, Debug)]
enum Op {
    /// So many entries of so many bytes, after cutting so many uncommitted ones.
    Append {
        sizes: Vec<usize>,
        cut: u64,
        new_term: bool,
    },
    Vote,
    /// Commits this share of what is uncommitted, in percent.
    Commit(u64),
    /// Purges this share of what is committed, in percent.
    Purge(u64),
    Prepare,
    Restart,
    Crash(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (vec(1usize..1200, 1..6), 0u64..4, any::<bool>())
            .prop_map(|(sizes, cut, new_term)| Op::Append { sizes, cut: cut.saturating_sub(1), new_term }),
        1 => vec(2000usize..4000, 3..8).prop_map(|sizes| Op::Append { sizes, cut: 0, new_term: false }),
        1 => Just(Op::Vote),
        2 => (0u64..=100).prop_map(Op::Commit),
        2 => (0u64..=100).prop_map(Op::Purge),
        1 => Just(Op::Prepare),
        1 => Just(Op::Restart),
        2 => any::<u64>().prop_map(Op::Crash),
    ]
}

/// What the log holds, by index from 1 on; purged entries stay in the model.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    entries: Vec<LogEntry>,
    hard_state: HardState,
    purged_below: u64,
}

impl Model {
    fn last(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap()
    }

    fn apply(&mut self, batch: &AppendBatch) {
        if let Some(first) = batch.entries.first() {
            self.entries.truncate(usize::try_from(first.index.0 - 1).unwrap());
        }
        self.entries.extend_from_slice(&batch.entries);
        self.hard_state = batch.hard_state;
    }

    /// All states that a crash in the middle of `batch` may leave: it was written in parts, each a prefix.
    fn states_during(&self, batch: &AppendBatch) -> Vec<Model> {
        let part = |count: usize| {
            let mut state = self.clone();
            let mut cut = batch.clone();
            cut.entries.truncate(count);
            state.apply(&cut);
            state.hard_state.commit = state.hard_state.commit.min(LogIndex(state.last()));
            state
        };
        let parts = (1..=batch.entries.len()).map(part);
        let mut states = vec![self.clone()];
        if batch.entries.is_empty() {
            states.push(part(0));
        }
        states.extend(parts);
        states
    }
}

struct World {
    disk: SimDisk,
    log: Option<SegmentLog<SimDisk>>,
    synced: Model,
    term: u64,
    seq: u64,
    /// Stops the machine once more at this call of the next recovery.
    stop_in_open: Option<u64>,
}

fn dir() -> &'static Path {
    Path::new("/journal")
}

fn open(disk: &SimDisk) -> Result<(SegmentLog<SimDisk>, Recovered), Error> {
    SegmentLog::open(disk.clone(), dir(), Some(ClusterId(1)), OPTIONS)
}

impl World {
    fn new() -> World {
        let disk = SimDisk::new();
        SegmentLog::format(&disk, dir(), ClusterId(1), OPTIONS, false).expect("an empty directory");
        let log = Some(open(&disk).expect("formatted").0);
        World { disk, log, synced: Model::default(), term: 1, seq: 0, stop_in_open: None }
    }

    /// Opens the log again and checks that it is in one of `allowed` states; that one becomes the truth.
    fn reopen(&mut self, allowed: Vec<Model>) {
        if let Some(after) = self.stop_in_open.take() {
            self.disk.stop_at(self.disk.changes() + after);
            drop(open(&self.disk));
            self.disk.crash(after);
        }
        let (log, recovered) =
            open(&self.disk).unwrap_or_else(|error| panic!("a crash made the log unreadable: {error}"));
        recovered.terms.check_invariants();
        let (first, last) = (recovered.first(), recovered.last());
        let found = log.reader().read(first, LogIndex(last.0 + 1), usize::MAX).expect("what was recovered can be read");
        let skip = usize::try_from(first.0 - 1).unwrap();
        let fits = |state: &Model| {
            state.last() == last.0
                && state.entries[skip.min(state.entries.len())..] == found[..]
                && (recovered.hard_state.term, recovered.hard_state.vote)
                    == (state.hard_state.term, state.hard_state.vote)
                && recovered.hard_state.commit == state.hard_state.commit.max(LogIndex(first.0 - 1))
        };
        let state = allowed.iter().find(|state| fits(state)).unwrap_or_else(|| {
            let lasts: Vec<_> = allowed.iter().map(Model::last).collect();
            panic!("recovered [{first}, {last}] {:?}, allowed ends {lasts:?}", recovered.hard_state)
        });
        assert!(first.0 <= state.purged_below.max(1), "{first} but only below {} was purged", state.purged_below);
        for entry in &found {
            assert_eq!(recovered.terms.term(entry.index), Some(entry.term));
        }
        self.term = self.term.max(recovered.hard_state.term.0);
        self.synced = Model { hard_state: recovered.hard_state, ..state.clone() };
        self.log = Some(log);
    }

    fn batch(&mut self, entries: Vec<LogEntry>) -> AppendBatch {
        self.seq += 1;
        let first = entries.first().map(|entry| entry.index);
        AppendBatch {
            seq: BatchSeq(self.seq),
            truncate_from: first.filter(|first| first.0 <= self.synced.last()),
            entries,
            hard_state: HardState { term: Term(self.term), ..self.synced.hard_state },
        }
    }

    fn next_batch(&mut self, op: &Op) -> Option<AppendBatch> {
        match op {
            Op::Append { sizes, cut, new_term } => {
                self.term += u64::from(*new_term || *cut > 0);
                let commit = self.synced.hard_state.commit.0.max(self.synced.purged_below.saturating_sub(1));
                let first = (self.synced.last() + 1 - (*cut).min(self.synced.last() - commit)).max(commit + 1);
                let byte = u8::try_from(self.seq % 256).unwrap();
                let entries = sizes.iter().zip(first..).map(|(&size, index)| LogEntry {
                    kind: EntryKind::Normal,
                    index: LogIndex(index),
                    term: Term(self.term),
                    payload: Bytes::from(vec![byte; size]),
                });
                let entries = entries.collect();
                Some(self.batch(entries))
            }
            Op::Vote => {
                self.term += 1;
                let mut batch = self.batch(Vec::new());
                batch.hard_state.vote = Some(MemberId(self.term % 3 + 1));
                Some(batch)
            }
            Op::Commit(percent) => {
                let mut batch = self.batch(Vec::new());
                let open = self.synced.last() - self.synced.hard_state.commit.0;
                batch.hard_state.commit.0 += open * percent / 100;
                Some(batch)
            }
            Op::Purge(_) | Op::Prepare | Op::Restart | Op::Crash(_) => None,
        }
    }

    /// Runs one operation. False when the machine stopped in the middle of it; then it has been restarted.
    fn run(&mut self, op: &Op) -> bool {
        if let Some(batch) = self.next_batch(op) {
            let log = self.log.as_mut().expect("open");
            let done = log.append(&batch).and_then(|()| log.sync());
            let Err(error) = done else {
                self.synced.apply(&batch);
                return true;
            };
            assert!(matches!(error, Error::Io { .. }), "{error}");
            let allowed = self.synced.states_during(&batch);
            self.crash(self.seq, allowed);
            return false;
        }
        let log = self.log.as_mut().expect("open");
        let done = match op {
            Op::Purge(percent) => {
                let below = (self.synced.hard_state.commit.0 * percent / 100).max(1);
                self.synced.purged_below = self.synced.purged_below.max(below);
                log.purge_below(LogIndex(below))
            }
            Op::Prepare => log.prepare().map(drop),
            Op::Restart => {
                self.log = None;
                self.disk.kill_process();
                self.reopen(vec![self.synced.clone()]);
                Ok(())
            }
            Op::Crash(seed) => {
                self.crash(*seed, vec![self.synced.clone()]);
                Ok(())
            }
            Op::Append { .. } | Op::Vote | Op::Commit(_) => unreachable!("they are batches"),
        };
        if done.is_err() {
            self.crash(self.seq, vec![self.synced.clone()]);
        }
        done.is_ok()
    }

    fn crash(&mut self, seed: u64, allowed: Vec<Model>) {
        self.log = None;
        self.disk.crash(seed);
        self.reopen(allowed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_agrees_with_the_model_over_any_history(ops in vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        let all = vec![world.synced.clone()];
        world.crash(7, all);
    }

    #[test]
    fn a_machine_may_stop_at_any_call(ops in vec(op(), 1..30), stops in vec(1u64..40, 1..8)) {
        let mut world = World::new();
        let mut stops = stops.into_iter();
        let mut stop_next = |disk: &SimDisk| if let Some(after) = stops.next() {
            disk.stop_at(disk.changes() + after);
        };
        stop_next(&world.disk);
        for op in &ops {
            if !world.run(op) || matches!(op, Op::Crash(_) | Op::Restart) {
                stop_next(&world.disk);
            }
        }
    }
}

/// One history that rolls, splits, cuts and purges, stopped before every single call, each with several fates.
#[test]
fn no_single_point_of_a_history_loses_anything() {
    let append = |sizes: &[usize], cut| Op::Append { sizes: sizes.to_vec(), cut, new_term: cut > 0 };
    let history = [
        append(&[100, 200], 0),
        append(&[3000], 0),
        Op::Vote,
        append(&[500; 5], 2),
        append(&[3500; 4], 0),
        Op::Commit(80),
        append(&[400; 3], 2),
        Op::Purge(100),
        append(&[2500; 3], 0),
        Op::Commit(100),
        Op::Purge(90),
        append(&[1000; 6], 0),
    ];
    let calls = {
        let mut world = World::new();
        let before = world.disk.changes();
        assert!(history.iter().all(|op| world.run(op)));
        world.disk.changes() - before
    };
    assert!(calls > 40, "a history worth stopping: {calls} calls");
    for stop in 1..=calls {
        for seed in 0..6 {
            let mut world = World::new();
            world.seq = seed * 1000;
            world.stop_in_open = seed.checked_sub(2).filter(|&call| call > 0);
            world.disk.stop_at(world.disk.changes() + stop);
            history.iter().for_each(|op| {
                world.run(op);
            });
            let all = vec![world.synced.clone()];
            world.crash(seed, all);
        }
    }
}
