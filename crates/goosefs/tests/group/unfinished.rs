//! What was under way in a store when the leader died goes on under the next one: files that are to be persisted, a tree that
//! is being moved.

use crate::cluster::Bucket;
use crate::support::{Group, PATIENCE};
use crate::{content, path};
use client::{FileSystem, WriteOptions};
use std::time::Duration;
use testkit::eventually_async;
use types::WriteType;

const FILES: u64 = 30;
/// Of the store, so that what is under way takes its time.
const LATENCY: Duration = Duration::from_millis(30);

async fn write(fs: &FileSystem, name: &str, kind: WriteType, data: &[u8]) {
    let options = WriteOptions { write_type: Some(kind), recursive: true, ..WriteOptions::default() };
    let mut writer = fs.create(&path(name), options).await.expect("created");
    writer.write(data).await.expect("written");
    writer.close().await.expect("closed");
}

async fn read(fs: &FileSystem, name: &str) -> Vec<u8> {
    let mut reader = fs.open(&path(name)).await.expect("found");
    let mut data = Vec::new();
    while let Some(chunk) = reader.next_chunk().await.expect("read") {
        data.extend_from_slice(&chunk);
    }
    data
}

/// Kills the leader, and starts it again when another one leads.
fn fail_over(group: &mut Group) {
    let leader = group.leader();
    group.kill9(leader);
    group.leader();
    group.start_master(leader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_to_be_persisted_when_the_leader_died_is_persisted_under_the_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let bucket = Bucket::start(&dir.path().join("s3"));
    let mut group = Group::start(&dir.path().join("group"), &[]);
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    fs.create_namespace(bucket.namespace("ns")).await.expect("the namespace is made");
    bucket.proxy.set_latency(LATENCY);
    for n in 0..FILES {
        write(&fs, &format!("/ns/f{n}"), WriteType::AsyncThrough, &content(n)).await;
        // In the middle of it, and when all are acknowledged.
        if n == FILES / 2 {
            fail_over(&mut group);
        }
    }
    fail_over(&mut group);
    for n in 0..FILES {
        eventually_async(PATIENCE, || async {
            bucket.object(&format!("f{n}")).is_some_and(|object| object == content(n))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_was_being_moved_when_the_leader_died_is_moved_under_the_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let bucket = Bucket::start(&dir.path().join("s3"));
    let mut group = Group::start(&dir.path().join("group"), &[]);
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    fs.create_namespace(bucket.namespace("ns")).await.expect("the namespace is made");
    for n in 0..FILES {
        write(&fs, &format!("/ns/old/f{n}"), WriteType::Through, &content(n)).await;
    }
    bucket.proxy.set_latency(LATENCY);
    fs.rename(&path("/ns/old"), &path("/ns/new")).await.expect("renamed");
    fail_over(&mut group);
    for n in 0..FILES {
        assert!(read(&fs, &format!("/ns/new/f{n}")).await == content(n), "file {n}");
        let moved = || {
            let there = bucket.object(&format!("new/f{n}")).is_some_and(|object| object == content(n));
            there && bucket.object(&format!("old/f{n}")).is_none()
        };
        eventually_async(PATIENCE, || async { moved() }).await;
    }
    assert!(fs.find(&path("/ns/old")).await.expect("answered").is_none(), "it has another name");
}
