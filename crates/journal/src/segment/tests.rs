//! One rule of the segment log per test, over the simulated disk.

use super::*;
use crate::Recovered;
use crate::disk::{DiskOp, SimDisk};
use crate::log::conformance::{self, Reopen, batch};
use std::io;
use types::Term;

const CLUSTER: ClusterId = ClusterId(0xC0FFEE);
const SMALL: SegmentOptions = SegmentOptions { segment_bytes: 4096 };

fn dir() -> &'static Path {
    Path::new("/journal")
}

fn fresh() -> SimDisk {
    let disk = SimDisk::new();
    SegmentLog::format(&disk, dir(), CLUSTER, SMALL, false).expect("an empty directory");
    disk
}

fn open(disk: &SimDisk) -> Result<(SegmentLog<SimDisk>, Recovered), Error> {
    SegmentLog::open(disk.clone(), dir(), Some(CLUSTER), SMALL)
}

fn refusal(disk: &SimDisk) -> Error {
    open(disk).err().expect("the log must not open")
}

/// Appends and syncs entries `from..to`, one batch each, of `bytes` bytes.
fn fill(log: &mut SegmentLog<SimDisk>, from: u64, to: u64, bytes: usize) {
    for index in from..to {
        let payload = vec![u8::try_from(index % 251).unwrap(); bytes];
        log.append(&batch(index, None, &[(index, 1, &payload)], index - 1)).expect("a healthy disk");
        log.sync().expect("a healthy disk");
    }
}

/// A log with three segments of one-sector batches: entries 1 to 16.
fn three_segments() -> SimDisk {
    let disk = fresh();
    fill(&mut open(&disk).unwrap().0, 1, 17, 100);
    assert_eq!(segment_files(&disk).len(), 3);
    disk
}

fn segment_files(disk: &SimDisk) -> Vec<String> {
    disk.list(dir()).unwrap().into_iter().filter(|name| name.starts_with("segment-")).collect()
}

struct OnSimDisk(SimDisk);

impl Reopen for OnSimDisk {
    type Log = SegmentLog<SimDisk>;
    fn open(&mut self) -> (SegmentLog<SimDisk>, Recovered) {
        self.0.crash(self.0.changes());
        open(&self.0).expect("a crash loses nothing that was synced")
    }
}

#[test]
fn the_segment_log_conforms() {
    conformance::log(&mut OnSimDisk(fresh()));
}

#[test]
fn a_batch_costs_one_sync_and_a_write_of_its_own_bytes() {
    let disk = SimDisk::new();
    let options = SegmentOptions { segment_bytes: 1 << 20 };
    SegmentLog::format(&disk, dir(), CLUSTER, options, false).unwrap();
    let (mut log, _) = SegmentLog::open(disk.clone(), dir(), None, options).unwrap();
    let before = disk.changes();
    fill(&mut log, 1, 11, 200);
    assert_eq!(disk.changes() - before, 20, "one write and one sync each");
}

#[test]
fn a_batch_larger_than_a_segment_is_split_and_comes_back_whole() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    let payload = [7; 900];
    let many: Vec<_> = (1..=20).map(|index| (index, 1, &payload[..])).collect();
    log.append(&batch(1, None, &many, 0)).unwrap();
    log.sync().unwrap();
    drop(log);
    disk.crash(1);
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last(), LogIndex(20));
    assert_eq!(log.reader().read(LogIndex(1), LogIndex(21), usize::MAX).unwrap().len(), 20);
}

#[test]
fn an_entry_that_fits_no_segment_is_refused_and_the_log_goes_on() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    let refused = log.append(&batch(1, None, &[(1, 1, &[0; 4096])], 0));
    assert!(matches!(refused, Err(Error::TooBig { .. })));
    fill(&mut log, 1, 2, 10);
}

