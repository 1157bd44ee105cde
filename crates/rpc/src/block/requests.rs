//! Messages from a client.

use crate::status::status;
use bytes::{Buf, Bytes};
use http_body::Body;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use tonic::Status;
use types::ErrorKind;

/// A flag and a length before each message.
const FRAME_HEAD: usize = 5;

/// A stream of messages out of a request body.
///
/// A message that arrived in one HTTP/2 frame is decoded where it lies; one over several frames is gathered once. HTTP/2
/// flow control holds the client: nothing is read ahead of [`Requests::next`].
#[derive(Debug)]
pub struct Requests<M, B> {
    body: B,
    received: Received,
    max_message_bytes: usize,
    ended: bool,
    message: PhantomData<fn() -> M>,
}

impl<M, B> Requests<M, B>
where
    M: prost::Message + Default,
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Messages larger than `max_message_bytes` are refused before they are read.
    pub fn new(body: B, max_message_bytes: usize) -> Requests<M, B> {
        Requests { body, received: Received::default(), max_message_bytes, ended: false, message: PhantomData }
    }

    /// The next message; None when the client has ended its half orderly. Cancel-safe.
    ///
    /// Errors: CANCELLED when the client reset the stream or is gone, so that what it sent is not taken for whole;
    /// INVALID_ARGUMENT for bytes that are no message, RESOURCE_EXHAUSTED for one that is too long.
    pub async fn next(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
            if self.ended {
                return match self.received.bytes {
                    0 => Ok(None),
                    _ => Err(status(ErrorKind::Invalid, "the stream ends within a message; send it whole")),
                };
            }
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                Some(Ok(frame)) => {
                    // Trailers of a request mean nothing in gRPC.
                    if let Ok(data) = frame.into_data() {
                        self.received.push(data);
                    }
                }
                Some(Err(error)) => return Err(Status::cancelled(format!("the client broke the stream off: {error}"))),
                // hyper shows a reset with NO_ERROR as an end, too; only the flag tells.
                None if self.body.is_end_stream() => self.ended = true,
                None => return Err(Status::cancelled("the client broke the stream off")),
            }
        }
    }

    fn decode(&mut self) -> Result<Option<M>, Status> {
        let Some(head) = self.received.peek_head() else { return Ok(None) };
        if head[0] != 0 {
            return Err(status(ErrorKind::Invalid, "the message is compressed, which this server does not take"));
        }
        let declared = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let length = usize::try_from(declared).expect("32 bits fit a length");
        if length > self.max_message_bytes {
            let why =
                format!("the message has {length} bytes, at most {} are taken; send less", self.max_message_bytes);
            return Err(status(ErrorKind::Full, why));
        }
        if self.received.bytes < FRAME_HEAD + length {
            return Ok(None);
        }
        self.received.advance(FRAME_HEAD);
        let message = M::decode(Buf::take(&mut self.received, length))
            .map_err(|error| status(ErrorKind::Invalid, format!("the message cannot be read: {error}")))?;
        Ok(Some(message))
    }
}

