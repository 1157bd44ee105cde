//! A full recount of the records: what must be true of every committed state.
//!
//! - Every edge has its inode's place and its container, and nothing else has: three families, one to one.
//! - A directory counts its entries; below everything stands `/`, or a directory that waits to be collected.
//! - The index of incomplete files holds exactly those; each file on its way to the store has its persist.
//! - No two inodes share a store key. A directory has a key of its own exactly while its tree is being moved.
//! - What stands in a store stands below directories that are known to.
//! - Mounts have one directory each; remembered operations and their index by age belong together.
//! - No id in use is one that will be given out again; what is kept in memory is what the records say.

use crate::key::{ABOVE_ROOT, COUNTERS_KEY, ROOT, edge_of, incomplete_of, operation_age_key, operation_age_of, u64_of};
use crate::namespace::Namespace;
use crate::read::children;
use crate::record::{Counters, Inode, IntentKind, Node, OperationRecord, Parent, Record};
use crate::store::{Family, Read, StoreError};
use crate::txn::for_each;
use crate::walk::{Spot, locate};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use types::{ContainerId, InodeId, MountId, OperationId, PersistenceState};

impl Namespace {
    /// What is broken, as sentences; empty when all is well. For tests and audits of small trees.
    /// Cost: the whole state, read and held in memory.
    pub fn check_invariants(&self, read: &dyn Read) -> Result<Vec<String>, StoreError> {
        let mut recount = Recount { wrong: Vec::new(), edges: BTreeMap::new(), children: BTreeMap::new() };
        if self.cluster().is_some() {
            recount.edges(read)?;
            recount.places(read)?;
            recount.directories(read)?;
            recount.files(read)?;
            recount.keys(self, read)?;
            recount.operations(read)?;
            recount.loads(self, read)?;
        }
        recount.memory(self, read)?;
        Ok(recount.wrong)
    }
}

/// Entries read at once.
const PAGE: usize = 1_000;

struct Recount {
    wrong: Vec<String>,
    edges: BTreeMap<InodeId, (InodeId, Option<types::Name>, Inode)>,
    children: BTreeMap<InodeId, u64>,
}

fn ids(read: &dyn Read, family: Family) -> Result<BTreeMap<u64, Bytes>, StoreError> {
    let mut ids = BTreeMap::new();
    for_each(read, family, |key, value| {
        ids.insert(u64_of(family.name(), key)?, value.clone());
        Ok(())
    })?;
    Ok(ids)
}

/// All entries of a directory.
fn entries(read: &dyn Read, directory: &Spot) -> Result<Vec<Spot>, StoreError> {
    let mut spots: Vec<Spot> = Vec::new();
    loop {
        let after = spots.last().and_then(|spot| spot.name.as_ref());
        let page = children(read, directory.inode.id, after, PAGE)?;
        let more = page.len() == PAGE;
        spots.extend(page.into_iter().map(|(name, inode)| directory.below(name, inode)));
        if !more {
            return Ok(spots);
        }
    }
}

impl Recount {
    fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    fn edges(&mut self, read: &dyn Read) -> Result<(), StoreError> {
        let mut twice = Vec::new();
        for_each(read, Family::Edges, |key, value| {
            let (parent, name) = edge_of(key)?;
            let inode = Inode::decode(value)?;
            *self.children.entry(parent).or_default() += 1;
            let id = inode.id;
            if self.edges.insert(id, (parent, name, inode)).is_some() {
                twice.push(format!("{id} has two edges"));
            }
            Ok(())
        })?;
        self.wrong.extend(twice);
        let root = self.edges.get(&ROOT).is_some_and(|(parent, name, _)| *parent == ABOVE_ROOT && name.is_none());
        self.check(root, || "/ is missing".to_owned());
        Ok(())
    }

    /// Inodes and containers against edges.
    fn places(&mut self, read: &dyn Read) -> Result<(), StoreError> {
        let places = ids(read, Family::Inodes)?;
        let containers = ids(read, Family::Containers)?;
        for (id, (parent, name, inode)) in &self.edges {
            let expected = name.as_ref().map(|name| Parent { parent: *parent, name: name.clone() }.encode());
            if places.get(&id.0) != expected.as_ref() {
                self.wrong.push(format!("{id} stands under {parent}, its place says otherwise"));
            }
            let owner = containers.get(&inode.container.0).map(|bytes| u64_of("containers", bytes)).transpose()?;
            if owner != Some(id.0) {
                self.wrong.push(format!("{} of {id} belongs to {owner:?}", inode.container));
            }
        }
        let (edges, all, owned) = (self.edges.len(), places.len(), containers.len());
        self.check(all + 1 == edges, || format!("{all} places for {edges} edges"));
        self.check(owned == edges, || format!("{owned} containers for {edges} edges"));
        Ok(())
    }

    fn directories(&mut self, read: &dyn Read) -> Result<(), StoreError> {
        let detached: BTreeSet<u64> = ids(read, Family::Detached)?.into_keys().collect();
        for (id, (_, _, inode)) in &self.edges {
            let Some(directory) = inode.directory() else { continue };
            let counted = self.children.get(id).copied().unwrap_or_default();
            if counted != directory.children {
                self.wrong.push(format!("{id} counts {} entries and has {counted}", directory.children));
            }
        }
        for parent in self.children.keys().filter(|parent| **parent != ABOVE_ROOT) {
            let stands = match self.edges.get(parent) {
                Some((_, _, inode)) => inode.is_directory(),
                None => detached.contains(&parent.0),
            };
            if !stands {
                self.wrong.push(format!("entries below {parent}, which is no directory"));
            }
        }
        for id in detached {
            let attached = self.edges.contains_key(&InodeId(id));
            let empty = !self.children.contains_key(&InodeId(id));
            self.check(!attached && !empty, || format!("detached inode {id} has an edge, or nothing below it"));
        }
        Ok(())
    }

