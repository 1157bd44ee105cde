//! Everything at once: the queue of events, the machines, the network, the clients, and the judges that look after each
//! event.

mod faults;
mod masters;
mod members;
mod own;
mod snapshots;
mod traffic;
mod workers;

use crate::bug::Bug;
use crate::calls::{Heard, perform};
use crate::clients::Crowd;
use crate::dice::Dice;
use crate::fetching::{self, Ask, Fetching, Got};
use crate::judge::{Failure, Judge, Kind};
use crate::machine::{Machine, NoStart, Work};
use crate::own::{Own, Ways};
use crate::schedule::{Fault, Schedule};
use crate::time::{Clocks, MachineClock, Timeline};
use crate::trace::Trace;
use crate::under::{URI, Under};
use crate::{Plan, Statistics};
use bytes::Bytes;
use journal::disk::DiskOp;
use journal::{AppendBatch, BatchSeq, Change, HardState, JournalLog, MemberId, Membership, Outgoing, SnapshotOffer};
use master::core::{Action, Event, Job, JobOk, Ticket};
use rpc::ClusterKey;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use types::LogIndex;
pub use workers::{Asker, Call};
use workers::{Errand, Yard};

/// How often a master looks at the time, as the product's driver.
const TICK_US: u64 = 20_000;
/// How long a supervisor waits before it starts what has ended.
const RESTART_US: u64 = 300_000;
/// How often it is looked whether all is well, once faults are over.
const LOOK_US: u64 = 50_000;
/// How long a cluster without faults may take until all is well, whatever befell it, by clocks that go right.
pub const HEALS_WITHIN_MS: u64 = 30_000;
/// How long a fault of a disk waits for the group to be able to do without it, and how often that is looked at.
const SPARED_US: (u64, u64) = (2_000_000, 5_000);
/// How long a client waits for one answer, at least and at most: the longest is longer than a master keeps a request.
const PATIENCE_US: (u64, u64) = (600_000, 8_000_000);
/// Turns of one master at one moment; more mean that it never comes to rest.
const TURNS: usize = 10_000;
/// The same for one that only looks, and looks anew rather than again.
const WATCHES_US: (u64, u64) = (50_000, 500_000);
/// When the kernel writes back by itself what nobody synced, with [`Bug::AckBeforeFsync`].
const WRITTEN_BACK_AFTER_US: u64 = 500_000;
/// When the late deletion of [`Bug::CollectorLate`] is sent.
const COLLECTED_AFTER_US: u64 = 2_000_000;
/// When the flush of [`Bug::LogCutEarly`] really happens.
const FLUSHED_AFTER_US: u64 = 3_000_000;

/// A batch on its way to the disk.
#[derive(Clone, Copy)]
struct Batch {
    seq: BatchSeq,
    state: HardState,
    last: Option<LogIndex>,
}

/// Something that happens.
enum Happening {
    /// At a master's process; void if it is another run of it by then, unless every run takes it.
    At {
        master: usize,
        life: Option<u64>,
        what: Inside,
    },
    Start {
        master: usize,
    },
    Wake {
        master: usize,
        life: u64,
    },
    /// An operator looks after the members of the group.
    Operate,
    /// A leader calls one that waits by its id.
    Admit {
        master: usize,
        life: u64,
        id: MemberId,
    },
    /// A fault of the schedule.
    Begin(usize),
    End(usize),
    Next {
        client: usize,
    },
    Heard {
        client: usize,
        attempt: u64,
        heard: Heard,
    },
    Broken {
        client: usize,
        attempt: u64,
        why: &'static str,
    },
    Again {
        client: usize,
        attempt: u64,
    },
    Look,
    /// Something comes to clients of ours.
    Own(own::Way),
    /// Something around workers.
    Errand(Box<Errand>),
}

