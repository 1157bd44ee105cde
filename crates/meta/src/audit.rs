//! Looks through all records for what does not fit together, some of them at a time.
//!
//! Is:     a cursor over the records, and pure judgement of each by the others. What it names is wrong at that moment, or
//!         was before an earlier finding of the same audit is repaired.
//! Owns:   what must be true of every committed state; [`Namespace::check_invariants`](crate::Namespace::check_invariants)
//!         asks here.
//! Never:  changes anything; holds more than a bounded number of ids; takes what changed between two steps for a fault.
//!
//! - Every edge has its inode's place and its container, and nothing else has: three families, one to one.
//! - A directory counts its entries; below everything stands `/`, or a directory that waits to be collected.
//! - The index of incomplete files holds exactly those; each file on its way to the store has its persist.
//! - A directory has a store key of its own exactly while its tree is being moved.
//! - What stands in a store stands below directories that are known to.
//! - Mounts have one directory each; remembered operations and their index by age belong together.
//! - No id in use is one that will be given out again.

mod fault;
mod look;
pub(crate) mod mend;
#[cfg(any(test, feature = "test-support"))]
pub mod plant;

pub use fault::{Fault, Place};
use look::{Look, counts_of, edge_at, has_entries, owner_of, place_of, reaches_root, stands};

use crate::key::{
    ABOVE_ROOT, COUNTERS_KEY, LEFT_OUT_KEY, ROOT, USES_KEY, container_key, edge_of, incomplete_key, incomplete_of,
    inode_key, is_used_key, mount_key, operation_age_key, operation_age_of, operation_key, place_key, u64_of,
};
use crate::record::{
    Counters, Detached, Inode, Intent, IntentKind, LeftOut, Load, Mount, Node, OperationRecord, Parent, Persist,
    Record, Used, Uses, WorkerRecord,
};
use crate::store::{Family, Read, StoreError};
use crate::txn::{KEYS_END, after};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use types::{ContainerId, InodeId, OperationId, PersistenceState};

/// Inodes and containers remembered because a record of theirs is wrong. Beyond, nothing is concluded from an absence: the
/// next audit, after a repair, does.
const UNSETTLED: usize = 10_000;
/// How often the entries of a directory that changes are counted again.
const RECOUNTS: u8 = 3;

/// What is looked at, in this order: what later stages conclude from an absence, earlier ones have looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    State,
    Edges,
    /// Each directory that has entries.
    Parents,
    Records(Family),
    Ids,
}

const STAGES: [Stage; 15] = [
    Stage::State,
    Stage::Records(Family::State),
    Stage::Edges,
    Stage::Parents,
    Stage::Records(Family::Inodes),
    Stage::Records(Family::Containers),
    Stage::Records(Family::Mounts),
    Stage::Records(Family::Intents),
    Stage::Records(Family::Detached),
    Stage::Records(Family::Loads),
    Stage::Records(Family::Persists),
    Stage::Records(Family::Incomplete),
    Stage::Records(Family::Operations),
    Stage::Records(Family::Workers),
    Stage::Ids,
];

/// An audit, as far as it has come. Each step needs a view of one moment; between steps the state may move on.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    stage: usize,
    from: Bytes,
    group: Option<Group>,
    /// Inodes whose place, and containers whose owner, is not what it should be: later stages do not judge by them.
    inodes: BTreeSet<InodeId>,
    containers: BTreeSet<ContainerId>,
    overflowed: bool,
    highest: (InodeId, ContainerId),
    looked_at: u64,
    uncounted: u64,
}

/// The directory whose entries are being counted.
#[derive(Clone, Debug)]
struct Group {
    directory: InodeId,
    entries: u64,
    /// What the directory said when the count began. If it says the same at the end, no entry came or went: a removal moves
    /// `removed_at`, and without one an insertion raises the count.
    before: Option<look::Counts>,
    recounts: u8,
    /// It is known to stand in its store, which no directory ceases to be.
    is_marked: bool,
}

/// What one step of an audit works with.
struct At<'a> {
    read: &'a dyn Read,
    faults: &'a mut Vec<Fault>,
    /// Directories being moved; looked up when first asked for.
    moving: Option<BTreeMap<InodeId, String>>,
}

impl Audit {
    /// Nothing is left to look at.
    pub fn is_done(&self) -> bool {
        self.stage >= STAGES.len()
    }

