//! Renames: what a master does for one, without the wire.

use crate::front::{Counts, DRAWN, Front, published, root};
use crate::library::Library;
use crate::tree::{Tree, entry, path};
use crate::{Plan, cpu, quantile, us_each};
use journal::disk::RealDisk;
use journal::{AppendBatch, BatchSeq, EntryKind, HardState, JournalLog, LogEntry, SegmentLog, SegmentOptions};
use meta::{Entry, Namespace, Op, Record, Rename};
use std::time::{Duration, Instant};
use store::Eviction;
use types::{LogIndex, OperationId, Term};

/// Renames on their way at once.
const BATCH: u64 = 64;

struct Measured {
    name: &'static str,
    cpu_us: f64,
    counts: Counts,
    /// Waits for the disk, of each batch.
    sync: Duration,
    /// From proposal to visible, without them, of each batch.
    batches: Vec<Duration>,
}

pub fn measure(plan: &Plan, tree: &Tree) {
    let mut all = Vec::new();
    for eviction in [Eviction::RANDOM, DRAWN, Eviction::LRU, Eviction::S3FIFO] {
        let front = published(tree.open(eviction.name), plan.capacity, eviction);
        all.push(run(plan, tree, eviction.name, &front));
        drop(front);
        tree.remove(eviction.name);
    }
    let library = Library::new(tree.open("quick_cache"), plan.capacity);
    all.push(run(plan, tree, "quick_cache", &library));
    drop(library);
    tree.remove("quick_cache");
    for measured in &mut all {
        tell(plan, measured);
    }
    let of = |name: &str| all.iter().find(|measured| measured.name == name).map(|measured| measured.cpu_us);
    let (Some(random), Some(drawn), Some(lru)) = (of("RANDOM"), of(DRAWN.name), of("LRU")) else { return };
    let what = format!(
        "renames per CPU-second, LRU against RANDOM, {} entries for {} files, journal included",
        plan.capacity, plan.files
    );
    let ratio = random / lru;
    plan.figure("scale 2", &what, &format!("{ratio:.1} ×"), Some(("≥ 5 ×", ratio >= 5.0)));
    plan.figure(
        "scale 2",
        "of that, by the hit ratio alone (RANDOM without its walk)",
        &format!("{:.2} ×", drawn / lru),
        None,
    );
}

fn tell(plan: &Plan, measured: &mut Measured) {
    let Measured { name, cpu_us, counts, sync, batches } = measured;
    let evicting = counts
        .evicting
        .map_or("not told".to_owned(), |evicting| format!("{:.2} µs", us_each(evicting, counts.evictions.max(1))));
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let text = format!(
        "{cpu_us:.1} µs; hits {:.2} %, {:.2} misses and {:.2} evictions of {evicting} each; {BATCH} at once: p50 {:.0}, p99 {:.0}, p99.9 {:.0} µs, \
         and {:.0} µs for the disk",
        counts.hit_ratio() * 100.0,
        crate::float(counts.misses) / crate::float(plan.renames),
        crate::float(counts.evictions) / crate::float(plan.renames),
        us(quantile(batches, 500)),
        us(quantile(batches, 990)),
        us(quantile(batches, 999)),
        us(*sync) / crate::float(u64::try_from(batches.len()).expect("few")),
    );
    plan.figure("scale 2", &format!("a rename behind {name}: CPU of the master"), &text, None);
}

