//! Which disks of the masters are short of room: said before a master ends of it.
//!
//! Is:     how much is free on the disks of this master, and what each other master said last of its own.
//! Owns:   nothing that lasts: all of it is learned anew.
//! Never:  decides who leads (the core does), or keeps anybody from writing.

use journal::MemberId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The disk of the metadata is short of room below this much, or a twentieth of it if that is more; a small one below half.
const LOW_BYTES: u64 = 256 << 20;
const LOW_PART: u64 = 20;

/// Numbers of the disks on the wire, each a bit. Only ever added.
const JOURNAL: u32 = 1;
const METASTORE: u32 = 2;

/// The disks of one master that are short of room.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Short {
    /// There is no room for the log's next file.
    pub journal: bool,
    pub metastore: bool,
}

impl Short {
    pub fn is_any(self) -> bool {
        self.journal || self.metastore
    }

    pub fn to_wire(self) -> u32 {
        u32::from(self.journal) * JOURNAL + u32::from(self.metastore) * METASTORE
    }

    /// Disks that only a later release has are left out.
    pub fn from_wire(bits: u32) -> Short {
        Short { journal: bits & JOURNAL != 0, metastore: bits & METASTORE != 0 }
    }
}

/// Bytes that are free on the disks of this master; 0 before they were looked at.
#[derive(Default)]
pub struct Free {
    pub journal: AtomicU64,
    pub metastore: AtomicU64,
}

#[derive(Default)]
pub struct Rooms {
    pub free: Free,
    journal_short: AtomicBool,
    metastore_short: AtomicBool,
    others: Mutex<BTreeMap<MemberId, Short>>,
}

impl Rooms {
    /// What this master is short of.
    pub fn own(&self) -> Short {
        Short {
            journal: self.journal_short.load(Ordering::Relaxed),
            metastore: self.metastore_short.load(Ordering::Relaxed),
        }
    }

    /// Whether the log's next file could be prepared.
    pub fn set_journal_short(&self, short: bool) {
        self.journal_short.store(short, Ordering::Relaxed);
    }

    /// What another master said of its own.
    pub fn heard(&self, from: MemberId, short: Short) {
        self.others.lock().insert(from, short);
    }

    /// What another master said last; nothing if it was not heard of since this one started.
    pub fn of(&self, member: MemberId) -> Short {
        self.others.lock().get(&member).copied().unwrap_or_default()
    }

    /// Looks at both disks; warns when that of the metadata runs short. Waits for the disks. Errors: one cannot be asked.
    pub fn look(&self, journal: &Path, metastore: &Path) -> io::Result<()> {
        let (journal_free, _) = free_and_size(journal)?;
        let (free, size) = free_and_size(metastore)?;
        self.free.journal.store(journal_free, Ordering::Relaxed);
        self.free.metastore.store(free, Ordering::Relaxed);
        let short = is_low(free, size);
        if self.metastore_short.swap(short, Ordering::Relaxed) != short {
            let place = metastore.display();
            match short {
                true => {
                    tracing::warn!(%place, free_bytes = free, "the disk of the metadata is nearly full: this master ends when it is; free space")
                }
                false => tracing::info!(%place, free_bytes = free, "the disk of the metadata has room again"),
            }
        }
        Ok(())
    }
}

fn is_low(free_bytes: u64, size_bytes: u64) -> bool {
    free_bytes < LOW_BYTES.max(size_bytes / LOW_PART).min(size_bytes / 2)
}

/// Bytes free to this user, and bytes of the file system.
fn free_and_size(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    Ok((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_in_time_whatever_its_size() {
        let gib = 1 << 30;
        assert!(is_low(4 * gib, 100 * gib) && !is_low(6 * gib, 100 * gib), "a twentieth");
        assert!(is_low(200 << 20, gib) && !is_low(300 << 20, gib), "some checkpoints' worth");
        assert!(is_low(15 << 20, 32 << 20) && !is_low(17 << 20, 32 << 20), "half of a small one");
    }

    #[test]
    fn what_a_master_says_of_its_disks_is_what_others_hear() {
        let rooms = Rooms::default();
        assert!(!rooms.own().is_any() && !rooms.of(MemberId(2)).is_any());
        rooms.set_journal_short(true);
        for short in [rooms.own(), Short { journal: false, metastore: true }, Short::default()] {
            rooms.heard(MemberId(2), Short::from_wire(short.to_wire()));
            assert_eq!(rooms.of(MemberId(2)), short);
        }
        assert_eq!(Short::from_wire(JOURNAL | 1 << 31), rooms.own(), "a later release says more");
    }

    #[test]
    fn the_disks_of_a_master_are_looked_at() {
        let dir = tempfile::tempdir().expect("a directory");
        let rooms = Rooms::default();
        rooms.look(dir.path(), dir.path()).expect("they are there");
        assert!(rooms.free.journal.load(Ordering::Relaxed) > 0);
        rooms.look(dir.path(), &dir.path().join("nothing")).expect_err("it is not");
    }
}
