//! Formatting a directory, and opening one: what is kept, what may be cut, what is refused.
//!
//! Is:     the only code that looks at a log it has not written itself.
//! Owns:   the decision that a bad spot is a torn last batch, which may be cut, or damage, which may not.
//! Never:  deletes or repairs anything it refuses.

use super::format::{BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader, Unreadable, decode_entries};
use super::index::{Index, Segment, Shared, first_batch_offset};
use super::scan::{Cursor, Step};
use super::spare::{self, Spares};
use super::{SegmentLog, SegmentOptions, enlist, segment_path};
use crate::disk::{Aligned, Disk, DiskFile, SECTOR_BYTES};
use crate::{Cut, EntryKind, Error, HardState, LogEntry, Recovered};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::{ClusterId, LogIndex, Term};

const LOCK: &str = "lock";
/// What ext4 puts into the root of a file system; harmless in a fresh directory.
const LOST_FOUND: &str = "lost+found";

/// Where a log begins that is begun anew behind a snapshot, and what must not be forgotten over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewStart {
    /// The snapshot's last entry, and its term.
    pub after: LogIndex,
    pub after_term: Term,
    /// Term and vote of the log before.
    pub hard_state: HardState,
    /// From [`SegmentLog::next_generation`] of the log before: bytes left in recycled files must not pass for new ones.
    pub generation: u64,
}

impl<D: Disk> SegmentLog<D> {
    /// Gives up everything the log in `dir` holds and begins it anew. Whoever calls it remembers `start` durably until it
    /// returned, and calls it again after a crash: in between there may be no log at all.
    pub fn reset(
        disk: &D,
        dir: &Path,
        cluster: ClusterId,
        options: SegmentOptions,
        start: NewStart,
    ) -> Result<(), Error> {
        options.check()?;
        let _lock = lock(disk, dir)?;
        let names = disk.list(dir).map_err(Error::io("list", dir))?;
        for name in names.iter().filter(|name| generation_of(name).is_some()) {
            disk.remove(&dir.join(name)).map_err(Error::io("remove", dir.join(name)))?;
        }
        disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        let mut spares = Spares::open(disk, dir, options.segment_bytes)?;
        let (path, file) = spares.take(disk)?;
        let header = SegmentHeader {
            cluster,
            generation: start.generation,
            first: start.after.0 + 1,
            base_term: start.after_term.0,
            first_batch: 1,
            hard_state: HardState { commit: start.after, ..start.hard_state },
            segment_bytes: options.segment_bytes,
        };
        enlist(disk, dir, path, file, header)?;
        Ok(())
    }

    /// A generation that no file of this log has had.
    pub fn next_generation(&self) -> u64 {
        self.active.header.generation + 1
    }

    /// Writes an empty log for `cluster` into `dir`, which is made if missing. Refused if the directory holds anything,
    /// unless `force`: then files of an earlier log are removed, others left alone.
    pub fn format(disk: &D, dir: &Path, cluster: ClusterId, options: SegmentOptions, force: bool) -> Result<(), Error> {
        options.check()?;
        disk.create_dir(dir).map_err(Error::io("create", dir))?;
        let _lock = lock(disk, dir)?;
        let names = disk.list(dir).map_err(Error::io("list", dir))?;
        // Spare files hold nothing: an interrupted format may be repeated.
        let mut found = names.iter().filter(|name| *name != LOCK && *name != LOST_FOUND && !spare::is_ours(name));
        if let (Some(first), false) = (found.next(), force) {
            return Err(Error::NotEmpty { dir: dir.to_path_buf(), found: first.clone() });
        }
        for name in names.iter().filter(|name| generation_of(name).is_some()) {
            disk.remove(&dir.join(name)).map_err(Error::io("remove", dir.join(name)))?;
        }
        let mut spares = Spares::open(disk, dir, options.segment_bytes)?;
        let (path, file) = spares.take(disk)?;
        let header = SegmentHeader {
            cluster,
            generation: 1,
            first: 1,
            base_term: 0,
            first_batch: 1,
            hard_state: HardState::default(),
            segment_bytes: options.segment_bytes,
        };
        enlist(disk, dir, path, file, header)?;
        Ok(())
    }