    /// Records looked at so far.
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Directories that changed whenever they were counted.
    pub fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// Goes on by up to `limit` records, at least one, and says what is wrong with them.
    ///
    /// - `read`: a view of one moment.
    /// - Errors: the database's. What was decoded and makes no sense is a fault instead.
    /// - Cost: some point lookups for each record; one for each level above a directory that has entries.
    pub fn step(&mut self, read: &dyn Read, limit: usize) -> Result<Vec<Fault>, StoreError> {
        let mut faults = Vec::new();
        let Some(stage) = STAGES.get(self.stage) else { return Ok(faults) };
        let mut at = At { read, faults: &mut faults, moving: None };
        let limit = limit.max(1);
        let goes_on = match stage {
            Stage::State => state(&mut at).map(|()| false),
            Stage::Edges => self.edges(&mut at, limit),
            Stage::Parents => self.parents(&mut at, limit),
            Stage::Records(family) => self.records(&mut at, *family, limit),
            Stage::Ids => self.ids(&mut at).map(|()| false),
        }?;
        if !goes_on {
            self.stage += 1;
            self.from = Bytes::new();
        }
        Ok(faults)
    }

    fn unsettled(&mut self, inode: InodeId) {
        self.overflowed |= self.inodes.len() >= UNSETTLED;
        if !self.overflowed {
            self.inodes.insert(inode);
        }
    }

    /// Whether that this inode stands nowhere means that it is gone.
    fn is_settled(&self, inode: InodeId) -> bool {
        !self.overflowed && !self.inodes.contains(&inode)
    }

    // ---- edges

    fn edges(&mut self, at: &mut At<'_>, limit: usize) -> Result<bool, StoreError> {
        let page = at.read.scan(Family::Edges, &self.from, KEYS_END, limit)?;
        for (key, value) in &page {
            let (directory, name) = match edge_of(key) {
                Ok(parts) => parts,
                Err(err) => {
                    at.unreadable(Family::Edges, key, err.what);
                    self.from = after(key);
                    continue;
                }
            };
            if self.group.as_ref().is_none_or(|group| group.directory != directory) {
                if self.end_group(at)? {
                    return Ok(true);
                }
                let before = counts_of(at.read, directory)?;
                let is_marked = is_marked(at.read, directory)?;
                self.group = Some(Group { directory, entries: 0, before, recounts: 0, is_marked });
            }
            self.from = after(key);
            let Some(group) = &mut self.group else { continue };
            group.entries += 1;
            if group.recounts == 0 {
                let is_marked = group.is_marked;
                self.looked_at += 1;
                self.edge(at, Place { parent: directory, name }, (key, value), is_marked)?;
            }
        }
        Ok(page.len() == limit || self.end_group(at)?)
    }

    /// All entries of a directory were seen. True: it changed meanwhile, and they are counted again.
    fn end_group(&mut self, at: &mut At<'_>) -> Result<bool, StoreError> {
        let Some(group) = self.group.take() else { return Ok(false) };
        let now = counts_of(at.read, group.directory)?;
        let (Some(before), Some(now)) = (group.before, now) else { return Ok(false) };
        if now.children == group.entries {
            return Ok(false);
        }
        if before == now {
            let look::Counts { children: says, removed_at } = now;
            let (directory, counted) = (group.directory, group.entries);
            at.faults.push(Fault::Miscounted { directory, says, counted, removed_at });
            return Ok(false);
        }
        if group.recounts == RECOUNTS {
            self.uncounted += 1;
            return Ok(false);
        }
        self.from = place_key(group.directory, None);
        self.group = Some(Group { entries: 0, before: Some(now), recounts: group.recounts + 1, ..group });
        Ok(true)
    }

