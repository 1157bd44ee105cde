//! The leader's part in forgetting metadata that were not used for a time: it has uses noted in the log, a bit a file and time,
//! and proposes what its walk finds unused, at a bounded rate. Whether that goes each master decides by the records alone.

use super::{Core, Now, Origin};
use meta::{Done, Expire, Inode, NoteUse, Op, Reject, TOLD_CHANGES, UsedSince};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;
use types::{ContainerId, InodeId, Monotonic};

/// Uses noted by one entry.
const NOTED: usize = 4_096;
/// Rest between two such entries, unless as many wait.
const NOTES_EVERY: Duration = Duration::from_secs(1);
/// Inodes that one entry may forget, and entries under way at once.
const STEP: usize = 500;
const EXPIRING: usize = 2;
/// Found unused and not proposed yet; the walk waits while they are so many.
const WAITING: usize = 2_000;
/// A new time of use begins after this part of what may be unused.
const TIMES: u64 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpiryConfig {
    /// What was not used for so long, in age, goes.
    pub unused: Duration,
    /// Inodes forgotten in a second, at most.
    pub per_second: u64,
}

impl ExpiryConfig {
    fn unused_ms(&self) -> u64 {
        u64::try_from(self.unused.as_millis()).unwrap_or(u64::MAX)
    }
}

#[derive(Default)]
pub struct Expiry {
    /// An entry that notes uses is under way.
    noting: bool,
    noted_at: Option<Monotonic>,
    waiting: VecDeque<(InodeId, ContainerId)>,
    /// Of each entry under way, in order, what may go by it.
    expiring: VecDeque<Vec<ContainerId>>,
    /// Inodes that may be proposed now, in thousandths.
    allowance: u128,
    last_tick: Monotonic,
}

impl Core {
    fn expiry(&self) -> Option<ExpiryConfig> {
        self.config.expiry.filter(|_| self.namespace.counters().rules >= TOLD_CHANGES)
    }

    pub(super) fn begin_expiry(&mut self) {
        self.reset_expiry(self.config.expiry.is_some());
    }

    pub(super) fn end_expiry(&mut self) {
        self.reset_expiry(false);
    }

    fn reset_expiry(&mut self, on: bool) {
        self.expiry = Expiry::default();
        self.shared.uses.begin(on);
        self.shared.holds.begin(on);
    }

    pub(super) fn tick_expiry(&mut self, now: Now) {
        let since = now.mono - std::mem::replace(&mut self.expiry.last_tick, now.mono);
        let Some(config) = self.expiry().filter(|_| !self.behind) else { return };
        self.note_uses(now, config);
        let most = u128::from(config.per_second) * 1000;
        let more = u128::from(config.per_second) * since.as_millis();
        self.expiry.allowance = (self.expiry.allowance + more).min(most);
        while self.expiry.expiring.len() < EXPIRING && !self.expiry.waiting.is_empty() {
            let room = usize::try_from(self.expiry.allowance / 1000).unwrap_or(STEP).min(STEP);
            let count = self.expiry.waiting.len().min(room);
            if count == 0 {
                break;
            }
            // What somebody is about to change is in use.
            let holds = &self.shared.holds;
            let going = self.expiry.waiting.drain(..count).filter(|(_, container)| holds.let_go(*container));
            let (inodes, containers): (Vec<InodeId>, Vec<ContainerId>) = going.unzip();
            if inodes.is_empty() {
                continue;
            }
            self.expiry.allowance -= u128::try_from(inodes.len()).expect("a small number") * 1000;
            self.expiry.expiring.push_back(containers);
            self.task(now, Origin::Expire, Op::Expire(Expire { unused_ms: config.unused_ms(), inodes }));
        }
    }

    fn note_uses(&mut self, now: Now, config: ExpiryConfig) {
        if self.expiry.noting {
            return;
        }
        let Ok(uses) = meta::uses(&self.shared.state.latest()) else { return };
        let age = self.stamper.age(now);
        let lasted = |began: types::AgeMs| age.0.saturating_sub(began.0) >= config.unused_ms() / TIMES;
        let begins = uses.times.last().is_none_or(|last| lasted(last.began));
        let is_due =
            self.expiry.noted_at.is_none_or(|at| now.mono - at >= NOTES_EVERY) || self.shared.uses.waiting() >= NOTED;
        if !begins && !is_due {
            return;
        }
        self.expiry.noted_at = Some(now.mono);
        // What was used so far belongs to the time that ends; what comes now is noted again in the new one.
        let containers = self.shared.uses.take(NOTED);
        if begins {
            self.shared.uses.begin_time();
        }
        if begins || !containers.is_empty() {
            self.expiry.noting = true;
            self.task(now, Origin::NoteUse, Op::NoteUse(NoteUse { begins, containers }));
        }
    }

    /// It was applied, or came to nothing: then a file may be thought unused for longer than it was.
    pub(super) fn uses_noted(&mut self) {
        self.expiry.noting = false;
    }

    pub(super) fn expired(&mut self, outcome: &Result<Done, Reject>) {
        // Entries end in the order in which they were proposed.
        let ended = self.expiry.expiring.pop_front().unwrap_or_default();
        self.shared.holds.ended(&ended);
        if let Ok(Done::Collected { freed, .. }) = outcome {
            self.shared.metrics.metadata_expired.fetch_add(u64::from(*freed), Ordering::Relaxed);
        }
    }

    /// What the walk asks of each inode; None: nothing expires now.
    pub(super) fn look_for_unused(&self, now: Now) -> Option<UsedSince> {
        let config = self.expiry()?;
        let uses = meta::uses(&self.shared.state.latest()).ok()?;
        UsedSince::new(&uses, self.stamper.age(now), config.unused_ms())
    }

    /// Whether the walk had better wait for what it found.
    pub(super) fn is_expiry_full(&self) -> bool {
        self.expiry.waiting.len() >= WAITING
    }

    /// The walk comes by an inode.
    pub(super) fn look_at_unused(&mut self, inode: &Inode, used: &mut UsedSince) {
        if !meta::is_as_loaded(inode) || self.shared.uses.has(inode.container) {
            return;
        }
        if let Ok(false) = used.has(&self.shared.state.latest(), inode) {
            self.expiry.waiting.push_back((inode.id, inode.container));
        }
    }
}
