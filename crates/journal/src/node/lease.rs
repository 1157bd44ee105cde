//! The right of a leader to answer alone.
//!
//! Is:     numbers on heartbeats, who answered which, and the sending time of the latest one a quorum has answered.
//! Owns:   nothing but those.
//! Never:  reads a clock; believes raft-rs' own lease, which counts ticks and not time.
//!
//! Why it is safe: a member that receives a heartbeat promises not to vote or campaign for `promise`, which is longer
//! than a lease by the drift of two clocks. It receives it after it was sent. So until `sent + lease` a quorum is bound,
//! and nobody else can be elected. The number travels in the heartbeat's context, which raft-rs echoes in the answer.

use crate::Error;
use raft::eraftpb::Message;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use types::Monotonic;

/// Unanswered heartbeats remembered. Older ones could only give leases that have run out.
const MAX_BEATS: usize = 256;
const STAMP_BYTES: usize = 8;

#[derive(Default)]
pub(super) struct Lease {
    /// The leadership this is about; 0 before the first.
    term: u64,
    first_index: u64,
    given_up: bool,
    /// Counts on over all terms, so that no answer of an earlier one fits.
    last_beat: u64,
    sent: VecDeque<(u64, Monotonic)>,
    answered: BTreeMap<u64, u64>,
    since: Option<Monotonic>,
}

impl Lease {
    /// A new leadership, whose first own entry is at `first_index`.
    pub(super) fn begin(&mut self, term: u64, first_index: u64) {
        *self = Lease { term, first_index, last_beat: self.last_beat, ..Lease::default() };
    }

    pub(super) fn term(&self) -> u64 {
        self.term
    }

    pub(super) fn first_index(&self) -> Option<u64> {
        (self.term != 0).then_some(self.first_index)
    }

    /// No lease for the rest of this term: somebody was asked to campaign, which voters follow despite their promise.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Numbers the heartbeats that are about to be sent. `now` must not be later than their sending.
    pub(super) fn send_beat(&mut self, now: Monotonic) -> u64 {
        self.last_beat += 1;
        self.sent.push_back((self.last_beat, now));
        if self.sent.len() > MAX_BEATS {
            self.sent.pop_front();
        }
        self.last_beat
    }

    /// `member` has answered `beat`. `quorum` says whether these members and the leader are enough.
    pub(super) fn answered(&mut self, member: u64, beat: u64, quorum: impl Fn(&[u64]) -> bool) {
        if beat > self.last_beat {
            return;
        }
        let latest = self.answered.entry(member).or_default();
        *latest = beat.max(*latest);
        let mut beats: Vec<u64> = self.answered.values().copied().collect();
        beats.sort_unstable_by(|a, b| b.cmp(a));
        let has_quorum = |beat: &u64| {
            let members: Vec<u64> =
                self.answered.iter().filter(|(_, known)| *known >= beat).map(|(id, _)| *id).collect();
            quorum(&members)
        };
        let Some(beat) = beats.into_iter().find(has_quorum) else { return };
        while self.sent.front().is_some_and(|&(number, _)| number <= beat) {
            self.since = self.sent.pop_front().map(|(_, sent)| sent);
        }
    }

    pub(super) fn holds(&self, now: Monotonic, lease: Duration) -> bool {
        !self.given_up && self.since.is_some_and(|since| now - since < lease)
    }

    /// When it runs out, if it is held at all.
    pub(super) fn until(&self, lease: Duration) -> Option<Monotonic> {
        self.since.filter(|_| !self.given_up).map(|since| since + lease)
    }
}

/// Puts the number before whatever context raft-rs gave the heartbeat.
pub(super) fn stamp(message: &mut Message, beat: u64) {
    let mut context = beat.to_le_bytes().to_vec();
    context.extend_from_slice(&message.context);
    message.context = context;
}

/// Takes the number off an answer again.
pub(super) fn unstamp(message: &mut Message) -> Result<u64, Error> {
    let (stamp, rest) = message
        .context
        .split_first_chunk::<STAMP_BYTES>()
        .ok_or_else(|| Error::BadMessage { why: "the answer to a heartbeat has no number".to_owned() })?;
    let (beat, rest) = (u64::from_le_bytes(*stamp), rest.to_vec());
    message.context = rest;
    Ok(beat)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    /// A leader of three: one answer is a quorum.
    fn leader() -> Lease {
        let mut lease = Lease::default();
        lease.begin(1, 1);
        lease
    }
    fn one_more(members: &[u64]) -> bool {
        !members.is_empty()
    }

    #[test]
    fn a_lease_counts_from_the_sending_of_the_answered_heartbeat() {
        let mut lease = leader();
        let (first, second) = (lease.send_beat(at(0)), lease.send_beat(at(50)));
        assert!(!lease.holds(at(1), LEASE), "nobody has answered");
        lease.answered(2, first, one_more);
        assert!(lease.holds(at(99), LEASE) && !lease.holds(at(100), LEASE));
        lease.answered(3, second, one_more);
        lease.answered(2, first, one_more);
        assert!(lease.holds(at(149), LEASE) && !lease.holds(at(150), LEASE), "a late answer takes nothing back");
    }

    #[test]
    fn a_quorum_of_five_needs_two_answers_to_the_same_beat_or_later() {
        let mut lease = leader();
        let (first, second) = (lease.send_beat(at(0)), lease.send_beat(at(50)));
        let two = |members: &[u64]| members.len() >= 2;
        lease.answered(2, second, two);
        assert!(!lease.holds(at(60), LEASE));
        lease.answered(3, first, two);
        assert!(lease.holds(at(60), LEASE) && !lease.holds(at(100), LEASE), "only the first beat has two answers");
    }

    #[test]
    fn a_transfer_ends_the_lease_for_the_term_and_a_new_term_starts_without() {
        let mut lease = leader();
        let beat = lease.send_beat(at(0));
        lease.give_up();
        lease.answered(2, beat, one_more);
        assert!(!lease.holds(at(1), LEASE));
        lease.begin(2, 5);
        lease.answered(2, beat, one_more);
        assert!(!lease.holds(at(1), LEASE), "an answer of the old term");
        let beat = lease.send_beat(at(10));
        lease.answered(2, beat + 1, one_more);
        assert!(!lease.holds(at(11), LEASE), "a number never given");
        lease.answered(2, beat, one_more);
        assert!(lease.holds(at(11), LEASE));
    }

    #[test]
    fn a_number_travels_before_the_context() {
        let mut message = Message { context: b"read".to_vec(), ..Message::default() };
        stamp(&mut message, 77);
        assert_eq!(unstamp(&mut message).expect("stamped"), 77);
        assert_eq!(message.context, b"read");
        assert!(unstamp(&mut message).is_err());
    }
}
