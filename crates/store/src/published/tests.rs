use super::*;
use crate::cache::Eviction;
use crate::conformance::{SetWhenDropped, StillClock, batch};
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
    within(store, &CacheConfig::of_bytes(cache_bytes))
}

fn within<S: Store + ?Sized>(store: Arc<S>, config: &CacheConfig) -> Published<S> {
    Published::new(store, config, Arc::new(StillClock), 7).expect("an empty bitmap")
}

fn edge(directory: u64, name: &str) -> Bytes {
    Bytes::from([&directory.to_be_bytes()[..], name.as_bytes()].concat())
}

fn put(family: Family, key: &Bytes, value: &str) -> (Family, Bytes, Option<Bytes>) {
    (family, key.clone(), Some(Bytes::copy_from_slice(value.as_bytes())))
}

/// A writer moves one file to and fro; wherever readers look, they find it once, in its place and in its inode's.
fn a_moving_file_is_always_in_one_place<S: Store>(store: S, config: &CacheConfig, moves: u64) {
    let published = within(Arc::new(store), config);
    let (here, there) = (edge(1, "file"), edge(2, "file"));
    let inode = Bytes::copy_from_slice(&9u64.to_be_bytes());
    published.publish(batch(LogIndex(1), &[put(Family::Edges, &here, "9"), put(Family::Inodes, &inode, "1")])).unwrap();
    let done = AtomicBool::new(false);
    let reads: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0;
                    // Once at least, however late its turn comes.
                    while reads == 0 || !done.load(Ordering::Acquire) {
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
            published.publish(batch(LogIndex(index), &moved)).unwrap();
        }
        drop(over);
        readers.into_iter().map(|reader| reader.join().expect("the reader's own assertions")).sum()
    });
    let counts = published.statistics();
    assert!(reads > 0 && counts.latched <= reads && counts.retries >= counts.latched, "{reads} reads, {counts:?}");
}

/// None at all, one entry, a few with every policy, and plenty.
fn caches() -> Vec<CacheConfig> {
    let few = Eviction::ALL.map(|eviction| CacheConfig { entries: 20, bytes: 1 << 20, eviction });
    let one = CacheConfig { entries: 1, ..few[0] };
    [CacheConfig::of_bytes(0), CacheConfig::of_bytes(8 << 10), CacheConfig::of_bytes(1 << 20), one]
        .into_iter()
        .chain(few)
        .collect()
}

#[test]
fn half_a_rename_is_never_seen_in_memory() {
    for config in caches() {
        a_moving_file_is_always_in_one_place(heap(), &config, 10_000);
    }
}

