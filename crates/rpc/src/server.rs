//! Listens, and serves HTTP/2 on one current-thread runtime per core.
//!
//! Is:     N threads, each with a runtime of its own; a connection stays on the thread it was handed to, so nothing it
//!         does wakes another core. One that says that it carries much gets a thread for itself where the port allows it.
//! Owns:   the listening socket, the connections and their bounds, the drain at the end.
//! Never:  closes a connection because it is idle: a client would lose its handshake.

mod apart;
mod connection;
mod core;
mod opening;
mod pace;

use crate::clock::SystemClock;
use crate::error::Error;
use crate::frames::FrameService;
use http::{Request, Response};
use hyper::body::Incoming;
pub(crate) use opening::{APART, say_and_close};
pub(crate) use pace::Pace;
pub use pace::{Overload, Paced};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tower::Service;

/// Largest message a server takes. Official clients send 1 MiB chunks by default, which their users may raise.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Largest message a server sends: official clients refuse 4 MiB and more, headers included.
pub const MAX_ANSWER_BYTES: usize = (4 << 20) - 1024;
/// How long a thread that ends waits for work that waits for a disk.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// Connections the kernel holds for us before the accept loop takes them.
const BACKLOG: i32 = 1024;
/// Accepted connections on their way to a thread.
const HAND_OFF: usize = 64;
/// A peer that vanished without a word is noticed after about this plus nine probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How a server serves. The defaults are those of a role in production.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// What this port is, for clients of another protocol: "GooseFS master RPC".
    pub name: String,
    /// Where such a client may have wanted to go: "The web pages are on port 9201." May be empty.
    pub hint: String,
    /// Threads, each with a runtime; at least 1.
    pub threads: usize,
    /// Threads per runtime for work that waits on disks or on the system's user database.
    pub blocking_threads: usize,
    /// Connections at once. One more is told so and closed.
    pub max_connections: usize,
    /// Calls at once on one connection, the open handshake among them.
    pub max_streams: u32,
    /// Bytes of headers of one request.
    pub max_header_bytes: u32,
    /// Bytes of one message from a client.
    pub max_message_bytes: usize,
    /// Bytes a client may send on one stream before we read them.
    pub stream_window_bytes: u32,
    /// Bytes a client may send on one connection before we read them: the memory a connection can cost.
    pub connection_window_bytes: u32,
    /// Largest frame a client may send.
    pub max_frame_bytes: u32,
    /// Bytes we hold for a client that does not read, per stream, above the message at hand.
    pub send_buffer_bytes: usize,
    /// How long a new connection may take until it has said what it speaks.
    pub opening_timeout: Duration,
    /// Connections at once that may have a thread of their own, by [`crate::connect_apart`]; one more is served among the
    /// others. 0: this port does not know of that.
    pub apart: usize,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            name: "GooseFS RPC".to_owned(),
            hint: String::new(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            blocking_threads: 32,
            max_connections: 10_000,
            max_streams: 1024,
            max_header_bytes: 16 << 10,
            max_message_bytes: MAX_MESSAGE_BYTES,
            stream_window_bytes: 8 << 20,
            connection_window_bytes: 16 << 20,
            max_frame_bytes: 1 << 20,
            send_buffer_bytes: 2 << 20,
            opening_timeout: Duration::from_secs(30),
            apart: 0,
        }
    }
}

/// A bound port that does not serve yet: clients that connect wait in the backlog.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    frames: Option<Arc<FrameService>>,
    overload: Overload,
    stop: watch::Sender<Option<Instant>>,
}

/// What a thread of the server is told when it makes its services.
#[derive(Clone, Debug)]
pub struct Core {
    /// 0 to `threads − 1`.
    pub index: usize,
    /// How the server serves; its message limit is for the services to set.
    pub config: Arc<ServerConfig>,
    /// For calls that wait.
    pub stopping: Stopping,
    /// What is served by frames.
    pub(crate) frames: Option<Arc<FrameService>>,
    /// Whether this thread keeps up.
    pub(crate) pace: Pace,
}

/// Tells long calls (handshakes, held answers) that the server drains.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<Option<Instant>>);

