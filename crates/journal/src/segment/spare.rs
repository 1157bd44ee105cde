//! Files for segments to come: zero-filled ahead of need, or recycled.
//!
//! Is:     a pool of at most [`MAX_SPARES`] full-length files, and one that is being filled.
//! Owns:   the files `spare-*.log` and `filling.tmp`.
//! Never:  trusts what a spare contains: its batches carry an older generation.

use super::format::u64_of;
use crate::Error;
use crate::disk::{Disk, DiskFile};
use std::path::{Path, PathBuf};

/// Spares kept; more are removed. Two: one in reserve while another is being used.
const MAX_SPARES: usize = 2;
/// Zeros written in one step of filling: well under a millisecond of page cache.
const FILL_STEP_BYTES: usize = 1 << 20;
const FILLING: &str = "filling.tmp";
const PREFIX: &str = "spare-";

pub(super) struct Spares<D: Disk> {
    dir: PathBuf,
    segment_bytes: u64,
    ready: Vec<PathBuf>,
    filling: Option<(D::File, u64)>,
    /// For the name of the next spare.
    next: u64,
}

impl<D: Disk> Spares<D> {
    /// Takes stock of a directory: keeps spares of the right length, removes others and what was half filled.
    pub(super) fn open(disk: &D, dir: &Path, segment_bytes: u64) -> Result<Spares<D>, Error> {
        let mut spares = Spares { dir: dir.to_path_buf(), segment_bytes, ready: Vec::new(), filling: None, next: 0 };
        for name in disk.list(dir).map_err(Error::io("list", dir))? {
            let path = dir.join(&name);
            if let Some(number) = spare_number(&name) {
                spares.next = spares.next.max(number + 1);
                let len = disk.open(&path).and_then(|file| file.len_bytes()).map_err(Error::io("open", &path))?;
                spares.keep_or_remove(disk, path, len)?;
            } else if name == FILLING {
                disk.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(spares)
    }

    fn keep_or_remove(&mut self, disk: &D, path: PathBuf, bytes: u64) -> Result<(), Error> {
        if bytes == self.segment_bytes && self.ready.len() < MAX_SPARES {
            self.ready.push(path);
            return Ok(());
        }
        disk.remove(&path).map_err(Error::io("remove", &path))
    }

    /// Whether no file is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    fn name(&mut self) -> PathBuf {
        self.next += 1;
        self.dir.join(format!("{PREFIX}{:016x}.log", self.next))
    }

    /// A file of full length; made on the spot if none is ready.
    pub(super) fn take(&mut self, disk: &D) -> Result<(PathBuf, D::File), Error> {
        if let Some(path) = self.ready.pop() {
            let file = disk.open(&path).map_err(Error::io("open", &path))?;
            return Ok((path, file));
        }
        while self.fill_step(disk)? {}
        let path = self.ready.pop().expect("filling ends with a ready file");
        let file = disk.open(&path).map_err(Error::io("open", &path))?;
        Ok((path, file))
    }

    /// Writes some more zeros; true while the pool is still empty. A failure gives the half-filled file up.
    pub(super) fn fill_step(&mut self, disk: &D) -> Result<bool, Error> {
        if !self.is_empty() {
            return Ok(false);
        }
        let path = self.dir.join(FILLING);
        let (file, filled) = match self.filling.take() {
            Some(filling) => filling,
            None => (self.begin(disk, &path)?, 0),
        };
        let step = FILL_STEP_BYTES.min(usize::try_from(self.segment_bytes - filled).unwrap_or(FILL_STEP_BYTES));
        file.write_at(&vec![0; step], filled).map_err(Error::io("fill", &path))?;
        let filled = filled + u64_of(step);
        if filled < self.segment_bytes {
            self.filling = Some((file, filled));
            return Ok(true);
        }
        file.sync().map_err(Error::io("sync", &path))?;
        let ready = self.name();
        disk.rename(&path, &ready).map_err(Error::io("rename", &path))?;
        self.ready.push(ready);
        Ok(false)
    }

    fn begin(&self, disk: &D, path: &Path) -> Result<D::File, Error> {
        match disk.remove(path) {
            Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", path)(failure));
            }
            Ok(()) | Err(_) => {}
        }
        let file = disk.create(path).map_err(Error::io("create", path))?;
        file.allocate(self.segment_bytes).map_err(Error::io("reserve space for", path))?;
        Ok(file)
    }

    /// Takes over a segment that is no longer needed; durable when it returns.
    pub(super) fn recycle(&mut self, disk: &D, segment: &Path, bytes: u64) -> Result<(), Error> {
        let spare = self.name();
        disk.rename(segment, &spare).map_err(Error::io("retire", segment))?;
        disk.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))?;
        self.keep_or_remove(disk, spare, bytes)
    }
}

fn spare_number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix(PREFIX)?.strip_suffix(".log")?, 16).ok()
}

/// Whether a file name belongs to this module.
pub(super) fn is_ours(name: &str) -> bool {
    name == FILLING || spare_number(name).is_some()
}
