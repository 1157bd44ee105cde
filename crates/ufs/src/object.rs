//! Object stores, spoken to through OpenDAL.
//!
//! Is:     keys to objects under a bucket's prefix; directories are prefixes, made visible by marker objects `dir/`.
//! Owns:   a pool of HTTP connections, multipart uploads until they are completed or aborted.
//! Never:  trusts an answer beyond what it says; uses OpenDAL's public paths, which trim blanks and fold slashes: its raw
//!         service takes keys as they are.

mod cos;
mod fail;
mod list;
mod read;
mod s3;
mod transport;
mod write;

use crate::capability::{Capabilities, Precision};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{
    Attributes, ObjectInfo, ObjectKind, Page, PageToken, ReadStream, Removal, UnderStore, WriteOptions, Writer,
};
use async_trait::async_trait;
pub use cos::CosOptions;
use fail::Redactor;
use opendal::raw::{OpCopy, OpCreateDir, OpDelete, OpList, OpStat, Servicer, Timestamp};
use opendal::{HttpTransporter, Metadata, OperationContext, Operator, options};
use parking_lot::Mutex;
pub use s3::{Credential, S3Options};
use std::ops::Range;
use std::sync::Arc;
use types::{Fingerprint, Mode, UnixMs};
pub use write::PART_BYTES_MIN;

/// Longest key, prefix included, that S3 takes; COS takes a little less and says so itself.
const OBJECT_KEY_BYTES_MAX: usize = 1024;
/// Largest object one copy request takes.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// An S3-compatible store or COS.
pub struct ObjectStore {
    bucket: Arc<Bucket>,
}

/// What all calls share.
struct Bucket {
    uri: Arc<str>,
    /// Bytes of the prefix that come before every key.
    prefix_bytes: usize,
    service: Servicer,
    context: OperationContext,
    features: Features,
    redactor: Redactor,
    cursors: Mutex<list::Cursors>,
}

/// In what the stores differ.
#[derive(Clone, Copy)]
struct Features {
    /// Listings can begin after a key.
    start_after: bool,
    write_if_match: bool,
    delete_if_match: bool,
    /// Copies above [`COPY_BYTES_MAX`] go part by part.
    copy_in_parts: bool,
}

impl ObjectStore {
    /// `operator`'s own transport is replaced by `transport`.
    fn new(uri: String, operator: Operator, transport: HttpTransporter, redactor: Redactor) -> ObjectStore {
        let prefix_bytes = operator.info().root().len() - 1;
        let context = operator.context().with_http_transport(transport);
        let (_, service) = operator.into_parts();
        let can = service.capability_dyn();
        let features = Features {
            start_after: can.list_with_start_after,
            write_if_match: can.write_with_if_match,
            delete_if_match: can.delete_with_if_match,
            copy_in_parts: can.copy_can_multi,
        };
        let bucket =
            Bucket { uri: uri.into(), prefix_bytes, service, context, features, redactor, cursors: Mutex::default() };
        ObjectStore { bucket: Arc::new(bucket) }
    }
}

/// A key as the raw service wants it.
fn raw(key: &Key) -> &str {
    if key.is_root() { "/" } else { key.as_str() }
}

impl Bucket {
    fn error(&self, verb: Verb, key: &Key, failure: Failure) -> UfsError {
        UfsError::new(verb, self.uri.clone(), Some(key), failure)
    }

    fn failed(&self, verb: Verb, key: &Key, error: &opendal::Error) -> UfsError {
        self.error(verb, key, fail::failure_of(error, &self.redactor))
    }

    fn refuse_key(&self, verb: Verb, key: &Key) -> Result<(), UfsError> {
        let bytes = self.prefix_bytes + key.as_str().len();
        if bytes <= OBJECT_KEY_BYTES_MAX {
            return Ok(());
        }
        let words = format!("with the mount's prefix it has {bytes} bytes, object stores take {OBJECT_KEY_BYTES_MAX}");
        Err(self.error(verb, key, Failure::BadRequest { words }))
    }

    fn refuse_dir(&self, verb: Verb, key: &Key) -> Result<(), UfsError> {
        if key.is_dir() { Err(self.error(verb, key, Failure::IsDirectory)) } else { self.refuse_key(verb, key) }
    }

