//! The leader's slow duties: collecting what deletes detached, forgetting old outcomes, expiring files nobody writes,
//! and flushing the database so that the log can be cut.

use super::{Core, Now, Origin};
use meta::{Collect, Done, ExpireIncomplete, ForgetOperations, Op, Reject};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;
use types::{ContainerId, InodeId, LogIndex, Monotonic};

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
/// Chunks of the location table compared with the namespace in one round.
const AUDIT_STEP: usize = 64;
/// Between rounds of forgetting, expiring and comparing.
const ROUND: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Housekeeping {
    waiting: BTreeSet<InodeId>,
    collecting: BTreeSet<InodeId>,
    last_round: Option<Monotonic>,
    rescan: bool,
    /// How far the location table was compared, and what seemed wrong there.
    audited: ContainerId,
    suspects: Vec<ContainerId>,
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
    /// Another master leads: it finds for itself what is left to do.
    pub fn lay_down(&mut self) {
        *self = Housekeeping::default();
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
            self.abort_stale_loads(now);
            self.audit_locations();
        }
    }

    /// Followers, too: what is not flushed is what a restart replays.
    pub(super) fn flush_if_due(&mut self) {
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

    /// Compares the location table with the namespace, some of it in each round. A report that crossed a delete may show
    /// for a moment, until its recorder looks again; what is still there a round later is drift.
    fn audit_locations(&mut self) {
        for container in std::mem::take(&mut self.housekeeping.suspects) {
            if self.is_left_out(container) {
                self.quarantine(container);
                continue;
            }
            let workers =
                if self.is_gone(container) { self.shared.locations.remove_container(container) } else { Vec::new() };
            if !workers.is_empty() {
                tracing::error!(%container, "the location table held a container the namespace does not have; report this");
                self.shared.metrics.location_drift.fetch_add(1, Ordering::Relaxed);
            }
            for worker in workers {
                self.shared.registry.lock().free(worker, container);
            }
        }
        let (containers, is_end) = self.shared.locations.containers(self.housekeeping.audited, AUDIT_STEP);
        let last = containers.last().copied().filter(|_| !is_end);
        self.housekeeping.audited = last.unwrap_or_default();
        self.housekeeping.suspects = containers.into_iter().filter(|container| self.is_gone(*container)).collect();
    }

    /// What was recorded before this master knew that the container was left out.
    fn quarantine(&self, container: ContainerId) {
        let held = self.shared.locations.of(container);
        self.shared.locations.remove_container(container);
        let mut registry = self.shared.registry.lock();
        for (block, worker, bytes) in
            held.into_iter().filter_map(|(index, worker, bytes)| Some((container.block(index)?, worker, bytes)))
        {
            registry.quarantine(worker, block, bytes);
        }
    }

    fn is_left_out(&self, container: ContainerId) -> bool {
        meta::left_out(&self.shared.state.latest()).is_ok_and(|left_out| left_out.holds(container))
    }

    /// Whether a container was given out and belongs to no file any more.
    fn is_gone(&self, container: ContainerId) -> bool {
        container < self.namespace.counters().next_container && !self.shared.state.is_live(container)
    }

    /// How much of the log a restart would replay.
    pub fn tail(&self) -> u64 {
        let LogIndex(applied) = self.shared.applied();
        applied.saturating_sub(self.shared.state.store().flushed().0)
    }
}
