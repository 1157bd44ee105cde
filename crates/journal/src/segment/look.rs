//! Looks at a log without touching it, also beside the master that writes it.
//!
//! Is:     every batch that is whole, in order, to whoever wants to see it.
//! Owns:   nothing; it takes no lock, so what it sees may be a moment old.
//! Never:  writes, cuts, repairs; takes what a running master has just moved on for damage.

use super::format::{BatchHeader, SegmentHeader, decode_entries};
use super::index::{Segment, first_batch_offset};
use super::open::{generation_of, segment_of};
use super::scan::{Cursor, Step};
use super::segment_path;
use crate::disk::RealFile;
use crate::{Cut, Error, HardState, LogEntry};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use types::{ClusterId, LogIndex};

/// A running master may purge segments between our listing and our opening them; this often we list again.
const LISTINGS_MAX: usize = 16;

/// One batch as it stands on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBatch {
    pub path: PathBuf,
    /// Where in the file it begins.
    pub offset: u64,
    /// Counts up by one from batch to batch.
    pub number: u64,
    /// Highest index known synced before it was written.
    pub synced: LogIndex,
    pub hard_state: HardState,
    /// Those from an index that stood before replace what stood from there on.
    pub entries: Vec<LogEntry>,
}

/// Shows every whole batch of the log in `dir` to `see`, oldest first, until it breaks off.
///
/// Returns where a last batch begins that is not whole: torn by a crash, or being written at this moment.
/// Errors: `NotFormatted`, `Newer`, `MissingSegment`, `Io`, and `Damaged` with file and byte at the first batch that
/// cannot be read although the log goes on behind it. Cost: one sequential read; memory for one batch.
pub fn look(dir: &Path, mut see: impl FnMut(StoredBatch) -> ControlFlow<()>) -> Result<Option<Cut>, Error> {
    let segments = open_all(dir)?;
    let mut expected = None;
    for (at, segment) in segments.iter().enumerate() {
        let number = expected.unwrap_or(segment.header.first_batch);
        match walk(segment, segments.get(at + 1), number, &mut see)? {
            End::Goes { next } => expected = Some(next),
            End::Torn(cut) => return Ok(Some(cut)),
            End::Left => return Ok(None),
        }
    }
    Ok(None)
}

/// Whose log the one in `dir` is, and the first index it may hold. Errors: as those of [`look`]. Cost: one sector a segment.
pub fn head(dir: &Path) -> Result<LogHead, Error> {
    let segments = open_all(dir)?;
    let header = segments.first().expect("no segments are an error").header;
    Ok(LogHead { cluster: header.cluster, first: LogIndex(header.first) })
}

/// How a log begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogHead {
    pub cluster: ClusterId,
    pub first: LogIndex,
}

/// How the walk through one segment ended.
enum End {
    /// All of it was whole; the next segment begins with this batch.
    Goes {
        next: u64,
    },
    Torn(Cut),
    /// Whoever looks has seen enough.
    Left,
}

fn walk(
    segment: &Segment<RealFile>,
    next: Option<&Segment<RealFile>>,
    first: u64,
    see: &mut impl FnMut(StoredBatch) -> ControlFlow<()>,
) -> Result<End, Error> {
    let SegmentHeader { cluster, generation, segment_bytes, first_batch, .. } = segment.header;
    let damaged = |offset: u64, why: String| Error::damaged(&segment.path, format!("the batch at byte {offset} {why}"));
    if first_batch != first {
        return Err(Error::damaged(&segment.path, format!("it begins with batch {first_batch}, not with {first}")));
    }
    let cursor_at = |offset| Cursor::new(&segment.file, cluster, generation, offset, segment_bytes);
    let read = || Error::io("read", &segment.path);
    let mut number = first;
    let mut cursor = cursor_at(first_batch_offset());
    // Where a second look was taken: what could not be read may have been written meanwhile.
    let mut looked_again = None;
    loop {
        let offset = cursor.offset;
        if next.is_some_and(|next| number == next.header.first_batch) {
            return Ok(End::Goes { next: number });
        }
        let step = cursor.next().map_err(read())?;
        match step {
            Step::Batch(header) if header.seal => return sealed(segment, next, number, offset),
            Step::Batch(header) => {
                if header.number != number {
                    return Err(damaged(offset, format!("has number {} where {number} must stand", header.number)));
                }
                let entries = decode_entries(cursor.bytes(), &header).ok_or_else(|| {
                    damaged(offset, "holds an entry of a kind this program does not know; use a newer one".to_owned())
                })?;
                if see(stored(segment, offset, &header, entries)).is_break() {
                    return Ok(End::Left);
                }
                number += 1;
            }
            Step::BadBody(_) | Step::Blank if looked_again != Some(offset) => {
                looked_again = Some(offset);
                cursor = cursor_at(offset);
            }
            Step::BadBody(_) | Step::Blank if was_purged(segment)? => return Ok(End::Left),
            Step::BadBody(_) | Step::Blank => {
                let torn = matches!(step, Step::BadBody(_));
                if let Some(next) = next {
                    let why = format!("cannot be read, yet {} follows", next.path.display());
                    return Err(damaged(offset, why));
                }
                if let Some(later) = cursor.find_later(number).map_err(read())? {
                    if matches!(cursor_at(offset).next().map_err(read())?, Step::Batch(_)) {
                        cursor = cursor_at(offset);
                        continue;
                    }
                    let why = format!("cannot be read, yet a later one (number {}) is whole", later.number);
                    return Err(damaged(offset, why));
                }
                return Ok(match torn {
                    true => End::Torn(Cut { path: segment.path.clone(), offset }),
                    false => End::Left,
                });
            }
        }
    }
}

