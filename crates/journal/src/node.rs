//! One member of the consensus group, without IO.
//!
//! Is:     events in ([`Node::tick`], [`Node::propose`], [`Node::step`], [`Node::persisted`] …), work out
//!         ([`Node::drain`]); raft-rs inside.
//! Owns:   role, term, vote, lease, what waits for a commit.
//! Never:  reads a clock, a file (but through the [`LogReader`] it was given) or a random source; starts a thread.
//!
//! The same calls with the same arguments give the same outputs, byte for byte.

mod config;
mod lease;
mod logger;
mod output;
mod pipeline;
mod reads;
mod tail;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{Boot, MAX_VOTERS, NodeConfig};
pub use output::{Committed, Follower, Outgoing, Output, Refused, Role, RoleChange, SnapshotMark, SnapshotOffer};

use crate::membership::Step;
use crate::{BatchSeq, Change, Error, LogEntry, LogReader, MemberId, Membership, Recovered};
use bytes::Bytes;
use config::{Dice, MAX_INFLIGHT_MESSAGES, MAX_MESSAGE_BYTES};
use lease::Lease;
use pipeline::Pipeline;
use raft::eraftpb::{ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType};
use raft::{CAMPAIGN_TRANSFER, ProgressState, RawNode, Ready, SnapshotStatus, StateRole};
use reads::Reads;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tail::Tail;
use types::{LogIndex, Monotonic, Term};

/// A member that was offered a snapshot and is not heard of beyond it after this long is offered one again.
const OFFER_AGAIN: Duration = Duration::from_secs(2);
/// So long the log is kept from where an offered snapshot ends: its member goes on from there, however much is written
/// while the snapshot travels.
const KEPT_FOR_OFFER: Duration = Duration::from_secs(600);
/// Terms and indexes are below, so that adding to them cannot overflow.
const MAX_NUMBER: u64 = 1 << 62;
/// What raft-rs calls no member at all.
const NO_MEMBER: u64 = 0;

/// A member. Drive it from one thread: give it events, then [`Node::drain`] and carry out what it says, in this order:
/// hand `append` to the writer, send `messages`, apply `committed`. Repeat while [`Output::more`].
///
/// Invariants: at most one batch is outstanding; `applied <= committed`; a lease is held only by a leader whose first
/// own entry was applied; proposals wait in index order.
pub struct Node {
    config: NodeConfig,
    raft: RawNode<Tail>,
    /// The latest clock reading seen. Never later than now.
    now: Monotonic,
    began: Monotonic,
    ticks: u32,
    /// No vote and no campaign before this, because an earlier run of this member may have promised it.
    quarantine_until: Monotonic,
    /// No vote and no campaign before this, because a leader's heartbeat was answered.
    promise_until: Monotonic,
    dice: Dice,
    election_timeout: usize,
    election_timeout_for: (u64, StateRole),
    lease: Lease,
    /// When members said something last.
    heard: BTreeMap<MemberId, Monotonic>,
    pipeline: Pipeline,
    /// Proposals of this term, oldest first, and their payload bytes.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// The last of them, which raft-rs has not seen yet: they go to each follower in one message.
    gathered: Vec<Entry>,
    /// What raft-rs did not take.
    dropped: Vec<u64>,
    reads: Reads,
    messages: Vec<Outgoing>,
    role: RoleChange,
    /// As a leader: to whom snapshots were offered, and when.
    offered: BTreeMap<u64, Monotonic>,
    /// As a leader: where the first snapshot ends that was offered to a member which has not come that far, and when.
    kept: BTreeMap<u64, (LogIndex, Monotonic)>,
    /// As a follower: what was offered last.
    offer: Option<SnapshotOffer>,
    /// What this member had committed when it began, until a leader was told.
    unannounced: Option<LogIndex>,
    applied: LogIndex,
}

/// A proposal that waits for its commit.
struct Pending {
    index: u64,
    term: u64,
    ticket: u64,
    bytes: usize,
}

