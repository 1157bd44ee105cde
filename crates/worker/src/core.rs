//! The worker's loop without its IO, towards one master: events in, actions out. [`Masters`] is the loop towards all.
//!
//! Is:     when to register, when to send a heartbeat and what it says about blocks, what a master's orders lead to.
//! Owns:   the session with the master, the changes not yet acknowledged, which files are being persisted.
//! Never:  reads a clock, waits, or touches a disk or a socket: [`crate::driver`] does, and tells what came of it.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use crate::persist::Task;
use crate::store::{Change, Report};
use std::collections::BTreeMap;
use std::time::Duration;
use types::{Attempt, BlockId, ContainerId, ErrorKind, Monotonic, SessionEpoch, Term, WorkerId};

mod masters;
#[cfg(test)]
mod tests;

pub use masters::{Known, Masters, Seat};

/// Changes in one heartbeat at most; the rest follows in the next.
pub const CHANGES_MAX: usize = 10_000;
/// Changes that may wait for one of several masters. One that is slower registers again instead: that says all at once.
const PENDING_MAX: usize = 10 * CHANGES_MAX;
/// Changes are gathered for this long before they are sent ahead of the interval.
const GATHER: Duration = Duration::from_millis(50);
/// Pauses after failures: doubled from the first to the longest, and jittered down to half.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Files being persisted or waiting for it on this worker.
const PERSISTS_MAX: usize = 4096;

/// What a master ordered in its answer to a heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Orders {
    /// The session is over: register again.
    pub register: bool,
    /// Of the master that says it: orders of an older one are void.
    pub term: Term,
    /// Generations whose blocks must go.
    pub free: Vec<ContainerId>,
    /// Generations that are in an under store now.
    pub evictable: Vec<ContainerId>,
    pub persist: Vec<Task>,
    pub cancel_persist: Vec<ContainerId>,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Time passed.
    Tick,
    /// Blocks changed in the store.
    Changes(Vec<Change>),
    Registered {
        worker: WorkerId,
        epoch: SessionEpoch,
        interval: Duration,
    },
    NotRegistered(ErrorKind),
    /// The answer to the heartbeat of this number.
    Answered {
        sequence: u64,
        orders: Orders,
    },
    NotAnswered {
        sequence: u64,
        kind: ErrorKind,
    },
    /// A persist is over, however it ended.
    PersistEnded {
        container: ContainerId,
        attempt: Attempt,
    },
    Stop,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send all that is here; answered by `Registered` or `NotRegistered`.
    Register,
    /// Answered by `Answered` or `NotAnswered`.
    Beat(Beat),
    Free(ContainerId),
    MakeEvictable(ContainerId),
    /// Ends with `PersistEnded`.
    Persist(Task),
    CancelPersist(ContainerId, Attempt),
}

/// The part of a heartbeat that must be neither lost nor applied twice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beat {
    pub worker: WorkerId,
    pub epoch: SessionEpoch,
    pub sequence: u64,
    pub added: Vec<Report>,
    pub removed: Vec<BlockId>,
}

#[derive(Debug)]
enum Phase {
    /// Next try at `next_try`.
    Apart {
        tries: u32,
        next_try: Monotonic,
    },
    Registering {
        tries: u32,
    },
    Joined(Session),
    Stopped,
}

/// Invariants: at most one beat is unacknowledged; it is sent again unchanged until it is acknowledged or the session is
/// over; sequence numbers of a session go up by one, from 1 or from where an earlier one with this master ended.
#[derive(Debug)]
struct Session {
    worker: WorkerId,
    epoch: SessionEpoch,
    interval: Duration,
    acknowledged: u64,
    /// No beat was sent yet.
    fresh: bool,
    unacknowledged: Option<Beat>,
    /// An answer to it is awaited.
    sending: bool,
    tries: u32,
    /// Not before: a pause after a failure.
    next_try: Monotonic,
    last_beat: Monotonic,
}

/// The loop's state.
#[derive(Debug)]
pub struct Core {
    phase: Phase,
    /// Latest state of each changed block, not yet in a beat. At most [`PENDING_MAX`].
    pending: BTreeMap<BlockId, Change>,
    /// More changed than may wait: register anew.
    overflown: bool,
    /// After which number the next session's beats go on.
    base: u64,
    /// Of the last beat that was made.
    last_sequence: u64,
    persisting: BTreeMap<ContainerId, Attempt>,
    chance: u64,
}

