//! What a caller of this crate can be told.

use types::{ErrorKind, PathError};

/// Why something did not happen. `Display` is one sentence; what a server said stands in it word for word.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// A server answered no.
    #[error("cannot {verb} {subject}: {message}")]
    Refused { verb: &'static str, subject: String, kind: ErrorKind, message: String },
    /// A server answered something that is not a proper answer.
    #[error("cannot {verb} {subject}: the answer cannot be used: {what}")]
    Message { verb: &'static str, subject: String, what: String },
    #[error(
        "no master can be reached at {masters} ({why}); check that one is running, and goosefs.master.rpc.addresses"
    )]
    NoMaster { masters: String, why: String },
    #[error("cannot reach worker {address} to {verb} {subject}: {why}")]
    Worker { verb: &'static str, subject: String, address: String, why: String },
    #[error("cannot {verb} {subject}: no worker is live; start one, or look at fsadmin report")]
    NoWorker { verb: &'static str, subject: String },
    #[error(
        "cannot write {path} with ASYNC_THROUGH: {found} workers have room for it, {needed} are needed; \
         add workers or lower goosefs.user.file.replication.durable.min"
    )]
    TooFewWorkers { path: String, found: usize, needed: usize },
    #[error("cannot {verb} {subject} within {seconds} s{}; the outcome is unknown", said(.last))]
    Timeout { verb: &'static str, subject: String, seconds: u64, last: Option<String> },
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("cannot {verb} {path}: it is a directory")]
    IsDirectory { verb: &'static str, path: String },
    #[error("cannot {verb} {path}: it is incomplete, its writer has not closed it")]
    Incomplete { verb: &'static str, path: String },
    #[error("cannot read {path} at {offset}: it has {length} bytes")]
    OutOfRange { path: String, offset: u64, length: u64 },
    #[error(
        "{path} is damaged: block {block} ended after {got} of {expected} bytes; read it again, then look at the worker's log"
    )]
    Short { path: String, block: String, got: u64, expected: u64 },
    #[error("cannot write {path}: its write was given up before; create it again")]
    WriterBroken { path: String },
    #[error("cannot write {path} with {write_type}: it lies in no under store; choose a type that caches")]
    NoStore { path: String, write_type: &'static str },
}

fn said(error: &Option<String>) -> String {
    error.as_ref().map_or(String::new(), |error| format!(" (last answer: {error})"))
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Refused { kind, .. } => *kind,
            Error::Message { .. } => ErrorKind::Internal,
            Error::NoMaster { .. } | Error::Worker { .. } | Error::NoWorker { .. } => ErrorKind::Unavailable,
            Error::TooFewWorkers { .. } => ErrorKind::Full,
            Error::Timeout { .. } => ErrorKind::Timeout,
            Error::Path(_) | Error::OutOfRange { .. } => ErrorKind::Invalid,
            Error::IsDirectory { .. } | Error::Incomplete { .. } | Error::NoStore { .. } => ErrorKind::Precondition,
            Error::Short { .. } => ErrorKind::Corrupt,
            Error::WriterBroken { .. } => ErrorKind::Precondition,
        }
    }

    pub(crate) fn refused(verb: &'static str, subject: impl Into<String>, status: &tonic::Status) -> Error {
        let (kind, message) = (crate::link::kind_of(status), status.message());
        let message = if message.is_empty() { format!("{:?}", status.code()) } else { message.to_owned() };
        // Of a connection that broke only the innermost cause says how.
        let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
        let message = causes.last().map_or_else(|| message.clone(), |cause| format!("{message}: {cause}"));
        Error::Refused { verb, subject: subject.into(), kind, message }
    }
}
