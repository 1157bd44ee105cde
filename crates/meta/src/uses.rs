//! What is known of when files were used last, and what their store can give again.
//!
//! Is:     pure judgement of records. A use is a bit of one container in one of a few times, see [`Uses`].
//! Never:  says that something was not used when that is not known.

use crate::key::{USES_KEY, used_key};
use crate::op::load_page::{BLOCK_BYTES, DIRECTORY_MODE, FILE_MODE};
use crate::record::{Inode, Node, UseTime, Used, Uses};
use crate::store::{Family, Read, StoreError};
use crate::txn::fetch;
use types::{AgeMs, ContainerId, PersistenceState, WriteType};

/// Containers of one chunk, as a power of two.
const CHUNK_BITS: u32 = 11;
/// Words of 64 bits in the notes of one chunk.
pub const USE_WORDS: usize = (1 << CHUNK_BITS) / 64;

/// The bit that stands for a container in notes of uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsePlace {
    pub chunk: u64,
    pub word: usize,
    pub bit: u64,
}

impl UsePlace {
    pub fn of(container: ContainerId) -> UsePlace {
        let place = usize::try_from(container.0 & ((1 << CHUNK_BITS) - 1)).expect("eleven bits");
        UsePlace { chunk: container.0 >> CHUNK_BITS, word: place / 64, bit: 1 << (place % 64) }
    }
}

/// The times in which uses are noted.
pub fn uses(read: &dyn Read) -> Result<Uses, StoreError> {
    Ok(fetch(read, Family::State, USES_KEY)?.unwrap_or_default())
}

/// What was used since some time began.
///
/// Cost: a lookup for each time and chunk of 2048 containers; the chunk asked for last is kept.
pub struct UsedSince {
    numbers: Vec<u64>,
    since: UseTime,
    chunk: Option<(u64, [u64; USE_WORDS])>,
}

impl UsedSince {
    /// None: uses were not noted for `unused_ms` yet.
    pub fn new(uses: &Uses, age: AgeMs, unused_ms: u64) -> Option<UsedSince> {
        let since = uses.since(AgeMs(age.0.checked_sub(unused_ms)?))?;
        let numbers = uses.times.iter().map(|time| time.number).filter(|number| *number >= since.number).collect();
        Some(UsedSince { numbers, since, chunk: None })
    }

    /// Whether this inode was used, made, moved, loaded or given another content since then.
    pub fn has(&mut self, read: &dyn Read, inode: &Inode) -> Result<bool, StoreError> {
        if inode.changed > self.since.at {
            return Ok(true);
        }
        let UsePlace { chunk, word, bit } = UsePlace::of(inode.container);
        let words = match self.chunk {
            Some((known, words)) if known == chunk => words,
            Some(_) | None => {
                let mut words = [0; USE_WORDS];
                for number in &self.numbers {
                    let used: Option<Used> = fetch(read, Family::State, used_key(*number, chunk))?;
                    let found = used.map(|used| used.words).unwrap_or_default();
                    words.iter_mut().zip(found).for_each(|(word, more)| *word |= more);
                }
                self.chunk = Some((chunk, words));
                words
            }
        };
        Ok(words[word] & bit != 0)
    }
}

/// Whether a load makes such an inode, apart from its owner and group: nothing that was set here, and nothing that is only
/// cached, goes with it.
pub fn is_as_loaded(inode: &Inode) -> bool {
    // What a store does not tell apart; and into a directory that is older than its last change something was made here, or
    // taken out, so that its store may not have it any more.
    if !inode.xattrs.is_empty() || inode.store_key.is_some() || inode.created != inode.modified {
        return false;
    }
    match &inode.node {
        Node::File(file) => {
            file.complete
                && file.persistence == PersistenceState::Persisted
                && file.write_type == WriteType::CacheThrough
                && file.closed.is_none()
                && file.checksum.is_none()
                && file.locations.is_empty()
                && file.block_bytes == BLOCK_BYTES
                && inode.mode == FILE_MODE
        }
        Node::Directory(directory) => {
            directory.persisted && directory.children == 0 && directory.mount.is_none() && inode.mode == DIRECTORY_MODE
        }
    }
}
