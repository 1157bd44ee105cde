//! Most bytes free first; among equals the first.

use crate::directory::Directory;
use std::cmp::Reverse;

pub(crate) fn choose(candidates: &[&Directory], need_bytes: u64) -> Option<usize> {
    let fitting = candidates.iter().enumerate().filter(|(_, dir)| dir.free_bytes() >= need_bytes);
    fitting.max_by_key(|(at, dir)| (dir.free_bytes(), Reverse(*at))).map(|(at, _)| at)
}
