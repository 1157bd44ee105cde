mod damage;

use super::io::memory::{Fault, MemoryIo, On};
use super::*;
use crate::store::io::real::RealIo;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tier::{PIECE_BYTES, Permille, Watermarks};
use types::{Fingerprint, MountId, Ordinal};

const MIB: u64 = 1024 * 1024;

fn config(path: &str, quota_bytes: u64) -> DirectoryConfig {
    DirectoryConfig {
        path: path.into(),
        tier: Ordinal(0),
        medium: Medium::Ssd,
        quota_bytes,
        watermarks: Watermarks { high: Permille::new(1000).expect("whole"), low: Permille::new(900).expect("below") },
    }
}

fn open_at(io: Arc<dyn BlockIo>, directories: &[DirectoryConfig]) -> Result<(BlockStore, Identity), WorkerError> {
    let budget = Budget::new(64 * MIB);
    BlockStore::open(directories, Settings::default(), io, budget, Arc::default(), 77)
}

fn open(io: &MemoryIo, quota_bytes: u64) -> BlockStore {
    open_at(Arc::new(io.clone()), &[config("/d", quota_bytes)]).expect("a directory in memory").0
}

fn block(index: u64) -> BlockId {
    ContainerId(5).block(index).expect("small")
}

fn origin(tag: &str) -> Origin {
    Origin { mount: MountId(1), key: "k".into(), fingerprint: Some(Fingerprint::Etag(tag.into())) }
}

fn pattern(seed: u64, length: u64) -> Bytes {
    (0..length).map(|at| u8::try_from((at / 7 + at + seed * 31) % 251).expect("below 251")).collect()
}

async fn put(store: &BlockStore, id: BlockId, class: Class, data: &Bytes) -> Result<(), WorkerError> {
    let length = u64::try_from(data.len()).expect("small");
    let mut stream = store.create(id, class, length.max(1)).await?;
    for part in data.chunks(100_000) {
        stream.append(Bytes::copy_from_slice(part)).await?;
    }
    stream.commit().await?;
    store.check_invariants();
    Ok(())
}

/// The whole of a block as far as it is here, or the first missing piece.
async fn get(store: &BlockStore, id: BlockId) -> Result<Result<Bytes, u32>, WorkerError> {
    let Some(lease) = store.lease(id).await? else { return Ok(Err(0)) };
    let mut all = Vec::new();
    let mut at = 0;
    while at < lease.length() {
        let end = (at + MIB).min(lease.length());
        match lease.read(at..end).await? {
            ReadOutcome::Bytes(bytes) => all.extend_from_slice(&bytes),
            ReadOutcome::Missing { piece } => return Ok(Err(piece)),
        }
        at = end;
    }
    Ok(Ok(all.into()))
}

#[tokio::test]
async fn committed_blocks_of_every_size_survive_a_crash_when_they_must() {
    let io = MemoryIo::default();
    let store = open(&io, 64 * MIB);
    let sizes = [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * MIB + 17];
    for (index, size) in (0..).zip(sizes) {
        put(&store, block(index), Class::Unpersisted, &pattern(index, size)).await.expect("there is room");
        put(&store, block(100 + index), Class::Evictable, &pattern(index, size)).await.expect("there is room");
    }
    let mut cut_off = store.create(block(50), Class::Unpersisted, MIB).await.expect("there is room");
    cut_off.append(pattern(1, 5)).await.expect("memory");
    cut_off.flush().await.expect("memory");
    for after in [io.kill(), io.crash()] {
        let store = open(&after, 64 * MIB);
        store.check_invariants();
        for (index, size) in (0..).zip(sizes) {
            assert_eq!(get(&store, block(index)).await.expect("readable"), Ok(pattern(index, size)));
            let cached = get(&store, block(100 + index)).await.expect("readable");
            assert!(cached == Ok(pattern(index, size)) || cached == Err(0), "whole or not here");
        }
        assert_eq!(store.resident(block(50)), None, "never committed");
        store.tidy();
        assert!(after.paths().iter().all(|path| !path.to_string_lossy().ends_with(".tmp")), "{:?}", after.paths());
    }
}