impl Node {
    /// A member that continues what `recovered` holds.
    ///
    /// - `reader`: reads the same log; asked for entries that are no longer in memory.
    /// - Errors: `Config`; `AppliedBelowLog`, `AppliedBeyondLog` when store and log do not fit together.
    /// - A group of one is a leader after the first [`Node::drain`] and [`Node::persisted`]; in a larger group a member
    ///   with a past stays silent for one maximum lease.
    pub fn new(
        config: NodeConfig,
        recovered: Recovered,
        reader: Arc<dyn LogReader>,
        boot: Boot,
    ) -> Result<Node, Error> {
        config.check()?;
        check_fits(&recovered, boot.applied)?;
        // A change that is not applied yet may have given somebody else a vote, and this member promises to him.
        let settled = recovered.changes.iter().all(|change| *change <= boot.applied);
        let alone = settled && is_sole_voter(&config);
        let newborn = recovered.hard_state.term == Term(0);
        let quarantine = if alone || newborn { Duration::ZERO } else { config.promise() };
        let mut dice = Dice(boot.seed);
        let pipeline = Pipeline::new(recovered.last());
        let tail = Tail::new(&config, recovered, reader, boot.applied);
        let raft = RawNode::new(&raft_config(&config, boot.applied), tail, &logger::logger(config.id))
            .map_err(|refused| Error::Config { what: refused.to_string() })?;
        let (election_timeout, election_timeout_for) =
            (config.draw_timeout(&mut dice), (raft.raft.term, raft.raft.state));
        let mut node = Node {
            now: boot.now,
            began: boot.now,
            ticks: 0,
            quarantine_until: boot.now + quarantine,
            promise_until: boot.now,
            dice,
            election_timeout,
            election_timeout_for,
            lease: Lease::default(),
            heard: BTreeMap::new(),
            pipeline,
            pending: VecDeque::new(),
            pending_bytes: 0,
            gathered: Vec::new(),
            dropped: Vec::new(),
            reads: Reads::default(),
            messages: Vec::new(),
            role: RoleChange { role: Role::Follower, term: Term(raft.raft.term), leader: None },
            offered: BTreeMap::new(),
            kept: BTreeMap::new(),
            offer: None,
            unannounced: Some(LogIndex(raft.raft.raft_log.committed)).filter(|committed| committed.0 > 0),
            applied: boot.applied,
            config,
            raft,
        };
        node.after_raft();
        if alone {
            node.raft.campaign().expect("a group of one elects its member");
            node.after_raft();
        }
        Ok(node)
    }

    // --- events -------------------------------------------------------------------------------------------------

    /// Lets time pass. Counts whole ticks since the start, so it may be called at any rhythm and never runs ahead of the
    /// clock; after a long pause the missed ticks are capped at one election timeout.
    pub fn tick(&mut self, now: Monotonic) {
        self.now = self.now.max(now);
        let passed = (self.now - self.began).as_nanos() / self.config.tick.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let missed = passed.saturating_sub(self.ticks).min(self.config.election_ticks);
        self.ticks = passed;
        self.give_up_offers();
        for _ in 0..missed {
            if self.may_tick() {
                self.raft.tick();
                self.leave_after_failed_transfer();
                self.after_raft();
            }
        }
    }

    /// Offers an entry; `ticket` comes back with its commit, or in [`Output::dropped`]. What is proposed
    /// between two drains goes to each follower in one message. Costs three copies of the payload.
    pub fn propose(&mut self, ticket: u64, payload: &Bytes) -> Result<(), Refused> {
        if self.raft.raft.state != StateRole::Leader {
            return Err(Refused::NotLeader { leader: self.leader() });
        }
        if self.raft.raft.lead_transferee.is_some() {
            return Err(Refused::Transferring);
        }
        if payload.is_empty() {
            return Err(Refused::Empty);
        }
        if payload.len() > self.config.max_entry_bytes {
            return Err(Refused::TooBig { bytes: payload.len(), max_bytes: self.config.max_entry_bytes });
        }
        let full = self.pending.len() >= self.config.max_pending_entries
            || self.pending_bytes + payload.len() > self.config.max_pending_bytes;
        if full {
            return Err(Refused::Full { entries: self.pending.len(), bytes: self.pending_bytes });
        }
        let index = self.raft.raft.raft_log.last_index() + self.gathered.len() as u64 + 1;
        self.gathered.push(Entry { data: payload.to_vec(), ..Entry::default() });
        self.pending.push_back(Pending { index, term: self.raft.raft.term, ticket, bytes: payload.len() });
        self.pending_bytes += payload.len();
        Ok(())
    }

