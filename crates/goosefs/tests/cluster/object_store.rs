//! A namespace over a real S3 server behind the fault proxy, through real processes: what appears, changes, moves and goes.

use crate::support::{BUCKET, Bucket, Local, namespace, path, read_all};
use client::{FileSystem, Freshness, NewNamespace, Remove, WriteOptions};
use std::time::Duration;
use testkit::data::Data;
use testkit::eventually;
use testkit::proxy::FaultProxy;
use testkit::s3::S3Server;
use types::{ErrorKind, WriteType};

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    store: S3Server,
    proxy: FaultProxy,
    _local: Local,
    fs: FileSystem,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let bucket = Bucket::start(&dir.path().join("s3"));
        let local = Local::start(&dir.path().join("goosefs"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let fs = runtime.block_on(local.client());
        runtime.block_on(fs.create_namespace(bucket.namespace("ns"))).expect("the namespace is made");
        let Bucket { store, proxy } = bucket;
        World { store, proxy, _local: local, fs, runtime, _dir: dir }
    }

    fn read(&self, at: &str) -> client::Result<Vec<u8>> {
        self.runtime.block_on(read_all(&self.fs, &path(at)))
    }

    fn write(&self, at: &str, bytes: &[u8]) {
        self.runtime.block_on(async {
            let mut writer = self.fs.create(&path(at), WriteOptions::default()).await.expect("created");
            writer.write(bytes).await.expect("written");
            writer.close().await.expect("closed");
        });
    }

    fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.store.get(BUCKET, key).expect("the store's files are readable")
    }
}

#[test]
fn objects_are_listed_read_once_and_then_served_from_the_cache() {
    let world = World::new();
    for n in 0..30 {
        world
            .store
            .put(BUCKET, &format!("tree/dir-{}/file-{n}", n % 3), format!("content {n}").as_bytes())
            .expect("put");
    }
    let listed = world.runtime.block_on(world.fs.list_all(&path("/ns/tree/dir-1"))).expect("listed");
    assert_eq!(listed.len(), 10);
    for n in 0..30 {
        let name = format!("/ns/tree/dir-{}/file-{n}", n % 3);
        assert_eq!(world.read(&name).expect("read"), format!("content {n}").into_bytes());
    }
    world.proxy.reset_stats();
    for n in 0..30 {
        let name = format!("/ns/tree/dir-{}/file-{n}", n % 3);
        assert_eq!(world.read(&name).expect("read again"), format!("content {n}").into_bytes());
    }
    assert_eq!(world.proxy.stats().total_requests(), 0, "everything is cached");
}

#[test]
fn an_object_overwritten_behind_our_back_is_never_served_old_after_a_refresh() {
    let world = World::new();
    world.store.put(BUCKET, "f", b"the first content").expect("put");
    assert_eq!(world.read("/ns/f").expect("read"), b"the first content");
    let before = world.runtime.block_on(world.fs.status(&path("/ns/f"))).expect("known").file;
    world.store.put(BUCKET, "f", b"another, longer content").expect("put");
    let after = world.runtime.block_on(world.fs.status_with(&path("/ns/f"), Freshness::NOW)).expect("refreshed");
    assert_ne!(after.file, before, "a new generation has a new id");
    assert_eq!(world.read("/ns/f").expect("read"), b"another, longer content");
    world.store.delete(BUCKET, "f").expect("deleted");
    let gone = world.runtime.block_on(world.fs.status_with(&path("/ns/f"), Freshness::NOW)).expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[test]
fn writes_renames_and_deletes_reach_the_store() {
    let world = World::new();
    world.write("/ns/a/one", b"1");
    world.write("/ns/a/two", b"22");
    assert_eq!(world.object("a/one").as_deref(), Some(&b"1"[..]));
    world.runtime.block_on(world.fs.rename(&path("/ns/a/one"), &path("/ns/a/uno"))).expect("renamed");
    assert_eq!(world.object("a/uno").as_deref(), Some(&b"1"[..]));
    eventually(PATIENCE, || world.object("a/one").is_none());
    assert_eq!(world.read("/ns/a/uno").expect("read"), b"1");
    world.runtime.block_on(world.fs.rename(&path("/ns/a"), &path("/ns/b"))).expect("renamed");
    assert_eq!(world.read("/ns/b/two").expect("read"), b"22", "readable at once under the new name");
    eventually(PATIENCE, || world.object("b/two").is_some() && world.object("a/two").is_none());
    assert_eq!(world.read("/ns/b/two").expect("read"), b"22");
    world.runtime.block_on(world.fs.remove(&path("/ns/b/two"), Remove::default())).expect("removed");
    assert_eq!(world.object("b/two"), None);
    let tree = Remove { recursive: true, ..Remove::default() };
    world.runtime.block_on(world.fs.remove(&path("/ns/b"), tree)).expect("removed");
    eventually(PATIENCE, || world.store.keys(BUCKET, "").is_empty());
}

#[test]
fn a_large_file_in_a_moved_tree_is_the_same_file() {
    let world = World::new();
    // Two parts: a copy of such an object has another tag.
    let content = Data::new(5).bytes(0, 9 << 20);
    world.write("/ns/a/cached", &content);
    world.runtime.block_on(async {
        let through = WriteOptions { write_type: Some(WriteType::Through), ..WriteOptions::default() };
        let mut writer = world.fs.create(&path("/ns/a/b/cold"), through).await.expect("created");
        writer.write(&content).await.expect("written");
        writer.close().await.expect("closed");
    });
    let id = |at: &str| world.runtime.block_on(world.fs.status(&path(at))).expect("known").file;
    let before = [id("/ns/a/cached"), id("/ns/a/b/cold")];
    world.runtime.block_on(world.fs.rename(&path("/ns/a"), &path("/ns/c"))).expect("renamed");
    eventually(PATIENCE, || world.store.keys(BUCKET, "") == ["c/b/cold", "c/cached"]);
    world.proxy.reset_stats();
    assert!(world.read("/ns/c/cached").expect("read") == content);
    assert_eq!(world.proxy.stats().total_requests(), 0, "what was cached before the move is cached after it");
    assert!(world.read("/ns/c/b/cold").expect("read") == content);
    let now = world.runtime.block_on(world.fs.status_with(&path("/ns/c/b/cold"), Freshness::NOW)).expect("looked at");
    assert_eq!([id("/ns/c/cached"), now.file], before);
}

#[test]
fn a_store_that_says_no_is_quoted() {
    let world = World::new();
    let refuse = |new: NewNamespace| {
        let error = world.runtime.block_on(world.fs.create_namespace(new)).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
        error.to_string()
    };
    let missing = namespace("x", "no-such-bucket", &world.store, &world.proxy, world.store.secret_key());
    assert!(refuse(missing).contains("no-such-bucket"));
    let wrong = refuse(namespace("y", BUCKET, &world.store, &world.proxy, "not-the-secret"));
    assert!(!wrong.contains("not-the-secret"), "{wrong}");
    refuse(namespace("z", BUCKET, &world.store, &world.proxy, world.store.secret_key()));
}
