use super::*;
use crate::conformance::{self, Rig, Step};
use proptest::prelude::*;
use std::cell::Cell;
use std::path::PathBuf;

/// As a count of flushes.
const DELTAS: u64 = 64;
const _: () = assert!(MAX_DELTAS == 64);
const CLUSTER: ClusterId = ClusterId(0xc1);

/// A store on a disk in memory.
struct MemoryRig {
    disk: MemoryDisk,
    copies: Cell<u32>,
}

impl MemoryRig {
    fn new() -> MemoryRig {
        let disk = MemoryDisk::new("/db");
        HeapStore::format(&disk, CLUSTER).expect("format");
        MemoryRig { disk, copies: Cell::new(0) }
    }
}

impl Rig for MemoryRig {
    fn home(&self) -> PathBuf {
        "/db".into()
    }
    fn fresh(&self) -> PathBuf {
        self.copies.set(self.copies.get() + 1);
        format!("/copy-{}", self.copies.get()).into()
    }
    fn open(&self, place: &Path) -> Result<Box<dyn Store>, StoreError> {
        let disk = self.disk.at(place).expect("the rig's own place");
        Ok(Box::new(HeapStore::open(Arc::new(disk), CLUSTER)?))
    }
}

/// A store in a real directory.
struct DirRig {
    home: tempfile::TempDir,
    copies: Cell<u32>,
}

impl Rig for DirRig {
    fn home(&self) -> PathBuf {
        self.home.path().join("db")
    }
    fn fresh(&self) -> PathBuf {
        self.copies.set(self.copies.get() + 1);
        self.home.path().join(format!("copy-{}", self.copies.get()))
    }
    fn open(&self, place: &Path) -> Result<Box<dyn Store>, StoreError> {
        let disk = DirDisk::open(place)?;
        Ok(Box::new(HeapStore::open(Arc::new(disk), CLUSTER)?))
    }
}

impl DirRig {
    fn new() -> DirRig {
        let rig = DirRig { home: tempfile::tempdir().expect("a directory"), copies: Cell::new(0) };
        HeapStore::format(&DirDisk::create(&rig.home()).expect("create"), CLUSTER).expect("format");
        rig
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn conforms_in_memory(history in conformance::histories(60)) {
        conformance::run(&MemoryRig::new(), &history);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn conforms_on_a_directory(history in conformance::histories(30)) {
        conformance::run(&DirRig::new(), &history);
    }
}

#[test]
fn flushes_beside_commits() {
    conformance::flushes_beside_commits(&MemoryRig::new(), 2000);
    conformance::flushes_beside_commits(&DirRig::new(), 300);
}

/// Power goes at every half step of a history of flushes long enough to merge.
#[test]
fn a_power_cut_anywhere_leaves_a_commit() {
    let mut cut_at = 0;
    loop {
        let rig = MemoryRig::new();
        rig.disk.cut_power_after(cut_at);
        let mut acknowledged = LogIndex(0);
        let mut committed = LogIndex(0);
        let opened = HeapStore::open(Arc::new(rig.disk.clone()), CLUSTER);
        if let Ok(store) = &opened {
            for index in 1..=DELTAS + 3 {
                let value = Some(Bytes::copy_from_slice(&index.to_be_bytes()));
                let change = |family| (family, Bytes::from("counter"), value.clone());
                let changes = conformance::batch(LogIndex(index), &[change(Family::Edges), change(Family::Loads)]);
                store.commit(&changes).expect("memory does not need power");
                committed = LogIndex(index);
                // A flush that fails may be tried again.
                if let Ok(flushed) = store.flush().or_else(|_| store.flush()) {
                    acknowledged = flushed;
                }
            }
        }
        let survived = !rig.disk.is_dark();
        rig.disk.restore_power();
        let store = rig.open(&rig.home()).expect("open after a power cut");
        assert!((acknowledged..=committed).contains(&store.applied()), "cut at {cut_at}");
        let counter = (store.applied().0 > 0).then(|| Bytes::copy_from_slice(&store.applied().0.to_be_bytes()));
        for family in [Family::Edges, Family::Loads] {
            assert_eq!(store.get(family, b"counter").expect("get"), counter);
        }
        if survived {
            assert_eq!(acknowledged, committed);
            return;
        }
        cut_at += 1;
    }
}

#[test]
fn files_are_merged_and_stay_few() {
    let rig = MemoryRig::new();
    let store = rig.open(&rig.home()).expect("open");
    for index in 1..=5 * DELTAS {
        let change = (Family::Edges, Bytes::from(index.to_string()), Some(Bytes::from("x")));
        store.commit(&conformance::batch(LogIndex(index), &[change])).expect("commit");
        store.flush().expect("flush");
        assert!(rig.disk.list().expect("list").len() <= MAX_DELTAS + 2);
    }
}

#[test]
fn a_flush_the_disk_refused_is_made_good_by_the_next() {
    let rig = MemoryRig::new();
    let store = HeapStore::open(Arc::new(rig.disk.clone()), CLUSTER).expect("open");
    let put = |index: u64, value: &'static str| {
        let change = (Family::Edges, Bytes::from("k"), Some(Bytes::from(value)));
        store.commit(&conformance::batch(LogIndex(index), &[change])).expect("commit");
    };
    put(1, "first");
    for half_steps in [0, 1] {
        rig.disk.cut_power_after(half_steps);
        assert_eq!(store.flush().expect_err("dark").kind, ErrorKind::Unavailable);
        assert_eq!(store.flushed(), LogIndex(0));
    }
    put(2, "second");
    rig.disk.restore_power();
    assert_eq!(store.flush().expect("flush"), LogIndex(2));
    drop(store);
    let store = rig.open(&rig.home()).expect("open");
    assert_eq!(store.get(Family::Edges, b"k").expect("get"), Some(Bytes::from("second")));
}

#[test]
fn a_missing_or_damaged_file_is_refused_by_name() {
    let rig = MemoryRig::new();
    conformance::run(&rig, &[Step::Commit(vec![]), Step::Flush, Step::Commit(vec![]), Step::Flush]);
    let refusal = |rig: &MemoryRig| rig.open(&rig.home()).err().expect("refused");
    let first = file::name(1, false);
    let bytes = rig.disk.read(&first).expect("read");
    rig.disk.remove(&first).expect("remove");
    let error = refusal(&rig);
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.what.contains("the file before heap-0000000000000002.delta is missing"), "{error}");
    rig.disk.replace(&first, &bytes[..20]).expect("write");
    let error = refusal(&rig);
    assert!(error.what.contains("heap-0000000000000001.delta has a wrong checksum"), "{error}");
    assert!(error.what.ends_with("restore the database from a backup or a checkpoint"), "{error}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let _held = DirDisk::open(dir.path()).expect("open");
    let error = DirDisk::open(dir.path()).err().expect("refused");
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.what.contains("another process holds its lock"), "{error}");
    let error = DirDisk::open(&dir.path().join("absent")).err().expect("refused");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[test]
fn formatting_takes_an_empty_disk_only() {
    let disk = MemoryDisk::new("/db");
    disk.replace("something", b"").expect("write");
    let error = HeapStore::format(&disk, CLUSTER).expect_err("refused");
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    let error = HeapStore::open(Arc::new(disk), CLUSTER).err().expect("refused");
    assert!(error.what.contains("holds no FORMAT file"), "{error}");
}
