//! The least recently used entry goes first.
//!
//! Is:     a ring of slots from most to least recently used, as links in one vector: every step is O(1).
//! Never:  allocates but to know a higher slot than ever before.

use super::Policy;

/// Least recently used first.
#[derive(Default)]
pub struct Lru {
    /// `links[0]` is the ring's anchor: next is the most, before the least recently used. A slot stands one higher.
    links: Vec<Link>,
}

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    before: u32,
}

const ANCHOR: u32 = 0;

impl Lru {
    fn link(&mut self, at: u32) -> &mut Link {
        &mut self.links[usize::try_from(at).expect("32 bits fit")]
    }

    fn attach(&mut self, at: u32) {
        let next = self.link(ANCHOR).next;
        *self.link(at) = Link { next, before: ANCHOR };
        self.link(next).before = at;
        self.link(ANCHOR).next = at;
    }

    fn detach(&mut self, at: u32) {
        let Link { next, before } = *self.link(at);
        self.link(before).next = next;
        self.link(next).before = before;
    }
}

impl Policy for Lru {
    fn inserted(&mut self, slot: u32, _hash: u64) {
        let needed = usize::try_from(slot).expect("32 bits fit") + 2;
        if self.links.len() < needed {
            self.links.resize(needed, Link { next: ANCHOR, before: ANCHOR });
        }
        self.attach(slot + 1);
    }

    fn touched(&mut self, slot: u32) {
        self.detach(slot + 1);
        self.attach(slot + 1);
    }

    fn removed(&mut self, slot: u32) {
        self.detach(slot + 1);
    }

    fn evict(&mut self) -> Option<u32> {
        let last = self.links.first()?.before;
        let slot = last.checked_sub(1)?;
        self.detach(last);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Use(u32),
        Remove(u32),
        Evict,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u32..12).prop_map(Step::Use),
            1 => (0u32..12).prop_map(Step::Remove),
            1 => Just(Step::Evict),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(steps in steps()) {
            let (mut lru, mut list) = (Lru::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Use(slot) => {
                        let place = list.iter().position(|held| *held == slot);
                        match place {
                            Some(place) => { list.remove(place); lru.touched(slot) }
                            None => lru.inserted(slot, 0),
                        }
                        list.insert(0, slot);
                    }
                    Step::Remove(slot) => if let Some(place) = list.iter().position(|held| *held == slot) {
                        list.remove(place);
                        lru.removed(slot);
                    },
                    Step::Evict => prop_assert_eq!(lru.evict(), list.pop()),
                }
            }
            while let Some(slot) = list.pop() { prop_assert_eq!(lru.evict(), Some(slot)); }
            prop_assert_eq!(lru.evict(), None);
        }
    }
}
