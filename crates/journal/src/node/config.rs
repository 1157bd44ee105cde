//! What a member is told at its start, and the checks on it.

use crate::{Error, MemberId, Membership};
use std::time::Duration;
use types::{LogIndex, Monotonic};

/// Largest group. More voters make commits slower and nothing safer.
pub const MAX_VOTERS: usize = 7;
/// Payload of one append message to a follower. raft-rs' own default of 0 means one entry per message.
pub(super) const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Append messages on their way to one follower.
pub(super) const MAX_INFLIGHT_MESSAGES: usize = 256;
/// Two members' clocks may differ in rate by one part in this many.
const DRIFT_PARTS: u32 = 10;

/// What kind of member to be. All members of a group must be given the same times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    pub id: MemberId,
    /// All members as of the applied index. This one is missing if it has not heard yet that it was added.
    pub members: Membership,
    pub tick: Duration,
    pub heartbeat_ticks: u32,
    /// A follower campaigns after this many ticks without its leader, or half as many again: see `draw_timeout`.
    pub election_ticks: u32,
    /// How long a leader may answer alone since it sent a heartbeat that a quorum has answered.
    pub lease: Duration,
    pub max_entry_bytes: usize,
    /// Proposals not yet committed: more are refused. They bound the size of a batch.
    pub max_pending_entries: usize,
    pub max_pending_bytes: usize,
    /// Committed payload handed out by one drain.
    pub max_committed_bytes: usize,
    /// Persisted entries kept in memory for followers and for apply; older ones are read from the log.
    pub cache_bytes: usize,
    /// Applied entries kept for members that lack them; who lacks more gets a snapshot.
    pub retained_entries: u64,
}

/// What differs from start to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boot {
    /// What the state machine has applied and will not lose.
    pub applied: LogIndex,
    pub now: Monotonic,
    /// From a random source; decides election timeouts.
    pub seed: u64,
}

impl NodeConfig {
    /// A voter of a founding group without addresses, with the times and bounds of production: 100 ms ticks, heartbeats every 200 ms, elections after 2 to
    /// 4 s, a lease of 1.5 s.
    pub fn new(id: MemberId, voters: Vec<MemberId>) -> NodeConfig {
        NodeConfig {
            id,
            members: Membership::founding(voters.into_iter().map(|id| (id, String::new()))),
            tick: Duration::from_millis(100),
            heartbeat_ticks: 2,
            election_ticks: 20,
            lease: Duration::from_millis(1500),
            max_entry_bytes: 4 << 20,
            max_pending_entries: 16 << 10,
            max_pending_bytes: 32 << 20,
            max_committed_bytes: 4 << 20,
            cache_bytes: 32 << 20,
            retained_entries: 500_000,
        }
    }

    /// How long a member that answered a heartbeat neither votes nor campaigns: the longest lease that can rest on the
    /// answer, by the slower of the two clocks.
    pub(super) fn promise(&self) -> Duration {
        self.lease + self.lease / DRIFT_PARTS
    }

    pub(super) fn max_election_ticks(&self) -> u32 {
        2 * self.election_ticks
    }

    /// Ticks without a leader before the next campaign. Each voter has a slot of its own, in order of ids: two that miss
    /// their leader at the same moment do not split the votes. Chance within a slot keeps equal histories apart.
    pub(super) fn draw_timeout(&self, dice: &mut Dice) -> usize {
        let count = |voters: usize| u32::try_from(voters).expect("few members");
        let slot = (self.election_ticks / (2 * count(self.members.voters().count()).max(1))).max(1);
        let rank = count(self.members.voters().filter(|voter| *voter < self.id).count());
        let ticks = self.election_ticks + (rank * slot + dice.below(slot / 2 + 1)).min(self.election_ticks - 1);
        usize::try_from(ticks).expect("u32 fits usize")
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |what: String| Err(Error::Config { what });
        let voters: Vec<MemberId> = self.members.voters().collect();
        if voters.is_empty() || voters.len() > MAX_VOTERS || voters.contains(&MemberId(0)) {
            return refuse(format!("{voters:?} are not 1 to {MAX_VOTERS} members above 0"));
        }
        if self.members.was_removed(self.id) || self.id == MemberId(0) {
            return refuse(format!("{} is not among the members {voters:?}", self.id));
        }
        if self.tick.is_zero() || self.heartbeat_ticks == 0 || self.election_ticks > u32::MAX / 2 {
            return refuse("tick and heartbeat must be above 0, the election timeout below 2^31 ticks".to_owned());
        }
        if self.promise() > self.tick * self.election_ticks.saturating_sub(1) {
            let (lease, ticks, tick) = (self.lease, self.election_ticks, self.tick);
            return refuse(format!(
                "a lease of {lease:?} and a tenth for drift must be shorter than {ticks} - 1 ticks of {tick:?}, \
                 the earliest election"
            ));
        }
        if self.tick * self.heartbeat_ticks * 2 > self.lease {
            let (lease, beat) = (self.lease, self.tick * self.heartbeat_ticks);
            return refuse(format!("a lease of {lease:?} must outlast two heartbeats, one every {beat:?}"));
        }
        if self.max_entry_bytes == 0 || self.max_pending_entries == 0 || self.max_pending_bytes < self.max_entry_bytes {
            let (entry, pending) = (self.max_entry_bytes, self.max_pending_bytes);
            return refuse(format!("pending bytes ({pending}) must hold at least one entry ({entry})"));
        }
        Ok(())
    }
}

/// A small seeded generator (splitmix64).
pub(super) struct Dice(pub u64);

impl Dice {
    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((z ^ (z >> 31)) % u64::from(bound.max(1))).expect("below a u32")
    }
}
