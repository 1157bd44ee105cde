//! The master's loop, sans-IO: events in, actions out.
//!
//! Is:     a deterministic state machine around the replicated log's node and the namespace. Same events and times, same
//!         actions.
//! Owns:   stamping (times, ids), the order of proposals, answers, and the leader's duties: intents, persists, loads,
//!         collection, expiry.
//! Never:  touches a socket, a file, a store or a clock: it asks for that through [`Action`]. The database is reached
//!         through its trait, as the namespace itself does.
//!
//! Invariant: a request is answered only after its entry was committed, applied and published.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod batches;
mod census;
mod expiry;
mod group;
mod housekeeping;
mod intents;
mod job;
mod loads;
mod persists;
mod stamp;

pub use census::WalkConfig;
pub use expiry::ExpiryConfig;
pub use group::{MEMBERS_KEY, Said, members, record};
pub use job::{Job, JobError, JobId, JobOk, ListFrom};
pub use loads::Want;
pub use persists::{PersistPlace, RETRY_MS};

use crate::error::Error;
use crate::shared::{Leadership, Shared};
use bytes::Bytes;
use journal::{
    AppendBatch, BatchSeq, Change, MemberId, Membership, Node, Outgoing, Refused, Role, SnapshotMark, SnapshotOffer,
};
use meta::{Applied, Caller, Done, Effect, Entry, Namespace, Op, Record, Reject};
use stamp::Stamper;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use types::{ContainerId, InodeId, IntentId, LogIndex, Monotonic, OperationId, Patience, Term, UnixMs, WorkerId};

#[cfg(test)]
mod tests;

/// Requests in the core at once; more are refused as Busy.
pub const REQUESTS: usize = 65_536;
/// Requests that gather behind what is on its way to other masters, at most.
const GATHERED: usize = 64;
/// A database that does not keep up for this long is said to be behind: two flushes that meet are over sooner.
const BEHIND_FOR: Duration = Duration::from_millis(300);
/// Changes of entries that are applied and published together; one entry more ends it. Bounds how long a reader may have
/// to retry.
const APPLY_BATCH: usize = 512;
/// Entries, and their bytes, that a standby lets gather before it applies them.
const APPLIED_TOGETHER: usize = 64;
const BYTES_TOGETHER: usize = 64 << 10;

/// Names one waiting caller; chosen by the driver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// Both clocks, read once per event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub unix: UnixMs,
    pub mono: Monotonic,
}

/// A mutation somebody waits for.
#[derive(Clone, Debug)]
pub struct Request {
    pub who: Caller,
    pub operation: Option<OperationId>,
    pub op: Op,
    /// When it began to wait for its turn.
    pub came: Monotonic,
    pub deadline: Monotonic,
}

#[derive(Debug)]
pub enum Event {
    /// Time passed.
    Tick,
    Request(Ticket, Request),
    /// A batch, and who waits for each of its items.
    Batch(Vec<Ticket>, Request),
    /// Somebody needs metadata from a store.
    Want(Ticket, Want, Monotonic),
    /// A read without a lease: say when this master is confirmed to lead and has applied what was acknowledged before.
    Confirm(Ticket),
    /// The log's writer finished a batch.
    Persisted(BatchSeq),
    /// An under store answered.
    JobDone(JobId, Result<JobOk, JobError>),
    /// The database flushed up to this index.
    Flushed(LogIndex),
    /// Make the state durable as a whole and say when: a clean stop.
    Drain(Ticket),
    /// A worker of this session was taken in; tasks may be given to it.
    WorkerReady(WorkerId),
    /// Another master said something. `everywhere`: up to here every member's log is known to reach.
    PeerMessage {
        from: MemberId,
        message: Bytes,
        everywhere: LogIndex,
    },
    /// What was sent to another master may not have arrived.
    Unreachable(MemberId),
    /// There is a connection to another master, and this is what it says of itself.
    Met(MemberId, Said),
    /// Whether the disk has no room for the log's next file.
    ShortOfRoom(bool),
    /// Hand the lead over to this member.
    HandOver(Ticket, MemberId),
    /// Change who the members are.
    Change(Ticket, Change),
    /// Flush the state, cut the log, and say when.
    Checkpoint(Ticket),
}

