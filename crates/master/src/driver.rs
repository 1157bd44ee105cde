//! Runs the core: one thread for the state, one for the log, a runtime for under stores.
//!
//! Is:     the thin half with the threads and channels. It decides nothing but which thread does the work: a lone caller
//!         drives the core itself, and writes its batch.
//! Owns:   the queue to the core, who waits for which ticket, the log's writer.

mod queue;

use crate::core::{Action, Core, Event, Now, Request, Ticket, Want};
use crate::error::Error;
use crate::peers::Peers;
use crate::shared::Shared;
use crate::stores::Stores;
use journal::{AppendBatch, Change, LogWriter, MemberId};
use meta::{Batch, BatchItem, Done, Op, Read, StoreError};
use parking_lot::{Mutex, MutexGuard};
use queue::Queue;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use types::{Monotonic, OperationId, Principal};

/// Events taken before the core turns: what arrived meanwhile shares a sync.
const TAKE: usize = 4_096;
/// How often time is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(20);
/// How often a full disk is looked at again.
const ROOM_AGAIN: Duration = Duration::from_secs(1);
/// How long a leader that cannot go on waits for another one: without it they elect one by themselves after about as long.
const LEAVES_WITHIN: Duration = Duration::from_millis(500);
/// A thread that answered more reads than this since it last wrote for a caller is busy: it does not wait for a disk.
const FEW_READS: u32 = 16;

thread_local! {
    static READS: Cell<u32> = const { Cell::new(0) };
}

pub type Reply = oneshot::Sender<Result<Done, Error>>;

pub enum Message {
    Event(Event),
    Ask(Ticket, Event, Reply),
    /// One event that several wait for.
    AskMany(Vec<(Ticket, Reply)>, Event),
    /// Log or database cannot be written any more.
    Failed(String),
    Stop,
}

/// Where callers meet the driver.
#[derive(Default)]
struct Desk {
    next_ticket: AtomicU64,
    /// Callers whose answer is outstanding.
    asking: AtomicUsize,
    /// Empty before the core runs, when it has ended, and for good when whoever drove it panicked.
    driver: Mutex<Option<Box<Driver>>>,
}

impl Desk {
    /// The driver, for whoever is to drive next: None while somebody drives, and when it has ended or is about to.
    fn free(&self) -> Option<MutexGuard<'_, Option<Box<Driver>>>> {
        let seat = self.driver.try_lock()?;
        seat.as_ref().is_some_and(|driver| driver.progress.end.is_none()).then_some(seat)
    }

    /// Has the driver do something. None: it has ended.
    fn drive<R>(seat: &mut Option<Box<Driver>>, work: impl FnOnce(&mut Driver) -> R) -> Option<R> {
        let mut driver = seat.take()?;
        let result = work(&mut driver);
        *seat = Some(driver);
        Some(result)
    }
}

/// A way to the core, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    queue: Arc<Queue>,
    desk: Arc<Desk>,
    pub shared: Arc<Shared>,
}

impl Handle {
    /// Has `op` committed, applied and, where the store must act first, carried out. Not cancel-safe in its effect:
    /// dropping the future gives up the answer only.
    pub async fn submit(&self, who: &Principal, operation: Option<OperationId>, op: Op) -> Result<Done, Error> {
        let (came, deadline) = self.now_and_deadline();
        let who = self.shared.authority.caller(who);
        let request = Request { who, operation, op, came, deadline };
        self.ask(deadline, |ticket| Event::Request(ticket, request)).await
    }

