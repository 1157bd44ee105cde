//! Reading a range of a local file.

use super::{Dir, mode_of, run, stamp};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::ReadStream;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use rustix::fs::{Mode, OFlags};
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use types::Fingerprint;

/// Bytes of one read from disk.
const CHUNK_BYTES: u64 = 1024 * 1024;

struct Reading {
    dir: Arc<Dir>,
    key: Key,
    file: File,
    /// The version the read began with.
    version: Fingerprint,
    range: Range<u64>,
}

pub(super) async fn open(
    dir: &Arc<Dir>,
    key: &Key,
    range: Range<u64>,
    condition: Option<&Fingerprint>,
) -> Result<ReadStream, UfsError> {
    if range.is_empty() {
        return Ok(ReadStream { fingerprint: None, body: stream::empty().boxed() });
    }
    let (owned, key, condition) = (dir.clone(), key.clone(), condition.cloned());
    let reading = run(dir, Verb::Read, move |dir| {
        let (file, metadata) = open_file(dir, &key)?;
        dir.check_is(Verb::Read, &key, condition.as_ref(), &metadata)?;
        if range.end > metadata.len() {
            let (expected_bytes, got_bytes) = (range.end - range.start, metadata.len().saturating_sub(range.start));
            return Err(dir.error(Verb::Read, &key, Failure::Short { expected_bytes, got_bytes }));
        }
        Ok(Reading { dir: owned, key, file, version: stamp(&metadata), range })
    })
    .await?;
    let fingerprint = Some(reading.version.clone());
    let body = stream::try_unfold(reading, |reading| async move {
        if reading.range.is_empty() {
            return Ok(None);
        }
        let dir = reading.dir.clone();
        run(&dir, Verb::Read, move |_| reading.next_chunk()).await.map(Some)
    });
    Ok(ReadStream { fingerprint, body: body.boxed() })
}

/// The file behind a key, links followed inside the base; never waits for a pipe.
pub(super) fn open_file(dir: &Dir, key: &Key) -> Result<(File, Metadata), UfsError> {
    let (path, metadata) = dir.look_through(Verb::Read, key)?;
    if metadata.is_dir() {
        return Err(dir.error(Verb::Read, key, Failure::IsDirectory));
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(&path, flags, Mode::empty()).map_err(io::Error::from).map(File::from);
    let file = opened.map_err(|error| dir.io(Verb::Read, key, &error))?;
    let metadata = file.metadata().map_err(|error| dir.io(Verb::Read, key, &error))?;
    if !metadata.is_file() {
        let words = format!("it is not a file (mode {:o})", mode_of(&metadata).bits());
        return Err(dir.error(Verb::Read, key, Failure::Refused { words }));
    }
    Ok((file, metadata))
}

impl Reading {
    /// The next bytes. With the last ones, the file is looked at again: what was overwritten in place while it was
    /// read is an error, not data.
    fn next_chunk(mut self) -> Result<(Bytes, Reading), UfsError> {
        let size = (self.range.end - self.range.start).min(CHUNK_BYTES);
        let mut chunk = vec![0; usize::try_from(size).expect("a chunk fits memory")];
        if let Err(error) = self.file.read_exact_at(&mut chunk, self.range.start) {
            let failure = match error.kind() {
                io::ErrorKind::UnexpectedEof => self
                    .changed()
                    .err()
                    .map_or(Failure::Short { expected_bytes: size, got_bytes: 0 }, |error| error.failure().clone()),
                _ => super::fail::failure_of(&error),
            };
            return Err(self.dir.error(Verb::Read, &self.key, failure));
        }
        self.range.start += size;
        if self.range.is_empty() {
            self.changed()?;
        }
        Ok((chunk.into(), self))
    }

    fn changed(&self) -> Result<(), UfsError> {
        let metadata = self.file.metadata().map_err(|error| self.dir.io(Verb::Read, &self.key, &error))?;
        self.dir.check_is(Verb::Read, &self.key, Some(&self.version), &metadata)
    }
}