#[derive(Debug)]
pub enum Action {
    /// Write and sync, then [`Event::Persisted`].
    Append(AppendBatch),
    /// Send to another master, or [`Event::Unreachable`]; the index goes with it.
    Send(Outgoing, LogIndex),
    Reply(Ticket, Result<Done, Error>),
    /// Ask an under store, then [`Event::JobDone`].
    Job(JobId, Job),
    /// Flush the database in the background, then [`Event::Flushed`].
    Flush,
    /// Log segments wholly below this index can go.
    Purge(LogIndex),
    /// Mounted stores or their settings changed: open them anew.
    MountsChanged,
    /// These are the members now.
    Members(Arc<Membership>),
    /// Only another master's snapshot helps: fetch it, unless that is being done.
    Fetch(SnapshotOffer),
}

/// Who waits for a proposal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Origin {
    Client(Ticket),
    /// Those who wait for the items of a batch.
    Batch(Vec<Ticket>),
    BeginIntent(IntentId),
    CloseIntent(IntentId),
    Collect(InodeId),
    BeginPersist(ContainerId),
    OpenLoad(InodeId),
    LoadStep(InodeId),
    Look(u64),
    Incarnation,
    Forget,
    Housekeeping,
    NoteUse,
    Expire,
}

struct Proposal {
    origin: Origin,
    request: Request,
    /// Since when it waits to be given to the node, or when it was.
    since: Monotonic,
}

impl Proposal {
    fn new(origin: Origin, request: Request) -> Proposal {
        Proposal { origin, since: request.came, request }
    }

    /// Whether somebody asked for it who can ask again.
    fn is_asked_for(&self) -> bool {
        matches!(self.origin, Origin::Client(_) | Origin::Batch(_))
    }
}

/// What the core is told once.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    pub checkpoint_entries: u64,
    pub intent_wait: Duration,
    pub operation_retention: Duration,
    pub incomplete_expiry: Duration,
    pub persist_concurrency: usize,
    pub worker_timeout: Duration,
    /// How long the core's own proposals may take.
    pub task_timeout: Duration,
    /// Proposed once the group leads and the namespace is empty.
    pub format: meta::Format,
    /// How long a new leader leaves alone what an earlier one may still be asking of the stores.
    pub intent_rest: Duration,
    /// The longest that a request waits to be proposed and it is nothing unusual; zero: none is too long.
    pub late: Duration,
    /// The walk through all inodes; None: there is none.
    pub walk: Option<WalkConfig>,
    /// What becomes of metadata that nobody uses; None: they stay.
    pub expiry: Option<ExpiryConfig>,
    /// This member is all that is left of its group: once it leads, it says so in the log and begins a new incarnation.
    pub recover: bool,
}

pub struct Core {
    config: CoreConfig,
    node: Node,
    namespace: Namespace,
    shared: Arc<Shared>,
    stamper: Stamper,
    /// This master leads and has applied an entry of its own term: it may stamp.
    leading: bool,
    next_proposal: u64,
    /// The proposal that begins a new incarnation, if there was one.
    incarnation: Option<u64>,
    proposals: BTreeMap<u64, Proposal>,
    /// Admitted, not proposed yet.
    queue: VecDeque<Proposal>,
    /// With how long they wait for that.
    patience: Patience,
    /// Items of batches among both.
    batched: usize,
    committed: VecDeque<journal::Committed>,
    /// What is committed has waited for others long enough.
    ticked: bool,
    /// Clients that wait for an intent's outcome, and requests whose name an intent covers.
    outcomes: BTreeMap<IntentId, Vec<(Ticket, Monotonic)>>,
    /// The latter with how long they wait, and whether the intent moves a tree.
    covered: BTreeMap<IntentId, Vec<(Proposal, Monotonic, bool)>>,
    intents: intents::Intents,
    persists: persists::Persists,
    loads: loads::Loads,
    housekeeping: housekeeping::Housekeeping,
    walk: census::Walk,
    expiry: expiry::Expiry,
    next_job: u64,
    draining: Vec<Ticket>,
    /// Confirmed reads and the index they wait for.
    confirmed: Vec<(Ticket, LogIndex)>,
    flushing: bool,
    /// The database does not keep up, since then; for a while, so nothing new is taken in.
    behind_since: Option<Monotonic>,
    behind: bool,
    group: group::GroupState,
    actions: Vec<Action>,
}

