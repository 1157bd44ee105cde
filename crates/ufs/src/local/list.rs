//! Listing local directories in key order, with bounded memory.
//!
//! A directory has no order of its own: one scan keeps the [`WINDOW_NAMES`] smallest names past a point. The rest of a window is
//! kept as a cursor for the next page, and used while the directory's modification time shows that no name came or went.

use super::{Dir, mtime_ns};
use crate::error::{Failure, UfsError, Verb};
use crate::key::{Key, RESERVED_PREFIX};
use crate::store::{LIST_LIMIT_MAX, ObjectInfo, Page, PageToken};
use std::collections::{BinaryHeap, VecDeque};
use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

/// Names one scan keeps; about 4 MiB at 64 bytes a name.
const WINDOW_NAMES: usize = 64 * 1024;
/// Half-read listings kept per store.
const CURSORS_MAX: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    File,
    Dir,
    /// A link whose target, inside the base, is a directory.
    LinkedDir,
    /// Nothing of ours, and why.
    Skipped(&'static str),
}

/// One name of a directory; directories with their slash, so that names order as keys do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Child {
    name: String,
    kind: Kind,
}

struct Cursor {
    dir: Key,
    /// The last name given out.
    after: String,
    dir_mtime_ns: i128,
    window: VecDeque<Child>,
    is_complete: bool,
}

#[derive(Default)]
pub(super) struct Cursors(VecDeque<Cursor>);

impl Cursors {
    fn take(&mut self, dir: &Key, after: &str, dir_mtime_ns: i128) -> Option<Cursor> {
        let at = self.0.iter().position(|cursor| cursor.dir == *dir && cursor.after == after)?;
        self.0.remove(at).filter(|cursor| cursor.dir_mtime_ns == dir_mtime_ns)
    }
    fn keep(&mut self, cursor: Cursor) {
        self.0.retain(|other| other.dir != cursor.dir || other.after != cursor.after);
        if self.0.len() == CURSORS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(cursor);
    }
}

/// One page of one directory.
pub(super) fn level(dir: &Dir, key: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
    let limit = limit.clamp(1, LIST_LIMIT_MAX);
    let (path, metadata) = match dir.look_through(Verb::List, key) {
        Err(error) if *error.failure() == Failure::NotFound => {
            return dir.base_still_there(Verb::List).and(Err(error));
        }
        found => found?,
    };
    if !metadata.is_dir() {
        return Err(dir.error(Verb::List, key, Failure::NotDirectory));
    }
    let dir_mtime_ns = mtime_ns(&metadata);
    let after = after.map_or("", |token| &token.0).to_owned();
    let kept = dir.cursors.lock().take(key, &after, dir_mtime_ns).filter(|_| !after.is_empty());
    let mut cursor = match kept {
        Some(cursor) => cursor,
        None => {
            let (window, is_complete) = scan(dir, key, &path, &after, WINDOW_NAMES)?;
            Cursor { dir: key.clone(), after, dir_mtime_ns, window, is_complete }
        }
    };
    let mut page = Page::default();
    for _ in 0..limit {
        let Some(child) = cursor.window.pop_front() else { break };
        add(dir, key, &path, &child, &mut page)?;
        cursor.after = child.name;
    }
    if !cursor.window.is_empty() || !cursor.is_complete {
        page.next = Some(PageToken(cursor.after.clone()));
        if !cursor.window.is_empty() {
            dir.cursors.lock().keep(cursor);
        }
    }
    Ok(page)
}

/// Where [`level`] goes on behind an entry.
pub(super) fn behind(entry: &Key) -> PageToken {
    let slash = if entry.is_dir() { "/" } else { "" };
    PageToken(format!("{}{slash}", entry.name()))
}