    /// - `is_marked`: its directory was known to stand in its store.
    fn edge(
        &mut self,
        at: &mut At<'_>,
        place: Place,
        (key, value): (&Bytes, &Bytes),
        is_marked: bool,
    ) -> Result<(), StoreError> {
        let inode = match Inode::decode(value) {
            Ok(inode) => inode,
            Err(err) => {
                at.unreadable(Family::Edges, key, err.what);
                return Ok(());
            }
        };
        let is_root = place.parent == ABOVE_ROOT;
        if is_root != place.name.is_none() || is_root && inode.id != ROOT {
            match is_root && place.name.is_none() {
                true => at.faults.push(Fault::RootMissing),
                false => at.unreadable(Family::Edges, key, "no directory holds such an entry".to_owned()),
            }
            return Ok(());
        }
        self.highest = (self.highest.0.max(inode.id), self.highest.1.max(inode.container));
        if !self.place(at, &inode, &place)? {
            return Ok(());
        }
        self.container(at, &inode, &place)?;
        match &inode.node {
            Node::File(file) => {
                let open = incomplete_key(file.opened, inode.container);
                if !file.complete && at.read.get(Family::Incomplete, &open)?.is_none() {
                    at.faults.push(Fault::IncompleteMissing { place: place.clone() });
                }
                let waits = file.persistence == PersistenceState::ToBePersisted;
                if waits && at.read.get(Family::Persists, &container_key(inode.container))?.is_none() {
                    at.faults.push(Fault::PersistMissing { place: place.clone() });
                }
            }
            Node::Directory(directory) => {
                if directory.children > 0 && !has_entries(at.read, inode.id)? {
                    let (directory, says, removed_at) = (inode.id, directory.children, directory.removed_at);
                    at.faults.push(Fault::Miscounted { directory, says, counted: 0, removed_at });
                }
                if let Some(mount) = directory.mount
                    && !look::is_mounted_at(at.read, mount, &place)?
                {
                    at.faults.push(Fault::RootOfNoMount { place: place.clone() });
                }
            }
        }
        if inode.store_key.is_some() && !at.is_moving(&inode)? && reaches_root(at.read, inode.id)? {
            at.faults.push(Fault::KeyWithoutMove { place: place.clone() });
        }
        let is_mount_root = inode.directory().is_some_and(|directory| directory.mount.is_some());
        if inode.is_in_store() && !is_mount_root && !is_marked && !self::is_marked(at.read, place.parent)? {
            at.faults.push(Fault::NotMarked { place });
        }
        Ok(())
    }

    /// Whether the rest of the edge is worth a look.
    fn place(&mut self, at: &mut At<'_>, inode: &Inode, place: &Place) -> Result<bool, StoreError> {
        match place_of(at.read, inode.id)? {
            Look::There(known) if known == *place => Ok(true),
            Look::There(known) => {
                let other = edge_at(at.read, &known)?;
                if matches!(other, Look::There(other) if other.id == inode.id) {
                    at.faults.push(Fault::TwoEdges { inode: inode.id, place: place.clone() });
                    return Ok(false);
                }
                at.faults.push(Fault::PlaceWrong { inode: inode.id, place: place.clone() });
                self.unsettled(inode.id);
                Ok(true)
            }
            Look::Absent => {
                at.faults.push(Fault::PlaceMissing { inode: inode.id, place: place.clone() });
                self.unsettled(inode.id);
                Ok(true)
            }
            // Its own family says so.
            Look::Unreadable => {
                self.unsettled(inode.id);
                Ok(true)
            }
        }
    }

    fn container(&mut self, at: &mut At<'_>, inode: &Inode, place: &Place) -> Result<(), StoreError> {
        let container = inode.container;
        let fault = match owner_of(at.read, container)? {
            Look::There(owner) if owner == inode.id => return Ok(()),
            Look::There(owner) => match stands(at.read, owner)? {
                Look::There((_, other)) if other.container == container => {
                    let only_cached = look::is_only_cached(inode);
                    Fault::ContainerShared { container, place: place.clone(), only_cached }
                }
                Look::There(_) | Look::Absent => Fault::ContainerMissing { container, place: place.clone() },
                Look::Unreadable => return Ok(()),
            },
            Look::Absent => Fault::ContainerMissing { container, place: place.clone() },
            Look::Unreadable => return Ok(()),
        };
        at.faults.push(fault);
        self.overflowed |= self.containers.len() >= UNSETTLED;
        if !self.overflowed {
            self.containers.insert(container);
        }
        Ok(())
    }

    // ---- directories that have entries

    fn parents(&mut self, at: &mut At<'_>, limit: usize) -> Result<bool, StoreError> {
        // Each costs a walk upwards: fewer at a time.
        for _ in 0..limit.div_ceil(4) {
            let page = at.read.scan(Family::Edges, &self.from, KEYS_END, 1)?;
            let Some((key, _)) = page.first() else { return Ok(false) };
            let Some(directory) = key.first_chunk().map(|id| InodeId(u64::from_be_bytes(*id))) else {
                self.from = after(key);
                continue;
            };
            self.from = place_key(InodeId(directory.0.saturating_add(1)), None);
            self.looked_at += 1;
            if directory != ABOVE_ROOT {
                self.parent(at, directory)?;
            }
        }
        Ok(true)
    }

