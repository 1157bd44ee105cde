//! Writing a local file: a temporary file in the base, made durable, then renamed into place.

use super::read::open_file;
use super::{Dir, mtime_ns, mutate, run, stamp};
use crate::error::{Failure, UfsError, Verb};
use crate::key::{Key, RESERVED_PREFIX};
use crate::store::{Condition, ObjectInfo, WriteOptions, Writer};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, Timespec, Timestamps};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{Fingerprint, UnixMs};

/// Bytes gathered before they go to the disk together.
const GATHER_BYTES: usize = 1024 * 1024;
/// Fresh names tried for a temporary file.
const NAME_ATTEMPTS: usize = 16;

/// A temporary file. Removed when dropped, unless it got its final name.
struct Staged {
    file: File,
    path: PathBuf,
    is_placed: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = fs::remove_file(&self.path); // what stays is swept by its name
        }
    }
}

impl Staged {
    fn create(dir: &Dir, verb: Verb, key: &Key) -> Result<Staged, UfsError> {
        let base = dir.base(verb)?;
        for _ in 0..NAME_ATTEMPTS {
            let path = base.join(format!("{RESERVED_PREFIX}{:032x}", rand::random::<u128>()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Staged { file, path, is_placed: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(dir.io(verb, key, &error)),
            }
        }
        Err(dir.error(verb, key, Failure::Internal { words: "random names repeat".into() }))
    }

    /// Makes the file durable under its final name. `OutcomeUnknown` if only the last sync of the directory failed.
    fn place(
        mut self,
        dir: &Dir,
        verb: Verb,
        key: &Key,
        condition: &Condition,
        asked: &Asked,
    ) -> Result<ObjectInfo, UfsError> {
        let fail = |error: io::Error| dir.io(verb, key, &error);
        // What takes long comes before anything can be seen.
        self.file.sync_all().map_err(fail)?;
        if !asked.still() {
            let words = "it was given up before it was whole".to_owned();
            return Err(dir.error(verb, key, Failure::BadRequest { words }));
        }
        if let Some(parent) = key.parent().filter(|parent| !parent.is_root()) {
            mutate::make_dir(dir, verb, &parent, None)?;
        }
        let target = dir.locate(verb, key)?;
        let metadata = self.file.metadata().map_err(fail)?;
        let there = fs::symlink_metadata(&target).ok();
        if there.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(dir.error(verb, key, Failure::IsDirectory));
        }
        check_condition(dir, verb, key, condition)?;
        if there.is_some_and(|old| stamp(&old) == stamp(&metadata)) {
            // Written in the same tick as the version it replaces, and as long: make the two differ.
            nudge(&self.file, mtime_ns(&metadata)).map_err(fail)?;
            self.file.sync_all().map_err(fail)?;
        }
        let metadata = self.file.metadata().map_err(fail)?;
        rename_over(&self.path, &target, *condition == Condition::Absent).map_err(|error| {
            let absent_broken = *condition == Condition::Absent && error.kind() == io::ErrorKind::AlreadyExists;
            let changed = Failure::Changed { expected: "nothing".into(), found: "something".into() };
            if absent_broken { dir.error(verb, key, changed) } else { fail(error) }
        })?;
        self.is_placed = true;
        mutate::sync_parent(&target).map_err(|error| {
            let words = format!("the directory could not be made durable: {}", super::words_of(&error));
            dir.error(verb, key, Failure::OutcomeUnknown { words })
        })?;
        Ok(dir.info(key, &metadata))
    }
}

/// Whether somebody waits for a file to appear. A call that is dropped leaves its blocking half at work, which must not
/// place what was given up: other files may have the name by then.
#[derive(Clone)]
struct Asked(Arc<AtomicBool>);

/// The waiting half of [`Asked`].
struct Waiting(Asked);

impl Asked {
    fn new() -> Asked {
        Asked(Arc::new(AtomicBool::new(true)))
    }
    fn still(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

fn check_condition(dir: &Dir, verb: Verb, key: &Key, condition: &Condition) -> Result<(), UfsError> {
    let expected = match condition {
        Condition::Any | Condition::Absent => return Ok(()), // the rename itself refuses to replace
        Condition::Is(expected) => expected,
    };
    match dir.look(verb, key)? {
        Some((_, metadata)) => dir.check_is(verb, key, Some(expected), &metadata),
        None => Err(dir.error(verb, key, Failure::Changed { expected: expected.to_string(), found: "nothing".into() })),
    }
}

/// Sets the modification time one nanosecond later.
fn nudge(file: &File, mtime_ns: i128) -> io::Result<()> {
    let later = mtime_ns + 1;
    let time = Timespec {
        tv_sec: i64::try_from(later.div_euclid(1_000_000_000)).map_err(io::Error::other)?,
        tv_nsec: i64::try_from(later.rem_euclid(1_000_000_000)).map_err(io::Error::other)?,
    };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

/// Renames; with `keep` only onto a free name. File systems without that flag get a look just before.
pub(super) fn rename_over(from: &Path, to: &Path, keep: bool) -> io::Result<()> {
    if !keep {
        return fs::rename(from, to);
    }
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        },
        outcome => Ok(outcome?),
    }
}

pub(super) async fn begin(dir: &Arc<Dir>, key: &Key, options: WriteOptions) -> Result<LocalWriter, UfsError> {
    if key.is_dir() {
        return Err(dir.error(Verb::Write, key, Failure::IsDirectory));
    }
    let owned = key.clone();
    let staged = run(dir, Verb::Write, move |dir| {
        refuse_unplaceable(dir, &owned)?;
        Staged::create(dir, Verb::Write, &owned)
    })
    .await?;
    Ok(LocalWriter {
        dir: dir.clone(),
        key: key.clone(),
        options,
        staged: Some(staged),
        gathered: Vec::new(),
        gathered_bytes: 0,
        length: 0,
    })
}

/// What will fail at the end fails at the beginning: a directory in the way, or a parent that is a file.
fn refuse_unplaceable(dir: &Dir, key: &Key) -> Result<(), UfsError> {
    let mut above = Some(key.clone());
    while let Some(at) = above {
        match dir.look_through(Verb::Write, &at) {
            Ok((_, metadata)) if metadata.is_dir() && at == *key => {
                return Err(dir.error(Verb::Write, key, Failure::IsDirectory));
            }
            Ok((_, metadata)) if !metadata.is_dir() && at != *key => {
                return Err(dir.error(Verb::Write, key, Failure::NotDirectory));
            }
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.failure(), Failure::NotFound | Failure::NotDirectory) => above = at.parent(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) struct LocalWriter {
    dir: Arc<Dir>,
    key: Key,
    options: WriteOptions,
    /// None after the end, and after a call that failed or was cancelled.
    staged: Option<Staged>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    length: u64,
}

impl LocalWriter {
    fn take(&mut self) -> Result<(Staged, Vec<Bytes>), UfsError> {
        self.gathered_bytes = 0;
        let gathered = std::mem::take(&mut self.gathered);
        match self.staged.take() {
            Some(staged) => Ok((staged, gathered)),
            None => {
                let words = "the writer has ended or failed before".to_owned();
                Err(self.dir.error(Verb::Write, &self.key, Failure::BadRequest { words }))
            }
        }
    }
}

#[async_trait]
impl Writer for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), UfsError> {
        self.length += u64::try_from(bytes.len()).expect("memory is addressable");
        self.gathered_bytes += bytes.len();
        self.gathered.push(bytes);
        if self.gathered_bytes < GATHER_BYTES {
            return Ok(());
        }
        let (mut staged, gathered) = self.take()?;
        let key = self.key.clone();
        let staged = run(&self.dir, Verb::Write, move |dir| {
            put(&mut staged.file, &gathered).map_err(|error| dir.io(Verb::Write, &key, &error))?;
            Ok(staged)
        })
        .await?;
        self.staged = Some(staged);
        Ok(())
    }

    async fn finish(&mut self) -> Result<ObjectInfo, UfsError> {
        let (mut staged, gathered) = self.take()?;
        let (key, options, length) = (self.key.clone(), self.options.clone(), self.length);
        let asked = Asked::new();
        let _waiting = Waiting(asked.clone());
        run(&self.dir, Verb::Write, move |dir| {
            let fail = |error: io::Error| dir.io(Verb::Write, &key, &error);
            put(&mut staged.file, &gathered).map_err(fail)?;
            own(dir, &staged.file, &options).map_err(fail)?;
            let got_bytes = staged.file.metadata().map_err(fail)?.len();
            if got_bytes != length {
                let words = format!("{length} bytes were written, but the file has {got_bytes}");
                return Err(dir.error(Verb::Write, &key, Failure::Contradiction { words }));
            }
            staged.place(dir, Verb::Write, &key, &options.condition, &asked)
        })
        .await
    }

    async fn abort(&mut self) -> Result<(), UfsError> {
        let staged = self.staged.take();
        run(&self.dir, Verb::Write, move |_| {
            drop(staged);
            Ok(())
        })
        .await
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        // Freeing a large file takes a while: not on an async thread. A runtime that stops drops the closure, and with
        // it the file.
        if let (Some(staged), Ok(runtime)) = (self.staged.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(staged));
        }
    }
}

fn put(file: &mut File, gathered: &[Bytes]) -> io::Result<()> {
    gathered.iter().try_for_each(|bytes| file.write_all(bytes))
}

/// Permission bits, and owner and group where this process may set them: the namespace keeps its own record of both.
fn own(dir: &Dir, file: &File, options: &WriteOptions) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let uid = options.owner.as_deref().and_then(|name| dir.accounts.uid(name));
        let gid = options.group.as_deref().and_then(|name| dir.accounts.gid(name));
        fchown(file, uid, gid)?;
    }
    match options.mode {
        Some(mode) => file.set_permissions(Permissions::from_mode(u32::from(mode.bits()))),
        None => Ok(()),
    }
}

