//! Listing objects in key order, page by page.
//!
//! OpenDAL hands out each answer of the store as its prefixes followed by its objects; [`Merge`] restores the order of keys. A
//! listing that has not ended is kept as a cursor for the next page; without one, it begins again after the last key where
//! the store can do that, else from the start.

use super::{Bucket, info, raw};
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{LIST_LIMIT_MAX, ObjectInfo, Page, PageToken};
use opendal::options::ListOptions;
use opendal::raw::{OpList, oio};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Most entries a store puts into one answer.
const ANSWER_ENTRIES_MAX: usize = 1000;
/// Half-read listings kept per store; each holds at most two answers.
const CURSORS_MAX: usize = 16;
/// After this long a kept listing is too old to go on with.
const CURSOR_LIFE: Duration = Duration::from_secs(60);
/// Sorts after everything below a prefix.
const BEYOND: char = char::MAX;

/// One key of a listing; None if it cannot be a path of ours.
#[derive(Debug)]
struct Item {
    raw: String,
    info: Option<ObjectInfo>,
}

/// Puts answers of the form "prefixes, then objects", each group sorted, into one order.
struct Merge {
    /// Prefixes that objects still to come may precede.
    prefixes: VecDeque<Item>,
    ready: VecDeque<Item>,
    was_object: bool,
    /// Entries per answer: so many prefixes in a row span more than one answer.
    window: usize,
}

impl Merge {
    fn push(&mut self, item: Item, is_prefix: bool) {
        if is_prefix {
            if self.was_object {
                self.finish(); // a new answer: all of the one before precedes it
            }
            self.was_object = false;
            self.prefixes.push_back(item);
            if self.prefixes.len() > self.window {
                self.ready.extend(self.prefixes.pop_front());
            }
            return;
        }
        self.was_object = true;
        while self.prefixes.front().is_some_and(|prefix| prefix.raw < item.raw) {
            self.ready.extend(self.prefixes.pop_front());
        }
        self.ready.push_back(item);
    }

    fn finish(&mut self) {
        self.ready.append(&mut self.prefixes);
    }
}

struct Cursor {
    dir: Key,
    recursive: bool,
    /// The last key given out.
    after: String,
    /// Everything up to it is passed over: the store began before it.
    begin: String,
    used: Instant,
    lister: oio::Lister,
    merge: Merge,
    is_drained: bool,
}

#[derive(Default)]
pub(super) struct Cursors(VecDeque<Cursor>);

impl Cursors {
    fn take(&mut self, dir: &Key, recursive: bool, after: &str) -> Option<Cursor> {
        self.0.retain(|cursor| cursor.used.elapsed() < CURSOR_LIFE);
        let same = |cursor: &Cursor| cursor.dir == *dir && cursor.recursive == recursive && cursor.after == after;
        let at = self.0.iter().position(same)?;
        self.0.remove(at)
    }
    fn keep(&mut self, cursor: Cursor) {
        let same = |other: &Cursor| {
            other.dir == cursor.dir && other.recursive == cursor.recursive && other.after == cursor.after
        };
        self.0.retain(|other| !same(other));
        if self.0.len() == CURSORS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(cursor);
    }
}

pub(super) async fn page(
    bucket: &Bucket,
    dir: &Key,
    after: Option<&PageToken>,
    limit: usize,
    recursive: bool,
) -> Result<Page, UfsError> {
    bucket.refuse_key(Verb::List, dir)?;
    let limit = limit.clamp(1, LIST_LIMIT_MAX);
    let kept = after.and_then(|token| bucket.cursors.lock().take(dir, recursive, &token.0));
    let mut cursor = match kept {
        Some(cursor) => cursor,
        None => begin(bucket, dir, after.map_or("", |token| &token.0), limit, recursive)?,
    };
    let mut page = Page::default();
    let mut taken = 0;
    let mut found_any = after.is_some() || dir.is_root();
    while cursor.fill(bucket, &mut found_any).await? {
        if taken == limit {
            page.next = Some(PageToken(cursor.after.clone()));
            bucket.cursors.lock().keep(cursor);
            break;
        }
        let item = cursor.merge.ready.pop_front().expect("filled");
        taken += 1;
        match item.info {
            Some(info) => page.entries.push(info),
            None => page.skipped.add_key(&item.raw),
        }
        cursor.after = item.raw;
    }
    if !found_any {
        return Err(bucket.error(Verb::List, dir, Failure::NotFound));
    }
    Ok(page)
}