/// The log goes on in another file: one we have, or one that was begun after we listed them.
fn sealed(
    segment: &Segment<RealFile>,
    next: Option<&Segment<RealFile>>,
    number: u64,
    offset: u64,
) -> Result<End, Error> {
    match next {
        Some(next) => {
            let (path, wanted) = (&segment.path, next.header.first_batch);
            let why =
                format!("the seal at byte {offset} stands where batch {number} must; {wanted} begins the next file");
            Err(Error::damaged(path, why))
        }
        None => {
            let dir = segment.path.parent().unwrap_or(Path::new(""));
            let path = segment_path(dir, segment.header.generation + 1);
            match path.exists() {
                true => Ok(End::Left),
                false => Err(Error::MissingSegment { path }),
            }
        }
    }
}

/// Whether the file has another name by now, as purged segments do: what it holds is no longer the log's.
fn was_purged(segment: &Segment<RealFile>) -> Result<bool, Error> {
    match fs::metadata(&segment.path) {
        Ok(_) => Ok(false),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(failure) => Err(Error::io("look at", &segment.path)(failure)),
    }
}

fn stored(segment: &Segment<RealFile>, offset: u64, header: &BatchHeader, entries: Vec<LogEntry>) -> StoredBatch {
    StoredBatch {
        path: segment.path.clone(),
        offset,
        number: header.number,
        synced: LogIndex(header.synced),
        hard_state: header.hard_state,
        entries,
    }
}

/// Every live segment, oldest first, opened for reading.
fn open_all(dir: &Path) -> Result<Vec<Segment<RealFile>>, Error> {
    for _ in 0..LISTINGS_MAX {
        if let Some(segments) = open_listed(dir)? {
            return Ok(segments);
        }
    }
    let why = format!("list {LISTINGS_MAX} times without a segment going away meanwhile");
    Err(Error::Config { what: format!("cannot {why} in {}; try again", dir.display()) })
}

