//! Brings cached-only files to the under store: when they are due, an attempt begins, one worker gets the task, and its
//! end comes back as an entry.

use super::{Core, Now, Origin};
use meta::{BeginPersist, Done, FailPersist, Op, Persist, Reject};
use proto::internal::{BlockPlace, PersistTask};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{AgeMs, Attempt, ContainerId, Monotonic, WorkerId};

/// Scheduled persists held in memory; the rest is found by the next scan.
const WINDOW: usize = 100_000;
/// Records looked at in one scan step.
const SCAN: usize = 1_000;
/// Before another try when no worker can take the task, the file's name is held by an operation on the store, or an attempt
/// came to nothing without the store's doing.
pub const RETRY_MS: u64 = 1_000;
/// How long a new leader waits for the end of an upload that an earlier one let complete: its worker may still be there to
/// tell, and two uploads of one file are not to overlap without need.
const GRANTED_WAIT_MS: u64 = 3_000;
/// After which a worker that has not told how an attempt ended is given it again. What it still works on it goes on with;
/// when that is over, its report has been lost.
const AGAIN: Duration = Duration::from_secs(10);

enum Stage {
    Beginning,
    At(Given),
    Ending,
}

/// What a worker was told to do.
struct Given {
    worker: WorkerId,
    task: PersistTask,
    at: Monotonic,
}

struct Run {
    attempt: Attempt,
    stage: Stage,
}

/// Persists this leader works on.
#[derive(Default)]
pub struct Persists {
    /// Scheduled, by due age.
    due: BTreeSet<(AgeMs, ContainerId)>,
    /// Named by an effect, record not read yet.
    named: BTreeSet<ContainerId>,
    runs: BTreeMap<ContainerId, Run>,
    /// The whole family must be looked through.
    rescan: bool,
}

/// Where one worker stands for a task: how many of its blocks it holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PersistPlace {
    pub blocks: usize,
    pub worker: WorkerId,
}

impl Persists {
    /// Scheduled anew, or may run again.
    pub fn due(&mut self, container: ContainerId) {
        self.runs.remove(&container);
        self.named.insert(container);
    }
    /// Workers or duties changed: look at everything again.
    pub fn wake(&mut self) {
        self.rescan = true;
    }
    /// Nothing more is to be done about it here. Who was told to do it, if anybody was.
    fn ended(&mut self, container: ContainerId) -> Option<WorkerId> {
        match self.runs.remove(&container)?.stage {
            Stage::At(given) => Some(given.worker),
            Stage::Beginning | Stage::Ending => None,
        }
    }
    /// Tasks given to this worker will not come back, or are not known to: they end at the next tick.
    pub fn worker_lost(&mut self, worker: WorkerId) {
        for run in self.runs.values_mut() {
            match run.stage {
                Stage::At(Given { worker: at, .. }) if at == worker => run.stage = Stage::Ending,
                Stage::At(_) | Stage::Beginning | Stage::Ending => {}
            }
        }
        self.rescan = true;
    }
}

impl Core {
    pub(super) fn persist_ended(&mut self, container: ContainerId) {
        if let Some(worker) = self.persists.ended(container) {
            self.shared.registry.lock().persisted(worker, container);
        }
    }

    pub(super) fn cancel_persist(&mut self, container: ContainerId) {
        self.shared.pauses.lock().forget(container);
        self.persists.named.remove(&container);
        self.persists.due.retain(|(_, due)| *due != container);
        if let Some(worker) = self.persists.ended(container) {
            self.shared.registry.lock().cancel_persist(worker, container);
        }
    }

    pub(super) fn tick_persists(&mut self, now: Now) {
        self.end_lost_persists(now);
        self.give_persists_again(now);
        if std::mem::take(&mut self.persists.rescan) {
            self.scan_persists(now);
        }
        for container in std::mem::take(&mut self.persists.named) {
            if let Some(record) = self.persist_record(container) {
                self.persists.due.insert((record.due, container));
            }
        }
        let age = self.stamper.age(now);
        while self.persists.runs.len() < self.config.persist_concurrency {
            let Some(&(due, container)) = self.persists.due.first().filter(|(due, _)| *due <= age) else { break };
            self.persists.due.remove(&(due, container));
            let Some(record) = self.persist_record(container) else { continue };
            if self.persists.runs.contains_key(&container) {
                continue;
            }
            self.note_upload(now, container, &record);
            let attempt = Attempt(record.attempt.0 + 1);
            self.persists.runs.insert(container, Run { attempt, stage: Stage::Beginning });
            let op = Op::BeginPersist(BeginPersist { container, attempt });
            self.task(now, Origin::BeginPersist(container), op);
        }
    }

    fn end_lost_persists(&mut self, now: Now) {
        let lost: Vec<(ContainerId, Attempt)> = self
            .persists
            .runs
            .iter()
            .filter(|(_, run)| matches!(run.stage, Stage::Ending))
            .map(|(container, run)| (*container, run.attempt))
            .collect();
        for (container, attempt) in lost {
            self.persists.runs.remove(&container);
            self.fail_persist(now, container, attempt, "the worker that did it was lost, or began anew".to_owned());
        }
    }

