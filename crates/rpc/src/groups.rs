//! The groups of a user, from the system's database.
//!
//! Is:     a bounded cache in front of `getgrouplist`.
//! Owns:   answers for at most [`MAX_CACHED_USERS`] users, each for [`GROUPS_TTL`].
//! Never:  asks the database on an async thread: it may be a directory server far away.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use types::{Clock, Monotonic};

/// How long an answer is believed.
pub const GROUPS_TTL: Duration = Duration::from_secs(60);
/// Users whose groups are kept; about as many as are active in one [`GROUPS_TTL`].
pub const MAX_CACHED_USERS: usize = 10_000;
/// Questions to the database at once.
const MAX_LOOKUPS: usize = 8;
/// Most groups one user may have; Linux itself stops there.
const MAX_GROUPS: usize = 65_536;
/// Largest entry of the user or group database we read.
const MAX_ENTRY_BYTES: usize = 1 << 20;

type Source = dyn Fn(&str) -> Vec<String> + Send + Sync;
/// A user's groups, the primary one first.
pub type GroupList = Arc<[String]>;

/// The cache. One per server; shared by its threads.
pub struct Groups {
    /// None: nobody has any.
    source: Option<Arc<Source>>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    cache: Mutex<Cache>,
    lookups: Semaphore,
}

/// Two generations: when the young one is half of the bound it becomes the old one, and what the old one held and
/// nobody asked for since is gone. Never more than the bound, and O(1).
#[derive(Default)]
struct Cache {
    young: HashMap<String, Entry>,
    old: HashMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    groups: GroupList,
    until: Monotonic,
}

impl Groups {
    /// From the database of the operating system.
    pub fn system(clock: Arc<dyn Clock>) -> Arc<Groups> {
        Groups::new(clock, GROUPS_TTL, system_groups)
    }

    /// From `source`, which may block: tests, and fixed tables.
    pub fn new(
        clock: Arc<dyn Clock>,
        ttl: Duration,
        source: impl Fn(&str) -> Vec<String> + Send + Sync + 'static,
    ) -> Arc<Groups> {
        Arc::new(Groups {
            source: Some(Arc::new(source)),
            clock,
            ttl,
            cache: Mutex::default(),
            lookups: Semaphore::new(MAX_LOOKUPS),
        })
    }

    /// Of a system without groups: asks nobody, and never waits.
    pub fn none(clock: Arc<dyn Clock>) -> Arc<Groups> {
        Arc::new(Groups {
            source: None,
            clock,
            ttl: GROUPS_TTL,
            cache: Mutex::default(),
            lookups: Semaphore::new(MAX_LOOKUPS),
        })
    }

    /// The answer if it is at hand. Costs a lock and a lookup.
    pub fn cached(&self, user: &str) -> Option<GroupList> {
        let now = self.clock.monotonic();
        let entry = self.cache.lock().get(user)?;
        (now < entry.until).then_some(entry.groups)
    }

    /// The groups of `user`; none for a user the system does not know. Cancel-safe. Needs a tokio runtime.
    pub async fn of(&self, user: &str) -> GroupList {
        let Some(source) = &self.source else { return Arc::from([]) };
        if let Some(groups) = self.cached(user) {
            return groups;
        }
        let _permit = self.lookups.acquire().await.expect("the semaphore is never closed");
        // Another call may have asked while we waited.
        if let Some(groups) = self.cached(user) {
            return groups;
        }
        let (source, name) = (source.clone(), user.to_owned());
        let groups: GroupList = match tokio::task::spawn_blocking(move || source(&name)).await {
            Ok(groups) => groups.into(),
            Err(error) => {
                tracing::error!(%error, user, "the look-up of groups ended by a bug; taking none");
                Arc::from([])
            }
        };
        let entry = Entry { groups: groups.clone(), until: self.clock.monotonic() + self.ttl };
        self.cache.lock().put(user.to_owned(), entry);
        groups
    }
}

impl Cache {
    fn get(&mut self, user: &str) -> Option<Entry> {
        if let Some(entry) = self.young.get(user) {
            return Some(entry.clone());
        }
        let (user, entry) = self.old.remove_entry(user)?;
        self.put(user, entry.clone());
        Some(entry)
    }

    fn put(&mut self, user: String, entry: Entry) {
        if self.young.len() >= MAX_CACHED_USERS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user, entry);
    }
}

/// Asks the system. An error of the database is logged and counts as no groups: fewer rights, never more.
fn system_groups(user: &str) -> Vec<String> {
    let Ok(name) = CString::new(user) else { return Vec::new() };
    let Some(primary) = primary_group(&name) else { return Vec::new() };
    group_ids(&name, primary).into_iter().filter_map(group_name).collect()
}

