//! The leader's slow duties: collecting what deletes detached, forgetting old outcomes, expiring files nobody writes,
//! and flushing the database so that the log can be cut.

use super::{Core, Now, Origin};
use meta::{Collect, Done, ExpireIncomplete, ForgetOperations, Op, Reject};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;
use types::{ContainerId, InodeId, LogIndex, Monotonic};

/// Inodes freed by one collection entry: few, so that what is asked meanwhile waits little.
const COLLECT_STEP: u32 = 200;
/// Collections under way at once, begun at a tick: 20,000 inodes a second at most.
const COLLECTING: usize = 2;
/// Remembered outcomes dropped by one entry, one such entry at a tick: 50,000 a second, more than are made. Incomplete files
/// looked at in one round.
const FORGET_STEP: u32 = 1_000;
const EXPIRE_STEP: usize = 1_000;
/// Detached directories held in memory, and found by one look.
const WAITING: usize = 100_000;
const SCAN: usize = 1_000;
/// Chunks of the location table compared with the namespace at one tick: some ten microseconds each, and ten million blocks in
/// about three minutes.
const AUDIT_STEP: usize = 4;
/// Containers that seem wrong in one round at most.
const SUSPECTS: usize = 10_000;
/// Between rounds of forgetting, expiring, and judging what seemed wrong.
const ROUND: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Housekeeping {
    waiting: BTreeSet<InodeId>,
    collecting: BTreeSet<InodeId>,
    last_round: Option<Monotonic>,
    rescan: bool,
    /// There may be outcomes to forget, and an entry that does so is under way.
    has_old: bool,
    forgetting: bool,
    /// The oldest one's age when it was looked for last.
    oldest: Option<types::AgeMs>,
    /// How far the location table was compared, what seemed wrong there in this round, and in the round before.
    audited: ContainerId,
    suspects: Vec<ContainerId>,
    suspected: Vec<ContainerId>,
}

impl Housekeeping {
    pub fn collect(&mut self, inode: InodeId) {
        self.collecting.remove(&inode);
        self.waiting.insert(inode);
    }
    /// Returns how many inodes that freed.
    pub fn collected(&mut self, inode: InodeId, outcome: &Result<Done, Reject>) -> u64 {
        self.collecting.remove(&inode);
        let Ok(Done::Collected { freed, more }) = outcome else { return 0 };
        if *more {
            self.waiting.insert(inode);
        }
        u64::from(*freed)
    }
    pub fn forgot(&mut self) {
        self.forgetting = false;
    }
    /// Another master leads: it finds for itself what is left to do.
    pub fn lay_down(&mut self) {
        *self = Housekeeping::default();
    }
    /// A new leadership: look at what is detached.
    pub fn resume(&mut self) {
        self.collecting.clear();
        self.forgetting = false;
        self.rescan = true;
    }
}

impl Core {
    pub(super) fn tick_housekeeping(&mut self, now: Now) {
        if std::mem::take(&mut self.housekeeping.rescan) {
            self.find_detached();
        }
        while self.housekeeping.collecting.len() < COLLECTING && !self.behind {
            let Some(directory) = self.housekeeping.waiting.pop_first() else { break };
            self.housekeeping.collecting.insert(directory);
            let op = Op::Collect(Collect { directory, limit: COLLECT_STEP });
            self.task(now, Origin::Collect(directory), op);
        }
        if self.housekeeping.last_round.is_none_or(|last| now.mono - last >= ROUND) {
            self.housekeeping.last_round = Some(now.mono);
            self.expire_incomplete(now);
            self.abort_stale_loads(now);
            self.judge_suspects();
            (self.housekeeping.has_old, self.housekeeping.oldest) = (true, None);
        }
        self.forget(now);
        self.audit_locations();
        let detached = self.housekeeping.waiting.len() + self.housekeeping.collecting.len();
        self.shared.metrics.detached.store(u64::try_from(detached).unwrap_or(u64::MAX), Ordering::Relaxed);
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

    /// What is so much older than now.
    fn before(&self, now: Now, kept: Duration) -> types::AgeMs {
        let kept_ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
        types::AgeMs(self.stamper.age(now).0.saturating_sub(kept_ms))
    }

    /// Drops old outcomes, one step after the other while there are any: as fast as they come.
    fn forget(&mut self, now: Now) {
        if !self.housekeeping.has_old || self.housekeeping.forgetting || self.behind {
            return;
        }
        let before = self.before(now, self.config.operation_retention);
        let oldest = self.namespace.oldest_operation(&self.shared.state.latest()).ok().flatten();
        // One that is not decided yet stays, however old: it is looked at again in the next round.
        let is_stuck = oldest == std::mem::replace(&mut self.housekeeping.oldest, oldest);
        self.housekeeping.has_old = oldest.is_some_and(|age| age < before) && !is_stuck;
        if self.housekeeping.has_old {
            self.housekeeping.forgetting = true;
            self.task(now, Origin::Forget, Op::ForgetOperations(ForgetOperations { before, limit: FORGET_STEP }));
        }
    }

    fn expire_incomplete(&mut self, now: Now) {
        let expired = self.before(now, self.config.incomplete_expiry);
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

    /// Compares the location table with the namespace, some of it at each tick. A report that crossed a delete may show for a
    /// moment, until its recorder looks again; what is still there a round later is drift.
    fn audit_locations(&mut self) {
        if self.housekeeping.suspects.len() >= SUSPECTS {
            return;
        }
        let (containers, is_end) = self.shared.locations.containers(self.housekeeping.audited, AUDIT_STEP);
        let last = containers.last().copied().filter(|_| !is_end);
        self.housekeeping.audited = last.unwrap_or_default();
        if is_end {
            self.shared.metrics.location_audits.fetch_add(1, Ordering::Relaxed);
        }
        let gone: Vec<ContainerId> = containers.into_iter().filter(|container| self.is_gone(*container)).collect();
        self.housekeeping.suspects.extend(gone);
    }

    /// What seemed wrong a round ago and still does is taken out and counted.
    fn judge_suspects(&mut self) {
        let next = std::mem::take(&mut self.housekeeping.suspects);
        for container in std::mem::replace(&mut self.housekeeping.suspected, next) {
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
            for (worker, blocks) in workers {
                self.shared.registry.lock().free(worker, container, blocks);
            }
        }
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
