//! What the core asks of under stores, as data.

use meta::{Found, Renewed};
use types::{ErrorKind, Fingerprint, MountId, Name};

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct JobId(pub u64);

/// One piece of work at one store. Keys are relative to the mount; a directory's ends in `/` or is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Job {
    /// What stands at `key`, as a file or as a directory.
    Stat {
        mount: MountId,
        key: String,
    },
    /// What stands at `key`, with the directories above it.
    Chain {
        mount: MountId,
        key: String,
    },
    /// One page of a directory.
    List {
        mount: MountId,
        key: String,
        from: ListFrom,
        limit: usize,
    },
    DeleteFile {
        mount: MountId,
        key: String,
        fingerprint: Option<Fingerprint>,
    },
    DeleteTree {
        mount: MountId,
        key: String,
    },
    /// Copies (or renames) one object. Safe to repeat: a target that is there already with the source gone is success.
    MoveFile {
        mount: MountId,
        from: String,
        to: String,
        fingerprint: Option<Fingerprint>,
    },
    /// `again`: an earlier attempt may have moved it.
    MoveTree {
        mount: MountId,
        from: String,
        to: String,
        again: bool,
    },
    MakeDirectory {
        mount: MountId,
        key: String,
    },
}

/// Where a page of a directory begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListFrom {
    Start,
    /// Where the page before ended.
    Page(ufs::PageToken),
    /// Behind this entry, as it was remembered when the page before was taken in.
    Entry {
        name: Name,
        directory: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobOk {
    Found(Option<Found>),
    /// From the mount's root down; empty when the key is missing.
    Chain(Vec<Found>),
    Page {
        items: Vec<Found>,
        next: Option<ufs::PageToken>,
        skipped: ufs::Skipped,
    },
    /// The new version of the object moved, where there is one.
    Done(Option<Fingerprint>),
    /// As `Done`, by a copy: the source is still there.
    Copied(Option<Fingerprint>),
    /// As `Copied` for a tree: objects whose copy has a version of its own.
    CopiedTree(Vec<Renewed>),
}

/// The store's answer when it is no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobError {
    pub kind: ErrorKind,
    /// The whole sentence, the store's own words in it.
    pub message: String,
}

impl JobError {
    /// Whether asking again later can help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::Busy
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Internal
            | ErrorKind::Corrupt => true,
            ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Denied
            | ErrorKind::Precondition
            | ErrorKind::Unauthenticated
            | ErrorKind::Full
            | ErrorKind::Unimplemented => false,
        }
    }
}

impl From<JobError> for crate::error::Error {
    fn from(err: JobError) -> crate::error::Error {
        // A store that says no is a precondition of ours (CONTRACTS "Status codes").
        let kind = match err.kind {
            ErrorKind::Denied | ErrorKind::Unauthenticated | ErrorKind::NotFound => ErrorKind::Precondition,
            kind => kind,
        };
        crate::error::Error::UnderStore { kind, message: err.message }
    }
}
