//! A store that fails on purpose, for tests.
//!
//! Is:     rules in front of a real store: which call, what happens.
//! Owns:   counters of calls, the listings it saw first.
//! Never:  draws a fault from anything but its rules and its seed.

use crate::capability::Capabilities;
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{Attributes, ObjectInfo, Page, PageToken, ReadStream, Removal, UnderStore, WriteOptions, Writer};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use types::{Fingerprint, Mode, UnixMs};

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It fails before it reaches the store.
    Fail(Failure),
    /// It reaches the store, succeeds there, and the answer is lost.
    LoseAnswer(Failure),
    /// It reaches the store later.
    Delay(Duration),
    /// A read fails after so many bytes of its body.
    CutAfter(u64, Failure),
    /// A read ends after so many bytes as if that were all.
    EndAfter(u64),
    /// A stat or listing says lengths that much too large.
    LieAboutLength(u64),
    /// A listing answers what it answered the first time it was asked the same.
    Stale,
}

/// A fault and the calls it happens to.
#[derive(Clone, Debug)]
pub struct Rule {
    pub fault: Fault,
    /// None: any verb. Of a writer, opening and finishing count as [`Verb::Write`], its bytes do not.
    pub verb: Option<Verb>,
    /// Counted from 1 among the calls this rule matches.
    pub from: u64,
    /// Calls it happens to from there on.
    pub times: u64,
    /// Of those, so many in a thousand, drawn from the seed. 1000 is all.
    pub per_mille: u32,
}

impl Rule {
    /// The `nth` call of this verb.
    pub fn nth(verb: Verb, nth: u64, fault: Fault) -> Rule {
        Rule { fault, verb: Some(verb), from: nth, times: 1, per_mille: 1000 }
    }
    /// Every call of this verb.
    pub fn always(verb: Verb, fault: Fault) -> Rule {
        Rule { times: u64::MAX, ..Rule::nth(verb, 1, fault) }
    }
    /// Any call, so many in a thousand.
    pub fn sometimes(per_mille: u32, fault: Fault) -> Rule {
        Rule { fault, verb: None, from: 1, times: u64::MAX, per_mille }
    }
}

/// A store behind rules. The first rule that applies to a call decides.
pub struct Faulty {
    inner: Arc<dyn UnderStore>,
    shared: Arc<Shared>,
}

struct Shared {
    uri: String,
    state: Mutex<State>,
}

struct State {
    rules: Vec<(Rule, u64)>,
    random: SmallRng,
    calls: HashMap<Verb, u64>,
    first_listings: HashMap<(Key, Option<PageToken>, usize, bool), Page>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn UnderStore>, seed: u64, rules: Vec<Rule>) -> Faulty {
        let state = State {
            rules: rules.into_iter().map(|rule| (rule, 0)).collect(),
            random: SmallRng::seed_from_u64(seed),
            calls: HashMap::new(),
            first_listings: HashMap::new(),
        };
        Faulty { shared: Arc::new(Shared { uri: inner.uri().to_owned(), state: Mutex::new(state) }), inner }
    }

    /// Replaces the rules; their counts begin again.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        self.shared.state.lock().rules = rules.into_iter().map(|rule| (rule, 0)).collect();
    }

    /// Calls of a verb so far, failed ones included.
    pub fn calls(&self, verb: Verb) -> u64 {
        self.shared.state.lock().calls.get(&verb).copied().unwrap_or(0)
    }

    async fn apply<T>(
        &self,
        verb: Verb,
        key: &Key,
        work: impl Future<Output = Result<T, UfsError>>,
    ) -> Result<(T, Option<Fault>), UfsError> {
        self.shared.apply(verb, key, work).await
    }

    async fn listing(
        &self,
        question: (Key, Option<PageToken>, usize, bool),
        work: impl Future<Output = Result<Page, UfsError>>,
    ) -> Result<Page, UfsError> {
        let (page, fault) = self.apply(Verb::List, &question.0, work).await?;
        let mut state = self.shared.state.lock();
        let first = state.first_listings.entry(question).or_insert_with(|| page.clone());
        Ok(match fault {
            Some(Fault::Stale) => first.clone(),
            Some(Fault::LieAboutLength(more)) => {
                let entries = page.entries.into_iter().map(|info| lie(info, more)).collect();
                Page { entries, ..page }
            }
            Some(_) | None => page,
        })
    }
}

fn lie(info: ObjectInfo, more: u64) -> ObjectInfo {
    ObjectInfo { length: info.length + more, ..info }
}

impl Shared {
    fn draw(&self, verb: Verb) -> Option<Fault> {
        let mut state = self.state.lock();
        *state.calls.entry(verb).or_default() += 1;
        let State { rules, random, .. } = &mut *state;
        let mut chosen = None;
        for (rule, seen) in rules.iter_mut().filter(|(rule, _)| rule.verb.is_none_or(|only| only == verb)) {
            *seen += 1;
            let is_due = *seen >= rule.from && *seen - rule.from < rule.times;
            if is_due && chosen.is_none() && random.random_range(0..1000) < rule.per_mille {
                chosen = Some(rule.fault.clone());
            }
        }
        chosen
    }

