//! Uploads in the background, as the master orders them.

use crate::cluster::{BLOCK, Cluster, PATIENCE, file, pattern};
use crate::master::block;
use bytes::Bytes;
use proto::internal::{BlockPlace, HeartbeatResponse, PersistTask};
use testkit::eventually_async;
use types::WriteType;

fn task(container: u64, attempt: u32, data: &Bytes) -> PersistTask {
    let length = crate::cluster::length(data);
    let place = |index| BlockPlace { block: block(container, index).to_wire().cast_unsigned(), addresses: Vec::new() };
    PersistTask {
        container,
        attempt,
        key: format!("out/{container}"),
        mount: 1,
        length,
        block_bytes: BLOCK,
        blocks: (0..length.div_ceil(BLOCK)).map(place).collect(),
        owner: "ann".into(),
        group: String::new(),
        mode: 0o644,
    }
}

fn order(cluster: &Cluster, orders: HeartbeatResponse) {
    cluster.master.state.lock().orders = orders;
}

async fn write(cluster: &Cluster, container: u64, data: &Bytes) {
    let client = cluster.client().await;
    cluster.master.add(container, file(WriteType::AsyncThrough));
    for (index, start) in (0..).zip((0..data.len()).step_by(4 << 20)) {
        let part = data.slice(start..data.len().min(start + (4 << 20)));
        client.put(block(container, index), &part).await.expect("written");
    }
    let length = crate::cluster::length(data);
    cluster.master.change(container, |file| (file.complete, file.length) = (true, length));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_uploaded_under_the_masters_grant_and_then_evictable() {
    let cluster = Cluster::start().await;
    for (container, size) in [(1, 0), (2, 2 * BLOCK + 17)] {
        let data = pattern(container, size);
        write(&cluster, container, &data).await;
        let persist = vec![task(container, 3, &data)];
        order(&cluster, HeartbeatResponse { persist, ..Default::default() });
        let ended = eventually_async(PATIENCE, || async {
            cluster.master.state.lock().ended.iter().find(|end| end.container == container).cloned()
        })
        .await;
        assert_eq!((ended.attempt, ended.error.as_str(), ended.length), (3, "", size));
        assert!(cluster.master.state.lock().granted.contains(&(container, 3)));
        assert_eq!(cluster.stored(&format!("out/{container}")).await.map(|content| content == data), Some(true));
    }
    assert!(cluster.master.reported(block(2, 0)).expect("reported").unpersisted);
    order(&cluster, HeartbeatResponse { evictable: vec![2], ..Default::default() });
    eventually_async(PATIENCE, || async { !cluster.master.reported(block(2, 0)).expect("still here").unpersisted })
        .await;
    order(&cluster, HeartbeatResponse { free: vec![2], ..Default::default() });
    eventually_async(PATIENCE, || async { cluster.master.reported(block(2, 0)).is_none() }).await;
    cluster.idle().await;
    assert_eq!(cluster.worker().block_count(), 0);
    eventually_async(PATIENCE, || async { cluster.files("").is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_grant_nothing_appears_in_the_store() {
    let cluster = Cluster::start().await;
    let data = pattern(1, BLOCK);
    write(&cluster, 1, &data).await;
    cluster.master.state.lock().refuse_grants = true;
    order(&cluster, HeartbeatResponse { persist: vec![task(1, 1, &data)], ..Default::default() });
    let ended = eventually_async(PATIENCE, || async { cluster.master.state.lock().ended.first().cloned() }).await;
    assert!(ended.error.contains("this attempt is over"), "{}", ended.error);
    assert_eq!(cluster.stored("out/1").await, None);
    // A block that is nowhere is told, not skipped.
    let longer = pattern(1, 2 * BLOCK);
    cluster.master.state.lock().refuse_grants = false;
    order(&cluster, HeartbeatResponse { persist: vec![task(1, 2, &longer)], ..Default::default() });
    let ended = eventually_async(PATIENCE, || async { cluster.master.state.lock().ended.get(1).cloned() }).await;
    assert!(ended.error.contains("is not on this worker"), "{}", ended.error);
    assert_eq!(cluster.stored("out/1").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_an_attempt_ended_is_told_to_a_master_that_begins_anew_while_it_is_greeted() {
    let cluster = Cluster::start().await;
    let data = pattern(1, 0);
    write(&cluster, 1, &data).await;
    cluster.master.state.lock().forgets_hellos = 3;
    order(&cluster, HeartbeatResponse { persist: vec![task(1, 1, &data)], ..Default::default() });
    let ended = eventually_async(PATIENCE, || async { cluster.master.state.lock().ended.first().cloned() }).await;
    assert_eq!((ended.container, ended.attempt), (1, 1));
    // Given once more, it is done.
    order(&cluster, HeartbeatResponse { persist: vec![task(1, 1, &data)], ..Default::default() });
    let ended = eventually_async(PATIENCE, || async { cluster.master.state.lock().ended.get(1).cloned() }).await;
    assert_eq!((ended.attempt, ended.error.as_str()), (1, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_other_workers_are_fetched_from_them() {
    let one = Cluster::start().await;
    let two = Cluster::start().await;
    let data = pattern(1, 2 * BLOCK);
    let client = two.client().await;
    for cluster in [&one, &two] {
        cluster.master.add(1, file(WriteType::AsyncThrough));
    }
    client.put(block(1, 1), &data.slice(4_194_304..)).await.expect("on the second worker");
    two.master.change(1, |file| (file.complete, file.length) = (true, 2 * BLOCK));
    one.client().await.put(block(1, 0), &data.slice(..4_194_304)).await.expect("on the first");
    let mut persist = task(1, 1, &data);
    persist.blocks[1].addresses = vec!["127.0.0.1:1".into(), two.worker().rpc_addr().to_string()];
    order(&one, HeartbeatResponse { persist: vec![persist], ..Default::default() });
    let ended = eventually_async(PATIENCE, || async { one.master.state.lock().ended.first().cloned() }).await;
    assert_eq!(ended.error, "");
    assert_eq!(one.stored("out/1").await.map(|content| content == data), Some(true));
}
