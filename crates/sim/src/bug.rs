//! Bugs planted at the seams, to show that the judges see them.
//!
//! Each is a faulty adapter between two parts of the product. The product itself has no switch: nothing to compile in,
//! nothing to turn on. `docs/design/0009-simulation.md` says why.

/// What is wrong with this cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Bug {
    /// The log's writer says that a batch is safe when it has only been written.
    AckBeforeFsync,
    /// The log does not keep whom a member voted for.
    VoteForgotten,
    /// The database says that it has applied less than it holds: the tail is applied once more.
    AppliedTwice,
    /// Readers ask for the time once per turn: a leader that slept takes its lease for valid.
    StaleLease,
    /// The database drops what it should remember about operation ids.
    OperationForgotten,
    /// The log is cut when a flush is asked for, not when it has been done.
    LogCutEarly,
    /// A master that starts does not see the open intents.
    IntentForgotten,
    /// The database does not keep what makes a late answer of a store stale.
    LoadResurrects,
    /// A tree is said to be deleted before the store has deleted it.
    CollectorLate,
    /// A read of the database sometimes gives what was there before the last commit, and the cache keeps it.
    OldCache,
    /// A checkpoint for another master lacks its last file.
    SnapshotShort,
    /// A master whose disks were lost comes back with empty ones and votes under the id it had.
    OldId,
    /// Workers say nothing to masters that came later.
    NewcomerUntold,
    /// A worker reports blocks that left it once more.
    LocationResurrected,
    /// Workers read from the store what stood at a place before, whatever version they ask for.
    OldBlock,
}

impl Bug {
    /// Whether only a group whose members change can show it.
    pub fn needs_changes(self) -> bool {
        matches!(self, Bug::SnapshotShort | Bug::OldId | Bug::NewcomerUntold)
    }

    /// Whether only workers can show it.
    pub fn needs_workers(self) -> bool {
        matches!(self, Bug::NewcomerUntold | Bug::LocationResurrected | Bug::OldBlock)
    }

    pub const ALL: [Bug; 15] = [
        Bug::AckBeforeFsync,
        Bug::VoteForgotten,
        Bug::AppliedTwice,
        Bug::StaleLease,
        Bug::OperationForgotten,
        Bug::LogCutEarly,
        Bug::IntentForgotten,
        Bug::LoadResurrects,
        Bug::CollectorLate,
        Bug::OldCache,
        Bug::SnapshotShort,
        Bug::OldId,
        Bug::NewcomerUntold,
        Bug::LocationResurrected,
        Bug::OldBlock,
    ];
}
