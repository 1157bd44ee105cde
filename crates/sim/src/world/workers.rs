//! Workers and their clients: processes start, stop and stand still, and what goes between them, masters and each other.

use super::*;
use crate::machine::AnswerWork;
use crate::porters::{Ask, Crew, Reply, Then, WorkerAsk, perform};
use crate::post::{self, Letter, To};
use crate::schedule::WorkerFault;
use crate::worker_machine::{Serving, WorkerMachine};
use futures::FutureExt;
use http_body_util::BodyExt;
use prost::Message as _;
use proto::grpc::block::write_request::Value;
use proto::grpc::block::{
    Chunk, RemoveBlockRequest, RemoveBlockResponse, RequestType, WriteRequest, WriteRequestCommand, WriteResponse,
};
use proto::internal::{BlockReport, HeartbeatRequest};
use proto::shared::dataserver::CreateUfsFileOptions;
use rpc::WorkerToken;
use std::collections::BTreeSet;
use tonic::Status;
use types::{BlockId, WorkerId};
use worker::On;
use worker::rig::Whole;

/// How often a worker's timers are looked at.
const TICK_US: u64 = 5_000;
/// How long a porter waits for one answer, at least and at most.
const PATIENCE_US: (u64, u64) = (1_000_000, 12_000_000);
/// Bytes of one message of a write.
const CHUNK_BYTES: usize = 24 << 10;
/// In a thousand: writes whose sender goes away in the middle.
const TORN: u64 = 40;
/// The steps of a disk within which its power goes, once it is to go.
const POWER_STEPS: u64 = 30;
/// How long it stays at most if the disk does nothing.
const POWER_US: u64 = 100_000;
/// How late a message may come twice while everything echoes.
const ECHO_US: u64 = 3_000_000;
/// Between two replacements from outside.
const OUTSIDE_US: u64 = 700_000;
/// Longest time between a process that died and its next start.
const AWAY_US: u64 = 2_000_000;
/// The root's, as official clients name it.
const MOUNT: i64 = 1;
const USER: &str = "root";
/// What a worker says of files that it cannot use.
const DAMAGED: &str = "is damaged";
const HEARTBEAT: &str = "/Heartbeat";

/// Who waits for an answer of a worker.
#[derive(Clone, Copy, Debug)]
pub enum Asker {
    Porter { porter: usize, attempt: u64 },
    Worker(Call),
}

/// A call of a worker's process.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    worker: usize,
    life: u64,
    number: u64,
}

/// Something that happens around workers.
pub enum Errand {
    Tick {
        worker: usize,
        life: u64,
    },
    Start {
        worker: usize,
    },
    Wake {
        worker: usize,
        life: u64,
    },
    PowerGoes {
        worker: usize,
        life: u64,
    },
    /// An answer arrives at the worker that asked, or it hears that the connection broke.
    Answer {
        call: Call,
        answer: Result<Whole, Status>,
    },
    /// A request arrives at a worker.
    Request {
        worker: usize,
        asker: Asker,
        request: http::Request<rpc::Body>,
    },
    Next {
        porter: usize,
    },
    Again {
        porter: usize,
        attempt: u64,
    },
    Heard {
        porter: usize,
        attempt: u64,
        reply: Reply,
    },
    Broken {
        porter: usize,
        attempt: u64,
        why: &'static str,
    },
    /// Somebody replaces an object from outside.
    Outside,
}

/// All workers and their clients.
pub struct Yard {
    pub machines: Vec<WorkerMachine>,
    /// What came for a process that stands still.
    mail: Vec<Vec<Errand>>,
    pub crew: Crew,
    token: Arc<WorkerToken>,
    calls: u64,
    /// In a thousand: messages that come twice, the second time late.
    echo: u64,
    /// By worker and master, what is brought back by [`Bug::LocationResurrected`].
    left: BTreeMap<(usize, usize), Vec<u64>>,
}

impl Yard {
    pub fn new(plan: &Plan, line: &Timeline, under: &Under, key: &ClusterKey) -> Yard {
        let dice = Dice::new(plan.seed, "workers");
        let machine = |at: usize| {
            let drift = i64::try_from(dice.below(81)).expect("small") - 40;
            WorkerMachine::new(at + 1, line, drift)
        };
        Yard {
            machines: (0..plan.workers).map(machine).collect(),
            mail: (0..plan.workers).map(|_| Vec::new()).collect(),
            crew: Crew::new(plan, under),
            token: Arc::new(key.token()),
            calls: 0,
            echo: 0,
            left: BTreeMap::new(),
        }
    }
}

