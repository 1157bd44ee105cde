//! The state machine: entries in, changes and outcomes out.

use crate::effect::{Applied, Done};
use crate::entry::{Entry, FIRST_RULES, Op, RULES_VERSION};
use crate::index::Index;
use crate::key::{COUNTERS_KEY, operation_age_of, operation_age_range, operation_key};
use crate::op;
use crate::record::{Counters, Intent, Load, Mount, OperationRecord, WorkerRecord};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::{Changes, Family, Read, StoreError};
use crate::txn::{Txn, fetch};
use crate::walk::{Stop, settle};
use std::collections::BTreeMap;
use types::{
    AgeMs, ClusterId, ContainerId, ErrorKind, Incarnation, InodeId, IntentId, LogIndex, MountId, UnixMs, WorkerId,
};

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
        let mut step = Step {
            wall: counters.wall,
            age: counters.age,
            txn: &mut *txn,
            index: &self.index,
            counters,
            at,
            who: &entry.who,
            operation: entry.operation,
            ids: entry.ids,
            effects: Vec::new(),
            went: None,
        };
        let outcome = settle(run(&mut step, &entry.op))?;
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

/// Runs an entry, unless its operation ran before: then its outcome is told again.
fn run(step: &mut Step<'_, '_>, op: &Op) -> Outcome {
    if step.counters.cluster.is_none() && !matches!(op, Op::Format(_)) {
        return Err(Stop::Reject(Reject::Refused("this cluster was not formatted yet".to_owned())));
    }
    let Some(operation) = step.operation else { return op::apply(step, op) };
    let known: Option<OperationRecord> = fetch(step.txn, Family::Operations, operation_key(operation))?;
    if let Some(known) = known {
        return Ok(known.done());
    }
    let done = op::apply(step, op)?;
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
            Done::Collected { .. } | Done::Load(_) | Done::Worker { .. } => None,
        }
    }
}
