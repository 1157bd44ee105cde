//! The bytes of every record and every log entry. A change here is a change of format: it needs a version.

use super::world::{path, spec};
use crate::*;
use expect_test::expect_file;
use std::collections::BTreeMap;
use std::fmt::Write;
use types::{
    AgeMs, Attempt, BlockId, ClusterId, ContainerId, FileId, Fingerprint, Incarnation, InodeId, IntentId, LoadId,
    LogIndex, Mode, MountId, Name, OperationId, PersistenceState, ReadPolicy, SessionEpoch, UnixMs, WorkerId,
    WriteType,
};

fn name() -> Name {
    Name::new("name").expect("a good name")
}
fn some_etag() -> Option<Fingerprint> {
    Some(Fingerprint::Etag("9b2c".into()))
}
fn block() -> BlockId {
    ContainerId(5).block(2).expect("a small index")
}
fn file_id() -> FileId {
    ContainerId(5).file()
}
fn found() -> Found {
    Found {
        name: name(),
        directory: false,
        length: 300,
        modified: Some(UnixMs(-1)),
        fingerprint: some_etag(),
        owner: Some("o".into()),
        group: None,
        mode: Some(Mode::new(0o640)),
    }
}

/// One of each, in order; the number is the first byte of the operation.
fn ops() -> Vec<(&'static str, Op)> {
    let (container, attempt, directory) = (ContainerId(5), Attempt(3), InodeId(9));
    let (load, intent) = (LoadId(8), IntentId(7));
    let full = MountSpec {
        shared: true,
        properties: BTreeMap::from([("k".into(), "v".into())]),
        secrets: BTreeMap::from([("s".into(), vec![1, 2])]),
        write_policy: Some(WriteType::AsyncThrough),
        read_policy: Some(ReadPolicy::CacheConsistent),
        ..spec("s3://b")
    };
    let ops = vec![
        Op::Format(Format {
            cluster: ClusterId(1),
            owner: "root".into(),
            group: "wheel".into(),
            mode: Mode::new(0o755),
            root: spec("file:///u"),
        }),
        Op::CreateFile(CreateFile {
            path: path("/a/b"),
            block_bytes: 67_108_864,
            recursive: true,
            mode: Mode::new(0o644),
            write_type: Some(WriteType::Through),
        }),
        Op::CompleteFile(CompleteFile {
            path: path("/a"),
            file: Some(file_id()),
            length: 1_000,
            checksum: Some(Checksum { kind: 2, value: 0xDEAD_BEEF }),
            locations: vec![(block(), vec![WorkerId(4)])],
            persist_after_ms: Some(5),
            force_persisted: true,
        }),
        Op::CreateDirectory(CreateDirectory {
            path: path("/a"),
            recursive: true,
            allow_exists: true,
            mode: Mode::new(0o755),
        }),
        Op::Rename(Rename { path: path("/a"), to: path("/b") }),
        Op::Remove(Remove { path: path("/a"), recursive: true, goosefs_only: false }),
        Op::SetAttribute(SetAttribute {
            path: path("/a"),
            mode: Some(Mode::new(0o1777)),
            owner: Some("o".into()),
            group: None,
            recursive: true,
        }),
        Op::CommitLocation(CommitLocation {
            path: path("/a"),
            file: None,
            locations: vec![(block(), vec![WorkerId(4), WorkerId(300)])],
        }),
        Op::CloseStream(CloseStream { container, fingerprint: some_etag(), length: 7 }),
        Op::SchedulePersist(SchedulePersist { path: path("/a"), after_ms: 1_000 }),
        Op::GrantPersist(GrantPersist { container, attempt }),
        Op::FinishPersist(FinishPersist {
            container,
            attempt,
            fingerprint: Some(Fingerprint::Version("v".into())),
            length: 7,
        }),
        Op::FailPersist(FailPersist { container, attempt, retry_after_ms: 200, error: "no".into() }),
        Op::ExpireIncomplete(ExpireIncomplete { container }),
        Op::BeginAttempt(BeginAttempt { intent, attempt }),
        Op::CloseIntent(CloseIntent { intent, attempt, end: IntentEnd::Done { fingerprint: some_etag() } }),
        Op::Collect(Collect { directory, limit: 500 }),
        Op::OpenLoad(OpenLoad { directory, seen: LogIndex(6) }),
        Op::LoadPage(LoadPage { directory, load, items: vec![found()], last: true }),
        Op::AbortLoad(AbortLoad { directory, load }),
        Op::LoadPath(LoadPath {
            path: path("/name"),
            mount: MountId(1),
            key: "name".into(),
            chain: vec![found()],
            seen: LogIndex(6),
        }),
        Op::Sync(Sync { inode: directory, key: "name".into(), found: Some(found()), seen: LogIndex(6) }),
        Op::CreateMount(CreateMount { name: name(), spec: full }),
        Op::UpdateMount(UpdateMount {
            name: name(),
            read_only: Some(true),
            shared: None,
            properties: Some(BTreeMap::new()),
            secrets: None,
            write_policy: Some(None),
            read_policy: Some(Some(ReadPolicy::NoCache)),
        }),
        Op::DeleteMount(DeleteMount { name: name() }),
        Op::RegisterWorker(RegisterWorker {
            worker: Some(WorkerId(4)),
            new_id: WorkerId(5),
            identity: 1 << 100,
            host: "h".into(),
            rpc_port: 9203,
            web_port: 9204,
            session_lost: true,
        }),
        Op::ForgetOperations(ForgetOperations { before: AgeMs(900), limit: 10 }),
        Op::RaiseRules(RaiseRules { version: 1 }),
        Op::SetXattr(SetXattr { path: path("/a"), name: "n".into(), value: Some(vec![1]) }),
        Op::MarkLost(MarkLost { container }),
        Op::BeginPersist(BeginPersist { container, attempt }),
        Op::AnnounceStream(AnnounceStream { container }),
        Op::BeginIncarnation(BeginIncarnation { after: Incarnation(1) }),
        Op::HoldPersist(HoldPersist { container }),
        Op::Repair(Repair { fault: faults().swap_remove(0) }),
        Op::NoteUse(NoteUse { begins: true, containers: vec![container, ContainerId(300)] }),
        Op::Expire(Expire { unused_ms: 1_000, inodes: vec![directory, InodeId(300)] }),
        Op::Batch(Batch {
            items: vec![
                BatchItem {
                    number: 0,
                    op: BatchOp::CreateFile(CreateFile {
                        path: path("/a/b"),
                        block_bytes: 67_108_864,
                        recursive: false,
                        mode: Mode::new(0o644),
                        write_type: None,
                    }),
                },
                BatchItem {
                    number: 1,
                    op: BatchOp::CompleteFile(CompleteFile {
                        path: path("/a/b"),
                        file: None,
                        length: 0,
                        checksum: None,
                        locations: Vec::new(),
                        persist_after_ms: None,
                        force_persisted: false,
                    }),
                },
                BatchItem {
                    number: 2,
                    op: BatchOp::CreateDirectory(CreateDirectory {
                        path: path("/a/c"),
                        recursive: true,
                        allow_exists: false,
                        mode: Mode::new(0o755),
                    }),
                },
                BatchItem {
                    number: 300,
                    op: BatchOp::Remove(Remove { path: path("/a/b"), recursive: false, goosefs_only: true }),
                },
            ],
        }),
    ];
    ops.into_iter().map(|op| (op_name(&op), op)).collect()
}

