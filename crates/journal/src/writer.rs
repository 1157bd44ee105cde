//! The thread that brings batches to disk.
//!
//! Is:     one OS thread over a [`JournalLog`]: append, one sync, call back; purging and preparing in between. A caller that
//!         would only wait meanwhile may write a batch itself.
//! Owns:   the log and its numbers.
//! Never:  repeats a failed sync as if it had succeeded; takes a second batch while one is outstanding.

use crate::{AppendBatch, BatchSeq, Error, JournalLog, LogReader};
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use types::{Clock, LogIndex, Timings};

/// Commands that may wait: the outstanding batch, and purges behind it.
const INBOX: usize = 4;
/// Commands in a row after which a step towards the next file is due all the same: a log that is never idle must not find
/// out that its disk is full by a batch that does not fit.
const BUSY_FOR: u32 = 3;
/// A caller may write a batch itself if the flush before took no longer than this. Handing a batch over and hearing of it
/// costs two wake-ups, about 0.1 ms where cores sleep; on a slower disk that is little, and the caller had better be free.
const AT_ONCE: Duration = Duration::from_millis(1);

/// What the writer has done, as plain counters for whoever exports metrics. All only grow.
#[derive(Debug, Default)]
pub struct WriterStats {
    /// Batches that are safe on disk.
    pub batches: AtomicU64,
    /// Entries in them.
    pub entries: AtomicU64,
    /// Payload bytes of them.
    pub payload_bytes: AtomicU64,
    /// Syncs that returned, failed ones too.
    pub syncs: AtomicU64,
    /// From taking a batch to its sync's return.
    pub flushes: Timings,
    /// Failures that did not stop the member: purging, or preparing the next file. They are tried again.
    pub housekeeping_failures: AtomicU64,
}

impl WriterStats {
    fn flushed(&self, batch: &AppendBatch, took: Duration) {
        let payload_bytes: usize = batch.entries.iter().map(|entry| entry.payload.len()).sum();
        self.batches.fetch_add(1, Relaxed);
        self.entries.fetch_add(u64::try_from(batch.entries.len()).unwrap_or(u64::MAX), Relaxed);
        self.payload_bytes.fetch_add(u64::try_from(payload_bytes).unwrap_or(u64::MAX), Relaxed);
        self.flushes.record(took);
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

enum Command {
    Append(AppendBatch),
    Purge(LogIndex),
    Prepare,
}

/// Handle of the writer thread. Dropping it lets the thread finish what it has and waits for it.
pub struct LogWriter {
    inbox: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
    desk: Arc<Desk>,
    reader: Arc<dyn LogReader>,
}

/// The log, for one writer at a time: the thread, or a caller that writes at once.
struct Desk {
    log: Mutex<Box<dyn JournalLog>>,
    clock: Arc<dyn Clock>,
    stats: Arc<WriterStats>,
    last_flush_us: AtomicU64,
    /// The last look at the files to come failed: what the present one still takes is all there is.
    short_of_room: AtomicBool,
    /// The thread has been asked to prepare files and has not heard of it yet: once is enough, the inbox is for batches.
    asked_to_prepare: AtomicBool,
}

impl Desk {
    fn append(&self, log: &mut dyn JournalLog, batch: &AppendBatch) -> Result<(), Error> {
        let began = self.clock.monotonic();
        let answer = log.append(batch).and_then(|()| {
            self.stats.syncs.fetch_add(1, Relaxed);
            log.sync()
        });
        let took = self.clock.monotonic() - began;
        self.last_flush_us.store(micros(took), Relaxed);
        match &answer {
            Ok(()) => self.stats.flushed(batch, took),
            Err(error) => {
                tracing::error!(%error, seq = batch.seq.0, "the journal cannot be written, this member stops")
            }
        }
        answer
    }
}

/// The log in a caller's hand: see [`LogWriter::at_once`].
pub struct Pen<'a> {
    writer: &'a LogWriter,
    log: MutexGuard<'a, Box<dyn JournalLog>>,
}

impl Pen<'_> {
    /// Writes and syncs a batch, which is safe when this returns; `on_done` is not called. Blocks for one fdatasync. An
    /// error is final: the member must stop.
    pub fn append(mut self, batch: &AppendBatch) -> Result<(), Error> {
        self.writer.desk.append(self.log.as_mut(), batch)?;
        let asked = &self.writer.desk.asked_to_prepare;
        if self.log.wants_preparing() && !asked.swap(true, Relaxed) && self.writer.send(Command::Prepare).is_err() {
            // A full inbox keeps the thread busy, and it prepares before it waits again.
            asked.store(false, Relaxed);
        }
        Ok(())
    }
}

