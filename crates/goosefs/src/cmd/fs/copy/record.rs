//! Which files of a copy from local ones were begun and not ended.
//!
//! Is:     a file below `goosefs.home`, one per source and destination, locked while its copy runs and removed with its
//!         last line. A line is `+<file id> <path>` (0: not known yet) or `-<path>`, ended by NUL.
//! Owns:   the proof that an incomplete file is a leftover of ours. Somebody else may be writing one of the same name.
//! Never:  says that a file was copied whole: only the file itself can.
//!
//! Not synced: a killed process loses nothing of it, and what a power cut takes costs an answer that asks a person.
//! Writes go to the page cache, in microseconds, so they are made where they are needed.

use anyhow::Context as _;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use types::{FileId, GfsPath};

/// Size at which lines of files that ended are dropped.
const COMPACT_BYTES: usize = 1 << 20;
/// Tries to get hold of the file while others remove theirs.
const OPEN_TRIES: usize = 8;

/// Open and locked.
pub struct Record {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    written_bytes: usize,
    begun: BTreeMap<String, Option<FileId>>,
}

impl Record {
    /// The record of the copy named `copy` below `home`, with what an interrupted run of it left.
    ///
    /// Errors: the same copy runs now; the file cannot be made or read.
    pub fn open(home: &Path, copy: &str) -> Result<Record, OpenError> {
        let name: String = Md5::digest(copy).iter().map(|byte| format!("{byte:02x}")).collect();
        let directory = home.join("copies");
        let path = directory.join(name);
        let failed = |source| OpenError::Disk { path: path.clone(), source };
        if !home.is_absolute() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not an absolute path")));
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let mut file = lock(&path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let mut state = State { file, written_bytes: 0, begun: parse(&text) };
        if !text.is_empty() {
            // Whatever a power cut made of the last line is gone.
            compact(&path, &mut state).map_err(failed)?;
        }
        Ok(Record { path, state: Mutex::new(state) })
    }

    /// Whether an incomplete `file` at `path` is what an interrupted run left.
    pub fn has_begun(&self, path: &GfsPath, file: FileId) -> bool {
        // Without an id the run ended between asking for the file and hearing of it.
        self.state.lock().begun.get(path.as_str()).is_some_and(|known| known.is_none_or(|id| id == file))
    }

    /// `path` is about to be made, or was made as `file`.
    pub fn begin(&self, path: &GfsPath, file: Option<FileId>) -> anyhow::Result<()> {
        let mut state = self.state.lock();
        state.begun.insert(path.to_string(), file);
        self.write(&mut state, &begun_line(path.as_str(), file))
    }

    /// Nothing half-written of ours is at `path`.
    pub fn end(&self, path: &GfsPath) -> anyhow::Result<()> {
        let mut state = self.state.lock();
        if state.begun.remove(path.as_str()).is_none() {
            return Ok(());
        }
        self.write(&mut state, format!("-{path}\0").as_bytes())
    }

    /// The run is over: without leftovers there is nothing to remember.
    pub fn close(self) -> anyhow::Result<()> {
        if !self.state.lock().begun.is_empty() {
            return Ok(());
        }
        std::fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }

    fn write(&self, state: &mut State, line: &[u8]) -> anyhow::Result<()> {
        let outcome = if state.written_bytes + line.len() > COMPACT_BYTES {
            compact(&self.path, state)
        } else {
            state.written_bytes += line.len();
            state.file.write_all(line)
        };
        outcome.with_context(|| format!("cannot remember what is being copied in {}", self.path.display()))
    }
}

/// A new file, locked before it has the name, replaces the old one.
fn compact(path: &Path, state: &mut State) -> io::Result<()> {
    let lines: Vec<u8> = state.begun.iter().flat_map(|(path, file)| begun_line(path, *file)).collect();
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().append(true).create(true).open(&beside)?;
    file.set_len(0)?;
    file.try_lock()?;
    file.write_all(&lines)?;
    std::fs::rename(&beside, path)?;
    (state.file, state.written_bytes) = (file, lines.len());
    Ok(())
}

/// Why there is no record.
#[derive(thiserror::Error, Debug)]
pub enum OpenError {
    #[error("the same copy runs already ({} is locked); wait for its end", .0.display())]
    Running(PathBuf),
    #[error("{} cannot be used ({source}); set goosefs.home to a directory of yours", path.display())]
    Disk { path: PathBuf, source: io::Error },
}

/// Opens and locks the file of that name: not one that its owner removed meanwhile.
fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Disk { path: path.to_owned(), source };
    for _ in 0..OPEN_TRIES {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Running(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let locked = file.metadata().map_err(failed)?;
        if std::fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
            return Ok(file);
        }
    }
    Err(OpenError::Running(path.to_owned()))
}

