//! What an applied entry answers, and what it asks of the world.

use crate::reject::Reject;
use types::{ContainerId, InodeId, IntentId, LoadId, MountId, SessionEpoch, WorkerId};

/// Work for the outside world, as data: a test compares it, the leader alone carries it out. Each may run twice or be
/// lost in a failover; what must not be lost stays in the state until a later entry confirms it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// No file owns this container any more: its blocks can go.
    FreeContainer(ContainerId),
    /// The blocks of this container are in the store now and may be evicted.
    Evictable(ContainerId),
    /// An intent was opened.
    OpenedIntent(IntentId),
    /// An intent was closed: whoever waited for it can go on.
    ClosedIntent(IntentId),
    /// A directory waits to be collected.
    Collect(InodeId),
    /// A persist was scheduled or may run again.
    Persist(ContainerId),
    /// A persist was cancelled: abort what is in flight.
    CancelPersist(ContainerId),
    /// The set of mounted stores or their settings changed.
    MountsChanged,
}

/// What an accepted entry did, for its caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    Nothing,
    Inode(InodeId),
    /// The outcome is decided when this intent closes.
    Pending(IntentId),
    /// `freed` inodes went; `more`: entries are left in this directory. Directories it held are announced by
    /// [`Effect::Collect`].
    Collected {
        freed: u32,
        more: bool,
    },
    Load(LoadId),
    Worker {
        id: WorkerId,
        epoch: SessionEpoch,
    },
    Mount(MountId),
    /// What became of each item of a batch, in order.
    Batch(Vec<Result<Done, Reject>>),
}

/// The outcome of one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    pub outcome: Result<Done, Reject>,
    pub effects: Vec<Effect>,
}
