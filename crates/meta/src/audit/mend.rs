//! Repairs of what an audit found, each judged once more before anything changes: a finding may be old.
//!
//! What a repair concludes from is written in the decisions of docs/design/0012-audit-and-fsck.md: it drops nothing that is
//! only cached, and what has no place any more comes to stand in `/` as `lost+found-inode-N`.

use super::fault::{Fault, Place};
use super::look::{
    Counts, Look, awaits_persist, count_entries, edge_at, has_entries, is_decidable, is_lowest_of_loop, is_only_cached,
    is_open_since, owner_of, place_of, place_of_mount, removals, stands, stands_in_tree,
};
use crate::effect::{Done, Effect};
use crate::key::{
    ROOT, container_key, edge_range, incomplete_key, inode_key, intent_key, mount_key, operation_age_key,
    operation_key, place_key,
};
use crate::record::{Directory, Inode, Intent, Load, MAX_REMOVED, Mount, Node, OperationRecord, Parent, Persist};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::{Family, Read, StoreError};
use crate::walk::Stop;
use bytes::Bytes;
use types::{AgeMs, ContainerId, InodeId, IntentId, Mode, MountId, Name, OperationId};

/// Entries of a directory counted by one repair. Of a larger one the count that was found is taken, if no entry came or went
/// since.
pub(crate) const COUNTED: usize = 10_000;
/// Mode of a directory made by a repair: its owner decides who may look.
const MODE: Mode = Mode::new(0o700);
const MOUNT_MODE: Mode = Mode::new(0o755);

/// The name in `/` of what has no place any more.
pub(crate) fn lost_and_found(inode: InodeId) -> Name {
    Name::new(&format!("lost+found-{inode}")).expect("digits and letters")
}

/// What the other records say of a fault has changed: it is another one now, or none.
fn over(fault: &Fault) -> Stop {
    Reject::Stale(format!("not so any more: {fault}")).into()
}

fn refused(fault: &Fault) -> Stop {
    Reject::Refused(format!("{fault}: {}", fault.advice())).into()
}

/// A record that the caller has just seen, or the fault is over.
fn there<R>(look: Look<R>, fault: &Fault) -> Result<R, Stop> {
    match look {
        Look::There(record) => Ok(record),
        Look::Absent | Look::Unreadable => Err(over(fault)),
    }
}

fn must(holds: bool, fault: &Fault) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(over(fault)) }
}

/// Repairs `fault`, if it is still there. Stale: it is not. Refused: what would be right does not follow from the records.
/// Ids: 1.
pub(crate) fn mend(step: &mut Step<'_, '_>, fault: &Fault) -> Outcome {
    if !fault.is_repairable() {
        return Err(refused(fault));
    }
    match fault {
        Fault::PlaceMissing { inode, place } | Fault::PlaceWrong { inode, place } => {
            set_place(step, fault, *inode, place)
        }
        Fault::TwoEdges { inode, place } => separate(step, fault, *inode, place),
        Fault::PlaceWithoutEdge { inode } => drop_place(step, fault, *inode),
        Fault::ContainerMissing { place, .. } => set_owner(step, fault, place),
        Fault::ContainerShared { place, .. } => renew_container(step, fault, place),
        Fault::ContainerWithoutInode { container } => drop_container(step, fault, *container),
        Fault::Miscounted { directory, says, counted, removed_at } => {
            let before = Counts { children: *says, removed_at: *removed_at };
            set_count(step, fault, *directory, before, *counted)
        }
        Fault::Orphans { directory } => take_in(step, fault, *directory),
        Fault::Loop { directory } => break_loop(step, fault, *directory),
        Fault::IncompleteMissing { place } => index_incomplete(step, fault, place),
        Fault::IncompleteStale { opened, container } => drop_incomplete(step, fault, *opened, *container),
        Fault::PersistMissing { place } => schedule(step, fault, place),
        Fault::PersistStale { container } => drop_persist(step, fault, *container),
        Fault::DetachedAttached { directory } | Fault::DetachedEmpty { directory } => {
            drop_detached(step, fault, *directory)
        }
        Fault::OutcomeUnindexed { operation } => index_outcome(step, fault, *operation),
        Fault::IndexStale { age, operation } => drop_index(step, fault, *age, *operation),
        Fault::OutcomeUndecided { operation } => forget_outcome(step, fault, *operation),
        Fault::LoadMiscounted { directory } | Fault::LoadOfNothing { directory } => end_load(step, fault, *directory),
        Fault::RemovalsWithoutLoad { directory } => drop_removals(step, fault, *directory),
        Fault::NotMarked { place } => mark(step, fault, place),
        Fault::MountWithoutDirectory { mount, .. } => make_mount_root(step, fault, *mount),
        Fault::IntentOfNoMount { intent } => drop_intent(step, fault, *intent),
        Fault::IdsBehind { inode, container } => raise_ids(step, fault, *inode, *container),
        Fault::Unreadable { .. }
        | Fault::RootMissing
        | Fault::BelowFile { .. }
        | Fault::KeyWithoutMove { .. }
        | Fault::MoveWithoutKey { .. }
        | Fault::RootOfNoMount { .. }
        | Fault::Misplaced { .. } => Err(refused(fault)),
    }
}