#[test]
fn purged_segments_are_used_again_and_their_old_batches_never_come_back() {
    let disk = three_segments();
    let (mut log, _) = open(&disk).unwrap();
    log.purge_below(LogIndex(15)).unwrap();
    let recycled: Vec<_> = disk.list(dir()).unwrap().into_iter().filter(|name| name.starts_with("spare-")).collect();
    assert_eq!(recycled.len(), 2);
    let files_before = disk.list(dir()).unwrap().len();
    fill(&mut log, 17, 30, 100);
    assert_eq!(disk.list(dir()).unwrap().len(), files_before, "no new file was made");
    drop(log);
    disk.crash(3);
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last(), LogIndex(29));
    assert_eq!(recovered.hard_state.commit, LogIndex(28));
    let read = log.reader().read(LogIndex(15), LogIndex(30), usize::MAX).unwrap();
    assert!(read.iter().all(|entry| entry.payload[0] == u8::try_from(entry.index.0).unwrap()));
}

#[test]
fn a_torn_last_batch_is_cut_and_the_log_goes_on() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    fill(&mut log, 1, 3, 100);
    drop(log);
    disk.corrupt(&segment_path(dir(), 1), 512 + 512 + 90);
    let (mut log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last(), LogIndex(1));
    assert_eq!(recovered.cut.expect("it was cut").offset, 1024);
    fill(&mut log, 2, 4, 100);
    drop(log);
    assert_eq!(open(&disk).unwrap().1.last(), LogIndex(3));
}

#[test]
fn damage_before_a_later_batch_is_refused_not_cut() {
    let disk = fresh();
    fill(&mut open(&disk).unwrap().0, 1, 4, 100);
    disk.corrupt(&segment_path(dir(), 1), 512 + 512 + 90);
    let error = refusal(&disk);
    assert!(matches!(&error, Error::CutRefused { lost: LogIndex(2), offset: 1024, .. }), "{error}");
    let sentence = error.to_string();
    for part in ["segment-0000000000000001.log", "byte 1024", "log-2", "synced up to log-2", "Restore this member"] {
        assert!(sentence.contains(part), "{part} in: {sentence}");
    }
}

#[test]
fn damage_in_an_older_segment_is_refused_even_in_its_last_batch() {
    let disk = three_segments();
    disk.corrupt(&segment_path(dir(), 1), 512 * 6 + 90);
    assert!(matches!(refusal(&disk), Error::CutRefused { lost: LogIndex(6), .. }));
}

