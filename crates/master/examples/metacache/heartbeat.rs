//! Heartbeats of workers that report blocks of a skewed file set.

use crate::front::{Front, published};
use crate::tree::{Tree, Zipf};
use crate::{Plan, us_each};
use master::rig::{Locations, Session};
use meta::Family;
use prost::Message;
use proto::internal::{BlockReport, HeartbeatRequest};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use store::{Eviction, Published, RocksStore};
use types::{BlockId, ContainerId, WorkerId};

const WORKERS: u64 = 100;
/// Blocks added by a heartbeat; as many are removed, those of an earlier one.
const BLOCKS: usize = 200;
/// Heartbeats of a worker after which its blocks go.
const KEPT: usize = 10;

/// What decides about a block that is reported.
#[derive(Clone, Copy)]
enum Asks {
    /// Its record, through the cache: added and removed blocks both, as the lineage did.
    Cache,
    /// The bitmap; nothing for removed ones.
    Bitmap,
}

struct Worker {
    id: WorkerId,
    rows: Session,
    sequence: u64,
    held: VecDeque<Vec<BlockId>>,
}

pub fn measure(plan: &Plan, tree: &Tree) {
    let baseline = run(plan, tree, "RANDOM", Eviction::RANDOM, Asks::Cache);
    let lru = run(plan, tree, "LRU", Eviction::LRU, Asks::Cache);
    let ours = run(plan, tree, "the bitmap", Eviction::LRU, Asks::Bitmap);
    let ratio = baseline / ours;
    let what = format!(
        "heartbeats per CPU-second, the bitmap against look-ups through RANDOM, {} entries for {} files",
        plan.capacity, plan.files
    );
    plan.figure("scale 2", &what, &format!("{ratio:.1} ×"), Some(("≥ 6 ×", ratio >= 6.0)));
    plan.figure("scale 2", "the same against look-ups through LRU", &format!("{:.1} ×", lru / ours), None);
}

/// Microseconds of CPU of one heartbeat.
fn run(plan: &Plan, tree: &Tree, name: &str, eviction: Eviction, asks: Asks) -> f64 {
    let copy = format!("heartbeats by {name}");
    let front = published(tree.open(&copy), plan.capacity, eviction);
    let mut zipf = tree.zipf.clone();
    if let Asks::Cache = asks {
        let enough = u64::try_from(plan.capacity / 32).expect("it fits");
        let mut looks = 0u64;
        while front.counts().evictions < enough && looks < 100_000_000 {
            for _ in 0..1_000 {
                owner(&front, container(tree, &mut zipf));
                looks += 1;
            }
        }
    }
    let locations = Locations::default();
    let mut workers: Vec<Worker> = (1..=WORKERS)
        .map(WorkerId)
        .map(|id| Worker { id, rows: locations.open(id), sequence: 0, held: VecDeque::new() })
        .collect();
    let (mut used, mut times, counts) = (Duration::ZERO, Vec::new(), front.counts());
    // First each worker gets what it then holds.
    let full = WORKERS * u64::try_from(KEPT).expect("few");
    for beat in 0..full + plan.beats {
        let worker = &mut workers[usize::try_from(beat % WORKERS).expect("few")];
        let bytes = worker.report(tree, &mut zipf);
        let (before, began) = (thread_cpu(), Instant::now());
        handle(&front, &locations, worker.rows, &bytes, asks);
        if beat >= full {
            used += thread_cpu() - before;
            times.push(began.elapsed());
        }
    }
    let each = us_each(used, plan.beats);
    let counts = front.counts().since(counts);
    let looked = match asks {
        Asks::Cache => format!("hits {:.1} %", counts.hit_ratio() * 100.0),
        Asks::Bitmap => {
            format!("{} bytes of bitmap, {} looks into the cache", front.live_bytes(), counts.hits + counts.misses)
        }
    };
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let text = format!(
        "{each:.0} µs; {looked}; p50 {:.0}, p99 {:.0}, p99.9 {:.0} µs",
        us(crate::quantile(&mut times, 500)),
        us(crate::quantile(&mut times, 990)),
        us(crate::quantile(&mut times, 999)),
    );
    eprintln!("heartbeats by {name}: {each:.0} µs");
    let what = format!("a heartbeat with {BLOCKS} added and {BLOCKS} removed blocks by {name}: CPU of the master");
    plan.figure("scale 2", &what, &text, None);
    drop(front);
    tree.remove(&copy);
    each
}

impl Worker {
    /// Its next heartbeat, as it arrives.
    fn report(&mut self, tree: &Tree, zipf: &mut Zipf) -> Vec<u8> {
        let added: Vec<BlockId> =
            (0..BLOCKS).map(|_| container(tree, zipf).block(0).expect("the first block")).collect();
        self.held.push_back(added.clone());
        let removed = if self.held.len() > KEPT { self.held.pop_front() } else { None }.unwrap_or_default();
        self.sequence += 1;
        let report = |block: BlockId| BlockReport {
            block: block.to_wire().cast_unsigned(),
            resident_bytes: 64 << 20,
            unpersisted: false,
        };
        let request = HeartbeatRequest {
            worker: self.id.0,
            epoch: 1,
            sequence: self.sequence,
            added: added.into_iter().map(report).collect(),
            removed: removed.into_iter().map(|block| block.to_wire().cast_unsigned()).collect(),
            ..HeartbeatRequest::default()
        };
        request.encode_to_vec()
    }
}

fn container(tree: &Tree, zipf: &mut Zipf) -> ContainerId {
    tree.containers[usize::try_from(zipf.next()).expect("it fits memory")]
}

/// What a master does with the blocks of a heartbeat.
fn handle(front: &Published<RocksStore>, locations: &Locations, rows: Session, bytes: &[u8], asks: Asks) {
    let request = HeartbeatRequest::decode(bytes).expect("it was encoded here");
    for raw in &request.removed {
        let block = BlockId::from_wire(raw.cast_signed()).expect("a block");
        if let Asks::Cache = asks {
            assert!(owner(front, block.container()));
        }
        locations.remove(rows, block);
    }
    for report in &request.added {
        let block = BlockId::from_wire(report.block.cast_signed()).expect("a block");
        let is_known = match asks {
            Asks::Cache => owner(front, block.container()),
            Asks::Bitmap => front.is_live(block.container()),
        };
        assert!(is_known, "no file was removed");
        locations.add(rows, block, report.resident_bytes);
    }
}

/// Whether a file owns the container, by its record.
fn owner(front: &Published<RocksStore>, container: ContainerId) -> bool {
    let key = meta::container_key(container);
    front.read(|view| meta::Read::get(view, Family::Containers, &key)).expect("the database answers").is_some()
}

fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("it does not run backwards")
}
