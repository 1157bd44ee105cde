//! The first bytes of a connection, and the answer to those who speak something else.

use super::ServerConfig;
use crate::frames;
use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How every HTTP/2 connection begins, the prior knowledge we ask for.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a client says before it that asks for a thread of its own.
pub const APART: &[u8] = b"GOOSEFS APART\r\n";
/// Most of a stranger's first line we look at.
const FIRST_LINE_BYTES: usize = 8 << 10;
/// How long a stranger may take for its first line once it has begun.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(2);
/// After our answer we read on this long and this much: closing on unread bytes would take the answer away again.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;

/// What a client began with.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Opening {
    /// The preface and what came behind it.
    Http2(Bytes),
    /// [`APART`], and what came behind it.
    Apart(Vec<u8>),
    /// [`frames::PREFACE`], and what came behind it.
    Frames(Vec<u8>),
    Stranger(Stranger),
    /// Nothing: a health check of the port, or a client that thought again.
    Left,
}

/// A client of another protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stranger {
    Http1,
    Tls,
    Unknown,
}

/// Reads until it is clear what the client speaks. Needs a deadline around it.
///
/// - `bytes`: what was read of it already.
/// - `apart`, `frames`: whether [`APART`] and [`frames::PREFACE`] are known here.
pub(super) async fn read(stream: &mut TcpStream, mut bytes: Vec<u8>, apart: bool, frames: bool) -> io::Result<Opening> {
    let begins = |bytes: &[u8], with: &[u8]| with.starts_with(&bytes[..bytes.len().min(with.len())]);
    loop {
        if bytes.starts_with(PREFACE) {
            return Ok(Opening::Http2(Bytes::from(bytes)));
        }
        if apart && bytes.starts_with(APART) {
            return Ok(Opening::Apart(bytes.split_off(APART.len())));
        }
        if frames && bytes.starts_with(frames::PREFACE) {
            return Ok(Opening::Frames(bytes.split_off(frames::PREFACE.len())));
        }
        let may_go_on =
            begins(&bytes, PREFACE) || (apart && begins(&bytes, APART)) || (frames && begins(&bytes, frames::PREFACE));
        if !may_go_on {
            break;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(if bytes.is_empty() { Opening::Left } else { Opening::Stranger(stranger(&bytes)) });
        }
    }
    // Not ours. A line of text may still say what it is.
    let first_line = async {
        while bytes.first().is_some_and(u8::is_ascii_uppercase)
            && !bytes.contains(&b'\n')
            && bytes.len() < FIRST_LINE_BYTES
        {
            if stream.read_buf(&mut bytes).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    // Whether it came or not, what is there decides.
    let _ = tokio::time::timeout(FIRST_LINE_TIMEOUT, first_line).await;
    Ok(Opening::Stranger(stranger(&bytes)))
}

fn stranger(bytes: &[u8]) -> Stranger {
    let first_line = bytes.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    if bytes.starts_with(&[0x16, 0x03]) {
        Stranger::Tls
    } else if first_line.windows(7).any(|window| window == b"HTTP/1.") {
        Stranger::Http1
    } else {
        Stranger::Unknown
    }
}

/// Tells a stranger what this port is, in its own protocol as far as that goes, and closes.
pub(super) async fn answer(stream: TcpStream, stranger: Stranger, config: &ServerConfig) {
    let what = format!("This is the port of {}: it speaks gRPC over HTTP/2 without TLS. {}", config.name, config.hint);
    let what = what.trim_end();
    let bytes = match stranger {
        Stranger::Http1 => format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{what}\n",
            what.len() + 1
        )
        .into_bytes(),
        // A fatal alert, "protocol version": TLS has no room for a sentence.
        Stranger::Tls => vec![0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46],
        Stranger::Unknown => format!("{what}\n").into_bytes(),
    };
    say_and_close(stream, &bytes).await;
}

/// Tells an HTTP/2 client that the server has all the connections it takes, and closes.
pub(super) async fn refuse_one_too_many(stream: TcpStream, limit: usize) {
    let why = format!("this server has {limit} connections already; close some, or raise the limit");
    let length = u32::try_from(8 + why.len()).expect("a short sentence").to_be_bytes();
    // An empty SETTINGS, then GOAWAY for stream 0 with ENHANCE_YOUR_CALM (11).
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);
    bytes.extend_from_slice(why.as_bytes());
    say_and_close(stream, &bytes).await;
}

/// Says the last words of a connection, and closes it so that they arrive.
pub async fn say_and_close(mut stream: TcpStream, bytes: &[u8]) {
    let farewell = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut rest = [0; 4096];
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        io::Result::Ok(())
    };
    // The client may be gone already; then nobody misses the answer.
    let _ = tokio::time::timeout(LINGER, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_apart() {
        assert_eq!(stranger(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Stranger::Http1);
        assert_eq!(stranger(b"POST / HTTP/1.0"), Stranger::Http1);
        assert_eq!(stranger(&[0x16, 0x03, 0x01, 0x02]), Stranger::Tls);
        assert_eq!(stranger(b"SSH-2.0-OpenSSH_9.2\r\n"), Stranger::Unknown);
        assert_eq!(stranger(b"*1\r\n$4\r\nPING\r\nHTTP/1.1"), Stranger::Unknown, "only the first line counts");
        assert_eq!(stranger(b""), Stranger::Unknown);
    }
}
