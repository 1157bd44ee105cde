//! What the namespace keeps in memory of its records: open intents by key, open loads, granted persists, mounts, workers.
//!
//! Is:     a fold over records: built by a scan at start, carried on by the changes of each entry.
//! Never:  holds anything that the records do not say.

use crate::key::{is_operation_age_key, u64_of};
use crate::record::{Intent, IntentKind, Load, Mount, Persist, Record, WorkerRecord};
use crate::store::{Family, Read, StoreError};
use crate::txn::{after, for_each};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use types::{ContainerId, InodeId, IntentId, MountId, WorkerId};

/// Families this index is made from.
const FAMILIES: [Family; 5] = [Family::Mounts, Family::Intents, Family::Loads, Family::Persists, Family::Workers];

/// A mount and a key in it without the slash at its end: files and directories of one name share it.
type Place = (MountId, String);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Index {
    pub intents: BTreeMap<IntentId, Intent>,
    pub loads: BTreeMap<InodeId, Load>,
    pub mounts: BTreeMap<MountId, Mount>,
    pub workers: BTreeMap<WorkerId, WorkerRecord>,
    /// Keys under open intents. Invariant: none lies at or below another.
    reserved: BTreeMap<Place, IntentId>,
    /// Keys whose upload may be completed at any moment.
    granted: BTreeMap<Place, ContainerId>,
    grants: BTreeMap<ContainerId, Place>,
    pub progress: Progress,
}

/// How far collecting and forgetting came: up to there the database holds nothing of it any more, but walks over all it has
/// deleted there, which made each step longer than the one before.
///
/// No part of the state: a step that does not know it finds the same records, only more slowly. So all are equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Of detached directories: the last edge that went.
    collected: BTreeMap<InodeId, Bytes>,
    /// Of the index of operations by age: the last one before which every other is gone.
    forgotten: Option<Bytes>,
}

impl PartialEq for Progress {
    fn eq(&self, _: &Progress) -> bool {
        true
    }
}

impl Eq for Progress {}

/// What a step came to.
pub(crate) enum Went {
    /// None: the directory has nothing left.
    Collected(InodeId, Option<Bytes>),
    Forgot(Bytes),
}

impl Progress {
    pub fn take(&mut self, went: Went) {
        match went {
            Went::Collected(directory, Some(last)) => drop(self.collected.insert(directory, last)),
            Went::Collected(directory, None) => drop(self.collected.remove(&directory)),
            Went::Forgot(last) => self.forgotten = Some(last),
        }
    }

    /// Where the edges of a detached directory that are left begin, if that is known to be behind `start`.
    pub fn edges_from(&self, directory: InodeId, start: Bytes) -> Bytes {
        self.collected.get(&directory).map_or(start, |last| after(last))
    }

    /// The same for operations by age.
    pub fn operations_from(&self, start: &[u8]) -> Bytes {
        self.forgotten.as_ref().map_or_else(|| Bytes::copy_from_slice(start), |last| after(last))
    }

    /// Nothing is put below a detached directory; if it were, it would have to be found.
    fn put_edge(&mut self, key: &[u8]) {
        if let Some(parent) = key.first_chunk().filter(|_| !self.collected.is_empty()) {
            self.collected.remove(&InodeId(u64::from_be_bytes(*parent)));
        }
    }

    /// Nothing is remembered with an older age than what was forgotten, but by a repair; that has to be found, too.
    fn put_operation(&mut self, key: &[u8]) {
        if self.forgotten.as_ref().is_some_and(|last| is_operation_age_key(key) && key <= &last[..]) {
            self.forgotten = None;
        }
    }
}

impl Index {
    /// Cost: a scan of the small families, and of the persists that wait.
    pub fn open(read: &dyn Read) -> Result<Index, StoreError> {
        let mut index = Index::default();
        for family in FAMILIES {
            for_each(read, family, |key, value| index.note(family, key, Some(value)))?;
        }
        Ok(index)
    }

    /// Takes one changed record in.
    pub fn note(&mut self, family: Family, key: &[u8], value: Option<&Bytes>) -> Result<(), StoreError> {
        match family {
            Family::Mounts => replace(&mut self.mounts, MountId(u64_of("mounts", key)?), value),
            Family::Workers => replace(&mut self.workers, WorkerId(u64_of("workers", key)?), value),
            Family::Intents => self.note_intent(IntentId(u64_of("intents", key)?), value),
            Family::Persists => self.note_persist(ContainerId(u64_of("persists", key)?), value),
            // A longer key is a name removed while loading.
            Family::Loads if key.len() > size_of::<u64>() => Ok(()),
            Family::Loads => replace(&mut self.loads, InodeId(u64_of("loads", key)?), value),
            Family::Edges => {
                if value.is_some() {
                    self.progress.put_edge(key);
                }
                Ok(())
            }
            Family::Operations => {
                if value.is_some() {
                    self.progress.put_operation(key);
                }
                Ok(())
            }
            Family::State | Family::Inodes | Family::Containers | Family::Detached | Family::Incomplete => Ok(()),
        }
    }

