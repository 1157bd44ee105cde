use super::*;
use crate::cache::Lru;
use crate::conformance::{SetWhenDropped, batch};
use crate::{HeapStore, MemoryDisk, RocksConfig, RocksStore};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;
use types::{ClusterId, ErrorKind, LogIndex};

/// Far longer than any step takes.
const DEADLINE: Duration = Duration::from_secs(30);
const CLUSTER: ClusterId = ClusterId(1);

fn heap() -> HeapStore {
    let disk = MemoryDisk::new("/db");
    HeapStore::format(&disk, CLUSTER).expect("format");
    HeapStore::open(Arc::new(disk), CLUSTER).expect("open")
}

fn published<S: Store + ?Sized>(store: Arc<S>, cache_bytes: usize) -> Published<S> {
    Published::new(store, cache_bytes, || Box::new(Lru::default()))
}

fn edge(directory: u64, name: &str) -> Bytes {
    Bytes::from([&directory.to_be_bytes()[..], name.as_bytes()].concat())
}

fn put(family: Family, key: &Bytes, value: &str) -> (Family, Bytes, Option<Bytes>) {
    (family, key.clone(), Some(Bytes::copy_from_slice(value.as_bytes())))
}

/// A writer moves one file to and fro; wherever readers look, they find it once, in its place and in its inode's.
fn a_moving_file_is_always_in_one_place<S: Store>(store: S, cache_bytes: usize, moves: u64) {
    let published = published(Arc::new(store), cache_bytes);
    let (here, there) = (edge(1, "file"), edge(2, "file"));
    let inode = Bytes::copy_from_slice(&9u64.to_be_bytes());
    published
        .publish(&batch(LogIndex(1), &[put(Family::Edges, &here, "9"), put(Family::Inodes, &inode, "1")]))
        .unwrap();
    let done = AtomicBool::new(false);
    let reads: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0;
                    while !done.load(Ordering::Acquire) {
                        let listed = published.read(|view| -> Result<usize, StoreError> {
                            let by_inode = view.get(Family::Inodes, &inode)?.expect("the inode never goes");
                            let (one, two) = (view.get(Family::Edges, &here)?, view.get(Family::Edges, &there)?);
                            // Also in an attempt that will be thrown away.
                            assert_eq!(u8::from(one.is_some()) + u8::from(two.is_some()), 1);
                            assert_eq!(by_inode, if one.is_some() { "1" } else { "2" });
                            let page =
                                |id: u64| view.scan(Family::Edges, &id.to_be_bytes(), &(id + 1).to_be_bytes(), 10);
                            let both = view.scan(Family::Edges, b"", &[255; 9], 10)?.len();
                            assert_eq!(both, 1);
                            Ok(page(1)?.len() + page(2)?.len())
                        });
                        assert_eq!(listed.expect("only a broken view has errors"), 1);
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let over = SetWhenDropped(&done);
        for index in 2..moves + 2 {
            let (from, to, id) = if index % 2 == 0 { (&here, &there, "2") } else { (&there, &here, "1") };
            let moved =
                [put(Family::Edges, to, "9"), put(Family::Inodes, &inode, id), (Family::Edges, from.clone(), None)];
            published.publish(&batch(LogIndex(index), &moved)).unwrap();
        }
        drop(over);
        readers.into_iter().map(|reader| reader.join().expect("the reader's own assertions")).sum()
    });
    let counts = published.statistics();
    assert!(reads > 0 && counts.latched <= reads && counts.retries >= counts.latched, "{reads} reads, {counts:?}");
}

#[test]
fn half_a_rename_is_never_seen_in_memory() {
    for cache_bytes in [0, 8 << 10, 1 << 20] {
        a_moving_file_is_always_in_one_place(heap(), cache_bytes, 20_000);
    }
}

#[test]
fn half_a_rename_is_never_seen_on_disk() {
    for cache_bytes in [0, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        RocksStore::format(dir.path(), CLUSTER).unwrap();
        let config = RocksConfig { memtable_bytes: 1 << 20, ..RocksConfig::default() };
        let store = RocksStore::open(dir.path(), &config, CLUSTER).unwrap();
        a_moving_file_is_always_in_one_place(store, cache_bytes, 20_000);
    }
}

