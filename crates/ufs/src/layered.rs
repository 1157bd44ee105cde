//! Deadlines, retries, limits and counts around any store.
//!
//! Is:     the one place where a call to a store is given a deadline, repeated and counted.
//! Owns:   the permits of calls and streams in flight, the retry budget, the counters.
//! Never:  repeats what is not transient, resumes a read under another version, hides that an outcome is unknown.

mod metrics;
mod read;
mod retry;
mod write;

use crate::capability::Capabilities;
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{Attributes, ObjectInfo, Page, PageToken, ReadStream, Removal, UnderStore, WriteOptions, Writer};
use async_trait::async_trait;
use futures::future::BoxFuture;
pub use metrics::{BUCKET_COUNT, LATENCY_BOUNDS_US, Metrics, VerbCounts};
use retry::{Backoff, Budget};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use types::{Clock, Entropy, Fingerprint, Mode, UnixMs};

/// How patient, persistent and greedy calls to one store are.
#[derive(Clone, Debug)]
pub struct LayerOptions {
    /// For one attempt at a small request, and for getting a permit.
    pub attempt_timeout: Duration,
    /// For one attempt at what moves data inside the store or waits for parts (copy, write, finish), and for the next bytes
    /// of a read.
    pub transfer_timeout: Duration,
    /// Attempts at looking and reading, the first included.
    pub attempts: u32,
    /// Attempts at changing something. 1 where every try needs a fresh permission, such as a lease check.
    pub mutation_attempts: u32,
    /// Pause before the second attempt; doubled for each further one, jittered down to half.
    pub backoff_first: Duration,
    pub backoff_max: Duration,
    /// Requests in flight at most; more wait, then are `Busy`.
    pub calls_max: usize,
    /// Reads and writes open at most, counted apart so that slow readers do not hold up a stat.
    pub streams_max: usize,
}

impl Default for LayerOptions {
    fn default() -> LayerOptions {
        LayerOptions {
            attempt_timeout: Duration::from_secs(15),
            transfer_timeout: Duration::from_secs(120),
            attempts: 4,
            mutation_attempts: 4,
            backoff_first: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            calls_max: 128,
            streams_max: 128,
        }
    }
}

/// A store with patience.
pub struct Layered {
    inner: Arc<dyn UnderStore>,
    core: Arc<Core>,
}

struct Core {
    uri: Arc<str>,
    options: LayerOptions,
    metrics: Arc<Metrics>,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    budget: Budget,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
}

impl Layered {
    /// `clock` measures latencies, `entropy` jitters pauses; deadlines run on tokio's time.
    pub fn new(
        inner: Arc<dyn UnderStore>,
        options: LayerOptions,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Layered {
        let core = Core {
            uri: inner.uri().into(),
            metrics: Arc::default(),
            calls: Arc::new(Semaphore::new(options.calls_max)),
            streams: Arc::new(Semaphore::new(options.streams_max)),
            budget: Budget::default(),
            backoff: Backoff { first: options.backoff_first, max: options.backoff_max, entropy },
            options,
            clock,
        };
        Layered { inner, core: Arc::new(core) }
    }

    /// What was counted so far; shared and live.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.core.metrics
    }

    async fn call<'a, T>(
        &'a self,
        verb: Verb,
        key: &'a Key,
        work: impl Fn() -> BoxFuture<'a, Result<T, UfsError>> + Send + Sync,
    ) -> Result<T, UfsError> {
        self.core.call(verb, key, work).await
    }
}

impl Core {
    fn error(&self, verb: Verb, key: &Key, failure: Failure) -> UfsError {
        UfsError::new(verb, self.uri.clone(), Some(key), failure)
    }

    fn limits(&self, verb: Verb) -> (Duration, u32) {
        let options = &self.options;
        match verb {
            Verb::Open | Verb::Check | Verb::Stat | Verb::List | Verb::Read => {
                (options.attempt_timeout, options.attempts)
            }
            Verb::Write | Verb::Delete | Verb::MakeDir | Verb::SetAttributes => {
                (options.attempt_timeout, options.mutation_attempts)
            }
            Verb::Copy | Verb::Sweep => (options.transfer_timeout, options.mutation_attempts),
            // Not idempotent: a second try may find the result of the first, or somebody else's.
            Verb::Rename => (options.transfer_timeout, 1),
        }
    }

    /// Waits for room, not for ever.
    async fn permit(&self, pool: &Arc<Semaphore>, verb: Verb, key: &Key) -> Result<OwnedSemaphorePermit, UfsError> {
        match timeout(self.options.attempt_timeout, pool.clone().acquire_owned()).await {
            Ok(permit) => Ok(permit.expect("the pools are never closed")),
            Err(_) => {
                let words = "as many requests as are allowed at once are in flight already".to_owned();
                Err(self.error(verb, key, Failure::Busy { words }))
            }
        }
    }