impl Stopping {
    /// Resolves when the drain has begun; the value is its deadline. Cancel-safe.
    pub async fn begun(&self) -> Instant {
        let mut begun = self.0.clone();
        // A sender that is gone without a word is a server that was dropped.
        match begun.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_else(Instant::now),
            Err(_) => Instant::now(),
        }
    }

    /// Whether the drain has begun.
    pub fn is_begun(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// Counts shared by the threads.
#[derive(Debug)]
struct Counts {
    /// Open connections by thread.
    by_core: Vec<AtomicUsize>,
    /// Connections cut by a drain that ran out of time.
    cut: AtomicUsize,
}

impl Counts {
    fn open(&self) -> usize {
        self.by_core.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Server {
    /// Binds `address`, a `host:port`; port 0 takes a free one.
    ///
    /// Errors: one sentence each for an address that is none, a port in use, no permission, an address of another host.
    /// Blocks for a name look-up when `host` is a name.
    pub fn bind(address: &str, config: ServerConfig) -> Result<Server, Error> {
        let bad = |source| Error::BadListenAddress { address: address.to_owned(), source };
        let mut candidates = address.to_socket_addrs().map_err(bad)?;
        let wanted = candidates.next().ok_or_else(|| bad(io::Error::from(io::ErrorKind::NotFound)))?;
        let listener = listen(wanted).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse { address: wanted },
            io::ErrorKind::PermissionDenied => Error::NoPermission { address: wanted },
            io::ErrorKind::AddrNotAvailable => Error::NotOurAddress { address: wanted },
            _ => Error::Listen { address: wanted, source },
        })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { address: wanted, source })?;
        let (stop, _) = watch::channel(None);
        Ok(Server { listener, address, config: Arc::new(config), frames: None, overload: Overload::default(), stop })
    }

    /// Serves these methods by frames, too.
    pub fn with_frames(mut self, frames: FrameService) -> Server {
        self.frames = Some(Arc::new(frames));
        self
    }

    /// Refuses calls while more are asked than can be done; of gRPC those that go through [`Core::paced`].
    pub fn with_overload(mut self, overload: Overload) -> Server {
        self.overload = overload;
        self
    }

    /// The bound address, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// For services made outside the factory.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }

    /// Starts the threads. `factory` runs once on each, inside its runtime, and gives the service of all its
    /// connections, which must always be ready.
    ///
    /// Errors: a thread or runtime cannot be made.
    pub fn serve<S, B>(self, factory: impl Fn(&Core) -> S + Send + Sync + 'static) -> Result<Running, Error>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let threads = self.config.threads.max(1);
        let counts =
            Arc::new(Counts { by_core: (0..threads).map(|_| AtomicUsize::new(0)).collect(), cut: AtomicUsize::new(0) });
        let factory = Arc::new(factory);
        let (alive, ended) = mpsc::channel(1);
        let apart = apart::Threads::new(&self.config, alive.clone());
        let (inboxes, mut waiting): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel(HAND_OFF)).unzip();
        let mut listener = Some((self.listener, inboxes));
        for (index, inbox) in waiting.drain(..).enumerate() {
            let (config, frames) = (self.config.clone(), self.frames.clone());
            let pace = Pace::new(&self.overload, Arc::new(SystemClock));
            let core = Core { index, config, stopping: Stopping(self.stop.subscribe()), frames, pace };
            let (factory, counts, alive, accepting) = (factory.clone(), counts.clone(), alive.clone(), listener.take());
            let apart = apart.clone();
            let name = format!("rpc-{index}");
            let failed = |source| Error::StartThread { name: name.clone(), source };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(self.config.blocking_threads.max(1))
                .thread_name(format!("rpc-{index}-io"))
                .build()
                .map_err(failed)?;
            std::thread::Builder::new()
                .name(name.clone())
                .spawn(move || {
                    runtime.block_on(core::run(core, inbox, accepting, &*factory, counts, apart));
                    // The deadline of the drain has passed: work that waits for a disk is not waited for much longer.
                    runtime.shutdown_timeout(ENDS_WITHIN);
                    // Who waits for this thread may rely on its services being gone.
                    drop(factory);
                    drop(alive);
                })
                .map_err(failed)?;
        }
        Ok(Running { address: self.address, stop: self.stop, ended, counts })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart within a minute finds its own old connections in the way. Two servers still cannot share
    // the port, which SO_REUSEPORT would allow unnoticed.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit both.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A server that serves. Dropping it cuts everything at once; [`Running::stop`] drains.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<Option<Instant>>,
    ended: mpsc::Receiver<Infallible>,
    counts: Arc<Counts>,
}

impl Running {
    /// The bound address, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.counts.open()
    }

    /// Stops accepting, tells clients to go elsewhere, lets calls under way end until `drain` has passed, then cuts the
    /// rest. Returns how many connections were cut. Resolves when all threads have ended and the port is free.
    pub async fn stop(mut self, drain: Duration) -> usize {
        self.stop.send_replace(Some(Instant::now() + drain));
        while self.ended.recv().await.is_some() {}
        self.counts.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` the deadline stands; without it, now.
        self.stop.send_if_modified(|deadline| {
            let first = deadline.is_none();
            deadline.get_or_insert_with(Instant::now);
            first
        });
    }
}
