//! One committed journal entry: a request, plus every input that could differ between replicas. Variants are numbered
//! by their order, only ever added at the end, and pinned by golden bytes.

use crate::audit::Fault;
use crate::permission::Caller;
use crate::record::Checksum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    AgeMs, Attempt, BlockId, ClusterId, ContainerId, FileId, Fingerprint, GfsPath, Incarnation, InodeId, IntentId,
    LoadId, LogIndex, Mode, MountId, Name, OperationId, ReadPolicy, UnixMs, WorkerId, WriteType,
};

/// Newest version of the rules of `apply` this release knows.
pub const RULES_VERSION: u32 = 4;
/// In force until an entry raises them, whatever release began the log.
pub const FIRST_RULES: u32 = 1;
/// From these on a persist that waits for another try is tried at once when it is asked for.
pub(crate) const HASTENED_PERSISTS: u32 = 2;
/// From these on what an audit found is repaired by entries.
pub const REPAIRS: u32 = 3;
/// From these on what was not used for a time can be forgotten.
pub const EXPIRIES: u32 = 3;
/// From these on an entry may hold many mutations, and a load remembers how far it got.
pub const BATCHES: u32 = 3;

/// From these on a directory in which names came or went, and a file that was written here, say so by their times, however the wall
/// clock goes: they can be told from what their store has as it is.
pub const TOLD_CHANGES: u32 = 4;

/// Ids the leader gives to what an entry may make: `count` inode ids from `inode` and as many containers from
/// `container`. A rejected entry consumes them too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ids {
    pub inode: InodeId,
    pub container: ContainerId,
    pub count: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub wall: UnixMs,
    pub age: AgeMs,
    pub who: Caller,
    pub operation: Option<OperationId>,
    pub ids: Ids,
    pub op: Op,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Op {
    Format(Format),
    CreateFile(CreateFile),
    CompleteFile(CompleteFile),
    CreateDirectory(CreateDirectory),
    Rename(Rename),
    Remove(Remove),
    SetAttribute(SetAttribute),
    CommitLocation(CommitLocation),
    CloseStream(CloseStream),
    SchedulePersist(SchedulePersist),
    GrantPersist(GrantPersist),
    FinishPersist(FinishPersist),
    FailPersist(FailPersist),
    ExpireIncomplete(ExpireIncomplete),
    BeginAttempt(BeginAttempt),
    CloseIntent(CloseIntent),
    Collect(Collect),
    OpenLoad(OpenLoad),
    LoadPage(LoadPage),
    AbortLoad(AbortLoad),
    LoadPath(LoadPath),
    Sync(Sync),
    CreateMount(CreateMount),
    UpdateMount(UpdateMount),
    DeleteMount(DeleteMount),
    RegisterWorker(RegisterWorker),
    ForgetOperations(ForgetOperations),
    RaiseRules(RaiseRules),
    SetXattr(SetXattr),
    MarkLost(MarkLost),
    BeginPersist(BeginPersist),
    AnnounceStream(AnnounceStream),
    BeginIncarnation(BeginIncarnation),
    HoldPersist(HoldPersist),
    Repair(Repair),
    NoteUse(NoteUse),
    Expire(Expire),
    Batch(Batch),
}

/// The first entry of a cluster that is taken: makes `/`, whose inode is always [`crate::ROOT`]. Ids: 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Format {
    pub cluster: ClusterId,
    pub owner: String,
    pub group: String,
    pub mode: Mode,
    pub root: MountSpec,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountSpec {
    pub uri: String,
    pub read_only: bool,
    pub shared: bool,
    pub properties: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub write_policy: Option<WriteType>,
    pub read_policy: Option<ReadPolicy>,
}

impl MountSpec {
    /// A store that needs no settings, to be written to.
    pub fn plain(uri: impl Into<String>) -> MountSpec {
        MountSpec {
            uri: uri.into(),
            read_only: false,
            shared: false,
            properties: BTreeMap::new(),
            secrets: BTreeMap::new(),
            write_policy: None,
            read_policy: None,
        }
    }
}

/// Makes an incomplete file. Ids: one per name of the path, for missing parents. Done::Inode.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateFile {
    pub path: GfsPath,
    pub block_bytes: u64,
    pub recursive: bool,
    pub mode: Mode,
    /// None: the namespace's write policy, else MUST_CACHE.
    pub write_type: Option<WriteType>,
}

