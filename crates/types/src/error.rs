//! What a caller can do about a failure, and how it is told.

/// What a caller can do about a failure: the only thing retries and gateways look at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// The request is malformed or breaks a rule; change it.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The principal lacks the right, or the namespace is read-only.
    Denied,
    /// The state forbids it: directory not empty, file incomplete, parent is a file, rename across stores.
    Precondition,
    /// Who asks is unknown: authenticate again.
    Unauthenticated,
    /// A tier, quota or limit is full; free space or raise it.
    Full,
    /// Alive but loaded: the same node, later.
    Busy,
    /// Unreachable, starting, or no longer the leader: another node, now.
    Unavailable,
    /// Outcome UNKNOWN: again only with the same operation id.
    Timeout,
    /// Checksum or format is wrong: another replica, then an operator.
    Corrupt,
    /// Declared by the contract, served by nobody yet.
    Unimplemented,
    /// Our bug.
    Internal,
}

impl ErrorKind {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Timeout)
    }
}

/// An error with its causes as one sentence. A cause whose words stand there already is not said twice.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// What to do when a file system refuses a path that somebody chose: the end of a sentence.
pub fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::PermissionDenied => "give this user the right to it, or choose a directory you may write to",
        Io::NotADirectory | Io::AlreadyExists | Io::IsADirectory => {
            "something else stands where a directory or file of ours must be: move it away, or choose another directory"
        }
        Io::ReadOnlyFilesystem => "make the disk writable, or choose a directory you may write to",
        Io::StorageFull | Io::QuotaExceeded => "free space there, or choose another directory",
        _ => "look at the disk, or choose a directory you may write to",
    }
}
