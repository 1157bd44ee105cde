//! The machine's own file systems.

use super::{BlockFile, BlockIo, DirectoryLock, Found, Space};
use rustix::fs::{FlockOperation, flock};
use rustix::io::ReadWriteFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Files and directories of this machine.
#[derive(Default)]
pub struct RealIo;

struct RealFile {
    file: File,
    /// The file system does not know reads that never wait.
    blocks_always: AtomicBool,
}

fn opened(file: File) -> Arc<dyn BlockFile> {
    Arc::new(RealFile { file, blocks_always: AtomicBool::new(false) })
}

impl BlockIo for RealIo {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let about = entry.metadata()?;
            found.push(Found { name, length: about.len(), is_dir: about.is_dir() });
        }
        Ok(found)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn BlockFile>> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).map(opened)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn BlockFile>> {
        OpenOptions::new().read(true).write(true).open(path).map(opened)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(read).is_ok_and(|read| read <= limit) {
            Ok(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {limit} bytes")))
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let about = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
        Ok(Space { total_bytes: bytes(about.f_blocks), free_bytes: bytes(about.f_bavail) })
    }

    fn lock(&self, path: &Path) -> io::Result<DirectoryLock> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

impl BlockFile for RealFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn read_now(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.blocks_always.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(into)], offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => Ok(read),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {
                self.blocks_always.store(true, Ordering::Relaxed);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(from, offset)
    }

    fn sync(&self) -> io::Result<()> {
        rustix::fs::fdatasync(&self.file).map_err(io::Error::from)
    }
}
