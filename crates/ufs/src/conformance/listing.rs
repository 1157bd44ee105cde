use super::{get, key, names, pages, put};
use crate::error::Failure;
use crate::store::{ObjectKind, UnderStore};
use std::sync::Arc;

pub(super) async fn an_empty_store_has_only_its_base(store: Arc<dyn UnderStore>) {
    store.check().await.expect("the store is reached");
    let root = store.stat(&key("")).await.expect("a look").expect("the base is there");
    assert_eq!((root.kind, root.key.as_str(), root.length), (ObjectKind::Dir, "", 0));
    assert_eq!(names(&*store, "", 10, false).await, Vec::<String>::new());
    assert_eq!(names(&*store, "", 10, true).await, Vec::<String>::new());
    assert_eq!(store.stat(&key("a")).await.expect("a look"), None);
    assert_eq!(store.stat(&key("a/")).await.expect("a look"), None);
    store.sweep(types::UnixMs(i64::MAX / 2_000_000)).await.expect("a sweep of nothing");
}

/// Neighbours of the slash in byte order are where paging and grouping go wrong.
const LEVEL: &[&str] = &["a!", "a-b", "a/x", "a/y/z", "a0", "b ", "b/c", "zz/1", "zz/2", "é", "ü/x"];

pub(super) async fn one_level_comes_in_key_order_and_exactly_once(store: Arc<dyn UnderStore>) {
    for name in LEVEL {
        put(&*store, name, *name).await;
        put(&*store, &format!("deep/{name}"), *name).await;
    }
    let expected = ["a!", "a-b", "a/", "a0", "b ", "b/", "zz/", "é", "ü/"];
    for limit in [1, 2, 3, 4, 5, 8, 9, 10, 1000] {
        let deep: Vec<String> = expected.iter().map(|name| format!("deep/{name}")).collect();
        assert_eq!(names(&*store, "deep/", limit, false).await, deep, "with a limit of {limit}");
    }
    for (at, name) in expected.iter().enumerate() {
        let behind = store.behind(&key(&format!("deep/{name}")));
        let rest = store.list(&key("deep/"), Some(&behind), 1000).await.expect("a page").entries;
        let rest: Vec<&str> = rest.iter().filter_map(|info| info.key.as_str().strip_prefix("deep/")).collect();
        assert_eq!(rest, expected[at + 1..], "behind {name}");
    }
    assert_eq!(names(&*store, "", 3, false).await, ["a!", "a-b", "a/", "a0", "b ", "b/", "deep/", "zz/", "é", "ü/"]);
    for page in pages(&*store, "deep/", 4, false).await {
        for info in page.entries {
            let is_dir = info.key.is_dir();
            assert_eq!(info.kind, if is_dir { ObjectKind::Dir } else { ObjectKind::File }, "{}", info.key);
            assert_eq!(info.fingerprint.is_none(), is_dir, "{}", info.key);
            assert!(is_dir || info.mtime_ns.is_some(), "{}", info.key);
            let content = info.key.as_str().strip_prefix("deep/").expect("below the directory");
            assert_eq!(info.length, if is_dir { 0 } else { content.len().try_into().expect("short") }, "{}", info.key);
        }
    }
}

pub(super) async fn a_tree_comes_in_key_order_and_exactly_once(store: Arc<dyn UnderStore>) {
    for name in LEVEL {
        put(&*store, &format!("t/{name}"), *name).await;
    }
    store.make_dir(&key("t/empty/"), None).await.expect("a directory");
    put(&*store, "tt", "not below it").await;
    let mut expected: Vec<String> = LEVEL.iter().map(|name| format!("t/{name}")).collect();
    expected.push("t/empty/".into());
    if store.capabilities().directories {
        expected.extend(["t/a/", "t/a/y/", "t/b/", "t/zz/", "t/ü/"].map(String::from));
    }
    expected.sort();
    for limit in [1, 2, 3, 5, 7, 1000] {
        assert_eq!(names(&*store, "t/", limit, true).await, expected, "with a limit of {limit}");
    }
    assert_eq!(names(&*store, "t/zz/", 1, true).await, ["t/zz/1", "t/zz/2"]);
}

pub(super) async fn a_missing_directory_is_an_error(store: Arc<dyn UnderStore>) {
    put(&*store, "f", "x").await;
    let error = store.list(&key("nowhere/"), None, 10).await.expect_err("there is no such directory");
    assert_eq!(*error.failure(), Failure::NotFound, "{error}");
    let error = store.list(&key("f/"), None, 10).await.expect_err("a file is no directory");
    assert!(matches!(error.failure(), Failure::NotFound | Failure::NotDirectory), "{error}");
}

pub(super) async fn a_page_can_be_asked_for_again(store: Arc<dyn UnderStore>) {
    for at in 0..7 {
        put(&*store, &format!("d/{at}"), "x").await;
    }
    let dir = key("d/");
    let first = store.list(&dir, None, 3).await.expect("a page");
    let token = first.next.expect("there is more");
    let second = store.list(&dir, Some(&token), 3).await.expect("a page");
    let again = store.list(&dir, Some(&token), 3).await.expect("the same page");
    assert_eq!(second.entries, again.entries);
    let keys: Vec<_> = second.entries.iter().map(|info| info.key.as_str()).collect();
    assert_eq!(keys, ["d/3", "d/4", "d/5"]);
    put(&*store, "d/6a", "x").await;
    let tail = store.list(&dir, again.next.as_ref(), 3).await.expect("the last page");
    assert!(tail.entries.iter().any(|info| info.key.as_str() == "d/6"), "{:?}", tail.entries);
}

pub(super) async fn names_of_every_kind_survive(store: Arc<dyn UnderStore>) {
    let odd = [
        "with blank",
        " blank at both ends ",
        "ünïcödé 文件 🪿",
        "a+b%20c?d=e&f#g;h:i@j,k",
        "quote'\"back\\tick`",
        "paren(s)[b]{c}<d>^|~*$!",
        "...",
        "-dash",
        "a%2Fb",
        "dir . /file . ",
        " d/ e",
    ];
    for name in odd {
        let info = put(&*store, name, name).await;
        assert_eq!(info.key.as_str(), name);
        assert_eq!(get(&*store, name).await, name, "content of {name:?}");
    }
    let mut expected: Vec<String> = odd.map(String::from).to_vec();
    expected.sort();
    let mut found = names(&*store, "", 4, true).await;
    found.retain(|name| !name.ends_with('/'));
    assert_eq!(found, expected);
    assert_eq!(names(&*store, " d/", 4, false).await, [" d/ e"]);
    for name in odd {
        let to = format!("copies/{name}");
        store.copy(&key(name), &key(&to), None).await.expect("a copy");
        assert_eq!(get(&*store, &to).await, name, "copy of {name:?}");
        store.delete(&key(name), None).await.expect("a delete");
        assert_eq!(store.stat(&key(name)).await.expect("a look"), None, "{name:?} is still there");
    }
}