    fn parent(&self, at: &mut At<'_>, directory: InodeId) -> Result<(), StoreError> {
        match stands(at.read, directory)? {
            Look::There((_, inode)) if !inode.is_directory() => at.faults.push(Fault::BelowFile { file: directory }),
            Look::There(_) => {
                if look::is_lowest_of_loop(at.read, directory)? {
                    at.faults.push(Fault::Loop { directory });
                }
            }
            Look::Absent => {
                let detached = at.read.get(Family::Detached, &inode_key(directory))?.is_some();
                // What is wrong with / is said of it.
                if !detached && directory != ROOT && self.is_settled(directory) {
                    at.faults.push(Fault::Orphans { directory });
                }
            }
            Look::Unreadable => {}
        }
        Ok(())
    }

    // ---- the other families

    fn records(&mut self, at: &mut At<'_>, family: Family, limit: usize) -> Result<bool, StoreError> {
        let page = at.read.scan(family, &self.from, KEYS_END, limit)?;
        for (key, value) in &page {
            // Names behind one that was dealt with as a whole.
            if key < &self.from {
                continue;
            }
            self.looked_at += 1;
            self.from = after(key);
            let result = match family {
                Family::Inodes => self.place_record(at, key, value),
                Family::Containers => self.container_record(at, key, value),
                Family::Mounts => at.mount(key, value),
                Family::Intents => at.intent(key, value),
                Family::Detached => at.detached(key, value),
                Family::Loads => self.load(at, key, value),
                Family::Persists => self.persist(at, key, value),
                Family::Incomplete => self.incomplete(at, key),
                Family::Operations => at.operation(key, value),
                Family::Workers => at.worker(key, value),
                Family::State => uses(key, value),
                Family::Edges => Ok(()),
            };
            match result {
                Ok(()) => {}
                Err(Odd::Record(why)) => at.unreadable(family, key, why),
                Err(Odd::Database(err)) => return Err(err),
            }
        }
        Ok(page.len() == limit)
    }

    fn place_record(&self, at: &mut At<'_>, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        let inode = InodeId(number(key)?);
        let place = Place::from(read_record::<Parent>(value)?);
        let stands_there = match edge_at(at.read, &place)? {
            Look::There(found) => found.id == inode,
            Look::Absent => false,
            Look::Unreadable => true,
        };
        if (!stands_there && self.is_settled(inode)) || inode == ROOT {
            at.faults.push(Fault::PlaceWithoutEdge { inode });
        }
        Ok(())
    }

    fn container_record(&self, at: &mut At<'_>, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        let (container, owner) = (ContainerId(number(key)?), InodeId(number(value)?));
        let is_owned = match stands(at.read, owner)? {
            Look::There((_, inode)) => inode.container == container,
            Look::Absent => !self.is_settled(owner),
            Look::Unreadable => true,
        };
        if !is_owned && !self.containers.contains(&container) {
            at.faults.push(Fault::ContainerWithoutInode { container });
        }
        Ok(())
    }

    /// The inode that has a container; unreadable, too, if another finding keeps it from being told.
    fn owner(&self, read: &dyn Read, container: ContainerId) -> Result<Look<Inode>, StoreError> {
        if self.overflowed || self.containers.contains(&container) {
            return Ok(Look::Unreadable);
        }
        Ok(match owner_of(read, container)? {
            Look::There(owner) => match stands(read, owner)? {
                Look::There((_, inode)) if inode.container == container => Look::There(inode),
                Look::There(_) => Look::Absent,
                Look::Absent if self.is_settled(owner) => Look::Absent,
                Look::Absent | Look::Unreadable => Look::Unreadable,
            },
            Look::Absent => Look::Absent,
            Look::Unreadable => Look::Unreadable,
        })
    }

    fn persist(&self, at: &mut At<'_>, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        let container = ContainerId(number(key)?);
        let persist = read_record::<Persist>(value)?;
        let is_wanted = match self.owner(at.read, container)? {
            Look::There(inode) => look::awaits_persist(&inode) && persist.inode == inode.id,
            Look::Absent => false,
            Look::Unreadable => true,
        };
        if !is_wanted {
            at.faults.push(Fault::PersistStale { container });
        }
        Ok(())
    }

