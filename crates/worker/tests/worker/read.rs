//! Reads: cached, cold, damaged, broken off, slow.

use crate::client::{Client, request};
use crate::cluster::{BLOCK, Cluster, MIB, PATIENCE, file, pattern};
use crate::master::{File, block};
use futures::future::join_all;
use proto::grpc::block::{ReadRequest, RemoveBlockRequest, SyncCacheRequest};
use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use testkit::eventually_async;
use tonic::Code;
use types::WriteType;
use worker::{Eviction, Permille, Watermarks};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_reads_of_every_size_fill_the_cache() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    for (container, size) in (1..).zip([1, 65_536, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 100_000]) {
        let data = pattern(container, size);
        cluster.object(container, &data).await;
        for _ in 0..2 {
            let mut all = Vec::new();
            for index in 0..size.div_ceil(BLOCK) {
                all.extend(client.read(block(container, index), 0, BLOCK).await.expect("read"));
            }
            assert!(all == data, "container {container}");
        }
        let before = cluster.worker().metrics().fetch_bytes.get();
        client.read(block(container, 0), 0, BLOCK).await.expect("read");
        assert_eq!(cluster.worker().metrics().fetch_bytes.get(), before, "the second pass was warm");
    }
    cluster.idle().await;
    let total = 1 + 65_536 + BLOCK - 1 + BLOCK + BLOCK + 1 + 2 * BLOCK + 100_000;
    assert_eq!(cluster.worker().metrics().fetch_bytes.get(), total, "each byte came once");
    let known = cluster.master.state.lock().resolves;
    client.read(block(1, 0), 0, 1).await.expect("read");
    assert_eq!(cluster.master.state.lock().resolves, known, "a right once given is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fetch_serves_all_who_wait() {
    let cluster = Cluster::start().await;
    let data = pattern(1, BLOCK);
    cluster.object(1, &data).await;
    let client = Arc::new(cluster.client().await);
    let readers = (0..64u64).map(|number| {
        let (client, data) = (Arc::clone(&client), data.clone());
        tokio::spawn(async move {
            let offset = number % 4 * 100_000;
            let bytes = client.read(block(1, 0), offset, BLOCK).await.expect("read");
            assert!(bytes == data.slice(usize::try_from(offset).expect("small")..));
        })
    });
    join_all(readers).await.into_iter().for_each(|reader| reader.expect("no panic"));
    cluster.idle().await;
    assert_eq!(cluster.worker().metrics().fetch_bytes.get(), BLOCK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_miss_fetches_a_mebibyte_and_a_run_of_them_more() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.master.state.lock().right_valid_ms = 60_000;
    let data = pattern(1, BLOCK);
    cluster.object(1, &data).await;
    let fetched = || cluster.worker().metrics().fetch_bytes.get();
    assert_eq!(client.pread(block(1, 0), 2 * MIB + 5, 100).await.expect("read"), data.slice(2_097_157..2_097_257));
    eventually_async(PATIENCE, || async { cluster.worker().metrics().active_fetches.get() == 0 }).await;
    assert_eq!(fetched(), MIB);
    assert_eq!(client.resident(block(1, 0)).await, i64::try_from(MIB).expect("small"));
    client.pread(block(1, 0), 2 * MIB + 500_000, 100).await.expect("read");
    assert_eq!(fetched(), MIB, "within what came along");
    client.pread(block(1, 0), 0, 100).await.expect("read");
    client.pread(block(1, 0), 100, 100).await.expect("read");
    client.pread(block(1, 0), 200, 2 * MIB).await.expect("read");
    cluster.idle().await;
    assert!(fetched() <= BLOCK && fetched() >= 3 * MIB, "{}", fetched());
    eventually_async(PATIENCE, || async {
        cluster.master.reported(block(1, 0)).map(|report| report.resident_bytes) == Some(fetched())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_block_after_block_finds_the_next_one_begun() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let data = pattern(1, 6 * BLOCK);
    cluster.object(1, &data).await;
    let read = async |index: u64| {
        let at = usize::try_from(index * BLOCK).expect("small");
        assert!(client.read(block(1, index), 0, BLOCK).await.expect("read") == data.slice(at..at + 4_194_304));
    };
    read(0).await;
    read(1).await;
    cluster.idle().await;
    assert_eq!(client.resident(block(1, 2)).await, 0, "two blocks may be here by chance");
    read(2).await;
    eventually_async(PATIENCE, || async { client.resident(block(1, 3)).await == i64::try_from(BLOCK).expect("small") })
        .await;
    read(3).await;
    read(4).await;
    read(5).await;
    cluster.idle().await;
    assert_eq!(cluster.worker().metrics().fetch_bytes.get(), 6 * BLOCK, "each byte came once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cache_leaves_nothing_behind() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let data = pattern(1, BLOCK + 10);
    let stored = cluster.object(1, &data).await;
    assert!(client.read_uncached(block(1, 0), 0, BLOCK).await.expect("read") == data.slice(..4_194_304));
    assert_eq!(client.read_uncached(block(1, 1), 3, 100).await.expect("read"), data.slice(4_194_307..));
    cluster.master.add(2, File { cacheable: false, ..stored });
    assert!(client.read(block(2, 0), 0, BLOCK).await.expect("read") == data.slice(..4_194_304));
    cluster.idle().await;
    assert_eq!(cluster.worker().block_count(), 0);
    assert_eq!(cluster.worker().metrics().passed_bytes.get(), 2 * BLOCK + 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_cache_does_not_keep_anybody_from_reading() {
    let cluster = Cluster::with(|config| config.directories[0].quota_bytes = 4 * MIB).await;
    let client = cluster.client().await;
    cluster.master.add(1, file(WriteType::MustCache));
    client.put(block(1, 0), &pattern(1, 3 * MIB + 500_000)).await.expect("written");
    let data = pattern(2, 3 * BLOCK);
    cluster.object(2, &data).await;
    for index in 0..3 {
        let at = usize::try_from(index * BLOCK).expect("small");
        assert!(client.read(block(2, index), 0, BLOCK).await.expect("read") == data.slice(at..at + 4_194_304));
    }
    cluster.idle().await;
}

/// Reads files of 1 MiB, one after the other, through a cache of 8 MiB; how many of those behind `before` came from the store.
async fn fetched(eviction: Eviction, before: &[u64], then: &[u64]) -> u64 {
    let never = Permille::new(1000).expect("a whole");
    let cluster = Cluster::with(|config| {
        config.eviction = eviction;
        config.directories[0].quota_bytes = 8 * MIB;
        config.directories[0].watermarks = Watermarks { high: never, low: never };
    })
    .await;
    let client = cluster.client().await;
    let files: BTreeSet<u64> = before.iter().chain(then).copied().collect();
    for file in files {
        cluster.object(file, &pattern(file, MIB)).await;
    }
    let read = async |file: u64| {
        assert!(client.read(block(file, 0), 0, MIB).await.expect("read") == pattern(file, MIB));
        cluster.idle().await;
    };
    for file in before {
        read(*file).await;
    }
    let already = cluster.worker().metrics().fetch_bytes.get();
    for file in then {
        read(*file).await;
    }
    (cluster.worker().metrics().fetch_bytes.get() - already) / MIB
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_pushes_out_what_is_used_again_unless_the_policy_is_for_that() {
    let before: Vec<u64> = [1, 2, 3, 4, 1, 2, 3, 4].into_iter().chain(10..30).collect();
    assert_eq!(fetched(Eviction::Lru, &before, &[1, 2, 3, 4]).await, 4);
    assert_eq!(fetched(Eviction::S3Fifo, &before, &[1, 2, 3, 4]).await, 0);
    let back_again: Vec<u64> = [5].into_iter().chain(10..30).chain([5]).chain(30..50).collect();
    assert_eq!(fetched(Eviction::S3Fifo, &back_again, &[5]).await, 0, "it came back, and is told from a scan by that");
    assert_eq!(fetched(Eviction::Lrfu { step: 0.01, attenuation: 2.0 }, &before, &[1, 2, 3, 4]).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_are_read_in_turns_and_do_not_fit_are_kept_in_part_by_epochs() {
    let (once, twice) = ((1..17).collect::<Vec<_>>(), (1..17).chain(1..17).collect::<Vec<_>>());
    assert_eq!(fetched(Eviction::Lru, &once, &twice).await, 32);
    assert_eq!(fetched(Eviction::Epoch, &once, &twice).await, 2 * (16 - 7), "seven stay, one changes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_blocks_and_forbidden_ones_are_told_apart() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let unknown =
        client.read(types::BlockId::from_wire(9_999_999_999).expect("an id"), 0, 10).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::Internal, "{unknown}");
    let text = unknown.message().to_lowercase();
    for word in ["fallback", "falling back", "fall back", "high-level fs path"] {
        assert!(!text.contains(word), "{text}");
    }
    cluster.master.add(1, File { complete: true, length: 100, ..file(WriteType::MustCache) });
    let lost = client.read(block(1, 0), 0, 10).await.expect_err("no copy anywhere");
    assert_eq!(lost.code(), Code::Internal, "{lost}");
    cluster.master.add(2, file(WriteType::MustCache));
    let open = client.read(block(2, 0), 0, 10).await.expect_err("being written");
    assert_eq!(open.code(), Code::FailedPrecondition);
    assert!(open.message().contains("is incomplete"), "{open}");
    let stored = cluster.object(3, &pattern(3, 100)).await;
    cluster.master.add(3, File { only: Some("bob".into()), ..stored });
    assert_eq!(client.read(block(3, 0), 0, 10).await.expect_err("his").code(), Code::PermissionDenied);
    Client::connect(cluster.worker().rpc_addr(), "bob").await.read(block(3, 0), 0, 10).await.expect("his");
    assert_eq!(client.read(block(3, 0), 0, 10).await.expect_err("still his").code(), Code::PermissionDenied);
    let outside = Client::connect(cluster.worker().rpc_addr(), "bob").await.read(block(3, 0), 500, 10).await;
    assert_eq!(outside.expect_err("outside").code(), Code::InvalidArgument);
    cluster.idle().await;
}

/// The ways a stream may end, one after the other, cold and warm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_reads_in_a_row_leave_no_session_behind() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let data = pattern(1, BLOCK);
    cluster.object(1, &data).await;
    for round in 0..12 {
        let first = ReadRequest { chunk_size: Some(100_000), ..request(block(1, 0), 0, BLOCK) };
        let mut read = client.open(first).await.expect("opened");
        match round % 4 {
            0 => assert!(read.rest().await.expect("whole") == data),
            1 => {
                assert!(!read.next().await.expect("a chunk").expect("some").is_empty());
                drop(read);
            }
            2 => {
                read.half_close();
                assert!(read.rest().await.expect("goes on after the half-close") == data);
            }
            _ => {
                let receipt = |at| ReadRequest { offset_received: Some(at), ..ReadRequest::default() };
                let mut at = 0;
                while let Some(bytes) = read.next().await.expect("a chunk") {
                    at += i64::try_from(bytes.len()).expect("small");
                    let _ = read.requests.send(Some(receipt(at)));
                }
                assert_eq!(at, i64::try_from(BLOCK).expect("small"));
            }
        }
        let other = cluster.client().await;
        assert_eq!(other.pread(block(1, 0), 70_000, 5).await.expect("at once"), data.slice(70_000..70_005));
    }
    cluster.idle().await;
    assert_eq!(cluster.worker().opens(block(1, 0)), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_are_no_larger_than_asked_for() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let data = pattern(1, 3 * MIB + 7);
    cluster.object(1, &data).await;
    for chunk_size in [1000, 65_536, 1 << 20, 16 << 20] {
        let first = ReadRequest { chunk_size: Some(chunk_size), ..request(block(1, 0), 5, BLOCK) };
        let mut read = client.open(first).await.expect("opened");
        let mut all = Vec::new();
        while let Some(bytes) = read.next().await.expect("a chunk") {
            assert!(i64::try_from(bytes.len()).expect("small") <= chunk_size.min(4 << 20));
            all.extend(bytes);
        }
        assert!(all == data.slice(5..));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_flipped_on_disk_is_healed_from_the_store() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let data = pattern(1, BLOCK);
    cluster.object(1, &data).await;
    client.read(block(1, 0), 0, BLOCK).await.expect("cold");
    cluster.idle().await;
    let paths = cluster.files(".data");
    let mut disk = std::fs::File::options().read(true).write(true).open(&paths[0]).expect("there");
    let mut byte = [0];
    disk.seek(SeekFrom::Start(MIB)).and_then(|_| disk.read_exact(&mut byte)).expect("readable");
    disk.seek(SeekFrom::Start(MIB)).and_then(|_| disk.write_all(&[byte[0] ^ 4])).expect("writable");
    assert!(client.read(block(1, 0), 0, BLOCK).await.expect("healed") == data);
    cluster.idle().await;
    assert_eq!(cluster.worker().metrics().damaged_pieces.get(), 1);
    assert!(client.read(block(1, 0), 0, BLOCK).await.expect("warm again") == data);
    assert_eq!(cluster.worker().metrics().damaged_pieces.get(), 1);
    cluster.master.add(2, file(WriteType::AsyncThrough));
    client.put(block(2, 0), &data).await.expect("written");
    cluster.master.change(2, |file| (file.complete, file.length) = (true, BLOCK));
    let path = cluster.files(".data").into_iter().find(|path| *path != paths[0]).expect("the second");
    let mut disk = std::fs::File::options().write(true).open(path).expect("there");
    disk.seek(SeekFrom::Start(100)).and_then(|_| disk.write_all(b"!!!")).expect("writable");
    let lost = client.read(block(2, 0), 0, BLOCK).await.expect_err("the only copy");
    assert_eq!(lost.code(), Code::DataLoss, "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_changed_is_never_mixed_in() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.object(1, &pattern(1, BLOCK)).await;
    client.pread(block(1, 0), 0, 10).await.expect("the first mebibyte comes");
    cluster.idle().await;
    let new = pattern(9, BLOCK);
    cluster.put("data/1", &new).await;
    // The master finds that the generation is over.
    let stale = client.read(block(1, 0), 0, BLOCK).await.expect_err("another version");
    assert!(matches!(stale.code(), Code::Unavailable | Code::Internal), "{stale}");
    assert_eq!(cluster.master.state.lock().changed.len(), 1);
    // Or it learns the version of a generation whose version it did not know.
    let known = cluster.put("data/2", &new).await;
    cluster.master.add(2, File { fingerprint: "etag:old".into(), ..known.clone() });
    cluster.master.state.lock().after_change.insert(2, known);
    assert!(client.read(block(2, 0), 0, BLOCK).await.expect("asked again, once") == new);
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fetch_fails_its_waiters_and_is_forgotten() {
    let cluster = Cluster::start().await;
    let client = Arc::new(cluster.client().await);
    let data = pattern(1, BLOCK);
    let stored = cluster.put("data/1", &data).await;
    cluster.master.add(1, File { length: BLOCK + MIB, block_bytes: 2 * BLOCK, ..stored.clone() });
    let readers = (0..4).map(|_| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.read(block(1, 0), 0, 2 * BLOCK).await })
    });
    for outcome in join_all(readers).await {
        outcome.expect("no panic").expect_err("the object is shorter than the file");
    }
    cluster.idle().await;
    cluster.master.add(2, stored);
    assert!(client.read(block(2, 0), 0, BLOCK).await.expect("nothing is remembered") == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_falls_behind_goes_on_with_the_fetch_that_serves_it() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let data = pattern(1, 24 * MIB);
    let stored = cluster.object(1, &data).await;
    cluster.master.add(1, File { block_bytes: 32 * MIB, ..stored });
    let mut read = client.open(request(block(1, 0), 0, 24 * MIB)).await.expect("opened");
    let mut all = read.next().await.expect("read").expect("not empty").to_vec();
    // What is fetched meanwhile is stored, and leaves memory before this reader comes.
    let ahead = i64::try_from(6 * MIB).expect("small");
    eventually_async(PATIENCE, || async { client.resident(block(1, 0)).await >= ahead }).await;
    all.extend(read.rest().await.expect("read"));
    assert!(all == data);
    cluster.idle().await;
    let metrics = cluster.worker().metrics();
    assert_eq!((metrics.fetches.get(), metrics.fetch_cancels.get(), metrics.fetch_bytes.get()), (1, 0, 24 * MIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_stay_within_the_memory_budget() {
    let cluster = Cluster::with(|config| config.memory_budget_bytes = 48 * MIB).await;
    let data = pattern(1, BLOCK);
    for container in 1..=64 {
        cluster.object(container, &data).await;
    }
    // Cold and never read on: each holds what the transport let through.
    let mut stuck = Vec::new();
    for container in 1..=64 {
        let client = cluster.client().await;
        let read = client.open(request(block(container, 0), 0, BLOCK)).await.expect("opened");
        stuck.push((client, read));
        assert!(cluster.worker().held_bytes() <= 24 * MIB);
    }
    let client = cluster.client().await;
    for container in (1..=64).step_by(7) {
        assert!(client.read(block(container, 0), 0, BLOCK).await.expect("others go on") == data);
        assert!(cluster.worker().held_bytes() <= 24 * MIB);
    }
    for (_client, mut read) in stuck {
        assert!(read.rest().await.expect("they wake up") == data);
    }
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_stops_the_fetch() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let size = 48 * MIB;
    let data = pattern(1, size);
    let stored = cluster.put("big", &data).await;
    cluster.master.add(1, File { block_bytes: 64 * MIB, ..stored });
    let mut read = client.open(request(block(1, 0), 0, size)).await.expect("opened");
    read.next().await.expect("a chunk");
    drop(read);
    cluster.idle().await;
    assert!(cluster.worker().metrics().fetch_bytes.get() < size, "bounded ahead of its reader");
    assert!(client.read(block(1, 0), 0, size).await.expect("the rest comes") == data);
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_loaded_and_dropped_on_request() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let data = pattern(1, BLOCK + 5);
    cluster.object(1, &data).await;
    let load = SyncCacheRequest { block_id: Some(block(1, 1).to_wire()), ..SyncCacheRequest::default() };
    assert_eq!(client.stub.clone().sync_cache(load).await.expect("loaded").into_inner().result, Some(true));
    assert_eq!((client.resident(block(1, 1)).await, client.resident(block(1, 0)).await), (5, 0));
    let remove = |block: types::BlockId| RemoveBlockRequest { block_id: Some(block.to_wire()) };
    client.stub.clone().remove_block(remove(block(1, 1))).await.expect("removed");
    assert_eq!(client.resident(block(1, 1)).await, 0);
    cluster.master.add(2, file(WriteType::AsyncThrough));
    client.put(block(2, 0), &pattern(2, 10)).await.expect("written");
    cluster.master.change(2, |file| (file.complete, file.length) = (true, 10));
    let kept = client.stub.clone().remove_block(remove(block(2, 0))).await.expect_err("exists nowhere else");
    assert_eq!(kept.code(), Code::FailedPrecondition);
}
