//! Puts a fetched snapshot in place of this member's state.
//!
//! Is:     a file `install` in the journal's directory that says what has been decided and done, and the steps it asks for.
//!         It is written when the last byte of a snapshot is safe, and removed when the last step is done.
//! Owns:   `incoming` below the metastore's directory. The files themselves are behind [`Files`].
//! Never:  runs while the state is open; begins before every file of the snapshot is there.
//!
//! A start that finds `install` goes on where it says, so a crash at any point costs nothing but time. Layout:
//! `docs/formats/journal.md`.

use crate::record_file;
use journal::disk::{Disk, RealDisk};
use journal::{MemberId, NewStart, SegmentLog, SegmentOptions};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use types::{ClusterId, LogIndex, Term};

const FILE: &str = "install";
const MAGIC: &str = "goosefs-install-1";
/// Where a snapshot gathers, below the metastore's directory.
pub const INCOMING: &str = "incoming";
/// Where checkpoints lie that others fetch, below the metastore's directory.
pub const SENT: &str = "sent";
/// The file without which no metastore is opened: it comes last.
const FORMAT: &str = "FORMAT";

/// Why a snapshot cannot be installed.
#[derive(thiserror::Error, Debug)]
pub enum InstallError {
    #[error("cannot {verb} {}: {source}; {}", path.display(), types::remedy(source))]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged; this member cannot say how far an installation went: remove it from the group, format it with --join and add it again", path.display())]
    Damaged { path: PathBuf },
    #[error("{name} is missing or has another length than the snapshot says; fetch the snapshot again")]
    Incomplete { name: String },
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// A whole state as of one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub index: LogIndex,
    pub term: Term,
    /// Every file with its length.
    pub files: Vec<(String, u64)>,
}

/// What is to become of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Log {
    /// It holds the snapshot's last entry: what follows that is worth keeping.
    Keep,
    Reset(NewStart),
}

/// How far it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Whole,
    Decided(Log),
    Cleared(Log),
}

/// The few things an installation does with files, those of the log aside. [`Dirs`] does them on a real disk, a simulator on
/// one that fails.
pub trait Files {
    type Disk: Disk;
    /// Where the log is, and the disk it is on.
    fn log(&self) -> (Self::Disk, &Path);
    /// What the file `install` says; none: there is no such file.
    fn record(&self) -> Result<Option<String>, InstallError>;
    /// Replaces that file: whole or not at all, and safe when it returns.
    fn set_record(&self, text: &str) -> Result<(), InstallError>;
    /// Removes it, safely; absent is fine.
    fn forget_record(&self) -> Result<(), InstallError>;
    /// The length in bytes of a file of the snapshot that has arrived; none: it is not there.
    fn arrived(&self, name: &str) -> Result<Option<u64>, InstallError>;
    /// The same for a file of the state.
    fn placed(&self, name: &str) -> Result<Option<u64>, InstallError>;
    /// Makes a file that has arrived one of the state. One that is not there was moved before.
    fn move_up(&self, name: &str) -> Result<(), InstallError>;
    /// What was moved is safe when it returns.
    fn settle(&self) -> Result<(), InstallError>;
    /// Removes the state, but not what has arrived. Safe when it returns.
    fn clear(&self) -> Result<(), InstallError>;
    /// Removes what has arrived.
    fn drop_arrived(&self) -> Result<(), InstallError>;
    /// Removes the checkpoints that were made for others.
    fn drop_sent(&self) -> Result<(), InstallError>;
}

/// The directories of a member, on a real disk.
pub struct Dirs<'a> {
    pub journal: &'a Path,
    pub metastore: &'a Path,
}

/// Where a snapshot is installed.
pub struct Place<F> {
    pub files: F,
    pub cluster: ClusterId,
    pub options: SegmentOptions,
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { verb, path, source }
}

