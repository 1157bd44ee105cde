//! One entry at work: what it was stamped with, and the changes to the tree that operations are made of.
//!
//! Is:     leaves without decisions; the files in `op/` decide, then call these.
//! Never:  refuses, but for ids that ran out.

use crate::effect::{Done, Effect};
use crate::entry::{BATCHES, Ids, TOLD_CHANGES};
use crate::index::{Index, Went};
use crate::key::{
    container_key, edge_key, edge_range, incomplete_key, inode_key, intent_key, mount_key, operation_age_key,
    operation_key,
};
use crate::permission::Caller;
use crate::record::{
    Counters, Detached, Directory, File, Inode, Intent, IntentKind, Load, MAX_REMOVED, Node, OperationRecord, Parent,
    Persist,
};
use crate::reject::Reject;
use crate::store::{Family, Read, StoreError};
use crate::txn::{Txn, expect, fetch};
use crate::walk::{Resolved, Spot, Stop, locate, walk};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::{
    AgeMs, Attempt, ContainerId, Fingerprint, GfsPath, InodeId, IntentId, LogIndex, Mode, MountId, Name, OperationId,
    Right, UnixMs,
};

pub(crate) type Outcome = Result<Done, Stop>;

/// One entry being applied.
pub(crate) struct Step<'s, 'r> {
    pub txn: &'s mut Txn<'r>,
    /// As it was before this entry.
    pub index: &'s Index,
    pub counters: &'s mut Counters,
    pub at: LogIndex,
    /// Which item of the entry this is; 0 of an entry that is no batch.
    pub item: u16,
    pub wall: UnixMs,
    pub age: AgeMs,
    pub who: &'s Caller,
    pub operation: Option<OperationId>,
    pub ids: Ids,
    pub effects: Vec<Effect>,
    pub went: Option<Went>,
}

/// How a name left a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gone {
    /// The store does not have it, or will not.
    Everywhere,
    /// The store may still have it: only what we knew of it is dropped.
    Here,
    /// The same, and nobody asked for it: to its users the directory is what it was.
    Unasked,
}