/// One of each, in order.
fn faults() -> Vec<Fault> {
    let (inode, directory, container, intent) = (InodeId(9), InodeId(9), ContainerId(5), IntentId(7));
    let (operation, age) = (OperationId(2), AgeMs(900));
    let place = || Place { parent: InodeId(1), name: Some(name()) };
    vec![
        Fault::Unreadable { family: Family::Incomplete, key: vec![1, 2], why: "w".into() },
        Fault::RootMissing,
        Fault::PlaceMissing { inode, place: place() },
        Fault::PlaceWrong { inode, place: Place { parent: InodeId(0), name: None } },
        Fault::TwoEdges { inode, place: place() },
        Fault::PlaceWithoutEdge { inode },
        Fault::ContainerMissing { container, place: place() },
        Fault::ContainerShared { container, place: place(), only_cached: true },
        Fault::ContainerWithoutInode { container },
        Fault::Miscounted { directory, says: 3, counted: 4, removed_at: LogIndex(6) },
        Fault::Orphans { directory },
        Fault::BelowFile { file: inode },
        Fault::Loop { directory },
        Fault::IncompleteMissing { place: place() },
        Fault::IncompleteStale { opened: age, container },
        Fault::PersistMissing { place: place() },
        Fault::PersistStale { container },
        Fault::DetachedAttached { directory },
        Fault::DetachedEmpty { directory },
        Fault::OutcomeUnindexed { operation },
        Fault::IndexStale { age, operation },
        Fault::OutcomeUndecided { operation },
        Fault::LoadMiscounted { directory },
        Fault::LoadOfNothing { directory },
        Fault::RemovalsWithoutLoad { directory },
        Fault::KeyWithoutMove { place: place() },
        Fault::MoveWithoutKey { intent },
        Fault::NotMarked { place: place() },
        Fault::MountWithoutDirectory { mount: MountId(1), is_free: true },
        Fault::RootOfNoMount { place: place() },
        Fault::IntentOfNoMount { intent },
        Fault::Misplaced { family: Family::Mounts, key: vec![1] },
        Fault::IdsBehind { inode, container },
    ]
}

