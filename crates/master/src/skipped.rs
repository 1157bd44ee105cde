//! Store keys that cannot be a path, as listings met them: what operators ask for.
//!
//! Is:     soft state by directory; the next listing of a directory replaces what the last one met.
//! Owns:   how much of it is remembered.
//! Never:  judges a key: stores do.

use std::collections::BTreeMap;
use types::InodeId;
use ufs::{SKIPPED_SAMPLES, Skipped};

/// Directories remembered; of more, the oldest is forgotten and its keys are only counted.
const DIRECTORIES: usize = 1_000;

/// What listings left out.
#[derive(Default)]
pub struct SkippedKeys {
    /// Inodes count up: the first is the oldest directory.
    directories: BTreeMap<InodeId, Skipped>,
    forgotten: u64,
}

impl SkippedKeys {
    /// A listing of `directory` begins: what the last one met is over.
    pub fn begin(&mut self, directory: InodeId) {
        self.directories.remove(&directory);
    }

    /// A page of it left these out.
    pub fn add(&mut self, directory: InodeId, page: &Skipped) {
        if self.directories.len() >= DIRECTORIES
            && !self.directories.contains_key(&directory)
            && let Some((_, oldest)) = self.directories.pop_first()
        {
            self.forgotten += oldest.count;
        }
        let known = self.directories.entry(directory).or_default();
        known.count += page.count;
        let room = SKIPPED_SAMPLES - known.samples.len().min(SKIPPED_SAMPLES);
        known.samples.extend(page.samples.iter().take(room).cloned());
    }

    /// All that is remembered, of directories that are gone by now too.
    pub fn all(&self) -> Vec<(InodeId, Skipped)> {
        self.directories.iter().map(|(directory, skipped)| (*directory, skipped.clone())).collect()
    }

    /// Keys of directories that were forgotten; some may have been met again since.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ufs::SkippedKey;

    fn page(keys: &[&str]) -> Skipped {
        let samples = keys.iter().map(|key| SkippedKey { key: (*key).to_owned(), why: "no name".to_owned() });
        Skipped { count: u64::try_from(keys.len()).expect("few"), samples: samples.collect() }
    }

    #[test]
    fn a_new_listing_replaces_the_last_one_and_pages_of_one_add_up() {
        let mut keys = SkippedKeys::default();
        for _ in 0..2 {
            keys.begin(InodeId(1));
            keys.add(InodeId(1), &page(&["a//", "b//", "c//"]));
            keys.add(InodeId(1), &page(&["d//", "e//"]));
        }
        let all = keys.all();
        assert_eq!((all.len(), all[0].1.count, all[0].1.samples.len()), (1, 5, SKIPPED_SAMPLES));
        keys.begin(InodeId(1));
        assert!(keys.all().is_empty(), "the objects have other names now");
    }

    #[test]
    fn directories_beyond_the_bound_are_only_counted() {
        let mut keys = SkippedKeys::default();
        let bound = u64::try_from(DIRECTORIES).expect("small");
        for directory in 0..bound + 3 {
            keys.add(InodeId(directory), &page(&["x//"]));
        }
        keys.add(InodeId(3), &page(&["y//"]));
        let all = keys.all();
        assert_eq!((all.len(), keys.forgotten()), (DIRECTORIES, 3));
        assert_eq!((all[0].0, all[0].1.count), (InodeId(3), 2));
    }
}
