//! A disk in memory that fails on demand and forgets, at a crash, what was not synced.

use super::{BlockFile, BlockIo, DirectoryLock, Found, Space};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a fault hits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    Read,
    Write,
    Sync,
    Create,
    Rename,
    List,
}

/// A fault: calls of one kind, on paths that contain a text, from the `skip`-th on, `times` times.
#[derive(Clone, Debug)]
pub struct Fault {
    pub on: On,
    pub path: String,
    pub skip: u64,
    pub times: u64,
    /// The system's number, for example 5 (EIO), 28 (ENOSPC), 30 (EROFS).
    pub errno: i32,
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    dirs: BTreeSet<PathBuf>,
    /// What a crash leaves: the names as of the last sync of their directory.
    durable: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    locked: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    space_bytes: Option<u64>,
}

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryIo {
    disk: Arc<Mutex<Disk>>,
}

struct MemoryFile {
    io: MemoryIo,
    path: PathBuf,
    content: Arc<Mutex<Content>>,
}

struct MemoryLock {
    io: MemoryIo,
    path: PathBuf,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.io.disk.lock().locked.remove(&self.path);
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is small")
}

impl MemoryIo {
    /// Adds a fault.
    pub fn fail(&self, fault: Fault) {
        self.disk.lock().faults.push(fault);
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.disk.lock().faults.clear();
    }

    /// Bytes all files may take together; beyond it writes fail with ENOSPC.
    pub fn limit(&self, space_bytes: u64) {
        self.disk.lock().space_bytes = Some(space_bytes);
    }

    /// The disk as it is after the power went: names and bytes that were synced, nothing else.
    pub fn crash(&self) -> MemoryIo {
        let disk = self.disk.lock();
        let mut after = Disk { dirs: disk.dirs.clone(), space_bytes: disk.space_bytes, ..Disk::default() };
        for (path, content) in &disk.durable {
            let synced = content.lock().synced.clone();
            let content = Arc::new(Mutex::new(Content { now: synced.clone(), synced }));
            after.files.insert(path.clone(), Arc::clone(&content));
            after.durable.insert(path.clone(), content);
        }
        MemoryIo { disk: Arc::new(Mutex::new(after)) }
    }

    /// The disk as it is after the power went, where chance decides what of the unsynced survives: of a file its old
    /// content, its new one or the head of it; of a directory each name as it was or as it is.
    ///
    /// - `below`: a number below its argument.
    pub fn crash_in_part(&self, mut below: impl FnMut(u64) -> u64) -> MemoryIo {
        let disk = self.disk.lock();
        let mut after = Disk { dirs: disk.dirs.clone(), space_bytes: disk.space_bytes, ..Disk::default() };
        let paths: BTreeSet<&PathBuf> = disk.durable.keys().chain(disk.files.keys()).collect();
        for path in paths {
            let (was, is) = (disk.durable.get(path), disk.files.get(path));
            let Some(content) = (if below(2) == 0 { was } else { is }) else { continue };
            let content = content.lock();
            let mut left = content.synced.clone();
            if content.now != content.synced && below(2) == 1 {
                left.clone_from(&content.now);
                if below(2) == 1 {
                    let safe = if left.starts_with(&content.synced) { content.synced.len() } else { 0 };
                    let rest = u64::try_from(left.len() - safe).expect("a file in memory is small");
                    left.truncate(safe + at(below(rest + 1)));
                }
            }
            let content = Arc::new(Mutex::new(Content { now: left.clone(), synced: left }));
            after.files.insert(path.clone(), Arc::clone(&content));
            after.durable.insert(path.clone(), content);
        }
        MemoryIo { disk: Arc::new(Mutex::new(after)) }
    }

    /// The disk as it is after the process was killed: everything written is there, nobody holds a lock.
    pub fn kill(&self) -> MemoryIo {
        let disk = self.disk.lock();
        let mut after = Disk { dirs: disk.dirs.clone(), space_bytes: disk.space_bytes, ..Disk::default() };
        for (path, content) in &disk.files {
            let copy = Arc::new(Mutex::new(content.lock().clone()));
            after.files.insert(path.clone(), Arc::clone(&copy));
            if disk.durable.contains_key(path) {
                after.durable.insert(path.clone(), copy);
            }
        }
        MemoryIo { disk: Arc::new(Mutex::new(after)) }
    }

