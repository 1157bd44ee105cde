//! A line between two machines that is as slow as a test wants: every byte arrives so much later, none is lost.
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
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces of one connection and direction that are under way; then the sender waits.
const UNDER_WAY: usize = 256;
/// Wait before accepting is tried again when it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A running line. Dropping it closes its port and all connections.
pub struct Line {
    addr: SocketAddr,
    delay_us: Arc<AtomicU64>,
    _background: Background,
}

impl Line {
    /// A line that listens at `addr` and leads to `far`, which may come and go; both in the calling thread's network
    /// namespace. Without delay at first. Errors: the address is taken or not of this machine.
    pub fn start_at(addr: SocketAddr, far: SocketAddr) -> io::Result<Line> {
        let background = Background::start("line")?;
        let listener = background.listen(addr)?;
        let addr = listener.local_addr()?;
        let delay_us = Arc::new(AtomicU64::new(0));
        background.spawn(accept(listener, far, delay_us.clone()));
        Ok(Line { addr, delay_us, _background: background })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on what is sent arrives this much later, either way: also on connections that are open. What is under way
    /// keeps its time.
    pub fn set_delay(&self, delay: Duration) {
        self.delay_us.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, far: SocketAddr, delay_us: Arc<AtomicU64>) {
    loop {
        match listener.accept().await {
            Ok((near, _)) => drop(tokio::spawn(connection(near, far, delay_us.clone()))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(mut near: TcpStream, far: SocketAddr, delay_us: Arc<AtomicU64>) -> io::Result<()> {
    let mut far = TcpStream::connect(far).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_in, near_out) = near.split();
    let (far_in, far_out) = far.split();
    // An error of one way is the end of both.
    tokio::try_join!(one_way(near_in, far_out, &delay_us), one_way(far_in, near_out, &delay_us)).map(drop)
}

async fn one_way(from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, delay_us: &AtomicU64) -> io::Result<()> {
    let (sent, arriving) = mpsc::channel(UNDER_WAY);
    tokio::try_join!(take_in(from, sent, delay_us), give_out(arriving, to)).map(drop)
}

/// Notes for each piece when it is to arrive, never before an earlier one.
async fn take_in(
    mut from: impl AsyncRead + Unpin,
    sent: mpsc::Sender<(Instant, Bytes)>,
    delay_us: &AtomicU64,
) -> io::Result<()> {
    let mut last = Instant::now();
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        if from.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        last = last.max(Instant::now() + Duration::from_micros(delay_us.load(Ordering::Relaxed)));
        // Nobody takes it: the other way failed, which ends this one as well.
        let _ = sent.send((last, piece.freeze())).await;
    }
}

async fn give_out(mut arriving: mpsc::Receiver<(Instant, Bytes)>, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some((at, piece)) = arriving.recv().await {
        tokio::time::sleep_until(at).await;
        to.write_all(&piece).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn bytes_arrive_whole_in_order_and_late() {
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
        drop(client);
        echo.join().unwrap();
    }
}
