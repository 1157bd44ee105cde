//! What stands in the database. Each record begins with a version byte, then postcard; golden bytes pin the layout.

use crate::entry::{Entry, MountSpec};
use crate::store::StoreError;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use types::{
    AgeMs, Attempt, ClusterId, ContainerId, Fingerprint, GfsPath, Incarnation, InodeId, IntentId, LoadId, LogIndex,
    Mode, MountId, Name, OperationId, PersistenceState, ReadPolicy, UnixMs, WorkerId, WriteType,
};

/// Bytes that most records and entries fit, so that encoding them allocates once.
const ROOM: usize = 160;

/// A record with a version of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// Written as the first byte. A reader that meets a higher one refuses by name.
    const VERSION: u8;
    /// For error sentences.
    const WHAT: &'static str;

    fn encode(&self) -> Bytes {
        Bytes::from(encode_as(Self::VERSION, self))
    }

    /// Errors: an unknown version or damaged bytes, as a sentence that names the record's kind.
    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        decode_as(Self::VERSION, Self::WHAT, bytes)
    }
}

fn encode_as(version: u8, record: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(ROOM);
    out.push(version);
    postcard::to_extend(record, out).expect("records have no length-less parts")
}

fn decode_as<R: DeserializeOwned>(known: u8, what: &str, bytes: &[u8]) -> Result<R, StoreError> {
    let corrupt =
        |why: String| StoreError { what: format!("read a {what} record: {why}"), kind: types::ErrorKind::Corrupt };
    match bytes.split_first() {
        Some((&version, rest)) if version == known => {
            postcard::from_bytes(rest).map_err(|err| corrupt(format!("{err} in {} bytes", bytes.len())))
        }
        Some((&version, _)) => Err(corrupt(format!(
            "version {version} is not {known}, which this release writes; use the release that wrote the data"
        ))),
        None => Err(corrupt("it is empty".to_owned())),
    }
}

/// A file or directory, under its edge key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inode {
    pub id: InodeId,
    /// The wire identity. A file's changes with each generation of its content; a directory's never does.
    pub container: ContainerId,
    pub owner: String,
    pub group: String,
    pub mode: Mode,
    pub created: UnixMs,
    pub modified: UnixMs,
    /// The entry that last changed this inode in a way a load or sync must not undo.
    pub changed: LogIndex,
    /// Where the content stands in the mount's store, when that is not what the path says: an object not yet moved
    /// after a rename. On a directory it is inherited below, as the prefix. Relative to the mount.
    pub store_key: Option<String>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    pub node: Node,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Node {
    File(File),
    Directory(Directory),
}

/// The whole-file checksum given at completion: the type's wire number and the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checksum {
    pub kind: u8,
    pub value: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct File {
    pub complete: bool,
    /// 0 until complete.
    pub length: u64,
    pub block_bytes: u64,
    pub write_type: WriteType,
    pub persistence: PersistenceState,
    /// The version of the store's object this generation stands for. None: not in the store, or the store has none.
    pub fingerprint: Option<Fingerprint>,
    /// What an under-store stream of this container reported at its close: the store's version and the length.
    pub closed: Option<(Option<Fingerprint>, u64)>,
    pub checksum: Option<Checksum>,
    /// Journaled locations of blocks that exist nowhere else: (block index, workers). Emptied when persisted.
    pub locations: Vec<(u32, Vec<WorkerId>)>,
    /// When an incomplete file was made, to expire it; in age.
    pub opened: AgeMs,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Directory {
    /// Entries of this directory.
    pub children: u64,
    /// Every entry the store had at some time is known here.
    pub loaded: bool,
    /// The store is known to hold this directory (a marker object, a prefix, or a real directory).
    pub persisted: bool,
    /// The entry that last removed or renamed away something here: a single load whose store answer is older is refused.
    pub removed_at: LogIndex,
    /// The root of a mounted store.
    pub mount: Option<MountId>,
}

/// Where an inode's edge stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parent {
    pub parent: InodeId,
    pub name: Name,
}

/// The remembered outcome of an operation that had an effect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperationRecord {
    pub inode: Option<InodeId>,
    pub mount: Option<MountId>,
    /// Not decided yet: this intent's closing decides.
    pub pending: Option<IntentId>,
    pub age: AgeMs,
}