    /// The same for many mutations in one entry, each for itself: what became of each, in order.
    ///
    /// - `operation`: with an item's number it names the item's own operation.
    /// - Errors: `NotYet`, when not all masters of the group know batches; nothing was done then. Whatever else becomes of the
    ///   batch as a whole is told for each item.
    pub async fn submit_batch(
        &self,
        who: &Principal,
        operation: OperationId,
        items: Vec<BatchItem>,
    ) -> Result<Vec<Result<Done, Error>>, Error> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (came, deadline) = self.now_and_deadline();
        let (replies, answers): (Vec<Reply>, Vec<_>) = items.iter().map(|_| oneshot::channel()).unzip();
        let count = u64::try_from(items.len()).expect("a batch is bounded");
        let first = self.desk.next_ticket.fetch_add(count, Ordering::Relaxed);
        let tickets: Vec<Ticket> = (first..first + count).map(Ticket).collect();
        let who = self.shared.authority.caller(who);
        let request = Request { who, operation: Some(operation), op: Op::Batch(Batch { items }), came, deadline };
        let waiting = tickets.iter().copied().zip(replies).collect();
        let _asking = Asking::new(&self.desk.asking);
        // Never driven by its caller, whose thread has other connections to serve: it takes milliseconds to apply.
        self.queue.put(Message::AskMany(waiting, Event::Batch(tickets, request)))?;
        let left = deadline - self.shared.clock.monotonic() + Duration::from_secs(1);
        let until = tokio::time::Instant::now() + left;
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(match tokio::time::timeout_at(until, answer).await {
                Ok(Ok(Err(err @ Error::NotYet(_)))) => return Err(err),
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(Error::Stopping),
                Err(_) => Err(Error::Timeout(self.shared.config.request_timeout)),
            });
        }
        Ok(outcomes)
    }

    /// Brings metadata from a store; when it returns, the namespace knows what the store answered.
    pub async fn want(&self, want: Want) -> Result<(), Error> {
        let deadline = self.deadline();
        self.ask(deadline, |ticket| Event::Want(ticket, want, deadline)).await.map(drop)
    }

    /// As [`Handle::want`] for a directory's listing. False: its pages still come, and who wants the rest asks again.
    pub async fn want_listing(&self, want: Want) -> Result<bool, Error> {
        let deadline = self.deadline();
        let done = self.ask(deadline, |ticket| Event::Want(ticket, want, deadline)).await?;
        Ok(!matches!(done, Done::Load(_)))
    }

    /// Hands the lead over to another member of the group.
    pub async fn hand_over(&self, to: MemberId) -> Result<(), Error> {
        self.ask(self.deadline(), |ticket| Event::HandOver(ticket, to)).await.map(drop)
    }

    /// Changes who the members are: returns when that is committed.
    pub async fn change_members(&self, change: Change) -> Result<(), Error> {
        self.ask(self.deadline(), |ticket| Event::Change(ticket, change)).await.map(drop)
    }

    /// Flushes the state and cuts the log.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.ask(self.deadline(), Event::Checkpoint).await.map(drop)
    }

    fn deadline(&self) -> Monotonic {
        self.now_and_deadline().1
    }

    /// Now, and the end of what is asked now.
    fn now_and_deadline(&self) -> (Monotonic, Monotonic) {
        let now = self.shared.clock.monotonic();
        (now, now + self.shared.config.request_timeout)
    }

    /// Refuses changes while more of them are asked for than can be done. Ask before anything is done for one.
    pub fn admit_change(&self) -> Result<(), Error> {
        let admitted = self.shared.waits.admit(self.shared.clock.monotonic(), self.shared.config.late);
        if admitted.is_err() {
            self.shared.metrics.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// A linearisable read: what was acknowledged before the call is seen. Cost: none beyond the read while the lease
    /// holds, else one round of heartbeats, shared by all who wait.
    pub async fn read<R>(&self, mut read: impl FnMut(&dyn Read) -> Result<R, StoreError>) -> Result<R, Error> {
        READS.set(READS.get().saturating_add(1));
        if self.shared.leads() {
            let result = self.shared.read_any(&mut read)?;
            if self.shared.has_lease() {
                return Ok(result);
            }
        }
        self.ask(self.deadline(), Event::Confirm).await?;
        self.shared.read_any(read)
    }

    pub fn tell(&self, event: Event) -> Result<(), Error> {
        self.queue.put(Message::Event(event))
    }

    async fn ask(&self, deadline: Monotonic, event: impl FnOnce(Ticket) -> Event) -> Result<Done, Error> {
        let ticket = Ticket(self.desk.next_ticket.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let _asking = Asking::new(&self.desk.asking);
        if let Some(message) = self.drive(Message::Ask(ticket, event(ticket), reply)) {
            self.queue.put(message)?;
        }
        let left = deadline - self.shared.clock.monotonic();
        match tokio::time::timeout(left + Duration::from_secs(1), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Stopping),
            Err(_) => Err(Error::Timeout(self.shared.config.request_timeout)),
        }
    }

    /// A lone caller would only wait for the state thread: it drives the core itself, which spares wake-ups. Gives the
    /// message back where the queue is the better way: others ask as well, the core is being driven, or this thread has
    /// other calls to answer. Blocks for one fdatasync of a fast disk at most.
    fn drive(&self, message: Message) -> Option<Message> {
        let is_busy = READS.take() > FEW_READS;
        if is_busy || self.desk.asking.load(Ordering::Relaxed) > 1 {
            return Some(message);
        }
        let Some(mut seat) = self.desk.free() else { return Some(message) };
        let left = self.take_turns(&mut seat, Some(message), true);
        drop(seat);
        if let Some((batch, writer)) = left {
            self.write(&writer, batch);
        }
        None
    }

    /// Writes a leader's batch, and drives what follows from it. Meanwhile others drive: what its followers say may come first.
    fn write(&self, writer: &LogWriter, batch: AppendBatch) {
        let written = match writer.at_once() {
            Some(pen) => pen.append(&batch).map(|()| Event::Persisted(batch.seq)).map_err(|err| unwritable(&err)),
            None => match writer.append(batch) {
                Ok(()) => return,
                Err(err) => Err(types::sentence(&err)),
            },
        };
        let message = written.map_or_else(Message::Failed, Message::Event);
        match self.desk.free() {
            Some(mut seat) => drop(self.take_turns(&mut seat, Some(message), false)),
            None => self.queue.put_surely(message),
        }
    }

    /// Another master said something, which waits in an inbox of its own. Who heard it drives the core, if nobody does:
    /// somebody waits for each message, and a wake-up less is a good part of its way. Blocks as [`Handle::drive`] does.
    /// True: another turn has work, which is better done when what this one sent has left.
    pub fn heed(&self) -> bool {
        let Some(mut seat) = self.desk.free() else {
            self.queue.wake();
            return false;
        };
        let unfinished = Desk::drive(&mut seat, |driver| {
            driver.round(None, false);
            driver.progress.end.is_none().then_some(driver.core.is_unfinished())
        });
        unfinished.flatten().unwrap_or_else(|| {
            self.queue.wake();
            false
        })
    }

    /// A turn, and one more for what it had committed; the rest is the state thread's.
    ///
    /// - `writes`: a batch that must not wait in the driver's seat comes back, with its writer, instead of going to the log's thread.
    fn take_turns(
        &self,
        seat: &mut Option<Box<Driver>>,
        message: Option<Message>,
        writes: bool,
    ) -> Option<(AppendBatch, Arc<LogWriter>)> {
        let (left, rests) = Desk::drive(seat, |driver| {
            let left = driver.round(message, writes);
            if driver.core.is_unfinished() {
                driver.round(None, false);
            }
            let rests = !driver.core.is_unfinished() && driver.progress.end.is_none();
            (left.map(|batch| (batch, driver.writer.clone())), rests)
        })?;
        if !rests {
            self.queue.wake();
        }
        left
    }

    /// Flushes everything so that the next start replays nothing.
    pub async fn drain(&self, within: Duration) -> Result<(), Error> {
        let deadline = self.shared.clock.monotonic() + within;
        self.ask(deadline, Event::Drain).await.map(drop)
    }

    pub fn stop(&self) {
        self.queue.put_surely(Message::Stop);
    }

    /// Where the last word goes. Who hears of it may end this master, and open its database again at once: nothing is left here
    /// that holds that.
    fn let_go(self) -> Arc<Queue> {
        self.queue
    }
}

/// One caller who waits, as long as it lives.
struct Asking<'a>(&'a AtomicUsize);

