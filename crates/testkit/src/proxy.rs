//! A proxy in front of any server that makes it slow, narrow, failing or lying, on command.
//!
//! Is:     one address that stands for another, with a latency, a bandwidth and faults that a handle switches while
//!         connections are open. Requests and body bytes are counted.
//! Owns:   its port and the connections through it.
//! Never:  changes a byte unless a fault says so; buffers a body.
//!
//! In front of HTTP/1 it knows where each request and body begins. In front of anything else (gRPC, say) a connection
//! is one request, and what travels is its body.

mod fault;
mod frame;
mod http1;
mod limit;
mod tcp;

pub use fault::{Fault, Rule, RuleId, Side};

use crate::background::Background;
use crate::{eventually, try_eventually};
use fault::{Faults, Rules};
use limit::Limit;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the port may take to close, and to be had again.
const REBIND_TIME: Duration = Duration::from_secs(5);
/// Wait before accepting is tried again when it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How long a client may go on sending after it was answered.
const LINGER: Duration = Duration::from_secs(1);

/// What the proxy understands of what it forwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Http1,
    Tcp,
}

/// What went through since the start or the last [`FaultProxy::reset_stats`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    pub connections: u64,
    /// By method; `TCP` where there are none.
    pub requests: BTreeMap<String, u64>,
    /// Bytes of bodies sent to the server.
    pub up_bytes: u64,
    /// Bytes of bodies sent to clients.
    pub down_bytes: u64,
    /// Faults that were carried out.
    pub faults: u64,
    /// Requests that were kept whole to be late, and those of them that the server has answered by now.
    pub kept: u64,
    pub late: u64,
}

impl Stats {
    pub fn total_requests(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Requests with this method.
    pub fn of(&self, method: &str) -> u64 {
        self.requests.get(method).copied().unwrap_or(0)
    }
}

/// A running proxy. Dropping it closes its port and all connections.
pub struct FaultProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    background: Background,
}

/// What all connections share.
struct Shared {
    upstream: SocketAddr,
    protocol: Protocol,
    latency_us: AtomicU64,
    limit: Limit,
    rules: Mutex<Rules>,
    counters: Counters,
    /// Raised to cut every connection that is open.
    cut: watch::Sender<u64>,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    requests: Mutex<BTreeMap<String, u64>>,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    faults: AtomicU64,
    kept: AtomicU64,
    late: AtomicU64,
}

impl FaultProxy {
    /// A proxy on a free loopback port, in front of the server at `upstream`, which may come and go.
    pub fn start(upstream: SocketAddr, protocol: Protocol) -> io::Result<FaultProxy> {
        let port = crate::ports::free_port()?;
        FaultProxy::start_at((Ipv4Addr::LOCALHOST, port).into(), upstream, protocol)
    }

