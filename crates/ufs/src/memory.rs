//! A store in memory, with the semantics of an object store: for tests and the simulator.

use crate::capability::{Capabilities, Precision};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{
    Attributes, Condition, LIST_LIMIT_MAX, ObjectInfo, ObjectKind, Page, PageToken, ReadStream, Removal, UnderStore,
    WriteOptions, Writer,
};
use crate::uri::StoreUri;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};
use types::{Clock, Fingerprint, Mode, UnixMs};

/// Bytes of one chunk of a read.
const CHUNK_BYTES: usize = 256 * 1024;

/// Stores opened by address live as long as the process, so that a restarted part finds its data again.
static NAMED: LazyLock<Mutex<HashMap<String, Arc<MemoryStore>>>> = LazyLock::new(Mutex::default);

/// Objects in a sorted map; directories are prefixes and marker objects, as in S3.
pub struct MemoryStore {
    uri: String,
    clock: Option<Arc<dyn Clock>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    writes: u64,
}

#[derive(Clone)]
struct Object {
    content: Bytes,
    tag: String,
    mtime_ns: i128,
}

impl MemoryStore {
    /// An empty store of its own. `name` appears in messages only.
    pub fn new(name: &str) -> MemoryStore {
        MemoryStore { uri: format!("mem://{name}"), clock: None, state: Arc::default() }
    }

    /// An empty store whose modification times come from `clock`.
    pub fn with_clock(name: &str, clock: Arc<dyn Clock>) -> MemoryStore {
        MemoryStore { clock: Some(clock), ..MemoryStore::new(name) }
    }

    /// The store of this address in this process.
    pub(crate) fn named(uri: &StoreUri) -> Arc<MemoryStore> {
        let uri = uri.to_string();
        let fresh = || Arc::new(MemoryStore { uri: uri.clone(), clock: None, state: Arc::default() });
        NAMED.lock().entry(uri.clone()).or_insert_with(fresh).clone()
    }

    /// Puts an object under any key, also one that cannot be a path, as a foreign writer could.
    pub fn put_raw(&self, raw: &str, content: impl Into<Bytes>) {
        self.state.lock().put(raw, content.into(), self.now_ns());
    }

    fn now_ns(&self) -> i128 {
        match &self.clock {
            Some(clock) => i128::from(clock.unix().0) * 1_000_000,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| {
                i128::try_from(since.as_nanos() / 1_000_000 * 1_000_000).expect("this century fits 127 bits")
            }),
        }
    }

    fn error(&self, verb: Verb, key: &Key, failure: Failure) -> UfsError {
        UfsError::new(verb, self.uri.as_str(), Some(key), failure)
    }

    fn page(&self, dir: &Key, after: Option<&PageToken>, limit: usize, recursive: bool) -> Result<Page, UfsError> {
        let (dir, limit) = (dir.to_dir(), limit.clamp(1, LIST_LIMIT_MAX));
        let state = self.state.lock();
        if after.is_none() && !dir.is_root() && !state.has_prefix(dir.as_str()) {
            return Err(self.error(Verb::List, &dir, Failure::NotFound));
        }
        let mut page = Page::default();
        let mut last = after.map_or_else(|| dir.as_str().to_owned(), |token| token.0.clone());
        let mut taken = 0;
        while let Some((raw, object)) = state.next_after(&last, dir.as_str(), recursive) {
            if taken == limit {
                page.next = Some(PageToken(last));
                break;
            }
            let shown = if recursive { raw } else { first_level(raw, dir.as_str()) };
            match Key::parse(shown) {
                Ok(key) if key.is_dir() => page.entries.push(ObjectInfo::dir(key)),
                Ok(key) => page.entries.push(object.info(key)),
                Err(_) => page.skipped.add_key(shown),
            }
            taken += 1;
            last = shown.to_owned();
        }
        Ok(page)
    }
}

