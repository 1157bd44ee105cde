//! Each policy against a slow one written down plainly.

use super::super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const SLOTS: u32 = 24;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Touches the slot, or fills it if it is empty, with one of a few hashes.
    Use(u32, u8),
    Remove(u32),
    Evict,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..SLOTS, 0u8..40).prop_map(|(slot, hash)| Step::Use(slot, hash)),
        1 => (0..SLOTS).prop_map(Step::Remove),
        2 => Just(Step::Evict),
    ];
    proptest::collection::vec(step, 1..400)
}

/// Few, but different in the bits that policies look at.
fn hash(hash: u8) -> u64 {
    (u64::from(hash) << 32) | (u64::from(hash) * 5)
}

trait Model {
    fn holds(&self, slot: u32) -> bool;
    fn inserted(&mut self, slot: u32, hash: u64);
    fn touched(&mut self, slot: u32);
    fn removed(&mut self, slot: u32);
    fn evict(&mut self) -> Option<u32>;
}

fn agrees(mut policy: impl Policy, mut model: impl Model, steps: &[Step]) -> Result<(), TestCaseError> {
    for step in steps {
        match *step {
            Step::Use(slot, _) if model.holds(slot) => {
                model.touched(slot);
                policy.touched(slot);
            }
            Step::Use(slot, number) => {
                model.inserted(slot, hash(number));
                policy.inserted(slot, hash(number));
            }
            Step::Remove(slot) if model.holds(slot) => {
                model.removed(slot);
                policy.removed(slot);
            }
            Step::Remove(_) => {}
            Step::Evict => prop_assert_eq!(policy.evict(), model.evict()),
        }
    }
    loop {
        let gone = model.evict();
        prop_assert_eq!(policy.evict(), gone);
        if gone.is_none() {
            return Ok(());
        }
    }
}

/// Front: used last.
#[derive(Default)]
struct List(Vec<u32>);

impl Model for List {
    fn holds(&self, slot: u32) -> bool {
        self.0.contains(&slot)
    }
    fn inserted(&mut self, slot: u32, _: u64) {
        self.0.insert(0, slot);
    }
    fn touched(&mut self, slot: u32) {
        self.removed(slot);
        self.0.insert(0, slot);
    }
    fn removed(&mut self, slot: u32) {
        self.0.retain(|held| *held != slot);
    }
    fn evict(&mut self) -> Option<u32> {
        self.0.pop()
    }
}

/// The note's words: buckets of chains, newest first; doubled beyond three quarters; the nth entry of a walk goes.
struct Walked {
    buckets: Vec<Vec<(u32, u64)>>,
    dice: u64,
}

impl Walked {
    fn all(&self) -> Vec<u32> {
        self.buckets.iter().flatten().map(|(slot, _)| *slot).collect()
    }
    fn push(&mut self, slot: u32, hash: u64) {
        let at = usize::try_from(hash % u64::try_from(self.buckets.len()).unwrap()).unwrap();
        self.buckets[at].insert(0, (slot, hash));
    }
}

impl Model for Walked {
    fn holds(&self, slot: u32) -> bool {
        self.all().contains(&slot)
    }
    fn inserted(&mut self, slot: u32, hash: u64) {
        self.push(slot, hash);
        if self.all().len() * 4 > self.buckets.len() * 3 {
            let twice = vec![Vec::new(); self.buckets.len() * 2];
            let old = std::mem::replace(&mut self.buckets, twice);
            old.into_iter().flatten().for_each(|(slot, hash)| self.push(slot, hash));
        }
    }
    fn touched(&mut self, _: u32) {}
    fn removed(&mut self, slot: u32) {
        self.buckets.iter_mut().for_each(|chain| chain.retain(|held| held.0 != slot));
    }
    fn evict(&mut self) -> Option<u32> {
        let all = self.all();
        if all.is_empty() {
            return None;
        }
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let share = (u128::from(crate::mix::mix(self.dice) >> 32) * u128::try_from(all.len()).unwrap()) >> 32;
        let victim = all[usize::try_from(share).unwrap()];
        self.removed(victim);
        Some(victim)
    }
}

