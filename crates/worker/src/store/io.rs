//! The disk as the block store sees it.
//!
//! Every call blocks, unless [`BlockIo::pace`] says otherwise; the store makes them on threads that may. Errors are the system's own: the store tells a full
//! disk from a failing one by their kind.

pub mod memory;
pub mod real;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An entry of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    /// Entries whose name is not UTF-8 are not ours and are left out.
    pub name: String,
    pub length: u64,
    pub is_dir: bool,
}

/// What the file system below a directory says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

/// Held while a worker uses a directory; dropping it lets others in.
pub type DirectoryLock = Box<dyn Send + Sync>;

/// A disk.
pub trait BlockIo: Send + Sync + 'static {
    /// With parents; one that exists is fine.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// In no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Found>>;
    /// A new empty file; `AlreadyExists` if there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn BlockFile>>;
    /// A file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn BlockFile>>;
    /// The whole of a small file; `InvalidData` if it is longer than `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;
    /// Replaces what is at `to`. Durable only after [`BlockIo::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// One that is missing is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in `dir` are durable afterwards.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<DirectoryLock>;
    /// None: calls block. A disk whose calls never do says how long each step of the store shall seem to take.
    fn pace(&self) -> Option<Duration> {
        None
    }
}

/// Passes as much time as a step of a disk with this pace takes.
pub async fn step(pace: Duration) {
    tokio::time::sleep(pace).await;
}

/// An open file. Positions are explicit, so that one handle serves many at once.
pub trait BlockFile: Send + Sync {
    /// Fills all of `into`, or `UnexpectedEof`.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
    /// As much of `into` as needs no waiting for a disk; `WouldBlock` if that is nothing. Never blocks.
    fn read_now(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `from`.
    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()>;
    /// Content and length are durable afterwards.
    fn sync(&self) -> io::Result<()>;
}