    /// The object at exactly this key, by HEAD.
    async fn head(&self, verb: Verb, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        match self.service.stat_dyn(&self.context, raw(key), OpStat::default()).await {
            Ok(answer) => Ok(Some(info(key.clone(), &answer.into_metadata()))),
            Err(error) if error.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(verb, key, &error)),
        }
    }

    /// Whether anything lies at or below a directory. Also the judge of "not found": a listing tells a missing object from a
    /// missing bucket, a HEAD does not.
    async fn has_dir(&self, verb: Verb, dir: &Key) -> Result<bool, UfsError> {
        let one = options::ListOptions { recursive: true, limit: Some(1), ..Default::default() };
        let listing = self.service.list_dyn(&self.context, raw(dir), OpList::from(one));
        let first = match listing {
            Ok(mut lister) => lister.next_dyn().await,
            Err(error) => Err(error),
        };
        first.map(|entry| entry.is_some()).map_err(|error| self.failed(verb, dir, &error))
    }

    /// The object, which must be the expected version. None if there is nothing.
    async fn expect(
        &self,
        verb: Verb,
        key: &Key,
        expected: Option<&Fingerprint>,
    ) -> Result<Option<ObjectInfo>, UfsError> {
        let Some(found) = self.head(verb, key).await? else {
            self.has_dir(verb, &key.to_dir()).await?; // an error if the bucket itself is gone
            return Ok(None);
        };
        match expected {
            Some(expected) if found.fingerprint.as_ref() != Some(expected) => {
                Err(self.changed(verb, key, expected, found.fingerprint.as_ref()))
            }
            Some(_) | None => Ok(Some(found)),
        }
    }

    fn changed(&self, verb: Verb, key: &Key, expected: &Fingerprint, found: Option<&Fingerprint>) -> UfsError {
        let found = found.map_or_else(|| "nothing it could be told by".to_owned(), Fingerprint::to_string);
        self.error(verb, key, Failure::Changed { expected: expected.to_string(), found })
    }

    async fn delete(&self, key: &Key, if_match: Option<String>) -> Result<(), UfsError> {
        let fail = |error: opendal::Error| self.failed(Verb::Delete, key, &error);
        let options = options::DeleteOptions { if_match, ..Default::default() };
        let args = OpDelete::from_options(&self.service.capability_dyn(), options).map_err(fail)?;
        let mut deleter = self.service.delete_dyn(&self.context).map_err(fail)?;
        deleter.delete_dyn(raw(key), args).await.map_err(fail)?;
        deleter.close_dyn().await.map_err(fail)
    }
}

fn info(key: Key, metadata: &Metadata) -> ObjectInfo {
    let length = if key.is_dir() { 0 } else { metadata.content_length() };
    ObjectInfo {
        kind: if key.is_dir() { ObjectKind::Dir } else { ObjectKind::File },
        length,
        mtime_ns: metadata.last_modified().map(nanoseconds),
        fingerprint: if key.is_dir() { None } else { fingerprint(metadata, length) },
        ..ObjectInfo { key, ..ObjectInfo::dir(Key::root()) }
    }
}

fn nanoseconds(time: Timestamp) -> i128 {
    time.into_inner().as_nanosecond()
}

/// The entity tag; for stores without one, time and length. Versions are not used: listings do not show them.
fn fingerprint(metadata: &Metadata, length: u64) -> Option<Fingerprint> {
    match metadata.etag().map(bare_tag).filter(|tag| !tag.is_empty()) {
        Some(tag) => Some(Fingerprint::Etag(tag)),
        None => metadata.last_modified().map(|time| Fingerprint::Stamp { mtime_ns: nanoseconds(time), length }),
    }
}

/// The tag without its quotes; a weak one keeps its form, for it can be compared but not used in a condition.
fn bare_tag(tag: &str) -> String {
    if tag.starts_with("W/") { tag.to_owned() } else { tag.trim_matches('"').to_owned() }
}

/// The tag as a condition header wants it. None for what no header can carry.
fn header_tag(fingerprint: &Fingerprint) -> Option<String> {
    match fingerprint {
        Fingerprint::Etag(tag) if !tag.starts_with("W/") => Some(format!("\"{tag}\"")),
        Fingerprint::Etag(_) | Fingerprint::Version(_) | Fingerprint::Stamp { .. } => None,
    }
}

