//! The one trait every under store implements, and the words it is spoken in.

use crate::capability::Capabilities;
use crate::error::UfsError;
use crate::key::Key;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use types::{Fingerprint, Mode, UnixMs};

/// Most entries a page of a listing holds, whatever is asked for.
pub const LIST_LIMIT_MAX: usize = 10_000;
/// Most names [`Skipped`] keeps as examples.
pub const SKIPPED_SAMPLES: usize = 4;

/// A file, or a directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ObjectKind {
    File,
    Dir,
}

/// What a store knows about one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectInfo {
    /// Ends in a slash (or is the root) exactly for directories.
    pub key: Key,
    pub kind: ObjectKind,
    /// 0 for directories.
    pub length: u64,
    /// Nanoseconds since 1970, as finely as [`Capabilities::mtime_precision`] says.
    pub mtime_ns: Option<i128>,
    /// None for directories, and for files whose store tells neither a tag nor a time.
    pub fingerprint: Option<Fingerprint>,
    pub owner: Option<String>,
    pub group: Option<String>,
    pub mode: Option<Mode>,
}

impl ObjectInfo {
    /// A directory nothing more is known about.
    pub fn dir(key: Key) -> ObjectInfo {
        ObjectInfo {
            key: key.to_dir(),
            kind: ObjectKind::Dir,
            length: 0,
            mtime_ns: None,
            fingerprint: None,
            owner: None,
            group: None,
            mode: None,
        }
    }
    /// The modification time as users see it.
    pub fn mtime(&self) -> Option<UnixMs> {
        self.mtime_ns.and_then(|ns| i64::try_from(ns.div_euclid(1_000_000)).ok()).map(UnixMs)
    }
}

/// Where a listing goes on. Only the store that made it can read it; it survives restarts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PageToken(pub(crate) String);

#[cfg(feature = "test-support")]
impl PageToken {
    /// A token that means something only to the test that made it.
    pub fn of(text: &str) -> PageToken {
        PageToken(text.to_owned())
    }
}

/// Entries that cannot be a path of ours and were left out of a page: `//`, `.`, `..`, NUL, over-long names, names that are
/// not UTF-8, and in a local directory links that lead outside and what is neither file nor directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Skipped {
    pub count: u64,
    /// The first few.
    pub samples: Vec<SkippedKey>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SkippedKey {
    /// Its beginning, made printable.
    pub key: String,
    /// Why it cannot be a path: the end of a sentence about it.
    pub why: String,
}

impl Skipped {
    /// A key that [`Key::parse`] refuses.
    pub(crate) fn add_key(&mut self, raw: &str) {
        let why = Key::parse(raw).err().map_or_else(|| "it names the store itself".to_owned(), |err| err.to_string());
        self.add(raw, &why);
    }

    pub(crate) fn add(&mut self, raw: &str, why: &str) {
        self.count += 1;
        if self.samples.len() < SKIPPED_SAMPLES {
            let key = raw.chars().take(80).collect::<String>().escape_debug().to_string();
            self.samples.push(SkippedKey { key, why: why.to_owned() });
        }
    }
}

/// A part of a listing, in key order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    pub entries: Vec<ObjectInfo>,
    pub skipped: Skipped,
    /// None when the listing is complete. A page may be short, even empty, and still have a next one.
    pub next: Option<PageToken>,
}

/// What must stand at the key when a write becomes visible.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// Whatever is there is replaced.
    #[default]
    Any,
    /// Nothing.
    Absent,
    /// This version.
    Is(Fingerprint),
}

/// How an object is written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WriteOptions {
    /// Checked when [`Writer::finish`] makes the object visible; see [`Capabilities::conditional_write`].
    pub condition: Condition,
    /// Used where the store keeps owners and the process may set them.
    pub owner: Option<String>,
    pub group: Option<String>,
    pub mode: Option<Mode>,
    /// Total length if known: lets a multipart upload choose parts large enough for it.
    pub length_hint: Option<u64>,
}

/// What to change on an entry; None stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    pub owner: Option<String>,
    pub group: Option<String>,
    pub mode: Option<Mode>,
}

/// What a delete found. An object store that was given no fingerprint does not look first and answers `Deleted` in
/// either case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    Deleted,
    Missing,
}

/// The bytes of a range as they arrive. Ends after exactly the bytes asked for or with an error, never early in silence.
pub struct ReadStream {
    /// Which version the bytes are of, as the answer itself said.
    pub fingerprint: Option<Fingerprint>,
    pub body: BoxStream<'static, Result<Bytes, UfsError>>,
}