    fn incomplete(&self, at: &mut At<'_>, key: &Bytes) -> Result<(), Odd> {
        let (opened, container) = parts(incomplete_of(key))?;
        let is_open = match self.owner(at.read, container)? {
            Look::There(inode) => look::is_open_since(&inode, opened),
            Look::Absent => false,
            Look::Unreadable => true,
        };
        if !is_open {
            at.faults.push(Fault::IncompleteStale { opened, container });
        }
        Ok(())
    }

    /// A session, or a name removed while it is open.
    fn load(&mut self, at: &mut At<'_>, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        let (directory, name) = parts(edge_of(key))?;
        if name.is_some() {
            if at.read.get(Family::Loads, &inode_key(directory))?.is_none() {
                at.faults.push(Fault::RemovalsWithoutLoad { directory });
                self.from = place_key(InodeId(directory.0.saturating_add(1)), None);
            }
            return Ok(());
        }
        let load = read_record::<Load>(value)?;
        let is_directory = match stands(at.read, directory)? {
            Look::There((_, inode)) => inode.is_directory(),
            Look::Absent => !self.is_settled(directory),
            Look::Unreadable => true,
        };
        if !is_directory {
            at.faults.push(Fault::LoadOfNothing { directory });
        } else if load.removed != look::removals(at.read, directory)? {
            at.faults.push(Fault::LoadMiscounted { directory });
        }
        Ok(())
    }

    fn ids(&self, at: &mut At<'_>) -> Result<(), StoreError> {
        let Look::There(counters) = Look::<Counters>::at(at.read, Family::State, COUNTERS_KEY)? else { return Ok(()) };
        let (inode, container) = self.highest;
        if inode >= counters.next_inode && inode > InodeId(0)
            || container >= counters.next_container && container > ContainerId(0)
        {
            at.faults.push(Fault::IdsBehind { inode, container });
        }
        Ok(())
    }
}

/// Why a record could not be judged.
enum Odd {
    /// It makes no sense itself.
    Record(String),
    Database(StoreError),
}

impl From<StoreError> for Odd {
    fn from(err: StoreError) -> Odd {
        Odd::Database(err)
    }
}

/// A record, if it can be read.
fn read_record<R: Record>(value: &Bytes) -> Result<R, Odd> {
    R::decode(value).map_err(|err| Odd::Record(err.what))
}

/// A key, or a value, that is an id.
fn number(bytes: &Bytes) -> Result<u64, Odd> {
    u64_of("", bytes).map_err(|_| Odd::Record(format!("{:02x?} is no id", &bytes[..])))
}

/// As those of the key's family, for a key alone.
fn parts<T>(parsed: Result<T, StoreError>) -> Result<T, Odd> {
    parsed.map_err(|err| Odd::Record(err.what))
}

fn state(at: &mut At<'_>) -> Result<(), StoreError> {
    let root = at.read.get(Family::Edges, &place_key(ABOVE_ROOT, None))?;
    match at.read.get(Family::State, COUNTERS_KEY)?.map(|value| Counters::decode(&value)) {
        Some(Ok(counters)) if counters.cluster.is_some() && root.is_none() => at.faults.push(Fault::RootMissing),
        Some(Ok(_)) => {}
        Some(Err(err)) => at.unreadable(Family::State, COUNTERS_KEY, err.what),
        None if root.is_some() => at.unreadable(Family::State, COUNTERS_KEY, "it is missing".to_owned()),
        None => {}
    }
    if let Some(Err(err)) = at.read.get(Family::State, LEFT_OUT_KEY)?.map(|value| LeftOut::decode(&value)) {
        at.unreadable(Family::State, LEFT_OUT_KEY, err.what);
    }
    Ok(())
}

/// What is noted of uses; other records of this family have been looked at, or are the store's own.
fn uses(key: &[u8], value: &Bytes) -> Result<(), Odd> {
    if key == USES_KEY {
        read_record::<Uses>(value).map(drop)
    } else if is_used_key(key) {
        read_record::<Used>(value).map(drop)
    } else {
        Ok(())
    }
}

