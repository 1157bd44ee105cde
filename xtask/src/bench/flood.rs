//! Many calls by frames from one thread, each at a tenth of what a client of ours pays for it: who asks must not be what is
//! measured, nor wait for answers before asking on. Speaks the frames of docs/design/0015-frames.md by itself.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, BytesMut};
use prost::Message;
use proto::Unary;
use proto::internal::{FramesHello, FramesWelcome};
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
const PREFACE: &[u8] = b"GOOSEFS FRAMES\r\n";
const HEAD_BYTES: usize = 16;
const READ_BYTES: usize = 256 << 10;
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const CALL: u8 = 3;
const ANSWER: u8 = 4;
const FAULT: u8 = 5;

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
    ended: Ended,
    buffer: Vec<u8>,
}

struct Line {
    stream: TcpStream,
    methods: Vec<String>,
    out: BytesMut,
    input: BytesMut,
    last: u32,
    under_way: HashMap<u32, Instant>,
}

impl Flood {
    /// As root, without a password.
    pub fn connect(address: &str) -> Result<Flood> {
        let lines = (0..CONNECTIONS).map(|_| Line::connect(address)).collect::<Result<_>>()?;
        Ok(Flood { lines, ended: Ended::default(), buffer: vec![0; READ_BYTES] })
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
        let (began, mut next) = (Instant::now(), 0);
        let mut under_way = 0;
        while began.elapsed() < lasts {
            for _ in under_way..AT_THE_PEAK {
                self.ask(next, &request(next))?;
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
                self.ask(next, &request(next))?;
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

    fn ask<M: Unary>(&mut self, n: u64, request: &M) -> Result<()> {
        let count = self.lines.len();
        let line = &mut self.lines[usize::try_from(n)? % count];
        let method = line.methods.iter().position(|method| method == M::PATH).context("the master has that method")?;
        line.last = line.last.wrapping_add(1).max(1);
        line.under_way.insert(line.last, Instant::now());
        let call = line.last;
        put(&mut line.out, CALL, u16::try_from(method)?, call, request)?;
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
    fn connect(address: &str) -> Result<Line> {
        let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        let hello = FramesHello {
            oldest: 1,
            newest: 1,
            release: "bench".to_owned(),
            plain: Some(b"\0root\0noPassword".to_vec().into()),
        };
        let mut out = BytesMut::from(PREFACE);
        put(&mut out, HELLO, 0, 0, &hello)?;
        stream.write_all(&out)?;
        let mut head = [0; HEAD_BYTES];
        stream.read_exact(&mut head)?;
        ensure!(head[4] == WELCOME, "the master does not welcome us: kind {}", head[4]);
        let mut body = vec![0; length(&head)];
        stream.read_exact(&mut body)?;
        let welcome = FramesWelcome::decode(&body[..])?;
        stream.set_nonblocking(true)?;
        let (out, input) = (BytesMut::new(), BytesMut::new());
        Ok(Line { stream, methods: welcome.methods, out, input, last: 0, under_way: HashMap::new() })
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
        while let Some(head) = self.input.first_chunk::<HEAD_BYTES>() {
            let (kind, whole) = (head[4], HEAD_BYTES + length(head));
            let (number, call) = (u16::from_le_bytes([head[6], head[7]]), &head[8..12]);
            let call = u32::from_le_bytes(call.try_into().expect("four bytes"));
            if self.input.len() < whole {
                break;
            }
            let frame = self.input.split_to(whole);
            let Some(began) = self.under_way.remove(&call) else { continue };
            let took = began.elapsed();
            match kind {
                _ if took > PATIENCE => ended.late += 1,
                ANSWER => {
                    ended.done += 1;
                    ended.took.push(took);
                }
                FAULT if Code::from_i32(i32::from(number)) == Code::Unavailable => {
                    ended.refused += 1;
                    ended.refused_after.push(took);
                }
                _ => bail!("the master answers {number}: {}", String::from_utf8_lossy(&frame[HEAD_BYTES..])),
            }
        }
        Ok(())
    }
}

fn length(head: &[u8; HEAD_BYTES]) -> usize {
    let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes"));
    usize::try_from(length).expect("32 bits fit a usize here")
}

fn put(out: &mut BytesMut, kind: u8, number: u16, call: u32, body: &impl Message) -> Result<()> {
    let begin = out.len();
    out.put_u32_le(u32::try_from(body.encoded_len())?);
    out.put_slice(&[kind, 0]);
    out.put_u16_le(number);
    out.put_u32_le(call);
    let checked = out.len();
    out.put_u32_le(0);
    body.encode(out)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[begin..checked]), &out[begin + HEAD_BYTES..]);
    out[checked..checked + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}
