//! A database whose compaction stands still.

use super::*;
use meta::{Change as Record, Changes, Family, Read, Store};
use store::{RocksConfig, RocksStore};

/// Bytes of memtables: so few that some hundred records are a table.
const MEMTABLES: usize = 256 << 10;

fn directory(n: u64) -> Op {
    let path = GfsPath::parse(&format!("/d{n}")).expect("a path");
    Op::CreateDirectory(CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) })
}

/// The newest request's answer.
fn answer(world: &World) -> &Result<Done, Error> {
    world.answers.last_key_value().expect("it was answered").1
}

#[test]
fn a_compaction_that_stands_still_is_told_to_who_changes_something_and_the_master_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("db");
    RocksStore::format(&place, CLUSTER).expect("an empty directory");
    let config = RocksConfig { memtable_bytes: MEMTABLES, ..RocksConfig::default() };
    let store = Arc::new(RocksStore::open(&place, &config, CLUSTER).expect("formatted"));
    let mut world = World::new(21);
    let (alone, log) = (NodeConfig::new(MemberId(1), vec![MemberId(1)]), MemLog::new(CLUSTER));
    let (core, shared) = boot_on(alone, store.clone(), &world.clock, &log, 7);
    (world.core, world.shared, world.log) = (core, shared, log);
    world.settle();
    world.request(directory(0));
    world.settle();
    assert!(answer(&world).is_ok(), "{:?}", answer(&world));

    store.stall_compaction(true).expect("RocksDB takes it");
    let mut made = 0;
    while !store.is_behind() {
        made += 1;
        assert!(made < 1_000, "files of the top level gather");
        world.request(directory(made));
        world.settle();
        assert!(answer(&world).is_ok(), "{:?}", answer(&world));
        store.flush().expect("flush");
    }
    assert!(!store.usage().is_stopped, "it is said before a commit would have to wait");
    world.step(Event::Tick);
    world.clock.0.fetch_add(300, Ordering::Relaxed);
    world.step(Event::Tick);
    world.request(directory(made + 1));
    assert!(matches!(answer(&world), Err(Error::Behind)), "{:?}", answer(&world));
    assert_eq!(answer(&world).as_ref().map_err(Error::kind).err(), Some(types::ErrorKind::Busy), "to be tried again");
    let now = world.now();
    assert!(world.core.turn(now).is_ok(), "the master lives");
    let last = GfsPath::parse(&format!("/d{made}")).expect("a path");
    let read = meta::status(&world.shared.state.latest(), &Caller::system(), &last).expect("readable");
    assert!(read.is_ok(), "and answers reads");
    // What was committed already still fits.
    let change = Record { family: Family::Loads, key: Bytes::from_static(b"12345678x"), value: Some(Bytes::new()) };
    let applied = store.applied();
    store.commit(&Changes { applied, changes: vec![change] }).expect("it does not wait");
    assert!(store.get(Family::Loads, b"12345678x").expect("readable").is_some());

    store.stall_compaction(false).expect("RocksDB takes it");
    store.settle().expect("it catches up");
    world.step(Event::Tick);
    world.request(directory(made + 1));
    world.settle();
    assert!(answer(&world).is_ok(), "{:?}", answer(&world));
}