/// One mounted under store: the root's, or a namespace's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mount {
    pub id: MountId,
    /// `/`, or `/name`.
    pub path: GfsPath,
    pub uri: String,
    pub read_only: bool,
    pub shared: bool,
    pub properties: BTreeMap<String, String>,
    /// Sealed by the master before it proposes; this crate cannot read them.
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub write_policy: Option<WriteType>,
    pub read_policy: Option<ReadPolicy>,
    pub created: UnixMs,
}

impl Mount {
    pub(crate) fn new(id: MountId, path: GfsPath, spec: &MountSpec, created: UnixMs) -> Mount {
        Mount {
            id,
            path,
            uri: spec.uri.clone(),
            read_only: spec.read_only,
            shared: spec.shared,
            properties: spec.properties.clone(),
            secrets: spec.secrets.clone(),
            write_policy: spec.write_policy,
            read_policy: spec.read_policy,
            created,
        }
    }
}

/// An announced mutation of an under store, open until an entry closes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Intent {
    pub id: IntentId,
    pub mount: MountId,
    pub attempt: Attempt,
    /// A retry of this operation, also at a new leader, waits for this intent's outcome.
    pub operation: Option<OperationId>,
    pub opened: AgeMs,
    pub kind: IntentKind,
}

/// Keys are relative to the mount; a directory's ends in `/`. `parent` and `name` say which entry of the namespace stood
/// for the key when the intent was opened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum IntentKind {
    /// Remove one object.
    DeleteFile { key: String, fingerprint: Option<Fingerprint>, parent: InodeId, name: Name },
    /// Remove a prefix and everything below it.
    DeleteTree { key: String, parent: InodeId, name: Name },
    /// Move one object; the edge moves when it is closed. Source and target names are reserved meanwhile.
    RenameFile {
        from: String,
        to: String,
        fingerprint: Option<Fingerprint>,
        inode: InodeId,
        to_parent: InodeId,
        to_name: Name,
    },
    /// Move everything below a prefix; the edge has moved already and carries `from` as its store key until closed.
    /// `parent` and `name` are where it stood before.
    MoveTree { from: String, to: String, inode: InodeId, parent: InodeId, name: Name },
    /// Make a directory real in the store.
    MakeDirectory { key: String, inode: InodeId },
    /// Remove once more what was removed: an upload that was on its way then may have landed since. One object, or a prefix
    /// and everything below it. Not before the leader is sure that nothing can land any more; until then the key is held.
    DeleteAgain { key: String, parent: InodeId, name: Name },
}

/// A directory whose edge is gone and whose children wait to be collected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Detached {
    pub since: AgeMs,
}

/// An open load session of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Load {
    pub id: LoadId,
    /// The prefix it lists: a page of another prefix is refused.
    pub mount: MountId,
    pub key: String,
    /// The applied index before the store was first asked.
    pub seen: LogIndex,
    pub since: AgeMs,
    /// Names removed here since it was opened, each remembered under a key of its own; at most [`MAX_REMOVED`].
    pub removed: u32,
    /// A name was dropped here that the store may still hold: the last page leaves the directory not loaded.
    pub holes: bool,
    /// How far its pages have come. Absent before the first one, and under rules older than [`crate::BATCHES`].
    pub reached: Option<Reached>,
}

/// Up to here, in the order of keys, everything the store lists is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reached {
    /// The last entry of the last page that had any.
    pub name: Name,
    /// Its key ends in a slash, and sorts so.
    pub directory: bool,
    /// When that page came.
    pub at: AgeMs,
}

/// A session that has reached nothing is written as releases before [`crate::BATCHES`] write it: version 1 is version 2
/// without its last byte, which then says that there is nothing.
impl Record for Load {
    const VERSION: u8 = 2;
    const WHAT: &'static str = "load";

    fn encode(&self) -> Bytes {
        let mut out = encode_as(Self::VERSION, self);
        if self.reached.is_none() {
            assert_eq!(out.pop(), Some(0), "an absent value is one byte");
            out[0] = 1;
        }
        Bytes::from(out)
    }

    fn decode(bytes: &[u8]) -> Result<Load, StoreError> {
        match bytes.split_first() {
            Some((1, rest)) => decode_as(Self::VERSION, Self::WHAT, &[&[Self::VERSION], rest, &[0]].concat()),
            _ => decode_as(Self::VERSION, Self::WHAT, bytes),
        }
    }
}