#[test]
fn missing_segments_are_named() {
    for (lost, named) in [(2, 2), (3, 3)] {
        let disk = three_segments();
        disk.lose(&segment_path(dir(), lost));
        match refusal(&disk) {
            Error::MissingSegment { path } => assert_eq!(path, segment_path(dir(), named)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn foreign_newer_and_empty_directories_are_refused_by_sentence() {
    let disk = fresh();
    let foreign = SegmentLog::open(disk.clone(), dir(), Some(ClusterId(5)), SMALL).err().unwrap();
    assert!(foreign.to_string().contains("belongs to cluster-"), "{foreign}");
    let newer = fresh();
    let file = newer.open(&segment_path(dir(), 1)).unwrap();
    // A layout of which nothing but the version is known.
    file.write_at(&[9, 0, 0, 0, 1], 8).unwrap();
    assert!(refusal(&newer).to_string().contains("version 9, this program knows versions up to 1"));
    let empty = SimDisk::new();
    assert!(matches!(refusal(&empty), Error::NotFormatted { .. }));
    empty.create_dir(dir()).unwrap();
    assert!(matches!(refusal(&empty), Error::NotFormatted { .. }));
    let bad_header = fresh();
    bad_header.corrupt(&segment_path(dir(), 1), 200);
    assert!(refusal(&bad_header).to_string().contains("checksum of its header"));
}

#[test]
fn formatting_needs_an_empty_directory_or_force_and_respects_a_running_log() {
    let disk = fresh();
    let format = |force| SegmentLog::format(&disk, dir(), ClusterId(6), SMALL, force);
    assert!(matches!(format(false), Err(Error::NotEmpty { .. })));
    let (log, _) = open(&disk).unwrap();
    assert!(matches!(format(true), Err(Error::Locked { .. })));
    assert!(matches!(refusal(&disk), Error::Locked { .. }));
    drop(log);
    format(true).unwrap();
    let (log, recovered) = SegmentLog::open(disk.clone(), dir(), None, SMALL).unwrap();
    assert_eq!((log.cluster(), recovered.last()), (ClusterId(6), LogIndex(0)));
}

#[test]
fn a_format_that_a_crash_interrupted_can_be_repeated() {
    for stop in 1..20 {
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let first = SegmentLog::format(&disk, dir(), CLUSTER, SMALL, false);
        disk.crash(stop);
        match open(&disk) {
            Ok(_) => {}
            Err(Error::NotFormatted { .. }) => {
                assert!(first.is_err());
                SegmentLog::format(&disk, dir(), CLUSTER, SMALL, false).expect("nothing is in the way");
                open(&disk).expect("formatted");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_failed_sync_or_write_poisons_the_log() {
    for op in [DiskOp::Sync, DiskOp::Write] {
        let disk = fresh();
        let (mut log, _) = open(&disk).unwrap();
        disk.fail_next(op, io::ErrorKind::Other);
        let first = batch(1, None, &[(1, 1, b"x")], 0);
        assert!(matches!(log.append(&first).and_then(|()| log.sync()), Err(Error::Io { .. })));
        assert!(matches!(log.sync(), Err(Error::Poisoned)));
        assert!(matches!(log.append(&first), Err(Error::Poisoned)));
        assert!(matches!(log.purge_below(LogIndex(1)), Err(Error::Poisoned)));
    }
}

/// After a sync that failed, the page cache holds data that the disk does not, marked clean. What the next start reads
/// there must be made durable before it is believed.
#[test]
fn what_a_restart_finds_after_a_failed_sync_survives_the_next_crash() {
    for seed in 0..50 {
        let disk = fresh();
        let (mut log, _) = open(&disk).unwrap();
        fill(&mut log, 1, 3, 300 + usize::try_from(seed).unwrap());
        disk.fail_next(DiskOp::Sync, io::ErrorKind::Other);
        log.append(&batch(3, None, &[(3, 1, &[3; 1500])], 2)).unwrap();
        assert!(log.sync().is_err());
        drop(log);
        disk.kill_process();
        let (_, before) = open(&disk).unwrap();
        disk.crash(seed);
        let (_, after) = open(&disk).unwrap();
        assert_eq!(before.last(), after.last(), "seed {seed}");
    }
}

#[test]
fn a_full_disk_stops_the_log_with_kind_full_and_loses_nothing() {
    let disk = fresh();
    let (mut log, _) = open(&disk).unwrap();
    disk.set_capacity(4096);
    let mut index = 1;
    let error = loop {
        let one = batch(index, None, &[(index, 1, &[1; 400])], 0);
        match log.append(&one).and_then(|()| log.sync()) {
            Ok(()) => index += 1,
            Err(error) => break error,
        }
        assert!(index < 100, "a segment of 4 KiB cannot hold this");
    };
    assert_eq!(error.kind(), types::ErrorKind::Full, "{error}");
    drop(log);
    disk.set_capacity(1 << 20);
    let (mut log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last(), LogIndex(index - 1));
    fill(&mut log, index, index + 5, 400);
}

#[test]
fn the_next_segment_is_prepared_in_bounded_steps() {
    let disk = SimDisk::new();
    let options = SegmentOptions { segment_bytes: 4 << 20 };
    SegmentLog::format(&disk, dir(), CLUSTER, options, false).unwrap();
    let (mut log, _) = SegmentLog::open(disk.clone(), dir(), None, options).unwrap();
    assert!(!log.prepare().unwrap(), "an empty segment needs no successor yet");
    fill(&mut log, 1, 4, 1 << 20);
    let steps = (0..100).take_while(|_| log.prepare().unwrap()).count();
    assert_eq!(steps, 3, "four steps of 1 MiB, more after each but the last");
    disk.fail_next(DiskOp::Create, io::ErrorKind::Other);
    fill(&mut log, 4, 6, 1 << 20);
    assert_eq!(segment_files(&disk).len(), 2, "the prepared file was used");
}

#[test]
fn bad_options_are_refused() {
    for segment_bytes in [0, 4095, 5000, 1 << 33] {
        let error = SegmentLog::format(&SimDisk::new(), dir(), CLUSTER, SegmentOptions { segment_bytes }, false);
        assert_eq!(error.expect_err("no such segment").kind(), types::ErrorKind::Invalid);
    }
}

#[test]
fn another_segment_size_takes_effect_with_the_next_segment() {
    let disk = three_segments();
    let larger = SegmentOptions { segment_bytes: 16 << 10 };
    let (mut log, _) = SegmentLog::open(disk.clone(), dir(), None, larger).unwrap();
    log.append(&batch(17, None, &[(17, 1, &[5; 9000])], 16)).unwrap();
    log.sync().unwrap();
    drop(log);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.last(), LogIndex(17));
}

/// Where the log of [`three_segments`] begins anew.
fn new_start(generation: u64) -> NewStart {
    let hard_state = HardState { term: Term(5), vote: Some(crate::MemberId(2)), commit: LogIndex(9) };
    NewStart { after: LogIndex(100), after_term: Term(4), hard_state, generation }
}

#[test]
fn a_log_begun_anew_stands_behind_the_snapshot_and_remembers_its_vote() {
    let disk = three_segments();
    let generation = open(&disk).expect("a healthy log").0.next_generation();
    SegmentLog::reset(&disk, dir(), CLUSTER, SMALL, new_start(generation)).expect("a healthy disk");
    disk.crash(1);
    let (mut log, recovered) = open(&disk).expect("a healthy log");
    assert_eq!((recovered.first(), recovered.last()), (LogIndex(101), LogIndex(100)));
    assert_eq!(recovered.terms.term(LogIndex(100)), Some(Term(4)));
    assert_eq!(recovered.hard_state, HardState { commit: LogIndex(100), ..new_start(generation).hard_state });
    for index in 101..120 {
        log.append(&batch(index, None, &[(index, 5, b"x")], index - 1)).expect("a healthy disk");
        log.sync().expect("a healthy disk");
    }
    drop(log);
    disk.crash(2);
    assert_eq!(open(&disk).expect("a healthy log").1.last(), LogIndex(119));
}

#[test]
fn a_new_beginning_that_a_crash_interrupted_can_be_repeated() {
    for stop in 0.. {
        let disk = three_segments();
        let generation = open(&disk).expect("a healthy log").0.next_generation();
        disk.stop_at(disk.changes() + stop);
        let whole = SegmentLog::reset(&disk, dir(), CLUSTER, SMALL, new_start(generation)).is_ok();
        disk.crash(stop);
        SegmentLog::reset(&disk, dir(), CLUSTER, SMALL, new_start(generation)).expect("repeated");
        let (_, recovered) = open(&disk).expect("a healthy log");
        assert_eq!((recovered.first(), recovered.last()), (LogIndex(101), LogIndex(100)), "stopped at {stop}");
        if whole {
            return assert!(stop > 5, "there was something to stop");
        }
    }
}

#[test]
fn a_log_says_where_the_changes_of_the_members_stand() {
    let disk = fresh();
    let (mut log, _) = open(&disk).expect("a fresh log");
    let changes = |indexes: &[u64], batch: AppendBatch| {
        let kind =
            |index: LogIndex| if indexes.contains(&index.0) { crate::EntryKind::Change } else { Default::default() };
        let entries = batch.entries.into_iter().map(|entry| LogEntry { kind: kind(entry.index), ..entry });
        AppendBatch { entries: entries.collect(), ..batch }
    };
    let first = batch(1, None, &[(1, 1, b"a"), (2, 1, b"b"), (3, 1, b"c"), (4, 1, b"d")], 0);
    let second = batch(2, Some(3), &[(3, 2, b"e"), (4, 2, b"f"), (5, 2, b"g")], 0);
    for batch in [changes(&[2, 4], first), changes(&[5], second)] {
        log.append(&batch).expect("a healthy disk");
        log.sync().expect("a healthy disk");
    }
    drop(log);
    assert_eq!(open(&disk).expect("a healthy log").1.changes, [LogIndex(2), LogIndex(5)]);
}