impl World {
    /// Workers and their clients begin.
    pub(super) fn begin_workers(&mut self) {
        for worker in 0..self.yard.machines.len() {
            self.errand_in(0, Errand::Start { worker });
        }
        for porter in 0..self.yard.crew.porters.len() {
            self.errand_in(0, Errand::Next { porter });
        }
        if !self.yard.machines.is_empty() {
            self.errand_in(OUTSIDE_US, Errand::Outside);
        }
    }

    fn errand_in(&mut self, in_us: u64, errand: Errand) {
        self.after(in_us, Happening::Errand(Box::new(errand)));
    }

    pub(super) fn errand(&mut self, errand: Errand) -> Result<(), Failure> {
        match errand {
            Errand::Tick { worker, life } => {
                let machine = &self.yard.machines[worker];
                if machine.life != life || machine.is_paused {
                    return Ok(());
                }
                self.errand_in(TICK_US, Errand::Tick { worker, life });
                self.work_worker(worker)
            }
            Errand::Start { worker } => self.start_worker(worker),
            Errand::Wake { worker, life } => self.wake_worker(worker, life),
            Errand::PowerGoes { worker, life } => {
                if self.yard.machines[worker].life == life {
                    self.power_goes(worker);
                }
                Ok(())
            }
            Errand::Answer { call, answer } => self.answer_worker(call, answer),
            Errand::Request { worker, asker, request } => self.request_worker(worker, asker, request),
            Errand::Next { porter } => {
                self.next_job(porter);
                Ok(())
            }
            Errand::Again { porter, attempt } => {
                if self.yard.crew.porters[porter].attempt == attempt {
                    self.porter_tries(porter);
                }
                Ok(())
            }
            Errand::Heard { porter, attempt, reply } => self.porter_hears(porter, attempt, reply),
            Errand::Broken { porter, attempt, why } => self.porter_hears(porter, attempt, Reply::Again(why.to_owned())),
            Errand::Outside => {
                if self.phase == Phase::Faults || self.phase == Phase::Begin {
                    self.yard.crew.replace_any(&self.under);
                    self.errand_in(OUTSIDE_US, Errand::Outside);
                }
                Ok(())
            }
        }
    }

    // --- processes ---

    fn start_worker(&mut self, worker: usize) -> Result<(), Failure> {
        let machine = &mut self.yard.machines[worker];
        if machine.process.is_some() {
            return Ok(());
        }
        let dice = Dice::new(self.plan.seed, &format!("worker {worker} {}", machine.life));
        let token = Arc::clone(&self.yard.token);
        let masters = self.machines.len();
        if let Err(why) = machine.start(masters, &self.under, token, dice, self.plan.bug) {
            return self.worker_refuses(worker, why);
        }
        let life = machine.life;
        self.note(format_args!("worker {} starts", worker + 1));
        self.errand_in(0, Errand::Tick { worker, life });
        Ok(())
    }

    /// A worker does not start on what is left of its disk: that is mended, or, where a bit flipped, replaced.
    fn worker_refuses(&mut self, worker: usize, why: String) -> Result<(), Failure> {
        let machine = &mut self.yard.machines[worker];
        let is_rot = machine.is_rotten && why.contains(DAMAGED);
        if !machine.is_failing && !is_rot {
            return Err(Failure::new(Kind::Start, format!("{} cannot start: {why}", machine.name)));
        }
        if !machine.is_failing {
            machine.disk.lose();
            machine.is_rotten = false;
            self.yard.crew.disk_lost(worker);
            self.statistics.refused += 1;
        }
        self.note(format_args!("worker {} does not start: {why}", worker + 1));
        self.errand_in(RESTART_US, Errand::Start { worker });
        Ok(())
    }

    /// Somebody sees to a disk that failed, and starts the worker again.
    fn mend_worker(&mut self, worker: usize) {
        let machine = &mut self.yard.machines[worker];
        if std::mem::take(&mut machine.is_failing) {
            machine.disk.mend();
            machine.kill();
            // A directory that fails to be read again and again is given up with all it holds.
            if std::mem::take(&mut machine.fails_reads) {
                self.yard.crew.disk_lost(worker);
            }
            self.forget_worker(worker);
        }
    }

