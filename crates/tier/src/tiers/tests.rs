use super::*;
use crate::directory::{Medium, Watermarks};
use crate::evict::plan_ahead;
use proptest::prelude::*;

fn block(container: u64, index: u64) -> BlockId {
    ContainerId(container).block(index).expect("a small index")
}

fn spec(index: u16, tier: u8, medium: Medium, capacity_bytes: u64) -> DirectorySpec {
    DirectorySpec {
        index: DirIndex(index),
        tier: Ordinal(tier),
        medium,
        capacity_bytes,
        watermarks: Watermarks::default(),
    }
}

fn ssd(capacity_bytes: u64, count: u16) -> Tiers {
    let specs = (0..count).map(|index| spec(index, 0, Medium::Ssd, capacity_bytes)).collect();
    Tiers::new(Settings::default(), specs)
}

/// Places, evicts as planned, fills and commits. What left, or why not.
fn put(tiers: &mut Tiers, block: BlockId, bytes: u64, class: Class) -> Result<Vec<BlockId>, Full> {
    let placed = tiers.place(block, bytes, class)?;
    let gone = placed.moves.iter().map(|Move::Evict { block, .. }| *block).collect();
    for step in &placed.moves {
        tiers.apply(step);
    }
    tiers.begin(block, placed.dir, class, Stage::Writing, bytes);
    assert_eq!(tiers.fill(block, bytes), bytes);
    tiers.commit(block, class);
    tiers.close(block);
    tiers.check_invariants();
    Ok(gone)
}

#[test]
fn the_least_recently_used_leaves_first() {
    let mut tiers = ssd(100, 1);
    for index in 0..4 {
        put(&mut tiers, block(1, index), 25, Class::Evictable).expect("there is room");
    }
    assert!(tiers.open(block(1, 0)));
    tiers.close(block(1, 0));
    assert_eq!(put(&mut tiers, block(2, 0), 30, Class::Evictable), Ok(vec![block(1, 1), block(1, 2)]));
}

#[test]
fn what_must_stay_never_leaves_and_full_is_said() {
    let mut tiers = ssd(100, 1);
    put(&mut tiers, block(1, 0), 40, Class::Unpersisted).expect("there is room");
    put(&mut tiers, block(1, 1), 30, Class::Pinned).expect("there is room");
    put(&mut tiers, block(2, 0), 20, Class::Evictable).expect("there is room");
    tiers.open(block(2, 0));
    let full = put(&mut tiers, block(3, 0), 20, Class::Evictable).expect_err("nothing may leave");
    assert_eq!(full.kind(), types::ErrorKind::Full);
    assert!(full.to_string().contains("tier-0 has 10 bytes free"), "{full}");
    tiers.close(block(2, 0));
    assert_eq!(put(&mut tiers, block(3, 0), 20, Class::Evictable), Ok(vec![block(2, 0)]));
}

#[test]
fn the_read_cache_keeps_its_share() {
    let mut tiers = ssd(100, 1);
    put(&mut tiers, block(1, 0), 90, Class::Unpersisted).expect("up to nine tenths");
    let refused = put(&mut tiers, block(1, 1), 1, Class::Pinned);
    assert!(matches!(refused, Err(Full::ReadShare { kept_bytes: 90, limit_bytes: 90, .. })), "{refused:?}");
    put(&mut tiers, block(2, 0), 10, Class::Evictable).expect("the share is for these");
    tiers.reclass(block(1, 0), Class::Evictable);
    assert_eq!(tiers.kept_bytes(), 0);
    put(&mut tiers, block(1, 1), 50, Class::Pinned).expect("persisted blocks give way");
}

#[test]
fn unpersisted_bytes_do_not_rest_on_memory_alone() {
    let specs = vec![spec(0, 0, Medium::Mem, 100), spec(1, 1, Medium::Ssd, 100)];
    let mut tiers = Tiers::new(Settings::default(), specs);
    put(&mut tiers, block(1, 0), 10, Class::Unpersisted).expect("the SSD takes it");
    assert_eq!(tiers.get(block(1, 0)).map(|held| held.dir), Some(DirIndex(1)));
    put(&mut tiers, block(2, 0), 10, Class::Evictable).expect("memory takes it");
    assert_eq!(tiers.get(block(2, 0)).map(|held| held.dir), Some(DirIndex(0)));
    tiers.lose(DirIndex(1), "input/output error");
    assert!(matches!(put(&mut tiers, block(1, 1), 1, Class::Unpersisted), Err(Full::OnlyVolatile { .. })));
    tiers.lose(DirIndex(0), "input/output error");
    assert!(matches!(put(&mut tiers, block(1, 1), 1, Class::Evictable), Err(Full::NoDirectory { .. })));
}