    /// Opens the log in `dir`, cutting at most one torn batch at its end. `cluster`: whose log it must be, if known.
    /// Errors: `NotFormatted`, `Locked`, `Foreign`, `Newer`, `MissingSegment`, `Damaged`, `CutRefused`, `Io`; none of
    /// them changes a byte of the log. Cost: one sequential read of all segments.
    pub fn open(
        disk: D,
        dir: &Path,
        cluster: Option<ClusterId>,
        options: SegmentOptions,
    ) -> Result<(SegmentLog<D>, Recovered), Error> {
        options.check()?;
        let names = match disk.list(dir) {
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFormatted { dir: dir.to_path_buf() });
            }
            names => names.map_err(Error::io("list", dir))?,
        };
        if !names.iter().any(|name| generation_of(name).is_some()) {
            return Err(Error::NotFormatted { dir: dir.to_path_buf() });
        }
        let lock = lock(&disk, dir)?;
        let segments = live_segments(&disk, dir, cluster)?;
        let mut recovery = Recovery::new(segments);
        let cut = recovery.replay()?;
        recovery.settle(&disk, dir)?;
        let spares = Spares::open(&disk, dir, options.segment_bytes)?;
        let Recovery { index, next_batch, hard_state, offset, changes, .. } = recovery;
        let active = index.segments.back().expect("there is a segment").clone();
        let cluster = active.header.cluster;
        let recovered = Recovered { cluster, hard_state, terms: index.terms.clone(), changes, cut };
        let log = SegmentLog {
            dir: dir.to_path_buf(),
            options,
            synced: index.terms.last,
            shared: Arc::new(Shared::new(cluster, index)),
            spares,
            active,
            offset,
            next_batch,
            hard_state,
            unsynced: false,
            poisoned: false,
            scratch: Aligned::default(),
            _lock: lock,
            disk,
        };
        Ok((log, recovered))
    }
}

fn lock<D: Disk>(disk: &D, dir: &Path) -> Result<D::Lock, Error> {
    disk.lock(&dir.join(LOCK)).map_err(|failure| match failure.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_path_buf() },
        _ => Error::io("lock", dir.join(LOCK))(failure),
    })
}

pub(super) fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".log")?;
    u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)
}

/// Keeps `changes` true when `entries` are appended, replacing what they overlap.
fn note_changes(changes: &mut Vec<LogIndex>, entries: &[LogEntry]) {
    let Some(first) = entries.first() else { return };
    changes.retain(|index| *index < first.index);
    changes.extend(entries.iter().filter(|entry| entry.kind == EntryKind::Change).map(|entry| entry.index));
}

