//! The server's end of a connection of frames.

use super::wire::{Broken, Frame, Kind, NO_CALL, put, take};
use super::{MAX_CALLS, NEWEST, OLDEST};
use crate::identify::{Access, Identify};
use crate::sasl::{Impersonation, user_of};
use crate::server::{Core, MAX_ANSWER_BYTES, Pace, say_and_close};
use crate::status::status;
use bytes::{Bytes, BytesMut};
use futures::future::{AbortHandle, Abortable, BoxFuture, FutureExt, ready};
use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use proto::internal::{FramesHello, FramesWelcome};
use proto::{Calls, Unary};
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Request, Response, Status};
use types::{ErrorKind, Monotonic, Patience, Principal, Proof};

/// Longest first frame: a name and two numbers.
const MAX_HELLO_BYTES: usize = 16 << 10;
/// Answers that wait for a client to read them; while there are more, no call is begun and none goes on.
const UNSENT_BYTES: usize = 1 << 20;
/// Room for one read: small while little comes, so that a quiet connection costs little.
const READ_BYTES: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;
/// Calls begun before others of the thread have their turn.
const TURN: usize = 128;

type Handled = BoxFuture<'static, Result<Vec<u8>, Status>>;
type Handler = Box<dyn Fn(Bytes, Option<Arc<Principal>>) -> Handled + Send + Sync>;

/// What a port serves by frames, and to whom. One per server, shared by its threads; methods come in by [`Calls`].
pub struct FrameService {
    /// None: the methods see to it by themselves who calls.
    gate: Option<Gate>,
    paths: Vec<String>,
    methods: Vec<(Access, Handler)>,
}

/// Who may call.
struct Gate {
    identify: Identify,
    impersonation: Impersonation,
}

impl FrameService {
    /// `identify` is that of the same port.
    pub fn new(identify: Identify, impersonation: Impersonation) -> FrameService {
        FrameService { gate: Some(Gate { identify, impersonation }), ..FrameService::without_identity() }
    }

    /// For a port whose methods see to it by themselves who calls: no request has a principal.
    pub fn without_identity() -> FrameService {
        FrameService { gate: None, paths: Vec::new(), methods: Vec::new() }
    }

    /// Asks the method of this path as a connection does that has proven to be `who`: for a cluster without a network.
    ///
    /// Errors: the method's; UNIMPLEMENTED, INVALID_ARGUMENT and RESOURCE_EXHAUSTED as a client hears them. Cost: a look at
    /// every path.
    pub fn ask(
        &self,
        method: &str,
        request: Bytes,
        who: Option<Arc<Principal>>,
    ) -> BoxFuture<'static, Result<Vec<u8>, Status>> {
        match self.paths.iter().position(|path| path == method) {
            Some(number) => (self.methods[number].1)(request, who),
            None => ready(Err(status(ErrorKind::Unimplemented, format!("there is no method {method}")))).boxed(),
        }
    }
}

impl fmt::Debug for FrameService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FrameService").field("methods", &self.paths).finish_non_exhaustive()
    }
}

