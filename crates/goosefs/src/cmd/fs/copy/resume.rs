//! How a copy from local files goes on where an interrupted one stopped.
//!
//! Is:     a look at what stands at a destination before it is written.
//! Owns:   what counts as the same file: complete, as long, and of the same content by CRC32C. Times are not looked at:
//!         two machines' clocks say nothing about content.
//! Never:  replaces a complete file, or an incomplete one that an interrupted run of the same copy did not begin.

use super::record::{OpenError, Record};
use anyhow::{Context as _, bail};
use client::{FileStatus, FileSystem, Freshness, Remove};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use types::{ErrorKind, FileId, GfsPath, LoadMetadata, PersistenceState};

/// Bytes of a local file summed up at once.
const SUM_BYTES: usize = 1 << 20;
/// What the master knows already; a look into the store is left to the making of the file, which needs one anyhow.
const AS_KNOWN: Freshness = Freshness { load: LoadMetadata::Never, sync_interval: None };

/// What stands at a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing, or no longer.
    Absent,
    /// The file itself, whole.
    Same,
}

/// The state of one copy.
pub struct Resume {
    /// None: this machine cannot keep one. Then an incomplete file is never taken for ours.
    record: Option<Record>,
}

impl Resume {
    /// Errors: the same copy runs now. A record that cannot be kept is a warning: the copy itself can be made.
    pub fn open(home: &Path, copy: &str) -> anyhow::Result<Resume> {
        match Record::open(home, copy) {
            Ok(record) => Ok(Resume { record: Some(record) }),
            Err(error @ OpenError::Running(_)) => Err(error.into()),
            Err(error @ OpenError::Disk { .. }) => {
                eprintln!(
                    "goosefs: if this copy is interrupted, files it leaves half-written must be removed by hand: {error}"
                );
                Ok(Resume { record: None })
            }
        }
    }

    /// Looks at `to` before `from` is written there; removes what an interrupted run left half-written.
    ///
    /// Errors: another file stands there, or one that is incomplete and not ours.
    pub async fn look(&self, fs: &FileSystem, from: &Path, to: &GfsPath) -> anyhow::Result<Standing> {
        let found = match fs.status_with(to, AS_KNOWN).await {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Standing::Absent),
            Err(error) => return Err(error.into()),
        };
        if found.completed {
            // The run may have been killed after the last byte and before it noted that.
            self.end(to)?;
            refuse_unless_same(fs, from, found).await?;
            return Ok(Standing::Same);
        }
        if !self.record.as_ref().is_some_and(|record| record.has_begun(to, found.file)) {
            bail!(
                "cannot copy {} to {to}: a file that is not complete stands there, and no interrupted copy from here \
                 left it; wait until it is written, or remove it with goosefs fs rm {to}",
                from.display()
            );
        }
        fs.remove(to, Remove::default()).await?;
        Ok(Standing::Absent)
    }

    /// `to` could not be made, for something has its name after all: it was in the store, or somebody was faster.
    ///
    /// Errors: `error`, unless it is the file itself.
    pub async fn look_again(
        &self,
        fs: &FileSystem,
        from: &Path,
        to: &GfsPath,
        error: client::Error,
    ) -> anyhow::Result<()> {
        self.end(to)?;
        match fs.find(to).await? {
            Some(found) if found.completed => refuse_unless_same(fs, from, found).await,
            Some(_) | None => Err(error.into()),
        }
    }

    /// `to` is about to be made, or was made as `file`.
    pub fn begin(&self, to: &GfsPath, file: Option<FileId>) -> anyhow::Result<()> {
        self.record.as_ref().map_or(Ok(()), |record| record.begin(to, file))
    }

    /// `to` is whole, or nothing of it is left.
    pub fn end(&self, to: &GfsPath) -> anyhow::Result<()> {
        self.record.as_ref().map_or(Ok(()), |record| record.end(to))
    }

    /// The run is over.
    pub fn close(self) -> anyhow::Result<()> {
        self.record.map_or(Ok(()), Record::close)
    }
}

async fn refuse_unless_same(fs: &FileSystem, from: &Path, found: FileStatus) -> anyhow::Result<()> {
    let to = found.path.clone();
    if is_same(fs, from, found).await? {
        return Ok(());
    }
    bail!("cannot copy {} to {to}: another file exists there already; remove it or choose another name", from.display())
}

/// Cost: a read of the local file if the lengths agree, and one of the other if nobody told the master its checksum.
async fn is_same(fs: &FileSystem, from: &Path, found: FileStatus) -> anyhow::Result<bool> {
    let local = tokio::fs::metadata(from).await.with_context(|| format!("cannot read {}", from.display()))?;
    if found.folder || found.persistence == PersistenceState::Lost || found.length != local.len() {
        return Ok(false);
    }
    let path = from.to_owned();
    let ours = tokio::task::spawn_blocking(move || local_crc32c(&path)).await??;
    let theirs = match found.crc32c() {
        Some(told) => told,
        None => remote_crc32c(fs, found).await?,
    };
    Ok(ours == theirs)
}

fn local_crc32c(path: &Path) -> anyhow::Result<u32> {
    let read = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(read)?;
    let mut buffer = vec![0; SUM_BYTES];
    let mut sum = 0;
    loop {
        match file.read(&mut buffer).with_context(read)? {
            0 => return Ok(sum),
            length => sum = crc32c::crc32c_append(sum, &buffer[..length]),
        }
    }
}

async fn remote_crc32c(fs: &FileSystem, file: FileStatus) -> anyhow::Result<u32> {
    let mut reader = fs.open_status(file)?;
    let mut sum = 0;
    while let Some(chunk) = reader.next_chunk().await? {
        sum = crc32c::crc32c_append(sum, &chunk);
    }
    Ok(sum)
}
