//! What a member wants done, as data.

use crate::{AppendBatch, MemberId, Membership};
use bytes::Bytes;
use raft::StateRole;
use types::{ErrorKind, LogIndex, Term};

/// The work of one drain. Empty parts mean nothing to do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// To be written and synced, then reported by `Node::persisted`. At most one is outstanding.
    pub append: Option<AppendBatch>,
    /// To be sent now; what had to wait for the disk has waited already.
    pub messages: Vec<Outgoing>,
    /// To be applied, in order, without gaps.
    pub committed: Vec<Committed>,
    /// Reads that may be served once the state has applied this index.
    pub reads: Vec<(u64, LogIndex)>,
    /// Proposals this member will not hear of again because it lost the lead. Their outcome is UNKNOWN: the next leader
    /// may still commit them; they are then handed out without a ticket.
    pub dropped: Vec<u64>,
    /// Reads without an answer for the same reason.
    pub dropped_reads: Vec<u64>,
    /// Set when role, term or leader changed since the last drain.
    pub role: Option<RoleChange>,
    /// Members that lag behind the start of the log while this member knows of no snapshot to offer. Repeated while they do.
    pub snapshots_wanted: Vec<MemberId>,
    /// The leader's log does not reach back to this member's: only its snapshot helps. Repeated until it is installed.
    pub snapshot_offered: Option<SnapshotOffer>,
    /// There is more to do at once: drain again after carrying this out.
    pub more: bool,
}

/// A message to another member; its bytes mean something to [`crate::Node::step`] only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    pub to: MemberId,
    pub bytes: Bytes,
}

impl Outgoing {
    /// Whether it carries part of the log; heartbeats, votes and answers must not wait behind such a message.
    pub fn carries_log(&self) -> bool {
        super::wire::carries_log(&self.bytes)
    }
}

/// How far another voter has come, as its leader knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Follower {
    pub id: MemberId,
    /// Its log is known to agree up to here.
    pub acknowledged: LogIndex,
    /// It was heard of within an election timeout.
    pub active: bool,
    pub voter: bool,
    /// It waits for a snapshot, or fetches one.
    pub needs_snapshot: bool,
}

/// An entry that will never change. An empty payload opens a leader's term: nothing to apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    pub index: LogIndex,
    pub term: Term,
    /// The ticket it was proposed with, if by this member in this leadership.
    pub ticket: Option<u64>,
    pub payload: Bytes,
    /// Who the members are from here on, if this entry changed that: to be kept with the state. Its payload is empty.
    pub members: Option<Membership>,
}

/// What a leader has for a member that lags behind the start of its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotOffer {
    pub from: MemberId,
    /// The leader may have a newer one by the time it is asked.
    pub mark: SnapshotMark,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
}

/// Who leads, seen from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleChange {
    pub role: Role,
    pub term: Term,
    pub leader: Option<MemberId>,
}

/// A snapshot of the state machine that exists and is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotMark {
    pub index: LogIndex,
    pub term: Term,
}

/// Why a call was not taken. Nothing happened.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    #[error("this master does not lead; {}", hint(*leader))]
    NotLeader { leader: Option<MemberId> },
    #[error("leadership is being handed over; try again")]
    Transferring,
    #[error("an entry of {bytes} bytes is larger than the {max_bytes} a journal entry may have")]
    TooBig { bytes: usize, max_bytes: usize },
    #[error("an empty entry says nothing")]
    Empty,
    #[error("{entries} entries ({bytes} bytes) wait for the disks already; try again later")]
    Full { entries: usize, bytes: usize },
    #[error("{waiting} reads wait already; try again later")]
    FullOfReads { waiting: usize },
    #[error("{member} is not another voter of this group")]
    NotAMember { member: MemberId },
    #[error("another change of the members is under way; try again")]
    Changing,
    #[error("{why}")]
    Objection { why: String },
}

impl Refused {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Refused::NotLeader { .. } | Refused::Transferring => ErrorKind::Unavailable,
            Refused::Objection { .. } => ErrorKind::Precondition,
            Refused::TooBig { .. } | Refused::Empty | Refused::NotAMember { .. } => ErrorKind::Invalid,
            Refused::Full { .. } | Refused::FullOfReads { .. } | Refused::Changing => ErrorKind::Busy,
        }
    }
}

fn hint(leader: Option<MemberId>) -> String {
    leader.map_or_else(|| "no leader is known yet".to_owned(), |leader| format!("{leader} does"))
}

pub(super) fn role_of(state: StateRole) -> Role {
    match state {
        StateRole::Leader => Role::Leader,
        StateRole::Follower => Role::Follower,
        StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
    }
}

/// raft-rs says 0 for nobody.
pub(super) fn member(id: u64) -> Option<MemberId> {
    (id != 0).then_some(MemberId(id))
}