impl Core {
    /// `seed` decides the jitter of pauses.
    pub fn new(seed: u64) -> Core {
        let phase = Phase::Apart { tries: 0, next_try: Monotonic::default() };
        Core {
            phase,
            pending: BTreeMap::new(),
            overflown: false,
            base: 0,
            last_sequence: 0,
            persisting: BTreeMap::new(),
            chance: seed,
        }
    }

    /// A master accepts this worker.
    pub fn is_registered(&self) -> bool {
        matches!(self.phase, Phase::Joined(_))
    }

    /// How many changed blocks the next step can take in: what it does not take stays in the store.
    pub fn wants_changes(&self) -> usize {
        match &self.phase {
            Phase::Joined(session) if session.unacknowledged.is_none() => {
                CHANGES_MAX.saturating_sub(self.pending.len())
            }
            Phase::Joined(_) | Phase::Apart { .. } | Phase::Registering { .. } | Phase::Stopped => 0,
        }
    }

    /// One step.
    pub fn step(&mut self, now: Monotonic, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        // An answer makes room for the next heartbeat, which waits for the changes the driver takes in before its next
        // event: a heartbeat sent at once would never carry them while masters are slow.
        let was_answer = matches!(&event, Event::Answered { orders, .. } if !orders.register);
        match event {
            Event::Tick => {}
            Event::Changes(changes) => self.changed(changes),
            Event::Registered { worker, epoch, interval } => self.registered(now, worker, epoch, interval),
            Event::NotRegistered(_) => {
                if let Phase::Registering { tries } = self.phase {
                    self.phase = Phase::Apart { tries: tries.saturating_add(1), next_try: now + self.pause(tries) };
                }
            }
            Event::Answered { sequence, orders } => self.answered(now, sequence, orders, &mut actions),
            Event::NotAnswered { sequence, kind } => self.not_answered(now, sequence, kind),
            Event::PersistEnded { container, attempt } => {
                if self.persisting.get(&container) == Some(&attempt) {
                    self.persisting.remove(&container);
                }
            }
            Event::Stop => {
                self.phase = Phase::Stopped;
                let persisting = std::mem::take(&mut self.persisting);
                actions.extend(persisting.into_iter().map(|(id, attempt)| Action::CancelPersist(id, attempt)));
            }
        }
        if !was_answer {
            self.due(now, &mut actions);
        }
        actions
    }

    fn changed(&mut self, changes: Vec<Change>) {
        for change in changes {
            let block = match &change {
                Change::Here(report) => report.block,
                Change::Gone(block) => *block,
            };
            self.pending.insert(block, change);
        }
        if self.pending.len() > PENDING_MAX {
            self.pending.clear();
            self.overflown = true;
        }
    }

    fn registered(&mut self, now: Monotonic, worker: WorkerId, epoch: SessionEpoch, interval: Duration) {
        let Phase::Registering { .. } = self.phase else { return };
        if std::mem::take(&mut self.overflown) {
            self.phase = Phase::Apart { tries: 0, next_try: now };
            return;
        }
        self.phase = Phase::Joined(Session {
            worker,
            epoch,
            interval,
            acknowledged: self.base,
            fresh: true,
            unacknowledged: None,
            sending: false,
            tries: 0,
            next_try: now,
            last_beat: now,
        });
    }

    fn answered(&mut self, now: Monotonic, sequence: u64, orders: Orders, actions: &mut Vec<Action>) {
        let Phase::Joined(session) = &mut self.phase else { return };
        let Some(beat) = session.unacknowledged.take_if(|beat| beat.sequence == sequence) else { return };
        session.acknowledged = beat.sequence;
        (session.sending, session.tries) = (false, 0);
        if orders.register {
            self.phase = Phase::Apart { tries: 0, next_try: now };
            return;
        }
        for container in orders.cancel_persist.into_iter().chain(orders.free.iter().copied()) {
            if let Some(attempt) = self.persisting.remove(&container) {
                actions.push(Action::CancelPersist(container, attempt));
            }
        }
        actions.extend(orders.free.into_iter().map(Action::Free));
        actions.extend(orders.evictable.into_iter().map(Action::MakeEvictable));
        for task in orders.persist {
            let old = self.persisting.get(&task.container).copied();
            let newer = old.is_none_or(|old| old < task.attempt);
            if !newer || (old.is_none() && self.persisting.len() >= PERSISTS_MAX) {
                continue;
            }
            actions.extend(old.map(|attempt| Action::CancelPersist(task.container, attempt)));
            self.persisting.insert(task.container, task.attempt);
            actions.push(Action::Persist(task));
        }
    }