    fn note_intent(&mut self, id: IntentId, value: Option<&Bytes>) -> Result<(), StoreError> {
        if let Some(old) = self.intents.get(&id) {
            for place in places(old) {
                self.reserved.remove(&place);
            }
        }
        replace(&mut self.intents, id, value)?;
        if let Some(new) = self.intents.get(&id) {
            self.reserved.extend(places(new).into_iter().map(|place| (place, id)));
        }
        Ok(())
    }

    fn note_persist(&mut self, container: ContainerId, value: Option<&Bytes>) -> Result<(), StoreError> {
        if let Some(place) = self.grants.remove(&container) {
            self.granted.remove(&place);
        }
        let granted = value.map(|bytes| Persist::decode(bytes)).transpose()?.filter(|persist| persist.granted);
        if let Some(persist) = granted {
            let place = (persist.mount, plain(&persist.key).to_owned());
            self.grants.insert(container, place.clone());
            self.granted.insert(place, container);
        }
        Ok(())
    }

    /// The intent on `key`, or on a prefix above it, or, for a directory's key, on anything below it.
    /// Cost: one lookup for each level of the key.
    pub fn covering(&self, mount: MountId, key: &str) -> Option<IntentId> {
        covering(&self.reserved, mount, key)
    }

    /// The intent on `key` or above it, not those below.
    pub fn covering_above(&self, mount: MountId, key: &str) -> Option<IntentId> {
        match key {
            "" => None,
            key => covering(&self.reserved, mount, plain(key)),
        }
    }

    /// As [`Index::covering`], for uploads that may be completed at any moment.
    pub fn granted(&self, mount: MountId, key: &str) -> Option<ContainerId> {
        covering(&self.granted, mount, key)
    }
}

/// The key without the slash at its end.
pub(crate) fn plain(key: &str) -> &str {
    key.strip_suffix('/').unwrap_or(key)
}

fn covering<T: Copy>(places: &BTreeMap<Place, T>, mount: MountId, key: &str) -> Option<T> {
    if places.is_empty() {
        return None;
    }
    let name = plain(key);
    let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
    if let Some(found) = ends.filter_map(|end| places.get(&(mount, name[..end].to_owned()))).next() {
        return Some(*found);
    }
    let is_directory = key.is_empty() || key.ends_with('/');
    let start = Bound::Included((mount, key.to_owned()));
    let next = places.range((start, Bound::Unbounded)).next().filter(|_| is_directory);
    next.filter(|((at, place), _)| *at == mount && place.starts_with(key)).map(|(_, found)| *found)
}

fn places(intent: &Intent) -> Vec<Place> {
    let keys: &[&String] = match &intent.kind {
        IntentKind::DeleteFile { key, .. }
        | IntentKind::DeleteTree { key, .. }
        | IntentKind::DeleteAgain { key, .. }
        | IntentKind::MakeDirectory { key, .. } => &[key],
        IntentKind::RenameFile { from, to, .. } | IntentKind::MoveTree { from, to, .. } => &[from, to],
    };
    keys.iter().map(|key| (intent.mount, plain(key).to_owned())).collect()
}

fn replace<K: Ord, R: Record>(records: &mut BTreeMap<K, R>, key: K, value: Option<&Bytes>) -> Result<(), StoreError> {
    match value {
        Some(bytes) => records.insert(key, R::decode(bytes)?),
        None => records.remove(&key),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_covered_from_above_and_a_directory_from_below_too() {
        let mount = MountId(3);
        let places = BTreeMap::from([((mount, "a/b".to_owned()), 1), ((mount, "c".to_owned()), 2)]);
        for (key, found) in [
            ("a/b", Some(1)),
            ("a/b/", Some(1)),
            ("a/b/x/y", Some(1)),
            ("a/", Some(1)),
            ("", Some(1)),
            ("a", None),
            ("a/bc", None),
            ("a/b!", None),
            ("c/", Some(2)),
            ("b/", None),
            ("d/", None),
        ] {
            assert_eq!(covering(&places, mount, key), found, "{key}");
            assert_eq!(covering(&places, MountId(4), key), None, "{key}");
        }
        assert_eq!(covering(&places, MountId(2), ""), None, "another mount's keys come next");
    }
}