impl Calls for FrameService {
    /// Panics if the method is there already: that is a mistake in the program.
    fn with<M, F>(mut self, method: impl Fn(Request<M>) -> F + Send + Sync + 'static) -> FrameService
    where
        M: Unary,
        F: Future<Output = Result<Response<M::Answer>, Status>> + Send + 'static,
    {
        assert!(!self.paths.iter().any(|path| path == M::PATH), "method {} is served twice", M::PATH);
        let handler = move |body: Bytes, who: Option<Arc<Principal>>| -> Handled {
            let message = match M::decode(body) {
                Ok(message) => message,
                Err(error) => return ready(Err(unreadable(M::PATH, &error))).boxed(),
            };
            let mut request = Request::new(message);
            if let Some(who) = who {
                request.extensions_mut().insert(who);
            }
            let answer = method(request);
            Box::pin(async move { encode(&answer.await?.into_inner()) })
        };
        self.paths.push(M::PATH.to_owned());
        self.methods.push((Access::of(M::PATH), Box::new(handler)));
        self
    }
}

fn unreadable(path: &str, error: &prost::DecodeError) -> Status {
    status(ErrorKind::Invalid, format!("the request of {path} cannot be read: {error}"))
}

fn encode(answer: &impl Message) -> Result<Vec<u8>, Status> {
    let bytes = answer.encoded_len();
    if bytes > MAX_ANSWER_BYTES {
        let why = format!("the answer has {bytes} bytes, {MAX_ANSWER_BYTES} can be sent at once; ask for less");
        return Err(status(ErrorKind::Full, why));
    }
    Ok(answer.encode_to_vec())
}

/// Serves until the client leaves or the drain lets it go.
///
/// - `said`: what was read behind the preface.
pub(crate) async fn serve(mut stream: TcpStream, said: &[u8], service: Arc<FrameService>, core: &Core) {
    let mut input = BytesMut::from(said);
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(core.config.opening_timeout, greet(&mut stream, &mut input, &service)) => greeted,
        _ = core.stopping.begun() => return,
    };
    let Ok(Ok(Some(caller))) = greeted else { return };
    let peer = stream.peer_addr().ok();
    let mut serving = Serving {
        stream,
        service,
        caller,
        principal: None,
        input,
        out: BytesMut::new(),
        read_bytes: *READ_BYTES.start(),
        limit: core.config.max_message_bytes,
        under_way: FuturesUnordered::new(),
        handles: HashMap::new(),
        leaves: false,
        backlog: Backlog::new(core.pace.clone()),
    };
    let mut stopping = pin!(core.stopping.begun());
    match poll_fn(|cx| serving.poll(cx, stopping.as_mut())).await {
        Ok(()) => say_and_close(serving.stream, &serving.out).await,
        Err(error) => tracing::debug!(?peer, %error, "connection ended"),
    }
}

/// Who is at the other end, if it said.
struct Caller(Option<String>);

/// Hears the client's first frame and answers it. None: the client left, or was refused.
async fn greet(stream: &mut TcpStream, input: &mut BytesMut, service: &FrameService) -> io::Result<Option<Caller>> {
    let first = loop {
        match take(input, MAX_HELLO_BYTES) {
            Ok(Some(frame)) => break Ok(frame),
            Ok(None) => {}
            Err(broken) => break Err(broken),
        }
        if stream.read_buf(input).await? == 0 {
            return Ok(None);
        }
    };
    let mut out = BytesMut::new();
    let admitted = match first {
        Ok(frame) => admit(frame, service).await,
        Err(broken) => Err(status(ErrorKind::Invalid, broken.to_string())),
    };
    match &admitted {
        Ok(_) => {
            let welcome =
                FramesWelcome { version: NEWEST, release: release(), methods: service.paths.clone() }.encode_to_vec();
            put(&mut out, Kind::Welcome, 0, 0, &welcome);
        }
        Err(refused) => put_fault(&mut out, NO_CALL, refused),
    }
    stream.write_all(&out).await?;
    Ok(admitted.ok())
}

pub(super) fn release() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

async fn admit(frame: Frame, service: &FrameService) -> Result<Caller, Status> {
    if frame.kind != Kind::Hello {
        return Err(status(ErrorKind::Invalid, Broken::Place(frame.kind).to_string()));
    }
    let hello = FramesHello::decode(frame.body)
        .map_err(|error| status(ErrorKind::Invalid, format!("the first frame cannot be read: {error}")))?;
    if hello.oldest > NEWEST || hello.newest < OLDEST {
        let why = format!(
            "this server ({}) speaks versions {OLDEST} to {NEWEST} of the protocol of frames, the client ({}) {} to {}",
            release(),
            hello.release,
            hello.oldest,
            hello.newest
        );
        return Err(status(ErrorKind::Unimplemented, why));
    }
    let (Some(gate), Some(plain)) = (&service.gate, hello.plain) else { return Ok(Caller(None)) };
    let groups = gate.identify.groups();
    let user = user_of(&plain, &gate.impersonation, groups).await?;
    // So that the first call need not wait for it.
    groups.of(&user).await;
    Ok(Caller(Some(user)))
}

fn put_fault(out: &mut BytesMut, call: u32, why: &Status) {
    let code = u16::try_from(i32::from(why.code())).expect("status codes are small");
    put(out, Kind::Fault, code, call, why.message().as_bytes());
}

/// A call that did not end at once.
struct UnderWay {
    call: u32,
    handled: Handled,
}

impl Future for UnderWay {
    type Output = (u32, Result<Vec<u8>, Status>);
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.handled.poll_unpin(cx));
        Poll::Ready((self.call, result))
    }
}

