//! A local directory as an under store.
//!
//! Is:     plain files below one base, on tokio's blocking pool.
//! Owns:   temporary files in the base whose names begin with [`crate::RESERVED_PREFIX`], until they are renamed.
//! Never:  leaves the base through a symbolic link, shows a file before it is whole and on disk.

mod accounts;
mod fail;
mod list;
mod mutate;
mod read;
mod write;

use crate::capability::{Capabilities, Precision};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{
    Attributes, ObjectInfo, ObjectKind, Page, PageToken, ReadStream, Removal, UnderStore, WriteOptions, Writer,
};
use accounts::Accounts;
use async_trait::async_trait;
use fail::words_of;
use parking_lot::Mutex;
use std::fs::{self, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use types::{Fingerprint, Mode, UnixMs};

/// A directory of this machine, or of a network file system mounted on it.
///
/// Fingerprints are modification time and length. Symbolic links count as what they point to while that lies inside the base;
/// others are skipped in listings and refused by name.
pub struct LocalStore {
    dir: Arc<Dir>,
}

/// What the blocking half of a call works with.
struct Dir {
    uri: Arc<str>,
    /// As given; may not exist yet.
    given: PathBuf,
    /// Resolved at the first use that succeeds.
    base: OnceLock<PathBuf>,
    accounts: Accounts,
    cursors: Mutex<list::Cursors>,
}

impl LocalStore {
    /// The store below `base`, an absolute path. Nothing is touched before the first call.
    pub fn new(base: &Path) -> LocalStore {
        let uri = format!("file://{}", base.display());
        let dir = Dir {
            uri: uri.into(),
            given: base.to_owned(),
            base: OnceLock::new(),
            accounts: Accounts::default(),
            cursors: Mutex::default(),
        };
        LocalStore { dir: Arc::new(dir) }
    }

    async fn run<T: Send + 'static>(
        &self,
        verb: Verb,
        work: impl FnOnce(&Dir) -> Result<T, UfsError> + Send + 'static,
    ) -> Result<T, UfsError> {
        run(&self.dir, verb, work).await
    }
}

/// Does `work` where it may block.
async fn run<T: Send + 'static>(
    dir: &Arc<Dir>,
    verb: Verb,
    work: impl FnOnce(&Dir) -> Result<T, UfsError> + Send + 'static,
) -> Result<T, UfsError> {
    let inner = dir.clone();
    match tokio::task::spawn_blocking(move || work(&inner)).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(UfsError::new(
                verb,
                dir.uri.clone(),
                None,
                Failure::Internal { words: "the process is stopping".into() },
            )),
        },
    }
}

impl Dir {
    fn error(&self, verb: Verb, key: &Key, failure: Failure) -> UfsError {
        UfsError::new(verb, self.uri.clone(), Some(key), failure)
    }

    fn io(&self, verb: Verb, key: &Key, error: &io::Error) -> UfsError {
        self.error(verb, key, fail::failure_of(error))
    }