impl<F: Files> Place<F> {
    /// The snapshot in `incoming` is whole and synced: from here on it is this member's state.
    pub fn begin(&self, snapshot: &Snapshot) -> Result<(), InstallError> {
        // Without it nothing could be opened that takes the old state's place.
        if !snapshot.files.iter().any(|(name, _)| name == FORMAT) {
            return Err(InstallError::Incomplete { name: FORMAT.to_owned() });
        }
        for (name, length) in &snapshot.files {
            check(name, self.files.arrived(name)?, *length)?;
        }
        self.write(snapshot, Stage::Whole)
    }

    /// Goes on with what was begun; the snapshot that was installed, if there was one.
    pub fn finish(&self) -> Result<Option<Snapshot>, InstallError> {
        let mut installed = None;
        while let Some((snapshot, stage)) = self.read()? {
            match stage {
                Stage::Whole => match self.decide(&snapshot)? {
                    Some(log) => self.write(&snapshot, Stage::Decided(log))?,
                    None => {
                        self.files.forget_record()?;
                        continue;
                    }
                },
                Stage::Decided(log) => {
                    self.files.clear()?;
                    self.write(&snapshot, Stage::Cleared(log))?;
                }
                Stage::Cleared(log) => {
                    self.fill(&snapshot)?;
                    if let Log::Reset(start) = log {
                        let (disk, dir) = self.files.log();
                        SegmentLog::reset(&disk, dir, self.cluster, self.options, start)?;
                    }
                    self.files.forget_record()?;
                }
            }
            installed = Some(snapshot);
        }
        Ok(installed)
    }

    /// What does not belong to an installation, left over by a fetch that was broken off.
    pub fn sweep(&self) -> Result<(), InstallError> {
        self.files.drop_sent()?;
        self.files.drop_arrived()
    }

    /// The log is opened here for the last time as it was. None: it begins behind the snapshot already, so the state is newer,
    /// caught up from somebody else's log meanwhile.
    fn decide(&self, snapshot: &Snapshot) -> Result<Option<Log>, InstallError> {
        let (disk, dir) = self.files.log();
        let (log, recovered) = SegmentLog::open(disk, dir, Some(self.cluster), self.options)?;
        if recovered.first().0 > snapshot.index.0 + 1 {
            return Ok(None);
        }
        if recovered.last() >= snapshot.index && recovered.terms.term(snapshot.index) == Some(snapshot.term) {
            return Ok(Some(Log::Keep));
        }
        let (after, after_term) = (snapshot.index, snapshot.term);
        let (mut hard_state, generation) = (recovered.hard_state, log.next_generation());
        if hard_state.term < after_term {
            // In a term it has not seen it has not voted.
            hard_state = journal::HardState { term: after_term, vote: None, ..hard_state };
        }
        Ok(Some(Log::Reset(NewStart { after, after_term, hard_state, generation })))
    }

    /// The new one takes its place, the file that makes it one last.
    fn fill(&self, snapshot: &Snapshot) -> Result<(), InstallError> {
        let last = |(name, _): &&(String, u64)| name == FORMAT;
        let (format, rest): (Vec<_>, Vec<_>) = snapshot.files.iter().partition(last);
        for (name, length) in rest.into_iter().chain(format) {
            self.files.move_up(name)?;
            check(name, self.files.placed(name)?, *length)?;
        }
        self.files.settle()?;
        self.files.drop_arrived()
    }

    fn write(&self, snapshot: &Snapshot, stage: Stage) -> Result<(), InstallError> {
        let mut text = format!("{MAGIC}\nsnapshot {} {}\n", snapshot.index.0, snapshot.term.0);
        let (word, log) = match stage {
            Stage::Whole => ("whole", None),
            Stage::Decided(log) => ("decided", Some(log)),
            Stage::Cleared(log) => ("cleared", Some(log)),
        };
        writeln!(text, "stage {word}").expect("strings grow");
        match log {
            None => {}
            Some(Log::Keep) => text.push_str("keep\n"),
            Some(Log::Reset(start)) => {
                let vote = start.hard_state.vote.map_or(0, |member| member.0);
                writeln!(text, "reset {} {vote} {}", start.hard_state.term.0, start.generation).expect("strings grow");
            }
        }
        for (name, length) in &snapshot.files {
            writeln!(text, "file {length} {name}").expect("strings grow");
        }
        self.files.set_record(&record_file::sealed(&text))
    }

