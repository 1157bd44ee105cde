//! Restoring, into both stores: what was under way is ended, and a master starts on it.

use super::archive::{Encoder, Head};
use super::format_from_backup;
use crate::config::{MasterConfig, Metastore};
use crate::server::{Master, open_state};
use bytes::Bytes;
use meta::{
    Caller, CompleteFile, CreateFile, Entry, Family, Format, Ids, MemoryStore, MountSpec, Namespace, Op, Read as _,
    Remove,
};
use rpc::{ClusterKey, SystemClock, SystemEntropy};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use types::*;

const CLUSTER: ClusterId = ClusterId(0xc1);

fn config(dir: &Path, metastore: Metastore) -> MasterConfig {
    MasterConfig { metastore, ..MasterConfig::for_tests().below(dir) }
}

fn path(text: &str) -> GfsPath {
    GfsPath::parse(text).expect("a path")
}

fn create(name: &str, write_type: WriteType) -> Op {
    Op::CreateFile(CreateFile {
        path: path(name),
        block_bytes: 1 << 20,
        recursive: false,
        mode: Mode::new(0o644),
        write_type: Some(write_type),
    })
}

/// A state with a file on its way to its store, one that was written, and a removal that the store has not carried out.
fn state(dir: &Path, secrets: BTreeMap<String, Vec<u8>>) -> (MemoryStore, LogIndex) {
    let mut store = MemoryStore::default();
    let mut namespace = Namespace::open(&store).expect("empty");
    let root = MountSpec { secrets, ..MountSpec::plain(format!("file://{}", dir.join("ufs").display())) };
    let format = Format { cluster: CLUSTER, owner: "u".into(), group: "g".into(), mode: Mode::new(0o755), root };
    let block = ContainerId(30).block(0);
    let complete = CompleteFile {
        path: path("/async"),
        file: None,
        length: 10,
        checksum: None,
        locations: vec![(block.expect("the first"), vec![WorkerId(5)])],
        persist_after_ms: Some(0),
        force_persisted: false,
    };
    let ops = [
        Op::Format(format),
        create("/open", WriteType::MustCache),
        create("/async", WriteType::AsyncThrough),
        Op::CompleteFile(complete),
        create("/gone", WriteType::Through),
        Op::Remove(Remove { path: path("/gone"), recursive: false, goosefs_only: false }),
    ];
    for (at, op) in (1..).zip(ops) {
        let entry = Entry {
            wall: UnixMs(1_700_000_000_000),
            age: AgeMs(at),
            who: Caller { user: "u".into(), groups: vec!["g".into()], superuser: true },
            operation: None,
            ids: Ids { inode: InodeId(10 * at), container: ContainerId(10 * at), count: 1 },
            op,
        };
        let (changes, applied) = namespace.apply(&store, &[(LogIndex(at), entry)]).expect("memory answers");
        assert!(applied[0].outcome.is_ok(), "{:?}", applied[0].outcome);
        store.apply(&changes);
    }
    assert_eq!((namespace.intents().count(), meta::persists(&store, None, 9).expect("memory answers").len()), (1, 1));
    let applied = namespace.applied();
    (store, applied)
}

fn archive(store: &MemoryStore, index: LogIndex, key: ClusterId) -> Vec<u8> {
    let head = Head {
        index,
        term: Term(3),
        cluster: CLUSTER,
        key,
        incarnation: Incarnation(0),
        rules: meta::RULES_VERSION,
        written: UnixMs(1_700_000_000_000),
        release: "0.1.0".into(),
    };
    let (mut out, mut encoder) = (head.encode().to_vec(), Encoder::default());
    for family in Family::ALL {
        for (key, value) in store.scan(family, &[], &[0xff; 16], 1000).expect("memory answers") {
            out.extend(encoder.push(family, &key, &value).unwrap_or_default());
        }
    }
    out.extend(encoder.finish().0);
    out
}

async fn restore(config: &MasterConfig, bytes: &[u8], force: bool) -> Result<super::Restored, String> {
    let file = config.journal_dir.parent().expect("below the test's directory").join("backup");
    std::fs::write(&file, bytes).expect("written");
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let name = file.to_str().expect("a plain name");
    format_from_backup(config, clock, entropy, force, name, |_| ()).await.map_err(|error| error.to_string())
}

