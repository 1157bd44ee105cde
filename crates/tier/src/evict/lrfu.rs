//! Least recently and frequently used first: a use of a block weighs 1 when it happens, and less with every use of another.
//!
//! Source: Lee et al., "LRFU: a spectrum of policies that subsumes the least recently used and least frequently used policies",
//! 2001, <https://doi.org/10.1109/TC.2001.970573>

use super::order::Order;
use super::policy::{Gone, Policy};
use std::collections::BTreeMap;
use types::BlockId;

/// By weight. All weights shrink alike, so their logarithms as of the first use of all order them, and only a use changes one.
pub(super) struct Lrfu {
    /// What a use loses with every further one, in powers of two.
    decay: f64,
    weights: BTreeMap<BlockId, f64>,
    /// Weights as bits: none is negative, so they order as the numbers do. The number of the use tells equal ones apart.
    listed: Order<(u64, u64)>,
    uses: u64,
}

impl Lrfu {
    /// A use weighs `attenuation`^(−`step` × uses since). Step 0: by frequency alone.
    pub fn new(step: f64, attenuation: f64) -> Lrfu {
        let decay = (step * attenuation.log2()).max(0.0);
        Lrfu { decay, weights: BTreeMap::new(), listed: Order::default(), uses: 0 }
    }
}

impl Policy for Lrfu {
    fn list(&mut self, block: BlockId, _bytes: u64) {
        self.uses += 1;
        #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 uses")]
        let now = self.decay * self.uses as f64;
        let before = self.weights.get(&block).map_or(0.0, |weight| (weight - now).exp2());
        let weight = now + (1.0 + before).log2();
        self.weights.insert(block, weight);
        self.listed.insert(block, (weight.to_bits(), self.uses));
    }

    fn unlist(&mut self, block: BlockId) {
        self.listed.remove(block);
    }

    fn forget(&mut self, block: BlockId, _why: Gone) {
        self.weights.remove(&block);
    }

    fn victims(&self) -> Box<dyn Iterator<Item = BlockId> + '_> {
        Box::new(self.listed.iter().map(|(_, block)| block))
    }

    fn len(&self) -> usize {
        self.listed.len()
    }
}
