use super::{key, pattern, put};
use crate::error::Failure;
use crate::store::UnderStore;
use std::sync::Arc;
use types::Fingerprint;

pub(super) async fn ranges_are_exact(store: Arc<dyn UnderStore>) {
    let content = pattern(3_000_000, 1);
    put(&*store, "o", content.clone()).await;
    let end: u64 = 3_000_000;
    for range in [0..1, 0..end, 1..2, 999_999..2_000_001, end - 1..end, 17..17, end..end] {
        let read = store.read(&key("o"), range.clone(), None).await.expect("a read").collect().await.expect("bytes");
        let index = |at: u64| usize::try_from(at).expect("small");
        assert_eq!(read, content.slice(index(range.start)..index(range.end)), "{range:?}");
    }
}

pub(super) async fn a_range_outside_is_an_error(store: Arc<dyn UnderStore>) {
    put(&*store, "o", "0123456789").await;
    for range in [0..11, 9..11, 10..11, 100..200] {
        let outcome = match store.read(&key("o"), range.clone(), None).await {
            Ok(read) => read.collect().await,
            Err(error) => Err(error),
        };
        let error = outcome.expect_err("more than there is");
        assert!(matches!(error.failure(), Failure::Short { .. }), "{range:?}: {error}");
    }
}

pub(super) async fn a_condition_pins_the_version(store: Arc<dyn UnderStore>) {
    let old = put(&*store, "o", "first version").await;
    let read = store.read(&key("o"), 0..5, old.fingerprint.as_ref()).await.expect("the version known");
    assert_eq!(read.fingerprint, old.fingerprint);
    assert_eq!(read.collect().await.expect("bytes"), "first");
    put(&*store, "o", "other version").await;
    let error = store.read(&key("o"), 0..5, old.fingerprint.as_ref()).await.expect_err("it has changed");
    assert!(error.is_changed(), "{error}");
    put(&*store, "o", "").await;
    let error = store.read(&key("o"), 0..5, old.fingerprint.as_ref()).await.expect_err("it has changed");
    assert!(error.is_changed(), "{error}");
    let error = store.read(&key("o"), 0..5, Some(&Fingerprint::Etag("no such".into()))).await.expect_err("never was");
    assert!(error.is_changed(), "{error}");
}

pub(super) async fn fingerprints_agree_and_tell_versions_apart(store: Arc<dyn UnderStore>) {
    let mut seen = Vec::new();
    for at in 0..8u8 {
        let written = put(&*store, "d/o", vec![at; 4]).await;
        let fingerprint = written.fingerprint.clone().expect("a file has a fingerprint");
        let looked = store.stat(&key("d/o")).await.expect("a look").expect("it is there");
        assert_eq!(looked.fingerprint.as_ref(), Some(&fingerprint), "stat after write");
        let listed = store.list(&key("d/"), None, 10).await.expect("a page").entries;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].fingerprint.as_ref(), Some(&fingerprint), "list after write");
        let listed = store.list_recursive(&key("d/"), None, 10).await.expect("a page").entries;
        assert_eq!(listed[0].fingerprint.as_ref(), Some(&fingerprint), "recursive list after write");
        let read = store.read(&key("d/o"), 0..4, None).await.expect("a read");
        assert_eq!(read.fingerprint.as_ref(), Some(&fingerprint), "read after write");
        assert!(!seen.contains(&fingerprint), "version {at} looks like an older one");
        seen.push(fingerprint);
    }
}

pub(super) async fn what_is_not_there_is_not_found(store: Arc<dyn UnderStore>) {
    put(&*store, "d/f", "x").await;
    for name in ["nowhere", "d/nothing", "x/y/z"] {
        let error = store.read(&key(name), 0..1, None).await.expect_err("nothing to read");
        assert!(error.is_not_found(), "{name}: {error}");
        assert_eq!(store.stat(&key(name)).await.expect("a look"), None, "{name}");
    }
    assert!(store.read(&key("d/"), 0..1, None).await.is_err(), "a directory was read");
    assert!(store.read(&key("d"), 0..1, None).await.is_err(), "a directory was read");
    let found = |name: &'static str| {
        let store = store.clone();
        async move { store.stat(&key(name)).await.expect("a look").map(|info| info.key.to_string()) }
    };
    assert_eq!(found("d").await.as_deref(), Some("d/"));
    assert_eq!(found("d/").await.as_deref(), Some("d/"));
    assert_eq!(found("d/f").await.as_deref(), Some("d/f"));
    assert_eq!(found("d/f/").await, None, "a file is no directory");
    assert_eq!(found("d/f/g").await, None, "a file holds nothing");
}
