//! Masters that were away too long, that lost their disks, that come and go.

use crate::support::{Group, MASTERS, PATIENCE};
use crate::{content, path, write_and_count};
use client::{FileSystem, MakeDirectory, WriteOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use testkit::eventually_async;
use types::{Mode, WriteType};

/// The log is cut early, so that who is away for a moment needs a snapshot.
const SHORT_LOG: [&str; 3] = [
    "goosefs.master.journal.checkpoint.period.entries=50",
    "goosefs.master.embedded.journal.retained.entries=50",
    "goosefs.master.journal.log.size.bytes.max=64KB",
];
const HOW: MakeDirectory = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };

pub async fn make(fs: &FileSystem, prefix: &str, count: usize) {
    for n in 0..count {
        fs.make_directory(&path(&format!("/{prefix}{n}")), HOW).await.expect("made");
    }
}

/// Writes a file to the cache alone.
pub async fn cache(fs: &FileSystem, name: &str, data: &[u8]) {
    let options = WriteOptions { write_type: Some(WriteType::MustCache), ..WriteOptions::default() };
    let mut writer = fs.create(&path(name), options).await.expect("created");
    writer.write(data).await.expect("written");
    writer.close().await.expect("closed");
}

/// What a file holds, if it can be read now.
pub async fn cached(fs: &FileSystem, name: &str) -> Option<Vec<u8>> {
    let mut reader = fs.open(&path(name)).await.ok()?;
    let mut data = Vec::new();
    while let Some(chunk) = reader.next_chunk().await.ok()? {
        data.extend_from_slice(&chunk);
    }
    Some(data)
}

/// Makes a master the leader and sees that everything is there: it has the whole state.
async fn has_everything(group: &Group, n: usize, fs: &FileSystem, count: usize) {
    if group.leader() != n {
        group.run(&["fsadmin", "journal", "quorum", "elect", "-address", &group.journal_address(n)]);
    }
    assert_eq!(group.leader(), n);
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len(), count);
}

