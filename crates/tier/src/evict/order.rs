//! Blocks by a key that orders them.

use std::collections::BTreeMap;
use types::BlockId;

/// Each block once, under a key that no other one has.
pub(super) struct Order<K> {
    blocks: BTreeMap<K, BlockId>,
    keys: BTreeMap<BlockId, K>,
}

impl<K> Default for Order<K> {
    fn default() -> Order<K> {
        Order { blocks: BTreeMap::new(), keys: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Order<K> {
    pub fn insert(&mut self, block: BlockId, key: K) {
        let before = (self.blocks.insert(key, block), self.keys.insert(block, key));
        assert!(before.0.is_none() && before.1.is_none(), "{block} is listed once, under a key of its own");
    }

    /// The key it had; None if it is not here.
    pub fn remove(&mut self, block: BlockId) -> Option<K> {
        let key = self.keys.remove(&block)?;
        self.blocks.remove(&key);
        Some(key)
    }

    /// The lowest key first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, BlockId)> {
        self.blocks.iter().map(|(key, block)| (*key, *block))
    }

    /// Those with keys in `[from, to)`, the lowest first.
    pub fn range(&self, from: K, to: K) -> impl DoubleEndedIterator<Item = (K, BlockId)> {
        self.blocks.range(from..to).map(|(key, block)| (*key, *block))
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }
}
