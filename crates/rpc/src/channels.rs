//! Which user stands behind a channel id.
//!
//! Is:     the registry that a handshake writes and every later call reads.
//! Owns:   the registrations of open handshakes, the last [`MAX_KNOWN`] pairs, and their file.
//! Never:  proves anything: SIMPLE carries no secret, so a pair that was true once may be believed again after a
//!         restart, which spares connected clients a failure they cannot repair.

mod file;

use crate::error::Error;
use file::ChannelFile;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use types::ErrorKind;

/// Pairs that are remembered after their handshake ended, and on disk.
pub const MAX_KNOWN: usize = 100_000;
/// Handshakes open at once.
pub const MAX_OPEN: usize = 100_000;
/// Longest channel id. It is a header of every call; clients send UUIDs of 36.
pub(crate) const MAX_ID_BYTES: usize = 128;
/// Longest user name.
pub(crate) const MAX_USER_BYTES: usize = 256;

/// The registry. One per server; shared by its threads.
#[derive(Debug)]
pub struct Channels {
    table: RwLock<Table>,
    /// None: in memory only.
    file: Option<Mutex<ChannelFile>>,
    capacity: usize,
}

/// Invariant: `known` and `order` hold the same pairs, `order` from the oldest handshake to the youngest.
#[derive(Debug, Default)]
struct Table {
    open: HashMap<Arc<str>, Open>,
    known: HashMap<Arc<str>, Known>,
    order: BTreeMap<u64, Arc<str>>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    user: Arc<str>,
    handshakes: u32,
}

#[derive(Debug)]
struct Known {
    user: Arc<str>,
    at: u64,
}

/// Why a registration was refused.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    #[error("channel id {0} belongs to another user's open connection; choose a new one for each connection")]
    Taken(String),
    #[error("{MAX_OPEN} handshakes are open; close some")]
    Full,
}

impl Refused {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Refused::Taken(_) => ErrorKind::Unauthenticated,
            Refused::Full => ErrorKind::Full,
        }
    }
}

/// An open handshake: while it lives nobody else can take the id. The pair stays known when it ends.
#[derive(Debug)]
pub struct Registration {
    channels: Arc<Channels>,
    id: Arc<str>,
}

impl Channels {
    /// A registry that forgets with the process.
    pub fn in_memory() -> Arc<Channels> {
        Arc::new(Channels { table: RwLock::default(), file: None, capacity: MAX_KNOWN })
    }

    /// A registry that knows again, after a restart or kill −9, what it knew before. Reads `path`, or makes it; a torn
    /// tail is dropped.
    ///
    /// Errors: the file is not ours, or cannot be read or written. Cost: one pass over at most 2 × [`MAX_KNOWN`]
    /// records of about 60 bytes.
    pub fn open(path: &Path) -> Result<Arc<Channels>, Error> {
        Channels::open_with(path, MAX_KNOWN)
    }

    fn open_with(path: &Path, capacity: usize) -> Result<Arc<Channels>, Error> {
        let mut table = Table::default();
        let file = ChannelFile::open(path, |id, user| table.know(id.into(), user.into(), capacity))?;
        Ok(Arc::new(Channels { table: RwLock::new(table), file: Some(Mutex::new(file)), capacity }))
    }

    /// Ties `id` to `user`, on disk before it returns. Blocks for one write, now and then for a compaction: call it
    /// off the async threads.
    ///
    /// Errors: see [`Refused`]. A file that cannot be written costs only the memory of a restart: logged, not refused.
    pub fn register(self: &Arc<Channels>, id: &str, user: &str) -> Result<Registration, Refused> {
        let (id, user): (Arc<str>, Arc<str>) = (id.into(), user.into());
        let is_new = {
            let mut table = self.table.write();
            table.open(&id, &user)?;
            table.know(id.clone(), user.clone(), self.capacity)
        };
        let registration = Registration { channels: self.clone(), id: id.clone() };
        if is_new && let Some(file) = &self.file {
            let mut file = file.lock();
            let written = file
                .append(&id, &user)
                .and_then(|()| if file.records() > 2 * self.capacity { file.rewrite(&self.pairs()) } else { Ok(()) });
            if let Err(error) = written {
                tracing::warn!(%error, "a restart will not remember this connection");
            }
        }
        Ok(registration)
    }

    /// The user of a handshake that is open, or that ended and is still remembered.
    pub fn user_of(&self, id: &str) -> Option<Arc<str>> {
        let table = self.table.read();
        match table.open.get(id) {
            Some(open) => Some(open.user.clone()),
            None => table.known.get(id).map(|known| known.user.clone()),
        }
    }

    /// From the oldest to the youngest.
    fn pairs(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let table = self.table.read();
        table.order.values().filter_map(|id| Some((id.clone(), table.known.get(id)?.user.clone()))).collect()
    }

    /// Handshakes open now.
    pub fn open_count(&self) -> usize {
        self.table.read().open.len()
    }

    /// Pairs remembered now, open or not.
    pub fn known_count(&self) -> usize {
        self.table.read().known.len()
    }
}

impl Table {
    fn open(&mut self, id: &Arc<str>, user: &Arc<str>) -> Result<(), Refused> {
        if let Some(open) = self.open.get_mut(id) {
            if open.user != *user {
                return Err(Refused::Taken(id.to_string()));
            }
            open.handshakes += 1;
            return Ok(());
        }
        if self.open.len() >= MAX_OPEN {
            return Err(Refused::Full);
        }
        self.open.insert(id.clone(), Open { user: user.clone(), handshakes: 1 });
        Ok(())
    }

    /// Makes the pair the youngest. Returns whether it is new, and so must be written.
    fn know(&mut self, id: Arc<str>, user: Arc<str>, capacity: usize) -> bool {
        let at = self.next;
        self.next += 1;
        let old = self.known.insert(id.clone(), Known { user: user.clone(), at });
        if let Some(old) = &old {
            self.order.remove(&old.at);
        }
        self.order.insert(at, id);
        while self.known.len() > capacity {
            let (_, oldest) = self.order.pop_first().expect("order holds what known holds");
            self.known.remove(&oldest);
        }
        old.is_none_or(|old| old.user != user)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.channels.table.write();
        if let Some(open) = table.open.get_mut(&self.id) {
            open.handshakes -= 1;
            if open.handshakes == 0 {
                table.open.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
