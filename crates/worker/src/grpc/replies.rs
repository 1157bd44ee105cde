//! The answering half of a write stream.

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use proto::grpc::block::WriteResponse;
use rpc::{Answer, Body};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Answers waiting for a client that does not read them; the stream waits then.
const QUEUED: usize = 16;

/// Sends answers.
pub struct Replies {
    frames: mpsc::Sender<Frame<Bytes>>,
    start: Option<oneshot::Sender<()>>,
}

/// An answer, and the way to fill it.
///
/// The answer is given to the connection with the first message, not before: a client that gives up while it waits for
/// the headers resets the stream, one that has them merely ends its half first, as if it were done.
pub fn replies() -> (Replies, impl Future<Output = Answer>) {
    let (frames, queued) = mpsc::channel(QUEUED);
    let (start, started) = oneshot::channel();
    let body = StreamBody::new(ReceiverStream::new(queued).map(Ok::<_, Status>));
    let mut answer = Answer::new(Body::new(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let begun = async move {
        // A task that ends without a word ends the stream without trailers, which clients take for an error.
        let _ = started.await;
        answer
    };
    (Replies { frames, start: Some(start) }, begun)
}

impl Replies {
    /// `offset` bytes are safe. A client that is gone does not matter here: its requests tell.
    pub async fn offset(&mut self, offset: u64) {
        self.begin();
        let message = WriteResponse { offset: Some(i64::try_from(offset).unwrap_or(i64::MAX)) };
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(5 + length);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(length).expect("a few bytes"));
        message.encode(&mut frame).expect("the buffer grows");
        let _ = self.frames.send(Frame::data(frame.freeze())).await;
    }

    /// Whether the client has reset the stream or left.
    pub fn is_gone(&self) -> bool {
        self.frames.is_closed()
    }

    fn begin(&mut self) {
        if let Some(start) = self.start.take() {
            let _ = start.send(());
        }
    }

    /// Ends the stream.
    pub async fn finish(mut self, end: Status) {
        self.begin();
        let mut trailers = HeaderMap::with_capacity(2);
        if end.add_header(&mut trailers).is_err() {
            trailers.clear();
            trailers.insert(Status::GRPC_STATUS, HeaderValue::from(i32::from(end.code())));
        }
        let _ = self.frames.send(Frame::trailers(trailers)).await;
    }
}
