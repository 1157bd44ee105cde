//! Where a body ends, and which of the bytes on the wire are the body's.

use std::ops::Range;

/// What is left of a message's body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    Length(u64),
    Chunked(Chunk),
    /// The body ends with the connection.
    UntilClose,
}

/// The next bytes of a chunked body are …
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Chunk {
    /// … a line with the size of a chunk; what of it has been seen.
    Size(String),
    Data(u64),
    /// … the end of the line after a chunk.
    AfterData,
    /// … a line of the trailer; an empty one ends the body. Its length so far.
    Trailer(u64),
    Done,
}

/// A stretch of bytes from the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) range: Range<usize>,
    /// Bytes of the body rather than of its framing.
    pub(super) is_body: bool,
}

/// The longest line that gives the size of a chunk.
const SIZE_LINE_BYTES: usize = 256;

/// A chunked body that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BadChunk;

impl Frame {
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Frame::Length(0) | Frame::Chunked(Chunk::Done))
    }

    /// Takes the next stretch off the front of `bytes[from..]`; None when the body is done or the bytes are.
    pub(super) fn next(&mut self, bytes: &[u8], from: usize) -> Result<Option<Span>, BadChunk> {
        if self.is_done() || from == bytes.len() {
            return Ok(None);
        }
        let available = bytes.len() - from;
        let whole = |left: u64| usize::try_from(left).map_or(available, |left| left.min(available));
        match self {
            Frame::UntilClose => Ok(Some(Span { range: from..bytes.len(), is_body: true })),
            Frame::Length(left) => {
                let len = whole(*left);
                *left -= len as u64;
                Ok(Some(Span { range: from..from + len, is_body: true }))
            }
            Frame::Chunked(Chunk::Data(left)) => {
                let len = whole(*left);
                *left -= len as u64;
                if *left == 0 {
                    *self = Frame::Chunked(Chunk::AfterData);
                }
                Ok(Some(Span { range: from..from + len, is_body: true }))
            }
            Frame::Chunked(chunk) => {
                chunk.framing(bytes[from])?;
                Ok(Some(Span { range: from..from + 1, is_body: false }))
            }
        }
    }
}

impl Chunk {
    fn framing(&mut self, byte: u8) -> Result<(), BadChunk> {
        let next = match self {
            Chunk::Size(line) if byte == b'\n' => {
                let digits = line.trim().split(';').next().unwrap_or("").trim_end();
                match u64::from_str_radix(digits, 16).map_err(|_| BadChunk)? {
                    0 => Chunk::Trailer(0),
                    size => Chunk::Data(size),
                }
            }
            Chunk::Size(line) if line.len() < SIZE_LINE_BYTES => {
                line.push(char::from(byte));
                return Ok(());
            }
            Chunk::Size(_) => return Err(BadChunk),
            Chunk::AfterData if byte == b'\n' => Chunk::Size(String::new()),
            Chunk::Trailer(0) if byte == b'\n' => Chunk::Done,
            Chunk::Trailer(_) if byte == b'\n' => Chunk::Trailer(0),
            Chunk::Trailer(len) if byte != b'\r' => Chunk::Trailer(*len + 1),
            Chunk::AfterData | Chunk::Trailer(_) | Chunk::Data(_) | Chunk::Done => return Ok(()),
        };
        *self = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, and what follows it, fed in steps of `step` bytes.
    fn split(mut frame: Frame, wire: &[u8], step: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut body, mut rest) = (Vec::new(), Vec::new());
        for piece in wire.chunks(step) {
            let mut at = 0;
            while let Some(span) = frame.next(piece, at).unwrap() {
                at = span.range.end;
                if span.is_body {
                    body.extend_from_slice(&piece[span.range]);
                }
            }
            rest.extend_from_slice(&piece[at..]);
        }
        (body, rest)
    }

    #[test]
    fn bodies_end_where_they_should_however_they_arrive() {
        let chunked = b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nX-Sum: 1\r\n\r\nGET /next";
        let plain = b"4\r\n\r\n\r\n\r\n0\r\n\r\nrest";
        for step in 1..chunked.len() {
            let start = || Frame::Chunked(Chunk::Size(String::new()));
            assert_eq!(split(start(), chunked, step), (b"hello world".to_vec(), b"GET /next".to_vec()));
            assert_eq!(split(start(), plain, step), (b"\r\n\r\n".to_vec(), b"rest".to_vec()));
            assert_eq!(split(Frame::Length(5), b"hello world", step), (b"hello".to_vec(), b" world".to_vec()));
            assert_eq!(split(Frame::UntilClose, b"hello", step), (b"hello".to_vec(), vec![]));
        }
        assert_eq!(
            Frame::Chunked(Chunk::Size(String::new())).next(b"x\n", 0),
            Ok(Some(Span { range: 0..1, is_body: false }))
        );
    }
}
