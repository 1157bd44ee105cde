//! What a master does as one of several: messages of the others, what it refuses while another leads, how much of the log
//! it keeps for them, who they are.

use super::{Action, Core, Now, Origin, Ticket};
use crate::error::Error;
use crate::shared::GroupView;
use bytes::Bytes;
use journal::{Change, Follower, MemberId, Membership, Outgoing, Refused, Role};
use meta::{BeginIncarnation, Done, Family, Op, RULES_VERSION, RaiseRules, Read, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::{LogIndex, Monotonic, Term};

/// The record of the state that says who the members are, in `Family::State`.
pub const MEMBERS_KEY: &[u8] = b"members";
/// A learner that lacks no more entries than this has caught up.
const CAUGHT_UP: u64 = 1000;
/// A leader whose disk is full asks another member to lead this often: if the lead comes back, nobody else may have it.
const MAKES_WAY_EVERY: Duration = Duration::from_secs(10);
/// How long a master of higher priority is there before it is given the lead: one that just began may go again.
const PREFERS_AFTER: Duration = Duration::from_secs(5);

/// Who the members are as of the applied index; None: nothing has changed since the group was founded.
pub fn members(state: &(impl Read + ?Sized)) -> Result<Option<Membership>, StoreError> {
    let Some(bytes) = state.get(Family::State, MEMBERS_KEY)? else { return Ok(None) };
    let members = Membership::decode(&bytes);
    members.map(Some).map_err(|err| StoreError { what: err.to_string(), kind: types::ErrorKind::Corrupt })
}

/// What says so from the batch on that holds it.
pub fn record(members: &Membership) -> meta::Change {
    let key = Bytes::from_static(MEMBERS_KEY);
    meta::Change { family: Family::State, key, value: Some(members.encode()) }
}

/// What a member says of itself to those who connect to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// The newest rules of apply it knows.
    pub rules: u32,
    /// Of those that have caught up, one with the highest leads.
    pub priority: u32,
}

/// What a core remembers about its group.
pub struct GroupState {
    /// Up to here every member's log is known to reach. It never becomes less true.
    everywhere: LogIndex,
    /// Who led, and in which term, as was logged.
    leader: (Option<MemberId>, Term),
    /// Why this member must stop.
    fatal: Option<String>,
    members: Arc<Membership>,
    /// The disk has no room for the log's next file.
    short_of_room: bool,
    /// When another member was asked to lead because of that.
    made_way: Option<Monotonic>,
    /// What other members said since this start.
    met: Arc<BTreeMap<MemberId, Said>>,
    met_at: BTreeMap<MemberId, Monotonic>,
    /// Since when this one leads though another one should.
    preferred: Option<Monotonic>,
    /// When newer ones were asked for.
    raising: Option<Monotonic>,
    /// Who waits for a change, by its number among the proposals.
    changes: BTreeMap<u64, Ticket>,
    /// Who waits for the flush under way, and for the one after it.
    checkpoints: [Vec<Ticket>; 2],
}

/// Whether it could lead.
fn is_able(follower: &Follower) -> bool {
    follower.voter && follower.active && !follower.needs_snapshot
}

impl GroupState {
    pub fn new(members: &Membership) -> GroupState {
        GroupState {
            everywhere: LogIndex(0),
            leader: (None, Term(0)),
            fatal: None,
            members: Arc::new(members.clone()),
            short_of_room: false,
            made_way: None,
            met: Arc::default(),
            met_at: BTreeMap::new(),
            preferred: None,
            raising: None,
            changes: BTreeMap::new(),
            checkpoints: Default::default(),
        }
    }

    pub fn met(&mut self, now: Now, member: MemberId, said: Said) {
        Arc::make_mut(&mut self.met).insert(member, said);
        self.met_at.insert(member, now.mono);
    }

    pub fn check(&mut self) -> Result<(), String> {
        self.fatal.take().map_or(Ok(()), Err)
    }
}

