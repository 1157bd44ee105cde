//! The workers this master hears from: sessions, liveness, capacity, and the commands that wait for their next heartbeat.
//!
//! Is:     soft state. Ids, epochs and addresses are in the log; everything here is rebuilt by registrations.
//! Never:  reads a clock: time arrives with every call.

use crate::locations::Session;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;
use types::{BlockId, ContainerId, Monotonic, SessionEpoch, WorkerId};

/// Containers a standby notes for one worker: the leader has told it of the older ones long since.
const NOTED: usize = 100_000;
/// Blocks of containers that were left out that are listed for one worker.
const LISTED: usize = 100_000;
/// Containers told to one worker in one heartbeat answer at most.
const COMMANDS_PER_HEARTBEAT: usize = 10_000;

/// One storage directory as a worker reports it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Directory {
    pub tier: u32,
    pub alias: String,
    pub path: String,
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    /// Why it was taken out; empty while it works.
    pub lost: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its block lists are still arriving, or it is known from the log only.
    Expected,
    Live,
    Lost,
}

/// What waits for a worker's next heartbeat.
#[derive(Clone, Default, Debug)]
pub struct Commands {
    pub free: Vec<ContainerId>,
    pub evictable: Vec<ContainerId>,
    pub persist: Vec<proto::internal::PersistTask>,
    pub cancel_persist: Vec<ContainerId>,
}

#[derive(Clone, Debug)]
pub struct Worker {
    pub id: WorkerId,
    pub host: String,
    pub rpc_port: u16,
    pub web_port: u16,
    pub epoch: SessionEpoch,
    pub state: State,
    pub last_contact: Monotonic,
    pub started_unix_ms: i64,
    pub directories: Vec<Directory>,
    pub persist_used_bytes: u64,
    /// Where its blocks are recorded, from its registration until it is lost.
    rows: Option<Session>,
    sequence: u64,
    answered: Commands,
    /// Containers nobody needs any more, each with how many blocks of it the worker is known to hold.
    free: BTreeMap<ContainerId, usize>,
    evictable: BTreeSet<ContainerId>,
    persist: BTreeMap<ContainerId, proto::internal::PersistTask>,
    cancel: BTreeSet<ContainerId>,
    /// Blocks it holds of containers that were left out, with their bytes, as far as they are listed.
    quarantine: BTreeMap<BlockId, u64>,
    /// How many more it reported.
    not_listed: u64,
}

impl Worker {
    /// Blocks of containers that were left out, from `from` on, with their bytes.
    pub fn quarantine(&self, from: ContainerId) -> impl Iterator<Item = (BlockId, u64)> {
        let first = from.block(0).map_or(Bound::Unbounded, Bound::Included);
        self.quarantine.range((first, Bound::Unbounded)).map(|(block, bytes)| (*block, *bytes))
    }
    /// Blocks of containers that were left out that are not listed.
    pub fn not_listed(&self) -> u64 {
        self.not_listed
    }
    pub fn capacity_bytes(&self) -> u64 {
        self.directories.iter().filter(|d| d.lost.is_empty()).map(|d| d.capacity_bytes).sum()
    }
    pub fn used_bytes(&self) -> u64 {
        self.directories.iter().filter(|d| d.lost.is_empty()).map(|d| d.used_bytes).sum()
    }
}

/// What to do with a heartbeat.
#[derive(Debug)]
pub enum Beat {
    /// The session is unknown, over, or lost a heartbeat: the worker must register again.
    Register,
    /// This heartbeat was applied before; answer the same.
    Repeat(Commands),
    /// Apply its deltas, then ask for [`Registry::commands`].
    Apply,
}

#[derive(Default)]
pub struct Registry {
    workers: BTreeMap<WorkerId, Worker>,
}

impl Registry {
    /// A worker the log knows, not heard of yet.
    pub fn expect(&mut self, record: &meta::WorkerRecord) {
        self.workers.entry(record.id).or_insert_with(|| Worker::new(record, Monotonic::default()));
    }