    fn wake_worker(&mut self, worker: usize, life: u64) -> Result<(), Failure> {
        let machine = &mut self.yard.machines[worker];
        if machine.life != life || !machine.is_paused {
            return Ok(());
        }
        machine.is_paused = false;
        self.note(format_args!("worker {} wakes", worker + 1));
        self.errand_in(0, Errand::Tick { worker, life });
        for errand in std::mem::take(&mut self.yard.mail[worker]) {
            self.errand(errand)?;
        }
        Ok(())
    }

    fn power_goes(&mut self, worker: usize) {
        self.note(format_args!("worker {} is dark", worker + 1));
        self.yard.machines[worker].cut_power(&self.dice);
        self.forget_worker(worker);
    }

    /// Its process is gone: whoever waits for it hears that, and it is started again.
    fn forget_worker(&mut self, worker: usize) {
        let mut askers: Vec<Asker> = Vec::new();
        for errand in std::mem::take(&mut self.yard.mail[worker]) {
            if let Errand::Request { asker, .. } = errand {
                askers.push(asker);
            }
        }
        for porter in 0..self.yard.crew.porters.len() {
            if self.yard.crew.is_asking_worker(porter, worker) {
                let attempt = self.yard.crew.porters[porter].attempt;
                askers.push(Asker::Porter { porter, attempt });
            }
        }
        for at in 0..self.yard.machines.len() {
            let life = self.yard.machines[at].life;
            if let Some(process) = &self.yard.machines[at].process {
                let numbers = process.open.iter().filter(|(_, (to, _))| *to == To::Worker(worker));
                askers.extend(numbers.map(|(number, _)| Asker::Worker(Call { worker: at, life, number: *number })));
            }
        }
        for asker in askers {
            let in_us = self.dice.between(100, 20_000);
            self.break_off(asker, in_us, "the worker is gone");
        }
        let in_us = self.dice.between(RESTART_US, AWAY_US);
        self.errand_in(in_us, Errand::Start { worker });
    }

    fn break_off(&mut self, asker: Asker, in_us: u64, why: &'static str) {
        match asker {
            Asker::Porter { porter, attempt } => self.errand_in(in_us, Errand::Broken { porter, attempt, why }),
            Asker::Worker(call) => self.errand_in(in_us, Errand::Answer { call, answer: Err(post::broken()) }),
        }
    }

    /// Everything a worker does now, and what it sends.
    fn work_worker(&mut self, worker: usize) -> Result<(), Failure> {
        let machine = &mut self.yard.machines[worker];
        if machine.is_paused || machine.process.is_none() {
            return Ok(());
        }
        machine.live();
        if machine.disk.has_lost_power() {
            self.power_goes(worker);
            return Ok(());
        }
        let Some(process) = &mut machine.process else { return Ok(()) };
        let letters = process.outbox.take();
        let mut done = Vec::new();
        for mut serving in std::mem::take(&mut process.serving) {
            match serving.served.take() {
                Some(answer) => done.push((serving.asker, answer)),
                None => process.serving.push(serving),
            }
        }
        for letter in letters {
            self.post(worker, letter);
        }
        for (asker, answer) in done {
            self.answer_of_worker(worker, asker, answer);
        }
        Ok(())
    }

    pub(super) fn work_workers(&mut self) -> Result<(), Failure> {
        for worker in 0..self.yard.machines.len() {
            self.work_worker(worker)?;
        }
        Ok(())
    }

    // --- messages ---

    /// Whether what goes between a worker and another place is lost.
    fn loses_letter(&mut self, worker: usize, other: To) -> bool {
        let is_cut = self.yard.machines[worker].is_cut_off()
            || match other {
                To::Master(master) => self.network.isolated[master] > 0,
                To::Worker(other) => self.yard.machines[other].is_cut_off(),
            };
        is_cut || self.dice.per_mille(self.network.rain.0)
    }

    /// How long what goes to or from a worker is on its way.
    fn letter_us(&mut self, worker: usize) -> u64 {
        let late_us = if self.dice.per_mille(self.network.rain.2) { self.dice.below(600_000) } else { 0 };
        self.dice.between(80, 900) + late_us + 1000 * self.yard.machines[worker].slow_link_ms
    }

