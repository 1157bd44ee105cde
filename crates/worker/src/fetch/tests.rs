//! Who waits for a fetch that somebody else began.

use super::*;
use crate::assembly::tests::Parts;
use crate::assembly::tests::master::block;
use crate::read::{BlockRead, ReadSpec};
use bytes::Bytes;
use std::time::Duration;
use testkit::data::Data;
use testkit::eventually_async;
use types::{ErrorKind, Principal};
use ufs::fault::{Fault, Faulty, Rule};
use ufs::{Failure, Verb};

const MIB: u64 = 1 << 20;
const LENGTH: u64 = 20 * MIB;
/// Where the store breaks off: further than a flight goes ahead of its first reader, not as far as the second one is.
const BROKEN_AT: u64 = 8 * MIB + MIB / 2;
const SECOND_AT: u64 = 9 * MIB;
const PATIENCE: Duration = Duration::from_secs(20);

/// The store refuses in the middle of its first answers, `times` of them, and is well after that. What the second reader gets,
/// and how many fetches there were.
async fn joins_a_fetch_that_fails(times: u64) -> (Result<Option<Bytes>, WorkerError>, u64) {
    let refused = Failure::Refused { words: "not today".to_owned() };
    let rule = Rule { times, ..Rule::nth(Verb::Read, 1, Fault::CutAfter(0, refused.clone())) };
    let first = Rule::nth(Verb::Read, 1, Fault::CutAfter(BROKEN_AT, refused));
    let parts = Parts::new(move |under| Arc::new(Faulty::new(under, 1, vec![first.clone(), rule.clone()])));
    parts.object(1, &Data::new(1).bytes(0, usize::try_from(LENGTH).expect("small")), LENGTH).await;
    let (id, reads) = (block(1, 0), Arc::clone(&parts.assembly.service.reads));
    let spec = ReadSpec { block: id, offset: 0, length: None, positioned: false, no_cache: false };
    let who = Principal::system();
    let mut first = BlockRead::open(Arc::clone(&reads), who.clone(), spec).await.expect("it may");
    first.next().await.expect("the store begins well");
    // A reader further on joins a flight that will be there soon, and begins its own otherwise.
    eventually_async(PATIENCE, || async { parts.metrics.fetch_bytes.get() >= 2 * MIB }).await;
    let mut second = BlockRead::open(reads, who, ReadSpec { offset: SECOND_AT, ..spec }).await.expect("it may");
    let waits = tokio::spawn(async move { second.next().await });
    eventually_async(PATIENCE, || async { parts.assembly.fetcher.waiting(id) == 2 }).await;
    // So that the flight goes on to where the store breaks off: it counts from where a reader took its last bytes, at most a
    // MiB. What this reader has to read is far from there.
    let mut passed = 0;
    while passed < 3 * MIB {
        passed += first.next().await.expect("it is here").expect("it is not the end").len() as u64;
    }
    let got = waits.await.expect("no panic");
    (got, parts.metrics.fetches.get())
}

#[tokio::test]
async fn a_reader_that_joined_a_fetch_which_failed_begins_one_of_its_own() {
    let (got, fetches) = joins_a_fetch_that_fails(1).await;
    let bytes = got.expect("the store is well again").expect("not at the end");
    Data::new(1).verify(SECOND_AT, &bytes).expect("what stands there");
    assert_eq!(fetches, 2);
}

#[tokio::test]
async fn a_reader_whose_own_fetch_fails_too_is_told() {
    let (got, fetches) = joins_a_fetch_that_fails(2).await;
    let error = got.expect_err("the store is as ill as before");
    assert!(matches!(&error, WorkerError::Store { .. }) && error.kind() == ErrorKind::Precondition, "{error}");
    assert_eq!(fetches, 2);
}
