//! What records say of each other, where any of them may be missing or damaged.

use super::fault::Place;
use crate::key::{ABOVE_ROOT, ROOT, container_key, edge_range, inode_key, intent_key, mount_key, place_key};
use crate::record::{Directory, Inode, Intent, IntentKind, MAX_REMOVED, Mount, Node, OperationRecord, Parent, Record};
use crate::store::{Family, Read, StoreError};
use crate::txn::for_each;
use crate::walk::MAX_LEVELS;
use std::collections::BTreeMap;
use types::{AgeMs, ContainerId, InodeId, LogIndex, MountId, OperationId, PersistenceState};

/// What stands under a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look<R> {
    There(R),
    Absent,
    /// Something nobody can read, so nothing follows from it.
    Unreadable,
}

impl<R: Record> Look<R> {
    pub fn at(read: &dyn Read, family: Family, key: impl AsRef<[u8]>) -> Result<Look<R>, StoreError> {
        Ok(match read.get(family, key.as_ref())?.map(|bytes| R::decode(&bytes)) {
            Some(Ok(record)) => Look::There(record),
            Some(Err(_)) => Look::Unreadable,
            None => Look::Absent,
        })
    }
}

/// Where the record of its place says that an inode stands; that of `/` goes without saying.
pub fn place_of(read: &dyn Read, inode: InodeId) -> Result<Look<Place>, StoreError> {
    if inode == ROOT {
        return Ok(Look::There(Place { parent: ABOVE_ROOT, name: None }));
    }
    Ok(match Look::<Parent>::at(read, Family::Inodes, inode_key(inode))? {
        Look::There(parent) => Look::There(parent.into()),
        Look::Absent => Look::Absent,
        Look::Unreadable => Look::Unreadable,
    })
}

/// The inode that stands at a place.
pub fn edge_at(read: &dyn Read, place: &Place) -> Result<Look<Inode>, StoreError> {
    Look::at(read, Family::Edges, place_key(place.parent, place.name.as_ref()))
}

/// Where an inode stands, and what it is there. Absent: its place is not recorded, or something else stands there.
pub fn stands(read: &dyn Read, inode: InodeId) -> Result<Look<(Place, Inode)>, StoreError> {
    let place = match place_of(read, inode)? {
        Look::There(place) => place,
        Look::Absent => return Ok(Look::Absent),
        Look::Unreadable => return Ok(Look::Unreadable),
    };
    Ok(match edge_at(read, &place)? {
        Look::There(found) if found.id == inode => Look::There((place, found)),
        Look::There(_) | Look::Absent => Look::Absent,
        Look::Unreadable => Look::Unreadable,
    })
}

/// Whom the record of a container names.
pub fn owner_of(read: &dyn Read, container: ContainerId) -> Result<Look<InodeId>, StoreError> {
    let value = read.get(Family::Containers, &container_key(container))?;
    Ok(match value.map(|bytes| <[u8; 8]>::try_from(&bytes[..])) {
        Some(Ok(owner)) => Look::There(InodeId(u64::from_be_bytes(owner))),
        Some(Err(_)) => Look::Unreadable,
        None => Look::Absent,
    })
}

/// What a directory says of its entries, by which a count of them can be told from an older one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    pub children: u64,
    pub removed_at: LogIndex,
}

impl From<&Directory> for Counts {
    fn from(directory: &Directory) -> Counts {
        Counts { children: directory.children, removed_at: directory.removed_at }
    }
}

/// None: it is no directory that stands somewhere.
pub fn counts_of(read: &dyn Read, directory: InodeId) -> Result<Option<Counts>, StoreError> {
    Ok(match stands(read, directory)? {
        Look::There((_, inode)) => inode.directory().map(Counts::from),
        Look::Absent | Look::Unreadable => None,
    })
}

pub fn has_entries(read: &dyn Read, directory: InodeId) -> Result<bool, StoreError> {
    let (start, end) = edge_range(directory, None);
    Ok(!read.scan(Family::Edges, &start, &end, 1)?.is_empty())
}

/// Entries of a directory, counted up to `limit`. Cost: one scan of them.
pub fn count_entries(read: &dyn Read, directory: InodeId, limit: usize) -> Result<u64, StoreError> {
    let (start, end) = edge_range(directory, None);
    let found = read.scan(Family::Edges, &start, &end, limit)?.len();
    Ok(u64::try_from(found).expect("usize is at most 64 bits"))
}

