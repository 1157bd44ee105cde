//! Our own end of a connection of frames.
//!
//! A caller puts its frame into the buffer of the connection and waits for its answer; a task of the connection sends and
//! receives for all of them. A caller that is alone writes by itself: one hop between tasks less.

use super::server::release;
use super::wire::{Broken, Frame, Kind, NO_CALL, PREFACE, put, put_with, take};
use super::{MAX_CALLS, NEWEST, OLDEST};
use crate::connect::{Identity, keepalive, plain};
use crate::error::Error;
use crate::identify::AuthType;
use crate::server::MAX_MESSAGE_BYTES;
use crate::status::status;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message;
use proto::Unary;
use proto::internal::{FramesHello, FramesWelcome};
use socket2::SockRef;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tonic::{Code, Status};
use types::ErrorKind;

/// How a client watches a server it asked something.
const WATCH: Watch = Watch { ask_after: Duration::from_millis(500), silence: Duration::from_secs(1), always: false };
/// Room for one read.
const READ_BYTES: usize = 64 << 10;
/// A note longer than this is left to the connection's task.
const SHORT_BYTES: usize = 64 << 10;

/// How a connection finds out that its server has vanished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// After being quiet for this long the server is asked whether it is there.
    pub ask_after: Duration,
    /// How long it may take to say so.
    pub silence: Duration,
    /// Also while nobody waits for an answer.
    pub always: bool,
}

/// A connection of frames whose hello was answered. Lives on the runtime it was opened on. A break is for good: calls under
/// way fail with UNAVAILABLE, and so does every later one; open another.
pub struct Frames {
    address: String,
    /// Numbers of the methods that the server has.
    methods: HashMap<String, u16>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    state: Mutex<State>,
    write: OwnedWriteHalf,
    /// Of the calls that the server takes at once.
    free: Semaphore,
    watch: Watch,
    /// Told when the connection's task ends.
    ended: Notify,
}

#[derive(Default)]
struct State {
    last: u32,
    /// Calls whose caller is there.
    waiting: HashMap<u32, Waiting>,
    /// Frames to be sent.
    out: BytesMut,
    /// Why no more can be asked here.
    over: Option<Status>,
    /// The connection's task has ended, or is about to.
    ended: bool,
    /// Of the connection's task.
    task: Option<Waker>,
    /// Whether that task looks at the clock: not where nobody waits.
    is_watched: bool,
}

enum Waiting {
    For(Option<Waker>),
    Done(Result<Bytes, Status>),
}

impl Frames {
    /// Connects to `address`, a `host:port`, and says who we are, all before `deadline`. None: what answers there does not
    /// know frames, or none of our versions of them. Cancel-safe.
    ///
    /// Errors: no address, nobody there, refused (with the server's sentence as source), the deadline.
    pub async fn open(address: &str, identity: &Identity, deadline: Instant) -> Result<Option<Frames>, Error> {
        let late = |_| Error::Timeout { what: format!("connect to {address} as {:?}", identity.user) };
        timeout_at(deadline, dial(address, Some(identity), WATCH)).await.map_err(late)?
    }

    /// As [`Frames::open`], without a word about who we are: for a port whose methods find that out.
    pub async fn open_unnamed(address: &str, watch: Watch, deadline: Instant) -> Result<Option<Frames>, Error> {
        let late = |_| Error::Timeout { what: format!("connect to {address}") };
        timeout_at(deadline, dial(address, None, watch)).await.map_err(late)?
    }

    /// The `host:port` it was opened for.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the server has this method.
    pub fn has<M: Unary>(&self) -> bool {
        self.methods.contains_key(M::PATH)
    }

    /// Whether nothing can be asked here any more.
    pub fn is_over(&self) -> bool {
        self.shared.state.lock().over.is_some()
    }

    /// Asks and waits for the answer. Dropped, the server is told that nobody waits; what was asked may have happened.
    ///
    /// Errors: the server's; UNIMPLEMENTED for a method it has not; UNAVAILABLE when the connection broke or the server is
    /// silent, and what was asked may have happened. Cost: no thread is woken where the caller is alone and lives on the
    /// connection's own.
    pub async fn call<M: Unary>(&self, request: &M) -> Result<M::Answer, Status> {
        let (method, bytes) = self.measured(request)?;
        let _free = self.shared.free.acquire().await.expect("it is never closed");
        let answer = self.shared.send(method, request, bytes)?.await?;
        M::Answer::decode(answer).map_err(|error| {
            status(
                ErrorKind::Internal,
                format!("the answer of {} to {} cannot be read: {error}", self.address, M::PATH),
            )
        })
    }

