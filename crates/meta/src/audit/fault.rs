//! What can be wrong with the records, one kind each.

use crate::record::Parent;
use crate::store::Family;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};
use types::{AgeMs, ContainerId, InodeId, IntentId, LogIndex, MountId, Name, OperationId};

/// Where an edge stands. No name: that of `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Place {
    pub parent: InodeId,
    pub name: Option<Name>,
}

impl From<Parent> for Place {
    fn from(parent: Parent) -> Place {
        Place { parent: parent.parent, name: Some(parent.name) }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{:?} in {}", name.as_str(), self.parent),
            None => f.write_str("/"),
        }
    }
}

/// One inconsistency. Variants are numbered by their order, only ever added at the end: those that can be repaired stand in
/// the log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Fault {
    /// A record, or its key, that cannot be read.
    Unreadable { family: Family, key: Vec<u8>, why: String },
    /// There is no `/`, or another inode stands for it.
    RootMissing,
    /// An inode whose place is not recorded.
    PlaceMissing { inode: InodeId, place: Place },
    /// An inode whose record of its place names one where it does not stand.
    PlaceWrong { inode: InodeId, place: Place },
    /// An inode stands here, too, though its place says elsewhere and it stands there.
    TwoEdges { inode: InodeId, place: Place },
    /// A place where its inode does not stand, of an inode that stands nowhere.
    PlaceWithoutEdge { inode: InodeId },
    /// No record says that the inode here owns its container; at most one that names an inode without it.
    ContainerMissing { container: ContainerId, place: Place },
    /// The container of this inode belongs to another one. `only_cached`: a file whose content is in no store, so nobody knows
    /// whose content it is.
    ContainerShared { container: ContainerId, place: Place, only_cached: bool },
    /// A container whose owner is not there, or has another one.
    ContainerWithoutInode { container: ContainerId },
    /// A directory counts another number of entries than it has. `removed_at`: of the directory when it was counted.
    Miscounted { directory: InodeId, says: u64, counted: u64, removed_at: LogIndex },
    /// Entries of a directory that is neither there nor waits to be collected.
    Orphans { directory: InodeId },
    /// Entries of a file.
    BelowFile { file: InodeId },
    /// A directory that lies below itself; of those on the way round the one with the lowest id.
    Loop { directory: InodeId },
    /// A file that is being written and missing in the index of those, so that it would never expire.
    IncompleteMissing { place: Place },
    /// An entry in the index of files being written that stands for none.
    IncompleteStale { opened: AgeMs, container: ContainerId },
    /// A file on its way to its store that nobody would bring there.
    PersistMissing { place: Place },
    /// A persist of what is no file on its way to its store.
    PersistStale { container: ContainerId },
    /// A directory that stands in the tree and waits to be collected.
    DetachedAttached { directory: InodeId },
    /// Nothing is left to collect.
    DetachedEmpty { directory: InodeId },
    /// A remembered outcome missing in the index by age, so that it would never be forgotten.
    OutcomeUnindexed { operation: OperationId },
    /// An entry of that index without its outcome.
    IndexStale { age: AgeMs, operation: OperationId },
    /// An outcome that waits for an intent that is not open.
    OutcomeUndecided { operation: OperationId },
    /// A load session that does not count the removals it remembers.
    LoadMiscounted { directory: InodeId },
    /// A load session of what is no directory.
    LoadOfNothing { directory: InodeId },
    /// Removals remembered by no load session.
    RemovalsWithoutLoad { directory: InodeId },
    /// An inode with a store key of its own that no open move explains.
    KeyWithoutMove { place: Place },
    /// An open move of a directory that does not have the key it is moved from.
    MoveWithoutKey { intent: IntentId },
    /// An entry stands in the store and its directory is not known to.
    NotMarked { place: Place },
    /// A mount whose directory is not there. `is_free`: nothing else stands under its name.
    MountWithoutDirectory { mount: MountId, is_free: bool },
    /// A directory that says it is the root of a mount that is not there.
    RootOfNoMount { place: Place },
    /// An intent at a mount that is not there.
    IntentOfNoMount { intent: IntentId },
    /// A record that says another id than its key.
    Misplaced { family: Family, key: Vec<u8> },
    /// Ids that are in use would be given out again. The highest in use.
    IdsBehind { inode: InodeId, container: ContainerId },
}

