//! The under store of a simulated cluster: objects in memory behind latency and faults.
//!
//! A request takes effect at a moment of its own, whether or not its sender still lives, and its answer arrives later or
//! never. Every object version that goes or comes is noted for the judges.

use crate::Plan;
use crate::dice::Dice;
use crate::time::{Clocks, Timeline};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use types::{Clock, Fingerprint, Mode, UnixMs};
use ufs::{
    Attributes, Capabilities, Failure, Key, MemoryStore, ObjectInfo, Page, PageToken, ReadStream, Removal, UfsError,
    UnderStore, Verb, WriteOptions, Writer,
};

pub const URI: &str = "mem://root";
/// The longest a request may be on its way to its effect: less than what a new leader waits for (DESIGN §6).
const LATEST_US: u64 = 1_500_000;
/// The same where a new leader's clock may run at twice the speed, and so it waits half as long.
const LATEST_WILD_US: u64 = 700_000;

/// What happens to requests now.
#[derive(Clone, Copy, Default, Debug)]
pub struct Weather {
    pub away: bool,
    pub slow_ms: u64,
    /// Answers lost, in a thousand.
    pub forgetful: u64,
}

/// An object version went: removed, or replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    pub at_us: u64,
    pub key: String,
    pub version: String,
    pub verb: Verb,
    /// What it held.
    pub content: Option<Bytes>,
}

type Effect = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    weather: Weather,
    next: u64,
    effects: BTreeMap<(u64, u64), Effect>,
    answers: BTreeSet<u64>,
    /// Who waits for any answer.
    waiting: Vec<Waker>,
    gone: Vec<Gone>,
    /// When a version came, and by what; none: from outside.
    made: BTreeMap<String, (u64, Option<Verb>)>,
    /// What stood at a key before what stands there now.
    before: BTreeMap<String, Bytes>,
}

/// Clones are the same store.
#[derive(Clone)]
pub struct Under {
    inner: Arc<MemoryStore>,
    line: Timeline,
    latest_us: u64,
    dice: Arc<Dice>,
    state: Arc<Mutex<State>>,
}

type Slot<T> = Arc<Mutex<Option<Result<T, UfsError>>>>;

/// Ready once time has come to where the answer arrives.
struct Answer<T> {
    slot: Slot<T>,
    at_us: u64,
    under: Under,
}

