//! The state: directories, blocks, promises of space, order of eviction.

use crate::allocate::Allocator;
use crate::directory::{Directory, DirectorySpec, Permille, Volatile};
use crate::error::Full;
use crate::evict::{Eviction, Gone, Move, Policy, plan};
use std::collections::BTreeMap;
use std::ops::Bound;
use types::{BlockId, ContainerId, DirIndex, Ordinal};

#[cfg(test)]
mod tests;

/// Why a block stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Exists nowhere else until a persist is through (ASYNC_THROUGH). Never leaves by itself.
    Unpersisted,
    /// Exists nowhere else and never will (MUST_CACHE). Never leaves by itself.
    Pinned,
    /// May leave when nobody reads it.
    Evictable,
}

impl Class {
    fn is_kept(self) -> bool {
        match self {
            Class::Unpersisted | Class::Pinned => true,
            Class::Evictable => false,
        }
    }
}

/// How far a block is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// A stream fills it; no reader sees it.
    Writing,
    /// Readers see what is here of it.
    Committed,
}

/// What settings say about all directories together.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Share of all capacity that blocks which must stay never take: `goosefs.worker.read.cache.min.ratio`.
    pub read_share_min: Permille,
    /// Bytes kept free in each directory by [`crate::plan_ahead`].
    pub free_ahead_bytes: u64,
    pub volatile: Volatile,
    pub allocator: Allocator,
    pub eviction: Eviction,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            read_share_min: Permille::new(100).expect("below 1000"),
            free_ahead_bytes: 0,
            volatile: Volatile::Refuse,
            allocator: Allocator::MaxFree,
            eviction: Eviction::Lru,
        }
    }
}

/// A block as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub dir: DirIndex,
    pub class: Class,
    pub stage: Stage,
    /// Bytes of it that are here.
    pub resident_bytes: u64,
    /// Promised to whoever fills it.
    pub reserved_bytes: u64,
    /// How many read or fill it now; such a block is not evicted.
    pub opens: u32,
}

/// Where a block goes, and what leaves first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    pub dir: DirIndex,
    pub moves: Vec<Move>,
}

struct Entry {
    held: Held,
    /// By the policy: exactly when it may leave.
    listed: bool,
    /// When it was last used, counted in calls.
    used_at: u64,
}

/// All that a worker's cache holds.
///
/// Invariants ([`Tiers::check_invariants`]):
/// - a directory's used, reserved and evictable bytes are the sums over its blocks;
/// - a block is in its directory's eviction order exactly when it is evictable, committed and not open;
/// - `kept_bytes` is used plus reserved bytes of blocks that must stay;
/// - no block stands in a lost directory; a committed, unopened block holds no promise of space.
pub struct Tiers {
    settings: Settings,
    directories: Vec<Directory>,
    orders: Vec<Box<dyn Policy>>,
    blocks: BTreeMap<BlockId, Entry>,
    kept_bytes: u64,
    calls: u64,
    last_choice: usize,
}