async fn comes_back_by_snapshot(metastore: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::start(dir.path(), &[&SHORT_LOG[..], &[metastore]].concat());
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    let away = (group.leader() + 1) % MASTERS;
    group.kill9(away);
    make(&fs, "a", 1500).await;
    group.run(&["fsadmin", "journal", "checkpoint"]);
    group.start_master(away);
    group.caught_up(away);
    assert!(group.master(away).output().contains("a snapshot took the place of the state"), "by snapshot");
    make(&fs, "b", 20).await;
    group.caught_up(away);
    has_everything(&group, away, &fs, 1520).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_was_away_too_long_for_the_log_gets_a_snapshot() {
    comes_back_by_snapshot("goosefs.master.metastore=ROCKS").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_with_its_metadata_in_memory_gets_a_snapshot_too() {
    comes_back_by_snapshot("goosefs.master.metastore=HEAP").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_lost_its_disk_is_replaced_by_one_command_while_the_others_serve() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::start(dir.path(), &SHORT_LOG);
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    make(&fs, "a", 300).await;
    let lost = (group.leader() + 1) % MASTERS;
    let address = group.journal_address(lost);
    group.kill9(lost);
    group.lose_disk(lost);
    group.format_master(lost, &["--join"]);
    group.start_master(lost);
    group.master(lost).wait_for_line("waits to be taken into a group", PATIENCE).expect("it has no id");
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let maker = tokio::spawn(write_and_count(fs.clone(), stop.clone(), done.clone()));
    let replaced = group.run(&["fsadmin", "journal", "quorum", "replace", "-address", &address]);
    assert!(replaced.contains("has caught up and votes"), "{replaced}");
    stop.store(true, Ordering::Relaxed);
    let made = usize::try_from(maker.await.expect("no call failed")).expect("few");
    let info = group.run(&["fsadmin", "journal", "quorum", "info", "--json"]);
    // Both streams are in it: a warning about the environment may stand before.
    let info = info.lines().find(|line| line.starts_with('{')).expect("one line of json");
    let info: serde_json::Value = serde_json::from_str(info).expect("json");
    let mut members: Vec<(u64, String)> = info["members"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| (member["id"].as_u64().expect("an id"), member["address"].as_str().expect("text").to_owned()))
        .collect();
    members.sort_unstable();
    assert_eq!(members.len(), MASTERS);
    assert_eq!(members[2], (4, address), "a blank disk never takes an old id");
    // Its vote counts: with another one gone, it and the third go on.
    group.caught_up(lost);
    has_everything(&group, lost, &fs, 300 + made).await;
    let other = (lost + 1) % MASTERS;
    group.kill9(other);
    make(&fs, "z", 10).await;
    // And it starts again as what it is.
    group.start_master(other);
    group.caught_up(other);
    group.kill9(lost);
    group.leader();
    group.start_master(lost);
    group.caught_up(lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_while_it_fetches_or_installs_gets_there_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let slow = "goosefs.master.embedded.journal.snapshot.bandwidth=200KB";
    let mut group = Group::start(dir.path(), &[&SHORT_LOG[..], &[slow]].concat());
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    let away = (group.leader() + 1) % MASTERS;
    group.kill9(away);
    let lines = ["fetching a snapshot", "the snapshot is here", "beginning anew from the snapshot"];
    for (round, line) in lines.iter().enumerate() {
        // The kill before may have come too late: then it is too far behind again.
        make(&fs, &format!("a{round}-"), 1000).await;
        group.run(&["fsadmin", "journal", "checkpoint"]);
        group.start_master(away);
        // What it has fetched it installs at its next start, and the leader keeps the log from there on: it may get there so.
        let is_on_its_way = || async { group.master(away).output().contains(line) || group.has_caught_up(away) };
        eventually_async(PATIENCE, is_on_its_way).await;
        group.kill9(away);
    }
    group.start_master(away);
    group.caught_up(away);
    has_everything(&group, away, &fs, 1000 * lines.len()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_removed_and_what_it_says_counts_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::start(dir.path(), &[]);
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    let leader = group.leader();
    let refused = group
        .try_run(&["fsadmin", "journal", "quorum", "remove", "-address", &group.journal_address(leader)])
        .expect_err("it leads");
    assert!(refused.contains("hand the lead over first"), "{refused}");
    let gone = (leader + 1) % MASTERS;
    let removed = group.run(&["fsadmin", "journal", "quorum", "remove", "-address", &group.journal_address(gone)]);
    assert!(removed.contains("is no longer one of the masters"), "{removed}");
    make(&fs, "a", 10).await;
    let info = group.run(&["fsadmin", "journal", "quorum", "info"]);
    assert!(!info.contains(&group.journal_address(gone)), "{info}");
    // It is told, sooner or later: by the log, or by the others at the next connection.
    eventually_async(PATIENCE, || async { group.master(gone).output().contains("was removed from the group") }).await;
    group.stop_or_ended(gone);
    assert_eq!(group.leader(), leader, "the others go on");
    make(&fs, "b", 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_call() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::start(dir.path(), &[]);
    one_after_the_other(&mut group).await;
}

/// From the program that GOOSEFS_OLD_BIN names, which `cargo xtask nightly` builds from an older commit; else from the program
/// under test itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_fails_no_call() {
    let old = std::env::var_os("GOOSEFS_OLD_BIN").map_or_else(crate::support::own_program, Into::into);
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::format_by(old, dir.path());
    group.start_all();
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    cache(&fs, "/kept", &content(1)).await;
    group.program = crate::support::own_program();
    one_after_the_other(&mut group).await;
    // The workers come last.
    group.restart_workers();
    eventually_async(PATIENCE, || async { cached(&fs, "/kept").await.is_some_and(|data| data == content(1)) }).await;
    make(&fs, "after", 10).await;
}

/// Stops every master and starts it again by the program that the group has now, one at a time, while a client writes.
async fn one_after_the_other(group: &mut Group) {
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    let raised = |group: &Group, n| group.master(n).output().contains("every master can apply newer rules");
    testkit::eventually(PATIENCE, || (0..MASTERS).any(|n| raised(group, n)));
    let there_before = fs.list_all(&path("/")).await.expect("listed").len() as u64;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let maker = tokio::spawn(write_and_count(fs.clone(), stop.clone(), done.clone()));
    for n in 0..MASTERS {
        let before = done.load(Ordering::Relaxed);
        eventually_async(PATIENCE, || async {
            assert!(!maker.is_finished(), "a call failed");
            done.load(Ordering::Relaxed) > before + 10
        })
        .await;
        let led = group.leader() == n;
        let output = group.stop_master(n);
        assert!(!led || output.contains("the lead was handed over"), "{output}");
        group.start_master(n);
        group.caught_up(n);
    }
    stop.store(true, Ordering::Relaxed);
    let made = maker.await.expect("no call failed");
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len() as u64, there_before + made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_of_three_goes_on_alone_by_an_operators_word_and_takes_new_masters_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::start(dir.path(), &[]);
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    make(&fs, "a", 50).await;
    cache(&fs, "/kept", &content(1)).await;
    let survivor = (group.leader() + 1) % MASTERS;
    let lost = [(survivor + 1) % MASTERS, (survivor + 2) % MASTERS];
    // What the two acknowledged, the third need not have heard yet.
    group.caught_up(survivor);
    group.kill9(survivor);
    // What only the others know of.
    cache(&fs, "/lost", &content(2)).await;
    for n in lost {
        group.kill9(n);
        group.lose_disk(n);
    }
    group.start_master_with(survivor, &["--recover-from-quorum-loss"]);
    assert_eq!(group.leader(), survivor);
    let said = group.master(survivor).output();
    assert!(said.contains("RECOVERING FROM A LOST QUORUM") && said.contains("RECOVERED FROM A LOST QUORUM"), "{said}");
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len(), 51, "all that it had heard of");
    make(&fs, "b", 10).await;
    // The worker goes on with it. Blocks of files it does not know are not freed: they may be the only copy.
    eventually_async(PATIENCE, || async { cached(&fs, "/kept").await.is_some_and(|data| data == content(1)) }).await;
    let quarantined = |group: &Group| {
        let found = group.try_run(&["fsadmin", "doctor", "quarantine"]);
        found.is_err_and(|listed| listed.contains(": 1 blocks of 1 files, "))
    };
    testkit::eventually(PATIENCE, || quarantined(&group));
    cache(&fs, "/later", &content(3)).await;
    assert!(cached(&fs, "/later").await.is_some_and(|data| data == content(3)), "it has a file id of its own");
    for n in lost {
        group.format_master(n, &["--join"]);
        group.start_master(n);
        let added = group.run(&["fsadmin", "journal", "quorum", "add", "-address", &group.journal_address(n)]);
        assert!(added.contains("has caught up and votes"), "{added}");
    }
    // They are a group again: the survivor may go, and comes back without a flag.
    group.kill9(survivor);
    group.leader();
    make(&fs, "c", 10).await;
    group.start_master(survivor);
    group.caught_up(survivor);
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len(), 72);
    assert!(quarantined(&group), "still there");
}