impl<T> std::future::Future for Answer<T> {
    type Output = Result<T, UfsError>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = if self.under.line.now_us() < self.at_us { None } else { self.slot.lock().take() };
        if answer.is_none() {
            self.under.state.lock().waiting.push(context.waker().clone());
        }
        answer.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Under {
    pub fn new(line: Timeline, clock: Arc<dyn Clock>, plan: &Plan) -> Under {
        let dice = Arc::new(Dice::new(plan.seed, "under store"));
        let latest_us = if plan.clocks == Clocks::Wild { LATEST_WILD_US } else { LATEST_US };
        Under { inner: Arc::new(MemoryStore::with_clock("root", clock)), line, latest_us, dice, state: Arc::default() }
    }

    /// Puts an object there from outside, at once.
    pub fn put(&self, key: &str, content: impl Into<Bytes>) {
        self.note_before(key);
        self.inner.put_raw(key, content);
        self.note_made(key, None);
    }

    /// What stands at a key now.
    pub fn content(&self, key: &str) -> Option<Bytes> {
        let key = Key::parse(key).ok()?;
        let length = ready(self.inner.stat(&key)).ok()??.length;
        let mut body = ready(self.inner.read(&key, 0..length, None)).ok()?.body;
        let mut content = BytesMut::new();
        while let Some(bytes) = ready(body.next()) {
            content.extend_from_slice(&bytes.ok()?);
        }
        Some(content.freeze())
    }

    pub fn set_weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.state.lock().weather);
    }

    /// When the next request takes effect or the next answer arrives.
    pub fn next_us(&self) -> Option<u64> {
        let state = self.state.lock();
        let effect = state.effects.keys().next().map(|(at_us, _)| *at_us);
        effect.into_iter().chain(state.answers.first().copied()).min()
    }

    /// Carries out what is due, and says whether an answer is.
    pub fn live(&self) -> bool {
        let now_us = self.line.now_us();
        loop {
            let due = {
                let mut state = self.state.lock();
                match state.effects.first_entry() {
                    Some(first) if first.key().0 <= now_us => Some(first.remove()),
                    Some(_) | None => None,
                }
            };
            let Some(effect) = due else { break };
            effect();
        }
        let (is_due, waiting) = {
            let mut state = self.state.lock();
            let later = state.answers.split_off(&(now_us + 1));
            let is_due = !std::mem::replace(&mut state.answers, later).is_empty();
            (is_due, if is_due { std::mem::take(&mut state.waiting) } else { Vec::new() })
        };
        waiting.into_iter().for_each(Waker::wake);
        is_due
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.state.lock().effects.is_empty()
    }

    /// Object versions that went since the last call.
    pub fn take_gone(&self) -> Vec<Gone> {
        std::mem::take(&mut self.state.lock().gone)
    }

    /// When this object version came, and by what.
    pub fn made(&self, version: &str) -> (u64, Option<Verb>) {
        self.state.lock().made.get(version).copied().unwrap_or_default()
    }

    /// All keys with what is there.
    pub fn keys(&self) -> Vec<String> {
        let page = ready(self.inner.list_recursive(&Key::root(), None, ufs::LIST_LIMIT_MAX));
        page.map_or_else(|_| Vec::new(), |page| page.entries.iter().map(|info| info.key.as_str().to_owned()).collect())
    }

    fn version(&self, key: &str) -> Option<String> {
        let key = Key::parse(key).ok()?;
        let info = ready(self.inner.stat(&key)).ok()??;
        (info.kind == ufs::ObjectKind::File).then(|| info.fingerprint.map(|print| print.to_string())).flatten()
    }

    fn note_made(&self, key: &str, by: Option<Verb>) {
        if let Some(version) = self.version(key) {
            self.state.lock().made.entry(version).or_insert((self.line.now_us(), by));
        }
    }

    fn note_before(&self, key: &str) {
        if let Some(content) = self.content(key) {
            self.state.lock().before.insert(key.to_owned(), content);
        }
    }

    fn note_gone(&self, key: &str, was: Option<String>, content: Option<Bytes>, verb: Verb) {
        let is = self.version(key);
        if let Some(version) = was.filter(|was| is.as_ref() != Some(was)) {
            let gone = Gone { at_us: self.line.now_us(), key: key.to_owned(), version, verb, content };
            self.state.lock().gone.push(gone);
        }
    }

    /// Sends a request: `act` is carried out on its way, the answer comes back later.
    async fn call<T: Send + 'static>(
        &self,
        verb: Verb,
        key: &Key,
        act: impl FnOnce(Arc<MemoryStore>) -> BoxFuture<'static, Result<T, UfsError>> + Send + 'static,
    ) -> Result<T, UfsError> {
        let slot: Slot<T> = Slot::default();
        let at_us = self.send(verb, key, slot.clone(), act);
        Answer { slot, at_us, under: self.clone() }.await
    }

    fn send<T: Send + 'static>(
        &self,
        verb: Verb,
        key: &Key,
        slot: Slot<T>,
        act: impl FnOnce(Arc<MemoryStore>) -> BoxFuture<'static, Result<T, UfsError>> + Send + 'static,
    ) -> u64 {
        let now_us = self.line.now_us();
        let weather = self.state.lock().weather;
        let way_us = |dice: &Dice| dice.between(300, 4_000 + 2 * 1000 * weather.slow_ms);
        let there_us = now_us + way_us(&self.dice).min(self.latest_us);
        let back_us = there_us + way_us(&self.dice);
        let lost = self.dice.per_mille(weather.forgetful);
        let unreachable = Failure::Unreachable { words: "the simulated store is away".to_owned() };
        let failure = UfsError::new(verb, URI, Some(key), unreachable);
        let mut state = self.state.lock();
        state.answers.insert(back_us);
        if weather.away {
            *slot.lock() = Some(Err(failure));
            return back_us;
        }
        let (this, name) = (self.clone(), key.as_str().to_owned());
        let effect = move || {
            let was = this.version(&name);
            let held = if verb.is_mutation() { this.content(&name) } else { None };
            if verb == Verb::Write {
                this.note_before(&name);
            }
            let result = ready(act(this.inner.clone()));
            if verb.is_mutation() {
                this.note_gone(&name, was, held, verb);
                this.note_made(&name, Some(verb));
            }
            *slot.lock() = Some(if lost { Err(failure) } else { result });
        };
        let number = state.next;
        state.next += 1;
        state.effects.insert((there_us, number), Box::new(effect));
        back_us
    }
}

/// What a store in memory answers at once.
fn ready<T>(answer: impl std::future::Future<Output = T>) -> T {
    answer.now_or_never().expect("a store in memory does not wait")
}

