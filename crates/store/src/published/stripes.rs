//! The versions readers check: a fixed table of counters, and why checking them is enough.
//!
//! Every key belongs to one slot; a slot's version is even when settled and odd while a commit that touches one of its
//! keys is on its way. `sequence` counts commits. The writer, alone by the latch, goes
//!
//! ```text
//!   W1 versions of the touched slots become odd      (relaxed)
//!   W2 sequence += 1                                 (release)
//!   W3 fence(release)
//!   W4 the store's commit, then the cache's updates  (through atomics and locks of their own)
//!   W5 versions become even again, one higher        (release)
//! ```
//!
//! and a reader, which loaded `seen = sequence` (acquire) before anything else, goes for each record
//!
//! ```text
//!   R1 version of the slot: odd gives up; even is noted (acquire)
//!   R2 cache or store are read
//!   R3 fence(acquire)
//!   R4 sequence (acquire): if it is not `seen`, all noted slots must still have their versions; `seen` = it
//! ```
//!
//! Claim: after each R4 that passes, all records read so far are those after one commit. By induction over the reads, say
//! they were those after commit C, and R2 now returns a record. It cannot be older than C says: the reader has seen an
//! effect of C or the end of it (W5), so the store, which shows commits in order, shows C to it. Suppose it is newer, put
//! there by commit D > C in its W4, and a record read before is out of date because some E in (C, D] touched it, at slot
//! s. R2 read what D wrote after its W3, so by the pair of fences W3 and R3 the reader's R4 sees D's W2: a sequence it had
//! not `seen`, unless it saw D's W2 before. If it is new, R4 checks s, and E's W1, which is before D's W3, is visible:
//! s has moved, and the check fails. If it was seen before, then by W2's release and R4's (or the first load's) acquire
//! E's W1 was visible when that check, or the note of s itself, was made: it failed, or s was noted odd, or s was noted at
//! its version after E's W5, and then the record read was not older than E. So the records are those after D.
//!
//! A gone-by version cannot return: 2⁶³ commits are out of reach. Two keys in one slot only cause needless repeats.
//! The cache keeps these rules because it changes within W4 only, and because a reader's fill happens under the segment's
//! lock while the slot still has the even version noted at R1: if that lock is taken before the writer's, the writer
//! corrects the entry; if after, the lock makes W1 visible and the fill is dropped. A page is not corrected: it carries the
//! version it was filled at, and a reader takes it only if it noted the same one, at which the directory's records are those.

use crate::key;
use crate::mix::mix;
use meta::{Changes, Family};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Slots for keys. Half a MiB; at 64 operations a batch, of some four keys each, a reader of ten records meets a batch
/// that does not concern it with a probability of 4 %.
const STRIPES: usize = 1 << 16;
const _: () = assert!(STRIPES.is_power_of_two());

/// Where one version stands. Behind the stripes follows one slot per family, for scans over more than one directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot(u32);

pub(super) struct Stripes {
    sequence: AtomicU64,
    versions: Box<[AtomicU64]>,
}

impl Slot {
    /// Whether it moves with all records of a family.
    pub(super) fn is_of_family(self) -> bool {
        usize::try_from(self.0).expect("32 bits fit") >= STRIPES
    }
}

/// Whether a slot of this version is not on its way to another.
pub(super) fn is_settled(version: u64) -> bool {
    version.is_multiple_of(2)
}

impl Stripes {
    pub(super) fn new() -> Stripes {
        let versions = (0..STRIPES + Family::ALL.len()).map(|_| AtomicU64::new(0)).collect();
        Stripes { sequence: AtomicU64::new(0), versions }
    }

    /// The slot of one key: by inode for edges, loads and inodes, so that a directory and its entries share one.
    pub(super) fn of_key(family: Family, key: &[u8]) -> Slot {
        let by_inode = key::is_prefixed(family) || family == Family::Inodes;
        match key.first_chunk::<{ key::PREFIX_BYTES }>() {
            Some(inode) if by_inode => Stripes::of_hash(mix(u64::from_be_bytes(*inode))),
            Some(_) | None => {
                let seed = mix(!u64::from(family as u8));
                Stripes::of_hash(key.chunks(8).fold(seed, |hash, chunk| {
                    let mut padded = [0; 8];
                    padded[..chunk.len()].copy_from_slice(chunk);
                    mix(hash ^ u64::from_be_bytes(padded))
                }))
            }
        }
    }

