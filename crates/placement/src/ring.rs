//! The ring, and the walk that turns a block into workers.

use crate::hash::position;
use types::{BlockId, WorkerId};

/// Most lookups per block; clients stop there too, so more would find workers they never ask.
pub const MAX_ATTEMPTS: i32 = 100;
/// Points per worker that a client assumes when a worker names no number.
pub const VIRTUAL_NODES: u32 = 5000;

/// One worker on the ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Keys the hash: must be stable over restarts.
    pub id: WorkerId,
    /// Two replicas never go to one host. Empty: an unknown host, different from every other.
    pub host: String,
    /// Points on the ring: the worker's weight.
    pub virtual_nodes: u32,
}

/// Workers on a circle of 2⁶⁴ positions.
///
/// Invariants: `points` is sorted by position without repeats, each index names a member; `hosts[i]` is the number of
/// the first member with the same host as member `i`.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    points: Vec<(i64, u32)>,
    ids: Vec<WorkerId>,
    hosts: Vec<u32>,
}

impl Ring {
    /// A ring of `members`. Where two points fall on one position, the later member has it, as at the clients: the
    /// list must come in the order they get it in.
    ///
    /// Cost: `members × virtual_nodes` hashes and a sort of as many points of 16 bytes.
    pub fn new(members: &[Member]) -> Ring {
        let mut points = Vec::new();
        let mut hosts: Vec<u32> = Vec::with_capacity(members.len());
        let mut first_of_host = std::collections::HashMap::new();
        for (number, member) in (0u32..).zip(members) {
            let host = if member.host.is_empty() {
                number
            } else {
                *first_of_host.entry(member.host.as_str()).or_insert(number)
            };
            hosts.push(host);
            let nodes = i32::try_from(member.virtual_nodes).unwrap_or(i32::MAX);
            points.extend((0..nodes).map(|node| (position(member.id.0.cast_signed(), node), number)));
        }
        points.sort_unstable();
        // Of points on one position the last, which is the latest member.
        points.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1;
            }
            same
        });
        Ring { points, ids: members.iter().map(|member| member.id).collect(), hosts }
    }

    /// Workers on the ring.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no worker is on the ring.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Up to `count` distinct workers for `block` on distinct hosts, best first.
    ///
    /// - `failed`: workers to pass over. If all are, the list is empty; ask again with none failed to get the places
    ///   where the block would be, as clients do.
    /// - Returns fewer than `count` when hosts run out or after [`MAX_ATTEMPTS`] lookups. Errors: none.
    /// - Cost: a binary search per attempt, usually about `count` of them. Removing a worker moves only its blocks.
    pub fn candidates(&self, block: BlockId, count: usize, failed: impl Fn(WorkerId) -> bool) -> Vec<WorkerId> {
        self.walk(block.to_wire(), count, failed)
    }

    fn walk(&self, key: i64, count: usize, failed: impl Fn(WorkerId) -> bool) -> Vec<WorkerId> {
        let mut chosen = Vec::with_capacity(count.min(self.ids.len()));
        let mut hosts_taken: Vec<u32> = Vec::with_capacity(chosen.capacity());
        let mut seen = vec![false; self.ids.len()];
        let mut unseen = self.members_with_points();
        for attempt in 0..MAX_ATTEMPTS {
            if chosen.len() == count || unseen == 0 {
                break;
            }
            let Some(number) = self.ceiling(position(key, attempt)) else { break };
            if std::mem::replace(&mut seen[number], true) {
                continue;
            }
            unseen -= 1;
            let (id, host) = (self.ids[number], self.hosts[number]);
            if !failed(id) && !hosts_taken.contains(&host) {
                hosts_taken.push(host);
                chosen.push(id);
            }
        }
        chosen
    }

    /// Bounds the walk: a member without points is never met, but then the attempts end it.
    fn members_with_points(&self) -> usize {
        if self.points.is_empty() { 0 } else { self.ids.len() }
    }

    /// The member at the first point at or after `target`, around the end if need be.
    fn ceiling(&self, target: i64) -> Option<usize> {
        let at = self.points.partition_point(|(point, _)| *point < target);
        let (_, number) = self.points.get(at).or_else(|| self.points.first())?;
        Some(usize::try_from(*number).expect("member numbers index a Vec"))
    }
}

#[cfg(test)]
mod tests;
