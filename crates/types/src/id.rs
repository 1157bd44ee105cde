//! Ids and fences. Each is a type of its own, so that a block is never taken for an inode.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($raw:ty) $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        pub struct $name(pub $raw);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!($prefix, "{}"), self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
    )*};
}

ids! {
    /// An inode, stable for its life: attributes, renames and pins hang on it. Internal, never on the official wire.
    InodeId(u64) "inode-";
    /// One generation of one file (or a directory's wire identity). Stamped by the leader, never reused; fits 40 bits.
    ContainerId(u64) "container-";
    /// A worker, stable over restarts of worker and master; kept on the worker's disk and in the log. Fits 62 bits.
    WorkerId(u64) "worker-";
    /// One registration of a worker. A message of an older epoch is refused.
    SessionEpoch(u64) "epoch-";
    /// One mounted under store.
    MountId(u64) "mount-";
    /// One announced mutation of an under store.
    IntentId(u64) "intent-";
    /// One load session of a directory.
    LoadId(u64) "load-";
    /// The n-th try at an intent or a persist; older tries are refused.
    Attempt(u32) "attempt-";
    /// A Raft term.
    Term(u64) "term-";
    /// A position in the replicated log.
    LogIndex(u64) "log-";
    /// How often the cluster was restored by force; ids of different incarnations never mix.
    Incarnation(u64) "incarnation-";
    /// A storage directory within one worker.
    DirIndex(u16) "dir-";
    /// A tier of a worker, 0 the fastest.
    Ordinal(u8) "tier-";
}

/// One cluster; random, made by `format`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// Names one mutation across retries; chosen by the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OperationId(pub u128);

impl OperationId {
    /// Of one mutation among many that were sent together under this id: the same whether it goes with them or alone.
    pub fn of_item(self, number: u32) -> OperationId {
        OperationId(self.0.wrapping_add(u128::from(number)))
    }
}

macro_rules! hex_id {
    ($($name:ident $prefix:literal),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!($prefix, "{:032x}"), self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
    )*};
}
hex_id!(ClusterId "cluster-", OperationId "op-");

/// Bits of a wire id below the container.
const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// Highest container a wire id can carry (40 bits).
pub(crate) const MAX_CONTAINER: u64 = (1 << 39) - 1;

impl ContainerId {
    /// Largest usable container: wire ids stay positive.
    pub const MAX: ContainerId = ContainerId(MAX_CONTAINER);

    /// The wire id of the file or directory that owns this container.
    pub fn file(self) -> FileId {
        FileId(self.0 << INDEX_BITS | INDEX_MASK)
    }

    /// The `index`-th block, counted from 0. None past 2²⁴ − 2 (that number is the file itself).
    pub fn block(self, index: u64) -> Option<BlockId> {
        (index < INDEX_MASK).then_some(BlockId(self.0 << INDEX_BITS | index))
    }
}

/// What the official wire calls a file id: `container << 24 | 0xFFFFFF`. Positive, unique, kept across renames,
/// new when the content is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId(u64);

impl FileId {
    /// From the wire. Any low bits are accepted: the container decides. None for ids that are not positive.
    pub fn from_wire(raw: i64) -> Option<FileId> {
        let raw = u64::try_from(raw).ok()?;
        (raw >> INDEX_BITS > 0).then_some(FileId(raw | INDEX_MASK))
    }
    pub fn to_wire(self) -> i64 {
        self.0.cast_signed()
    }
    pub fn container(self) -> ContainerId {
        ContainerId(self.0 >> INDEX_BITS)
    }
}

/// A cached block: `container << 24 | index`. Unique in the cluster, never reused, safe to log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockId(u64);

impl BlockId {
    /// From the wire. None unless positive and below a container.
    pub fn from_wire(raw: i64) -> Option<BlockId> {
        let raw = u64::try_from(raw).ok()?;
        (raw >> INDEX_BITS > 0).then_some(BlockId(raw))
    }
    pub fn to_wire(self) -> i64 {
        self.0.cast_signed()
    }
    pub fn container(self) -> ContainerId {
        ContainerId(self.0 >> INDEX_BITS)
    }
    /// Position within the file, counted from 0.
    pub fn index(self) -> u64 {
        self.0 & INDEX_MASK
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file-{}", self.0)
    }
}
impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blk-{}", self.0)
    }
}
impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_ids_follow_the_formula_of_the_wire() {
        let file = ContainerId(5092).file();
        assert_eq!(file.to_wire(), 5092 << 24 | 0xFF_FFFF);
        let block = ContainerId(5092).block(3).expect("a small index");
        assert_eq!(block.to_wire(), ((file.to_wire() >> 24) & ((1 << 40) - 1)) << 24 | 3);
        assert_eq!((block.container(), block.index()), (ContainerId(5092), 3));
    }

    #[test]
    fn ids_that_cannot_be_are_refused() {
        assert_eq!(BlockId::from_wire(-1), None);
        assert_eq!(BlockId::from_wire(0xFF_FFFF), None, "container 0 is never given out");
        assert_eq!(FileId::from_wire(0), None);
        assert_eq!(ContainerId(1).block(0xFF_FFFF), None);
        assert!(ContainerId::MAX.file().to_wire() > 0);
    }
}
