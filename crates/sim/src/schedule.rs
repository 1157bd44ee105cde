//! What goes wrong when: made from a seed before the run begins, so that it can be shown, replayed and shrunk.

use crate::dice::Dice;
use std::fmt;

/// Something that goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The machine loses power and comes back: what was not synced survives in part.
    PowerCut { master: usize },
    /// All machines lose power at once.
    Blackout,
    /// The process dies, the machine does not.
    Kill { master: usize },
    /// The process stands still.
    Pause { master: usize },
    /// Nothing arrives from the one at the other.
    Cut { from: usize, to: usize },
    /// A master hears and reaches neither masters nor clients.
    Isolate { master: usize },
    /// Loss, duplicates and reordering everywhere.
    Rain { loss: u64, twice: u64, late: u64 },
    /// Messages from the one to the other take so long.
    SlowLink { from: usize, to: usize, ms: u64 },
    /// Each sync takes so long.
    SlowDisk { master: usize, ms: u64 },
    /// The next write to the log fails.
    WriteError { master: usize },
    /// The next sync of the log fails.
    SyncError { master: usize },
    /// The next file of the database cannot be written.
    DatabaseError { master: usize },
    /// Nothing more fits the disk.
    DiskFull { master: usize },
    /// The process dies, and before it is back one bit of the log's files flips: as soon as the group can do without this
    /// disk, if it can.
    LogRot { master: usize },
    /// The machine's disks are gone for good, as soon as the group can do without them, if it can. It comes back with empty
    /// ones, and an operator has it take the place of the member it was.
    DiskLost { master: usize },
    /// Somebody sets the wall clock.
    ClockJump { master: usize, by_ms: i64 },
    /// The leader is told to hand over.
    HandOver { to: usize },
    /// An operator wants a spare machine in the group.
    AddMaster { master: usize },
    /// An operator wants the group to do without a master, if it has more than three.
    RemoveMaster { master: usize },
    /// The same of the one that leads.
    RemoveLeader,
    /// The store refuses everything.
    StoreAway,
    /// The store takes its time.
    StoreSlow { ms: u64 },
    /// The store does what it is asked, and the answer is lost.
    StoreForgetful { per_mille: u64 },
    /// Something goes wrong at a worker.
    Worker(WorkerFault),
}

/// Something that goes wrong at a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerFault {
    /// The process dies, the machine does not.
    Kill { worker: usize },
    /// The machine loses power, in the middle of what it writes, and comes back.
    PowerCut { worker: usize },
    /// The process stands still.
    Pause { worker: usize },
    /// It hears and reaches nobody.
    Isolate { worker: usize },
    /// Each step of its disk takes so much longer.
    SlowDisk { worker: usize, ms: u64 },
    /// Its disk is replaced by an empty one.
    LoseDisk { worker: usize },
    /// Registrations, heartbeats and reports come twice, the second time late.
    Echo { per_mille: u64 },
    /// Nothing of it arrives at one master.
    Unheard { worker: usize, master: usize },
    /// Nothing of one master arrives at it.
    Deaf { worker: usize, master: usize },
    /// Everything to it and from it takes so much longer.
    SlowLink { worker: usize, ms: u64 },
    /// One bit of its files flips.
    BitFlip { worker: usize },
    /// So many reads of its disk fail.
    ReadErrors { worker: usize, times: u64 },
    /// So many writes and as many syncs fail. Then somebody mends the disk and starts the worker again.
    WriteErrors { worker: usize, times: u64 },
    /// Nothing more fits its disk. Then there is room, and the worker is started again.
    DiskFull { worker: usize },
    /// Somebody sets its wall clock.
    ClockJump { worker: usize, by_ms: i64 },
}

/// A fault and its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    pub at_ms: u64,
    pub for_ms: u64,
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms, for {:>5} ms: {:?}", self.at_ms, self.for_ms, self.fault)
    }
}

/// All faults of a run, by time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule(pub Vec<Planned>);

impl Schedule {
    /// The faults of [`Schedule::of`], and those this seed brings upon `workers` workers.
    pub fn with_workers(seed: u64, masters: usize, workers: usize, within_ms: u64) -> Schedule {
        let Schedule(mut planned) = Schedule::of(seed, masters, within_ms);
        let dice = Dice::new(seed, "schedule of workers");
        if dice.once_in(3) {
            planned.clear();
        }
        for _ in 0..dice.between(1, 3 + within_ms / 1_000) {
            let (at_ms, for_ms) = (dice.below(within_ms), dice.between(20, 4_000));
            let worker = dice.index(workers);
            let fault = match dice.below(13) {
                0 | 1 => WorkerFault::Kill { worker },
                2..=4 => WorkerFault::PowerCut { worker },
                5 | 6 => WorkerFault::Pause { worker },
                7 | 8 => WorkerFault::Isolate { worker },
                9 => WorkerFault::SlowDisk { worker, ms: dice.between(5, 200) },
                10 => WorkerFault::LoseDisk { worker },
                _ => WorkerFault::Echo { per_mille: dice.between(50, 500) },
            };
            planned.push(Planned { at_ms, for_ms, fault: Fault::Worker(fault) });
        }
        planned.sort_by_key(|planned| planned.at_ms);
        let mut schedule = Schedule(planned);
        let dice = Dice::new(seed, "disks and links of workers");
        for _ in 0..dice.below(6) {
            let (worker, master) = (dice.index(workers), dice.index(masters));
            let fault = match dice.below(8) {
                0 => WorkerFault::BitFlip { worker },
                1 => WorkerFault::ReadErrors { worker, times: dice.between(1, 20) },
                2 => WorkerFault::WriteErrors { worker, times: dice.between(1, 5) },
                3 => WorkerFault::DiskFull { worker },
                4 => WorkerFault::Unheard { worker, master },
                5 => WorkerFault::Deaf { worker, master },
                6 => WorkerFault::SlowLink { worker, ms: dice.between(5, 400) },
                _ => WorkerFault::ClockJump { worker, by_ms: jump_ms(&dice) },
            };
            schedule.add(&dice, within_ms, Fault::Worker(fault));
        }
        schedule
    }