#[test]
fn allocators_choose_as_they_say() {
    let chosen = |allocator: Allocator| -> Vec<u16> {
        let settings = Settings { allocator, ..Settings::default() };
        let specs = vec![spec(0, 0, Medium::Ssd, 60), spec(1, 0, Medium::Ssd, 100), spec(2, 0, Medium::Ssd, 80)];
        let mut tiers = Tiers::new(settings, specs);
        let place = |index| {
            put(&mut tiers, block(1, index), 20, Class::Evictable).expect("there is room");
            tiers.get(block(1, index)).expect("just put").dir.0
        };
        (0..5).map(place).collect()
    };
    assert_eq!(chosen(Allocator::MaxFree), [1, 1, 2, 0, 1]);
    assert_eq!(chosen(Allocator::RoundRobin), [1, 2, 0, 1, 2]);
    assert_eq!(chosen(Allocator::Greedy), [0, 0, 0, 1, 1]);
}

#[test]
fn watermarks_and_free_ahead_make_room_before_it_is_needed() {
    let mut tiers = ssd(1000, 1);
    for index in 0..19 {
        put(&mut tiers, block(1, index), 50, Class::Evictable).expect("there is room");
    }
    assert_eq!(plan_ahead(&tiers), [], "950 of 1000 is not above the mark");
    put(&mut tiers, block(2, 0), 1, Class::Evictable).expect("there is room");
    let moves = plan_ahead(&tiers);
    assert_eq!(moves.len(), 6, "down to 700 of 951: six blocks of 50");
    for step in &moves {
        tiers.apply(step);
    }
    assert_eq!(plan_ahead(&tiers), []);
    tiers.settings.free_ahead_bytes = 400;
    assert_eq!(plan_ahead(&tiers).len(), 2, "651 down to 600");
}

