//! What every [`Store`] must do, run by each against a model: the content after a crash is that of some prefix of the
//! commits, at least as long as the last flush that returned.
//!
//! Is:     histories ([`histories`]), a judge ([`run`]), and a race of commits with flushes ([`flushes_beside_commits`]).
//! Never:  knows how a store keeps anything.

use bytes::Bytes;
use meta::{Change, Changes, Family, MemoryStore, Read, Store, StoreError};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use types::{Clock, LogIndex, Monotonic, UnixMs};

/// A clock that stands.
pub struct StillClock;

impl Clock for StillClock {
    fn unix(&self) -> UnixMs {
        UnixMs(0)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic::default()
    }
}

/// One kind of store, and the places it can be kept in.
pub trait Rig {
    /// Where a formatted, empty store stands.
    fn home(&self) -> PathBuf;
    /// A path where nothing is.
    fn fresh(&self) -> PathBuf;
    /// Opens the store at `place`.
    fn open(&self, place: &Path) -> Result<Box<dyn Store>, StoreError>;
    /// Drops `store` as a crash would: nothing is written any more.
    fn crash(&self, store: Box<dyn Store>) {
        drop(store);
    }
}

/// One thing that happens to a store.
#[derive(Clone, Debug)]
pub enum Step {
    /// A commit of these changes; of several to one key the last counts.
    Commit(Vec<(Family, Bytes, Option<Bytes>)>),
    Flush,
    /// The store is dropped without a flush and opened again.
    Crash,
    /// A copy is made, opened, compared and written to.
    Checkpoint,
}

/// Inode ids at which a prefix's successor is special, and one in between.
const PREFIXES: [u64; 5] = [0, 7, 255, 256, u64::MAX];
/// More records than a model ever has.
const ALL: usize = 1_000_000;
/// Sorts behind every key made here.
const END: [u8; 24] = [0xff; 24];

/// Histories of up to `length` steps. Values reach 4 KiB, so that a small store flushes by itself now and then.
pub fn histories(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let family = proptest::sample::select(Family::ALL.to_vec());
    let key = (proptest::sample::select(PREFIXES.to_vec()), "[ab\u{ff}]{0,2}").prop_map(|(prefix, name)| {
        let mut key = prefix.to_be_bytes().to_vec();
        key.extend_from_slice(name.as_bytes());
        Bytes::from(key)
    });
    let value = prop_oneof![
        3 => (0usize..40, any::<u8>()).prop_map(|(length, byte)| Some(Bytes::from(vec![byte; length]))),
        1 => (0usize..4096, any::<u8>()).prop_map(|(length, byte)| Some(Bytes::from(vec![byte; length]))),
        2 => Just(None),
    ];
    let commit = proptest::collection::vec((family, key, value), 0..12);
    let step = prop_oneof![
        12 => commit.prop_map(Step::Commit),
        2 => Just(Step::Flush),
        2 => Just(Step::Crash),
        1 => Just(Step::Checkpoint),
    ];
    proptest::collection::vec(step, 1..length)
}

/// The state after one commit.
#[derive(Clone)]
struct State {
    applied: LogIndex,
    records: MemoryStore,
}

/// Plays `history` on an empty store of `rig`, comparing all it answers with the model.
///
/// Panics at the first difference.
pub fn run(rig: &dyn Rig, history: &[Step]) {
    let mut store = rig.open(&rig.home()).expect("open an empty store");
    // Everything a crash may go back to, oldest first; the last is now.
    let mut states = vec![State { applied: LogIndex(0), records: initial() }];
    for step in history {
        let now = states.last().expect("never empty").clone();
        match step {
            Step::Commit(changes) => {
                let changes = batch(LogIndex(now.applied.0 + 1), changes);
                store.commit(&changes).expect("commit");
                states.push(after(&now, &changes));
            }
            Step::Flush => {
                assert_eq!(store.flush().expect("flush"), now.applied, "nothing was committed meanwhile");
                assert_eq!(store.flushed(), now.applied);
                states = vec![now];
            }
            Step::Crash => {
                let flushed = store.flushed();
                rig.crash(store);
                store = rig.open(&rig.home()).expect("open after a crash");
                let applied = store.applied();
                assert!(applied >= flushed, "{flushed} was flushed, {applied} came back");
                assert!((flushed..=applied).contains(&store.flushed()), "what came back is at least as safe as before");
                states.retain(|state| state.applied <= applied);
                assert_eq!(states.last().map(|state| state.applied), Some(applied), "it goes back to a commit");
            }
            Step::Checkpoint => {
                let place = rig.fresh();
                let shown = store.checkpoint(&place).expect("checkpoint");
                assert!(shown >= store.flushed(), "{shown} is older than what was flushed");
                let shown = states.iter().find(|state| state.applied == shown).expect("it shows a commit");
                let copy = rig.open(&place).expect("open a checkpoint");
                compare(&*copy, shown);
                let more = batch(LogIndex(shown.applied.0 + 1), &[(Family::Edges, Bytes::from("only here"), None)]);
                copy.commit(&more).expect("commit to a checkpoint");
                assert!(store.checkpoint(&place).is_err(), "nothing is written over");
            }
        }
        let state = states.last().expect("never empty");
        assert!(store.flushed() <= store.applied());
        compare(&*store, state);
    }
}

