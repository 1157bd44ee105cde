//! One master's machine: clocks, disks, and the process while it runs.

use crate::bug::Bug;
use crate::calls::{Answer, Service};
use crate::database::{FileDisk, Watched};
use crate::dice::Dice;
use crate::porters::Reply;
use crate::time::{MachineClock, StoppedClock, Timeline};
use crate::under::Under;
use journal::disk::SimDisk;
use journal::{AppendBatch, HardState, JournalLog, MemberId, SegmentLog, SegmentOptions};
use master::core::{JobId, Now};
use master::rig::{Parts, Rig};
use master::{GroupConfig, MasterConfig};
use rpc::ClusterKey;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use store::HeapStore;
use types::{Clock, ClusterId, Entropy, LogIndex};

/// What logs and databases of the group are bound to.
const GROUP: ClusterId = ClusterId(7);
const OPTIONS: SegmentOptions = SegmentOptions { segment_bytes: 32 << 10 };
/// As the product's defaults.
const ELECTION: Duration = Duration::from_millis(500);
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Committed entries after which a master brings its database to the disk: often, so that logs are cut.
const CHECKPOINT_ENTRIES: u64 = 40;

fn journal_dir() -> &'static Path {
    Path::new("/journal")
}

/// What a process has under way beside its core.
pub enum Work {
    Call {
        client: usize,
        attempt: u64,
        answer: CallWork,
    },
    Job {
        id: JobId,
        result: master::rig::Work,
    },
    Porter {
        porter: usize,
        attempt: u64,
        answer: PorterWork,
    },
    OfWorker {
        call: Option<crate::world::Call>,
        answer: AnswerWork,
    },
    /// Nobody waits for it: see [`Bug::CollectorLate`].
    Forgotten {
        result: master::rig::Work,
    },
}

pub type PorterWork = Pin<Box<dyn Future<Output = Result<Reply, tonic::Status>>>>;
pub type AnswerWork = Pin<Box<dyn Future<Output = Result<worker::rig::Whole, tonic::Status>> + Send>>;
pub type CallWork = Pin<Box<dyn Future<Output = Result<Answer, tonic::Status>>>>;

/// A run of the process.
pub struct Process {
    pub rig: Rig,
    pub log: SegmentLog<SimDisk>,
    pub fs: Service,
    pub database: Arc<Watched>,
    pub work: Vec<Work>,
    pub applied: LogIndex,
    stopped_clock: Option<Arc<StoppedClock>>,
}

pub struct Machine {
    pub id: MemberId,
    pub clock: Arc<MachineClock>,
    pub disk: SimDisk,
    pub files: FileDisk,
    /// Counts starts and stops: what was meant for an earlier one is void.
    pub life: u64,
    pub process: Option<Process>,
    /// While the process stands still.
    pub is_paused: bool,
    pub fsync_ms: u64,
    /// What the member was told is safe.
    promised: Promised,
    bug: Option<Bug>,
}

/// What must be found again after any crash.
#[derive(Clone, Copy, Default, Debug)]
struct Promised {
    state: HardState,
    last: LogIndex,
    /// A later batch may stand there as well, and replace entries.
    is_followed: bool,
}

/// Why a process cannot be started.
pub struct NoStart {
    /// The disk said no, as told to. Otherwise the member refuses its own files.
    pub is_disk: bool,
    pub why: String,
}

impl Machine {
    pub fn new(id: u64, line: &Timeline, drift: i64, bug: Option<Bug>) -> Machine {
        let (disk, files) = (SimDisk::new(), FileDisk::new());
        SegmentLog::format(&disk, journal_dir(), GROUP, OPTIONS, false).expect("an empty disk");
        HeapStore::format(&files, GROUP).expect("an empty disk");
        let clock = Arc::new(MachineClock::new(line.clone(), drift));
        Machine {
            id: MemberId(id),
            clock,
            disk,
            files,
            life: 0,
            process: None,
            is_paused: false,
            fsync_ms: 0,
            promised: Promised::default(),
            bug,
        }
    }

    pub fn now(&self) -> Now {
        Now { unix: self.clock.unix(), mono: self.clock.monotonic() }
    }

