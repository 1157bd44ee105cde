//! Places in flights for readers who are expected.

use super::flight::Ticket;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use types::BlockId;

/// Readers expected at once; others find out for themselves.
const EXPECTED: usize = 64;
/// How long a reader is waited for: a client opens the next block within milliseconds of the last byte of the one before.
const HELD: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Ahead {
    places: Mutex<HashMap<BlockId, Ticket>>,
    closed: CancellationToken,
}

impl Ahead {
    /// Holds a place until somebody takes it or the time is over. A second place for a block is given up at once.
    pub async fn hold(&self, block: BlockId, place: Ticket) {
        {
            let mut places = self.places.lock();
            if places.len() >= EXPECTED || places.contains_key(&block) {
                return;
            }
            places.insert(block, place);
        }
        let stopping = tokio::time::timeout(HELD, self.closed.cancelled()).await.is_ok();
        if self.take(block).is_some() {
            tracing::trace!(%block, stopping, "the expected reader did not come");
        }
    }

    /// Nobody is expected any more.
    pub fn close(&self) {
        self.closed.cancel();
    }

    pub fn take(&self, block: BlockId) -> Option<Ticket> {
        self.places.lock().remove(&block)
    }
}
