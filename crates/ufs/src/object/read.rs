//! Reading a range of an object.

use super::fail::is_outside;
use super::{Bucket, fingerprint, header_tag, raw};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::ReadStream;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use opendal::options::ReadOptions;
use opendal::raw::{OpRead, OpReader, oio};
use opendal::{BytesRange, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use types::Fingerprint;

struct Reading {
    bucket: Arc<Bucket>,
    key: Key,
    stream: Box<dyn oio::ReadStreamDyn>,
    buffer: opendal::Buffer,
    expected_bytes: u64,
    got_bytes: u64,
}

pub(super) async fn open(
    bucket: &Arc<Bucket>,
    key: &Key,
    range: Range<u64>,
    condition: Option<&Fingerprint>,
) -> Result<ReadStream, UfsError> {
    if range.is_empty() {
        return Ok(ReadStream { fingerprint: None, body: stream::empty().boxed() });
    }
    let expected_bytes = range.end - range.start;
    let if_match = condition.and_then(header_tag);
    let options = ReadOptions { if_match, ..Default::default() };
    let (_, args, _): (BytesRange, OpRead, OpReader) = options.into();
    let opened = match bucket.service.read_dyn(&bucket.context, raw(key), args) {
        Ok(reader) => reader.open_dyn(BytesRange::new(range.start, Some(expected_bytes))).await,
        Err(error) => Err(error),
    };
    let (answer, stream) = match opened {
        Ok(opened) => opened,
        Err(error) => return Err(refused(bucket, key, expected_bytes, condition, &error).await),
    };
    // The condition was sent where it could be; the answer itself is the proof.
    let metadata = answer.metadata();
    let found = metadata.and_then(|metadata| fingerprint(metadata, metadata.content_length()));
    if let Some(condition) = condition.filter(|condition| found.as_ref() != Some(condition)) {
        return Err(bucket.changed(Verb::Read, key, condition, found.as_ref()));
    }
    let reading = Reading {
        bucket: bucket.clone(),
        key: key.clone(),
        stream,
        buffer: opendal::Buffer::new(),
        expected_bytes,
        got_bytes: 0,
    };
    Ok(ReadStream { fingerprint: found, body: stream::try_unfold(reading, Reading::next).boxed() })
}

/// Why a read did not begin.
async fn refused(
    bucket: &Bucket,
    key: &Key,
    expected_bytes: u64,
    condition: Option<&Fingerprint>,
    error: &opendal::Error,
) -> UfsError {
    match condition {
        Some(condition) if error.kind() == ErrorKind::ConditionNotMatch => {
            return bucket.changed(Verb::Read, key, condition, None);
        }
        Some(condition) if is_outside(error) => {
            // Some stores look at the range before the condition.
            if let Err(changed) = bucket.expect(Verb::Read, key, Some(condition)).await {
                return changed;
            }
        }
        Some(_) | None => {}
    }
    match is_outside(error) {
        true => bucket.error(Verb::Read, key, Failure::Short { expected_bytes, got_bytes: 0 }),
        false => bucket.failed(Verb::Read, key, error),
    }
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Reading)>, UfsError> {
        loop {
            if let Some(bytes) = Iterator::next(&mut self.buffer) {
                self.got_bytes += u64::try_from(bytes.len()).expect("memory is addressable");
                if self.got_bytes > self.expected_bytes {
                    return Err(self.fail(Failure::Contradiction {
                        words: format!("it sends more than the {} bytes asked for", self.expected_bytes),
                    }));
                }
                return Ok(Some((bytes, self)));
            }
            if self.got_bytes == self.expected_bytes {
                return Ok(None);
            }
            match self.stream.read_dyn().await {
                Ok(buffer) if buffer.is_empty() => return Err(self.short()),
                Ok(buffer) => self.buffer = buffer,
                Err(error) if error.message().contains("too little data") => return Err(self.short()),
                Err(error) => return Err(self.bucket.failed(Verb::Read, &self.key, &error)),
            }
        }
    }

    fn short(&self) -> UfsError {
        self.fail(Failure::Short { expected_bytes: self.expected_bytes, got_bytes: self.got_bytes })
    }

    fn fail(&self, failure: Failure) -> UfsError {
        self.bucket.error(Verb::Read, &self.key, failure)
    }
}
