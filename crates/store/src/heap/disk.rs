//! Where a [`super::HeapStore`] keeps its files.

use crate::durable;
use crate::error::{check_dir, from_io, in_use};
use meta::StoreError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One flat directory of small, whole files.
pub trait HeapDisk: Send + Sync {
    /// The directory's name, for messages.
    fn place(&self) -> &Path;

    /// The names of all whole files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A file's content. `NotFound` if there is none.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Creates or replaces a file. Once this returned it survives a crash; a crash before leaves the new content or what
    /// was there, never a mixture.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file. After a crash it may be back.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Creates another directory `dir` that holds exactly `files`, durably, whole or not at all. `AlreadyExists` if
    /// something has that name.
    fn create_dir(&self, dir: &Path, files: &[(&str, &[u8])]) -> io::Result<()>;
}

/// A real directory, held by a lock as long as this lives.
pub struct DirDisk {
    dir: PathBuf,
    _lock: File,
}

/// Name of the file whose lock says that the directory is in use.
const LOCK: &str = "LOCK";

impl DirDisk {
    /// Takes `dir`. Errors: `NotFound` if there is no such directory, `Busy` if another process has it.
    pub fn open(dir: &Path) -> Result<DirDisk, StoreError> {
        check_dir(dir)?;
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK));
        let what = format!("cannot lock the metadata database at {}", dir.display());
        let lock = lock.map_err(|error| from_io(&what, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(DirDisk { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(in_use(dir)),
            Err(TryLockError::Error(error)) => Err(from_io(&what, &error)),
        }
    }

    /// As [`DirDisk::open`], but creates `dir` if it is absent: to format it.
    pub fn create(dir: &Path) -> Result<DirDisk, StoreError> {
        let what = format!("cannot create the metadata database at {}", dir.display());
        fs::create_dir_all(dir).map_err(|error| from_io(&what, &error))?;
        DirDisk::open(dir)
    }
}

impl HeapDisk for DirDisk {
    fn place(&self) -> &Path {
        &self.dir
    }
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.filter(|name| !matches!(name, Ok(name) if name == LOCK || durable::is_partial(name))).collect()
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.dir.join(name))
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        durable::write(&self.dir.join(name), bytes)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }
    fn create_dir(&self, dir: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
        if dir.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let fresh = durable::partial(dir);
        durable::remove_dir(&fresh)?;
        fs::create_dir(&fresh)?;
        for (name, bytes) in files {
            durable::write(&fresh.join(name), bytes)?;
        }
        durable::rename(&fresh, dir)
    }
}

/// Directories in memory, whose power can be cut: for tests and the simulator. Clones share them.
#[derive(Clone)]
pub struct MemoryDisk {
    dir: PathBuf,
    tree: Arc<Mutex<Tree>>,
}

#[derive(Default)]
struct Tree {
    dirs: BTreeMap<PathBuf, BTreeMap<String, Vec<u8>>>,
    /// Half steps until the power goes; none: it stays.
    power: Option<u64>,
}

impl MemoryDisk {
    /// An empty directory named `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> MemoryDisk {
        let dir = dir.into();
        let tree = Tree { dirs: [(dir.clone(), BTreeMap::new())].into(), power: None };
        MemoryDisk { dir, tree: Arc::new(Mutex::new(tree)) }
    }

    /// The directory `dir` of the same disk. None if there is none.
    pub fn at(&self, dir: &Path) -> Option<MemoryDisk> {
        let exists = self.tree.lock().dirs.contains_key(dir);
        exists.then(|| MemoryDisk { dir: dir.to_owned(), tree: self.tree.clone() })
    }

    /// Cuts the power after `half_steps`: each change of the disk takes two, one before it is there and one before it is
    /// reported. Without power everything fails.
    pub fn cut_power_after(&self, half_steps: u64) {
        self.tree.lock().power = Some(half_steps);
    }

    /// Whether the power is gone.
    pub fn is_dark(&self) -> bool {
        self.tree.lock().power == Some(0)
    }

    /// The power comes back, and stays.
    pub fn restore_power(&self) {
        self.tree.lock().power = None;
    }

    fn change<R>(&self, make: impl FnOnce(&mut Tree) -> io::Result<R>) -> io::Result<R> {
        let mut tree = self.tree.lock();
        tree.half_step()?;
        let done = make(&mut tree)?;
        tree.half_step()?;
        Ok(done)
    }

    fn look<R>(&self, look: impl FnOnce(&BTreeMap<String, Vec<u8>>) -> io::Result<R>) -> io::Result<R> {
        let tree = self.tree.lock();
        match tree.power {
            Some(0) => Err(dark()),
            Some(_) | None => look(tree.dirs.get(&self.dir).ok_or(io::ErrorKind::NotFound)?),
        }
    }
}

impl Tree {
    fn half_step(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(dark()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn dark() -> io::Error {
    io::Error::other("the power is off")
}

impl HeapDisk for MemoryDisk {
    fn place(&self) -> &Path {
        &self.dir
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.look(|files| Ok(files.keys().cloned().collect()))
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.look(|files| files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()))
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.change(|tree| {
            let files = tree.dirs.get_mut(&self.dir).ok_or(io::ErrorKind::NotFound)?;
            files.insert(name.to_owned(), bytes.to_owned());
            Ok(())
        })
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|tree| {
            let files = tree.dirs.get_mut(&self.dir).ok_or(io::ErrorKind::NotFound)?;
            files.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }
    fn create_dir(&self, dir: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
        self.change(|tree| {
            if tree.dirs.contains_key(dir) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let files = files.iter().map(|(name, bytes)| (String::from(*name), bytes.to_vec())).collect();
            tree.dirs.insert(dir.to_owned(), files);
            Ok(())
        })
    }
}
