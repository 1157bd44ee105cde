//! What only a local directory has: links, other file types, temporary files, files changed in place.

mod support;

use bytes::Bytes;
use futures::StreamExt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use support::local;
use types::{ErrorKind, Mode, UnixMs};
use ufs::conformance::{get, key, put};
use ufs::{Failure, UnderStore, WriteOptions};

fn base() -> (tempfile::TempDir, Arc<dyn UnderStore>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = local(dir.path());
    (dir, store)
}

async fn listed(store: &Arc<dyn UnderStore>, dir: &str) -> (Vec<String>, u64, Vec<String>) {
    let page = store.list(&key(dir), None, 100).await.expect("a page");
    let names = page.entries.iter().map(|info| info.key.to_string()).collect();
    (names, page.skipped.count, page.skipped.samples.into_iter().map(|sample| sample.key).collect())
}

#[tokio::test]
async fn links_count_as_what_they_point_to_while_that_is_inside() {
    let (dir, store) = base();
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), "hidden").expect("a file");
    put(&*store, "real/f", "content").await;
    let at = |name: &str| dir.path().join(name);
    symlink(at("real"), at("inside")).expect("a link");
    symlink("real/f", at("file")).expect("a link");
    symlink(outside.path(), at("outside")).expect("a link");
    symlink(outside.path().join("secret"), at("stolen")).expect("a link");
    symlink("nowhere", at("dangling")).expect("a link");
    symlink(".", at("loop")).expect("a link");

    let (names, skipped, samples) = listed(&store, "").await;
    assert_eq!(names, ["file", "inside/", "loop/", "real/"]);
    assert_eq!((skipped, samples.as_slice()), (3, ["dangling", "outside", "stolen"].map(String::from).as_slice()));
    assert_eq!(get(&*store, "inside/f").await, "content");
    assert_eq!(get(&*store, "file").await, "content");
    for name in ["outside", "stolen", "outside/secret"] {
        let error = store.stat(&key(name)).await.expect_err("it leads outside");
        assert!(error.to_string().contains("leads outside"), "{error}");
        assert!(store.read(&key(name), 0..1, None).await.is_err());
    }
    assert!(store.write(&key("outside/new"), WriteOptions::default()).await.is_err());
    assert!(!outside.path().join("new").exists());

    // In a tree a link is a leaf, so that removing the tree removes the link and not what it points to.
    let tree = store.list_recursive(&key(""), None, 100).await.expect("a page");
    let names: Vec<_> = tree.entries.iter().map(|info| info.key.as_str()).collect();
    assert_eq!(names, ["file", "inside", "loop", "real/", "real/f"]);
    store.delete(&key("inside"), None).await.expect("the link goes");
    assert_eq!(get(&*store, "real/f").await, "content");
}

#[tokio::test]
async fn what_is_neither_file_nor_directory_is_skipped_and_never_waited_for() {
    let (dir, store) = base();
    let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    fs::write(dir.path().join("f"), "x").expect("a file");
    assert_eq!(listed(&store, "").await, (vec!["f".into()], 1, vec!["pipe".into()]));
    let error = store.read(&key("pipe"), 0..1, None).await.expect_err("a pipe is not read");
    assert!(error.to_string().contains("neither a file nor a directory"), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn names_that_are_not_utf8_are_skipped_and_counted() {
    use std::os::unix::ffi::OsStrExt;
    let (dir, store) = base();
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "x").expect("a file");
    fs::write(dir.path().join("good"), "x").expect("a file");
    let (names, skipped, _) = listed(&store, "").await;
    assert_eq!((names, skipped), (vec!["good".to_owned()], 1));
}

#[tokio::test]
async fn a_base_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("file"), "x").expect("a file");
    for (name, words) in [("missing", "No such file or directory"), ("file", "it is not a directory")] {
        let store = local(&dir.path().join(name));
        let error = store.check().await.expect_err("it cannot be used");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), ErrorKind::Precondition);
        assert!(store.stat(&key("x")).await.is_err(), "a missing base is not an empty one");
        assert!(store.list(&key(""), None, 1).await.is_err(), "a missing base is not an empty one");
        assert!(store.delete(&key("x"), None).await.is_err(), "a missing base is not an empty one");
        assert!(store.write(&key("x"), WriteOptions::default()).await.is_err());
    }
    let base = dir.path().join("gone");
    fs::create_dir(&base).expect("a base");
    let store = local(&base);
    put(&*store, "f", "x").await;
    fs::remove_dir_all(&base).expect("removed");
    let error = store.stat(&key("f")).await.expect_err("the base is gone, not the file");
    assert!(matches!(error.failure(), Failure::NoStore { .. }), "{error}");
}