    /// A request leaves a worker.
    fn post(&mut self, worker: usize, letter: Letter) {
        let Letter { to, mut request, tell } = letter;
        if let (To::Master(master), Some(Bug::LocationResurrected)) = (to, self.plan.bug) {
            self.resurrect(worker, master, &mut request);
        }
        self.yard.calls += 1;
        let number = self.yard.calls;
        let machine = &mut self.yard.machines[worker];
        let call = Call { worker, life: machine.life, number };
        if let Some(process) = &mut machine.process {
            process.open.insert(number, (to, tell));
        }
        let (path, bytes) = (request.uri().path().to_owned(), request.body().len());
        self.note(format_args!("worker {} asks {to:?}: {path}, {bytes} bytes", worker + 1));
        let is_unheard = matches!(to, To::Master(master) if self.yard.machines[worker].unheard_by == Some(master));
        if is_unheard || self.loses_letter(worker, to) {
            let in_us = self.dice.between(20_000, 800_000);
            return self.break_off(Asker::Worker(call), in_us, "lost");
        }
        let copies =
            [(self.dice.per_mille(self.network.rain.1), 600_000), (self.dice.per_mille(self.yard.echo), ECHO_US)];
        let master = match to {
            To::Master(master) if self.plan.bug == Some(Bug::NewcomerUntold) && master >= self.plan.masters => return,
            To::Master(master) => master,
            To::Worker(other) => {
                let in_us = self.letter_us(worker);
                let request = request.map(post::body);
                return self.errand_in(in_us, Errand::Request { worker: other, asker: Asker::Worker(call), request });
            }
        };
        let deliver = |world: &mut World, in_us: u64, call: Option<Call>, request: http::Request<Bytes>| {
            let what = Inside::FromWorker { call, request: Box::new(request) };
            world.after(in_us, Happening::At { master, life: None, what });
        };
        for (_, within_us) in copies.into_iter().filter(|(is_copied, _)| *is_copied) {
            let in_us = self.letter_us(worker) + self.dice.below(within_us);
            deliver(self, in_us, None, request.clone());
        }
        let in_us = self.letter_us(worker);
        deliver(self, in_us, Some(call), request);
    }

    /// A request of a worker has arrived at a master.
    pub(super) fn serve_worker(&mut self, master: usize, call: Option<Call>, request: http::Request<Bytes>) {
        let Some(process) = &mut self.machines[master].process else { return };
        let answering = process.rig.serve_worker(request.map(post::body));
        let answer: AnswerWork = async move {
            let (head, body) = answering.await.into_parts();
            body.collect().await.map(|body| http::Response::from_parts(head, body))
        }
        .boxed();
        process.work.push(Work::OfWorker { call, answer });
    }

    /// A master is gone, or nobody listens there.
    pub(super) fn break_calls_at(&mut self, master: usize) {
        let mut askers = Vec::new();
        for (at, machine) in self.yard.machines.iter().enumerate() {
            let Some(process) = &machine.process else { continue };
            let numbers = process.open.iter().filter(|(_, (to, _))| *to == To::Master(master));
            let call = |number: &u64| Call { worker: at, life: machine.life, number: *number };
            askers.extend(numbers.map(|(number, _)| Asker::Worker(call(number))));
        }
        for porter in 0..self.yard.crew.porters.len() {
            if self.yard.crew.is_asking_master(porter, self.machines.len(), master) {
                askers.push(Asker::Porter { porter, attempt: self.yard.crew.porters[porter].attempt });
            }
        }
        for asker in askers {
            let in_us = self.dice.between(100, 20_000);
            self.break_off(asker, in_us, "the master is gone");
        }
    }

    pub(super) fn nobody_listens(&mut self, call: Option<Call>) {
        if let Some(call) = call {
            self.break_off(Asker::Worker(call), 2_000, "nobody listens");
        }
    }

    /// A master has answered a worker.
    pub(super) fn answer_to_worker(&mut self, master: usize, call: Option<Call>, answer: Result<Whole, Status>) {
        let Some(call) = call else { return };
        let is_deaf = self.yard.machines[call.worker].deaf_to == Some(master);
        if is_deaf || self.loses_letter(call.worker, To::Master(master)) {
            let in_us = self.dice.between(10_000, 300_000);
            return self.break_off(Asker::Worker(call), in_us, "the answer is lost");
        }
        let in_us = self.letter_us(call.worker);
        self.errand_in(in_us, Errand::Answer { call, answer });
    }

    fn answer_worker(&mut self, call: Call, answer: Result<Whole, Status>) -> Result<(), Failure> {
        let machine = &mut self.yard.machines[call.worker];
        if machine.life != call.life {
            return Ok(());
        }
        if machine.is_paused {
            self.yard.mail[call.worker].push(Errand::Answer { call, answer });
            return Ok(());
        }
        let refusal = answer.as_ref().map_or_else(|status| Some(status.clone()), post::refusal);
        let tell = machine.process.as_mut().and_then(|process| process.open.remove(&call.number));
        if let Some((_, tell)) = tell {
            // It may have given up waiting.
            let _ = tell.send(answer);
        }
        if let Some(refusal) = refusal {
            self.note(format_args!("worker {} hears {:?}: {}", call.worker + 1, refusal.code(), refusal.message()));
        }
        self.work_worker(call.worker)
    }

