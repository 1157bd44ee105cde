use super::*;
use crate::conformance::StillClock;
use proptest::prelude::*;
use std::collections::BTreeMap;

mod policies;

fn value(byte: u8, length: usize) -> Known {
    Known(Some(Bytes::from(vec![byte; length])))
}

fn cache(entries: usize, bytes: usize, eviction: Eviction) -> Cache<Known> {
    Cache::new(&CacheConfig { entries, bytes, eviction }, Arc::new(StillClock), 7)
}

fn lru(bytes: usize) -> Cache<Known> {
    cache(usize::MAX, bytes, Eviction::LRU)
}

fn counts<V: Held>(cache: &Cache<V>) -> CacheStatistics {
    let mut sum = CacheStatistics::default();
    cache.add_to(&mut sum);
    sum
}

fn fill(cache: &Cache<Known>, key: &[u8], value: Known) {
    cache.fill(Family::Edges, key, value, Duration::from_nanos(3), || true);
}

#[test]
fn absence_is_known_too() {
    let cache = lru(1 << 20);
    assert_eq!(cache.get(Family::Edges, b"k"), None);
    fill(&cache, b"k", Known(None));
    assert_eq!(cache.get(Family::Edges, b"k"), Some(Known(None)));
    assert_eq!(cache.get(Family::Inodes, b"k"), None, "families are apart");
    cache.update(Family::Edges, b"k", || value(7, 3));
    assert_eq!(cache.get(Family::Edges, b"k"), Some(value(7, 3)));
    cache.update(Family::Edges, b"other", || value(7, 3));
    assert_eq!(cache.get(Family::Edges, b"other"), None, "an update brings nothing in");
    cache.forget(Family::Edges, b"k");
    assert_eq!(cache.get(Family::Edges, b"k"), None);
    let counts = counts(&cache);
    assert_eq!((counts.edges.hits, counts.edges.misses, counts.inodes.misses), (2, 3, 1));
    assert_eq!((counts.edges.loading, counts.total().entries, counts.bytes), (Duration::from_nanos(3), 0, 0));
}

#[test]
fn a_fill_that_is_no_longer_current_is_dropped() {
    let cache = lru(1 << 20);
    cache.fill(Family::Edges, b"k", value(1, 1), Duration::ZERO, || false);
    assert_eq!(cache.get(Family::Edges, b"k"), None);
    assert_eq!(counts(&cache).fills_dropped, 1);
}

#[test]
fn what_is_no_longer_good_is_dropped_and_missed() {
    let cache = lru(1 << 20);
    fill(&cache, b"k", value(1, 1));
    assert_eq!(cache.get_if(Family::Edges, b"k", |held| *held == value(2, 1)), None);
    assert_eq!((counts(&cache).edges.misses, counts(&cache).edges.entries), (1, 0));
}

#[test]
fn memory_is_bounded_and_the_unused_go_first() {
    let cache = lru(64 << 10);
    let hot = b"hot";
    fill(&cache, hot, value(1, 100));
    for number in 0..10_000u32 {
        fill(&cache, &number.to_be_bytes(), value(2, 100));
        assert!(cache.get(Family::Edges, hot).is_some(), "used before every fill");
    }
    cache.check_invariants();
    let counts = counts(&cache);
    assert!(counts.bytes <= 64 << 10 && counts.bytes > 48 << 10, "{counts:?}");
    assert_eq!(counts.edges.entries + counts.edges.evictions, 10_001);
    fill(&cache, b"huge", value(3, 64 << 10));
    assert_eq!(cache.get(Family::Edges, b"huge"), None, "larger than its segment's share");
}

#[test]
fn entries_are_bounded_from_one_up() {
    for eviction in Eviction::ALL {
        for entries in [1, 2, 3, 63, 64, 65, 127, 128, 1000, 5000] {
            let cache = cache(entries, usize::MAX, eviction);
            for number in 0..20_000u32 {
                fill(&cache, &number.to_be_bytes(), value(1, 1));
                let is_held = cache.get(Family::Edges, &number.to_be_bytes()).is_some();
                assert!(is_held || eviction.name != "LRU", "the newest of {entries} is gone");
            }
            cache.check_invariants();
            let held = usize::try_from(counts(&cache).edges.entries).unwrap();
            assert!(held <= entries && held * 2 > entries, "{} holds {held} of {entries}", eviction.name);
            assert!(counts(&cache).capacity_entries <= entries);
        }
    }
}

/// A page counts as what is in it, and outdated ones go when they are found.
#[test]
fn pages_are_weighed_by_their_entries() {
    let config = CacheConfig { entries: 100, bytes: 1 << 20, eviction: Eviction::LRU };
    let cache: Cache<Page> = Cache::new(&config, Arc::new(StillClock), 7);
    let found: Vec<_> = (0..30u8).map(|n| (Bytes::from(vec![n; 9]), Bytes::from(vec![n; 80]))).collect();
    for page in 0..10u8 {
        let copy = Page::copy(u64::from(page), &found);
        assert_eq!(copy.entries.to_vec(), found);
        cache.fill(Family::Edges, &[page], copy, Duration::ZERO, || true);
    }
    cache.check_invariants();
    assert_eq!(counts(&cache).listings.entries, 90);
    assert!(cache.get_if(Family::Edges, &[9], |page| page.version == 9).is_some());
    assert!(cache.get_if(Family::Edges, &[8], |page| page.version == 9).is_none());
    assert_eq!(counts(&cache).listings.entries, 60);
    let more: Vec<_> = (0..101u8).map(|n| (Bytes::from(vec![n]), Bytes::new())).collect();
    cache.fill(Family::Edges, b"more", Page::copy(1, &more), Duration::ZERO, || true);
    assert!(cache.get(Family::Edges, b"more").is_none(), "larger than all there is");
}