impl Core {
    pub(super) fn peer_said(&mut self, now: Now, from: MemberId, message: &Bytes, everywhere: LogIndex) {
        self.group.everywhere = self.group.everywhere.max(everywhere);
        match self.node.step(now.mono, message) {
            Ok(()) => {}
            Err(error) if error.is_fatal() => self.group.fatal = Some(types::sentence(&error)),
            Err(error) => tracing::warn!(%from, %error, "a message of another master was refused"),
        }
    }

    pub(super) fn send(&mut self, messages: Vec<Outgoing>, snapshots_wanted: &[MemberId]) {
        if !snapshots_wanted.is_empty() {
            // A flush leaves a mark to offer.
            self.flush();
        }
        if messages.is_empty() {
            return;
        }
        if let Some(everywhere) = self.node.everywhere() {
            self.group.everywhere = self.group.everywhere.max(everywhere);
        }
        let everywhere = self.group.everywhere;
        self.actions.extend(messages.into_iter().map(|message| Action::Send(message, everywhere)));
    }

    /// While another master leads, requests are for it. A master that won an election and has not applied an entry of its
    /// own yet keeps them: it is a matter of milliseconds.
    pub(super) fn refuse_queued(&mut self) {
        if self.is_alone() || self.node.role() == Role::Leader {
            return;
        }
        for proposal in std::mem::take(&mut self.queue) {
            self.answer(proposal.origin, Err(Error::NotLeader));
        }
    }

    /// The log is kept from here on for members that may need it, whoever leads them then.
    pub(super) fn kept_for_others(&self) -> LogIndex {
        if self.is_alone() { LogIndex(u64::MAX) } else { self.group.everywhere }
    }

    /// Names the members that keep the log from being cut. Called at each checkpoint.
    pub(super) fn warn_of_laggards(&self, flushed: LogIndex) {
        for follower in self.node.followers() {
            let behind = flushed.0.saturating_sub(follower.acknowledged.0);
            if behind >= self.config.checkpoint_entries {
                tracing::warn!(member = %follower.id, entries = behind, active = follower.active, "a master is far behind or away: the log is kept for it up to goosefs.master.embedded.journal.retained.entries, then it needs a snapshot");
            }
        }
    }

    /// Tells readers outside who leads.
    pub(super) fn note_group(&mut self, now: Now) {
        if self.is_alone() && self.shared.config.group.is_none() {
            return;
        }
        let followers = self.node.followers();
        let view = GroupView {
            successor: self.successor(now, &followers),
            own: Some(self.node.id()),
            members: Some(self.group.members.clone()),
            leader: self.node.leader(),
            term: self.node.term(),
            committed: self.node.committed(),
            followers,
            met: self.group.met.clone(),
        };
        if self.group.leader != (view.leader, view.term) {
            self.group.leader = (view.leader, view.term);
            let leader = view.leader.map_or_else(|| "nobody".to_owned(), |leader| leader.to_string());
            tracing::info!(%leader, term = %view.term, applied = %self.node.applied(), "the group is led by");
        }
        self.shared.set_group(view);
    }

    /// Asks another member to take over, as soon as it has the whole log.
    pub(super) fn hand_over(&mut self, ticket: Ticket, to: MemberId) {
        let result = match self.node.transfer_leadership(to) {
            Ok(()) => Ok(Done::Nothing),
            Err(Refused::NotLeader { .. }) => Err(Error::NotLeader),
            Err(refused) => Err(Error::Refused(refused.to_string())),
        };
        self.reply(ticket, result);
    }

    /// The voter with the most log, of those the leader hears of. One that just began promises silence for a while, and
    /// comes before those only that lack much of the log.
    fn successor(&self, now: Now, followers: &[Follower]) -> Option<MemberId> {
        let last = self.node.last_index().0;
        let is_near = |follower: &Follower| follower.acknowledged.0 + CAUGHT_UP >= last;
        let began = |follower: &Follower| self.group.met_at.get(&follower.id).copied().unwrap_or_default();
        let is_free = |follower: &Follower| now.mono - began(follower) > self.node.promise();
        let able = followers.iter().filter(|follower| is_able(follower));
        able.max_by_key(|f| (is_near(f), is_free(f), f.acknowledged)).map(|follower| follower.id)
    }