    /// A registration begins that records its blocks under `rows`: older sessions of the id are over. Heartbeats go on
    /// after number `sequence`. Returns where the last one recorded its blocks.
    pub fn begin(
        &mut self,
        record: &meta::WorkerRecord,
        rows: Session,
        sequence: u64,
        now: Monotonic,
    ) -> Option<Session> {
        let mut worker = Worker { rows: Some(rows), sequence, ..Worker::new(record, now) };
        let mut ended = None;
        if let Some(old) = self.workers.remove(&record.id) {
            // Frees are still owed; persist tasks are not: the core gives them out anew.
            worker.free = old.free;
            worker.evictable = old.evictable;
            ended = old.rows;
        }
        self.workers.insert(record.id, worker);
        ended
    }

    /// Where the session in force of `id`, if it is this one, records its blocks.
    pub fn rows(&self, id: WorkerId, epoch: SessionEpoch) -> Option<Session> {
        self.workers.get(&id).filter(|worker| worker.epoch == epoch)?.rows
    }

    /// All its blocks have arrived. False when another registration began meanwhile.
    pub fn finish(&mut self, id: WorkerId, epoch: SessionEpoch, now: Monotonic) -> bool {
        let Some(worker) = self.session(id, epoch) else { return false };
        worker.state = State::Live;
        worker.last_contact = now;
        true
    }

    fn session(&mut self, id: WorkerId, epoch: SessionEpoch) -> Option<&mut Worker> {
        self.workers.get_mut(&id).filter(|worker| worker.epoch == epoch)
    }