impl LogWriter {
    /// Starts the thread `journal`. `on_done` is called on it after each batch, in order: with `Ok` the batch is safe;
    /// with an error nothing more will be, and the member must stop. It must not block.
    pub fn start<L: JournalLog + 'static>(
        log: L,
        clock: Arc<dyn Clock>,
        on_done: impl Fn(BatchSeq, Result<(), Error>) + Send + 'static,
    ) -> io::Result<LogWriter> {
        let (inbox, commands) = sync_channel(INBOX);
        let reader = log.reader();
        let (log, stats) = (Mutex::new(Box::new(log) as Box<dyn JournalLog>), Arc::default());
        let desk = Arc::new(Desk {
            log,
            clock,
            stats,
            last_flush_us: AtomicU64::new(0),
            short_of_room: AtomicBool::default(),
            asked_to_prepare: AtomicBool::default(),
        });
        let worker = Worker { desk: desk.clone(), on_done };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || worker.run(&commands))?;
        Ok(LogWriter { inbox: Some(inbox), thread: Some(thread), desk, reader })
    }

    /// Hands a batch over; returns at once. Errors: `WriterBusy` if the inbox is full, which one outstanding batch and
    /// few purges never fill; `WriterStopped`.
    pub fn append(&self, batch: AppendBatch) -> Result<(), Error> {
        self.send(Command::Append(batch))
    }

    /// The log itself, for a caller that has nothing else to do until its batch is safe: spares it the way to the thread and
    /// back. `None` while the thread is at work, or when the disk was slow the last time: then hand the batch over.
    pub fn at_once(&self) -> Option<Pen<'_>> {
        if self.desk.last_flush_us.load(Relaxed) > micros(AT_ONCE) {
            return None;
        }
        let log = self.desk.log.try_lock()?;
        Some(Pen { writer: self, log })
    }

    /// Asks to give up entries below `index`. A failure is logged and counted, and tried again by the next purge.
    pub fn purge_below(&self, index: LogIndex) -> Result<(), Error> {
        self.send(Command::Purge(index))
    }

    /// Whether the next file could not be prepared: the disk is full or refuses, while about half of the present file is
    /// still free. A member of a group had better not lead then. It is tried again with each batch, and when asked to.
    pub fn is_short_of_room(&self) -> bool {
        self.desk.short_of_room.load(Relaxed)
    }

    /// Has the next file prepared, if that is due.
    pub fn prepare(&self) {
        // A full inbox keeps the thread busy, and it prepares before it waits again; a stopped one has nothing to prepare.
        let _ = self.send(Command::Prepare);
    }

    pub fn stats(&self) -> Arc<WriterStats> {
        self.desk.stats.clone()
    }

    /// Reads what was appended.
    pub fn reader(&self) -> Arc<dyn LogReader> {
        self.reader.clone()
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        let inbox = self.inbox.as_ref().ok_or(Error::WriterStopped)?;
        inbox.try_send(command).map_err(|refused| match refused {
            TrySendError::Full(_) => Error::WriterBusy,
            TrySendError::Disconnected(_) => Error::WriterStopped,
        })
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal thread panicked");
        }
    }
}

struct Worker<F> {
    desk: Arc<Desk>,
    on_done: F,
}

impl<F: Fn(BatchSeq, Result<(), Error>)> Worker<F> {
    fn run(self, commands: &Receiver<Command>) {
        let mut busy = 0;
        while let Some(command) = self.next(commands, &mut busy) {
            match command {
                Command::Append(batch) => {
                    let answer = self.desk.append(self.desk.log.lock().as_mut(), &batch);
                    (self.on_done)(batch.seq, answer);
                }
                Command::Purge(index) => {
                    let purged = self.desk.log.lock().purge_below(index);
                    self.housekeeping("purge", purged);
                }
                Command::Prepare => self.desk.asked_to_prepare.store(false, Relaxed),
            }
        }
    }

