use super::{get, key, names, put};
use crate::error::Failure;
use crate::store::{Attributes, Removal, UnderStore};
use std::sync::Arc;
use types::{Fingerprint, Mode};

pub(super) async fn delete_takes_only_what_is_expected(store: Arc<dyn UnderStore>) {
    let old = put(&*store, "d/o", "old").await.fingerprint;
    let new = put(&*store, "d/o", "newer").await.fingerprint;
    let error = store.delete(&key("d/o"), old.as_ref()).await.expect_err("it has changed");
    assert!(error.is_changed(), "{error}");
    assert_eq!(get(&*store, "d/o").await, "newer");
    assert_eq!(store.delete(&key("d/o"), new.as_ref()).await, Ok(Removal::Deleted));
    assert_eq!(store.stat(&key("d/o")).await, Ok(None));
    assert_eq!(store.delete(&key("d/o"), new.as_ref()).await, Ok(Removal::Missing));
    store.delete(&key("d/o"), None).await.expect("gone is what was wanted");
    store.delete(&key("no/such/way"), None).await.expect("gone is what was wanted");
    put(&*store, "d/o", "x").await;
    assert_eq!(store.delete(&key("d/o"), None).await, Ok(Removal::Deleted));
}

pub(super) async fn directories_come_and_go(store: Arc<dyn UnderStore>) {
    store.make_dir(&key("a/b/c/"), Some(Mode::new(0o750))).await.expect("a directory");
    store.make_dir(&key("a/b/c/"), None).await.expect("it may exist");
    for name in ["a", "a/b", "a/b/c", "a/b/c/"] {
        let info = store.stat(&key(name)).await.expect("a look").expect("a directory");
        assert!(info.key.is_dir(), "{name}");
    }
    assert_eq!(names(&*store, "", 10, false).await, ["a/"]);
    assert_eq!(names(&*store, "a/b/c/", 10, false).await, Vec::<String>::new());
    put(&*store, "a/b/c/f", "x").await;
    if store.capabilities().directories {
        let error = store.delete_dir(&key("a/b/c/")).await.expect_err("it holds a file");
        assert_eq!(*error.failure(), Failure::NotEmpty, "{error}");
        let error = store.make_dir(&key("a/b/c/f/"), None).await.expect_err("a file is in the way");
        assert!(matches!(error.failure(), Failure::NotDirectory | Failure::AlreadyExists), "{error}");
    }
    store.delete(&key("a/b/c/f"), None).await.expect("a delete");
    assert_eq!(store.delete_dir(&key("a/b/c/")).await, Ok(Removal::Deleted));
    assert_eq!(store.stat(&key("a/b/c")).await, Ok(None));
    store.delete_dir(&key("a/b/c/")).await.expect("gone is what was wanted");
}

pub(super) async fn copy_copies_what_is_expected(store: Arc<dyn UnderStore>) {
    let first = put(&*store, "a/o", "content").await;
    put(&*store, "b/o", "in the way").await;
    let copied = store.copy(&key("a/o"), &key("b/o"), first.fingerprint.as_ref()).await.expect("a copy");
    assert_eq!((copied.key.as_str(), copied.length), ("b/o", 7));
    assert_eq!(store.stat(&key("b/o")).await.expect("a look").expect("there").fingerprint, copied.fingerprint);
    assert_eq!(get(&*store, "b/o").await, "content");
    assert_eq!(get(&*store, "a/o").await, "content");
    store.copy(&key("a/o"), &key("new/dir/o"), None).await.expect("parents are made");
    put(&*store, "a/o", "changed").await;
    let error = store.copy(&key("a/o"), &key("c"), first.fingerprint.as_ref()).await.expect_err("it has changed");
    assert!(error.is_changed(), "{error}");
    let never = Fingerprint::Etag("never".into());
    let error = store.copy(&key("a/o"), &key("c"), Some(&never)).await.expect_err("it never was that");
    assert!(error.is_changed(), "{error}");
    assert_eq!(store.stat(&key("c")).await, Ok(None), "a refused copy left something");
    let error = store.copy(&key("nowhere"), &key("c"), None).await.expect_err("nothing to copy");
    assert!(error.is_not_found(), "{error}");
}

pub(super) async fn rename_moves_in_one_step_or_not_at_all(store: Arc<dyn UnderStore>) {
    put(&*store, "d/x/f", "content").await;
    put(&*store, "g", "other").await;
    if !store.capabilities().rename {
        let error = store.rename(&key("d/x/f"), &key("e")).await.expect_err("not this store");
        assert!(matches!(error.failure(), Failure::Unsupported { .. }), "{error}");
        return;
    }
    store.rename(&key("d/x/"), &key("new/y/")).await.expect("a directory moves");
    assert_eq!(get(&*store, "new/y/f").await, "content");
    assert_eq!(store.stat(&key("d/x")).await, Ok(None));
    store.rename(&key("new/y/f"), &key("h")).await.expect("a file moves");
    let error = store.rename(&key("h"), &key("g")).await.expect_err("it never replaces");
    assert_eq!(*error.failure(), Failure::AlreadyExists, "{error}");
    assert_eq!((get(&*store, "h").await, get(&*store, "g").await), ("content".into(), "other".into()));
    let error = store.rename(&key("nowhere"), &key("i")).await.expect_err("nothing to move");
    assert!(error.is_not_found(), "{error}");
    assert!(store.rename(&key("new/"), &key("new/below/")).await.is_err(), "a directory moved into itself");
}

pub(super) async fn attributes_change_where_they_exist(store: Arc<dyn UnderStore>) {
    put(&*store, "f", "x").await;
    let attributes = Attributes { mode: Some(Mode::new(0o640)), ..Attributes::default() };
    if !store.capabilities().modes {
        let error = store.set_attributes(&key("f"), &attributes).await.expect_err("not this store");
        assert!(matches!(error.failure(), Failure::Unsupported { .. }), "{error}");
        return;
    }
    store.set_attributes(&key("f"), &attributes).await.expect("a change");
    let info = store.stat(&key("f")).await.expect("a look").expect("it is there");
    assert_eq!(info.mode, Some(Mode::new(0o640)));
    assert!(info.owner.is_some() && info.group.is_some());
    let same = Attributes { owner: info.owner, group: info.group, mode: None };
    store.set_attributes(&key("f"), &same).await.expect("what it is already");
    let nobody = Attributes { owner: Some("no such user, surely".into()), ..Attributes::default() };
    assert!(store.set_attributes(&key("f"), &nobody).await.is_err());
    let error = store.set_attributes(&key("nowhere"), &attributes).await.expect_err("nothing to change");
    assert!(error.is_not_found(), "{error}");
}
