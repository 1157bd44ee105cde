//! What counts as a use of a block.

/// Two uses of a block that so many counted ones of others lie between, at most, are one.
const NEAR: u64 = 64;
/// And no more than this part of the blocks there are.
const NEAR_SHARE: u64 = 16;

/// Numbers the uses that count, and tells them from those that belong to the one before: a block that is read in a hundred pieces
/// one after the other, beside other such readers, was used once.
#[derive(Default)]
pub(super) struct Uses {
    now: u64,
}

impl Uses {
    /// The number of this use of a block, whose last use that counted was `before`; None if it belongs to that one. `blocks`: how
    /// many there are.
    pub fn count(&mut self, before: Option<u64>, blocks: usize) -> Option<u64> {
        let near = NEAR.min(u64::try_from(blocks).unwrap_or(u64::MAX) / NEAR_SHARE);
        if before.is_some_and(|before| self.now - before <= near) {
            return None;
        }
        self.now += 1;
        Some(self.now)
    }

    /// The number of the last one.
    pub fn now(&self) -> u64 {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_block_that_are_read_beside_other_readers_are_one_use() {
        let mut uses = Uses::default();
        let blocks = 30 * 16;
        let last: Vec<_> = (0..30).map(|_| uses.count(None, blocks)).collect();
        for _ in 0..100 {
            assert!(last.iter().all(|one| uses.count(*one, blocks).is_none()));
        }
        let others = [uses.count(None, blocks), uses.count(None, blocks)];
        assert!(others.iter().all(Option::is_some));
        assert!(uses.count(last[0], blocks).is_some(), "31 others were used since");
        assert_eq!(uses.count(last[2], blocks), None, "30 others");
    }

    #[test]
    fn in_a_small_cache_every_use_counts_that_another_one_came_before() {
        let mut uses = Uses::default();
        let first = uses.count(None, 8);
        assert_eq!(uses.count(first, 8), None);
        assert!(uses.count(None, 8).is_some());
        assert!(uses.count(first, 8).is_some());
    }
}
