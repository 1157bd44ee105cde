//! How long a file waits for its next persist after its store did not take it.
//!
//! Is:     soft state of this leader: by file, how often its store said no since it was taken up here.
//! Never:  counts what ended otherwise: a failover, a worker that was lost or fenced.

use hashbrown::HashMap;
use types::{Attempt, ContainerId};

/// Pauses double from twice the first to the longest.
const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 60_000;
/// Files remembered at once; when there are more, the store is away, and each other one waits longest.
const FILES: usize = 100_000;

#[derive(Default)]
pub struct Pauses {
    /// The last attempt that the store refused, and how many it has refused.
    of: HashMap<ContainerId, (Attempt, u32)>,
}

impl Pauses {
    /// This master begins to lead: what an earlier leader counted, it does not know.
    pub fn lead(&mut self) {
        self.of.clear();
    }

    /// The store did not take this attempt. Said twice of one attempt, it counts once. Returns how long to wait, in ms.
    pub fn refused(&mut self, container: ContainerId, attempt: Attempt) -> u64 {
        if self.of.len() >= FILES && !self.of.contains_key(&container) {
            return LONGEST_MS;
        }
        let (last, count) = self.of.entry(container).or_insert((Attempt(0), 0));
        if *last != attempt {
            (*last, *count) = (attempt, *count + 1);
        }
        FIRST_MS.saturating_mul(1 << (*count).min(16)).min(LONGEST_MS)
    }

    /// It is in the store, or needs to be there no more.
    pub fn forget(&mut self, container: ContainerId) {
        self.of.remove(&container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_store_refused_makes_the_next_pause_longer() {
        let (mut pauses, file) = (Pauses::default(), ContainerId(1));
        assert_eq!(pauses.refused(file, Attempt(9)), 2_000, "eight attempts that failovers ended count for nothing");
        assert_eq!(pauses.refused(file, Attempt(9)), 2_000, "a report that comes twice counts once");
        let next: Vec<u64> = (12..18).map(|attempt| pauses.refused(file, Attempt(attempt))).collect();
        assert_eq!(next, [4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(pauses.refused(ContainerId(2), Attempt(1)), 2_000, "each file for itself");
        pauses.forget(file);
        assert_eq!(pauses.refused(file, Attempt(18)), 2_000);
        pauses.lead();
        assert_eq!(pauses.refused(file, Attempt(19)), 2_000);
    }

    #[test]
    fn files_beyond_what_is_remembered_wait_longest() {
        let mut pauses = Pauses::default();
        for number in 0..u64::try_from(FILES).expect("fits") {
            pauses.refused(ContainerId(number), Attempt(1));
        }
        assert_eq!(pauses.refused(ContainerId(u64::MAX), Attempt(1)), LONGEST_MS);
        assert_eq!(pauses.of.len(), FILES);
    }
}