/// Puts what a name stands for into the page; names that vanished meanwhile are passed over.
fn add(dir: &Dir, key: &Key, path: &Path, child: &Child, page: &mut Page) -> Result<(), UfsError> {
    match (Key::parse(&format!("{key}{}", child.name)), child.kind) {
        (_, Kind::Skipped(why)) => page.skipped.add(&format!("{key}{}", child.name), why),
        (Err(error), _) => page.skipped.add(&format!("{key}{}", child.name), &error.to_string()),
        (Ok(found), Kind::File | Kind::Dir | Kind::LinkedDir) => match fs::metadata(path.join(found.name())) {
            Ok(metadata) => page.entries.push(dir.info(&found, &metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(dir.io(Verb::List, &found, &error)),
        },
    }
    Ok(())
}

/// The `window` smallest names past `after`, and whether that is all of them.
fn scan(dir: &Dir, key: &Key, path: &Path, after: &str, window: usize) -> Result<(VecDeque<Child>, bool), UfsError> {
    let fail = |error: io::Error| dir.io(Verb::List, key, &error);
    let mut smallest: BinaryHeap<Child> = BinaryHeap::new();
    let mut is_complete = true;
    for entry in fs::read_dir(path).map_err(fail)? {
        let Some(child) = child(dir, key, &entry.map_err(fail)?)? else { continue };
        if child.name.as_str() <= after {
            continue;
        }
        if smallest.len() < window {
            smallest.push(child);
        } else {
            is_complete = false;
            if smallest.peek().is_some_and(|largest| child < *largest) {
                smallest.pop();
                smallest.push(child);
            }
        }
    }
    Ok((smallest.into_sorted_vec().into(), is_complete))
}

/// None for what is ours or just vanished.
fn child(dir: &Dir, key: &Key, entry: &DirEntry) -> Result<Option<Child>, UfsError> {
    let os_name = entry.file_name();
    let Some(name) = os_name.to_str() else {
        let kind = Kind::Skipped("its name is not UTF-8");
        return Ok(Some(Child { name: os_name.to_string_lossy().into_owned(), kind }));
    };
    if name.starts_with(RESERVED_PREFIX) {
        return Ok(None);
    }
    let kind = match entry.file_type() {
        Ok(kind) if kind.is_dir() => Kind::Dir,
        Ok(kind) if kind.is_file() => Kind::File,
        Ok(kind) if kind.is_symlink() => match dir.inside(Verb::List, key, &entry.path()).map(fs::metadata) {
            Ok(Ok(metadata)) if metadata.is_dir() => Kind::LinkedDir,
            Ok(Ok(metadata)) if metadata.is_file() => Kind::File,
            Ok(_) | Err(_) => Kind::Skipped("it is a link that leads outside the store, or to no file or directory"),
        },
        Ok(_) => Kind::Skipped("it is neither a file nor a directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(dir.io(Verb::List, key, &error)),
    };
    let slash = if matches!(kind, Kind::Dir | Kind::LinkedDir) { "/" } else { "" };
    Ok(Some(Child { name: format!("{name}{slash}"), kind }))
}

/// One page of everything below a directory. The token is the last key given out.
pub(super) fn tree(dir: &Dir, key: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
    let limit = limit.clamp(1, LIST_LIMIT_MAX);
    let (path, metadata) = dir.look_through(Verb::List, key)?;
    if !metadata.is_dir() {
        return Err(dir.error(Verb::List, key, Failure::NotDirectory));
    }
    let after = after.map_or("", |token| &token.0);
    let mut walk = Walk { dir, limit, taken: 0, last: after.to_owned(), page: Page::default() };
    if !walk.enter(key, &path, after)? {
        walk.page.next = Some(PageToken(walk.last));
    }
    Ok(walk.page)
}

struct Walk<'a> {
    dir: &'a Dir,
    limit: usize,
    taken: usize,
    last: String,
    page: Page,
}

impl Walk<'_> {
    /// Visits what lies below `key` and past `after`. False when the page is full. As deep as keys may be.
    fn enter(&mut self, key: &Key, path: &Path, after: &str) -> Result<bool, UfsError> {
        // The child on the way to `after` has been given out, but what is below it perhaps not.
        let rest = after.strip_prefix(key.as_str()).unwrap_or("");
        let on_the_way = rest.find('/').map_or(rest, |at| &rest[..=at]);
        let mut from = on_the_way.strip_suffix('/').unwrap_or(on_the_way).to_owned();
        loop {
            // Small windows: a page that needs few names of a directory should not keep many.
            let (window, is_complete) = match scan(self.dir, key, path, &from, self.limit) {
                Err(error) if *error.failure() == Failure::NotFound => return Ok(true), // removed meanwhile
                scanned => scanned?,
            };
            for child in window {
                from.clone_from(&child.name);
                let is_behind = child.name.as_str() <= on_the_way;
                if is_behind && (child.name != on_the_way || child.kind != Kind::Dir) {
                    continue;
                }
                if !is_behind && !self.give(key, path, &child)? {
                    return Ok(false);
                }
                let below = Key::parse(&format!("{key}{}", child.name));
                if let (Kind::Dir, Ok(below)) = (child.kind, below)
                    && !self.enter(&below, &path.join(below.name()), after)?
                {
                    return Ok(false);
                }
            }
            if is_complete {
                return Ok(true);
            }
        }
    }

    /// False when the page has no room for it.
    fn give(&mut self, key: &Key, path: &Path, child: &Child) -> Result<bool, UfsError> {
        if self.taken == self.limit {
            return Ok(false);
        }
        self.taken += 1;
        self.last = format!("{key}{}", child.name);
        if child.kind != Kind::LinkedDir {
            add(self.dir, key, path, child, &mut self.page)?;
            return Ok(true);
        }
        // A link counts as a leaf here: removing it must not reach into what it points to.
        let shown = child.name.strip_suffix('/').unwrap_or(&child.name);
        if let (Ok(found), Ok(metadata)) =
            (Key::parse(&format!("{key}{shown}")), fs::symlink_metadata(path.join(shown)))
        {
            let info = self.dir.info(&found, &metadata);
            self.page.entries.push(ObjectInfo { fingerprint: None, ..info });
        }
        Ok(true)
    }
}
