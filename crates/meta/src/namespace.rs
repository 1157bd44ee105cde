//! The state machine: entries in, changes and outcomes out.

use crate::audit::{Fault, mend::mend};
use crate::effect::{Applied, Done};
use crate::entry::{BATCH_ITEMS, BATCHES, Batch, Entry, FIRST_RULES, Ids, Op, RULES_VERSION};
use crate::index::Index;
use crate::key::{COUNTERS_KEY, operation_age_of, operation_age_range, operation_key};
use crate::op;
use crate::permission::Caller;
use crate::record::{Counters, Intent, Load, Mount, OperationRecord, WorkerRecord};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::{Changes, Family, Read, StoreError};
use crate::txn::{Txn, fetch};
use crate::walk::settle;
use std::collections::BTreeMap;
use types::{
    AgeMs, ClusterId, ContainerId, ErrorKind, Incarnation, InodeId, IntentId, LogIndex, MountId, OperationId, UnixMs,
    WorkerId,
};

/// What became of a fault.
pub type Mended = Result<(), Reject>;

/// What is kept in memory beside the database: counters, and the small families by key. Everything else is read.
///
/// Invariants: equal to what [`Namespace::open`] makes of the committed records. The open intents of a mount cover
/// disjoint keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    counters: Counters,
    index: Index,
}

impl Namespace {
    /// Rebuilds it from the records. Errors: the database's, or rules newer than this release knows.
    /// Cost: a scan of mounts, intents, loads, workers, and of the persists that wait.
    pub fn open(read: &dyn Read) -> Result<Namespace, StoreError> {
        let counters = fetch(read, Family::State, COUNTERS_KEY)?.unwrap_or(Counters {
            cluster: None,
            incarnation: Incarnation(0),
            rules: FIRST_RULES,
            applied: LogIndex(0),
            wall: UnixMs(0),
            age: AgeMs(0),
            next_inode: InodeId(1),
            next_container: ContainerId(1),
        });
        if counters.rules > RULES_VERSION {
            let what = Reject::Rules(counters.rules, RULES_VERSION).to_string();
            return Err(StoreError { what, kind: ErrorKind::Invalid });
        }
        Ok(Namespace { counters, index: Index::open(read)? })
    }

    /// Applies entries in order, each seeing the earlier ones. `read` is the state before the first; the caller commits
    /// the changes before it applies more. A rejected entry changes nothing but counters.
    ///
    /// - Returns: what to commit, at most one change per key in key order, and one outcome for each entry.
    /// - Errors: the database's. Then this value is of no use any more: the member stops.
    /// - Cost: a few point lookups per name of the paths.
    pub fn apply(
        &mut self,
        read: &dyn Read,
        batch: &[(LogIndex, Entry)],
    ) -> Result<(Changes, Vec<Applied>), StoreError> {
        let mut txn = Txn::new(read);
        let mut outcomes = Vec::with_capacity(batch.len());
        for (at, entry) in batch {
            outcomes.push(self.apply_one(&mut txn, *at, entry)?);
        }
        if !batch.is_empty() {
            txn.put(Family::State, COUNTERS_KEY, &self.counters);
            txn.keep(|_, _, _| Ok::<_, StoreError>(()))?;
        }
        Ok((Changes { applied: self.counters.applied, changes: txn.into_changes() }, outcomes))
    }

    fn apply_one(&mut self, txn: &mut Txn<'_>, at: LogIndex, entry: &Entry) -> Result<Applied, StoreError> {
        assert!(at > self.counters.applied, "entry {at} after {}", self.counters.applied);
        let counters = &mut self.counters;
        counters.applied = at;
        counters.wall = counters.wall.max(entry.wall);
        counters.age = counters.age.max(entry.age);
        let used = u64::from(entry.ids.count);
        if used > 0 {
            counters.next_inode = counters.next_inode.max(InodeId(entry.ids.inode.0 + used));
            counters.next_container = counters.next_container.max(ContainerId(entry.ids.container.0 + used));
        }
        if self.counters.cluster.is_none() && !matches!(entry.op, Op::Format(_)) {
            let unformatted = Reject::Refused("this cluster was not formatted yet".to_owned());
            return Ok(Applied { outcome: Err(unformatted), effects: Vec::new() });
        }
        if let Op::Batch(batch) = &entry.op {
            return self.apply_batch(txn, at, entry, batch);
        }
        let mut ids = entry.ids;
        self.attempt(txn, at, entry, 0, &mut ids, |step| run(step, entry.operation, |step| op::apply(step, &entry.op)))
    }