    /// The slot that moves whenever a record in `[start, end)` does.
    pub(super) fn of_range(family: Family, start: &[u8], end: &[u8]) -> Slot {
        match key::common_prefix(start, end) {
            Some(inode) if key::is_prefixed(family) => Stripes::of_hash(mix(inode)),
            Some(_) | None => Stripes::of_family(family),
        }
    }

    fn of_family(family: Family) -> Slot {
        Slot(u32::try_from(STRIPES).expect("a small constant") + u32::from(family as u8))
    }

    fn of_hash(hash: u64) -> Slot {
        let mask = u64::try_from(STRIPES - 1).expect("a small constant");
        Slot(u32::try_from(hash & mask).expect("below the number of stripes"))
    }

    /// Every slot that a commit of `changes` moves, once each.
    pub(super) fn touched(changes: &Changes) -> Vec<Slot> {
        let applied = (Family::State, key::APPLIED_KEY);
        let keys = changes.changes.iter().map(|change| (change.family, &*change.key)).chain([applied]);
        let mut slots: Vec<Slot> =
            keys.flat_map(|(family, key)| [Stripes::of_key(family, key), Stripes::of_family(family)]).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    pub(super) fn version(&self, slot: Slot) -> u64 {
        self.at(slot).load(Ordering::Acquire)
    }

    /// The last commit that began.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// R3 and R4: whether the versions in `noted` still stand if a commit began since `seen`, which is brought up to date.
    pub(super) fn still_hold(&self, seen: &mut u64, noted: &[(Slot, u64)]) -> bool {
        fence(Ordering::Acquire);
        let sequence = self.sequence();
        if sequence == *seen {
            return true;
        }
        *seen = sequence;
        noted.iter().all(|(slot, version)| self.version(*slot) == *version)
    }

    /// W1 to W3; W5 when what it returns is dropped. `slots` are distinct; the caller holds the latch.
    pub(super) fn moving<'a>(&'a self, slots: &'a [Slot]) -> Moving<'a> {
        self.advance(slots, Ordering::Relaxed);
        self.sequence.fetch_add(1, Ordering::Release);
        fence(Ordering::Release);
        Moving { stripes: self, slots }
    }

    fn advance(&self, slots: &[Slot], order: Ordering) {
        for slot in slots {
            let version = self.at(*slot);
            version.store(version.load(Ordering::Relaxed) + 1, order);
        }
    }

    fn at(&self, slot: Slot) -> &AtomicU64 {
        &self.versions[usize::try_from(slot.0).expect("32 bits fit")]
    }
}

/// A commit on its way.
pub(super) struct Moving<'a> {
    stripes: &'a Stripes,
    slots: &'a [Slot],
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.stripes.advance(self.slots, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use meta::Change;

    fn edge(directory: u64, name: &str) -> Vec<u8> {
        [&directory.to_be_bytes()[..], name.as_bytes()].concat()
    }

    #[test]
    fn a_listing_moves_with_its_entries_and_no_others() {
        let id = |id: u64| id.to_be_bytes();
        let listing = Stripes::of_range(Family::Edges, &id(7), &id(8));
        assert_eq!(listing, Stripes::of_key(Family::Edges, &edge(7, "a")));
        assert_eq!(listing, Stripes::of_range(Family::Edges, &edge(7, "m"), &edge(7, "z")));
        assert_eq!(listing, Stripes::of_key(Family::Inodes, &id(7)));
        assert_ne!(listing, Stripes::of_key(Family::Edges, &edge(8, "a")));
        for (family, start, end) in [(Family::Edges, id(7), id(9)), (Family::Inodes, id(7), id(8))] {
            assert_eq!(Stripes::of_range(family, &start, &end), Stripes::of_family(family));
        }
    }

    #[test]
    fn a_commit_moves_each_slot_once() {
        let change = |family, key: &[u8]| Change { family, key: Bytes::copy_from_slice(key), value: None };
        let changes = Changes {
            changes: vec![change(Family::Edges, &edge(7, "a")), change(Family::Edges, &edge(7, "b"))],
            ..Changes::default()
        };
        let (stripes, slots) = (Stripes::new(), Stripes::touched(&changes));
        let listing = Stripes::of_key(Family::Edges, &edge(7, "a"));
        assert_eq!(slots.len(), 4, "one directory, its family, the applied index, its family");
        let moving = stripes.moving(&slots);
        assert!(!is_settled(stripes.version(listing)));
        drop(moving);
        assert_eq!((stripes.version(listing), stripes.sequence()), (2, 1));
        assert_eq!(stripes.version(Stripes::of_key(Family::Edges, &edge(8, "a"))), 0);
    }
}
