//! A power cut at every boundary of every flush of a history: what is there afterwards is what the log says.

use super::*;
use meta::{Entry, Family, Read, Store};

const MOMENTS: [Moment; 4] = [Moment::Asked, Moment::Written, Moment::Told, Moment::Over];
/// Few, so that a history has many flushes.
const BETWEEN: u64 = 7;

/// All records but those that a store or a member keeps for itself.
fn records(read: &dyn Read) -> BTreeMap<(Family, Bytes), Bytes> {
    let families = Family::ALL.into_iter().filter(|family| *family != Family::State);
    let of = |family| read.scan(family, &[], meta::KEYS_END, usize::MAX).expect("readable");
    families.flat_map(|family| of(family).into_iter().map(move |(key, value)| ((family, key), value))).collect()
}

/// What the log makes of an empty database, up to an index.
fn replayed(written: &BTreeMap<LogIndex, LogEntry>, upto: LogIndex) -> HeapStore {
    let disk = Arc::new(MemoryDisk::new("/twin"));
    HeapStore::format(&*disk, CLUSTER).expect("an empty disk");
    let store = HeapStore::open(disk, CLUSTER).expect("formatted");
    let mut namespace = Namespace::open(&store).expect("readable");
    for (index, entry) in written.range(..=upto).filter(|(_, entry)| !entry.payload.is_empty()) {
        let entry = Entry::decode(&entry.payload).expect("it was written");
        let (changes, _) = namespace.apply(&store, &[(*index, entry)]).expect("readable");
        store.commit(&changes).expect("in memory");
    }
    store
}

/// The history of a seed with the power failing there; false: it has no such moment.
fn with_a_cut(seed: u64, at: (usize, Moment)) -> bool {
    let mut world = World::new(seed);
    world.checkpoint_entries = BETWEEN;
    world.core.config.checkpoint_entries = BETWEEN;
    world.power = Power { fails_at: Some(at), ..Power::default() };
    for _ in 0..STEPS {
        world.random_step();
        if world.power.is_off {
            break;
        }
    }
    if !world.power.is_off {
        return false;
    }
    world.power.fails_at = None;
    world.crash();
    world.settle();
    let (store, core) = (world.shared.state.store(), &world.core);
    let applied = store.applied();
    assert!(world.written.contains_key(&applied), "seed {seed}, {at:?}: {applied} is in no log");
    let twin = replayed(&world.written, applied);
    assert!(records(&**store) == records(&twin), "seed {seed}, {at:?}: not what the log says up to {applied}");
    let wrong = core.namespace().check_invariants(&world.shared.state.latest()).expect("readable");
    assert_eq!(wrong, Vec::<String>::new(), "seed {seed}, {at:?}");
    assert_eq!(world.shared.state.live_drift().expect("readable"), Vec::<String>::new(), "seed {seed}, {at:?}");
    true
}

#[test]
fn a_power_cut_at_every_boundary_of_every_flush_leaves_what_the_log_says() {
    let (seeds, mut all) = (testkit::rounds(3), 0);
    for seed in 1..=seeds {
        let (mut cuts, mut flush) = (0, 1);
        loop {
            let found = MOMENTS.iter().filter(|moment| with_a_cut(seed, (flush, **moment))).count();
            if found == 0 {
                break;
            }
            (cuts, flush) = (cuts + found, flush + 1);
        }
        assert!(cuts >= 2 * MOMENTS.len(), "seed {seed}: {cuts} moments");
        all += cuts;
    }
    assert!(u64::try_from(all).expect("few") > 20 * seeds, "{all} moments of {seeds} seeds");
}