    /// Whether `epoch` is the session in force of `id`.
    pub fn is_current(&self, id: WorkerId, epoch: SessionEpoch) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.epoch == epoch)
    }

    /// Whether a live session of `id` exists.
    pub fn is_live(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.state == State::Live)
    }

    pub fn set_use(
        &mut self,
        id: WorkerId,
        epoch: SessionEpoch,
        directories: Vec<Directory>,
        persist_used_bytes: u64,
        started_unix_ms: Option<i64>,
    ) {
        if let Some(worker) = self.session(id, epoch) {
            worker.directories = directories;
            worker.persist_used_bytes = persist_used_bytes;
            worker.started_unix_ms = started_unix_ms.unwrap_or(worker.started_unix_ms);
        }
    }

    /// Judges a heartbeat by its session and number.
    pub fn beat(&mut self, id: WorkerId, epoch: SessionEpoch, sequence: u64, now: Monotonic) -> Beat {
        let Some(worker) = self.session(id, epoch) else { return Beat::Register };
        match worker.state {
            State::Expected | State::Lost => return Beat::Register,
            State::Live => {}
        }
        if sequence == worker.sequence && sequence > 0 {
            worker.last_contact = now;
            return Beat::Repeat(worker.answered.clone());
        }
        if sequence != worker.sequence + 1 {
            return Beat::Register;
        }
        worker.sequence = sequence;
        worker.last_contact = now;
        Beat::Apply
    }

    /// Takes what waits for this worker, bounded, and remembers it in case the answer is lost.
    pub fn commands(&mut self, id: WorkerId, epoch: SessionEpoch) -> Commands {
        let Some(worker) = self.session(id, epoch) else { return Commands::default() };
        let commands = Commands {
            free: take(|| worker.free.pop_first().map(|(container, _)| container)),
            evictable: take(|| worker.evictable.pop_first()),
            persist: std::mem::take(&mut worker.persist).into_values().collect(),
            cancel_persist: take(|| worker.cancel.pop_first()),
        };
        worker.answered = commands.clone();
        commands
    }

    /// The worker dropped a block: when it holds no other one of the container, nobody needs to tell it anything of that. A
    /// standby's notes shrink by this.
    ///
    /// - `is_last`: whether it was the last one in the table of locations, which has none of a container that is gone.
    pub fn dropped(&mut self, id: WorkerId, container: ContainerId, is_last: bool) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Entry::Occupied(mut noted) = worker.free.entry(container) {
            *noted.get_mut() -= 1;
            if *noted.get() == 0 {
                noted.remove();
            }
        }
        if is_last {
            worker.evictable.remove(&container);
        }
    }

    /// Keeps what a standby notes within bounds: ids only grow, so the lowest are the oldest.
    pub fn trim(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        while worker.free.len() > NOTED {
            worker.free.pop_first();
        }
        while worker.evictable.len() > NOTED {
            worker.evictable.pop_first();
        }
    }

    /// Nobody needs a container any more, of which the worker holds so many blocks, one at least.
    pub fn free(&mut self, id: WorkerId, container: ContainerId, blocks: usize) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.evictable.remove(&container);
            *worker.free.entry(container).or_default() += blocks.max(1);
        }
    }

    /// It holds a block of a container that was left out: nobody's to free, nobody's to read.
    pub fn quarantine(&mut self, id: WorkerId, block: BlockId, bytes: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.quarantine.len() < LISTED || worker.quarantine.contains_key(&block) {
            worker.quarantine.insert(block, bytes);
        } else {
            worker.not_listed += 1;
        }
    }

    /// A block is not there any more.
    pub fn removed(&mut self, id: WorkerId, block: BlockId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.quarantine.remove(&block);
        }
    }

    pub fn evictable(&mut self, id: WorkerId, container: ContainerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.evictable.insert(container);
        }
    }

    pub fn persist(&mut self, id: WorkerId, task: proto::internal::PersistTask) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.persist.insert(ContainerId(task.container), task);
        }
    }

    /// Nobody needs to be told of it any more.
    pub fn persisted(&mut self, id: WorkerId, container: ContainerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.persist.remove(&container);
        }
    }

    pub fn cancel_persist(&mut self, id: WorkerId, container: ContainerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.persist.remove(&container);
            worker.cancel.insert(container);
        }
    }

    /// Marks workers silent for `timeout` as lost and returns them, with where their blocks are recorded.
    pub fn expire(&mut self, now: Monotonic, timeout: Duration) -> Vec<(WorkerId, Option<Session>)> {
        let mut lost = Vec::new();
        for worker in self.workers.values_mut() {
            if worker.state == State::Live && now - worker.last_contact > timeout {
                worker.state = State::Lost;
                lost.push((worker.id, worker.rows.take()));
            }
        }
        lost
    }

    /// All workers, by id.
    pub fn list(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    pub fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// (capacity, used) bytes of what live workers have in each tier, by its alias.
    pub fn tiers(&self) -> BTreeMap<String, (u64, u64)> {
        let mut tiers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let live = self.workers.values().filter(|worker| worker.state == State::Live);
        for directory in live.flat_map(|worker| &worker.directories).filter(|directory| directory.lost.is_empty()) {
            let tier = tiers.entry(directory.alias.clone()).or_default();
            tier.0 += directory.capacity_bytes;
            tier.1 += directory.used_bytes;
        }
        tiers
    }

    pub fn live(&self) -> usize {
        self.workers.values().filter(|worker| worker.state == State::Live).count()
    }

    pub fn lost(&self) -> usize {
        self.workers.values().filter(|worker| worker.state == State::Lost).count()
    }

    /// Workers the log knows that have not registered yet.
    pub fn expected(&self) -> usize {
        self.workers.values().filter(|worker| worker.state == State::Expected).count()
    }
}

/// What one answer takes of a list.
fn take(next: impl FnMut() -> Option<ContainerId>) -> Vec<ContainerId> {
    std::iter::from_fn(next).take(COMMANDS_PER_HEARTBEAT).collect()
}

