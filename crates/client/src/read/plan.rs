//! Which bytes of which block a read needs.

use crate::status::BlockStatus;
use types::BlockId;

/// A part of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fetch {
    /// Position of the block in the file.
    pub index: usize,
    pub block: BlockId,
    /// Within the block.
    pub offset: u64,
    /// Never 0.
    pub length: u64,
}

/// The parts that make up `[start, end)`, in file order. What lies past the last block is left out.
///
/// `blocks` stand in file order without gaps. Cost: a binary search and a walk over the blocks touched.
pub(crate) fn fetches(blocks: &[BlockStatus], start: u64, end: u64) -> Vec<Fetch> {
    let first = blocks.partition_point(|block| block.offset + block.length <= start);
    let touched = blocks.iter().enumerate().skip(first).take_while(|(_, block)| block.offset < end);
    touched
        .map(|(index, block)| {
            let offset = start.saturating_sub(block.offset);
            let length = (end - block.offset).min(block.length) - offset;
            Fetch { index, block: block.block, offset, length }
        })
        .filter(|fetch| fetch.length > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::ContainerId;

    fn blocks(lengths: &[u64]) -> Vec<BlockStatus> {
        let mut offset = 0;
        (0u64..)
            .zip(lengths)
            .map(|(index, length)| {
                let block = ContainerId(7).block(index).expect("a small index");
                let status = BlockStatus { block, offset, length: *length, locations: Vec::new() };
                offset += length;
                status
            })
            .collect()
    }

    fn plan(lengths: &[u64], start: u64, end: u64) -> Vec<(usize, u64, u64)> {
        fetches(&blocks(lengths), start, end).into_iter().map(|f| (f.index, f.offset, f.length)).collect()
    }

    #[test]
    fn a_range_is_cut_at_block_borders() {
        assert_eq!(plan(&[10, 10, 5], 0, 25), [(0, 0, 10), (1, 0, 10), (2, 0, 5)]);
        assert_eq!(plan(&[10, 10, 5], 9, 11), [(0, 9, 1), (1, 0, 1)]);
        assert_eq!(plan(&[10, 10, 5], 10, 20), [(1, 0, 10)]);
        assert_eq!(plan(&[10, 10, 5], 3, 7), [(0, 3, 4)]);
        assert_eq!(plan(&[10, 10, 5], 24, 99), [(2, 4, 1)]);
        assert_eq!(plan(&[10, 10, 5], 25, 99), []);
        assert_eq!(plan(&[10, 10, 5], 5, 5), []);
        assert_eq!(plan(&[], 0, 10), []);
    }

    #[test]
    fn every_range_of_a_small_file_is_covered_exactly() {
        let lengths = [4, 4, 1];
        for start in 0..9 {
            for end in start..9 {
                let bytes: Vec<u64> = plan(&lengths, start, end)
                    .into_iter()
                    .flat_map(|(index, offset, length)| {
                        let base = 4 * u64::try_from(index).expect("small") + offset;
                        base..base + length
                    })
                    .collect();
                assert_eq!(bytes, (start..end).collect::<Vec<_>>(), "[{start}, {end})");
            }
        }
    }
}
