//! From the operating system's errors to ours.

use crate::error::Failure;
use std::io::{self, ErrorKind};

/// The system's words without the number behind them.
pub(super) fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

pub(super) fn failure_of(error: &io::Error) -> Failure {
    let words = words_of(error);
    match error.kind() {
        ErrorKind::NotFound => Failure::NotFound,
        ErrorKind::AlreadyExists => Failure::AlreadyExists,
        ErrorKind::IsADirectory => Failure::IsDirectory,
        ErrorKind::NotADirectory => Failure::NotDirectory,
        ErrorKind::DirectoryNotEmpty => Failure::NotEmpty,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Failure::Refused { words },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Failure::Full { words },
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => Failure::BadRequest { words },
        ErrorKind::CrossesDevices => Failure::Unsupported {
            words: "the target lies on another file system than the base; mount that one as a store of its own".into(),
        },
        ErrorKind::ResourceBusy | ErrorKind::WouldBlock => Failure::Busy { words },
        // EIO, ESTALE, too many open files and the like: the device or the machine, not the request.
        _ => Failure::Unreachable { words },
    }
}