    fn not_answered(&mut self, now: Monotonic, sequence: u64, kind: ErrorKind) {
        let tries = match &self.phase {
            Phase::Joined(session) if session.unacknowledged.as_ref().is_some_and(|beat| beat.sequence == sequence) => {
                session.tries
            }
            Phase::Joined(_) | Phase::Apart { .. } | Phase::Registering { .. } | Phase::Stopped => return,
        };
        let next_try = now + self.pause(tries);
        let Phase::Joined(session) = &mut self.phase else { return };
        (session.sending, session.tries, session.next_try) = (false, tries.saturating_add(1), next_try);
        // Silence says nothing about the session; a refusal ends it.
        if !kind.is_transient() {
            self.phase = Phase::Apart { tries: tries.saturating_add(1), next_try };
        }
    }

    /// What time and state call for.
    fn due(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        if self.overflown && matches!(self.phase, Phase::Joined(_)) {
            self.phase = Phase::Apart { tries: 0, next_try: now };
        }
        match &mut self.phase {
            Phase::Apart { tries, next_try } if now >= *next_try => {
                // Everything that is here goes with the registration: what was pending is part of it.
                self.phase = Phase::Registering { tries: *tries };
                self.pending.clear();
                self.overflown = false;
                actions.push(Action::Register);
            }
            Phase::Joined(session) if !session.sending && now >= session.next_try => {
                let since = now - session.last_beat;
                let due = session.fresh || since >= session.interval || (since >= GATHER && !self.pending.is_empty());
                if session.unacknowledged.is_some() || due {
                    let pending = &mut self.pending;
                    let beat = session.unacknowledged.get_or_insert_with(|| {
                        gather(session.worker, session.epoch, session.acknowledged + 1, pending)
                    });
                    self.last_sequence = beat.sequence;
                    actions.push(Action::Beat(beat.clone()));
                    (session.sending, session.fresh, session.last_beat) = (true, false, now);
                }
            }
            Phase::Apart { .. } | Phase::Registering { .. } | Phase::Joined(_) | Phase::Stopped => {}
        }
    }

    fn pause(&mut self, tries: u32) -> Duration {
        let longest = PAUSE_FIRST.saturating_mul(1 << tries.min(16)).min(PAUSE_MAX);
        // A small generator of our own (splitmix64): the pauses follow from the seed.
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let share = u32::try_from((mixed ^ (mixed >> 31)) % 512).expect("below 512");
        longest / 2 + longest / 1024 * share
    }

    /// Panics when an invariant does not hold.
    #[cfg(test)]
    fn check_invariants(&self) {
        assert!(self.pending.len() <= PENDING_MAX && self.persisting.len() <= PERSISTS_MAX);
        if let Phase::Joined(session) = &self.phase {
            assert!(!session.sending || session.unacknowledged.is_some(), "what is being sent is unacknowledged");
            if let Some(beat) = &session.unacknowledged {
                assert_eq!(beat.sequence, session.acknowledged + 1);
            }
        }
    }
}

fn gather(worker: WorkerId, epoch: SessionEpoch, sequence: u64, pending: &mut BTreeMap<BlockId, Change>) -> Beat {
    let mut beat = Beat { worker, epoch, sequence, added: Vec::new(), removed: Vec::new() };
    let rest = pending.keys().nth(CHANGES_MAX).copied().map(|block| pending.split_off(&block)).unwrap_or_default();
    for change in std::mem::replace(pending, rest).into_values() {
        match change {
            Change::Here(report) => beat.added.push(report),
            Change::Gone(block) => beat.removed.push(block),
        }
    }
    beat
}