/// `raw` cut after the first slash below `dir`.
fn first_level<'a>(raw: &'a str, dir: &str) -> &'a str {
    raw[dir.len()..].find('/').map_or(raw, |at| &raw[..=dir.len() + at])
}

impl State {
    fn put(&mut self, raw: &str, content: Bytes, mtime_ns: i128) -> Object {
        self.writes += 1;
        let object = Object { content, tag: format!("v{}", self.writes), mtime_ns };
        self.objects.insert(raw.to_owned(), object.clone());
        object
    }

    fn has_prefix(&self, prefix: &str) -> bool {
        self.objects
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .next()
            .is_some_and(|(raw, _)| raw.starts_with(prefix))
    }

    /// The first object of a listing of `dir` past `last`; past everything below `last` if that is a prefix.
    fn next_after(&self, last: &str, dir: &str, recursive: bool) -> Option<(&str, &Object)> {
        let beyond;
        let from = if !recursive && last.ends_with('/') && last != dir {
            beyond = format!("{}0", &last[..last.len() - 1]); // '0' follows '/'
            Bound::Included(beyond.as_str())
        } else {
            Bound::Excluded(last)
        };
        let (raw, object) = self.objects.range::<str, _>((from, Bound::Unbounded)).next()?;
        raw.starts_with(dir).then_some((raw.as_str(), object))
    }
}