const DONE: Outcome = Ok(Done::Nothing);

// ---- edges, places, containers

fn put_edge(step: &mut Step<'_, '_>, place: &Place, inode: &Inode) {
    step.txn.put(Family::Edges, place_key(place.parent, place.name.as_ref()), inode);
}

fn put_place(step: &mut Step<'_, '_>, inode: InodeId, place: &Place) {
    if let Some(name) = &place.name {
        let record = Parent { parent: place.parent, name: name.clone() };
        step.txn.put(Family::Inodes, inode_key(inode), &record);
    }
}

/// An entry comes to, or leaves, a directory, if that is there and can be read.
fn count(step: &mut Step<'_, '_>, directory: InodeId, change: impl FnOnce(&mut Directory)) -> Result<(), StoreError> {
    if let Look::There((place, mut inode)) = stands(step.txn, directory)?
        && let Node::Directory(directory) = &mut inode.node
    {
        change(directory);
        put_edge(step, &place, &inode);
    }
    Ok(())
}

fn count_in(step: &mut Step<'_, '_>, directory: InodeId) -> Result<(), StoreError> {
    count(step, directory, |directory| directory.children = directory.children.saturating_add(1))
}

/// Whatever was counted before is void.
fn count_out(step: &mut Step<'_, '_>, directory: InodeId) -> Result<(), StoreError> {
    let at = step.at;
    count(step, directory, |directory| {
        directory.children = directory.children.saturating_sub(1);
        directory.removed_at = at;
    })
}

fn set_place(step: &mut Step<'_, '_>, fault: &Fault, inode: InodeId, place: &Place) -> Outcome {
    let found = there(edge_at(step.txn, place)?, fault)?;
    must(found.id == inode && inode != ROOT && place.name.is_some(), fault)?;
    // Where it stands elsewhere, too, its place is right.
    must(!matches!(stands(step.txn, inode)?, Look::There(_)), fault)?;

    put_place(step, inode, place);
    Ok(Done::Inode(inode))
}

/// One inode under two names: this one goes if it is the same, else it becomes an inode of its own.
fn separate(step: &mut Step<'_, '_>, fault: &Fault, inode: InodeId, place: &Place) -> Outcome {
    let found = there(edge_at(step.txn, place)?, fault)?;
    let (other_place, other) = there(stands(step.txn, inode)?, fault)?;
    must(found.id == inode && other_place != *place, fault)?;

    if found.container == other.container {
        step.txn.delete(Family::Edges, place_key(place.parent, place.name.as_ref()));
        count_out(step, place.parent)?;
        return Ok(Done::Inode(inode));
    }
    let (id, _) = step.take_ids()?;
    let (at, container) = (step.at, found.container);
    let mut own = Inode { id, changed: at, ..found };
    if let Node::Directory(directory) = &mut own.node {
        // What is below the number it had is the other's.
        directory.children = 0;
        directory.loaded = false;
    }
    put_edge(step, place, &own);
    put_place(step, id, place);
    step.own_container(container, id);
    Ok(Done::Inode(id))
}

fn drop_place(step: &mut Step<'_, '_>, fault: &Fault, inode: InodeId) -> Outcome {
    if inode != ROOT {
        must(matches!(place_of(step.txn, inode)?, Look::There(_)), fault)?;
        must(matches!(stands(step.txn, inode)?, Look::Absent), fault)?;
    }
    step.txn.delete(Family::Inodes, inode_key(inode));
    DONE
}

fn set_owner(step: &mut Step<'_, '_>, fault: &Fault, place: &Place) -> Outcome {
    let found = there(edge_at(step.txn, place)?, fault)?;
    let is_free = match owner_of(step.txn, found.container)? {
        Look::There(owner) if owner == found.id => false,
        Look::There(owner) => match stands(step.txn, owner)? {
            Look::There((_, other)) => other.container != found.container,
            Look::Absent => true,
            Look::Unreadable => false,
        },
        Look::Absent => true,
        Look::Unreadable => false,
    };
    must(is_free, fault)?;

    step.own_container(found.container, found.id);
    Ok(Done::Inode(found.id))
}