type Stop = (mpsc::Sender<()>, mpsc::Receiver<()>);

/// A store that stops after it read, until it is told to go on.
struct Gate {
    store: HeapStore,
    /// Keys whose readers say "read" and wait for "go on", once.
    stops: Mutex<BTreeMap<Bytes, Stop>>,
    fails: AtomicBool,
}

impl Gate {
    fn new() -> Gate {
        Gate { store: heap(), stops: Mutex::default(), fails: AtomicBool::new(false) }
    }
    /// The next reader of `key` announces itself on the receiver and waits for the sender.
    fn stop(&self, key: &Bytes) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((read, has_read), (go, may_go)) = (mpsc::channel(), mpsc::channel());
        self.stops.lock().insert(key.clone(), (read, may_go));
        (has_read, go)
    }
}

impl Read for Gate {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.store.get(family, key);
        let stop = self.stops.lock().remove(key);
        if let Some((read, may_go)) = stop {
            read.send(()).unwrap();
            may_go.recv().unwrap();
        }
        value
    }
    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.store.scan(family, start, end, limit)
    }
}

impl Store for Gate {
    fn commit(&self, changes: &Changes) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Acquire) {
            return Err(StoreError { what: "no".into(), kind: ErrorKind::Full });
        }
        self.store.commit(changes)
    }
    fn applied(&self) -> LogIndex {
        self.store.applied()
    }
    fn flush(&self) -> Result<LogIndex, StoreError> {
        self.store.flush()
    }
    fn flushed(&self) -> LogIndex {
        self.store.flushed()
    }
    fn checkpoint(&self, dir: &Path) -> Result<LogIndex, StoreError> {
        self.store.checkpoint(dir)
    }
}

#[test]
fn a_fill_that_lost_the_race_leaves_no_old_value() {
    let published = published(Arc::new(Gate::new()), 1 << 20);
    let key = edge(1, "file");
    for (index, before, value) in [(1, None, "new"), (2, Some("new"), "newer")] {
        let (has_read, go) = published.store().stop(&key);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| published.latest().get(Family::Edges, &key).unwrap());
            has_read.recv_timeout(DEADLINE).expect("the reader goes to the store");
            published.publish(&batch(LogIndex(index), &[put(Family::Edges, &key, value)])).unwrap();
            go.send(()).unwrap();
            assert_eq!(reader.join().unwrap(), before.map(Bytes::from), "it had read before");
        });
        let dropped = published.statistics().cache.fills_dropped;
        assert_eq!(dropped, index);
        if index == 1 {
            continue; // Nothing is held, so that the next reader goes to the store.
        }
        assert_eq!(published.latest().get(Family::Edges, &key).unwrap(), Some(Bytes::from(value)));
        assert_eq!(published.read(|view| view.get(Family::Edges, &key)).unwrap(), Some(Bytes::from(value)));
    }
}

/// Many threads fill while one publishes; when all is quiet, the cache agrees with the store.
#[test]
fn racing_fills_never_leave_an_old_value() {
    let published = published(Arc::new(heap()), 64 << 10);
    let keys: Vec<Bytes> = (0..8).map(|name| edge(1 + name % 3, &name.to_string())).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    for key in &keys {
                        published.latest().get(Family::Edges, key).unwrap();
                    }
                }
            });
        }
        let _over = SetWhenDropped(&done);
        for index in 1..=30_000u64 {
            let key = &keys[usize::try_from(index % 8).unwrap()];
            let change = match index % 3 {
                0 => (Family::Edges, key.clone(), None),
                _ => put(Family::Edges, key, &index.to_string()),
            };
            published.publish(&batch(LogIndex(index), &[change])).unwrap();
            // The writer itself must always see what it wrote.
            let (held, stored) =
                (published.latest().get(Family::Edges, key), published.store().get(Family::Edges, key));
            assert_eq!(held.unwrap(), stored.unwrap());
            if index % 64 == 0 {
                published.cache.forget(Family::Edges, key);
            }
        }
    });
}