fn primary_group(user: &CStr) -> Option<libc::gid_t> {
    // SAFETY: passwd is plain data of integers and pointers; all zero is a valid value.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::passwd = ptr::null_mut();
    with_buffer("user", |buffer| {
        // SAFETY: `user` ends in NUL; `entry`, `found` and the buffer, whose real length is passed, outlive the call.
        unsafe { libc::getpwnam_r(user.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) }
    })?;
    (!found.is_null()).then_some(entry.pw_gid)
}

fn group_ids(user: &CStr, primary: libc::gid_t) -> Vec<libc::gid_t> {
    let mut ids: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(ids.len()).expect("bounded by MAX_GROUPS");
        // SAFETY: `user` ends in NUL; `ids` has room for `count` ids, and both outlive the call.
        let result = unsafe { libc::getgrouplist(user.as_ptr(), primary, ids.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if result >= 0 {
            ids.truncate(count);
            return ids;
        }
        if ids.len() >= MAX_GROUPS {
            return ids;
        }
        ids.resize(count.max(ids.len() * 2).min(MAX_GROUPS), 0);
    }
}

/// None for a group without a name.
fn group_name(id: libc::gid_t) -> Option<String> {
    // SAFETY: group is plain data of integers and pointers; all zero is a valid value.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::group = ptr::null_mut();
    let buffer = with_buffer("group", |buffer| {
        // SAFETY: `entry`, `found` and the buffer, whose real length is passed, outlive the call.
        unsafe { libc::getgrgid_r(id, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) }
    })?;
    if found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so the name is a NUL-terminated string inside `buffer`, which still lives.
    let name = unsafe { CStr::from_ptr(entry.gr_name) };
    let text = name.to_str().ok().map(str::to_owned);
    drop(buffer);
    text
}

/// Calls with larger and larger buffers until the entry fits. Returns the buffer that the entry points into; None
/// after an error.
fn with_buffer(what: &str, mut call: impl FnMut(&mut [libc::c_char]) -> libc::c_int) -> Option<Vec<libc::c_char>> {
    let mut buffer = vec![0; 1024];
    loop {
        match call(&mut buffer) {
            0 => return Some(buffer),
            libc::ERANGE if buffer.len() < MAX_ENTRY_BYTES => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            // How databases say "not there", if not by success without a result.
            libc::ENOENT | libc::ESRCH => return None,
            code => {
                let error = std::io::Error::from_raw_os_error(code);
                tracing::warn!(%error, "the {what} database of this system does not answer; taking no groups");
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use types::UnixMs;

    #[derive(Default)]
    struct Seconds(AtomicU64);
    impl Clock for Seconds {
        fn unix(&self) -> UnixMs {
            UnixMs(0)
        }
        fn monotonic(&self) -> Monotonic {
            Monotonic(Duration::from_secs(self.0.load(Ordering::Relaxed)))
        }
    }

    #[tokio::test]
    async fn the_system_knows_its_root_and_not_a_stranger() {
        let groups = Groups::system(Arc::new(SystemClock));
        assert_eq!(groups.of("root").await.first().map(String::as_str), Some("root"));
        assert!(groups.of("no such user, surely").await.is_empty());
        assert!(groups.of("nul\0inside").await.is_empty());
        assert!(Groups::none(Arc::new(SystemClock)).of("root").await.is_empty(), "of a system without groups");
        assert!(groups.cached("root").is_some());
    }

    #[tokio::test]
    async fn answers_are_asked_for_once_until_they_are_old() {
        let (clock, asked) = (Arc::new(Seconds::default()), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        let groups = Groups::new(clock.clone(), Duration::from_secs(60), move |user| {
            count.fetch_add(1, Ordering::Relaxed);
            vec![format!("{user}s")]
        });
        for _ in 0..3 {
            assert_eq!(*groups.of("ann").await, ["anns".to_owned()]);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        clock.0.store(60, Ordering::Relaxed);
        assert!(groups.cached("ann").is_none());
        groups.of("ann").await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn many_users_do_not_fill_the_memory() {
        let groups = Groups::new(Arc::new(Seconds::default()), GROUPS_TTL, |_| Vec::new());
        groups.of("often").await;
        for number in 0..MAX_CACHED_USERS * 2 {
            let entry = Entry { groups: Arc::from([]), until: Monotonic(GROUPS_TTL) };
            groups.cache.lock().put(format!("user-{number}"), entry);
            assert!(groups.cached("often").is_some(), "asked for all the time, hence kept");
        }
        let cache = groups.cache.lock();
        assert!(cache.young.len() + cache.old.len() <= MAX_CACHED_USERS);
    }
}
