//! What a store can do.

/// How finely a store keeps modification times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    Nanosecond,
    Millisecond,
    Second,
}

/// What a store can do; where it cannot, the caller takes another way or does without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Moves a file or a whole directory in one step. Without it a rename is copy and delete, object by object.
    pub rename: bool,
    /// Adds to the end of an object. No store of ours offers it yet.
    pub append: bool,
    /// How finely [`crate::ObjectInfo::mtime_ns`] is kept.
    pub mtime_precision: Precision,
    /// Fingerprints are entity tags made from the content. Otherwise they are time and length, which two versions
    /// written in one tick of the clock could share.
    pub etags: bool,
    /// The store can keep old versions of an object. We neither read nor remove them.
    pub versions: bool,
    /// The store itself compares the fingerprint when a read begins. Otherwise the answer is compared here.
    pub conditional_read: bool,
    /// The store itself checks a [`crate::Condition`] when a write becomes visible. Otherwise a look just before does:
    /// somebody who writes in between is overwritten.
    pub conditional_write: bool,
    /// The store itself compares the fingerprint of what it deletes. Otherwise a look just before does.
    pub conditional_delete: bool,
    /// Objects have an owner, a group and permission bits of their own, and [`crate::UnderStore::set_attributes`] works.
    pub modes: bool,
    /// Directories exist by themselves. Otherwise they are prefixes, made visible by marker objects.
    pub directories: bool,
}