    /// Another master is to lead by its priority: it gets the lead when it has been there, caught up, for a while.
    pub(super) fn prefer(&mut self, now: Now) {
        let own = self.shared.config.group.as_ref().map_or(0, |group| group.priority);
        let priority = |follower: &Follower| self.group.met.get(&follower.id).map_or(0, |said| said.priority);
        let last = self.node.last_index().0;
        let followers = self.node.followers().into_iter().filter(is_able);
        let better = followers.filter(|f| priority(f) > own && f.acknowledged.0 + CAUGHT_UP >= last);
        let Some(best) = better.max_by_key(|follower| (priority(follower), follower.acknowledged)) else {
            self.group.preferred = None;
            return;
        };
        if now.mono - *self.group.preferred.get_or_insert(now.mono) < PREFERS_AFTER {
            return;
        }
        self.group.preferred = None;
        match self.node.transfer_leadership(best.id) {
            Ok(()) => tracing::info!(to = %best.id, "hands the lead over to a master of higher priority"),
            Err(why) => tracing::debug!(to = %best.id, %why, "the lead cannot be handed over yet"),
        }
    }

    pub(super) fn short_of_room(&mut self, short: bool) {
        if self.group.short_of_room == short || self.is_alone() {
            return;
        }
        self.group.short_of_room = short;
        if short {
            tracing::warn!(
                "the disk of the journal has no room for its next file: this master does not want to lead, and stops when the present file is full; free space"
            );
        } else {
            self.group.made_way = None;
            tracing::info!("the disk of the journal has room again");
        }
    }

    /// A leader whose disk is full has another member lead, while the file at hand still takes what that needs.
    pub(super) fn make_way(&mut self, now: Now) {
        let asked_lately = self.group.made_way.is_some_and(|at| now.mono - at < MAKES_WAY_EVERY);
        if !self.group.short_of_room || asked_lately {
            return;
        }
        let Some(to) = self.successor(now, &self.node.followers()) else { return };
        self.group.made_way = Some(now.mono);
        match self.node.transfer_leadership(to) {
            Ok(()) => tracing::warn!(%to, "hands the lead over: the disk of the journal has no room for its next file"),
            Err(why) => tracing::debug!(%to, %why, "the lead cannot be handed over yet"),
        }
    }

    /// For a member that cannot go on: if it leads, it asks another one to, once, and says what brings that about. Nothing is
    /// written or applied any more, and what waits for this disk stays unsaid. None: it does not lead, or nobody else could.
    pub fn leave(&mut self, asked: bool) -> Option<Vec<(Outgoing, LogIndex)>> {
        if self.is_alone() || self.node.role() != Role::Leader {
            return None;
        }
        if !asked {
            self.node.transfer_leadership(self.shared.group().successor?).ok()?;
        }
        let output = self.node.drain().ok()?;
        let everywhere = self.group.everywhere;
        Some(output.messages.into_iter().map(|message| (message, everywhere)).collect())
    }

    /// Proposes a change of the members for somebody who waits for it.
    pub(super) fn change_members(&mut self, ticket: Ticket, change: &Change) {
        let number = self.next_proposal;
        match self.node.propose_change(number, change) {
            Ok(()) => {
                self.next_proposal += 1;
                self.group.changes.insert(number, ticket);
            }
            Err(Refused::NotLeader { .. } | Refused::Transferring) => self.reply(ticket, Err(Error::NotLeader)),
            Err(refused) => self.reply(ticket, Err(Error::Refused(refused.to_string()))),
        }
    }

    pub(super) fn change_dropped(&mut self, number: u64) {
        if let Some(ticket) = self.group.changes.remove(&number) {
            self.reply(ticket, Err(Error::NotLeader));
        }
    }

    /// A change is committed.
    pub(super) fn members_changed(&mut self, number: Option<u64>, members: &Membership) {
        if let Some(ticket) = number.and_then(|number| self.group.changes.remove(&number)) {
            self.reply(ticket, Ok(Done::Nothing));
        }
        if *self.group.members == *members {
            return;
        }
        tracing::info!(voters = ?members.voters().collect::<Vec<_>>(), learners = ?members.learners().collect::<Vec<_>>(), "the members of the group changed");
        self.group.members = Arc::new(members.clone());
        self.actions.push(Action::Members(self.group.members.clone()));
        let own = self.node.id();
        if members.was_removed(own) {
            self.group.fatal = Some(format!(
                "{own}, this master, was removed from the group; to take it in again format it with `goosefs formatMaster --force --join`"
            ));
        }
    }