    pub fn start(&mut self, masters: u64, under: &Under, key: &Arc<ClusterKey>, dice: Dice) -> Result<(), NoStart> {
        let opened = SegmentLog::open(self.disk.clone(), journal_dir(), Some(GROUP), OPTIONS);
        let (log, recovered) = opened
            .map_err(|err| NoStart { is_disk: matches!(err, journal::Error::Io { .. }), why: types::sentence(&err) })?;
        let refused = |why: String| NoStart { is_disk: false, why };
        self.promised.check(recovered.hard_state, recovered.last()).map_err(refused)?;
        let heap = HeapStore::open(Arc::new(self.files.clone()), GROUP).map_err(|err| refused(err.to_string()))?;
        let database = Watched::new(heap, self.bug, Dice::new(dice.next_u64(), "database"));
        let database = Arc::new(database.map_err(|err| refused(err.to_string()))?);
        let stopped_clock =
            (self.bug == Some(Bug::StaleLease)).then(|| Arc::new(StoppedClock::new(self.clock.clone())));
        let clock: Arc<dyn Clock> = match &stopped_clock {
            Some(stopped) => stopped.clone(),
            None => self.clock.clone(),
        };
        let parts = Parts {
            config: config(self.id, masters, self.bug),
            own: self.id,
            members: (1..=masters).map(MemberId).collect(),
            recovered,
            log: log.reader(),
            state: database.clone(),
            under: Arc::new(under.clone()),
            key: key.clone(),
            clock,
            entropy: Arc::new(dice),
        };
        let rig = Rig::open(parts).map_err(|err| refused(err.to_string()))?;
        database.opened();
        let (fs, applied) = (rig.file_system(), rig.applied());
        self.life += 1;
        self.process = Some(Process { rig, log, fs, database, work: Vec::new(), applied, stopped_clock });
        Ok(())
    }

    /// The process is gone; what it wrote is still in the machine.
    pub fn kill(&mut self) {
        self.process = None;
        self.disk.kill_process();
        self.life += 1;
        self.is_paused = false;
    }

    /// The machine is dark; what was not synced is gone in part. `flushing`: the database was being written.
    pub fn cut_power(&mut self, dice: &Dice, flushing: bool) {
        let process = self.process.take();
        self.files.crash(dice, || {
            if let Some(process) = &process
                && flushing
            {
                // Whether it got through decides what is on the disk, not what anybody was told.
                let _ = process.rig.flush();
            }
        });
        drop(process);
        self.disk.crash(dice.next_u64());
        self.clock.reboot();
        self.life += 1;
        self.is_paused = false;
    }

    /// The member is told that this batch is safe.
    pub fn promise(&mut self, state: HardState, last: Option<LogIndex>) {
        self.promised.state = state;
        self.promised.last = last.unwrap_or(self.promised.last);
        self.promised.is_followed = false;
    }

    /// Writes a batch, not safe yet.
    pub fn append(&mut self, batch: &AppendBatch) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let mut batch = batch.clone();
        self.promised.is_followed = true;
        if self.bug == Some(Bug::VoteForgotten) {
            batch.hard_state.vote = None;
        }
        process.log.append(&batch).map_err(|err| types::sentence(&err))
    }
}

impl Promised {
    fn check(&self, found: HardState, last: LogIndex) -> Result<(), String> {
        let Promised { state, last: safe, is_followed } = *self;
        if found.term < state.term || (found.term == state.term && state.vote.is_some() && found.vote != state.vote) {
            return Err(format!("its log says {found:?}, but {state:?} was called safe"));
        }
        if last < safe && !is_followed {
            return Err(format!("its log ends at {last}, but entries up to {safe} were called safe"));
        }
        Ok(())
    }
}

impl Process {
    /// Before a turn: the planted clock looks at the time now and at no other moment.
    pub fn read_clock(&self) {
        if let Some(clock) = &self.stopped_clock {
            clock.read();
        }
    }

    /// The log's own chores between batches. What fails there is tried again.
    pub fn prepare_log(&mut self) {
        while self.log.wants_preparing() && self.log.prepare().unwrap_or(false) {}
    }
}

fn config(id: MemberId, masters: u64, bug: Option<Bug>) -> MasterConfig {
    let name = |id: u64| format!("master-{id}:9202");
    let group = GroupConfig {
        members: (1..=masters).map(name).collect(),
        own: name(id.0),
        listen: "127.0.0.1:9202".parse().expect("an address"),
        election_timeout: ELECTION,
        heartbeat: HEARTBEAT,
        // Nobody is left behind the log: snapshots between masters have tests of their own.
        retained_entries: u64::MAX,
        snapshot_bandwidth: None,
        recover: false,
    };
    let config = MasterConfig::for_tests();
    // A cache would keep what this bug takes away.
    let cache_bytes = if bug == Some(Bug::LoadResurrects) { 0 } else { config.cache_bytes };
    MasterConfig { group: Some(group), checkpoint_entries: CHECKPOINT_ENTRIES, cache_bytes, ..config }
}
