//! What can go wrong with an under store, in sentences.

use crate::key::{Key, KeyError};
use std::fmt;
use std::sync::Arc;
use types::ErrorKind;

/// What was asked of a store. The order is that of [`Verb::ALL`], which metrics use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verb {
    Open,
    Check,
    Stat,
    List,
    Read,
    Write,
    Delete,
    MakeDir,
    Rename,
    Copy,
    SetAttributes,
    Sweep,
}

impl Verb {
    pub const ALL: [Verb; 12] = [
        Verb::Open,
        Verb::Check,
        Verb::Stat,
        Verb::List,
        Verb::Read,
        Verb::Write,
        Verb::Delete,
        Verb::MakeDir,
        Verb::Rename,
        Verb::Copy,
        Verb::SetAttributes,
        Verb::Sweep,
    ];

    /// As messages and metrics spell it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Open => "open",
            Verb::Check => "check",
            Verb::Stat => "stat",
            Verb::List => "list",
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Delete => "delete",
            Verb::MakeDir => "make directory",
            Verb::Rename => "rename",
            Verb::Copy => "copy",
            Verb::SetAttributes => "set attributes of",
            Verb::Sweep => "sweep",
        }
    }

    /// Whether it changes the store.
    pub fn is_mutation(self) -> bool {
        match self {
            Verb::Open | Verb::Check | Verb::Stat | Verb::List | Verb::Read => false,
            Verb::Write
            | Verb::Delete
            | Verb::MakeDir
            | Verb::Rename
            | Verb::Copy
            | Verb::SetAttributes
            | Verb::Sweep => true,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why it failed. The texts named `words` are the store's own, with credentials blanked out.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    #[error("there is nothing there")]
    NotFound,
    #[error("the name is taken")]
    AlreadyExists,
    #[error("it is a directory")]
    IsDirectory,
    #[error("it, or a part of the way to it, is not a directory")]
    NotDirectory,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("the store does not exist or cannot be entered: {words}; create it or correct the address")]
    NoStore { words: String },
    #[error("the store does not accept the credential: {words}; correct or renew it")]
    BadCredential { words: String },
    #[error("the store refuses: {words}; grant the credential or the process this right")]
    Refused { words: String },
    #[error("the store lives elsewhere: {words}; set its own endpoint and region")]
    WrongPlace { words: String },
    #[error("the store is mounted read-only")]
    ReadOnly,
    #[error("it is no longer the object it was: expected {expected}, found {found}")]
    Changed { expected: String, found: String },
    #[error("the store sent {got_bytes} of {expected_bytes} bytes")]
    Short { expected_bytes: u64, got_bytes: u64 },
    #[error("the store asks to slow down: {words}")]
    Busy { words: String },
    #[error("the store cannot be reached or fails: {words}")]
    Unreachable { words: String },
    #[error("no answer within {after_ms} ms")]
    TimedOut { after_ms: u64 },
    #[error("whether it happened is unknown: {words}; look before trying again")]
    OutcomeUnknown { words: String },
    #[error("the store is full: {words}; free space or raise its quota")]
    Full { words: String },
    #[error("this store cannot do that: {words}")]
    Unsupported { words: String },
    #[error("the key cannot be used: {0}")]
    BadKey(#[from] KeyError),
    #[error("{words}")]
    BadRequest { words: String },
    #[error("{words}")]
    BadSetting { words: String },
    #[error("the store contradicts itself: {words}")]
    Contradiction { words: String },
    #[error("unexpected: {words}")]
    Internal { words: String },
}

/// One failure of one call: verb, object, reason. Cheap to clone; never holds a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UfsError {
    verb: Verb,
    uri: Arc<str>,
    key: Option<Key>,
    failure: Failure,
}

impl UfsError {
    /// `uri` is the store's base as [`crate::UnderStore::uri`] shows it.
    pub fn new(verb: Verb, uri: impl Into<Arc<str>>, key: Option<&Key>, failure: Failure) -> UfsError {
        UfsError { verb, uri: uri.into(), key: key.cloned(), failure }
    }
    pub fn verb(&self) -> Verb {
        self.verb
    }
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match &self.failure {
            Failure::NotFound => ErrorKind::NotFound,
            Failure::AlreadyExists => ErrorKind::AlreadyExists,
            Failure::IsDirectory
            | Failure::NotDirectory
            | Failure::NotEmpty
            | Failure::NoStore { .. }
            | Failure::BadCredential { .. }
            | Failure::Refused { .. }
            | Failure::WrongPlace { .. }
            | Failure::Changed { .. } => ErrorKind::Precondition,
            Failure::ReadOnly => ErrorKind::Denied,
            Failure::Short { .. } | Failure::Unreachable { .. } => ErrorKind::Unavailable,
            Failure::Busy { .. } => ErrorKind::Busy,
            Failure::TimedOut { .. } | Failure::OutcomeUnknown { .. } => ErrorKind::Timeout,
            Failure::Full { .. } => ErrorKind::Full,
            Failure::Unsupported { .. } => ErrorKind::Unimplemented,
            Failure::BadKey(_) | Failure::BadRequest { .. } | Failure::BadSetting { .. } => ErrorKind::Invalid,
            Failure::Contradiction { .. } => ErrorKind::Corrupt,
            Failure::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// The same failure of a change whose outcome nobody knows.
    pub(crate) fn with_unknown_outcome(self) -> UfsError {
        let words = self.failure.to_string();
        UfsError { failure: Failure::OutcomeUnknown { words }, ..self }
    }

    /// The object is not the one the caller knows: load its metadata again.
    pub fn is_changed(&self) -> bool {
        matches!(self.failure, Failure::Changed { .. })
    }
    pub fn is_not_found(&self) -> bool {
        self.failure == Failure::NotFound
    }
}

impl fmt::Display for UfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.verb, self.uri)?;
        if let Some(key) = self.key.as_ref().filter(|key| !key.is_root()) {
            write!(f, "/{}", key.as_str().escape_debug())?;
        }
        write!(f, ": {}", self.failure)
    }
}

impl std::error::Error for UfsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_a_sentence() {
        let key = Key::parse("a/b").expect("a valid key");
        let error = UfsError::new(Verb::Read, "s3://bucket/base", Some(&key), Failure::NotFound);
        assert_eq!(error.to_string(), "cannot read s3://bucket/base/a/b: there is nothing there");
        let error = UfsError::new(
            Verb::Check,
            "file:///x",
            None,
            Failure::NoStore { words: "No such file or directory".into() },
        );
        assert_eq!(
            error.to_string(),
            "cannot check file:///x: the store does not exist or cannot be entered: No such file or directory; create it \
             or correct the address"
        );
    }
}