#[test]
fn one_generation_is_found_by_its_container() {
    let mut tiers = ssd(1000, 1);
    for (container, index) in [(1, 0), (2, 0), (2, 5), (3, 1)] {
        put(&mut tiers, block(container, index), 1, Class::Evictable).expect("there is room");
    }
    let of = |container| tiers.blocks_of(ContainerId(container)).map(|(block, _)| block).collect::<Vec<_>>();
    assert_eq!(of(2), [block(2, 0), block(2, 5)]);
    assert_eq!((of(1).len(), of(3).len(), of(4).len()), (1, 1, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Put { number: u64, bytes: u64, class: Class },
    Begin { number: u64, bytes: u64, class: Class },
    Fill { number: u64, bytes: u64 },
    More { number: u64, bytes: u64 },
    Commit { number: u64 },
    Open { number: u64 },
    Close { number: u64 },
    Persisted { number: u64 },
    Shrink { number: u64, bytes: u64 },
    Remove { number: u64 },
    Ahead,
    Lose { dir: u16 },
}

fn eviction() -> impl Strategy<Value = Eviction> {
    let lrfu = Eviction::Lrfu { step: 0.1, attenuation: 2.0 };
    prop_oneof![Just(Eviction::Lru), Just(lrfu), Just(Eviction::S3Fifo), Just(Eviction::Epoch)]
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![4 => Just(Class::Evictable), 1 => Just(Class::Pinned), 1 => Just(Class::Unpersisted)]
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 0u64..12;
    prop_oneof![
        6 => (number(), 0u64..60, class()).prop_map(|(number, bytes, class)| Step::Put { number, bytes, class }),
        3 => (number(), 0u64..60, class()).prop_map(|(number, bytes, class)| Step::Begin { number, bytes, class }),
        3 => (number(), 0u64..60).prop_map(|(number, bytes)| Step::Fill { number, bytes }),
        2 => (number(), 0u64..60).prop_map(|(number, bytes)| Step::More { number, bytes }),
        2 => number().prop_map(|number| Step::Commit { number }),
        2 => number().prop_map(|number| Step::Open { number }),
        3 => number().prop_map(|number| Step::Close { number }),
        1 => number().prop_map(|number| Step::Persisted { number }),
        1 => (number(), 0u64..60).prop_map(|(number, bytes)| Step::Shrink { number, bytes }),
        2 => number().prop_map(|number| Step::Remove { number }),
        1 => Just(Step::Ahead),
        1 => (0u16..3).prop_map(|dir| Step::Lose { dir }),
    ]
}

/// What must hold of any plan: it names only blocks that may leave, and it makes the room it promised.
fn check_plan(tiers: &mut Tiers, dir: DirIndex, moves: &[Move], need_bytes: u64) {
    for step in moves {
        let Move::Evict { block, dir: from, bytes } = step;
        let held = tiers.get(*block).expect("a plan names blocks that are here");
        assert_eq!((held.class, held.stage, held.opens), (Class::Evictable, Stage::Committed, 0));
        assert_eq!((held.dir, held.resident_bytes), (*from, *bytes));
        tiers.apply(step);
    }
    assert!(tiers.directory(dir).expect("it exists").free_bytes() >= need_bytes || need_bytes == 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The model: for each block the bytes and class it should have, unless the state said it left.
    #[test]
    fn tiers_agree_with_the_model(steps in proptest::collection::vec(step(), 1..120), eviction in eviction()) {
        let specs =
            vec![spec(0, 0, Medium::Mem, 100), spec(1, 1, Medium::Ssd, 120), spec(2, 1, Medium::Ssd, 90)];
        let mut tiers = Tiers::new(Settings { eviction, ..Settings::default() }, specs);
        let mut model: BTreeMap<BlockId, (u64, Class, Stage, u32)> = BTreeMap::new();
        for step in steps {
            let id = |number| block(1 + number / 4, number % 4);
            match step {
                Step::Put { number, bytes, class } => {
                    if let Ok(gone) = put(&mut tiers, id(number), bytes, class) {
                        gone.iter().for_each(|block| { model.remove(block); });
                        prop_assert!(model.insert(id(number), (bytes, class, Stage::Committed, 0)).is_none());
                    }
                }
                Step::Begin { number, bytes, class } => {
                    if let Ok(placed) = tiers.place(id(number), bytes, class) {
                        check_plan(&mut tiers, placed.dir, &placed.moves, bytes);
                        placed.moves.iter().for_each(|Move::Evict { block, .. }| { model.remove(block); });
                        tiers.begin(id(number), placed.dir, class, Stage::Writing, bytes);
                        model.insert(id(number), (0, class, Stage::Writing, 1));
                    }
                }
                Step::Fill { number, bytes } => {
                    let counted = tiers.fill(id(number), bytes);
                    prop_assert!(counted <= bytes);
                    if let Some(known) = model.get_mut(&id(number)) { known.0 += counted; }
                }
                Step::More { number, bytes } => {
                    let known = tiers.get(id(number));
                    let open = known.filter(|held| held.opens > 0);
                    if let (Ok(moves), Some(held)) = (tiers.place_more(id(number), bytes), open) {
                        check_plan(&mut tiers, held.dir, &moves, bytes);
                        moves.iter().for_each(|Move::Evict { block, .. }| { model.remove(block); });
                        tiers.reserve(id(number), bytes);
                    }
                }
                Step::Commit { number } => {
                    if let Some(known) = model.get_mut(&id(number)) {
                        tiers.commit(id(number), known.1);
                        known.2 = Stage::Committed;
                    }
                }
                Step::Open { number } => {
                    let here = tiers.open(id(number));
                    prop_assert_eq!(here, model.contains_key(&id(number)));
                    if let Some(known) = model.get_mut(&id(number)) { known.3 += 1; }
                }
                Step::Close { number } => {
                    // A writer closes after its commit or abort, never before.
                    let idle = |known: &&mut (u64, Class, Stage, u32)| known.2 == Stage::Committed || known.3 > 1;
                    if let Some(known) = model.get_mut(&id(number)).filter(idle) {
                        tiers.close(id(number));
                        known.3 = known.3.saturating_sub(1);
                    }
                }
                Step::Persisted { number } => {
                    tiers.reclass(id(number), Class::Evictable);
                    if let Some(known) = model.get_mut(&id(number)) { known.1 = Class::Evictable; }
                }
                Step::Shrink { number, bytes } => {
                    tiers.shrink(id(number), bytes);
                    if let Some(known) = model.get_mut(&id(number)) { known.0 = known.0.saturating_sub(bytes); }
                }
                Step::Remove { number } => {
                    prop_assert_eq!(tiers.remove(id(number)).is_some(), model.remove(&id(number)).is_some());
                }
                Step::Ahead => {
                    for step in plan_ahead(&tiers) {
                        let Move::Evict { block, .. } = step;
                        tiers.apply(&step);
                        model.remove(&block);
                    }
                }
                Step::Lose { dir } => {
                    // Once only, so that histories keep somewhere to put blocks.
                    if dir == 2 {
                        for (block, _) in tiers.lose(DirIndex(2), "pulled out") { model.remove(&block); }
                    }
                }
            }
            tiers.check_invariants();
            for directory in tiers.directories() {
                prop_assert!(directory.used_bytes + directory.reserved_bytes <= directory.spec.capacity_bytes);
            }
            let held: BTreeMap<_, _> = tiers
                .blocks()
                .map(|(block, held)| (block, (held.resident_bytes, held.class, held.stage, held.opens)))
                .collect();
            prop_assert_eq!(&held, &model);
        }
    }
}
