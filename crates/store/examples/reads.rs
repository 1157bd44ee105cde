//! What one look-up costs: nanoseconds per get, raw and through [`store::Published`], and bytes per cache entry.
//!
//! `cargo run --release -p store --example reads`

use bytes::Bytes;
use meta::{Change, Changes, Family, Read, Store, StoreError};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use store::{CacheConfig, HeapStore, MemoryDisk, Published, RocksConfig, RocksStore};
use types::{Clock, ClusterId, LogIndex, Monotonic, UnixMs};

const RECORDS: u64 = 100_000;
const PER_DIRECTORY: u64 = 100;
const MANY: u64 = 1_000_000;
const READS: u64 = 500_000;
/// Look-ups in one consistent read, as a path of that depth needs.
const DEPTH: u64 = 8;
const RUNS: usize = 3;
const CACHE_BYTES: usize = 256 << 20;

/// The machine's clock.
struct Watch(Instant);

impl Clock for Watch {
    fn unix(&self) -> UnixMs {
        UnixMs(0)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }
}

fn watch() -> Arc<Watch> {
    Arc::new(Watch(Instant::now()))
}

fn key(record: u64) -> Vec<u8> {
    let mut key = (record / PER_DIRECTORY).to_be_bytes().to_vec();
    key.extend_from_slice(format!("file-{record:08}").as_bytes());
    key
}

fn fill(store: &dyn Store) {
    for first in (0..RECORDS).step_by(1000) {
        let value = Some(Bytes::from(vec![7; 96]));
        let change = |record| Change { family: Family::Edges, key: Bytes::from(key(record)), value: value.clone() };
        let changes = (first..first + 1000).map(change).collect();
        store.commit(&Changes { applied: LogIndex(first + 1), changes }).expect("commit");
    }
    store.flush().expect("flush");
}

/// The best of some runs: nanoseconds per look-up.
fn best(mut run: impl FnMut(&[Vec<u8>])) -> u128 {
    // A fixed walk that visits records in no order the store could like.
    let keys: Vec<Vec<u8>> = (0..READS).map(|at| key(at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % RECORDS)).collect();
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        run(&keys);
        start.elapsed().as_nanos() / u128::from(READS)
    });
    times.min().expect("at least one run")
}

fn measure<S: Store>(name: &str, store: S) {
    fill(&store);
    let store = Arc::new(store);
    let depth = usize::try_from(DEPTH).expect("small");
    let raw = best(|keys| keys.iter().for_each(|key| drop(black_box(store.get(Family::Edges, key)))));
    println!("{name:5}  raw get                            {raw:6} ns");
    for (cache, bytes) in [("without a cache", 0), ("every get a hit", CACHE_BYTES)] {
        let published = Published::new(store.clone(), &CacheConfig::of_bytes(bytes), watch(), 7).expect("readable");
        let latest =
            best(|keys| keys.iter().for_each(|key| drop(black_box(published.latest().get(Family::Edges, key)))));
        let single = best(|keys| {
            keys.iter().for_each(|key| drop(black_box(published.read(|view| view.get(Family::Edges, key)))));
        });
        let path = best(|keys| {
            keys.chunks(depth).for_each(|chunk| {
                published.read(|view| chunk.iter().for_each(|key| drop(black_box(view.get(Family::Edges, key)))));
            });
        });
        println!("{name:5}  latest(), {cache}          {latest:6} ns");
        println!("{name:5}  read() of 1, {cache}       {single:6} ns");
        println!("{name:5}  read() of {DEPTH}, {cache}, each {path:6} ns");
        println!("{name:5}  {:?}", published.statistics());
    }
}

/// Memory per entry of a cache that holds a million records, as the kernel sees it and as the cache counts it.
fn weigh() {
    let published = Published::new(Arc::new(Endless), &CacheConfig::of_bytes(1 << 30), watch(), 7).expect("readable");
    let before = resident_bytes();
    // Twice: a record that was handed out once takes a little more.
    for record in 0..2 * MANY {
        drop(black_box(published.latest().get(Family::Edges, &key(record % MANY))));
    }
    let (used, cache) = (resident_bytes() - before, published.statistics().cache);
    println!(
        "bytes per entry: {} resident, {} counted",
        used / cache.total().entries,
        u64::try_from(cache.bytes).expect("it fits") / cache.total().entries
    );
}

/// Holds a record under every key, and takes no memory of its own.
struct Endless;

impl Read for Endless {
    fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(Some(Bytes::from_static(&[7; 96])))
    }
    fn scan(&self, _: Family, _: &[u8], _: &[u8], _: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        Ok(Vec::new())
    }
}

impl Store for Endless {
    fn commit(&self, _: &Changes) -> Result<(), StoreError> {
        Ok(())
    }
    fn applied(&self) -> LogIndex {
        LogIndex(0)
    }
    fn flush(&self) -> Result<LogIndex, StoreError> {
        Ok(LogIndex(0))
    }
    fn flushed(&self) -> LogIndex {
        LogIndex(0)
    }
    fn usage(&self) -> meta::Usage {
        meta::Usage::default()
    }
    fn checkpoint(&self, _: &Path) -> Result<LogIndex, StoreError> {
        Ok(LogIndex(0))
    }
}

/// Memory of this process, from the kernel's count of pages of 4 KiB.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("the second figure");
    pages * 4096
}

fn main() {
    weigh();
    let disk = MemoryDisk::new("/db");
    let cluster = ClusterId(1);
    HeapStore::format(&disk, cluster).expect("format");
    measure("HEAP", HeapStore::open(Arc::new(disk), cluster).expect("open"));

    let dir = std::env::temp_dir().join(format!("goosefs-store-reads-{}", std::process::id()));
    RocksStore::format(&dir, cluster).expect("format");
    measure("ROCKS", RocksStore::open(&dir, &RocksConfig::default(), cluster).expect("open"));
    std::fs::remove_dir_all(&dir).expect("remove what it made");
}
