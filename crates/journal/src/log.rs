//! The log as the rest of the crate sees it.
//!
//! Is:     one trait to append, sync, purge and read, with its in-memory implementation and its conformance suite;
//!         [`crate::SegmentLog`] is the one on disk.
//! Owns:   nothing.
//! Never:  decides what to append; repeats a failed sync.

pub mod conformance;
mod mem;

pub use mem::MemLog;
pub(crate) use mem::{check_continues, check_range};

use crate::{AppendBatch, Error, LogEntry};
use std::sync::Arc;
use types::LogIndex;

/// A log with one writer. One batch is outstanding at a time: append, then sync, then the next append.
pub trait JournalLog: Send {
    /// Writes a batch behind the log, replacing what `truncate_from` voids. Not safe until [`JournalLog::sync`].
    /// Errors: a gap or a cut at a committed index changes nothing; any other failure stops the log for good.
    fn append(&mut self, batch: &AppendBatch) -> Result<(), Error>;
    /// Makes everything appended survive a crash: one fdatasync. A failure is final, later calls say `Poisoned`.
    fn sync(&mut self) -> Result<(), Error>;
    /// Gives up entries below `index`, in whole segments: some may stay readable.
    fn purge_below(&mut self, index: LogIndex) -> Result<(), Error>;
    /// A handle that reads while the writer writes.
    fn reader(&self) -> Arc<dyn LogReader>;
    /// A bounded step of work that can wait, such as preparing the next file. True while more is left.
    fn prepare(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
    /// Whether [`JournalLog::prepare`] has something to do. Cost: none.
    fn wants_preparing(&self) -> bool {
        false
    }
}

/// Reads entries that were appended.
pub trait LogReader: Send + Sync {
    /// Entries of `[from, to)` in order, stopping once `max_bytes` of payload are exceeded; at least one if the range is
    /// not empty. Errors: `Purged` below the log, `Beyond` past its end. Cost: one sequential read plus at most 64 KiB.
    fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<LogEntry>, Error>;
}