/// Gives a file its length and makes it readable. Ids: 0.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CompleteFile {
    pub path: GfsPath,
    /// Wins over the path when given.
    pub file: Option<FileId>,
    pub length: u64,
    pub checksum: Option<Checksum>,
    pub locations: Vec<(BlockId, Vec<WorkerId>)>,
    /// ASYNC_THROUGH: persist after this many milliseconds.
    pub persist_after_ms: Option<u64>,
    /// An asynchronous write that went to the store directly.
    pub force_persisted: bool,
}

/// Ids: one per name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateDirectory {
    pub path: GfsPath,
    pub recursive: bool,
    pub allow_exists: bool,
    pub mode: Mode,
}

/// Never replaces. Done::Inode when decided at once, Done::Pending when the store must move an object first. Ids: 0.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rename {
    pub path: GfsPath,
    pub to: GfsPath,
}

/// Done::Nothing when decided at once, Done::Pending while one object is being deleted. Ids: 0.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Remove {
    pub path: GfsPath,
    pub recursive: bool,
    pub goosefs_only: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SetAttribute {
    pub path: GfsPath,
    pub mode: Option<Mode>,
    pub owner: Option<String>,
    pub group: Option<String>,
    pub recursive: bool,
}

/// Where an unpersisted block was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitLocation {
    pub path: GfsPath,
    pub file: Option<FileId>,
    pub locations: Vec<(BlockId, Vec<WorkerId>)>,
}

/// A worker is about to complete the under-store stream of an incomplete file: from here on its object may appear at any
/// moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnnounceStream {
    pub container: ContainerId,
}

/// An under-store stream of an incomplete file was closed by a worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CloseStream {
    pub container: ContainerId,
    pub fingerprint: Option<Fingerprint>,
    pub length: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SchedulePersist {
    pub path: GfsPath,
    pub after_ms: u64,
}

/// A new attempt to persist begins; uploads of older attempts can no longer be granted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BeginPersist {
    pub container: ContainerId,
    pub attempt: Attempt,
}

/// Lets one attempt complete its upload. Rejected once the file was removed, or another attempt began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrantPersist {
    pub container: ContainerId,
    pub attempt: Attempt,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FinishPersist {
    pub container: ContainerId,
    pub attempt: Attempt,
    pub fingerprint: Option<Fingerprint>,
    pub length: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FailPersist {
    pub container: ContainerId,
    pub attempt: Attempt,
    pub retry_after_ms: u64,
    pub error: String,
}

/// An incomplete file nobody writes any more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExpireIncomplete {
    pub container: ContainerId,
}

/// The leader is about to touch the store for this intent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BeginAttempt {
    pub intent: IntentId,
    pub attempt: Attempt,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CloseIntent {
    pub intent: IntentId,
    pub attempt: Attempt,
    pub end: IntentEnd,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum IntentEnd {
    /// The store did it. For a renamed file: the new object's version.
    Done { fingerprint: Option<Fingerprint> },
    /// The store refused and nothing there changed: undo what the intent reserved (a rename stays where it was).
    Refused { why: String },
    /// As `Done` for a rename or move the store did by copying: what was copied is still there and goes next, under an
    /// intent of its own.
    Copied { fingerprint: Option<Fingerprint> },
    /// As `Copied` for a tree: the objects whose copy got a version of its own.
    CopiedTree { renewed: Vec<Renewed> },
    /// As `Done` for what leaves a key, while an upload to it, or below it, may still land: what that leaves goes later,
    /// under an intent of its own that holds the key until then.
    DoneForNow,
}

/// An object below a tree that was moved by copying.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Renewed {
    /// Below the tree, as `dir/file`.
    pub key: String,
    pub was: Fingerprint,
    pub is: Fingerprint,
}

/// Frees up to `limit` inodes below a detached directory. Done::Collected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Collect {
    pub directory: InodeId,
    pub limit: u32,
}

/// What a store says of one object or directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    pub name: Name,
    pub directory: bool,
    pub length: u64,
    pub modified: Option<UnixMs>,
    pub fingerprint: Option<Fingerprint>,
    pub owner: Option<String>,
    pub group: Option<String>,
    pub mode: Option<Mode>,
}

/// Opens a load session of a directory; refused (Reject::Busy) while one is open. Done::Load.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenLoad {
    pub directory: InodeId,
    pub seen: LogIndex,
}

/// Inserts where no edge exists. Ids: one per item. The last page sets `loaded`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadPage {
    pub directory: InodeId,
    pub load: LoadId,
    pub items: Vec<Found>,
    pub last: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AbortLoad {
    pub directory: InodeId,
    pub load: LoadId,
}