    fn request_worker(
        &mut self,
        worker: usize,
        asker: Asker,
        request: http::Request<rpc::Body>,
    ) -> Result<(), Failure> {
        let machine = &mut self.yard.machines[worker];
        if machine.is_paused {
            self.yard.mail[worker].push(Errand::Request { worker, asker, request });
            return Ok(());
        }
        let Some(process) = &mut machine.process else {
            self.break_off(asker, 2_000, "nobody listens");
            return Ok(());
        };
        let served = process.rig.serve(request);
        process.serving.push(Serving { asker, served });
        self.work_worker(worker)
    }

    /// A worker has answered.
    fn answer_of_worker(&mut self, worker: usize, asker: Asker, answer: Result<Whole, Status>) {
        let is_lost = match asker {
            Asker::Porter { .. } => self.yard.machines[worker].is_cut_off() || self.dice.per_mille(self.network.rain.0),
            Asker::Worker(call) => self.loses_letter(worker, To::Worker(call.worker)),
        };
        if is_lost {
            let in_us = self.dice.between(10_000, 300_000);
            return self.break_off(asker, in_us, "the answer is lost");
        }
        let in_us = self.letter_us(worker);
        match asker {
            Asker::Worker(call) => self.errand_in(in_us, Errand::Answer { call, answer }),
            Asker::Porter { porter, attempt } => {
                let Some(ask) = self.yard.crew.asks_worker(porter, attempt) else { return };
                let reply = match Reply::of_worker(reply_of(&ask, answer)) {
                    Reply::Damaged(what) if self.yard.machines[worker].fails_reads => Reply::Again(what),
                    reply => reply,
                };
                self.errand_in(in_us, Errand::Heard { porter, attempt, reply });
            }
        }
    }

    // --- clients ---

    fn next_job(&mut self, porter: usize) {
        let is_open = matches!(self.phase, Phase::Faults | Phase::Reading);
        let must = self.phase == Phase::Healing && self.yard.crew.must_go_on(porter);
        if (is_open || must) && self.yard.crew.begin(porter) {
            self.porter_tries(porter);
        } else if self.phase == Phase::Begin {
            self.errand_in(20_000, Errand::Next { porter });
        }
    }

    fn porter_tries(&mut self, porter: usize) {
        let Some((attempt, ask, master)) = self.yard.crew.try_again(porter, self.machines.len()) else { return };
        let patience_us = self.dice.between(PATIENCE_US.0, PATIENCE_US.1);
        self.errand_in(patience_us, Errand::Broken { porter, attempt, why: "no answer" });
        match ask {
            Ask::Master(ask, _) => {
                self.note(format_args!("porter {porter} asks master {}: {ask:?}", master + 1));
                if self.loses(master) {
                    let in_us = self.dice.between(50_000, 800_000);
                    return self.break_off(Asker::Porter { porter, attempt }, in_us, "no way to the master");
                }
                let in_us = self.dice.between(80, 900);
                self.after(in_us, Happening::At { master, life: None, what: Inside::Porter { porter, attempt } });
            }
            Ask::Worker(worker, ask) => {
                self.note(format_args!("porter {porter} asks worker {}: {}", worker + 1, ask.name()));
                let asker = Asker::Porter { porter, attempt };
                if self.yard.machines[worker].is_cut_off() || self.dice.per_mille(self.network.rain.0) {
                    let in_us = self.dice.between(20_000, 800_000);
                    return self.break_off(asker, in_us, "no way to the worker");
                }
                let is_write = matches!(ask, WorkerAsk::Block { .. } | WorkerAsk::Store { .. });
                let request = request_of(&ask);
                let request = if is_write && self.phase == Phase::Faults && self.dice.per_mille(TORN) {
                    let bytes = self.dice.index(request.body().len());
                    let in_us = self.dice.between(2_000, 50_000);
                    self.break_off(asker, in_us, "broken off");
                    request.map(|body| post::torn_body(body, bytes))
                } else {
                    request.map(post::body)
                };
                let in_us = self.letter_us(worker);
                self.errand_in(in_us, Errand::Request { worker, asker, request });
            }
        }
    }