impl Asking<'_> {
    fn new(asking: &AtomicUsize) -> Asking<'_> {
        asking.fetch_add(1, Ordering::Relaxed);
        Asking(asking)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The receiving half: when it goes, nobody drives any more.
pub struct Inbox(Arc<Queue>);

impl Inbox {
    /// What has come so far.
    #[cfg(feature = "test-support")]
    pub fn take(&self) -> Vec<Message> {
        self.0.take(TAKE)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Makes both halves. The handle can be given away before the core exists.
pub fn channel(shared: Arc<Shared>) -> (Handle, Inbox) {
    let queue: Arc<Queue> = Arc::default();
    (Handle { queue: queue.clone(), desk: Arc::default(), shared }, Inbox(queue))
}

/// Who writes a batch. Not to hand it to the log's thread spares two wake-ups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Thread,
    /// Who drives, before anybody else does.
    Driver,
    /// Who drives, when others may again.
    Caller,
}

/// Why a driver ends: a reason if it cannot go on.
type End = Option<String>;

pub struct Driver {
    pub core: Core,
    pub writer: Arc<LogWriter>,
    pub stores: Arc<Stores>,
    pub handle: Handle,
    pub peers: Peers,
    pub runtime: tokio::runtime::Handle,
    /// Set to the reason when this member can no longer go on.
    pub fatal: watch::Sender<Option<String>>,
    pub progress: Progress,
}

/// How far a driver has come.
#[derive(Default)]
pub struct Progress {
    waiting: HashMap<Ticket, Reply>,
    last_tick: Monotonic,
    /// The log's next file could not be prepared when it was looked at last, and when that was.
    short_of_room: Option<Monotonic>,
    /// Set when it is to end, which it does at the next turn of the state thread.
    end: Option<End>,
}

impl Driver {
    /// The state thread: ends when told to stop, or with a reason when the member cannot go on.
    pub fn run(self, inbox: Inbox) {
        let handle = self.handle.clone();
        *handle.desk.driver.lock() = Some(Box::new(self));
        let mut wait = TICK;
        loop {
            inbox.0.wait(wait);
            let goes_on = Desk::drive(&mut handle.desk.driver.lock(), |driver| {
                driver.round(None, false);
                wait = if driver.core.is_unfinished() { Duration::ZERO } else { TICK };
                driver.progress.end.is_none()
            });
            if goes_on != Some(true) {
                break;
            }
        }
        let ended = handle.desk.driver.lock().take();
        handle.shared.set_leadership(crate::shared::Leadership { leads: false, lease_until: Monotonic::default() });
        let Some(mut driver) = ended else { return };
        if matches!(driver.progress.end, Some(Some(_))) {
            driver.leave(&inbox);
        }
        // Who waits for an answer hears that there will be none.
        drop(inbox);
        if let Some(why) = driver.progress.end.flatten() {
            tracing::error!(%why, "this master cannot go on");
            driver.fatal.send_replace(Some(why));
        }
        // A process that ends must not leave a thread behind that uses the database while it is taken down.
        driver.peers.stop();
    }

