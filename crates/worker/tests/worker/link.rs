//! The worker and its masters: registration, silence, strangers.

use crate::client::Client;
use crate::cluster::{BLOCK, Cluster, PATIENCE, file, pattern};
use crate::master::{File, block};
use std::time::Duration;
use testkit::eventually_async;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use types::WriteType;
use worker::{Env, Worker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_reads_go_on_while_no_master_answers() {
    let mut cluster = Cluster::start().await;
    cluster.master.state.lock().right_valid_ms = 1;
    let data = pattern(1, BLOCK);
    let stored = cluster.object(1, &data).await;
    cluster.master.add(2, File { ..stored });
    let client = cluster.client().await;
    client.read(block(1, 0), 0, BLOCK).await.expect("cold");
    let (master, address) = cluster.listening.take().expect("it listens").die().await;
    assert!(client.read(block(1, 0), 0, BLOCK).await.expect("a right once given") == data);
    let other = Client::connect(cluster.worker().rpc_addr(), "bob").await;
    let (of_other, of_another) = tokio::join!(other.read(block(1, 0), 0, BLOCK), client.read(block(2, 0), 0, BLOCK));
    assert_eq!(of_other.expect_err("never asked").code(), Code::Unavailable);
    assert_eq!(of_another.expect_err("never asked").code(), Code::Unavailable);
    let before = master.state.lock().registrations;
    // It comes back and knows nothing of the session's epoch.
    master.state.lock().epoch += 10;
    cluster.listening = Some(master.listen(&address));
    eventually_async(PATIENCE, || async { master.state.lock().registrations > before }).await;
    assert!(master.reported(block(1, 0)).is_some(), "the registration lists what is here");
    assert!(client.read(block(2, 0), 0, BLOCK).await.expect("asked again") == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_read_rides_over_a_restart_of_the_master() {
    let mut cluster = Cluster::start().await;
    let data = pattern(1, BLOCK);
    cluster.object(1, &data).await;
    let client = cluster.client().await;
    let (master, address) = cluster.listening.take().expect("it listens").die().await;
    let before = cluster.worker().metrics().resolves.get();
    let (read, listening) = tokio::join!(client.read(block(1, 0), 0, BLOCK), async {
        eventually_async(PATIENCE, || async { cluster.worker().metrics().resolves.get() > before + 1 }).await;
        master.listen(&address)
    });
    assert!(read.expect("the master came back") == data);
    cluster.listening = Some(listening);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_carry_each_count_once() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let data = pattern(1, BLOCK);
    cluster.object(1, &data).await;
    for _ in 0..3 {
        client.read(block(1, 0), 0, BLOCK).await.expect("read");
    }
    eventually_async(PATIENCE, || async {
        cluster.master.state.lock().metrics.get("read_bytes").copied() == Some(3.0 * 4_194_304.0)
    })
    .await;
    let directory = cluster.master.state.lock().directories[0].clone();
    assert_eq!((directory.tier_alias.as_str(), directory.lost.as_str()), ("SSD", ""));
    eventually_async(PATIENCE, || async { cluster.master.state.lock().directories[0].used_bytes == BLOCK }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_never_joins_another_cluster_nor_an_earlier_incarnation() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.master.add(1, file(WriteType::MustCache));
    client.put(block(1, 0), &pattern(1, 10)).await.expect("written");
    cluster.stop_worker().await;
    for (other_cluster, incarnation, why) in [(0xBAD, 1, "directories"), (0xC1, 0, "which was given up")] {
        {
            let mut state = cluster.master.state.lock();
            (state.cluster, state.incarnation) = (other_cluster, incarnation);
        }
        let registrations = cluster.master.state.lock().registrations;
        let worker = Worker::start(cluster.config.clone(), Env::system()).await.expect("it starts, and waits");
        let client = Client::connect(worker.rpc_addr(), "ann").await;
        let refused = client.read(block(1, 0), 0, 10).await.expect_err("not served");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
        assert_eq!((worker.is_registered(), worker.block_count()), (false, 1), "its blocks are kept");
        assert_eq!(cluster.master.state.lock().registrations, registrations);
        worker.stop(Duration::from_secs(1)).await;
    }
    {
        let mut state = cluster.master.state.lock();
        (state.cluster, state.incarnation) = (0xC1, 2);
    }
    let worker = Worker::start(cluster.config.clone(), Env::system()).await.expect("it starts");
    eventually_async(PATIENCE, || async { worker.is_registered() }).await;
    assert!(
        cluster.master.reported(block(1, 0)).is_some(),
        "it follows with its blocks to the incarnation after its own"
    );
    worker.stop(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_refused_on_both_sides() {
    let cluster = Cluster::start().await;
    let other = cluster.home.path().join("other-key");
    rpc::ClusterKey::create(&other).expect("a new key");
    let mut config = cluster.config.clone();
    config.key_file = other;
    config.directories[0].path = cluster.home.path().join("other-blocks");
    config.work_dir = cluster.home.path().join("other-work");
    let worker = Worker::start(config.clone(), Env::system()).await.expect("it starts, and waits");
    let client = Client::connect(worker.rpc_addr(), "ann").await;
    let refused = client.read(block(1, 0), 0, 10).await.expect_err("not served");
    assert!(refused.message().contains("same key file"), "{refused}");
    worker.stop(Duration::from_secs(1)).await;
    config.key_file = cluster.home.path().join("no-key");
    let missing = Worker::start(config, Env::system()).await.err().expect("no key, no start").to_string();
    assert!(missing.contains("no-key"), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_worker_and_a_port_one_listener() {
    let cluster = Cluster::start().await;
    let mut config = cluster.config.clone();
    config.work_dir = cluster.home.path().join("other-work");
    let taken = Worker::start(config.clone(), Env::system()).await.err().expect("locked").to_string();
    assert!(taken.contains("in use by another worker"), "{taken}");
    config.directories[0].path = cluster.home.path().join("other-blocks");
    config.rpc_addr = cluster.worker().rpc_addr();
    let taken = Worker::start(config.clone(), Env::system()).await.err().expect("in use").to_string();
    assert!(taken.contains("in use"), "{taken}");
    config.rpc_addr.set_port(0);
    config.web_addr = cluster.worker().web_addr();
    let taken = Worker::start(config, Env::system()).await.err().expect("in use").to_string();
    assert!(taken.contains("goosefs.worker.web.port"), "{taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_web_pages_tell_health_and_metrics() {
    let cluster = Cluster::start().await;
    let page = |path: &'static str| {
        let address = cluster.worker().web_addr();
        async move {
            let mut socket = tokio::net::TcpStream::connect(address).await.expect("it listens");
            let request = format!("GET {path} HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.expect("answered");
            answer
        }
    };
    assert!(page("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(page("/readyz").await.contains("registered"));
    for path in ["/metrics/prometheus", "/metrics/prometheus/"] {
        let text = page(path).await;
        assert!(text.contains("goosefs_worker_registered 1"), "{text}");
    }
    for path in ["/metrics/json", "/metrics/json/"] {
        assert!(page(path).await.contains("\"capacity_bytes\":268435456"), "{path}");
    }
}
