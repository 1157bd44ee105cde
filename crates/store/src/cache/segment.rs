//! One part of a cache, under one lock.

use super::statistics::{CacheStatistics, Counts, Kind};
use super::touches::Touches;
use super::{Bounds, ENTRY_BYTES, Held, Policy, at};
use hashbrown::HashTable;
use meta::Family;
use parking_lot::{RwLock, RwLockWriteGuard};
use std::time::Duration;

/// Slots grow by one part of so many.
pub(super) const RESERVE: usize = 8;

/// On cache lines of its own: neighbours do not slow each other down.
#[repr(align(128))]
pub(super) struct Segment<V: Held> {
    inner: RwLock<Inner<V>>,
    touches: Touches,
    counts: Counts,
}

/// What the lock guards. The index, the policy and the filled slots name the same entries.
pub(super) struct Inner<V: Held> {
    index: HashTable<u32>,
    slots: Vec<Option<Entry<V>>>,
    free: Vec<u32>,
    policy: Box<dyn Policy>,
    entries: usize,
    bytes: usize,
    by_kind: [u64; Kind::ALL.len()],
}

pub(super) struct Entry<V: Held> {
    pub(super) hash: u64,
    pub(super) kept: V::Kept,
}

/// What a look-up found.
pub(super) enum Found<V> {
    Good(V),
    /// It is held, and refused.
    Bad,
    Nothing,
}

impl<V: Held> Entry<V> {
    pub(super) fn bytes(&self) -> usize {
        ENTRY_BYTES + V::bytes(&self.kept)
    }
    pub(super) fn entries(&self) -> usize {
        V::entries(&self.kept)
    }
    fn kind(&self) -> Kind {
        V::kind(V::family(&self.kept))
    }
}

impl<V: Held> Segment<V> {
    pub(super) fn new(policy: Box<dyn Policy>) -> Segment<V> {
        let inner = Inner {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            policy,
            entries: 0,
            bytes: 0,
            by_kind: [0; Kind::ALL.len()],
        };
        Segment { inner: RwLock::new(inner), touches: Touches::new(), counts: Counts::default() }
    }

    pub(super) fn get(&self, hash: u64, family: Family, key: &[u8], is_good: impl FnOnce(&V) -> bool) -> Found<V> {
        let inner = self.inner.read();
        let Some(slot) = inner.find(hash, family, key) else { return Found::Nothing };
        let value = V::give(&inner.entry(slot).kept);
        if !is_good(&value) {
            return Found::Bad;
        }
        let is_time = self.touches.note(slot);
        drop(inner);
        if is_time && let Some(mut inner) = self.inner.try_write() {
            self.touches.tell(&mut *inner.policy);
        }
        Found::Good(value)
    }

    /// Takes the lock alone; the policy has heard of every use before.
    pub(super) fn change(&self) -> RwLockWriteGuard<'_, Inner<V>> {
        let mut inner = self.inner.write();
        self.touches.tell(&mut *inner.policy);
        inner
    }

    pub(super) fn looked_up(&self, kind: Kind, is_hit: bool) {
        self.counts.looked_up(kind, is_hit);
    }
    pub(super) fn loaded(&self, kind: Kind, took: Duration) {
        self.counts.loaded(kind, took);
    }
    pub(super) fn evicted(&self, kind: Kind, took: Duration) {
        self.counts.evicted(kind, took);
    }
    pub(super) fn dropped_fill(&self) {
        self.counts.dropped_fill();
    }

    pub(super) fn add_to(&self, sum: &mut CacheStatistics) {
        self.counts.add_to(sum);
        let inner = self.inner.read();
        for (kind, held) in Kind::ALL.into_iter().zip(inner.by_kind) {
            sum.of_mut(kind).entries += held;
        }
        sum.bytes += inner.bytes;
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self, bounds: Bounds) {
        let inner = self.inner.read();
        assert!(!inner.exceeds(bounds));
        let filled = || inner.slots.iter().flatten();
        assert_eq!(inner.bytes, filled().map(Entry::bytes).sum::<usize>());
        assert_eq!(inner.entries, filled().map(Entry::entries).sum::<usize>());
        assert_eq!(inner.index.len() + inner.free.len(), inner.slots.len());
        assert_eq!(inner.index.len(), filled().count());
        let by_kind: u64 = inner.by_kind.iter().sum();
        assert_eq!(usize::try_from(by_kind).unwrap(), inner.entries);
    }
}

