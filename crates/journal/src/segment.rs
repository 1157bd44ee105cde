//! The log on disk: batches in preallocated segment files, one fdatasync per batch.
//!
//! Is:     append, sync, purge over any [`Disk`]; recovery is in `open`, files to come in `spare`, bytes in `format`.
//! Owns:   the files of its directory, under a lock.
//! Never:  overwrites a sector that an earlier sync promised; writes a batch before the one before it was synced;
//!         goes on after a failed write or sync.

mod format;
mod index;
mod look;
mod open;
mod scan;
mod spare;
#[cfg(test)]
mod tests;

pub use open::NewStart;

use crate::disk::{Aligned, Disk, DiskFile, SECTOR_BYTES};
use crate::log::check_continues;
use crate::{AppendBatch, Error, HardState, JournalLog, LogEntry, LogReader};
use format::{BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader, batch_disk_bytes, encode_batch, entry_bytes};
use index::{Segment, Shared, first_batch_offset};
pub use look::{LogHead, StoredBatch, head, look};
use spare::Spares;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::{ClusterId, LogIndex};

/// How a log is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentOptions {
    /// Length of each new segment file: a multiple of 512, at least 4 KiB. An entry must fit into one.
    pub segment_bytes: u64,
}

/// Smallest segment: a header, a seal, and some room for batches.
const MIN_SEGMENT_BYTES: u64 = 4096;

impl Default for SegmentOptions {
    fn default() -> SegmentOptions {
        SegmentOptions { segment_bytes: 64 << 20 }
    }
}

impl SegmentOptions {
    fn check(&self) -> Result<(), Error> {
        if self.segment_bytes >= MIN_SEGMENT_BYTES
            && self.segment_bytes.is_multiple_of(SECTOR_BYTES)
            && self.segment_bytes <= u64::from(u32::MAX)
        {
            return Ok(());
        }
        let what = format!(
            "a segment of {} bytes cannot be: choose a multiple of {SECTOR_BYTES} from {MIN_SEGMENT_BYTES} to {}",
            self.segment_bytes,
            u32::MAX
        );
        Err(Error::Config { what })
    }
}

/// A log of segment files in one directory of a [`Disk`].
///
/// Invariants: generations of live segments are consecutive; at most one batch is unsynced; `synced` is the highest
/// index that a finished sync covers; once poisoned nothing is written.
pub struct SegmentLog<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: SegmentOptions,
    shared: Arc<Shared<D::File>>,
    spares: Spares<D>,
    active: Arc<Segment<D::File>>,
    /// Where the next batch goes in the active segment.
    offset: u64,
    next_batch: u64,
    hard_state: HardState,
    synced: u64,
    unsynced: bool,
    poisoned: bool,
    scratch: Aligned,
    _lock: D::Lock,
}

fn segment_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("segment-{generation:016x}.log"))
}

