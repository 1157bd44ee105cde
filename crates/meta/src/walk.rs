//! From a path to inodes and to the store's key.

use crate::permission::Caller;
use crate::record::{Inode, Mount};
use crate::reject::Reject;
use crate::store::{Read, StoreError};
use types::{GfsPath, InodeId, MountId, Name};

/// One inode on the way down a path, with what the levels above it say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spot {
    pub inode: Inode,
    /// Where its edge stands; `/` stands under inode 0 with an empty name and has no name of its own.
    pub parent: InodeId,
    pub name: Option<Name>,
    pub path: GfsPath,
    /// The mount it lies in, and its key there, without a leading slash; a directory's ends in `/` unless it is the
    /// mount's root, whose key is empty.
    pub mount: MountId,
    pub key: String,
}

/// How far a path leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Every inode from `/` down to the last that exists. Never empty in a formatted store.
    pub spots: Vec<Spot>,
    /// The names that are missing, in order; empty when the path exists.
    pub missing: Vec<Name>,
    pub mount: Mount,
}

/// Walks `path`. The caller needs execute on every directory passed. A file in the middle of the path is
/// `Reject::ParentIsFile`. Cost: one point lookup per level, and one for the mount.
pub fn resolve(read: &dyn Read, who: &Caller, path: &GfsPath) -> Result<Result<Resolved, Reject>, StoreError> {
    let _ = (read, who, path);
    unreachable!("written with the operations")
}