impl Tiers {
    /// Nothing cached yet. `specs` stand in the order of their indexes, 0 first.
    pub fn new(settings: Settings, specs: Vec<DirectorySpec>) -> Tiers {
        for (at, spec) in specs.iter().enumerate() {
            assert_eq!(usize::from(spec.index.0), at, "directories are numbered in order");
        }
        let orders = specs.iter().map(|_| settings.eviction.policy()).collect();
        let directories = specs.into_iter().map(Directory::new).collect();
        Tiers { settings, directories, orders, blocks: BTreeMap::new(), kept_bytes: 0, calls: 0, last_choice: 0 }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    pub fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.directories.iter()
    }
    pub fn directory(&self, dir: DirIndex) -> Option<&Directory> {
        self.directories.get(usize::from(dir.0))
    }
    /// None when the block is not here at all.
    pub fn get(&self, block: BlockId) -> Option<Held> {
        self.blocks.get(&block).map(|entry| entry.held)
    }
    /// All blocks, in the order of their ids.
    pub fn blocks(&self) -> impl Iterator<Item = (BlockId, Held)> {
        self.blocks.iter().map(|(block, entry)| (*block, entry.held))
    }
    /// The blocks of one generation of one file. Cost: O(log n) and one step each.
    pub fn blocks_of(&self, container: ContainerId) -> impl Iterator<Item = (BlockId, Held)> {
        let first = container.block(0).and_then(|first| first.to_wire().checked_sub(1)).and_then(BlockId::from_wire);
        let start = first.map_or(Bound::Unbounded, Bound::Excluded);
        self.blocks
            .range((start, Bound::Unbounded))
            .skip_while(move |(block, _)| block.container() < container)
            .take_while(move |(block, _)| block.container() == container)
            .map(|(block, entry)| (*block, entry.held))
    }
    /// Used and promised bytes of blocks that must stay.
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }
    /// Of the directories that work.
    pub fn capacity_bytes(&self) -> u64 {
        self.directories.iter().filter(|dir| !dir.is_lost()).map(|dir| dir.spec.capacity_bytes).sum()
    }
    /// Of the directories that work.
    pub fn used_bytes(&self) -> u64 {
        self.directories.iter().filter(|dir| !dir.is_lost()).map(|dir| dir.used_bytes).sum()
    }
    /// Blocks that may leave `dir`, first to go first, with the bytes each would free.
    pub fn victims(&self, dir: DirIndex) -> impl Iterator<Item = (BlockId, u64)> {
        let victims = self.orders[usize::from(dir.0)].victims();
        victims.map(|block| (block, self.blocks[&block].held.resident_bytes))
    }

    /// Where `need_bytes` of a new block go. Changes nothing: apply the moves, then [`Tiers::begin`].
    ///
    /// The fastest tier with free space first; else the fastest where eviction makes enough, and there the directory
    /// whose first victim was used longest ago. Errors: [`Full`]. Cost: O(directories + moves).
    pub fn place(&self, block: BlockId, need_bytes: u64, class: Class) -> Result<Placed, Full> {
        if let Some(held) = self.get(block) {
            return Err(Full::Exists { block, class: held.class });
        }
        self.check_share(block, need_bytes, class)?;
        let usable = self.usable(block, class)?;
        for tier in ordinals(&usable) {
            let candidates: Vec<&Directory> = usable.iter().filter(|dir| dir.spec.tier == tier).copied().collect();
            if let Some(at) = self.settings.allocator.choose(&candidates, need_bytes, self.last_choice) {
                return Ok(Placed { dir: candidates[at].spec.index, moves: Vec::new() });
            }
        }
        let planned = usable.iter().filter_map(|directory| {
            let dir = directory.spec.index;
            let moves = plan(self, dir, need_bytes)?;
            Some((directory.spec.tier, self.first_use(&moves), dir, moves))
        });
        match planned.min_by_key(|(tier, used_at, dir, _)| (*tier, *used_at, *dir)) {
            Some((_, _, dir, moves)) => Ok(Placed { dir, moves }),
            None => Err(no_room(&usable, block, need_bytes)),
        }
    }

    /// What must leave so that a block that is here can get `more_bytes` in its directory. Changes nothing.
    pub fn place_more(&self, block: BlockId, more_bytes: u64) -> Result<Vec<Move>, Full> {
        let held = self.get(block).ok_or(Full::Gone { block })?;
        self.check_share(block, more_bytes, held.class)?;
        let directory = &self.directories[usize::from(held.dir.0)];
        if let Some(why) = directory.why_closed() {
            return Err(Full::Shut { block, dir: held.dir, why: why.to_owned() });
        }
        plan(self, held.dir, more_bytes).ok_or_else(|| no_room(&[directory], block, more_bytes))
    }

    /// Carries out one move of a plan made since the last change. Returns what the block was.
    pub fn apply(&mut self, step: &Move) -> Held {
        match step {
            Move::Evict { block, .. } => {
                let held = self.forget(*block, Gone::Evicted).expect("a plan names blocks that are here");
                assert_eq!((held.class, held.stage), (Class::Evictable, Stage::Committed), "only these may leave");
                held
            }
        }
    }

    /// Enters a block that a stream or a fetch begins to fill, with a first promise of space. It counts as open once.
    /// `dir` and the room in it come from [`Tiers::place`].
    pub fn begin(&mut self, block: BlockId, dir: DirIndex, class: Class, stage: Stage, reserve_bytes: u64) {
        self.last_choice = usize::from(dir.0);
        let held = Held { dir, class, stage, resident_bytes: 0, reserved_bytes: reserve_bytes, opens: 1 };
        self.insert(block, held);
    }

    /// Enters a committed block found on disk at start. A second one of the same name is refused: returns false.
    pub fn adopt(&mut self, block: BlockId, dir: DirIndex, class: Class, resident_bytes: u64) -> bool {
        if self.blocks.contains_key(&block) || self.directories[usize::from(dir.0)].is_lost() {
            return false;
        }
        self.insert(block, Held { dir, class, stage: Stage::Committed, resident_bytes, reserved_bytes: 0, opens: 0 });
        true
    }

    /// Promises `more_bytes` to an open block. The room comes from [`Tiers::place_more`].
    pub fn reserve(&mut self, block: BlockId, more_bytes: u64) {
        self.change(block, |held| held.reserved_bytes += more_bytes);
    }

    /// Promised bytes have arrived. Takes no more than was promised: returns how many were counted.
    pub fn fill(&mut self, block: BlockId, bytes: u64) -> u64 {
        self.change(block, |held| {
            let counted = bytes.min(held.reserved_bytes);
            held.reserved_bytes -= counted;
            held.resident_bytes += counted;
            counted
        })
        .unwrap_or(0)
    }

    /// Bytes of a block are gone (a damaged piece).
    pub fn shrink(&mut self, block: BlockId, bytes: u64) {
        self.change(block, |held| held.resident_bytes = held.resident_bytes.saturating_sub(bytes));
    }

    /// Gives back what is promised and unused.
    pub fn release(&mut self, block: BlockId, bytes: u64) {
        self.change(block, |held| held.reserved_bytes = held.reserved_bytes.saturating_sub(bytes));
    }

    /// A stream has finished: readers see the block, what was promised and not used is free again.
    pub fn commit(&mut self, block: BlockId, class: Class) {
        self.change(block, |held| {
            held.stage = Stage::Committed;
            held.class = class;
            held.reserved_bytes = 0;
        });
    }

    /// The class changes, for example because the block is persisted now.
    pub fn reclass(&mut self, block: BlockId, class: Class) {
        self.change(block, |held| held.class = class);
    }

    /// Somebody reads or fills the block: it is not evicted and counts as used now. False when it is not here.
    pub fn open(&mut self, block: BlockId) -> bool {
        self.change(block, |held| held.opens += 1).is_some()
    }

    /// The opposite of [`Tiers::open`] and of [`Tiers::begin`]; nothing when the block has gone meanwhile.
    pub fn close(&mut self, block: BlockId) {
        self.change(block, |held| {
            held.opens = held.opens.saturating_sub(1);
            if held.opens == 0 && held.stage == Stage::Committed {
                held.reserved_bytes = 0;
            }
        });
    }

    /// Forgets a block for good, whatever its class; None when it is not here. One that goes to make room: [`Tiers::apply`].
    pub fn remove(&mut self, block: BlockId) -> Option<Held> {
        self.forget(block, Gone::Removed)
    }

    /// The directory takes no new bytes from now on (`why`), or takes them again (None).
    pub fn shut(&mut self, dir: DirIndex, why: Option<&str>) {
        self.directories[usize::from(dir.0)].shut = why.map(str::to_owned);
    }

    /// Takes a directory out. Returns its blocks, which are all forgotten.
    pub fn lose(&mut self, dir: DirIndex, why: &str) -> Vec<(BlockId, Held)> {
        let lost: Vec<BlockId> =
            self.blocks.iter().filter(|(_, entry)| entry.held.dir == dir).map(|(block, _)| *block).collect();
        let gone = lost.into_iter().filter_map(|block| Some((block, self.remove(block)?))).collect();
        self.directories[usize::from(dir.0)].lost = Some(why.to_owned());
        gone
    }

    /// Panics when an invariant of the type does not hold. Cost: O(blocks).
    pub fn check_invariants(&self) {
        let mut kept_bytes = 0;
        for (at, directory) in self.directories.iter().enumerate() {
            let here = || self.blocks.values().filter(|entry| usize::from(entry.held.dir.0) == at);
            let listed = || here().filter(|entry| entry.listed);
            let sum = |pick: fn(&Held) -> u64| here().map(|entry| pick(&entry.held)).sum::<u64>();
            assert_eq!(directory.used_bytes, sum(|held| held.resident_bytes), "used bytes of {at}");
            assert_eq!(directory.reserved_bytes, sum(|held| held.reserved_bytes), "reserved bytes of {at}");
            let evictable: u64 = listed().map(|entry| entry.held.resident_bytes).sum();
            assert_eq!(directory.evictable_bytes, evictable, "evictable bytes of {at}");
            assert_eq!(self.orders[at].len(), listed().count(), "listed blocks of {at}");
            assert!(!directory.is_lost() || here().next().is_none(), "a lost directory holds nothing");
        }
        for (block, entry) in &self.blocks {
            assert_eq!(entry.listed, may_leave(&entry.held), "{block} is listed exactly when it may leave");
            let idle = entry.held.stage == Stage::Committed && entry.held.opens == 0;
            assert!(!idle || entry.held.reserved_bytes == 0, "{block} holds no promise while idle");
            if entry.held.class.is_kept() {
                kept_bytes += entry.held.resident_bytes + entry.held.reserved_bytes;
            }
        }
        assert_eq!(self.kept_bytes, kept_bytes, "bytes that must stay");
    }

    fn forget(&mut self, block: BlockId, why: Gone) -> Option<Held> {
        let mut entry = self.blocks.remove(&block)?;
        self.unlist(block, &mut entry);
        self.orders[usize::from(entry.held.dir.0)].forget(block, why);
        self.count(&entry.held, false);
        Some(entry.held)
    }

    fn check_share(&self, block: BlockId, need_bytes: u64, class: Class) -> Result<(), Full> {
        let capacity = self.capacity_bytes();
        let limit_bytes = capacity - self.settings.read_share_min.of(capacity);
        if class.is_kept() && self.kept_bytes + need_bytes > limit_bytes {
            return Err(Full::ReadShare { block, need_bytes, kept_bytes: self.kept_bytes, limit_bytes });
        }
        Ok(())
    }

    fn usable(&self, block: BlockId, class: Class) -> Result<Vec<&Directory>, Full> {
        let mut working: Vec<&Directory> = self.directories.iter().filter(|dir| dir.is_open()).collect();
        if working.is_empty() {
            return Err(Full::NoDirectory { block });
        }
        if class == Class::Unpersisted && self.settings.volatile == Volatile::Refuse {
            working.retain(|dir| !dir.spec.medium.is_volatile());
        }
        if working.is_empty() { Err(Full::OnlyVolatile { block }) } else { Ok(working) }
    }

    fn first_use(&self, moves: &[Move]) -> u64 {
        moves.first().map_or(0, |Move::Evict { block, .. }| self.blocks[block].used_at)
    }

    fn insert(&mut self, block: BlockId, held: Held) {
        self.calls += 1;
        let mut entry = Entry { held, listed: false, used_at: self.calls };
        self.count(&held, true);
        self.list(block, &mut entry);
        let before = self.blocks.insert(block, entry);
        assert!(before.is_none(), "{block} is entered once");
    }

    /// Changes one block and everything that is counted from it. None when it is not here.
    fn change<T>(&mut self, block: BlockId, edit: impl FnOnce(&mut Held) -> T) -> Option<T> {
        let mut entry = self.blocks.remove(&block)?;
        self.calls += 1;
        self.unlist(block, &mut entry);
        self.count(&entry.held, false);
        let out = edit(&mut entry.held);
        self.count(&entry.held, true);
        entry.used_at = self.calls;
        self.list(block, &mut entry);
        self.blocks.insert(block, entry);
        Some(out)
    }

    fn count(&mut self, held: &Held, add: bool) {
        let shift = |total: &mut u64, bytes: u64| if add { *total += bytes } else { *total -= bytes };
        let directory = &mut self.directories[usize::from(held.dir.0)];
        shift(&mut directory.used_bytes, held.resident_bytes);
        shift(&mut directory.reserved_bytes, held.reserved_bytes);
        if held.class.is_kept() {
            shift(&mut self.kept_bytes, held.resident_bytes + held.reserved_bytes);
        }
    }

    fn list(&mut self, block: BlockId, entry: &mut Entry) {
        if may_leave(&entry.held) {
            let dir = usize::from(entry.held.dir.0);
            self.orders[dir].list(block, entry.held.resident_bytes);
            entry.listed = true;
            self.directories[dir].evictable_bytes += entry.held.resident_bytes;
        }
    }

    fn unlist(&mut self, block: BlockId, entry: &mut Entry) {
        if std::mem::take(&mut entry.listed) {
            let dir = usize::from(entry.held.dir.0);
            self.orders[dir].unlist(block);
            self.directories[dir].evictable_bytes -= entry.held.resident_bytes;
        }
    }
}

fn may_leave(held: &Held) -> bool {
    held.class == Class::Evictable && held.stage == Stage::Committed && held.opens == 0
}

/// The tiers of these directories, fastest first, each once.
fn ordinals(directories: &[&Directory]) -> Vec<Ordinal> {
    let mut tiers: Vec<Ordinal> = directories.iter().map(|dir| dir.spec.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    tiers
}

/// Names the tier that came closest.
fn no_room(usable: &[&Directory], block: BlockId, need_bytes: u64) -> Full {
    let best = usable.iter().max_by_key(|dir| dir.free_bytes() + dir.evictable_bytes);
    match best {
        Some(dir) => Full::NoRoom {
            block,
            need_bytes,
            tier: dir.spec.tier,
            free_bytes: dir.free_bytes(),
            evictable_bytes: dir.evictable_bytes,
        },
        None => Full::NoDirectory { block },
    }
}
