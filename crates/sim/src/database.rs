//! The database of one master: the HEAP store on files that crash, watched.
//!
//! Is:     the product's `HeapStore` between two adapters: [`FileDisk`] below it, [`Watched`] above it.
//! Owns:   a digest of all records, kept up by each commit.

use crate::bug::Bug;
use crate::dice::Dice;
use bytes::Bytes;
use meta::{Change, Changes, Family, Inode, Node, Read, Record, Store, StoreError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::{HeapDisk, HeapStore, MemoryDisk};
use types::LogIndex;

/// Files in memory with the faults of a disk: what was removed may be back after a crash.
#[derive(Clone)]
pub struct FileDisk {
    inner: MemoryDisk,
    faults: Arc<Mutex<Faults>>,
    /// What was removed here since the last sync.
    removed: Arc<Mutex<Vec<Removed>>>,
    bug: Option<Bug>,
}

/// A name, and what it named.
type Removed = (String, Vec<u8>);

/// Those of the whole disk.
#[derive(Default)]
struct Faults {
    full: bool,
    fail_next: bool,
}

impl FileDisk {
    pub fn new(bug: Option<Bug>) -> FileDisk {
        let inner = MemoryDisk::new("/metastore");
        FileDisk { inner, faults: Arc::default(), removed: Arc::default(), bug }
    }

    /// Another directory of the same disk, made if missing.
    pub fn beside(&self, dir: &Path) -> FileDisk {
        if self.inner.at(dir).is_none() {
            self.inner.create_dir(dir, &[]).expect("the power is on");
        }
        self.at(dir).expect("it was just made")
    }

    /// Another directory of the same disk, if there is one.
    pub fn at(&self, dir: &Path) -> Option<FileDisk> {
        let inner = self.inner.at(dir)?;
        Some(FileDisk { inner, removed: Arc::default(), ..self.clone() })
    }

    /// What was removed stays away.
    pub fn sync(&self) {
        self.removed.lock().clear();
    }

    pub fn set_full(&self, full: bool) {
        self.faults.lock().full = full;
    }

    pub fn fail_next(&self) {
        self.faults.lock().fail_next = true;
    }

    /// Lets the power of the disk go after some more changes.
    pub fn cut_power_after(&self, half_steps: u64) {
        self.inner.cut_power_after(half_steps);
    }

    /// The power of the disk is back, or stays.
    pub fn restore_power(&self) {
        self.inner.restore_power();
    }

    /// Faults are over.
    pub fn mend(&self) {
        let mut faults = self.faults.lock();
        (faults.full, faults.fail_next) = (false, false);
    }

    /// Lets the power go in the middle of what `during` does, and come back.
    pub fn crash(&self, dice: &Dice, during: impl FnOnce()) {
        self.inner.cut_power_after(dice.below(4));
        during();
        self.inner.restore_power();
        self.bring_back(dice);
    }

    /// What was removed and not synced is back in part.
    pub fn bring_back(&self, dice: &Dice) {
        for (name, bytes) in std::mem::take(&mut *self.removed.lock()) {
            if dice.once_in(3) && self.inner.read(&name).is_err() {
                self.inner.replace(&name, &bytes).expect("the power is back");
            }
        }
    }
}

impl HeapDisk for FileDisk {
    fn place(&self) -> &Path {
        self.inner.place()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.inner.read(name)
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut faults = self.faults.lock();
        if std::mem::take(&mut faults.fail_next) {
            return Err(io::Error::other("injected failure"));
        }
        if faults.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.replace(name, bytes)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        let bytes = self.inner.read(name)?;
        self.removed.lock().push((name.to_owned(), bytes));
        self.inner.remove(name)
    }
    fn create_dir(&self, dir: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
        let kept = if self.bug == Some(Bug::SnapshotShort) { files.len() - 1 } else { files.len() };
        self.inner.create_dir(dir, &files[..kept])
    }
}

/// A store that notes a digest of its records at each commit, and carries the bugs planted in it.
pub struct Watched {
    inner: HeapStore,
    bug: Option<Bug>,
    dice: Dice,
    digest: Mutex<u64>,
    noted: Mutex<Vec<(LogIndex, u64)>>,
    /// What the last commit replaced, for [`Bug::OldCache`].
    before: Mutex<BTreeMap<(Family, Bytes), Option<Bytes>>>,
    /// For [`Bug::AppliedTwice`] and [`Bug::IntentForgotten`].
    is_fresh: AtomicBool,
}

impl Watched {
    pub fn new(inner: HeapStore, bug: Option<Bug>, dice: Dice) -> Result<Watched, StoreError> {
        let mut digest = 0;
        for family in Family::ALL {
            for (key, value) in inner.scan(family, &[], &[0xFF; 64], usize::MAX)? {
                if !store::is_own(family, &key) {
                    digest ^= hash_of(family, &key, &value);
                }
            }
        }
        Ok(Watched {
            inner,
            bug,
            dice,
            digest: Mutex::new(digest),
            noted: Mutex::default(),
            before: Mutex::default(),
            is_fresh: AtomicBool::new(true),
        })
    }

    /// Applied indexes with the digest of the state there, since the last call.
    pub fn take_noted(&self) -> Vec<(LogIndex, u64)> {
        std::mem::take(&mut self.noted.lock())
    }

    /// The master has opened it.
    pub fn opened(&self) {
        self.is_fresh.store(false, Ordering::Relaxed);
    }

    fn is_dropped(&self, change: &Change) -> bool {
        match self.bug {
            Some(Bug::OperationForgotten) => change.family == Family::Operations && change.value.is_some(),
            // A name that was removed while its directory is loaded.
            Some(Bug::LoadResurrects) => change.family == Family::Loads && change.key.len() > 8,
            Some(_) | None => false,
        }
    }

    /// What is kept of a change.
    fn kept(&self, change: &Change) -> Result<Change, StoreError> {
        let Change { family, key, value } = change.clone();
        let value = match value {
            Some(value) if self.bug == Some(Bug::LoadResurrects) && family == Family::Edges => {
                let mut inode = Inode::decode(&value)?;
                inode.changed = LogIndex(0);
                if let Node::Directory(directory) = &mut inode.node {
                    directory.removed_at = LogIndex(0);
                }
                Some(inode.encode())
            }
            value => value,
        };
        Ok(Change { family, key, value })
    }
}

fn hash_of(family: Family, key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (family, key, value).hash(&mut hasher);
    hasher.finish()
}

impl Read for Watched {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if self.bug == Some(Bug::OldCache)
            && family == Family::Edges
            && let Some(old) = self.before.lock().get(&(family, Bytes::copy_from_slice(key)))
            && self.dice.once_in(20)
        {
            return Ok(old.clone());
        }
        self.inner.get(family, key)
    }

    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if self.bug == Some(Bug::IntentForgotten) && family == Family::Intents && self.is_fresh.load(Ordering::Relaxed)
        {
            return Ok(Vec::new());
        }
        self.inner.scan(family, start, end, limit)
    }
}

