use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn value(byte: u8, length: usize) -> Bytes {
    Bytes::from(vec![byte; length])
}

fn lru(capacity_bytes: usize) -> Cache {
    Cache::new(capacity_bytes, || Box::new(Lru::default()))
}

#[test]
fn absence_is_known_too() {
    let cache = lru(1 << 20);
    assert_eq!(cache.get(Family::Edges, b"k"), None);
    cache.fill(Family::Edges, b"k", None, || true);
    assert_eq!(cache.get(Family::Edges, b"k"), Some(None));
    assert_eq!(cache.get(Family::Inodes, b"k"), None, "families are apart");
    cache.update(Family::Edges, b"k", Some(&value(7, 3)));
    assert_eq!(cache.get(Family::Edges, b"k"), Some(Some(value(7, 3))));
    cache.update(Family::Edges, b"other", Some(&value(7, 3)));
    assert_eq!(cache.get(Family::Edges, b"other"), None, "an update brings nothing in");
    cache.forget(Family::Edges, b"k");
    assert_eq!(cache.get(Family::Edges, b"k"), None);
    let counts = cache.statistics();
    assert_eq!((counts.hits, counts.misses, counts.entries, counts.bytes), (2, 4, 0, 0));
}

#[test]
fn a_fill_that_is_no_longer_current_is_dropped() {
    let cache = lru(1 << 20);
    cache.fill(Family::Edges, b"k", Some(&value(1, 1)), || false);
    assert_eq!(cache.get(Family::Edges, b"k"), None);
    assert_eq!(cache.statistics().fills_dropped, 1);
}

#[test]
fn memory_is_bounded_and_the_unused_go_first() {
    let cache = lru(64 << 10);
    let hot = b"hot";
    cache.fill(Family::Edges, hot, Some(&value(1, 100)), || true);
    for number in 0..10_000u32 {
        cache.fill(Family::Edges, &number.to_be_bytes(), Some(&value(2, 100)), || true);
        assert!(cache.get(Family::Edges, hot).is_some(), "used before every fill");
        cache.check_invariants();
    }
    let counts = cache.statistics();
    assert!(counts.bytes <= 64 << 10 && counts.bytes > 48 << 10, "{counts:?}");
    assert_eq!(counts.entries + counts.evictions, 10_001);
    cache.fill(Family::Edges, b"huge", Some(&value(3, 64 << 10)), || true);
    assert_eq!(cache.get(Family::Edges, b"huge"), None, "larger than its shard");
}

#[test]
fn switched_off_it_holds_nothing() {
    let cache = lru(0);
    cache.fill(Family::Edges, b"k", None, || true);
    assert!(!cache.is_on());
    assert_eq!(cache.get(Family::Edges, b"k"), None);
}

#[derive(Clone, Debug)]
enum Step {
    Fill(u8, usize),
    Update(u8, usize),
    Forget(u8),
    Get(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (any::<u8>(), 0usize..600).prop_map(|(key, length)| Step::Fill(key, length)),
        (any::<u8>(), 0usize..600).prop_map(|(key, length)| Step::Update(key, length)),
        any::<u8>().prop_map(Step::Forget),
        any::<u8>().prop_map(Step::Get),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    /// What is held is what was last written; what was written may be gone.
    #[test]
    fn never_holds_anything_else_than_the_truth(steps in steps()) {
        let cache = lru(24 << 10);
        let mut truth: BTreeMap<u8, Bytes> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Fill(key, _) if truth.contains_key(&key) => {
                    cache.fill(Family::Edges, &[key], truth.get(&key), || true);
                }
                Step::Fill(key, length) | Step::Update(key, length) => {
                    let fresh = value(u8::try_from(number % 251).unwrap(), length);
                    cache.update(Family::Edges, &[key], Some(&fresh));
                    truth.insert(key, fresh);
                }
                Step::Forget(key) => cache.forget(Family::Edges, &[key]),
                Step::Get(key) => if let Some(held) = cache.get(Family::Edges, &[key]) {
                    prop_assert_eq!(held.as_ref(), truth.get(&key));
                }
            }
            cache.check_invariants();
        }
    }
}