impl<'r> Step<'_, 'r> {
    pub fn read(&self) -> &Txn<'r> {
        self.txn
    }

    // ---- looking

    pub fn walk(&self, path: &GfsPath) -> Result<Resolved, Stop> {
        walk(self.txn, self.who, path)
    }

    /// As [`Step::walk`], for entries that speak for nobody.
    pub fn walk_unchecked(&self, path: &GfsPath) -> Result<Resolved, Stop> {
        walk(self.txn, &Caller::system(), path)
    }

    pub fn locate(&self, inode: InodeId) -> Result<Option<Resolved>, StoreError> {
        locate(self.txn, inode)
    }

    /// The way to the owner of a container. None: it is gone, or detached.
    pub fn locate_container(&self, container: ContainerId) -> Result<Option<Resolved>, StoreError> {
        match container_owner(self.txn, container)? {
            Some(inode) => self.locate(inode),
            None => Ok(None),
        }
    }

    /// Refuses while an intent covers the key: itself, above it, or below it if it is a directory's.
    pub fn check_covered(&self, mount: MountId, key: &str, path: &GfsPath) -> Result<(), Reject> {
        match self.index.covering(mount, key) {
            Some(intent) => Err(Reject::Covered { path: path.clone(), intent }),
            None => Ok(()),
        }
    }

    /// Refuses while an upload to the key, or below it if it is a directory's, may be completed at any moment.
    pub fn check_granted(&self, mount: MountId, key: &str, path: &GfsPath) -> Result<(), Reject> {
        match self.index.granted(mount, key) {
            Some(container) => {
                let file = container.file();
                Err(Reject::Busy(format!("{path} is just being written to its store ({file}); try again")))
            }
            None => Ok(()),
        }
    }

    /// Refuses unless the caller may take `entry` out of `parent`.
    pub fn check_removable(&self, parent: &Spot, entry: &Spot) -> Result<(), Reject> {
        self.who.check(Right::WRITE.and(Right::EXECUTE), &parent.inode, &parent.path)?;
        self.who.check_sticky(&parent.inode, &entry.inode, &entry.path)
    }

    /// Refuses unless the caller may write the file: its owner may, also where its mode does not let it.
    pub fn check_writer(&self, file: &Spot) -> Result<(), Reject> {
        if self.who.user == file.inode.owner {
            return Ok(());
        }
        self.who.check(Right::WRITE, &file.inode, &file.path)
    }

    // ---- making

    /// The next of the ids that came with the entry.
    pub fn take_ids(&mut self) -> Result<(InodeId, ContainerId), Reject> {
        let Ids { inode, container, count } = self.ids;
        if count == 0 {
            return Err(Reject::Invalid(format!("{} brought too few ids; that is a bug of the leader", self.at)));
        }
        if container > ContainerId::MAX {
            return Err(Reject::Refused("file ids of this cluster are used up; no more files can be made".to_owned()));
        }
        self.ids = Ids { inode: InodeId(inode.0 + 1), container: ContainerId(container.0 + 1), count: count - 1 };
        Ok((inode, container))
    }

    /// An inode of the caller's. Nothing is written.
    pub fn new_inode(&mut self, parent: &Inode, mode: Mode, node: Node) -> Result<Inode, Reject> {
        let ids = self.take_ids()?;
        let group = self.who.groups.first().unwrap_or(&parent.group);
        Ok(self.inode_now(ids, (&self.who.user, group), mode, node))
    }

    /// An inode as of this entry. Nothing is written.
    ///
    /// - `owned`: by which user and group.
    pub fn inode_now(
        &self,
        (id, container): (InodeId, ContainerId),
        owned: (&str, &str),
        mode: Mode,
        node: Node,
    ) -> Inode {
        Inode {
            id,
            container,
            owner: owned.0.to_owned(),
            group: owned.1.to_owned(),
            mode,
            created: self.wall,
            modified: self.wall,
            changed: self.at,
            store_key: None,
            xattrs: BTreeMap::new(),
            node,
        }
    }

    /// A directory that only exists here. It is as loaded as its parent is: where every name is known, a name that was
    /// not there had nothing below it.
    pub fn new_directory(parent: &Inode) -> Directory {
        let loaded = parent.directory().is_some_and(|directory| directory.loaded);
        Directory { children: 0, loaded, persisted: false, removed_at: LogIndex(0), mount: None }
    }

    /// Writes a new inode under `name`. The parent's own record is left to the caller.
    pub fn link(&mut self, parent: &Spot, name: &Name, inode: Inode) -> Spot {
        self.txn.put(Family::Edges, edge_key(parent.inode.id, name), &inode);
        let place = Parent { parent: parent.inode.id, name: name.clone() };
        self.txn.put(Family::Inodes, inode_key(inode.id), &place);
        self.own_container(inode.container, inode.id);
        if let Some(file) = inode.file().filter(|file| !file.complete) {
            self.txn.put_raw(Family::Incomplete, incomplete_key(file.opened, inode.container), Bytes::new());
        }
        parent.below(name.clone(), inode)
    }

    pub fn own_container(&mut self, container: ContainerId, inode: InodeId) {
        let value = Bytes::copy_from_slice(&inode_key(inode));
        self.txn.put_raw(Family::Containers, container_key(container), value);
    }

    /// Makes what is missing of a path: directories above, `node` last. Parents count it, and were modified now.
    pub fn make(&mut self, resolved: &Resolved, above: Mode, mode: Mode, node: Node) -> Result<Spot, Stop> {
        let (last, parents) = resolved.missing.split_last().expect("the caller saw that it is missing");
        let mut at = resolved.last().clone();
        for name in parents {
            let directory = Step::new_directory(&at.inode);
            at = self.make_one(&at, name, above, Node::Directory(directory))?;
        }
        self.make_one(&at, last, mode, node)
    }

    fn make_one(&mut self, parent: &Spot, name: &Name, mode: Mode, node: Node) -> Result<Spot, Stop> {
        let inode = self.new_inode(&parent.inode, mode, node)?;
        let made = self.link(parent, name, inode);
        self.edit_entries(parent, count_in)?;
        Ok(made)
    }

    /// Refuses unless what is missing of `path` may be made by the caller.
    pub fn check_new(&self, resolved: &Resolved, path: &GfsPath, recursive: bool) -> Result<(), Stop> {
        if resolved.missing.is_empty() {
            return Err(Reject::AlreadyExists(path.clone()).into());
        }
        if !recursive && resolved.missing.len() > 1 {
            return Err(Reject::NotFound(path.parent().unwrap_or_else(GfsPath::root)).into());
        }
        let above = resolved.last();
        resolved.check_writable()?;
        self.who.check(Right::WRITE.and(Right::EXECUTE), &above.inode, &above.path)?;
        Ok(self.check_covered(above.mount, &resolved.missing_key(), path)?)
    }

    // ---- changing

    /// Rewrites the record of `spot` as it stands now, which may be newer than `spot` says.
    pub fn edit(&mut self, spot: &Spot, change: impl FnOnce(&mut Inode)) -> Result<(), StoreError> {
        let key = spot.edge_key();
        let mut inode: Inode = expect(self.txn, Family::Edges, &key)?;
        change(&mut inode);
        self.txn.put(Family::Edges, key, &inode);
        Ok(())
    }

    pub fn edit_directory(&mut self, spot: &Spot, change: impl FnOnce(&mut Directory)) -> Result<(), StoreError> {
        self.edit(spot, |inode| match &mut inode.node {
            Node::Directory(directory) => change(directory),
            Node::File(_) => {}
        })
    }

    /// As [`Step::edit_directory`], when entries came or went: it was modified now.
    pub fn edit_entries(&mut self, spot: &Spot, change: impl FnOnce(&mut Directory)) -> Result<(), StoreError> {
        let modified = self.modified_now(spot);
        self.edit(spot, |inode| {
            inode.modified = modified;
            if let Node::Directory(directory) = &mut inode.node {
                change(directory);
            }
        })
    }

    /// The time of a change made now, which is another one than that of its making: the wall clock stands still after somebody
    /// has set it back, and a millisecond holds more than one change.
    pub fn modified_now(&self, spot: &Spot) -> UnixMs {
        let tells = self.counters.rules >= TOLD_CHANGES && self.wall == spot.inode.created;
        UnixMs(self.wall.0 + i64::from(tells))
    }

    pub fn edit_file(&mut self, spot: &Spot, change: impl FnOnce(&mut File)) -> Result<(), StoreError> {
        self.edit(spot, |inode| match &mut inode.node {
            Node::File(file) => change(file),
            Node::Directory(_) => {}
        })
    }

    /// Something below these directories stands in the store, so they do too. `spots` runs from `/` downwards; stops at
    /// the first that was known to.
    pub fn mark_persisted(&mut self, spots: &[Spot]) -> Result<(), StoreError> {
        let known = |spot: &&Spot| spot.inode.directory().is_some_and(|directory| directory.persisted);
        for spot in spots.iter().rev().take_while(|spot| !known(spot)) {
            self.edit_directory(spot, |directory| directory.persisted = true)?;
        }
        Ok(())
    }

    /// Takes an inode out of the tree for good. What hangs below a directory waits to be collected.
    pub fn unlink(&mut self, parent: &Spot, entry: &Spot, gone: Gone) -> Result<(), StoreError> {
        self.txn.delete(Family::Edges, entry.edge_key());
        self.count_out(parent, entry, gone)?;
        self.forget(&entry.inode)
    }

    /// Drops all records of an inode but its edge.
    pub fn forget(&mut self, inode: &Inode) -> Result<(), StoreError> {
        self.txn.delete(Family::Inodes, inode_key(inode.id));
        self.txn.delete(Family::Containers, container_key(inode.container));
        match &inode.node {
            Node::File(file) => self.forget_content(inode.container, file),
            Node::Directory(directory) => {
                self.end_load(inode.id)?;
                if directory.children > 0 {
                    self.txn.put(Family::Detached, inode_key(inode.id), &Detached { since: self.age });
                    self.effects.push(Effect::Collect(inode.id));
                }
                Ok(())
            }
        }
    }

    fn forget_content(&mut self, container: ContainerId, file: &File) -> Result<(), StoreError> {
        if !file.complete {
            self.txn.delete(Family::Incomplete, incomplete_key(file.opened, container));
        }
        self.cancel_persist(container)?;
        self.effects.push(Effect::FreeContainer(container));
        Ok(())
    }

    pub fn cancel_persist(&mut self, container: ContainerId) -> Result<(), StoreError> {
        if self.persist(container)?.is_some() {
            self.txn.delete(Family::Persists, container_key(container));
            self.effects.push(Effect::CancelPersist(container));
        }
        Ok(())
    }

    pub fn persist(&self, container: ContainerId) -> Result<Option<Persist>, StoreError> {
        fetch(self.txn, Family::Persists, container_key(container))
    }

    pub fn put_persist(&mut self, container: ContainerId, persist: &Persist) {
        self.txn.put(Family::Persists, container_key(container), persist);
    }

    /// Puts a file on its way to the store.
    pub fn schedule_persist(&mut self, container: ContainerId, inode: InodeId, after_ms: u64) {
        let due = AgeMs(self.age.0.saturating_add(after_ms));
        let (mount, key, last_error) = (MountId::default(), String::new(), String::new());
        let attempt = Attempt(0);
        let persist =
            Persist { inode, mount, key, attempt, due, granted: false, uncertain: false, failures: 0, last_error };
        self.put_persist(container, &persist);
        self.effects.push(Effect::Persist(container));
    }

    /// A try that is due later than this comes sooner. One under way is left alone: it was due already.
    pub fn hasten_persist(&mut self, container: ContainerId, after_ms: u64) -> Result<(), StoreError> {
        let due = AgeMs(self.age.0.saturating_add(after_ms));
        if let Some(persist) = self.persist(container)?.filter(|persist| persist.due > due) {
            self.put_persist(container, &Persist { due, ..persist });
            self.effects.push(Effect::Persist(container));
        }
        Ok(())
    }

    /// Moves one edge; the inode keeps its ids. Both parents were modified now.
    pub fn move_edge(
        &mut self,
        entry: &Spot,
        from: &Spot,
        to: &Spot,
        name: &Name,
        change: impl FnOnce(&mut Inode),
    ) -> Result<(), StoreError> {
        let mut inode: Inode = expect(self.txn, Family::Edges, entry.edge_key())?;
        self.txn.delete(Family::Edges, entry.edge_key());
        self.count_out(from, entry, Gone::Everywhere)?;
        inode.changed = self.at;
        change(&mut inode);
        self.txn.put(Family::Edges, edge_key(to.inode.id, name), &inode);
        let place = Parent { parent: to.inode.id, name: name.clone() };
        self.txn.put(Family::Inodes, inode_key(inode.id), &place);
        self.edit_entries(to, count_in)
    }

    /// The parent's side of a name that leaves it.
    fn count_out(&mut self, parent: &Spot, entry: &Spot, gone: Gone) -> Result<(), StoreError> {
        let at = self.at;
        let change = |directory: &mut Directory| {
            // One that counts too few is damaged, perhaps at this member alone: an audit names it. What the entry does must
            // be the same at all of them.
            directory.children = directory.children.saturating_sub(1);
            lose_name(directory, at, gone);
        };
        match gone {
            Gone::Everywhere | Gone::Here => self.edit_entries(parent, change)?,
            Gone::Unasked => self.edit_directory(parent, change)?,
        }
        match &entry.name {
            // What never was in the store is no reason to overlook what the store has of that name.
            Some(name) if gone != Gone::Everywhere || entry.inode.is_in_store() => {
                self.note_in_load(parent.inode.id, name, gone)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Answers of the store that are older than this entry must not bring the name back.
    pub fn note_removed(&mut self, parent: &Spot, name: &Name, gone: Gone) -> Result<(), StoreError> {
        let at = self.at;
        self.edit_directory(parent, |directory| lose_name(directory, at, gone))?;
        self.note_in_load(parent.inode.id, name, gone)
    }

    fn note_in_load(&mut self, directory: InodeId, name: &Name, gone: Gone) -> Result<(), StoreError> {
        let load: Option<Load> = fetch(self.txn, Family::Loads, inode_key(directory))?;
        let Some(mut load) = load else { return Ok(()) };
        match gone {
            Gone::Here | Gone::Unasked => load.holes = true,
            Gone::Everywhere => {
                let key = edge_key(directory, name);
                if self.txn.get(Family::Loads, &key)?.is_some() {
                    return Ok(());
                }
                if load.removed == MAX_REMOVED {
                    return self.end_load(directory);
                }
                load.removed += 1;
                self.txn.put_raw(Family::Loads, key, Bytes::new());
            }
        }
        self.txn.put(Family::Loads, inode_key(directory), &load);
        Ok(())
    }

    /// Ends the load session of a directory, if one is open. Cost: at most [`MAX_REMOVED`] deletions.
    pub fn end_load(&mut self, directory: InodeId) -> Result<(), StoreError> {
        if self.txn.get(Family::Loads, &inode_key(directory))?.is_none() {
            return Ok(());
        }
        let (start, end) = edge_range(directory, None);
        let limit = usize::try_from(MAX_REMOVED).expect("a small constant");
        for (key, _) in self.txn.scan(Family::Loads, &start, &end, limit)? {
            self.txn.delete(Family::Loads, key);
        }
        self.txn.delete(Family::Loads, inode_key(directory));
        Ok(())
    }

    // ---- intents and operations

    /// Announces a mutation of the store. `decides`: the caller's outcome is decided by its end.
    pub fn open_intent(&mut self, mount: MountId, kind: IntentKind, decides: bool) -> IntentId {
        let id = self.intent_id();
        let operation = self.operation.filter(|_| decides);
        let intent = Intent { id, mount, attempt: Attempt(0), operation, opened: self.age, kind };
        self.txn.put(Family::Intents, intent_key(id), &intent);
        self.effects.push(Effect::OpenedIntent(id));
        id
    }

    /// Unique, and in the order of the log: an entry, or an item of one, opens at most one intent.
    fn intent_id(&self) -> IntentId {
        if self.counters.rules < BATCHES {
            return IntentId(self.at.0);
        }
        assert!(self.at.0 < 1 << (u64::BITS - u16::BITS), "a log of {} entries", self.at);
        // Items of a batch are fewer than 2¹⁶.
        IntentId(self.at.0 << u16::BITS | u64::from(self.item))
    }

    /// The removal of one object, by an entry of the namespace that stood for it.
    pub fn delete_object(&mut self, spot: &Spot, fingerprint: Option<Fingerprint>, decides: bool) -> IntentId {
        let name = spot.name.clone().expect("a file has a name");
        self.open_intent(
            spot.mount,
            IntentKind::DeleteFile { key: spot.key.clone(), fingerprint, parent: spot.parent, name },
            decides,
        )
    }

    /// Drops an intent and decides the operation that waited for it: `None` leaves it free to run again.
    pub fn drop_intent(&mut self, intent: &Intent, decided: Option<Option<InodeId>>) -> Result<(), StoreError> {
        self.txn.delete(Family::Intents, intent_key(intent.id));
        self.effects.push(Effect::ClosedIntent(intent.id));
        let Some(operation) = intent.operation else { return Ok(()) };
        self.forget_operation(operation)?;
        if let Some(inode) = decided {
            let record = OperationRecord { inode, mount: None, pending: None, age: self.age };
            self.remember_operation(operation, &record);
        }
        Ok(())
    }

    pub fn remember_operation(&mut self, operation: OperationId, record: &OperationRecord) {
        self.txn.put(Family::Operations, operation_key(operation), record);
        self.txn.put_raw(Family::Operations, operation_age_key(record.age, operation), Bytes::new());
    }

    pub fn forget_operation(&mut self, operation: OperationId) -> Result<(), StoreError> {
        let record: Option<OperationRecord> = fetch(self.txn, Family::Operations, operation_key(operation))?;
        if let Some(record) = record {
            self.txn.delete(Family::Operations, operation_key(operation));
            self.txn.delete(Family::Operations, operation_age_key(record.age, operation));
        }
        Ok(())
    }

    /// Removes a mount's record. Its directory is the caller's.
    pub fn drop_mount(&mut self, mount: MountId) {
        self.txn.delete(Family::Mounts, mount_key(mount));
        self.effects.push(Effect::MountsChanged);
    }
}

fn count_in(directory: &mut Directory) {
    directory.children = directory.children.saturating_add(1);
}

fn lose_name(directory: &mut Directory, at: LogIndex, gone: Gone) {
    directory.removed_at = at;
    directory.loaded &= gone == Gone::Everywhere;
}

/// Which inode owns a container, attached or not.
pub(crate) fn container_owner(read: &dyn Read, container: ContainerId) -> Result<Option<InodeId>, StoreError> {
    let value = read.get(Family::Containers, &container_key(container))?;
    value.map(|bytes| Ok(InodeId(crate::key::u64_of("containers", &bytes)?))).transpose()
}