/// None: one was purged since it was listed.
fn open_listed(dir: &Path) -> Result<Option<Vec<Segment<RealFile>>>, Error> {
    let not_formatted = || Error::NotFormatted { dir: dir.to_path_buf() };
    let listing = fs::read_dir(dir).map_err(|failure| match failure.kind() {
        io::ErrorKind::NotFound => not_formatted(),
        _ => Error::io("list", dir)(failure),
    })?;
    let names = listing.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
    let names = names.map_err(Error::io("list", dir))?;
    let mut generations: Vec<u64> = names.iter().filter_map(|name| name.to_str()).filter_map(generation_of).collect();
    generations.sort_unstable();
    if generations.is_empty() {
        return Err(not_formatted());
    }
    let mut segments: Vec<Segment<RealFile>> = Vec::new();
    for generation in generations {
        let path = segment_path(dir, generation);
        let file = match RealFile::to_read(&path) {
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(Error::io("open", &path))?,
        };
        let segment = segment_of(file, path, generation)?;
        if let Some(before) = segments.last() {
            let expected = before.header;
            if expected.generation + 1 != generation {
                return Err(Error::MissingSegment { path: segment_path(dir, expected.generation + 1) });
            }
            if expected.cluster != segment.header.cluster {
                let (found, expected) = (segment.header.cluster, expected.cluster);
                return Err(Error::Foreign { path: segment.path, found, expected });
            }
        }
        segments.push(segment);
    }
    Ok(Some(segments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{RealDisk, SECTOR_BYTES};
    use crate::segment::format::batch_disk_bytes;
    use crate::{AppendBatch, BatchSeq, EntryKind, JournalLog, MemberId, SegmentLog, SegmentOptions};
    use bytes::Bytes;
    use std::os::unix::fs::FileExt;
    use types::Term;

    const OPTIONS: SegmentOptions = SegmentOptions { segment_bytes: 4096 };

    fn batch(index: u64) -> AppendBatch {
        let payload = Bytes::from(format!("entry {index}"));
        AppendBatch {
            seq: BatchSeq(index),
            truncate_from: None,
            entries: vec![LogEntry { index: LogIndex(index), term: Term(3), kind: EntryKind::Normal, payload }],
            hard_state: HardState { term: Term(3), vote: Some(MemberId(1)), commit: LogIndex(index - 1) },
        }
    }

    /// A log of `count` batches of one sector each, six in a segment.
    fn log(dir: &Path, count: u64) -> SegmentLog<RealDisk> {
        SegmentLog::format(&RealDisk, dir, ClusterId(7), OPTIONS, false).expect("formatted");
        let (mut log, _) = SegmentLog::open(RealDisk, dir, None, OPTIONS).expect("opened");
        for index in 1..=count {
            log.append(&batch(index)).expect("appended");
            log.sync().expect("synced");
        }
        assert_eq!(batch_disk_bytes(24), SECTOR_BYTES);
        log
    }

    fn seen(dir: &Path) -> (Vec<u64>, Result<Option<Cut>, Error>) {
        let mut indexes = Vec::new();
        let end = look(dir, |batch| {
            indexes.extend(batch.entries.iter().map(|entry| entry.index.0));
            ControlFlow::Continue(())
        });
        (indexes, end)
    }

    fn flip(path: &Path, offset: u64) {
        let file = fs::File::options().read(true).write(true).open(path).expect("opened");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("read");
        file.write_all_at(&[byte[0] ^ 1], offset).expect("written");
    }

    #[test]
    fn a_log_in_use_is_shown_whole_and_left_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = log(dir.path(), 20);
        let (indexes, end) = seen(dir.path());
        assert_eq!((indexes, end.expect("whole")), ((1..=20).collect(), None));
        assert_eq!(head(dir.path()).expect("whole"), LogHead { cluster: ClusterId(7), first: LogIndex(1) });
        log.append(&batch(21)).expect("the writer was not disturbed");
        log.sync().expect("synced");
        log.purge_below(LogIndex(15)).expect("purged");
        let (indexes, end) = seen(dir.path());
        assert_eq!(end.expect("whole"), None);
        assert!(indexes.first().is_some_and(|&first| first > 1) && indexes.last() == Some(&21), "{indexes:?}");
    }

    #[test]
    fn damage_is_told_by_file_and_byte_and_a_torn_end_is_no_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(log(dir.path(), 10));
        let (finished, newest) = (segment_path(dir.path(), 1), segment_path(dir.path(), 2));
        flip(&newest, 4 * SECTOR_BYTES + 90);
        let (indexes, end) = seen(dir.path());
        assert_eq!(end.expect("a torn end"), Some(Cut { path: newest.clone(), offset: 4 * SECTOR_BYTES }));
        assert_eq!(indexes.last(), Some(&9));
        flip(&newest, 4 * SECTOR_BYTES + 90);
        flip(&newest, 2 * SECTOR_BYTES + 20);
        let why = seen(dir.path()).1.expect_err("damaged").to_string();
        assert!(why.contains("batch at byte 1024 cannot be read, yet a later one (number 9) is whole"), "{why}");
        flip(&finished, SECTOR_BYTES + 95);
        let (indexes, end) = seen(dir.path());
        let why = end.expect_err("damaged").to_string();
        assert!(indexes.is_empty() && why.contains("segment-0000000000000001.log is damaged: the batch at"), "{why}");
    }

    #[test]
    fn whoever_has_seen_enough_stops_and_no_journal_is_no_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let (at, mut count) = (dir.path().join("journal"), 0);
        drop(log(&at, 20));
        let end = look(&at, |_| {
            count += 1;
            ControlFlow::Break(())
        });
        assert_eq!((count, end.expect("whole")), (1, None));
        let nothing = seen(&dir.path().join("nothing")).1.expect_err("none");
        assert!(matches!(nothing, Error::NotFormatted { .. }), "{nothing}");
    }

    /// Whoever looks and whoever opens see the same: what was written, up to where it can be read.
    #[test]
    fn fuzz_whole_segment() {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        drop(log(dir.path(), 5));
        let segment = segment_path(dir.path(), 1);
        let sample = fs::read(&segment).expect("read");
        testkit::fuzz::fuzz("whole_segment", &[sample], |bytes| {
            fs::write(&segment, bytes).expect("written");
            let (indexes, end) = seen(dir.path());
            assert!(indexes.iter().copied().zip(1..=5).all(|(found, written)| found == written), "{indexes:?}");
            match SegmentLog::open(RealDisk, dir.path(), None, OPTIONS) {
                Ok((_, recovered)) => {
                    assert_eq!(usize::try_from(recovered.last().0).ok(), Some(indexes.len()));
                    end.expect("what opens can be looked at");
                }
                Err(why) => assert!(end.is_err(), "{why}"),
            }
        });
    }
}
