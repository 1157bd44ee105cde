//! What users and servers see: reads over one consistent view. Nothing here changes anything.

use crate::key::{
    LEFT_OUT_KEY, container_key, edge_of, edge_range, incomplete_key, incomplete_of, mount_key, operation_key, u64_of,
};
use crate::permission::Caller;
use crate::record::{Inode, Intent, IntentKind, LeftOut, Mount, Node, OperationRecord, Persist, Record, WorkerRecord};
use crate::reject::Reject;
use crate::step::container_owner;
use crate::store::{Family, Read, StoreError};
use crate::txn::{expect, fetch, for_each};
use crate::walk::{INNER_WRITE_TYPE, Resolved, Spot, Stop, inherited_write_type, locate, own_write_type, settle, walk};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{AgeMs, BlockId, ContainerId, GfsPath, InodeId, MountId, Name, OperationId, Right, WorkerId, WriteType};

/// Extended attributes computed from a file's checksum: one byte with the type, four with the value, big endian.
pub const CRC_TYPE: &str = "CrcType";
pub const CRC_VALUE: &str = "CrcValue";

/// Everything a `FileInfo` is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub spot: Spot,
    pub mount: Arc<Mount>,
    /// How files made here are written when nobody says: the nearest directory's attribute, else the mount's policy.
    pub write_type: Option<WriteType>,
}

/// One block of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    pub id: BlockId,
    pub offset: u64,
    pub length: u64,
    /// The journaled locations; only of blocks that exist nowhere else.
    pub workers: &'a [WorkerId],
}

impl Status {
    fn of(resolved: Resolved) -> Status {
        let write_type = inherited_write_type(&resolved.spots, &resolved.mount);
        let spot = resolved.spots.into_iter().next_back().expect("a walk begins at /");
        Status { spot, mount: Arc::new(resolved.mount), write_type }
    }

    /// Where the content stands, or would stand, in the store: the mount's URI and the store key.
    pub fn ufs_path(&self) -> String {
        let key = self.spot.key.strip_suffix('/').unwrap_or(&self.spot.key);
        match key {
            "" => self.mount.uri.clone(),
            key => format!("{}/{key}", self.mount.uri.trim_end_matches('/')),
        }
    }

    /// Extended attributes as clients see them, computed ones among them.
    pub fn xattrs(&self) -> BTreeMap<String, Vec<u8>> {
        let mut xattrs = self.spot.inode.xattrs.clone();
        match &self.spot.inode.node {
            Node::File(file) => {
                if let Some(checksum) = file.checksum {
                    xattrs.insert(CRC_TYPE.to_owned(), vec![checksum.kind]);
                    xattrs.insert(CRC_VALUE.to_owned(), checksum.value.to_be_bytes().to_vec());
                }
            }
            Node::Directory(_) => {
                if let Some(kind) = self.write_type {
                    xattrs.insert(INNER_WRITE_TYPE.to_owned(), kind.name().as_bytes().to_vec());
                }
            }
        }
        xattrs
    }

    /// The blocks of a complete file, in order; none of anything else. Cost: no memory per block.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let container = self.spot.inode.container;
        let file = self.spot.inode.file().filter(|file| file.complete && file.block_bytes > 0);
        let count = file.map_or(0, |file| file.length.div_ceil(file.block_bytes));
        (0..count).filter_map(move |index| {
            let file = file?;
            let offset = index * file.block_bytes;
            let known = file.locations.binary_search_by_key(&index, |(at, _)| u64::from(*at)).ok();
            let workers = known.map_or(&[][..], |at| &file.locations[at].1);
            let length = file.block_bytes.min(file.length - offset);
            Some(Block { id: container.block(index)?, offset, length, workers })
        })
    }
}

/// Some entries of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The directory; a file lists itself.
    pub parent: Status,
    pub entries: Vec<Status>,
    /// The name to go on after; None at the end.
    pub next: Option<Name>,
}

/// What stands at `path`. The caller needs execute on the directories above it.
pub fn status(read: &dyn Read, who: &Caller, path: &GfsPath) -> Result<Result<Status, Reject>, StoreError> {
    settle(found(read, who, path).map(Status::of))
}

fn found(read: &dyn Read, who: &Caller, path: &GfsPath) -> Result<Resolved, Stop> {
    let resolved = walk(read, who, path)?;
    resolved.found(path)?;
    Ok(resolved)
}

