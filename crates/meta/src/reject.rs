//! Why an entry changed nothing: an answer to the caller, not a failure of ours.

use types::{ErrorKind, GfsPath, IntentId, PathError, Right};

#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Reject {
    #[error("Path \"{0}\" does not exist.")]
    NotFound(GfsPath),
    #[error("Path \"{0}\" already exists.")]
    AlreadyExists(GfsPath),
    #[error("{user} may not {right} {path}; its owner, or a member of the supergroup, can change that")]
    Denied { user: String, right: Right, path: GfsPath },
    #[error("{user} may not change the {what} of {path}: only its owner (for mode and group) or a superuser can")]
    NotOwner { user: String, what: &'static str, path: GfsPath },
    #[error("{user} may not remove or rename {path}: the directory is sticky and belongs to somebody else")]
    Sticky { user: String, path: GfsPath },
    #[error("only a superuser may {what}; {user} is none")]
    NotSuperuser { user: String, what: &'static str },
    #[error("namespace {0} is read-only; change it with `goosefs ns update` or write elsewhere")]
    ReadOnly(GfsPath),
    #[error("directory {0} is not empty; pass the recursive option to remove what is in it")]
    NotEmpty(GfsPath),
    #[error("file {0} is incomplete: its writer has not closed it yet")]
    Incomplete(GfsPath),
    #[error("{0}: Is a directory")]
    IsDirectory(GfsPath),
    #[error("{0} is a file, so nothing can be below it")]
    ParentIsFile(GfsPath),
    #[error("cannot rename {from} to {to}: they are in different stores ({from_store} and {to_store}); copy instead")]
    AcrossStores { from: GfsPath, to: GfsPath, from_store: String, to_store: String },
    #[error("{path} cannot be {verb}: it is the root or the root of a namespace")]
    MountRoot { path: GfsPath, verb: &'static str },
    #[error("cannot rename {from} to {to}, which is inside it")]
    IntoItself { from: GfsPath, to: GfsPath },
    #[error("block size {0} is not positive; pass for example 67108864")]
    BlockSize(u64),
    #[error(
        "file {path} has {length} bytes in {blocks} blocks, more than a file id can number; use a larger block size"
    )]
    TooManyBlocks { path: GfsPath, length: u64, blocks: u64 },
    #[error("file {path} was completed with {was} bytes already and cannot become {length} bytes")]
    Length { path: GfsPath, was: u64, length: u64 },
    #[error("file {path} has {closed} bytes in the store but is completed with {length}; write it again")]
    StreamLength { path: GfsPath, closed: u64, length: u64 },
    #[error("{path} is complete already, so nothing can be written to it")]
    Complete { path: GfsPath },
    #[error("Busy: {path} is covered by an operation on the store that is still running ({intent}); try again")]
    Covered { path: GfsPath, intent: IntentId },
    #[error("Busy: {0}")]
    Busy(String),
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("{0}")]
    Invalid(String),
    /// A message of an older attempt, epoch, load or generation. Answers nobody: the sender has been replaced.
    #[error("stale: {0}")]
    Stale(String),
    #[error("{0}")]
    Refused(String),
    #[error("this cluster applies rules {0}, this release knows {1}; use the newer release")]
    Rules(u32, u32),
    #[error(
        "worker {0} is alive at another address or on other disks; stop one of the two, or clear its identity file"
    )]
    WorkerTwice(types::WorkerId),
    #[error("namespace \"{0}\" does not exist; `goosefs ns ls` lists those that do")]
    NoNamespace(String),
}

impl Reject {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Reject::NotFound(_) | Reject::NoNamespace(_) => ErrorKind::NotFound,
            Reject::AlreadyExists(_) => ErrorKind::AlreadyExists,
            Reject::Denied { .. }
            | Reject::NotOwner { .. }
            | Reject::Sticky { .. }
            | Reject::NotSuperuser { .. }
            | Reject::ReadOnly(_) => ErrorKind::Denied,
            Reject::NotEmpty(_)
            | Reject::Incomplete(_)
            | Reject::IsDirectory(_)
            | Reject::ParentIsFile(_)
            | Reject::AcrossStores { .. }
            | Reject::Length { .. }
            | Reject::StreamLength { .. }
            | Reject::Complete { .. }
            | Reject::Refused(_)
            | Reject::Rules(..)
            | Reject::WorkerTwice(_) => ErrorKind::Precondition,
            Reject::MountRoot { .. }
            | Reject::IntoItself { .. }
            | Reject::BlockSize(_)
            | Reject::TooManyBlocks { .. }
            | Reject::Path(_)
            | Reject::Invalid(_) => ErrorKind::Invalid,
            Reject::Covered { .. } | Reject::Busy(_) | Reject::Stale(_) => ErrorKind::Busy,
        }
    }
}
