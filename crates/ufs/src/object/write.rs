//! Writing an object: one request when it is small, a multipart upload when it is not.

use super::{Bucket, bare_tag, header_tag, raw};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{Condition, ObjectInfo, ObjectKind, WriteOptions, Writer};
use async_trait::async_trait;
use bytes::Bytes;
use opendal::options;
use opendal::raw::{OpWrite, oio};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use types::Fingerprint;

/// Smallest part of a multipart upload; larger when a length hint needs it. All parts but the last are equally long.
pub const PART_BYTES_MIN: usize = 8 << 20;
/// Most parts a store takes in one upload.
const PARTS_MAX: u64 = 10_000;
/// Parts sent at the same time by one writer. With the part being filled and the one in hand, a writer holds at most
/// two parts more than this.
const PARTS_IN_FLIGHT: usize = 4;
/// How often the cleaning up after a dropped writer is tried, how long one try may take, and the pause before the second
/// try, doubled for each further one: an upload often ends because its store is ill, so the store gets some minutes.
const ABORT_TRIES: u32 = 10;
const ABORT_TIMEOUT: Duration = Duration::from_secs(30);
const ABORT_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct ObjectWriter {
    bucket: Arc<Bucket>,
    key: Key,
    condition: Condition,
    part_bytes: usize,
    /// None once it ended.
    upload: Option<oio::Writer>,
    /// The tag the store named when it completed the object.
    completed: Option<Option<String>>,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    sent_bytes: usize,
}

impl ObjectWriter {
    pub fn new(bucket: &Arc<Bucket>, key: &Key, options: WriteOptions) -> Result<ObjectWriter, UfsError> {
        let fail = |error: opendal::Error| bucket.failed(Verb::Write, key, &error);
        let if_match = match &options.condition {
            Condition::Is(expected) if bucket.features.write_if_match => header_tag(expected),
            Condition::Is(_) | Condition::Any | Condition::Absent => None,
        };
        let write = options::WriteOptions {
            concurrent: PARTS_IN_FLIGHT,
            if_not_exists: options.condition == Condition::Absent,
            if_match,
            ..Default::default()
        };
        let (args, _) = OpWrite::from_options(&bucket.service.capability_dyn(), write).map_err(fail)?;
        let upload = bucket.service.write_dyn(&bucket.context, raw(key), args).map_err(fail)?;
        Ok(ObjectWriter {
            bucket: bucket.clone(),
            key: key.clone(),
            condition: options.condition,
            part_bytes: part_bytes(options.length_hint),
            upload: Some(upload),
            completed: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent_bytes: 0,
        })
    }

    fn upload(&mut self) -> Result<&mut oio::Writer, UfsError> {
        let words = "the writer has ended".to_owned();
        let ended = self.bucket.error(Verb::Write, &self.key, Failure::BadRequest { words });
        self.upload.as_mut().ok_or(ended)
    }

    /// Sends the next `size` waiting bytes; they stop waiting only when that succeeded, so it can be repeated.
    async fn send(&mut self, size: usize) -> Result<(), UfsError> {
        let part = cut(&self.waiting, size);
        if let Err(error) = self.upload()?.write_dyn(part.into()).await {
            return Err(self.bucket.failed(Verb::Write, &self.key, &error));
        }
        self.waiting_bytes -= size;
        self.sent_bytes += size;
        let mut left = size;
        while left > 0 {
            let front = self.waiting.front_mut().expect("as many bytes wait as are counted");
            let taken = left.min(front.len());
            left -= taken;
            let _ = front.split_to(taken);
            if front.is_empty() {
                self.waiting.pop_front();
            }
        }
        Ok(())
    }

    async fn send_full_parts(&mut self) -> Result<(), UfsError> {
        while self.waiting_bytes >= self.part_bytes {
            self.send(self.part_bytes).await?;
        }
        Ok(())
    }

    /// The condition by a look of our own. Where the store checks too this only gives the better words; where it does not,
    /// it is all there is.
    async fn check_condition(&self) -> Result<(), UfsError> {
        let expected = match &self.condition {
            Condition::Any => return Ok(()),
            Condition::Absent => None,
            Condition::Is(expected) => Some(expected),
        };
        let found = self.bucket.head(Verb::Write, &self.key).await?.and_then(|found| found.fingerprint);
        if found.as_ref() == expected {
            return Ok(());
        }
        let show = |one: Option<&Fingerprint>| one.map_or_else(|| "nothing".to_owned(), Fingerprint::to_string);
        let (expected, found) = (show(expected), show(found.as_ref()));
        Err(self.bucket.error(Verb::Write, &self.key, Failure::Changed { expected, found }))
    }

    fn is_multipart(&self) -> bool {
        self.sent_bytes > self.part_bytes
    }

    fn unfinished(&self, error: &opendal::Error) -> UfsError {
        let failed = self.bucket.failed(Verb::Write, &self.key, error);
        if self.is_multipart() && failed.is_not_found() {
            let words = "the upload is gone: completed by an earlier try, or aborted".to_owned();
            return self.bucket.error(Verb::Write, &self.key, Failure::OutcomeUnknown { words });
        }
        failed
    }

