//! What the policies are for: how often a read finds its block, by what is read. Drawn from seeds, so always the same.
//! `cargo test -p tier --test hit_ratios -- --nocapture` prints them.

use std::collections::BTreeSet;
use testkit::Chance;
use tier::{Class, DirectorySpec, Eviction, Medium, Permille, Settings, Stage, Tiers, Watermarks};
use types::{BlockId, ContainerId, DirIndex, Ordinal};

/// Of one block.
const BYTES: u64 = 64 << 20;
/// Blocks that fit.
const ROOM: u64 = 400;
/// Numbers of blocks that are read once, from here on.
const SCANNED: u64 = 1 << 32;

const POLICIES: [(&str, Eviction); 4] = [
    ("LRU", Eviction::Lru),
    ("LRFU", Eviction::Lrfu { step: 0.25, attenuation: 2.0 }),
    ("S3FIFO", Eviction::S3Fifo),
    ("EPOCH", Eviction::Epoch),
];

struct Cache(Tiers);

impl Cache {
    fn new(eviction: Eviction) -> Cache {
        let never = Permille::new(1000).expect("a whole");
        let spec = DirectorySpec {
            index: DirIndex(0),
            tier: Ordinal(0),
            medium: Medium::Ssd,
            capacity_bytes: ROOM * BYTES,
            watermarks: Watermarks { high: never, low: never },
        };
        Cache(Tiers::new(Settings { eviction, ..Settings::default() }, vec![spec]))
    }

    /// Reads the block with this number; whether it was here.
    fn read(&mut self, number: u64) -> bool {
        let (tiers, block) = (&mut self.0, block(number));
        if tiers.open(block) {
            tiers.close(block);
            return true;
        }
        let placed = tiers.place(block, BYTES, Class::Evictable).expect("something may leave");
        for step in &placed.moves {
            tiers.apply(step);
        }
        tiers.begin(block, placed.dir, Class::Evictable, Stage::Committed, BYTES);
        tiers.fill(block, BYTES);
        tiers.close(block);
        false
    }
}

fn block(number: u64) -> BlockId {
    ContainerId(1 + number).block(0).expect("a small index")
}

fn shuffle(numbers: &mut [u64], chance: &mut Chance) {
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, chance.below(at + 1));
    }
}

/// Numbers of which the n-th is drawn 1 / n^0.9 as often as the first.
struct Skewed(Vec<f64>);

impl Skewed {
    fn new(count: u32) -> Skewed {
        let mut sum = 0.0;
        Skewed(
            (1..=count)
                .map(|n| {
                    sum += f64::from(n).powf(-0.9);
                    sum
                })
                .collect(),
        )
    }
    fn draw(&self, chance: &mut Chance) -> u64 {
        let share = f64::from(u32::try_from(chance.word() >> 32).expect("half of the bits")) / f64::from(u32::MAX);
        let sum = share * self.0.last().expect("not empty");
        u64::try_from(self.0.partition_point(|until| *until < sum)).expect("small")
    }
}

/// Hits in percent, for each policy.
fn table(what: &str, measure: impl Fn(&mut Cache, &mut Chance) -> (u64, u64)) -> [f64; 4] {
    let measured = POLICIES.map(|(_, eviction)| {
        let (hits, reads) = measure(&mut Cache::new(eviction), &mut Chance::new(7));
        100.0 * f64::from(u32::try_from(hits).expect("few")) / f64::from(u32::try_from(reads).expect("few"))
    });
    let shown: Vec<_> = POLICIES.iter().zip(measured).map(|((name, _), hits)| format!("{name} {hits:.1}")).collect();
    println!("{what}: {} %", shown.join(", "));
    measured
}

#[test]
fn scans_do_not_displace_what_is_used_again() {
    let skewed = Skewed::new(4_000);
    let [lru, _, s3fifo, _] = table("reads of what is used again, beside as many that are not", |cache, chance| {
        let (mut hits, mut reads) = (0, 0);
        for n in 0..60_000 {
            cache.read(SCANNED + n);
            let hit = cache.read(skewed.draw(chance));
            if n >= 10_000 {
                (hits, reads) = (hits + u64::from(hit), reads + 1);
            }
        }
        (hits, reads)
    });
    assert!(s3fifo >= lru + 12.0, "{s3fifo:.1} against {lru:.1}");
}

#[test]
fn a_scan_by_small_reads_is_a_scan() {
    const READERS: u64 = 16;
    let skewed = Skewed::new(4_000);
    let [lru, _, s3fifo, _] = table("the same, each block in 16 reads, by 16 readers in turns", |cache, chance| {
        let (mut hits, mut reads) = (0, 0);
        for n in 0..4_000 {
            let scanned: Vec<u64> = (0..READERS / 2).map(|reader| SCANNED + n * READERS + reader).collect();
            let used: BTreeSet<u64> = (0..READERS / 2).map(|_| skewed.draw(chance)).collect();
            for piece in 0..16 {
                for number in scanned.iter().chain(&used) {
                    let hit = cache.read(*number);
                    if piece == 0 && used.contains(number) && n >= 1_000 {
                        (hits, reads) = (hits + u64::from(hit), reads + 1);
                    }
                }
            }
        }
        (hits, reads)
    });
    assert!(s3fifo >= lru + 12.0, "{s3fifo:.1} against {lru:.1}");
}

#[test]
fn half_of_the_data_in_the_cache_is_half_of_the_reads_of_an_epoch() {
    let [.., epoch] =
        table("epochs over twice what fits, each in another order", |cache, chance| epochs(cache, chance, 0, 20, 10));
    assert!(epoch >= 48.0, "{epoch:.1}");
}

#[test]
fn another_data_set_takes_the_place_of_the_one_before() {
    let [.., epoch] = table("the same after another such data set", |cache, chance| {
        epochs(cache, chance, 0, 10, 10);
        epochs(cache, chance, 1 << 32, 20, 15)
    });
    assert!(epoch >= 45.0, "{epoch:.1}");
}

/// Reads twice what fits, numbered from `first`, so often; hits and reads behind the first `settles`.
fn epochs(cache: &mut Cache, chance: &mut Chance, first: u64, count: u64, settles: u64) -> (u64, u64) {
    let mut numbers: Vec<u64> = (first..first + 2 * ROOM).collect();
    let (mut hits, mut reads) = (0, 0);
    for epoch in 0..count {
        shuffle(&mut numbers, chance);
        for number in &numbers {
            let hit = cache.read(*number);
            if epoch >= settles {
                (hits, reads) = (hits + u64::from(hit), reads + 1);
            }
        }
    }
    (hits, reads)
}