fn begin(bucket: &Bucket, dir: &Key, after: &str, limit: usize, recursive: bool) -> Result<Cursor, UfsError> {
    let window = limit.min(ANSWER_ENTRIES_MAX);
    let is_past_prefix = !recursive && after.ends_with('/');
    let start_after = if is_past_prefix { format!("{after}{BEYOND}") } else { after.to_owned() };
    let options = ListOptions {
        recursive,
        limit: Some(window),
        start_after: Some(start_after).filter(|after| bucket.features.start_after && !after.is_empty()),
        ..Default::default()
    };
    let lister = bucket
        .service
        .list_dyn(&bucket.context, raw(dir), OpList::from(options))
        .map_err(|error| bucket.failed(Verb::List, dir, &error))?;
    Ok(Cursor {
        dir: dir.clone(),
        recursive,
        after: after.to_owned(),
        begin: after.to_owned(),
        used: Instant::now(),
        lister,
        merge: Merge { prefixes: VecDeque::new(), ready: VecDeque::new(), was_object: false, window },
        is_drained: false,
    })
}

impl Cursor {
    /// Reads on until an item is ready. False at the end.
    async fn fill(&mut self, bucket: &Bucket, found_any: &mut bool) -> Result<bool, UfsError> {
        while self.merge.ready.is_empty() && !self.is_drained {
            let next = self.lister.next_dyn().await;
            self.used = Instant::now();
            match next.map_err(|error| bucket.failed(Verb::List, &self.dir, &error))? {
                None => {
                    self.is_drained = true;
                    self.merge.finish();
                }
                Some(entry) => {
                    *found_any = true;
                    self.take_in(&entry);
                }
            }
        }
        Ok(!self.merge.ready.is_empty())
    }

    fn take_in(&mut self, entry: &oio::Entry) {
        let raw = entry.path();
        let metadata = entry.metadata();
        // Prefixes come without a time, objects with one.
        let is_prefix = metadata.last_modified().is_none();
        let is_own_marker = !is_prefix && (raw == self.dir.as_str() || raw == "/");
        if is_own_marker || (!self.begin.is_empty() && raw <= self.begin.as_str()) {
            return;
        }
        let info = Key::parse(raw).ok().filter(|key| !key.is_root()).map(|key| match is_prefix {
            true => ObjectInfo::dir(key),
            false => info(key, metadata),
        });
        self.merge.push(Item { raw: raw.to_owned(), info }, is_prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn answers_of_any_size_come_out_sorted(
            names in proptest::collection::btree_set("[a-c]{1,3}/?", 0..40),
            window in 1usize..7,
        ) {
            let sorted: Vec<&String> = names.iter().collect::<BTreeSet<_>>().into_iter().collect();
            let mut merge = Merge { prefixes: VecDeque::new(), ready: VecDeque::new(), was_object: false, window };
            for answer in sorted.chunks(window) {
                let (prefixes, objects): (Vec<&String>, Vec<&String>) = answer.iter().partition(|name| name.ends_with('/'));
                for name in prefixes {
                    merge.push(Item { raw: name.to_string(), info: None }, true);
                }
                for name in objects {
                    merge.push(Item { raw: name.to_string(), info: None }, false);
                }
            }
            merge.finish();
            let out: Vec<String> = merge.ready.into_iter().map(|item| item.raw).collect();
            prop_assert_eq!(out, sorted.into_iter().cloned().collect::<Vec<_>>());
        }
    }
}
