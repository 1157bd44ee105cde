//! Faults for tests to plant: what each changes in the records of a small tree.

use crate::entry::{CompleteFile, CreateDirectory, CreateFile, CreateMount, MountSpec, Op};
use crate::key::{
    COUNTERS_KEY, ROOT, container_key, edge_key, incomplete_key, inode_key, intent_key, mount_key, operation_age_key,
    operation_key, place_key, worker_key,
};
use crate::permission::Caller;
use crate::read::{Status, status};
use crate::record::{
    Counters, Detached, Directory, Inode, Intent, IntentKind, Load, Node, OperationRecord, Parent, Persist, Record,
    WorkerRecord,
};
use crate::store::{Change, Family, Read};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::{
    AgeMs, Attempt, ContainerId, GfsPath, InodeId, IntentId, LoadId, LogIndex, Mode, MountId, Name, OperationId,
    PersistenceState, SessionEpoch, WorkerId, WriteType,
};

/// An inode, a container, and other ids that nothing has.
const NOBODY: u64 = 1_000_000_000;

/// One fault.
pub struct Plant {
    /// What it is to be named, as [`Fault::kind`](crate::Fault::kind) says it.
    pub kind: &'static str,
    pub is_repairable: bool,
    pub changes: Vec<Change>,
}

/// What makes the tree that [`all`] plants in: `/d/`, `/d/s` (to be marked as in its store by [`settle`]), `/d/c` cached alone,
/// `/d/e/`, `/d/e/x`, `/open` being written, `/async` on its way to its store, and `/n`, where `store` is mounted.
pub fn tree(store: &str) -> Vec<Op> {
    let directory = |at: &str| {
        let mode = Mode::new(0o755);
        Op::CreateDirectory(CreateDirectory { path: path(at), recursive: false, allow_exists: false, mode })
    };
    let create = |at: &str, write_type| {
        let mode = Mode::new(0o644);
        let write_type = Some(write_type);
        Op::CreateFile(CreateFile { path: path(at), block_bytes: 1 << 20, recursive: false, mode, write_type })
    };
    let complete = |at: &str, persist_after_ms| {
        Op::CompleteFile(CompleteFile {
            path: path(at),
            file: None,
            length: 10,
            checksum: None,
            locations: Vec::new(),
            persist_after_ms,
            force_persisted: false,
        })
    };
    vec![
        directory("/d"),
        create("/d/s", WriteType::MustCache),
        complete("/d/s", None),
        create("/d/c", WriteType::MustCache),
        complete("/d/c", None),
        directory("/d/e"),
        create("/d/e/x", WriteType::MustCache),
        complete("/d/e/x", None),
        create("/open", WriteType::MustCache),
        create("/async", WriteType::AsyncThrough),
        complete("/async", Some(1 << 40)),
        Op::CreateMount(CreateMount { name: name("n"), spec: MountSpec::plain(store) }),
    ]
}

/// Makes `/d/s` a file that stands in its store, as if it had been loaded from there.
pub fn settle(read: &dyn Read) -> Vec<Change> {
    let mut changes = edit(read, "/d/s", |inode| {
        if let Node::File(file) = &mut inode.node {
            file.persistence = PersistenceState::Persisted;
        }
    });
    changes.extend(edit_directory(read, "/d", |directory| directory.persisted = true));
    changes
}