    /// Says what is not answered. False: nothing was said, since more than `unsent_max` bytes would wait to be sent. Notes
    /// arrive in order; those that were said before the connection broke may not have arrived.
    ///
    /// Errors: as [`Frames::call`]. One that the server has about a note ends the connection. Cost: a short one that nothing
    /// waits before is written where the caller stands, who needs no runtime; no thread is woken.
    pub fn note<M: Unary>(&self, request: &M, unsent_max: usize) -> Result<bool, Status> {
        let (method, bytes) = self.measured(request)?;
        self.shared.note(method, request, bytes, unsent_max)
    }

    /// Waits until nothing can be asked here any more; why. Cancel-safe.
    pub async fn over(&self) -> Status {
        loop {
            // Made before the look: it hears of what comes after.
            let ended = self.shared.ended.notified();
            {
                let state = self.shared.state.lock();
                if let (true, Some(why)) = (state.ended, &state.over) {
                    return why.clone();
                }
            }
            ended.await;
        }
    }

    /// The number of its method and its length.
    fn measured<M: Unary>(&self, request: &M) -> Result<(u16, usize), Status> {
        let Some(method) = self.methods.get(M::PATH) else {
            let why = format!("{} does not have the method {}", self.address, M::PATH);
            return Err(status(ErrorKind::Unimplemented, why));
        };
        let bytes = request.encoded_len();
        if bytes > MAX_MESSAGE_BYTES {
            let why = format!("the request has {bytes} bytes, {MAX_MESSAGE_BYTES} can be sent at once");
            return Err(status(ErrorKind::Invalid, why));
        }
        Ok((*method, bytes))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn dial(address: &str, identity: Option<&Identity>, watch: Watch) -> Result<Option<Frames>, Error> {
    let said = identity.map(|identity| plain(&identity.user)).transpose()?;
    let named = identity.is_some_and(|identity| identity.auth == AuthType::Simple);
    let connected = TcpStream::connect(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => Error::BadAddress { address: address.to_owned(), source: source.into() },
        _ => Error::Connect { address: address.to_owned(), source: source.into() },
    });
    let broke = |_| Error::HandshakeEnded { address: address.to_owned() };
    let mut stream = connected?;
    keepalive(&stream).map_err(broke)?;
    let hello = FramesHello {
        oldest: OLDEST,
        newest: NEWEST,
        release: release(),
        plain: said.filter(|_| named).map(Bytes::from),
    };
    let mut first = BytesMut::from(PREFACE);
    put(&mut first, Kind::Hello, 0, 0, &hello.encode_to_vec());
    stream.write_all(&first).await.map_err(broke)?;
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let frame = loop {
        match take(&mut input, MAX_MESSAGE_BYTES) {
            Ok(Some(frame)) => break frame,
            Ok(None) => {}
            // Words of another protocol.
            Err(_) => return Ok(None),
        }
        if stream.read_buf(&mut input).await.map_err(broke)? == 0 {
            return if input.is_empty() {
                Err(Error::HandshakeEnded { address: address.to_owned() })
            } else {
                Ok(None)
            };
        }
    };
    let welcome = match frame.kind {
        Kind::Welcome => FramesWelcome::decode(frame.body).ok(),
        Kind::Fault => match fault(&frame) {
            older if older.code() == Code::Unimplemented => None,
            refused => {
                let user = identity.map_or_else(String::new, |identity| identity.user.clone());
                return Err(Error::Handshake { address: address.to_owned(), user, source: Box::new(refused) });
            }
        },
        _ => None,
    };
    let Some(welcome) = welcome.filter(|welcome| (OLDEST..=NEWEST).contains(&welcome.version)) else { return Ok(None) };
    let methods = welcome.methods.into_iter().zip(0..).collect();
    let (read, write) = stream.into_split();
    let state = Mutex::new(State { is_watched: watch.always, ..State::default() });
    let (free, ended) = (Semaphore::new(MAX_CALLS), Notify::new());
    let shared = Arc::new(Shared { state, write, free, watch, ended });
    let mut carrier = Carrier { shared: shared.clone(), read, input, is_quiet: true, asked: false, clock: None };
    let task = tokio::spawn(async move { poll_fn(|cx| carrier.poll(cx)).await }).abort_handle();
    Ok(Some(Frames { address: address.to_owned(), methods, shared, task }))
}

fn fault(frame: &Frame) -> Status {
    Status::new(Code::from_i32(i32::from(frame.number)), String::from_utf8_lossy(&frame.body))
}

impl Shared {
    fn send<M: Unary>(&self, method: u16, request: &M, bytes: usize) -> Result<Reply<'_>, Status> {
        let mut state = self.state.lock();
        if let Some(over) = &state.over {
            return Err(over.clone());
        }
        let is_alone = state.waiting.is_empty() && state.out.is_empty();
        let call = state.next_call();
        state.waiting.insert(call, Waiting::For(None));
        put_with(&mut state.out, Kind::Call, method, call, bytes, |out| {
            request.encode(out).expect("the buffer grows");
        });
        self.push(&mut state, is_alone);
        if !std::mem::replace(&mut state.is_watched, true) {
            state.wake_task();
        }
        Ok(Reply { shared: self, call })
    }