    fn give_persists_again(&mut self, now: Now) {
        for run in self.persists.runs.values_mut() {
            let Stage::At(given) = &mut run.stage else { continue };
            if now.mono - given.at >= AGAIN {
                given.at = now.mono;
                self.shared.registry.lock().persist(given.worker, given.task.clone());
            }
        }
    }

    fn scan_persists(&mut self, now: Now) {
        let mut after = None;
        let heard_by = AgeMs(self.stamper.age(now).0 + GRANTED_WAIT_MS);
        while self.persists.due.len() < WINDOW {
            let Ok(page) = meta::persists(&self.shared.state.latest(), after, SCAN) else { return };
            after = page.last().map(|(container, _)| *container);
            let full = page.len() == SCAN;
            for (container, record) in page {
                if !self.persists.runs.contains_key(&container) {
                    let due = if record.granted { record.due.max(heard_by) } else { record.due };
                    self.persists.due.insert((due, container));
                }
            }
            if !full {
                return;
            }
        }
        self.persists.rescan = true;
    }

    fn persist_record(&self, container: ContainerId) -> Option<Persist> {
        meta::persist(&self.shared.state.latest(), container).ok()?
    }

    /// A granted attempt is given up, and nobody knows whether its upload is over.
    fn note_upload(&self, now: Now, container: ContainerId, record: &Persist) {
        if record.granted {
            self.shared.uploads.lock().heard(container, record.mount, &record.key, now.mono);
        }
    }

    fn fail_persist(&mut self, now: Now, container: ContainerId, attempt: Attempt, error: String) {
        if let Some(record) = self.persist_record(container) {
            self.note_upload(now, container, &record);
        }
        let op = Op::FailPersist(FailPersist { container, attempt, retry_after_ms: RETRY_MS, error });
        self.task(now, Origin::Housekeeping, op);
    }

    pub(super) fn persist_begun(&mut self, now: Now, container: ContainerId, outcome: Result<Done, Reject>) {
        let Some(attempt) = self.persists.runs.get(&container).map(|run| run.attempt) else { return };
        if outcome.is_err() {
            // Removed, done, another attempt, or its name is held for now: the record says what comes next, and when there
            // is none, nothing does.
            self.persists.runs.remove(&container);
            if self.persist_record(container).is_some() {
                self.persists.due.insert((AgeMs(self.stamper.age(now).0 + RETRY_MS), container));
            }
            return;
        }
        match self.persist_task(container, attempt) {
            Ok((worker, task)) => {
                self.shared.registry.lock().persist(worker, task.clone());
                if let Some(run) = self.persists.runs.get_mut(&container) {
                    run.stage = Stage::At(Given { worker, task, at: now.mono });
                }
            }
            Err(why) => {
                self.persists.runs.remove(&container);
                self.fail_persist(now, container, attempt, why);
            }
        }
    }

    /// The live worker that holds the most of the file, and what it is to be told.
    fn persist_task(&self, container: ContainerId, attempt: Attempt) -> Result<(WorkerId, PersistTask), String> {
        let status = meta::by_container(&self.shared.state.latest(), container)
            .map_err(|err| err.to_string())?
            .ok_or("the file is gone")?;
        let file = status.spot.inode.file().ok_or("it is a directory")?;
        let record = self.persist_record(container).ok_or("it is no longer to be persisted")?;
        let mut places = self.shared.locations.of(container);
        for (index, workers) in &file.locations {
            places.extend(workers.iter().map(|worker| (u64::from(*index), *worker, 0)));
        }
        let registry = self.shared.registry.lock();
        places.retain(|(_, worker, _)| registry.is_live(*worker));
        places.sort_unstable();
        places.dedup_by_key(|(index, worker, _)| (*index, *worker));
        let blocks = file.length.div_ceil(file.block_bytes);
        let missing = (0..blocks).find(|index| !places.iter().any(|(at, _, _)| at == index));
        if let Some(index) = missing {
            return Err(format!("no live worker holds block {index} of {}", status.spot.path));
        }
        let best = registry
            .list()
            .filter(|worker| worker.state == crate::registry::State::Live)
            .map(|worker| PersistPlace {
                blocks: places.iter().filter(|(_, at, _)| *at == worker.id).count(),
                worker: worker.id,
            })
            .max()
            .ok_or("no worker is live")?;
        let address = |worker: &WorkerId| registry.get(*worker).map(|w| format!("{}:{}", w.host, w.rpc_port));
        let blocks = (0..blocks)
            .filter_map(|index| {
                let block = container.block(index)?;
                let at = places.iter().filter(|(i, _, _)| *i == index);
                let addresses = at.filter_map(|(_, worker, _)| address(worker)).collect();
                Some(BlockPlace { block: block.to_wire().cast_unsigned(), addresses })
            })
            .collect();
        let task = PersistTask {
            container: container.0,
            attempt: attempt.0,
            key: record.key,
            mount: record.mount.0,
            length: file.length,
            block_bytes: file.block_bytes,
            blocks,
            owner: status.spot.inode.owner.clone(),
            group: status.spot.inode.group.clone(),
            mode: u32::from(status.spot.inode.mode.bits()),
        };
        Ok((best.worker, task))
    }
}