    /// The next command; while there is none, prepares files in small steps, and one step now and then if there always is.
    ///
    /// - `busy`: commands since the last step.
    fn next(&self, commands: &Receiver<Command>, busy: &mut u32) -> Option<Command> {
        loop {
            match commands.try_recv() {
                Ok(command) => {
                    *busy += 1;
                    if *busy > BUSY_FOR {
                        self.prepare(busy);
                    }
                    return Some(command);
                }
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if !self.prepare(busy) {
                return commands.recv().ok();
            }
        }
    }

    /// One step towards the next file; whether another one is left.
    fn prepare(&self, busy: &mut u32) -> bool {
        *busy = 0;
        let prepared = self.desk.log.lock().prepare();
        let more = *prepared.as_ref().unwrap_or(&false);
        self.desk.short_of_room.store(prepared.is_err(), Relaxed);
        self.housekeeping("prepare the next segment", prepared.map(drop));
        more
    }

    fn housekeeping(&self, what: &str, answer: Result<(), Error>) {
        let Err(error) = answer else { return };
        let failures = self.desk.stats.housekeeping_failures.fetch_add(1, Relaxed) + 1;
        // A full disk fails once per batch: say it, but not ten thousand times a second.
        if failures.is_power_of_two() {
            tracing::warn!(%error, what, failures, "journal housekeeping failed, it is tried again later");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskOp, SimDisk};
    use crate::log::conformance::batch;
    use crate::{MemLog, SegmentLog, SegmentOptions};
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};
    use types::{ClusterId, Monotonic, UnixMs};

    /// A clock that moves one millisecond at each look.
    struct Steps(AtomicU64);
    impl Clock for Steps {
        fn unix(&self) -> UnixMs {
            UnixMs(0)
        }
        fn monotonic(&self) -> Monotonic {
            Monotonic(Duration::from_millis(self.0.fetch_add(1, Relaxed)))
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    type Answers = Receiver<(BatchSeq, Result<(), Error>)>;

    fn start<L: JournalLog + 'static>(log: L) -> (LogWriter, Answers) {
        let (done, answers) = channel();
        let clock = Arc::new(Steps(AtomicU64::new(0)));
        let on_done = move |seq, answer| done.send((seq, answer)).expect("the test listens");
        (LogWriter::start(log, clock, on_done).expect("a thread"), answers)
    }

    #[test]
    fn a_batch_is_answered_after_its_one_sync_and_counted() {
        let (writer, answers) = start(MemLog::new(ClusterId(1)));
        for seq in 1..=3 {
            writer.append(batch(seq, None, &[(seq, 1, b"12345")], 0)).expect("an idle writer");
            let (answered, result) = answers.recv_timeout(PATIENCE).expect("an answer");
            assert!(result.is_ok() && answered == BatchSeq(seq));
        }
        let stats = writer.stats();
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        assert_eq!([read(&stats.batches), read(&stats.entries), read(&stats.syncs)], [3, 3, 3]);
        assert_eq!((read(&stats.payload_bytes), stats.flushes.sum()), (15, Duration::from_millis(3)));
        assert_eq!(writer.reader().read(LogIndex(1), LogIndex(4), 100).expect("kept").len(), 3);
    }

    #[test]
    fn a_batch_written_at_once_is_safe_and_counted_and_takes_turns_with_the_thread() {
        let (writer, answers) = start(MemLog::new(ClusterId(1)));
        for seq in 1..=4 {
            let next = batch(seq, None, &[(seq, 1, b"12345")], 0);
            if seq % 2 == 0 {
                writer.append(next).expect("an idle writer");
                let (answered, result) = answers.recv_timeout(PATIENCE).expect("an answer");
                assert!(result.is_ok() && answered == BatchSeq(seq));
            } else {
                // The thread may hold the log for a moment yet, to look whether anything is to be prepared.
                let pen = testkit::eventually(PATIENCE, || writer.at_once());
                pen.append(&next).expect("safe");
            }
        }
        assert!(answers.try_recv().is_err(), "who wrote at once is not called back");
        let stats = writer.stats();
        assert_eq!([stats.batches.load(Relaxed), stats.syncs.load(Relaxed)], [4, 4]);
        assert_eq!(writer.reader().read(LogIndex(1), LogIndex(5), 100).expect("kept").len(), 4);
    }

    #[test]
    fn nobody_waits_for_a_slow_disk_by_himself() {
        let (writer, answers) = start(MemLog::new(ClusterId(1)));
        writer.desk.last_flush_us.store(micros(AT_ONCE) + 1, Relaxed);
        assert!(writer.at_once().is_none(), "the last flush was slow");
        writer.append(batch(1, None, &[(1, 1, b"x")], 0)).expect("an idle writer");
        answers.recv_timeout(PATIENCE).expect("an answer").1.expect("safe");
        testkit::eventually(PATIENCE, || writer.at_once().map(drop));
    }

    #[test]
    fn what_is_written_at_once_has_its_next_segment_prepared_by_the_thread() {
        let (disk, dir) = (SimDisk::new(), Path::new("/j"));
        let options = SegmentOptions { segment_bytes: 8192 };
        SegmentLog::format(&disk, dir, ClusterId(1), options, false).expect("an empty directory");
        let (log, _) = SegmentLog::open(disk.clone(), dir, None, options).expect("a fresh log");
        let (writer, _answers) = start(log);
        for seq in 1..=9 {
            let pen = testkit::eventually(PATIENCE, || writer.at_once());
            pen.append(&batch(seq, None, &[(seq, 1, b"x")], 0)).expect("safe");
        }
        testkit::eventually(PATIENCE, || {
            use crate::disk::Disk;
            disk.list(dir).expect("listed").iter().any(|name| name.starts_with("spare-"))
        });
    }

    #[test]
    fn a_disk_without_room_for_the_next_segment_is_noticed_while_this_one_takes_entries_and_so_is_room() {
        let (disk, dir) = (SimDisk::new(), Path::new("/j"));
        let options = SegmentOptions { segment_bytes: 8192 };
        SegmentLog::format(&disk, dir, ClusterId(1), options, false).expect("an empty directory");
        let (log, _) = SegmentLog::open(disk.clone(), dir, None, options).expect("a fresh log");
        let (writer, answers) = start(log);
        let mut seq = 0;
        let mut append = || {
            seq += 1;
            writer.append(batch(seq, None, &[(seq, 1, b"x")], 0)).expect("an idle writer");
            answers.recv_timeout(PATIENCE).expect("an answer").1
        };
        append().expect("safe");
        assert!(!writer.is_short_of_room());
        disk.set_capacity(8192);
        while !writer.is_short_of_room() {
            append().expect("the segment itself has room");
        }
        append().expect("half of the segment is still free");
        disk.set_capacity(usize::MAX);
        testkit::eventually(PATIENCE, || {
            writer.prepare();
            !writer.is_short_of_room()
        });
        for _ in 0..20 {
            append().expect("into the next segments");
        }
    }

    #[test]
    fn a_batch_finds_room_however_often_a_caller_wrote_at_once_while_the_thread_was_away() {
        let (disk, dir) = (SimDisk::new(), Path::new("/j"));
        let options = SegmentOptions { segment_bytes: 8192 };
        SegmentLog::format(&disk, dir, ClusterId(1), options, false).expect("an empty directory");
        let (log, _) = SegmentLog::open(disk, dir, None, options).expect("a fresh log");
        let (back, away) = channel::<()>();
        let (left, answered) = channel();
        // The thread comes back from its first answer when the test says so.
        let on_done = move |seq, _| {
            left.send(seq).expect("the test listens");
            let _ = away.recv();
        };
        let writer = LogWriter::start(log, Arc::new(Steps(AtomicU64::new(0))), on_done).expect("a thread");
        writer.append(batch(1, None, &[(1, 1, b"x")], 0)).expect("an idle writer");
        answered.recv_timeout(PATIENCE).expect("an answer");
        for seq in 2..=13 {
            let pen = writer.at_once().expect("the thread is away");
            pen.append(&batch(seq, None, &[(seq, 1, b"x")], 0)).expect("safe");
        }
        writer.append(batch(14, None, &[(14, 1, b"x")], 0)).expect("one outstanding batch always fits");
        drop(back);
        assert_eq!(answered.recv_timeout(PATIENCE).expect("an answer"), BatchSeq(14));
    }

    #[test]
    fn after_a_failed_sync_nothing_is_acknowledged_again() {
        let (disk, dir) = (SimDisk::new(), Path::new("/j"));
        let options = SegmentOptions { segment_bytes: 8192 };
        SegmentLog::format(&disk, dir, ClusterId(1), options, false).expect("an empty directory");
        let (log, _) = SegmentLog::open(disk.clone(), dir, None, options).expect("a fresh log");
        let (writer, answers) = start(log);
        disk.fail_next(DiskOp::Sync, io::ErrorKind::Other);
        for seq in 1..=2 {
            writer.append(batch(seq, None, &[(seq, 1, b"x")], 0)).expect("the thread still answers");
            let (_, result) = answers.recv_timeout(PATIENCE).expect("an answer");
            let error = result.expect_err("not safe");
            assert!(error.is_fatal(), "{error}");
            assert_eq!(matches!(error, Error::Poisoned), seq == 2, "{error}");
        }
    }

    #[test]
    fn dropping_the_writer_finishes_what_it_was_given() {
        let (writer, answers) = start(MemLog::new(ClusterId(1)));
        writer.append(batch(1, None, &[(1, 1, b"x")], 0)).expect("an idle writer");
        writer.purge_below(LogIndex(1)).expect("room in the inbox");
        drop(writer);
        assert_eq!(answers.iter().filter(|(_, result)| result.is_ok()).count(), 1);
    }
}