    /// The base with links resolved. Errors: it is not there, or no directory.
    fn base(&self, verb: Verb) -> Result<&Path, UfsError> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let refuse = |words: String| UfsError::new(verb, self.uri.clone(), None, Failure::NoStore { words });
        let base = self.given.canonicalize().map_err(|error| refuse(words_of(&error)))?;
        let metadata = fs::metadata(&base).map_err(|error| refuse(words_of(&error)))?;
        if !metadata.is_dir() {
            return Err(refuse("it is not a directory".into()));
        }
        Ok(self.base.get_or_init(|| base))
    }

    /// Where `key` lies: the way to it resolved and inside the base, its last name taken as it is.
    fn locate(&self, verb: Verb, key: &Key) -> Result<PathBuf, UfsError> {
        let base = self.base(verb)?;
        match key.parent() {
            None => Ok(base.to_owned()),
            Some(parent) if parent.is_root() => Ok(base.join(key.name())),
            Some(parent) => Ok(self.inside(verb, key, &base.join(parent.to_file().as_str()))?.join(key.name())),
        }
    }

    /// `path` with links resolved, if that is inside the base.
    fn inside(&self, verb: Verb, key: &Key, path: &Path) -> Result<PathBuf, UfsError> {
        let resolved = path.canonicalize().map_err(|error| self.io(verb, key, &error))?;
        if resolved.starts_with(self.base(verb)?) {
            return Ok(resolved);
        }
        let words = "a symbolic link on the way leads outside of the store".to_owned();
        Err(self.error(verb, key, Failure::Refused { words }))
    }

    /// What lies at `key`, links followed inside the base. None if there is nothing.
    fn look(&self, verb: Verb, key: &Key) -> Result<Option<(PathBuf, Metadata)>, UfsError> {
        match self.look_through(verb, key) {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.failure(), Failure::NotFound | Failure::NotDirectory) => {
                self.base_still_there(verb).map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    fn look_through(&self, verb: Verb, key: &Key) -> Result<(PathBuf, Metadata), UfsError> {
        let mut path = self.locate(verb, key)?;
        let mut metadata = fs::symlink_metadata(&path).map_err(|error| self.io(verb, key, &error))?;
        if metadata.is_symlink() {
            path = self.inside(verb, key, &path)?;
            metadata = fs::metadata(&path).map_err(|error| self.io(verb, key, &error))?;
        }
        if metadata.is_file() || metadata.is_dir() {
            return Ok((path, metadata));
        }
        let words = "it is neither a file nor a directory".to_owned();
        Err(self.error(verb, key, Failure::Refused { words }))
    }

    /// "Nothing there" is an answer only while the base itself is there.
    fn base_still_there(&self, verb: Verb) -> Result<(), UfsError> {
        let gone = |error: io::Error| {
            UfsError::new(verb, self.uri.clone(), None, Failure::NoStore { words: words_of(&error) })
        };
        fs::metadata(self.base(verb)?).map(drop).map_err(gone)
    }

    fn info(&self, key: &Key, metadata: &Metadata) -> ObjectInfo {
        let is_dir = metadata.is_dir();
        ObjectInfo {
            key: if is_dir { key.to_dir() } else { key.to_file() },
            kind: if is_dir { ObjectKind::Dir } else { ObjectKind::File },
            length: if is_dir { 0 } else { metadata.len() },
            mtime_ns: Some(mtime_ns(metadata)),
            fingerprint: (!is_dir).then(|| stamp(metadata)),
            owner: Some(self.accounts.user(metadata.uid())),
            group: Some(self.accounts.group(metadata.gid())),
            mode: Some(mode_of(metadata)),
        }
    }

    fn check_is(
        &self,
        verb: Verb,
        key: &Key,
        expected: Option<&Fingerprint>,
        metadata: &Metadata,
    ) -> Result<(), UfsError> {
        match expected {
            Some(expected) if *expected != stamp(metadata) => {
                let found = stamp(metadata).to_string();
                Err(self.error(verb, key, Failure::Changed { expected: expected.to_string(), found }))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn mtime_ns(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

fn stamp(metadata: &Metadata) -> Fingerprint {
    Fingerprint::Stamp { mtime_ns: mtime_ns(metadata), length: metadata.len() }
}

fn mode_of(metadata: &Metadata) -> Mode {
    Mode::new(u16::try_from(metadata.mode() & 0o7777).expect("twelve bits fit"))
}

#[async_trait]
impl UnderStore for LocalStore {
    fn uri(&self) -> &str {
        &self.dir.uri
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            rename: true,
            append: false,
            mtime_precision: Precision::Nanosecond,
            etags: false,
            versions: false,
            conditional_read: true,
            conditional_write: false,
            conditional_delete: false,
            modes: true,
            directories: true,
        }
    }

    async fn check(&self) -> Result<(), UfsError> {
        self.run(Verb::Check, |dir| {
            let base = dir.base(Verb::Check)?;
            let entered = fs::read_dir(base).and_then(|mut entries| entries.next().transpose().map(drop));
            let refuse = |error: io::Error| {
                UfsError::new(Verb::Check, dir.uri.clone(), None, Failure::NoStore { words: words_of(&error) })
            };
            entered.map_err(refuse)
        })
        .await
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        let key = key.clone();
        self.run(Verb::Stat, move |dir| {
            let found = dir.look(Verb::Stat, &key)?.filter(|(_, metadata)| metadata.is_dir() || !key.is_dir());
            Ok(found.map(|(_, metadata)| dir.info(&key, &metadata)))
        })
        .await
    }

    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        let (key, after) = (dir.to_dir(), after.cloned());
        self.run(Verb::List, move |dir| list::level(dir, &key, after.as_ref(), limit)).await
    }

    fn behind(&self, entry: &Key) -> PageToken {
        list::behind(entry)
    }

    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        let (key, after) = (dir.to_dir(), after.cloned());
        self.run(Verb::List, move |dir| list::tree(dir, &key, after.as_ref(), limit)).await
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
        condition: Option<&Fingerprint>,
    ) -> Result<ReadStream, UfsError> {
        read::open(&self.dir, key, range, condition).await
    }

    async fn write(&self, key: &Key, options: WriteOptions) -> Result<Box<dyn Writer>, UfsError> {
        Ok(Box::new(write::begin(&self.dir, key, options).await?))
    }

    async fn delete(&self, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError> {
        let (key, expected) = (key.clone(), expected.cloned());
        self.run(Verb::Delete, move |dir| mutate::delete(dir, &key, expected.as_ref())).await
    }

    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError> {
        let key = dir.to_dir();
        self.run(Verb::Delete, move |dir| mutate::delete_dir(dir, &key)).await
    }

    async fn make_dir(&self, dir: &Key, mode: Option<Mode>) -> Result<(), UfsError> {
        let key = dir.to_dir();
        self.run(Verb::MakeDir, move |dir| mutate::make_dir(dir, Verb::MakeDir, &key, mode).map(drop)).await
    }

    async fn rename(&self, from: &Key, to: &Key) -> Result<(), UfsError> {
        let (from, to) = (from.clone(), to.clone());
        self.run(Verb::Rename, move |dir| mutate::rename(dir, &from, &to)).await
    }

    async fn copy(&self, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
        let (from, to, expected) = (from.clone(), to.clone(), expected.cloned());
        self.run(Verb::Copy, move |dir| write::copy(dir, &from, &to, expected.as_ref())).await
    }

    async fn set_attributes(&self, key: &Key, attributes: &Attributes) -> Result<(), UfsError> {
        let (key, attributes) = (key.clone(), attributes.clone());
        self.run(Verb::SetAttributes, move |dir| mutate::set_attributes(dir, &key, &attributes)).await
    }

    async fn sweep(&self, before: UnixMs) -> Result<u64, UfsError> {
        self.run(Verb::Sweep, move |dir| write::sweep(dir, before)).await
    }
}