/// Bytes as they came, in frames. A slice within one frame costs no copy.
#[derive(Debug, Default)]
struct Received {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Received {
    fn push(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    fn peek_head(&self) -> Option<[u8; FRAME_HEAD]> {
        let mut head = [0; FRAME_HEAD];
        let mut bytes = self.frames.iter().flat_map(|frame| frame.iter().copied());
        for byte in &mut head {
            *byte = bytes.next()?;
        }
        Some(head)
    }
}

impl Buf for Received {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&[], |frame| frame)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "advanced past the end");
        self.bytes -= count;
        while count > 0 {
            let front = self.frames.front_mut().expect("bytes counts what frames hold");
            let here = count.min(front.len());
            front.advance(here);
            count -= here;
            if front.is_empty() {
                self.frames.pop_front();
            }
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        match self.frames.front_mut() {
            Some(front) if front.len() > count => {
                self.bytes -= count;
                front.split_to(count)
            }
            Some(front) if front.len() == count => {
                self.bytes -= count;
                self.frames.pop_front().expect("there is a front")
            }
            Some(_) | None => {
                let mut gathered = bytes::BytesMut::with_capacity(count);
                bytes::BufMut::put(&mut gathered, Buf::take(self, count));
                gathered.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use proptest::prelude::*;
    use prost::Message;
    use proto::grpc::block::{Chunk, WriteRequest, write_request::Value};
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    /// A body that is all there: frames, then an end or a break.
    struct Frames {
        frames: VecDeque<Bytes>,
        orderly: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.frames.pop_front().map(|frame| Ok(Frame::data(frame))))
        }
        fn is_end_stream(&self) -> bool {
            self.orderly && self.frames.is_empty()
        }
    }

    fn requests(frames: Vec<Bytes>, orderly: bool) -> Requests<WriteRequest, Frames> {
        Requests::new(Frames { frames: frames.into(), orderly }, 1 << 20)
    }

    fn chunk(data: &[u8]) -> WriteRequest {
        WriteRequest { value: Some(Value::Chunk(Chunk { data: Some(Bytes::copy_from_slice(data)) })) }
    }

    fn frame(message: &WriteRequest) -> Vec<u8> {
        let body = message.encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(body.len()).expect("small").to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    fn now<F: Future>(future: F) -> F::Output {
        futures::executor::block_on(future)
    }

    proptest! {
        #[test]
        fn messages_come_whole_however_they_were_cut(
            sizes in proptest::collection::vec(0usize..300, 0..12),
            cuts in proptest::collection::vec(0usize..3000, 0..12),
        ) {
            let sent: Vec<WriteRequest> = sizes.iter().map(|size| chunk(&vec![7; *size])).collect();
            let bytes = Bytes::from(sent.iter().flat_map(frame).collect::<Vec<u8>>());
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
            at.sort_unstable();
            let mut requests = requests(at.windows(2).map(|pair| bytes.slice(pair[0]..pair[1])).collect(), true);
            for message in sent {
                prop_assert_eq!(now(requests.next()).expect("whole"), Some(message));
            }
            prop_assert_eq!(now(requests.next()).expect("an orderly end"), None);
        }
    }

    #[test]
    fn a_chunk_within_one_frame_is_not_copied() {
        let frame = Bytes::from(frame(&chunk(&[9; 5000])));
        let whole = frame.as_ptr_range();
        let message = now(requests(vec![frame], true).next()).expect("whole").expect("one");
        let Some(Value::Chunk(Chunk { data: Some(data) })) = message.value else { panic!("a chunk") };
        assert!(whole.contains(&data.as_ptr()));
    }

    #[test]
    fn a_broken_stream_is_not_taken_for_its_end() {
        let mut broken = requests(vec![frame(&chunk(b"x")).into()], false);
        assert!(now(broken.next()).expect("whole").is_some());
        assert_eq!(now(broken.next()).expect_err("no orderly end").code(), tonic::Code::Cancelled);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (bytes, code) in [
            (vec![1, 0, 0, 0, 0], tonic::Code::InvalidArgument),
            (vec![0, 0xff, 0xff, 0xff, 0xff], tonic::Code::ResourceExhausted),
            (vec![0, 0, 0, 0, 2, 0xff, 0xff], tonic::Code::InvalidArgument),
            (vec![0, 0, 0], tonic::Code::InvalidArgument),
            (vec![0, 0, 0, 0, 9, 1], tonic::Code::InvalidArgument),
        ] {
            let error = now(requests(vec![bytes.clone().into()], true).next()).expect_err("refused");
            assert_eq!(error.code(), code, "{bytes:?}: {}", error.message());
        }
    }

    /// The input once in one frame and once in many.
    #[test]
    fn fuzz_framed_messages() {
        let sample = [frame(&chunk(b"hello")), frame(&chunk(&[]))].concat();
        testkit::fuzz::fuzz("framed_messages", &[sample], |bytes| {
            let read = |frames: Vec<Bytes>| {
                let mut requests = requests(frames, true);
                let mut messages = Vec::new();
                while let Ok(Some(message)) = now(requests.next()) {
                    messages.push(message);
                }
                messages
            };
            let whole = read(vec![Bytes::copy_from_slice(bytes)]);
            assert_eq!(whole, read(bytes.chunks(3).map(Bytes::copy_from_slice).collect()));
        });
    }
}