/// Copies through a temporary file; the source is compared before and after.
pub(super) fn copy(dir: &Dir, from: &Key, to: &Key, expected: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
    if to.is_dir() {
        return Err(dir.error(Verb::Copy, to, Failure::IsDirectory));
    }
    let again = |error: UfsError| dir.error(Verb::Copy, from, error.failure().clone());
    let (mut source, metadata) = open_file(dir, from).map_err(again)?;
    dir.check_is(Verb::Copy, from, expected, &metadata)?;
    let mut staged = Staged::create(dir, Verb::Copy, to)?;
    let fail = |error: io::Error| dir.io(Verb::Copy, to, &error);
    io::copy(&mut source, &mut staged.file).map_err(fail)?;
    staged.file.set_permissions(metadata.permissions()).map_err(fail)?;
    dir.check_is(Verb::Copy, from, Some(&stamp(&metadata)), &source.metadata().map_err(fail)?)?;
    staged.place(dir, Verb::Copy, to, &Condition::Any, &Asked::new())
}

/// Removes temporary files last written before `before`. Younger ones may be somebody's.
pub(super) fn sweep(dir: &Dir, before: UnixMs) -> Result<u64, UfsError> {
    let root = Key::root();
    let fail = |error: io::Error| dir.io(Verb::Sweep, &root, &error);
    let mut removed = 0;
    for entry in fs::read_dir(dir.base(Verb::Sweep)?).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(RESERVED_PREFIX));
        let is_old =
            |metadata: fs::Metadata| metadata.is_file() && mtime_ns(&metadata) < i128::from(before.0) * 1_000_000;
        if is_ours && entry.metadata().is_ok_and(is_old) {
            match fs::remove_file(entry.path()) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail(error)),
            }
        }
    }
    Ok(removed)
}
