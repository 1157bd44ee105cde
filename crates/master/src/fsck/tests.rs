//! A real master's directories, stopped, damaged one way after another, looked through and repaired.

use super::*;
use crate::server::Master;
use meta::{Op, plant};
use rpc::{SystemClock, SystemEntropy};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;
use types::{GfsPath, Principal};

pub(crate) fn config(dir: &Path, metastore: Metastore) -> MasterConfig {
    MasterConfig { metastore, ..MasterConfig::for_tests().below(dir) }
}

pub(crate) async fn start_master(config: &MasterConfig) -> Result<Master, String> {
    let started = Master::start(config.clone(), Arc::new(SystemClock), Arc::new(SystemEntropy)).await;
    started.map_err(|error| error.to_string())
}

/// The tree that faults are planted in, made by a master through its log, which is stopped cleanly.
pub(crate) async fn made(dir: &Path, metastore: Metastore) -> MasterConfig {
    let config = config(dir, metastore);
    fs::create_dir_all(&config.root_ufs).expect("a root store");
    fs::create_dir_all(dir.join("n")).expect("another store");
    crate::format(&config, &SystemEntropy, false).expect("formatted");
    let master = start_master(&config).await.expect("a fresh master");
    let mounted = format!("file://{}", dir.join("n").display());
    for op in plant::tree(&mounted) {
        master.handle().submit(&Principal::system(), None, op).await.expect("it is taken");
    }
    master.stop(Duration::ZERO).await.expect("stopped");
    damage(&config, plant::settle);
    config
}

/// Commits what `changes` makes of the records, as no master would.
pub(crate) fn damage(config: &MasterConfig, changes: impl FnOnce(&dyn meta::Read) -> Vec<Change>) {
    let store = open_state(config, &config.metastore_dir, cluster_of(config).expect("formatted")).expect("stopped");
    let mut changes = changes(&*store);
    changes.push(store::forget_live());
    store.commit(&Changes { changes, applied: store.applied() }).expect("committed");
    store.flush().expect("flushed");
}

/// One of each kind of fault, for the tree that [`made`] makes.
pub(crate) fn plants(config: &MasterConfig) -> Vec<plant::Plant> {
    let store = open_state(config, &config.metastore_dir, cluster_of(config).expect("formatted")).expect("stopped");
    plant::all(&*store)
}

pub(crate) fn named(config: &MasterConfig) -> Vec<Finding> {
    // An audit that was just told of its end may still hold the database.
    let fsck = testkit::eventually(Duration::from_secs(60), || Fsck::open(config));
    let mut found = Vec::new();
    fsck.look(|finding| found.push(finding.clone()), |_| ()).expect("readable");
    found
}

/// A database that is open already, with a journal nobody looks at.
fn opened(store: &Arc<dyn Store>) -> Fsck {
    let journal = Journal { is_whole: true, ..Journal::default() };
    Fsck { store: store.clone(), cluster: ClusterId(0), is_member: false, journal }
}

fn kinds(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.kind).collect()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let (entry, to) = (entry.expect("listed"), to.to_owned());
        let to = to.join(entry.file_name());
        match entry.file_type().expect("known").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

/// The same directories once more, elsewhere: the stores stay where they are.
pub(crate) fn twin(config: &MasterConfig, dir: &Path) -> MasterConfig {
    copy(&config.journal_dir, &dir.join("journal"));
    copy(&config.metastore_dir, &dir.join("metastore"));
    MasterConfig {
        journal_dir: dir.join("journal"),
        metastore_dir: dir.join("metastore"),
        work_dir: dir.join("work"),
        ..config.clone()
    }
}

