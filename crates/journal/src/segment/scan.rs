//! Walks the batches of one segment file.
//!
//! Is:     a cursor that reads ahead in one window, and a search for batches behind a bad spot.
//! Owns:   its window.
//! Never:  decides what a bad spot means; that is `open`'s job.

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, SEGMENT_HEADER_BYTES, body_is_whole, decode_batch_header, u64_of,
};
use crate::disk::{DiskFile, SECTOR, SECTOR_BYTES};
use std::io;
use types::ClusterId;

/// Read-ahead of a scan. A batch larger than this is read whole.
const WINDOW_BYTES: usize = 256 << 10;

/// What stands at the cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A whole batch; its bytes are in [`Cursor::bytes`] until the next call.
    Batch(BatchHeader),
    /// A header that verifies, a body that does not.
    BadBody(BatchHeader),
    /// Nothing that verifies, or the end of the file.
    Blank,
}

/// Reads batches one after the other.
pub(crate) struct Cursor<'a, F> {
    file: &'a F,
    cluster: ClusterId,
    generation: u64,
    /// Where the next batch is expected.
    pub offset: u64,
    segment_bytes: u64,
    window_start: u64,
    window: Vec<u8>,
    batch_start: u64,
    batch_bytes: usize,
}

impl<'a, F: DiskFile> Cursor<'a, F> {
    pub(crate) fn new(file: &'a F, cluster: ClusterId, generation: u64, offset: u64, segment_bytes: u64) -> Self {
        assert!(offset >= u64_of(SEGMENT_HEADER_BYTES), "batches follow the segment header");
        let (window_start, window) = (offset, Vec::new());
        let (batch_start, batch_bytes) = (offset, 0);
        Cursor { file, cluster, generation, offset, segment_bytes, window_start, window, batch_start, batch_bytes }
    }

    /// Looks at the batch at the cursor and steps over it if it is whole.
    pub(crate) fn next(&mut self) -> io::Result<Step> {
        if self.offset + SECTOR_BYTES > self.segment_bytes {
            return Ok(Step::Blank);
        }
        let (cluster, generation) = (self.cluster, self.generation);
        let head = self.fetch(self.offset, SECTOR)?;
        let Some(header) = decode_batch_header(head, cluster, generation) else { return Ok(Step::Blank) };
        if self.offset + header.disk_bytes() > self.segment_bytes {
            return Ok(Step::BadBody(header));
        }
        let bytes = BATCH_HEADER_BYTES + usize::try_from(header.body_bytes).expect("u32 fits usize");
        if !body_is_whole(self.fetch(self.offset, bytes)?, cluster, &header) {
            return Ok(Step::BadBody(header));
        }
        (self.batch_start, self.batch_bytes) = (self.offset, bytes);
        self.offset += header.disk_bytes();
        Ok(Step::Batch(header))
    }

    /// The bytes of the batch that the last step returned, header first, without padding.
    pub(crate) fn bytes(&self) -> &[u8] {
        let start = usize::try_from(self.batch_start - self.window_start).expect("within the window");
        &self.window[start..start + self.batch_bytes]
    }

    /// The first batch header at a sector behind the cursor that verifies and is not older than `number`: proof that
    /// what stands at the cursor was once whole, because a batch is written only after the one before was synced.
    pub(crate) fn find_later(&mut self, number: u64) -> io::Result<Option<BatchHeader>> {
        let (cluster, generation) = (self.cluster, self.generation);
        let mut at = self.offset + SECTOR_BYTES;
        while at + SECTOR_BYTES <= self.segment_bytes {
            let found = decode_batch_header(self.fetch(at, SECTOR)?, cluster, generation);
            if let Some(header) = found.filter(|header| header.number > number || header.seal) {
                return Ok(Some(header));
            }
            at += SECTOR_BYTES;
        }
        Ok(None)
    }

    /// `bytes` bytes from `offset`, through the window.
    fn fetch(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let held = self.window_start..self.window_start + u64_of(self.window.len());
        if !(held.contains(&offset) && offset + u64_of(bytes) <= held.end) {
            let left = usize::try_from(self.segment_bytes - offset).unwrap_or(usize::MAX);
            self.window.resize(bytes.max(WINDOW_BYTES).min(left), 0);
            self.window_start = offset;
            self.file.read_at(&mut self.window, offset)?;
        }
        let start = usize::try_from(offset - self.window_start).expect("within the window");
        Ok(&self.window[start..start + bytes])
    }
}
