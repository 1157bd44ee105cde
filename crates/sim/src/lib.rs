//! A whole cluster in one seeded thread: real masters and workers over simulated clocks, network, disks and an under store, with
//! clients, faults, and judges of what the clients were promised.
//!
//! Is:     a queue of events ([`run`]), and what stands around the product's own code in it.
//! Owns:   time, chance, fate.
//! Never:  part of the product; contains a copy of its logic.
//!
//! What runs for real, what is replaced, which faults there are and who judges: `docs/design/0009-simulation.md`.

#![deny(clippy::disallowed_methods)]

mod blocks;
mod bug;
mod calls;
mod clients;
mod database;
mod dice;
mod fetching;
mod history;
mod home;
mod judge;
mod machine;
mod model;
mod own;
mod porters;
mod post;
mod schedule;
mod shrink;
mod time;
mod trace;
mod under;
mod worker_machine;
mod world;

pub use bug::Bug;
pub use judge::{Failure, Kind};
pub use schedule::{Fault, Planned, Schedule, WorkerFault};
pub use shrink::shrink;
pub use time::Clocks;
pub use trace::Keep;
pub use world::HEALS_WITHIN_MS;

use master::core::Said;
use rpc::ClusterKey;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once, OnceLock};
use trace::Trace;
use world::World;

/// Machines that may become masters where members change.
const SPARES: usize = 2;

/// What to simulate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    pub seed: u64,
    pub masters: usize,
    /// With any, files are written through them and read.
    pub workers: usize,
    pub rooms: usize,
    pub clients_per_room: usize,
    /// How long there are faults.
    pub faults_ms: u64,
    pub clocks: Clocks,
    /// Bits of the logs of masters that are down flip, besides all else.
    pub log_rot: bool,
    /// Masters lose their disks and are replaced, two more come and go, and little of the log is kept: snapshots are sent.
    pub changes: bool,
    /// What clients have not used for a moment is forgotten, and comes from the store again.
    pub forgets: bool,
    /// All masters say that they know the first rules alone, as one of an older release does: the group never raises them.
    pub first_rules: bool,
    /// One client of each room is one of ours, of the `client` crate.
    pub own_clients: bool,
    pub bug: Option<Bug>,
}

impl Plan {
    /// Three masters, and nine clients in three rooms.
    pub fn new(seed: u64) -> Plan {
        Plan {
            seed,
            masters: 3,
            workers: 0,
            rooms: 3,
            clients_per_room: 3,
            faults_ms: 10_000,
            clocks: Clocks::default(),
            log_rot: false,
            changes: false,
            forgets: false,
            first_rules: false,
            own_clients: false,
            bug: None,
        }
    }

    /// The same with two workers, and clients that bring files to them.
    pub fn with_workers(seed: u64) -> Plan {
        Plan { workers: 2, ..Plan::new(seed) }
    }

    /// What a seed is when nobody asks for anything else: each of the mixes in turn, all of them at once among them.
    pub fn mixed(seed: u64) -> Plan {
        let (forgets, first_rules, own_clients) = (seed % 5 == 1, seed % 7 == 2, (seed / 6).is_multiple_of(2));
        let plan = Plan { forgets, first_rules, own_clients, ..Plan::new(seed) };
        match seed % 6 {
            0 => Plan { changes: true, log_rot: true, ..plan },
            1 => plan,
            2 => Plan { workers: 2, ..plan },
            3 => Plan { changes: true, workers: 2, ..plan },
            4 => Plan { clocks: Clocks::Wild, workers: 2, ..plan },
            _ => Plan { changes: true, log_rot: true, clocks: Clocks::Wild, workers: 2, ..plan },
        }
    }

    /// What a master says of itself to others.
    fn said(&self) -> Said {
        Said { rules: if self.first_rules { meta::FIRST_RULES } else { meta::RULES_VERSION }, priority: 0 }
    }

    /// How long a cluster without faults may take until all is well. What a master waits for, it waits for by its own
    /// clock.
    pub fn heals_within_ms(&self) -> u64 {
        HEALS_WITHIN_MS * 1000 / self.clocks.slowest()
    }

    /// Machines that are no masters yet.
    pub fn spares(&self) -> usize {
        if self.changes { SPARES } else { 0 }
    }

    /// The faults that the seed brings.
    pub fn schedule(&self) -> Schedule {
        let mut schedule = match self.workers {
            0 => Schedule::of(self.seed, self.masters, self.faults_ms),
            workers => Schedule::with_workers(self.seed, self.masters, workers, self.faults_ms),
        };
        if self.log_rot {
            schedule.rot_logs(self.seed, self.masters, self.faults_ms);
        }
        if self.changes {
            schedule.change_members(self.seed, self.masters, SPARES, self.faults_ms);
        }
        schedule
    }
}

/// Counts of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    pub events: u64,
    pub simulated_ms: u64,
    /// Calls of clients that had an outcome.
    pub calls: usize,
    /// Bytes that porters read and found right.
    pub read_bytes: u64,
    /// Terms somebody led.
    pub leaders: usize,
    pub starts: u64,
    pub faults: u64,
    /// Members that refused a log in which a bit had flipped.
    pub refused: u64,
    /// Masters with empty disks that were taken into the group.
    pub admitted: u64,
    /// Masters that left the group.
    pub removed: u64,
    /// Snapshots that arrived whole.
    pub snapshots: u64,
    /// Inodes forgotten because nobody used them, as far as the masters that run in the end had that done.
    pub expired: u64,
    /// Calls of clients of ours that had an outcome.
    pub own_calls: u64,
    /// Audits that masters came to the end of while their records changed, without a finding.
    pub audits: u64,
    pub healed_after_ms: u64,
}

/// What a run came to.
pub struct Report {
    pub verdict: Result<(), Failure>,
    pub statistics: Statistics,
    /// The same for two runs that did the same.
    pub digest: u64,
    /// All lines, if they were to be kept.
    pub log: String,
}

/// Lives through one seed.
pub fn run(plan: Plan, schedule: &Schedule, keep: Keep) -> Report {
    let world = World::new(plan, schedule.clone(), key(), Trace::new(keep));
    match quietly(|| world.run()) {
        Ok((verdict, statistics, trace)) => Report { verdict, statistics, digest: trace.digest(), log: trace.text },
        Err(what) => Report {
            verdict: Err(Failure::new(Kind::Panic, what)),
            statistics: Statistics::default(),
            digest: 0,
            log: String::new(),
        },
    }
}

/// The key of all simulated clusters. Nothing is sealed with it, so that it differs from run to run does not matter.
fn key() -> Arc<ClusterKey> {
    static KEY: OnceLock<Arc<ClusterKey>> = OnceLock::new();
    KEY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory for a moment");
        Arc::new(ClusterKey::create(&dir.path().join("key")).expect("an empty directory"))
    })
    .clone()
}

thread_local! {
    /// What the last panic of this thread said, while somebody wants to know.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic is an answer, not a message on the terminal.
fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_wanted =
                PANIC.with_borrow_mut(|wanted| wanted.as_mut().map(|text| *text = info.to_string()).is_some());
            if !is_wanted {
                before(info);
            }
        }));
    });
    PANIC.set(Some(String::new()));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    let said = PANIC.take().unwrap_or_default();
    match outcome {
        // A runtime keeps the panics of its tasks to itself.
        Ok(outcome) if said.is_empty() => Ok(outcome),
        _ => Err(said),
    }
}