fn begun_line(path: &str, file: Option<FileId>) -> Vec<u8> {
    format!("+{} {path}\0", file.map_or(0, FileId::to_wire)).into_bytes()
}

/// A line without its end was being written when the machine stopped, and is left out like any other that is none.
fn parse(text: &[u8]) -> BTreeMap<String, Option<FileId>> {
    let mut begun = BTreeMap::new();
    for line in text.split_inclusive(|byte| *byte == 0) {
        let line = line.strip_suffix(b"\0").and_then(|line| std::str::from_utf8(line).ok());
        if let Some(path) = line.and_then(|line| line.strip_prefix('-')) {
            begun.remove(path);
        } else if let Some((id, path)) = line.and_then(|line| line.strip_prefix('+')?.split_once(' '))
            && let Ok(id) = id.parse()
        {
            begun.insert(path.to_owned(), FileId::from_wire(id));
        }
    }
    begun
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::ContainerId;

    fn path(text: &str) -> GfsPath {
        GfsPath::parse(text).expect("a path")
    }

    fn file(container: u64) -> FileId {
        ContainerId(container).file()
    }

    #[test]
    fn what_was_begun_and_not_ended_is_known_to_the_next_run() {
        let home = tempfile::tempdir().expect("a directory");
        let open = || Record::open(home.path(), "from to").expect("a record");
        let record = open();
        for (name, id) in [("/a", None), ("/b", Some(file(2))), ("/c\n-/b", Some(file(3))), ("/d", Some(file(4)))] {
            record.begin(&path(name), None).expect("written");
            if let Some(id) = id {
                record.begin(&path(name), Some(id)).expect("written");
            }
        }
        record.end(&path("/d")).expect("written");
        drop(record); // as a kill would
        let record = open();
        assert!(record.has_begun(&path("/a"), file(77)), "it was about to be made");
        assert!(record.has_begun(&path("/b"), file(2)) && record.has_begun(&path("/c\n-/b"), file(3)));
        assert!(!record.has_begun(&path("/b"), file(9)), "another file has the name by now");
        assert!(!record.has_begun(&path("/d"), file(4)) && !record.has_begun(&path("/e"), file(5)));
    }

    #[test]
    fn one_copy_runs_once_at_a_time_and_leaves_nothing_when_all_is_well() {
        let home = tempfile::tempdir().expect("a directory");
        let record = Record::open(home.path(), "from to").expect("a record");
        let why = Record::open(home.path(), "from to").err().expect("it runs").to_string();
        assert!(why.starts_with("the same copy runs already"), "{why}");
        drop(Record::open(home.path(), "from elsewhere").expect("another copy"));
        record.begin(&path("/a"), None).expect("written");
        record.end(&path("/a")).expect("written");
        record.close().expect("removed");
        let left: Vec<_> = std::fs::read_dir(home.path().join("copies")).expect("a directory").collect();
        assert_eq!(left.len(), 1, "that of the other copy, which was not closed: {left:?}");
    }

    #[test]
    fn a_record_stays_small_and_a_torn_line_is_left_out() {
        let home = tempfile::tempdir().expect("a directory");
        let record = Record::open(home.path(), "from to").expect("a record");
        record.begin(&path("/kept"), Some(file(1))).expect("written");
        for number in 0..40_000 {
            let at = path(&format!("/directory/file-{number}"));
            record.begin(&at, Some(file(2))).expect("written");
            record.end(&at).expect("written");
        }
        let at = record.path.clone();
        assert!(std::fs::metadata(&at).expect("there").len() <= 1 << 20);
        drop(record);
        let mut text = std::fs::read(&at).expect("readable");
        text.extend_from_slice(b"+7 /torn");
        std::fs::write(&at, text).expect("written");
        let record = Record::open(home.path(), "from to").expect("a record");
        record.begin(&path("/next"), None).expect("written");
        drop(record);
        let record = Record::open(home.path(), "from to").expect("a record");
        assert!(record.has_begun(&path("/kept"), file(1)) && record.has_begun(&path("/next"), file(8)));
        assert_eq!(record.state.lock().begun.len(), 2);
    }

    #[test]
    fn fuzz_copy_record() {
        let sample = [begun_line("/a/b", Some(file(5))), begun_line("/c", None), b"-/a/b\0".to_vec()].concat();
        testkit::fuzz::fuzz("copy_record", &[sample], |bytes| {
            let begun = parse(bytes);
            let again: Vec<u8> = begun.iter().flat_map(|(path, file)| begun_line(path, *file)).collect();
            assert_eq!(parse(&again), begun, "it leads back");
        });
    }
}