impl ReadStream {
    /// Everything in one piece. For tests and small objects: holds it all in memory.
    pub async fn collect(mut self) -> Result<Bytes, UfsError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.body.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for ReadStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadStream").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// An object being written. Nothing is visible before `finish`, and nothing remains if it is dropped.
///
/// After an error of a transient kind the same call may be repeated: it took none of its bytes. After a call that was
/// cancelled, only `abort` or dropping is left.
#[async_trait]
pub trait Writer: Send {
    /// Adds bytes at the end; waits while too much is in flight.
    async fn write(&mut self, bytes: Bytes) -> Result<(), UfsError>;

    /// Makes the object visible, whole and durable, and says what it is. This is the only moment the outside can see:
    /// who needs a permission to complete asks for it just before.
    ///
    /// `Changed` if the condition does not hold. `OutcomeUnknown` if the store failed while it made it visible.
    async fn finish(&mut self) -> Result<ObjectInfo, UfsError>;

    /// Gives up and removes what was sent so far.
    async fn abort(&mut self) -> Result<(), UfsError>;
}

impl fmt::Debug for dyn Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

/// A place where files rest: a directory, or a bucket with a prefix.
///
/// Calls are cancel-safe: dropping one gives up the answer; a mutation may or may not have happened. Implementations do
/// not retry and set no deadlines: [`crate::Layered`] does.
#[async_trait]
pub trait UnderStore: Send + Sync + 'static {
    /// The base, as messages show it: no credential, no trailing slash.
    fn uri(&self) -> &str;

    fn capabilities(&self) -> Capabilities;

    /// Reaches the store with the given credential and says precisely what is wrong, in the store's words.
    /// Cost: one listing of one entry.
    async fn check(&self) -> Result<(), UfsError>;

    /// What is at `key`, or None. A key without a slash finds an object, else a directory of that name; one with a slash
    /// finds directories only. Cost: at most two requests.
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError>;

    /// One level of a directory in key order, at most `limit` entries and never more than [`LIST_LIMIT_MAX`].
    ///
    /// `after`: the `next` of the page before; None begins. Entries that come and go meanwhile may or may not appear, all
    /// others do exactly once. `NotFound` on the first page if there is no such directory.
    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError>;

    /// Where a listing of one level goes on behind `entry`, an entry of it, whether it is still there or not. Asks nothing.
    fn behind(&self, entry: &Key) -> PageToken;

    /// Everything below a directory in key order: each directory that exists by itself or by a marker object, before what it
    /// holds, and all files. A symbolic link of a local directory counts as a file here: it is not entered.
    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError>;

    /// The bytes `range` of an object, streamed. The range lies within the object, else the read fails.
    ///
    /// With `condition`, another version is `Changed`, found at the first byte, or at the last where the store can only
    /// tell by looking again. An empty range reads nothing and asks nothing.
    async fn read(&self, key: &Key, range: Range<u64>, condition: Option<&Fingerprint>)
    -> Result<ReadStream, UfsError>;

    /// Begins an object. Missing parent directories are created when it becomes visible.
    async fn write(&self, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>, UfsError>;

    /// Removes an object; with `expected` only that version, else `Changed`.
    async fn delete(&self, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError>;

    /// Removes an empty directory (`NotEmpty` otherwise); where directories are prefixes, its marker object.
    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError>;

    /// Makes a directory and its parents visible. One that exists is fine.
    async fn make_dir(&self, dir: &Key, mode: Option<Mode>) -> Result<(), UfsError>;

    /// Moves a file or a whole directory in one step; never replaces: `AlreadyExists`. Missing parents are created.
    /// `Unsupported` unless [`Capabilities::rename`].
    async fn rename(&self, from: &Key, to: &Key) -> Result<(), UfsError>;

    /// Copies one object inside the store, replacing what is at `to`; with `expected` only that version of `from`.
    async fn copy(&self, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError>;

    /// Changes owner, group or permission bits. `Unsupported` unless [`Capabilities::modes`].
    async fn set_attributes(&self, key: &Key, attributes: &Attributes) -> Result<(), UfsError>;

    /// Removes what crashed writers left behind before `before`; returns how many. Multipart uploads cut off by a crash are
    /// not found this way: give the bucket a lifecycle rule that aborts incomplete uploads.
    async fn sweep(&self, before: UnixMs) -> Result<u64, UfsError>;
}