/// Inserts one name the store was asked for, with the directories above it. `chain` names every level below the
/// mount's root, the last being what was found. Ids: one per level. Done::Inode.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LoadPath {
    pub path: GfsPath,
    pub mount: MountId,
    /// The key the store was asked for; refused if the path now stands for another.
    pub key: String,
    pub chain: Vec<Found>,
    pub seen: LogIndex,
}

/// What the store says now of an inode we know: gone (None), the same, or another version, which begins a new
/// generation. Changes nothing unless the inode is persisted, complete, under no intent, and unchanged since `seen`.
/// Ids: 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sync {
    pub inode: InodeId,
    pub key: String,
    pub found: Option<Found>,
    pub seen: LogIndex,
}

/// Ids: 1. Done::Mount.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateMount {
    pub name: Name,
    pub spec: MountSpec,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpdateMount {
    pub name: Name,
    pub read_only: Option<bool>,
    pub shared: Option<bool>,
    /// Replace all when given.
    pub properties: Option<BTreeMap<String, String>>,
    pub secrets: Option<BTreeMap<String, Vec<u8>>>,
    /// Some(None) unsets.
    pub write_policy: Option<Option<WriteType>>,
    pub read_policy: Option<Option<ReadPolicy>>,
}

/// Unmounts: cache and metadata go, the store's data stay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteMount {
    pub name: Name,
}

/// Gives a worker its id and a new epoch. Done::Worker. `new_id` is used when `worker` is None and the address and
/// identity are new.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegisterWorker {
    pub worker: Option<WorkerId>,
    pub new_id: WorkerId,
    pub identity: u128,
    pub host: String,
    pub rpc_port: u16,
    pub web_port: u16,
    /// The leader holds no live session of the id at this address: a blank disk may take it over.
    pub session_lost: bool,
}

/// Drops remembered outcomes older than `before`, at most `limit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForgetOperations {
    pub before: AgeMs,
    pub limit: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RaiseRules {
    pub version: u32,
}

/// The state was recovered by force: ids given out by whoever else may have gone on with it never mix with ours.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BeginIncarnation {
    /// The one that ends. Of two such entries one counts.
    pub after: Incarnation,
}

/// A file on its way to its store is no more: it stays in the cache until a persist is asked for. Stale when there is none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HoldPersist {
    pub container: ContainerId,
}

/// Many mutations of one caller, one after the other, each for itself: one that is refused changes nothing and undoes nothing.
/// Ids: those of all items. Done::Batch. Refused before [`BATCHES`] are in force, since older releases cannot read it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Batch {
    pub items: Vec<BatchItem>,
}

/// Most items of a batch: so long a reader may have to wait for what is published together.
pub const BATCH_ITEMS: usize = 1_000;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BatchItem {
    /// Names its operation: [`OperationId::of_item`] of the entry's.
    pub number: u32,
    pub op: BatchOp,
}

/// What may stand in a batch. An enum of its own, so that no batch holds another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BatchOp {
    CreateFile(CreateFile),
    CompleteFile(CompleteFile),
    CreateDirectory(CreateDirectory),
    Remove(Remove),
}

impl BatchOp {
    pub fn path(&self) -> &GfsPath {
        match self {
            BatchOp::CreateFile(op) => &op.path,
            BatchOp::CompleteFile(op) => &op.path,
            BatchOp::CreateDirectory(op) => &op.path,
            BatchOp::Remove(op) => &op.path,
        }
    }
}

/// The same mutation in an entry of its own.
impl From<BatchOp> for Op {
    fn from(op: BatchOp) -> Op {
        match op {
            BatchOp::CreateFile(op) => Op::CreateFile(op),
            BatchOp::CompleteFile(op) => Op::CompleteFile(op),
            BatchOp::CreateDirectory(op) => Op::CreateDirectory(op),
            BatchOp::Remove(op) => Op::Remove(op),
        }
    }
}

/// Sets (`Some`) or removes (`None`) one extended attribute.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SetXattr {
    pub path: GfsPath,
    pub name: String,
    pub value: Option<Vec<u8>>,
}

/// The only copies of an unpersisted file are gone for good: PersistenceState::Lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MarkLost {
    pub container: ContainerId,
}

/// An audit found this, and it is put right if it is still so. Stale when it is not. Ids: 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Repair {
    pub fault: Fault,
}

/// Notes that these were used, in the time that goes on or, if it begins one, in the new one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoteUse {
    pub begins: bool,
    pub containers: Vec<ContainerId>,
}

/// Forgets those of these inodes that their store can give again just as they are and that were not used for so long, in age.
/// Done::Collected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Expire {
    pub unused_ms: u64,
    pub inodes: Vec<InodeId>,
}
