//! What the tree consists of: figures that are gathered by a slow walk, so that nobody who asks for them waits for one.
//!
//! Is:     a pure fold over inodes, and the last one that was finished.
//! Owns:   which figures there are.
//! Never:  reads: the leader's loop hands it what it reads.

use meta::{Inode, Node};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use types::{InodeId, PersistenceState, UnixMs};

/// Directories named as the largest.
const LARGEST: usize = 20;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Files are told apart by the time since they were modified: up to so many days, and older.
pub const AGE_DAYS: [i64; 7] = [1, 7, 30, 90, 180, 365, 730];

/// Files of one age.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgeClass {
    pub files: u64,
    pub bytes: u64,
}

/// What one walk found. Inodes that moved while it ran may be in it twice, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Census {
    pub began: UnixMs,
    pub ended: UnixMs,
    pub files: u64,
    pub directories: u64,
    /// Lengths of files together.
    pub bytes: u64,
    /// Files that are still written; in no store; on their way there; there; and lost.
    pub incomplete: u64,
    pub not_persisted: u64,
    pub to_be_persisted: u64,
    pub persisted: u64,
    pub lost: u64,
    /// By [`AGE_DAYS`], and behind them whatever is older.
    pub ages: [AgeClass; AGE_DAYS.len() + 1],
    /// Records that could not be read.
    pub unreadable: u64,
    /// The directories with most entries, the largest first out.
    largest: BinaryHeap<Reverse<(u64, InodeId)>>,
}

impl Census {
    pub fn begin(now: UnixMs) -> Census {
        Census { began: now, ..Census::default() }
    }

    /// Inodes seen so far.
    pub fn inodes(&self) -> u64 {
        self.files + self.directories
    }

    pub fn add(&mut self, inode: &Inode, now: UnixMs) {
        match &inode.node {
            Node::Directory(directory) => {
                self.directories += 1;
                if directory.children > 0 {
                    self.largest.push(Reverse((directory.children, inode.id)));
                    if self.largest.len() > LARGEST {
                        self.largest.pop();
                    }
                }
            }
            Node::File(file) => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(file.length);
                let count = match file.persistence {
                    _ if !file.complete => &mut self.incomplete,
                    PersistenceState::NotPersisted => &mut self.not_persisted,
                    PersistenceState::ToBePersisted => &mut self.to_be_persisted,
                    PersistenceState::Persisted => &mut self.persisted,
                    PersistenceState::Lost => &mut self.lost,
                };
                *count += 1;
                let days = now.0.saturating_sub(inode.modified.0) / DAY_MS;
                let class = AGE_DAYS.iter().position(|limit| days < *limit).unwrap_or(AGE_DAYS.len());
                self.ages[class].files += 1;
                self.ages[class].bytes = self.ages[class].bytes.saturating_add(file.length);
            }
        }
    }

    /// Directories by number of entries, the largest first.
    pub fn largest(&self) -> Vec<(InodeId, u64)> {
        let mut all: Vec<(u64, InodeId)> = self.largest.iter().map(|Reverse(one)| *one).collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.into_iter().map(|(entries, inode)| (inode, entries)).collect()
    }
}

/// What is known now.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The last walk that came to its end.
    pub last: Option<Arc<Census>>,
    /// When the walk under way began, and inodes it has seen.
    pub walking: Option<(UnixMs, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta::{Directory, File};
    use std::collections::BTreeMap;
    use types::{AgeMs, ContainerId, LogIndex, Mode, WriteType};

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn inode(id: u64, age_days: i64, node: Node) -> Inode {
        Inode {
            id: InodeId(id),
            container: ContainerId(id),
            owner: String::new(),
            group: String::new(),
            mode: Mode::new(0o644),
            created: NOW,
            modified: UnixMs(NOW.0 - age_days * DAY_MS),
            changed: LogIndex(1),
            store_key: None,
            xattrs: BTreeMap::new(),
            node,
        }
    }

    fn file(id: u64, age_days: i64, length: u64, persistence: PersistenceState) -> Inode {
        let file = File {
            complete: true,
            length,
            block_bytes: 1,
            write_type: WriteType::MustCache,
            persistence,
            fingerprint: None,
            closed: None,
            checksum: None,
            locations: Vec::new(),
            opened: AgeMs(0),
        };
        inode(id, age_days, Node::File(file))
    }

    fn directory(id: u64, children: u64) -> Inode {
        let node = Directory { children, loaded: false, persisted: false, removed_at: LogIndex(0), mount: None };
        inode(id, 0, Node::Directory(node))
    }

    #[test]
    fn files_are_told_apart_by_age_and_state_and_only_the_largest_directories_are_kept() {
        let mut census = Census::begin(NOW);
        for (age, length) in [(0, 1), (1, 2), (6, 4), (8, 8), (100, 16), (729, 32), (5_000, 64), (-3, 128)] {
            census.add(&file(1, age, length, PersistenceState::Persisted), NOW);
        }
        census.add(&file(2, 0, 0, PersistenceState::Lost), NOW);
        let bytes: Vec<u64> = census.ages.iter().map(|class| class.bytes).collect();
        assert_eq!(bytes, [129, 6, 8, 0, 16, 0, 32, 64], "a time to come is young");
        assert_eq!((census.files, census.bytes, census.persisted, census.lost), (9, 255, 8, 1));
        for entries in 0..100 {
            census.add(&directory(1_000 + entries, entries * 7 % 100), NOW);
        }
        let largest = census.largest();
        assert_eq!((largest.len(), largest[0].1, largest[19].1), (LARGEST, 99, 80));
        assert_eq!((census.directories, census.inodes()), (100, 109));
    }
}