    fn read(&self) -> Result<Option<(Snapshot, Stage)>, InstallError> {
        let Some(text) = self.files.record()? else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| InstallError::Damaged { path: self.files.log().1.join(FILE) })
    }
}

fn check(name: &str, there: Option<u64>, length: u64) -> Result<(), InstallError> {
    if there == Some(length) { Ok(()) } else { Err(InstallError::Incomplete { name: name.to_owned() }) }
}

impl Dirs<'_> {
    fn file(&self) -> PathBuf {
        self.journal.join(FILE)
    }

    fn incoming(&self) -> PathBuf {
        self.metastore.join(INCOMING)
    }
}

impl Files for Dirs<'_> {
    type Disk = RealDisk;

    fn log(&self) -> (RealDisk, &Path) {
        (RealDisk, self.journal)
    }

    fn record(&self) -> Result<Option<String>, InstallError> {
        let path = self.file();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    fn set_record(&self, text: &str) -> Result<(), InstallError> {
        record_file::replace_sealed(&self.file(), text).map_err(failed("write", &self.file()))
    }

    fn forget_record(&self) -> Result<(), InstallError> {
        forget(self.journal)
    }

    fn arrived(&self, name: &str) -> Result<Option<u64>, InstallError> {
        length(&self.incoming().join(name))
    }

    fn placed(&self, name: &str) -> Result<Option<u64>, InstallError> {
        length(&self.metastore.join(name))
    }

    fn move_up(&self, name: &str) -> Result<(), InstallError> {
        let (from, to) = (self.incoming().join(name), self.metastore.join(name));
        if from.exists() { fs::rename(&from, &to).map_err(failed("move", &from)) } else { Ok(()) }
    }

    fn settle(&self) -> Result<(), InstallError> {
        sync(self.metastore)
    }

    fn clear(&self) -> Result<(), InstallError> {
        let dir = self.metastore;
        for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
            let path = entry.map_err(failed("list", dir))?.path();
            if path != self.incoming() {
                remove_all(&path)?;
            }
        }
        sync(dir)
    }

    fn drop_arrived(&self) -> Result<(), InstallError> {
        remove_all(&self.incoming())
    }

    fn drop_sent(&self) -> Result<(), InstallError> {
        remove_all(&self.metastore.join(SENT))
    }
}

