//! Each policy against a slow model of it: lists that are walked.

use super::policy::{Eviction, Gone};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use types::{BlockId, ContainerId};

fn block(number: u64) -> BlockId {
    ContainerId(1 + number).block(0).expect("a small index")
}

#[derive(Clone, Debug)]
enum Step {
    /// Opened, and closed again.
    Use(u64),
    /// Opened, until it is used.
    Hold(u64),
    /// The first to leave leaves, so often.
    Evict(usize),
    Remove(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0u64..24).prop_map(Step::Use),
        1 => (0u64..24).prop_map(Step::Hold),
        2 => (1usize..4).prop_map(Step::Evict),
        1 => (0u64..24).prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 1..250)
}

/// What a policy should do.
trait Model {
    fn used(&mut self, block: BlockId, blocks: usize, listed: &BTreeSet<BlockId>);
    fn gone(&mut self, block: BlockId, why: Gone, listed: &BTreeSet<BlockId>);
    /// The listed ones, the first to leave first.
    fn order(&self, listed: &BTreeSet<BlockId>) -> Vec<BlockId>;
}

/// Blocks have as many bytes as their number says, so that some weigh more.
fn bytes(block: BlockId) -> u64 {
    10 + block.container().0 % 7
}

fn agree(eviction: Eviction, mut model: impl Model, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut policy = eviction.policy();
    let (mut here, mut listed) = (BTreeSet::new(), BTreeSet::new());
    for step in steps {
        match step {
            Step::Use(number) => {
                let block = block(number);
                if listed.remove(&block) {
                    policy.unlist(block);
                }
                model.used(block, here.len(), &listed);
                policy.list(block, bytes(block));
                here.insert(block);
                listed.insert(block);
            }
            Step::Hold(number) => {
                if listed.remove(&block(number)) {
                    policy.unlist(block(number));
                }
            }
            Step::Evict(count) => {
                let leaving: Vec<_> = policy.victims().take(count).collect();
                for block in leaving {
                    policy.unlist(block);
                    policy.forget(block, Gone::Evicted);
                    listed.remove(&block);
                    here.remove(&block);
                    model.gone(block, Gone::Evicted, &listed);
                }
            }
            Step::Remove(number) => {
                let block = block(number);
                if listed.remove(&block) {
                    policy.unlist(block);
                }
                if here.remove(&block) {
                    policy.forget(block, Gone::Removed);
                    model.gone(block, Gone::Removed, &listed);
                }
            }
        }
        let order: Vec<_> = policy.victims().collect();
        prop_assert_eq!(order.len(), policy.len());
        prop_assert_eq!(order, model.order(&listed));
    }
    Ok(())
}

/// Blocks whose uses counted, as [`super::uses`] says, in order.
#[derive(Default)]
struct History(Vec<BlockId>);

impl History {
    /// Whether it counts. `here`: it was not forgotten since its last use.
    fn used(&mut self, block: BlockId, here: bool, blocks: usize) -> bool {
        let before = self.last(block).filter(|_| here);
        let counts = before.is_none_or(|before| self.0.len() - before > 64.min(blocks / 16));
        if counts {
            self.0.push(block);
        }
        counts
    }

    /// The number of the last one.
    fn last(&self, block: BlockId) -> Option<usize> {
        Some(self.0.iter().rposition(|other| *other == block)? + 1)
    }
}

/// The last use of each.
#[derive(Default)]
struct LruModel(Vec<BlockId>);

impl Model for LruModel {
    fn used(&mut self, block: BlockId, _: usize, _: &BTreeSet<BlockId>) {
        self.0.retain(|other| *other != block);
        self.0.push(block);
    }
    fn gone(&mut self, block: BlockId, _: Gone, _: &BTreeSet<BlockId>) {
        self.0.retain(|other| *other != block);
    }
    fn order(&self, listed: &BTreeSet<BlockId>) -> Vec<BlockId> {
        self.0.iter().copied().filter(|block| listed.contains(block)).collect()
    }
}

/// All uses of each, by their numbers.
struct LrfuModel {
    step: f64,
    attenuation: f64,
    now: i32,
    uses: BTreeMap<BlockId, Vec<i32>>,
}

impl Model for LrfuModel {
    fn used(&mut self, block: BlockId, _: usize, _: &BTreeSet<BlockId>) {
        self.now += 1;
        self.uses.entry(block).or_default().push(self.now);
    }
    fn gone(&mut self, block: BlockId, _: Gone, _: &BTreeSet<BlockId>) {
        self.uses.remove(&block);
    }
    fn order(&self, listed: &BTreeSet<BlockId>) -> Vec<BlockId> {
        let weight = |block: &BlockId| -> f64 {
            self.uses[block].iter().map(|at| self.attenuation.powf(-self.step * f64::from(self.now - at))).sum()
        };
        let last = |block: &BlockId| self.uses[block].last().copied();
        let mut order: Vec<_> = listed.iter().copied().collect();
        order.sort_by(|a, b| weight(a).total_cmp(&weight(b)).then(last(a).cmp(&last(b))));
        order
    }
}

