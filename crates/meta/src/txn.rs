//! The changes of a batch of entries, over the database they will be committed to.
//!
//! Is:     a [`Read`] that sees what earlier entries of the batch, and the current one, have written.
//! Owns:   the pending changes: at most one for each key, in key order.
//! Never:  decides anything.

use crate::record::Record;
use crate::store::{Change, Family, Read, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::ErrorKind;

/// Records per step when a family is read to its end.
const SCAN_STEP: usize = 1_000;

/// Changes of one entry by family, each family in key order. Most entries change a handful of records, and those that change
/// many do so in key order: both are cheap in lists, which also keep their memory from entry to entry.
#[derive(Default)]
struct Fresh {
    families: [Vec<(Bytes, Option<Bytes>)>; Family::ALL.len()],
}

impl Fresh {
    fn find(&self, family: Family, key: &[u8]) -> Result<usize, usize> {
        self.families[family as usize].binary_search_by(|(held, _)| (**held).cmp(key))
    }

    fn get(&self, family: Family, key: &[u8]) -> Option<&Option<Bytes>> {
        self.find(family, key).ok().map(|at| &self.families[family as usize][at].1)
    }

    fn put(&mut self, family: Family, key: &[u8], value: Option<Bytes>) {
        let place = self.find(family, key);
        let changes = &mut self.families[family as usize];
        match place {
            Ok(at) => changes[at].1 = value,
            Err(at) => changes.insert(at, (Bytes::copy_from_slice(key), value)),
        }
    }
}

/// What the entries before the current one changed.
#[derive(Default)]
struct Kept {
    families: [BTreeMap<Bytes, Option<Bytes>>; Family::ALL.len()],
}

impl Kept {
    fn of(&self, family: Family) -> &BTreeMap<Bytes, Option<Bytes>> {
        &self.families[family as usize]
    }

    /// Everything in key order, families in the order of their numbers.
    fn into_changes(self) -> Vec<Change> {
        let mut all = Vec::with_capacity(self.families.iter().map(BTreeMap::len).sum());
        for (family, changes) in Family::ALL.into_iter().zip(self.families) {
            all.extend(changes.into_iter().map(|(key, value)| Change { family, key, value }));
        }
        all
    }
}

/// One batch. The current entry's changes stand apart until [`Txn::keep`] or [`Txn::undo`].
pub(crate) struct Txn<'a> {
    read: &'a dyn Read,
    kept: Kept,
    entry: Fresh,
}

impl<'a> Txn<'a> {
    pub fn new(read: &'a dyn Read) -> Txn<'a> {
        Txn { read, kept: Kept::default(), entry: Fresh::default() }
    }

    pub fn put(&mut self, family: Family, key: impl AsRef<[u8]>, record: &impl Record) {
        self.put_raw(family, key, record.encode());
    }

    /// For records without a layout of their own: ids, and keys that say it all.
    pub fn put_raw(&mut self, family: Family, key: impl AsRef<[u8]>, value: Bytes) {
        self.entry.put(family, key.as_ref(), Some(value));
    }

    pub fn delete(&mut self, family: Family, key: impl AsRef<[u8]>) {
        self.entry.put(family, key.as_ref(), None);
    }

    /// The current entry stands; `note` is told each of its changes, in key order, before it counts.
    pub fn keep<E>(&mut self, mut note: impl FnMut(Family, &[u8], Option<&Bytes>) -> Result<(), E>) -> Result<(), E> {
        for family in Family::ALL {
            for (key, value) in self.entry.families[family as usize].drain(..) {
                note(family, &key, value.as_ref())?;
                self.kept.families[family as usize].insert(key, value);
            }
        }
        Ok(())
    }

    /// The current entry was rejected.
    pub fn undo(&mut self) {
        self.entry.families.iter_mut().for_each(Vec::clear);
    }

    /// What the entries that were kept changed, at most once for each key, in key order.
    pub fn into_changes(self) -> Vec<Change> {
        self.kept.into_changes()
    }
}

impl Read for Txn<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.entry.get(family, key).or_else(|| self.kept.of(family).get(key)) {
            Some(pending) => Ok(pending.clone()),
            None => self.read.get(family, key),
        }
    }

    fn scan(&self, family: Family, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let range = Bytes::copy_from_slice(start)..Bytes::copy_from_slice(end);
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let mut pending: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        pending.extend(self.kept.of(family).range(range.clone()).map(|(key, value)| (key.clone(), value.clone())));
        pending.extend(self.entry.families[family as usize].iter().filter(|(key, _)| range.contains(key)).cloned());
        if pending.is_empty() {
            return self.read.scan(family, start, end, limit);
        }
        let mut found = Vec::new();
        let mut from = range.start;
        loop {
            let page = self.read.scan(family, &from, end, limit)?;
            // Pending keys past a full page belong to a later round.
            let next = page.last().filter(|_| page.len() == limit).map(|(last, _)| after(last));
            let mut merged: BTreeMap<Bytes, Option<Bytes>> =
                page.into_iter().map(|(key, value)| (key, Some(value))).collect();
            let rest = match &next {
                Some(next) => pending.split_off(next),
                None => BTreeMap::new(),
            };
            merged.append(&mut pending);
            pending = rest;
            found.extend(merged.into_iter().filter_map(|(key, value)| Some((key, value?))));
            found.truncate(limit);
            match next {
                Some(next) if found.len() < limit => from = next,
                Some(_) | None => return Ok(found),
            }
        }
    }
}

