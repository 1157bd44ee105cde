//! Where blocks are: soft state, rebuilt from worker reports, indexed from both sides.
//!
//! Invariants: a container is in `by_container` exactly when some worker holds a block of it; `by_worker[w]` counts
//! containers of which `w` holds a block; deleting a container or losing a worker costs what it frees.

use hashbrown::{HashMap, HashSet};
use parking_lot::RwLock;
use types::{BlockId, ContainerId, WorkerId};

/// One replica of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    index: u32,
    worker: WorkerId,
    resident_bytes: u32,
}

#[derive(Default)]
struct Table {
    by_container: HashMap<ContainerId, Box<[Place]>>,
    by_worker: HashMap<WorkerId, HashSet<ContainerId>>,
    places: usize,
}

/// The table of all block locations. Every call holds the lock for the rows it touches only.
#[derive(Default)]
pub struct Locations {
    table: RwLock<Table>,
}

impl Locations {
    /// Records that `worker` holds `resident_bytes` of `block`. Repeats replace.
    pub fn add(&self, worker: WorkerId, block: BlockId, resident_bytes: u64) {
        let index = u32::try_from(block.index()).expect("block indexes have 24 bits");
        // Blocks are far below 4 GiB; a larger report only loses precision of a displayed percentage.
        let resident_bytes = u32::try_from(resident_bytes).unwrap_or(u32::MAX);
        let place = Place { index, worker, resident_bytes };
        let mut guard = self.table.write();
        let table = &mut *guard;
        let row = table.by_container.entry(block.container()).or_default();
        if let Some(old) = row.iter_mut().find(|old| old.index == index && old.worker == worker) {
            *old = place;
            return;
        }
        let mut grown = std::mem::take(row).into_vec();
        grown.push(place);
        *row = grown.into_boxed_slice();
        table.places += 1;
        table.by_worker.entry(worker).or_default().insert(block.container());
    }

    /// Forgets one replica. Unknown ones are fine.
    pub fn remove(&self, worker: WorkerId, block: BlockId) {
        self.retain_in(block.container(), |place| !(place.worker == worker && u64::from(place.index) == block.index()));
    }

    /// Forgets a container and returns the workers that held parts of it.
    pub fn remove_container(&self, container: ContainerId) -> Vec<WorkerId> {
        let workers = self.holders(container);
        self.retain_in(container, |_| false);
        workers
    }

    /// Forgets everything a worker held. Cost: what it held.
    pub fn remove_worker(&self, worker: WorkerId) {
        let held = self.table.write().by_worker.remove(&worker).unwrap_or_default();
        for container in held {
            self.retain_in(container, |place| place.worker != worker);
        }
        self.table.write().by_worker.remove(&worker);
    }

    fn retain_in(&self, container: ContainerId, keep: impl Fn(&Place) -> bool) {
        let mut guard = self.table.write();
        let table = &mut *guard;
        let Some(row) = table.by_container.get_mut(&container) else { return };
        let (kept, gone): (Vec<Place>, Vec<Place>) = row.iter().copied().partition(keep);
        table.places -= gone.len();
        for place in &gone {
            if kept.iter().any(|k| k.worker == place.worker) {
                continue;
            }
            if let Some(held) = table.by_worker.get_mut(&place.worker) {
                held.remove(&container);
                if held.is_empty() {
                    table.by_worker.remove(&place.worker);
                } else if held.capacity() > 64 && held.capacity() > 4 * held.len() {
                    held.shrink_to_fit();
                }
            }
        }
        if kept.is_empty() {
            table.by_container.remove(&container);
            let (len, capacity) = (table.by_container.len(), table.by_container.capacity());
            if capacity > 1024 && capacity > 4 * len {
                table.by_container.shrink_to(2 * len);
            }
        } else {
            *row = kept.into_boxed_slice();
        }
    }

