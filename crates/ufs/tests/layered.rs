//! The layer of deadlines, retries and limits over a store that fails on purpose. Time is tokio's, paused.

mod support;

use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use support::layered;
use types::ErrorKind;
use ufs::conformance::{get, key, pattern, put};
use ufs::fault::{Fault, Faulty, Rule};
use ufs::{
    Condition, Failure, LATENCY_BOUNDS_US, LayerOptions, Layered, MemoryStore, ReadOnly, UnderStore, Verb, WriteOptions,
};

fn down() -> Failure {
    Failure::Unreachable { words: "down".into() }
}

fn faulty(rules: Vec<Rule>) -> (Arc<Faulty>, Layered) {
    let inner = Arc::new(Faulty::new(Arc::new(MemoryStore::new("faulty")), 1, rules));
    (inner.clone(), layered(inner, LayerOptions::default()))
}

#[tokio::test(start_paused = true)]
async fn transient_failures_are_tried_again_and_others_are_not() {
    let (inner, store) = faulty(vec![]);
    put(&store, "o", "x").await;
    let busy = Failure::Busy { words: "slow down".into() };
    for failure in [down(), busy] {
        inner.set_rules(vec![Rule { times: 3, ..Rule::nth(Verb::Stat, 1, Fault::Fail(failure)) }]);
        assert!(store.stat(&key("o")).await.expect("the fourth attempt").is_some());
    }
    inner.set_rules(vec![Rule::always(Verb::Stat, Fault::Fail(down()))]);
    let before = inner.calls(Verb::Stat);
    assert_eq!(store.stat(&key("o")).await.expect_err("four attempts").kind(), ErrorKind::Unavailable);
    assert_eq!(inner.calls(Verb::Stat) - before, 4);
    for failure in [Failure::BadCredential { words: "no".into() }, Failure::Refused { words: "no".into() }] {
        inner.set_rules(vec![Rule::always(Verb::Stat, Fault::Fail(failure.clone()))]);
        let before = inner.calls(Verb::Stat);
        assert_eq!(*store.stat(&key("o")).await.expect_err("no use").failure(), failure);
        assert_eq!(inner.calls(Verb::Stat) - before, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_without_an_answer_is_unknown_not_failed() {
    let (inner, store) = faulty(vec![Rule::always(Verb::Copy, Fault::Fail(down()))]);
    put(&store, "o", "x").await;
    let error = store.copy(&key("o"), &key("p"), None).await.expect_err("no answer");
    assert!(matches!(error.failure(), Failure::OutcomeUnknown { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let before = inner.calls(Verb::Rename);
    inner.set_rules(vec![Rule::always(Verb::Rename, Fault::Fail(down()))]);
    store.rename(&key("o"), &key("p")).await.expect_err("no answer");
    assert_eq!(inner.calls(Verb::Rename) - before, 1, "a rename is not repeated");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_guarded_write_is_not_called_somebody_elses() {
    let (inner, store) = faulty(vec![]);
    // The second call of this verb is the finish: it succeeds, and its answer is lost.
    inner.set_rules(vec![Rule::nth(Verb::Write, 2, Fault::LoseAnswer(down()))]);
    let options = WriteOptions { condition: Condition::Absent, ..WriteOptions::default() };
    let mut writer = store.write(&key("o"), options).await.expect("a writer");
    writer.write(Bytes::from("mine")).await.expect("a write");
    let error = writer.finish().await.expect_err("the second try finds the first");
    assert!(matches!(error.failure(), Failure::OutcomeUnknown { .. }), "{error}");
    assert_eq!(get(&store, "o").await, "mine");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_read_goes_on_under_the_same_version() {
    let (inner, store) = faulty(vec![]);
    let content = pattern(2_000_000, 5);
    let info = put(&store, "o", content.clone()).await;
    for fault in [Fault::CutAfter(700_001, down()), Fault::EndAfter(300_000), Fault::CutAfter(0, down())] {
        inner.set_rules(vec![Rule { times: 2, ..Rule::nth(Verb::Read, 1, fault.clone()) }]);
        let read = store.read(&key("o"), 10..1_999_000, None).await.expect("a read");
        assert!(read.collect().await.expect("all bytes") == content.slice(10..1_999_000), "{fault:?}");
    }
    inner.set_rules(vec![Rule::nth(Verb::Read, 1, Fault::CutAfter(600_000, down()))]);
    let mut read = store.read(&key("o"), 0..info.length, None).await.expect("a read");
    let first = read.body.next().await.expect("a chunk").expect("bytes");
    put(&store, "o", vec![9; 2_000_000]).await;
    let rest: Vec<_> = read.body.collect().await;
    let bytes: usize = first.len() + rest.iter().flatten().map(Bytes::len).sum::<usize>();
    assert_eq!(bytes, 600_000, "nothing of the other version");
    assert!(rest.into_iter().find_map(Result::err).expect("an error").is_changed());
    inner.set_rules(vec![Rule::always(Verb::Read, Fault::EndAfter(0))]);
    let error = store.read(&key("o"), 0..100, None).await.expect("opened").collect().await.expect_err("never a byte");
    assert!(matches!(error.failure(), Failure::Short { expected_bytes: 100, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_a_deadline() {
    let (inner, store) = faulty(vec![Rule::always(Verb::Stat, Fault::Delay(Duration::from_secs(3600)))]);
    let begun = tokio::time::Instant::now();
    let error = store.stat(&key("o")).await.expect_err("too slow");
    assert!(matches!(error.failure(), Failure::TimedOut { after_ms: 15_000 }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(4 * 15 + 8), "{:?}", begun.elapsed());
    let counts = store.metrics().of(Verb::Stat);
    assert_eq!((counts.attempts, counts.errors, counts.retries), (4, 4, 3));
    let slow = LATENCY_BOUNDS_US.iter().position(|bound| *bound == 30_000_000).expect("a bound");
    assert_eq!(counts.buckets[slow], 4, "{counts:?}");
    inner.set_rules(vec![Rule::always(Verb::Write, Fault::Delay(Duration::from_secs(3600)))]);
    assert!(store.write(&key("o"), WriteOptions::default()).await.map(drop).is_err());
}

#[tokio::test(start_paused = true)]
async fn too_many_at_once_are_busy() {
    let inner = Arc::new(MemoryStore::new("limited"));
    let options = LayerOptions { streams_max: 2, ..LayerOptions::default() };
    let store = layered(inner, options);
    put(&store, "o", "0123456789").await;
    let first = store.read(&key("o"), 0..10, None).await.expect("room");
    let _second = store.read(&key("o"), 0..10, None).await.expect("room");
    let error = store.read(&key("o"), 0..10, None).await.expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(store.stat(&key("o")).await.expect("a look needs no stream").is_some());
    drop(first);
    store.read(&key("o"), 0..10, None).await.expect("room again");
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_is_not_asked_for_ever() {
    let (inner, store) = faulty(vec![Rule::always(Verb::Stat, Fault::Fail(down()))]);
    for _ in 0..200 {
        store.stat(&key("o")).await.expect_err("it is down");
    }
    assert_eq!(inner.calls(Verb::Stat), 200 + 100, "the retry budget is used up");
}

#[tokio::test(start_paused = true)]
async fn faults_are_the_same_for_the_same_seed() {
    let run = async |seed| {
        let memory = Arc::new(MemoryStore::new("seeded"));
        let store = Faulty::new(memory, seed, vec![Rule::sometimes(300, Fault::Fail(down()))]);
        let mut outcomes = Vec::new();
        for _ in 0..64 {
            outcomes.push(store.stat(&key("o")).await.is_ok());
        }
        outcomes
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}

#[tokio::test]
async fn faults_lie_as_told() {
    let memory = Arc::new(MemoryStore::new("lying"));
    let store = Faulty::new(memory, 1, vec![]);
    put(&store, "d/a", "123").await;
    let names = async || store.list(&key("d/"), None, 10).await.expect("a page").entries.len();
    assert_eq!(names().await, 1);
    put(&store, "d/b", "123").await;
    store.set_rules(vec![Rule::nth(Verb::List, 1, Fault::Stale)]);
    assert_eq!((names().await, names().await), (1, 2));
    store.set_rules(vec![Rule::nth(Verb::Stat, 1, Fault::LieAboutLength(5))]);
    assert_eq!(store.stat(&key("d/a")).await.expect("a look").expect("there").length, 8);
}

#[tokio::test]
async fn a_read_only_store_refuses_changes_by_name() {
    let inner = Arc::new(MemoryStore::new("fixed"));
    put(&*inner, "o", "x").await;
    let store = ReadOnly(inner);
    assert_eq!(get(&store, "o").await, "x");
    let error = store.delete(&key("o"), None).await.expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.to_string(), "cannot delete mem://fixed/o: the store is mounted read-only");
    assert!(store.write(&key("p"), WriteOptions::default()).await.is_err());
    assert!(store.make_dir(&key("d/"), None).await.is_err());
    assert!(store.copy(&key("o"), &key("p"), None).await.is_err());
    assert!(store.rename(&key("o"), &key("p")).await.is_err());
}