    /// A porter's request has arrived at a master.
    pub(super) fn serve_porter(&mut self, master: usize, porter: usize, attempt: u64) {
        let Some(process) = &mut self.machines[master].process else { return };
        let Some((ask, operation)) = self.yard.crew.asks_master(porter, attempt) else { return };
        let answer = Box::pin(perform(process.fs.clone(), ask, operation));
        process.work.push(Work::Porter { porter, attempt, answer });
    }

    pub(super) fn nobody_listens_to(&mut self, porter: usize, attempt: u64) {
        self.break_off(Asker::Porter { porter, attempt }, 2_000, "nobody listens");
    }

    /// A master has answered a porter.
    pub(super) fn answer_to_porter(&mut self, master: usize, porter: usize, attempt: u64, reply: Reply) {
        if self.loses(master) {
            let in_us = self.dice.between(10_000, 300_000);
            return self.break_off(Asker::Porter { porter, attempt }, in_us, "the answer is lost");
        }
        let in_us = self.dice.between(80, 900);
        self.errand_in(in_us, Errand::Heard { porter, attempt, reply });
    }

    fn porter_hears(&mut self, porter: usize, attempt: u64, reply: Reply) -> Result<(), Failure> {
        if self.yard.crew.porters[porter].attempt != attempt {
            return Ok(());
        }
        let heard = match &reply {
            Reply::Content(bytes) => format!("{} bytes, {:x}", bytes.len(), hash(bytes)),
            Reply::Made(_)
            | Reply::Done
            | Reply::Seen(_)
            | Reply::Refused(_)
            | Reply::Again(_)
            | Reply::Damaged(_)
            | Reply::Wrong(_) => {
                format!("{reply:?}")
            }
        };
        self.note(format_args!("porter {porter} hears {heard}"));
        let then = self.yard.crew.heard(porter, reply)?;
        // Whoever still works for this try sees that nobody waits.
        let is_its = |asker: &Asker| matches!(asker, Asker::Porter { porter: at, .. } if *at == porter);
        for machine in &mut self.yard.machines {
            if let Some(process) = &mut machine.process {
                process.serving.retain(|serving| !is_its(&serving.asker));
            }
        }
        for machine in &mut self.machines {
            if let Some(process) = &mut machine.process {
                process.work.retain(|work| !matches!(work, Work::Porter { porter: at, .. } if *at == porter));
            }
        }
        match then {
            Then::Ask => self.porter_tries(porter),
            Then::Again => {
                let attempt = self.yard.crew.give_up_try(porter);
                let in_us = self.dice.between(10_000, 120_000);
                self.errand_in(in_us, Errand::Again { porter, attempt });
            }
            Then::Rest(rest_us) => {
                self.yard.crew.give_up_try(porter);
                self.errand_in(rest_us, Errand::Next { porter });
            }
        }
        Ok(())
    }

    // --- faults ---

    pub(super) fn begin_worker_fault(&mut self, fault: WorkerFault, lasts_us: u64) {
        match fault {
            WorkerFault::Kill { worker } => {
                if self.yard.machines[worker].process.is_some() {
                    self.yard.machines[worker].kill();
                    self.forget_worker(worker);
                }
            }
            WorkerFault::PowerCut { worker } => {
                let machine = &self.yard.machines[worker];
                if machine.process.is_some() {
                    machine.disk.lose_power_at(1 + self.dice.below(POWER_STEPS));
                    let life = machine.life;
                    let in_us = self.dice.between(1_000, POWER_US);
                    self.errand_in(in_us, Errand::PowerGoes { worker, life });
                }
            }
            WorkerFault::Pause { worker } => {
                let machine = &mut self.yard.machines[worker];
                if machine.process.is_some() && !machine.is_paused {
                    machine.is_paused = true;
                    let life = machine.life;
                    self.errand_in(lasts_us, Errand::Wake { worker, life });
                }
            }
            WorkerFault::Isolate { worker } => self.yard.machines[worker].isolated += 1,
            WorkerFault::SlowDisk { worker, ms } => self.yard.machines[worker].disk.set_slow(ms),
            WorkerFault::LoseDisk { worker } => {
                self.yard.machines[worker].kill();
                self.yard.machines[worker].disk.lose();
                self.yard.crew.disk_lost(worker);
                self.forget_worker(worker);
            }
            WorkerFault::Echo { per_mille } => self.yard.echo = per_mille,
            WorkerFault::BitFlip { worker } => {
                let place = self.yard.machines[worker].disk.flip(&self.dice);
                self.yard.machines[worker].is_rotten = true;
                self.yard.crew.disk_lost(worker);
                self.note(format_args!("a bit of worker {} flips in {place:?}", worker + 1));
            }
            WorkerFault::ReadErrors { worker, times } => {
                self.yard.machines[worker].fails_reads = true;
                self.fail_worker(worker, On::Read, times);
            }
            WorkerFault::WriteErrors { worker, times } => {
                self.fail_worker(worker, On::Write, times);
                self.fail_worker(worker, On::Sync, times);
            }
            WorkerFault::DiskFull { worker } => {
                self.yard.machines[worker].is_failing = true;
                self.yard.machines[worker].disk.fill();
            }
            WorkerFault::Unheard { worker, master } => self.yard.machines[worker].unheard_by = Some(master),
            WorkerFault::Deaf { worker, master } => self.yard.machines[worker].deaf_to = Some(master),
            WorkerFault::SlowLink { worker, ms } => self.yard.machines[worker].slow_link_ms = ms,
            WorkerFault::ClockJump { worker, by_ms } => self.yard.machines[worker].clock.jump(by_ms),
        }
    }

