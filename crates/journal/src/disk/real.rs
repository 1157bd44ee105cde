//! Files of the operating system.

use super::{Disk, DiskFile};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Who may read journal files: their owner.
const FILE_MODE: u32 = 0o600;

/// The operating system's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A file, open once through the page cache and, where the file system has that, once past it.
pub struct RealFile {
    cached: File,
    direct: Option<File>,
    /// A write past the page cache was refused: the device's blocks are larger than a sector, say.
    refuses_direct: AtomicBool,
}

impl RealFile {
    /// A file that is only read, by somebody who may not be allowed to write it.
    pub(crate) fn to_read(path: &Path) -> io::Result<RealFile> {
        Ok(RealFile { cached: File::open(path)?, direct: None, refuses_direct: AtomicBool::new(false) })
    }

    fn new(cached: File, path: &Path) -> io::Result<RealFile> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        let direct = match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(file) => Some(file),
            Err(refused) if refused.kind() == io::ErrorKind::InvalidInput => None,
            Err(failure) => return Err(failure),
        };
        Ok(RealFile { cached, direct, refuses_direct: AtomicBool::new(false) })
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = File;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(dir)?
            .map(|entry| entry.map(|found| found.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        RealFile::new(OpenOptions::new().read(true).write(true).open(path)?, path)
    }

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        RealFile::new(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }
}

impl DiskFile for RealFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.cached.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.cached.read_exact_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.cached.write_all_at(bytes, offset)
    }

    /// Past the page cache, which spares the copy into it and the search for what of it is dirty.
    fn write_through(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && !self.refuses_direct.load(Relaxed)
        {
            match direct.write_all_at(bytes, offset) {
                // What was written of it, if anything, is written again.
                Err(refused) if refused.kind() == io::ErrorKind::InvalidInput => {
                    self.refuses_direct.store(true, Relaxed)
                }
                answer => return answer,
            }
        }
        self.write_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&self.cached, FallocateFlags::empty(), 0, bytes) {
            // A file system without reservation: a longer file is all it can give.
            Err(rustix::io::Errno::OPNOTSUPP) if self.len_bytes()? < bytes => self.cached.set_len(bytes),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            answer => Ok(answer?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.cached.sync_data()
    }
}
