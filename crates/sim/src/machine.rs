//! One master's machine: clocks, disks, and the process while it runs.

use crate::Plan;
use crate::bug::Bug;
use crate::calls::{Answer, BatchService, Service};
use crate::database::{FileDisk, Watched};
use crate::dice::Dice;
use crate::fetching::Fetching;
use crate::home::{Home, JOURNAL};
use crate::porters::Reply;
use crate::time::{MachineClock, StoppedClock, Timeline};
use crate::under::Under;
use futures::future::BoxFuture;
use journal::disk::SimDisk;
use journal::{AppendBatch, HardState, JournalLog, MemberId, SegmentLog, SegmentOptions};
use master::core::{JobId, Now};
use master::rig::{InstallError, Parts, Place, Rig, Snapshot};
use master::{ExpiryConfig, GroupConfig, MasterConfig, WalkConfig};
use meta::Audit;
use proto::internal::CheckpointResponse;
use rpc::{ClusterKey, FrameService};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use store::{CacheConfig, Eviction, HeapStore};
use types::{Clock, ClusterId, Entropy, LogIndex, Term};

/// What logs and databases of the group are bound to.
const GROUP: ClusterId = ClusterId(7);
const OPTIONS: SegmentOptions = SegmentOptions { segment_bytes: 32 << 10 };
/// As the product's defaults.
const ELECTION: Duration = Duration::from_millis(500);
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Committed entries after which a master brings its database to the disk: often, so that logs are cut.
const CHECKPOINT_ENTRIES: u64 = 40;
/// Entries kept for who lacks them, where members are replaced: few, so that snapshots are sent.
const RETAINED_ENTRIES: u64 = 30;
/// What nobody used for so long is forgotten: clients of the usual plan use all there is more often, those of one that forgets
/// less. How often it is looked for.
const UNUSED: Duration = Duration::from_secs(2);
const SOON_UNUSED: Duration = Duration::from_millis(100);
const WALKS_EVERY: Duration = Duration::from_millis(500);
/// What a master says that was removed.
const REMOVED: &str = "was removed from the group";
/// The id of a master that waits to be taken into the group.
const NOBODY: MemberId = MemberId(0);

fn journal_dir() -> &'static Path {
    Path::new(JOURNAL)
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
    /// What a client of ours asked.
    Own {
        number: u64,
        answer: BoxFuture<'static, Result<Vec<u8>, tonic::Status>>,
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
    pub batches: BatchService,
    /// What clients of ours ask.
    pub frames: FrameService,
    pub database: Arc<Watched>,
    pub work: Vec<Work>,
    pub applied: LogIndex,
    /// Members it has a connection to, which have said what they know.
    pub met: BTreeSet<MemberId>,
    /// A snapshot on its way here.
    pub fetching: Option<Fetching>,
    /// Checkpoints that others may fetch.
    pub sent: Vec<CheckpointResponse>,
    /// Of its records, as far as it has come.
    pub audit: Audit,
    stopped_clock: Option<Arc<StoppedClock>>,
}

pub struct Machine {
    /// Which member it is. Nobody while it waits to be taken in.
    pub id: MemberId,
    /// Which one it was on the disk before.
    pub was: Option<MemberId>,
    /// Where the others reach it, whichever member it is.
    pub address: String,
    pub clock: Arc<MachineClock>,
    pub home: Home,
    /// Counts starts and stops: what was meant for an earlier one is void.
    pub life: u64,
    pub process: Option<Process>,
    /// While the process stands still.
    pub is_paused: bool,
    pub fsync_ms: u64,
    /// A bit of its log has flipped.
    pub is_rotten: bool,
    /// It refused its log, and stays away.
    pub is_lost: bool,
    /// Whether an operator wants it in the group.
    pub is_wanted: bool,
    /// When an operator looks at it next, in microseconds.
    pub attended_us: u64,
    /// What the member was told is safe.
    promised: Promised,
    /// The last entry of a snapshot that is being installed.
    installing: Option<LogIndex>,
    bug: Option<Bug>,
    retained_entries: u64,
    unused: Duration,
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
pub enum NoStart {
    /// The disk said no, as told to.
    Disk(String),
    /// The log refuses its files.
    Log(journal::Error),
    /// The log holds less than was called safe.
    Forgot(String),
    /// The member refuses what else it finds.
    Refused(String),
}

impl NoStart {
    /// Whether a flipped bit of the log may be the reason. Then the words must say that, and name the file. A last batch that
    /// verifies no more looks like one that was torn and never called safe: it is cut, and what it held is gone.
    pub fn is_rot(&self) -> bool {
        match self {
            NoStart::Log(journal::Error::Damaged { .. } | journal::Error::CutRefused { .. }) => true,
            NoStart::Forgot(_) => true,
            NoStart::Log(_) | NoStart::Disk(_) | NoStart::Refused(_) => false,
        }
    }