/// An open connection.
///
/// Invariant: `handles` has exactly the calls of `under_way` that were not cancelled, and no notes.
struct Serving {
    stream: TcpStream,
    service: Arc<FrameService>,
    caller: Caller,
    /// The caller with the groups it had at the last call.
    principal: Option<Arc<Principal>>,
    input: BytesMut,
    out: BytesMut,
    /// Room made for the next read.
    read_bytes: usize,
    /// Longest body of a frame.
    limit: usize,
    under_way: FuturesUnordered<Abortable<UnderWay>>,
    handles: HashMap<u32, AbortHandle>,
    /// No more calls are taken.
    leaves: bool,
    backlog: Backlog,
}

/// What was read of a connection and not begun yet, by its age.
struct Backlog {
    pace: Pace,
    /// With how long it takes to begin what came at once.
    patience: Patience,
    is_over: bool,
    /// When that came which is being begun; None: all was begun, or waits for its client.
    came: Option<Monotonic>,
}

impl Backlog {
    fn new(pace: Pace) -> Backlog {
        Backlog { patience: pace.patience(), pace, is_over: false, came: None }
    }

    /// More has come, and all before it was begun.
    fn grew(&mut self) {
        let now = self.pace.now();
        self.is_over = self.came.is_some_and(|came| self.patience.is_over(now, now - came));
        self.came = Some(now);
    }

    /// Nothing waits here but for its client.
    fn rests(&mut self) {
        if self.came.take().is_some() {
            (self.patience, self.is_over) = (self.pace.patience(), false);
        }
    }

    fn admits(&self) -> bool {
        self.pace.admits() && !(self.is_over && self.came.is_some_and(|came| !self.pace.has_time_since(came)))
    }
}

