//! Plans: which blocks leave a directory, as data. Nothing changes until [`Tiers::apply`].
//!
//! [`Tiers::apply`]: crate::Tiers::apply

use crate::tiers::Tiers;
use types::{BlockId, DirIndex};

/// One step that makes room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// The block leaves the worker.
    Evict { block: BlockId, dir: DirIndex, bytes: u64 },
}

/// What must leave `dir` so that `need_bytes` are free there. Empty when they are already; None when all that may go
/// is not enough. Never names a block that is unpersisted, pinned, being written or being read.
///
/// Cost: one step of the policy's list a move.
pub fn plan(tiers: &Tiers, dir: DirIndex, need_bytes: u64) -> Option<Vec<Move>> {
    let directory = tiers.directory(dir)?;
    let over = directory.used_bytes + directory.reserved_bytes + need_bytes;
    let surplus = over.saturating_sub(directory.spec.capacity_bytes);
    if surplus > directory.evictable_bytes {
        return None;
    }
    Some(oldest(tiers, dir, surplus))
}

/// What should leave now, in the background, so that writers do not wait: a directory above its high watermark goes
/// down to the low one, and `free_ahead_bytes` stay free. Takes what it can get.
pub fn plan_ahead(tiers: &Tiers) -> Vec<Move> {
    let mut moves = Vec::new();
    for directory in tiers.directories().filter(|directory| !directory.is_lost()) {
        let spec = &directory.spec;
        let taken = directory.used_bytes + directory.reserved_bytes;
        let mut allowed = spec.capacity_bytes.saturating_sub(tiers.settings().free_ahead_bytes);
        if taken > spec.watermarks.high.of(spec.capacity_bytes) {
            allowed = allowed.min(spec.watermarks.low.of(spec.capacity_bytes));
        }
        moves.extend(oldest(tiers, spec.index, taken.saturating_sub(allowed)));
    }
    moves
}

/// The first to leave, until `surplus` bytes are covered or nothing is left.
fn oldest(tiers: &Tiers, dir: DirIndex, surplus: u64) -> Vec<Move> {
    let mut moves = Vec::new();
    let mut covered = 0;
    for (block, bytes) in tiers.victims(dir) {
        if covered >= surplus {
            break;
        }
        covered += bytes;
        moves.push(Move::Evict { block, dir, bytes });
    }
    moves
}