impl Store for Watched {
    fn commit(&self, changes: &Changes) -> Result<(), StoreError> {
        let kept = changes.changes.iter().filter(|change| !self.is_dropped(change)).map(|change| self.kept(change));
        let kept = Changes { applied: changes.applied, changes: kept.collect::<Result<_, _>>()? };
        let mut digest = self.digest.lock();
        let mut before = self.before.lock();
        before.clear();
        // What the store writes by itself is flushed with the rest, and no part of the state.
        for change in kept.changes.iter().filter(|change| !store::is_own(change.family, &change.key)) {
            let old = self.inner.get(change.family, &change.key)?;
            if let Some(old) = &old {
                *digest ^= hash_of(change.family, &change.key, old);
            }
            if let Some(new) = &change.value {
                *digest ^= hash_of(change.family, &change.key, new);
            }
            if self.bug == Some(Bug::OldCache) {
                before.insert((change.family, change.key.clone()), old);
            }
        }
        self.noted.lock().push((kept.applied, *digest));
        self.inner.commit(&kept)
    }

    fn applied(&self) -> LogIndex {
        let applied = self.inner.applied();
        if self.bug == Some(Bug::AppliedTwice) && self.is_fresh.load(Ordering::Relaxed) {
            return LogIndex(applied.0.saturating_sub(2));
        }
        applied
    }
    fn flush(&self) -> Result<LogIndex, StoreError> {
        self.inner.flush()
    }
    fn flushed(&self) -> LogIndex {
        self.inner.flushed()
    }
    fn usage(&self) -> meta::Usage {
        self.inner.usage()
    }
    fn checkpoint(&self, dir: &Path) -> Result<LogIndex, StoreError> {
        self.inner.checkpoint(dir)
    }
}