/// Removals remembered by one load session; one more ends the session.
pub const MAX_REMOVED: u32 = 4096;

/// A file on its way to the under store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Persist {
    pub inode: InodeId,
    /// Where the attempt writes: the file's mount and key when it began. Empty before the first attempt.
    pub mount: MountId,
    pub key: String,
    pub attempt: Attempt,
    /// Not before this age.
    pub due: AgeMs,
    /// This attempt may complete its upload (at most one ever is per attempt).
    pub granted: bool,
    /// An earlier attempt was granted and failed: the store may hold an object under `key` all the same.
    pub uncertain: bool,
    /// How often it failed, and why the last time.
    pub failures: u32,
    pub last_error: String,
}

/// A worker the cluster knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerRecord {
    pub id: WorkerId,
    pub host: String,
    pub rpc_port: u16,
    pub web_port: u16,
    /// The registration in force; messages of another are refused.
    pub epoch: types::SessionEpoch,
    /// The identity of the worker's disks: the same id with another identity is refused.
    pub identity: u128,
}

/// Counters and versions of the whole namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counters {
    /// None before [`crate::Format`].
    pub cluster: Option<ClusterId>,
    pub incarnation: Incarnation,
    /// The rules of `apply` in force.
    pub rules: u32,
    /// The last entry that was applied.
    pub applied: LogIndex,
    pub wall: UnixMs,
    pub age: AgeMs,
    /// The lowest ids nobody got.
    pub next_inode: InodeId,
    pub next_container: ContainerId,
}

/// Containers that this history of the namespace never gave out, though another one may have: what was lost with a quorum,
/// or came after a backup. Blocks of theirs are nobody's to free.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// From the first to before the second; ascending.
    pub ranges: Vec<(ContainerId, ContainerId)>,
}

impl LeftOut {
    pub fn holds(&self, container: ContainerId) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..*to).contains(&container))
    }
}

/// The times in which uses of files are noted, oldest first, at most [`Uses::KEPT`]. Empty: they are not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Uses {
    pub times: Vec<UseTime>,
}

/// One of them: it lasts until the next one begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UseTime {
    pub number: u64,
    pub began: AgeMs,
    /// The entry that began it: what changed later changed in it, or after it.
    pub at: LogIndex,
}

impl Uses {
    /// A quarter of the time after which what is unused goes is one of these: so many reach back far enough.
    pub const KEPT: usize = 6;

    /// The last one that had begun by `before`. None: uses have not been noted for that long.
    pub fn since(&self, before: AgeMs) -> Option<UseTime> {
        self.times.iter().rev().find(|time| time.began <= before).copied()
    }
}

/// Which of the containers of a chunk of 2048 were used in one time: a bit each, the lowest of the first word first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Used {
    pub words: Vec<u64>,
}

macro_rules! records {
    ($($kind:ident $version:literal $what:literal;)*) => {$(
        impl Record for $kind { const VERSION: u8 = $version; const WHAT: &'static str = $what; }
    )*};
}
records! {
    Inode 1 "inode";
    Parent 1 "parent";
    OperationRecord 1 "operation";
    Mount 1 "mount";
    Intent 1 "intent";
    Detached 1 "detached directory";
    Persist 1 "persist";
    WorkerRecord 1 "worker";
    Counters 1 "counters";
    LeftOut 1 "left out containers";
    Uses 1 "times of use";
    Used 1 "used containers";
    Entry 1 "log entry";
}

impl Inode {
    pub fn file(&self) -> Option<&File> {
        match &self.node {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        }
    }
    pub fn directory(&self) -> Option<&Directory> {
        match &self.node {
            Node::File(_) => None,
            Node::Directory(directory) => Some(directory),
        }
    }
    /// Whether the store is known to hold an object of it, or something below it.
    pub fn is_in_store(&self) -> bool {
        match &self.node {
            Node::File(file) => file.persistence == PersistenceState::Persisted || file.closed.is_some(),
            Node::Directory(directory) => directory.persisted,
        }
    }
    pub fn is_directory(&self) -> bool {
        self.directory().is_some()
    }
}