#[async_trait]
impl UnderStore for Under {
    fn uri(&self) -> &str {
        URI
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn check(&self) -> Result<(), UfsError> {
        Ok(())
    }
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        let at = key.clone();
        self.call(Verb::Stat, key, |store| async move { store.stat(&at).await }.boxed()).await
    }
    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        let (at, after) = (dir.clone(), after.cloned());
        self.call(Verb::List, dir, move |store| async move { store.list(&at, after.as_ref(), limit).await }.boxed())
            .await
    }
    fn behind(&self, entry: &Key) -> PageToken {
        self.inner.behind(entry)
    }
    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        let (at, after) = (dir.clone(), after.cloned());
        let act = move |store: Arc<MemoryStore>| {
            async move { store.list_recursive(&at, after.as_ref(), limit).await }.boxed()
        };
        self.call(Verb::List, dir, act).await
    }
    async fn read(&self, key: &Key, range: Range<u64>, expected: Option<&Fingerprint>) -> Result<ReadStream, UfsError> {
        let (at, expected) = (key.clone(), expected.cloned());
        let act = move |store: Arc<MemoryStore>| async move { store.read(&at, range, expected.as_ref()).await }.boxed();
        self.call(Verb::Read, key, act).await
    }
    async fn write(&self, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>, UfsError> {
        Ok(Box::new(Upload { under: self.clone(), key: key.clone(), options, content: BytesMut::new() }))
    }
    async fn delete(&self, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError> {
        let (at, expected) = (key.clone(), expected.cloned());
        let act = move |store: Arc<MemoryStore>| async move { store.delete(&at, expected.as_ref()).await }.boxed();
        self.call(Verb::Delete, key, act).await
    }
    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError> {
        let at = dir.clone();
        self.call(Verb::Delete, dir, |store| async move { store.delete_dir(&at).await }.boxed()).await
    }
    async fn make_dir(&self, dir: &Key, mode: Option<Mode>) -> Result<(), UfsError> {
        let at = dir.clone();
        self.call(Verb::MakeDir, dir, move |store| async move { store.make_dir(&at, mode).await }.boxed()).await
    }
    async fn rename(&self, from: &Key, to: &Key) -> Result<(), UfsError> {
        self.inner.rename(from, to).await
    }
    async fn copy(&self, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
        let (from, at, expected) = (from.clone(), to.clone(), expected.cloned());
        let act = move |store: Arc<MemoryStore>| async move { store.copy(&from, &at, expected.as_ref()).await }.boxed();
        self.call(Verb::Copy, to, act).await
    }
    async fn set_attributes(&self, key: &Key, attributes: &Attributes) -> Result<(), UfsError> {
        self.inner.set_attributes(key, attributes).await
    }
    async fn sweep(&self, _: UnixMs) -> Result<u64, UfsError> {
        Ok(0)
    }
}

/// An object that is being sent. All of it goes with the request that makes it visible.
struct Upload {
    under: Under,
    key: Key,
    options: WriteOptions,
    content: BytesMut,
}

#[async_trait]
impl Writer for Upload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), UfsError> {
        self.content.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(&mut self) -> Result<ObjectInfo, UfsError> {
        let (key, options, content) = (self.key.clone(), self.options.clone(), self.content.clone().freeze());
        let act = move |store: Arc<MemoryStore>| {
            async move {
                let mut writer = store.write(&key, options).await?;
                writer.write(content).await?;
                writer.finish().await
            }
            .boxed()
        };
        self.under.call(Verb::Write, &self.key, act).await
    }

    async fn abort(&mut self) -> Result<(), UfsError> {
        Ok(())
    }
}

/// The store as workers see it with [`crate::Bug::OldBlock`]: it answers with what stood there before, whatever version
/// was asked for.
pub struct Backward(pub Under);

#[async_trait]
impl UnderStore for Backward {
    fn uri(&self) -> &str {
        URI
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    async fn check(&self) -> Result<(), UfsError> {
        self.0.check().await
    }
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        self.0.stat(key).await
    }
    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.0.list(dir, after, limit).await
    }
    fn behind(&self, entry: &Key) -> PageToken {
        self.0.behind(entry)
    }
    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.0.list_recursive(dir, after, limit).await
    }
    async fn read(&self, key: &Key, range: Range<u64>, expected: Option<&Fingerprint>) -> Result<ReadStream, UfsError> {
        let opened = self.0.read(key, range.clone(), expected).await?;
        let before = self.0.state.lock().before.get(key.as_str()).cloned();
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let old = before
            .zip(bounds)
            .and_then(|(before, (start, end))| (end <= before.len()).then(|| before.slice(start..end)));
        Ok(match old {
            Some(old) => ReadStream { fingerprint: opened.fingerprint, body: futures::stream::iter([Ok(old)]).boxed() },
            None => opened,
        })
    }
    async fn write(&self, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>, UfsError> {
        self.0.write(key, options).await
    }
    async fn delete(&self, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError> {
        self.0.delete(key, expected).await
    }
    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError> {
        self.0.delete_dir(dir).await
    }
    async fn make_dir(&self, dir: &Key, mode: Option<Mode>) -> Result<(), UfsError> {
        self.0.make_dir(dir, mode).await
    }
    async fn rename(&self, from: &Key, to: &Key) -> Result<(), UfsError> {
        self.0.rename(from, to).await
    }
    async fn copy(&self, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
        self.0.copy(from, to, expected).await
    }
    async fn set_attributes(&self, key: &Key, attributes: &Attributes) -> Result<(), UfsError> {
        self.0.set_attributes(key, attributes).await
    }
    async fn sweep(&self, older_than: UnixMs) -> Result<u64, UfsError> {
        self.0.sweep(older_than).await
    }
}