fn renew_container(step: &mut Step<'_, '_>, fault: &Fault, place: &Place) -> Outcome {
    let mut found = there(edge_at(step.txn, place)?, fault)?;
    let owner = there(owner_of(step.txn, found.container)?, fault)?;
    let (_, other) = there(stands(step.txn, owner)?, fault)?;
    must(owner != found.id && other.container == found.container, fault)?;
    if is_only_cached(&found) {
        return Err(refused(fault));
    }

    let (_, container) = step.take_ids()?;
    found.container = container;
    found.changed = step.at;
    put_edge(step, place, &found);
    step.own_container(container, found.id);
    Ok(Done::Inode(found.id))
}

fn drop_container(step: &mut Step<'_, '_>, fault: &Fault, container: ContainerId) -> Outcome {
    let owner = there(owner_of(step.txn, container)?, fault)?;
    let is_owned = match stands(step.txn, owner)? {
        Look::There((_, inode)) => inode.container == container,
        Look::Absent => false,
        Look::Unreadable => true,
    };
    must(!is_owned, fault)?;

    step.txn.delete(Family::Containers, container_key(container));
    step.effects.push(Effect::FreeContainer(container));
    DONE
}

// ---- directories

fn set_count(step: &mut Step<'_, '_>, fault: &Fault, directory: InodeId, before: Counts, counted: u64) -> Outcome {
    let (place, mut inode) = there(stands(step.txn, directory)?, fault)?;
    let Node::Directory(found) = &mut inode.node else { return Err(over(fault)) };
    let few = count_entries(step.txn, directory, COUNTED + 1)?;
    let is_small = few <= u64::try_from(COUNTED).expect("a small constant");
    let counted = if is_small { few } else { counted };
    must(found.children != counted && (is_small || Counts::from(&*found) == before), fault)?;

    found.children = counted;
    put_edge(step, &place, &inode);
    Ok(Done::Inode(directory))
}

/// A directory of no inode of ours yet, as the superuser's, in `/`.
fn new_directory(
    step: &Step<'_, '_>,
    root: &Inode,
    id: InodeId,
    container: ContainerId,
    directory: Directory,
) -> Inode {
    let mode = if directory.mount.is_some() { MOUNT_MODE } else { MODE };
    step.inode_now((id, container), (&root.owner, &root.group), mode, Node::Directory(directory))
}

/// Makes the directory of entries that have none, in `/`, under the number they know it by.
fn take_in(step: &mut Step<'_, '_>, fault: &Fault, directory: InodeId) -> Outcome {
    let is_gone = matches!(stands(step.txn, directory)?, Look::Absent)
        && step.read().get(Family::Detached, &inode_key(directory))?.is_none()
        && has_entries(step.txn, directory)?;
    must(is_gone, fault)?;
    let (_, root) = there(stands(step.txn, ROOT)?, fault)?;
    let place = free_place(step, directory)?;

    let (_, container) = step.take_ids()?;
    let children = count_entries(step.txn, directory, COUNTED)?;
    // Something of what it held may be in a store.
    let node = Directory { children, loaded: false, persisted: true, removed_at: step.at, mount: None };
    let made = new_directory(step, &root, directory, container, node);
    put_edge(step, &place, &made);
    put_place(step, directory, &place);
    step.own_container(container, directory);
    count_in(step, ROOT)?;
    Ok(Done::Inode(directory))
}

fn free_place(step: &Step<'_, '_>, inode: InodeId) -> Result<Place, Stop> {
    let name = lost_and_found(inode);
    let place = Place { parent: ROOT, name: Some(name.clone()) };
    match edge_at(step.txn, &place)? {
        Look::Absent => Ok(place),
        Look::There(_) | Look::Unreadable => {
            Err(Reject::Refused(format!("/{name} is there already; rename it and try again")).into())
        }
    }
}

fn break_loop(step: &mut Step<'_, '_>, fault: &Fault, directory: InodeId) -> Outcome {
    must(is_lowest_of_loop(step.txn, directory)?, fault)?;
    let (from, mut inode) = there(stands(step.txn, directory)?, fault)?;
    let to = free_place(step, directory)?;

    step.txn.delete(Family::Edges, place_key(from.parent, from.name.as_ref()));
    inode.changed = step.at;
    inode.store_key = None;
    put_edge(step, &to, &inode);
    put_place(step, directory, &to);
    // Its former directory may be itself.
    count_out(step, from.parent)?;
    count_in(step, ROOT)?;
    Ok(Done::Inode(directory))
}