impl Worker {
    fn new(record: &meta::WorkerRecord, now: Monotonic) -> Worker {
        Worker {
            id: record.id,
            host: record.host.clone(),
            rpc_port: record.rpc_port,
            web_port: record.web_port,
            epoch: record.epoch,
            state: State::Expected,
            last_contact: now,
            started_unix_ms: 0,
            directories: Vec::new(),
            persist_used_bytes: 0,
            rows: None,
            sequence: 0,
            answered: Commands::default(),
            free: BTreeMap::new(),
            evictable: BTreeSet::new(),
            persist: BTreeMap::new(),
            cancel: BTreeSet::new(),
            quarantine: BTreeMap::new(),
            not_listed: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locations::Locations;

    fn record(epoch: u64) -> meta::WorkerRecord {
        meta::WorkerRecord {
            id: WorkerId(7),
            host: "w".into(),
            rpc_port: 9203,
            web_port: 9204,
            epoch: SessionEpoch(epoch),
            identity: 1,
        }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    #[test]
    fn a_repeated_heartbeat_gets_the_same_answer_and_a_skipped_one_registers_again() {
        let (mut registry, rows) = (Registry::default(), Locations::default().open(WorkerId(7)));
        registry.begin(&record(1), rows, 0, at(0));
        assert!(matches!(registry.beat(WorkerId(7), SessionEpoch(1), 1, at(1)), Beat::Register), "not finished yet");
        assert!(registry.finish(WorkerId(7), SessionEpoch(1), at(1)));
        registry.free(WorkerId(7), ContainerId(3), 1);
        assert!(matches!(registry.beat(WorkerId(7), SessionEpoch(1), 1, at(2)), Beat::Apply));
        assert_eq!(registry.commands(WorkerId(7), SessionEpoch(1)).free, [ContainerId(3)]);
        let Beat::Repeat(again) = registry.beat(WorkerId(7), SessionEpoch(1), 1, at(3)) else { panic!("a repeat") };
        assert_eq!(again.free, [ContainerId(3)]);
        assert!(matches!(registry.beat(WorkerId(7), SessionEpoch(1), 3, at(4)), Beat::Register));
        assert!(matches!(registry.beat(WorkerId(7), SessionEpoch(0), 2, at(4)), Beat::Register));
    }

    #[test]
    fn a_silent_worker_is_lost_once_and_owed_frees_survive_its_return() {
        let (mut registry, table) = (Registry::default(), Locations::default());
        let rows = [table.open(WorkerId(7)), table.open(WorkerId(7))];
        assert_eq!(registry.begin(&record(1), rows[0], 0, at(0)), None);
        registry.finish(WorkerId(7), SessionEpoch(1), at(0));
        assert!(registry.expire(at(500), Duration::from_secs(1)).is_empty());
        assert_eq!(registry.expire(at(5000), Duration::from_secs(1)), [(WorkerId(7), Some(rows[0]))]);
        assert!(registry.expire(at(6000), Duration::from_secs(1)).is_empty());
        registry.free(WorkerId(7), ContainerId(9), 1);
        assert_eq!(registry.begin(&record(2), rows[1], 0, at(7000)), None, "its blocks were dropped when it was lost");
        registry.finish(WorkerId(7), SessionEpoch(2), at(7000));
        assert_eq!(registry.commands(WorkerId(7), SessionEpoch(2)).free, [ContainerId(9)]);
    }

    #[test]
    fn a_standby_keeps_in_mind_what_a_worker_holds_of_a_container_that_is_gone_until_all_of_it_is() {
        let (worker, epoch) = (WorkerId(7), SessionEpoch(1));
        let (gone, pinned) = (ContainerId(3), ContainerId(4));
        // What it is told when this master leads, after it dropped these of three blocks of each by itself.
        let told_after = |dropped: &[u64]| {
            let (mut registry, table) = (Registry::default(), Locations::default());
            let rows = table.open(worker);
            registry.begin(&record(1), rows, 0, at(0));
            registry.finish(worker, epoch, at(0));
            for (container, block) in [gone, pinned].into_iter().flat_map(|c| (0..3).map(move |block| (c, block))) {
                table.add(rows, container.block(block).expect("small"), 1);
            }
            for (worker, blocks) in table.remove_container(gone) {
                registry.free(worker, gone, blocks);
            }
            registry.evictable(worker, pinned);
            for (container, block) in [gone, pinned].into_iter().flat_map(|c| dropped.iter().map(move |b| (c, *b))) {
                let is_last = table.remove(rows, container.block(block).expect("small"));
                registry.dropped(worker, container, is_last);
            }
            let told = registry.commands(worker, epoch);
            (told.free, told.evictable)
        };
        assert_eq!(told_after(&[0, 2]), (vec![gone], vec![pinned]));
        assert_eq!(told_after(&[0, 2, 1]), (vec![], vec![]));
    }
}
