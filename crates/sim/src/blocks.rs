//! A worker's disk: in memory, as slow as a real one, and its power can go between any two steps.

use crate::dice::Dice;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use worker::{BlockFile, BlockIo, DirectoryLock, Fault, Found, MemoryIo, On, Space};

/// The system's number of an I/O error.
const EIO: i32 = 5;
/// More than any worker here may use.
const ROOM_BYTES: u64 = 1 << 40;
/// How long a step of the store takes: several writes, with their syncs.
const PACE_MS: u64 = 2;

/// The power of a disk.
#[derive(Default)]
struct Power {
    /// Steps until it goes; 0: it stays.
    left: AtomicU64,
    is_gone: AtomicBool,
}

impl Power {
    /// Before anything is changed on the disk.
    fn step(&self) -> io::Result<()> {
        if self.left.load(Ordering::Relaxed) == 1 {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        if self.is_gone.load(Ordering::Relaxed) {
            return Err(io::Error::other("the power is gone"));
        }
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        Ok(())
    }
}

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct BlockDisk {
    /// Another one after each crash: what an earlier run still holds open is not of it.
    io: Arc<Mutex<MemoryIo>>,
    power: Arc<Power>,
    pace_ms: Arc<AtomicU64>,
}

impl BlockDisk {
    /// An empty one, with power.
    pub fn new() -> BlockDisk {
        let disk = BlockDisk::default();
        disk.set_slow(0);
        disk
    }

    /// Each step takes so much longer.
    pub fn set_slow(&self, by_ms: u64) {
        self.pace_ms.store(PACE_MS + by_ms, Ordering::Relaxed);
    }

    /// The power goes before the `step`-th change from now.
    pub fn lose_power_at(&self, step: u64) {
        self.power.left.store(step, Ordering::Relaxed);
    }

    pub fn has_lost_power(&self) -> bool {
        self.power.is_gone.load(Ordering::Relaxed)
    }

    /// What a loss of power leaves; the power is back.
    pub fn crash(&self, dice: &Dice) {
        let mut io = self.io.lock();
        *io = io.crash_in_part(|bound| dice.below(bound));
        self.power.left.store(0, Ordering::Relaxed);
        self.power.is_gone.store(false, Ordering::Relaxed);
    }

    /// Everything on it is gone.
    pub fn lose(&self) {
        *self.io.lock() = MemoryIo::default();
    }

    /// One bit of a file flips; says of which.
    pub fn flip(&self, dice: &Dice) -> Option<String> {
        let io = self.io();
        let length =
            |path: &PathBuf| io.read(path, ROOM_BYTES).map_or(0, |bytes| u64::try_from(bytes.len()).expect("short"));
        let files: Vec<PathBuf> = io.paths().into_iter().filter(|path| length(path) > 0).collect();
        if files.is_empty() {
            return None;
        }
        let path = dice.pick(&files);
        io.flip(path, dice.below(length(path)));
        Some(path.display().to_string())
    }

    /// So many calls of this kind fail.
    pub fn fail(&self, on: On, times: u64) {
        self.io().fail(Fault { on, path: String::new(), skip: 0, times, errno: EIO });
    }

    /// Nothing more fits.
    pub fn fill(&self) {
        self.io().limit(0);
    }

    /// Nothing fails any more, and there is room.
    pub fn mend(&self) {
        self.io().heal();
        self.io().limit(ROOM_BYTES);
    }

    fn io(&self) -> MemoryIo {
        self.io.lock().clone()
    }

    fn file(&self, inner: Arc<dyn BlockFile>) -> Arc<dyn BlockFile> {
        Arc::new(PoweredFile { inner, power: Arc::clone(&self.power) })
    }
}

impl BlockIo for BlockDisk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.power.step()?;
        self.io().make_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Found>> {
        self.io().list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn BlockFile>> {
        self.power.step()?;
        self.io().create(path).map(|file| self.file(file))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn BlockFile>> {
        self.io().open(path).map(|file| self.file(file))
    }
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.io().read(path, limit)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.power.step()?;
        self.io().rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.power.step()?;
        self.io().remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.power.step()?;
        self.io().sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.io().space(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<DirectoryLock> {
        self.io().lock(path)
    }
    fn pace(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.pace_ms.load(Ordering::Relaxed)))
    }
}

struct PoweredFile {
    inner: Arc<dyn BlockFile>,
    power: Arc<Power>,
}

impl BlockFile for PoweredFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(into, offset)
    }
    fn read_now(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_now(into, offset)
    }
    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        self.power.step()?;
        self.inner.write_at(from, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.power.step()?;
        self.inner.sync()
    }
}