    /// Whether it says that it is a member no longer.
    pub fn is_removal(&self) -> bool {
        matches!(self, NoStart::Refused(why) if why.contains(REMOVED))
    }
}

impl fmt::Display for NoStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoStart::Log(err) => f.write_str(&types::sentence(err)),
            NoStart::Disk(why) | NoStart::Forgot(why) | NoStart::Refused(why) => f.write_str(why),
        }
    }
}

impl Machine {
    pub fn new(id: u64, line: &Timeline, drift: i64, plan: &Plan) -> Machine {
        let home = format(plan.bug);
        let clock = Arc::new(MachineClock::new(line.clone(), drift));
        Machine {
            id: MemberId(id),
            was: None,
            address: address(id),
            clock,
            home,
            life: 0,
            process: None,
            is_paused: false,
            fsync_ms: 0,
            is_rotten: false,
            is_lost: false,
            is_wanted: true,
            attended_us: 0,
            promised: Promised::default(),
            installing: None,
            bug: plan.bug,
            retained_entries: if plan.changes { RETAINED_ENTRIES } else { u64::MAX },
            unused: if plan.forgets { SOON_UNUSED } else { UNUSED },
        }
    }

    /// Its disks are gone with all they held. New ones are there, formatted to join a group.
    pub fn replace_disks(&mut self) {
        self.process = None;
        self.life += 1;
        self.is_paused = false;
        self.was = Some(self.id).filter(|id| *id != NOBODY).or(self.was);
        self.id = NOBODY;
        self.home = format(self.bug);
        (self.promised, self.installing, self.is_rotten) = (Promised::default(), None, false);
        self.clock.reboot();
    }

    /// One more machine, with empty disks, that nobody wants in the group yet.
    pub fn spare(id: u64, line: &Timeline, drift: i64, plan: &Plan) -> Machine {
        Machine { id: NOBODY, is_wanted: false, ..Machine::new(id, line, drift, plan) }
    }

    /// It is a member no longer: switched off, its disks emptied.
    pub fn retire(&mut self) {
        self.replace_disks();
        self.was = None;
    }

    /// Whether it waits to be taken into the group, or is not wanted there.
    pub fn is_waiting(&self) -> bool {
        self.id == NOBODY
    }

    fn place(&self) -> Place<Home> {
        Place { files: self.home.clone(), cluster: GROUP, options: OPTIONS }
    }

    /// A snapshot is here: the next start installs it.
    pub fn begin_install(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        self.place().begin(snapshot).map_err(|err| types::sentence(&err))?;
        self.installing = Some(snapshot.index);
        Ok(())
    }

    /// Does what a start does first, and has the power go in the middle, unless it is quicker.
    pub fn install_and_break(&mut self, dice: &Dice) -> Result<(), NoStart> {
        let log = &self.home.log;
        self.home.metastore.cut_power_after(dice.below(24));
        log.stop_at(log.changes() + 1 + dice.below(12));
        let done = self.finish_install();
        self.home.metastore.restore_power();
        self.home.log.stop_at(u64::MAX);
        done
    }

    /// Does what a start does before it opens anything.
    fn finish_install(&self) -> Result<(), NoStart> {
        let place = self.place();
        let done = place.finish().and_then(|_| place.sweep());
        done.map_err(|err| match err {
            InstallError::Io { .. } | InstallError::Journal(journal::Error::Io { .. }) => {
                NoStart::Disk(types::sentence(&err))
            }
            InstallError::Journal(err) => NoStart::Log(err),
            InstallError::Damaged { .. } | InstallError::Incomplete { .. } => NoStart::Refused(types::sentence(&err)),
        })
    }

    pub fn now(&self) -> Now {
        Now { unix: self.clock.unix(), mono: self.clock.monotonic() }
    }