impl<D: Disk> SegmentLog<D> {
    /// Which cluster the log belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.shared.cluster
    }

    fn last(&self) -> u64 {
        self.shared.lock().terms.last
    }

    /// Bytes a batch may still take in the active segment; the last sector is kept for the seal.
    fn room(&self) -> u64 {
        (self.active.header.segment_bytes - SECTOR_BYTES).saturating_sub(self.offset)
    }

    /// Writes one batch that fits the active segment.
    fn write_batch(&mut self, entries: &[LogEntry], hard_state: HardState, seal: bool) -> Result<(), Error> {
        let (first, prev_term, end) = {
            let index = self.shared.lock();
            let first = entries.first().map_or(index.terms.last + 1, |entry| entry.index.0);
            let prev = index.terms.term(LogIndex(first - 1)).expect("the batch was checked to continue the log");
            (first, prev.0, entries.last().map_or(index.terms.last, |entry| entry.index.0))
        };
        let header = BatchHeader {
            seal,
            generation: self.active.header.generation,
            number: self.next_batch,
            synced: self.synced,
            hard_state: HardState { commit: hard_state.commit.min(LogIndex(end)), ..hard_state },
            first,
            prev_term,
            entry_count: u32::try_from(entries.len()).expect("fewer entries than bytes"),
            body_bytes: u32::try_from(entries.iter().map(entry_bytes).sum::<u64>()).expect("it fits a segment"),
        };
        let length = usize::try_from(header.disk_bytes()).expect("it fits a segment");
        let cluster = self.shared.cluster;
        let bytes = self.scratch.fill(length, |out| encode_batch(out, cluster, &header, entries));
        assert_eq!(bytes.len(), length, "the layout and its length agree");
        self.active.file.write_through(bytes, self.offset).map_err(Error::io("write", &self.active.path))?;
        self.unsynced = true;
        if seal {
            return Ok(());
        }
        self.shared.lock().add(&header, entries.iter().map(|entry| entry.term.0), self.offset);
        self.offset += header.disk_bytes();
        self.next_batch += 1;
        self.hard_state = header.hard_state;
        Ok(())
    }

    /// How many of `entries` fit into `room` bytes as one batch.
    fn fitting(entries: &[LogEntry], room: u64) -> usize {
        let mut body_bytes = 0;
        entries
            .iter()
            .take_while(|entry| {
                body_bytes += entry_bytes(entry);
                batch_disk_bytes(body_bytes) <= room
            })
            .count()
    }

    /// Writes a batch, into a fresh segment if it does not fit this one; in parts if it fits none. Each part is synced
    /// before the next, so the rule "a later batch proves the earlier ones" holds for parts too.
    fn write_all(&mut self, batch: &AppendBatch) -> Result<(), Error> {
        let mut rest = &batch.entries[..];
        loop {
            let fits = Self::fitting(rest, self.room());
            let whole = fits == rest.len() && batch_disk_bytes(0) <= self.room();
            let fresh = self.offset == first_batch_offset();
            let larger_next = self.active.header.segment_bytes < self.options.segment_bytes;
            if !whole && (!fresh || larger_next) {
                self.roll()?;
                continue;
            }
            if fits == 0 && !rest.is_empty() {
                let segment_bytes = self.active.header.segment_bytes;
                return Err(Error::TooBig { bytes: entry_bytes(&rest[0]), segment_bytes });
            }
            self.write_batch(&rest[..fits], batch.hard_state, false)?;
            rest = &rest[fits..];
            if rest.is_empty() {
                return Ok(());
            }
            self.flush()?;
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.unsynced {
            self.active.file.sync().map_err(Error::io("sync", &self.active.path))?;
            self.synced = self.last();
            self.unsynced = false;
        }
        Ok(())
    }

    /// Goes on in a fresh segment. Order: everything here is safe; the new file has its header and name; the seal
    /// says that it exists. A crash between any two of them is repaired by `open`.
    fn roll(&mut self) -> Result<(), Error> {
        assert!(!self.unsynced, "append and write_all sync what they leave behind");
        let (path, file) = self.spares.take(&self.disk)?;
        let next = {
            let index = self.shared.lock();
            SegmentHeader {
                cluster: self.shared.cluster,
                generation: self.active.header.generation + 1,
                first: index.terms.last + 1,
                base_term: index.terms.term(LogIndex(index.terms.last)).expect("the last term is known").0,
                first_batch: self.next_batch,
                hard_state: self.hard_state,
                segment_bytes: self.options.segment_bytes,
            }
        };
        let segment = Arc::new(enlist(&self.disk, &self.dir, path, file, next)?);
        self.write_batch(&[], self.hard_state, true)?;
        self.flush()?;
        self.shared.lock().segments.push_back(segment.clone());
        self.active = segment;
        self.offset = first_batch_offset();
        Ok(())
    }

    /// Runs a step that must not be followed by another once it failed.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let answer = step(self);
        self.poisoned = answer.is_err();
        answer
    }
}

/// Turns a spare file into the segment that `header` describes: header synced first, then the name.
fn enlist<D: Disk>(
    disk: &D,
    dir: &Path,
    spare: PathBuf,
    file: D::File,
    header: SegmentHeader,
) -> Result<Segment<D::File>, Error> {
    file.write_at(&header.encode(), 0).map_err(Error::io("write the header of", &spare))?;
    file.sync().map_err(Error::io("sync", &spare))?;
    let path = segment_path(dir, header.generation);
    disk.rename(&spare, &path).map_err(Error::io("rename a spare file to", &path))?;
    disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(Segment { path, header, file })
}

impl<D: Disk> JournalLog for SegmentLog<D> {
    fn append(&mut self, batch: &AppendBatch) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        check_continues(&self.shared.lock().terms, self.hard_state.commit, batch)?;
        let room = self.options.segment_bytes - SECTOR_BYTES - u64::try_from(SEGMENT_HEADER_BYTES).expect("small");
        if let Some(big) = batch.entries.iter().find(|entry| batch_disk_bytes(entry_bytes(entry)) > room) {
            return Err(Error::TooBig { bytes: entry_bytes(big), segment_bytes: self.options.segment_bytes });
        }
        self.guarded(|log| {
            log.flush()?;
            log.write_all(batch)
        })
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.guarded(Self::flush)
    }

    /// Oldest segments become spares, one durable rename after the other, so that no crash leaves a hole.
    fn purge_below(&mut self, index: LogIndex) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        loop {
            let dropped = {
                let mut known = self.shared.lock();
                let next_first = known.segments.get(1).map(|segment| segment.header.first);
                if next_first.is_none_or(|first| first > index.0) {
                    return Ok(());
                }
                known.drop_oldest()
            };
            if let Some(segment) = dropped {
                self.spares.recycle(&self.disk, &segment.path, segment.header.segment_bytes)?;
            }
        }
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.shared.clone()
    }

    /// Prepares the next segment once this one is half full.
    fn prepare(&mut self) -> Result<bool, Error> {
        match self.wants_preparing() {
            true => self.spares.fill_step(&self.disk),
            false => Ok(false),
        }
    }

    fn wants_preparing(&self) -> bool {
        !self.poisoned && self.room() <= self.active.header.segment_bytes / 2 && self.spares.is_empty()
    }
}
