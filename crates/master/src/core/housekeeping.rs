//! The leader's slow duties: collecting what deletes detached, forgetting old outcomes, expiring files nobody writes,
//! and flushing the database so that the log can be cut.

use super::{Core, Now, Origin};
use meta::{Collect, Done, ExpireIncomplete, ForgetOperations, Op, Reject};
use std::collections::BTreeSet;
use std::time::Duration;
use types::{InodeId, LogIndex, Monotonic};

/// Inodes freed by one collection entry.
const COLLECT_STEP: u32 = 500;
/// Collections proposed at once.
const COLLECTING: usize = 4;
/// Remembered outcomes dropped by one entry, and incomplete files looked at in one round.
const FORGET_STEP: u32 = 1_000;
const EXPIRE_STEP: usize = 1_000;
/// Detached directories held in memory, and found by one look.
const WAITING: usize = 100_000;
const SCAN: usize = 1_000;
/// Between rounds of forgetting and expiring.
const ROUND: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Housekeeping {
    waiting: BTreeSet<InodeId>,
    collecting: BTreeSet<InodeId>,
    last_round: Option<Monotonic>,
    rescan: bool,
}

impl Housekeeping {
    pub fn collect(&mut self, inode: InodeId) {
        self.collecting.remove(&inode);
        self.waiting.insert(inode);
    }
    pub fn collected(&mut self, inode: InodeId, outcome: &Result<Done, Reject>) {
        self.collecting.remove(&inode);
        if let Ok(Done::Collected { more: true, .. }) = outcome {
            self.waiting.insert(inode);
        }
    }
    /// A new leadership: look at what is detached.
    pub fn resume(&mut self) {
        self.collecting.clear();
        self.rescan = true;
    }
}

impl Core {
    pub(super) fn tick_housekeeping(&mut self, now: Now) {
        if std::mem::take(&mut self.housekeeping.rescan) {
            self.find_detached();
        }
        while self.housekeeping.collecting.len() < COLLECTING {
            let Some(directory) = self.housekeeping.waiting.pop_first() else { break };
            self.housekeeping.collecting.insert(directory);
            let op = Op::Collect(Collect { directory, limit: COLLECT_STEP });
            self.task(now, Origin::Collect(directory), op);
        }
        if self.housekeeping.last_round.is_none_or(|last| now.mono - last >= ROUND) {
            self.housekeeping.last_round = Some(now.mono);
            self.forget_and_expire(now);
        }
        let behind = self.shared.applied().0.saturating_sub(self.shared.state.store().flushed().0);
        if behind >= self.config.checkpoint_entries {
            self.flush();
        }
    }

    /// Takes up what earlier leaders detached, some at a time.
    fn find_detached(&mut self) {
        let mut after = None;
        while self.housekeeping.waiting.len() < WAITING {
            let Ok(found) = meta::detached(&self.shared.state.latest(), after, SCAN) else { return };
            after = found.last().copied();
            let full = found.len() == SCAN;
            self.housekeeping.waiting.extend(found);
            if !full {
                return;
            }
        }
        self.housekeeping.rescan = true;
    }

    fn forget_and_expire(&mut self, now: Now) {
        let age = self.stamper.age(now);
        let before =
            |kept: Duration| types::AgeMs(age.0.saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)));
        let forget = before(self.config.operation_retention);
        if meta::oldest_operation(&self.shared.state.latest())
            .is_ok_and(|oldest| oldest.is_some_and(|age| age < forget))
        {
            let op = Op::ForgetOperations(ForgetOperations { before: forget, limit: FORGET_STEP });
            self.task(now, Origin::Housekeeping, op);
        }
        let expired = before(self.config.incomplete_expiry);
        let Ok(stale) = meta::incomplete_before(&self.shared.state.latest(), expired, None, EXPIRE_STEP) else {
            return;
        };
        for (_, container) in stale {
            // A stream that is still open keeps its file: workers report its blocks.
            if self.shared.streams.lock().is_live(container, now.mono) {
                continue;
            }
            self.task(now, Origin::Housekeeping, Op::ExpireIncomplete(ExpireIncomplete { container }));
        }
    }

    /// How much of the log a restart would replay.
    pub fn tail(&self) -> u64 {
        let LogIndex(applied) = self.shared.applied();
        applied.saturating_sub(self.shared.state.store().flushed().0)
    }
}