/// Every kind that an audit knows, in a real database: named; repaired where that is promised, with a record of it; nothing
/// is wrong afterwards, and a master starts on what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_kind_is_named_and_repaired_where_that_is_promised() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = made(dir.path(), Metastore::Rocks).await;
    assert_eq!(named(&base), []);
    let plants = plants(&base);
    let mut repaired = BTreeSet::new();
    for (number, plant) in plants.into_iter().enumerate() {
        let config = twin(&base, &dir.path().join(format!("twin-{number}")));
        let changes = plant.changes;
        damage(&config, |_| changes);
        let found = named(&config);
        let wanted = found.iter().find(|finding| finding.kind == plant.kind);
        let wanted = wanted.unwrap_or_else(|| panic!("{} is not among {found:#?}", plant.kind));
        assert_eq!(wanted.is_repairable, plant.is_repairable, "{wanted:?}");
        assert!(!wanted.what.is_empty() && !wanted.advice.is_empty());
        if !plant.is_repairable {
            continue;
        }
        let mut kept = Vec::new();
        {
            let fsck = Fsck::open(&config).expect("stopped");
            let keep = |altered: &Altered| {
                kept.push(format!("{altered:?}"));
                Ok(())
            };
            assert!(fsck.repair(keep, |_| ()).expect("repaired") > 0, "{}", plant.kind);
        }
        assert!(kept.iter().any(|line| line.contains(plant.kind)), "{}: {kept:#?}", plant.kind);
        assert_eq!(named(&config), [], "{}", plant.kind);
        if repaired.insert(plant.kind) {
            let master = start_master(&config).await.unwrap_or_else(|why| panic!("{}: {why}", plant.kind));
            master.stop(Duration::ZERO).await.expect("stopped");
            assert_eq!(named(&config), [], "{} after a start", plant.kind);
        }
    }
    assert!(repaired.len() >= 24, "{repaired:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_bitmap_is_dropped_and_made_anew() {
    for metastore in [Metastore::Rocks, Metastore::Heap] {
        let dir = tempfile::tempdir().expect("a directory");
        let config = made(dir.path(), metastore).await;
        let master = start_master(&config).await.expect("started");
        let path = GfsPath::parse("/late").expect("a path");
        let mode = types::Mode::new(0o755);
        let op = meta::CreateDirectory { path, recursive: false, allow_exists: false, mode };
        master.handle().submit(&Principal::system(), None, Op::CreateDirectory(op)).await.expect("made");
        master.stop(Duration::ZERO).await.expect("stopped");
        let store =
            open_state(&config, &config.metastore_dir, cluster_of(&config).expect("formatted")).expect("stopped");
        let place = |key: &[u8]| key.starts_with(b"live/");
        let state = store.scan(Family::State, &[], &[0xff; 9], 100).expect("readable");
        let chunk = state.iter().find(|(key, _)| place(key)).expect("something lives").0.clone();
        for (value, words) in [(None, "does not live"), (Some(Bytes::from_static(&[9, 9, 9])), "cannot be read")] {
            let change = Change { family: Family::State, key: chunk.clone(), value };
            store.commit(&Changes { changes: vec![change], applied: store.applied() }).expect("committed");
            let fsck = opened(&store);
            let mut found = Vec::new();
            fsck.look(|finding| found.push(finding.clone()), |_| ()).expect("readable");
            assert_eq!(kinds(&found), BTreeSet::from(["live-drift"]), "{found:#?}");
            assert!(found[0].what.contains(words), "{found:#?}");
        }
        let fsck = opened(&store);
        assert_eq!(fsck.repair(|_| Ok(()), |_| ()).expect("repaired"), 1);
        drop((fsck, store));
        start_master(&config).await.expect("started").stop(Duration::ZERO).await.expect("stopped");
        assert_eq!(named(&config), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_master_is_refused_and_so_is_one_of_several_to_be_repaired() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = made(dir.path(), Metastore::Rocks).await;
    let master = start_master(&config).await.expect("started");
    let why = Fsck::open(&config).err().expect("refused").to_string();
    assert!(why.contains("another process holds its lock; stop that master"), "{why}");
    master.stop(Duration::ZERO).await.expect("stopped");

    let members = crate::peers::Members::new(&["a:1".to_owned(), "b:1".to_owned()]).expect("two");
    Group::create(&config.journal_dir, journal::MemberId(1), members, 7).expect("written");
    damage(&config, |read| plant::all(read).swap_remove(0).changes);
    assert_eq!(kinds(&named(&config)), BTreeSet::from(["place-missing"]));
    let fsck = Fsck::open(&config).expect("it may be looked at");
    let why = fsck.repair(|_| Ok(()), |_| ()).expect_err("refused").to_string();
    assert!(why.contains("one of several masters") && why.contains("doctor metadata --repair"), "{why}");
    drop(fsck);
    assert_eq!(kinds(&named(&config)), BTreeSet::from(["place-missing"]), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_does_not_fit_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = made(dir.path(), Metastore::Rocks).await;
    let mut number = 0;
    let mut fresh = |base: &MasterConfig| {
        number += 1;
        twin(base, &dir.path().join(format!("twin-{number}")))
    };
    let options = journal::SegmentOptions { segment_bytes: 1 << 20 };
    let format = |config: &MasterConfig, cluster| {
        journal::SegmentLog::format(&journal::disk::RealDisk, &config.journal_dir, cluster, options, true)
            .expect("empty");
    };

    let config = fresh(&base);
    format(&config, cluster_of(&config).expect("formatted"));
    assert_eq!(kinds(&named(&config)), BTreeSet::from(["journal-behind"]));

    let config = fresh(&base);
    format(&config, ClusterId(99));
    assert_eq!(kinds(&named(&config)), BTreeSet::from(["journal-behind", "journal-foreign"]));

    let config = fresh(&base);
    let start = journal::NewStart {
        after: LogIndex(1_000),
        after_term: types::Term(9),
        hard_state: journal::HardState::default(),
        generation: 9,
    };
    let cluster = cluster_of(&config).expect("formatted");
    journal::SegmentLog::reset(&journal::disk::RealDisk, &config.journal_dir, cluster, options, start).expect("anew");
    assert_eq!(kinds(&named(&config)), BTreeSet::from(["journal-gap"]));

    let config = fresh(&base);
    let segment: PathBuf = config.journal_dir.join("segment-0000000000000001.log");
    let file = fs::File::options().read(true).write(true).open(&segment).expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1024 + 40).expect("read");
    file.write_all_at(&[byte[0] ^ 1], 1024 + 40).expect("written");
    let found = named(&config);
    assert_eq!(kinds(&found), BTreeSet::from(["journal-unreadable"]), "{found:#?}");
    assert!(found[0].what.contains("the batch at byte 1024"), "{found:#?}");
    let why = Fsck::open(&config).expect("stopped").repair(|_| Ok(()), |_| ()).expect_err("refused").to_string();
    assert!(why.contains("which ids were given out"), "{why}");
}

/// Entries that the database does not have yet came with ids of their own: a repair takes others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_entries_that_wait_to_be_applied_are_not_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = made(dir.path(), Metastore::Rocks).await;
    let earlier = twin(&base, &dir.path().join("earlier"));
    let master = start_master(&base).await.expect("started");
    for name in 0..20 {
        let path = GfsPath::parse(&format!("/late-{name}")).expect("a path");
        let mode = types::Mode::new(0o755);
        let op = meta::CreateDirectory { path, recursive: false, allow_exists: false, mode };
        master.handle().submit(&Principal::system(), None, Op::CreateDirectory(op)).await.expect("made");
    }
    master.stop(Duration::ZERO).await.expect("stopped");
    // The database as a crash would have left it, and the whole log.
    fs::remove_dir_all(&earlier.journal_dir).expect("removed");
    copy(&base.journal_dir, &earlier.journal_dir);
    damage(&earlier, |read| plant::all(read).into_iter().find(|plant| plant.kind == "orphans").expect("there").changes);
    let fsck = Fsck::open(&earlier).expect("stopped");
    assert!(fsck.repair(|_| Ok(()), |_| ()).expect("repaired") > 0);
    drop(fsck);
    start_master(&earlier).await.expect("it replays").stop(Duration::ZERO).await.expect("stopped");
    assert_eq!(named(&earlier), []);
}
