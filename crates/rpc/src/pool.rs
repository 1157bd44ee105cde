//! Connections that are kept, a few per server.

use crate::connect::{Connection, Identity};
use crate::error::Error;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::{Instant, timeout_at};
use types::ErrorKind;

/// Servers a pool knows at once; the longest unused one goes when there are more.
pub const MAX_ADDRESSES: usize = 4096;

/// Connections by address, opened when first asked for. Belongs to the runtime it is used on.
#[derive(Debug)]
pub struct Pool {
    identity: Identity,
    per_address: usize,
    servers: Mutex<HashMap<String, Arc<Server>>>,
    /// Counts uses, to know which server was used longest ago.
    uses: AtomicUsize,
}

/// One server: its connections take turns.
#[derive(Debug)]
struct Server {
    slots: Vec<tokio::sync::Mutex<Option<Arc<Connection>>>>,
    turn: AtomicUsize,
    last_use: AtomicUsize,
}

impl Pool {
    /// `per_address`: connections to one server; official clients keep up to 4 to a worker, 1 to a master.
    pub fn new(identity: Identity, per_address: usize) -> Pool {
        Pool { identity, per_address: per_address.max(1), servers: Mutex::default(), uses: AtomicUsize::new(0) }
    }

    /// A connection to `address`, a new one if need be; only one caller opens it, the others wait. Cancel-safe.
    ///
    /// Errors: as [`Connection::open`]; nothing is kept of a failure.
    pub async fn get(&self, address: &str, deadline: Instant) -> Result<Arc<Connection>, Error> {
        let server = self.server(address)?;
        let turn = server.turn.fetch_add(1, Ordering::Relaxed) % server.slots.len();
        let late = |_| Error::Timeout { what: format!("connect to {address} as {:?}", self.identity.user) };
        let mut slot = timeout_at(deadline, server.slots[turn].lock()).await.map_err(late)?;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(address, &self.identity, deadline).await?);
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Tells the pool how a call on `connection` failed: after a broken transport or handshake the next
    /// [`Pool::get`] opens another. Calls under way on it go on.
    pub fn observe(&self, connection: &Arc<Connection>, kind: ErrorKind) {
        if !matches!(kind, ErrorKind::Unauthenticated | ErrorKind::Unavailable) {
            return;
        }
        let Some(server) = self.servers.lock().get(connection.address()).cloned() else { return };
        for slot in &server.slots {
            // A slot that is locked is being opened anew already.
            if let Ok(mut slot) = slot.try_lock()
                && slot.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, connection))
            {
                *slot = None;
            }
        }
    }

    fn server(&self, address: &str) -> Result<Arc<Server>, Error> {
        let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut servers = self.servers.lock();
        if let Some(server) = servers.get(address) {
            server.last_use.store(use_number, Ordering::Relaxed);
            return Ok(server.clone());
        }
        if servers.len() >= MAX_ADDRESSES {
            // Of those nobody is asking for a connection to just now.
            let idle = servers.iter().filter(|(_, server)| Arc::strong_count(server) == 1);
            let oldest = idle.min_by_key(|(_, server)| server.last_use.load(Ordering::Relaxed));
            let oldest = oldest.map(|(address, _)| address.clone()).ok_or(Error::TooManyAddresses)?;
            servers.remove(&oldest);
        }
        let server = Arc::new(Server {
            slots: (0..self.per_address).map(|_| tokio::sync::Mutex::new(None)).collect(),
            turn: AtomicUsize::new(0),
            last_use: AtomicUsize::new(use_number),
        });
        servers.insert(address.to_owned(), server.clone());
        Ok(server)
    }
}
