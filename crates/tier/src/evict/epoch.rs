//! Fill, then keep. Where all of a data set is read again and again, each time in another order, and half of it fits, half of the
//! reads find their block if the same half stays; the least recently used would go just before it is needed.

use super::order::Order;
use super::policy::{Gone, Policy};
use super::uses::Uses;
use std::collections::BTreeMap;
use types::BlockId;

/// After uses of so many times the blocks there are it is asked whether they are of use,
const WINDOW: u64 = 2;
/// which they are if one in so many found its block here.
const USEFUL: u64 = 16;

/// The last to come leave first. But blocks that were not used for a while leave before them, the least recently used first, once
/// hardly any read finds its block: the data set is another one.
#[derive(Default)]
pub(super) struct Epoch {
    blocks: BTreeMap<BlockId, Known>,
    by_arrival: Order<u64>,
    by_use: Order<u64>,
    uses: Uses,
    arrivals: u64,
    /// What was used last before this use, as a number of [`Uses`], is of no use any more.
    stale_before: u64,
    /// The use the present window began with, and how many that counted since found their block.
    window: u64,
    found: u64,
}

/// A block that is here.
#[derive(Clone, Copy)]
struct Known {
    arrival: u64,
    /// The last use that counted.
    used: u64,
}

impl Epoch {
    /// Looks back when a window is over.
    fn look_back(&mut self) {
        let now = self.uses.now();
        let window = WINDOW * u64::try_from(self.blocks.len()).unwrap_or(u64::MAX);
        if now - self.window < window.max(1) {
            return;
        }
        if self.found < (now - self.window) / USEFUL {
            self.stale_before = self.window;
        }
        (self.window, self.found) = (now, 0);
    }
}

impl Policy for Epoch {
    fn list(&mut self, block: BlockId, _bytes: u64) {
        let known = self.blocks.get(&block).copied();
        let counted = self.uses.count(known.map(|known| known.used), self.blocks.len());
        let known = match (known, counted) {
            (Some(known), None) => known,
            (Some(known), Some(used)) => {
                self.found += 1;
                Known { used, ..known }
            }
            (None, _) => {
                self.arrivals += 1;
                Known { arrival: self.arrivals, used: self.uses.now() }
            }
        };
        self.blocks.insert(block, known);
        self.by_arrival.insert(block, known.arrival);
        self.by_use.insert(block, known.used);
        self.look_back();
    }

    fn unlist(&mut self, block: BlockId) {
        self.by_arrival.remove(block);
        self.by_use.remove(block);
    }

    fn forget(&mut self, block: BlockId, _why: Gone) {
        self.blocks.remove(&block);
    }

    fn victims(&self) -> Box<dyn Iterator<Item = BlockId> + '_> {
        let stale = self.by_use.range(0, self.stale_before).map(|(_, block)| block);
        let newest = self.by_arrival.iter().rev().map(|(_, block)| block);
        Box::new(stale.chain(newest.filter(|block| self.blocks[block].used >= self.stale_before)))
    }

    fn len(&self) -> usize {
        self.by_arrival.len()
    }
}
