//! A cluster that has lost all its masters goes on from a backup.

use crate::members::{cache, cached, make};
use crate::support::{Group, MASTERS, PATIENCE};
use crate::{content, path};
use client::{FileSystem, Remove};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use testkit::eventually_async;

/// Runs a backup; where it is.
fn backup(group: &Group, args: &[&str]) -> String {
    let printed = group.run(&[&["fsadmin", "backup", "--json"], args].concat());
    let document =
        printed.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no document: {printed}"));
    let told: serde_json::Value = serde_json::from_str(document).expect("JSON");
    assert!(told["records"].as_u64().is_some_and(|records| records > 50), "{told}");
    told["place"].as_str().expect("a place").to_owned()
}

/// Loses every master, and begins again with one from the backup and two blank ones.
fn restore(group: &mut Group, from: &str, running: bool) {
    for n in 0..MASTERS {
        if running {
            group.kill9(n);
        }
        group.lose_disk(n);
    }
    group.format_master(0, &["--from-backup", from]);
    group.start_master(0);
    assert_eq!(group.leader(), 0);
    for n in 1..MASTERS {
        group.format_master(n, &["--join"]);
        group.start_master(n);
        let added = group.run(&["fsadmin", "journal", "quorum", "add", "-address", &group.journal_address(n)]);
        assert!(added.contains("has caught up and votes"), "{added}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_lost_everything_goes_on_from_a_backup_taken_under_load() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::start(dir.path(), &[]);
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    make(&fs, "a", 50).await;
    cache(&fs, "/kept", &content(1)).await;

    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let (fs, stop, made) = (fs.clone(), stop.clone(), made.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let n = made.load(Ordering::Relaxed);
                make(&fs, &format!("b{n}-"), 1).await;
                made.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    eventually_async(PATIENCE, || async { made.load(Ordering::Relaxed) > 100 }).await;
    let before = made.load(Ordering::Relaxed);
    let place = tokio::task::block_in_place(|| backup(&group, &[]));
    assert!(place.starts_with("file://") && place.contains("/goosefs_backups/goosefs-backup-"), "{place}");
    let after = made.load(Ordering::Relaxed);
    assert!(after > before, "writes go on meanwhile");
    stop.store(true, Ordering::Relaxed);
    load.await.expect("no failed call");

    // What the backup does not know.
    cache(&fs, "/lost", &content(2)).await;
    fs.remove(&path("/a0"), Remove::default()).await.expect("removed");
    tokio::task::block_in_place(|| restore(&mut group, &place, true));

    let names: Vec<String> = fs
        .list_all(&path("/"))
        .await
        .expect("listed")
        .iter()
        .map(|status| status.path.file_name().to_owned())
        .collect();
    for name in (0..50).map(|n| format!("a{n}")).chain((0..before).map(|n| format!("b{n}-0"))) {
        assert!(names.contains(&name), "{name} was acknowledged before the backup");
    }
    eventually_async(PATIENCE, || async { cached(&fs, "/kept").await.is_some_and(|data| data == content(1)) }).await;
    // The blocks of a file it has not heard of are kept, listed, and nobody else's.
    testkit::eventually(PATIENCE, || {
        let found = group.try_run(&["fsadmin", "doctor", "quarantine"]);
        found.is_err_and(|listed| listed.contains(": 1 blocks of 1 files, "))
    });
    cache(&fs, "/later", &content(3)).await;
    assert!(cached(&fs, "/later").await.is_some_and(|data| data == content(3)));
    // They are a group: the restored one may go.
    group.kill9(0);
    group.leader();
    make(&fs, "c", 10).await;

    // Once more, to and from a local disk.
    let local = dir.path().join("backups");
    let local = local.to_str().expect("a plain name");
    group.start_master(0);
    group.caught_up(0);
    let place = backup(&group, &[local, "--local"]);
    assert!(Path::new(&place).is_file(), "{place}");
    restore(&mut group, &place, true);
    assert!(fs.list_all(&path("/")).await.expect("listed").iter().any(|status| status.path.file_name() == "c9"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_cannot_be_written_says_why_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let group = Group::start(dir.path(), &[]);
    let no_dir = dir.path().join("file");
    std::fs::write(&no_dir, b"x").expect("written");
    let why = group.try_run(&["fsadmin", "backup", no_dir.to_str().expect("plain"), "--local"]).expect_err("refused");
    assert!(why.contains("cannot make") && why.contains("file"), "{why}");
    let why = group.try_run(&["fsadmin", "backup", "relative", "--local"]).expect_err("refused");
    assert!(why.contains("no directory of this master's machine"), "{why}");
}
