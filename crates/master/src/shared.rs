//! What the loop and the servers share: the published state, soft state about workers, and how long readers may answer
//! by themselves.

use crate::census::Known;
use crate::config::MasterConfig;
use crate::core::Said;
use crate::error::Error;
use crate::holds::Holds;
use crate::locations::Locations;
use crate::metrics::Metrics;
use crate::pauses::Pauses;
use crate::registry::Registry;
use crate::room::Rooms;
use crate::skipped::SkippedKeys;
use crate::uploads::Uploads;
use crate::uses::UseNotes;
use crate::waits::Waits;
use hashbrown::HashMap;
use journal::{Follower, MemberId, Membership};
use meta::{Authority, Read, StoreError};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use store::Published;
use types::{Clock, ContainerId, Entropy, LogIndex, Monotonic, Term};

/// Containers of open write streams remembered at once; older ones are forgotten first.
const STREAMS: usize = 1_000_000;
/// How long a stream counts as live after it was last heard of.
const STREAM_LIVE: Duration = Duration::from_secs(600);

/// Whether this master leads, and until when it may answer reads without asking the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    pub leads: bool,
    pub lease_until: Monotonic,
}

/// The group, as this member sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupView {
    pub leader: Option<MemberId>,
    pub term: Term,
    pub committed: LogIndex,
    /// Only a leader knows.
    pub followers: Vec<Follower>,
    /// Who had better lead next; only a leader knows.
    pub successor: Option<MemberId>,
    /// This member.
    pub own: Option<MemberId>,
    /// Absent of a master alone.
    pub members: Option<Arc<Membership>>,
    /// What other members said of themselves.
    pub met: Arc<BTreeMap<MemberId, Said>>,
}

/// From which index on entries are of which term, as this member applied them: a few steps back.
#[derive(Default)]
struct AppliedTerms(Vec<(LogIndex, Term)>);

/// Steps remembered: a checkpoint is looked up moments after it was made.
const TERMS: usize = 64;

/// Files being written, by what workers say; soft state.
#[derive(Default)]
pub struct Streams {
    last_heard: HashMap<ContainerId, Monotonic>,
}

impl Streams {
    pub fn heard(&mut self, container: ContainerId, now: Monotonic) {
        if self.last_heard.len() >= STREAMS {
            self.last_heard.retain(|_, last| now - *last < STREAM_LIVE);
        }
        if self.last_heard.len() < STREAMS {
            self.last_heard.insert(container, now);
        }
    }
    /// Its file is gone.
    pub fn forget(&mut self, container: ContainerId) {
        self.last_heard.remove(&container);
    }
    pub fn is_live(&self, container: ContainerId, now: Monotonic) -> bool {
        self.last_heard.get(&container).is_some_and(|last| now - *last < STREAM_LIVE)
    }
}

pub struct Shared {
    pub config: MasterConfig,
    pub state: Published<dyn meta::Store>,
    pub locations: Locations,
    pub registry: Mutex<Registry>,
    pub streams: Mutex<Streams>,
    pub skipped: Mutex<SkippedKeys>,
    pub uploads: Mutex<Uploads>,
    pub pauses: Mutex<Pauses>,
    /// Files that were used, if metadata expire.
    pub uses: UseNotes,
    /// What requests are about to change does not expire meanwhile.
    pub holds: Holds,
    /// How long changes wait for their turn.
    pub waits: Waits,
    /// What the leader's walk through all inodes found.
    pub census: Mutex<Known>,
    pub rooms: Arc<Rooms>,
    pub authority: Authority,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: Metrics,
    pub started: Monotonic,
    counters: RwLock<Option<Arc<meta::Counters>>>,
    applied: AtomicU64,
    leads: AtomicBool,
    lease_until_ns: AtomicU64,
    group: Mutex<GroupView>,
    terms: Mutex<AppliedTerms>,
}