    fn note<M: Unary>(&self, method: u16, request: &M, bytes: usize, unsent_max: usize) -> Result<bool, Status> {
        let mut state = self.state.lock();
        if let Some(over) = &state.over {
            return Err(over.clone());
        }
        let is_first = state.out.is_empty();
        if state.out.len() + bytes > unsent_max {
            return Ok(false);
        }
        put_with(&mut state.out, Kind::Note, method, NO_CALL, bytes, |out| {
            request.encode(out).expect("the buffer grows");
        });
        self.push(&mut state, is_first && bytes <= SHORT_BYTES);
        Ok(true)
    }

    /// Writes what was put, if that is to be done here; the task does the rest.
    fn push(&self, state: &mut State, here: bool) {
        if here {
            // What fails here fails again for the task, which tells everybody.
            let _ = self.write_some(&mut state.out);
        }
        if !state.out.is_empty() {
            state.wake_task();
        }
    }

    /// Writes what the socket takes now; whether that was all.
    fn write_some(&self, out: &mut BytesMut) -> io::Result<bool> {
        while !out.is_empty() {
            match self.write.try_write(out) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => out.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        out.clear();
        Ok(true)
    }
}

impl State {
    fn next_call(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != NO_CALL && !self.waiting.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn wake_task(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// Lays an answer down for its caller, and says whom to wake. One that nobody waits for is dropped.
    fn settle(&mut self, call: u32, result: Result<Bytes, Status>) -> Option<Waker> {
        let waiting = self.waiting.get_mut(&call)?;
        match std::mem::replace(waiting, Waiting::Done(result)) {
            Waiting::For(waker) => waker,
            // Answered twice: the first one stands.
            first @ Waiting::Done(_) => {
                *waiting = first;
                None
            }
        }
    }
}

/// The answer of a call.
struct Reply<'a> {
    shared: &'a Shared,
    call: u32,
}

impl Future for Reply<'_> {
    type Output = Result<Bytes, Status>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.state.lock();
        match state.waiting.get_mut(&self.call) {
            Some(Waiting::For(Some(waker))) if waker.will_wake(cx.waker()) => Poll::Pending,
            Some(waiting @ Waiting::For(_)) => {
                *waiting = Waiting::For(Some(cx.waker().clone()));
                Poll::Pending
            }
            Some(Waiting::Done(_)) | None => match state.waiting.remove(&self.call) {
                Some(Waiting::Done(result)) => Poll::Ready(result),
                Some(Waiting::For(_)) | None => panic!("an answer is taken once"),
            },
        }
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(Waiting::For(_)) = state.waiting.remove(&self.call) {
            put(&mut state.out, Kind::Cancel, 0, self.call, &[]);
            state.wake_task();
        }
    }
}

/// The task that sends and receives.
struct Carrier {
    shared: Arc<Shared>,
    read: OwnedReadHalf,
    input: BytesMut,
    /// Nothing was heard since the clock was looked at.
    is_quiet: bool,
    /// The server was asked whether it is there.
    asked: bool,
    /// None: nobody waits for the server.
    clock: Option<Pin<Box<Sleep>>>,
}

