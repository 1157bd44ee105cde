//! Files written straight into their under store.

use crate::cluster::{Cluster, MIB, PATIENCE, file, length, pattern};
use crate::master::File;
use testkit::eventually_async;
use tonic::Code;
use types::WriteType;

fn through(key: &str) -> File {
    File { key: key.to_owned(), ..file(WriteType::Through) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_visible_and_reported_before_the_answer() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    for (container, size) in [(1, 0), (2, 1), (3, 5 * MIB + 3)] {
        let key = format!("new/dir/{container}");
        cluster.master.add(container, through(&key));
        let data = pattern(container, size);
        let mut write = client.write_store(&format!("{}/{key}", cluster.uri));
        data.chunks(1 << 20).for_each(|part| write.send(data.slice_ref(part)));
        assert_eq!(write.flush().await, Some(size));
        assert_eq!(cluster.stored(&key).await, None, "not before the close");
        assert!(!cluster.master.state.lock().announced.contains(&key));
        write.commit().await.expect("written");
        assert_eq!(cluster.stored(&key).await.map(|content| content == data), Some(true));
        let closed = cluster.master.state.lock().closed.last().cloned().expect("reported");
        assert_eq!((closed.container, closed.length), (container, length(&data)));
        assert_eq!(cluster.master.state.lock().announced.last(), Some(&key), "before its object could appear");
        assert!(!closed.fingerprint.is_empty());
    }
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_leaves_nothing_in_the_store() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.master.add(1, through("a"));
    let write = client.write_store(&format!("{}/a", cluster.uri));
    write.send(pattern(1, MIB));
    eventually_async(PATIENCE, || async { cluster.worker().metrics().store_write_bytes.get() == MIB }).await;
    drop(write);
    eventually_async(PATIENCE, || async { cluster.worker().metrics().write_cancels.get() == 1 }).await;
    cluster.idle().await;
    assert_eq!(cluster.stored("a").await, None);
    assert!(cluster.master.state.lock().closed.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_place_of_an_incomplete_file_can_be_written() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let refused = |path: String| {
        let client = &client;
        async move { client.write_store(&path).commit().await.expect_err("refused").code() }
    };
    assert_eq!(refused(format!("{}/nobody-knows", cluster.uri)).await, Code::NotFound);
    assert_eq!(refused("/etc/passwd".into()).await, Code::InvalidArgument);
    assert_eq!(refused(format!("{}/../x", cluster.uri)).await, Code::InvalidArgument);
    cluster.master.add(1, File { only: Some("bob".into()), ..through("his") });
    assert_eq!(refused(format!("{}/his", cluster.uri)).await, Code::PermissionDenied);
    // Another file takes the place while the stream is open.
    cluster.master.add(2, through("contested"));
    let mut write = client.write_store(&format!("{}/contested", cluster.uri));
    write.send(pattern(1, 1000));
    assert_eq!(write.flush().await, Some(1000));
    let file = cluster.master.state.lock().files.remove(&2).expect("known");
    cluster.master.add(3, file);
    let fenced = write.commit().await.expect_err("the container is over");
    assert_eq!(fenced.code(), Code::FailedPrecondition, "{fenced}");
    assert_eq!(cluster.stored("contested").await, None);
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_for_a_file_that_is_gone_is_taken_back_with_the_directories_made_for_it() {
    let cluster = Cluster::start().await;
    let base = cluster.home.path().join("store");
    std::fs::create_dir(&base).expect("a directory of the test's own");
    let uri = format!("file://{}", base.display());
    {
        let mut state = cluster.master.state.lock();
        state.uri.clone_from(&uri);
        state.closes_late = true;
    }
    // The master knows of one directory above.
    cluster.master.add(1, through("kept/"));
    cluster.master.add(2, through("kept/gone/too/f"));
    let client = cluster.client().await;
    let write = client.write_store(&format!("{uri}/kept/gone/too/f"));
    write.send(pattern(2, 1000));
    write.commit().await.expect_err("its file went away");
    assert_eq!(cluster.master.state.lock().closed.len(), 1, "it was whole, and reported");
    assert!(base.join("kept").is_dir());
    assert!(!base.join("kept/gone").exists());
    cluster.idle().await;
}