    /// The faults this seed brings upon `masters` masters within `within_ms`.
    pub fn of(seed: u64, masters: usize, within_ms: u64) -> Schedule {
        let dice = Dice::new(seed, "schedule");
        // Some seeds are rough, some are calm, some know only a few kinds of fault.
        let count = dice.between(2, 3 + within_ms / 400);
        let kinds: Vec<u64> = (0..dice.between(1, 8)).map(|_| dice.below(KINDS)).collect();
        let any = dice.once_in(2);
        let mut planned: Vec<Planned> = (0..count)
            .map(|_| {
                let kind = if any { dice.below(KINDS) } else { *dice.pick(&kinds) };
                let at_ms = dice.below(within_ms);
                let fault = draw(&dice, kind, masters);
                // A pause is a danger only where it outlasts an election.
                let long = match fault {
                    Fault::Pause { .. } if dice.once_in(2) => 5_000,
                    _ if dice.once_in(6) => 5_000,
                    _ => 1_500,
                };
                Planned { at_ms, for_ms: dice.between(20, long), fault }
            })
            .collect();
        planned.sort_by_key(|planned| planned.at_ms);
        Schedule(planned)
    }

    /// Adds flips of bits in the logs. From dice of their own, so that what a seed brings without them stays as it is.
    pub(crate) fn rot_logs(&mut self, seed: u64, masters: usize, within_ms: u64) {
        let dice = Dice::new(seed, "log rot");
        for _ in 0..dice.between(2, 8) {
            self.add(&dice, within_ms, Fault::LogRot { master: dice.index(masters) });
        }
    }

    /// Adds losses of disks, in the same way, masters that come and go, and what befalls those that came.
    pub(crate) fn change_members(&mut self, seed: u64, masters: usize, spares: usize, within_ms: u64) {
        let dice = Dice::new(seed, "disks");
        for _ in 0..dice.between(1, 4) {
            self.add(&dice, within_ms, Fault::DiskLost { master: dice.index(masters) });
        }
        let dice = Dice::new(seed, "members");
        let all = masters + spares;
        for _ in 0..dice.between(1, 4) {
            self.add(&dice, within_ms, Fault::AddMaster { master: masters + dice.index(spares) });
        }
        for _ in 0..dice.between(0, 4) {
            let master = dice.index(all);
            let fault = if dice.once_in(3) { Fault::RemoveLeader } else { Fault::RemoveMaster { master } };
            self.add(&dice, within_ms, fault);
        }
        for _ in 0..dice.between(0, 3) {
            let fault = draw(&dice, dice.below(KINDS), all);
            self.add(&dice, within_ms, fault);
        }
    }

    fn add(&mut self, dice: &Dice, within_ms: u64, fault: Fault) {
        let planned = Planned { at_ms: dice.below(within_ms), for_ms: dice.between(50, 1_500), fault };
        let at = self.0.partition_point(|before| before.at_ms <= planned.at_ms);
        self.0.insert(at, planned);
    }
}

const KINDS: u64 = 22;

fn draw(dice: &Dice, kind: u64, masters: usize) -> Fault {
    let master = dice.index(masters);
    let (from, to) = (master, (master + 1 + dice.index(masters.max(2) - 1)) % masters);
    match kind {
        0 | 1 => Fault::PowerCut { master },
        2 => Fault::Blackout,
        3 | 4 => Fault::Kill { master },
        5 | 6 => Fault::Pause { master },
        7 | 8 => Fault::Cut { from, to },
        9 => Fault::Isolate { master },
        10 => Fault::Rain { loss: dice.below(200), twice: dice.below(200), late: dice.below(200) },
        11 => Fault::SlowLink { from, to, ms: dice.between(20, 900) },
        12 => Fault::SlowDisk { master, ms: dice.between(10, 400) },
        13 => Fault::WriteError { master },
        14 => Fault::SyncError { master },
        15 => Fault::DatabaseError { master },
        16 => Fault::DiskFull { master },
        17 => Fault::ClockJump { master, by_ms: jump_ms(dice) },
        18 => Fault::HandOver { to },
        19 => Fault::StoreAway,
        20 => Fault::StoreSlow { ms: dice.between(50, 1_500) },
        _ => Fault::StoreForgetful { per_mille: dice.between(50, 500) },
    }
}

/// Up to an hour, forward or back.
fn jump_ms(dice: &Dice) -> i64 {
    i64::try_from(dice.below(7_200_000)).expect("small") - 3_600_000
}
