//! Renames: what a master does for one, without the wire.

use crate::front::{Counts, DRAWN, Front, published, root};
use crate::library::Library;
use crate::tree::{Tree, Zipf, entry, path};
use crate::{Plan, cpu, quantile, us_each};
use journal::disk::RealDisk;
use journal::{AppendBatch, BatchSeq, EntryKind, HardState, JournalLog, LogEntry, SegmentLog, SegmentOptions};
use meta::{Entry, Namespace, Op, Record, Rename};
use std::time::{Duration, Instant};
use store::Eviction;
use types::{LogIndex, OperationId, Term};

const LIBRARY: &str = "quick_cache";
/// Renames on their way at once.
const BATCH: u64 = 64;

/// Batches in a row, then it is the next one's turn: whatever else the machine does falls on all of them.
const SLICE: u64 = 20;

/// One cache, the database behind it, and a journal.
struct Runner {
    name: &'static str,
    front: Box<dyn Front>,
    namespace: Namespace,
    zipf: Zipf,
    /// Which files have their second name now.
    moved: Vec<bool>,
    log: Log,
    at: u64,
    before: Counts,
    used: Duration,
    /// Waits for the disk.
    synced: Duration,
    /// From proposal to visible, without them, of each batch.
    batches: Vec<Duration>,
}

pub fn measure(plan: &Plan, tree: &Tree) {
    let logs = tempfile::tempdir_in(&plan.dir).expect("a directory");
    let ours = [Eviction::RANDOM, DRAWN, Eviction::LRU, Eviction::S3FIFO].map(|eviction| {
        let front: Box<dyn Front> = Box::new(published(tree.open(eviction.name), plan.capacity, eviction));
        (eviction.name, front)
    });
    let library: Box<dyn Front> = Box::new(Library::new(tree.open(LIBRARY), plan.capacity));
    let fronts = ours.into_iter().chain([(LIBRARY, library)]);
    let mut runners: Vec<Runner> =
        fronts.map(|(name, front)| Runner::start(plan, tree, name, front, &logs.path().join(name))).collect();
    // The first round settles what the warm-up did not use.
    for round in 0..=plan.renames / (SLICE * BATCH) {
        for runner in &mut runners {
            if round == 1 {
                runner.forget();
            }
            runner.slice();
        }
    }
    for runner in &mut runners {
        tell(plan, runner);
    }
    let of = |name: &str| runners.iter().find(|runner| runner.name == name).map(Runner::cpu_us);
    let (Some(random), Some(drawn), Some(lru)) = (of("RANDOM"), of(DRAWN.name), of("LRU")) else { return };
    let (capacity, files) = (plan.capacity, plan.files);
    let what =
        format!("renames per CPU-second, LRU against RANDOM, {capacity} entries for {files} files, journal included");
    let ratio = random / lru;
    plan.figure("scale 2", &what, &format!("{ratio:.1} ×"), Some(("≥ 5 ×", ratio >= 5.0)));
    let alone = format!("{:.2} ×", drawn / lru);
    plan.figure("scale 2", "of that, by the hit ratio alone (RANDOM without its walk)", &alone, None);
    let names: Vec<_> = runners.drain(..).map(|runner| runner.name).collect();
    names.into_iter().for_each(|name| tree.remove(name));
}

fn tell(plan: &Plan, runner: &mut Runner) {
    let counts = runner.front.counts().since(runner.before);
    let (each, renames) = (runner.cpu_us(), runner.renames());
    let evicting = counts
        .evicting
        .map_or("not told".to_owned(), |evicting| format!("{:.2} µs", us_each(evicting, counts.evictions.max(1))));
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let batches = &mut runner.batches;
    let disk = us(runner.synced) / crate::float(renames / BATCH);
    let text = format!(
        "{each:.1} µs; hits {:.2} %, {:.2} misses and {:.2} evictions of {evicting} each; {BATCH} at once: p50 {:.0}, p99 {:.0}, \
         p99.9 {:.0} µs, and {disk:.0} µs for the disk",
        counts.hit_ratio() * 100.0,
        crate::float(counts.misses) / crate::float(renames),
        crate::float(counts.evictions) / crate::float(renames),
        us(quantile(batches, 500)),
        us(quantile(batches, 990)),
        us(quantile(batches, 999)),
    );
    plan.figure("scale 2", &format!("a rename behind {}: CPU of the master", runner.name), &text, None);
}

impl Runner {
    fn start(plan: &Plan, tree: &Tree, name: &'static str, front: Box<dyn Front>, log: &std::path::Path) -> Runner {
        let mut namespace = None;
        front.look(&mut |read| {
            namespace = Some(Namespace::open(read)?);
            Ok(())
        });
        let namespace = namespace.expect("it was looked at");
        warm(plan, &*front, &mut tree.zipf.with_seed(1));
        eprintln!("{name} is warm");
        Runner {
            name,
            before: front.counts(),
            front,
            at: namespace.applied().0,
            namespace,
            zipf: tree.zipf.clone(),
            moved: vec![false; tree.containers.len()],
            log: Log::open(log),
            used: Duration::ZERO,
            synced: Duration::ZERO,
            batches: Vec::new(),
        }
    }

    /// What it measured so far does not count.
    fn forget(&mut self) {
        (self.before, self.used, self.synced) = (self.front.counts(), Duration::ZERO, Duration::ZERO);
        self.batches.clear();
    }

    fn renames(&self) -> u64 {
        u64::try_from(self.batches.len()).expect("few") * BATCH
    }

    fn cpu_us(&self) -> f64 {
        us_each(self.used, self.renames())
    }

    fn slice(&mut self) {
        let before = cpu();
        for _ in 0..SLICE {
            let began = Instant::now();
            let entries: Vec<_> = (0..BATCH).map(|_| self.propose()).collect();
            let sync = self.log.append(&entries);
            let batch: Vec<_> =
                entries.iter().map(|(at, bytes)| (*at, Entry::decode(bytes).expect("an entry"))).collect();
            let (changes, applied) = self.front.apply(&mut self.namespace, &batch);
            assert!(applied.iter().all(|applied| applied.outcome.is_ok()), "{applied:?}");
            self.front.publish(changes);
            self.batches.push(began.elapsed() - sync);
            self.synced += sync;
        }
        self.used += cpu() - before;
    }

    /// What a handler does before it proposes: the operation is looked up, both paths are resolved. Then the entry's bytes.
    fn propose(&mut self) -> (LogIndex, bytes::Bytes) {
        self.at += 1;
        let operation = OperationId(u128::from(self.at).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let file = self.zipf.next();
        let is_moved = &mut self.moved[usize::try_from(file).expect("it fits memory")];
        let (from, to) = (path(file, *is_moved), path(file, !*is_moved));
        *is_moved = !*is_moved;
        self.front.look(&mut |read| meta::operation(read, operation).map(drop));
        self.front.look(&mut |read| meta::resolve(read, &root(), &from).map(drop));
        self.front.look(&mut |read| meta::resolve(read, &root(), &to).map(drop));
        let entry = entry(self.at, Op::Rename(Rename { path: from, to }), Some(operation));
        (LogIndex(self.at), entry.encode())
    }
}

/// Uses files as renames do until the cache is full.
fn warm(plan: &Plan, front: &dyn Front, zipf: &mut Zipf) {
    let enough = u64::try_from(plan.capacity / 32).expect("it fits");
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
