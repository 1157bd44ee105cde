//! The S3 server through a client that everybody uses.

use futures::TryStreamExt;
use opendal::{Buffer, ErrorKind, Operator, services};
use std::time::Duration;
use testkit::data::Data;
use testkit::eventually;
use testkit::s3::{Options, S3Server};

const MIB: usize = 1 << 20;

fn start(dir: &tempfile::TempDir) -> S3Server {
    let server = S3Server::start(dir.path(), Options::default()).unwrap();
    server.create_bucket("bucket").unwrap();
    server
}

fn client(endpoint: &str, bucket: &str, secret: &str) -> Operator {
    drop(rustls::crypto::ring::default_provider().install_default());
    opendal_http_transport_reqwest::install_default();
    let builder = services::S3::default()
        .bucket(bucket)
        .endpoint(endpoint)
        .region("us-east-1")
        .access_key_id("testkit-access")
        .secret_access_key(secret)
        .disable_config_load()
        .disable_ec2_metadata();
    Operator::new(builder).unwrap()
}

fn connect(server: &S3Server) -> Operator {
    client(&server.endpoint(), "bucket", server.secret_key())
}

#[tokio::test]
async fn what_is_put_is_got_whole_and_in_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let op = connect(&server);
    let data = Data::new(1);
    for (key, len) in [("empty", 0), ("a b/ü+%&=?#~.txt", 10), ("large", 3 * MIB + 17)] {
        op.write(key, data.bytes(0, len)).await.unwrap();
        assert_eq!(op.read(key).await.unwrap().to_bytes(), data.bytes(0, len), "{key}");
        assert_eq!(op.stat(key).await.unwrap().content_length(), len as u64, "{key}");
        assert_eq!(server.get("bucket", key).unwrap().unwrap(), data.bytes(0, len), "{key}");
    }
    for range in [0..1u64, 5..6, 524_287..524_290, 1_000_000..3_145_745] {
        let found = op.read_with("large").range(range.clone()).await.unwrap().to_bytes();
        assert_eq!(found.len() as u64, range.end - range.start);
        data.verify(range.start, &found).unwrap();
    }
    let error = op.read_with("large").range(4_000_000..4_000_001).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RangeNotSatisfied, "{error}");
}

#[tokio::test]
async fn etags_are_md5_and_conditions_hold() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let op = connect(&server);
    op.write("k", "hello").await.unwrap();
    let etag = op.stat("k").await.unwrap().etag().unwrap().to_owned();
    assert_eq!(etag, "\"5d41402abc4b2a76b9719d911017c592\"");

    assert_eq!(op.read_with("k").if_match(&etag).await.unwrap().to_bytes(), "hello");
    for error in [
        op.read_with("k").if_none_match(&etag).await.unwrap_err(),
        op.stat_with("k").if_none_match(&etag).await.unwrap_err(),
        op.write_with("k", "other").if_not_exists(true).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::ConditionNotMatch, "{error}");
    }
    server.put("bucket", "k", b"changed").unwrap();
    for error in [
        op.read_with("k").if_match(&etag).await.unwrap_err(),
        op.write_with("k", "other").if_match(&etag).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::ConditionNotMatch, "{error}");
    }
    assert_eq!(op.read("k").await.unwrap().to_bytes(), "changed");
}

#[tokio::test]
async fn a_reader_keeps_the_object_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let data = Data::new(2);
    server.put("bucket", "k", &data.bytes(0, 32 * MIB)).unwrap();
    let mut stream = connect(&server).reader("k").await.unwrap().into_bytes_stream(..).await.unwrap();
    let first = stream.try_next().await.unwrap().unwrap();
    server.put("bucket", "k", b"new").unwrap();
    server.delete("bucket", "k").unwrap();
    let mut at = first.len() as u64;
    data.verify(0, &first).unwrap();
    while let Some(piece) = stream.try_next().await.unwrap() {
        data.verify(at, &piece).unwrap();
        at += piece.len() as u64;
    }
    assert_eq!(at, 32 * MIB as u64);
    let blobs = || walk(&dir.path().join("blobs"));
    eventually(Duration::from_secs(5), || blobs() == 0); // nobody needs the bytes any more
}

fn walk(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn keys_may_be_prefixes_of_keys_and_end_in_a_slash() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let op = connect(&server);
    for key in ["a", "a/", "a//b", "a/b", "a/b/c", "a/..", "a0"] {
        server.put("bucket", key, key.as_bytes()).unwrap();
    }
    let listed = |recursive: bool| {
        let op = op.clone();
        async move {
            let entries = op.list_with("a/").recursive(recursive).await.unwrap();
            entries.iter().map(|entry| entry.path().to_owned()).collect::<Vec<_>>()
        }
    };
    let all = listed(true).await;
    assert!(all.iter().any(|path| path == "a/b") && all.iter().any(|path| path == "a/b/c"), "{all:?}");
    let some = listed(false).await;
    assert!(some.iter().any(|path| path == "a/b/") && !some.iter().any(|path| path == "a/b/c"), "{some:?}");
    op.delete("a/b").await.unwrap();
    assert_eq!(op.read("a/b/c").await.unwrap().to_bytes(), "a/b/c");
    assert_eq!(op.stat("a").await.unwrap().content_length(), 1);
}

