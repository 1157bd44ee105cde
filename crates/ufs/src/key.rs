//! Where something lies within a mount.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use types::{GfsPath, MAX_DEPTH, MAX_PATH_BYTES, Name, PathError};

/// Names that begin so belong to unfinished writes of ours: no key may use them, and listings hide them.
pub const RESERVED_PREFIX: &str = ".goosefs-tmp-";

/// Why a string is not a [`Key`].
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum KeyError {
    #[error("it begins with a slash, but a key is relative to its mount")]
    Absolute,
    #[error(transparent)]
    Part(#[from] PathError),
    #[error("the name {0:?} begins with {RESERVED_PREFIX}, which is reserved for unfinished writes")]
    Reserved(String),
}

/// A place within a mount, relative to the mount's base: `a/b` is an object, `a/b/` a directory, the empty key the
/// base itself.
///
/// Every part is a valid [`Name`]; at most [`MAX_PATH_BYTES`] bytes and [`MAX_DEPTH`] parts. Ordered by bytes, as object
/// stores order their listings: `a`, `a!`, `a/`, `a/b`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

impl Key {
    /// The base of the mount: a directory.
    pub fn root() -> Key {
        Key("".into())
    }

    /// Takes the text as it is or refuses it: nothing is folded or trimmed.
    pub fn parse(text: &str) -> Result<Key, KeyError> {
        if text.is_empty() {
            return Ok(Key::root());
        }
        if text.starts_with('/') {
            return Err(KeyError::Absolute);
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong { bytes: text.len(), head: head(text) }.into());
        }
        let mut depth = 0;
        for part in text.strip_suffix('/').unwrap_or(text).split('/') {
            Name::new(part)?;
            if part.starts_with(RESERVED_PREFIX) {
                return Err(KeyError::Reserved(head(part)));
            }
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(PathError::TooDeep { depth, head: head(text) }.into());
        }
        Ok(Key(text.into()))
    }

    /// The object at a path's place below its mount point. None when `path` is not within `mount`, or is the mount
    /// point itself; errors for names a store of ours cannot hold.
    pub fn of_path(path: &GfsPath, mount: &GfsPath) -> Option<Result<Key, KeyError>> {
        path.below(mount).filter(|below| !below.is_empty()).map(Key::parse)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether it names a directory: the base, or a key that ends in a slash.
    pub fn is_dir(&self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }

    /// The last part, without a slash; empty for the base.
    pub fn name(&self) -> &str {
        self.trimmed().rsplit('/').next().unwrap_or("")
    }

    /// The directory that holds it. None for the base.
    pub fn parent(&self) -> Option<Key> {
        if self.is_root() {
            return None;
        }
        Some(self.trimmed().rfind('/').map_or_else(Key::root, |at| Key(self.0[..=at].into())))
    }

    /// The same place as a directory.
    pub fn to_dir(&self) -> Key {
        if self.is_dir() { self.clone() } else { Key(format!("{}/", self.0).into()) }
    }

    /// The same place as an object. The base stays what it is.
    pub fn to_file(&self) -> Key {
        Key(self.trimmed().into())
    }

    /// The object `name` in this directory. Errors when the result is too long or too deep, or the name is reserved.
    pub fn join(&self, name: &Name) -> Result<Key, KeyError> {
        Key::parse(&format!("{}{name}", self.to_dir().as_str()))
    }

    fn trimmed(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }
}

fn head(text: &str) -> String {
    text.chars().take(60).collect()
}

impl TryFrom<String> for Key {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Key, KeyError> {
        Key::parse(&text)
    }
}
impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0.as_ref().to_owned()
    }
}
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> Key {
        Key::parse(text).expect("a valid key")
    }

    #[test]
    fn what_cannot_be_a_path_is_refused() {
        for bad in ["/a", "a//b", "//", "/", ".", "a/../b", "a/./b", "a\0b"] {
            assert!(Key::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(Key::parse(&"x".repeat(256)).is_err());
        assert!(Key::parse(&"x/".repeat(257)).is_err());
        assert!(matches!(Key::parse("a/.goosefs-tmp-1"), Err(KeyError::Reserved(_))));
        assert_eq!(key(" a /b ").as_str(), " a /b ", "spaces are part of a name");
    }

    #[test]
    fn a_directory_is_a_key_with_a_slash() {
        assert!(key("a/b/").is_dir() && !key("a/b").is_dir() && Key::root().is_dir());
        assert_eq!((key("a/b/").name(), key("a/b").name(), Key::root().name()), ("b", "b", ""));
        assert_eq!(key("a/b/").parent(), Some(key("a/")));
        assert_eq!(key("a").parent(), Some(Key::root()));
        assert_eq!(Key::root().parent(), None);
        assert_eq!(key("a/b").to_dir(), key("a/b/"));
        assert_eq!(key("a/b/").to_file(), key("a/b"));
        assert_eq!(key("a/").join(&Name::new("c").expect("a name")), Ok(key("a/c")));
        assert_eq!(Key::root().join(&Name::new("c").expect("a name")), Ok(key("c")));
    }

    #[test]
    fn a_path_becomes_the_key_below_its_mount() {
        let path = |text: &str| GfsPath::parse(text).expect("a valid path");
        assert_eq!(Key::of_path(&path("/m/a/b"), &path("/m")), Some(Ok(key("a/b"))));
        assert_eq!(Key::of_path(&path("/m"), &path("/m")), None);
        assert_eq!(Key::of_path(&path("/x"), &path("/m")), None);
    }

    proptest! {
        #[test]
        fn parents_are_directories_that_hold_their_children(text in "([a-z .é]{1,3}/){0,5}[a-z .é]{0,3}") {
            if let Ok(key) = Key::parse(&text) {
                prop_assert_eq!(Key::parse(key.as_str()), Ok(key.clone()));
                if let Some(parent) = key.parent() {
                    prop_assert!(parent.is_dir());
                    prop_assert!(key.as_str().starts_with(parent.as_str()));
                    let joined = parent.join(&Name::new(key.name()).expect("a part is a name"));
                    prop_assert_eq!(joined, Ok(key.to_file()));
                }
            }
        }
    }

    #[test]
    fn fuzz_store_key() {
        let samples = ["a/b/c", "dir/", "", "a//b", "../x"].map(|text| text.as_bytes().to_vec());
        testkit::fuzz::fuzz("store_key", &samples, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Ok(key) = Key::parse(&text) else { return };
            assert_eq!(key.as_str(), text, "nothing is folded");
            assert!(!key.as_str().split('/').any(|part| matches!(part, "." | "..")));
        });
    }
}