    /// A leader that cannot go on has another member lead before it ends: what its followers have is all that needs.
    fn leave(&mut self, inbox: &Inbox) {
        let began = self.now().mono;
        let mut asked = false;
        while let Some(messages) = self.core.leave(asked) {
            asked = true;
            for (message, everywhere) in messages {
                self.peers.send(message, everywhere);
            }
            if self.now().mono - began > LEAVES_WITHIN {
                return tracing::warn!("nobody took the lead over from this master, which cannot go on");
            }
            // Whoever asks something is told to ask another master: the answer is dropped.
            inbox.0.wait(TICK);
            inbox.0.take(TAKE).into_iter().for_each(drop);
            let now = self.now();
            self.peers.inbox().take().into_iter().for_each(|event| self.core.step(now, event));
        }
        if asked {
            tracing::warn!(took = ?(self.now().mono - began), "the lead went to another master, this one cannot go on");
        }
    }

    /// Takes events, `first` before what waits, turns the core, and does what it asks for, but for a batch that comes back
    /// to be written outside of the driver's seat.
    ///
    /// - `writes`: who drives would do that.
    fn round(&mut self, first: Option<Message>, writes: bool) -> Option<AppendBatch> {
        let mut messages: Vec<Message> = first.into_iter().collect();
        messages.extend(self.handle.queue.take(TAKE));
        let peers_said = self.peers.inbox().take();
        // Until that is safe which was asked there is nothing else to do here. The leader of a group does not wait in its
        // seat: its followers' disks may be faster than its own.
        let is_lone = messages.len() <= 1;
        let by = match (self.core.is_alone(), self.handle.shared.leads()) {
            (true, _) if is_lone => By::Driver,
            (false, false) => By::Driver,
            (false, true) if is_lone && writes => By::Caller,
            _ => By::Thread,
        };
        let now = self.now();
        // What another master is promised counts from a time read after its message arrived.
        peers_said.into_iter().for_each(|event| self.core.step(now, event));
        for message in messages {
            match message {
                Message::Event(event) => self.core.step(now, event),
                Message::Ask(ticket, event, reply) => {
                    self.progress.waiting.insert(ticket, reply);
                    self.core.step(now, event);
                }
                Message::AskMany(waiting, event) => {
                    self.progress.waiting.extend(waiting);
                    self.core.step(now, event);
                }
                Message::Failed(why) => self.progress.end = Some(Some(why)),
                Message::Stop => self.progress.end = Some(None),
            }
        }
        if now.mono - self.progress.last_tick >= TICK {
            self.progress.last_tick = now.mono;
            self.look_for_room(now);
            self.core.step(now, Event::Tick);
        }
        let left = self.turn(now, by).unwrap_or_else(|why| {
            self.progress.end = Some(Some(why));
            None
        });
        self.handle.queue.gather(self.core.gathers() && self.progress.end.is_none());
        left
    }