impl Carrier {
    /// Goes on until all that can be done now is done. Ready: the connection is over, and everybody was told.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Err(why) = self.carry(cx) else { return Poll::Pending };
        let mut wakers = Vec::new();
        let mut state = self.shared.state.lock();
        state.over.get_or_insert_with(|| why.clone());
        state.ended = true;
        let calls: Vec<u32> = state.waiting.keys().copied().collect();
        wakers.extend(calls.into_iter().filter_map(|call| state.settle(call, Err(why.clone()))));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.shared.ended.notify_waiters();
        Poll::Ready(())
    }

    /// Error: why the connection is over.
    fn carry(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        loop {
            self.send(cx).map_err(|error| self.broke(&error))?;
            self.input.reserve(READ_BYTES);
            match pin!(self.read.read_buf(&mut self.input)).poll(cx) {
                // Only now: a server whose words have come was not silent, however late we read them.
                Poll::Pending => return self.look_at_the_clock(cx),
                Poll::Ready(Ok(0)) => return Err(self.broke(&io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Err(error)) => return Err(self.broke(&error)),
                Poll::Ready(Ok(_)) => self.hear()?,
            }
            self.leave()?;
        }
    }

    /// Error: the server takes no more calls here, and those under way are answered. It is told that it may go.
    fn leave(&self) -> Result<(), Status> {
        let state = self.shared.state.lock();
        match &state.over {
            Some(over) if state.waiting.is_empty() => {
                // Whether it arrives or not, this end is over.
                let _ = SockRef::from(self.shared.write.as_ref()).shutdown(Shutdown::Write);
                Err(over.clone())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn broke(&self, error: &io::Error) -> Status {
        status(ErrorKind::Unavailable, format!("the connection to {} broke: {error}", self.peer()))
    }

    fn peer(&self) -> String {
        self.read.peer_addr().map_or_else(|_| "the server".to_owned(), |address| address.to_string())
    }

    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        if !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        while !self.shared.write_some(&mut state.out)? {
            // Asked after the socket took no more: it wakes us when it does again.
            if self.shared.write.as_ref().poll_write_ready(cx)?.is_pending() {
                break;
            }
        }
        Ok(())
    }

    /// Takes what has come and wakes whom it is for.
    fn hear(&mut self) -> Result<(), Status> {
        self.is_quiet = false;
        let mut wakers = Vec::new();
        let mut heard = Ok(());
        {
            let mut state = self.shared.state.lock();
            loop {
                let result = match take(&mut self.input, MAX_MESSAGE_BYTES) {
                    Ok(None) => break,
                    Ok(Some(frame)) => heed(&mut state, frame),
                    Err(broken) => Err(broken),
                };
                match result {
                    Ok(waker) => wakers.extend(waker),
                    Err(broken) => {
                        heard = Err(broken);
                        break;
                    }
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        heard.map_err(|broken| {
            status(ErrorKind::Unavailable, format!("the answers of {} cannot be read on: {broken}", self.peer()))
        })
    }

    /// Error: the server is silent.
    fn look_at_the_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        let mut state = self.shared.state.lock();
        if !state.is_watched {
            return Ok(());
        }
        let watch = &self.shared.watch;
        let matters = watch.always || !state.waiting.is_empty();
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep(watch.ask_after)));
        while clock.as_mut().poll(cx).is_ready() {
            if state.out.is_empty() {
                // What a burst needed is not kept for ever.
                state.out = BytesMut::new();
            }
            let is_quiet = std::mem::replace(&mut self.is_quiet, true);
            if is_quiet && self.asked && matters {
                drop(state);
                return Err(status(ErrorKind::Unavailable, format!("{} is silent", self.peer())));
            }
            self.asked = is_quiet && matters;
            if !matters {
                state.is_watched = false;
                self.clock = None;
                return Ok(());
            }
            if self.asked {
                put(&mut state.out, Kind::Ping, 0, 0, &[]);
                cx.waker().wake_by_ref();
            }
            clock.as_mut().reset(Instant::now() + if self.asked { watch.silence } else { watch.ask_after });
        }
        Ok(())
    }
}

fn heed(state: &mut State, frame: Frame) -> Result<Option<Waker>, Broken> {
    Ok(match frame.kind {
        Kind::Answer => state.settle(frame.call, Ok(frame.body)),
        Kind::Fault if frame.call == NO_CALL => {
            state.over.get_or_insert_with(|| fault(&frame));
            None
        }
        Kind::Fault => state.settle(frame.call, Err(fault(&frame))),
        Kind::Leave => {
            let why = String::from_utf8_lossy(&frame.body);
            state.over.get_or_insert_with(|| status(ErrorKind::Unavailable, why));
            None
        }
        Kind::Pong => None,
        Kind::Ping => {
            put(&mut state.out, Kind::Pong, 0, 0, &[]);
            state.wake_task();
            None
        }
        Kind::Hello | Kind::Welcome | Kind::Call | Kind::Cancel | Kind::Note => return Err(Broken::Place(frame.kind)),
    })
}