/// The key that follows `key`.
pub fn after(key: &[u8]) -> Bytes {
    let mut next = key.to_vec();
    next.push(0);
    Bytes::from(next)
}

/// The record under `key`.
pub(crate) fn fetch<R: Record>(
    read: &dyn Read,
    family: Family,
    key: impl AsRef<[u8]>,
) -> Result<Option<R>, StoreError> {
    read.get(family, key.as_ref())?.map(|bytes| R::decode(&bytes)).transpose()
}

/// As [`fetch`], for a record that another one promises.
pub(crate) fn expect<R: Record>(read: &dyn Read, family: Family, key: impl AsRef<[u8]>) -> Result<R, StoreError> {
    fetch(read, family, key.as_ref())?.ok_or_else(|| StoreError {
        what: format!("read a {} record: {:02x?} is missing in family {}", R::WHAT, key.as_ref(), family.name()),
        kind: ErrorKind::Corrupt,
    })
}

/// Above every id, and above every ASCII name: behind all keys of a family.
pub const KEYS_END: &[u8] = &[0xFF; 9];

/// Calls `each` for every record of `family` in key order. Cost: the whole family, in steps.
pub(crate) fn for_each(
    read: &dyn Read,
    family: Family,
    each: impl FnMut(&Bytes, &Bytes) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for_each_between(read, family, (&[], KEYS_END), each)
}

/// Calls `each` for every record of `family` whose key is not below `start` and below `end`, in key order. Errors: the read's,
/// and what `each` says. Cost: the whole range, in steps.
pub fn for_each_between<E: From<StoreError>>(
    read: &(impl Read + ?Sized),
    family: Family,
    (start, end): (&[u8], &[u8]),
    mut each: impl FnMut(&Bytes, &Bytes) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = Bytes::copy_from_slice(start);
    loop {
        let page = read.scan(family, &from, end, SCAN_STEP)?;
        for (key, value) in &page {
            each(key, value)?;
        }
        match page.last() {
            Some((last, _)) if page.len() == SCAN_STEP => from = after(last),
            Some(_) | None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Changes, MemoryStore};
    use proptest::prelude::*;
    use types::LogIndex;

    #[derive(Clone, Debug)]
    enum Do {
        Put(u8, u8),
        Delete(u8),
        Keep,
        Undo,
    }

    fn keep(txn: &mut Txn<'_>) {
        txn.keep(|_, _, _| Ok::<_, StoreError>(())).expect("nobody objects");
    }

    fn does() -> impl Strategy<Value = Vec<Do>> {
        let one = prop_oneof![
            (0..12_u8, any::<u8>()).prop_map(|(key, value)| Do::Put(key, value)),
            (0..12_u8).prop_map(Do::Delete),
            Just(Do::Keep),
            Just(Do::Undo),
        ];
        proptest::collection::vec(one, 0..30)
    }

    proptest! {
        /// The overlay reads as a plain map with the same changes does.
        #[test]
        fn an_overlay_reads_as_the_committed_state_would(
            stored in proptest::collection::btree_map(0..12_u8, any::<u8>(), 0..12),
            does in does(), from in 0..13_u8, to in 0..13_u8, limit in 0..8_usize,
        ) {
            let mut store = MemoryStore::default();
            let changes = stored.iter().map(|(key, value)| Change {
                family: Family::Edges, key: Bytes::from(vec![*key]), value: Some(Bytes::from(vec![*value])),
            }).collect();
            store.apply(&Changes { applied: LogIndex(1), changes });
            let mut txn = Txn::new(&store);
            let (mut kept, mut model) = (stored.clone(), stored);
            for one in does {
                match one {
                    Do::Put(key, value) => {
                        txn.put_raw(Family::Edges, [key], Bytes::from(vec![value]));
                        model.insert(key, value);
                    }
                    Do::Delete(key) => {
                        txn.delete(Family::Edges, [key]);
                        model.remove(&key);
                    }
                    Do::Keep => {
                        keep(&mut txn);
                        kept = model.clone();
                    }
                    Do::Undo => {
                        txn.undo();
                        model = kept.clone();
                    }
                }
            }
            let read = txn.scan(Family::Edges, &[from], &[to], limit).expect("memory answers");
            let read: Vec<(u8, u8)> = read.iter().map(|(key, value)| (key[0], value[0])).collect();
            let expected: Vec<(u8, u8)> =
                model.iter().filter(|(key, _)| (from..to).contains(key)).take(limit).map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(read, expected);
            keep(&mut txn);
            let committed = txn.into_changes();
            prop_assert!(committed.is_sorted_by(|a, b| (a.family, &a.key) < (b.family, &b.key)));
            let mut after = store.clone();
            after.apply(&Changes { applied: LogIndex(2), changes: committed });
            let all = after.scan(Family::Edges, &[], &[255], 100).expect("memory answers");
            let all: Vec<(u8, u8)> = all.iter().map(|(key, value)| (key[0], value[0])).collect();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