#[tokio::test]
async fn a_dropped_stream_leaves_nothing() {
    let io = MemoryIo::default();
    let store = open(&io, 64 * MIB);
    let mut stream = store.create(block(0), Class::Evictable, 4 * MIB).await.expect("there is room");
    stream.append(pattern(0, 3 * MIB)).await.expect("there is room");
    assert!(store.lease(block(0)).await.expect("readable").is_none(), "nobody sees it before its commit");
    assert!(store.create(block(0), Class::Evictable, MIB).await.is_err(), "one stream at a time");
    drop(stream);
    store.tidy();
    store.check_invariants();
    assert_eq!((store.block_count(), store.directories()[0].used_bytes), (0, 0));
    assert!(io.paths().iter().all(|path| !path.starts_with("/d/blocks")), "{:?}", io.paths());
    put(&store, block(0), Class::Evictable, &pattern(0, 10)).await.expect("the name is free again");
}

#[tokio::test]
async fn a_flipped_bit_is_a_miss_that_heals_or_a_named_loss() {
    let io = MemoryIo::default();
    let store = open(&io, 64 * MIB);
    put(&store, block(0), Class::Evictable, &pattern(0, 3 * PIECE_BYTES)).await.expect("there is room");
    put(&store, block(1), Class::Unpersisted, &pattern(1, 3 * PIECE_BYTES)).await.expect("there is room");
    for path in io.paths().iter().filter(|path| path.to_string_lossy().ends_with(".data")) {
        io.flip(path, PIECE_BYTES + 3);
    }
    assert_eq!(get(&store, block(0)).await.expect("a miss is no error"), Err(1));
    assert_eq!(store.resident(block(0)), Some(2 * PIECE_BYTES));
    store.check_invariants();
    let lease = store.lease(block(0)).await.expect("readable").expect("two pieces are here");
    let piece = pattern(0, 3 * PIECE_BYTES).slice(65536..131072);
    assert_eq!(lease.fill(1, piece).await.expect("there is room"), PIECE_BYTES);
    drop(lease);
    assert_eq!(get(&store, block(0)).await.expect("healed"), Ok(pattern(0, 3 * PIECE_BYTES)));
    let lost = get(&store, block(1)).await.expect_err("the only copy");
    assert_eq!(lost.kind(), types::ErrorKind::Corrupt);
    assert!(lost.to_string().contains("damaged at byte 65536"), "{lost}");
    assert_eq!(store.inner.metrics.damaged_pieces.get(), 2);
    assert_eq!(store.opens(block(1)), 0);
}

#[tokio::test]
async fn pieces_are_filled_in_any_order_and_kept_over_a_restart() {
    let io = MemoryIo::default();
    let store = open(&io, 64 * MIB);
    let length = 10 * PIECE_BYTES + 100;
    let whole = pattern(3, length);
    let lease = store.lease_to_fill(block(0), length, &origin("a")).await.expect("there is room");
    for first in [10, 3, 4] {
        let start = usize::try_from(u64::from(first) * PIECE_BYTES).expect("small");
        let end = (start + 65536).min(whole.len());
        lease.fill(first, whole.slice(start..end)).await.expect("there is room");
    }
    assert_eq!((lease.present_until(3, 99), lease.missing_until(5, 99)), (5, 10));
    drop(lease);
    store.check_invariants();
    store.tidy();
    let store = open(&io.kill(), 64 * MIB);
    assert_eq!(store.resident_on(block(0)), Some((2 * PIECE_BYTES + 100, Medium::Ssd)));
    let lease = store.lease(block(0)).await.expect("readable").expect("here");
    let ReadOutcome::Bytes(bytes) = lease.read(length - 50..length).await.expect("readable") else { panic!("here") };
    assert_eq!(bytes, whole.slice(whole.len() - 50..));
    drop(lease);
    let other = store.lease_to_fill(block(0), length, &origin("b")).await.expect("there is room");
    assert!(!other.has(3), "bytes of two versions never mix");
}