impl<V: Held> Inner<V> {
    fn find(&self, hash: u64, family: Family, key: &[u8]) -> Option<u32> {
        let is_it = |slot: &u32| {
            let kept = &self.entry(*slot).kept;
            V::family(kept) == family && *V::key(kept) == *key
        };
        self.index.find(hash, is_it).copied()
    }

    fn entry(&self, slot: u32) -> &Entry<V> {
        self.slots[at(slot)].as_ref().expect("the index and the policy name filled slots only")
    }

    pub(super) fn exceeds(&self, bounds: Bounds) -> bool {
        self.bytes > bounds.bytes || self.entries > bounds.entries
    }

    /// Holds `entry`, in place of what its key had.
    pub(super) fn put(&mut self, entry: Entry<V>) {
        match self.find(entry.hash, V::family(&entry.kept), V::key(&entry.kept)) {
            Some(slot) => self.set(slot, entry.kept),
            None => self.insert(entry),
        }
    }

    /// Gives a key its new value, if it is held. Whether it is.
    pub(super) fn replace(&mut self, hash: u64, family: Family, key: &[u8], value: impl FnOnce() -> V) -> bool {
        let found = self.find(hash, family, key);
        if let Some(slot) = found {
            self.set(slot, value().keep(family, key));
        }
        found.is_some()
    }

    pub(super) fn forget(&mut self, hash: u64, family: Family, key: &[u8]) {
        if let Some(slot) = self.find(hash, family, key) {
            self.policy.removed(slot);
            self.take(slot);
        }
    }

    /// The policy chooses an entry to go. Returns its family. There must be one.
    pub(super) fn evict(&mut self) -> Family {
        let slot = self.policy.evict().expect("bounds are exceeded by entries, and the policy knows each");
        V::family(&self.take(slot).kept)
    }

    fn insert(&mut self, entry: Entry<V>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.slots.len() == self.slots.capacity() {
                // Doubled, half of it would often stand empty.
                self.slots.reserve_exact(self.slots.len() / RESERVE + 1);
            }
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("a segment is far smaller than 2^32 entries")
        });
        self.count(&entry);
        self.policy.inserted(slot, entry.hash);
        let hash = entry.hash;
        self.slots[at(slot)] = Some(entry);
        let slots = &self.slots;
        self.index.insert_unique(hash, slot, |slot| slots[at(*slot)].as_ref().map_or(0, |entry| entry.hash));
    }

    fn set(&mut self, slot: u32, kept: V::Kept) {
        let mut entry = self.slots[at(slot)].take().expect("the index names filled slots only");
        self.discount(&entry);
        entry.kept = kept;
        self.count(&entry);
        self.slots[at(slot)] = Some(entry);
        self.policy.touched(slot);
    }

    /// Empties a slot that the policy has forgotten.
    fn take(&mut self, slot: u32) -> Entry<V> {
        let entry = self.slots[at(slot)].take().expect("only filled slots are emptied");
        self.discount(&entry);
        self.index.find_entry(entry.hash, |held| *held == slot).expect("every filled slot is in the index").remove();
        self.free.push(slot);
        entry
    }

    fn count(&mut self, entry: &Entry<V>) {
        self.bytes += entry.bytes();
        self.entries += entry.entries();
        self.by_kind[entry.kind() as usize] += count(entry.entries());
    }

    fn discount(&mut self, entry: &Entry<V>) {
        self.bytes -= entry.bytes();
        self.entries -= entry.entries();
        self.by_kind[entry.kind() as usize] -= count(entry.entries());
    }
}

fn count(entries: usize) -> u64 {
    u64::try_from(entries).expect("counts of memory fit 64 bits")
}