    /// All files, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.disk.lock().files.keys().cloned().collect()
    }

    /// Turns one bit of a file, as a failing medium would.
    pub fn flip(&self, path: &Path, offset: u64) {
        let file = Arc::clone(&self.disk.lock().files[path]);
        file.lock().now[at(offset)] ^= 1;
    }

    fn fault(&self, on: On, path: &Path) -> io::Result<()> {
        let text = path.to_string_lossy().into_owned();
        let mut disk = self.disk.lock();
        for fault in disk.faults.iter_mut().filter(|fault| fault.on == on && text.contains(&fault.path)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        let files: Vec<_> = self.disk.lock().files.values().cloned().collect();
        files.iter().map(|file| u64::try_from(file.lock().now.len()).unwrap_or(u64::MAX)).sum()
    }
}

impl BlockIo for MemoryIo {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.fault(On::Create, path)?;
        let mut disk = self.disk.lock();
        disk.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        self.fault(On::List, dir)?;
        let disk = self.disk.lock();
        if !disk.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let below = |path: &&PathBuf| path.parent() == Some(dir);
        let dirs = disk.dirs.iter().filter(below).filter_map(|path| name(path));
        let mut found: Vec<Found> = dirs.map(|name| Found { name, length: 0, is_dir: true }).collect();
        for (path, file) in disk.files.iter().filter(|(path, _)| path.parent() == Some(dir)) {
            let length = u64::try_from(file.lock().now.len()).unwrap_or(u64::MAX);
            found.extend(name(path).map(|name| Found { name, length, is_dir: false }));
        }
        Ok(found)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn BlockFile>> {
        self.fault(On::Create, path)?;
        let mut disk = self.disk.lock();
        if !path.parent().is_some_and(|parent| disk.dirs.contains(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if disk.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::new(Mutex::new(Content::default()));
        disk.files.insert(path.to_owned(), Arc::clone(&content));
        Ok(Arc::new(MemoryFile { io: self.clone(), path: path.to_owned(), content }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn BlockFile>> {
        self.fault(On::Read, path)?;
        let content = self.disk.lock().files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { io: self.clone(), path: path.to_owned(), content }))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.fault(On::Read, path)?;
        let content = self.disk.lock().files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        let bytes = content.lock().now.clone();
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
            Ok(bytes)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fault(On::Rename, to)?;
        let mut disk = self.disk.lock();
        let content = disk.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.lock().files.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fault(On::Sync, dir)?;
        let mut disk = self.disk.lock();
        let here: Vec<_> = disk
            .files
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(p, c)| (p.clone(), Arc::clone(c)))
            .collect();
        disk.durable.retain(|path, _| path.parent() != Some(dir));
        disk.durable.extend(here);
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let total_bytes = self.disk.lock().space_bytes.unwrap_or(1 << 40);
        Ok(Space { total_bytes, free_bytes: total_bytes.saturating_sub(self.used_bytes()) })
    }

    fn lock(&self, path: &Path) -> io::Result<DirectoryLock> {
        if !self.disk.lock().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { io: self.clone(), path: path.to_owned() }))
    }
}

impl BlockFile for MemoryFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.io.fault(On::Read, &self.path)?;
        let content = self.content.lock();
        let from = content.now.get(at(offset)..at(offset) + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(from);
        Ok(())
    }

    fn read_now(&self, _into: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        self.io.fault(On::Write, &self.path)?;
        let end = at(offset) + from.len();
        let grown = end.saturating_sub(self.content.lock().now.len());
        let limit = self.io.disk.lock().space_bytes;
        if limit.is_some_and(|limit| self.io.used_bytes() + u64::try_from(grown).unwrap_or(u64::MAX) > limit) {
            return Err(io::Error::from_raw_os_error(28));
        }
        let mut content = self.content.lock();
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        content.now[at(offset)..end].copy_from_slice(from);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.io.fault(On::Sync, &self.path)?;
        let mut content = self.content.lock();
        content.synced = content.now.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_any_part_of_what_came_after() {
        let (io, dir) = (MemoryIo::default(), Path::new("/d"));
        io.make_dir(dir).expect("in memory");
        let kept = io.create(&dir.join("kept")).expect("in memory");
        kept.write_at(b"ab", 0).expect("in memory");
        kept.sync().expect("in memory");
        io.sync_dir(dir).expect("in memory");
        kept.write_at(b"cd", 2).expect("in memory");
        io.create(&dir.join("new")).expect("in memory");
        let (mut lengths, mut names, mut seed) = (BTreeSet::new(), BTreeSet::new(), 1_u64);
        for _ in 0..200 {
            let after = io.crash_in_part(|bound| {
                seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                (seed >> 33) % bound
            });
            let content = after.read(&dir.join("kept"), 10).expect("its name was synced");
            assert!(content.starts_with(b"ab") && b"abcd".starts_with(&content[..]), "{content:?}");
            lengths.insert(content.len());
            names.insert(after.paths().len());
        }
        assert_eq!((lengths, names), (BTreeSet::from([2, 3, 4]), BTreeSet::from([1, 2])), "every outcome comes up");
    }
}