    /// [`FaultProxy::start`] at a given address.
    pub fn start_at(addr: SocketAddr, upstream: SocketAddr, protocol: Protocol) -> io::Result<FaultProxy> {
        let background = Background::start("proxy")?;
        let listener = background.listen(addr)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            protocol,
            latency_us: AtomicU64::new(0),
            limit: Limit::new(),
            rules: Mutex::default(),
            counters: Counters::default(),
            cut: watch::channel(0).0,
        });
        let proxy = FaultProxy { addr, shared, acceptor: Mutex::new(None), background };
        proxy.accept_on(listener);
        Ok(proxy)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://host:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Each request reaches the server this much later. (In front of TCP: the first byte of each connection.)
    pub fn set_latency(&self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.shared.latency_us.store(latency_us, Ordering::Relaxed);
    }

    /// All connections together carry at most this many bytes a second, both ways added up, heads included; None
    /// lifts the limit.
    pub fn set_bandwidth(&self, bytes_per_s: Option<u64>) {
        self.shared.limit.set(bytes_per_s);
    }

    /// Adds a rule. Every request is held against all rules, oldest first, and takes the faults of all that match.
    pub fn inject(&self, rule: Rule) -> RuleId {
        self.shared.rules.lock().add(rule)
    }

    /// Takes one rule away. What it began (a request that hangs) goes on.
    pub fn remove(&self, rule: RuleId) {
        self.shared.rules.lock().remove(rule);
    }

    /// Takes all rules away; requests that hang are cut.
    pub fn clear(&self) {
        self.shared.rules.lock().clear();
    }

    /// How often the fault of this rule was carried out; 0 if it is gone.
    pub fn hits(&self, rule: RuleId) -> u64 {
        self.shared.rules.lock().hits(rule)
    }

    /// Resets every open connection.
    pub fn cut_all(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// From now on connecting is refused by the kernel, as if nobody listened. Open connections live on: see
    /// [`FaultProxy::cut_all`].
    pub fn refuse(&self) {
        if let Some(acceptor) = self.acceptor.lock().take() {
            acceptor.abort();
            // The port is closed when the task is gone, not when it was told to go.
            eventually(REBIND_TIME, || acceptor.is_finished());
        }
    }

    /// Listens again at the same address.
    ///
    /// - Errors: something else has taken the port meanwhile.
    pub fn accept(&self) -> io::Result<()> {
        if self.acceptor.lock().is_some() {
            return Ok(());
        }
        let listener = try_eventually(REBIND_TIME, || self.background.listen(self.addr));
        self.accept_on(listener.map_err(|error| io::Error::new(io::ErrorKind::AddrInUse, error))?);
        Ok(())
    }

    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            connections: counters.connections.load(Ordering::Relaxed),
            requests: counters.requests.lock().clone(),
            up_bytes: counters.up_bytes.load(Ordering::Relaxed),
            down_bytes: counters.down_bytes.load(Ordering::Relaxed),
            faults: counters.faults.load(Ordering::Relaxed),
            kept: counters.kept.load(Ordering::Relaxed),
            late: counters.late.load(Ordering::Relaxed),
        }
    }

    /// Counts from zero again, and returns what was counted.
    pub fn reset_stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            connections: counters.connections.swap(0, Ordering::Relaxed),
            requests: std::mem::take(&mut *counters.requests.lock()),
            up_bytes: counters.up_bytes.swap(0, Ordering::Relaxed),
            down_bytes: counters.down_bytes.swap(0, Ordering::Relaxed),
            faults: counters.faults.swap(0, Ordering::Relaxed),
            kept: counters.kept.swap(0, Ordering::Relaxed),
            late: counters.late.swap(0, Ordering::Relaxed),
        }
    }

    fn accept_on(&self, listener: TcpListener) {
        let acceptor = self.background.spawn(serve(listener, self.shared.clone()));
        *self.acceptor.lock() = Some(acceptor);
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors: the connection waits in the backlog.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(connection(client, shared.clone()));
    }
}

/// How a connection ends.
#[derive(PartialEq, Eq, Debug)]
enum End {
    /// Both sides said what they had to say.
    Clean,
    /// The client was answered while it was still sending: it must get to read that.
    Early,
    /// In the middle of something: the client sees a reset, not an end.
    Reset,
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    drop(client.set_nodelay(true));
    let mut cut = shared.cut.subscribe();
    let work = async {
        match shared.protocol {
            Protocol::Http1 => http1::serve(&mut client, &shared).await,
            Protocol::Tcp => tcp::serve(&mut client, &shared).await,
        }
    };
    let end = tokio::select! {
        biased;
        _ = cut.changed() => End::Reset,
        end = work => end.unwrap_or(End::Reset),
    };
    match end {
        End::Clean => {}
        End::Early => drop(tokio::time::timeout(LINGER, linger(&mut client)).await),
        // With no time to linger, closing sends a reset and drops what was not sent.
        End::Reset => drop(client.set_zero_linger()),
    }
}

/// Ends our side and reads to the end of the other: closing with bytes unread would reset the connection and take the
/// answer with it.
async fn linger(client: &mut TcpStream) -> io::Result<()> {
    client.shutdown().await?;
    tokio::io::copy(&mut client.take(u64::MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

impl Shared {
    async fn connect(&self) -> io::Result<TcpStream> {
        let server = TcpStream::connect(self.upstream).await?;
        server.set_nodelay(true)?;
        Ok(server)
    }

    /// Counts a request and decides what befalls it.
    fn admit(&self, method: &str, path: &str) -> Faults {
        {
            let mut requests = self.counters.requests.lock();
            match requests.get_mut(method) {
                Some(count) => *count += 1,
                None => drop(requests.insert(method.to_owned(), 1)),
            }
        }
        let faults = self.rules.lock().decide(method, path);
        self.counters.faults.fetch_add(faults.list.len() as u64, Ordering::Relaxed);
        faults
    }

    /// The latency of every request, and what `faults` add to it.
    async fn delay(&self, faults: &Faults) {
        let mut delay = Duration::from_micros(self.latency_us.load(Ordering::Relaxed));
        for fault in &faults.list {
            if let Fault::Delay(more) = fault {
                delay = delay.saturating_add(*more);
            }
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    fn count_body(&self, side: Side, bytes: usize) {
        let counter = match side {
            Side::Request => &self.counters.up_bytes,
            Side::Response => &self.counters.down_bytes,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
