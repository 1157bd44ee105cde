use super::*;
use crate::conformance::{StillClock, batch};
use crate::published::Published;
use crate::{CacheConfig, HeapStore, MemoryDisk};
use meta::Read;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

use types::ClusterId;

const CLUSTER: ClusterId = ClusterId(1);

fn opened(disk: &Arc<MemoryDisk>) -> Published<HeapStore> {
    let store = HeapStore::open(disk.clone(), CLUSTER).expect("formatted");
    Published::new(Arc::new(store), &CacheConfig::of_bytes(1 << 20), Arc::new(StillClock), 7).expect("readable")
}

fn container(id: u64, lives: bool) -> (Family, Bytes, Option<Bytes>) {
    (Family::Containers, Bytes::copy_from_slice(&id.to_be_bytes()), lives.then(|| Bytes::from_static(b"inode")))
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<(u64, bool)>),
    /// Written past the bitmap, as an older release or a restore does.
    Commit(Vec<(u64, bool)>),
    Flush,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = prop_oneof![3 => 0u64..200, 1 => 2040u64..2060, 1 => (1u64 << 40)..(1 << 40) + 9, 1 => Just(u64::MAX)];
    let changes = || proptest::collection::vec((id.clone(), proptest::bool::weighted(0.7)), 0..40);
    let step = prop_oneof![
        6 => changes().prop_map(Step::Publish),
        1 => changes().prop_map(Step::Commit),
        2 => Just(Step::Flush),
        2 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    /// After whatever happened, a container lives exactly when the database has it.
    #[test]
    fn it_agrees_with_the_family(steps in steps()) {
        let disk = Arc::new(MemoryDisk::new("/db"));
        HeapStore::format(&*disk, CLUSTER).unwrap();
        let (mut published, mut index, mut ids) = (opened(&disk), 0, BTreeSet::new());
        for step in steps {
            match step {
                Step::Publish(changes) | Step::Commit(changes) if changes.is_empty() => {}
                Step::Publish(changes) => {
                    index += 1;
                    ids.extend(changes.iter().map(|(id, _)| *id));
                    let changes: Vec<_> = changes.into_iter().map(|(id, lives)| container(id, lives)).collect();
                    published.publish(batch(LogIndex(index), &changes)).unwrap();
                }
                Step::Commit(changes) => {
                    index += 1;
                    ids.extend(changes.iter().map(|(id, _)| *id));
                    let changes: Vec<_> = changes.into_iter().map(|(id, lives)| container(id, lives)).collect();
                    published.store().commit(&batch(LogIndex(index), &changes)).unwrap();
                    published.store().flush().unwrap();
                    published = opened(&disk);
                }
                Step::Flush => drop(published.store().flush().unwrap()),
                Step::Crash => {
                    published = opened(&disk);
                    index = published.store().applied().0;
                }
            }
            prop_assert_eq!(published.live_drift().unwrap(), Vec::<String>::new());
            prop_assert_eq!(compared(&published, false), Vec::<String>::new());
            for id in &ids {
                let stored = published.store().get(Family::Containers, &id.to_be_bytes()).unwrap().is_some();
                prop_assert_eq!(published.is_live(ContainerId(*id)), stored, "container {}", id);
            }
        }
    }
}

/// All that differs, a chunk at a time.
fn compared(published: &Published<HeapStore>, mend: bool) -> Vec<String> {
    let (mut wrong, mut from) = (Vec::new(), Some(0));
    while let Some(chunk) = from {
        let (more, next) = published.compare_live(chunk, 1, mend).unwrap();
        wrong.extend(more);
        from = next;
    }
    wrong
}

#[test]
fn a_bitmap_that_has_drifted_is_made_from_the_records_and_written_with_the_next_commit() {
    let disk = Arc::new(MemoryDisk::new("/db"));
    HeapStore::format(&*disk, CLUSTER).unwrap();
    let published = opened(&disk);
    let many: Vec<_> = [1, 2, 3000, 9000].map(|id| container(id, true)).to_vec();
    published.publish(batch(LogIndex(1), &many)).unwrap();
    let bug = |id: u64, lives| {
        let (number, place) = split(ContainerId(id));
        published.live.map(number).write().entry(number).or_default().set(place, lives);
    };
    bug(2, false);
    bug(9000, false);
    bug(5000, true);
    assert_eq!(compared(&published, false).len(), 3);
    let wrong = compared(&published, true);
    assert_eq!(wrong.len(), 3);
    assert!(
        wrong[0].contains("of container-0 to container-2047 1 live by the bitmap and 2 have a record"),
        "{wrong:?}"
    );
    assert_eq!(compared(&published, false), Vec::<String>::new());
    published.publish(batch(LogIndex(2), &[])).unwrap();
    published.store().flush().unwrap();
    let again = opened(&disk);
    assert!(!again.live.is_stale.load(Ordering::Relaxed) && again.live_count() == 4);
    assert_eq!(again.live_drift().unwrap(), Vec::<String>::new());
}

#[test]
fn chunks_are_read_back_and_stale_ones_are_written_anew() {
    let disk = Arc::new(MemoryDisk::new("/db"));
    HeapStore::format(&*disk, CLUSTER).unwrap();
    let published = opened(&disk);
    let many: Vec<_> = (0..3000).map(|id| container(id, id % 3 != 0)).collect();
    published.publish(batch(LogIndex(1), &many)).unwrap();
    let chunks = |published: &Published<HeapStore>| {
        published.store().scan(Family::State, CHUNKS.0, CHUNKS.1, 100).unwrap().len()
    };
    assert_eq!(chunks(&published), 2);
    // The family goes, and nobody notices: it was not looked at.
    published.publish(batch(LogIndex(2), &[])).unwrap();
    published.store().flush().unwrap();
    let again = opened(&disk);
    assert!(again.is_live(ContainerId(1)) && !again.is_live(ContainerId(3)));
    assert!(!again.live.is_stale.load(Ordering::Relaxed));
    // Another program removes the second chunk's containers and knows nothing of chunks.
    let gone: Vec<_> = (2048..3000).map(|id| container(id, false)).collect();
    again.store().commit(&batch(LogIndex(3), &gone)).unwrap();
    again.store().flush().unwrap();
    let after = opened(&disk);
    assert!(after.is_live(ContainerId(1)) && !after.is_live(ContainerId(2999)));
    assert_eq!(chunks(&after), 2, "not written yet");
    after.publish(batch(LogIndex(4), &[])).unwrap();
    assert_eq!(chunks(&after), 1);
    assert!(after.live_bytes() < 2 << 10, "{} bytes", after.live_bytes());
}

#[test]
fn a_damaged_chunk_is_named() {
    let disk = Arc::new(MemoryDisk::new("/db"));
    HeapStore::format(&*disk, CLUSTER).unwrap();
    let published = opened(&disk);
    published.publish(batch(LogIndex(1), &[container(5, true)])).unwrap();
    let store = published.store();
    let bad = (Family::State, chunk_key(0), Some(Bytes::from_static(&[1, 0, 9])));
    let live = (Family::State, Bytes::from_static(LIVE_KEY), Some(key::encode_applied(LogIndex(2))));
    store.commit(&batch(LogIndex(2), &[bad, live])).unwrap();
    let refused = Live::open(&**store).err().expect("it is damaged");
    assert_eq!(refused.kind, types::ErrorKind::Corrupt);
    assert!(refused.what.contains("live/"), "{}", refused.what);
}