    /// Each item by itself, as an entry of its own would: it sees what those before it did, and its refusal undoes nothing
    /// but its own.
    fn apply_batch(
        &mut self,
        txn: &mut Txn<'_>,
        at: LogIndex,
        entry: &Entry,
        batch: &Batch,
    ) -> Result<Applied, StoreError> {
        if self.counters.rules < BATCHES {
            let why =
                format!("batches need rules {BATCHES}, {} are in force; ask for one at a time", self.counters.rules);
            return Ok(Applied { outcome: Err(Reject::Refused(why)), effects: Vec::new() });
        }
        if batch.items.len() > BATCH_ITEMS {
            let why = format!("{} items are more than a batch holds ({BATCH_ITEMS})", batch.items.len());
            return Ok(Applied { outcome: Err(Reject::Invalid(why)), effects: Vec::new() });
        }
        let mut ids = entry.ids;
        let (mut outcomes, mut effects) = (Vec::with_capacity(batch.items.len()), Vec::new());
        for (item, number) in batch.items.iter().zip(0..=u16::MAX) {
            let operation = entry.operation.map(|operation| operation.of_item(item.number));
            let work = |step: &mut Step<'_, '_>| run(step, operation, |step| op::apply_item(step, &item.op));
            let applied = self.attempt(txn, at, entry, number, &mut ids, work)?;
            outcomes.push(applied.outcome);
            effects.extend(applied.effects);
        }
        Ok(Applied { outcome: Ok(Done::Batch(outcomes)), effects })
    }

    /// Has `work` make its changes, and keeps them unless it is refused.
    ///
    /// - `ids`: those the entry has left; what was taken is gone, also by what is refused.
    fn attempt(
        &mut self,
        txn: &mut Txn<'_>,
        at: LogIndex,
        entry: &Entry,
        item: u16,
        ids: &mut Ids,
        work: impl FnOnce(&mut Step<'_, '_>) -> Outcome,
    ) -> Result<Applied, StoreError> {
        let counters = &mut self.counters;
        let mut step = Step {
            wall: counters.wall,
            age: counters.age,
            txn: &mut *txn,
            index: &self.index,
            counters,
            at,
            item,
            who: &entry.who,
            operation: None,
            ids: *ids,
            effects: Vec::new(),
            went: None,
        };
        let outcome = settle(work(&mut step))?;
        *ids = step.ids;
        let (effects, went) = (std::mem::take(&mut step.effects), step.went.take());
        match outcome {
            Ok(done) => {
                txn.keep(|family, key, value| self.index.note(family, key, value))?;
                went.into_iter().for_each(|went| self.index.progress.take(went));
                Ok(Applied { outcome: Ok(done), effects })
            }
            Err(reject) => {
                txn.undo();
                Ok(Applied { outcome: Err(reject), effects: Vec::new() })
            }
        }
    }

    /// Repairs what an audit found in records that no log entry will ever change again in another way: those of a master that
    /// is stopped and alone. Each fault is judged once more; one that is over, or cannot be repaired, changes nothing.
    ///
    /// - `read`: the state that this value was opened from; the caller commits the changes before it repairs more.
    /// - `taken`: ids above which nothing was given out, by no entry of the log either.
    /// - Errors: the database's. Cost: as that of an entry each.
    pub fn mend(
        &mut self,
        read: &dyn Read,
        faults: &[Fault],
        taken: (InodeId, ContainerId),
    ) -> Result<(Changes, Vec<Mended>), StoreError> {
        let mut txn = Txn::new(read);
        let who = Caller::system();
        let mut outcomes = Vec::with_capacity(faults.len());
        for fault in faults {
            let counters = &mut self.counters;
            let ids = Ids {
                inode: counters.next_inode.max(InodeId(taken.0.0.saturating_add(1))),
                container: counters.next_container.max(ContainerId(taken.1.0.saturating_add(1))),
                count: 1,
            };
            let mut step = Step {
                wall: counters.wall,
                age: counters.age,
                at: counters.applied,
                txn: &mut txn,
                index: &self.index,
                counters,
                item: 0,
                who: &who,
                operation: None,
                ids,
                effects: Vec::new(),
                went: None,
            };
            let outcome = settle(mend(&mut step, fault))?;
            let took_ids = step.ids.count == 0;
            match outcome {
                Ok(_) => {
                    if took_ids {
                        self.counters.next_inode = InodeId(ids.inode.0 + 1);
                        self.counters.next_container = ContainerId(ids.container.0 + 1);
                    }
                    txn.keep(|family, key, value| self.index.note(family, key, value))?;
                    outcomes.push(Ok(()));
                }
                Err(reject) => {
                    txn.undo();
                    outcomes.push(Err(reject));
                }
            }
        }
        txn.put(Family::State, COUNTERS_KEY, &self.counters);
        txn.keep(|_, _, _| Ok::<_, StoreError>(()))?;
        Ok((Changes { applied: self.counters.applied, changes: txn.into_changes() }, outcomes))
    }