async fn start(config: &MasterConfig) -> Result<Master, String> {
    let started = Master::start(config.clone(), Arc::new(SystemClock), Arc::new(SystemEntropy)).await;
    started.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_is_ended_and_a_master_goes_on_from_there() {
    for metastore in [Metastore::Rocks, Metastore::Heap] {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(dir.path(), metastore);
        std::fs::create_dir_all(&config.root_ufs).expect("a root store");
        let (store, index) = state(dir.path(), BTreeMap::new());
        let restored = restore(&config, &archive(&store, index, ClusterId(1)), false).await.expect("restored");
        assert_eq!((restored.cluster, restored.intents, restored.held), (CLUSTER, 1, 1));
        assert_eq!(restored.held_paths, [path("/async")]);
        {
            let state = open_state(&config, &config.metastore_dir, CLUSTER).expect("a whole database");
            let namespace = Namespace::open(&*state).expect("whole");
            assert_eq!(namespace.check_invariants(&*state).expect("readable"), Vec::<String>::new());
            assert_eq!(namespace.intents().count(), 0);
            let file = meta::by_container(&*state, ContainerId(30)).expect("readable").expect("there");
            let file = file.spot.inode.file().expect("a file").clone();
            assert_eq!((file.persistence, file.length), (PersistenceState::NotPersisted, 10));
            let counters = namespace.counters();
            assert_eq!(counters.incarnation, Incarnation(1));
            assert!(counters.applied.0 > index.0 + (1 << 32), "sessions are numbered by it");
            assert!(meta::left_out(&*state).expect("readable").holds(ContainerId(100)));
        }
        for _ in 0..2 {
            let master = start(&config).await.expect("a master");
            assert!(master.is_ready());
            master.stop(Duration::ZERO).await.expect("stopped");
        }
        let again = restore(&config, &archive(&store, index, ClusterId(1)), false).await.expect_err("not empty");
        assert!(again.contains("not empty"), "{again}");
        restore(&config, &archive(&store, index, ClusterId(1)), true).await.expect("by force");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_whole_leaves_nothing_a_master_starts_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path(), Metastore::Rocks);
    std::fs::create_dir_all(&config.root_ufs).expect("a root store");
    let (store, index) = state(dir.path(), BTreeMap::new());
    let whole = archive(&store, index, ClusterId(1));
    let mut damaged = whole.clone();
    damaged[whole.len() - 60] ^= 1;
    for (bytes, why) in [
        (&whole[..whole.len() - 1], "before its own end"),
        (&whole[..40], "before its own end"),
        (&damaged[..], "its checksum is wrong"),
        (&b"hello"[..], "no backup of GooseFS"),
    ] {
        let refused = restore(&config, bytes, true).await.expect_err("refused");
        assert!(refused.contains(why), "{refused}");
        start(&config).await.map(drop).expect_err("nothing to start on");
    }
    restore(&config, &whole, true).await.expect("restored");
    start(&config).await.expect("a master").stop(Duration::ZERO).await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_need_the_key_they_were_sealed_with() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path(), Metastore::Heap);
    std::fs::create_dir_all(&config.root_ufs).expect("a root store");
    let key = ClusterKey::create(&config.key_file).expect("a new key");
    let sealed = key.seal(b"hush", crate::stores::SECRET_CONTEXT.as_bytes());
    let (store, index) = state(dir.path(), BTreeMap::from([("s".to_owned(), sealed)]));
    let refused = restore(&config, &archive(&store, index, ClusterId(1)), true).await.expect_err("another key");
    assert!(refused.contains("sealed with another key") && refused.contains("key file of the cluster"), "{refused}");
    start(&config).await.map(drop).expect_err("nothing to start on");
    restore(&config, &archive(&store, index, key.group_id()), true).await.expect("its own key");
    let newer = Bytes::from(archive(&store, index, ClusterId(1)));
    let newer = [b"goosefs-backup-9", &newer[16..]].concat();
    assert!(restore(&config, &newer, true).await.expect_err("refused").contains("newer release"));
}