/// Up to `limit` entries of a directory in name order, beginning after `after`. The caller needs read on it.
/// Cost: one scan of `limit` edges.
pub fn list(
    read: &dyn Read,
    who: &Caller,
    path: &GfsPath,
    after: Option<&Name>,
    limit: usize,
) -> Result<Result<Page, Reject>, StoreError> {
    settle(page(read, who, path, after, limit))
}

fn page(read: &dyn Read, who: &Caller, path: &GfsPath, after: Option<&Name>, limit: usize) -> Result<Page, Stop> {
    let parent = Status::of(found(read, who, path)?);
    if !parent.spot.inode.is_directory() {
        let entries = if after.is_none() { vec![parent.clone()] } else { Vec::new() };
        return Ok(Page { entries, parent, next: None });
    }
    who.check(Right::READ, &parent.spot.inode, path)?;
    let mut found = children(read, parent.spot.inode.id, after, limit.saturating_add(1))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(name, _)| name.clone());
    let entries: Result<Vec<Status>, StoreError> =
        found.into_iter().map(|(name, inode)| entry(read, &parent, name, inode)).collect();
    Ok(Page { entries: entries?, parent, next })
}

fn entry(read: &dyn Read, parent: &Status, name: Name, inode: Inode) -> Result<Status, StoreError> {
    let spot = parent.spot.below(name, inode);
    let own = own_write_type(&spot.inode);
    if spot.mount == parent.spot.mount {
        return Ok(Status { write_type: own.or(parent.write_type), mount: parent.mount.clone(), spot });
    }
    let mount: Mount = expect(read, Family::Mounts, mount_key(spot.mount))?;
    Ok(Status { write_type: own.or(mount.write_policy), mount: Arc::new(mount), spot })
}

