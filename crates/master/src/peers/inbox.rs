//! What other masters said, until the state thread takes it: ahead of clients' requests, and never crowded out by them.

use crate::core::Event;
use crate::driver::Handle;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Bytes that may wait: as much as a leader has on its way to this member, and some. More are dropped, and sent again.
const WAITING_BYTES: usize = 64 << 20;
/// What an event costs beyond its message, about.
const EVENT_BYTES: usize = 128;

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
}

/// A bounded queue with many writers and one reader.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    /// Who heeds it; nobody, of a master alone.
    handle: Option<Handle>,
}

impl Inbox {
    pub fn new(handle: Handle) -> Inbox {
        Inbox { waiting: Mutex::default(), handle: Some(handle) }
    }

    /// Puts an event in, or drops it when too much waits: None. Whether it is the first that waits.
    pub fn put(&self, event: Event) -> Option<bool> {
        let cost = cost(&event);
        let mut waiting = self.waiting.lock();
        if waiting.bytes + cost > WAITING_BYTES {
            return None;
        }
        waiting.bytes += cost;
        waiting.events.push_back(event);
        Some(waiting.events.len() == 1)
    }

    /// The same, and has the core turn until nothing is left to do: what a turn sends leaves before the next one begins, if
    /// lanes live on this thread. False: it was dropped. Cancel-safe: the state thread takes up what is left.
    pub async fn push(&self, event: Event) -> bool {
        let put = self.put(event);
        if let (Some(handle), Some(true)) = (&self.handle, put) {
            while handle.heed() {
                tokio::task::yield_now().await;
            }
        }
        put.is_some()
    }

    pub fn take(&self) -> VecDeque<Event> {
        let mut waiting = self.waiting.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.events)
    }
}

fn cost(event: &Event) -> usize {
    if let Event::PeerMessage { message, .. } = event { message.len() + EVENT_BYTES } else { EVENT_BYTES }
}
