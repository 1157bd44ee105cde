//! Everything at once: the queue of events, the machines, the network, the clients, and the judges that look after each
//! event.

use crate::bug::Bug;
use crate::calls::{Heard, perform};
use crate::clients::Crowd;
use crate::dice::Dice;
use crate::judge::{Failure, Judge, Kind};
use crate::machine::{Machine, Work};
use crate::schedule::{Fault, Schedule};
use crate::time::{MachineClock, Timeline};
use crate::trace::Trace;
use crate::under::{URI, Under};
use crate::{Plan, Statistics};
use bytes::Bytes;
use journal::disk::DiskOp;
use journal::{AppendBatch, BatchSeq, HardState, JournalLog, Outgoing};
use master::core::{Action, Event, Job, JobOk, Ticket};
use rpc::ClusterKey;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use types::LogIndex;

/// How often a master looks at the time, as the product's driver.
const TICK_US: u64 = 20_000;
/// How long a supervisor waits before it starts what has ended.
const RESTART_US: u64 = 300_000;
/// How often it is looked whether all is well, once faults are over.
const LOOK_US: u64 = 50_000;
/// How long a group without faults may take until all is well.
pub const HEALS_WITHIN_MS: u64 = 30_000;
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
    Start { master: usize },
    Tick { master: usize, life: u64 },
    Deliver { master: usize, from: usize, message: Bytes, everywhere: LogIndex },
    Unreachable { master: usize, life: u64, to: usize },
    Synced { master: usize, life: u64, batch: Batch },
    Flush { master: usize, life: u64, told: bool },
    LateJob { master: usize, life: u64, job: Job },
    Request { client: usize, attempt: u64, master: usize },
    Wake { master: usize, life: u64 },
    Begin(usize),
    End(usize),
    Next { client: usize },
    Heard { client: usize, attempt: u64, heard: Heard },
    Broken { client: usize, attempt: u64, why: &'static str },
    Again { client: usize, attempt: u64 },
    Look,
}

impl Happening {
    /// The master whose process takes part.
    fn master(&self) -> Option<usize> {
        match self {
            Happening::Tick { master, .. }
            | Happening::Deliver { master, .. }
            | Happening::Unreachable { master, .. }
            | Happening::Synced { master, .. }
            | Happening::Flush { master, .. }
            | Happening::LateJob { master, .. }
            | Happening::Request { master, .. } => Some(*master),
            Happening::Start { .. }
            | Happening::Wake { .. }
            | Happening::Begin(_)
            | Happening::End(_)
            | Happening::Next { .. }
            | Happening::Heard { .. }
            | Happening::Broken { .. }
            | Happening::Again { .. }
            | Happening::Look => None,
        }
    }
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
    mail: Vec<Vec<Happening>>,
    /// Whether a flush is under way there.
    flushing: Vec<bool>,
    under: Under,
    key: Arc<ClusterKey>,
    network: Network,
    crowd: Crowd,
    queue: BTreeMap<(u64, u64), Happening>,
    next: u64,
    phase: Phase,
    healing_since_us: u64,
    judge: Judge,
    trace: Trace,
    runtime: tokio::runtime::Runtime,
    statistics: Statistics,
}

impl World {
    pub fn new(plan: Plan, schedule: Schedule, key: Arc<ClusterKey>, trace: Trace) -> World {
        let (line, dice) = (Timeline::default(), Dice::new(plan.seed, "world"));
        let under = Under::new(line.clone(), Arc::new(MachineClock::new(line.clone(), 0)), plan.seed);
        let count = plan.masters;
        let machines = (0..count).map(|at| {
            let drift = i64::try_from(dice.below(81)).expect("small") - 40;
            Machine::new(u64::try_from(at + 1).expect("few"), &line, drift, plan.bug)
        });
        let machines: Vec<Machine> = machines.collect();
        let network = Network {
            cut: vec![vec![0; count]; count],
            isolated: vec![0; count],
            slow_ms: vec![vec![0; count]; count],
            rain: (0, 0, 0),
        };
        let crowd = Crowd::new(&plan, &under);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let mut world = World {
            judge: Judge::new(),
            machines,
            mail: (0..count).map(|_| Vec::new()).collect(),
            flushing: vec![false; count],
            under,
            key,
            network,
            crowd,
            queue: BTreeMap::new(),
            next: 0,
            phase: Phase::Begin,
            healing_since_us: 0,
            trace,
            runtime: runtime.expect("a runtime without IO"),
            statistics: Statistics::default(),
            plan,
            schedule,
            line,
            dice,
        };
        for master in 0..count {
            world.after(0, Happening::Start { master });
        }
        for client in 0..world.crowd.clients.len() {
            world.after(0, Happening::Next { client });
        }
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
        self.judge.histories(&self.crowd)?;
        self.judge.store(&self.crowd, &self.under)
    }