    fn fail_worker(&mut self, worker: usize, on: On, times: u64) {
        self.yard.machines[worker].is_failing = true;
        self.yard.machines[worker].disk.fail(on, times);
    }

    pub(super) fn end_worker_fault(&mut self, fault: WorkerFault) {
        match fault {
            WorkerFault::Isolate { worker } => {
                let machine = &mut self.yard.machines[worker];
                machine.isolated = machine.isolated.saturating_sub(1);
            }
            WorkerFault::SlowDisk { worker, .. } => self.yard.machines[worker].disk.set_slow(0),
            WorkerFault::Echo { .. } => self.yard.echo = 0,
            WorkerFault::ReadErrors { worker, .. }
            | WorkerFault::WriteErrors { worker, .. }
            | WorkerFault::DiskFull { worker } => self.mend_worker(worker),
            WorkerFault::Unheard { worker, .. } => self.yard.machines[worker].unheard_by = None,
            WorkerFault::Deaf { worker, .. } => self.yard.machines[worker].deaf_to = None,
            WorkerFault::SlowLink { worker, .. } => self.yard.machines[worker].slow_link_ms = 0,
            WorkerFault::BitFlip { .. }
            | WorkerFault::ClockJump { .. }
            | WorkerFault::Kill { .. }
            | WorkerFault::PowerCut { .. }
            | WorkerFault::Pause { .. }
            | WorkerFault::LoseDisk { .. } => {}
        }
    }

    pub(super) fn heal_workers(&mut self) -> Result<(), Failure> {
        self.yard.echo = 0;
        for worker in 0..self.yard.machines.len() {
            self.mend_worker(worker);
            let machine = &mut self.yard.machines[worker];
            (machine.isolated, machine.unheard_by, machine.deaf_to, machine.slow_link_ms) = (0, None, None, 0);
            machine.disk.set_slow(0);
            machine.disk.lose_power_at(0);
            let life = machine.life;
            self.wake_worker(worker, life)?;
            self.start_worker(worker)?;
        }
        Ok(())
    }

    // --- judges ---

    /// What is not well with workers and their clients.
    pub(super) fn restless_workers(&self) -> Vec<String> {
        let mut restless = Vec::new();
        for machine in &self.yard.machines {
            match &machine.process {
                None => restless.push(format!("{} is down", machine.name)),
                Some(process) if !process.rig.is_registered() => {
                    restless.push(format!("{} is not registered", machine.name));
                }
                Some(process) if !process.serving.is_empty() => {
                    restless.push(format!("{} has {} streams open", machine.name, process.serving.len()));
                }
                Some(_) => {}
            }
        }
        restless.extend(self.yard.crew.restless(&self.under));
        restless.extend(self.misplaced());
        restless
    }