    /// Tells the core whether the log can grow; while it cannot, has that tried again.
    fn look_for_room(&mut self, now: Now) {
        let short = self.writer.is_short_of_room();
        self.handle.shared.rooms.set_journal_short(short);
        if short == self.progress.short_of_room.is_none() {
            self.core.step(now, Event::ShortOfRoom(short));
        }
        match self.progress.short_of_room {
            _ if !short => self.progress.short_of_room = None,
            Some(at) if now.mono - at < ROOM_AGAIN => {}
            Some(_) => {
                self.writer.prepare();
                self.progress.short_of_room = Some(now.mono);
            }
            None => self.progress.short_of_room = Some(now.mono),
        }
    }

    fn now(&self) -> Now {
        let clock = &self.handle.shared.clock;
        Now { unix: clock.unix(), mono: clock.monotonic() }
    }

    /// Turns the core and does what it asks for, but for a batch the caller is to write.
    fn turn(&mut self, now: Now, by: By) -> Result<Option<AppendBatch>, String> {
        let Some(batch) = self.act_all(now)? else { return Ok(None) };
        let writer = self.writer.clone();
        let pen = match by {
            By::Caller => return Ok(Some(batch)),
            By::Driver if batch.entries.len() <= 1 || !self.core.is_alone() => writer.at_once(),
            By::Driver | By::Thread => None,
        };
        let Some(pen) = pen else { return self.hand_over(batch).map(|()| None) };
        pen.append(&batch).map_err(|err| unwritable(&err))?;
        let now = self.now();
        self.core.step(now, Event::Persisted(batch.seq));
        // What follows from it is not what anybody waits for.
        if let Some(next) = self.act_all(now)? {
            self.hand_over(next)?;
        }
        Ok(None)
    }

    fn hand_over(&self, batch: AppendBatch) -> Result<(), String> {
        self.writer.append(batch).map_err(|err| types::sentence(&err))
    }

    /// One turn of the core, but for the batch to write.
    fn act_all(&mut self, now: Now) -> Result<Option<AppendBatch>, String> {
        let mut batch = None;
        for action in self.core.turn(now)? {
            batch = self.act(action).map_err(|err| types::sentence(&err))?.or(batch);
        }
        Ok(batch)
    }

    /// Does it, or gives back the batch that is to be written when all else is done; there is one at most.
    fn act(&mut self, action: Action) -> Result<Option<AppendBatch>, journal::Error> {
        match action {
            Action::Append(batch) => return Ok(Some(batch)),
            Action::Send(message, everywhere) => {
                let to = message.to;
                if !self.peers.send(message, everywhere) {
                    self.core.step(self.now(), Event::Unreachable(to));
                }
            }
            Action::Reply(ticket, result) => {
                if let Some(reply) = self.progress.waiting.remove(&ticket) {
                    // The caller may have gone; its effect stands.
                    let _ = reply.send(result);
                }
            }
            Action::Job(id, job) => {
                let (stores, handle) = (self.stores.clone(), self.handle.clone());
                self.runtime.spawn(async move {
                    let result = stores.execute(job).await;
                    drop(stores);
                    handle.let_go().put_surely(Message::Event(Event::JobDone(id, result)));
                });
            }
            Action::Flush => {
                let handle = self.handle.clone();
                self.runtime.spawn_blocking(move || {
                    let flushed = match handle.shared.state.store().flush() {
                        Ok(index) => Message::Event(Event::Flushed(index)),
                        Err(err) => Message::Failed(err.to_string()),
                    };
                    handle.let_go().put_surely(flushed);
                });
            }
            Action::Purge(index) => self.writer.purge_below(index)?,
            Action::MountsChanged => self.stores.forget(),
            Action::Members(members) => self.peers.set_members(&members),
            Action::Fetch(offer) => self.peers.fetch(offer),
        }
        Ok(None)
    }
}

/// How the log's writer reports back.
pub fn on_persisted(handle: &Handle) -> impl Fn(journal::BatchSeq, Result<(), journal::Error>) + Send + 'static {
    let queue = handle.queue.clone();
    move |batch, result| {
        queue.put_surely(match result {
            Ok(()) => Message::Event(Event::Persisted(batch)),
            Err(err) => Message::Failed(unwritable(&err)),
        });
    }
}

fn unwritable(err: &journal::Error) -> String {
    format!(
        "{}; what was acknowledged is safe there: free space or repair the disk, then start it again",
        types::sentence(err)
    )
}