impl Core {
    /// A core over a recovered node and an opened namespace.
    pub fn new(config: CoreConfig, node: Node, namespace: Namespace, shared: Arc<Shared>) -> Core {
        let stamper = Stamper::new(&namespace);
        shared.set_counters(namespace.counters());
        if let Some(term) = node.term_at(node.applied()) {
            shared.note_term(node.applied(), term);
        }
        let group = group::GroupState::new(node.members());
        Core {
            patience: Patience::new(config.late),
            config,
            node,
            namespace,
            shared,
            stamper,
            leading: false,
            next_proposal: 1,
            incarnation: None,
            proposals: BTreeMap::new(),
            queue: VecDeque::new(),
            batched: 0,
            committed: VecDeque::new(),
            ticked: false,
            outcomes: BTreeMap::new(),
            covered: BTreeMap::new(),
            intents: Default::default(),
            persists: Default::default(),
            loads: Default::default(),
            housekeeping: Default::default(),
            walk: Default::default(),
            expiry: Default::default(),
            next_job: 1,
            draining: Vec::new(),
            confirmed: Vec::new(),
            flushing: false,
            behind_since: None,
            behind: false,
            group,
            actions: Vec::new(),
        }
    }

    /// Takes one event. Call [`Core::turn`] after one or several.
    pub fn step(&mut self, now: Now, event: Event) {
        match event {
            Event::Tick => {
                self.ticked = true;
                self.tick(now);
            }
            Event::Request(ticket, request) => {
                self.admit(Proposal::new(Origin::Client(ticket), request));
            }
            Event::Batch(tickets, request) => self.admit_batch(tickets, request),
            Event::Want(ticket, want, deadline) => self.want(now, ticket, want, deadline),
            Event::Confirm(ticket) => self.confirm(ticket),
            Event::Persisted(batch) => self.node.persisted(batch),
            Event::JobDone(job, result) => self.job_done(now, job, result),
            Event::Flushed(index) => self.flushed(index),
            Event::Drain(ticket) => self.draining.push(ticket),
            // A new session: what the old one was told to upload, nobody may be uploading any more.
            Event::WorkerReady(worker) => self.persists.worker_lost(worker),
            Event::PeerMessage { from, message, everywhere } => self.peer_said(now, from, &message, everywhere),
            Event::Unreachable(member) => self.node.unreachable(member),
            Event::Met(member, said) => self.group.met(now, member, said),
            Event::ShortOfRoom(short) => self.short_of_room(short),
            Event::HandOver(ticket, to) => self.hand_over(ticket, to),
            Event::Change(ticket, change) => self.change_members(ticket, &change),
            Event::Checkpoint(ticket) => self.checkpoint(ticket),
        }
    }

    /// Proposes, drains the node, applies what is committed, and returns what to do. Errors are fatal to this member:
    /// its disk or its database failed, or the log holds what it cannot read.
    pub fn turn(&mut self, now: Now) -> Result<Vec<Action>, String> {
        self.group.check()?;
        // In a group the entries of the turn before: what it sent and wrote is on its way by now.
        if self.is_unfinished() {
            self.apply_committed(now)?;
        }
        self.ticked = false;
        loop {
            self.node.tick(now.mono);
            let blocked = !self.gathers() && self.propose_queued(now);
            let output = self.node.drain().map_err(|err| types::sentence(&err))?;
            if let Some(batch) = output.append {
                self.actions.push(Action::Append(batch));
            }
            self.send(output.messages, &output.snapshots_wanted);
            self.actions.extend(output.snapshot_offered.map(Action::Fetch));
            for number in output.dropped {
                self.dropped(number);
            }
            self.confirmed.extend(output.reads.into_iter().map(|(ticket, index)| (Ticket(ticket), index)));
            for ticket in output.dropped_reads {
                self.reply(Ticket(ticket), Err(Error::NotLeader));
            }
            self.committed.extend(output.committed);
            if self.is_alone() {
                self.apply_committed(now)?;
            }
            self.answer_confirmed();
            self.follow_leadership(now);
            let may_propose = self.leading && !blocked && !self.queue.is_empty() && !self.gathers();
            if !may_propose && (self.is_unfinished() || !output.more) {
                break;
            }
        }
        self.drain_if_asked();
        Ok(std::mem::take(&mut self.actions))
    }