/// Something that happens at a master's process.
enum Inside {
    Tick,
    Deliver {
        from: MemberId,
        to: MemberId,
        message: Bytes,
        everywhere: LogIndex,
    },
    Unreachable {
        to: MemberId,
    },
    /// Another master fetches a snapshot here.
    Asked {
        by: usize,
        life: u64,
        to: MemberId,
        number: u64,
        ask: Ask,
    },
    /// What it was answered.
    Fetched {
        number: u64,
        answer: fetching::Answer,
    },
    Synced(Batch),
    /// `told`: the core was told before, by a bug.
    Flush {
        told: bool,
    },
    LateJob(Job),
    Request {
        client: usize,
        attempt: u64,
    },
    FromWorker {
        call: Option<Call>,
        request: Box<http::Request<Bytes>>,
    },
    Porter {
        porter: usize,
        attempt: u64,
    },
    /// A client of ours asks.
    Own {
        number: u64,
        method: &'static str,
        request: Bytes,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The group elects, and rooms are made.
    Begin,
    Faults,
    Healing,
    /// All is well: everything is read once more.
    Reading,
    Over,
}

/// What the network does to messages now.
struct Network {
    /// From, to: how many faults cut it.
    cut: Vec<Vec<u32>>,
    isolated: Vec<u32>,
    slow_ms: Vec<Vec<u64>>,
    rain: (u64, u64, u64),
}

pub struct World {
    plan: Plan,
    schedule: Schedule,
    line: Timeline,
    dice: Dice,
    machines: Vec<Machine>,
    /// What came for a process that stands still.
    mail: Vec<Vec<(Option<u64>, Inside)>>,
    /// Whether a flush is under way there.
    flushing: Vec<bool>,
    under: Under,
    key: Arc<ClusterKey>,
    network: Network,
    crowd: Crowd,
    /// Those of the crowd that are ours.
    own: BTreeMap<usize, Own>,
    ways: Ways,
    /// Theirs: its clock stands still while nobody looks after them, and how far it has come.
    own_runtime: tokio::runtime::Runtime,
    own_us: u64,
    yard: Yard,
    queue: BTreeMap<(u64, u64), Happening>,
    next: u64,
    phase: Phase,
    healing_since_us: u64,
    judge: Judge,
    trace: Trace,
    runtime: tokio::runtime::Runtime,
    statistics: Statistics,
    /// The last change of the members is at or before this entry.
    changed: LogIndex,
    /// What anybody had applied at the look before, while the group heals.
    reached: LogIndex,
}

impl World {
    pub fn new(plan: Plan, schedule: Schedule, key: Arc<ClusterKey>, trace: Trace) -> World {
        let (line, dice) = (Timeline::default(), Dice::new(plan.seed, "world"));
        let under = Under::new(line.clone(), Arc::new(MachineClock::new(line.clone(), 0)), &plan);
        let count = plan.masters + plan.spares();
        let machines = (0..count).map(|at| {
            let (number, drift) = (u64::try_from(at + 1).expect("few"), plan.clocks.drift(at, &dice));
            match at < plan.masters {
                true => Machine::new(number, &line, drift, &plan),
                false => Machine::spare(number, &line, drift, &plan),
            }
        });
        let machines: Vec<Machine> = machines.collect();
        let network = Network {
            cut: vec![vec![0; count]; count],
            isolated: vec![0; count],
            slow_ms: vec![vec![0; count]; count],
            rain: (0, 0, 0),
        };
        let crowd = Crowd::new(&plan, &under);
        let ways = Ways::default();
        let own = |client: usize| {
            let dice = Dice::new(plan.seed, &format!("client {client}, of ours"));
            (client, Own::new(crowd.room(client), count, &ways, dice))
        };
        let own = (0..crowd.clients.len()).filter(|client| crowd.clients[*client].is_own).map(own).collect();
        let yard = Yard::new(&plan, &line, &under, &key);
        let mut world = World {
            judge: Judge::new(),
            machines,
            mail: (0..count).map(|_| Vec::new()).collect(),
            flushing: vec![false; count],
            under,
            key,
            network,
            crowd,
            own,
            ways,
            own_runtime: standing_runtime(),
            own_us: 0,
            yard,
            queue: BTreeMap::new(),
            next: 0,
            phase: Phase::Begin,
            healing_since_us: 0,
            trace,
            // Masters end what waits by their own clocks, whatever time a run takes.
            runtime: standing_runtime(),
            statistics: Statistics::default(),
            changed: LogIndex(0),
            reached: LogIndex(0),
            plan,
            schedule,
            line,
            dice,
        };
        for master in 0..count {
            world.after(0, Happening::Start { master });
        }
        if world.plan.changes {
            world.after(0, Happening::Operate);
        }
        for client in 0..world.crowd.clients.len() {
            world.after(0, Happening::Next { client });
        }
        world.begin_workers();
        world.begin_own();
        world.after(LOOK_US, Happening::Look);
        world
    }