    /// Locations without a block, and blocks without a location or an owner, as far as masters and workers are up.
    pub(super) fn misplaced(&self) -> Vec<String> {
        if self.yard.machines.is_empty() {
            return Vec::new();
        }
        let mut misplaced = Vec::new();
        let mut held: BTreeSet<(BlockId, WorkerId)> = BTreeSet::new();
        for process in self.yard.machines.iter().filter_map(|machine| machine.process.as_ref()) {
            let Some(id) = process.rig.id() else { continue };
            held.extend(process.rig.blocks().iter().map(|report| (report.block, id)));
        }
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            let known: BTreeSet<(BlockId, WorkerId)> = process.rig.locations().into_iter().collect();
            if let Some((block, worker)) = known.difference(&held).next() {
                misplaced.push(format!("{} knows {block} at {worker}, which does not hold it", machine.id));
            }
            if let Some((block, worker)) = held.difference(&known).next() {
                misplaced.push(format!("{worker} holds {block}, and {} does not know", machine.id));
            }
            let is_orphan = |block: &BlockId| !process.rig.is_owned(block.container()).unwrap_or(true);
            if let Some((block, worker)) = held.iter().find(|(block, _)| is_orphan(block)) {
                misplaced.push(format!("{worker} holds {block}, which belongs to no file of {}", machine.id));
            }
        }
        misplaced
    }

    pub(super) fn read_all_files(&mut self) {
        self.yard.crew.read_all();
        for porter in 0..self.yard.crew.porters.len() {
            self.errand_in(1_000, Errand::Next { porter });
        }
    }

    /// When all is over.
    pub(super) fn judge_workers(&self) -> Result<(), Failure> {
        for machine in &self.yard.machines {
            if let Some(process) = &machine.process {
                process.rig.check_invariants();
            }
        }
        self.yard.crew.judge_store(&self.under)
    }

    /// Planted: blocks that a heartbeat takes away are brought back by the next one.
    fn resurrect(&mut self, worker: usize, master: usize, request: &mut http::Request<Bytes>) {
        if !request.uri().path().ends_with(HEARTBEAT) {
            return;
        }
        let frame = request.body().slice(5..);
        let mut beat = HeartbeatRequest::decode(frame).expect("a heartbeat of ours");
        let back = self.yard.left.insert((worker, master), beat.removed.clone()).unwrap_or_default();
        let here = |block: u64| BlockReport { block, resident_bytes: 1, unpersisted: false };
        beat.added.extend(back.into_iter().map(here));
        *request.body_mut() = post::frame(&beat);
    }
}

/// A request as official clients put it on the wire.
fn request_of(ask: &WorkerAsk) -> http::Request<Bytes> {
    match ask {
        WorkerAsk::Block { block, data } => {
            let command = WriteRequestCommand {
                r#type: Some(RequestType::GoosefsBlock.into()),
                id: Some(block.to_wire()),
                offset: Some(0),
                ..WriteRequestCommand::default()
            };
            write_request(command, data)
        }
        WorkerAsk::Store { path, data } => {
            let options = CreateUfsFileOptions {
                ufs_path: Some(path.clone()),
                mount_id: Some(MOUNT),
                ..CreateUfsFileOptions::default()
            };
            let command = WriteRequestCommand {
                r#type: Some(RequestType::UfsFile.into()),
                id: Some(-1),
                offset: Some(0),
                create_ufs_file_options: Some(options),
                ..WriteRequestCommand::default()
            };
            write_request(command, data)
        }
        WorkerAsk::Read { block, offset, length } => post::read_block(USER, *block, *offset, Some(*length)),
        WorkerAsk::Evict { block } => {
            let message = RemoveBlockRequest { block_id: Some(block.to_wire()) };
            post::request(post::REMOVE_BLOCK, USER, post::frame(&message))
        }
    }
}

fn write_request(command: WriteRequestCommand, data: &Bytes) -> http::Request<Bytes> {
    let message = |value| post::frame(&WriteRequest { value: Some(value) });
    let mut body = message(Value::Command(command)).to_vec();
    for part in data.chunks(CHUNK_BYTES) {
        body.extend_from_slice(&message(Value::Chunk(Chunk { data: Some(data.slice_ref(part)) })));
    }
    post::request(post::WRITE_BLOCK, USER, Bytes::from(body))
}

fn reply_of(ask: &WorkerAsk, answer: Result<Whole, Status>) -> Result<Reply, Status> {
    let answer = answer?;
    match ask {
        WorkerAsk::Block { data, .. } | WorkerAsk::Store { data, .. } => {
            let safe = post::messages::<WriteResponse>(answer)?.last().and_then(|message| message.offset);
            let is_whole = safe.and_then(|safe| usize::try_from(safe).ok()) == Some(data.len());
            Ok(if is_whole { Reply::Done } else { Reply::Wrong(format!("{safe:?} bytes of {} are safe", data.len())) })
        }
        WorkerAsk::Read { .. } => Ok(Reply::Content(post::content_of(answer)?)),
        WorkerAsk::Evict { .. } => post::messages::<RemoveBlockResponse>(answer).map(|_| Reply::Done),
    }
}
