//! Names and paths inside GooseFS: checked once, at the edge.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Longest name in bytes, as on Linux file systems.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest path in bytes, slashes included.
pub const MAX_PATH_BYTES: usize = 4096;
/// Most names in a path.
pub const MAX_DEPTH: usize = 256;

/// Why a string is not a path or name of ours.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum PathError {
    #[error("the path is empty; an absolute path such as /data/file is needed")]
    Empty,
    #[error("path \"{0}\" is not absolute; begin it with /")]
    Relative(String),
    #[error("path of {bytes} bytes is longer than {MAX_PATH_BYTES}: \"{head}…\"; use shorter names or fewer levels")]
    TooLong { bytes: usize, head: String },
    #[error("path has {depth} levels, at most {MAX_DEPTH} are allowed: \"{head}…\"")]
    TooDeep { depth: usize, head: String },
    #[error("name \"{head}…\" has {bytes} bytes, at most {MAX_NAME_BYTES} are allowed")]
    NameTooLong { bytes: usize, head: String },
    #[error("name {0:?} is not allowed: a name is not empty, not . or .., and holds neither / nor NUL")]
    BadName(String),
}

fn head(text: &str) -> String {
    text.chars().take(60).collect()
}

/// One name in a directory: not empty, no slash, no NUL, not `.` or `..`, at most [`MAX_NAME_BYTES`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    pub fn new(text: &str) -> Result<Name, PathError> {
        check_name(text)?;
        Ok(Name(text.into()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_name(text: &str) -> Result<(), PathError> {
    if text.is_empty() || text == "." || text == ".." || text.bytes().any(|b| b == b'/' || b == 0) {
        return Err(PathError::BadName(head(text)));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(PathError::NameTooLong { bytes: text.len(), head: head(text) });
    }
    Ok(())
}

impl TryFrom<String> for Name {
    type Error = PathError;
    fn try_from(text: String) -> Result<Name, PathError> {
        Name::new(&text)
    }
}
impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.as_ref().to_owned()
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// An absolute, normalised path inside GooseFS: `/` or `/a/b`, no empty, `.` or `..` part, no trailing slash.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GfsPath(Arc<str>);

impl GfsPath {
    /// Repeated and trailing slashes are folded; everything else is taken as it is or refused.
    pub fn parse(text: &str) -> Result<GfsPath, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if !text.starts_with('/') {
            return Err(PathError::Relative(head(text)));
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong { bytes: text.len(), head: head(text) });
        }
        let mut out = String::with_capacity(text.len());
        let mut depth = 0;
        for name in text.split('/').filter(|part| !part.is_empty()) {
            check_name(name)?;
            depth += 1;
            out.push('/');
            out.push_str(name);
        }
        if depth > MAX_DEPTH {
            return Err(PathError::TooDeep { depth, head: head(text) });
        }
        if out.is_empty() {
            out.push('/');
        }
        Ok(GfsPath(out.into()))
    }

    pub fn root() -> GfsPath {
        GfsPath("/".into())
    }
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names from the root down; none for `/`.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    pub fn depth(&self) -> usize {
        self.names().count()
    }

    /// The last name; empty for `/`, as the official wire shows it.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// None for `/`.
    pub fn parent(&self) -> Option<GfsPath> {
        if self.is_root() {
            return None;
        }
        match self.0.rfind('/') {
            Some(0) | None => Some(GfsPath::root()),
            Some(at) => Some(GfsPath(self.0[..at].into())),
        }
    }

    /// This path with one more name. Errors when the result is too long or too deep.
    pub fn join(&self, name: &Name) -> Result<GfsPath, PathError> {
        let base = if self.is_root() { "" } else { &*self.0 };
        GfsPath::parse(&format!("{base}/{name}"))
    }

    /// This path with one more name, without the limits a request's path has: a rename can move a tree so deep that its
    /// leaves can be listed but not named.
    pub fn child(&self, name: &Name) -> GfsPath {
        let base = if self.is_root() { "" } else { &*self.0 };
        GfsPath([base, "/", name.as_str()].concat().into())
    }

    /// Whether `self` is `other` or lies below it.
    pub fn is_within(&self, other: &GfsPath) -> bool {
        other.is_root() || self == other || (self.0.starts_with(&*other.0) && self.0.as_bytes()[other.0.len()] == b'/')
    }

    /// The part below `base`, without a leading slash; empty when equal. None when not within.
    pub fn below(&self, base: &GfsPath) -> Option<&str> {
        if !self.is_within(base) {
            return None;
        }
        let skip = if base.is_root() { 0 } else { base.0.len() };
        Some(self.0[skip..].trim_start_matches('/'))
    }
}

impl TryFrom<String> for GfsPath {
    type Error = PathError;
    fn try_from(text: String) -> Result<GfsPath, PathError> {
        GfsPath::parse(&text)
    }
}
impl From<GfsPath> for String {
    fn from(path: GfsPath) -> String {
        path.0.as_ref().to_owned()
    }
}
impl std::str::FromStr for GfsPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<GfsPath, PathError> {
        GfsPath::parse(text)
    }
}
impl fmt::Display for GfsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for GfsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slashes_are_folded_and_bad_parts_refused() {
        let path = |text: &str| GfsPath::parse(text).map(|p| p.to_string());
        assert_eq!(path("//a///b/").as_deref(), Ok("/a/b"));
        assert_eq!(path("/").as_deref(), Ok("/"));
        assert_eq!(path("/ü b/ #?%").as_deref(), Ok("/ü b/ #?%"));
        assert_eq!(path(""), Err(PathError::Empty));
        assert!(matches!(path("a/b"), Err(PathError::Relative(_))));
        assert!(matches!(path("/a/../b"), Err(PathError::BadName(_))));
        assert!(matches!(path("/a/./b"), Err(PathError::BadName(_))));
        assert!(matches!(path("/a\0b"), Err(PathError::BadName(_))));
        assert!(matches!(path(&format!("/{}", "x".repeat(256))), Err(PathError::NameTooLong { .. })));
        assert!(matches!(path(&"/x".repeat(1000)), Err(PathError::TooDeep { .. })));
        assert!(matches!(path(&format!("/{}", "y/".repeat(5000))), Err(PathError::TooLong { .. })));
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_not_within() {
        let path = |text: &str| GfsPath::parse(text).expect("a valid path");
        assert!(path("/a/b").is_within(&path("/a")));
        assert!(!path("/ab").is_within(&path("/a")));
        assert!(path("/a").is_within(&GfsPath::root()));
        assert_eq!(path("/a/b/c").below(&path("/a")), Some("b/c"));
        assert_eq!(path("/a").below(&GfsPath::root()), Some("a"));
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text in "(/[a-zé .]{0,4}){0,8}") {
            if let Ok(path) = GfsPath::parse(&text) {
                prop_assert_eq!(GfsPath::parse(path.as_str()), Ok(path.clone()));
                prop_assert_eq!(path.depth(), path.names().count());
                if let Some(parent) = path.parent() { prop_assert!(path.is_within(&parent)); }
            }
        }
    }
}