/// Whether a directory is known to stand in its store; nothing can be said of one that is not there.
fn is_marked(read: &dyn Read, directory: InodeId) -> Result<bool, StoreError> {
    Ok(match stands(read, directory)? {
        Look::There((_, inode)) => inode.directory().is_none_or(|directory| directory.persisted),
        Look::Absent | Look::Unreadable => true,
    })
}

impl At<'_> {
    fn unreadable(&mut self, family: Family, key: &[u8], why: String) {
        self.faults.push(Fault::Unreadable { family, key: key.to_vec(), why });
    }

    /// Whether an open move explains the store key of a directory. Cost: the open intents, once a step.
    fn is_moving(&mut self, inode: &Inode) -> Result<bool, StoreError> {
        if self.moving.is_none() {
            self.moving = Some(look::moving(self.read)?);
        }
        let moved_from = self.moving.as_ref().and_then(|moving| moving.get(&inode.id));
        Ok(moved_from.is_some() && moved_from == inode.store_key.as_ref())
    }

    fn mount(&mut self, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        let mount = read_record::<Mount>(value)?;
        if number(key)? != mount.id.0 {
            self.faults.push(Fault::Misplaced { family: Family::Mounts, key: key.to_vec() });
            return Ok(());
        }
        match edge_at(self.read, &look::place_of_mount(&mount))? {
            Look::There(inode) if inode.directory().is_some_and(|found| found.mount == Some(mount.id)) => {}
            Look::There(_) => self.faults.push(Fault::MountWithoutDirectory { mount: mount.id, is_free: false }),
            // What is wrong with / is said of it.
            Look::Absent if mount.path.is_root() => {}
            Look::Absent => self.faults.push(Fault::MountWithoutDirectory { mount: mount.id, is_free: true }),
            Look::Unreadable => {}
        }
        Ok(())
    }

    fn intent(&mut self, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        let intent = read_record::<Intent>(value)?;
        if number(key)? != intent.id.0 {
            self.faults.push(Fault::Misplaced { family: Family::Intents, key: key.to_vec() });
            return Ok(());
        }
        if self.read.get(Family::Mounts, &mount_key(intent.mount))?.is_none() {
            self.faults.push(Fault::IntentOfNoMount { intent: intent.id });
        } else if let IntentKind::MoveTree { inode, from, .. } = &intent.kind
            && let Look::There((_, moved)) = stands(self.read, *inode)?
            && moved.store_key.as_ref() != Some(from)
            && reaches_root(self.read, *inode)?
        {
            self.faults.push(Fault::MoveWithoutKey { intent: intent.id });
        }
        Ok(())
    }

    fn detached(&mut self, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        read_record::<Detached>(value)?;
        let directory = InodeId(number(key)?);
        if matches!(stands(self.read, directory)?, Look::There(_)) {
            self.faults.push(Fault::DetachedAttached { directory });
        } else if !has_entries(self.read, directory)? {
            self.faults.push(Fault::DetachedEmpty { directory });
        }
        Ok(())
    }

    /// An outcome, or an entry of the index by age.
    fn operation(&mut self, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        if let Some(([0], id)) = key.split_first_chunk::<1>() {
            let id = <[u8; 16]>::try_from(id).map_err(|_| Odd::Record("its key is no operation's".to_owned()))?;
            let operation = OperationId(u128::from_be_bytes(id));
            let record = read_record::<OperationRecord>(value)?;
            if self.read.get(Family::Operations, &operation_age_key(record.age, operation))?.is_none() {
                self.faults.push(Fault::OutcomeUnindexed { operation });
            }
            if !look::is_decidable(self.read, operation, &record)? {
                self.faults.push(Fault::OutcomeUndecided { operation });
            }
            return Ok(());
        }
        let (age, operation) = parts(operation_age_of(key))?;
        match Look::<OperationRecord>::at(self.read, Family::Operations, operation_key(operation))? {
            Look::There(record) if record.age == age => {}
            Look::Unreadable => {}
            Look::There(_) | Look::Absent => self.faults.push(Fault::IndexStale { age, operation }),
        }
        Ok(())
    }

    fn worker(&mut self, key: &Bytes, value: &Bytes) -> Result<(), Odd> {
        let worker = read_record::<WorkerRecord>(value)?;
        if number(key)? != worker.id.0 {
            self.faults.push(Fault::Misplaced { family: Family::Workers, key: key.to_vec() });
        }
        Ok(())
    }
}
