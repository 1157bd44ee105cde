//! Under stores: wrong credentials, keys that cannot be paths, objects that change while they are read.

use super::{goes_on, path, program, read, run, says, sentence};
use crate::support::{BUCKET, Bucket, Local};
use client::{Freshness, NewNamespace};
use std::time::Duration;
use testkit::data::Data;
use testkit::process::http_get;
use testkit::proxy::{Fault, Rule, Side};
use testkit::s3::S3Server;
use types::ErrorKind;

struct World {
    local: Local,
    bucket: Bucket,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let bucket = Bucket::start(&dir.path().join("s3"));
        World { local: Local::start(&dir.path().join("goosefs")), bucket, _dir: dir }
    }

    async fn mount(&self) -> client::FileSystem {
        let fs = self.local.client().await;
        let new = NewNamespace { write_policy: None, ..self.bucket.namespace("ns") };
        fs.create_namespace(new).await.expect("the namespace is made");
        fs
    }
}

#[test]
fn wrong_credentials_are_told_in_the_stores_words_and_never_shown() {
    const SECRET: &str = "hunter2-is-not-the-secret";
    let world = World::new();
    let create = |bucket: &str, key: &str, secret: &str| {
        let mut command = program();
        command.env("GOOSEFS_MASTER_ADDR", world.local.master_addr().to_string());
        command.args(["ns", "create", "ns", &format!("s3://{bucket}")]);
        for (name, value) in S3Server::properties(world.bucket.proxy.endpoint()) {
            command.args(["--attribute", &format!("{name}={value}")]);
        }
        command.args(["--secret", &format!("s3a.accessKeyId={key}"), "--secret", &format!("s3a.secretKey={secret}")]);
        command
    };
    let (key, secret) = (world.bucket.store.access_key(), world.bucket.store.secret_key());
    for (mut command, words) in [
        (create(BUCKET, key, SECRET), &["s3://bucket", "does not accept the credential", "correct or renew it"][..]),
        (create(BUCKET, "NOBODY", SECRET), &["s3://bucket", "does not accept the credential", "correct or renew it"]),
        (
            create("no-such-bucket", key, secret),
            &["no-such-bucket", "does not exist", "create it or correct the address"],
        ),
    ] {
        let said = sentence(&mut command);
        says(&said, words);
        assert!(!said.contains(SECRET) && !said.contains(secret), "{said}");
    }
    let logs = world.local.output();
    assert!(!logs.contains(SECRET) && !logs.contains(secret), "no secret in the log");
    // A store that is not there at all.
    world.bucket.proxy.refuse();
    let said = testkit::eventually(super::PATIENCE, || {
        // On a busy machine the time may be over before the master has asked.
        let said = sentence(create(BUCKET, key, secret).arg("-Dgoosefs.user.network.rpc.timeout=2s"));
        said.contains("s3://bucket").then_some(said)
    });
    says(
        &said,
        &["s3://bucket", "cannot be reached", &format!("no answer from {}", world.bucket.proxy.addr()), "refused"],
    );
    world.bucket.proxy.accept().expect("the port is had again");
    let output = create(BUCKET, key, secret).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, said) = run(&mut create(BUCKET, key, secret));
    assert_eq!(code, 1);
    says(&said, &["ns", "already exists"]);
    super::block_on(goes_on(&world.local));
}

