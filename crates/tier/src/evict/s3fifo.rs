//! New blocks prove themselves in a tenth of the room before they may displace what is in use: a scan passes through.
//!
//! Source: Yang et al., "FIFO queues are all you need for cache eviction", 2023, <https://doi.org/10.1145/3600006.3613147>

use super::order::Order;
use super::policy::{Gone, Policy};
use super::uses::Uses;
use std::collections::{BTreeMap, VecDeque};
use types::BlockId;

/// The small queue gets one part of so many.
const SMALL_SHARE: u64 = 10;
/// More uses than this do not count.
const TIMES_MAX: u8 = 3;
/// Names of blocks that left the small queue: as many as there are blocks, and at least so many.
const GHOSTS_MIN: usize = 128;

/// Two queues, and the names of what left the first. Differs from the source in when it acts, not in what it prefers: a use moves a
/// block out of the small queue at once, and what an eviction from the main queue passed over moves back when that is carried out.
#[derive(Default)]
pub(super) struct S3Fifo {
    blocks: BTreeMap<BlockId, Known>,
    /// By age.
    small: Order<u64>,
    small_bytes: u64,
    /// By uses that are left, then by age.
    main: Order<(u8, u64)>,
    main_bytes: u64,
    ghosts: Ghosts,
    uses: Uses,
    ages: u64,
}

/// A block that is here.
#[derive(Clone, Copy)]
struct Known {
    place: Place,
    used: u64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Small(u64),
    Main(u8, u64),
}

/// The oldest first.
#[derive(Default)]
struct Ghosts {
    order: VecDeque<(BlockId, u64)>,
    /// With the number under which each was last remembered.
    known: BTreeMap<BlockId, u64>,
    last: u64,
}

impl Ghosts {
    /// Remembers a name, and at most `most` in all.
    fn remember(&mut self, block: BlockId, most: usize) {
        self.last += 1;
        self.known.insert(block, self.last);
        self.order.push_back((block, self.last));
        while self.order.len() > most
            && let Some((block, number)) = self.order.pop_front()
        {
            // Unless it was taken back, or remembered anew since.
            if self.known.get(&block) == Some(&number) {
                self.known.remove(&block);
            }
        }
    }

    /// Whether it was remembered; not any more.
    fn take(&mut self, block: BlockId) -> bool {
        self.known.remove(&block).is_some()
    }
}

impl S3Fifo {
    fn age(&mut self) -> u64 {
        self.ages += 1;
        self.ages
    }

    /// Blocks at the front of the main queue that were used gave way to one behind them: each has one use less, and goes to its end.
    fn passed(&mut self, times: u8, age: u64) {
        let ahead = (times + 1..=TIMES_MAX).flat_map(|more| self.main.range((more, 0), (more, age)));
        let mut ahead: Vec<_> = ahead.collect();
        ahead.sort_unstable_by_key(|((_, age), _)| *age);
        for ((times, _), block) in ahead {
            self.main.remove(block);
            let age = self.age();
            self.main.insert(block, (times - 1, age));
            let known = self.blocks.get_mut(&block).expect("what is listed is known");
            known.place = Place::Main(times - 1, age);
        }
    }
}

impl Policy for S3Fifo {
    fn list(&mut self, block: BlockId, bytes: u64) {
        let known = self.blocks.get(&block).copied();
        let counted = self.uses.count(known.map(|known| known.used), self.blocks.len());
        let place = match known.map(|known| known.place) {
            None if self.ghosts.take(block) => Place::Main(0, self.age()),
            None => Place::Small(self.age()),
            Some(place) if counted.is_none() => place,
            Some(Place::Small(_)) => Place::Main(0, self.age()),
            Some(Place::Main(times, age)) => Place::Main(TIMES_MAX.min(times + 1), age),
        };
        let used = counted.or(known.map(|known| known.used)).expect("the first use of a block counts");
        self.blocks.insert(block, Known { place, used, bytes });
        match place {
            Place::Small(age) => {
                self.small.insert(block, age);
                self.small_bytes += bytes;
            }
            Place::Main(times, age) => {
                self.main.insert(block, (times, age));
                self.main_bytes += bytes;
            }
        }
    }

    fn unlist(&mut self, block: BlockId) {
        let bytes = self.blocks.get(&block).map_or(0, |known| known.bytes);
        if self.small.remove(block).is_some() {
            self.small_bytes -= bytes;
        } else if self.main.remove(block).is_some() {
            self.main_bytes -= bytes;
        }
    }

    fn forget(&mut self, block: BlockId, why: Gone) {
        let (Some(known), Gone::Evicted) = (self.blocks.remove(&block), why) else { return };
        match known.place {
            Place::Small(_) => self.ghosts.remember(block, self.blocks.len().max(GHOSTS_MIN)),
            Place::Main(times, age) => self.passed(times, age),
        }
    }

    fn victims(&self) -> Box<dyn Iterator<Item = BlockId> + '_> {
        let (mut small, mut main) = (self.small.iter().peekable(), self.main.iter().peekable());
        let (mut small_bytes, mut left) = (self.small_bytes, self.small_bytes + self.main_bytes);
        Box::new(std::iter::from_fn(move || {
            let is_small = main.peek().is_none() || small_bytes.saturating_mul(SMALL_SHARE) > left;
            let from_small = if is_small { small.next() } else { None };
            let block = match from_small {
                Some((_, block)) => {
                    small_bytes -= self.blocks[&block].bytes;
                    block
                }
                None => main.next()?.1,
            };
            left -= self.blocks[&block].bytes;
            Some(block)
        }))
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }
}
