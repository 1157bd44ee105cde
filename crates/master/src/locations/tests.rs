use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn block(container: u64, index: u64) -> BlockId {
    ContainerId(container).block(index).expect("small")
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize, u64, u64),
    Remove(usize, u64, u64),
    Container(u64),
    /// The worker registers again.
    Worker(usize),
}

fn container() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![1, 2, 255, 256, 257, 4095, 4096, 70_000])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize, container(), 0..3u64).prop_map(|(w, c, i)| Step::Add(w, c, i)),
        2 => (0..3usize, container(), 0..3u64).prop_map(|(w, c, i)| Step::Remove(w, c, i)),
        1 => container().prop_map(Step::Container),
        1 => (0..3usize).prop_map(Step::Worker),
    ]
}

fn worker(index: usize) -> WorkerId {
    WorkerId([7, 8, 9][index])
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_set(steps in prop::collection::vec(step(), 1..200)) {
        let table = Locations::default();
        let mut sessions: Vec<Session> = (0..3).map(|index| table.open(worker(index))).collect();
        let mut model = BTreeSet::new();
        for step in steps {
            match step {
                Step::Add(w, c, i) => { table.add(sessions[w], block(c, i), 7); model.insert((c, i, w)); }
                Step::Remove(w, c, i) => {
                    let is_last = table.remove(sessions[w], block(c, i));
                    model.remove(&(c, i, w));
                    prop_assert_eq!(is_last, !model.iter().any(|row| (row.0, row.2) == (c, w)));
                }
                Step::Container(c) => {
                    let mut held: BTreeMap<WorkerId, usize> = BTreeMap::new();
                    model.iter().filter(|row| row.0 == c).for_each(|row| *held.entry(worker(row.2)).or_default() += 1);
                    prop_assert_eq!(table.holders(ContainerId(c)), held.keys().copied().collect::<Vec<_>>());
                    prop_assert_eq!(table.remove_container(ContainerId(c)), held.into_iter().collect::<Vec<_>>());
                    model.retain(|row| row.0 != c);
                }
                Step::Worker(w) => {
                    let old = std::mem::replace(&mut sessions[w], table.open(worker(w)));
                    table.close(old);
                    table.add(old, block(1, 0), 7);
                    model.retain(|row| row.2 != w);
                }
            }
            table.check_invariants();
            prop_assert_eq!(table.count(), model.len());
            for c in [1, 2, 255, 256, 257, 4095, 4096, 70_000] {
                let want: Vec<_> = model.iter().filter(|row| row.0 == c).map(|row| (row.1, worker(row.2), 7)).collect();
                prop_assert_eq!(table.of(ContainerId(c)), want);
            }
            let all: BTreeSet<u64> = model.iter().map(|row| row.0).collect();
            let listed: Vec<u64> = table.containers(ContainerId(0), 100).0.iter().map(|container| container.0).collect();
            prop_assert_eq!(listed, all.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_replica_takes_less_than_24_bytes_and_memory_returns_to_its_start() {
    let table = Locations::default();
    let sessions = [table.open(WorkerId(1)), table.open(WorkerId(2))];
    let fill = |containers: std::ops::Range<u64>| {
        for container in containers {
            for index in 0..2 {
                table.add(sessions[usize::from(container.is_multiple_of(3))], block(container, index), 1);
            }
        }
    };
    fill(1..10_001);
    let start = table.memory_bytes();
    assert!(start < 20_000 * 24, "{start} bytes for {} replicas", table.count());
    fill(10_001..100_001);
    assert!(table.memory_bytes() < 200_000 * 24);
    // Every other first: what is left of a chunk holds no more than it needs.
    for container in (10_001..100_001).step_by(2).chain((10_002..100_001).step_by(2)) {
        table.remove_container(ContainerId(container));
    }
    assert_eq!(table.count(), 20_000);
    let end = table.memory_bytes();
    assert!(end.abs_diff(start) * 50 <= start, "{start} bytes before, {end} after");
    for session in sessions {
        table.close(session);
    }
    assert_eq!((table.count(), table.memory_bytes()), (0, 0));
}

#[test]
fn a_file_of_many_blocks_is_recorded_in_reasonable_steps() {
    let table = Locations::default();
    let session = table.open(WorkerId(1));
    for index in 0..20_000 {
        table.add(session, block(5, index), 1);
    }
    assert_eq!(table.of(ContainerId(5)).len(), 20_000);
    assert_eq!(table.remove_container(ContainerId(5)), [(WorkerId(1), 20_000)]);
    table.check_invariants();
}
