use super::{get, key, names, pattern, put, try_put};
use crate::store::{Condition, UnderStore, WriteOptions};
use bytes::Bytes;
use std::sync::Arc;
use types::Fingerprint;

const MIB: usize = 1 << 20;

pub(super) async fn content_of_any_length_comes_back(store: Arc<dyn UnderStore>) {
    for (at, length) in
        [0, 1, 4095, MIB - 1, MIB, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 21 * MIB + 5].into_iter().enumerate()
    {
        let name = format!("made/up/{length}");
        let content = pattern(length, at.try_into().expect("few"));
        let mut writer = store.write(&key(&name), WriteOptions::default()).await.expect("a writer");
        for chunk in content.chunks(700_001) {
            writer.write(Bytes::copy_from_slice(chunk)).await.expect("a write");
        }
        let written = writer.finish().await.expect("the end");
        assert_eq!(written.length, u64::try_from(length).expect("small"));
        assert_eq!(written.key.as_str(), name);
        let looked = store.stat(&key(&name)).await.expect("a look").expect("it is there");
        assert_eq!(looked.fingerprint, written.fingerprint, "{length} bytes");
        assert!(get(&*store, &name).await == content, "{length} bytes came back differently");
    }
}

pub(super) async fn nothing_is_seen_before_the_end(store: Arc<dyn UnderStore>) {
    put(&*store, "old", "as it was").await;
    let mut fresh = store.write(&key("new"), WriteOptions::default()).await.expect("a writer");
    let mut over = store.write(&key("old"), WriteOptions::default()).await.expect("a writer");
    for seed in 0..3 {
        fresh.write(pattern(8 * MIB, seed)).await.expect("a write");
        over.write(pattern(8 * MIB, seed)).await.expect("a write");
    }
    assert_eq!(names(&*store, "", 10, true).await, ["old"]);
    assert_eq!(store.stat(&key("new")).await.expect("a look"), None);
    assert_eq!(get(&*store, "old").await, "as it was");
    fresh.finish().await.expect("the end");
    over.finish().await.expect("the end");
    assert_eq!(names(&*store, "", 10, true).await, ["new", "old"]);
    assert_eq!(get(&*store, "old").await.len(), 24 * MIB);
}

pub(super) async fn an_abandoned_write_leaves_nothing(store: Arc<dyn UnderStore>) {
    for length in [10, 20 * MIB] {
        let mut aborted = store.write(&key("d/aborted"), WriteOptions::default()).await.expect("a writer");
        let mut dropped = store.write(&key("d/dropped"), WriteOptions::default()).await.expect("a writer");
        for chunk in pattern(length, 1).chunks(5 * MIB) {
            aborted.write(Bytes::copy_from_slice(chunk)).await.expect("a write");
            dropped.write(Bytes::copy_from_slice(chunk)).await.expect("a write");
        }
        aborted.abort().await.expect("an end");
        assert!(aborted.finish().await.is_err(), "an aborted writer finished");
        drop(dropped);
        assert_eq!(names(&*store, "", 10, true).await, Vec::<String>::new());
    }
}

pub(super) async fn many_writers_do_not_disturb_each_other(store: Arc<dyn UnderStore>) {
    let writes = (0..16u8).map(|at| {
        let store = store.clone();
        async move { put(&*store, &format!("p/{}/{at}", at % 3), pattern(100_000, at)).await }
    });
    futures::future::join_all(writes).await;
    for at in 0..16u8 {
        assert!(get(&*store, &format!("p/{}/{at}", at % 3)).await == pattern(100_000, at), "object {at} is mixed up");
    }
}

pub(super) async fn a_condition_guards_the_object(store: Arc<dyn UnderStore>) {
    for length in [3, 17 * MIB] {
        let name = format!("o{length}");
        let with = |condition| WriteOptions { condition, ..WriteOptions::default() };
        let write = |fill: u8, condition| {
            let (store, name) = (store.clone(), name.clone());
            async move { try_put(&*store, &name, vec![fill; length], with(condition)).await }
        };
        let gone = Fingerprint::Etag("gone".into());
        let error = write(0, Condition::Is(gone)).await.expect_err("there is nothing yet");
        assert!(error.is_changed(), "{error}");
        let first = write(1, Condition::Absent).await.expect("nothing is in the way");
        let error = write(2, Condition::Absent).await.expect_err("it is there");
        assert!(error.is_changed(), "{error}");
        assert_eq!(get(&*store, &name).await[0], 1);
        let known = |fingerprint: Option<Fingerprint>| Condition::Is(fingerprint.expect("a fingerprint"));
        let second = write(3, known(first.fingerprint.clone())).await.expect("it is the version known");
        let error = write(4, known(first.fingerprint)).await.expect_err("it has changed");
        assert!(error.is_changed(), "{error}");
        assert_eq!(get(&*store, &name).await[0], 3);
        write(5, known(second.fingerprint)).await.expect("it is the version known");
        assert!(get(&*store, &name).await == vec![5; length], "the last version is not what was written");
    }
}

pub(super) async fn a_directory_cannot_be_written(store: Arc<dyn UnderStore>) {
    assert!(store.write(&key("d/"), WriteOptions::default()).await.is_err());
    assert!(store.write(&key(""), WriteOptions::default()).await.is_err());
}