    async fn apply<T>(
        &self,
        verb: Verb,
        key: &Key,
        work: impl Future<Output = Result<T, UfsError>>,
    ) -> Result<(T, Option<Fault>), UfsError> {
        let fail = |failure| Err(UfsError::new(verb, self.uri.as_str(), Some(key), failure));
        let fault = self.draw(verb);
        match &fault {
            Some(Fault::Fail(failure)) => return fail(failure.clone()),
            Some(Fault::LoseAnswer(failure)) => {
                work.await?;
                return fail(failure.clone());
            }
            Some(Fault::Delay(delay)) => tokio::time::sleep(*delay).await,
            Some(Fault::CutAfter(..) | Fault::EndAfter(_) | Fault::LieAboutLength(_) | Fault::Stale) | None => {}
        }
        Ok((work.await?, fault))
    }
}

#[async_trait]
impl UnderStore for Faulty {
    fn uri(&self) -> &str {
        self.inner.uri()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn check(&self) -> Result<(), UfsError> {
        self.apply(Verb::Check, &Key::root(), self.inner.check()).await.map(|(answer, _)| answer)
    }
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        let (found, fault) = self.apply(Verb::Stat, key, self.inner.stat(key)).await?;
        Ok(match fault {
            Some(Fault::LieAboutLength(more)) => found.map(|info| lie(info, more)),
            Some(_) | None => found,
        })
    }
    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.listing((dir.clone(), after.cloned(), limit, false), self.inner.list(dir, after, limit)).await
    }
    fn behind(&self, entry: &Key) -> PageToken {
        self.inner.behind(entry)
    }
    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.listing((dir.clone(), after.cloned(), limit, true), self.inner.list_recursive(dir, after, limit)).await
    }
    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
        condition: Option<&Fingerprint>,
    ) -> Result<ReadStream, UfsError> {
        let (opened, fault) = self.apply(Verb::Read, key, self.inner.read(key, range, condition)).await?;
        let (limit, failure) = match fault {
            Some(Fault::CutAfter(bytes, failure)) => (bytes, Some(failure)),
            Some(Fault::EndAfter(bytes)) => (bytes, None),
            Some(_) | None => return Ok(opened),
        };
        let error = failure.map(|failure| Err(UfsError::new(Verb::Read, self.uri(), Some(key), failure)));
        let body = opened.body.scan(limit, |left, chunk| {
            let kept = chunk.map(|bytes: Bytes| {
                let size = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= u64::try_from(size).expect("memory is addressable");
                bytes.slice(..size)
            });
            let is_over = matches!(&kept, Ok(bytes) if bytes.is_empty());
            std::future::ready((!is_over).then_some(kept))
        });
        Ok(ReadStream { body: body.chain(stream::iter(error)).boxed(), ..opened })
    }
    async fn write(&self, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>, UfsError> {
        let (inner, _) = self.apply(Verb::Write, key, self.inner.write(key, options)).await?;
        Ok(Box::new(FaultyWriter { inner, key: key.clone(), shared: self.shared.clone() }))
    }
    async fn delete(&self, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError> {
        self.apply(Verb::Delete, key, self.inner.delete(key, expected)).await.map(|(answer, _)| answer)
    }
    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError> {
        self.apply(Verb::Delete, dir, self.inner.delete_dir(dir)).await.map(|(answer, _)| answer)
    }
    async fn make_dir(&self, dir: &Key, mode: Option<Mode>) -> Result<(), UfsError> {
        self.apply(Verb::MakeDir, dir, self.inner.make_dir(dir, mode)).await.map(|(answer, _)| answer)
    }
    async fn rename(&self, from: &Key, to: &Key) -> Result<(), UfsError> {
        self.apply(Verb::Rename, from, self.inner.rename(from, to)).await.map(|(answer, _)| answer)
    }
    async fn copy(&self, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
        self.apply(Verb::Copy, from, self.inner.copy(from, to, expected)).await.map(|(answer, _)| answer)
    }
    async fn set_attributes(&self, key: &Key, attributes: &Attributes) -> Result<(), UfsError> {
        self.apply(Verb::SetAttributes, key, self.inner.set_attributes(key, attributes)).await.map(|(answer, _)| answer)
    }
    async fn sweep(&self, before: UnixMs) -> Result<u64, UfsError> {
        self.apply(Verb::Sweep, &Key::root(), self.inner.sweep(before)).await.map(|(answer, _)| answer)
    }
}

struct FaultyWriter {
    inner: Box<dyn Writer>,
    key: Key,
    shared: Arc<Shared>,
}

#[async_trait]
impl Writer for FaultyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), UfsError> {
        self.inner.write(bytes).await
    }
    async fn finish(&mut self) -> Result<ObjectInfo, UfsError> {
        self.shared.apply(Verb::Write, &self.key, self.inner.finish()).await.map(|(answer, _)| answer)
    }
    async fn abort(&mut self) -> Result<(), UfsError> {
        self.inner.abort().await
    }
}
