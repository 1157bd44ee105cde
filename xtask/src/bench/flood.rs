//! Many calls by frames from one thread, each at a tenth of what a client of ours pays for it: who asks must not be what is
//! measured, nor wait for answers before asking on.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, BytesMut};
use prost::Message;
use proto::Unary;
use proto::internal::{FramesHello, FramesWelcome};
use rpc::wire::{Frame, Kind, PREFACE, put, put_with, take};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tonic::Code;

/// As many clients have them: a master takes 1,024 calls of each at once, and reads no more of one that has as many under way.
const CONNECTIONS: usize = 400;
/// Calls under way when the peak is looked for.
const AT_THE_PEAK: usize = 512;
/// How long who asks waits.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Rest when nothing came and nothing is due.
const REST: Duration = Duration::from_micros(200);
const READ_BYTES: usize = 256 << 10;

/// What became of calls.
#[derive(Default)]
pub struct Ended {
    pub asked: u64,
    pub done: u64,
    /// Told that there is no time for them.
    pub refused: u64,
    /// Without an answer within our patience.
    pub late: u64,
    /// Of those that were done.
    pub took: Vec<Duration>,
    /// Until it was said.
    pub refused_after: Vec<Duration>,
}

/// Connections to one master.
pub struct Flood {
    lines: Vec<Line>,
    /// By their numbers.
    methods: Vec<String>,
    ended: Ended,
    buffer: Vec<u8>,
}

struct Line {
    stream: TcpStream,
    out: BytesMut,
    input: BytesMut,
    last: u32,
    under_way: HashMap<u32, Instant>,
}

impl Flood {
    /// As root, without a password.
    pub fn connect(address: &str) -> Result<Flood> {
        let mut methods = Vec::new();
        let lines = (0..CONNECTIONS).map(|_| Line::connect(address, &mut methods)).collect::<Result<_>>()?;
        Ok(Flood { lines, methods, ended: Ended::default(), buffer: vec![0; READ_BYTES] })
    }

    /// What ended since this was asked last.
    pub fn ended(&mut self) -> Ended {
        std::mem::take(&mut self.ended)
    }

    pub fn under_way(&self) -> usize {
        self.lines.iter().map(|line| line.under_way.len()).sum()
    }

    /// Calls in a second when always so many are under way that nobody has to wait for one.
    pub fn at_peak<M: Unary>(&mut self, request: impl Fn(u64) -> M, lasts: Duration) -> Result<f64> {
        let method = self.method::<M>()?;
        let (began, mut next, mut under_way) = (Instant::now(), 0, 0);
        while began.elapsed() < lasts {
            for _ in under_way..AT_THE_PEAK {
                self.ask(method, next, &request(next))?;
                next += 1;
            }
            self.turn()?;
            under_way = self.under_way();
        }
        let (ended, took) = (self.ended(), began.elapsed());
        self.wait()?;
        ensure!(ended.refused + ended.late == 0, "{} refused, {} late at the peak", ended.refused, ended.late);
        self.ended();
        Ok(super::float(ended.done) / took.as_secs_f64())
    }

    /// Asks so often a second for so long, whatever becomes of it; `look` is called every 0.5 s.
    pub fn open_loop<M: Unary>(
        &mut self,
        per_second: f64,
        lasts: Duration,
        request: impl Fn(u64) -> M,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let method = self.method::<M>()?;
        let (began, mut next, mut look_at) = (Instant::now(), 0, Duration::ZERO);
        loop {
            let since = began.elapsed();
            if since >= lasts {
                return Ok(());
            }
            if since >= look_at {
                look()?;
                look_at = since + Duration::from_millis(500);
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and some millions")]
            let due = (since.as_secs_f64() * per_second) as u64;
            while next < due {
                self.ask(method, next, &request(next))?;
                next += 1;
            }
            if !self.turn()? {
                std::thread::sleep(REST);
            }
        }
    }

    /// Waits for what is under way, but no longer than our patience.
    pub fn wait(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.under_way() > 0 && Instant::now() < until {
            if !self.turn()? {
                std::thread::sleep(REST);
            }
        }
        for line in &mut self.lines {
            self.ended.late += u64::try_from(line.under_way.len())?;
            line.under_way.clear();
        }
        Ok(())
    }

    fn method<M: Unary>(&self) -> Result<u16> {
        let number = self.methods.iter().position(|method| method == M::PATH);
        Ok(u16::try_from(number.with_context(|| format!("the master does not have {}", M::PATH))?)?)
    }

    fn ask(&mut self, method: u16, n: u64, request: &impl Message) -> Result<()> {
        let count = self.lines.len();
        let line = &mut self.lines[usize::try_from(n)? % count];
        line.last = line.last.wrapping_add(1).max(1);
        line.under_way.insert(line.last, Instant::now());
        let mut written = Ok(());
        put_with(&mut line.out, Kind::Call, method, line.last, request.encoded_len(), |out| {
            written = request.encode(out);
        });
        written?;
        self.ended.asked += 1;
        Ok(())
    }

    /// Sends and takes what can be; whether anything came.
    fn turn(&mut self) -> Result<bool> {
        let mut came = false;
        for line in &mut self.lines {
            line.send()?;
            loop {
                match line.stream.read(&mut self.buffer) {
                    Ok(0) => bail!("the master ended a connection"),
                    Ok(count) => {
                        came = true;
                        line.input.put_slice(&self.buffer[..count]);
                        if count < self.buffer.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("read from the master"),
                }
            }
            line.take(&mut self.ended)?;
        }
        Ok(came)
    }
}

impl Line {
    /// - `methods`: become those of the master.
    fn connect(address: &str, methods: &mut Vec<String>) -> Result<Line> {
        let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        let plain = Some(b"\0root\0noPassword".to_vec().into());
        let hello = FramesHello { oldest: 1, newest: 1, release: "bench".to_owned(), plain };
        let (mut out, mut input) = (BytesMut::from(PREFACE), BytesMut::new());
        put(&mut out, Kind::Hello, 0, 0, &hello.encode_to_vec());
        stream.write_all(&out)?;
        out.clear();
        let welcome = loop {
            if let Some(frame) = take(&mut input, rpc::MAX_MESSAGE_BYTES)? {
                break frame;
            }
            let mut more = [0; 4096];
            let count = stream.read(&mut more)?;
            ensure!(count > 0, "the master ended the handshake");
            input.put_slice(&more[..count]);
        };
        ensure!(welcome.kind == Kind::Welcome, "the master does not welcome us, but says {:?}", welcome.kind);
        *methods = FramesWelcome::decode(welcome.body)?.methods;
        stream.set_nonblocking(true)?;
        Ok(Line { stream, out, input, last: 0, under_way: HashMap::new() })
    }

    fn send(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("write to the master"),
            }
        }
        Ok(())
    }

    fn take(&mut self, ended: &mut Ended) -> Result<()> {
        while let Some(Frame { kind, number, call, body }) = take(&mut self.input, rpc::MAX_MESSAGE_BYTES)? {
            let Some(began) = self.under_way.remove(&call) else { continue };
            let took = began.elapsed();
            match kind {
                _ if took > PATIENCE => ended.late += 1,
                Kind::Answer => {
                    ended.done += 1;
                    ended.took.push(took);
                }
                Kind::Fault if Code::from_i32(i32::from(number)) == Code::Unavailable => {
                    ended.refused += 1;
                    ended.refused_after.push(took);
                }
                _ => bail!("the master answers {number}: {}", String::from_utf8_lossy(&body)),
            }
        }
        Ok(())
    }
}