    /// After a forced recovery, once: whoever replays the log finds the group reduced where it was, and no id given out twice.
    pub(super) fn recover_once(&mut self, now: Now) {
        if !std::mem::take(&mut self.config.recover) {
            return;
        }
        let reduce = Change::Reduce(self.node.id());
        if let Err(why) = self.node.propose_change(self.next_proposal, &reduce) {
            self.group.fatal = Some(format!(
                "the recovery cannot be written to the log: {why}; start it again with --recover-from-quorum-loss"
            ));
            return;
        }
        self.next_proposal += 1;
        let after = self.namespace.counters().incarnation;
        tracing::warn!(member = %self.node.id(), %after, "RECOVERED FROM A LOST QUORUM: this master goes on alone, as a new incarnation");
        self.task(now, Origin::Incarnation, Op::BeginIncarnation(BeginIncarnation { after }));
        // Ahead of everything: ids given out before it may be those that lost masters gave out.
        self.queue.rotate_right(1);
    }

    /// Once every member can apply newer rules, an entry has all of them do so from the same point on.
    pub(super) fn raise_rules(&mut self, now: Now) {
        let (own, in_force) = (self.node.id(), self.namespace.counters().rules);
        let known =
            |id| if id == own { RULES_VERSION } else { self.group.met.get(&id).map_or(in_force, |said| said.rules) };
        let version = self.group.members.iter().map(|(id, _)| known(id)).min().map_or(0, |all| all.min(RULES_VERSION));
        let is_asked = self.group.raising.is_some_and(|at| now.mono - at < self.config.task_timeout);
        if version <= in_force || is_asked || self.namespace.cluster().is_none() {
            return;
        }
        self.group.raising = Some(now.mono);
        tracing::info!(version, in_force, "every master can apply newer rules: raising them");
        self.task(now, Origin::Housekeeping, Op::RaiseRules(RaiseRules { version }));
    }

    /// What the leader does about learners: who has caught up is promoted, after the one it replaces was removed.
    pub(super) fn tick_members(&mut self) {
        if self.group.members.learners().next().is_none() {
            return;
        }
        let last = self.node.last_index();
        let caught_up = |id: MemberId| {
            let followers = self.node.followers();
            let follower = followers.iter().find(|follower| follower.id == id);
            follower.is_some_and(|f| {
                let reached = f.acknowledged.0 > 0 && f.acknowledged.0 + CAUGHT_UP >= last.0;
                reached && f.active && !f.needs_snapshot
            })
        };
        let Some(learner) = self.group.members.learners().find(|id| caught_up(*id)) else { return };
        let replaced = self.group.members.seat(learner).and_then(|seat| seat.replaces);
        let change = match replaced.filter(|old| self.group.members.seat(*old).is_some()) {
            Some(old) => Change::Remove(old),
            None => Change::Promote(learner),
        };
        // What is refused now is looked at again with the next tick.
        if self.node.propose_change(self.next_proposal, &change).is_ok() {
            self.next_proposal += 1;
        }
    }

    /// Flushes for somebody who asked; a flush under way began before.
    pub(super) fn checkpoint(&mut self, ticket: Ticket) {
        let [now, next] = &mut self.group.checkpoints;
        if self.flushing {
            next.push(ticket);
        } else {
            now.push(ticket);
            self.flush();
        }
    }

    /// A flush is done: tells who waited for it, and begins the next one if somebody waits for that.
    pub(super) fn checkpointed(&mut self) {
        let [now, next] = &mut self.group.checkpoints;
        let done = std::mem::replace(now, std::mem::take(next));
        let again = !now.is_empty();
        for ticket in done {
            self.reply(ticket, Ok(Done::Nothing));
        }
        if again {
            self.flush();
        }
    }
}