    // ---- looking

    /// Counters and versions after the last entry.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
    /// None before the first [`crate::Format`].
    pub fn cluster(&self) -> Option<ClusterId> {
        self.counters.cluster
    }
    /// Index of the last entry.
    pub fn applied(&self) -> LogIndex {
        self.counters.applied
    }
    /// The open intent on `key`, or on a prefix above it, or, for a directory's key (it ends in `/`, or is empty), on
    /// anything below it. Cost: one lookup per level.
    pub fn covering(&self, mount: MountId, key: &str) -> Option<IntentId> {
        self.index.covering(mount, key)
    }
    pub fn intent(&self, id: IntentId) -> Option<&Intent> {
        self.index.intents.get(&id)
    }
    /// Open intents, oldest first.
    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.index.intents.values()
    }
    pub fn load(&self, directory: InodeId) -> Option<&Load> {
        self.index.loads.get(&directory)
    }
    /// Open load sessions by directory.
    pub fn loads(&self) -> impl Iterator<Item = (InodeId, &Load)> {
        self.index.loads.iter().map(|(directory, load)| (*directory, load))
    }
    /// The age of the oldest remembered outcome. Cost: one look-up.
    pub fn oldest_operation(&self, read: &dyn Read) -> Result<Option<AgeMs>, StoreError> {
        let (start, end) = operation_age_range(AgeMs(u64::MAX));
        let first = read.scan(Family::Operations, &self.index.progress.operations_from(&start), &end, 1)?;
        first.first().map(|(key, _)| Ok(operation_age_of(key)?.0)).transpose()
    }
    pub fn mounts(&self) -> &BTreeMap<MountId, Mount> {
        &self.index.mounts
    }
    pub fn workers(&self) -> &BTreeMap<WorkerId, WorkerRecord> {
        &self.index.workers
    }
}

/// Runs a mutation, unless its operation ran before: then its outcome is told again.
fn run<'s, 'r>(
    step: &mut Step<'s, 'r>,
    operation: Option<OperationId>,
    apply: impl FnOnce(&mut Step<'s, 'r>) -> Outcome,
) -> Outcome {
    step.operation = operation;
    let Some(operation) = operation else { return apply(step) };
    let known: Option<OperationRecord> = fetch(step.txn, Family::Operations, operation_key(operation))?;
    if let Some(known) = known {
        return Ok(known.done());
    }
    let done = apply(step)?;
    if let Some(record) = OperationRecord::of(&done, step.age) {
        step.remember_operation(operation, &record);
    }
    Ok(done)
}

impl OperationRecord {
    /// The outcome this stands for.
    pub fn done(&self) -> Done {
        match (self.pending, self.mount, self.inode) {
            (Some(intent), _, _) => Done::Pending(intent),
            (None, Some(mount), _) => Done::Mount(mount),
            (None, None, Some(inode)) => Done::Inode(inode),
            (None, None, None) => Done::Nothing,
        }
    }

    /// None for outcomes that only the cluster's own entries have, which carry no operation id.
    fn of(done: &Done, age: AgeMs) -> Option<OperationRecord> {
        let record = OperationRecord { inode: None, mount: None, pending: None, age };
        match done {
            Done::Nothing => Some(record),
            Done::Inode(inode) => Some(OperationRecord { inode: Some(*inode), ..record }),
            Done::Mount(mount) => Some(OperationRecord { mount: Some(*mount), ..record }),
            Done::Pending(intent) => Some(OperationRecord { pending: Some(*intent), ..record }),
            Done::Collected { .. } | Done::Load(_) | Done::Worker { .. } | Done::Batch(_) => None,
        }
    }
}
