//! Immutable files of bytes. An object, or a part of an upload, is a list of them.
//!
//! Owns:   the directory `blobs`; a blob nobody refers to any more is removed.
//! Never:  knows keys or buckets.

use bytes::{Bytes, BytesMut};
use s3s::crypto::{Checksum as _, Md5};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes read from disk at once: large enough that hopping to a blocking thread costs little.
const READ_BYTES: usize = 512 << 10;
/// Directories the files are spread over.
const SPREAD: u64 = 256;

/// The directory of all blobs.
pub(super) struct Blobs {
    dir: PathBuf,
    next_id: AtomicU64,
    /// Set when the server goes: from then on nothing is removed.
    closed: AtomicBool,
}

/// One file. Removed from disk with its last reference, so a reader keeps what it is reading.
pub(super) struct Blob {
    pub(super) id: u64,
    pub(super) len: u64,
    blobs: Arc<Blobs>,
}

impl Blobs {
    pub(super) fn open(dir: &Path) -> io::Result<Arc<Blobs>> {
        let dir = dir.join("blobs");
        for index in 0..SPREAD {
            std::fs::create_dir_all(dir.join(format!("{index:02x}")))?;
        }
        Ok(Arc::new(Blobs { dir, next_id: AtomicU64::new(1), closed: AtomicBool::new(false) }))
    }

    /// A blob that the log names.
    pub(super) fn known(self: &Arc<Blobs>, id: u64, len: u64) -> Arc<Blob> {
        self.next_id.fetch_max(id + 1, Ordering::Relaxed);
        Arc::new(Blob { id, len, blobs: self.clone() })
    }

    /// Removes files without a meaning: what a killed server was still receiving.
    pub(super) fn sweep(&self, is_known: impl Fn(u64) -> bool) -> io::Result<()> {
        for dir in std::fs::read_dir(&self.dir)? {
            for file in std::fs::read_dir(dir?.path())? {
                let file = file?;
                let id = file.file_name().to_str().and_then(|name| name.parse().ok());
                if !id.is_some_and(&is_known) {
                    std::fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn writer(self: &Arc<Blobs>) -> Writer {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Writer { blob: Blob { id, len: 0, blobs: self.clone() }, file: None, md5: Md5::new() }
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{:02x}", id % SPREAD)).join(id.to_string())
    }
}

impl Blob {
    fn open(&self) -> io::Result<File> {
        File::open(self.blobs.path(self.id))
    }

    /// A second blob with the same bytes, which it shares with this one on disk.
    pub(super) fn link(&self) -> io::Result<Arc<Blob>> {
        let id = self.blobs.next_id.fetch_add(1, Ordering::Relaxed);
        std::fs::hard_link(self.blobs.path(self.id), self.blobs.path(id))?;
        Ok(Arc::new(Blob { id, len: self.len, blobs: self.blobs.clone() }))
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        if !self.blobs.closed.load(Ordering::Relaxed) {
            // Absent when nothing was ever written. A file that stays is swept at the next start.
            drop(std::fs::remove_file(self.blobs.path(self.id)));
        }
    }
}

/// A blob on its way in. Dropped unfinished, it leaves nothing.
pub(super) struct Writer {
    blob: Blob,
    file: Option<Arc<File>>,
    md5: Md5,
}

impl Writer {
    /// Appends, off the async threads. Not cancel-safe: drop the writer with the future.
    pub(super) async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let (file, offset) = (self.file()?, self.blob.len);
        self.note(&bytes);
        blocking(move || file.write_all_at(&bytes, offset)).await
    }

    pub(super) fn write_blocking(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file()?.write_all_at(bytes, self.blob.len)?;
        self.note(bytes);
        Ok(())
    }

    /// The blob (None if it is empty, which needs no file) and the MD5 of its bytes.
    pub(super) fn finish(self) -> (Option<Arc<Blob>>, [u8; 16]) {
        let blob = (self.blob.len > 0).then(|| Arc::new(self.blob));
        (blob, self.md5.finalize())
    }

    fn note(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.blob.len += bytes.len() as u64;
    }

    fn file(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = Arc::new(File::create_new(self.blob.blobs.path(self.blob.id))?);
        Ok(self.file.insert(file).clone())
    }
}

/// Reads the range `[start, end)` of a list of blobs, piece by piece.
pub(super) struct Reader {
    blobs: Vec<Arc<Blob>>,
    /// The blob being read, its file, and where in it the next piece begins.
    index: usize,
    file: Option<Arc<File>>,
    offset: u64,
    left: u64,
}

impl Reader {
    pub(super) fn new(blobs: Vec<Arc<Blob>>, start: u64, end: u64) -> Reader {
        let (mut index, mut offset) = (0, start);
        while blobs.get(index).is_some_and(|blob| offset >= blob.len) {
            offset -= blobs[index].len;
            index += 1;
        }
        Reader { blobs, index, file: None, offset, left: end - start }
    }

    /// The next piece; None at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some((file, offset, len)) = self.plan()? else { return Ok(None) };
        blocking(move || read_at(&file, offset, len)).await.map(Some)
    }

    pub(super) fn next_blocking(&mut self) -> io::Result<Option<Bytes>> {
        let Some((file, offset, len)) = self.plan()? else { return Ok(None) };
        read_at(&file, offset, len).map(Some)
    }

    fn plan(&mut self) -> io::Result<Option<(Arc<File>, u64, usize)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let blob = &self.blobs[self.index];
        let file = match self.file.take() {
            Some(file) => file,
            None => Arc::new(blob.open()?),
        };
        let offset = self.offset;
        let len = usize::try_from((blob.len - offset).min(self.left)).map_or(READ_BYTES, |len| len.min(READ_BYTES));
        self.left -= len as u64;
        self.offset += len as u64;
        if self.offset == blob.len {
            (self.index, self.offset) = (self.index + 1, 0);
        } else {
            self.file = Some(file.clone());
        }
        Ok(Some((file, offset, len)))
    }
}

fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut piece = BytesMut::zeroed(len);
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece.freeze())
}

/// Runs disk work on the pool for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
