//! Turns what the operating system and RocksDB say into [`StoreError`]s: what failed, on which object, why, what to do.

use meta::StoreError;
use std::fmt::Display;
use std::io;
use std::path::Path;
use types::ErrorKind;

const ADVICE_FULL: &str = "; free space on that disk";
const ADVICE_DENIED: &str = "; give the user that runs the master read and write permission there";
const ADVICE_DAMAGED: &str = "; restore the database from a backup or a checkpoint";

/// `what` says verb and object without a full stop; `source` and an advice are added.
pub(crate) fn from_io(what: impl Display, source: &io::Error) -> StoreError {
    let (kind, advice) = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (ErrorKind::Full, ADVICE_FULL),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (ErrorKind::Denied, ADVICE_DENIED),
        io::ErrorKind::NotFound => (ErrorKind::NotFound, ""),
        io::ErrorKind::AlreadyExists => (ErrorKind::AlreadyExists, ""),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => (ErrorKind::Corrupt, ADVICE_DAMAGED),
        _ => (ErrorKind::Unavailable, ""),
    };
    StoreError { what: format!("{what}: {source}{advice}"), kind }
}

/// As [`from_io`], for RocksDB, whose errors are a status word and a sentence.
pub(crate) fn from_rocks(what: impl Display, source: &rocksdb::Error) -> StoreError {
    use rocksdb::ErrorKind as Rocks;
    let words: &str = source.as_ref();
    let (kind, advice) = match source.kind() {
        _ if words.contains("No space left on device") || words.contains("Disk quota exceeded") => {
            (ErrorKind::Full, ADVICE_FULL)
        }
        _ if words.contains("Permission denied") || words.contains("Read-only file system") => {
            (ErrorKind::Denied, ADVICE_DENIED)
        }
        Rocks::Corruption => (ErrorKind::Corrupt, ADVICE_DAMAGED),
        Rocks::IOError
        | Rocks::Busy
        | Rocks::TryAgain
        | Rocks::TimedOut
        | Rocks::Aborted
        | Rocks::Incomplete
        | Rocks::ShutdownInProgress => (ErrorKind::Unavailable, ""),
        Rocks::NotFound
        | Rocks::NotSupported
        | Rocks::InvalidArgument
        | Rocks::MergeInProgress
        | Rocks::Expired
        | Rocks::CompactionTooLarge
        | Rocks::ColumnFamilyDropped
        | Rocks::Unknown => (ErrorKind::Internal, ""),
    };
    StoreError { what: format!("{what}: {words}{advice}"), kind }
}

/// A file of the database that cannot be what was written.
pub(crate) fn damaged(what: impl Display) -> StoreError {
    StoreError { what: format!("{what}{ADVICE_DAMAGED}"), kind: ErrorKind::Corrupt }
}

/// Refuses a database directory that is not there.
pub(crate) fn check_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let what = format!(
        "cannot open the metadata database at {}: there is no such directory; run `goosefs format` or correct \
         goosefs.master.metastore.dir",
        dir.display()
    );
    Err(StoreError { what, kind: ErrorKind::NotFound })
}

/// A database directory that another process has locked.
pub(crate) fn in_use(dir: &Path) -> StoreError {
    let what = format!(
        "cannot open the metadata database at {}: another process holds its lock; stop that master, or give this one \
         its own directory",
        dir.display()
    );
    StoreError { what, kind: ErrorKind::Busy }
}
