//! Reads that wait for an index, in rounds.
//!
//! Is:     a queue; while one round asks the quorum, new reads wait for the next.
//! Owns:   the tickets.
//! Never:  lets a read join a round that may have begun before it.

use super::Refused;
use types::LogIndex;

/// Reads that may wait.
const MAX_WAITING: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Reads {
    waiting: Vec<u64>,
    round: Option<Round>,
    last_round: u64,
}

struct Round {
    number: u64,
    term: u64,
    tickets: Vec<u64>,
}

impl Reads {
    pub(super) fn push(&mut self, ticket: u64) -> Result<(), Refused> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(Refused::FullOfReads { waiting: self.waiting.len() });
        }
        self.waiting.push(ticket);
        Ok(())
    }

    /// Begins a round for all that wait, unless one is under way; returns what raft-rs is to carry.
    pub(super) fn start(&mut self, term: u64) -> Option<Vec<u8>> {
        if self.waiting.is_empty() || self.round.is_some() {
            return None;
        }
        self.last_round += 1;
        let number = self.last_round;
        self.round = Some(Round { number, term, tickets: std::mem::take(&mut self.waiting) });
        Some(number.to_le_bytes().to_vec())
    }

    /// The quorum has confirmed a round.
    pub(super) fn answered(&mut self, carried: &[u8], index: u64, reads: &mut Vec<(u64, LogIndex)>) {
        if let Some(round) = self.round.take_if(|round| round.number.to_le_bytes() == carried) {
            reads.extend(round.tickets.into_iter().map(|ticket| (ticket, LogIndex(index))));
        }
    }

    /// Gives up everything unless this member still leads; `led` is the term it leads, if any.
    pub(super) fn keep_only(&mut self, led: Option<u64>, dropped: &mut Vec<u64>) {
        if let Some(round) = self.round.take_if(|round| Some(round.term) != led) {
            dropped.extend(round.tickets);
        }
        if led.is_none() {
            dropped.append(&mut self.waiting);
        }
    }
}
