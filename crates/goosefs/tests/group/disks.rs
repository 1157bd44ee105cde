//! One of three masters has a disk that is full or fails: clients see no failure, the master says what is wrong, and with a
//! mended disk it is back. If it led, another one does before it ends.

use crate::support::{Call, Group, MASTERS, PATIENCE, fail_next, has_failed, library};
use crate::{path, write_and_count};
use client::FileSystem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use testkit::{eventually, eventually_async, mounts};

/// The master with the small disk.
const SICK: usize = 0;
/// Has calls to a disk fail.
pub const ERRORS: &str = include_str!("disk.c");
/// Operations a client must have had acknowledged at each stage.
const BETWEEN: u64 = 20;

/// Whether the master with the small disk leads when its disk turns bad.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Leads,
    Follows,
}

fn is_led_by_another(group: &Group) -> bool {
    (0..MASTERS).any(|n| n != SICK && group.metric(n, "Master.IsLeader") == Some(1))
}

async fn goes_on(count: &AtomicU64) {
    let before = count.load(Ordering::Relaxed);
    eventually_async(PATIENCE, || async { count.load(Ordering::Relaxed) >= before + BETWEEN }).await;
}

/// Has a client write while `sicken` befalls the master, until that has ended by itself, saying `words`; then mends it.
fn rides_through(mut group: Group, part: Part, words: &[&str], sicken: impl FnOnce(), mend: impl FnOnce()) {
    group.start_all();
    eventually(PATIENCE, || group.is_ready(SICK));
    let chosen = if part == Part::Leads { SICK } else { SICK + 1 };
    if group.leader() != chosen {
        group.run(&["fsadmin", "journal", "quorum", "elect", "-address", &group.journal_address(chosen)]);
        eventually(PATIENCE, || group.leader() == chosen);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let load = tokio::spawn(write_and_count(fs.clone(), stop.clone(), count.clone()));
        goes_on(&count).await;
        sicken();
        eventually(PATIENCE, || is_led_by_another(&group));
        group.master(SICK).wait_for_line("stopped by itself", PATIENCE).expect("it says why");
        let said = group.master(SICK).output();
        let last = said.lines().rev().find(|line| line.contains("stopped by itself")).expect("it was seen");
        words.iter().for_each(|word| assert!(last.contains(word), "{word:?} in {last}"));
        let handed = said.contains("hands the lead over") || said.contains("the lead went to another master");
        // A leader that cannot tell in that moment who could lead says nothing: the others elect one all the same.
        assert!(!handed || part == Part::Leads, "{said}");
        assert!(!said.contains("panicked"), "{said}");
        goes_on(&count).await;
        group.stop_or_ended(SICK);
        mend();
        group.start_master(SICK);
        group.caught_up(SICK);
        stop.store(true, Ordering::Relaxed);
        let made = load.await.expect("no call failed");
        // Its log and its vote count again: with another one gone the group goes on.
        let leader = group.leader();
        group.kill9((0..MASTERS).find(|n| *n != SICK && *n != leader).expect("three"));
        assert_eq!(fs.list_all(&path("/")).await.expect("listed").len() as u64, made, "each directory once");
    });
}

fn sick_place(dir: &Path, name: &str) -> std::path::PathBuf {
    dir.join(format!("master{SICK}")).join(name)
}

/// A disk of `mib` MiB that holds the directory `name` of the sick master, and is full all at once.
fn a_full_disk(part: Part, name: &str, mib: u64, setting: &str, words: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory");
    let place = sick_place(dir.path(), name);
    mounts::in_memory(&place, mib);
    let filler = place.join("somebody-elses");
    let group = Group::format(dir.path(), &[setting]);
    let words = [words, &[place.to_str().expect("text"), "No space left"]].concat();
    let mend = || std::fs::remove_file(&filler).expect("removed");
    rides_through(group, part, &words, || mounts::fill(&filler), mend);
}

const SMALL_FILES: &str = "goosefs.master.journal.log.size.bytes.max=256KB";

#[test]
fn a_leader_whose_journal_disk_is_full_hands_the_lead_over_first_and_comes_back_with_room() {
    mounts::own(
        "disks::a_leader_whose_journal_disk_is_full_hands_the_lead_over_first_and_comes_back_with_room",
        || {
            a_full_disk(Part::Leads, "journal", 4, SMALL_FILES, &["free space", "start it again"]);
        },
    );
}

