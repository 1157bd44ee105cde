//! The next directory with room after the last choice.

use crate::directory::Directory;

pub(crate) fn choose(candidates: &[&Directory], need_bytes: u64, last: usize) -> Option<usize> {
    let count = candidates.len();
    (1..=count).map(|step| (last + step) % count).find(|at| candidates[*at].free_bytes() >= need_bytes)
}
