//! A read that goes on after an interruption, at the offset reached and under the same version.

use super::{Core, timed_out};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{ReadStream, UnderStore};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use types::Fingerprint;

struct Resuming {
    core: Arc<Core>,
    inner: Arc<dyn UnderStore>,
    key: Key,
    /// What is still to come.
    range: Range<u64>,
    /// The version all bytes must be of: the caller's, else the one the first answer showed.
    version: Option<Fingerprint>,
    body: BoxStream<'static, Result<Bytes, UfsError>>,
    /// Attempts since bytes last came.
    tried: u32,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn open(
    core: &Arc<Core>,
    inner: &Arc<dyn UnderStore>,
    key: &Key,
    range: Range<u64>,
    condition: Option<&Fingerprint>,
) -> Result<ReadStream, UfsError> {
    let permit = core.permit(&core.streams, Verb::Read, key).await?;
    let opened = core.call(Verb::Read, key, || inner.read(key, range.clone(), condition)).await?;
    let fingerprint = opened.fingerprint.clone();
    let resuming = Resuming {
        core: core.clone(),
        inner: inner.clone(),
        key: key.clone(),
        range,
        version: condition.cloned().or_else(|| opened.fingerprint.clone()),
        body: opened.body,
        tried: 1,
        _permit: permit,
    };
    Ok(ReadStream { fingerprint, body: stream::try_unfold(resuming, Resuming::next).boxed() })
}

impl Resuming {
    async fn next(mut self) -> Result<Option<(Bytes, Resuming)>, UfsError> {
        loop {
            let limit = self.core.options.transfer_timeout;
            let error = match timeout(limit, self.body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    let count = u64::try_from(bytes.len()).expect("memory is addressable");
                    if count > self.range.end - self.range.start {
                        let words = "it sends more bytes than were asked for".to_owned();
                        return Err(self.error(Failure::Contradiction { words }));
                    }
                    self.range.start += count;
                    self.tried = 1;
                    self.core.metrics.moved(Verb::Read, bytes.len());
                    return Ok(Some((bytes, self)));
                }
                Ok(None) if self.range.is_empty() => return Ok(None),
                Ok(None) => {
                    let expected_bytes = self.range.end - self.range.start;
                    self.error(Failure::Short { expected_bytes, got_bytes: 0 })
                }
                Ok(Some(Err(error))) => error,
                Err(_) => self.error(timed_out(limit)),
            };
            self.core.metrics.failed(Verb::Read);
            self.resume(error).await?;
        }
    }

    /// Opens the rest again, as often as attempts and budget allow; else the error stands.
    async fn resume(&mut self, mut error: UfsError) -> Result<(), UfsError> {
        // Nothing left to ask for, or no version to hold the rest to: two versions must not be mixed.
        let can_resume = !self.range.is_empty() && self.version.is_some();
        while can_resume && self.tried < self.core.options.attempts && self.core.may_retry(Verb::Read, &error) {
            self.core.pause(Verb::Read, self.tried).await;
            self.tried += 1;
            let rest = self.inner.read(&self.key, self.range.clone(), self.version.as_ref());
            match self.core.attempt(Verb::Read, &self.key, self.core.options.attempt_timeout, rest).await {
                Ok(opened) => {
                    self.body = opened.body;
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
        Err(error)
    }

    fn error(&self, failure: Failure) -> UfsError {
        self.core.error(Verb::Read, &self.key, failure)
    }
}