#[test]
fn a_follower_whose_journal_disk_is_full_ends_unnoticed_and_catches_up_with_room() {
    mounts::own("disks::a_follower_whose_journal_disk_is_full_ends_unnoticed_and_catches_up_with_room", || {
        a_full_disk(Part::Follows, "journal", 4, SMALL_FILES, &["free space", "start it again"]);
    });
}

#[test]
fn a_leader_whose_database_disk_is_full_has_another_one_lead_before_it_ends() {
    mounts::own("disks::a_leader_whose_database_disk_is_full_has_another_one_lead_before_it_ends", || {
        a_full_disk(Part::Leads, "metastore", 32, OFTEN, &[]);
    });
}

#[test]
fn a_leader_whose_disk_breaks_off_has_another_one_lead_before_it_ends() {
    let name = "disks::a_leader_whose_disk_breaks_off_has_another_one_lead_before_it_ends";
    let ran = mounts::own_with_loops(name, || {
        let dir = tempfile::tempdir().expect("a directory");
        let (image, home) = (dir.path().join("disk.ext4"), sick_place(dir.path(), ""));
        mounts::ext4(&image, &home, 128);
        let group = Group::format(dir.path(), &["goosefs.master.journal.log.size.bytes.max=1MB"]);
        let words = [home.join("journal").to_str().expect("text").to_owned(), "repair the disk".to_owned()];
        rides_through(
            group,
            Part::Leads,
            &words.each_ref().map(|word| &**word),
            || mounts::abort(&home),
            || mounts::mend(&image, &home),
        );
    });
    if !ran {
        println!("only the superuser of a machine with loop devices can have a disk break off");
    }
}

/// One call of the sick master to its disk fails, once, and it ends of that.
fn a_single_error(part: Part, call: Call, file: &str, setting: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::format(dir.path(), &[setting]);
    group.preload = Some(library(dir.path(), "disk", ERRORS));
    let home = sick_place(dir.path(), "");
    let words = [home.to_str().expect("text"), "Input/output error"];
    rides_through(
        group,
        part,
        &words,
        || fail_next(dir.path(), SICK, call, file),
        || {
            assert!(has_failed(dir.path(), SICK), "it ended of something else");
        },
    );
}

const OFTEN: &str = "goosefs.master.journal.checkpoint.period.entries=100";

#[test]
fn one_failed_write_to_the_log_ends_the_leader_and_not_the_group() {
    a_single_error(Part::Leads, Call::Write, "journal/segment-", SMALL_FILES);
}

#[test]
fn one_failed_sync_of_the_log_ends_the_leader_and_not_the_group() {
    a_single_error(Part::Leads, Call::Sync, "journal/segment-", SMALL_FILES);
}

#[test]
fn one_failed_sync_of_the_log_ends_a_follower_and_nobody_notices() {
    a_single_error(Part::Follows, Call::Sync, "journal/segment-", SMALL_FILES);
}

#[test]
fn one_failed_write_to_the_database_ends_the_leader_and_not_the_group() {
    a_single_error(Part::Leads, Call::Write, ".sst", OFTEN);
}

#[test]
fn one_failed_sync_of_the_database_ends_the_leader_and_not_the_group() {
    a_single_error(Part::Leads, Call::Sync, ".sst", OFTEN);
}