#[async_trait]
impl UnderStore for ObjectStore {
    fn uri(&self) -> &str {
        &self.bucket.uri
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            rename: false,
            append: false,
            mtime_precision: Precision::Second,
            etags: true,
            versions: true,
            conditional_read: true,
            conditional_write: self.bucket.features.write_if_match,
            conditional_delete: self.bucket.features.delete_if_match,
            modes: false,
            directories: false,
        }
    }

    async fn check(&self) -> Result<(), UfsError> {
        self.bucket.has_dir(Verb::Check, &Key::root()).await.map(drop)
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        self.bucket.refuse_key(Verb::Stat, key)?;
        if !key.is_dir()
            && let Some(found) = self.bucket.head(Verb::Stat, key).await?
        {
            return Ok(Some(found));
        }
        let dir = key.to_dir();
        let exists = self.bucket.has_dir(Verb::Stat, &dir).await? || dir.is_root();
        Ok(exists.then(|| ObjectInfo::dir(dir)))
    }

    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        list::page(&self.bucket, &dir.to_dir(), after, limit, false).await
    }

    fn behind(&self, entry: &Key) -> PageToken {
        PageToken(entry.as_str().to_owned())
    }

    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        list::page(&self.bucket, &dir.to_dir(), after, limit, true).await
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
        condition: Option<&Fingerprint>,
    ) -> Result<ReadStream, UfsError> {
        self.bucket.refuse_dir(Verb::Read, key)?;
        read::open(&self.bucket, key, range, condition).await
    }

    async fn write(&self, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>, UfsError> {
        self.bucket.refuse_dir(Verb::Write, key)?;
        Ok(Box::new(write::ObjectWriter::new(&self.bucket, key, options)?))
    }

    async fn delete(&self, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError> {
        self.bucket.refuse_dir(Verb::Delete, key)?;
        let if_match = match expected {
            None => None,
            Some(expected) => match self.bucket.expect(Verb::Delete, key, Some(expected)).await? {
                None => return Ok(Removal::Missing),
                Some(_) => header_tag(expected).filter(|_| self.bucket.features.delete_if_match),
            },
        };
        self.bucket.delete(key, if_match).await.map(|()| Removal::Deleted)
    }

    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError> {
        let dir = dir.to_dir();
        if dir.is_root() {
            let words = "the base of a store is not removed".to_owned();
            return Err(self.bucket.error(Verb::Delete, &dir, Failure::BadRequest { words }));
        }
        self.bucket.delete(&dir, None).await.map(|()| Removal::Deleted)
    }

    async fn make_dir(&self, dir: &Key, _: Option<Mode>) -> Result<(), UfsError> {
        let dir = dir.to_dir();
        if dir.is_root() {
            return Ok(());
        }
        self.bucket.refuse_key(Verb::MakeDir, &dir)?;
        let made = self.bucket.service.create_dir_dyn(&self.bucket.context, raw(&dir), OpCreateDir::new()).await;
        made.map(drop).map_err(|error| self.bucket.failed(Verb::MakeDir, &dir, &error))
    }

    async fn rename(&self, from: &Key, _: &Key) -> Result<(), UfsError> {
        let words = "an object store renames by copy and delete".to_owned();
        Err(self.bucket.error(Verb::Rename, from, Failure::Unsupported { words }))
    }

    /// The source is compared before and after: OpenDAL copies the version it finds, and takes no fingerprint of ours. A copy
    /// of the wrong version is removed again.
    async fn copy(&self, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
        let bucket = &self.bucket;
        bucket.refuse_dir(Verb::Copy, from)?;
        bucket.refuse_dir(Verb::Copy, to)?;
        let Some(source) = bucket.expect(Verb::Copy, from, expected).await? else {
            return Err(bucket.error(Verb::Copy, from, Failure::NotFound));
        };
        if source.length > COPY_BYTES_MAX && !bucket.features.copy_in_parts {
            let words = format!("it copies at most {COPY_BYTES_MAX} bytes at once, the object has {}", source.length);
            return Err(bucket.error(Verb::Copy, from, Failure::Unsupported { words }));
        }
        let fail = |error: opendal::Error| bucket.failed(Verb::Copy, from, &error);
        let args =
            OpCopy::from_options(&bucket.service.capability_dyn(), options::CopyOptions::default()).map_err(fail)?;
        let mut copier = bucket.service.copy_dyn(&bucket.context, raw(from), raw(to), args).map_err(fail)?;
        if let Err(error) = copier.close_dyn().await {
            let _ = copier.abort_dyn().await; // best effort: the error is the answer
            return Err(fail(error));
        }
        // The answer to a copy is not proof of it: COS may say 200 before it fails.
        let Some(copied) = bucket.head(Verb::Copy, to).await? else {
            let words = "it answered that the copy was made, but nothing is there".to_owned();
            return Err(bucket.error(Verb::Copy, to, Failure::Contradiction { words }));
        };
        if let Err(error) = bucket.expect(Verb::Copy, from, source.fingerprint.as_ref()).await {
            if error.is_changed() {
                self.delete(to, copied.fingerprint.as_ref()).await?;
            }
            return Err(error);
        }
        if copied.length != source.length {
            let words = format!("the copy has {} bytes, its source {}", copied.length, source.length);
            return Err(bucket.error(Verb::Copy, to, Failure::Contradiction { words }));
        }
        Ok(copied)
    }

    async fn set_attributes(&self, key: &Key, _: &Attributes) -> Result<(), UfsError> {
        let words = "objects have no owner, group or mode".to_owned();
        Err(self.bucket.error(Verb::SetAttributes, key, Failure::Unsupported { words }))
    }

    /// Always 0: uploads a crash cut off are not listed by OpenDAL; the bucket's lifecycle rule aborts them.
    async fn sweep(&self, _: UnixMs) -> Result<u64, UfsError> {
        Ok(0)
    }
}