    /// Lives until all is judged.
    pub fn run(mut self) -> (Result<(), Failure>, Statistics, Trace) {
        let guard = self.runtime.handle().clone();
        let _entered = guard.enter();
        let verdict = self.live();
        self.statistics.simulated_ms = self.line.now_us() / 1000;
        self.statistics.leaders = self.judge.leaders();
        self.statistics.calls = self.crowd.calls();
        self.statistics.read_bytes = self.yard.crew.read_bytes;
        let running = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        self.statistics.expired = running.map(|process| process.rig.expired()).sum();
        self.trace.line(self.line.now_us(), format_args!("verdict {verdict:?}"));
        (verdict, self.statistics, self.trace)
    }

    fn live(&mut self) -> Result<(), Failure> {
        while self.phase != Phase::Over {
            let (&(mut at_us, _), _) = self.queue.first_key_value().expect("somebody always looks");
            if let Some(store_us) = self.under.next_us().filter(|store_us| *store_us <= at_us) {
                at_us = store_us.max(self.line.now_us());
                self.line.advance(at_us);
                self.store_lives()?;
                continue;
            }
            let ((at_us, _), happening) = self.queue.pop_first().expect("just seen");
            self.line.advance(at_us);
            self.statistics.events += 1;
            self.happen(happening)?;
            self.look_at_leases()?;
        }
        self.judge_workers()?;
        self.judge.histories(&self.crowd)?;
        self.judge.store(&self.crowd, &self.under)
    }

    fn after(&mut self, in_us: u64, happening: Happening) {
        self.queue.insert((self.line.now_us() + in_us, self.next), happening);
        self.next += 1;
    }

    /// Something for this run of a master's process.
    fn at(&mut self, master: usize, in_us: u64, what: Inside) {
        let life = Some(self.machines[master].life);
        self.after(in_us, Happening::At { master, life, what });
    }

    fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.line(self.line.now_us(), line);
    }