#[tokio::test]
async fn a_full_store_evicts_what_may_go_and_says_so_when_nothing_may() {
    let io = MemoryIo::default();
    let store = open(&io, 10 * MIB);
    for index in 0..10 {
        put(&store, block(index), Class::Evictable, &pattern(index, MIB)).await.expect("there is room");
    }
    put(&store, block(20), Class::Pinned, &pattern(20, 3 * MIB)).await.expect("three leave");
    assert_eq!((store.resident(block(2)), store.resident(block(3))), (None, Some(MIB)));
    let changes = store.take_changes(1000);
    assert!(changes.contains(&Change::Gone(block(0))), "{changes:?}");
    assert!(changes.contains(&Change::Here(Report { block: block(20), resident_bytes: 3 * MIB, unpersisted: true })));
    assert!(!store.has_changes());
    let full = put(&store, block(21), Class::Pinned, &pattern(1, 8 * MIB)).await.expect_err("must stay, no room");
    assert_eq!(full.kind(), types::ErrorKind::Full, "{full}");
    store.make_evictable(ContainerId(5)).await.expect("readable");
    put(&store, block(21), Class::Pinned, &pattern(1, 8 * MIB)).await.expect("the first may go now");
}

#[tokio::test]
async fn freeing_a_generation_leaves_open_readers_alone() {
    let io = MemoryIo::default();
    let store = open(&io, 10 * MIB);
    put(&store, block(0), Class::Pinned, &pattern(0, MIB)).await.expect("there is room");
    let lease = store.lease(block(0)).await.expect("readable").expect("here");
    assert_eq!(store.free(ContainerId(5)), 1);
    let ReadOutcome::Bytes(bytes) = lease.read(0..MIB).await.expect("still open") else { panic!("still open") };
    assert_eq!(bytes, pattern(0, MIB));
    put(&store, block(0), Class::Evictable, &pattern(9, MIB)).await.expect("the name is free");
    drop(lease);
    store.tidy();
    store.check_invariants();
    assert_eq!(get(&store, block(0)).await.expect("readable"), Ok(pattern(9, MIB)), "the late close hit nobody else");
}

#[tokio::test]
async fn a_failing_directory_is_shut_and_the_others_go_on() {
    let io = MemoryIo::default();
    let directories = [config("/bad", 10 * MIB), config("/good", 9 * MIB)];
    let (store, _) = open_at(Arc::new(io.clone()), &directories).expect("both work");
    put(&store, block(0), Class::Unpersisted, &pattern(0, MIB)).await.expect("on /bad, which is larger");
    io.fail(Fault { on: On::Create, path: "/bad/blocks".into(), skip: 0, times: u64::MAX, errno: 30 });
    put(&store, block(1), Class::Evictable, &pattern(1, MIB)).await.expect("/good takes it");
    assert!(store.directories()[0].lost.contains("Read-only file system"), "{:?}", store.directories());
    assert_eq!(get(&store, block(0)).await.expect("readable"), Ok(pattern(0, MIB)), "what it holds can be read");
}

#[tokio::test]
async fn no_space_is_a_clear_refusal_that_ends_when_there_is_room() {
    let io = MemoryIo::default();
    let store = open(&io, 100 * MIB);
    put(&store, block(0), Class::Evictable, &pattern(0, 2 * MIB)).await.expect("there is room");
    io.limit(3 * MIB);
    let full = put(&store, block(1), Class::Evictable, &pattern(1, 2 * MIB)).await.expect_err("the disk is full");
    assert_eq!(full.kind(), types::ErrorKind::Full);
    assert!(full.to_string().contains("the file system of"), "{full}");
    assert!(put(&store, block(2), Class::Evictable, &pattern(1, 10)).await.is_err(), "shut until there is room");
    io.limit(100 * MIB);
    store.tidy();
    put(&store, block(2), Class::Evictable, &pattern(1, 10)).await.expect("open again");
    store.check_invariants();
}