/// Removals remembered for the load of a directory, counted up to one more than there may be.
pub fn removals(read: &dyn Read, directory: InodeId) -> Result<u32, StoreError> {
    let (start, end) = edge_range(directory, None);
    let limit = usize::try_from(MAX_REMOVED).expect("a small constant") + 1;
    let found = read.scan(Family::Loads, &start, &end, limit)?.len();
    Ok(u32::try_from(found).expect("at most the limit"))
}

/// Whether the way up from an inode ends at `/`. Cost: one lookup a level.
pub fn reaches_root(read: &dyn Read, inode: InodeId) -> Result<bool, StoreError> {
    let mut at = inode;
    for _ in 0..MAX_LEVELS {
        if at == ROOT {
            return Ok(true);
        }
        match place_of(read, at)? {
            Look::There(place) => at = place.parent,
            Look::Absent | Look::Unreadable => return Ok(false),
        }
    }
    Ok(false)
}

/// As [`reaches_root`], and every level of it stands where its place says. Cost: two lookups a level.
pub fn stands_in_tree(read: &dyn Read, inode: InodeId) -> Result<bool, StoreError> {
    let mut at = inode;
    for _ in 0..MAX_LEVELS {
        match stands(read, at)? {
            Look::There(_) if at == ROOT => return Ok(true),
            Look::There((place, _)) => at = place.parent,
            Look::Absent | Look::Unreadable => return Ok(false),
        }
    }
    Ok(false)
}

/// Whether the way up from a directory leads back to it, by none with a lower id. Cost: one lookup a level.
pub fn is_lowest_of_loop(read: &dyn Read, directory: InodeId) -> Result<bool, StoreError> {
    let mut at = directory;
    for _ in 0..MAX_LEVELS {
        if at == ROOT {
            return Ok(false);
        }
        match place_of(read, at)? {
            Look::There(place) => at = place.parent,
            Look::Absent | Look::Unreadable => return Ok(false),
        }
        if at <= directory {
            return Ok(at == directory);
        }
    }
    Ok(false)
}

/// Directories being moved by open intents, with the keys they are moved from. Cost: a scan of a small family.
pub fn moving(read: &dyn Read) -> Result<BTreeMap<InodeId, String>, StoreError> {
    let mut moving = BTreeMap::new();
    for_each(read, Family::Intents, |_, value| {
        // One that cannot be read is named where its family is looked at.
        if let Ok(Intent { kind: IntentKind::MoveTree { inode, from, .. }, .. }) = Intent::decode(value) {
            moving.insert(inode, from);
        }
        Ok(())
    })?;
    Ok(moving)
}

/// Where the root of a mount stands.
pub fn place_of_mount(mount: &Mount) -> Place {
    let name = mount.path.names().next().and_then(|name| types::Name::new(name).ok());
    match name {
        Some(name) => Place { parent: ROOT, name: Some(name) },
        None => Place { parent: ABOVE_ROOT, name: None },
    }
}

/// Whether that mount's root stands there; also if nobody can read the mount.
pub fn is_mounted_at(read: &dyn Read, mount: MountId, place: &Place) -> Result<bool, StoreError> {
    Ok(match Look::<Mount>::at(read, Family::Mounts, mount_key(mount))? {
        Look::There(mount) => place_of_mount(&mount) == *place,
        Look::Absent => false,
        Look::Unreadable => true,
    })
}

/// Whether an outcome is decided, or an intent that is open will decide it.
pub fn is_decidable(read: &dyn Read, operation: OperationId, record: &OperationRecord) -> Result<bool, StoreError> {
    let Some(pending) = record.pending else { return Ok(true) };
    Ok(match Look::<Intent>::at(read, Family::Intents, intent_key(pending))? {
        Look::There(intent) => intent.operation == Some(operation),
        Look::Absent => false,
        Look::Unreadable => true,
    })
}

/// Whether its content may be in the cache alone.
pub fn is_only_cached(inode: &Inode) -> bool {
    inode.file().is_some_and(|file| !(file.complete && file.persistence == PersistenceState::Persisted))
}

pub fn awaits_persist(inode: &Inode) -> bool {
    inode.file().is_some_and(|file| file.persistence == PersistenceState::ToBePersisted)
}

pub fn is_open_since(inode: &Inode, opened: AgeMs) -> bool {
    matches!(&inode.node, Node::File(file) if !file.complete && file.opened == opened)
}
