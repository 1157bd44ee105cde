//! What a master does as one of several: messages of the others, what it refuses while another leads, how much of the log
//! it keeps for them.

use super::{Action, Core, Now, Ticket};
use crate::error::Error;
use crate::shared::GroupView;
use bytes::Bytes;
use journal::{MemberId, Outgoing, Refused, Role};
use meta::Done;
use std::collections::BTreeSet;
use types::{LogIndex, Term};

/// What a core remembers about its group.
#[derive(Default)]
pub struct GroupState {
    /// Up to here every member's log is known to reach. It never becomes less true.
    everywhere: LogIndex,
    /// Members that need what no log holds any more, as was logged.
    stranded: BTreeSet<MemberId>,
    /// Who led, and in which term, as was logged.
    leader: (Option<MemberId>, Term),
    /// Why this member must stop.
    fatal: Option<String>,
}

impl GroupState {
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

    pub(super) fn send(&mut self, messages: Vec<Outgoing>, stranded: Vec<MemberId>) {
        for member in stranded {
            if self.group.stranded.insert(member) {
                tracing::error!(%member, "a master lags behind the start of the log and cannot be caught up: this release sends no snapshots; it stays behind");
            }
        }
        if messages.is_empty() {
            return;
        }
        if let Some(acknowledged) = self.node.followers().iter().map(|follower| follower.acknowledged).min() {
            // The leader's own disk may be the slowest: what it has applied is on it.
            self.group.everywhere = self.group.everywhere.max(acknowledged.min(self.node.applied()));
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
                tracing::warn!(member = %follower.id, entries = behind, active = follower.active, "a master is far behind or away: the log is kept for it and grows until it is back");
            }
        }
    }

    /// Tells readers outside who leads.
    pub(super) fn note_group(&mut self) {
        if self.is_alone() {
            return;
        }
        let view = GroupView {
            leader: self.node.leader(),
            term: self.node.term(),
            committed: self.node.committed(),
            followers: self.node.followers(),
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
}