    fn store_lives(&mut self) -> Result<(), Failure> {
        if self.under.live() {
            for master in 0..self.machines.len() {
                self.pump(master)?;
            }
            self.work_workers()?;
        }
        let gone = self.under.take_gone();
        for gone in &gone {
            self.note(format_args!("store {:?} of {} {}", gone.verb, gone.key, gone.version));
            self.yard.crew.judge_gone(gone, &self.under)?;
        }
        self.judge.gone(gone);
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Failure> {
        match happening {
            Happening::At { master, life, what } if self.machines[master].is_paused => {
                self.mail[master].push((life, what));
            }
            Happening::At { master, life, what } => self.happen_at(master, life, what)?,
            Happening::Start { master } => self.start(master)?,
            Happening::Wake { master, life } => self.wake(master, life)?,
            Happening::Operate => self.operate()?,
            Happening::Admit { master, life, id } => self.admit(master, life, id)?,
            Happening::Begin(at) => self.begin(at)?,
            Happening::End(at) => self.end(at),
            Happening::Next { client } => self.next_call(client)?,
            Happening::Heard { client, attempt, heard } => self.heard(client, attempt, heard)?,
            Happening::Broken { client, attempt, why } => self.broken(client, attempt, why),
            Happening::Again { client, attempt } => {
                if self.crowd.clients[client].attempt == attempt && self.crowd.clients[client].is_resting() {
                    self.try_call(client);
                }
            }
            Happening::Look => self.look()?,
            Happening::Own(way) => self.own(way)?,
            Happening::Errand(errand) => self.errand(*errand)?,
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Failure> {
        let now_us = self.line.now_us();
        self.after(LOOK_US, Happening::Look);
        match self.phase {
            Phase::Begin => {
                if self.crowd.rooms_are_ready() {
                    self.phase = Phase::Faults;
                    for at in 0..self.schedule.0.len() {
                        let in_us = 1000 * self.schedule.0[at].at_ms;
                        self.after(in_us, Happening::Begin(at));
                    }
                    self.healing_since_us = now_us + 1000 * self.plan.faults_ms;
                } else if now_us > 1000 * self.plan.heals_within_ms() {
                    return Err(Failure::new(Kind::NotHealed, "the group does not begin".to_owned()));
                }
            }
            Phase::Faults if now_us >= self.healing_since_us => self.heal()?,
            Phase::Faults => {}
            Phase::Healing => {
                let restless = self.restless();
                if restless.is_empty() {
                    self.statistics.healed_after_ms = (now_us - self.healing_since_us) / 1000;
                    self.read_all();
                } else if now_us - self.healing_since_us > 1000 * self.plan.heals_within_ms() {
                    let since_ms = (now_us - self.healing_since_us) / 1000;
                    let what = format!("not well {since_ms} ms after the last fault: {}", restless.join("; "));
                    let kind = if self.misplaced().is_empty() { Kind::NotHealed } else { Kind::Places };
                    return Err(Failure::new(kind, what));
                }
                self.reached = self.judge.applied().0;
            }
            Phase::Reading => {
                if self.crowd.has_read_all() && self.yard.crew.has_read_all() {
                    for machine in &mut self.machines {
                        self.judge.recount(machine)?;
                        while self.plan.bug.is_none() && !self.judge.audit(machine)? {}
                    }
                    self.phase = Phase::Over;
                } else if now_us - self.healing_since_us > 2 * 1000 * self.plan.heals_within_ms() {
                    return Err(Failure::new(Kind::NotHealed, "the last reads do not end".to_owned()));
                }
            }
            Phase::Over => {}
        }
        Ok(())
    }

    fn read_all(&mut self) {
        self.phase = Phase::Reading;
        self.note(format_args!("all is well, everything is read once more"));
        if self.plan.clocks == Clocks::Wild {
            self.crowd.forget_reads();
        }
        for client in self.crowd.readers() {
            self.after(1_000, Happening::Next { client });
        }
        self.read_all_files();
    }

    /// What is not well.
    fn restless(&self) -> Vec<String> {
        let mut restless = Vec::new();
        let mut applied = Vec::new();
        let mut leaders = 0;
        let is_spare = |machine: &&Machine| machine.is_waiting() && !machine.is_wanted;
        for machine in self.machines.iter().filter(|machine| !machine.is_lost && !is_spare(machine)) {
            let Some(process) = &machine.process else {
                let what = if machine.is_waiting() { "waits to be taken in" } else { "is down" };
                restless.push(format!("{} {what}", machine.address));
                continue;
            };
            if !machine.is_wanted {
                restless.push(format!("{} is still to leave the group", machine.id));
            }
            if self.plan.changes && !self.knows_all(machine) {
                restless.push(format!("{} does not know all members as such", machine.id));
            }
            leaders += usize::from(process.rig.leads());
            applied.push(process.rig.applied());
            if process.rig.open_intents() > 0 {
                restless.push(format!("{} has {} open intents", machine.id, process.rig.open_intents()));
            }
            if !process.work.is_empty() {
                restless.push(format!("{} has {} calls and jobs open", machine.id, process.work.len()));
            }
        }
        if leaders != 1 {
            restless.push(format!("{leaders} masters lead"));
        }
        // They do not stand still: a leader notes by and by what is used.
        if applied.iter().any(|index| *index < self.reached) || self.reached == LogIndex(0) {
            restless.push(format!("applied indexes are {applied:?}, {} was reached a while ago", self.reached));
        }
        restless.extend(self.crowd.busy());
        restless.extend(self.restless_workers());
        if !self.under.is_idle() {
            restless.push("the store is busy".to_owned());
        }
        restless
    }

    fn look_at_leases(&mut self) -> Result<(), Failure> {
        if self.plan.clocks == Clocks::Wild { Ok(()) } else { self.judge.leases(&self.machines) }
    }
}

/// One whose clock stands still.
fn standing_runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread")
}

fn hash<T: Hash + ?Sized>(of: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
