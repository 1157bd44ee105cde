//! What waits for the core: whoever drives next takes it, on whatever thread.
//!
//! Is:     a queue, and where the state thread sleeps.
//! Owns:   the bound on what callers may leave; whether requests had better wait for each other.
//! Never:  blocks who leaves something.

use super::Message;
use crate::core::Event;
use crate::error::Error;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Duration;

/// What callers may leave; one more is refused as Busy.
const MAX_WAITING: usize = 65_536;
/// Requests that gather wake the state thread when so many are there.
const ENOUGH: usize = 64;

#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    awake: Condvar,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    /// The state thread is to look; it has not yet.
    called: bool,
    /// Who drives next comes of itself, soon: requests do not call the state thread for nothing.
    gathers: bool,
    /// Nobody will drive any more.
    closed: bool,
}

impl Queue {
    /// Leaves a message for whoever drives next. Errors: `Overloaded`, `Stopping`.
    pub fn put(&self, message: Message) -> Result<(), Error> {
        self.add(message, MAX_WAITING)
    }

    /// Leaves what must not be lost, however much waits: who sends such things has few of them under way. Gone only when
    /// nobody will drive any more.
    pub fn put_surely(&self, message: Message) {
        let _ = self.add(message, usize::MAX);
    }

    fn add(&self, message: Message, limit: usize) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Error::Stopping);
        }
        if waiting.messages.len() >= limit {
            return Err(Error::Overloaded(limit));
        }
        let bears_it = waiting.gathers && waiting.messages.len() < ENOUGH && may_gather(&message);
        waiting.messages.push_back(message);
        if !bears_it {
            self.call(&mut waiting);
        }
        Ok(())
    }

    fn call(&self, waiting: &mut Waiting) {
        waiting.called = true;
        self.awake.notify_one();
    }

    /// Has the state thread look around.
    pub fn wake(&self) {
        self.call(&mut self.waiting.lock());
    }

    /// From now on requests wait for who drives next, or no longer.
    pub fn gather(&self, gathers: bool) {
        let mut waiting = self.waiting.lock();
        waiting.gathers = gathers;
        if !gathers && !waiting.messages.is_empty() {
            self.call(&mut waiting);
        }
    }

    /// Returns when the state thread is called, or after `longest`.
    pub fn wait(&self, longest: Duration) {
        let mut waiting = self.waiting.lock();
        if !waiting.called && !longest.is_zero() {
            // To look once too often harms nobody.
            self.awake.wait_for(&mut waiting, longest);
        }
        waiting.called = false;
    }

    /// What waits, the oldest first, `limit` at most.
    pub fn take(&self, limit: usize) -> Vec<Message> {
        let mut waiting = self.waiting.lock();
        let count = waiting.messages.len().min(limit);
        waiting.messages.drain(..count).collect()
    }

    /// Refuses everything from now on, and drops what waits.
    pub fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let dropped = std::mem::take(&mut waiting.messages);
        drop(waiting);
        drop(dropped);
    }
}

/// A message, a sync and an answer of each member cost the same for one request as for many.
fn may_gather(message: &Message) -> bool {
    matches!(message, Message::Ask(_, Event::Request(..), _))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Request, Ticket};
    use meta::{Caller, Collect, Op};
    use tokio::sync::oneshot;
    use types::{InodeId, Monotonic};

    fn request() -> Message {
        let op = Op::Collect(Collect { directory: InodeId(7), limit: 1 });
        let (came, deadline) = (Monotonic::default(), Monotonic::default());
        let request = Request { who: Caller::system(), operation: None, op, came, deadline };
        Message::Ask(Ticket(1), Event::Request(Ticket(1), request), oneshot::channel().0)
    }

    fn is_called(queue: &Queue) -> bool {
        std::mem::take(&mut queue.waiting.lock().called)
    }

    #[test]
    fn requests_that_gather_call_nobody_until_there_are_enough_or_no_reason_any_more() {
        let queue = Queue::default();
        queue.put(request()).expect("room");
        assert!(is_called(&queue));
        queue.gather(true);
        assert_eq!(queue.take(10).len(), 1);
        queue.put(request()).expect("room");
        assert!(!is_called(&queue), "it goes with what comes");
        queue.put(Message::Event(Event::Tick)).expect("room");
        assert!(is_called(&queue), "it does not wait for others");
        (2..ENOUGH).for_each(|_| queue.put(request()).expect("room"));
        assert!(!is_called(&queue));
        queue.put(request()).expect("room");
        assert!(is_called(&queue), "there are enough");
        queue.gather(false);
        assert!(is_called(&queue), "somebody must take them");
        assert_eq!(queue.take(usize::MAX).len(), ENOUGH + 1);
        queue.gather(false);
        assert!(!is_called(&queue));
    }

    #[test]
    fn what_waits_is_bounded_but_for_what_must_not_be_lost() {
        let queue = Queue::default();
        (0..MAX_WAITING).for_each(|_| queue.put(request()).expect("room"));
        assert!(matches!(queue.put(request()), Err(Error::Overloaded(MAX_WAITING))));
        queue.put_surely(Message::Stop);
        queue.wait(Duration::MAX);
        assert!(matches!(queue.take(usize::MAX).last(), Some(Message::Stop)));
        queue.close();
        assert!(matches!(queue.put(request()), Err(Error::Stopping)));
    }
}