#[tokio::test]
async fn a_read_that_fails_once_is_made_again_and_is_no_damage() {
    let io = MemoryIo::default();
    let store = open(&io, 100 * MIB);
    let data = pattern(0, 3 * PIECE_BYTES);
    put(&store, block(0), Class::Unpersisted, &data).await.expect("there is room");
    io.fail(Fault { on: On::Read, path: ".data".into(), skip: 1, times: 1, errno: 5 });
    assert_eq!(get(&store, block(0)).await.expect("readable"), Ok(data));
    assert_eq!(store.inner.metrics.damaged_pieces.get(), 0);
}

#[tokio::test]
async fn reads_that_keep_failing_take_the_directory_out() {
    let io = MemoryIo::default();
    let store = open(&io, 100 * MIB);
    for index in 0..40 {
        put(&store, block(index), Class::Evictable, &pattern(0, 10)).await.expect("there is room");
    }
    io.fail(Fault { on: On::Read, path: ".data".into(), skip: 0, times: u64::MAX, errno: 5 });
    for index in 0..40 {
        assert_eq!(get(&store, block(index)).await.expect("a miss"), Err(0));
    }
    assert!(store.directories()[0].lost.contains("reads failed"), "{:?}", store.directories());
    assert_eq!(store.block_count(), 0);
    store.check_invariants();
}

#[test]
fn directories_know_whom_they_belong_to() {
    let io = MemoryIo::default();
    let (store, first) = open_at(Arc::new(io.clone()), &[config("/a", MIB)]).expect("new");
    assert_eq!((first.identity, first.worker), (77, None));
    let again = open_at(Arc::new(io.clone()), &[config("/a", MIB)]).err().expect("in use");
    assert!(again.to_string().contains("/a is in use by another worker"), "{again}");
    let joined = Identity { worker: Some(types::WorkerId(4)), cluster: Some(types::ClusterId(9)), ..first };
    store.set_identity(&joined).expect("memory");
    drop(store);
    let (store, known) = open_at(Arc::new(io.clone()), &[config("/b", MIB), config("/a", MIB)]).expect("one is new");
    assert_eq!(known, joined);
    drop(store);
    let foreign = MemoryIo::default();
    for (path, identity) in [("/a", 1), ("/b", 2)] {
        let dir = Dir { index: DirIndex(0), root: path.into() };
        foreign.make_dir(&dir.root).expect("memory");
        dir.set_identity(&foreign, &Identity { identity, ..joined }).expect("memory");
    }
    let refused = open_at(Arc::new(foreign), &[config("/a", MIB), config("/b", MIB)]).err().expect("mixed");
    assert!(refused.to_string().contains("/a and /b belong to different workers"), "{refused}");
}

#[tokio::test]
async fn a_damaged_sidecar_sets_the_block_aside() {
    let io = MemoryIo::default();
    let store = open(&io, 100 * MIB);
    put(&store, block(0), Class::Unpersisted, &pattern(0, 10)).await.expect("there is room");
    let meta = io.paths().into_iter().find(|path| path.extension().is_some_and(|end| end == "meta")).expect("one");
    io.flip(&meta, 20);
    let after = io.kill();
    let store = open(&after, 100 * MIB);
    assert_eq!((store.block_count(), store.metrics().damaged_blocks.get()), (0, 1));
    assert_eq!(after.paths().iter().filter(|path| path.starts_with("/d/damaged")).count(), 2);
}

