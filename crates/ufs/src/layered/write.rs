//! A writer whose calls have deadlines and are repeated while that is safe.

use super::{Core, timed_out, unsure};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{ObjectInfo, UnderStore, WriteOptions, Writer};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

struct LayeredWriter {
    core: Arc<Core>,
    key: Key,
    /// None after a call was cut off by its deadline: its state is unknown, so it was dropped.
    inner: Option<Box<dyn Writer>>,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn begin(
    core: &Arc<Core>,
    inner: &Arc<dyn UnderStore>,
    key: &Key,
    options: WriteOptions,
) -> Result<Box<dyn Writer>, UfsError> {
    let permit = core.permit(&core.streams, Verb::Write, key).await?;
    let writer = core.call(Verb::Write, key, || inner.write(key, options.clone())).await?;
    Ok(Box::new(LayeredWriter { core: core.clone(), key: key.clone(), inner: Some(writer), _permit: permit }))
}

impl LayeredWriter {
    fn take(&mut self) -> Result<Box<dyn Writer>, UfsError> {
        let words = "the writer has ended or was cut off".to_owned();
        let ended = self.core.error(Verb::Write, &self.key, Failure::BadRequest { words });
        self.inner.take().ok_or(ended)
    }

    fn cut_off(&self) -> UfsError {
        self.core.error(Verb::Write, &self.key, timed_out(self.core.options.transfer_timeout))
    }
}

#[async_trait]
impl Writer for LayeredWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), UfsError> {
        let mut writer = self.take()?;
        let mut tried = 1;
        loop {
            match timeout(self.core.options.transfer_timeout, writer.write(bytes.clone())).await {
                Err(_) => {
                    self.core.metrics.failed(Verb::Write);
                    return Err(self.cut_off());
                }
                Ok(Ok(())) => {
                    self.core.metrics.moved(Verb::Write, bytes.len());
                    self.inner = Some(writer);
                    return Ok(());
                }
                Ok(Err(error)) => {
                    self.core.metrics.failed(Verb::Write);
                    if tried >= self.core.options.mutation_attempts || !self.core.may_retry(Verb::Write, &error) {
                        self.inner = Some(writer);
                        return Err(error);
                    }
                }
            }
            self.core.pause(Verb::Write, tried).await;
            tried += 1;
        }
    }

    async fn finish(&mut self) -> Result<ObjectInfo, UfsError> {
        let mut writer = self.take()?;
        let limit = self.core.options.transfer_timeout;
        let mut is_unknown = false;
        let mut tried = 1;
        loop {
            let begun = self.core.clock.monotonic();
            let outcome = timeout(limit, writer.finish()).await;
            let is_ok = matches!(outcome, Ok(Ok(_)));
            self.core.metrics.record(Verb::Write, self.core.clock.monotonic() - begun, is_ok);
            let error = match outcome {
                Ok(Ok(info)) => {
                    self.core.budget.earn();
                    return Ok(info);
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(self.cut_off().with_unknown_outcome()),
            };
            if is_unknown && error.is_changed() {
                return Err(error.with_unknown_outcome()); // perhaps by our own earlier try
            }
            if tried >= self.core.options.mutation_attempts || !self.core.may_retry(Verb::Write, &error) {
                let is_final = !error.kind().is_transient();
                self.inner = (!is_final).then_some(writer);
                return Err(unsure(error));
            }
            is_unknown |= !matches!(error.failure(), Failure::Busy { .. });
            self.core.pause(Verb::Write, tried).await;
            tried += 1;
        }
    }

    async fn abort(&mut self) -> Result<(), UfsError> {
        let Some(mut writer) = self.inner.take() else { return Ok(()) };
        match timeout(self.core.options.attempt_timeout, writer.abort()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.cut_off()),
        }
    }
}