/// The paper's words, with queues that are searched.
#[derive(Default)]
struct Queues {
    /// Slot, hash, uses; the front entered last.
    small: VecDeque<(u32, u64, u8)>,
    main: VecDeque<(u32, u64, u8)>,
    /// Hashes that left small, and whether they still count, the oldest first.
    ghosts: VecDeque<(u64, bool)>,
}

impl Queues {
    fn evict_small(&mut self) -> Option<u32> {
        while let Some((slot, hash, uses)) = self.small.pop_back() {
            if uses > 1 {
                self.main.push_front((slot, hash, 0));
                continue;
            }
            self.ghosts.iter_mut().filter(|ghost| ghost.0 == hash).for_each(|ghost| ghost.1 = false);
            self.ghosts.push_back((hash, true));
            while self.ghosts.len() > self.main.len() {
                self.ghosts.pop_front();
            }
            return Some(slot);
        }
        None
    }
    fn evict_main(&mut self) -> Option<u32> {
        while let Some((slot, hash, uses)) = self.main.pop_back() {
            if uses == 0 {
                return Some(slot);
            }
            self.main.push_front((slot, hash, uses - 1));
        }
        None
    }
}

impl Model for Queues {
    fn holds(&self, slot: u32) -> bool {
        self.small.iter().chain(&self.main).any(|held| held.0 == slot)
    }
    fn inserted(&mut self, slot: u32, hash: u64) {
        match self.ghosts.iter_mut().find(|ghost| **ghost == (hash, true)) {
            Some(ghost) => {
                ghost.1 = false;
                self.main.push_front((slot, hash, 0));
            }
            None => self.small.push_front((slot, hash, 0)),
        }
    }
    fn touched(&mut self, slot: u32) {
        let mut all = self.small.iter_mut().chain(&mut self.main);
        let held = all.find(|held| held.0 == slot).expect("it is held");
        held.2 = 3.min(held.2 + 1);
    }
    fn removed(&mut self, slot: u32) {
        self.small.retain(|held| held.0 != slot);
        self.main.retain(|held| held.0 != slot);
    }
    fn evict(&mut self) -> Option<u32> {
        let all = self.small.len() + self.main.len();
        let first = if self.small.len() * 10 > all { self.evict_small() } else { None };
        first.or_else(|| self.evict_main()).or_else(|| self.evict_small())
    }
}

proptest! {
    #[test]
    fn lru_agrees_with_a_list(steps in steps()) {
        agrees(Lru::default(), List::default(), &steps)?;
    }

    #[test]
    fn random_agrees_with_the_words_of_the_note(steps in steps(), seed in any::<u64>()) {
        agrees(Random::new(seed), Walked { buckets: vec![Vec::new(); 16], dice: seed }, &steps)?;
    }

    #[test]
    fn s3fifo_agrees_with_the_words_of_the_paper(steps in steps()) {
        agrees(S3Fifo::default(), Queues::default(), &steps)?;
    }
}

#[test]
fn random_draws_every_entry_as_often_as_any_other() {
    let mut random = Random::new(3);
    (0..100).for_each(|slot| random.inserted(slot, crate::mix::mix(u64::from(slot))));
    let mut drawn = [0; 100];
    for _ in 0..100_000 {
        let slot = random.evict().expect("it is full");
        drawn[usize::try_from(slot).unwrap()] += 1;
        random.inserted(slot, crate::mix::mix(u64::from(slot)));
    }
    assert!(drawn.iter().all(|count| (850..1150).contains(count)), "{drawn:?}");
}

#[test]
fn what_comes_back_soon_is_not_new_to_s3fifo() {
    let mut fifo = S3Fifo::default();
    // Five that prove themselves, five that do not.
    (0..10).for_each(|slot| fifo.inserted(slot, hash(u8::try_from(slot).unwrap())));
    (0..5).for_each(|slot| (0..2).for_each(|_| fifo.touched(slot)));
    assert_eq!(fifo.evict(), Some(5));
    // It comes back, into main; the next four go first.
    fifo.inserted(5, hash(5));
    let gone: Vec<_> = (0..4).map_while(|_| fifo.evict()).collect();
    assert_eq!(gone, [6, 7, 8, 9]);
}