#[tokio::test]
async fn real_files_hold_blocks_too() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let directories = [config(&home.path().join("d").to_string_lossy(), 64 * MIB)];
    let (store, _) = open_at(Arc::new(RealIo), &directories).expect("new");
    put(&store, block(0), Class::Unpersisted, &pattern(0, 2 * MIB + 5)).await.expect("there is room");
    let lease = store.lease_to_fill(block(1), MIB, &origin("a")).await.expect("there is room");
    lease.fill(0, pattern(1, MIB)).await.expect("there is room");
    drop(lease);
    store.tidy();
    let again = open_at(Arc::new(RealIo), &directories).err().expect("locked");
    assert!(again.to_string().contains("in use"), "{again}");
    drop(store);
    let (store, _) = open_at(Arc::new(RealIo), &directories).expect("ours again");
    assert_eq!(get(&store, block(0)).await.expect("readable"), Ok(pattern(0, 2 * MIB + 5)));
    assert_eq!(get(&store, block(1)).await.expect("readable"), Ok(pattern(1, MIB)));
    assert_eq!(store.budget().held_bytes(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Put { index: u64, kib: u64, class: u8 },
    Fill { index: u64, piece: u32 },
    Get { index: u64 },
    Remove { index: u64 },
    Tidy,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0u64..6;
    prop_oneof![
        4 => (index(), 1u64..900, 0u8..3).prop_map(|(index, kib, class)| Step::Put { index, kib, class }),
        4 => (10u64..13, 0u32..8).prop_map(|(index, piece)| Step::Fill { index, piece }),
        4 => (0u64..13).prop_map(|index| Step::Get { index }),
        2 => (0u64..13).prop_map(|index| Step::Remove { index }),
        1 => Just(Step::Tidy),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is read is what was written; what must stay is always there.
    #[test]
    fn the_store_agrees_with_a_map(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut io = MemoryIo::default();
            let mut store = open(&io, 2 * MIB);
            let mut model: BTreeMap<BlockId, (Class, Bytes)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put { index, kib, class } => {
                        let class = [Class::Evictable, Class::Pinned, Class::Unpersisted][usize::from(class)];
                        let data = pattern(index + kib, kib * 1024);
                        if put(&store, block(index), class, &data).await.is_ok() {
                            model.insert(block(index), (class, data));
                        }
                    }
                    Step::Fill { index, piece } => {
                        let whole = pattern(index, 8 * PIECE_BYTES);
                        if let Ok(lease) = store.lease_to_fill(block(index), 8 * PIECE_BYTES, &origin("a")).await {
                            let start = usize::try_from(u64::from(piece) * PIECE_BYTES).expect("small");
                            let _ = lease.fill(piece, whole.slice(start..start + 65536)).await;
                        }
                    }
                    Step::Get { index: index @ 10.. } => {
                        if let Some(lease) = store.lease(block(index)).await.expect("readable") {
                            let whole = pattern(index, 8 * PIECE_BYTES);
                            for piece in (0..8).filter(|piece| lease.has(*piece)) {
                                let start = u64::from(piece) * PIECE_BYTES;
                                let read = lease.read(start..start + PIECE_BYTES).await.expect("readable");
                                let ReadOutcome::Bytes(bytes) = read else { panic!("it is here") };
                                let start = usize::try_from(start).expect("small");
                                assert_eq!(bytes, whole.slice(start..start + 65536));
                            }
                        }
                    }
                    Step::Get { index } => {
                        let found = get(&store, block(index)).await.expect("readable");
                        match (found, model.get(&block(index))) {
                            (Ok(bytes), Some((_, data))) => assert_eq!(&bytes, data),
                            (Err(0), Some((Class::Evictable, _)) | None) => {}
                            (found, known) => panic!("{index}: {found:?} but {:?}", known.map(|(class, _)| class)),
                        }
                    }
                    Step::Remove { index } => {
                        store.remove(block(index));
                        model.remove(&block(index));
                    }
                    Step::Tidy => store.tidy(),
                    Step::Kill => {
                        // What was removed and not yet swept off the disk would come back: in production the master
                        // frees it again, here it is tidied first.
                        store.tidy();
                        io = io.kill();
                        store = open(&io, 2 * MIB);
                    }
                }
                store.check_invariants();
                assert_eq!(store.budget().held_bytes(), 0);
                assert!(store.directories()[0].used_bytes <= 2 * MIB);
            }
        });
    }
}