    /// Incomplete files and persists against their families.
    fn files(&mut self, read: &dyn Read) -> Result<(), StoreError> {
        let mut incomplete = BTreeSet::new();
        for_each(read, Family::Incomplete, |key, _| {
            incomplete.insert(incomplete_of(key)?);
            Ok(())
        })?;
        let persists: BTreeSet<u64> = ids(read, Family::Persists)?.into_keys().collect();
        let (mut open, mut waiting) = (BTreeSet::new(), BTreeSet::new());
        for (_, _, inode) in self.edges.values() {
            let Some(file) = inode.file() else { continue };
            if !file.complete {
                open.insert((file.opened, inode.container));
            }
            if file.persistence == PersistenceState::ToBePersisted {
                waiting.insert(inode.container.0);
            }
        }
        self.check(incomplete == open, || format!("incomplete are {open:?}, the index says {incomplete:?}"));
        self.check(persists == waiting, || format!("to be persisted are {waiting:?}, persists say {persists:?}"));
        Ok(())
    }

    /// Walks the tree from `/` for keys, mounts, and what must hold between a directory and its entries.
    fn keys(&mut self, namespace: &Namespace, read: &dyn Read) -> Result<(), StoreError> {
        let moving: BTreeSet<InodeId> = namespace
            .intents()
            .filter_map(|intent| match &intent.kind {
                IntentKind::MoveTree { inode, .. } => Some(*inode),
                IntentKind::DeleteFile { .. }
                | IntentKind::DeleteTree { .. }
                | IntentKind::DeleteAgain { .. }
                | IntentKind::RenameFile { .. }
                | IntentKind::MakeDirectory { .. } => None,
            })
            .collect();
        let mut keys: BTreeSet<(MountId, String)> = BTreeSet::new();
        let mut mounts: BTreeSet<MountId> = BTreeSet::new();
        let mut next: Vec<Spot> = match locate(read, ROOT)? {
            Some(root) => root.spots,
            None => Vec::new(),
        };
        while let Some(spot) = next.pop() {
            let (id, path) = (spot.inode.id, spot.path.clone());
            let place = (spot.mount, crate::index::plain(&spot.key).to_owned());
            self.check(keys.insert(place), || format!("{path} shares its store key {}", spot.key));
            let has_key = spot.inode.store_key.is_some();
            self.check(has_key == moving.contains(&id), || format!("{path} has key {} without a move", spot.key));
            let Node::Directory(directory) = &spot.inode.node else { continue };
            if let Some(mount) = directory.mount {
                let known = namespace.mounts().get(&mount).is_some_and(|mount| mount.path == path);
                self.check(known && mounts.insert(mount), || {
                    format!("{path} is the root of no mount, or one too many")
                });
            }
            for child in entries(read, &spot)? {
                let in_store = child.inode.is_in_store() && !child.is_mount_root();
                self.check(directory.persisted || !in_store, || format!("{path} is not in the store, its entry is"));
                next.push(child);
            }
        }
        self.check(mounts.len() == namespace.mounts().len(), || "a mount has no directory".to_owned());
        Ok(())
    }

    fn operations(&mut self, read: &dyn Read) -> Result<(), StoreError> {
        let (mut outcomes, mut index) = (BTreeSet::new(), BTreeSet::new());
        for_each(read, Family::Operations, |key, value| {
            match key.split_first_chunk::<1>() {
                Some(([0], id)) => {
                    let id = <[u8; 16]>::try_from(id).map_err(|_| crate::key::damaged("operations", key))?;
                    let id = OperationId(u128::from_be_bytes(id));
                    outcomes.insert(operation_age_key(OperationRecord::decode(value)?.age, id));
                }
                Some(_) | None => {
                    let (age, id) = operation_age_of(key)?;
                    index.insert(operation_age_key(age, id));
                }
            }
            Ok(())
        })?;
        self.check(outcomes == index, || format!("{} outcomes, {} in their index", outcomes.len(), index.len()));
        Ok(())
    }

    fn loads(&mut self, namespace: &Namespace, read: &dyn Read) -> Result<(), StoreError> {
        let mut removed: BTreeMap<InodeId, u32> = BTreeMap::new();
        for_each(read, Family::Loads, |key, _| {
            if key.len() > size_of::<u64>() {
                *removed.entry(edge_of(key)?.0).or_default() += 1;
            }
            Ok(())
        })?;
        for (directory, load) in namespace.loads() {
            let counted = removed.remove(&directory).unwrap_or_default();
            self.check(counted == load.removed, || format!("{} remembers {counted} removals", load.id));
        }
        self.check(removed.is_empty(), || format!("removals without a load: {removed:?}"));
        Ok(())
    }

    fn memory(&mut self, namespace: &Namespace, read: &dyn Read) -> Result<(), StoreError> {
        let Some(stored) = read.get(Family::State, COUNTERS_KEY)? else { return Ok(()) };
        let counters = Counters::decode(&stored)?;
        let highest = |ids: &mut dyn Iterator<Item = u64>| ids.max().unwrap_or_default();
        let inode = InodeId(highest(&mut self.edges.keys().map(|id| id.0)));
        let container = ContainerId(highest(&mut self.edges.values().map(|(_, _, inode)| inode.container.0)));
        self.check(inode < counters.next_inode, || format!("{inode} would be given out again"));
        self.check(container < counters.next_container, || format!("{container} would be given out again"));
        let opened = Namespace::open(read)?;
        self.check(opened == *namespace, || "what is in memory is not what the records say".to_owned());
        Ok(())
    }
}
