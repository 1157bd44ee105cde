//! A namespace over a real S3 server behind the fault proxy, through real processes: what appears, changes, moves and goes.

use crate::support::Local;
use client::{FileSystem, Freshness, NewNamespace, Remove, WriteOptions};
use std::collections::BTreeMap;
use std::time::Duration;
use testkit::eventually;
use testkit::proxy::{FaultProxy, Protocol};
use testkit::s3::{Options, S3Server};
use types::{ErrorKind, GfsPath, Secret, WriteType};

const BUCKET: &str = "bucket";
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    store: S3Server,
    proxy: FaultProxy,
    _local: Local,
    fs: FileSystem,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

fn path(text: &str) -> GfsPath {
    GfsPath::parse(text).expect("a path")
}

fn namespace(name: &str, bucket: &str, store: &S3Server, proxy: &FaultProxy, secret: &str) -> NewNamespace {
    let properties = [
        ("goosefs.underfs.s3.endpoint", proxy.endpoint()),
        ("goosefs.underfs.s3.region", "us-east-1".to_owned()),
        ("goosefs.underfs.s3.disable.dns.buckets", "true".to_owned()),
    ];
    let secrets = [("s3a.accessKeyId", store.access_key()), ("s3a.secretKey", secret)];
    NewNamespace {
        name: name.to_owned(),
        ufs_uri: format!("s3://{bucket}"),
        read_only: false,
        shared: false,
        write_policy: Some(WriteType::CacheThrough),
        read_policy: None,
        properties: properties.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
        secrets: secrets.map(|(key, value)| (key.to_owned(), Secret::new(value))).into_iter().collect(),
    }
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let store = S3Server::start(&dir.path().join("s3"), Options::default()).expect("the store starts");
        store.create_bucket(BUCKET).expect("a bucket");
        let proxy = FaultProxy::start(store.addr(), Protocol::Http1).expect("the proxy starts");
        let local = Local::start(&dir.path().join("goosefs"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let fs = runtime.block_on(local.client());
        let new = namespace("ns", BUCKET, &store, &proxy, store.secret_key());
        runtime.block_on(fs.create_namespace(new)).expect("the namespace is made");
        World { store, proxy, _local: local, fs, runtime, _dir: dir }
    }

    fn read(&self, at: &str) -> client::Result<Vec<u8>> {
        self.runtime.block_on(async {
            let mut reader = self.fs.open(&path(at)).await?;
            let mut all = Vec::new();
            while let Some(chunk) = reader.next_chunk().await? {
                all.extend_from_slice(&chunk);
            }
            Ok(all)
        })
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
