//! S3 over real HTTP, well and badly behaved.

mod support;

use bytes::Bytes;
use std::time::Duration;
use support::{S3, layered, s3_store};
use testkit::proxy::{Fault, FaultProxy, Protocol, Rule, Side};
use types::ErrorKind;
use ufs::conformance::{get, key, pattern, put};
use ufs::{Failure, LayerOptions, UnderStore, Verb, WriteOptions};

const SOON: Duration = Duration::from_secs(20);

fn proxy(s3: &S3) -> FaultProxy {
    FaultProxy::start(s3.server.addr(), Protocol::Http1).expect("a proxy")
}

#[tokio::test]
async fn a_missing_bucket_a_bad_credential_and_a_dead_endpoint_are_named() {
    let s3 = S3::start();
    let (id, secret) = (s3.server.access_key().to_owned(), s3.server.secret_key().to_owned());
    let missing = s3.store("s3://no-such-bucket");
    for error in [
        missing.check().await.expect_err("no bucket"),
        missing.stat(&key("x")).await.expect_err("no bucket"),
        missing.list(&key(""), None, 10).await.expect_err("no bucket"),
        missing.read(&key("x"), 0..1, None).await.expect_err("no bucket"),
    ] {
        assert!(matches!(error.failure(), Failure::NoStore { .. }), "{error}");
        assert!(error.to_string().contains("NoSuchBucket"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Precondition);
    }
    for (id, secret, code) in
        [(&id[..], "wrong-secret", "SignatureDoesNotMatch"), ("wrong-id", &secret[..], "InvalidAccessKeyId")]
    {
        let store = s3_store("s3://bucket", &s3.server.endpoint(), id, secret);
        let error = store.check().await.expect_err("not let in");
        assert!(matches!(error.failure(), Failure::BadCredential { .. }), "{error}");
        assert!(error.to_string().contains(code), "{error}");
        for hidden in [id, secret] {
            assert!(!error.to_string().contains(hidden) && !format!("{error:?}").contains(hidden), "{error}");
        }
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let store = s3_store("s3://bucket", &format!("http://{free}"), &id, &secret);
    let error = store.check().await.expect_err("nobody listens");
    assert!(matches!(error.failure(), Failure::Unreachable { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn keys_that_cannot_be_paths_are_skipped_and_counted() {
    let s3 = S3::start();
    let over_long = format!("d/{}", "x".repeat(256));
    for raw in ["d/a", "d//b", "d/./c", "d/../e", &over_long, "d/z", "d/sub//x", "d/sub/ok", "/lead", "/lead/x", "d/"] {
        s3.server.put("bucket", raw, b"x").expect("an object");
    }
    let store = s3.store("s3://bucket");
    for limit in [1, 2, 100] {
        let (mut names, mut skipped, mut after) = (Vec::new(), 0, None);
        loop {
            let page = store.list(&key("d/"), after.as_ref(), limit).await.expect("a page");
            names.extend(page.entries.iter().map(|info| info.key.to_string()));
            skipped += page.skipped.count;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(names, ["d/a", "d/sub/", "d/z"], "with a limit of {limit}");
        assert_eq!(skipped, 4, "with a limit of {limit}"); // d//, d/./, d/../ and the long one
    }
    let page = store.list(&key(""), None, 100).await.expect("a page");
    assert_eq!(page.entries.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["d/"]);
    let [sample] = page.skipped.samples.as_slice() else { panic!("one key: {:?}", page.skipped) };
    assert_eq!((page.skipped.count, sample.key.as_str()), (1, "/"));
    assert!(sample.why.starts_with("it begins with a slash"), "{}", sample.why);
    let page = store.list_recursive(&key(""), None, 100).await.expect("a page");
    let names: Vec<_> = page.entries.iter().map(|info| info.key.as_str()).collect();
    assert_eq!(names, ["d/", "d/a", "d/sub/ok", "d/z"]);
    assert_eq!(page.skipped.count, 7);
    // A key that begins with a slash is not the one without: neither is found or removed by the other's name.
    assert_eq!(store.stat(&key("lead")).await, Ok(None));
    store.delete(&key("lead"), None).await.expect("nothing there");
    assert!(s3.server.get("bucket", "/lead").expect("a look").is_some());
}

#[tokio::test]
async fn pages_of_a_large_directory_keep_the_order_of_keys() {
    let s3 = S3::start();
    let mut expected = Vec::new();
    for at in 0..2300 {
        let name = format!("p/{at:05}");
        if at % 3 == 0 {
            s3.server.put("bucket", &format!("{name}/below"), b"").expect("an object");
            expected.push(format!("{name}/"));
        } else {
            s3.server.put("bucket", &name, b"").expect("an object");
            expected.push(name);
        }
    }
    let store = s3.store("s3://bucket/p");
    let expected: Vec<_> = expected.iter().map(|name| &name[2..]).collect();
    for (limit, forget) in [(1000, false), (700, false), (10_000, false), (999, true)] {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            // A fresh store has no cursor: it begins again after the last key.
            let asked = if forget { s3.store("s3://bucket/p") } else { store.clone() };
            let page = asked.list(&key(""), after.as_ref(), limit).await.expect("a page");
            names.extend(page.entries.into_iter().map(|info| info.key.to_string()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(names == expected, "with a limit of {limit}: {} of {} names", names.len(), expected.len());
    }
}

#[tokio::test]
async fn an_interrupted_read_goes_on_where_it_was() {
    let s3 = S3::start();
    let proxy = proxy(&s3);
    let store = layered(s3.store_at("s3://bucket", &proxy.endpoint()), LayerOptions::default());
    let content = pattern(3 << 20, 7);
    let info = put(&store, "o", content.clone()).await;
    let length = info.length;
    for fault in [
        Fault::Cut { side: Side::Response, after_bytes: 1_000_000 },
        Fault::Truncate { after_bytes: 1_500_000 },
        Fault::Length(-1_000_000),
        Fault::Status(503),
        Fault::Status(500),
    ] {
        proxy.inject(Rule::times(2, fault.clone()).method("GET"));
        let read = store.read(&key("o"), 0..length, info.fingerprint.as_ref()).await.expect("a read");
        assert!(read.collect().await.expect("all bytes") == content, "{fault:?}");
        proxy.clear();
    }
    assert!(store.metrics().of(Verb::Read).retries >= 8, "{:?}", store.metrics().of(Verb::Read));

    // Without the layer a short body is an error, not the end.
    let bare = s3.store_at("s3://bucket", &proxy.endpoint());
    for fault in [Fault::Truncate { after_bytes: 100_000 }, Fault::Length(-1000)] {
        proxy.inject(Rule::once(fault.clone()).method("GET"));
        let read = bare.read(&key("o"), 0..length, None).await.expect("a read");
        let error = read.collect().await.expect_err("bytes are missing");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}");
        proxy.clear();
    }
}

#[tokio::test]
async fn an_object_replaced_during_a_read_is_never_mixed() {
    let s3 = S3::start();
    let proxy = proxy(&s3);
    let store = layered(s3.store_at("s3://bucket", &proxy.endpoint()), LayerOptions::default());
    for is_pinned in [true, false] {
        let info = put(&store, "o", vec![1; 2 << 20]).await;
        proxy.inject(Rule::once(Fault::Cut { side: Side::Response, after_bytes: 500_000 }).method("GET"));
        let condition = info.fingerprint.as_ref().filter(|_| is_pinned);
        let read = store.read(&key("o"), 0..info.length, condition).await.expect("a read");
        s3.server.put("bucket", "o", &vec![2; 2 << 20]).expect("replaced behind our back");
        let error = read.collect().await.expect_err("the rest is another version");
        assert!(error.is_changed(), "{error}");
        proxy.clear();
    }
}

#[tokio::test]
async fn an_upload_survives_a_failing_store() {
    let s3 = S3::start();
    let proxy = proxy(&s3);
    let store = layered(s3.store_at("s3://bucket", &proxy.endpoint()), LayerOptions::default());
    let content = pattern(30 << 20, 3);
    for (at, rule) in [
        Rule::times(3, Fault::Status(503)).method("PUT"),
        Rule::times(2, Fault::Cut { side: Side::Request, after_bytes: 1 << 20 }).method("PUT"),
        Rule::times(2, Fault::Status(500)).method("POST"),
        Rule::times(2, Fault::Status(503)).method("HEAD"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = proxy.inject(rule);
        let name = format!("o{at}");
        let mut writer = store.write(&key(&name), WriteOptions::default()).await.expect("a writer");
        for chunk in content.chunks(1 << 20) {
            writer.write(Bytes::copy_from_slice(chunk)).await.expect("a write");
        }
        writer.finish().await.expect("the end");
        assert!(proxy.hits(id) > 0, "rule {at} was never used");
        proxy.clear();
        assert!(get(&store, &name).await == content, "object {at} came back differently");
    }
    assert_eq!(s3.server.open_uploads(), 0);
}

#[tokio::test]
async fn an_upload_given_up_leaves_nothing_in_the_store() {
    let s3 = S3::start();
    let store = s3.store("s3://bucket");
    let begun = async || {
        let mut writer = store.write(&key("o"), WriteOptions::default()).await.expect("a writer");
        for seed in 0..5 {
            writer.write(pattern(8 << 20, seed)).await.expect("a write");
        }
        writer
    };
    let mut aborted = begun().await;
    assert_eq!(s3.server.open_uploads(), 1);
    aborted.abort().await.expect("an end");
    assert_eq!(s3.server.open_uploads(), 0);
    drop(begun().await);
    testkit::try_eventually_async(SOON, async || s3.server.open_uploads() == 0).await.expect("aborted when dropped");
    assert_eq!(s3.server.keys("bucket", ""), Vec::<String>::new());
}

#[tokio::test]
async fn a_store_that_hangs_is_given_up() {
    let s3 = S3::start();
    let proxy = proxy(&s3);
    let options = LayerOptions {
        attempt_timeout: Duration::from_millis(200),
        transfer_timeout: Duration::from_millis(300),
        attempts: 2,
        ..LayerOptions::default()
    };
    let store = layered(s3.store_at("s3://bucket", &proxy.endpoint()), options);
    put(&store, "o", pattern(1 << 20, 1)).await;
    proxy.inject(Rule::always(Fault::Hang { side: Side::Response, after_bytes: 0 }).method("GET").path("/o"));
    let error = store.read(&key("o"), 0..1 << 20, None).await.expect("a beginning").collect().await.expect_err("hangs");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    proxy.clear();
    proxy.inject(Rule::always(Fault::Delay(Duration::from_secs(3))));
    let error = store.stat(&key("o")).await.expect_err("too slow");
    assert!(matches!(error.failure(), Failure::TimedOut { .. }), "{error}");
    let error = store.delete(&key("o"), None).await.expect_err("too slow");
    assert!(matches!(error.failure(), Failure::OutcomeUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_write_raced_by_another_is_refused_by_the_store_itself() {
    let s3 = S3::start();
    let store = s3.store("s3://bucket");
    for length in [10, 20 << 20] {
        let options = WriteOptions { condition: ufs::Condition::Absent, ..WriteOptions::default() };
        let mut first = store.write(&key("o"), options.clone()).await.expect("a writer");
        let mut second = store.write(&key("o"), options).await.expect("a writer");
        first.write(Bytes::from(vec![1; length])).await.expect("a write");
        second.write(Bytes::from(vec![2; length])).await.expect("a write");
        let (first, second) = tokio::join!(first.finish(), second.finish());
        assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1, "{first:?} {second:?}");
        let lost = first.err().or(second.err()).expect("one lost");
        assert!(lost.is_changed() || lost.kind().is_transient(), "{lost}");
        store.delete(&key("o"), None).await.expect("a delete");
    }
}

#[tokio::test]
async fn many_objects_are_told_apart_from_their_directories() {
    let s3 = S3::start();
    for raw in ["a", "a/b", "marker/", "full/", "full/x"] {
        s3.server.put("bucket", raw, b"").expect("an object");
    }
    let store = s3.store("s3://bucket");
    let names = |page: ufs::Page| page.entries.into_iter().map(|info| info.key.to_string()).collect::<Vec<_>>();
    assert_eq!(names(store.list(&key(""), None, 10).await.expect("a page")), ["a", "a/", "full/", "marker/"]);
    assert_eq!(names(store.list(&key("marker/"), None, 10).await.expect("a page")), Vec::<String>::new());
    assert_eq!(names(store.list(&key("full/"), None, 10).await.expect("a page")), ["full/x"]);
    assert!(!store.stat(&key("a")).await.expect("a look").expect("there").key.is_dir(), "the object comes first");
    assert!(store.stat(&key("a/")).await.expect("a look").expect("there").key.is_dir());
    store.delete_dir(&key("full/")).await.expect("the marker goes");
    assert!(store.stat(&key("full")).await.expect("a look").is_some(), "it still holds x");
}

#[tokio::test]
async fn a_key_too_long_for_the_store_is_refused_before_it_is_sent() {
    let s3 = S3::start();
    let store = s3.store("s3://bucket/prefix");
    let long = vec!["x".repeat(250); 5].join("/");
    let error = store.write(&key(&long), WriteOptions::default()).await.map(drop).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("1024"), "{error}");
}
