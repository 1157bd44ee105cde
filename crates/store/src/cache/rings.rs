//! Orders of slots: rings in one vector.

use super::segment::RESERVE;

/// `N` rings of slots, each slot in at most one. Every step is O(1); nothing is allocated but to know a higher slot than
/// ever before.
pub(super) struct Rings<const N: usize> {
    /// The first `N` are the rings' anchors: next is the front, before the back. A slot stands `N` higher.
    links: Vec<Link>,
    lengths: [usize; N],
}

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    before: u32,
}

impl<const N: usize> Default for Rings<N> {
    fn default() -> Rings<N> {
        let anchor = |ring| Link { next: small(ring), before: small(ring) };
        Rings { links: (0..N).map(anchor).collect(), lengths: [0; N] }
    }
}

impl<const N: usize> Rings<N> {
    pub(super) fn len(&self, ring: usize) -> usize {
        self.lengths[ring]
    }

    /// Puts a slot that is in no ring to the front of `ring`.
    pub(super) fn push_front(&mut self, ring: usize, slot: u32) {
        let at = slot + small(N);
        let needed = usize::try_from(at).expect("32 bits fit") + 1;
        if self.links.len() < needed {
            if needed > self.links.capacity() {
                self.links.reserve_exact(needed - self.links.len() + needed / RESERVE);
            }
            self.links.resize(needed, Link { next: 0, before: 0 });
        }
        let anchor = small(ring);
        let front = self.link(anchor).next;
        *self.link(at) = Link { next: front, before: anchor };
        self.link(front).before = at;
        self.link(anchor).next = at;
        self.lengths[ring] += 1;
    }

    /// Takes a slot out of `ring`, in which it is.
    pub(super) fn remove(&mut self, ring: usize, slot: u32) {
        let Link { next, before } = *self.link(slot + small(N));
        self.link(before).next = next;
        self.link(next).before = before;
        self.lengths[ring] -= 1;
    }

    /// The slot at the back of `ring`, if there is one, which it leaves.
    pub(super) fn pop_back(&mut self, ring: usize) -> Option<u32> {
        let slot = self.link(small(ring)).before.checked_sub(small(N))?;
        self.remove(ring, slot);
        Some(slot)
    }

    fn link(&mut self, at: u32) -> &mut Link {
        &mut self.links[usize::try_from(at).expect("32 bits fit")]
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("rings are few")
}