impl Shared {
    pub fn new(
        config: MasterConfig,
        state: Published<dyn meta::Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Shared {
        let authority = Authority {
            superuser: config.superuser.clone(),
            supergroup: config.supergroup.clone(),
            enabled: config.permission_enabled,
        };
        let applied = state.store().applied();
        Shared {
            state,
            locations: Locations::default(),
            registry: Mutex::default(),
            streams: Mutex::default(),
            skipped: Mutex::default(),
            uploads: Mutex::default(),
            pauses: Mutex::default(),
            uses: UseNotes::default(),
            holds: Holds::default(),
            waits: Waits::default(),
            census: Mutex::default(),
            rooms: Arc::default(),
            authority,
            started: clock.monotonic(),
            clock,
            entropy,
            metrics: Metrics::default(),
            counters: RwLock::default(),
            applied: AtomicU64::new(applied.0),
            leads: AtomicBool::new(false),
            lease_until_ns: AtomicU64::new(0),
            group: Mutex::default(),
            terms: Mutex::default(),
            config,
        }
    }

    /// Index of the last entry readers can see.
    pub fn applied(&self) -> LogIndex {
        LogIndex(self.applied.load(Ordering::Acquire))
    }

    pub fn set_applied(&self, index: LogIndex) {
        self.applied.store(index.0, Ordering::Release);
    }

    /// The entry at `index`, about to be applied, or applied before this start, is of `term`.
    pub fn note_term(&self, index: LogIndex, term: Term) {
        let mut terms = self.terms.lock();
        if terms.0.last().is_some_and(|(_, known)| *known == term) {
            return;
        }
        terms.0.push((index, term));
        if terms.0.len() > TERMS {
            terms.0.remove(0);
        }
    }

    /// The term of an entry applied lately.
    pub fn term_of(&self, index: LogIndex) -> Option<Term> {
        let terms = self.terms.lock();
        terms.0.iter().rev().find(|(from, _)| *from <= index).map(|(_, term)| *term)
    }

    pub fn set_leadership(&self, leadership: Leadership) {
        let until = u64::try_from(leadership.lease_until.0.as_nanos()).unwrap_or(u64::MAX);
        self.lease_until_ns.store(until, Ordering::Release);
        self.leads.store(leadership.leads, Ordering::Release);
    }

    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// Refuses what only a leader answers.
    pub fn must_lead(&self) -> Result<(), Error> {
        if self.leads() { Ok(()) } else { Err(Error::NotLeader) }
    }

    /// Refuses what masters of the group may not know yet.
    pub fn check_batches(&self) -> Result<(), Error> {
        let in_force = self.counters().map_or(0, |counters| counters.rules);
        if in_force >= meta::BATCHES {
            return Ok(());
        }
        Err(Error::NotYet(format!(
            "batches wait until every master of the group has a release that knows them (rules {}, in force are \
             {in_force}); send one request for each change",
            meta::BATCHES
        )))
    }

    pub fn group(&self) -> GroupView {
        self.group.lock().clone()
    }

    pub fn term(&self) -> Term {
        self.group.lock().term
    }

    pub fn set_group(&self, view: GroupView) {
        *self.group.lock() = view;
    }

    /// Whether clients are well served: by this master, or by the one it follows.
    pub fn is_ready(&self) -> bool {
        self.leads() || self.group.lock().leader.is_some()
    }

    /// Whether the lease held at this moment. Ask after the state was read.
    pub fn has_lease(&self) -> bool {
        let now = u64::try_from(self.clock.monotonic().0.as_nanos()).unwrap_or(u64::MAX);
        self.leads() && now < self.lease_until_ns.load(Ordering::Acquire)
    }

    /// Ids, times and versions no newer than what readers can see; None before the state was opened.
    pub fn counters(&self) -> Option<Arc<meta::Counters>> {
        self.counters.read().clone()
    }

    pub fn set_counters(&self, counters: &meta::Counters) {
        *self.counters.write() = Some(Arc::new(counters.clone()));
    }

    /// Reads a consistent state without a lease: for answers that need none, such as a standby's.
    pub fn read_any<R>(&self, read: impl FnMut(&dyn Read) -> Result<R, StoreError>) -> Result<R, Error> {
        let mut read = read;
        self.state.read(|view| read(view)).map_err(Error::from)
    }
}
