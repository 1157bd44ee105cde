//! Why a request got no result.

use meta::{Reject, StoreError};
use types::ErrorKind;

/// An answer other than a result. The sentence is for the caller.
#[derive(thiserror::Error, Clone, Debug)]
pub enum Error {
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error(transparent)]
    Database(#[from] StoreError),
    /// The under store's own words, with what was asked of it.
    #[error("{message}")]
    UnderStore { kind: ErrorKind, message: String },
    #[error("this master does not lead; ask another one")]
    NotLeader,
    #[error("this master is starting: {0}; try again shortly")]
    Starting(&'static str),
    #[error("this master has {0} requests waiting, as many as it takes; try again")]
    Overloaded(usize),
    #[error("this waited {0:?} for its turn and was not begun: more is asked of this master than it can do; try again")]
    Late(std::time::Duration),
    #[error(
        "the metadata database of this master does not keep up with compacting its files and takes no changes for now; reads \
         go on; try again, and see Master.RocksLevel0Files and the disk of goosefs.master.metastore.dir if it lasts"
    )]
    Behind,
    #[error("no outcome within {0:?}: it is unknown; repeat with the same operation id")]
    Timeout(std::time::Duration),
    #[error("this master is stopping; ask another one")]
    Stopping,
    #[error("what is above it was just moved in its store; try again")]
    Moved,
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NotFound(String),
    /// Not before every master of the group can take part.
    #[error("{0}")]
    NotYet(String),
    /// Why the master cannot start: what, where, and what to do.
    #[error("{0}")]
    Start(String),
}

impl Error {
    /// Whether it is this master's trouble rather than an answer about what was asked: of many things asked together, all
    /// are better asked again.
    pub fn is_of_this_master(&self) -> bool {
        match self {
            Error::Database(_)
            | Error::NotLeader
            | Error::Starting(_)
            | Error::Overloaded(_)
            | Error::Late(_)
            | Error::Behind
            | Error::Timeout(_)
            | Error::Stopping
            | Error::NotYet(_)
            | Error::Start(_) => true,
            Error::Rejected(_)
            | Error::UnderStore { .. }
            | Error::Moved
            | Error::Invalid(_)
            | Error::Unauthenticated(_)
            | Error::Refused(_)
            | Error::NotFound(_) => false,
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Rejected(reject) => reject.kind(),
            Error::Database(err) => err.kind,
            Error::UnderStore { kind, .. } => *kind,
            Error::NotLeader | Error::Starting(_) | Error::Stopping => ErrorKind::Unavailable,
            Error::Overloaded(_) | Error::Late(_) | Error::Moved | Error::Behind => ErrorKind::Busy,
            Error::Timeout(_) => ErrorKind::Timeout,
            Error::Invalid(_) => ErrorKind::Invalid,
            Error::Unauthenticated(_) => ErrorKind::Unauthenticated,
            Error::Refused(_) => ErrorKind::Precondition,
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::NotYet(_) => ErrorKind::Unimplemented,
            Error::Start(_) => ErrorKind::Internal,
        }
    }
}

impl From<proto::convert::WireError> for Error {
    fn from(err: proto::convert::WireError) -> Error {
        Error::Invalid(err.to_string())
    }
}

impl From<Error> for tonic::Status {
    fn from(err: Error) -> tonic::Status {
        rpc::status(err.kind(), err.to_string())
    }
}
