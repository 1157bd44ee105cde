//! Many paths at once: pages of one log entry each, and one line for each path whatever becomes of the others.

use super::*;
use client::{MakeDirectory, Remove, WriteOptions};
use futures::stream::{self, StreamExt};
use support::path;
use types::{GfsPath, Mode, WriteType};

const MANY: usize = 2_500;

fn names(count: usize, top: &str) -> Vec<String> {
    (0..count).map(|n| format!("{top}/{n}")).collect()
}

#[test]
fn thousands_of_files_are_made_and_removed_by_a_few_entries_of_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let (local, home) = (Local::start(dir.path()), dir.path());
    said(&local, home, &["fs", "mkdir", "/d"]);
    block_on(async {
        let fs = local.client().await;
        let options = WriteOptions { write_type: Some(WriteType::MustCache), ..WriteOptions::default() };
        let all: Vec<GfsPath> = names(MANY, "/d").iter().map(|name| path(name)).collect();
        let before = fs.master_info().await.expect("it answers").applied_index;
        let made: Vec<_> = fs.create_empty(stream::iter(all.clone()), options).collect().await;
        assert!(made.iter().all(|(_, made)| made.is_ok()));
        let listed = fs.list_all(&path("/d")).await.expect("listed");
        assert_eq!(listed.len(), MANY);
        assert!(listed.iter().all(|file| file.completed && file.length == 0));
        let gone: Vec<_> = fs.remove_many(stream::iter(all), Remove::default()).collect().await;
        assert!(gone.iter().all(|(_, gone)| gone.is_ok()));
        assert_eq!(fs.list_all(&path("/d")).await.expect("listed").len(), 0);
        let used = fs.master_info().await.expect("it answers").applied_index - before;
        // Three pages made, three completed, three removed; a little is the master's own.
        assert!((9..40).contains(&used), "{used} entries for {MANY} files");
    });
}

#[test]
fn each_path_has_its_own_line_and_one_that_fails_holds_up_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let (local, home) = (Local::start(dir.path()), dir.path());
    let told = run(&local, home, &["fs", "touch", "/d/a", "/d/b", "/d/a", "/d/c"]);
    assert_eq!(told.status.code(), Some(1));
    let out = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(out, "/d/a has been created\n/d/b has been created\n/d/c has been created\n");
    let errors = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(errors, "goosefs: cannot create /d/a: Path \"/d/a\" already exists.\n");
    for name in ["a", "b", "c"] {
        assert!(local.store().join("d").join(name).exists(), "CACHE_THROUGH is what a file is without another word");
    }

    let told = run(&local, home, &["fs", "rm", "/d/a", "/d/none", "/d", "/d/b"]);
    assert_eq!(told.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&told.stdout), "/d/a has been removed\n/d/b has been removed\n");
    let errors = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(errors.contains("/d/none") && errors.contains("/d is not empty"), "{errors}");
    assert!(!local.store().join("d/a").exists() && local.store().join("d/c").exists());
    said(&local, home, &["fs", "rm", "-R", "/d"]);

    let told = run(&local, home, &["fs", "mkdir", "/x/y", "/x", "/z"]);
    assert_eq!(String::from_utf8_lossy(&told.stdout).lines().count(), 2, "/x was made on the way to /x/y");
    assert_eq!(told.status.code(), Some(1));
}

#[test]
fn files_of_a_store_are_removed_in_pages_and_the_answer_waits_for_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(dir.path());
    let store = local.store().join("s");
    std::fs::create_dir_all(&store).expect("made");
    for n in 0..300 {
        std::fs::write(store.join(n.to_string()), b"content").expect("written");
    }
    block_on(async {
        let fs = local.client().await;
        let mut all: Vec<GfsPath> = names(301, "/s").iter().map(|name| path(name)).collect();
        all.push(path("/s"));
        let told: Vec<_> = fs.remove_many(stream::iter(all), Remove::default()).collect().await;
        let failed: Vec<_> = told.iter().filter(|(_, done)| done.is_err()).collect();
        let paths: Vec<_> = failed.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/s/300"], "it was never there; the directory went when it was empty: {failed:?}");
        testkit::eventually(std::time::Duration::from_secs(30), || !store.exists());
    });
}

#[test]
fn writers_of_one_page_write_each_its_own_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(dir.path());
    block_on(async {
        let fs = local.client().await;
        let how = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
        let tree = ["/t", "/t/a", "/t/b", "/missing/c"].map(path);
        let made: Vec<_> = fs.make_directories(stream::iter(tree), how).collect().await;
        assert_eq!(made.iter().map(|(_, made)| made.is_ok()).collect::<Vec<_>>(), [true, true, true, false]);
        for (kind, write_type) in [WriteType::MustCache, WriteType::CacheThrough, WriteType::Through].iter().enumerate()
        {
            let options = WriteOptions { write_type: Some(*write_type), ..WriteOptions::default() };
            let all: Vec<GfsPath> = (0..40).map(|n| path(&format!("/t/a/{kind}-{n}"))).collect();
            let mut writers = std::pin::pin!(fs.create_many(stream::iter(all), options));
            while let Some((at, writer)) = writers.next().await {
                let mut writer = writer.expect("created");
                writer.write(at.as_str().as_bytes()).await.expect("written");
                writer.close().await.expect("closed");
            }
        }
        for file in fs.list_all(&path("/t/a")).await.expect("listed") {
            let bytes = fs.open(&file.path).await.expect("opens").next_chunk().await.expect("read").expect("some");
            assert_eq!(&bytes[..], file.path.as_str().as_bytes());
        }
    });
}

#[test]
fn a_tree_is_known_after_its_metadata_were_loaded_and_not_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let (local, home) = (Local::start(dir.path()), dir.path());
    let store = local.store().join("s");
    for name in ["a/x", "a/b/y", "z"] {
        let at = store.join(name);
        std::fs::create_dir_all(at.parent().expect("below the store")).expect("made");
        std::fs::write(at, name).expect("written");
    }
    let never = client::Freshness { load: types::LoadMetadata::Never, sync_interval: None };
    let knows = |at: &str| block_on(async { local.client().await.status_with(&path(at), never).await.is_ok() });
    assert_eq!(said(&local, home, &["fs", "loadMetadata", "/s"]), "/s is loaded: 1 directory\n");
    assert!(knows("/s/z") && knows("/s/a") && !knows("/s/a/x"));
    assert_eq!(said(&local, home, &["fs", "loadMetadata", "-R", "/s"]), "/s is loaded: 3 directories\n");
    assert!(knows("/s/a/x") && knows("/s/a/b/y"));
    std::fs::write(store.join("z"), "another length").expect("written");
    std::fs::remove_file(store.join("a/x")).expect("removed");
    said(&local, home, &["fs", "loadMetadata", "-R", "-F", "/s"]);
    assert!(!knows("/s/a/x"));
    let length =
        block_on(async { local.client().await.status_with(&path("/s/z"), never).await.expect("known").length });
    assert_eq!(length, 14);
    let refused = refused(&local, home, &["fs", "loadMetadata", "/none"]);
    assert!(refused.contains("does not exist"), "{refused}");
}
