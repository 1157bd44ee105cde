//! Least recently used first.

use super::order::Order;
use super::policy::{Gone, Policy};
use types::BlockId;

/// By the number of the last use.
#[derive(Default)]
pub(super) struct Lru {
    listed: Order<u64>,
    uses: u64,
}

impl Policy for Lru {
    fn list(&mut self, block: BlockId, _bytes: u64) {
        self.uses += 1;
        self.listed.insert(block, self.uses);
    }

    fn unlist(&mut self, block: BlockId) {
        self.listed.remove(block);
    }

    fn forget(&mut self, _block: BlockId, _why: Gone) {}

    fn victims(&self) -> Box<dyn Iterator<Item = BlockId> + '_> {
        Box::new(self.listed.iter().map(|(_, block)| block))
    }

    fn len(&self) -> usize {
        self.listed.len()
    }
}