fn mark(step: &mut Step<'_, '_>, fault: &Fault, place: &Place) -> Outcome {
    let found = there(edge_at(step.txn, place)?, fault)?;
    must(stands_in_tree(step.txn, place.parent)?, fault)?;
    let Some(above) = step.locate(place.parent)? else { return Err(over(fault)) };
    let is_marked = above.last().inode.directory().is_none_or(|directory| directory.persisted);
    must(found.is_in_store() && !is_marked, fault)?;

    step.mark_persisted(&above.spots)?;
    Ok(Done::Inode(above.last().inode.id))
}

fn make_mount_root(step: &mut Step<'_, '_>, fault: &Fault, mount: MountId) -> Outcome {
    let Some(mount) = step.index.mounts.get(&mount).cloned() else { return Err(over(fault)) };
    let place = place_of_mount(&mount);
    must(place.parent == ROOT && matches!(edge_at(step.txn, &place)?, Look::Absent), fault)?;
    let (_, root) = there(stands(step.txn, ROOT)?, fault)?;

    let (id, container) = step.take_ids()?;
    let node = Directory { children: 0, loaded: false, persisted: true, removed_at: step.at, mount: Some(mount.id) };
    let made = new_directory(step, &root, id, container, node);
    put_edge(step, &place, &made);
    put_place(step, id, &place);
    step.own_container(container, id);
    count_in(step, ROOT)?;
    step.effects.push(Effect::MountsChanged);
    Ok(Done::Inode(id))
}

// ---- files on their way

fn index_incomplete(step: &mut Step<'_, '_>, fault: &Fault, place: &Place) -> Outcome {
    let found = there(edge_at(step.txn, place)?, fault)?;
    let Some(file) = found.file().filter(|file| !file.complete) else { return Err(over(fault)) };
    let key = incomplete_key(file.opened, found.container);
    must(step.read().get(Family::Incomplete, &key)?.is_none(), fault)?;

    step.txn.put_raw(Family::Incomplete, key, Bytes::new());
    Ok(Done::Inode(found.id))
}

/// The inode that has a container; None: there is none. Over: nobody can tell.
fn owner(step: &Step<'_, '_>, fault: &Fault, container: ContainerId) -> Result<Option<Inode>, Stop> {
    match owner_of(step.txn, container)? {
        Look::There(owner) => match stands(step.txn, owner)? {
            Look::There((_, inode)) => Ok(Some(inode).filter(|inode| inode.container == container)),
            Look::Absent => Ok(None),
            Look::Unreadable => Err(over(fault)),
        },
        Look::Absent => Ok(None),
        Look::Unreadable => Err(over(fault)),
    }
}

fn drop_incomplete(step: &mut Step<'_, '_>, fault: &Fault, opened: AgeMs, container: ContainerId) -> Outcome {
    let key = incomplete_key(opened, container);
    must(step.read().get(Family::Incomplete, &key)?.is_some(), fault)?;
    must(!owner(step, fault, container)?.is_some_and(|inode| is_open_since(&inode, opened)), fault)?;

    step.txn.delete(Family::Incomplete, key);
    DONE
}

fn schedule(step: &mut Step<'_, '_>, fault: &Fault, place: &Place) -> Outcome {
    let found = there(edge_at(step.txn, place)?, fault)?;
    let is_missing = step.read().get(Family::Persists, &container_key(found.container))?.is_none();
    must(awaits_persist(&found) && is_missing, fault)?;

    step.schedule_persist(found.container, found.id, 0);
    Ok(Done::Inode(found.id))
}

fn drop_persist(step: &mut Step<'_, '_>, fault: &Fault, container: ContainerId) -> Outcome {
    let persist = there(Look::<Persist>::at(step.txn, Family::Persists, container_key(container))?, fault)?;
    let wanted = owner(step, fault, container)?;
    must(!wanted.is_some_and(|inode| awaits_persist(&inode) && persist.inode == inode.id), fault)?;

    step.txn.delete(Family::Persists, container_key(container));
    step.effects.push(Effect::CancelPersist(container));
    DONE
}

// ---- what is under way

