//! The first directory with room.

use crate::directory::Directory;

pub(crate) fn choose(candidates: &[&Directory], need_bytes: u64) -> Option<usize> {
    candidates.iter().position(|dir| dir.free_bytes() >= need_bytes)
}
