use super::*;
use crate::conformance::{self, Rig, Step};
use proptest::prelude::*;
use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const CLUSTER: ClusterId = ClusterId(0xc1);

/// Small enough that a history of large records flushes by itself.
fn small() -> RocksConfig {
    RocksConfig { block_cache_bytes: 1 << 20, memtable_bytes: 512 << 10, max_open_files: 64, ..RocksConfig::default() }
}

struct DirRig {
    dir: tempfile::TempDir,
    copies: Cell<u32>,
}

impl DirRig {
    fn new() -> DirRig {
        let rig = DirRig { dir: tempfile::tempdir().expect("a directory"), copies: Cell::new(0) };
        RocksStore::format(&rig.home(), CLUSTER).expect("format");
        rig
    }
    fn refusal(&self) -> StoreError {
        RocksStore::open(&self.home(), &small(), CLUSTER).err().expect("refused")
    }
}

impl Rig for DirRig {
    fn home(&self) -> PathBuf {
        self.dir.path().join("db")
    }
    fn fresh(&self) -> PathBuf {
        self.copies.set(self.copies.get() + 1);
        self.dir.path().join(format!("copy-{}", self.copies.get()))
    }
    fn open(&self, place: &Path) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(RocksStore::open(place, &small(), CLUSTER)?))
    }
}

fn put(index: u64, key: &str, value: &[u8]) -> Changes {
    let change = (Family::Edges, Bytes::copy_from_slice(key.as_bytes()), Some(Bytes::copy_from_slice(value)));
    conformance::batch(LogIndex(index), &[change])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn conforms(history in conformance::histories(40)) {
        conformance::run(&DirRig::new(), &history);
    }
}

#[test]
fn flushes_beside_commits() {
    conformance::flushes_beside_commits(&DirRig::new(), 5000);
}

#[test]
fn a_drop_without_a_flush_leaves_what_a_crash_leaves() {
    let rig = DirRig::new();
    let store = rig.open(&rig.home()).expect("open");
    store.commit(&put(1, "kept", b"")).expect("commit");
    store.flush().expect("flush");
    store.commit(&put(2, "lost", b"")).expect("commit");
    drop(store);
    let store = rig.open(&rig.home()).expect("open");
    assert_eq!((store.applied(), store.flushed()), (LogIndex(1), LogIndex(1)));
    assert_eq!(store.get(Family::Edges, b"lost").expect("get"), None);
}

#[test]
fn memtables_stay_within_their_budget_and_flush_by_themselves() {
    let rig = DirRig::new();
    let store = RocksStore::open(&rig.home(), &small(), CLUSTER).expect("open");
    for index in 1..=2000 {
        store.commit(&put(index, &format!("key-{index:08}"), &[7; 4096])).expect("commit");
        let used = store.usage().memtable_bytes();
        assert!(used <= 512 << 10, "{used} bytes of memtables");
    }
    assert_eq!(store.flushed(), LogIndex(0), "a flush of RocksDB's own does not count");
    let usage = store.usage();
    assert!(usage.disk_bytes() > 0 && usage.block_cache_capacity_bytes == 1 << 20, "{usage:?}");
    assert!(usage.families.iter().any(|of| of.family == Family::Edges && of.keys > 0), "{usage:?}");
    assert!(!usage.is_stopped && usage.background_errors == 0, "{usage:?}");
    drop(store);
    let store = rig.open(&rig.home()).expect("open");
    assert!(store.applied() > LogIndex(1000), "{} came back", store.applied());
}

#[test]
fn a_compaction_frees_what_removed_records_took_and_can_be_given_up() {
    let rig = DirRig::new();
    let store = RocksStore::open(&rig.home(), &small(), CLUSTER).expect("open");
    let noise = |index: u64| -> Vec<u8> {
        (1..=64).flat_map(|at| (index * 64 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect()
    };
    for index in 1..=4000 {
        store.commit(&put(index, &format!("key-{index:08}"), &noise(index))).expect("commit");
    }
    store.flush().expect("flush");
    for index in 1..=4000 {
        let gone = (Family::Edges, Bytes::from(format!("key-{index:08}")), None);
        store.commit(&conformance::batch(LogIndex(4000 + index), &[gone])).expect("commit");
    }
    store.flush().expect("flush");
    let before = store.usage();
    assert!(!store.compact(&mut || false).expect("nothing to fail"), "given up at once");
    assert!(store.compact(&mut || true).expect("compact"));
    store.settle().expect("settle");
    let after = store.usage();
    assert!(after.live_disk_bytes() < before.live_disk_bytes(), "{before:?} {after:?}");
    assert!(after.live_disk_bytes() < 100_000, "two megabytes were removed: {after:?}");
    let edges = after.families.iter().find(|one| one.family == Family::Edges).expect("all families");
    assert_eq!((edges.keys, edges.live_disk_bytes), (0, 0));
    assert_eq!(store.get(Family::Edges, b"key-00000001").expect("get"), None);
    let named = store.figures();
    let of = |name: &str| named.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    assert_eq!(of("RocksInodeLiveSstFilesSize"), Some(after.live_disk_bytes()));
    assert_eq!(of("RocksRecords.edges"), Some(0));
    assert_eq!(of("RocksWriteStopped"), Some(0));
}

/// Set for the process that is killed.
const VICTIM: &str = "STORE_TEST_VICTIM_DIR";

/// Not a test by itself: commits and flushes until somebody kills it, saying each index once it is flushed.
#[test]
fn victim() {
    let Ok(dir) = std::env::var(VICTIM) else { return };
    let store = RocksStore::open(Path::new(&dir), &small(), CLUSTER).expect("open");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in store.applied().0 + 1.. {
                let value = Some(Bytes::from(vec![7; 512]));
                let name = Bytes::from(format!("key-{index:016}"));
                let families = [Family::Edges, Family::Inodes, Family::Containers];
                let changes = families.map(|family| (family, name.clone(), value.clone()));
                store.commit(&conformance::batch(LogIndex(index), &changes)).expect("commit");
            }
        });
        loop {
            println!("flushed {}", store.flush().expect("flush").0);
        }
    });
}