impl Serving {
    /// Goes on until all that can be done now is done. Ready: the connection is over, and what is in `out` the last said.
    fn poll(&mut self, cx: &mut Context<'_>, mut stopping: Pin<&mut impl Future>) -> Poll<io::Result<()>> {
        if !self.leaves && stopping.as_mut().poll(cx).is_ready() {
            self.leaves = true;
            put(&mut self.out, Kind::Leave, 0, 0, b"this server stops; connect to another, or again in a moment");
        }
        loop {
            self.answer(cx);
            let Ok(begun) = self.begin(cx) else { return Poll::Ready(Ok(())) };
            let sent = self.send(cx)?;
            if self.leaves && self.under_way.is_empty() && sent {
                return Poll::Ready(Ok(()));
            }
            if begun == TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Then what it waits for wakes it: a client that reads, or an end of a call.
            if self.is_full() {
                self.backlog.rests();
                return Poll::Pending;
            }
            if ready!(self.receive(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn is_full(&self) -> bool {
        self.out.len() >= UNSENT_BYTES || self.under_way.len() >= MAX_CALLS
    }

    /// Takes what calls under way have come to.
    fn answer(&mut self, cx: &mut Context<'_>) {
        while self.out.len() < UNSENT_BYTES {
            match self.under_way.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok((call, result)))) => {
                    self.handles.remove(&call);
                    self.put_result(call, result);
                }
                // It was cancelled, and is in no list any more.
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// Takes frames that have come, [`TURN`] at most; how many. Error: the stream cannot be read on, and the client is told.
    fn begin(&mut self, cx: &mut Context<'_>) -> Result<usize, Broken> {
        for begun in 0..TURN {
            if self.is_full() {
                return Ok(begun);
            }
            let taken = match take(&mut self.input, self.limit) {
                Ok(None) => return Ok(begun),
                Ok(Some(frame)) => self.heed(frame, cx),
                Err(broken) => Err(broken),
            };
            if let Err(broken) = taken {
                tracing::debug!(peer = ?self.stream.peer_addr().ok(), %broken, "frames that cannot be read");
                put(&mut self.out, Kind::Leave, 0, 0, broken.to_string().as_bytes());
                return Err(broken);
            }
        }
        Ok(TURN)
    }

    fn heed(&mut self, frame: Frame, cx: &mut Context<'_>) -> Result<(), Broken> {
        match frame.kind {
            Kind::Call if frame.call == NO_CALL || self.handles.contains_key(&frame.call) => {
                return Err(Broken::Place(Kind::Call));
            }
            Kind::Call | Kind::Note => self.call(frame, cx),
            Kind::Cancel => {
                if let Some(handle) = self.handles.remove(&frame.call) {
                    handle.abort();
                }
            }
            Kind::Ping => put(&mut self.out, Kind::Pong, 0, 0, &[]),
            Kind::Pong => {}
            Kind::Hello | Kind::Welcome | Kind::Answer | Kind::Fault | Kind::Leave => {
                return Err(Broken::Place(frame.kind));
            }
        }
        Ok(())
    }

    /// Begins a call, or a note; one that need not wait is answered at once.
    fn call(&mut self, frame: Frame, cx: &mut Context<'_>) {
        let call = if frame.kind == Kind::Note { NO_CALL } else { frame.call };
        // A note that is refused would end the connection, and its sender would have to say all again.
        if frame.kind == Kind::Call && !self.backlog.admits() {
            return put_fault(&mut self.out, call, &self.backlog.pace.refusal());
        }
        let mut handled = match self.begun(frame.number, frame.body) {
            Ok(handled) => handled,
            Err(refused) => return put_fault(&mut self.out, call, &refused),
        };
        match handled.poll_unpin(cx) {
            Poll::Ready(result) => self.put_result(call, result),
            Poll::Pending => {
                let (handle, registration) = AbortHandle::new_pair();
                if call != NO_CALL {
                    self.handles.insert(call, handle);
                }
                self.under_way.push(Abortable::new(UnderWay { call, handled }, registration));
            }
        }
    }

    fn begun(&mut self, method: u16, body: Bytes) -> Result<Handled, Status> {
        let service = &self.service;
        if self.leaves {
            return Err(status(ErrorKind::Unavailable, "this server stops; ask another, or again in a moment"));
        }
        let Some((access, handler)) = service.methods.get(usize::from(method)) else {
            return Err(status(ErrorKind::Unimplemented, format!("method {method} is none of those in the welcome")));
        };
        let identify = match &service.gate {
            Some(gate) if *access != Access::Anybody => &gate.identify,
            Some(_) | None => return Ok(handler(body, None)),
        };
        let (user, proof) = match (&self.caller.0, identify.assumed(*access)) {
            (Some(user), _) => (user.as_str(), Proof::Claimed),
            (None, Some(user)) => (user, Proof::Assumed),
            (None, None) => {
                let why = "this call needs a user; set goosefs.security.authentication.type=SIMPLE on the client";
                return Err(status(ErrorKind::Unauthenticated, why));
            }
        };
        let Some(groups) = identify.groups().cached(user) else {
            let (known, service) = (identify.groups().clone(), service.clone());
            let (user, method) = (user.to_owned(), usize::from(method));
            return Ok(Box::pin(async move {
                let groups = known.of(&user).await.to_vec();
                let (_, handler) = &service.methods[method];
                handler(body, Some(Arc::new(Principal { user, groups, proof }))).await
            }));
        };
        let same = |known: &&Arc<Principal>| known.groups[..] == groups[..];
        let principal = match self.principal.as_ref().filter(same) {
            Some(known) => known.clone(),
            None => {
                let now = Arc::new(Principal { user: user.to_owned(), groups: groups.to_vec(), proof });
                self.principal.insert(now).clone()
            }
        };
        Ok(handler(body, Some(principal)))
    }

    /// Sends what there is to send, as much as the client takes; whether that is all.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while !self.out.is_empty() {
            match pin!(self.stream.write_buf(&mut self.out)).poll(cx) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => return Ok(false),
            };
        }
        Ok(true)
    }

    /// Reads what has come; how many bytes. A quiet connection keeps no buffer.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.read_bytes);
        let room = self.input.capacity() - self.input.len();
        match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Ready(read) => {
                let read = read?;
                self.backlog.grew();
                if read == room {
                    self.read_bytes = (self.read_bytes * 2).min(*READ_BYTES.end());
                } else if read < self.read_bytes / 4 {
                    self.read_bytes = (self.read_bytes / 2).max(*READ_BYTES.start());
                }
                Poll::Ready(Ok(read))
            }
            Poll::Pending => {
                self.backlog.rests();
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                if self.out.is_empty() {
                    self.out = BytesMut::new();
                }
                Poll::Pending
            }
        }
    }

    fn put_result(&mut self, call: u32, result: Result<Vec<u8>, Status>) {
        match result {
            Ok(_) if call == NO_CALL => {}
            Ok(answer) => put(&mut self.out, Kind::Answer, 0, call, &answer),
            Err(why) => put_fault(&mut self.out, call, &why),
        }
    }
}