/// The length of a file; none: there is none.
fn length(path: &Path) -> Result<Option<u64>, InstallError> {
    match fs::metadata(path) {
        Ok(there) => Ok(Some(there.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

fn parse(text: &str) -> Option<(Snapshot, Stage)> {
    let mut lines = record_file::whole(text)?.lines();
    if lines.next() != Some(MAGIC) {
        return None;
    }
    let (mut mark, mut stage, mut log, mut files) = (None, None, None, Vec::new());
    for line in lines {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let numbers = || rest.split(' ').map(|number| number.parse::<u64>().ok()).collect::<Option<Vec<u64>>>();
        match word {
            "snapshot" => mark = <[u64; 2]>::try_from(numbers()?).ok(),
            "stage" => stage = Some(rest.to_owned()),
            "keep" => log = Some(None),
            "reset" => log = Some(Some(<[u64; 3]>::try_from(numbers()?).ok()?)),
            "file" => {
                let (length, name) = rest.split_once(' ')?;
                files.push((name.to_owned(), length.parse().ok()?));
            }
            _ => return None,
        }
    }
    let [index, term] = mark?;
    let snapshot = Snapshot { index: LogIndex(index), term: Term(term), files };
    let log = log.map(|reset| match reset {
        None => Log::Keep,
        Some([term, vote, generation]) => Log::Reset(NewStart {
            after: snapshot.index,
            after_term: snapshot.term,
            hard_state: journal::HardState {
                term: Term(term),
                vote: Some(MemberId(vote)).filter(|member| member.0 != 0),
                commit: snapshot.index,
            },
            generation,
        }),
    });
    let stage = match (stage?.as_str(), log) {
        ("whole", None) => Stage::Whole,
        ("decided", Some(log)) => Stage::Decided(log),
        ("cleared", Some(log)) => Stage::Cleared(log),
        _ => return None,
    };
    Some((snapshot, stage))
}

/// Nothing is being installed any more.
pub fn forget(journal: &Path) -> Result<(), InstallError> {
    let file = journal.join(FILE);
    record_file::remove(&file).map_err(failed("remove", &file))
}

/// Removes a file or a directory with what is in it; absent is fine.
pub fn remove_all(path: &Path) -> Result<(), InstallError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", path)),
    }
}

fn sync(path: &Path) -> Result<(), InstallError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Metastore;
    use bytes::Bytes;
    use journal::{AppendBatch, BatchSeq, EntryKind, HardState, JournalLog, LogEntry};
    use meta::{Change, Changes, Family, Store};
    use std::sync::Arc;
    use store::{DirDisk, HeapStore, RocksConfig, RocksStore};

    const CLUSTER: ClusterId = ClusterId(7);
    const OPTIONS: SegmentOptions = SegmentOptions { segment_bytes: 64 << 10 };

    struct Home {
        dir: tempfile::TempDir,
        kind: Metastore,
    }

    impl Home {
        fn place<'a>(&self, journal: &'a Path, metastore: &'a Path) -> Place<Dirs<'a>> {
            Place { files: Dirs { journal, metastore }, cluster: CLUSTER, options: OPTIONS }
        }
        fn paths(&self) -> (PathBuf, PathBuf) {
            (self.dir.path().join("journal"), self.dir.path().join("metastore"))
        }
        fn store(&self, dir: &Path) -> Arc<dyn Store> {
            match self.kind {
                Metastore::Rocks => {
                    Arc::new(RocksStore::open(dir, &RocksConfig::default(), CLUSTER).expect("a whole database"))
                }
                Metastore::Heap => {
                    let disk = Arc::new(DirDisk::open(dir).expect("a directory"));
                    Arc::new(HeapStore::open(disk, CLUSTER).expect("a whole database"))
                }
            }
        }
        fn format(&self, dir: &Path) {
            match self.kind {
                Metastore::Rocks => RocksStore::format(dir, CLUSTER).expect("empty"),
                Metastore::Heap => HeapStore::format(&DirDisk::open(dir).expect("made"), CLUSTER).expect("empty"),
            }
        }
    }

    fn put(store: &dyn Store, index: u64, value: &'static str) {
        let (key, value) = (Bytes::from_static(b"who"), Some(Bytes::from_static(value.as_bytes())));
        let changes = vec![Change { family: Family::Mounts, key, value }];
        store.commit(&Changes { changes, applied: LogIndex(index) }).expect("committed");
        store.flush().expect("flushed");
    }

    /// A member at entry 5 of a log of `own` entries of term 2, and a snapshot of somebody else at entry 9 of term 3.
    fn home(kind: Metastore, own: &[u64]) -> (Home, Snapshot) {
        let home = Home { dir: tempfile::tempdir().expect("a directory"), kind };
        let (journal, metastore) = home.paths();
        SegmentLog::format(&RealDisk, &journal, CLUSTER, OPTIONS, false).expect("empty");
        let (mut log, _) = SegmentLog::open(RealDisk, &journal, Some(CLUSTER), OPTIONS).expect("formatted");
        let entry = |(index, term): (u64, &u64)| LogEntry {
            index: LogIndex(index),
            term: Term(*term),
            kind: EntryKind::Normal,
            payload: Bytes::from_static(b"x"),
        };
        let batch = AppendBatch {
            seq: BatchSeq(1),
            truncate_from: None,
            entries: (1..).zip(own).map(entry).collect(),
            hard_state: HardState { term: Term(4), vote: Some(MemberId(3)), commit: LogIndex(5) },
        };
        log.append(&batch).and_then(|()| log.sync()).expect("written");
        fs::create_dir_all(&metastore).expect("made");
        home.format(&metastore);
        put(&*home.store(&metastore), 5, "old");
        let other = home.dir.path().join("other");
        fs::create_dir_all(&other).expect("made");
        home.format(&other);
        let source = home.store(&other);
        put(&*source, 9, "new");
        source.flush().expect("flushed");
        assert_eq!(source.checkpoint(&metastore.join(INCOMING)).expect("a checkpoint"), LogIndex(9));
        let files = fs::read_dir(metastore.join(INCOMING)).expect("listed").map(|entry| {
            let entry = entry.expect("listed");
            (entry.file_name().into_string().expect("plain"), entry.metadata().expect("there").len())
        });
        let snapshot = Snapshot { index: LogIndex(9), term: Term(3), files: files.collect() };
        (home, snapshot)
    }

    fn is_new(home: &Home) {
        let (journal, metastore) = home.paths();
        let store = home.store(&metastore);
        assert_eq!(store.applied(), LogIndex(9));
        assert_eq!(store.get(Family::Mounts, b"who").expect("readable").as_deref(), Some(&b"new"[..]));
        assert!(!metastore.join(INCOMING).exists() && !journal.join(FILE).exists());
    }

    const KINDS: [Metastore; 2] = [Metastore::Rocks, Metastore::Heap];

    #[test]
    fn a_snapshot_takes_the_place_of_the_state_and_a_log_that_lacks_it_begins_anew() {
        for kind in KINDS {
            let (home, snapshot) = home(kind, &[2; 7]);
            let (journal, metastore) = home.paths();
            let place = home.place(&journal, &metastore);
            assert_eq!(place.finish().expect("nothing to do"), None);
            place.begin(&snapshot).expect("whole");
            assert_eq!(place.finish().expect("installed"), Some(snapshot));
            is_new(&home);
            let (_, recovered) = SegmentLog::open(RealDisk, &journal, Some(CLUSTER), OPTIONS).expect("a log");
            assert_eq!((recovered.first(), recovered.last()), (LogIndex(10), LogIndex(9)));
            assert_eq!(recovered.terms.term(LogIndex(9)), Some(Term(3)));
            let HardState { term, vote, .. } = recovered.hard_state;
            assert_eq!((term, vote), (Term(4), Some(MemberId(3))), "what it voted for is not forgotten");
        }
    }

    #[test]
    fn a_log_that_holds_the_snapshot_is_kept() {
        let (home, snapshot) = home(Metastore::Heap, &[2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]);
        let (journal, metastore) = home.paths();
        let place = home.place(&journal, &metastore);
        place.begin(&snapshot).expect("whole");
        place.finish().expect("installed");
        is_new(&home);
        let (_, recovered) = SegmentLog::open(RealDisk, &journal, Some(CLUSTER), OPTIONS).expect("a log");
        assert_eq!((recovered.first(), recovered.last()), (LogIndex(1), LogIndex(11)));
    }

    #[test]
    fn a_stop_after_any_step_is_gone_on_from() {
        for kind in KINDS {
            for stop in 0..6 {
                let (home, snapshot) = home(kind, &[2; 7]);
                let (journal, metastore) = home.paths();
                let place = home.place(&journal, &metastore);
                place.begin(&snapshot).expect("whole");
                let log = place.decide(&snapshot).expect("a log").expect("the snapshot is newer");
                if stop >= 1 {
                    place.write(&snapshot, Stage::Decided(log)).expect("written");
                }
                if stop == 2 {
                    // Some of the old state is gone.
                    let first = fs::read_dir(&metastore).expect("listed").map(|entry| entry.expect("listed").path());
                    let first = first.into_iter().find(|path| path.is_file()).expect("a file");
                    fs::remove_file(first).expect("removed");
                }
                if stop >= 3 {
                    place.files.clear().expect("cleared");
                    place.write(&snapshot, Stage::Cleared(log)).expect("written");
                }
                if stop == 4 {
                    // Some of the new state is there.
                    let (name, _) = snapshot.files.iter().find(|(name, _)| name != FORMAT).expect("a file");
                    fs::rename(metastore.join(INCOMING).join(name), metastore.join(name)).expect("moved");
                }
                if stop >= 5 {
                    place.fill(&snapshot).expect("filled");
                    let Log::Reset(start) = log else { panic!("the log lacks the snapshot") };
                    SegmentLog::reset(&RealDisk, &journal, CLUSTER, OPTIONS, start).expect("begun anew");
                }
                assert!(place.finish().expect("gone on").is_some(), "stopped after {stop}");
                is_new(&home);
            }
        }
    }

    #[test]
    fn a_snapshot_that_lacks_a_file_or_a_byte_is_not_begun() {
        let (home, snapshot) = home(Metastore::Rocks, &[2; 7]);
        let (journal, metastore) = home.paths();
        let place = home.place(&journal, &metastore);
        for (name, _) in &snapshot.files {
            let (path, away) = (metastore.join(INCOMING).join(name), home.dir.path().join("away"));
            fs::rename(&path, &away).expect("moved");
            let why = place.begin(&snapshot).expect_err("a file is missing");
            assert!(matches!(why, InstallError::Incomplete { .. }), "{why}");
            fs::rename(&away, &path).expect("moved");
        }
        let mut untold = snapshot.clone();
        untold.files.retain(|(name, _)| name != FORMAT);
        assert!(place.begin(&untold).is_err(), "nothing could be opened with these");
        let mut longer = snapshot.clone();
        longer.files[0].1 += 1;
        assert!(place.begin(&longer).is_err());
        assert_eq!(place.finish().expect("nothing was begun"), None);
        assert_eq!(home.store(&metastore).applied(), LogIndex(5), "the old state");
    }

    #[test]
    fn a_snapshot_that_the_log_has_left_behind_is_forgotten() {
        let (home, snapshot) = home(Metastore::Heap, &[2; 7]);
        let (journal, metastore) = home.paths();
        let place = home.place(&journal, &metastore);
        place.begin(&snapshot).expect("whole");
        // Meanwhile the member caught up from somebody's log and cut its own.
        let hard_state = HardState { term: Term(4), vote: None, commit: LogIndex(20) };
        let start = NewStart { after: LogIndex(20), after_term: Term(4), hard_state, generation: 9 };
        SegmentLog::reset(&RealDisk, &journal, CLUSTER, OPTIONS, start).expect("a healthy disk");
        assert_eq!(place.finish().expect("nothing is left to do"), None);
        assert_eq!(home.store(&metastore).applied(), LogIndex(5), "the state was not touched");
    }

    #[test]
    fn every_damage_to_the_file_is_noticed() {
        let (home, snapshot) = home(Metastore::Heap, &[2; 7]);
        let (journal, metastore) = home.paths();
        let place = home.place(&journal, &metastore);
        place.begin(&snapshot).expect("whole");
        let text = fs::read(journal.join(FILE)).expect("written");
        for at in 0..text.len() - 1 {
            let mut bad = text.clone();
            bad[at] ^= 1;
            fs::write(journal.join(FILE), &bad).expect("written");
            assert!(place.finish().is_err(), "byte {at}");
        }
    }
}
