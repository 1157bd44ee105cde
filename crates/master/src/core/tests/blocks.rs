//! A hundred workers whose blocks come, go, come back late and are reported twice: nothing of that stays, and a leak is seen.

use super::*;
use crate::locations::Session;
use crate::registry::Beat;
use types::SessionEpoch;

const WORKERS: u64 = 100;
const FILES: u64 = 1_000;

/// Rounds of the audit: what it finds in one it judges in the next.
const ROUNDS: usize = 3;

fn path(n: u64) -> GfsPath {
    GfsPath::parse(&format!("/data/{n}")).expect("a path")
}

struct Fleet {
    world: World,
    containers: Vec<ContainerId>,
    /// Where each worker's blocks are recorded.
    rows: Vec<Session>,
    epoch: u64,
    /// Heartbeats since the registration.
    beats: u64,
}

impl Fleet {
    /// Files of one block each, on two workers each.
    fn new(seed: u64) -> Fleet {
        let mut world = World::new(seed);
        for n in 0..FILES {
            let op = CreateFile {
                path: path(n),
                block_bytes: 1 << 20,
                recursive: true,
                mode: Mode::new(0o644),
                write_type: Some(WriteType::MustCache),
            };
            world.request(Op::CreateFile(op));
        }
        world.settle();
        let container = |n| {
            let status = meta::status(&world.shared.state.latest(), &Caller::system(), &path(n));
            status.expect("readable").expect("made").spot.inode.container
        };
        let containers = (0..FILES).map(container).collect();
        let mut fleet = Fleet { world, containers, rows: Vec::new(), epoch: 0, beats: 0 };
        fleet.rows = (0..WORKERS).map(|_| fleet.world.shared.locations.open(WorkerId(0))).collect();
        fleet.register_all();
        fleet
    }

    fn held_by(&self, worker: u64) -> Vec<ContainerId> {
        let files = (0..FILES).filter(|n| n % WORKERS == worker || n * 7 % WORKERS == worker);
        files.map(|n| self.containers[usize::try_from(n).expect("few")]).collect()
    }

    /// Each worker registers under a new epoch; what its earlier session recorded goes.
    fn register_all(&mut self) {
        self.epoch += 1;
        self.beats = 0;
        for worker in 0..WORKERS {
            self.register(worker, self.epoch);
        }
    }

    fn register(&mut self, worker: u64, epoch: u64) {
        let shared = &self.world.shared;
        let record = meta::WorkerRecord {
            id: WorkerId(worker + 1),
            host: format!("worker-{worker}"),
            rpc_port: 1,
            web_port: 2,
            epoch: SessionEpoch(epoch),
            identity: u128::from(worker),
        };
        let rows = shared.locations.open(record.id);
        let now = shared.clock.monotonic();
        let earlier = shared.registry.lock().begin(&record, rows, 0, now);
        earlier.into_iter().for_each(|earlier| shared.locations.close(earlier));
        self.rows[usize::try_from(worker).expect("few")] = rows;
        for container in self.held_by(worker) {
            self.report(worker, container);
        }
        assert!(self.world.shared.registry.lock().finish(record.id, record.epoch, now));
    }

    /// As the wire does: what has no file is not recorded, but told back.
    fn report(&self, worker: u64, container: ContainerId) {
        let shared = &self.world.shared;
        if shared.state.is_live(container) {
            let rows = self.rows[usize::try_from(worker).expect("few")];
            shared.locations.add(rows, container.block(0).expect("the first"), 1);
        } else {
            shared.registry.lock().free(WorkerId(worker + 1), container, 1);
        }
    }

    fn remove(&mut self, files: std::ops::Range<u64>) {
        for n in files {
            self.world.request(Op::Remove(Remove { path: path(n), recursive: false, goosefs_only: false }));
        }
        self.world.settle();
    }

    /// Lets the audit see everything, and judge it.
    fn audit(&mut self) -> u64 {
        let passes = |fleet: &Fleet| fleet.world.shared.metrics.location_audits.load(Ordering::Relaxed);
        for _ in 0..ROUNDS {
            let before = passes(self);
            for _ in 0..10_000 {
                self.world.step(Event::Tick);
                if passes(self) > before {
                    break;
                }
            }
            // Workers go on telling that they live.
            self.world.clock.0.fetch_add(21_000, Ordering::Relaxed);
            self.beat_all();
            self.world.step(Event::Tick);
        }
        self.world.shared.locations.check_invariants();
        self.world.shared.metrics.location_drift.load(Ordering::Relaxed)
    }

    fn beat_all(&mut self) {
        self.beats += 1;
        let mut registry = self.world.shared.registry.lock();
        let now = self.world.shared.clock.monotonic();
        for worker in 0..WORKERS {
            let beat = registry.beat(WorkerId(worker + 1), SessionEpoch(self.epoch), self.beats, now);
            assert!(matches!(beat, Beat::Apply), "{beat:?}");
        }
    }

    /// Rows of files that are there.
    fn right(&self) -> usize {
        let held = (0..WORKERS).flat_map(|worker| self.held_by(worker));
        held.filter(|container| self.world.shared.state.is_live(*container)).count()
    }

    fn count(&self) -> usize {
        self.world.shared.locations.count()
    }
}

#[test]
fn whatever_workers_report_late_twice_or_after_they_were_lost_leaves_no_location_behind() {
    let mut fleet = Fleet::new(11);
    assert_eq!(fleet.count(), fleet.right());
    // Registered twice, the second time while blocks of the first go on arriving.
    let old = fleet.rows.clone();
    fleet.register_all();
    for (worker, rows) in (0..WORKERS).zip(old) {
        for container in fleet.held_by(worker) {
            fleet.world.shared.locations.add(rows, container.block(0).expect("the first"), 1);
        }
    }
    assert_eq!(fleet.count(), fleet.right(), "an earlier session records nothing any more");
    // Half of the files go, and every worker tells of all its blocks again.
    fleet.remove(0..FILES / 2);
    for worker in 0..WORKERS {
        for container in fleet.held_by(worker) {
            fleet.report(worker, container);
            fleet.report(worker, container);
        }
    }
    assert_eq!(fleet.count(), fleet.right());
    // All are lost, and come back with what they had before.
    fleet.world.clock.0.fetch_add(60_000, Ordering::Relaxed);
    fleet.world.step(Event::Tick);
    assert_eq!(fleet.count(), 0, "what lost workers held is not served");
    fleet.register_all();
    assert_eq!(fleet.count(), fleet.right());
    assert_eq!(fleet.audit(), 0, "the audit finds nothing");
    assert_eq!(fleet.count(), fleet.right());
}

#[test]
fn a_planted_leak_makes_the_audit_rise_by_what_leaked() {
    const LEAKED: u64 = 50;
    let mut fleet = Fleet::new(12);
    let rows = fleet.rows[3];
    let leaking: Vec<ContainerId> = fleet.containers[..usize::try_from(LEAKED).expect("few")].to_vec();
    fleet.remove(0..FILES / 2);
    assert_eq!(fleet.audit(), 0);
    // As if a delete had forgotten them: the rows are there, their files are not.
    for container in &leaking {
        fleet.world.shared.locations.add(rows, container.block(0).expect("the first"), 1);
    }
    assert_eq!(fleet.audit(), LEAKED, "each is found and counted once");
    assert_eq!(fleet.count(), fleet.right(), "and taken out");
    assert_eq!(fleet.audit(), LEAKED);
}