#[test]
fn a_killed_process_loses_only_the_newest_commits() {
    let rig = DirRig::new();
    for round in 1..=4 {
        let mut victim = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "rocks::tests::victim", "--nocapture"])
            .env(VICTIM, rig.home())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the victim");
        let lines = BufReader::new(victim.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut flushed = lines.filter_map(|line| line.strip_prefix("flushed ")?.parse::<u64>().ok());
        let first = flushed.find(|index| *index >= 500 * round).expect("it flushes until it is killed");
        victim.kill().expect("kill");
        let last = flushed.last().unwrap_or(first);
        victim.wait().expect("it is dead");

        let store = rig.open(&rig.home()).expect("open after a kill");
        let applied = store.applied().0;
        assert!(applied >= last, "{last} was flushed, {applied} came back");
        for family in [Family::Edges, Family::Inodes, Family::Containers] {
            let found = store.scan(family, b"", b"z", usize::MAX).expect("scan");
            assert_eq!(u64::try_from(found.len()).expect("few"), applied, "{family:?}");
            let newest = found.last().map(|(key, _)| key.clone());
            assert_eq!(newest, Some(Bytes::from(format!("key-{applied:016}"))));
        }
    }
}

/// Set for the process whose disk is small.
const SMALL_DISK: &str = "STORE_TEST_SMALL_DISK";

/// Not a test by itself: fills the disk it was given.
#[test]
fn fill_disk() {
    let Ok(disk) = std::env::var(SMALL_DISK) else { return };
    let home = Path::new(&disk).join("db");
    RocksStore::format(&home, CLUSTER).expect("format");
    let store = RocksStore::open(&home, &small(), CLUSTER).expect("open");
    // Not compressible: each value follows from its index by a multiplication.
    let noise = |index: u64| -> Vec<u8> {
        (1..=512).flat_map(|at| (index * 512 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect()
    };
    let mut flushed = LogIndex(0);
    let error = (1..10_000).find_map(|index| {
        let step = store.commit(&put(index, &format!("key-{index:08}"), &noise(index)));
        let step = step.and_then(|()| if index % 50 == 0 { store.flush() } else { Ok(flushed) });
        step.map(|covered| flushed = covered).err()
    });
    let error = error.expect("a disk of 8 MiB does not hold 40 MB");
    assert_eq!(error.kind, ErrorKind::Full, "{error}");
    assert!(error.what.contains("free space on that disk"), "{error}");
    assert_eq!(store.flush().expect_err("still full").kind, ErrorKind::Full);
    drop(store);
    // What was flushed is there, read from the full disk.
    let store = RocksStore::open(&home, &small(), CLUSTER).map_err(|error| error.kind);
    match store {
        Ok(store) => {
            assert!(flushed > LogIndex(0) && store.applied() >= flushed);
            assert_eq!(store.get(Family::Edges, b"key-00000001").expect("get").expect("there"), noise(1));
        }
        Err(kind) => assert_eq!(kind, ErrorKind::Full),
    }
    println!("the disk was filled");
}

#[test]
fn a_full_disk_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = "mount -t tmpfs -o size=8m tmpfs \"$0\" && exec \"$1\" --exact rocks::tests::fill_disk --nocapture";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(dir.path())
        .arg(std::env::current_exe().expect("this test"))
        .env(SMALL_DISK, dir.path())
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("the disk was filled"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_checkpoint_beside_commits_shows_one_of_them() {
    let rig = DirRig::new();
    let store = rig.open(&rig.home()).expect("open");
    std::thread::scope(|scope| {
        let store = &store;
        let writer = scope.spawn(move || {
            for index in 1..=3000 {
                store.commit(&put(index, &format!("key-{index:08}"), b"value")).expect("commit");
            }
        });
        loop {
            let over = writer.is_finished();
            let place = rig.fresh();
            let flushed = store.flush().expect("flush");
            let applied = store.checkpoint(&place).expect("checkpoint");
            assert!(applied >= flushed);
            let copy = rig.open(&place).expect("open a checkpoint");
            assert_eq!(copy.applied(), applied);
            let records = copy.scan(Family::Edges, b"", b"z", usize::MAX).expect("scan").len();
            assert_eq!(u64::try_from(records).expect("few"), applied.0);
            if over {
                break;
            }
        }
    });
}

#[test]
fn what_a_checkpoint_left_unfinished_is_swept() {
    let rig = DirRig::new();
    let store = rig.open(&rig.home()).expect("open");
    let place = rig.fresh();
    fs::create_dir(durable::partial(&place)).expect("create");
    fs::write(durable::partial(&place).join("CURRENT"), b"half").expect("write");
    assert_eq!(store.checkpoint(&place).expect("checkpoint"), LogIndex(0));
    assert!(!durable::partial(&place).exists());
    assert_eq!(store.checkpoint(&place).expect_err("taken").kind, ErrorKind::AlreadyExists);
}

#[test]
fn a_missing_or_unformatted_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |dir: &Path| RocksStore::open(dir, &small(), CLUSTER).err().expect("refused");
    let error = open(&dir.path().join("absent"));
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.what.contains("there is no such directory; run `goosefs format`"), "{error}");
    let error = open(dir.path());
    assert_eq!(error.kind, ErrorKind::Precondition);
    assert!(error.what.contains("it holds no FORMAT file"), "{error}");
    fs::write(dir.path().join("something"), b"").expect("write");
    let error = RocksStore::format(dir.path(), CLUSTER).expect_err("refused");
    assert!(error.what.contains("the directory is not empty; move away what it holds"), "{error}");
    let file = dir.path().join("something");
    assert_eq!(open(&file).kind, ErrorKind::NotFound);
    RocksStore::format(&file, CLUSTER).expect_err("not a directory");
}

#[test]
fn a_foreign_or_newer_database_is_refused() {
    let rig = DirRig::new();
    let error = RocksStore::open(&rig.home(), &small(), ClusterId(2)).err().expect("refused");
    assert_eq!(error.kind, ErrorKind::Precondition);
    assert!(error.what.contains("it belongs to cluster-000000000000000000000000000000c1"), "{error}");
    let marker = rig.home().join("FORMAT");
    fs::write(&marker, fs::read_to_string(&marker).expect("read").replace("format 1", "format 2")).expect("write");
    assert!(rig.refusal().what.contains("it has format 2 and this program reads up to 1"));
}

#[test]
fn a_database_in_use_is_refused() {
    let rig = DirRig::new();
    let _held = rig.open(&rig.home()).expect("open");
    let error = rig.refusal();
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.what.contains("another process holds its lock; stop that master"), "{error}");
}

