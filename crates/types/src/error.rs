//! What a caller can do about a failure.

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