#[test]
fn a_view_that_breaks_stays_broken_and_is_tried_again() {
    let published = published(Arc::new(heap()), 1 << 20);
    let (one, two, far) = (edge(1, "a"), edge(2, "a"), edge(3, "a"));
    let index = std::cell::Cell::new(0);
    let change = |keys: &[&Bytes]| {
        index.set(index.get() + 1);
        let value = index.get().to_string();
        let changes: Vec<_> = keys.iter().map(|key| put(Family::Edges, key, &value)).collect();
        published.publish(&batch(LogIndex(index.get()), &changes)).unwrap();
    };
    change(&[&one, &two]);
    let mut attempts = 0;
    let seen = published.read(|view| -> Result<_, StoreError> {
        attempts += 1;
        let first = view.get(Family::Edges, &one)?;
        match attempts {
            1 => {
                change(&[&one, &two]);
                assert_eq!(view.get(Family::Edges, &two).expect_err("another moment").kind, ErrorKind::Busy);
                assert_eq!(view.get(Family::Edges, &far).expect_err("still").kind, ErrorKind::Busy);
            }
            // What it does not look at may change.
            2 => change(&[&far]),
            _ => {}
        }
        Ok((first, view.get(Family::Edges, &two)?))
    });
    assert_eq!(attempts, 2);
    assert_eq!(seen.unwrap(), (Some(Bytes::from("2")), Some(Bytes::from("2"))));
    assert_eq!(published.statistics().retries, 1);
}

#[test]
fn bad_luck_ends_at_the_latch() {
    let published = published(Arc::new(heap()), 0);
    let key = edge(1, "a");
    let mut attempts = 0;
    let seen = published.read(|view| {
        attempts += 1;
        if attempts <= READ_RETRIES {
            view.get(Family::Edges, &key)?;
            let index = LogIndex(u64::try_from(attempts).unwrap());
            published.publish(&batch(index, &[put(Family::Edges, &key, &index.to_string())])).unwrap();
        }
        view.get(Family::Edges, &key)
    });
    assert_eq!((attempts, seen.unwrap()), (READ_RETRIES + 1, Some(Bytes::from("log-3"))));
    assert_eq!(published.statistics().latched, 1);
}

#[test]
fn a_commit_that_failed_leaves_the_truth() {
    let published = published(Arc::new(Gate::new()), 1 << 20);
    let key = edge(1, "a");
    published.publish(&batch(LogIndex(1), &[put(Family::Edges, &key, "old")])).unwrap();
    assert_eq!(published.latest().get(Family::Edges, &key).unwrap(), Some(Bytes::from("old")));
    published.store().fails.store(true, Ordering::Release);
    let error = published.publish(&batch(LogIndex(2), &[put(Family::Edges, &key, "new")])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Full);
    assert_eq!(published.read(|view| view.get(Family::Edges, &key)).unwrap(), Some(Bytes::from("old")));
}

#[test]
fn long_reads_keep_few_notes() {
    let published = published(Arc::new(heap()), 0);
    published.read(|view| {
        for round in 0..4 {
            for id in 0..2000u64 {
                view.get(Family::Edges, &edge(id, "a")).unwrap();
            }
            assert!(view.notes() <= 4096, "{} notes after round {round}", view.notes());
        }
    });
}

#[test]
fn only_records_looked_up_by_key_are_kept() {
    let published = published(Arc::new(heap()), 1 << 20);
    for family in Family::ALL {
        published.latest().get(family, b"k").unwrap();
    }
    assert_eq!(published.statistics().cache.entries, 5);
    published.latest().scan(Family::Edges, b"", b"z", 10).unwrap();
    assert_eq!(published.statistics().cache.entries, 5, "pages bypass the cache");
}

/// The bounds of a `Published` over any store, as a master holds it.
#[test]
fn it_takes_a_store_behind_a_trait_object() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let store: Arc<dyn Store> = Arc::new(heap());
    let published = published(store, 1 << 20);
    is_shared(&published);
    published.publish(&batch(LogIndex(1), &[])).unwrap();
    assert_eq!(published.store().applied(), LogIndex(1));
}