fn run(plan: &Plan, tree: &Tree, name: &'static str, front: &dyn Front) -> Measured {
    let mut namespace = None;
    front.look(&mut |read| {
        namespace = Some(Namespace::open(read)?);
        Ok(())
    });
    let mut namespace = namespace.expect("it was looked at");
    let (mut zipf, mut moved) = (tree.zipf.clone(), vec![false; tree.containers.len()]);
    warm(plan, front, &mut zipf.with_seed(1));
    let logs = tempfile::tempdir_in(&plan.dir).expect("a directory");
    let mut log = Log::open(logs.path());
    let mut at = namespace.applied().0;
    let mut batches = Vec::new();
    let (before, mut counts, mut synced) = (cpu(), front.counts(), Duration::ZERO);
    let mut begun = before;
    // A tenth before that settles what the warm-up did not use.
    for round in 0..plan.renames / BATCH * 11 / 10 {
        if round == plan.renames / BATCH / 10 {
            (begun, counts, synced) = (cpu(), front.counts(), Duration::ZERO);
            batches.clear();
        }
        let began = Instant::now();
        let entries: Vec<_> = (0..BATCH).map(|_| propose(front, &mut at, zipf.next(), &mut moved)).collect();
        let sync = log.append(&entries);
        let batch: Vec<_> = entries.iter().map(|(at, bytes)| (*at, Entry::decode(bytes).expect("an entry"))).collect();
        let (changes, applied) = front.apply(&mut namespace, &batch);
        assert!(applied.iter().all(|applied| applied.outcome.is_ok()), "{applied:?}");
        front.publish(&changes);
        batches.push(began.elapsed() - sync);
        synced += sync;
    }
    let used = cpu() - begun;
    let renames = plan.renames / BATCH * BATCH;
    eprintln!("{name}: {:.1} µs", us_each(used, renames));
    Measured { name, cpu_us: us_each(used, renames), counts: front.counts().since(counts), sync: synced, batches }
}

/// Uses files as renames do until the cache has long been full.
fn warm(plan: &Plan, front: &dyn Front, zipf: &mut crate::tree::Zipf) {
    let enough = u64::try_from(plan.capacity / 4).expect("it fits");
    let mut looks = 0u64;
    while front.counts().evictions < enough && looks < 100_000_000 {
        for _ in 0..1_000 {
            let file = zipf.next();
            for is_moved in [false, true] {
                front.look(&mut |read| meta::resolve(read, &root(), &path(file, is_moved)).map(drop));
            }
            looks += 1;
        }
    }
}

/// What a handler does before it proposes: the operation is looked up, both paths are resolved. Then the entry's bytes.
fn propose(front: &dyn Front, at: &mut u64, file: u64, moved: &mut [bool]) -> (LogIndex, bytes::Bytes) {
    *at += 1;
    let operation = OperationId(u128::from(*at).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let is_moved = &mut moved[usize::try_from(file).expect("it fits memory")];
    let (from, to) = (path(file, *is_moved), path(file, !*is_moved));
    *is_moved = !*is_moved;
    front.look(&mut |read| meta::operation(read, operation).map(drop));
    front.look(&mut |read| meta::resolve(read, &root(), &from).map(drop));
    front.look(&mut |read| meta::resolve(read, &root(), &to).map(drop));
    let entry = entry(*at, Op::Rename(Rename { path: from, to }), Some(operation));
    (LogIndex(*at), entry.encode())
}

/// The journal's files.
struct Log {
    log: SegmentLog<RealDisk>,
    seq: u64,
    last: u64,
}

impl Log {
    fn open(dir: &std::path::Path) -> Log {
        let options = SegmentOptions::default();
        let place = dir.join("journal");
        SegmentLog::format(&RealDisk, &place, crate::front::CLUSTER, options, false).expect("an empty directory");
        let (log, _) = SegmentLog::open(RealDisk, &place, None, options).expect("formatted");
        Log { log, seq: 0, last: 0 }
    }

    /// Writes and syncs a batch. Returns how long the sync took.
    fn append(&mut self, entries: &[(LogIndex, bytes::Bytes)]) -> Duration {
        let first = self.last + 1;
        let entries: Vec<_> = (first..)
            .zip(entries)
            .map(|(index, (_, payload))| LogEntry {
                index: LogIndex(index),
                term: Term(1),
                kind: EntryKind::Normal,
                payload: payload.clone(),
            })
            .collect();
        self.last = first + u64::try_from(entries.len()).expect("few") - 1;
        self.seq += 1;
        let hard_state = HardState { term: Term(1), vote: None, commit: LogIndex(first - 1) };
        let batch = AppendBatch { seq: BatchSeq(self.seq), truncate_from: None, entries, hard_state };
        self.log.append(&batch).expect("room");
        let began = Instant::now();
        self.log.sync().expect("a healthy disk");
        let took = began.elapsed();
        if self.seq.is_multiple_of(1_000) {
            self.log.purge_below(LogIndex(self.last)).expect("a healthy disk");
        }
        took
    }
}
