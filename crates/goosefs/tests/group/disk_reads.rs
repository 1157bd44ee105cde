//! One read of a running master's disk fails, once: of its database, of its log, of a snapshot that it sends. Whoever asked is
//! told so or hears it from another master, nothing wrong is answered, and the group goes on.

use crate::disks::ERRORS;
use crate::members::make;
use crate::path;
use crate::support::{Call, Group, MASTERS, PATIENCE, fail_next, has_failed, library};
use client::FileSystem;
use std::path::Path;
use testkit::eventually_async;

/// The database's files are written early and often.
const OFTEN: &str = "goosefs.master.journal.checkpoint.period.entries=100";
/// Directories made before anything fails: more than one block of the database's files.
const MADE: usize = 600;

async fn start(dir: &Path, settings: &[&str]) -> (Group, FileSystem) {
    let mut group = Group::format(dir, settings);
    group.preload = Some(library(dir, "disk", ERRORS));
    group.start_all();
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    (group, fs)
}

/// Has a master lead that has just been started: nothing of its files is in its memory.
fn leads_with_nothing_in_memory(group: &mut Group, n: usize) {
    group.stop_master(n);
    group.start_master(n);
    group.caught_up(n);
    if group.leader() != n {
        group.run(&["fsadmin", "journal", "quorum", "elect", "-address", &group.journal_address(n)]);
    }
    assert_eq!(group.leader(), n);
}

/// A group that has made [`MADE`] directories; the next read of its leader's database fails.
async fn leader_whose_database_fails_next(dir: &Path) -> (Group, FileSystem, usize) {
    let (mut group, fs) = start(dir, &[OFTEN]).await;
    make(&fs, "a", MADE).await;
    let sick = group.leader();
    leads_with_nothing_in_memory(&mut group, sick);
    fail_next(dir, sick, Call::Read, ".sst");
    (group, fs, sick)
}

/// What a client was told is all there, once; the master that heard of the error is well, or says what was wrong and is well
/// after a start.
async fn goes_on(group: &mut Group, fs: &FileSystem, sick: usize, file: &str, count: usize) {
    make(fs, "after", 20).await;
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len(), count + 20, "each directory once");
    let said = group.master(sick).output();
    assert!(!said.contains("panicked"), "{said}");
    if group.master(sick).exit_status().expect("known").is_some() {
        let last = said.lines().rev().find(|line| line.contains("stopped by itself")).expect("it says why");
        assert!(last.contains("Input/output error") && last.contains(file), "{last}");
        group.stop_or_ended(sick);
        group.start_master(sick);
    }
    (0..MASTERS).for_each(|n| group.caught_up(n));
    // Its log and its vote count: with another one gone the group goes on, and under it too.
    let leader = group.leader();
    group.kill9((0..MASTERS).find(|n| *n != sick && *n != leader).expect("three"));
    make(fs, "last", 5).await;
    if leader != sick {
        group.run(&["fsadmin", "journal", "quorum", "elect", "-address", &group.journal_address(sick)]);
    }
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len(), count + 25, "each directory once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failed_read_of_the_database_under_a_listing_gives_no_wrong_list() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut group, fs, sick) = leader_whose_database_fails_next(dir.path()).await;
    match fs.list_all(&path("/")).await {
        Ok(listed) => assert_eq!(listed.len(), MADE, "all of it, or an error"),
        Err(error) => assert!(error.to_string().contains("Input/output error"), "{error}"),
    }
    eventually_async(PATIENCE, || async { has_failed(dir.path(), sick) }).await;
    goes_on(&mut group, &fs, sick, ".sst", MADE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failed_read_of_the_database_under_a_write_ends_that_master_and_not_the_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut group, fs, sick) = leader_whose_database_fails_next(dir.path()).await;
    for n in 0..MADE {
        if has_failed(dir.path(), sick) {
            break;
        }
        let renamed = fs.rename(&path(&format!("/a{n}")), &path(&format!("/renamed{n}"))).await;
        renamed.unwrap_or_else(|error| panic!("it is done once, by this master or the next: {error}"));
    }
    assert!(has_failed(dir.path(), sick), "nothing was read from its files");
    goes_on(&mut group, &fs, sick, ".sst", MADE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failed_read_of_the_log_that_a_follower_is_fed_from_keeps_nobody_from_catching_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut group, fs) = start(dir.path(), &["goosefs.master.journal.log.size.bytes.max=64KB"]).await;
    let sick = group.leader();
    let away = (sick + 1) % MASTERS;
    group.kill9(away);
    make(&fs, "a", MADE).await;
    leads_with_nothing_in_memory(&mut group, sick);
    fail_next(dir.path(), sick, Call::Read, "journal/segment-");
    group.start_master(away);
    eventually_async(PATIENCE, || async { has_failed(dir.path(), sick) }).await;
    group.caught_up(away);
    goes_on(&mut group, &fs, sick, "journal/segment-", MADE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failed_read_of_a_snapshot_that_is_fetched_is_told_and_the_fetch_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = [
        "goosefs.master.journal.checkpoint.period.entries=50",
        "goosefs.master.embedded.journal.retained.entries=50",
        "goosefs.master.journal.log.size.bytes.max=64KB",
    ];
    let (mut group, fs) = start(dir.path(), &settings).await;
    let sick = group.leader();
    let away = (sick + 1) % MASTERS;
    // While it is being made, and while it is being sent: the database itself does not read this file by that call.
    let files = [".partial/", "/MANIFEST-"];
    for (round, file) in files.iter().enumerate() {
        group.kill9(away);
        make(&fs, &format!("a{round}-"), MADE).await;
        group.run(&["fsadmin", "journal", "checkpoint"]);
        fail_next(dir.path(), sick, Call::Read, file);
        group.start_master(away);
        group.caught_up(away);
        assert!(has_failed(dir.path(), sick), "{file} was not read");
        // Once it has more than the snapshot its leader has heard of it, and keeps the log for it no longer.
        make(&fs, &format!("b{round}-"), 1).await;
        group.caught_up(away);
        let said = group.master(away).output();
        let told = said.lines().find(|line| line.contains("fetching the snapshot was interrupted"));
        let told = told.expect("it was told");
        assert!(told.contains("/sent/") && told.contains("Input/output error"), "{told}");
    }
    assert!(group.master(sick).exit_status().expect("known").is_none(), "its state and its log are well");
    goes_on(&mut group, &fs, sick, "/sent/", (MADE + 1) * files.len()).await;
}