    /// Looks at what was written: an answer is proof of nothing more than it says, and a multipart upload may fail after
    /// the store began to say 200.
    async fn verify(&self, tag: Option<String>) -> Result<ObjectInfo, UfsError> {
        let Some(found) = self.bucket.head(Verb::Write, &self.key).await? else {
            return self.contradiction("it answered that the object was written, but nothing is there".into());
        };
        let length = u64::try_from(self.sent_bytes).expect("a length fits 64 bits");
        let written = tag.map(Fingerprint::Etag);
        if written.is_some() && found.fingerprint != written {
            // Somebody has replaced it since: ours was there, and is no more.
            return Ok(ObjectInfo { kind: ObjectKind::File, length, mtime_ns: None, fingerprint: written, ..found });
        }
        if found.length != length {
            return self.contradiction(format!("{length} bytes were written, but the object has {}", found.length));
        }
        if written.is_none() && self.is_multipart() {
            let words = "the store completed the upload without naming the object's tag".to_owned();
            return Err(self.bucket.error(Verb::Write, &self.key, Failure::OutcomeUnknown { words }));
        }
        Ok(found)
    }

    fn contradiction<T>(&self, words: String) -> Result<T, UfsError> {
        Err(self.bucket.error(Verb::Write, &self.key, Failure::Contradiction { words }))
    }
}

/// The first `size` bytes, not copied.
fn cut(waiting: &VecDeque<Bytes>, size: usize) -> Vec<Bytes> {
    let mut left = size;
    let mut part = Vec::new();
    for bytes in waiting {
        if left == 0 {
            break;
        }
        part.push(bytes.slice(..left.min(bytes.len())));
        left -= left.min(bytes.len());
    }
    part
}

fn part_bytes(length_hint: Option<u64>) -> usize {
    let needed = length_hint.unwrap_or(0).div_ceil(PARTS_MAX).next_multiple_of(1 << 20);
    usize::try_from(needed).unwrap_or(usize::MAX).max(PART_BYTES_MIN)
}

#[async_trait]
impl Writer for ObjectWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), UfsError> {
        // What waits is sent before new bytes are taken: after an error the call can be repeated with the same bytes.
        self.send_full_parts().await?;
        self.upload()?;
        if !bytes.is_empty() {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<ObjectInfo, UfsError> {
        if let Some(tag) = self.completed.clone() {
            return self.verify(tag).await; // repeated after a failure of the look at the end
        }
        self.send_full_parts().await?;
        if self.waiting_bytes > 0 {
            self.send(self.waiting_bytes).await?;
        }
        self.check_condition().await?;
        let answer = match self.upload()?.close_dyn().await {
            Ok(answer) => answer,
            Err(error) => return Err(self.unfinished(&error)),
        };
        let tag = answer.etag().map(bare_tag).filter(|tag| !tag.is_empty());
        self.upload = None;
        self.completed = Some(tag.clone());
        self.verify(tag).await
    }

    async fn abort(&mut self) -> Result<(), UfsError> {
        self.waiting.clear();
        self.waiting_bytes = 0;
        match self.upload.take() {
            None => Ok(()),
            Some(mut upload) => match upload.abort_dyn().await {
                Ok(()) => Ok(()),
                Err(error) => {
                    // Tried again when the writer is dropped.
                    self.upload = Some(upload);
                    Err(self.bucket.failed(Verb::Write, &self.key, &error))
                }
            },
        }
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        // Nobody is left to wait for it: the upload is aborted by a task of its own, bounded in time.
        if self.sent_bytes > 0
            && let (Some(mut upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current())
        {
            let (uri, key) = (self.bucket.uri.clone(), self.key.clone());
            runtime.spawn(async move {
                for tried in 0..ABORT_TRIES {
                    match tokio::time::timeout(ABORT_TIMEOUT, upload.abort_dyn()).await {
                        Ok(Ok(())) => return,
                        // Completed after all, or aborted by a try that got no answer.
                        Ok(Err(error)) if error.kind() == opendal::ErrorKind::NotFound => return,
                        Ok(Err(_)) | Err(_) => tokio::time::sleep(ABORT_PAUSE * 2_u32.pow(tried)).await,
                    }
                }
                tracing::warn!(%uri, %key, "an unfinished upload could not be aborted; the bucket's lifecycle rule must");
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_large_enough_for_the_whole() {
        assert_eq!(part_bytes(None), PART_BYTES_MIN);
        assert_eq!(part_bytes(Some(80 << 30)), 9 << 20);
        let tebibyte = 1 << 40;
        assert!(u64::try_from(part_bytes(Some(tebibyte))).expect("fits") * PARTS_MAX >= tebibyte);
    }

    #[test]
    fn a_part_is_cut_from_many_pieces() {
        let waiting: VecDeque<Bytes> = [Bytes::from("abc"), Bytes::from("def"), Bytes::from("g")].into();
        assert_eq!(cut(&waiting, 5).concat(), b"abcde");
        assert_eq!(cut(&waiting, 7).concat(), b"abcdefg");
    }
}