    fn after(&mut self, in_us: u64, happening: Happening) {
        self.queue.insert((self.line.now_us() + in_us, self.next), happening);
        self.next += 1;
    }

    fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.line(self.line.now_us(), line);
    }

    fn store_lives(&mut self) -> Result<(), Failure> {
        if self.under.live() {
            for master in 0..self.machines.len() {
                self.pump(master)?;
            }
        }
        let gone = self.under.take_gone();
        for gone in &gone {
            self.note(format_args!("store {:?} of {} {}", gone.verb, gone.key, gone.version));
        }
        self.judge.gone(gone);
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Failure> {
        if let Some(master) = happening.master() {
            if self.machines[master].is_paused {
                self.mail[master].push(happening);
                return Ok(());
            }
            return self.happen_at(master, happening);
        }
        match happening {
            Happening::Start { master } => self.start(master)?,
            Happening::Wake { master, life } => self.wake(master, life)?,
            Happening::Begin(at) => self.begin(at)?,
            Happening::End(at) => self.end(at),
            Happening::Next { client } => self.next_call(client),
            Happening::Heard { client, attempt, heard } => self.heard(client, attempt, heard)?,
            Happening::Broken { client, attempt, why } => self.broken(client, attempt, why),
            Happening::Again { client, attempt } => {
                if self.crowd.clients[client].attempt == attempt && self.crowd.clients[client].is_resting() {
                    self.try_call(client);
                }
            }
            Happening::Look => self.look()?,
            Happening::Tick { .. }
            | Happening::Deliver { .. }
            | Happening::Unreachable { .. }
            | Happening::Synced { .. }
            | Happening::Flush { .. }
            | Happening::LateJob { .. }
            | Happening::Request { .. } => unreachable!("these happen at a master"),
        }
        Ok(())
    }

    // --- masters

    fn start(&mut self, master: usize) -> Result<(), Failure> {
        if self.machines[master].process.is_some() {
            return Ok(());
        }
        let dice = Dice::new(self.plan.seed, &format!("process {master} {}", self.machines[master].life));
        let count = u64::try_from(self.machines.len()).expect("few");
        self.flushing[master] = false;
        match self.machines[master].start(count, &self.under, &self.key, dice) {
            Ok(()) => {
                self.statistics.starts += 1;
                let life = self.machines[master].life;
                self.note(format_args!("master {} starts", master + 1));
                self.judge.recount(&self.machines[master])?;
                let first_us = self.dice.below(TICK_US);
                self.after(first_us, Happening::Tick { master, life });
                Ok(())
            }
            Err(no) if no.is_disk && self.phase != Phase::Reading => {
                self.note(format_args!("master {} cannot start: {}", master + 1, no.why));
                self.machines[master].disk.kill_process();
                self.after(RESTART_US, Happening::Start { master });
                Ok(())
            }
            Err(no) => Err(Failure::new(Kind::Start, format!("master {} cannot start: {}", master + 1, no.why))),
        }
    }

    /// The process ends by itself, and is started again.
    fn stop(&mut self, master: usize, why: &str) {
        self.note(format_args!("master {} stops: {why}", master + 1));
        self.machines[master].kill();
        self.forget_process(master);
        self.after(RESTART_US, Happening::Start { master });
    }

    fn forget_process(&mut self, master: usize) {
        self.mail[master].clear();
        for client in 0..self.crowd.clients.len() {
            if self.crowd.clients[client].is_asking(master) {
                let attempt = self.crowd.clients[client].attempt;
                let in_us = self.dice.between(100, 20_000);
                self.after(in_us, Happening::Broken { client, attempt, why: "the master is gone" });
            }
        }
    }

    fn wake(&mut self, master: usize, life: u64) -> Result<(), Failure> {
        if self.machines[master].life != life || !self.machines[master].is_paused {
            return Ok(());
        }
        self.note(format_args!("master {} wakes", master + 1));
        self.machines[master].is_paused = false;
        let (requests, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.mail[master])
            .into_iter()
            .partition(|happening| matches!(happening, Happening::Request { .. }));
        // Threads that serve connections may come to run before the thread of the state.
        let first = self.dice.once_in(2);
        let (before, after) = if first { (requests, rest) } else { (rest, requests) };
        for happening in before {
            match happening {
                Happening::Request { client, attempt, .. } => self.serve(master, client, attempt),
                happening if self.machines[master].life == life => self.happen_at(master, happening)?,
                _ => {}
            }
        }
        self.work(master);
        for happening in after {
            if self.machines[master].life == life {
                self.happen_at(master, happening)?;
            }
        }
        self.pump(master)
    }

    /// A request has arrived at a master.
    fn serve(&mut self, master: usize, client: usize, attempt: u64) {
        let Some(process) = &mut self.machines[master].process else { return };
        // The connection was given up: what it still had to deliver is gone with it.
        let Some((room, call, operation)) = self.crowd.clients[client].asks(attempt) else { return };
        let answer = Box::pin(perform(process.fs.clone(), room, call, operation));
        process.work.push(Work::Call { client, attempt, answer });
    }

    fn happen_at(&mut self, master: usize, happening: Happening) -> Result<(), Failure> {
        let machine = &mut self.machines[master];
        let (now, current) = (machine.now(), machine.life);
        let Some(process) = &mut machine.process else {
            if let Happening::Request { client, attempt, .. } = happening {
                self.after(2_000, Happening::Broken { client, attempt, why: "nobody listens" });
            }
            return Ok(());
        };
        match happening {
            Happening::Tick { life, .. } if life == current => {
                process.rig.step(now, Event::Tick);
                self.after(TICK_US, Happening::Tick { master, life });
            }
            Happening::Deliver { from, message, everywhere, .. } => {
                let from = self.machines[from].id;
                let Some(process) = &mut self.machines[master].process else { return Ok(()) };
                process.rig.step(now, Event::PeerMessage { from, message, everywhere });
            }
            Happening::Unreachable { life, to, .. } if life == current => {
                let to = self.machines[to].id;
                let Some(process) = &mut self.machines[master].process else { return Ok(()) };
                process.rig.step(now, Event::Unreachable(to));
            }
            Happening::Synced { life, batch, .. } if life == current => {
                if let Err(err) = process.log.sync() {
                    self.stop(master, &types::sentence(&err));
                    return Ok(());
                }
                process.prepare_log();
                if self.plan.bug != Some(Bug::AckBeforeFsync) {
                    self.persisted(master, batch);
                }
            }
            Happening::Flush { life, told, .. } if life == current => {
                let flushed = process.rig.flush();
                self.flushing[master] = false;
                match (flushed, told) {
                    (Ok(_), true) => {}
                    (Ok(index), false) => process.rig.step(now, Event::Flushed(index)),
                    (Err(err), _) => {
                        self.stop(master, &err.to_string());
                        return Ok(());
                    }
                }
            }
            Happening::LateJob { life, job, .. } if life == current => {
                let result = process.rig.execute(job);
                process.work.push(Work::Forgotten { result });
            }
            Happening::Request { client, attempt, .. } => self.serve(master, client, attempt),
            Happening::Tick { .. }
            | Happening::Unreachable { .. }
            | Happening::Synced { .. }
            | Happening::Flush { .. }
            | Happening::LateJob { .. } => return Ok(()),
            Happening::Start { .. }
            | Happening::Wake { .. }
            | Happening::Begin(_)
            | Happening::End(_)
            | Happening::Next { .. }
            | Happening::Heard { .. }
            | Happening::Broken { .. }
            | Happening::Again { .. }
            | Happening::Look => unreachable!("these happen at no master"),
        }
        self.pump(master)
    }

    /// Has a master do all there is to do now.
    fn pump(&mut self, master: usize) -> Result<(), Failure> {
        for _ in 0..TURNS {
            if self.machines[master].is_paused {
                return Ok(());
            }
            let mut busy = self.work(master);
            let now = self.machines[master].now();
            let Some(process) = &mut self.machines[master].process else { return Ok(()) };
            process.read_clock();
            let actions = match process.rig.turn(now) {
                Ok(actions) => actions,
                Err(why) => {
                    self.stop(master, &why);
                    return Ok(());
                }
            };
            busy |= process.rig.is_unfinished() || !actions.is_empty();
            let life = self.machines[master].life;
            for action in actions {
                if self.machines[master].life == life {
                    self.act(master, action);
                }
            }
            self.judge.state(&mut self.machines[master])?;
            if !busy && !self.work(master) {
                return Ok(());
            }
        }
        Err(Failure::new(Kind::NotHealed, format!("master {} does not come to rest", master + 1)))
    }

    /// Drives calls and jobs as far as they come. True if one ended.
    fn work(&mut self, master: usize) -> bool {
        let now = self.machines[master].now();
        let (mut ended, mut refused) = (Vec::new(), Vec::new());
        let Some(process) = &mut self.machines[master].process else { return false };
        let mut context = Context::from_waker(Waker::noop());
        let (mut any, mut lists) = (false, false);
        for mut work in std::mem::take(&mut process.work) {
            match &mut work {
                Work::Call { client, attempt, answer } => match answer.as_mut().poll(&mut context) {
                    Poll::Ready(result) => ended.push((*client, *attempt, Heard::of(result))),
                    Poll::Pending => {
                        lists |= self.crowd.clients[*client].lists();
                        process.work.push(work);
                    }
                },
                Work::Job { id, result } => match result.as_mut().poll(&mut context) {
                    Poll::Ready(result) => {
                        any = true;
                        if let Err(err) = &result {
                            refused.push(format!("{id:?}: {}", err.message));
                        }
                        process.rig.step(now, Event::JobDone(*id, result));
                    }
                    Poll::Pending => process.work.push(work),
                },
                Work::Forgotten { result } => {
                    if result.as_mut().poll(&mut context).is_pending() {
                        process.work.push(work);
                    }
                }
            }
        }
        for why in refused {
            self.note(format_args!("master {} hears from the store: {why}", master + 1));
        }
        if lists {
            // A listing is made by a task of its own.
            self.runtime.block_on(tokio::task::yield_now());
        }
        any |= !ended.is_empty();
        for (client, attempt, heard) in ended {
            self.answer(master, client, attempt, heard);
        }
        any
    }

    fn act(&mut self, master: usize, action: Action) {
        match action {
            Action::Append(batch) => self.append(master, &batch),
            Action::Send(message, everywhere) => self.send(master, message, everywhere),
            Action::Job(id, job) => self.job(master, id, job),
            Action::Flush => {
                let life = self.machines[master].life;
                self.note(format_args!("master {} flushes", master + 1));
                self.flushing[master] = true;
                if self.plan.bug == Some(Bug::LogCutEarly) {
                    let now = self.machines[master].now();
                    if let Some(process) = &mut self.machines[master].process {
                        let applied = process.rig.applied();
                        process.rig.step(now, Event::Flushed(applied));
                    }
                    return self.after(FLUSHED_AFTER_US, Happening::Flush { master, life, told: true });
                }
                let in_us = self.dice.between(500, 30_000) + 1000 * self.machines[master].fsync_ms;
                self.after(in_us, Happening::Flush { master, life, told: false });
            }
            Action::Purge(below) => {
                self.note(format_args!("master {} cuts its log below {below}", master + 1));
                if let Some(process) = &mut self.machines[master].process {
                    // As the writer: what fails here is tried again at the next flush.
                    let _ = process.log.purge_below(below);
                }
            }
            Action::Reply(..) | Action::MountsChanged => unreachable!("the rig does these"),
        }
    }

    fn append(&mut self, master: usize, batch: &AppendBatch) {
        let last = batch.entries.last().map(|entry| entry.index.0);
        let payload = hash(&batch.entries.iter().map(|entry| (entry.term.0, &entry.payload)).collect::<Vec<_>>());
        let state = batch.hard_state;
        self.note(format_args!(
            "master {} appends {} to {last:?}, {payload:x}, {} voted {:?} commit {}",
            master + 1,
            batch.entries.len(),
            state.term,
            state.vote,
            state.commit
        ));
        if let Err(why) = self.machines[master].append(batch) {
            return self.stop(master, &why);
        }
        let life = self.machines[master].life;
        let batch =
            Batch { seq: batch.seq, state: batch.hard_state, last: batch.entries.last().map(|entry| entry.index) };
        let mut took_us = if self.dice.once_in(40) { 25_000 } else { self.dice.between(200, 2_500) };
        took_us += 1000 * self.machines[master].fsync_ms;
        if self.plan.bug == Some(Bug::AckBeforeFsync) {
            self.persisted(master, batch);
            took_us += WRITTEN_BACK_AFTER_US;
        }
        self.after(took_us, Happening::Synced { master, life, batch });
    }

    fn persisted(&mut self, master: usize, batch: Batch) {
        let machine = &mut self.machines[master];
        let now = machine.now();
        machine.promise(batch.state, batch.last);
        if let Some(process) = &mut machine.process {
            process.rig.step(now, Event::Persisted(batch.seq));
        }
    }

    fn job(&mut self, master: usize, id: master::core::JobId, job: Job) {
        self.note(format_args!("master {} asks {URI}: {job:?}", master + 1));
        let (now, life) = (self.machines[master].now(), self.machines[master].life);
        let Some(process) = &mut self.machines[master].process else { return };
        if self.plan.bug == Some(Bug::CollectorLate) && matches!(job, Job::DeleteTree { .. }) {
            process.rig.step(now, Event::JobDone(id, Ok(JobOk::Done(None))));
            return self.after(COLLECTED_AFTER_US, Happening::LateJob { master, life, job });
        }
        let result = process.rig.execute(job);
        process.work.push(Work::Job { id, result });
    }

    // --- network

    fn send(&mut self, from: usize, message: Outgoing, everywhere: LogIndex) {
        let to = usize::try_from(message.to.0 - 1).expect("few");
        let print = hash(&message.bytes);
        self.note(format_args!("master {} to {}: {print:x}", from + 1, to + 1));
        let (loss, twice, late) = self.network.rain;
        let is_cut = self.network.cut[from][to] + self.network.isolated[from] + self.network.isolated[to] > 0;
        if is_cut || self.dice.per_mille(loss) {
            let life = self.machines[from].life;
            return self.after(1_000, Happening::Unreachable { master: from, life, to });
        }
        let copies = if self.dice.per_mille(twice) { 2 } else { 1 };
        for _ in 0..copies {
            let rainy_us = if self.dice.per_mille(late) { self.dice.below(600_000) } else { 0 };
            let in_us = self.dice.between(80, 900) + rainy_us + 1000 * self.network.slow_ms[from][to];
            let message = message.bytes.clone();
            self.after(in_us, Happening::Deliver { master: to, from, message, everywhere });
        }
    }

    /// Whether what goes between a client and a master is lost.
    fn loses(&mut self, master: usize) -> bool {
        self.network.isolated[master] > 0 || self.dice.per_mille(self.network.rain.0)
    }

    // --- clients

    fn next_call(&mut self, client: usize) {
        let is_open = matches!(self.phase, Phase::Begin | Phase::Faults | Phase::Reading);
        let now_us = self.line.now_us();
        if is_open && self.crowd.begin(client, now_us, self.phase == Phase::Reading) {
            self.try_call(client);
        } else if self.phase == Phase::Begin || self.phase == Phase::Faults {
            // Its room is not there yet.
            self.after(20_000, Happening::Next { client });
        }
    }

    fn try_call(&mut self, client: usize) {
        let masters = self.machines.len();
        let (attempt, master) = self.crowd.clients[client].try_again(masters);
        if self.loses(master) {
            let in_us = self.dice.between(50_000, 800_000);
            return self.after(in_us, Happening::Broken { client, attempt, why: "no way to the master" });
        }
        let in_us = self.dice.between(80, 900);
        self.after(in_us, Happening::Request { client, attempt, master });
        let patience_us = if self.crowd.clients[client].watches {
            self.dice.between(WATCHES_US.0, WATCHES_US.1)
        } else if self.dice.once_in(2) {
            PATIENCE_US.1
        } else {
            self.dice.between(PATIENCE_US.0, PATIENCE_US.1)
        };
        self.after(patience_us, Happening::Broken { client, attempt, why: "no answer" });
    }

    fn answer(&mut self, master: usize, client: usize, attempt: u64, heard: Heard) {
        if self.loses(master) {
            let in_us = self.dice.between(10_000, 300_000);
            return self.after(in_us, Happening::Broken { client, attempt, why: "the answer is lost" });
        }
        let in_us = self.dice.between(80, 900);
        self.after(in_us, Happening::Heard { client, attempt, heard });
    }

    fn heard(&mut self, client: usize, attempt: u64, heard: Heard) -> Result<(), Failure> {
        if self.crowd.clients[client].attempt != attempt || !self.crowd.clients[client].is_busy() {
            return Ok(());
        }
        self.note(format_args!("client {client} hears {heard:?}"));
        match heard {
            Heard::Outcome(answer) => {
                let rest_us = self.crowd.end(client, self.line.now_us(), answer);
                self.after(rest_us, Happening::Next { client });
                Ok(())
            }
            Heard::Again(_) => {
                self.again(client);
                Ok(())
            }
            Heard::Wrong(what) => {
                let call = self.crowd.clients[client].asks(attempt);
                Err(Failure::new(Kind::Answer, format!("client {client} asked {call:?} and was told {what}")))
            }
        }
    }

    fn broken(&mut self, client: usize, attempt: u64, why: &'static str) {
        if self.crowd.clients[client].attempt != attempt || !self.crowd.clients[client].is_busy() {
            return;
        }
        self.note(format_args!("client {client}: {why}"));
        for machine in &mut self.machines {
            if let Some(process) = &mut machine.process {
                process.work.retain(|work| !matches!(work, Work::Call { client: at, .. } if *at == client));
            }
        }
        if self.crowd.clients[client].watches {
            self.crowd.clients[client].give_up();
            return self.after(1_000, Happening::Next { client });
        }
        self.again(client);
    }

    fn again(&mut self, client: usize) {
        let attempt = self.crowd.clients[client].give_up_try();
        let in_us = self.dice.between(10_000, 120_000);
        self.after(in_us, Happening::Again { client, attempt });
    }

    // --- faults

    fn begin(&mut self, at: usize) -> Result<(), Failure> {
        if self.phase != Phase::Faults {
            return Ok(());
        }
        let planned = self.schedule.0[at];
        self.note(format_args!("fault {:?}", planned.fault));
        self.statistics.faults += 1;
        let lasts_us = 1000 * planned.for_ms;
        match planned.fault {
            Fault::PowerCut { master } => self.cut_power(master, lasts_us),
            Fault::Blackout => {
                for master in 0..self.machines.len() {
                    let more_us = self.dice.below(200_000);
                    self.cut_power(master, lasts_us + more_us);
                }
            }
            Fault::Kill { master } => {
                if self.machines[master].process.is_some() {
                    self.machines[master].kill();
                    self.forget_process(master);
                    self.after(lasts_us, Happening::Start { master });
                }
            }
            Fault::Pause { master } => {
                if self.machines[master].process.is_some() && !self.machines[master].is_paused {
                    self.machines[master].is_paused = true;
                    let life = self.machines[master].life;
                    self.after(lasts_us, Happening::Wake { master, life });
                }
            }
            Fault::Cut { from, to } => self.network.cut[from][to] += 1,
            Fault::Isolate { master } => self.network.isolated[master] += 1,
            Fault::Rain { loss, twice, late } => self.network.rain = (loss, twice, late),
            Fault::SlowLink { from, to, ms } => self.network.slow_ms[from][to] = ms,
            Fault::SlowDisk { master, ms } => self.machines[master].fsync_ms = ms,
            Fault::WriteError { master } => self.machines[master].disk.fail_next(DiskOp::Write, ErrorKind::Other),
            Fault::SyncError { master } => self.machines[master].disk.fail_next(DiskOp::Sync, ErrorKind::Other),
            Fault::DatabaseError { master } => self.machines[master].files.fail_next(),
            Fault::DiskFull { master } => {
                self.machines[master].disk.set_capacity(0);
                self.machines[master].files.set_full(true);
            }
            Fault::ClockJump { master, by_ms } => self.machines[master].clock.jump(by_ms),
            Fault::HandOver { to } => self.hand_over(to)?,
            Fault::StoreAway => self.under.set_weather(|weather| weather.away = true),
            Fault::StoreSlow { ms } => self.under.set_weather(|weather| weather.slow_ms = ms),
            Fault::StoreForgetful { per_mille } => self.under.set_weather(|weather| weather.forgetful = per_mille),
        }
        self.after(lasts_us, Happening::End(at));
        Ok(())
    }

    fn cut_power(&mut self, master: usize, lasts_us: u64) {
        self.machines[master].cut_power(&self.dice, self.flushing[master]);
        self.forget_process(master);
        self.after(lasts_us, Happening::Start { master });
    }

    fn hand_over(&mut self, to: usize) -> Result<(), Failure> {
        let id = self.machines[to].id;
        for master in 0..self.machines.len() {
            let now = self.machines[master].now();
            let is_paused = self.machines[master].is_paused;
            if let Some(process) = &mut self.machines[master].process
                && process.rig.leads()
                && master != to
                && !is_paused
            {
                process.rig.step(now, Event::HandOver(Ticket(u64::MAX), id));
                return self.pump(master);
            }
        }
        Ok(())
    }

    fn end(&mut self, at: usize) {
        match self.schedule.0[at].fault {
            Fault::Cut { from, to } => self.network.cut[from][to] = self.network.cut[from][to].saturating_sub(1),
            Fault::Isolate { master } => {
                self.network.isolated[master] = self.network.isolated[master].saturating_sub(1);
            }
            Fault::Rain { .. } => self.network.rain = (0, 0, 0),
            Fault::SlowLink { from, to, .. } => self.network.slow_ms[from][to] = 0,
            Fault::SlowDisk { master, .. } => self.machines[master].fsync_ms = 0,
            Fault::DiskFull { master } => {
                self.machines[master].disk.set_capacity(usize::MAX);
                self.machines[master].files.set_full(false);
            }
            Fault::StoreAway => self.under.set_weather(|weather| weather.away = false),
            Fault::StoreSlow { .. } => self.under.set_weather(|weather| weather.slow_ms = 0),
            Fault::StoreForgetful { .. } => self.under.set_weather(|weather| weather.forgetful = 0),
            Fault::PowerCut { .. }
            | Fault::Blackout
            | Fault::Kill { .. }
            | Fault::Pause { .. }
            | Fault::WriteError { .. }
            | Fault::SyncError { .. }
            | Fault::DatabaseError { .. }
            | Fault::ClockJump { .. }
            | Fault::HandOver { .. } => {}
        }
    }

    /// Faults are over: the network is whole, disks work, everybody is started.
    fn heal(&mut self) -> Result<(), Failure> {
        self.phase = Phase::Healing;
        self.healing_since_us = self.line.now_us();
        self.note(format_args!("faults are over"));
        let count = self.machines.len();
        self.network = Network {
            cut: vec![vec![0; count]; count],
            isolated: vec![0; count],
            slow_ms: vec![vec![0; count]; count],
            rain: (0, 0, 0),
        };
        self.under.set_weather(|weather| *weather = Default::default());
        for master in 0..count {
            let machine = &mut self.machines[master];
            machine.fsync_ms = 0;
            machine.disk.set_capacity(usize::MAX);
            machine.files.mend();
            let life = machine.life;
            self.wake(master, life)?;
            self.start(master)?;
        }
        Ok(())
    }

    // --- phases

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
                } else if now_us > 1000 * HEALS_WITHIN_MS {
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
                } else if now_us - self.healing_since_us > 1000 * HEALS_WITHIN_MS {
                    let what = format!("not well {HEALS_WITHIN_MS} ms after the last fault: {}", restless.join("; "));
                    return Err(Failure::new(Kind::NotHealed, what));
                }
            }
            Phase::Reading => {
                if self.crowd.has_read_all() {
                    for machine in &self.machines {
                        self.judge.recount(machine)?;
                    }
                    self.phase = Phase::Over;
                } else if now_us - self.healing_since_us > 2 * 1000 * HEALS_WITHIN_MS {
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
        for client in self.crowd.readers() {
            self.after(1_000, Happening::Next { client });
        }
    }

    /// What is not well.
    fn restless(&self) -> Vec<String> {
        let mut restless = Vec::new();
        let mut applied = Vec::new();
        let mut leaders = 0;
        for machine in &self.machines {
            let Some(process) = &machine.process else {
                restless.push(format!("{} is down", machine.id));
                continue;
            };
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
        if applied.iter().any(|index| *index != applied[0]) {
            restless.push(format!("applied indexes are {applied:?}"));
        }
        restless.extend(self.crowd.busy());
        if !self.under.is_idle() {
            restless.push("the store is busy".to_owned());
        }
        restless
    }

    fn look_at_leases(&mut self) -> Result<(), Failure> {
        self.judge.leases(&self.machines)
    }
}

fn hash<T: Hash + ?Sized>(of: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