    /// Gives raft-rs what was proposed since the last time.
    fn propose_gathered(&mut self) {
        let entries = std::mem::take(&mut self.gathered);
        let Some(first) = self.pending.len().checked_sub(entries.len()).filter(|_| !entries.is_empty()) else { return };
        let leads = self.raft.raft.state == StateRole::Leader && self.raft.raft.term == self.pending[first].term;
        let mut message = Message { from: self.raft.raft.id, entries, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        if !leads || self.raft.raft.step(message).is_err() {
            for lost in self.pending.drain(first..) {
                self.pending_bytes -= lost.bytes;
                self.dropped.push(lost.ticket);
            }
        }
    }

    /// Offers a change of the members; `ticket` comes back as with [`Node::propose`]. One at a time, and not before this
    /// leader has applied what earlier ones left. It is looked at again when it is committed, and may then change nothing.
    pub fn propose_change(&mut self, ticket: u64, change: &Change) -> Result<(), Refused> {
        if self.raft.raft.state != StateRole::Leader {
            return Err(Refused::NotLeader { leader: self.leader() });
        }
        if self.raft.raft.lead_transferee.is_some() {
            return Err(Refused::Transferring);
        }
        if let Some(why) = self.config.members.objection(change) {
            return Err(Refused::Objection { why });
        }
        if *change == Change::Remove(self.config.id) {
            let why = format!("{} leads and cannot remove itself: hand the lead over first", self.config.id);
            return Err(Refused::Objection { why });
        }
        // Before an entry of its own term a leader may not know of an earlier change that is committed already.
        let established = self.established().is_some_and(|index| index <= self.applied);
        if !established || self.raft.raft.has_pending_conf() {
            return Err(Refused::Changing);
        }
        self.propose_gathered();
        let payload = change.encode();
        let bytes = payload.len();
        // What it means is looked at when it is committed; for raft-rs it is one of its kind until then.
        let for_raft = ConfChange::default();
        if self.raft.propose_conf_change(payload, for_raft).is_err() {
            return Err(Refused::NotLeader { leader: None });
        }
        let (index, term) = (self.raft.raft.raft_log.last_index(), self.raft.raft.term);
        self.pending.push_back(Pending { index, term, ticket, bytes });
        self.pending_bytes += bytes;
        Ok(())
    }

    /// Asks from which index on a state holds everything acknowledged before this call; the answer comes in
    /// [`Output::reads`], or the ticket in [`Output::dropped_reads`]. All that wait share one round of heartbeats.
    pub fn read_index(&mut self, ticket: u64) -> Result<(), Refused> {
        if self.raft.raft.state != StateRole::Leader {
            return Err(Refused::NotLeader { leader: self.leader() });
        }
        self.reads.push(ticket)
    }

    /// Takes a message from another member. `now` must be read after it arrived: promises are counted from it.
    /// Errors: `BadMessage` (nothing changed), `LostEntries` (the member must stop).
    pub fn step(&mut self, now: Monotonic, message: &[u8]) -> Result<(), Error> {
        self.now = self.now.max(now);
        let mut message = wire::decode(message)?;
        self.check_sender(&message)?;
        self.check_sense(&message)?;
        let from = MemberId(message.from);
        if self.config.members.seat(from).is_some() {
            self.heard.insert(from, self.now);
        }
        match message.get_msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote if !self.may_vote(&message) => return Ok(()),
            MessageType::MsgTimeoutNow if self.now < self.quarantine_until => return Ok(()),
            MessageType::MsgHeartbeat => self.heed(&message)?,
            MessageType::MsgHeartbeatResponse => self.count_beat(&mut message)?,
            // One of a later term says no more than that there is such a term, and must be heard.
            MessageType::MsgAppendResponse if message.term > self.raft.raft.term => {}
            MessageType::MsgAppendResponse if self.is_stale_rejection(&message) => return Ok(()),
            MessageType::MsgAppendResponse if self.is_below_the_log(&message) => return Ok(()),
            MessageType::MsgSnapshot if self.take_offer(&message) => return Ok(()),
            _ => {}
        }
        let from = message.from;
        // raft-rs answers what it cannot use (a stale or unknown sender) with an error that changes nothing.
        let _unused = self.raft.step(message);
        self.after_raft();
        self.announce(from);
        Ok(())
    }

    /// The batch is safe on disk: releases the messages that waited for it, and may commit.
    pub fn persisted(&mut self, seq: BatchSeq) {
        let done = self.pipeline.finish(seq);
        self.raft.mut_store().persisted_to(done.last_index);
        self.raft.on_persist_ready(done.last_ready);
        self.messages.extend(done.messages);
        self.after_raft();
    }

    /// The state machine has applied everything up to `index`. Must not go back, nor ahead of what was handed out.
    pub fn advance_applied(&mut self, index: LogIndex) {
        assert!(index >= self.applied && index <= self.committed(), "applied {index}, committed {}", self.committed());
        self.applied = index;
        self.raft.advance_apply_to(index.0);
        self.after_raft();
    }

