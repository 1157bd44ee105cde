//! The one error of this crate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tier::Full;
use types::{BlockId, ContainerId, ErrorKind};
use ufs::UfsError;

/// What went wrong in a worker, as a sentence: what, on which object, why, and what to do. Cheap to clone, because one
/// failure of a fetch is told to everybody who waited for it.
#[derive(thiserror::Error, Clone, Debug)]
pub enum WorkerError {
    #[error(transparent)]
    Full(#[from] Full),
    #[error("{verb} {}: {source}", path.display())]
    Disk { verb: &'static str, path: PathBuf, source: Arc<io::Error> },
    #[error("the file system of {} is full, below the quota configured for it: {source}; free space or lower the quota", path.display())]
    DiskFull { path: PathBuf, source: Arc<io::Error> },
    /// A directory that cannot be used at all; the worker does not start.
    #[error("{why}")]
    Layout { why: String },
    #[error(
        "{block} is damaged at byte {offset} of its copy here and exists nowhere else; restore the file from elsewhere or delete it"
    )]
    Damaged { block: BlockId, offset: u64 },
    #[error("{block} is not on this worker and has no copy in an under store that it could be read from")]
    NotHere { block: BlockId },
    #[error("{container} is incomplete: its writer has not closed it yet; read it after the close")]
    Incomplete { container: ContainerId },
    #[error("{block} changed in its under store while it was read; look the file up again")]
    Superseded { block: BlockId },
    #[error("read {block} from its under store")]
    Store { block: BlockId, source: UfsError },
    #[error("write {key:?} to its under store")]
    StoreWrite { key: String, source: UfsError },
    #[error("open the under store of mount-{mount}")]
    StoreOpen { mount: u64, source: UfsError },
    /// The master's answer, in its words.
    #[error("{verb}: {words}")]
    Master { verb: &'static str, kind: ErrorKind, words: String },
    #[error("{verb}: no master answers ({words}); wait, or check that a master runs and that its address is right")]
    NoMaster { verb: &'static str, words: String },
    #[error("{0}")]
    Invalid(String),
    /// The state of the object forbids it; the sentence says which.
    #[error("{0}")]
    Refused(String),
    #[error("the client gave up {what}")]
    Cancelled { what: String },
    #[error("this worker stops; use another one")]
    Stopping,
    #[error("too many {what} at once ({limit}); try again, or raise the limit")]
    Busy { what: &'static str, limit: usize },
    #[error("{0}: this is a bug of the worker, please report it")]
    Bug(String),
}

impl WorkerError {
    /// What a caller can do. Exhaustive on purpose: a new variant has to decide.
    pub fn kind(&self) -> ErrorKind {
        match self {
            WorkerError::Full(full) => full.kind(),
            WorkerError::DiskFull { .. } => ErrorKind::Full,
            WorkerError::Disk { .. } => ErrorKind::Unavailable,
            WorkerError::Layout { .. } => ErrorKind::Precondition,
            WorkerError::Damaged { .. } => ErrorKind::Corrupt,
            WorkerError::NotHere { .. } | WorkerError::Bug(_) => ErrorKind::Internal,
            WorkerError::Incomplete { .. } | WorkerError::Refused(_) => ErrorKind::Precondition,
            WorkerError::Superseded { .. } => ErrorKind::Unavailable,
            WorkerError::Store { source, .. }
            | WorkerError::StoreWrite { source, .. }
            | WorkerError::StoreOpen { source, .. } => source.kind(),
            WorkerError::Master { kind, .. } => *kind,
            WorkerError::NoMaster { .. } | WorkerError::Stopping => ErrorKind::Unavailable,
            WorkerError::Invalid(_) => ErrorKind::Invalid,
            WorkerError::Cancelled { .. } => ErrorKind::Timeout,
            WorkerError::Busy { .. } => ErrorKind::Busy,
        }
    }

    /// Whether a master or another worker was away, busy, or had moved on: it passes with them, and says nothing of a store.
    pub(crate) fn is_of_the_cluster(&self) -> bool {
        match self {
            WorkerError::Master { kind, .. } => kind.is_transient(),
            WorkerError::NoMaster { .. }
            | WorkerError::NotHere { .. }
            | WorkerError::Cancelled { .. }
            | WorkerError::Stopping
            | WorkerError::Busy { .. } => true,
            WorkerError::Full(_)
            | WorkerError::Disk { .. }
            | WorkerError::DiskFull { .. }
            | WorkerError::Layout { .. }
            | WorkerError::Damaged { .. }
            | WorkerError::Incomplete { .. }
            | WorkerError::Superseded { .. }
            | WorkerError::Store { .. }
            | WorkerError::StoreWrite { .. }
            | WorkerError::StoreOpen { .. }
            | WorkerError::Invalid(_)
            | WorkerError::Refused(_)
            | WorkerError::Bug(_) => false,
        }
    }

    /// A disk's answer about a path: a full disk is told apart.
    pub(crate) fn disk(verb: &'static str, path: &Path, source: io::Error) -> WorkerError {
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let (path, source) = (path.to_owned(), Arc::new(source));
        if full { WorkerError::DiskFull { path, source } } else { WorkerError::Disk { verb, path, source } }
    }

    /// The sentence with its causes, for answers and logs.
    pub fn sentence(&self) -> String {
        types::sentence(self)
    }
}
