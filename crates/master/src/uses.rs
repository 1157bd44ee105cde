//! Which files are used, noted beside the reads that use them: a lock on a part of a bitmap, and nothing is written for a file
//! that was used in the same time before.
//!
//! Is:     soft state of a leader. What it has not handed over to the log when it ends is forgotten: a file is then thought
//!         unused for longer than it was, and what goes for that comes from its store again.
//! Never:  grows beyond its bounds: beyond them a use is not noted.

use hashbrown::HashMap;
use meta::{USE_WORDS, UsePlace};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use types::ContainerId;

/// Parts of the bitmap, so that readers seldom meet.
const PARTS: usize = 16;
/// Chunks held in a part: all together are 64 MiB, enough for half a billion files.
const CHUNKS: usize = 16_384;
/// Uses that wait for the log.
const WAITING: usize = 1_000_000;

type Part = HashMap<u64, Box<[u64; USE_WORDS]>>;

#[derive(Default)]
pub struct UseNotes {
    /// Whether anybody wants to know.
    on: AtomicBool,
    parts: [Mutex<Part>; PARTS],
    waiting: Mutex<Vec<ContainerId>>,
}

impl UseNotes {
    /// From now on uses are noted, or not any more; what was noted so far is forgotten.
    pub fn begin(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        self.waiting.lock().clear();
        self.begin_time();
    }

    /// Another time has begun, in which every file's first use is noted again.
    pub fn begin_time(&self) {
        self.parts.iter().for_each(|part| part.lock().clear());
    }

    /// A file is used. Cost: a lock and a look at a bit; nothing while nobody wants to know.
    pub fn note(&self, container: ContainerId) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let UsePlace { chunk, word, bit } = UsePlace::of(container);
        let mut part = self.part(chunk).lock();
        if part.len() >= CHUNKS && !part.contains_key(&chunk) {
            return;
        }
        let words = part.entry(chunk).or_insert_with(|| Box::new([0; USE_WORDS]));
        if words[word] & bit != 0 {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < WAITING {
            waiting.push(container);
            words[word] |= bit;
        }
    }

    /// Whether it was used in this time, as far as that was noted.
    pub fn has(&self, container: ContainerId) -> bool {
        let UsePlace { chunk, word, bit } = UsePlace::of(container);
        self.part(chunk).lock().get(&chunk).is_some_and(|words| words[word] & bit != 0)
    }

    /// Uses that wait for the log.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Takes up to `limit` uses for the log.
    pub fn take(&self, limit: usize) -> Vec<ContainerId> {
        let mut waiting = self.waiting.lock();
        let from = waiting.len().saturating_sub(limit);
        waiting.split_off(from)
    }

    fn part(&self, chunk: u64) -> &Mutex<Part> {
        &self.parts[usize::try_from(chunk & 0xFFFF).expect("sixteen bits") % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_told_once_in_each_time() {
        let notes = UseNotes::default();
        notes.note(ContainerId(1));
        assert!(notes.take(10).is_empty() && !notes.has(ContainerId(1)), "nobody wants to know");
        notes.begin(true);
        for container in [1, 2, 1, 5_000, 2] {
            notes.note(ContainerId(container));
        }
        assert!(notes.has(ContainerId(5_000)) && !notes.has(ContainerId(5_001)));
        assert_eq!((notes.take(2).len(), notes.waiting()), (2, 1));
        assert_eq!(notes.take(10).len(), 1);
        notes.note(ContainerId(1));
        assert_eq!(notes.take(10), [], "it is known");
        notes.begin_time();
        notes.note(ContainerId(1));
        assert_eq!(notes.take(10), [ContainerId(1)]);
        notes.begin(false);
        notes.note(ContainerId(7));
        assert_eq!(notes.take(10), []);
    }

    #[test]
    fn what_does_not_fit_is_not_noted() {
        let notes = UseNotes::default();
        notes.begin(true);
        let apart = |n: u64| ContainerId(n * u64::try_from(USE_WORDS).expect("few") * 64);
        let chunks = u64::try_from(CHUNKS * PARTS).expect("small");
        (0..chunks + 100).for_each(|n| notes.note(apart(n)));
        assert!(notes.has(apart(chunks - 1)) && !notes.has(apart(chunks + 1)));
    }
}