/// Removes or cuts each file of a database in turn.
#[test]
fn a_damaged_database_is_refused_or_says_so_when_read() {
    let rig = DirRig::new();
    let list =
        || -> Vec<_> { fs::read_dir(rig.home()).expect("list").map(|file| file.expect("list").file_name()).collect() };
    let formatted = list();
    conformance::run(
        &rig,
        &[Step::Commit(vec![(Family::Edges, Bytes::from("k"), Some(Bytes::from(vec![7; 4096])))]), Step::Flush],
    );
    let copy = |place: &Path| {
        fs::create_dir(place).expect("create");
        for file in fs::read_dir(rig.home()).expect("list").map(|file| file.expect("list")) {
            fs::copy(file.path(), place.join(file.file_name())).expect("copy");
        }
    };
    let names = list();
    let is_vital = |name: &str| name == "CURRENT" || name.starts_with("MANIFEST") || name.ends_with(".sst");
    let vital: Vec<_> = names.iter().filter(|name| is_vital(&name.to_string_lossy())).collect();
    assert!(vital.len() >= 4, "{names:?}");
    for name in vital {
        for cut in [false, true] {
            let place = rig.fresh();
            copy(&place);
            let path = place.join(name);
            if cut {
                let bytes = fs::read(&path).expect("read");
                fs::write(&path, &bytes[..bytes.len() / 2]).expect("write");
            } else {
                fs::remove_file(&path).expect("remove");
            }
            let opened = RocksStore::open(&place, &small(), CLUSTER);
            let error = opened.err().unwrap_or_else(|| panic!("{name:?} cut {cut} was not missed"));
            assert_eq!(error.kind, ErrorKind::Corrupt, "{name:?} cut {cut}: {error}");
            assert!(error.what.contains("restore the database from a backup or a checkpoint"), "{error}");
        }
    }
    // A flipped bit keeps the length: found when the record is read, which those of before are not.
    for name in names.iter().filter(|name| name.to_string_lossy().ends_with(".sst") && !formatted.contains(name)) {
        let place = rig.fresh();
        copy(&place);
        let mut bytes = fs::read(place.join(name)).expect("read");
        bytes[8] ^= 1;
        fs::write(place.join(name), bytes).expect("write");
        let read = RocksStore::open(&place, &small(), CLUSTER).and_then(|store| {
            store.get(Family::Edges, b"k")?;
            store.get(Family::State, b"applied")
        });
        assert_eq!(read.expect_err("a flipped bit").kind, ErrorKind::Corrupt, "{name:?}");
    }
}
