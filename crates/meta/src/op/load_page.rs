//! Inserts what a store lists in a directory, where nothing of that name is known, was removed meanwhile, or is under an
//! intent.

use crate::effect::Done;
use crate::entry::{BATCHES, Found, LoadPage};
use crate::key::{edge_key, inode_key};
use crate::record::{Directory, File, Inode, Load, Node, Reached, Record};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::{Family, Read, StoreError};
use crate::txn::after;
use crate::walk::{Resolved, Spot, Stop, child};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::{InodeId, LoadId, LogIndex, Mode, Name, PersistenceState, WriteType};

/// Block size of files that come from a store.
pub(crate) const BLOCK_BYTES: u64 = 64 << 20;
pub(crate) const FILE_MODE: Mode = Mode::new(0o644);
pub(crate) const DIRECTORY_MODE: Mode = Mode::new(0o755);

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &LoadPage) -> Outcome {
    let load = find(step, op.directory, op.load)?;
    let stale = || Reject::Stale(format!("the directory of {} was removed, moved or replaced", op.load));
    let resolved = step.locate(op.directory)?.ok_or_else(stale)?;
    let spot = resolved.last();
    if spot.mount != load.mount || spot.key != load.key || resolved.changed_since(LogIndex(load.id.0)) {
        return Err(stale().into());
    }
    if let Some(intent) = step.index.covering_above(spot.mount, &spot.key) {
        return Err(Reject::Covered { path: spot.path.clone(), intent }.into());
    }

    let owner = Owner::of(&resolved);
    let mut known = Known::read(step, spot, &op.items)?;
    let mut inserted = 0;
    for item in &op.items {
        if known.may_take(step, spot, item, &load)? {
            let inode = owner.inode(step, item)?;
            step.link(spot, &item.name, inode);
            known.taken(step, spot, &item.name)?;
            inserted += 1;
        }
    }
    step.edit_directory(spot, |directory| {
        directory.children = directory.children.saturating_add(inserted);
        directory.loaded |= op.last && !load.holes;
    })?;
    if !op.items.is_empty() {
        step.mark_persisted(&resolved.spots)?;
    }
    match op.items.last() {
        _ if op.last => step.end_load(op.directory)?,
        Some(last) if step.counters.rules >= BATCHES => {
            let reached = Some(Reached { name: last.name.clone(), directory: last.directory, at: step.age });
            step.txn.put(Family::Loads, inode_key(op.directory), &Load { reached, ..load });
        }
        Some(_) | None => {}
    }
    Ok(Done::Nothing)
}

/// The session, if it is still the open one.
pub(crate) fn find(step: &Step<'_, '_>, directory: InodeId, load: LoadId) -> Result<Load, Reject> {
    let found = step.index.loads.get(&directory).filter(|found| found.id == load).cloned();
    found.ok_or_else(|| Reject::Stale(format!("{load} of {directory} is not open any more")))
}

/// The entries a directory has among the names of a page, by edge key: read at once, where they are not many more than the
/// page. A page mostly meets none, and a look-up for each name would fill a cache with names that are not there.
struct Known(Option<BTreeMap<Bytes, Bytes>>);

impl Known {
    fn read(step: &Step<'_, '_>, directory: &Spot, items: &[Found]) -> Result<Known, StoreError> {
        let names = || items.iter().map(|item| &item.name);
        // Keys sort directories by a slash behind their names, so the ends of the page need not be the ends of its names.
        let (Some(first), Some(last)) = (names().min(), names().max()) else { return Ok(Known(None)) };
        let (start, end) = (edge_key(directory.inode.id, first), after(&edge_key(directory.inode.id, last)));
        let limit = items.len() * 2;
        let found = step.read().scan(Family::Edges, &start, &end, limit)?;
        Ok(Known((found.len() < limit).then(|| found.into_iter().collect())))
    }

    fn find(&self, step: &Step<'_, '_>, directory: &Spot, name: &Name) -> Result<Option<Spot>, StoreError> {
        let Some(known) = &self.0 else { return child(step.read(), directory, name) };
        let found = known.get(&edge_key(directory.inode.id, name));
        found.map(|bytes| Ok(directory.below(name.clone(), Inode::decode(bytes)?))).transpose()
    }

    /// Whether an item is to be inserted. A directory that was only known here is in the store from now on.
    fn may_take(
        &self,
        step: &mut Step<'_, '_>,
        directory: &Spot,
        item: &Found,
        load: &Load,
    ) -> Result<bool, StoreError> {
        if let Some(known) = self.find(step, directory, &item.name)? {
            let is_new_there = known.inode.directory().is_some_and(|known| !known.persisted);
            if item.directory && is_new_there && !known.is_mount_root() {
                step.edit_directory(&known, |known| known.persisted = true)?;
            }
            return Ok(false);
        }
        let tombstone = edge_key(directory.inode.id, &item.name);
        let was_removed = load.removed > 0 && step.read().get(Family::Loads, &tombstone)?.is_some();
        let key = directory.key_of(&item.name, item.directory);
        let cannot_be_named = directory.path.join(&item.name).is_err();
        Ok(!was_removed && !cannot_be_named && step.index.covering(directory.mount, &key).is_none())
    }

    /// An item was inserted: a second one of its name meets it.
    fn taken(&mut self, step: &Step<'_, '_>, directory: &Spot, name: &Name) -> Result<(), StoreError> {
        let Some(known) = &mut self.0 else { return Ok(()) };
        let key = edge_key(directory.inode.id, name);
        if let Some(record) = step.read().get(Family::Edges, &key)? {
            known.insert(key, record);
        }
        Ok(())
    }
}

/// Whom inodes from a store belong to when the store does not say: the owner of the mount's root.
pub(crate) struct Owner {
    owner: String,
    group: String,
}

impl Owner {
    pub fn of(resolved: &Resolved) -> Owner {
        let mount = resolved.mount.id;
        let root = resolved.spots.iter().find(|spot| spot.mount == mount).expect("its root is on the way");
        Owner { owner: root.inode.owner.clone(), group: root.inode.group.clone() }
    }

    /// Whether an inode belongs to them.
    pub fn is_of(&self, inode: &Inode) -> bool {
        inode.owner == self.owner && inode.group == self.group
    }

    /// The inode of what a store has. Takes ids.
    pub fn inode(&self, step: &mut Step<'_, '_>, found: &Found) -> Result<Inode, Stop> {
        let ids = step.take_ids()?;
        let modified = found.modified.unwrap_or(step.wall);
        let (mode, node) = if found.directory {
            (DIRECTORY_MODE, Node::Directory(directory()))
        } else {
            (FILE_MODE, Node::File(file(found)))
        };
        let owned = (found.owner.as_ref().unwrap_or(&self.owner), found.group.as_ref().unwrap_or(&self.group));
        let inode = step.inode_now(ids, (owned.0, owned.1), found.mode.unwrap_or(mode), node);
        Ok(Inode { created: modified, modified, ..inode })
    }
}

fn directory() -> Directory {
    Directory { children: 0, loaded: false, persisted: true, removed_at: LogIndex(0), mount: None }
}

/// The content of a file as its store has it.
pub(crate) fn file(found: &Found) -> File {
    File {
        complete: true,
        length: found.length,
        block_bytes: BLOCK_BYTES,
        write_type: WriteType::CacheThrough,
        persistence: PersistenceState::Persisted,
        fingerprint: found.fingerprint.clone(),
        closed: None,
        checksum: None,
        locations: Vec::new(),
        opened: types::AgeMs(0),
    }
}