/// Opens every segment file and checks what each says of itself: one cluster, one version, no generation missing.
fn live_segments<D: Disk>(
    disk: &D,
    dir: &Path,
    cluster: Option<ClusterId>,
) -> Result<Vec<Arc<Segment<D::File>>>, Error> {
    let names = disk.list(dir).map_err(Error::io("list", dir))?;
    let mut generations: Vec<u64> = names.iter().filter_map(|name| generation_of(name)).collect();
    generations.sort_unstable();
    let mut segments: Vec<Arc<Segment<D::File>>> = Vec::new();
    for generation in generations {
        let segment = open_segment(disk, segment_path(dir, generation), generation)?;
        let expected = segments.first().map(|first| first.header.cluster).or(cluster);
        if let Some(expected) = expected.filter(|&expected| expected != segment.header.cluster) {
            return Err(Error::Foreign { path: segment.path, found: segment.header.cluster, expected });
        }
        if let Some(before) = segments.last().filter(|before| before.header.generation + 1 != generation) {
            return Err(Error::MissingSegment { path: segment_path(dir, before.header.generation + 1) });
        }
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

fn open_segment<D: Disk>(disk: &D, path: PathBuf, generation: u64) -> Result<Segment<D::File>, Error> {
    let file = disk.open(&path).map_err(Error::io("open", &path))?;
    segment_of(file, path, generation)
}

/// The segment that the file at `path` is, by its name and its header.
pub(super) fn segment_of<F: DiskFile>(file: F, path: PathBuf, generation: u64) -> Result<Segment<F>, Error> {
    let bytes = file.len_bytes().map_err(Error::io("measure", &path))?;
    if bytes < SECTOR_BYTES {
        return Err(Error::damaged(path, format!("it has only {bytes} bytes")));
    }
    let mut sector = [0; SEGMENT_HEADER_BYTES];
    file.read_at(&mut sector, 0).map_err(Error::io("read", &path))?;
    let header = match SegmentHeader::decode(&sector) {
        Ok(header) => header,
        Err(Unreadable::NotOurs) => return Err(Error::damaged(path, "it does not begin as a journal segment does")),
        Err(Unreadable::Newer(found)) => {
            return Err(Error::Newer { path, found, known: super::format::FORMAT_VERSION });
        }
        Err(Unreadable::Checksum) => return Err(Error::damaged(path, "the checksum of its header is wrong")),
    };
    if header.generation != generation {
        return Err(Error::damaged(path, format!("its header says generation {:016x}", header.generation)));
    }
    if bytes < header.segment_bytes {
        let detail = format!("it has {bytes} bytes of the {} in its header", header.segment_bytes);
        return Err(Error::damaged(path, detail));
    }
    Ok(Segment { path, header, file })
}

/// What replaying the segments has found so far.
struct Recovery<F> {
    index: Index<F>,
    next_batch: u64,
    hard_state: HardState,
    /// End of the last whole batch in the segment at hand, and where that batch began, if there is one.
    offset: u64,
    last_batch: Option<u64>,
    changes: Vec<LogIndex>,
}

impl<F: DiskFile> Recovery<F> {
    fn new(segments: Vec<Arc<Segment<F>>>) -> Recovery<F> {
        let oldest = segments.first().expect("there is a segment").header;
        let mut index = Index::new(&oldest);
        index.segments.extend(segments);
        Recovery {
            index,
            next_batch: oldest.first_batch,
            hard_state: oldest.hard_state,
            offset: first_batch_offset(),
            last_batch: None,
            changes: Vec::new(),
        }
    }

    /// Walks all segments in order.
    fn replay(&mut self) -> Result<Option<Cut>, Error> {
        let segments: Vec<_> = self.index.segments.iter().cloned().collect();
        for (segment, next) in segments.iter().zip(&segments[1..]) {
            self.replay_finished(segment, next)?;
        }
        let newest = segments.last().expect("there is a segment");
        let cut = self.replay_newest(newest)?;
        if self.hard_state.commit.0 > self.index.terms.last {
            let (commit, last) = (self.hard_state.commit, LogIndex(self.index.terms.last));
            let detail = format!("the log is committed up to {commit} but ends at {last}");
            return Err(Error::damaged(&newest.path, detail));
        }
        let base = LogIndex(self.index.terms.first - 1);
        self.hard_state.commit = self.hard_state.commit.max(base);
        Ok(cut)
    }

    /// A segment with a successor: every batch up to the one the successor names was synced, so all must be whole.
    fn replay_finished(&mut self, segment: &Segment<F>, next: &Segment<F>) -> Result<(), Error> {
        let mut cursor = self.enter(segment);
        while self.next_batch < next.header.first_batch {
            match cursor.next().map_err(Error::io("read", &segment.path))? {
                Step::Batch(header) if !header.seal => self.accept(segment, &header, &cursor)?,
                Step::Batch(_) | Step::BadBody(_) | Step::Blank => {
                    let evidence = format!("{} follows, which was begun after it was synced", next.path.display());
                    return Err(self.cut_refused(segment, cursor.offset, evidence));
                }
            }
        }
        if next.header.first == self.index.terms.last + 1 && self.next_batch == next.header.first_batch {
            return Ok(());
        }
        let (begins, ends) = (LogIndex(next.header.first), LogIndex(self.index.terms.last));
        Err(Error::damaged(&next.path, format!("it begins at {begins} but the segment before it ends at {ends}")))
    }

    /// The last segment: its last batch may be torn, if nothing shows that it was ever synced.
    fn replay_newest(&mut self, segment: &Segment<F>) -> Result<Option<Cut>, Error> {
        let read = Error::io("read", &segment.path);
        let mut cursor = self.enter(segment);
        let torn = loop {
            let step = match cursor.next() {
                Ok(step) => step,
                Err(failure) => return Err(read(failure)),
            };
            match step {
                Step::Batch(header) if header.seal => {
                    let missing = segment.header.generation + 1;
                    let dir = segment.path.parent().unwrap_or(Path::new(""));
                    return Err(Error::MissingSegment { path: segment_path(dir, missing) });
                }
                Step::Batch(header) => self.accept(segment, &header, &cursor)?,
                Step::BadBody(_) => break true,
                Step::Blank => break false,
            }
        };
        let offset = cursor.offset;
        if let Some(later) = cursor.find_later(self.next_batch).map_err(read)? {
            let evidence = format!(
                "a later batch (number {}) is whole and says that the log was synced up to {}",
                later.number,
                LogIndex(later.synced)
            );
            return Err(self.cut_refused(segment, offset, evidence));
        }
        Ok(torn.then(|| Cut { path: segment.path.clone(), offset }))
    }

    fn enter<'a>(&mut self, segment: &'a Segment<F>) -> Cursor<'a, F> {
        self.offset = first_batch_offset();
        self.last_batch = None;
        let SegmentHeader { cluster, generation, segment_bytes, .. } = segment.header;
        Cursor::new(&segment.file, cluster, generation, self.offset, segment_bytes)
    }

    /// Enters a whole batch, after checking that it is the one that must come now.
    fn accept(&mut self, segment: &Segment<F>, header: &BatchHeader, cursor: &Cursor<'_, F>) -> Result<(), Error> {
        let at = self.offset;
        let refuse = |what: String| Error::damaged(&segment.path, format!("the batch at byte {at} {what}"));
        let terms = &self.index.terms;
        if header.number != self.next_batch {
            return Err(refuse(format!("has number {} where {} must stand", header.number, self.next_batch)));
        }
        if header.first > terms.last + 1 || (header.entry_count > 0 && header.first <= self.hard_state.commit.0) {
            let (first, last, commit) = (LogIndex(header.first), LogIndex(terms.last), self.hard_state.commit);
            return Err(refuse(format!("begins at {first}, but the log ends at {last} and is committed to {commit}")));
        }
        if header.synced > terms.last || header.hard_state.commit.0 > header.end().max(1) - 1 {
            return Err(refuse("claims more than the log holds".to_owned()));
        }
        let entries = decode_entries(cursor.bytes(), header).ok_or_else(|| {
            refuse("holds an entry of a kind this program does not know; start a newer program".to_owned())
        })?;
        self.index.add(header, entries.iter().map(|entry| entry.term.0), at);
        note_changes(&mut self.changes, &entries);
        self.next_batch += 1;
        self.hard_state = header.hard_state;
        self.last_batch = Some(at);
        self.offset = cursor.offset;
        Ok(())
    }

    fn cut_refused(&self, segment: &Segment<F>, offset: u64, evidence: String) -> Error {
        let lost = LogIndex(self.index.terms.last + 1);
        Error::CutRefused { path: segment.path.clone(), offset, lost, evidence }
    }

    /// Makes what was found truly durable before anybody relies on it: a killed process may have left its last batch in
    /// the page cache, and a failed sync may have left it there marked clean. So it is written again, then synced.
    fn settle<D: Disk<File = F>>(&self, disk: &D, dir: &Path) -> Result<(), Error> {
        let segment = self.index.segments.back().expect("there is a segment");
        let (from, to) = match self.last_batch {
            Some(offset) => (offset, self.offset),
            None => (0, first_batch_offset()),
        };
        let mut bytes = vec![0; usize::try_from(to - from).expect("a batch fits memory")];
        segment.file.read_at(&mut bytes, from).map_err(Error::io("read", &segment.path))?;
        segment.file.write_at(&bytes, from).map_err(Error::io("write", &segment.path))?;
        segment.file.sync().map_err(Error::io("sync", &segment.path))?;
        disk.sync_dir(dir).map_err(Error::io("sync", dir))
    }
}
