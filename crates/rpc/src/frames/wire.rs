//! The form of a frame: a head of 16 bytes, then the body. Numbers are little-endian. Also for benches that speak frames without a
//! client.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | length of the body |
//! | 4 | kind |
//! | 5 | 0 |
//! | 6..8 | number: of a call its method, of a fault its status code, else 0 |
//! | 8..12 | which call it belongs to; 0 for what belongs to none |
//! | 12..16 | CRC32C of the 12 bytes before and the body |

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a client says before its first frame.
pub const PREFACE: &[u8] = b"GOOSEFS FRAMES\r\n";
/// Where a frame belongs to no call.
pub(super) const NO_CALL: u32 = 0;
/// Bytes before the body.
pub(super) const HEAD_BYTES: usize = 16;
const CRC_AT: usize = 12;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The client's first: `FramesHello`.
    Hello = 1,
    /// The answer to it: `FramesWelcome`.
    Welcome = 2,
    /// A request.
    Call = 3,
    /// What came of a call.
    Answer = 4,
    /// Why nothing came of it, or of the hello: a status code and a sentence.
    Fault = 5,
    /// The client does not wait for a call any more.
    Cancel = 6,
    /// Are you there?
    Ping = 7,
    Pong = 8,
    /// The server takes no more calls here; the body is a sentence that says why. Those under way get their answers.
    Leave = 9,
    /// A request whose success is not answered. A fault about one, as about no call, ends the connection.
    Note = 10,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Hello,
            2 => Kind::Welcome,
            3 => Kind::Call,
            4 => Kind::Answer,
            5 => Kind::Fault,
            6 => Kind::Cancel,
            7 => Kind::Ping,
            8 => Kind::Pong,
            9 => Kind::Leave,
            10 => Kind::Note,
            _ => return None,
        })
    }
}

/// One frame, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub kind: Kind,
    pub number: u16,
    pub call: u32,
    pub body: Bytes,
}

/// Why a stream of frames cannot be read on.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    #[error("a frame has {bytes} bytes, {limit} are taken at most")]
    TooLong { bytes: usize, limit: usize },
    #[error("a frame's checksum is wrong: it was damaged on its way")]
    Checksum,
    #[error("a frame is of kind {0}, which this release does not know")]
    Kind(u8),
    #[error("a frame of kind {0:?} has no place here")]
    Place(Kind),
}

/// Appends a frame. Its body must stay below 4 GiB.
pub fn put(out: &mut BytesMut, kind: Kind, number: u16, call: u32, body: &[u8]) {
    put_with(out, kind, number, call, body.len(), |out| out.put_slice(body));
}

/// Appends a frame whose body is written in place.
///
/// - `about`: how many bytes that may be.
pub fn put_with(
    out: &mut BytesMut,
    kind: Kind,
    number: u16,
    call: u32,
    about: usize,
    body: impl FnOnce(&mut BytesMut),
) {
    let begin = out.len();
    out.reserve(HEAD_BYTES + about);
    out.put_u32_le(0);
    out.put_u8(kind as u8);
    out.put_u8(0);
    out.put_u16_le(number);
    out.put_u32_le(call);
    out.put_u32_le(0);
    body(out);
    let frame = &mut out[begin..];
    let length = u32::try_from(frame.len() - HEAD_BYTES).expect("the limits of messages are far below");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(frame);
    frame[CRC_AT..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Takes the next frame from what was read; None: it has not come whole.
///
/// - `limit`: bytes its body may have.
pub fn take(input: &mut BytesMut, limit: usize) -> Result<Option<Frame>, Broken> {
    let Some(head) = input.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let mut fields = &head[..];
    let bytes = usize::try_from(fields.get_u32_le()).unwrap_or(usize::MAX);
    let (kind, zero, number, call, crc) =
        (fields.get_u8(), fields.get_u8(), fields.get_u16_le(), fields.get_u32_le(), fields.get_u32_le());
    // Before the body has come: what cannot be a frame is found at once.
    let kind = Kind::of(kind).filter(|_| zero == 0).ok_or(Broken::Kind(kind))?;
    if bytes > limit {
        return Err(Broken::TooLong { bytes, limit });
    }
    if input.len() < HEAD_BYTES + bytes {
        input.reserve(HEAD_BYTES + bytes - input.len());
        return Ok(None);
    }
    let mut frame = input.split_to(HEAD_BYTES + bytes);
    if checksum(&frame) != crc {
        return Err(Broken::Checksum);
    }
    frame.advance(HEAD_BYTES);
    Ok(Some(Frame { kind, number, call, body: frame.freeze() }))
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &frame[HEAD_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 10;

    fn bytes(frame: &Frame) -> BytesMut {
        let mut out = BytesMut::new();
        put(&mut out, frame.kind, frame.number, frame.call, &frame.body);
        out
    }

    fn sample() -> Frame {
        Frame { kind: Kind::Call, number: 7, call: 0x0102_0304, body: Bytes::from_static(b"what is asked") }
    }

    #[test]
    fn golden_bytes_of_a_frame() {
        let expected = [13, 0, 0, 0, 3, 0, 7, 0, 4, 3, 2, 1, 0x7e, 0x0e, 0xa5, 0xd6];
        let out = bytes(&sample());
        assert_eq!(out[..HEAD_BYTES], expected, "{:x?}", &out[..HEAD_BYTES]);
        assert_eq!(&out[HEAD_BYTES..], b"what is asked");
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames = [sample(), Frame { kind: Kind::Ping, number: 0, call: 0, body: Bytes::new() }, sample()];
        let all: BytesMut = frames.iter().flat_map(|frame| bytes(frame).to_vec()).collect();
        for step in 1..all.len() {
            let (mut input, mut read) = (BytesMut::new(), Vec::new());
            for part in all.chunks(step) {
                input.extend_from_slice(part);
                while let Some(frame) = take(&mut input, LIMIT).expect("sound frames") {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames);
            assert!(input.is_empty());
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let whole = bytes(&sample());
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A longer length waits for more, and finds it wrong then.
            damaged.resize(HEAD_BYTES + LIMIT, 0);
            assert!(take(&mut damaged, LIMIT).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_has_come() {
        let mut input = bytes(&Frame { body: vec![0; LIMIT + 1].into(), ..sample() });
        input.truncate(HEAD_BYTES);
        assert_eq!(take(&mut input, LIMIT), Err(Broken::TooLong { bytes: LIMIT + 1, limit: LIMIT }));
        let mut text = BytesMut::from(&b"This is the port of something else.\n"[..]);
        assert!(take(&mut text, LIMIT).is_err());
    }

    #[test]
    fn fuzz_frames() {
        let samples = [bytes(&sample()).to_vec(), bytes(&Frame { kind: Kind::Fault, ..sample() }).to_vec()];
        testkit::fuzz::fuzz("frames", &samples, |bytes| {
            let mut input = BytesMut::from(bytes);
            while let Ok(Some(frame)) = take(&mut input, LIMIT) {
                assert!(frame.body.len() <= LIMIT);
            }
        });
    }
}