impl Object {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::Etag(self.tag.clone())
    }
    fn info(&self, key: Key) -> ObjectInfo {
        ObjectInfo {
            kind: ObjectKind::File,
            length: u64::try_from(self.content.len()).expect("memory is addressable"),
            mtime_ns: Some(self.mtime_ns),
            fingerprint: Some(self.fingerprint()),
            ..ObjectInfo { key, ..ObjectInfo::dir(Key::root()) }
        }
    }
    fn matches(&self, expected: Option<&Fingerprint>) -> Result<(), Failure> {
        match expected {
            Some(expected) if *expected != self.fingerprint() => {
                Err(Failure::Changed { expected: expected.to_string(), found: self.fingerprint().to_string() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[async_trait]
impl UnderStore for MemoryStore {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            rename: false,
            append: false,
            mtime_precision: Precision::Millisecond,
            etags: true,
            versions: false,
            conditional_read: true,
            conditional_write: true,
            conditional_delete: true,
            modes: false,
            directories: false,
        }
    }

    async fn check(&self) -> Result<(), UfsError> {
        Ok(())
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        let state = self.state.lock();
        if let Some(object) = state.objects.get(key.as_str()).filter(|_| !key.is_dir()) {
            return Ok(Some(object.info(key.clone())));
        }
        let dir = key.to_dir();
        Ok((dir.is_root() || state.has_prefix(dir.as_str())).then(|| ObjectInfo::dir(dir)))
    }

    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.page(dir, after, limit, false)
    }

    fn behind(&self, entry: &Key) -> PageToken {
        PageToken(entry.as_str().to_owned())
    }

    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.page(dir, after, limit, true)
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
        condition: Option<&Fingerprint>,
    ) -> Result<ReadStream, UfsError> {
        let fail = |failure| self.error(Verb::Read, key, failure);
        let object = self.state.lock().objects.get(key.as_str()).cloned().ok_or_else(|| fail(Failure::NotFound))?;
        object.matches(condition).map_err(fail)?;
        let length = u64::try_from(object.content.len()).expect("memory is addressable");
        if range.end > length {
            let (expected_bytes, got_bytes) = (range.end - range.start, length.saturating_sub(range.start));
            return Err(fail(Failure::Short { expected_bytes, got_bytes }));
        }
        let index = |offset: u64| usize::try_from(offset).expect("the range lies within memory");
        let mut content = object.content.slice(index(range.start)..index(range.end.max(range.start)));
        let chunks = std::iter::from_fn(move || {
            let size = content.len().min(CHUNK_BYTES);
            (size > 0).then(|| Ok(content.split_to(size)))
        });
        Ok(ReadStream { fingerprint: Some(object.fingerprint()), body: stream::iter(chunks).boxed() })
    }

    async fn write(&self, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>, UfsError> {
        if key.is_dir() {
            return Err(self.error(Verb::Write, key, Failure::IsDirectory));
        }
        let store = MemoryStore { uri: self.uri.clone(), clock: self.clock.clone(), state: self.state.clone() };
        let (key, content) = (key.clone(), Some(BytesMut::new()));
        Ok(Box::new(MemoryWriter { store, key, condition: options.condition, content }))
    }

    async fn delete(&self, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError> {
        let mut state = self.state.lock();
        match state.objects.get(key.as_str()) {
            Some(object) => object.matches(expected).map_err(|failure| self.error(Verb::Delete, key, failure))?,
            None => return Ok(Removal::Missing),
        }
        state.objects.remove(key.as_str());
        Ok(Removal::Deleted)
    }

    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError> {
        let removed = self.state.lock().objects.remove(dir.to_dir().as_str());
        Ok(if removed.is_some() { Removal::Deleted } else { Removal::Missing })
    }

    async fn make_dir(&self, dir: &Key, _: Option<Mode>) -> Result<(), UfsError> {
        if !dir.is_root() {
            self.state.lock().put(dir.to_dir().as_str(), Bytes::new(), self.now_ns());
        }
        Ok(())
    }

    async fn rename(&self, from: &Key, _: &Key) -> Result<(), UfsError> {
        let words = "an object store renames by copy and delete".to_owned();
        Err(self.error(Verb::Rename, from, Failure::Unsupported { words }))
    }

    async fn copy(&self, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
        let fail = |failure| self.error(Verb::Copy, from, failure);
        let mut state = self.state.lock();
        let object = state.objects.get(from.as_str()).cloned().ok_or_else(|| fail(Failure::NotFound))?;
        object.matches(expected).map_err(fail)?;
        Ok(state.put(to.as_str(), object.content, self.now_ns()).info(to.clone()))
    }

    async fn set_attributes(&self, key: &Key, _: &Attributes) -> Result<(), UfsError> {
        let words = "objects have no owner, group or mode".to_owned();
        Err(self.error(Verb::SetAttributes, key, Failure::Unsupported { words }))
    }

    async fn sweep(&self, _: UnixMs) -> Result<u64, UfsError> {
        Ok(0)
    }
}

struct MemoryWriter {
    store: MemoryStore,
    key: Key,
    condition: Condition,
    /// None once aborted. Kept over the end: a repeated end writes the same again, as a repeated request would.
    content: Option<BytesMut>,
}

impl MemoryWriter {
    fn ended(&self) -> UfsError {
        let words = "the writer has ended".to_owned();
        self.store.error(Verb::Write, &self.key, Failure::BadRequest { words })
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), UfsError> {
        let ended = self.ended();
        self.content.as_mut().ok_or(ended)?.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(&mut self) -> Result<ObjectInfo, UfsError> {
        let content = self.content.as_ref().ok_or_else(|| self.ended())?;
        let mut state = self.store.state.lock();
        let there = state.objects.get(self.key.as_str());
        let found = || there.map_or_else(|| "nothing".to_owned(), |object| object.fingerprint().to_string());
        let broken = match (&self.condition, there) {
            (Condition::Any, _) | (Condition::Absent, None) => None,
            (Condition::Absent, Some(_)) => Some("nothing".to_owned()),
            (Condition::Is(expected), Some(object)) if object.fingerprint() == *expected => None,
            (Condition::Is(expected), _) => Some(expected.to_string()),
        };
        if let Some(expected) = broken {
            return Err(self.store.error(Verb::Write, &self.key, Failure::Changed { expected, found: found() }));
        }
        let content = Bytes::copy_from_slice(content);
        Ok(state.put(self.key.as_str(), content, self.store.now_ns()).info(self.key.clone()))
    }

    async fn abort(&mut self) -> Result<(), UfsError> {
        self.content = None;
        Ok(())
    }
}
