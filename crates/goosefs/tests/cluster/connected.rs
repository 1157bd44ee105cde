//! A client that stays connected over restarts of either process, and over a worker that comes back with its directory.

use crate::support::{Pair, path, read_all};
use client::{FileSystem, WriteOptions};
use std::time::Duration;
use testkit::data::Data;
use testkit::eventually_async;
use types::WriteType;

const PATIENCE: Duration = Duration::from_secs(60);
const BLOCK: u64 = 256 << 10;
const BYTES: usize = 1_000_000;
const KINDS: [WriteType; 4] =
    [WriteType::MustCache, WriteType::CacheThrough, WriteType::Through, WriteType::AsyncThrough];

async fn write(fs: &FileSystem, at: &str, kind: WriteType, seed: u64) {
    let options = WriteOptions { write_type: Some(kind), block_bytes: Some(BLOCK), ..WriteOptions::default() };
    let mut writer = fs.create(&path(at), options).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    writer.write(&Data::new(seed).bytes(0, BYTES)).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    writer.close().await.unwrap_or_else(|error| panic!("{at}: {error}"));
}

async fn read(fs: &FileSystem, at: &str, seed: u64) {
    let bytes = read_all(fs, &path(at)).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    assert_eq!(bytes.len(), BYTES, "{at}");
    Data::new(seed).verify(0, &bytes).unwrap_or_else(|wrong| panic!("{at}: {wrong}"));
}

/// All that the client can do, with what it did before.
async fn works(fs: &FileSystem, turn: u64) {
    for (kind, seed) in KINDS.into_iter().zip(turn * 10..) {
        write(fs, &format!("/turn-{turn}/{}", kind.name()), kind, seed).await;
    }
    for earlier in 0..=turn {
        for (kind, seed) in KINDS.into_iter().zip(earlier * 10..) {
            read(fs, &format!("/turn-{earlier}/{}", kind.name()), seed).await;
        }
    }
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len() as u64, turn + 1);
}

#[test]
fn a_client_stays_connected_over_restarts_of_master_and_worker() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut pair = Pair::start(dir.path());
    let fs = runtime.block_on(pair.client());
    runtime.block_on(works(&fs, 0));
    let id = runtime.block_on(fs.workers()).expect("listed")[0].worker;

    pair.kill9_worker();
    pair.start_worker();
    runtime.block_on(works(&fs, 1));
    pair.kill9_master();
    pair.start_master();
    pair.await_worker();
    runtime.block_on(works(&fs, 2));
    pair.stop_worker();
    pair.start_worker();
    runtime.block_on(works(&fs, 3));
    pair.stop_master();
    pair.start_master();
    runtime.block_on(works(&fs, 4));
    let fresh = runtime.block_on(pair.client());
    let now = runtime.block_on(fresh.workers()).expect("listed");
    assert_eq!(now.iter().map(|worker| worker.worker).collect::<Vec<_>>(), [id], "the worker is who it was");
    pair.stop_worker();
    pair.stop_master();
}

#[test]
fn calls_that_are_under_way_when_the_master_dies_have_one_effect() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut pair = Pair::start(dir.path());
    let fs = runtime.block_on(pair.client());
    runtime.block_on(write(&fs, "/0", WriteType::CacheThrough, 7));
    let mover = runtime.spawn({
        let fs = fs.clone();
        async move {
            // Any of them sent twice and taken twice would find no source.
            for n in 0..200_u64 {
                let (from, to) = (format!("/{n}"), format!("/{}", n + 1));
                fs.rename(&path(&from), &path(&to)).await.unwrap_or_else(|error| panic!("{from}: {error}"));
            }
        }
    });
    for _ in 0..2 {
        pair.kill9_master();
        pair.start_master();
    }
    runtime.block_on(mover).expect("every rename is answered, and answered well");
    runtime.block_on(read(&fs, "/200", 7));
}

#[test]
fn a_reader_in_the_middle_of_a_file_goes_on_or_says_why_when_its_worker_dies() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut pair = Pair::start(dir.path());
    let fs = runtime.block_on(pair.client());
    runtime.block_on(write(&fs, "/f", WriteType::AsyncThrough, 3));
    let mut reader = runtime.block_on(fs.open(&path("/f"))).expect("opened");
    let mut read_so_far = runtime.block_on(reader.next_chunk()).expect("read").expect("not empty").to_vec();
    pair.kill9_worker();
    let stopped = runtime.block_on(async {
        loop {
            match reader.next_chunk().await {
                Ok(Some(chunk)) => read_so_far.extend_from_slice(&chunk),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        }
    });
    Data::new(3).verify(0, &read_so_far).expect("what came, came right");
    assert_eq!(stopped.is_none(), read_so_far.len() == BYTES, "it ends early without a word");
    pair.start_worker();
    let rest = runtime
        .block_on(eventually_async(PATIENCE, || async { reader.read_at(reader.position(), BYTES as u64).await }));
    Data::new(3).verify(reader.position(), &rest).expect("the same reader reads on");
}
