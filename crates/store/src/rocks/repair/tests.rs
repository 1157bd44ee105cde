use super::*;
use crate::conformance;
use bytes::Bytes;
use meta::Read as _;
use std::collections::BTreeMap;

const CLUSTER: ClusterId = ClusterId(0xc1);
const RECORDS: u64 = 20_000;

fn key(n: u64) -> String {
    format!("directory-{}/file-{n:08}", n / 1_000)
}

fn value(n: u64) -> Bytes {
    // Not compressible, so that there are many blocks.
    (0..8).flat_map(|at| (n * 8 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect::<Vec<u8>>().into()
}

fn config() -> RocksConfig {
    RocksConfig { block_cache_bytes: 1 << 20, memtable_bytes: 8 << 20, ..RocksConfig::default() }
}

fn open(dir: &Path) -> Result<RocksStore, StoreError> {
    RocksStore::open(dir, &config(), CLUSTER)
}

/// A database of many blocks, compacted.
fn filled(dir: &Path) {
    RocksStore::format(dir, CLUSTER).expect("an empty directory");
    let store = open(dir).expect("formatted");
    for first in (0..RECORDS).step_by(1_000) {
        let records: Vec<_> = (first..first + 1_000)
            .map(|n| (Family::Edges, Bytes::from(key(n)), Some(value(n))))
            .chain([(Family::Inodes, Bytes::from(key(first)), Some(value(first)))])
            .collect();
        store.commit(&conformance::batch(LogIndex(first + 1), &records)).expect("commit");
    }
    store.flush().expect("flush");
    assert!(store.compact(&mut || true).expect("compact"));
    store.settle().expect("settle");
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).expect("list").map(|file| file.expect("list").path());
    let mut tables: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == "sst")).collect();
    tables.sort_by_key(|path| fs::metadata(path).expect("it is there").len());
    tables
}

fn edges(dir: &Path) -> BTreeMap<Bytes, Bytes> {
    let store = open(dir).expect("it opens");
    store.scan(Family::Edges, b"", b"z", usize::MAX).expect("it reads").into_iter().collect()
}

#[test]
fn a_bad_block_costs_its_own_records_and_no_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("db");
    filled(&home);
    let largest = tables(&home).pop().expect("a table");
    let mut bytes = fs::read(&largest).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&largest, bytes).expect("write");
    let read = open(&home).expect("it opens").scan(Family::Edges, b"", b"z", usize::MAX);
    assert_eq!(read.expect_err("a bad block").kind, ErrorKind::Corrupt);

    let repaired = RocksStore::repair(&home, CLUSTER).expect("it can be repaired");
    assert_eq!((repaired.applied, repaired.gaps.len(), repaired.without_manifest), (LogIndex(RECORDS - 999), 1, false));
    let gap = &repaired.gaps[0];
    let left = edges(&home);
    let lost = usize::try_from(RECORDS).expect("few") - left.len();
    assert!((1..400).contains(&lost), "{lost} records were lost for one block of 16 KiB");
    for n in 0..RECORDS {
        let key = Bytes::from(key(n));
        let is_lost = gap.after[..] < key[..] && gap.before.as_ref().is_none_or(|before| key[..] < before[..]);
        match left.get(&key) {
            Some(found) => assert_eq!(*found, value(n)),
            None => assert!(is_lost, "{key:?} is not between the keys that are named: {gap:?}"),
        }
    }
    assert!(repaired.kept.join(largest.file_name().expect("a name")).exists(), "the old files stay");
    let error = RocksStore::repair(&home, CLUSTER).expect_err("the old files would be in the way");
    assert!(error.what.contains("holds what an earlier repair left: move it"), "{error}");
}

#[test]
fn tables_without_a_manifest_are_all_there_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("db");
    filled(&home);
    let all = edges(&home);
    for file in fs::read_dir(&home).expect("list").map(|file| file.expect("list").path()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST")) {
            fs::remove_file(file).expect("remove");
        }
    }
    assert_eq!(open(&home).err().expect("no manifest").kind, ErrorKind::Corrupt);
    let repaired = RocksStore::repair(&home, CLUSTER).expect("it can be repaired");
    assert!(repaired.without_manifest && repaired.gaps.is_empty(), "{repaired:?}");
    assert_eq!((repaired.applied, edges(&home)), (LogIndex(RECORDS - 999), all));
}

#[test]
fn a_repair_that_was_cut_short_is_finished_by_the_next_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("db");
    filled(&home);
    let all = edges(&home);
    // As it is when the old marker has moved away, and some of the old files.
    let place = Place::new(&home);
    let copy = open(&home).expect("it opens");
    copy.checkpoint(&place.fresh).expect("a copy");
    drop(copy);
    fs::create_dir(&place.kept).expect("make");
    fs::rename(home.join(marker::NAME), place.kept.join(marker::NAME)).expect("move");
    let table = tables(&home).pop().expect("a table");
    fs::rename(&table, place.kept.join(table.file_name().expect("a name"))).expect("move");
    let error = open(&home).err().expect("refused");
    assert!(error.what.contains("it holds no FORMAT file"), "{error}");
    RocksStore::repair(&home, CLUSTER).expect("it goes on");
    assert_eq!(edges(&home), all);
    assert!(!place.fresh.exists() && !place.ready.exists());
}

#[test]
fn a_database_that_is_whole_stays_what_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("db");
    filled(&home);
    let all = edges(&home);
    let held = open(&home).expect("it opens");
    assert_eq!(RocksStore::repair(&home, CLUSTER).expect_err("a master has it").kind, ErrorKind::Busy);
    drop(held);
    let repaired = RocksStore::repair(&home, CLUSTER).expect("nothing to do");
    assert!(repaired.gaps.is_empty() && !repaired.without_manifest);
    assert_eq!(edges(&home), all);
    let error = RocksStore::repair(&home, ClusterId(1)).expect_err("another cluster's");
    assert_ne!(error.kind, ErrorKind::Corrupt);
}