#[test]
fn keys_that_cannot_be_paths_are_left_out_counted_and_named() {
    let world = World::new();
    for key in [
        "good",
        "tree/below",
        "a//b",
        "../escape",
        "tree/../escape",
        "tree/./dot",
        "/absolute",
        "bytes/",
        &format!("tree/{}", "long".repeat(100)),
    ] {
        world.bucket.store.put(BUCKET, key, key.as_bytes()).unwrap_or_else(|err| panic!("put {key:?}: {err}"));
    }
    world.bucket.store.put(BUCKET, "marker/", b"").expect("put");
    super::block_on(async {
        let fs = world.mount().await;
        let names = async |at: &str| {
            let listed = fs.list_all(&path(at)).await.unwrap_or_else(|err| panic!("{at} is listed: {err}"));
            let mut names: Vec<String> = listed.into_iter().map(|entry| entry.path.to_string()).collect();
            names.sort();
            names
        };
        let top = names("/ns").await;
        assert_eq!(top, ["/ns/a", "/ns/bytes", "/ns/good", "/ns/marker", "/ns/tree"]);
        assert!(names("/ns/a").await.is_empty() && names("/ns/bytes").await.is_empty());
        assert_eq!(names("/ns/tree").await, ["/ns/tree/below"]);
        assert!(names("/ns/marker").await.is_empty());
        assert_eq!(read(&fs, "/ns/good").await.expect("read"), b"good");
        assert_eq!(read(&fs, "/ns/tree/below").await.expect("read"), b"tree/below");
        goes_on(&world.local).await;
    });
    let log = world.local.output();
    let lines: String = log.lines().filter(|line| line.contains("cannot be paths")).collect();
    says(&lines, &["give their objects other names", "longlong", "tree/./"]);
    let (_, metrics) = http_get(world.local.addrs()[1], "/metrics/json").expect("answered");
    let counted = metrics.split("\"Master.SkippedStoreKeys\":").nth(1).expect("it is counted");
    let counted: f64 = counted.split([',', '}']).next().and_then(|text| text.trim().parse().ok()).expect("a number");
    assert!(counted >= 4.0, "{counted} keys");
    assert!(world.bucket.store.get(BUCKET, "../escape").expect("readable").is_some(), "nothing was touched");
}

/// One version whole, or an error that says so; never a mix.
#[test]
fn an_object_that_changes_while_it_is_read_is_never_mixed() {
    const BYTES: usize = 24 << 20;
    let world = World::new();
    let (old, new) = (Data::new(1), Data::new(2));
    super::block_on(async {
        let fs = world.mount().await;
        for round in 0..3 {
            let (key, at) = (format!("changing-{round}"), format!("/ns/changing-{round}"));
            world.bucket.store.put(BUCKET, &key, &old.bytes(0, BYTES)).expect("put");
            // The store's answer stops in the middle of the object, where it is exchanged.
            let after_bytes = 1 << (20 + round);
            world
                .bucket
                .proxy
                .inject(Rule::once(Fault::Cut { side: Side::Response, after_bytes }).method("GET").path(&key));
            let mut reader = fs.open(&path(&at)).await.expect("opens");
            let mut got = reader.next_chunk().await.expect("the beginning is read").expect("there is one").to_vec();
            old.verify(0, &got).expect("the old version begins");
            world.bucket.store.put(BUCKET, &key, &new.bytes(0, BYTES)).expect("put");
            let error = loop {
                match reader.next_chunk().await {
                    Ok(Some(chunk)) => got.extend_from_slice(&chunk),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            old.verify(0, &got).expect("all that was read is of one version");
            match error {
                Some(error) => says(
                    &error.to_string(),
                    &[&at, "changed in its under store while it was read", "look the file up again"],
                ),
                None => assert_eq!(got.len(), BYTES),
            }
            fs.status_with(&path(&at), Freshness::NOW).await.expect("known");
            let now = read(&fs, &at).await.expect("read");
            assert_eq!(now.len(), BYTES);
            new.verify(0, &now).expect("the new version whole");
        }
        goes_on(&world.local).await;
    });
}

/// A listing the store cuts short is an error, not an empty directory.
#[test]
fn a_store_that_fails_is_quoted_and_asked_again_later() {
    let world = World::new();
    world.bucket.store.put(BUCKET, "tree/file", b"content").expect("put");
    super::block_on(async {
        let fs = world.mount().await;
        let rule = world.bucket.proxy.inject(Rule::always(Fault::Status(403)));
        let error = fs.list_all(&path("/ns/tree")).await.map(drop).expect_err("the store says no");
        assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
        says(&error.to_string(), &["/ns/tree", "403"]);
        world.bucket.proxy.remove(rule);
        let listed =
            tokio::time::timeout(Duration::from_secs(60), fs.list_all(&path("/ns/tree"))).await.expect("in time");
        assert_eq!(listed.expect("listed").len(), 1);
        goes_on(&world.local).await;
    });
}