    /// (block index, worker, resident bytes) of every replica of a container, by index then worker.
    pub fn of(&self, container: ContainerId) -> Vec<(u64, WorkerId, u64)> {
        let table = self.table.read();
        let Some(row) = table.by_container.get(&container) else { return Vec::new() };
        let mut out: Vec<_> = row.iter().map(|p| (u64::from(p.index), p.worker, u64::from(p.resident_bytes))).collect();
        out.sort_unstable();
        out
    }

    /// Workers that hold any block of a container.
    pub fn holders(&self, container: ContainerId) -> Vec<WorkerId> {
        let table = self.table.read();
        let mut out: Vec<_> =
            table.by_container.get(&container).into_iter().flat_map(|row| row.iter().map(|p| p.worker)).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Number of replicas known.
    pub fn count(&self) -> usize {
        self.table.read().places
    }

    /// Bytes the table occupies: rows, and both indexes by their capacity.
    pub fn memory_bytes(&self) -> usize {
        let table = self.table.read();
        let rows = table.places * size_of::<Place>();
        let containers = table.by_container.capacity() * (size_of::<ContainerId>() + size_of::<Box<[Place]>>() + 1);
        let held: usize = table.by_worker.values().map(|set| set.capacity() * (size_of::<ContainerId>() + 1)).sum();
        rows + containers + held
    }

    /// The invariants of the module's head, by recount. Cost: the whole table.
    pub fn check_invariants(&self) {
        let table = self.table.read();
        let places: usize = table.by_container.values().map(|row| row.len()).sum();
        assert_eq!(places, table.places, "the count of replicas has drifted");
        for (container, row) in &table.by_container {
            assert!(!row.is_empty(), "{container} has an empty row");
            for place in row {
                let known = table.by_worker.get(&place.worker).is_some_and(|held| held.contains(container));
                assert!(known, "{container} is not listed under {}", place.worker);
            }
        }
        for (worker, held) in &table.by_worker {
            for container in held {
                let there =
                    table.by_container.get(container).is_some_and(|row| row.iter().any(|p| p.worker == *worker));
                assert!(there, "{worker} lists {container}, which it does not hold");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn block(container: u64, index: u64) -> BlockId {
        ContainerId(container).block(index).expect("small")
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64, u64, u64),
        Remove(u64, u64, u64),
        Container(u64),
        Worker(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..4u64, 1..6u64, 0..3u64).prop_map(|(w, c, i)| Step::Add(w, c, i)),
            2 => (1..4u64, 1..6u64, 0..3u64).prop_map(|(w, c, i)| Step::Remove(w, c, i)),
            1 => (1..6u64).prop_map(Step::Container),
            1 => (1..4u64).prop_map(Step::Worker),
        ]
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_set(steps in prop::collection::vec(step(), 1..200)) {
            let table = Locations::default();
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Add(w, c, i) => { table.add(WorkerId(w), block(c, i), 7); model.insert((c, i, w)); }
                    Step::Remove(w, c, i) => { table.remove(WorkerId(w), block(c, i)); model.remove(&(c, i, w)); }
                    Step::Container(c) => { table.remove_container(ContainerId(c)); model.retain(|row| row.0 != c); }
                    Step::Worker(w) => { table.remove_worker(WorkerId(w)); model.retain(|row| row.2 != w); }
                }
                table.check_invariants();
                prop_assert_eq!(table.count(), model.len());
                for c in 1..6 {
                    let want: Vec<_> = model.iter().filter(|r| r.0 == c).map(|r| (r.1, WorkerId(r.2), 7)).collect();
                    prop_assert_eq!(table.of(ContainerId(c)), want);
                }
            }
        }
    }

    #[test]
    fn memory_returns_to_its_start_after_everything_is_deleted() {
        let table = Locations::default();
        let start = table.memory_bytes();
        for container in 1..=100_000 {
            table.add(WorkerId(1), block(container, 0), 1);
        }
        assert!(table.memory_bytes() > start);
        for container in 1..=100_000 {
            table.remove_container(ContainerId(container));
        }
        assert_eq!(table.count(), 0);
        assert!(table.memory_bytes() <= start + 256 * 1024, "{} bytes stay", table.memory_bytes());
    }
}