#[test]
fn keys_of_pages_differ_whenever_the_scan_does() {
    let scans: [(&[u8], &[u8], usize); 5] =
        [(b"a", b"b", 1), (b"a", b"b", 2), (b"ab", b"", 1), (b"", b"ab", 1), (b"a", b"c", 1)];
    let keys: std::collections::BTreeSet<_> =
        scans.iter().map(|(start, end, limit)| page_key(start, end, *limit)).collect();
    assert_eq!(keys.len(), scans.len());
    let seen = Seen::new();
    assert!(!seen.again(5 << 32) && seen.again(5 << 32));
    assert!(!seen.again(6 << 32) && !seen.again(5 << 32), "another one took its place");
}

/// The last use of every entry counts, however many uses came between two changes.
#[test]
fn alone_the_least_recently_used_goes() {
    let cache = cache(50, usize::MAX, Eviction::LRU);
    for number in 0..50u8 {
        fill(&cache, &[number], value(1, 1));
    }
    let uses: Vec<u8> = (0..500u16).map(|n| u8::try_from(n * 5 % 49).unwrap()).collect();
    uses.iter().for_each(|key| drop(cache.get(Family::Edges, &[*key]).expect("held")));
    let mut last: Vec<u8> = (0..50).collect();
    last.sort_by_key(|key| uses.iter().rposition(|used| used == key).map_or(-1, |at| i32::try_from(at).unwrap()));
    for (gone, key) in last.iter().enumerate().take(20) {
        fill(&cache, format!("new {gone}").as_bytes(), value(1, 1));
        // Asking for what is gone changes nothing.
        assert_eq!(cache.get(Family::Edges, &[*key]), None, "{key} is the next of {last:?}");
    }
}

#[test]
fn a_scan_passes_through_s3fifo_and_empties_lru() {
    let kept = |eviction| {
        let cache = cache(10_000, usize::MAX, eviction);
        let hot = |n: u32| [&b"hot"[..], &n.to_be_bytes()].concat();
        for _ in 0..4 {
            for n in 0..5_000 {
                if cache.get(Family::Edges, &hot(n)).is_none() {
                    fill(&cache, &hot(n), value(1, 1));
                }
            }
        }
        for n in 0..1_000_000u32 {
            fill(&cache, &n.to_be_bytes(), value(2, 1));
        }
        (0..5_000).filter(|n| cache.get(Family::Edges, &hot(*n)).is_some()).count()
    };
    assert_eq!(kept(Eviction::LRU), 0);
    assert!(kept(Eviction::S3FIFO) > 4_900);
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
        1 => (any::<u8>(), 0usize..600).prop_map(|(key, length)| Step::Fill(key, length)),
        1 => (any::<u8>(), 0usize..600).prop_map(|(key, length)| Step::Update(key, length)),
        1 => any::<u8>().prop_map(Step::Forget),
        3 => any::<u8>().prop_map(Step::Get),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    /// What is held is what was last written; what was written may be gone.
    #[test]
    fn never_holds_anything_else_than_the_truth(
        steps in steps(), entries in 1usize..200, eviction in proptest::sample::select(Eviction::ALL.to_vec()),
    ) {
        let cache = cache(entries, 24 << 10, eviction);
        let mut truth: BTreeMap<u8, Known> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Fill(key, _) if truth.contains_key(&key) => fill(&cache, &[key], truth[&key].clone()),
                Step::Fill(key, length) | Step::Update(key, length) => {
                    let fresh = value(u8::try_from(number % 251).unwrap(), length);
                    cache.update(Family::Edges, &[key], || fresh.clone());
                    truth.insert(key, fresh);
                }
                Step::Forget(key) => cache.forget(Family::Edges, &[key]),
                Step::Get(key) => if let Some(held) = cache.get(Family::Edges, &[key]) {
                    prop_assert_eq!(Some(&held), truth.get(&key));
                }
            }
            cache.check_invariants();
        }
    }
}

/// Readers of held entries, readers that miss, and a writer at once: nothing is lost, and what is read is what was written.
#[test]
fn many_readers_and_a_writer() {
    for eviction in Eviction::ALL {
        let cache = cache(256, usize::MAX, eviction);
        std::thread::scope(|scope| {
            for reader in 0..3u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for n in 0..60_000u32 {
                        let key = (n.wrapping_mul(2_654_435_761).wrapping_add(reader) >> 8) % 400;
                        match cache.get(Family::Edges, &key.to_be_bytes()) {
                            Some(held) => assert_eq!(held, Known(Some(Bytes::copy_from_slice(&key.to_be_bytes())))),
                            None => {
                                fill(
                                    cache,
                                    &key.to_be_bytes(),
                                    Known(Some(Bytes::copy_from_slice(&key.to_be_bytes()))),
                                );
                            }
                        }
                    }
                });
            }
            for n in 0..60_000u32 {
                cache.forget(Family::Edges, &(n % 400).to_be_bytes());
            }
        });
        cache.check_invariants();
        let total = counts(&cache).total();
        assert_eq!(total.hits + total.misses, 180_000);
    }
}