/// A new operation is added to [`ops`] as well.
fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Format(_) => "Format",
        Op::CreateFile(_) => "CreateFile",
        Op::CompleteFile(_) => "CompleteFile",
        Op::CreateDirectory(_) => "CreateDirectory",
        Op::Rename(_) => "Rename",
        Op::Remove(_) => "Remove",
        Op::SetAttribute(_) => "SetAttribute",
        Op::CommitLocation(_) => "CommitLocation",
        Op::CloseStream(_) => "CloseStream",
        Op::SchedulePersist(_) => "SchedulePersist",
        Op::GrantPersist(_) => "GrantPersist",
        Op::FinishPersist(_) => "FinishPersist",
        Op::FailPersist(_) => "FailPersist",
        Op::ExpireIncomplete(_) => "ExpireIncomplete",
        Op::BeginAttempt(_) => "BeginAttempt",
        Op::CloseIntent(_) => "CloseIntent",
        Op::Collect(_) => "Collect",
        Op::OpenLoad(_) => "OpenLoad",
        Op::LoadPage(_) => "LoadPage",
        Op::AbortLoad(_) => "AbortLoad",
        Op::LoadPath(_) => "LoadPath",
        Op::Sync(_) => "Sync",
        Op::CreateMount(_) => "CreateMount",
        Op::UpdateMount(_) => "UpdateMount",
        Op::DeleteMount(_) => "DeleteMount",
        Op::RegisterWorker(_) => "RegisterWorker",
        Op::ForgetOperations(_) => "ForgetOperations",
        Op::RaiseRules(_) => "RaiseRules",
        Op::SetXattr(_) => "SetXattr",
        Op::MarkLost(_) => "MarkLost",
        Op::BeginPersist(_) => "BeginPersist",
        Op::AnnounceStream(_) => "AnnounceStream",
        Op::BeginIncarnation(_) => "BeginIncarnation",
        Op::HoldPersist(_) => "HoldPersist",
        Op::Repair(_) => "Repair",
        Op::NoteUse(_) => "NoteUse",
        Op::Expire(_) => "Expire",
        Op::Batch(_) => "Batch",
    }
}

