//! Finds an entry's place: which file, from which offset.
//!
//! Is:     one point per 64 KiB of log, shared by the writer and its readers.
//! Owns:   the open segment files.
//! Never:  holds its lock over IO.

use super::format::{BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader, decode_entries, u64_of};
use super::scan::{Cursor, Step};
use crate::disk::DiskFile;
use crate::log::LogReader;
use crate::{Error, LogEntry, TermRuns};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use types::{ClusterId, LogIndex};

/// Log bytes between two points: what a read may scan in vain.
const POINT_SPACING_BYTES: u64 = 64 << 10;

/// One live segment.
pub(crate) struct Segment<F> {
    pub path: PathBuf,
    pub header: SegmentHeader,
    pub file: F,
}

/// The entries `[first, end)` are found by walking the batches from `offset` on, none of which truncates.
#[derive(Clone, Copy, Debug)]
struct Point {
    first: u64,
    end: u64,
    generation: u64,
    offset: u64,
}

/// Everything about the log but its bytes.
pub(crate) struct Index<F> {
    pub segments: VecDeque<Arc<Segment<F>>>,
    pub terms: TermRuns,
    points: VecDeque<Point>,
}

impl<F> Index<F> {
    /// An index of nothing yet, before the first batch of the oldest segment.
    pub(crate) fn new(oldest: &SegmentHeader) -> Index<F> {
        let terms = TermRuns::after(oldest.first - 1, oldest.base_term);
        Index { segments: VecDeque::new(), terms, points: VecDeque::new() }
    }

    /// Enters a batch that stands at `offset` of the segment with its generation.
    pub(crate) fn add(&mut self, header: &BatchHeader, entry_terms: impl Iterator<Item = u64>, offset: u64) {
        if header.entry_count == 0 {
            return;
        }
        let truncates = header.first <= self.terms.last;
        if header.first < self.terms.first {
            // The oldest kept segment replaces entries of a segment that is gone: the log begins here.
            self.terms = TermRuns::after(header.first - 1, header.prev_term);
        } else if truncates {
            self.terms.truncate_from(header.first);
        }
        while self.points.back().is_some_and(|point| point.first >= header.first) {
            self.points.pop_back();
        }
        if let Some(point) = self.points.back_mut() {
            point.end = point.end.min(header.first);
        }
        entry_terms.for_each(|term| self.terms.push(term));
        match self.points.back_mut() {
            Some(last)
                if !truncates && last.generation == header.generation && offset - last.offset < POINT_SPACING_BYTES =>
            {
                last.end = header.end();
            }
            Some(_) | None => self.points.push_back(Point {
                first: header.first,
                end: header.end(),
                generation: header.generation,
                offset,
            }),
        }
    }

    /// Drops the oldest segment and what is known about it.
    pub(crate) fn drop_oldest(&mut self) -> Option<Arc<Segment<F>>> {
        let dropped = self.segments.pop_front()?;
        let generation = dropped.header.generation;
        while self.points.front().is_some_and(|point| point.generation <= generation) {
            self.points.pop_front();
        }
        let first = self.points.front().map_or(self.terms.last + 1, |point| point.first);
        self.terms.drop_below(first);
        Some(dropped)
    }

    fn find(&self, index: u64) -> Option<(Point, Arc<Segment<F>>)> {
        let after = self.points.partition_point(|point| point.first <= index);
        let point = *self.points.get(after.checked_sub(1)?)?;
        let segment = self.segments.iter().find(|segment| segment.header.generation == point.generation)?;
        (index < point.end).then(|| (point, segment.clone()))
    }
}

/// The index with its lock.
pub(crate) struct Shared<F> {
    pub cluster: ClusterId,
    index: Mutex<Index<F>>,
}

impl<F: DiskFile> Shared<F> {
    pub(crate) fn new(cluster: ClusterId, index: Index<F>) -> Shared<F> {
        Shared { cluster, index: Mutex::new(index) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Index<F>> {
        self.index.lock().expect("nobody panics while holding the index")
    }

    /// Reads entries from `from` on out of the stretch behind one point.
    fn read_stretch(&self, from: u64, to: u64, budget: &mut Budget, out: &mut Vec<LogEntry>) -> Result<(), Error> {
        let (point, segment) = match self.lock().find(from) {
            Some(found) => found,
            None => return Err(self.gone(from)),
        };
        let SegmentHeader { generation, segment_bytes, .. } = segment.header;
        let mut cursor = Cursor::new(&segment.file, self.cluster, generation, point.offset, segment_bytes);
        let end = to.min(point.end);
        let mut next = from;
        while next < end && budget.left(out) {
            let step = cursor.next().map_err(Error::io("read", &segment.path))?;
            let Step::Batch(header) = step else { return Err(self.unreadable(next, &segment, cursor.offset)) };
            if header.end() <= next {
                continue;
            }
            let entries = decode_entries(cursor.bytes(), &header)
                .ok_or_else(|| self.unreadable(next, &segment, cursor.offset))?;
            for entry in entries.into_iter().filter(|entry| next <= entry.index.0 && entry.index.0 < end) {
                if !budget.take(out, entry) {
                    return Ok(());
                }
            }
            next = header.end();
        }
        Ok(())
    }

    fn gone(&self, index: u64) -> Error {
        Error::Purged { index: LogIndex(index), first: LogIndex(self.lock().terms.first) }
    }

    /// A batch that was whole when it was indexed is not any more: recycled meanwhile, or damaged.
    fn unreadable(&self, index: u64, segment: &Segment<F>, offset: u64) -> Error {
        if index < self.lock().terms.first {
            return self.gone(index);
        }
        Error::damaged(&segment.path, format!("the entry {index} at or after byte {offset} no longer verifies"))
    }
}

/// How much a read may still return.
struct Budget {
    bytes: usize,
    max_bytes: usize,
}

impl Budget {
    fn left(&self, out: &[LogEntry]) -> bool {
        out.is_empty() || self.bytes < self.max_bytes
    }
    fn take(&mut self, out: &mut Vec<LogEntry>, entry: LogEntry) -> bool {
        let bytes = self.bytes + entry.payload.len();
        if !out.is_empty() && bytes > self.max_bytes {
            self.bytes = self.max_bytes;
            return false;
        }
        self.bytes = bytes;
        out.push(entry);
        true
    }
}

impl<F: DiskFile> LogReader for Shared<F> {
    fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<LogEntry>, Error> {
        crate::log::check_range(&self.lock().terms, from, to)?;
        let mut out: Vec<LogEntry> = Vec::new();
        let mut budget = Budget { bytes: 0, max_bytes };
        loop {
            let next = out.last().map_or(from.0, |entry| entry.index.0 + 1);
            if next >= to.0 || !budget.left(&out) {
                return Ok(out);
            }
            self.read_stretch(next, to.0, &mut budget, &mut out)?;
        }
    }
}

/// First byte of the first batch of a segment.
pub(crate) fn first_batch_offset() -> u64 {
    u64_of(SEGMENT_HEADER_BYTES)
}
