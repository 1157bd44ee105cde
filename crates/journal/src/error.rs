//! What can go wrong with a log, as sentences an operator can act on.

use crate::MemberId;
use std::io;
use std::path::PathBuf;
use types::{ClusterId, ErrorKind, LogIndex};

/// Every failure of this crate. After one that [`Error::is_fatal`] the member must stop.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot {verb} {}", path.display())]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{} holds no journal; run `goosefs format` once on a new cluster, or restore the directory from a backup",
        dir.display()
    )]
    NotFormatted { dir: PathBuf },
    #[error("{} is not empty (it holds {found}); formatting would destroy it: choose an empty directory, or force it", dir.display())]
    NotEmpty { dir: PathBuf, found: String },
    #[error("{} is in use by another process; stop that master first, or choose another journal directory", dir.display())]
    Locked { dir: PathBuf },
    #[error("{} belongs to {found}, but this master serves {expected}; check the journal directory setting", path.display())]
    Foreign { path: PathBuf, found: ClusterId, expected: ClusterId },
    #[error("{} has format version {found}, this program knows versions up to {known}; start a newer program", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("{} is damaged: {detail}; restore this member from a healthy one or from a backup, do not delete the file", path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error(
        "journal segment {} is missing although later segments exist; put the file back, or restore this member from \
         a healthy one or from a backup",
        path.display()
    )]
    MissingSegment { path: PathBuf },
    #[error(
        "{} is damaged at byte {offset}: the batch from {lost} on is unreadable, yet {evidence}; cutting the log there \
         would lose what was promised, so nothing was changed. Restore this member from a healthy one or from a backup",
        path.display()
    )]
    CutRefused { path: PathBuf, offset: u64, lost: LogIndex, evidence: String },
    #[error(
        "the journal stopped after an earlier failure to write or sync; restart the member once the disk is healthy"
    )]
    Poisoned,
    #[error(
        "an entry of {bytes} bytes does not fit a journal segment of {segment_bytes} bytes; raise the segment size"
    )]
    TooBig { bytes: u64, segment_bytes: u64 },
    #[error("{index} was purged; the log begins at {first}")]
    Purged { index: LogIndex, first: LogIndex },
    #[error("{index} is beyond the end of the log, which is {last}")]
    Beyond { index: LogIndex, last: LogIndex },
    #[error("a batch that begins at {found} cannot follow a log that ends at {last} and is committed up to {commit}")]
    Gap { found: LogIndex, last: LogIndex, commit: LogIndex },
    #[error(
        "the metadata store stands at {applied}, but the journal begins at {first}: the entries between are gone; \
         restore the metadata store from a snapshot at or after {first}, or the journal from a backup"
    )]
    AppliedBelowLog { applied: LogIndex, first: LogIndex },
    #[error(
        "the metadata store has applied {applied}, but the journal ends at {last}: committed entries are missing from \
         the journal; this journal directory is older than the store: put the right one back, or restore both from a \
         backup"
    )]
    AppliedBeyondLog { applied: LogIndex, last: LogIndex },
    #[error("journal setting: {what}")]
    Config { what: String },
    #[error("message from a peer refused: {why}")]
    BadMessage { why: String },
    #[error(
        "{leader} says this member has stored entries up to {claimed}, but its journal ends at {last}: its disk lost \
         synced data; take the member out of the group and add it again with an empty directory"
    )]
    LostEntries { leader: MemberId, claimed: LogIndex, last: LogIndex },
    #[error("what is recorded of the group's members cannot be read: {why}")]
    BadMembership { why: String },
    #[error("the journal writer has stopped")]
    WriterStopped,
    #[error("the journal writer was given a batch while one was outstanding")]
    WriterBusy,
}

impl Error {
    pub(crate) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { verb, path, source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, detail: impl Into<String>) -> Error {
        Error::Damaged { path: path.into(), detail: detail.into() }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { source, .. } => io_kind(source),
            Error::NotFormatted { .. } => ErrorKind::NotFound,
            Error::NotEmpty { .. } => ErrorKind::AlreadyExists,
            Error::Locked { .. } | Error::WriterBusy => ErrorKind::Busy,
            Error::Foreign { .. } | Error::Newer { .. } => ErrorKind::Precondition,
            Error::Damaged { .. }
            | Error::MissingSegment { .. }
            | Error::CutRefused { .. }
            | Error::AppliedBelowLog { .. }
            | Error::AppliedBeyondLog { .. }
            | Error::LostEntries { .. }
            | Error::BadMembership { .. } => ErrorKind::Corrupt,
            Error::Poisoned | Error::WriterStopped => ErrorKind::Unavailable,
            Error::TooBig { .. } | Error::Config { .. } | Error::BadMessage { .. } => ErrorKind::Invalid,
            Error::Purged { .. } => ErrorKind::NotFound,
            Error::Beyond { .. } | Error::Gap { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the member must stop. Only a refused message, a setting or a busy inbox leave it healthy.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Error::BadMessage { .. } | Error::Config { .. } | Error::WriterBusy | Error::Purged { .. })
    }
}

fn io_kind(source: &io::Error) -> ErrorKind {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ErrorKind::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    }
}