/// One thread commits while another flushes; then a crash. Every commit writes its index in several families.
///
/// Panics if what comes back is not one commit, or older than the last flush that returned.
pub fn flushes_beside_commits(rig: &dyn Rig, commits: u64) {
    let families = [Family::Edges, Family::Inodes, Family::Workers];
    let store = rig.open(&rig.home()).expect("open an empty store");
    let done = AtomicBool::new(false);
    let flushed = std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            let mut flushed = LogIndex(0);
            while !done.load(Ordering::Acquire) {
                let covered = store.flush().expect("flush");
                assert!(covered >= flushed && store.flushed() >= covered);
                flushed = covered;
            }
            flushed
        });
        let over = SetWhenDropped(&done);
        for index in 1..=commits {
            let value = Some(Bytes::copy_from_slice(&index.to_be_bytes()));
            let changes = families.map(|family| (family, Bytes::from("counter"), value.clone()));
            store.commit(&batch(LogIndex(index), &changes)).expect("commit");
        }
        drop(over);
        flusher.join().expect("the flusher's own assertions")
    });
    rig.crash(store);
    let store = rig.open(&rig.home()).expect("open after a crash");
    let applied = store.applied();
    assert!((flushed..=LogIndex(commits)).contains(&applied), "{flushed} was flushed, {applied} came back");
    for family in families {
        let expected = (applied.0 > 0).then(|| Bytes::copy_from_slice(&applied.0.to_be_bytes()));
        assert_eq!(store.get(family, b"counter").expect("get"), expected, "{family:?} at {applied}");
    }
}

/// Ends the threads that watch a flag, also when an assertion failed.
pub struct SetWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// `changes` as one batch with at most one change per key.
pub fn batch(applied: LogIndex, changes: &[(Family, Bytes, Option<Bytes>)]) -> Changes {
    let mut last = std::collections::BTreeMap::new();
    for (family, key, value) in changes {
        last.insert((*family, key.clone()), value.clone());
    }
    let changes = last.into_iter().map(|((family, key), value)| Change { family, key, value }).collect();
    Changes { applied, changes }
}

/// An empty store holds the applied index alone.
fn initial() -> MemoryStore {
    let mut records = MemoryStore::default();
    records.apply(&with_applied(&Changes::default()));
    records
}

fn after(now: &State, changes: &Changes) -> State {
    let mut records = now.records.clone();
    records.apply(&with_applied(changes));
    State { applied: changes.applied, records }
}

fn with_applied(changes: &Changes) -> Changes {
    let mut changes = changes.clone();
    changes.changes.push(Change {
        family: Family::State,
        key: Bytes::from_static(crate::key::APPLIED_KEY),
        value: Some(crate::key::encode_applied(changes.applied)),
    });
    changes
}

/// Asks `store` and the model the same questions.
fn compare(store: &dyn Store, state: &State) {
    assert_eq!(store.applied(), state.applied);
    for family in Family::ALL {
        let same = |start: &[u8], end: &[u8], limit| {
            let (found, expected) =
                (store.scan(family, start, end, limit), state.records.scan(family, start, end, limit));
            assert_eq!(found.expect("scan"), expected.expect("scan"), "{family:?} {start:?} {end:?} {limit}");
        };
        same(b"", &END, ALL);
        for (at, prefix) in PREFIXES.into_iter().enumerate() {
            let start = prefix.to_be_bytes();
            // One directory, some of it, and several.
            match prefix.checked_add(1) {
                Some(next) => same(&start, &next.to_be_bytes(), ALL),
                None => same(&start, &END, ALL),
            }
            same(&[&start[..], b"a"].concat(), &[&start[..], b"b"].concat(), ALL);
            same(&start, &END, 1 + at);
            assert_eq!(store.scan(family, &END, &start, ALL).expect("scan"), [], "an empty range");
            for name in ["", "a", "b", "ab", "\u{ff}"] {
                let key = [&start[..], name.as_bytes()].concat();
                let (found, expected) = (store.get(family, &key), state.records.get(family, &key));
                assert_eq!(found.expect("get"), expected.expect("get"), "{family:?} {key:?}");
            }
        }
    }
}
