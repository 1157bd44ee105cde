//! A line between two machines that is as slow as a test wants: every byte arrives so much later, none is lost. While it is
//! held, nothing arrives and nobody hears why. Where nobody listens at its far end, nobody does at the near one.
//!
//! Is:     one address that stands for another; connections with a delay each way.
//! Owns:   its port and the connections through it.
//! Never:  changes, drops or reorders a byte; narrows the line beyond what is under way.

use crate::background::Background;
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// Read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces of one connection and direction that are under way; then the sender waits.
const UNDER_WAY: usize = 256;
/// How often is looked whether anybody listens at the far end again.
const LOOK: Duration = Duration::from_millis(20);

/// A running line. Dropping it closes its port and all connections.
pub struct Line {
    addr: SocketAddr,
    state: Arc<State>,
    _background: Background,
}

struct State {
    delay_us: AtomicU64,
    held: watch::Sender<bool>,
    /// Nobody listens at the far end.
    refused: Notify,
}

impl State {
    fn arrival(&self) -> Instant {
        Instant::now() + Duration::from_micros(self.delay_us.load(Ordering::Relaxed))
    }

    async fn released(&self) {
        // The sender is here: the channel is open.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }
}

impl Line {
    /// A line that listens at `addr` and leads to `far`, which may come and go; both in the calling thread's network
    /// namespace. Without delay at first. Errors: the address is taken or not of this machine.
    pub fn start_at(addr: SocketAddr, far: SocketAddr) -> io::Result<Line> {
        let background = Background::start("line")?;
        let listener = background.listen(addr)?;
        let addr = listener.local_addr()?;
        let state =
            Arc::new(State { delay_us: AtomicU64::new(0), held: watch::Sender::new(false), refused: Notify::new() });
        background.spawn(accept(listener, far, state.clone()));
        Ok(Line { addr, state, _background: background })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on what is sent arrives this much later, either way: also on connections that are open. What is under way
    /// keeps its time.
    pub fn set_delay(&self, delay: Duration) {
        self.state.delay_us.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// From now on nothing arrives, either way, and connections do not break: what a cut looks like to both ends. A new
    /// connection is taken and stays as silent.
    pub fn hold(&self) {
        self.state.held.send_replace(true);
    }

    /// What was held arrives now, however late that is.
    pub fn release(&self) {
        self.state.held.send_replace(false);
    }
}

async fn accept(mut listener: TcpListener, far: SocketAddr, state: Arc<State>) {
    let Ok(near) = listener.local_addr() else { return };
    loop {
        tokio::select! {
            biased;
            () = state.refused.notified() => {
                drop(listener);
                listener = listen_again(near, far).await;
            }
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => drop(tokio::spawn(connection(near, far, state.clone()))),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// Listens when somebody does at the far end.
async fn listen_again(near: SocketAddr, far: SocketAddr) -> TcpListener {
    loop {
        tokio::time::sleep(LOOK).await;
        if TcpStream::connect(far).await.is_ok()
            && let Ok(listener) = TcpListener::bind(near).await
        {
            return listener;
        }
    }
}

async fn connection(mut near: TcpStream, far: SocketAddr, state: Arc<State>) -> io::Result<()> {
    state.released().await;
    let mut far = match TcpStream::connect(far).await {
        Ok(far) => far,
        Err(error) => {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                state.refused.notify_one();
            }
            return Err(error);
        }
    };
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_in, near_out) = near.split();
    let (far_in, far_out) = far.split();
    // An error of one way is the end of both.
    tokio::try_join!(one_way(near_in, far_out, &state), one_way(far_in, near_out, &state)).map(drop)
}

async fn one_way(from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, state: &State) -> io::Result<()> {
    let (sent, arriving) = mpsc::channel(UNDER_WAY);
    tokio::try_join!(take_in(from, sent, state), give_out(arriving, to, state)).map(drop)
}

/// Notes for each piece when it is to arrive, never before an earlier one.
async fn take_in(
    mut from: impl AsyncRead + Unpin,
    sent: mpsc::Sender<(Instant, Bytes)>,
    state: &State,
) -> io::Result<()> {
    let mut last = Instant::now();
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        if from.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        last = last.max(state.arrival());
        // Nobody takes it: the other way failed, which ends this one as well.
        let _ = sent.send((last, piece.freeze())).await;
    }
}

async fn give_out(
    mut arriving: mpsc::Receiver<(Instant, Bytes)>,
    mut to: impl AsyncWrite + Unpin,
    state: &State,
) -> io::Result<()> {
    while let Some((at, piece)) = arriving.recv().await {
        tokio::time::sleep_until(at).await;
        state.released().await;
        to.write_all(&piece).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn nobody_listens_where_nobody_does_at_the_far_end() {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ports = crate::ports::free_ports(2).unwrap();
        let server = std::net::TcpListener::bind(loopback(ports[1])).unwrap();
        let line = Line::start_at(loopback(ports[0]), server.local_addr().unwrap()).unwrap();
        let connect = || std::net::TcpStream::connect(line.addr());
        connect().unwrap();
        drop(server);
        let patience = Duration::from_secs(20);
        crate::eventually(patience, || connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused));
        let _server = std::net::TcpListener::bind(loopback(ports[1])).unwrap();
        crate::eventually(patience, connect);
    }

    #[test]
    fn bytes_arrive_whole_in_order_and_late_or_when_they_are_let() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = std::net::TcpListener::bind(loopback).unwrap();
        let line = Line::start_at(loopback, server.local_addr().unwrap()).unwrap();
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
        });
        let mut client = std::net::TcpStream::connect(line.addr()).unwrap();
        let mut turn = |data: &[u8]| {
            let start = std::time::Instant::now();
            client.write_all(data).unwrap();
            let mut back = vec![0; data.len()];
            client.read_exact(&mut back).unwrap();
            assert!(back == data);
            start.elapsed()
        };
        turn(b"at once");
        let delay = Duration::from_millis(30);
        line.set_delay(delay);
        let data: Vec<u8> = (0..3 * PIECE_BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect();
        // It cannot come sooner, whatever the machine is doing.
        assert!(turn(&data) >= 2 * delay);
        line.set_delay(Duration::ZERO);
        turn(&data);
        line.hold();
        client.write_all(b"later").unwrap();
        client.set_read_timeout(Some(delay)).unwrap();
        let mut back = [0; 5];
        client.read_exact(&mut back).expect_err("nothing arrives");
        client.set_read_timeout(None).unwrap();
        line.release();
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"later");
        drop(client);
        echo.join().unwrap();
    }
}