impl Fault {
    /// One word a kind, for people to search for and scripts to count.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Unreadable { .. } => "unreadable-record",
            Fault::RootMissing => "root-missing",
            Fault::PlaceMissing { .. } => "place-missing",
            Fault::PlaceWrong { .. } => "place-wrong",
            Fault::TwoEdges { .. } => "two-edges",
            Fault::PlaceWithoutEdge { .. } => "place-without-edge",
            Fault::ContainerMissing { .. } => "container-missing",
            Fault::ContainerShared { .. } => "container-shared",
            Fault::ContainerWithoutInode { .. } => "container-without-inode",
            Fault::Miscounted { .. } => "miscounted",
            Fault::Orphans { .. } => "orphans",
            Fault::BelowFile { .. } => "below-file",
            Fault::Loop { .. } => "loop",
            Fault::IncompleteMissing { .. } => "incomplete-missing",
            Fault::IncompleteStale { .. } => "incomplete-stale",
            Fault::PersistMissing { .. } => "persist-missing",
            Fault::PersistStale { .. } => "persist-stale",
            Fault::DetachedAttached { .. } => "detached-attached",
            Fault::DetachedEmpty { .. } => "detached-empty",
            Fault::OutcomeUnindexed { .. } => "outcome-unindexed",
            Fault::IndexStale { .. } => "outcome-index-stale",
            Fault::OutcomeUndecided { .. } => "outcome-undecided",
            Fault::LoadMiscounted { .. } => "load-miscounted",
            Fault::LoadOfNothing { .. } => "load-of-nothing",
            Fault::RemovalsWithoutLoad { .. } => "removals-without-load",
            Fault::KeyWithoutMove { .. } => "key-without-move",
            Fault::MoveWithoutKey { .. } => "move-without-key",
            Fault::NotMarked { .. } => "not-marked",
            Fault::MountWithoutDirectory { .. } => "mount-without-directory",
            Fault::RootOfNoMount { .. } => "root-of-no-mount",
            Fault::IntentOfNoMount { .. } => "intent-of-no-mount",
            Fault::Misplaced { .. } => "misplaced-record",
            Fault::IdsBehind { .. } => "ids-behind",
        }
    }

    /// Whether what is right follows from the other records. What does not is only named: guessing could lose data.
    pub fn is_repairable(&self) -> bool {
        match self {
            Fault::Unreadable { .. }
            | Fault::RootMissing
            | Fault::BelowFile { .. }
            | Fault::KeyWithoutMove { .. }
            | Fault::MoveWithoutKey { .. }
            | Fault::RootOfNoMount { .. }
            | Fault::Misplaced { .. } => false,
            Fault::ContainerShared { only_cached, .. } => !only_cached,
            Fault::MountWithoutDirectory { is_free, .. } => *is_free,
            Fault::PlaceMissing { .. }
            | Fault::PlaceWrong { .. }
            | Fault::TwoEdges { .. }
            | Fault::PlaceWithoutEdge { .. }
            | Fault::ContainerMissing { .. }
            | Fault::ContainerWithoutInode { .. }
            | Fault::Miscounted { .. }
            | Fault::Orphans { .. }
            | Fault::Loop { .. }
            | Fault::IncompleteMissing { .. }
            | Fault::IncompleteStale { .. }
            | Fault::PersistMissing { .. }
            | Fault::PersistStale { .. }
            | Fault::DetachedAttached { .. }
            | Fault::DetachedEmpty { .. }
            | Fault::OutcomeUnindexed { .. }
            | Fault::IndexStale { .. }
            | Fault::OutcomeUndecided { .. }
            | Fault::LoadMiscounted { .. }
            | Fault::LoadOfNothing { .. }
            | Fault::RemovalsWithoutLoad { .. }
            | Fault::NotMarked { .. }
            | Fault::IntentOfNoMount { .. }
            | Fault::IdsBehind { .. } => true,
        }
    }

    /// What a repair does, or why there is none and what to do instead.
    pub fn advice(&self) -> &'static str {
        match self {
            Fault::Unreadable { .. } | Fault::Misplaced { .. } => {
                "what it said is not known; restore a backup, or replace this master if it is one of several"
            }
            Fault::RootMissing => "restore a backup, or replace this master if it is one of several",
            Fault::PlaceMissing { .. } | Fault::PlaceWrong { .. } => "a repair records the place",
            Fault::TwoEdges { .. } => {
                "a repair takes this name away, or, if the two have different contents, makes it an inode of its own"
            }
            Fault::PlaceWithoutEdge { .. } => "a repair drops the record of the place",
            Fault::ContainerMissing { .. } => "a repair records the owner",
            Fault::ContainerShared { only_cached: false, .. } => {
                "a repair gives this one another container; its content comes from its store again"
            }
            Fault::ContainerShared { only_cached: true, .. } => {
                "its content is in no store, and nobody knows whose the cached blocks are: look at both files, remove one"
            }
            Fault::ContainerWithoutInode { .. } => "a repair drops the record; blocks of it are freed",
            Fault::Miscounted { .. } => "a repair corrects the count",
            Fault::Orphans { .. } => "a repair makes the directory anew, as /lost+found-inode-N",
            Fault::BelowFile { .. } => {
                "which of the two is right is not known; move the entries with an older backup at hand"
            }
            Fault::Loop { .. } => "a repair moves it to /lost+found-inode-N",
            Fault::IncompleteMissing { .. } => "a repair puts it there",
            Fault::IncompleteStale { .. }
            | Fault::PersistStale { .. }
            | Fault::DetachedAttached { .. }
            | Fault::DetachedEmpty { .. }
            | Fault::IndexStale { .. }
            | Fault::RemovalsWithoutLoad { .. } => "a repair drops the record",
            Fault::PersistMissing { .. } => "a repair puts it on its way again",
            Fault::OutcomeUnindexed { .. } => "a repair puts it into the index",
            Fault::OutcomeUndecided { .. } => "a repair forgets it: its caller can ask again",
            Fault::LoadMiscounted { .. } | Fault::LoadOfNothing { .. } => "a repair ends the session",
            Fault::KeyWithoutMove { .. } => "where its content stands is not known here; compare with its store",
            Fault::MoveWithoutKey { .. } => {
                "how far its store is with the move is not known here; compare with its store"
            }
            Fault::NotMarked { .. } => "a repair marks the directory, and those above it",
            Fault::MountWithoutDirectory { is_free: true, .. } => {
                "a repair makes the directory anew; what is in the store is loaded again"
            }
            Fault::MountWithoutDirectory { is_free: false, .. } => "something else has its name: move that away first",
            Fault::RootOfNoMount { .. } => "where its store is is not known; restore a backup",
            Fault::IntentOfNoMount { .. } => "a repair drops it: its store is not known any more",
            Fault::IdsBehind { .. } => "a repair raises the counters",
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreadable { family, key, why } => {
                write!(f, "the record {} of family {} cannot be read: {why}", key.escape_ascii(), family.name())
            }
            Fault::RootMissing => f.write_str("/ is missing"),
            Fault::PlaceMissing { inode, place } => write!(f, "{inode} is {place}, and its place is not recorded"),
            Fault::PlaceWrong { inode, place } => write!(f, "{inode} is {place}, its place says elsewhere"),
            Fault::TwoEdges { inode, place } => write!(f, "{inode} stands twice, the second time as {place}"),
            Fault::PlaceWithoutEdge { inode } => write!(f, "{inode} has a place and does not stand there"),
            Fault::ContainerMissing { container, place } => {
                write!(f, "{container} of {place} is not recorded as its own")
            }
            Fault::ContainerShared { container, place, .. } => {
                write!(f, "{container} of {place} belongs to another inode")
            }
            Fault::ContainerWithoutInode { container } => {
                write!(f, "{container} belongs to an inode that does not have it")
            }
            Fault::Miscounted { directory, says, counted, .. } => {
                write!(f, "{directory} counts {says} entries and has {counted}")
            }
            Fault::Orphans { directory } => write!(f, "entries of {directory}, which is not there"),
            Fault::BelowFile { file } => write!(f, "entries of {file}, which is a file"),
            Fault::Loop { directory } => write!(f, "{directory} lies below itself"),
            Fault::IncompleteMissing { place } => {
                write!(f, "{place} is being written and missing in the index of such files")
            }
            Fault::IncompleteStale { opened, container } => {
                write!(f, "{container} is indexed as being written since age {} and is not", opened.0)
            }
            Fault::PersistMissing { place } => {
                write!(f, "{place} is on its way to its store, and nobody brings it there")
            }
            Fault::PersistStale { container } => {
                write!(f, "{container} is being persisted and is no file that needs it")
            }
            Fault::DetachedAttached { directory } => {
                write!(f, "{directory} stands in the tree and waits to be collected: what is in it would go")
            }
            Fault::DetachedEmpty { directory } => write!(f, "{directory} waits to be collected, with nothing in it"),
            Fault::OutcomeUnindexed { operation } => write!(f, "the outcome of {operation} is missing in its index"),
            Fault::IndexStale { age, operation } => {
                write!(f, "the index of outcomes has {operation} at age {}, where there is none", age.0)
            }
            Fault::OutcomeUndecided { operation } => {
                write!(f, "the outcome of {operation} waits for an intent that is not open")
            }
            Fault::LoadMiscounted { directory } => {
                write!(f, "the load of {directory} does not count the removals it remembers")
            }
            Fault::LoadOfNothing { directory } => write!(f, "a load of {directory}, which is no directory"),
            Fault::RemovalsWithoutLoad { directory } => {
                write!(f, "removals in {directory} remembered for a load that is not open")
            }
            Fault::KeyWithoutMove { place } => write!(f, "{place} has a store key of its own and is not being moved"),
            Fault::MoveWithoutKey { intent } => {
                write!(f, "{intent} moves a directory that does not have the key it is moved from")
            }
            Fault::NotMarked { place } => write!(f, "{place} stands in its store, its directory is not known to"),
            Fault::MountWithoutDirectory { mount, .. } => write!(f, "{mount} has no directory"),
            Fault::RootOfNoMount { place } => write!(f, "{place} is the root of a mount that is not there"),
            Fault::IntentOfNoMount { intent } => write!(f, "{intent} is at a mount that is not there"),
            Fault::Misplaced { family, key } => {
                write!(f, "the record {} of family {} says another id", key.escape_ascii(), family.name())
            }
            Fault::IdsBehind { inode, container } => {
                write!(f, "{inode} and {container} are in use and would be given out again")
            }
        }
    }
}