fn entry(op: Op) -> Entry {
    Entry {
        wall: UnixMs(1_700_000_000_000),
        age: AgeMs(900),
        who: Caller { user: "u".into(), groups: vec!["g".into()], superuser: false },
        operation: Some(OperationId(2)),
        ids: Ids { inode: InodeId(10), container: ContainerId(11), count: 2 },
        op,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[track_caller]
fn line<R: Record + PartialEq + std::fmt::Debug>(name: &str, record: &R) -> String {
    let bytes = record.encode();
    assert_eq!(&R::decode(&bytes).expect("its own bytes"), record);
    format!("{name} {}\n", hex(&bytes))
}

#[test]
fn entries_are_pinned() {
    let ops = ops();
    let numbers: Vec<u8> = ops.iter().map(|(_, op)| postcard::to_allocvec(op).expect("plain values")[0]).collect();
    assert_eq!(numbers, (0..).take(ops.len()).collect::<Vec<u8>>(), "one of each, in order");
    let mut text: String = ops.into_iter().map(|(name, op)| line(name, &entry(op))).collect();
    let close = |end| entry(Op::CloseIntent(CloseIntent { intent: IntentId(7), attempt: Attempt(3), end }));
    text += &line("CloseIntent-Refused", &close(IntentEnd::Refused { why: "w".into() }));
    text += &line("CloseIntent-Copied", &close(IntentEnd::Copied { fingerprint: some_etag() }));
    let renewed =
        Renewed { key: "k/l".into(), was: Fingerprint::Etag("9b2c".into()), is: Fingerprint::Etag("9b2d".into()) };
    text += &line("CloseIntent-CopiedTree", &close(IntentEnd::CopiedTree { renewed: vec![renewed] }));
    text += &line("CloseIntent-DoneForNow", &close(IntentEnd::DoneForNow));
    for (number, fault) in (0..).zip(faults()) {
        assert_eq!(postcard::to_allocvec(&fault).expect("plain values")[0], number, "one of each, in order");
        text += &line(&format!("Repair-{}", fault.kind()), &entry(Op::Repair(Repair { fault })));
    }
    let anonymous = Entry { operation: None, ..entry(Op::RaiseRules(RaiseRules { version: 1 })) };
    text += &line("no-operation", &anonymous);
    expect_file!["../../golden/entries.txt"].assert_eq(&text);
}

#[test]
fn records_are_pinned() {
    let file = File {
        complete: true,
        length: 10,
        block_bytes: 4,
        write_type: WriteType::CacheThrough,
        persistence: PersistenceState::Persisted,
        fingerprint: Some(Fingerprint::Stamp { mtime_ns: -1, length: 10 }),
        closed: Some((some_etag(), 10)),
        checksum: Some(Checksum { kind: 2, value: 0xDEAD_BEEF }),
        locations: vec![(1, vec![WorkerId(4)])],
        opened: AgeMs(900),
    };
    let directory =
        Directory { children: 2, loaded: true, persisted: true, removed_at: LogIndex(6), mount: Some(MountId(1)) };
    let inode = Inode {
        id: InodeId(9),
        container: ContainerId(5),
        owner: "o".into(),
        group: "g".into(),
        mode: Mode::new(0o644),
        created: UnixMs(1),
        modified: UnixMs(2),
        changed: LogIndex(3),
        store_key: None,
        xattrs: BTreeMap::from([("x".into(), vec![1])]),
        node: Node::File(file),
    };
    let moved = Inode {
        store_key: Some("old/".into()),
        node: Node::Directory(directory),
        xattrs: BTreeMap::new(),
        ..inode.clone()
    };
    let intent = |kind| Intent {
        id: IntentId(7),
        mount: MountId(1),
        attempt: Attempt(3),
        operation: Some(OperationId(2)),
        opened: AgeMs(900),
        kind,
    };
    let (key, parent) = ("k".to_owned(), InodeId(1));
    let kinds = [
        IntentKind::DeleteFile { key: key.clone(), fingerprint: some_etag(), parent, name: name() },
        IntentKind::DeleteTree { key: "k/".into(), parent, name: name() },
        IntentKind::RenameFile {
            from: key.clone(),
            to: "t".into(),
            fingerprint: None,
            inode: InodeId(9),
            to_parent: parent,
            to_name: name(),
        },
        IntentKind::MoveTree { from: "k/".into(), to: "t/".into(), inode: InodeId(9), parent, name: name() },
        IntentKind::MakeDirectory { key: "k/".into(), inode: InodeId(9) },
        IntentKind::DeleteAgain { key: "k/".into(), parent, name: name() },
    ];
    let mount = Mount {
        id: MountId(1),
        path: path("/n"),
        uri: "s3://b".into(),
        read_only: true,
        shared: false,
        properties: BTreeMap::from([("k".into(), "v".into())]),
        secrets: BTreeMap::from([("s".into(), vec![1, 2])]),
        write_policy: Some(WriteType::None),
        read_policy: Some(ReadPolicy::Cache),
        created: UnixMs(1),
    };
    let load = Load {
        id: LoadId(8),
        mount: MountId(1),
        key: "k/".into(),
        seen: LogIndex(6),
        since: AgeMs(900),
        removed: 1,
        holes: true,
        reached: None,
    };
    let reached = Some(Reached { name: name(), directory: true, at: AgeMs(900) });
    let load_on = Load { reached, ..load.clone() };
    let persist = Persist {
        inode: InodeId(9),
        mount: MountId(1),
        key,
        attempt: Attempt(3),
        due: AgeMs(900),
        granted: true,
        uncertain: false,
        failures: 2,
        last_error: "no".into(),
    };
    let worker = WorkerRecord {
        id: WorkerId(4),
        host: "h".into(),
        rpc_port: 9203,
        web_port: 9204,
        epoch: SessionEpoch(12),
        identity: 1 << 100,
    };
    let counters = Counters {
        cluster: Some(ClusterId(1)),
        incarnation: Incarnation(2),
        rules: 1,
        applied: LogIndex(300),
        wall: UnixMs(1),
        age: AgeMs(900),
        next_inode: InodeId(10),
        next_container: ContainerId(11),
    };
    let operation =
        OperationRecord { inode: Some(InodeId(9)), mount: None, pending: Some(IntentId(7)), age: AgeMs(900) };
    let mut text = line("inode-file", &inode) + &line("inode-directory", &moved);
    text += &line("parent", &Parent { parent, name: name() });
    text += &line("operation", &operation);
    text += &line("mount", &mount);
    for (kind, number) in kinds.into_iter().zip(0..) {
        text += &line(&format!("intent-{number}"), &intent(kind));
    }
    text += &line("detached", &Detached { since: AgeMs(900) });
    text += &line("load", &load);
    text += &line("load-on", &load_on);
    text += &line("persist", &persist);
    text += &line("worker", &worker);
    text += &line("counters", &counters);
    let left_out = LeftOut { ranges: vec![(ContainerId(11), ContainerId(11 + (1 << 32)))] };
    text += &line("left-out", &left_out);
    let time = |number| UseTime { number, began: AgeMs(900), at: LogIndex(300) };
    text += &line("uses", &Uses { times: vec![time(3), time(4)] });
    text += &line("used", &Used { words: vec![1 << 63, 2] });
    expect_file!["../../golden/records.txt"].assert_eq(&text);
}

#[test]
fn records_of_another_version_or_damaged_ones_are_refused_by_name() {
    let refuse = |bytes: &[u8]| Parent::decode(bytes).expect_err("not ours").what;
    assert!(refuse(&[2, 0]).contains("version 2"), "{}", refuse(&[2, 0]));
    assert!(refuse(&[]).contains("parent record: it is empty"));
    assert!(refuse(&[1, 7]).contains("parent record"));
}