    /// One attempt: a permit, a deadline, a count.
    async fn attempt<T>(
        &self,
        verb: Verb,
        key: &Key,
        limit: Duration,
        work: impl Future<Output = Result<T, UfsError>>,
    ) -> Result<T, UfsError> {
        let _permit = self.permit(&self.calls, verb, key).await?;
        let begun = self.clock.monotonic();
        let outcome = match timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.error(verb, key, timed_out(limit))),
        };
        self.metrics.record(verb, self.clock.monotonic() - begun, outcome.is_ok());
        outcome
    }

    async fn call<'a, T>(
        &self,
        verb: Verb,
        key: &'a Key,
        work: impl Fn() -> BoxFuture<'a, Result<T, UfsError>> + Send + Sync,
    ) -> Result<T, UfsError> {
        let (limit, attempts) = self.limits(verb);
        let mut tried = 1;
        loop {
            match self.attempt(verb, key, limit, work()).await {
                Ok(value) => {
                    self.budget.earn();
                    return Ok(value);
                }
                Err(error) if tried < attempts && self.may_retry(verb, &error) => {
                    self.pause(verb, tried).await;
                    tried += 1;
                }
                Err(error) if verb.is_mutation() => return Err(unsure(error)),
                Err(error) => return Err(error),
            }
        }
    }

    fn may_retry(&self, verb: Verb, error: &UfsError) -> bool {
        // An unknown outcome is not tried again blindly: the caller must look.
        let is_known = !matches!(error.failure(), Failure::OutcomeUnknown { .. });
        is_known && error.kind().is_transient() && self.budget.spend() && {
            tracing::debug!(%verb, %error, "trying again");
            true
        }
    }

    async fn pause(&self, verb: Verb, tried: u32) {
        self.metrics.retried(verb);
        tokio::time::sleep(self.backoff.pause(tried)).await;
    }
}

fn timed_out(limit: Duration) -> Failure {
    Failure::TimedOut { after_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) }
}

/// After the last attempt at a change: no answer is not a no.
fn unsure(error: UfsError) -> UfsError {
    match error.failure() {
        Failure::TimedOut { .. } | Failure::Unreachable { .. } => error.with_unknown_outcome(),
        _ => error,
    }
}

#[async_trait]
impl UnderStore for Layered {
    fn uri(&self) -> &str {
        self.inner.uri()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn check(&self) -> Result<(), UfsError> {
        let root = Key::root();
        self.core.call(Verb::Check, &root, || self.inner.check()).await
    }
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        self.call(Verb::Stat, key, || self.inner.stat(key)).await
    }
    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.call(Verb::List, dir, || self.inner.list(dir, after, limit)).await
    }
    fn behind(&self, entry: &Key) -> PageToken {
        self.inner.behind(entry)
    }
    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.call(Verb::List, dir, || self.inner.list_recursive(dir, after, limit)).await
    }
    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
        condition: Option<&Fingerprint>,
    ) -> Result<ReadStream, UfsError> {
        read::open(&self.core, &self.inner, key, range, condition).await
    }
    async fn write(&self, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>, UfsError> {
        write::begin(&self.core, &self.inner, key, options).await
    }
    async fn delete(&self, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError> {
        self.call(Verb::Delete, key, || self.inner.delete(key, expected)).await
    }
    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError> {
        self.call(Verb::Delete, dir, || self.inner.delete_dir(dir)).await
    }
    async fn make_dir(&self, dir: &Key, mode: Option<Mode>) -> Result<(), UfsError> {
        self.call(Verb::MakeDir, dir, || self.inner.make_dir(dir, mode)).await
    }
    async fn rename(&self, from: &Key, to: &Key) -> Result<(), UfsError> {
        self.call(Verb::Rename, from, || self.inner.rename(from, to)).await
    }
    async fn copy(&self, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
        self.call(Verb::Copy, from, || self.inner.copy(from, to, expected)).await
    }
    async fn set_attributes(&self, key: &Key, attributes: &Attributes) -> Result<(), UfsError> {
        self.call(Verb::SetAttributes, key, || self.inner.set_attributes(key, attributes)).await
    }
    async fn sweep(&self, before: UnixMs) -> Result<u64, UfsError> {
        let root = Key::root();
        self.core.call(Verb::Sweep, &root, || self.inner.sweep(before)).await
    }
}