    /// Whether another turn has work at once: what is committed waits until what was sent is on its way.
    pub fn is_unfinished(&self) -> bool {
        !self.committed.is_empty() && !self.applies_later()
    }

    /// A standby applies many entries together, those of a tick at the latest: nobody waits for them, but for what it
    /// acknowledges, and a leader on the same machine for the processor.
    fn applies_later(&self) -> bool {
        let is_standby = self.node.role() == Role::Follower && !self.is_alone();
        let bytes = || self.committed.iter().map(|entry| entry.payload.len()).sum::<usize>();
        let may_wait = is_standby && !self.ticked && self.draining.is_empty();
        may_wait && self.committed.len() < APPLIED_TOGETHER && bytes() < BYTES_TOGETHER
    }

    /// Whether no other master waits for what this one writes.
    pub fn is_alone(&self) -> bool {
        self.node.is_alone()
    }

    /// The term of an entry that is in the log, safe there or not yet.
    #[cfg(feature = "test-support")]
    pub fn term_at(&self, index: types::LogIndex) -> Option<types::Term> {
        self.node.term_at(index)
    }

    /// The namespace, for tests and audits.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn confirm(&mut self, ticket: Ticket) {
        match self.node.read_index(ticket.0) {
            Ok(()) => {}
            Err(Refused::FullOfReads { waiting }) => self.reply(ticket, Err(Error::Overloaded(waiting))),
            Err(_) => self.reply(ticket, Err(Error::NotLeader)),
        }
    }

    fn answer_confirmed(&mut self) {
        let applied = self.node.applied();
        let ready: Vec<Ticket> =
            self.confirmed.extract_if(.., |(_, index)| *index <= applied).map(|(ticket, _)| ticket).collect();
        for ticket in ready {
            let made = self.namespace.cluster().map(|_| Done::Nothing);
            self.reply(ticket, made.ok_or(Error::Starting("its namespace is being made")));
        }
    }

    fn admit(&mut self, proposal: Proposal) {
        if self.queue.len() + self.proposals.len() >= REQUESTS {
            self.answer(proposal.origin, Err(Error::Overloaded(REQUESTS)));
            return;
        }
        if self.behind {
            self.answer(proposal.origin, Err(Error::Behind));
            return;
        }
        self.queue.push_back(proposal);
    }

    /// Refuses what nobody waits for any more, and says how long what had its turn has waited: more than can be done is refused
    /// where it comes in.
    fn check_wait(&mut self, now: Now, proposal: &Proposal) -> Result<(), Error> {
        if !proposal.is_asked_for() {
            return Ok(());
        }
        let waited = now.mono - proposal.since;
        self.shared.waits.took(proposal.since, self.patience.is_over(now.mono, waited));
        if now.mono >= proposal.request.deadline {
            self.shared.metrics.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Late(waited));
        }
        Ok(())
    }

    /// There is nothing that waits for its turn, or that had it and is not done.
    fn rest_if_nothing_waits(&mut self) {
        if self.queue.is_empty() && self.proposals.is_empty() {
            self.patience = Patience::new(self.config.late);
            self.shared.waits.rest();
        }
    }

    /// Queues an entry of the core's own.
    fn task(&mut self, now: Now, origin: Origin, op: Op) {
        let deadline = now.mono + self.config.task_timeout;
        let request = Request { who: Caller::system(), operation: None, op, came: now.mono, deadline };
        self.queue.push_back(Proposal::new(origin, request));
    }

    /// Whether what waits had better go together: other masters are still at work on what was sent to them, and a message,
    /// a sync and an answer of each cost the same for one entry as for many.
    pub fn gathers(&self) -> bool {
        self.leading && !self.is_alone() && self.node.uncommitted() > 0 && self.queue.len() < GATHERED
    }

    /// Proposes what waits. True when the node takes no more for now.
    fn propose_queued(&mut self, now: Now) -> bool {
        if !self.leading {
            self.refuse_queued();
            return true;
        }
        // What follows gets ids behind those it leaves out.
        if self.incarnation.is_some_and(|number| self.proposals.contains_key(&number)) {
            return true;
        }
        while let Some(mut proposal) = self.queue.pop_front() {
            let checked = self.check_rules(&proposal.request.op).and_then(|()| self.check_wait(now, &proposal));
            if let Err(err) = checked {
                self.answer(proposal.origin, Err(err));
                continue;
            }
            let Request { who, operation, op, came, deadline } = proposal.request;
            let (wall, age, ids) = (self.stamper.wall(now), self.stamper.age(now), self.stamper.ids(&op));
            let entry = Entry { wall, age, who, operation, ids, op };
            let payload = entry.encode();
            proposal.request = Request { who: entry.who, operation, op: entry.op, came, deadline };
            let number = self.next_proposal;
            match self.node.propose(number, &payload) {
                Ok(()) => {
                    self.next_proposal += 1;
                    proposal.since = now.mono;
                    let begins = proposal.origin == Origin::Incarnation;
                    self.proposals.insert(number, proposal);
                    if begins {
                        self.incarnation = Some(number);
                        return true;
                    }
                }
                // While the lead is handed over it waits: it is refused when that is done, and whoever is sent on then finds
                // a leader. Official clients try thrice, and would ask this master thrice.
                Err(Refused::Full { .. } | Refused::Transferring) => {
                    self.queue.push_front(proposal);
                    return true;
                }
                Err(Refused::NotLeader { .. }) => {
                    self.answer(proposal.origin, Err(Error::NotLeader));
                }
                Err(
                    refused @ (Refused::TooBig { .. }
                    | Refused::Empty
                    | Refused::FullOfReads { .. }
                    | Refused::NotAMember { .. }
                    | Refused::Changing
                    | Refused::Objection { .. }),
                ) => self.answer(proposal.origin, Err(Error::Invalid(refused.to_string()))),
            }
        }
        false
    }

    fn apply_committed(&mut self, now: Now) -> Result<(), String> {
        while !self.committed.is_empty() {
            let mut batch = Vec::new();
            let mut tickets = Vec::new();
            let mut last = LogIndex(0);
            let mut members = None;
            let mut changes = 0;
            while changes < APPLY_BATCH {
                let Some(committed) = self.committed.pop_front() else { break };
                last = committed.index;
                self.shared.note_term(committed.index, committed.term);
                if let Some(changed) = committed.members {
                    self.members_changed(committed.ticket, &changed);
                    members = Some(changed);
                    continue;
                }
                if committed.payload.is_empty() {
                    continue;
                }
                let entry = Entry::decode(&committed.payload).map_err(|err| {
                    format!("log entry {}: {err}; the log is damaged or from a newer release", committed.index)
                })?;
                changes += weight(&entry.op);
                batch.push((committed.index, entry));
                tickets.push(committed.ticket);
            }
            let (mut changes, applied) =
                self.namespace.apply(&self.shared.state.latest(), &batch).map_err(|err| err.to_string())?;
            if batch.iter().any(|(_, entry)| matches!(entry.op, Op::Expire(_))) {
                self.shared.holds.expires();
            }
            changes.applied = last;
            changes.changes.extend(members.as_ref().map(group::record));
            self.shared.state.publish(changes).map_err(|err| err.to_string())?;
            self.shared.set_counters(self.namespace.counters());
            self.shared.set_applied(last);
            self.node.advance_applied(last);
            for (((_, entry), ticket), applied) in batch.into_iter().zip(tickets).zip(applied) {
                self.applied(now, entry, ticket, applied);
            }
        }
        Ok(())
    }

    /// One entry took effect: its effects are noted, its proposer told.
    fn applied(&mut self, now: Now, entry: Entry, ticket: Option<u64>, applied: Applied) {
        for effect in applied.effects {
            self.effect(now, effect);
        }
        if matches!(entry.op, Op::Repair(_)) {
            self.stamper.leave_out(&self.namespace);
        }
        let Some(proposal) = ticket.and_then(|ticket| self.proposals.remove(&ticket)) else { return };
        self.shared.metrics.commits.record(now.mono - proposal.since);
        match proposal.origin.clone() {
            Origin::Client(ticket) => self.client_outcome(now, ticket, proposal, applied.outcome),
            Origin::Batch(tickets) => self.batch_outcome(now, tickets, proposal.request, applied.outcome),
            Origin::BeginIntent(id) => self.intent_begun(id, applied.outcome),
            Origin::CloseIntent(id) => self.intents.closed(id),
            Origin::Collect(inode) => {
                let freed = self.housekeeping.collected(inode, &applied.outcome);
                self.shared.metrics.collected.fetch_add(freed, Ordering::Relaxed);
            }
            Origin::BeginPersist(container) => self.persist_begun(now, container, applied.outcome),
            Origin::OpenLoad(inode) => self.load_opened(now, inode, applied.outcome),
            Origin::LoadStep(inode) => self.load_stepped(now, inode, entry.op, applied.outcome),
            Origin::Look(look) => self.looked(look, applied.outcome),
            Origin::Incarnation => self.stamper.leave_out(&self.namespace),
            Origin::NoteUse => self.uses_noted(),
            Origin::Expire => self.expired(&applied.outcome),
            Origin::Forget => self.housekeeping.forgot(),
            Origin::Housekeeping => {}
        }
    }

    fn client_outcome(&mut self, now: Now, ticket: Ticket, proposal: Proposal, outcome: Result<Done, Reject>) {
        match outcome {
            Ok(Done::Pending(intent)) => {
                self.outcomes.entry(intent).or_default().push((ticket, proposal.request.deadline));
            }
            Err(Reject::Covered { intent, .. })
                if self.namespace.intent(intent).is_some() && !self.covered_too_long(now, &proposal) =>
            {
                let until = proposal.request.deadline.min(now.mono + self.config.intent_wait);
                let kind = self.namespace.intent(intent).map(|intent| &intent.kind);
                let moves = matches!(kind, Some(meta::IntentKind::MoveTree { .. }));
                self.covered.entry(intent).or_default().push((proposal, until, moves));
            }
            outcome => self.reply(ticket, outcome.map_err(Error::from)),
        }
    }

    fn covered_too_long(&self, now: Now, proposal: &Proposal) -> bool {
        now.mono >= proposal.request.deadline
    }

    fn effect(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::FreeContainer(container) => {
                self.shared.streams.lock().forget(container);
                for (worker, blocks) in self.shared.locations.remove_container(container) {
                    self.shared.registry.lock().free(worker, container, blocks);
                }
            }
            Effect::Evictable(container) => {
                self.persist_ended(container);
                self.shared.pauses.lock().forget(container);
                for worker in self.shared.locations.holders(container) {
                    self.shared.registry.lock().evictable(worker, container);
                }
            }
            Effect::OpenedIntent(id) => {
                if self.leading {
                    self.start_intent(now, id);
                }
            }
            Effect::ClosedIntent(id) => self.intent_closed(now, id),
            // A new leader looks through the state for both.
            Effect::Collect(_) | Effect::Persist(_) if !self.leading => {}
            Effect::Collect(inode) => self.housekeeping.collect(inode),
            Effect::Persist(container) => self.persists.due(container),
            Effect::CancelPersist(container) => self.cancel_persist(container),
            Effect::MountsChanged => self.actions.push(Action::MountsChanged),
        }
    }

    /// The intent is over: tell who waited for its outcome, and try again what it covered.
    fn intent_closed(&mut self, now: Now, id: IntentId) {
        let outcome = self.intents.outcome(id);
        for (ticket, _) in self.outcomes.remove(&id).unwrap_or_default() {
            self.reply(ticket, outcome.clone());
        }
        self.moved(now, id);
        for (proposal, until, moves) in self.covered.remove(&id).unwrap_or_default() {
            if now.mono < until && moves && makes(&proposal.request.op) {
                // It looked at the store where that has other things now.
                self.answer(proposal.origin, Err(Error::Moved));
            } else if now.mono < until {
                self.queue.push_back(Proposal { since: now.mono, ..proposal });
            } else {
                self.answer(proposal.origin, Err(busy(id)));
            }
        }
    }

    fn answer(&mut self, origin: Origin, result: Result<Done, Error>) {
        match origin {
            Origin::Client(ticket) => self.reply(ticket, result),
            Origin::Batch(tickets) => self.answer_batch(tickets, &result),
            // The core's own tasks look at the state again at the next tick.
            Origin::BeginIntent(id) | Origin::CloseIntent(id) => self.intents.retry(id),
            Origin::Collect(inode) => self.housekeeping.collect(inode),
            Origin::BeginPersist(container) => self.persists.due(container),
            Origin::OpenLoad(inode) | Origin::LoadStep(inode) => {
                self.fail_load(inode, result.err().unwrap_or(Error::NotLeader));
            }
            Origin::Look(look) => self.fail_look(look, result.err().unwrap_or(Error::NotLeader)),
            Origin::Incarnation => self.config.recover = true,
            Origin::NoteUse => self.uses_noted(),
            Origin::Expire => self.expired(&Ok(Done::Nothing)),
            Origin::Forget => self.housekeeping.forgot(),
            Origin::Housekeeping => {}
        }
    }

    fn reply(&mut self, ticket: Ticket, result: Result<Done, Error>) {
        self.actions.push(Action::Reply(ticket, result));
    }

    fn dropped(&mut self, ticket: u64) {
        self.change_dropped(ticket);
        if let Some(proposal) = self.proposals.remove(&ticket) {
            self.answer(proposal.origin, Err(Error::NotLeader));
        }
    }

    /// Takes up or lays down the leader's duties, and tells readers how long they may answer by themselves.
    fn follow_leadership(&mut self, now: Now) {
        let may_stamp = self.node.established().is_some_and(|index| index <= self.node.applied());
        if may_stamp && !self.leading {
            self.leading = true;
            self.stamper.lead(&self.namespace, now);
            self.shared.uploads.lock().lead(now.mono);
            self.shared.pauses.lock().lead();
            if self.namespace.cluster().is_none() {
                let format = Op::Format(self.config.format.clone());
                self.task(now, Origin::Housekeeping, format);
                // Ahead of what clients have asked for already: before it there is no namespace.
                self.queue.rotate_right(1);
            }
            self.take_up_duties(now);
            self.recover_once(now);
        } else if !may_stamp && self.leading {
            self.leading = false;
            self.lay_down_duties();
        }
        self.shared.set_leadership(Leadership {
            leads: self.leading && self.namespace.cluster().is_some(),
            lease_until: self.node.lease_until().unwrap_or_default(),
        });
        self.note_group(now);
    }

    fn take_up_duties(&mut self, now: Now) {
        let open: Vec<IntentId> = self.namespace.intents().map(|intent| intent.id).collect();
        for id in open {
            self.take_up_intent(now, id);
        }
        self.abort_stale_loads(now);
        self.housekeeping.resume();
        self.begin_expiry();
        self.persists.wake();
    }

    fn lay_down_duties(&mut self) {
        for proposal in std::mem::take(&mut self.queue) {
            self.answer(proposal.origin, Err(Error::NotLeader));
        }
        for (_, waiting) in std::mem::take(&mut self.outcomes) {
            for (ticket, _) in waiting {
                self.reply(ticket, Err(Error::NotLeader));
            }
        }
        for (_, waiting) in std::mem::take(&mut self.covered) {
            for (proposal, ..) in waiting {
                self.answer(proposal.origin, Err(Error::NotLeader));
            }
        }
        // Whoever asks here is sent to the leader, whose database keeps up or not.
        (self.behind, self.behind_since) = (false, None);
        self.intents = Default::default();
        self.persists = Default::default();
        self.housekeeping.lay_down();
        self.end_census();
        self.end_expiry();
        self.drop_loads();
    }

    fn job(&mut self, job: Job) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.actions.push(Action::Job(id, job));
        id
    }

    fn job_done(&mut self, now: Now, id: JobId, result: Result<JobOk, JobError>) {
        if let Some(intent) = self.intents.take_job(id) {
            return self.intent_answered(now, intent, result);
        }
        self.store_answered(now, id, result);
    }

    fn tick(&mut self, now: Now) {
        let lost = self.shared.registry.lock().expire(now.mono, self.config.worker_timeout);
        for (worker, rows) in lost {
            rows.into_iter().for_each(|rows| self.shared.locations.close(rows));
            self.persists.worker_lost(worker);
        }
        self.flush_if_due();
        self.rest_if_nothing_waits();
        if !self.leading {
            return;
        }
        self.look_whether_behind(now);
        self.expire_waiting(now);
        self.tick_intents(now);
        self.tick_persists(now);
        self.tick_loads(now);
        self.tick_housekeeping(now);
        self.tick_census(now);
        self.tick_expiry(now);
        self.tick_members();
        self.raise_rules(now);
        self.prefer(now);
        self.make_way(now);
    }

    /// A commit that has to wait holds up everything here, heartbeats to other masters among it. So what is new is refused
    /// before it comes to that; what was taken in already still fits.
    fn look_whether_behind(&mut self, now: Now) {
        self.behind_since = match self.shared.state.store().is_behind() {
            true => self.behind_since.or(Some(now.mono)),
            false => None,
        };
        let behind = self.behind_since.is_some_and(|since| now.mono - since >= BEHIND_FOR);
        if behind == std::mem::replace(&mut self.behind, behind) {
            return;
        }
        if behind {
            tracing::warn!(
                "the metadata database does not keep up with compacting its files: no changes are taken until it has"
            );
        } else {
            tracing::info!("the metadata database keeps up again");
        }
    }

    fn expire_waiting(&mut self, now: Now) {
        let mut late = Vec::new();
        for (id, waiting) in &mut self.outcomes {
            waiting.retain(|(ticket, deadline)| {
                let keep = now.mono < *deadline;
                if !keep {
                    late.push((Origin::Client(*ticket), *id));
                }
                keep
            });
        }
        for (id, waiting) in &mut self.covered {
            waiting.retain(|(proposal, until, _)| {
                let keep = now.mono < *until;
                if !keep {
                    late.push((proposal.origin.clone(), *id));
                }
                keep
            });
        }
        for (origin, id) in late {
            let last = self.intents.last_error(id);
            self.answer(origin, Err(last.unwrap_or_else(|| busy(id))));
        }
    }

    fn flushed(&mut self, index: LogIndex) {
        self.flushing = false;
        // What is flushed is a state anybody can be given: a checkpoint of it costs hard links.
        if let Some(term) = self.node.term_at(index).filter(|term| *term > Term(0) && index <= self.node.applied()) {
            self.node.set_snapshot(SnapshotMark { index, term });
        }
        self.warn_of_laggards(index);
        self.checkpointed();
        if let Some(below) = self.node.compact(index, self.kept_for_others()) {
            self.actions.push(Action::Purge(below));
        }
        // A follower never comes to rest while its leader works: what was flushed is not replayed.
        if (index >= self.shared.applied() || !self.leading) && self.proposals.is_empty() {
            for ticket in std::mem::take(&mut self.draining) {
                self.reply(ticket, Ok(Done::Nothing));
            }
        }
    }

    fn drain_if_asked(&mut self) {
        if !self.draining.is_empty() && !self.flushing && self.proposals.is_empty() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.flushing {
            self.flushing = true;
            self.actions.push(Action::Flush);
        }
    }
}

/// Inodes, or other records, that an entry may change, about.
fn weight(op: &Op) -> usize {
    let of = |limit: u32| usize::try_from(limit).unwrap_or(APPLY_BATCH);
    let many = if let Op::Batch(batch) = op {
        batch.items.len()
    } else if let Op::LoadPage(page) = op {
        page.items.len()
    } else if let Op::Collect(collect) = op {
        of(collect.limit)
    } else if let Op::ForgetOperations(forget) = op {
        of(forget.limit)
    } else if let Op::Expire(expire) = op {
        expire.inodes.len()
    } else if let Op::NoteUse(note) = op {
        note.containers.len()
    } else {
        1
    };
    many.max(1)
}

/// Whether it may make a name that was not there.
fn makes(op: &Op) -> bool {
    matches!(op, Op::CreateFile(_) | Op::CreateDirectory(_))
}

fn busy(id: IntentId) -> Error {
    Error::UnderStore {
        kind: types::ErrorKind::Busy,
        message: format!("Busy: an operation on the under store ({id}) has not ended yet; try again"),
    }
}