    /// Records the last snapshot of the state machine. The log may be cut below it, see [`Node::compact`].
    pub fn set_snapshot(&mut self, mark: SnapshotMark) {
        assert!(mark.index <= self.applied, "a snapshot at {} of a state at {}", mark.index, self.applied);
        self.raft.mut_store().set_snapshot(mark);
    }

    /// Gives up entries that neither a restart nor a snapshot needs any more: those at or below both `flushed` (the
    /// applied index that is safe in the store) and the last snapshot. What other members lack is kept as well, up to
    /// `retained_entries`, and what follows on a snapshot that is on its way to one. Returns what to purge the log below, if it moved.
    ///
    /// - `everywhere`: up to here every other member's log is known to reach, whoever leads.
    pub fn compact(&mut self, flushed: LogIndex, everywhere: LogIndex) -> Option<LogIndex> {
        let raft = &self.raft.raft;
        let others = raft.prs().iter().filter(|(id, _)| raft.state == StateRole::Leader && **id != raft.id);
        let acknowledged = others.map(|(_, progress)| progress.matched).min().unwrap_or(u64::MAX);
        let for_others =
            acknowledged.min(everywhere.0).max(self.applied.0.saturating_sub(self.config.retained_entries));
        let snapshot = self.raft.store().snapshot_mark()?;
        let (now, leads) = (self.now, raft.state == StateRole::Leader);
        self.kept.retain(|id, (end, since)| {
            let arrived = raft.prs().get(*id).is_none_or(|progress| progress.matched >= end.0);
            leads && !arrived && now - *since < KEPT_FOR_OFFER
        });
        let for_offers = self.kept.values().map(|(end, _)| end.0).min().unwrap_or(u64::MAX);
        let keep_from = flushed.min(snapshot.index).min(self.applied).0.min(for_others).min(for_offers) + 1;
        self.raft.mut_store().drop_below(keep_from).then_some(LogIndex(keep_from))
    }

    /// Asks `to` to take over as soon as it has the whole log. This leader holds no lease for the rest of its term.
    pub fn transfer_leadership(&mut self, to: MemberId) -> Result<(), Refused> {
        if self.raft.raft.state != StateRole::Leader {
            return Err(Refused::NotLeader { leader: self.leader() });
        }
        if to == self.config.id || !self.config.members.is_voter(to) {
            return Err(Refused::NotAMember { member: to });
        }
        self.propose_gathered();
        self.lease.give_up();
        self.raft.transfer_leader(to.0);
        self.after_raft();
        Ok(())
    }

    /// The transport could not deliver to `to`: probe it instead of streaming.
    pub fn unreachable(&mut self, to: MemberId) {
        self.raft.report_unreachable(to.0);
    }

    // --- questions ----------------------------------------------------------------------------------------------

    /// The other members, by id, while this member leads; nobody else knows.
    pub fn followers(&self) -> Vec<Follower> {
        let raft = &self.raft.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        // raft-rs forgets who was active at each look whether there is a quorum.
        let lately = self.config.tick * self.config.election_ticks;
        let heard = |id| self.heard.get(&id).is_some_and(|at| self.now - *at < lately);
        let others = raft.prs().iter().filter(|(id, _)| **id != raft.id);
        let mut followers: Vec<Follower> = others
            .map(|(id, progress)| Follower {
                id: MemberId(*id),
                acknowledged: LogIndex(progress.matched),
                active: heard(MemberId(*id)),
                voter: self.config.members.is_voter(MemberId(*id)),
                needs_snapshot: progress.state == ProgressState::Snapshot,
            })
            .collect();
        followers.sort_by_key(|follower| follower.id);
        followers
    }

    /// Up to which index the disks of all members hold the log, this one's too, as their leader knows.
    pub fn everywhere(&self) -> Option<LogIndex> {
        let raft = &self.raft.raft;
        let matched = raft.prs().iter().map(|(_, progress)| progress.matched).min();
        matched.filter(|_| raft.state == StateRole::Leader).map(LogIndex)
    }

    /// Whether this member may answer a linearisable read from its applied state without asking anybody. Call it with
    /// the time read *after* the state was read.
    pub fn lease_valid(&self, now: Monotonic) -> bool {
        let established = self.established().is_some_and(|index| index <= self.applied);
        established && (is_sole_voter(&self.config) || self.lease.holds(now, self.config.lease))
    }

    /// Until when [`Node::lease_valid`] holds as far as is known now: for readers on other threads. None: it does not.
    pub fn lease_until(&self) -> Option<Monotonic> {
        let established = self.established().is_some_and(|index| index <= self.applied);
        match (established, is_sole_voter(&self.config)) {
            (false, _) => None,
            (true, true) => Some(Monotonic(std::time::Duration::MAX)),
            (true, false) => self.lease.until(self.config.lease),
        }
    }