#[test]
fn half_a_rename_is_never_seen_on_disk() {
    for cache in caches() {
        let dir = tempfile::tempdir().unwrap();
        RocksStore::format(dir.path(), CLUSTER).unwrap();
        let config = RocksConfig { memtable_bytes: 1 << 20, ..RocksConfig::default() };
        let store = RocksStore::open(dir.path(), &config, CLUSTER).unwrap();
        a_moving_file_is_always_in_one_place(store, &cache, 5_000);
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
    /// Stops whoever has read `key`, or from `key` on, if that is meant.
    fn pass(&self, key: &[u8]) {
        let stop = self.stops.lock().remove(key);
        if let Some((read, may_go)) = stop {
            read.send(()).unwrap();
            may_go.recv().unwrap();
        }
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
        self.pass(key);
        value
    }
    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let page = self.store.scan(family, start, end, limit);
        self.pass(start);
        page
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
    fn usage(&self) -> meta::Usage {
        self.store.usage()
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
            published.publish(batch(LogIndex(index), &[put(Family::Edges, &key, value)])).unwrap();
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

#[test]
fn a_page_that_lost_the_race_is_not_kept() {
    let published = published(Arc::new(Gate::new()), 1 << 20);
    let (start, end) = (Bytes::copy_from_slice(&7u64.to_be_bytes()), 8u64.to_be_bytes());
    let names = |published: &Published<Gate>| {
        let page = published.read(|view| view.scan(Family::Edges, &start, &end, 10)).unwrap();
        page.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    let put_in = |index, name| {
        published.publish(batch(LogIndex(index), &[put(Family::Edges, &edge(7, name), name)])).unwrap();
    };
    put_in(1, "a");
    assert_eq!(names(&published), ["a"], "asked for once: it is not kept");
    assert_eq!(published.statistics().cache.listings.entries, 0);
    let (has_read, go) = published.store().stop(&start);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| names(&published));
        has_read.recv_timeout(DEADLINE).expect("the reader goes to the store");
        put_in(2, "b");
        go.send(()).unwrap();
        assert_eq!(reader.join().unwrap(), ["a", "b"], "it had to read again");
    });
    assert_eq!(published.statistics().cache.fills_dropped, 1);
    assert_eq!(names(&published), ["a", "b"]);
    let held = published.statistics().cache.listings;
    assert_eq!((held.entries, held.hits), (2, 1));
    // Somewhere else nothing is outdated; here all is.
    published.publish(batch(LogIndex(3), &[put(Family::Edges, &edge(9, "c"), "c")])).unwrap();
    assert_eq!((names(&published).len(), published.statistics().cache.listings.hits), (2, 2));
    published.publish(batch(LogIndex(4), &[(Family::Edges, edge(7, "a"), None)])).unwrap();
    assert_eq!(names(&published), ["b"]);
    assert_eq!(published.statistics().cache.listings.hits, 2);
}

/// Every directory of a large tree is listed once: that keeps no page, whoever is evicted first.
#[test]
fn listing_everything_once_leaves_the_cache_as_it_was() {
    for eviction in Eviction::ALL {
        let config = CacheConfig { entries: 1_000, bytes: 1 << 20, eviction };
        let published = within(Arc::new(heap()), &config);
        let hot: Vec<_> = (0..200u64).map(|id| edge(id, "hot")).collect();
        let look = || hot.iter().for_each(|key| drop(published.read(|view| view.get(Family::Edges, key)).unwrap()));
        look();
        let before = published.statistics().cache;
        for directory in 1_000..50_000u64 {
            let (start, end) = (directory.to_be_bytes(), (directory + 1).to_be_bytes());
            assert!(published.read(|view| view.scan(Family::Edges, &start, &end, 100)).unwrap().is_empty());
        }
        look();
        let after = published.statistics().cache;
        assert_eq!(after.edges.hits - before.edges.hits, 200, "{}", eviction.name);
        assert_eq!((after.listings.entries, after.total().evictions), (0, 0), "{}", eviction.name);
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
            published.publish(batch(LogIndex(index), &[change])).unwrap();
            // The writer itself must always see what it wrote.
            let (held, stored) =
                (published.latest().get(Family::Edges, key), published.store().get(Family::Edges, key));
            assert_eq!(held.unwrap(), stored.unwrap());
            if index % 64 == 0 {
                published.caches.as_ref().expect("it is on").records.forget(Family::Edges, key);
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
        published.publish(batch(LogIndex(index.get()), &changes)).unwrap();
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
            published.publish(batch(index, &[put(Family::Edges, &key, &index.to_string())])).unwrap();
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
    published.publish(batch(LogIndex(1), &[put(Family::Edges, &key, "old")])).unwrap();
    assert_eq!(published.latest().get(Family::Edges, &key).unwrap(), Some(Bytes::from("old")));
    published.store().fails.store(true, Ordering::Release);
    let error = published.publish(batch(LogIndex(2), &[put(Family::Edges, &key, "new")])).unwrap_err();
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
    assert_eq!(published.statistics().cache.total().entries, 5);
    published.latest().scan(Family::Edges, b"", b"z", 10).unwrap();
    assert_eq!(published.statistics().cache.total().entries, 5, "the writer's pages bypass the cache");
}

/// The bounds of a `Published` over any store, as a master holds it.
#[test]
fn it_takes_a_store_behind_a_trait_object() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let store: Arc<dyn Store> = Arc::new(heap());
    let published = published(store, 1 << 20);
    is_shared(&published);
    published.publish(batch(LogIndex(1), &[])).unwrap();
    assert_eq!(published.store().applied(), LogIndex(1));
}
