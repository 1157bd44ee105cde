//! The one refusal of this crate.

use crate::tiers::Class;
use types::{BlockId, DirIndex, ErrorKind, Ordinal};

/// No room: what was asked, where, and what to do. The state is unchanged.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Full {
    /// What may go is not enough.
    #[error(
        "no room for {need_bytes} bytes of {block}: {tier} has {free_bytes} bytes free, {evictable_bytes} more can \
             be evicted, the rest is unpersisted, pinned, being written or being read; free files or raise the \
             quota of its directories"
    )]
    NoRoom { block: BlockId, need_bytes: u64, tier: Ordinal, free_bytes: u64, evictable_bytes: u64 },
    /// The part that is kept for the read cache would be cut.
    #[error(
        "no room for {need_bytes} bytes of {block}: blocks that must stay already take {kept_bytes} of \
             {limit_bytes} bytes, and the rest is the read cache's minimum share; let persisting catch up, free \
             files, or lower goosefs.worker.read.cache.min.ratio"
    )]
    ReadShare { block: BlockId, need_bytes: u64, kept_bytes: u64, limit_bytes: u64 },
    /// Only volatile directories are left, and the bytes would exist nowhere else.
    #[error(
        "{block} exists nowhere else yet and only MEM directories are left, which a restart of the machine \
             empties; add an SSD or HDD directory, or allow unpersisted blocks on volatile tiers"
    )]
    OnlyVolatile { block: BlockId },
    /// The directory that holds the block takes no more.
    #[error("{dir}, which holds {block}, takes no more bytes: {why}; free space there, or repair and restart")]
    Shut { block: BlockId, dir: DirIndex, why: String },
    /// Every directory was taken out.
    #[error("no storage directory works any more, so {block} cannot be stored; see the worker's directory report")]
    NoDirectory { block: BlockId },
    /// No block of this name is here (any more).
    #[error("{block} is not here any more: it was freed, or its directory was lost")]
    Gone { block: BlockId },
    /// Two streams write one block.
    #[error("{block} is here already, as {class:?}; block ids are never written twice")]
    Exists { block: BlockId, class: Class },
}

impl Full {
    /// What a caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Full::NoRoom { .. } | Full::ReadShare { .. } | Full::OnlyVolatile { .. } | Full::Shut { .. } => {
                ErrorKind::Full
            }
            Full::NoDirectory { .. } => ErrorKind::Unavailable,
            Full::Gone { .. } => ErrorKind::NotFound,
            Full::Exists { .. } => ErrorKind::AlreadyExists,
        }
    }
}