    /// Index of the first entry of this leader's own term, once it is committed: from its application on, the leader may
    /// stamp ids. None for others.
    pub fn established(&self) -> Option<LogIndex> {
        let leads = self.raft.raft.state == StateRole::Leader && self.lease.term() == self.raft.raft.term;
        self.lease.first_index().filter(|&first| leads && first <= self.raft.raft.raft_log.committed).map(LogIndex)
    }

    /// Whether the group has no other member: nobody else waits for what this member writes.
    pub fn is_alone(&self) -> bool {
        is_sole_voter(&self.config) && self.config.members.iter().count() == 1
    }

    /// Proposals that wait for their commit.
    pub fn uncommitted(&self) -> usize {
        self.pending.len()
    }

    /// Who the members are, as of the last entry handed out.
    pub fn members(&self) -> &Membership {
        &self.config.members
    }

    /// The term of an entry that is in the log, or of the last one that was cut off.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        raft::Storage::term(self.raft.store(), index.0).ok().map(Term)
    }

    pub fn id(&self) -> MemberId {
        self.config.id
    }
    /// How long a member that began, or that answered its leader, gives nobody else its vote.
    pub fn promise(&self) -> Duration {
        self.config.promise()
    }

    pub fn role(&self) -> Role {
        output::role_of(self.raft.raft.state)
    }
    /// Who leads this term, as far as this member knows.
    pub fn leader(&self) -> Option<MemberId> {
        output::member(self.raft.raft.leader_id)
    }
    pub fn term(&self) -> Term {
        Term(self.raft.raft.term)
    }
    /// Highest index known committed.
    pub fn committed(&self) -> LogIndex {
        LogIndex(self.raft.raft.raft_log.committed)
    }
    /// Highest index in the log, stored or not.
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.raft.raft.raft_log.last_index())
    }
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    // --- work out -----------------------------------------------------------------------------------------------

    /// Everything there is to do now. Bounded: committed entries come in portions of `max_committed_bytes`.
    /// Errors: the log could not be read; the member must stop.
    pub fn drain(&mut self) -> Result<Output, Error> {
        let mut out = Output::default();
        self.propose_gathered();
        self.start_reads();
        if self.raft.has_ready() {
            let ready = self.raft.ready();
            self.handle(ready, &mut out)?;
        }
        if let Some(failure) = self.raft.store().take_failure() {
            return Err(failure);
        }
        self.drop_what_was_lost(&mut out);
        let hard_state = self.raft.raft.hard_state();
        out.append = self.pipeline.start(&hard_state);
        out.messages = std::mem::take(&mut self.messages);
        out.snapshots_wanted = self.raft.store().take_snapshots_wanted();
        out.snapshot_offered = self.offer.take();
        out.role = self.role_change();
        out.more = self.raft.has_ready();
        Ok(out)
    }

    fn handle(&mut self, mut ready: Ready, out: &mut Output) -> Result<(), Error> {
        for state in ready.take_read_states() {
            self.reads.answered(&state.request_ctx, state.index, &mut out.reads);
        }
        for entry in ready.take_committed_entries() {
            out.committed.push(self.commit(entry)?);
        }
        let now_messages = self.outgoing(ready.take_messages());
        self.messages.extend(now_messages);
        let later_messages = self.outgoing(ready.take_persisted_messages());
        let entries: Vec<LogEntry> = ready.take_entries().into_iter().map(tail::from_raft).collect();
        self.raft.mut_store().append(&entries);
        let (number, must_sync) = (ready.number(), ready.must_sync());
        self.raft.advance_append_async(ready);
        let released = self.pipeline.add(number, must_sync, entries, later_messages);
        if out.committed.iter().any(|committed| committed.members.is_some()) {
            self.pipeline.note_commit(number);
        }
        if let Some(messages) = released {
            // Nothing to write and nothing on its way: it counts as persisted at once, in order.
            self.raft.on_persist_ready(number);
            self.messages.extend(messages);
        }
        self.after_raft();
        Ok(())
    }

    fn commit(&mut self, entry: Entry) -> Result<Committed, Error> {
        let waited = self.pending.front().is_some_and(|next| (next.index, next.term) == (entry.index, entry.term));
        let ticket = if waited { self.pending.pop_front() } else { None };
        self.pending_bytes -= ticket.as_ref().map_or(0, |pending| pending.bytes);
        let (index, term, ticket) = (LogIndex(entry.index), Term(entry.term), ticket.map(|pending| pending.ticket));
        Ok(match entry.get_entry_type() {
            EntryType::EntryNormal => Committed { index, term, ticket, payload: entry.data.into(), members: None },
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                let members = self.change_members(&Change::decode(&entry.context)?);
                Committed { index, term, ticket, payload: Bytes::new(), members: Some(members) }
            }
        })
    }

    /// A change is committed: it counts from here on. Every member finds the same objections.
    fn change_members(&mut self, change: &Change) -> Membership {
        for step in self.config.members.apply(change) {
            self.raft.apply_conf_change(&conf_change(step)).expect("one step without objections");
            self.after_raft();
        }
        self.offered.retain(|id, _| self.config.members.seat(MemberId(*id)).is_some());
        // Its removal was proposed by an earlier leader. raft-rs panics where a leader is no member.
        let raft = &mut self.raft.raft;
        if raft.state == StateRole::Leader && self.config.members.seat(self.config.id).is_none() {
            raft.become_follower(raft.term, NO_MEMBER);
            self.after_raft();
        }
        self.config.members.clone()
    }

    /// Encodes messages; heartbeats get a number, so that their answers extend the lease.
    fn outgoing(&mut self, messages: Vec<Message>) -> Vec<Outgoing> {
        let mut beat = None;
        let encode = |mut message: Message| {
            if message.get_msg_type() == MessageType::MsgHeartbeat {
                let beat = *beat.get_or_insert_with(|| self.lease.send_beat(self.now));
                lease::stamp(&mut message, beat);
            }
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.offered.insert(message.to, self.now);
                let end = LogIndex(message.get_snapshot().get_metadata().index);
                self.kept.entry(message.to).or_insert((end, self.now));
            }
            Outgoing { to: MemberId(message.to), bytes: wire::encode(&message) }
        };
        messages.into_iter().map(encode).collect()
    }

    /// Proposals and reads of a term this member does not lead any more.
    fn drop_what_was_lost(&mut self, out: &mut Output) {
        out.dropped.append(&mut self.dropped);
        let led = (self.raft.raft.state == StateRole::Leader).then_some(self.raft.raft.term);
        while self.pending.front().is_some_and(|pending| Some(pending.term) != led) {
            let lost = self.pending.pop_front().expect("it was just looked at");
            self.pending_bytes -= lost.bytes;
            out.dropped.push(lost.ticket);
        }
        self.reads.keep_only(led, &mut out.dropped_reads);
    }

    fn role_change(&mut self) -> Option<RoleChange> {
        let role = RoleChange { role: self.role(), term: self.term(), leader: self.leader() };
        (role != self.role).then(|| {
            self.role = role;
            role
        })
    }

    fn start_reads(&mut self) {
        let raft = &self.raft.raft;
        if raft.state == StateRole::Leader
            && raft.commit_to_current_term()
            && let Some(round) = self.reads.start(raft.term)
        {
            self.raft.read_index(round);
        }
    }

    // --- rules of our own ---------------------------------------------------------------------------------------

    /// Called after every call into raft-rs that may change role or term: seeded timeouts instead of its random ones,
    /// and a fresh lease for a fresh leadership.
    fn after_raft(&mut self) {
        let now = (self.raft.raft.term, self.raft.raft.state);
        if now != self.election_timeout_for {
            self.election_timeout_for = now;
            self.election_timeout = self.config.draw_timeout(&mut self.dice);
        }
        self.raft.raft.set_randomized_election_timeout(self.election_timeout);
        if self.raft.raft.state == StateRole::Leader && self.lease.term() != self.raft.raft.term {
            self.lease.begin(self.raft.raft.term, self.raft.raft.raft_log.last_index());
        }
    }

    /// Whoever gave its lease up for a transfer that came to nothing holds none for the rest of its term, and what needs
    /// one would wait for ever: it makes room for a new term.
    fn leave_after_failed_transfer(&mut self) {
        let raft = &mut self.raft.raft;
        let gave_up = self.lease.is_given_up() && self.lease.term() == raft.term;
        if raft.state == StateRole::Leader && gave_up && raft.lead_transferee.is_none() {
            raft.become_follower(raft.term, NO_MEMBER);
        }
    }

    /// A tick that would start a campaign is withheld while a promise stands or a write is outstanding.
    fn may_tick(&self) -> bool {
        let raft = &self.raft.raft;
        let campaigns = raft.state != StateRole::Leader && raft.election_elapsed + 1 >= self.election_timeout;
        let held = self.now < self.quarantine_until || self.now < self.promise_until || !self.pipeline.is_idle();
        !(campaigns && held)
    }

    /// The promise behind the lease: no vote for one maximum lease after a heartbeat was answered or the member began,
    /// whatever term has come since. Only a campaign that the leader itself asked for, having given up its lease, passes.
    fn may_vote(&self, message: &Message) -> bool {
        let asked_for_by_the_leader =
            message.get_msg_type() == MessageType::MsgRequestVote && message.context == CAMPAIGN_TRANSFER;
        self.now >= self.quarantine_until && (asked_for_by_the_leader || self.now >= self.promise_until)
    }

    /// A heartbeat: promises its leader one maximum lease, and shows whether this disk has lost what it acknowledged.
    fn heed(&mut self, message: &Message) -> Result<(), Error> {
        if message.term < self.raft.raft.term {
            return Ok(());
        }
        let last = self.raft.raft.raft_log.last_index();
        if message.commit > last {
            let (leader, claimed) = (MemberId(message.from), LogIndex(message.commit));
            return Err(Error::LostEntries { leader, claimed, last: LogIndex(last) });
        }
        self.promise_until = self.promise_until.max(self.now + self.config.promise());
        Ok(())
    }

    /// An answer to a heartbeat: extends the lease once a quorum has answered it or a later one.
    fn count_beat(&mut self, message: &mut Message) -> Result<(), Error> {
        let beat = lease::unstamp(message)?;
        let raft = &self.raft.raft;
        if raft.state == StateRole::Leader && message.term == raft.term && self.lease.term() == raft.term {
            let own = self.config.id.0;
            self.lease.answered(message.from, beat, |members| {
                raft.prs().has_quorum(&members.iter().copied().chain([own]).collect())
            });
        }
        Ok(())
    }

    /// A rejection that contradicts what the follower has acknowledged since was delayed on its way. raft-rs would probe
    /// from there, and never get further where the log has been purged.
    fn is_stale_rejection(&self, message: &Message) -> bool {
        let matched = self.raft.raft.prs().get(message.from).map_or(0, |progress| progress.matched);
        message.reject && message.request_snapshot == 0 && (message.index <= matched || message.reject_hint < matched)
    }

    /// A member that says it reaches to below this leader's log may have more than it knows to be committed. raft-rs would go
    /// on from there, and so take it for one that needs a snapshot; the next probe is rejected with what it really has.
    fn is_below_the_log(&self, message: &Message) -> bool {
        !message.reject && message.index + 1 < self.raft.raft.raft_log.first_index()
    }

    /// A snapshot of what this member has in its log, or knows committed, is raft-rs' to answer, with how far this member is.
    /// Any other is for the driver to fetch.
    fn take_offer(&mut self, message: &Message) -> bool {
        let mark = message.get_snapshot().get_metadata();
        let log = &self.raft.raft.raft_log;
        if message.term < self.raft.raft.term || mark.index <= log.committed || log.match_term(mark.index, mark.term) {
            return false;
        }
        let mark = SnapshotMark { index: LogIndex(mark.index), term: Term(mark.term) };
        self.offer = Some(SnapshotOffer { from: MemberId(message.from), mark });
        true
    }

    /// The first that is heard of a leader: it is told how far this member has come by whatever way, a snapshot perhaps,
    /// and need not find out by asking.
    fn announce(&mut self, from: u64) {
        let raft = &self.raft.raft;
        if raft.leader_id == from
            && raft.id != from
            && let Some(committed) = self.unannounced.take()
        {
            let mut answer =
                Message { to: from, from: raft.id, term: raft.term, index: committed.0, ..Message::default() };
            answer.set_msg_type(MessageType::MsgAppendResponse);
            answer.commit = committed.0;
            self.messages.push(Outgoing { to: MemberId(from), bytes: wire::encode(&answer) });
        }
    }

    /// Offers that were not answered for long: raft-rs probes again, and offers again if that is what it takes.
    fn give_up_offers(&mut self) {
        while let Some((to, _)) = self.offered.iter().find(|(_, at)| self.now - **at >= OFFER_AGAIN) {
            let to = *to;
            self.offered.remove(&to);
            self.raft.report_snapshot(to, SnapshotStatus::Failure);
            self.after_raft();
        }
    }

    fn check_sender(&self, message: &Message) -> Result<(), Error> {
        let from = MemberId(message.from);
        // Who is not known yet may be newer than what this member knows; who is known no more was removed.
        if message.to != self.config.id.0 || from == self.config.id || self.config.members.was_removed(from) {
            let why = format!("it goes from {from} to {}, this is {}", MemberId(message.to), self.config.id);
            return Err(Error::BadMessage { why });
        }
        Ok(())
    }

    /// Refuses what no member in its senses says, and raft-rs panics at or believes.
    fn check_sense(&self, message: &Message) -> Result<(), Error> {
        let log = &self.raft.raft.raft_log;
        let mark = message.get_snapshot().get_metadata();
        let numbers = [message.term, message.log_term, message.index, message.commit, message.commit_term];
        let more = [message.reject_hint, message.request_snapshot, mark.index, mark.term];
        let terms = || std::iter::once(message.log_term).chain(message.entries.iter().map(|entry| entry.term));
        let why = if numbers.into_iter().chain(more).any(|number| number > MAX_NUMBER) {
            "it holds a number beyond all terms and indexes"
        } else if message.request_snapshot != 0 {
            "it asks for a snapshot, which members of this release do not"
        } else if !terms().is_sorted() || terms().any(|term| term > message.term) {
            "its entries are of terms that cannot follow each other"
        } else if message.get_msg_type() == MessageType::MsgAppend && (message.index == 0) != (message.log_term == 0) {
            // raft-rs takes 0 for the term of an entry that it does not have.
            "its entries follow on one without a term"
        } else if message.get_msg_type() == MessageType::MsgAppendResponse
            && !message.reject
            && message.term == self.raft.raft.term
            && message.index > log.last_index()
        {
            "it acknowledges entries that there are not"
        } else if message.get_msg_type() == MessageType::MsgSnapshot
            && mark.index == log.committed
            && !log.match_term(mark.index, mark.term)
        {
            "its snapshot is of another history"
        } else {
            return Ok(());
        };
        Err(Error::BadMessage { why: why.to_owned() })
    }

    /// Panics where an invariant of the type does not hold.
    pub fn check_invariants(&self) {
        let raft = &self.raft.raft;
        assert!(self.applied.0 <= raft.raft_log.committed);
        assert!(raft.raft_log.committed <= raft.raft_log.last_index());
        assert!(self.pending.iter().zip(self.pending.iter().skip(1)).all(|(a, b)| a.index < b.index));
        assert_eq!(self.pending_bytes, self.pending.iter().map(|pending| pending.bytes).sum::<usize>());
        self.raft.store().check_invariants();
        self.config.members.check_invariants();
        let conf = raft.prs().conf().to_conf_state();
        let voters = conf.voters.iter().copied().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(voters, self.config.members.voters().map(|id| id.0).collect(), "raft-rs knows the same voters");
    }
}

