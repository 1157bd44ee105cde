//! Least recently used first: a doubly linked list inside a slab.

use super::policy::{Policy, Slot};
use types::BlockId;

/// End of the list, and of the chain of free nodes.
const NONE: u32 = u32::MAX;

struct Node {
    block: BlockId,
    older: u32,
    newer: u32,
}

/// Least recently used first. 16 bytes and one slab entry a block; no call walks the list.
pub struct Lru {
    nodes: Vec<Node>,
    oldest: u32,
    newest: u32,
    free: u32,
    len: usize,
}

impl Default for Lru {
    fn default() -> Lru {
        Lru { nodes: Vec::new(), oldest: NONE, newest: NONE, free: NONE, len: 0 }
    }
}

fn at(node: u32) -> usize {
    usize::try_from(node).expect("32 bits fit a usize here")
}

impl Policy for Lru {
    fn insert(&mut self, block: BlockId) -> Slot {
        let node = Node { block, older: self.newest, newer: NONE };
        let new = if self.free == NONE {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 blocks in a directory")
        } else {
            let reused = self.free;
            self.free = self.nodes[at(reused)].newer;
            self.nodes[at(reused)] = node;
            reused
        };
        match self.newest {
            NONE => self.oldest = new,
            newest => self.nodes[at(newest)].newer = new,
        }
        self.newest = new;
        self.len += 1;
        Slot(new)
    }

    fn remove(&mut self, slot: Slot) {
        let Node { older, newer, .. } = self.nodes[at(slot.0)];
        match older {
            NONE => self.oldest = newer,
            older => self.nodes[at(older)].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.nodes[at(newer)].older = older,
        }
        self.nodes[at(slot.0)].newer = self.free;
        self.free = slot.0;
        self.len -= 1;
    }

    fn next(&self, after: Option<Slot>) -> Option<(Slot, BlockId)> {
        let next = after.map_or(self.oldest, |slot| self.nodes[at(slot.0)].newer);
        (next != NONE).then(|| (Slot(next), self.nodes[at(next)].block))
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn order(lru: &Lru) -> Vec<BlockId> {
        std::iter::successors(lru.next(None), |(slot, _)| lru.next(Some(*slot))).map(|(_, block)| block).collect()
    }

    proptest! {
        #[test]
        fn the_list_agrees_with_a_queue(steps in proptest::collection::vec((any::<bool>(), 0usize..20), 0..300)) {
            let mut lru = Lru::default();
            let mut model: VecDeque<(BlockId, Slot)> = VecDeque::new();
            for (number, (add, pick)) in steps.into_iter().enumerate() {
                if add {
                    let id = BlockId::from_wire((i64::try_from(number).expect("small") + 1) << 24).expect("positive");
                    model.push_back((id, lru.insert(id)));
                } else if let Some((_, slot)) = model.remove(pick) {
                    lru.remove(slot);
                }
                prop_assert_eq!(order(&lru), model.iter().map(|(id, _)| *id).collect::<Vec<_>>());
                prop_assert_eq!(lru.len(), model.len());
            }
        }
    }
}