#[test]
fn one_failed_read_at_a_start_is_named_and_the_next_start_is_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::format(dir.path(), &[OFTEN]);
    group.preload = Some(library(dir.path(), "disk", ERRORS));
    group.start_all();
    group.run(&["fsadmin", "journal", "checkpoint"]);
    group.stop_master(SICK);
    for file in ["journal/segment-", "metastore/"] {
        fail_next(dir.path(), SICK, Call::Read, file);
        group.start_master(SICK);
        let status = group.master(SICK).wait_exit(PATIENCE).expect("it refuses to start");
        let said = group.master(SICK).output();
        assert!(!status.success() && has_failed(dir.path(), SICK), "{said}");
        let last = said.lines().last().expect("it says why");
        let place = sick_place(dir.path(), file.trim_end_matches('/'));
        assert!(last.contains(place.to_str().expect("text")), "{last}");
        assert!(last.contains("Input/output error") && !said.contains("panicked"), "{said}");
        group.stop_or_ended(SICK);
    }
    group.start_master(SICK);
    group.caught_up(SICK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failed_write_to_the_next_file_of_the_log_is_made_good_and_nobody_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::format(dir.path(), &["goosefs.master.journal.log.size.bytes.max=64KB"]);
    group.preload = Some(library(dir.path(), "disk", ERRORS));
    group.start_all();
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = tokio::spawn(write_and_count(fs.clone(), stop.clone(), count.clone()));
    let leader = group.leader();
    goes_on(&count).await;
    fail_next(dir.path(), leader, Call::Write, "journal/filling.tmp");
    eventually_async(PATIENCE, || async { has_failed(dir.path(), leader) }).await;
    eventually_async(PATIENCE, || async { group.master(leader).output().contains("filling.tmp") }).await;
    goes_on(&count).await;
    stop.store(true, Ordering::Relaxed);
    let made = load.await.expect("no call failed");
    (0..MASTERS).for_each(|n| group.caught_up(n));
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len() as u64, made, "each directory once");
    (0..MASTERS).for_each(|n| assert!(group.master(n).exit_status().expect("known").is_none(), "master {n} ended"));
}

/// Waits until the report says, or no longer says, that this disk of the sick master is short of room.
fn is_reported(group: &Group, disk: Option<&str>) {
    let wanted = disk.map(|disk| format!("Short Of Room: {}: the disk of the {disk}", group.journal_address(SICK)));
    eventually(PATIENCE, || {
        let report = group.run(&["fsadmin", "report"]);
        let lines: Vec<&str> = report.lines().map(str::trim).filter(|line| line.starts_with("Short Of Room")).collect();
        if lines == Vec::from_iter(wanted.as_deref()) { Ok(()) } else { Err(report) }
    });
}

fn runs_short_of_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, metastore) = (sick_place(dir.path(), "journal"), sick_place(dir.path(), "metastore"));
    mounts::in_memory(&journal, 4);
    mounts::in_memory(&metastore, 64);
    let mut group = Group::format(dir.path(), &[SMALL_FILES]);
    group.start_all();
    if group.leader() == SICK {
        group.run(&["fsadmin", "journal", "quorum", "elect", "-address", &group.journal_address(SICK + 1)]);
    }
    is_reported(&group, None);
    assert_eq!(group.metric(SICK, "Master.MetastoreDiskShort"), Some(0));
    let filler = metastore.join("somebody-elses");
    mounts::fill(&filler);
    eventually(PATIENCE, || group.metric(SICK, "Master.MetastoreDiskShort") == Some(1));
    // The look that found it short may have come while it was still being filled.
    eventually(PATIENCE, || group.metric(SICK, "Master.MetastoreDiskFreeBytes") == Some(0));
    is_reported(&group, Some("metadata"));
    assert!(group.master(SICK).output().contains("the disk of the metadata is nearly full"));
    std::fs::remove_file(&filler).expect("removed");
    is_reported(&group, None);

    // The log's next file is there already: it is short when that is taken and another one cannot be made.
    let filler = journal.join("somebody-elses");
    mounts::fill(&filler);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let load = tokio::spawn(write_and_count(fs, stop.clone(), count));
        eventually_async(PATIENCE, || async { group.metric(SICK, "Master.JournalDiskShort") == Some(1) }).await;
        stop.store(true, Ordering::Relaxed);
        load.await.expect("no call failed");
    });
    is_reported(&group, Some("journal"));
    std::fs::remove_file(&filler).expect("removed");
    is_reported(&group, None);
    assert_eq!(group.metric(SICK, "Master.JournalDiskShort"), Some(0));
    assert!(group.master(SICK).exit_status().expect("known").is_none(), "it was helped in time");
}

#[test]
fn a_disk_that_runs_short_is_reported_and_counted_before_its_master_ends() {
    let name = "disks::a_disk_that_runs_short_is_reported_and_counted_before_its_master_ends";
    mounts::own(name, runs_short_of_room);
}