/// Up to `limit` edges of a directory in name order, beginning after `after`.
pub fn children(
    read: &dyn Read,
    directory: InodeId,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<(Name, Inode)>, StoreError> {
    let (start, end) = edge_range(directory, after);
    let edges = read.scan(Family::Edges, &start, &end, limit)?;
    edges
        .iter()
        .map(|(key, value)| {
            let (_, name) = edge_of(key)?;
            Ok((name.expect("the range holds names"), Inode::decode(value)?))
        })
        .collect()
}

/// The inode, wherever it stands now. None: removed, or below something removed. Cost: two lookups per level.
pub fn by_inode(read: &dyn Read, inode: InodeId) -> Result<Option<Status>, StoreError> {
    Ok(locate(read, inode)?.map(Status::of))
}

/// The owner of a container. As [`by_inode`].
pub fn by_container(read: &dyn Read, container: ContainerId) -> Result<Option<Status>, StoreError> {
    match container_owner(read, container)? {
        Some(inode) => by_inode(read, inode),
        None => Ok(None),
    }
}

/// What stands for a key of a store, which need not be what its path says. A slash at its end is not looked at.
/// Cost: one lookup per level, and a scan of the open intents if that finds nothing.
pub fn by_key(read: &dyn Read, mount: MountId, key: &str) -> Result<Option<Status>, StoreError> {
    if let Some(status) = settled_at(read, mount, key)? {
        return Ok(Some(status));
    }
    let key = key.trim_end_matches('/');
    // A tree that is on its way to its new name still has the old keys.
    for intent in intents(read)?.into_iter().filter(|intent| intent.mount == mount) {
        if let IntentKind::MoveTree { from, inode, .. } = &intent.kind {
            let rest = if key == crate::index::plain(from) { Some("") } else { key.strip_prefix(from.as_str()) };
            if let (Some(rest), Some(top)) = (rest, by_inode(read, *inode)?) {
                return Ok(below(read, &top.spot.path, rest)?.filter(|status| names(status, mount, key)));
            }
        }
    }
    Ok(None)
}

/// As [`by_key`], but only what is to stay at that key: nothing of a tree that is on its way elsewhere.
/// Cost: one lookup per level.
pub fn settled_at(read: &dyn Read, mount: MountId, key: &str) -> Result<Option<Status>, StoreError> {
    let key = key.trim_end_matches('/');
    let Some(at): Option<Mount> = fetch(read, Family::Mounts, mount_key(mount))? else { return Ok(None) };
    Ok(below(read, &at.path, key)?.filter(|status| names(status, mount, key)))
}

fn names(status: &Status, mount: MountId, key: &str) -> bool {
    status.spot.mount == mount && crate::index::plain(&status.spot.key) == key
}

fn below(read: &dyn Read, top: &GfsPath, rest: &str) -> Result<Option<Status>, StoreError> {
    match GfsPath::parse(&format!("{top}/{rest}")) {
        Ok(path) => Ok(status(read, &Caller::system(), &path)?.ok()),
        Err(_) => Ok(None),
    }
}

/// Containers that this history of the namespace never gave out, though another one may have.
pub fn left_out(read: &dyn Read) -> Result<LeftOut, StoreError> {
    Ok(fetch(read, Family::State, LEFT_OUT_KEY)?.unwrap_or_default())
}

/// One mount.
pub fn mount(read: &dyn Read, id: MountId) -> Result<Option<Mount>, StoreError> {
    fetch(read, Family::Mounts, mount_key(id))
}

/// All mounts in the order they were made, `/` first. Cost: a scan of a small family.
pub fn mounts(read: &dyn Read) -> Result<Vec<Mount>, StoreError> {
    all(read, Family::Mounts)
}

/// All workers ever registered, by id. Cost: a scan of a small family.
pub fn workers(read: &dyn Read) -> Result<Vec<WorkerRecord>, StoreError> {
    all(read, Family::Workers)
}

/// All open intents, oldest first. Cost: a scan of a small family.
pub fn intents(read: &dyn Read) -> Result<Vec<Intent>, StoreError> {
    all(read, Family::Intents)
}

fn all<R: Record>(read: &dyn Read, family: Family) -> Result<Vec<R>, StoreError> {
    let mut records = Vec::new();
    for_each(read, family, |_, value| {
        records.push(R::decode(value)?);
        Ok(())
    })?;
    Ok(records)
}

/// The remembered outcome of an operation: look it up before refusing a request.
pub fn operation(read: &dyn Read, id: OperationId) -> Result<Option<OperationRecord>, StoreError> {
    fetch(read, Family::Operations, operation_key(id))
}

/// The persist of one file, if it is on its way to its store.
pub fn persist(read: &dyn Read, container: ContainerId) -> Result<Option<Persist>, StoreError> {
    fetch(read, Family::Persists, container_key(container))
}

/// Up to `limit` files on their way to their stores, by container, beginning after `after`.
pub fn persists(
    read: &dyn Read,
    after: Option<ContainerId>,
    limit: usize,
) -> Result<Vec<(ContainerId, Persist)>, StoreError> {
    let found = read.scan(Family::Persists, &past(after.map(|id| id.0)), &PAST_ALL_IDS, limit)?;
    found.iter().map(|(key, value)| Ok((ContainerId(u64_of("persists", key)?), Persist::decode(value)?))).collect()
}

/// Up to `limit` directories that wait to be collected, beginning after `after`.
pub fn detached(read: &dyn Read, after: Option<InodeId>, limit: usize) -> Result<Vec<InodeId>, StoreError> {
    let found = read.scan(Family::Detached, &past(after.map(|id| id.0)), &PAST_ALL_IDS, limit)?;
    found.iter().map(|(key, _)| Ok(InodeId(u64_of("detached", key)?))).collect()
}

const PAST_ALL_IDS: [u8; 9] = [0xFF; 9];

fn past(after: Option<u64>) -> Bytes {
    after.map_or_else(Bytes::new, |id| crate::txn::after(&id.to_be_bytes()))
}

/// Up to `limit` files that were opened before `before` and are not complete, oldest first, beginning after `after`.
pub fn incomplete_before(
    read: &dyn Read,
    before: AgeMs,
    after: Option<(AgeMs, ContainerId)>,
    limit: usize,
) -> Result<Vec<(AgeMs, ContainerId)>, StoreError> {
    let start = after.map_or_else(Bytes::new, |(age, id)| crate::txn::after(&incomplete_key(age, id)));
    let end = incomplete_key(before, ContainerId(0));
    let found = read.scan(Family::Incomplete, &start, &end, limit)?;
    found.iter().map(|(key, _)| incomplete_of(key)).collect()
}
