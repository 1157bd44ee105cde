//! The few calls a log needs from a disk.
//!
//! Is:     one trait for a directory of files that are written in place, with three companions: [`RealDisk`],
//!         [`SimDisk`] (crashes, torn sectors, full disks and I/O errors by seed) and [`conformance`].
//! Owns:   nothing.
//! Never:  buffers, retries, or hides an error.

pub mod conformance;
mod real;
mod sim;

pub use real::{RealDisk, RealFile};
pub use sim::{DiskOp, SimDisk};

use std::io;
use std::path::Path;

/// The unit that a crash leaves either old or new. Smaller than what today's disks promise, so never optimistic.
pub const SECTOR_BYTES: u64 = 512;
/// The same, as a length in memory.
pub(crate) const SECTOR: usize = 512;

/// A disk. A file's content survives a crash once [`DiskFile::sync`] returned; its name (create, rename, remove) once
/// [`Disk::sync_dir`] returned for its directory. Every error is final: nobody repeats a failed sync.
pub trait Disk: Clone + Send + Sync + 'static {
    type File: DiskFile;
    /// Held while a directory is in use; released when dropped or when the process ends.
    type Lock: Send;

    /// Names of the files in `dir`, in order. Errors: NotFound when there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes `dir` and its missing parents; fine if it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Makes a new, empty file. Errors: AlreadyExists.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Gives a file another name in the same directory; the new name must be free. Open handles stay valid.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes every earlier create, rename and remove in `dir` survive a crash.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Locks through the file `path`, made if missing. Errors: WouldBlock when another holder lives.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
}

/// An open file. Offsets are bytes; all calls are positioned, so one handle serves a writer and many readers.
pub trait DiskFile: Send + Sync + 'static {
    /// Current length in bytes.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Fills `buf` from `offset`. Errors: UnexpectedEof when the file is shorter.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`. Without a sync, a crash keeps any subset of the touched sectors.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// The same for bytes that are synced at once: whole sectors, best from an [`Aligned`], which may go past any cache.
    fn write_through(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }
    /// Reserves space up to `bytes` and makes the file at least that long; new bytes read as zeros.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Makes every earlier write to this file survive a crash.
    fn sync(&self) -> io::Result<()>;
}

/// Bytes that begin at a multiple of a page in memory, which a device can take from where they are.
#[derive(Default)]
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// What any device asks of an address in memory, or less.
    const BORDER: usize = 4096;

    /// Forgets what is held and has `put` append up to `room` bytes; more are held all the same, somewhere in memory.
    pub fn fill(&mut self, room: usize, put: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        self.bytes.clear();
        self.bytes.reserve(room + Aligned::BORDER);
        self.start = self.bytes.as_ptr().align_offset(Aligned::BORDER).min(Aligned::BORDER);
        self.bytes.resize(self.start, 0);
        put(&mut self.bytes);
        &self.bytes[self.start..]
    }
}