/// Blocks of both queues in the order of their age, in the main one with their uses.
#[derive(Default)]
struct S3FifoModel {
    history: History,
    small: Vec<BlockId>,
    main: Vec<(BlockId, u8)>,
    ghosts: BTreeSet<BlockId>,
}

impl Model for S3FifoModel {
    fn used(&mut self, block: BlockId, blocks: usize, _: &BTreeSet<BlockId>) {
        let here = self.small.contains(&block) || self.main.iter().any(|(other, _)| *other == block);
        let counts = self.history.used(block, here, blocks);
        let small = self.small.iter().position(|other| *other == block);
        let main = self.main.iter_mut().find(|(other, _)| *other == block);
        match (small, main) {
            (None, None) if self.ghosts.remove(&block) => self.main.push((block, 0)),
            (None, None) => self.small.push(block),
            (Some(at), _) if counts => {
                self.small.remove(at);
                self.main.push((block, 0));
            }
            (_, Some((_, times))) if counts => *times = 3.min(*times + 1),
            _ => {}
        }
    }

    fn gone(&mut self, block: BlockId, why: Gone, listed: &BTreeSet<BlockId>) {
        if let Some(at) = self.small.iter().position(|other| *other == block) {
            self.small.remove(at);
            if why == Gone::Evicted {
                self.ghosts.insert(block);
            }
        } else if let Some(at) = self.main.iter().position(|(other, _)| *other == block) {
            let (_, times) = self.main.remove(at);
            if why == Gone::Evicted {
                let passed = |(other, more): &(BlockId, u8)| *more > times && listed.contains(other);
                let ahead: Vec<_> = self.main[..at].iter().copied().filter(|one| passed(one)).collect();
                self.main.retain(|one| !ahead.contains(one));
                self.main.extend(ahead.iter().map(|(block, times)| (*block, times - 1)));
            }
        }
    }

    fn order(&self, listed: &BTreeSet<BlockId>) -> Vec<BlockId> {
        let mut small: Vec<_> = self.small.iter().copied().filter(|block| listed.contains(block)).collect();
        let mut main: Vec<_> = self.main.iter().copied().filter(|(block, _)| listed.contains(block)).collect();
        main.sort_by_key(|(_, times)| *times);
        let mut main: Vec<_> = main.into_iter().map(|(block, _)| block).collect();
        let mut order = Vec::new();
        let sum = |blocks: &[BlockId]| blocks.iter().map(|block| bytes(*block)).sum::<u64>();
        while !small.is_empty() || !main.is_empty() {
            let is_small = main.is_empty() || (!small.is_empty() && sum(&small) * 10 > sum(&small) + sum(&main));
            order.push(if is_small { small.remove(0) } else { main.remove(0) });
        }
        order
    }
}

/// Blocks as they came, and the window.
#[derive(Default)]
struct EpochModel {
    history: History,
    came: Vec<BlockId>,
    window: usize,
    found: usize,
    stale_before: usize,
}

impl Model for EpochModel {
    fn used(&mut self, block: BlockId, blocks: usize, _: &BTreeSet<BlockId>) {
        let counts = self.history.used(block, self.came.contains(&block), blocks);
        if !self.came.contains(&block) {
            self.came.push(block);
        } else if counts {
            self.found += 1;
        }
        let now = self.history.0.len();
        if now - self.window >= 2 * self.came.len() {
            if self.found < (now - self.window) / 16 {
                self.stale_before = self.window;
            }
            (self.window, self.found) = (now, 0);
        }
    }

    fn gone(&mut self, block: BlockId, _: Gone, _: &BTreeSet<BlockId>) {
        self.came.retain(|other| *other != block);
    }

    fn order(&self, listed: &BTreeSet<BlockId>) -> Vec<BlockId> {
        let used = |block: &BlockId| self.history.last(*block).expect("it was used");
        let mut stale: Vec<_> = listed.iter().copied().filter(|block| used(block) < self.stale_before).collect();
        stale.sort_by_key(|block| used(block));
        let newest = self.came.iter().rev().copied();
        let rest = newest.filter(|block| listed.contains(block) && used(block) >= self.stale_before);
        stale.into_iter().chain(rest).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn lru_agrees_with_a_list(steps in steps()) {
        agree(Eviction::Lru, LruModel::default(), steps)?;
    }

    #[test]
    fn lrfu_agrees_with_sums_over_all_uses(steps in steps(), step in 0u8..5, attenuation in 2u8..5) {
        let (step, attenuation) = (f64::from(step) / 4.0, f64::from(attenuation));
        let model = LrfuModel { step, attenuation, now: 0, uses: BTreeMap::new() };
        let eviction = Eviction::Lrfu { step, attenuation };
        agree(eviction, model, steps)?;
    }

    #[test]
    fn s3fifo_agrees_with_two_lists(steps in steps()) {
        agree(Eviction::S3Fifo, S3FifoModel::default(), steps)?;
    }

    #[test]
    fn epoch_agrees_with_a_list_of_arrivals(steps in steps()) {
        agree(Eviction::Epoch, EpochModel::default(), steps)?;
    }
}
