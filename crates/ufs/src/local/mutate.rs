//! Changes to a local directory other than writing files. Each is durable before it is answered.

use super::write::rename_over;
use super::{Dir, words_of};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{Attributes, Removal};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use types::{Fingerprint, Mode};

/// Removes a file, or a link itself; never a directory.
pub(super) fn delete(dir: &Dir, key: &Key, expected: Option<&Fingerprint>) -> Result<Removal, UfsError> {
    if key.is_dir() {
        return Err(dir.error(Verb::Delete, key, Failure::IsDirectory));
    }
    let Some(path) = place(dir, Verb::Delete, key)? else {
        return Ok(Removal::Missing);
    };
    if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(dir.error(Verb::Delete, key, Failure::IsDirectory));
    }
    if expected.is_some() {
        match dir.look(Verb::Delete, key)? {
            Some((_, metadata)) => dir.check_is(Verb::Delete, key, expected, &metadata)?,
            None => return Ok(Removal::Missing),
        }
    }
    removed(dir, key, &path, fs::remove_file(&path))
}

pub(super) fn delete_dir(dir: &Dir, key: &Key) -> Result<Removal, UfsError> {
    if key.is_root() {
        let words = "the base of a store is not removed".to_owned();
        return Err(dir.error(Verb::Delete, key, Failure::BadRequest { words }));
    }
    match place(dir, Verb::Delete, key)? {
        Some(path) => removed(dir, key, &path, fs::remove_dir(&path)),
        None => Ok(Removal::Missing),
    }
}

/// Where the key lies; None if the way to it does not exist.
fn place(dir: &Dir, verb: Verb, key: &Key) -> Result<Option<PathBuf>, UfsError> {
    match dir.locate(verb, key) {
        Ok(path) => Ok(Some(path)),
        Err(error) if matches!(error.failure(), Failure::NotFound | Failure::NotDirectory) => {
            dir.base_still_there(verb).map(|()| None)
        }
        Err(error) => Err(error),
    }
}

fn removed(dir: &Dir, key: &Key, path: &Path, outcome: io::Result<()>) -> Result<Removal, UfsError> {
    match outcome {
        Ok(()) => sync_parent(path).map(|()| Removal::Deleted).map_err(|error| unsure(dir, Verb::Delete, key, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            dir.base_still_there(Verb::Delete).map(|()| Removal::Missing)
        }
        Err(error) => Err(dir.io(Verb::Delete, key, &error)),
    }
}

/// Makes a directory and its parents; `mode` is for the last one. Returns where it is.
pub(super) fn make_dir(dir: &Dir, verb: Verb, key: &Key, mode: Option<Mode>) -> Result<PathBuf, UfsError> {
    let mut path = dir.base(verb)?.to_owned();
    let fail = |error: io::Error| dir.io(verb, key, &error);
    let mut created = false;
    for part in key.as_str().split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        created = match fs::create_dir(&path) {
            Ok(()) => {
                sync_parent(&path).map_err(fail)?;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = dir.inside(verb, key, &path)?;
                if !fs::metadata(&path).map_err(fail)?.is_dir() {
                    return Err(dir.error(verb, key, Failure::NotDirectory));
                }
                false
            }
            Err(error) => return Err(fail(error)),
        };
    }
    if let Some(mode) = mode.filter(|_| created) {
        fs::set_permissions(&path, Permissions::from_mode(u32::from(mode.bits()))).map_err(fail)?;
    }
    Ok(path)
}

pub(super) fn rename(dir: &Dir, from: &Key, to: &Key) -> Result<(), UfsError> {
    let fail = |error: io::Error| dir.io(Verb::Rename, from, &error);
    if from.is_root() || to.is_root() || to.to_dir().as_str().starts_with(from.to_dir().as_str()) {
        let words = format!("{from:?} cannot become {to:?}: a base does not move, and nothing moves into itself");
        return Err(dir.error(Verb::Rename, from, Failure::BadRequest { words }));
    }
    let source = dir.locate(Verb::Rename, from)?;
    fs::symlink_metadata(&source).map_err(fail)?; // before parents are made for nothing
    if let Some(parent) = to.parent() {
        make_dir(dir, Verb::Rename, &parent, None)?;
    }
    let target = dir.locate(Verb::Rename, to)?;
    rename_over(&source, &target, true).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => dir.error(Verb::Rename, to, Failure::AlreadyExists),
        _ => fail(error),
    })?;
    let synced = sync_parent(&target).and_then(|()| sync_parent(&source));
    synced.map_err(|error| unsure(dir, Verb::Rename, from, &error))
}

pub(super) fn set_attributes(dir: &Dir, key: &Key, attributes: &Attributes) -> Result<(), UfsError> {
    let verb = Verb::SetAttributes;
    let (path, _) = dir.look_through(verb, key)?;
    let unknown = |what: &str, name: &str| {
        dir.error(verb, key, Failure::BadRequest { words: format!("this machine knows no {what} {name:?}") })
    };
    let number = |name: &Option<String>, what: &str, find: &dyn Fn(&str) -> Option<u32>| match name {
        None => Ok(None),
        Some(name) => find(name).map(Some).ok_or_else(|| unknown(what, name)),
    };
    let uid = number(&attributes.owner, "user", &|name| dir.accounts.uid(name))?;
    let gid = number(&attributes.group, "group", &|name| dir.accounts.gid(name))?;
    let fail = |error: io::Error| dir.io(verb, key, &error);
    if uid.is_some() || gid.is_some() {
        chown(&path, uid, gid).map_err(fail)?;
    }
    if let Some(mode) = attributes.mode {
        fs::set_permissions(&path, Permissions::from_mode(u32::from(mode.bits()))).map_err(fail)?;
    }
    File::open(&path).and_then(|file| file.sync_all()).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Ok(()), // its new bits keep us out; the change itself was made
        _ => Err(unsure(dir, verb, key, &error)),
    })
}

/// A change was made, but may not survive a power cut.
fn unsure(dir: &Dir, verb: Verb, key: &Key, error: &io::Error) -> UfsError {
    let words = format!("the directory could not be made durable: {}", words_of(error));
    dir.error(verb, key, Failure::OutcomeUnknown { words })
}

/// Makes a name durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}