    pub fn start(&mut self, masters: u64, under: &Under, key: &Arc<ClusterKey>, dice: Dice) -> Result<(), NoStart> {
        self.finish_install()?;
        let opened = SegmentLog::open(self.home.log.clone(), journal_dir(), Some(GROUP), OPTIONS);
        let (log, recovered) = opened.map_err(|err| match err {
            journal::Error::Io { .. } => NoStart::Disk(types::sentence(&err)),
            err => NoStart::Log(err),
        })?;
        let refused = NoStart::Refused;
        if self.installing.is_some_and(|index| recovered.first().0 == index.0 + 1) {
            // It was begun anew behind the snapshot.
            self.promised.last = recovered.last();
        }
        self.promised.check(recovered.hard_state, recovered.last()).map_err(NoStart::Forgot)?;
        let heap =
            HeapStore::open(Arc::new(self.home.metastore.clone()), GROUP).map_err(|err| refused(err.to_string()))?;
        let database = Watched::new(heap, self.bug, Dice::new(dice.next_u64(), "database"));
        let database = Arc::new(database.map_err(|err| refused(err.to_string()))?);
        let stopped_clock =
            (self.bug == Some(Bug::StaleLease)).then(|| Arc::new(StoppedClock::new(self.clock.clone())));
        let clock: Arc<dyn Clock> = match &stopped_clock {
            Some(stopped) => stopped.clone(),
            None => self.clock.clone(),
        };
        let parts = Parts {
            config: self.config(masters),
            own: self.id,
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
        self.installing = None;
        let (fs, batches, applied) = (rig.file_system(), rig.batches(), rig.applied());
        let frames = rig.calls(FrameService::without_identity());
        self.life += 1;
        self.process = Some(Process {
            rig,
            log,
            fs,
            batches,
            frames,
            database,
            work: Vec::new(),
            applied,
            met: BTreeSet::new(),
            fetching: None,
            sent: Vec::new(),
            audit: Audit::default(),
            stopped_clock,
        });
        Ok(())
    }

    /// The process is gone; what it wrote is still in the machine.
    pub fn kill(&mut self) {
        self.process = None;
        self.home.log.kill_process();
        self.life += 1;
        self.is_paused = false;
    }

    /// The machine is dark; what was not synced is gone in part. `flushing`: the database was being written.
    pub fn cut_power(&mut self, dice: &Dice, flushing: bool) {
        let process = self.process.take();
        let [metastore, others @ ..] = self.home.dirs();
        metastore.crash(dice, || {
            if let Some(process) = &process
                && flushing
            {
                // Whether it got through decides what is on the disk, not what anybody was told.
                let _ = process.rig.flush();
            }
        });
        drop(process);
        others.into_iter().for_each(|dir| dir.bring_back(dice));
        self.home.log.crash(dice.next_u64());
        self.clock.reboot();
        self.life += 1;
        self.is_paused = false;
    }

    /// One bit of the log's files flips; says where.
    pub fn rot(&mut self, dice: &Dice) -> String {
        self.is_rotten = true;
        let place = self.home.log.rot(journal_dir(), dice.next_u64());
        place.map_or_else(|| "nowhere".to_owned(), |(path, offset)| format!("byte {offset} of {}", path.display()))
    }

    /// Whether it runs, and its disk has the log up to `index`, where an entry of `term` stands.
    pub fn holds(&self, index: LogIndex, term: Term) -> bool {
        let there = self.process.as_ref().and_then(|process| process.rig.term_at(index));
        there == Some(term) && self.promised.last >= index && !self.promised.is_followed
    }

    /// Up to where its disk knows the log to be committed.
    pub fn committed(&self) -> LogIndex {
        self.promised.state.commit
    }

    /// The member is told that this batch is safe.
    pub fn promise(&mut self, state: HardState, last: Option<LogIndex>) {
        self.promised.state = state;
        self.promised.last = last.unwrap_or(self.promised.last);
        self.promised.is_followed = false;
    }

    fn config(&self, masters: u64) -> MasterConfig {
        let group = GroupConfig {
            members: (1..=masters).map(address).collect(),
            own: self.address.clone(),
            listen: "127.0.0.1:9202".parse().expect("an address"),
            election_timeout: ELECTION,
            heartbeat: HEARTBEAT,
            retained_entries: self.retained_entries,
            snapshot_bandwidth: None,
            priority: 0,
            recover: false,
        };
        let config = MasterConfig::for_tests();
        // A cache would keep what this bug takes away.
        let is_off = self.bug == Some(Bug::LoadResurrects);
        let cache = if is_off { CacheConfig::of_bytes(0) } else { self.cache() };
        let walk = Some(WalkConfig { per_second: 10_000, every: WALKS_EVERY });
        // What a bug does is to be seen by itself.
        let expiry = self.bug.is_none().then_some(ExpiryConfig { unused: self.unused, per_second: 1_000 });
        MasterConfig { group: Some(group), checkpoint_entries: CHECKPOINT_ENTRIES, cache, walk, expiry, ..config }
    }

    /// Another cache in each life, most of them far too small: what is evicted must not matter.
    fn cache(&self) -> CacheConfig {
        let turn = usize::try_from(self.life.wrapping_add(self.id.0) % 12).expect("small");
        let entries = [1, 7, 100, usize::MAX][turn % 4];
        CacheConfig { entries, bytes: 1 << 20, eviction: Eviction::ALL[turn % 3] }
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

/// Where the others reach the machine of this number.
fn address(number: u64) -> String {
    format!("master-{number}:9202")
}

/// Empty disks, formatted.
fn format(bug: Option<Bug>) -> Home {
    let home = Home::new(SimDisk::new(), FileDisk::new(bug));
    SegmentLog::format(&home.log, journal_dir(), GROUP, OPTIONS, false).expect("an empty disk");
    HeapStore::format(&home.metastore, GROUP).expect("an empty disk");
    home
}
