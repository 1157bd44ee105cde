//! Blocks written into the cache.

use crate::client::Client;
use crate::cluster::{BLOCK, Cluster, MIB, PATIENCE, file, length, pattern};
use crate::master::block;
use testkit::eventually_async;
use tonic::Code;
use types::WriteType;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_for_every_size_and_type() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let types = [WriteType::MustCache, WriteType::AsyncThrough, WriteType::TryCache, WriteType::CacheThrough];
    let sizes = [1, 65_535, 65_536, 65_537, MIB + 3, BLOCK - 1, BLOCK];
    for (kind, write_type) in (1..).zip(types) {
        for (number, size) in (1..).zip(sizes) {
            let container = kind * 100 + number;
            cluster.master.add(container, file(write_type));
            let data = pattern(container, size);
            client.put(block(container, 0), &data).await.expect("written");
            cluster.master.change(container, |file| (file.complete, file.length) = (true, size));
            assert_eq!(client.read(block(container, 0), 0, BLOCK).await.expect("read"), data);
            let from = usize::try_from(size / 2).expect("small");
            assert_eq!(client.pread(block(container, 0), size / 2, size).await.expect("read"), data.slice(from..));
            assert_eq!(client.read(block(container, 0), size / 2, 0).await.expect("nothing"), "");
        }
    }
    cluster.idle().await;
    assert_eq!(cluster.worker().block_count(), 28);
    let unpersisted = cluster.master.state.lock().blocks.values().filter(|report| report.unpersisted).count();
    eventually_async(PATIENCE, || async { cluster.master.state.lock().blocks.len() == 28 }).await;
    assert!(unpersisted <= 14);
    let heard = |container| cluster.master.reported(block(container, 0)).expect("reported").unpersisted;
    assert_eq!([heard(101), heard(201), heard(301), heard(401)], [true, true, false, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_are_acknowledged_with_the_offset() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.master.add(1, file(WriteType::AsyncThrough));
    let data = pattern(1, 2 * MIB + 10);
    let mut write = client.write(block(1, 0));
    write.send(data.slice(..1_000_000));
    assert_eq!(write.flush().await, Some(1_000_000));
    assert_eq!(client.resident(block(1, 0)).await, 0, "not visible before the commit");
    write.send(data.slice(1_000_000..));
    assert_eq!(write.flush().await, Some(length(&data)));
    write.commit().await.expect("committed");
    assert_eq!(client.resident(block(1, 0)).await, i64::try_from(length(&data)).expect("small"));
    cluster.master.change(1, |file| (file.complete, file.length) = (true, length(&data)));
    assert_eq!(client.read(block(1, 0), 0, BLOCK).await.expect("read"), data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_discards_and_an_empty_block_is_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.master.add(1, file(WriteType::MustCache));
    let write = client.write(block(1, 0));
    write.send(pattern(1, 2 * MIB));
    eventually_async(PATIENCE, || async { cluster.worker().metrics().write_bytes.get() == 2 * MIB }).await;
    drop(write);
    eventually_async(PATIENCE, || async { cluster.worker().metrics().write_cancels.get() == 1 }).await;
    eventually_async(PATIENCE, || async { cluster.files("").is_empty() }).await;
    assert_eq!(cluster.worker().block_count(), 0);
    client.write(block(1, 0)).commit().await.expect("an empty block is no error");
    client.put(block(1, 0), &pattern(2, 100)).await.expect("the name is free");
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_decides_who_writes_what() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let code = |result: Result<(), tonic::Status>| result.expect_err("refused");
    let unknown = code(client.put(block(77, 0), &pattern(1, 10)).await);
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    cluster.master.add(1, crate::master::File { complete: true, ..file(WriteType::MustCache) });
    assert_eq!(code(client.put(block(1, 0), &pattern(1, 10)).await).code(), Code::FailedPrecondition);
    cluster.master.add(2, crate::master::File { only: Some("bob".into()), ..file(WriteType::MustCache) });
    assert_eq!(code(client.put(block(2, 0), &pattern(1, 10)).await).code(), Code::PermissionDenied);
    Client::connect(cluster.worker().rpc_addr(), "bob").await.put(block(2, 0), &pattern(1, 10)).await.expect("his");
    cluster.master.add(3, file(WriteType::MustCache));
    let long = code(client.put(block(3, 0), &pattern(1, BLOCK + 1)).await);
    assert_eq!(long.code(), Code::InvalidArgument, "{long}");
    assert!(long.message().contains("blocks of 4194304 bytes"), "{long}");
    cluster.idle().await;
    assert_eq!(cluster.worker().block_count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_is_a_clear_refusal() {
    let cluster = Cluster::with(|config| config.directories[0].quota_bytes = 8 * MIB).await;
    let client = cluster.client().await;
    cluster.master.add(1, file(WriteType::MustCache));
    client.put(block(1, 0), &pattern(1, BLOCK)).await.expect("half of it");
    let full = client.put(block(1, 1), &pattern(1, BLOCK)).await.expect_err("a tenth is for reads");
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("goosefs.worker.read.cache.min.ratio"), "{full}");
    cluster.master.add(2, file(WriteType::TryCache));
    client.put(block(2, 0), &pattern(2, 3 * MIB)).await.expect("evictable blocks may take the rest");
    client.put(block(2, 1), &pattern(3, 3 * MIB)).await.expect("and replace each other");
    assert_eq!(client.resident(block(2, 0)).await, 0);
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_blocks_are_there_after_a_restart_and_the_rest_is_swept() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.master.add(1, file(WriteType::AsyncThrough));
    let data = pattern(1, BLOCK);
    client.put(block(1, 0), &data).await.expect("written");
    let mut write = client.write(block(1, 1));
    write.send(pattern(2, MIB));
    assert_eq!(write.flush().await, Some(MIB));
    assert_eq!(cluster.files(".tmp").len(), 1);
    std::mem::forget(write);
    let id = cluster.worker().id();
    cluster.stop_worker().await;
    cluster.start_worker().await;
    assert_eq!(cluster.worker().id(), id, "the id is kept on disk");
    assert_eq!(cluster.files(".tmp").len(), 0);
    assert!(cluster.master.reported(block(1, 0)).expect("in the registration").unpersisted);
    cluster.master.change(1, |file| (file.complete, file.length) = (true, BLOCK));
    let client = cluster.client().await;
    assert_eq!(client.read(block(1, 0), 0, BLOCK).await.expect("read"), data);
}
