//! The same log and member over the operating system's files.

use bytes::Bytes;
use journal::conformance::{Reopen, log};
use journal::disk::RealDisk;
use journal::{
    BatchSeq, Boot, Error, LogWriter, MemberId, Node, NodeConfig, Recovered, SegmentLog, SegmentOptions, SnapshotMark,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use types::{Clock, ClusterId, ErrorKind, LogIndex, Monotonic, UnixMs};

const OPTIONS: SegmentOptions = SegmentOptions { segment_bytes: 64 << 10 };
const PATIENCE: Duration = Duration::from_secs(20);

struct OnFiles<'a>(&'a Path);

impl Reopen for OnFiles<'_> {
    type Log = SegmentLog<RealDisk>;
    fn open(&mut self) -> (SegmentLog<RealDisk>, Recovered) {
        SegmentLog::open(RealDisk, self.0, Some(ClusterId(3)), OPTIONS).expect("a healthy directory")
    }
}

fn formatted() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    SegmentLog::format(&RealDisk, dir.path(), ClusterId(3), OPTIONS, false).expect("an empty directory");
    dir
}

#[test]
fn the_segment_log_conforms_on_real_files() {
    let dir = formatted();
    log(&mut OnFiles(dir.path()));
}

/// Time since the start of the test.
struct Watch(Instant);
impl Clock for Watch {
    fn unix(&self) -> UnixMs {
        UnixMs(0)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }
}

/// A group of one as the master runs it: a member, the writer thread, a store that applies.
struct Master {
    node: Node,
    writer: LogWriter,
    done: Receiver<(BatchSeq, Result<(), Error>)>,
    applied: Vec<Bytes>,
    answered: usize,
}

impl Master {
    fn start(dir: &Path, applied: u64) -> Master {
        let (log, recovered) =
            SegmentLog::open(RealDisk, dir, Some(ClusterId(3)), OPTIONS).expect("a healthy directory");
        let (sender, done) = channel();
        let on_done = move |seq, answer| drop(sender.send((seq, answer)));
        let writer = LogWriter::start(log, Arc::new(Watch(Instant::now())), on_done).expect("a thread");
        let config = NodeConfig::new(MemberId(1), vec![MemberId(1)]);
        let boot = Boot { applied: LogIndex(applied), now: Monotonic::default(), seed: 1 };
        let node = Node::new(config, recovered, writer.reader(), boot).expect("store and log fit");
        let mut master = Master { node, writer, done, applied: Vec::new(), answered: 0 };
        master.turn();
        master
    }

    fn turn(&mut self) {
        loop {
            let output = self.node.drain().expect("a healthy log");
            if let Some(batch) = output.append {
                self.writer.append(batch).expect("one batch at a time");
            }
            for entry in output.committed {
                self.answered += usize::from(entry.ticket.is_some());
                self.node.advance_applied(entry.index);
                self.applied.push(entry.payload);
            }
            if !output.more {
                return;
            }
        }
    }

    /// Works until so many proposals were answered.
    fn until_answered(&mut self, count: usize) {
        while self.answered < count || self.node.established().is_none() {
            let (seq, safe) = self.done.recv_timeout(PATIENCE).expect("the disk answers");
            safe.expect("a healthy disk");
            self.node.persisted(seq);
            self.turn();
        }
    }
}

#[test]
fn a_master_answers_restarts_replays_and_purges() {
    let dir = formatted();
    let mut master = Master::start(dir.path(), 0);
    for ticket in 0..500 {
        master.node.propose(ticket, &Bytes::from(vec![7; 500])).expect("a leader with room");
        master.turn();
    }
    master.until_answered(500);
    assert_eq!(master.applied.len(), 501, "and the entry that opened the term");
    let syncs = master.writer.stats().syncs.load(std::sync::atomic::Ordering::Relaxed);
    assert!(syncs < 400, "{syncs} syncs for 500 proposals at once: what waits goes together");
    drop(master);

    let mut master = Master::start(dir.path(), 100);
    master.until_answered(0);
    assert_eq!(master.applied.len(), 402, "401 entries and a new term");
    master.node.set_snapshot(SnapshotMark { index: LogIndex(450), term: master.node.term() });
    let below = master.node.compact(LogIndex(480), LogIndex(u64::MAX)).expect("the log may be cut");
    assert_eq!(below, LogIndex(451));
    master.writer.purge_below(below).expect("room in the inbox");
    drop(master);

    let (_, recovered) = OnFiles(dir.path()).open();
    assert!(recovered.first() > LogIndex(300) && recovered.first() <= below, "whole segments: {}", recovered.first());
    assert_eq!(recovered.last(), LogIndex(502));
}

#[test]
fn a_second_process_and_a_wrong_path_get_a_sentence() {
    let dir = formatted();
    let _running = OnFiles(dir.path()).open();
    let open = |path: &Path| SegmentLog::open(RealDisk, path, None, OPTIONS).err().expect("refused");
    let second = open(dir.path());
    assert!(second.to_string().contains("in use by another process"), "{second}");
    assert_eq!(second.kind(), ErrorKind::Busy);
    let nowhere = open(&dir.path().join("nowhere"));
    assert!(nowhere.to_string().contains("run `goosefs format` once"), "{nowhere}");
    let file = dir.path().join("segment-0000000000000001.log");
    let not_a_dir = SegmentLog::format(&RealDisk, &file, ClusterId(3), OPTIONS, false).expect_err("a file");
    assert!(not_a_dir.to_string().starts_with("cannot create "), "{not_a_dir}");
}