fn drop_detached(step: &mut Step<'_, '_>, fault: &Fault, directory: InodeId) -> Outcome {
    must(step.read().get(Family::Detached, &inode_key(directory))?.is_some(), fault)?;
    let is_attached = matches!(stands(step.txn, directory)?, Look::There(_));
    must(is_attached || !has_entries(step.txn, directory)?, fault)?;

    step.txn.delete(Family::Detached, inode_key(directory));
    DONE
}

fn outcome(step: &Step<'_, '_>, fault: &Fault, operation: OperationId) -> Result<OperationRecord, Stop> {
    there(Look::at(step.txn, Family::Operations, operation_key(operation))?, fault)
}

fn index_outcome(step: &mut Step<'_, '_>, fault: &Fault, operation: OperationId) -> Outcome {
    let record = outcome(step, fault, operation)?;
    let key = operation_age_key(record.age, operation);
    must(step.read().get(Family::Operations, &key)?.is_none(), fault)?;

    step.txn.put_raw(Family::Operations, key, Bytes::new());
    DONE
}

fn drop_index(step: &mut Step<'_, '_>, fault: &Fault, age: AgeMs, operation: OperationId) -> Outcome {
    let known = Look::<OperationRecord>::at(step.txn, Family::Operations, operation_key(operation))?;
    let is_right = match known {
        Look::There(record) => record.age == age,
        Look::Absent => false,
        Look::Unreadable => true,
    };
    let key = operation_age_key(age, operation);
    must(!is_right && step.read().get(Family::Operations, &key)?.is_some(), fault)?;

    step.txn.delete(Family::Operations, key);
    DONE
}

fn forget_outcome(step: &mut Step<'_, '_>, fault: &Fault, operation: OperationId) -> Outcome {
    let record = outcome(step, fault, operation)?;
    must(!is_decidable(step.txn, operation, &record)?, fault)?;

    step.forget_operation(operation)?;
    DONE
}

fn end_load(step: &mut Step<'_, '_>, fault: &Fault, directory: InodeId) -> Outcome {
    let load = there(Look::<Load>::at(step.txn, Family::Loads, inode_key(directory))?, fault)?;
    let is_directory = match stands(step.txn, directory)? {
        Look::There((_, inode)) => inode.is_directory(),
        Look::Absent => false,
        Look::Unreadable => true,
    };
    must(!is_directory || load.removed != removals(step.txn, directory)?, fault)?;

    step.end_load(directory)?;
    DONE
}

fn drop_removals(step: &mut Step<'_, '_>, fault: &Fault, directory: InodeId) -> Outcome {
    must(step.read().get(Family::Loads, &inode_key(directory))?.is_none(), fault)?;
    let (start, end) = edge_range(directory, None);
    let limit = usize::try_from(MAX_REMOVED).expect("a small constant");
    let names = step.read().scan(Family::Loads, &start, &end, limit)?;
    must(!names.is_empty(), fault)?;

    for (key, _) in names {
        step.txn.delete(Family::Loads, key);
    }
    DONE
}

fn drop_intent(step: &mut Step<'_, '_>, fault: &Fault, intent: IntentId) -> Outcome {
    let intent = there(Look::<Intent>::at(step.txn, Family::Intents, intent_key(intent))?, fault)?;
    let mount = Look::<Mount>::at(step.txn, Family::Mounts, mount_key(intent.mount))?;
    must(matches!(mount, Look::Absent), fault)?;
    if let Some(operation) = intent.operation {
        let outcome = Look::<OperationRecord>::at(step.txn, Family::Operations, operation_key(operation))?;
        must(!matches!(outcome, Look::Unreadable), fault)?;
    }

    step.drop_intent(&intent, None)?;
    DONE
}

fn raise_ids(step: &mut Step<'_, '_>, fault: &Fault, inode: InodeId, container: ContainerId) -> Outcome {
    if container >= ContainerId::MAX || inode >= InodeId(u64::MAX >> 1) {
        let why = format!("{fault}, and after that none would be left; one of the records with it is damaged");
        return Err(Reject::Refused(why).into());
    }
    // Only what is in use raises a counter: a number that somebody wrote into an entry does not.
    let has_inode = matches!(stands(step.txn, inode)?, Look::There(_));
    let has_container = matches!(owner_of(step.txn, container)?, Look::There(_));
    let counters = &mut *step.counters;
    let raises_inode = has_inode && counters.next_inode <= inode;
    let raises_container = has_container && counters.next_container <= container;
    must(raises_inode || raises_container, fault)?;

    if raises_inode {
        counters.next_inode = InodeId(inode.0 + 1);
    }
    if raises_container {
        counters.next_container = ContainerId(container.0 + 1);
    }
    DONE
}