fn path(text: &str) -> GfsPath {
    GfsPath::parse(text).expect("a good path")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn found(read: &dyn Read, at: &str) -> Status {
    status(read, &Caller::system(), &path(at)).expect("readable").expect("it is part of the tree")
}

fn change(family: Family, key: impl AsRef<[u8]>, value: Option<Bytes>) -> Change {
    Change { family, key: Bytes::copy_from_slice(key.as_ref()), value }
}

fn put(family: Family, key: impl AsRef<[u8]>, record: &impl Record) -> Change {
    change(family, key, Some(record.encode()))
}

fn edit(read: &dyn Read, at: &str, edit: impl FnOnce(&mut Inode)) -> Vec<Change> {
    let mut spot = found(read, at).spot;
    let key = spot.edge_key();
    edit(&mut spot.inode);
    vec![put(Family::Edges, key, &spot.inode)]
}

fn edit_directory(read: &dyn Read, at: &str, change: impl FnOnce(&mut Directory)) -> Vec<Change> {
    edit(read, at, |inode| match &mut inode.node {
        Node::Directory(directory) => change(directory),
        Node::File(_) => {}
    })
}

/// Edge, place and container of an inode go.
fn without(read: &dyn Read, at: &str) -> Vec<Change> {
    let spot = found(read, at).spot;
    vec![
        change(Family::Edges, spot.edge_key(), None),
        change(Family::Inodes, inode_key(spot.inode.id), None),
        change(Family::Containers, container_key(spot.inode.container), None),
    ]
}

/// One of each kind.
pub fn all(read: &dyn Read) -> Vec<Plant> {
    [names(read), containers(read), directories(read), files(read), under_way(read), hopeless(read)]
        .into_iter()
        .flatten()
        .collect()
}

fn repairable(kind: &'static str, changes: Vec<Change>) -> Plant {
    Plant { kind, is_repairable: true, changes }
}

fn named_only(kind: &'static str, changes: Vec<Change>) -> Plant {
    Plant { kind, is_repairable: false, changes }
}

fn names(read: &dyn Read) -> Vec<Plant> {
    let cached = found(read, "/d/c").spot;
    let elsewhere = Parent { parent: ROOT, name: name("elsewhere") };
    let other = Inode { container: ContainerId(NOBODY), ..cached.inode.clone() };
    vec![
        repairable("place-missing", vec![change(Family::Inodes, inode_key(cached.inode.id), None)]),
        repairable("place-wrong", vec![put(Family::Inodes, inode_key(cached.inode.id), &elsewhere)]),
        repairable("two-edges", vec![put(Family::Edges, edge_key(ROOT, &name("twin")), &cached.inode)]),
        repairable("two-edges", vec![put(Family::Edges, edge_key(ROOT, &name("twin")), &other)]),
        repairable("place-without-edge", vec![put(Family::Inodes, inode_key(InodeId(NOBODY)), &elsewhere)]),
    ]
}

fn containers(read: &dyn Read) -> Vec<Plant> {
    let (cached, stored) = (found(read, "/d/c").spot.inode, found(read, "/d/s").spot.inode);
    let nobody = Bytes::copy_from_slice(&inode_key(InodeId(NOBODY)));
    vec![
        repairable("container-missing", vec![change(Family::Containers, container_key(cached.container), None)]),
        repairable(
            "container-missing",
            vec![change(Family::Containers, container_key(cached.container), Some(nobody.clone()))],
        ),
        repairable("container-shared", edit(read, "/d/s", |inode| inode.container = cached.container)),
        named_only("container-shared", edit(read, "/d/c", |inode| inode.container = stored.container)),
        repairable(
            "container-without-inode",
            vec![change(Family::Containers, container_key(ContainerId(NOBODY)), Some(nobody))],
        ),
    ]
}

fn directories(read: &dyn Read) -> Vec<Plant> {
    let (outer, inner) = (found(read, "/d").spot, found(read, "/d/e").spot);
    let round = Parent { parent: inner.inode.id, name: name("d") };
    vec![
        repairable("miscounted", edit_directory(read, "/d", |directory| directory.children += 3)),
        repairable("miscounted", edit_directory(read, "/d/e", |directory| directory.children = 0)),
        repairable("orphans", without(read, "/d/e")),
        repairable(
            "loop",
            vec![
                change(Family::Edges, outer.edge_key(), None),
                put(Family::Edges, edge_key(inner.inode.id, &name("d")), &outer.inode),
                put(Family::Inodes, inode_key(outer.inode.id), &round),
            ],
        ),
        repairable("not-marked", edit_directory(read, "/d", |directory| directory.persisted = false)),
        repairable("mount-without-directory", without(read, "/n")),
    ]
}

fn files(read: &dyn Read) -> Vec<Plant> {
    let (open, waiting, cached) =
        (found(read, "/open").spot.inode, found(read, "/async").spot.inode, found(read, "/d/c").spot.inode);
    let opened = open.file().map(|file| file.opened).unwrap_or_default();
    let persist = Persist {
        inode: cached.id,
        mount: MountId::default(),
        key: String::new(),
        attempt: Attempt(0),
        due: AgeMs(1 << 40),
        granted: false,
        uncertain: false,
        failures: 0,
        last_error: String::new(),
    };
    vec![
        repairable(
            "incomplete-missing",
            vec![change(Family::Incomplete, incomplete_key(opened, open.container), None)],
        ),
        repairable(
            "incomplete-stale",
            vec![change(Family::Incomplete, incomplete_key(AgeMs(3), cached.container), Some(Bytes::new()))],
        ),
        repairable("persist-missing", vec![change(Family::Persists, container_key(waiting.container), None)]),
        repairable("persist-stale", vec![put(Family::Persists, container_key(cached.container), &persist)]),
    ]
}

fn under_way(read: &dyn Read) -> Vec<Plant> {
    let directory = found(read, "/d").spot.inode.id;
    let detached = Detached { since: AgeMs(1) };
    let load = Load {
        id: LoadId(NOBODY),
        mount: MountId(1),
        key: "d/".to_owned(),
        seen: LogIndex(1),
        since: AgeMs(1),
        removed: 2,
        holes: false,
        reached: None,
    };
    let operation = OperationId(u128::from(NOBODY));
    let outcome = |pending| OperationRecord { inode: None, mount: None, pending, age: AgeMs(1) };
    let index = change(Family::Operations, operation_age_key(AgeMs(1), operation), Some(Bytes::new()));
    let intent = Intent {
        id: IntentId(NOBODY),
        mount: MountId(NOBODY),
        attempt: Attempt(0),
        operation: None,
        opened: AgeMs(1),
        kind: IntentKind::DeleteFile { key: "k".to_owned(), fingerprint: None, parent: ROOT, name: name("k") },
    };
    let mut counters = counters(read);
    counters.next_inode = InodeId(2);
    vec![
        repairable("detached-attached", vec![put(Family::Detached, inode_key(directory), &detached)]),
        repairable("detached-empty", vec![put(Family::Detached, inode_key(InodeId(NOBODY)), &detached)]),
        repairable("outcome-unindexed", vec![put(Family::Operations, operation_key(operation), &outcome(None))]),
        repairable("outcome-index-stale", vec![index.clone()]),
        repairable(
            "outcome-undecided",
            vec![put(Family::Operations, operation_key(operation), &outcome(Some(IntentId(NOBODY)))), index],
        ),
        repairable("load-miscounted", vec![put(Family::Loads, inode_key(directory), &load)]),
        repairable("load-of-nothing", vec![put(Family::Loads, inode_key(InodeId(NOBODY)), &load)]),
        repairable(
            "removals-without-load",
            vec![change(Family::Loads, edge_key(directory, &name("gone")), Some(Bytes::new()))],
        ),
        repairable("intent-of-no-mount", vec![put(Family::Intents, intent_key(intent.id), &intent)]),
        repairable("ids-behind", vec![put(Family::State, COUNTERS_KEY, &counters)]),
    ]
}

fn counters(read: &dyn Read) -> Counters {
    let bytes = read.get(Family::State, COUNTERS_KEY).expect("readable").expect("it was formatted");
    Counters::decode(&bytes).expect("readable")
}

/// Kinds that are only named.
fn hopeless(read: &dyn Read) -> Vec<Plant> {
    let (cached, directory, mounted) = (found(read, "/d/c").spot, found(read, "/d").spot, found(read, "/n"));
    let below =
        Inode { id: InodeId(NOBODY), container: ContainerId(NOBODY), xattrs: BTreeMap::new(), ..cached.inode.clone() };
    let below_place = Parent { parent: cached.inode.id, name: name("x") };
    let owner = Bytes::copy_from_slice(&inode_key(below.id));
    let moves = Intent {
        id: IntentId(NOBODY),
        mount: MountId(1),
        attempt: Attempt(0),
        operation: None,
        opened: AgeMs(1),
        kind: IntentKind::MoveTree {
            from: "was/".to_owned(),
            to: "d/".to_owned(),
            inode: directory.inode.id,
            parent: ROOT,
            name: name("was"),
        },
    };
    let worker = WorkerRecord {
        id: WorkerId(NOBODY + 1),
        host: "h".to_owned(),
        rpc_port: 1,
        web_port: 2,
        epoch: SessionEpoch(1),
        identity: 3,
    };
    vec![
        named_only(
            "below-file",
            vec![
                put(Family::Edges, edge_key(cached.inode.id, &name("x")), &below),
                put(Family::Inodes, inode_key(below.id), &below_place),
                change(Family::Containers, container_key(below.container), Some(owner)),
            ],
        ),
        named_only("key-without-move", edit(read, "/d", |inode| inode.store_key = Some("was/".to_owned()))),
        named_only("move-without-key", vec![put(Family::Intents, intent_key(moves.id), &moves)]),
        named_only("root-of-no-mount", vec![change(Family::Mounts, mount_key(mounted.mount.id), None)]),
        named_only("misplaced-record", vec![put(Family::Workers, worker_key(WorkerId(NOBODY)), &worker)]),
        named_only(
            "unreadable-record",
            vec![change(Family::Edges, cached.edge_key(), Some(Bytes::from_static(&[9, 9])))],
        ),
        named_only("root-missing", vec![change(Family::Edges, place_key(InodeId(0), None), None)]),
    ]
}