#[tokio::test]
async fn long_listings_come_in_pages_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    for index in 0..2500 {
        server.put("bucket", &format!("d{}/f{index:05}", index % 2), b"").unwrap();
    }
    let op = connect(&server);
    let entries = op.list_with("/").recursive(true).await.unwrap();
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path()).collect();
    assert_eq!(paths.len(), 2500);
    assert!(paths.is_sorted());
    let after = op.list_with("d1/").start_after("d1/f02401").await.unwrap();
    assert_eq!(after.iter().filter(|entry| entry.path().starts_with("d1/f")).count(), 49);
    assert_eq!(op.list("/").await.unwrap().iter().filter(|entry| entry.path().ends_with('/')).count(), 2);
}

#[tokio::test]
async fn parts_become_an_object_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let op = connect(&server);
    let data = Data::new(3);
    let mut writer = op.writer_with("k").chunk(5 * MIB).concurrent(4).await.unwrap();
    writer.write(data.bytes(0, 13 * MIB)).await.unwrap();
    assert!(server.get("bucket", "k").unwrap().is_none(), "nothing before the end");
    writer.close().await.unwrap();
    data.verify(0, &server.get("bucket", "k").unwrap().unwrap()).unwrap();
    let etag = op.stat("k").await.unwrap().etag().unwrap().to_owned();
    assert!(etag.ends_with("-3\""), "{etag}");
    let tail = op.read_with("k").range(5 * MIB as u64 - 1..).await.unwrap().to_bytes();
    assert_eq!(tail.len(), 8 * MIB + 1);
    data.verify(5 * MIB as u64 - 1, &tail).unwrap();

    let mut writer = op.writer_with("gone").chunk(5 * MIB).await.unwrap();
    writer.write(data.bytes(0, 11 * MIB)).await.unwrap();
    assert_eq!(server.open_uploads(), 1);
    writer.abort().await.unwrap();
    assert_eq!(server.open_uploads(), 0);
    assert!(!op.exists("gone").await.unwrap());
    assert_eq!(walk(&dir.path().join("blobs")), 3, "the aborted parts are gone");
}

#[tokio::test]
async fn copies_are_objects_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let op = connect(&server);
    op.write_with("from", "hello").content_type("text/x-test").await.unwrap();
    op.copy("from", "to").await.unwrap();
    op.delete("from").await.unwrap();
    assert_eq!(op.read("to").await.unwrap().to_bytes(), "hello");
    let stat = op.stat("to").await.unwrap();
    assert_eq!(stat.content_type(), Some("text/x-test"));
    assert_eq!(stat.etag(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    let error = op.copy("from", "again").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let keys: Vec<String> = (0..1500).map(|index| format!("d/{index}")).collect();
    for key in &keys {
        server.put("bucket", key, b"x").unwrap();
    }
    server.put("bucket", "stays", b"x").unwrap();
    connect(&server).delete_iter(keys).await.unwrap();
    assert_eq!(server.keys("bucket", ""), ["stays"]);
}

#[tokio::test]
async fn errors_carry_the_codes_of_s3() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let endpoint = server.endpoint();
    let good = server.secret_key();
    let said = |error: opendal::Error| format!("{error:?}");

    let error = connect(&server).read("nothing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(said(error).contains("NoSuchKey"));
    let error = client(&endpoint, "no-such-bucket", good).read("k").await.unwrap_err();
    assert!(said(error).contains("NoSuchBucket"));
    let error = client(&endpoint, "bucket", "wrong").read("k").await.unwrap_err();
    assert!(said(error).contains("SignatureDoesNotMatch"));

    let options = Options { access_key: "another".into(), ..Options::default() };
    let other_dir = tempfile::tempdir().unwrap();
    let other = S3Server::start(other_dir.path(), options).unwrap();
    let error = client(&other.endpoint(), "bucket", good).read("k").await.unwrap_err();
    assert!(said(error).contains("InvalidAccessKeyId"));
}

#[tokio::test]
async fn a_restart_keeps_everything_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    let addr = server.addr();
    let op = connect(&server);
    op.write_with("k", "hello").content_type("text/x-test").await.unwrap();
    op.write("deleted", "x").await.unwrap();
    op.delete("deleted").await.unwrap();
    let mut writer = op.writer_with("parts").chunk(5 * MIB).await.unwrap();
    writer.write(Buffer::from(vec![7; 11 * MIB])).await.unwrap();
    drop(server);
    assert!(op.read("k").await.is_err(), "the port is closed");

    let orphan = dir.path().join("blobs/05/1000005");
    std::fs::write(&orphan, "of a killed upload").unwrap();
    let torn = br#"{"Put":{"bucket":"bucket","key":"torn","#;
    std::io::Write::write_all(
        &mut std::fs::OpenOptions::new().append(true).open(dir.path().join("log")).unwrap(),
        torn,
    )
    .unwrap();
    let server = S3Server::start(dir.path(), Options { addr, ..Options::default() }).unwrap();
    assert!(!orphan.exists());
    assert_eq!(op.read("k").await.unwrap().to_bytes(), "hello");
    assert_eq!(op.stat("k").await.unwrap().content_type(), Some("text/x-test"));
    assert_eq!(server.keys("bucket", ""), ["k"]);
    writer.close().await.unwrap();
    assert_eq!(server.get("bucket", "parts").unwrap().unwrap(), vec![7; 11 * MIB]);
}

#[test]
fn a_damaged_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(start(&dir));
    std::fs::write(dir.path().join("log"), "not a log\n").unwrap();
    assert!(S3Server::start(dir.path(), Options::default()).is_err());
}
