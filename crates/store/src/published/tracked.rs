//! One reader's view of one moment.

use super::stripes::{self, Slot, Stripes};
use super::{Published, Store};
use bytes::Bytes;
use meta::{Family, Read, StoreError};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use types::ErrorKind;

/// Slots noted without allocating: a path of ten names with what belongs to them.
const INLINE: usize = 16;
/// Notes kept before repeated ones are looked for; then again each time they doubled. Distinct ones are bounded by the
/// number of slots.
const NOTES: usize = 1024;

/// Records of one moment, for the length of one attempt: see [`Published::read`].
///
/// Every record and page it returns belongs to the same moment as all it returned before; when that can no longer be
/// had, it returns an error of kind `Busy`, and goes on doing so.
pub struct Tracked<'a, S: ?Sized> {
    published: &'a Published<S>,
    /// The latch is held: nothing moves.
    latched: bool,
    moved: Cell<bool>,
    trace: RefCell<Trace>,
}

struct Trace {
    /// The sequence at which all notes were last known to stand.
    seen: u64,
    notes: SmallVec<[(Slot, u64); INLINE]>,
    /// Repeated notes are looked for at this length.
    full: usize,
}

impl<'a, S: Store + ?Sized> Tracked<'a, S> {
    pub(super) fn new(published: &'a Published<S>) -> Tracked<'a, S> {
        let trace = Trace { seen: published.stripes.sequence(), notes: SmallVec::new(), full: NOTES };
        Tracked { published, latched: false, moved: Cell::new(false), trace: RefCell::new(trace) }
    }

    pub(super) fn latched(published: &'a Published<S>) -> Tracked<'a, S> {
        Tracked { latched: true, ..Tracked::new(published) }
    }

    /// Whether what it returned is not, or no longer known to be, of one moment.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.get()
    }

    /// R1. Returns the version of `slot`.
    fn enter(&self, slot: Slot) -> Result<u64, StoreError> {
        let version = self.published.stripes.version(slot);
        if self.latched {
            return Ok(version);
        }
        if self.moved.get() || !stripes::is_settled(version) {
            return Err(self.give_up());
        }
        self.trace.borrow_mut().note(slot, version);
        Ok(version)
    }

    /// R3 and R4.
    fn leave(&self) -> Result<(), StoreError> {
        let trace = &mut *self.trace.borrow_mut();
        if self.latched || self.published.stripes.still_hold(&mut trace.seen, &trace.notes) {
            return Ok(());
        }
        Err(self.give_up())
    }

    fn give_up(&self) -> StoreError {
        self.moved.set(true);
        StoreError { what: "read records that are being changed: read again".into(), kind: ErrorKind::Busy }
    }
}

impl Trace {
    fn note(&mut self, slot: Slot, version: u64) {
        if self.notes.last() == Some(&(slot, version)) {
            return;
        }
        if self.notes.len() >= self.full {
            // A slot noted at two versions keeps both notes, of which one will not stand.
            self.notes.sort_unstable();
            self.notes.dedup();
            self.full = NOTES.max(2 * self.notes.len());
        }
        self.notes.push((slot, version));
    }
}

impl<S: Store + ?Sized> Read for Tracked<'_, S> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let slot = Stripes::of_key(family, key);
        let version = self.enter(slot)?;
        let found = self.published.look_up(family, key, slot, version);
        self.leave()?;
        found
    }

    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let slot = Stripes::of_range(family, start, end);
        let version = self.enter(slot)?;
        let found = if family == Family::Edges && !slot.is_of_family() {
            self.published.page((start, end), limit, slot, version)
        } else {
            self.published.store.scan(family, start, end, limit)
        };
        self.leave()?;
        found
    }
}

#[cfg(test)]
impl<S: ?Sized> Tracked<'_, S> {
    pub(super) fn notes(&self) -> usize {
        self.trace.borrow().notes.len()
    }
}
