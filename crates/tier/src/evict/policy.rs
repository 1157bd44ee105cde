//! The order in which blocks leave one directory.

use types::BlockId;

/// Where a policy keeps a block; valid until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot(pub(crate) u32);

/// An order over the blocks of one directory that may leave it. Every method is O(1).
pub trait Policy: Send {
    /// Adds a block that was just used.
    fn insert(&mut self, block: BlockId) -> Slot;
    /// Takes a block out, because it left or must stay.
    fn remove(&mut self, slot: Slot);
    /// The first to leave (`after` None), or the one to leave after `after`.
    fn next(&self, after: Option<Slot>) -> Option<(Slot, BlockId)>;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
