//! What requests have looked at and are about to change, and what is about to expire: never the same.
//!
//! A request looks whether its name is known, asks the store if it is not, and is proposed then. A name that expired in between
//! would be taken for one that is not there: what it stands for would be written over, or be said not to exist.
//!
//! Is:     soft state of a leader; two sets of containers. One that expires is no more held, one that is held is left to the
//!         next walk.
//! Never:  holds up a request for longer than the entries take that are under way; asks anything of requests while nothing
//!         expires.

use crate::shared::Shared;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use types::ContainerId;

#[derive(Default)]
pub struct Holds {
    /// Whether anything expires.
    on: AtomicBool,
    sets: Mutex<Sets>,
    ended: Notify,
    /// Entries that made something expire, on whatever master's word.
    expiries: AtomicU64,
}

#[derive(Default)]
struct Sets {
    /// How many requests hold it.
    held: HashMap<ContainerId, u32>,
    /// Entries are under way by which it may expire.
    going: HashSet<ContainerId>,
}

impl Holds {
    /// A new leadership, or its end: nothing is under way that this master proposed.
    pub fn begin(&self, on: bool) {
        self.on.store(on, Ordering::Release);
        self.sets.lock().going.clear();
        self.ended.notify_waiters();
    }

    /// Whether requests have to hold what they look at.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Whether this may expire now; then it is not held until [`Holds::ended`] says so.
    pub fn let_go(&self, container: ContainerId) -> bool {
        let mut sets = self.sets.lock();
        !sets.held.contains_key(&container) && sets.going.insert(container)
    }

    /// These have expired, or have not.
    pub fn ended(&self, containers: &[ContainerId]) {
        let mut sets = self.sets.lock();
        for container in containers {
            sets.going.remove(container);
        }
        drop(sets);
        self.ended.notify_waiters();
    }

    /// Something is about to be seen as expired.
    pub fn expires(&self) {
        self.expiries.fetch_add(1, Ordering::Release);
    }

    /// A name that was not there is not in the store either if it is still not there after that was asked for, and if this
    /// was the same before the first look and is after the last. Else it may have come, and expired.
    pub fn expiries(&self) -> u64 {
        self.expiries.load(Ordering::Acquire)
    }

    /// Ready when some of what was going has gone or stays: of all that ends from now on.
    pub fn an_end(&self) -> Notified<'_> {
        self.ended.notified()
    }
}

/// Keeps what stands under a container from expiring while it lives.
pub struct Hold(Option<(Arc<Shared>, ContainerId)>);

impl Hold {
    /// Of nothing.
    pub fn none() -> Hold {
        Hold(None)
    }

    /// None: it is about to expire.
    pub fn of(shared: &Arc<Shared>, container: ContainerId) -> Option<Hold> {
        let mut sets = shared.holds.sets.lock();
        if sets.going.contains(&container) {
            return None;
        }
        *sets.held.entry(container).or_default() += 1;
        drop(sets);
        Some(Hold(Some((shared.clone(), container))))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some((shared, container)) = &self.0 else { return };
        let mut sets = shared.holds.sets.lock();
        if let Some(held) = sets.held.get_mut(container) {
            *held -= 1;
            if *held == 0 {
                sets.held.remove(container);
            }
        }
    }
}