#[tokio::test]
async fn unfinished_files_are_hidden_and_swept_when_old() {
    let (dir, store) = base();
    let mut writer = store.write(&key("d/f"), WriteOptions::default()).await.expect("a writer");
    writer.write(Bytes::from(vec![0; 3 << 20])).await.expect("a write");
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "one temporary file, and no parent yet");
    assert_eq!(listed(&store, "").await, (vec![], 0, vec![]));
    fs::write(dir.path().join(".goosefs-tmp-of-a-crash"), "x").expect("a file");

    assert_eq!(store.sweep(UnixMs(0)).await, Ok(0), "younger ones may be somebody's");
    let later = fs::metadata(dir.path().join(".goosefs-tmp-of-a-crash")).expect("there").modified().expect("a time");
    let later = later.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() + 10_000;
    drop(writer);
    testkit::try_eventually_async(std::time::Duration::from_secs(10), async || {
        fs::read_dir(dir.path()).expect("a directory").count() == 1
    })
    .await
    .expect("the dropped writer removes its file");
    assert_eq!(store.sweep(UnixMs(later.try_into().expect("this century"))).await, Ok(1));
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[tokio::test]
async fn a_file_overwritten_in_place_while_it_is_read_is_an_error() {
    let (dir, store) = base();
    let info = put(&*store, "f", vec![1; 5 << 20]).await;
    let read = store.read(&key("f"), 0..5 << 20, info.fingerprint.as_ref()).await.expect("a read");
    let mut body = read.body;
    body.next().await.expect("a chunk").expect("bytes");
    fs::write(dir.path().join("f"), vec![2; 5 << 20]).expect("overwritten in place");
    let rest: Vec<_> = body.collect().await;
    let error = rest.into_iter().find_map(Result::err).expect("two versions must not be mixed");
    assert!(error.is_changed(), "{error}");
}

#[tokio::test]
async fn what_is_in_the_way_is_named_at_the_beginning() {
    let (_dir, store) = base();
    put(&*store, "f", "x").await;
    store.make_dir(&key("d/"), None).await.expect("a directory");
    let error = store.write(&key("f/below"), WriteOptions::default()).await.expect_err("a file holds nothing");
    assert_eq!(*error.failure(), Failure::NotDirectory);
    assert_eq!(error.kind(), ErrorKind::Precondition);
    let error = store.write(&key("d"), WriteOptions::default()).await.expect_err("a directory is there");
    assert_eq!(*error.failure(), Failure::IsDirectory);
    let error = store.delete(&key("d"), None).await.expect_err("a directory is not a file");
    assert_eq!(*error.failure(), Failure::IsDirectory);
    assert!(store.delete_dir(&key("")).await.is_err(), "the base was removed");
}

#[tokio::test]
async fn a_mode_is_set_when_asked_for() {
    let (_dir, store) = base();
    let options = WriteOptions { mode: Some(Mode::new(0o604)), ..WriteOptions::default() };
    let mut writer = store.write(&key("f"), options).await.expect("a writer");
    assert_eq!(writer.finish().await.expect("the end").mode, Some(Mode::new(0o604)));
    store.make_dir(&key("d/e/"), Some(Mode::new(0o711))).await.expect("a directory");
    assert_eq!(store.stat(&key("d/e")).await.expect("a look").expect("there").mode, Some(Mode::new(0o711)));
}

/// More names than one scan keeps.
#[tokio::test]
async fn a_directory_larger_than_a_window_is_listed_completely() {
    let (dir, store) = base();
    const COUNT: usize = 70_000;
    fill(&dir.path().join("d"), COUNT);
    let (mut after, mut seen, mut last) = (None, 0, String::new());
    loop {
        let page = store.list(&key("d/"), after.as_ref(), 10_000).await.expect("a page");
        for info in &page.entries {
            assert!(info.key.as_str() > last.as_str(), "{} after {last}", info.key);
            last = info.key.to_string();
        }
        seen += page.entries.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, COUNT);
}

fn fill(dir: &Path, count: usize) {
    fs::create_dir(dir).expect("a directory");
    fs::write(dir.join("first"), "").expect("a file");
    for at in 1..count {
        let target = dir.join(format!("{at:06}"));
        // Links to one file are quicker to make than files, but a file takes only so many names.
        match fs::hard_link(dir.join("first"), &target) {
            Ok(()) => {}
            Err(_) => fs::write(target, "").expect("a file"),
        }
    }
}

#[test]
fn an_upload_given_up_while_it_ends_does_not_appear_later() {
    // One thread for what blocks, and it is busy.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        let (dir, store) = base();
        let mut writer = store.write(&key("d/f"), WriteOptions::default()).await.expect("a writer");
        writer.write(Bytes::from_static(b"late")).await.expect("taken");
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || busy.recv());
        let mut end = writer.finish();
        assert!(futures::poll!(end.as_mut()).is_pending(), "it waits for the thread");
        drop(end);
        free.send(()).expect("it waits");
        held.await.expect("no panic").expect("a word");
        // Asked after it on the same thread.
        assert_eq!(store.stat(&key("d/f")).await.expect("an answer"), None);
        assert!(!dir.path().join("d").exists());
        drop(writer);
        assert_eq!(store.stat(&key("d")).await.expect("an answer"), None);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0, "nothing of it is left");
    });
}