fn is_sole_voter(config: &NodeConfig) -> bool {
    config.members.voters().eq([config.id])
}

/// A step as raft-rs knows it.
fn conf_change(step: Step) -> ConfChange {
    let (kind, id) = match step {
        Step::Learner(id) => (ConfChangeType::AddLearnerNode, id),
        Step::Voter(id) => (ConfChangeType::AddNode, id),
        Step::Gone(id) => (ConfChangeType::RemoveNode, id),
    };
    let mut change = ConfChange { node_id: id.0, ..ConfChange::default() };
    change.set_change_type(kind);
    change
}

/// The store and the log must overlap: every entry the store lacks is in the log, none it has is missing at the end.
fn check_fits(recovered: &Recovered, applied: LogIndex) -> Result<(), Error> {
    let (first, last) = (recovered.first(), recovered.last());
    if applied.0 + 1 < first.0 {
        return Err(Error::AppliedBelowLog { applied, first });
    }
    if applied > last {
        return Err(Error::AppliedBeyondLog { applied, last });
    }
    Ok(())
}

fn raft_config(config: &NodeConfig, applied: LogIndex) -> raft::Config {
    let ticks = |ticks: u32| usize::try_from(ticks).expect("u32 fits usize");
    raft::Config {
        id: config.id.0,
        election_tick: ticks(config.election_ticks),
        heartbeat_tick: ticks(config.heartbeat_ticks),
        max_election_tick: ticks(config.max_election_ticks()),
        applied: applied.0,
        max_size_per_msg: MAX_MESSAGE_BYTES,
        max_inflight_msgs: MAX_INFLIGHT_MESSAGES,
        max_committed_size_per_ready: u64::try_from(config.max_committed_bytes).expect("usize is at most 64 bits"),
        check_quorum: true,
        pre_vote: true,
        // It merges entries into an empty append whose previous index is another: committed entries change places.
        batch_append: false,
        // What is committed rides with the next append or heartbeat: nobody waits for a follower to apply it.
        skip_bcast_commit: true,
        ..raft::Config::default()
    }
}
