//! Chunks to a client.

use crate::routes::{Answer, Body};
use crate::status::status;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use types::ErrorKind;

/// Largest chunk in one message; official clients refuse messages of 4 MiB.
pub const MAX_CHUNK_BYTES: usize = (4 << 20) - 64;
/// Flag and length of gRPC, then tag and length of `chunk` and of `data`, at their longest.
const MAX_HEAD: usize = 5 + 1 + 5 + 1 + 5;
/// Field 1, length-delimited: `ReadResponse.chunk` and `Chunk.data` both.
const TAG: u8 = 1 << 3 | 2;

/// The client has reset the stream or closed its connection.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("the client is gone")]
pub struct ClientGone;

/// A response body of `ReadResponse` messages. Each chunk leaves as its few bytes of head and then itself.
///
/// Dropped by the server when the client is gone: what its producer holds is released then.
pub struct BlockBody {
    chunks: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<Status>,
    /// Runs inside this body, see [`BlockBody::produce`].
    producer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The chunk whose head has just left.
    payload: Option<Bytes>,
    /// The head of the last chunk: most have one length.
    head: (usize, Bytes),
    done: bool,
}

/// The other end of a [`BlockBody`].
#[derive(Debug)]
pub struct BlockSender {
    chunks: mpsc::Sender<Bytes>,
    end: oneshot::Sender<Status>,
}

impl BlockBody {
    /// A body and its sender, which may live in another task. At most `capacity` chunks wait in between.
    pub fn channel(capacity: usize) -> (BlockSender, BlockBody) {
        let (chunk_in, chunks) = mpsc::channel(capacity.max(1));
        let (end_in, end) = oneshot::channel();
        let head = (usize::MAX, Bytes::new());
        let body = BlockBody { chunks, end, producer: None, payload: None, head, done: false };
        (BlockSender { chunks: chunk_in, end: end_in }, body)
    }

    /// A body that runs its producer itself, whenever the client has room: no task, no wake-up between two, and when the
    /// client leaves the producer is dropped at once with the locks and sessions it holds.
    ///
    /// The status that `producer` returns ends the stream.
    pub fn produce<P, F>(capacity: usize, producer: P) -> BlockBody
    where
        P: FnOnce(BlockFeed) -> F,
        F: Future<Output = Status> + Send + 'static,
    {
        let (BlockSender { chunks, end }, mut body) = BlockBody::channel(capacity);
        let producer = producer(BlockFeed { chunks });
        body.producer = Some(Box::pin(async move {
            // A body that is gone needs no end.
            let _ = end.send(producer.await);
        }));
        body
    }

    /// The answer that carries this body.
    pub fn into_answer(self) -> Answer {
        let mut answer = Answer::new(Body::new(self));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        answer
    }

    fn head(&mut self, length: usize) -> Bytes {
        if self.head.0 != length {
            self.head = (length, head(length));
        }
        self.head.1.clone()
    }
}

/// What stands before `length` bytes of data: the frame of gRPC, then the two fields the data is nested in.
fn head(length: usize) -> Bytes {
    let chunk_bytes = 1 + varint_bytes(length) + length;
    let message_bytes = 1 + varint_bytes(chunk_bytes) + chunk_bytes;
    let mut head = BytesMut::with_capacity(MAX_HEAD);
    head.put_u8(0);
    head.put_u32(u32::try_from(message_bytes).expect("chunks are below 4 MiB"));
    for field_bytes in [chunk_bytes, length] {
        head.put_u8(TAG);
        prost::encoding::encode_varint(u64::try_from(field_bytes).expect("below 4 MiB"), &mut head);
    }
    head.freeze()
}

fn varint_bytes(value: usize) -> usize {
    prost::encoding::encoded_len_varint(u64::try_from(value).expect("below 4 MiB"))
}

/// What a producer inside a body sends through; see [`BlockBody::produce`].
#[derive(Debug)]
pub struct BlockFeed {
    chunks: mpsc::Sender<Bytes>,
}

impl BlockFeed {
    /// As [`BlockSender::send_chunk`].
    pub async fn send_chunk(&mut self, data: Bytes) -> Result<(), ClientGone> {
        send_chunk(&self.chunks, data).await
    }
}

impl BlockSender {
    /// Queues `data` for the client, waiting while `capacity` chunks are queued. Without data it keeps the stream alive;
    /// more than [`MAX_CHUNK_BYTES`] leave as several messages. Cancel-safe as long as that is not needed.
    pub async fn send_chunk(&mut self, data: Bytes) -> Result<(), ClientGone> {
        send_chunk(&self.chunks, data).await
    }

    /// Resolves when the client is gone. Cancel-safe.
    pub async fn gone(&self) {
        self.chunks.closed().await;
    }

    /// Whether the client is gone.
    pub fn is_gone(&self) -> bool {
        self.chunks.is_closed()
    }

    /// Ends the stream after what is queued; `Status::ok("")` for success. A sender that is dropped without it ends the
    /// stream with INTERNAL: half a block must not look whole.
    pub fn finish(self, status: Status) {
        // A body that is gone needs no end.
        let _ = self.end.send(status);
    }
}

async fn send_chunk(chunks: &mpsc::Sender<Bytes>, mut data: Bytes) -> Result<(), ClientGone> {
    while data.len() > MAX_CHUNK_BYTES {
        chunks.send(data.split_to(MAX_CHUNK_BYTES)).await.map_err(|_| ClientGone)?;
    }
    chunks.send(data).await.map_err(|_| ClientGone)
}

impl http_body::Body for BlockBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(payload) = this.payload.take() {
            return Poll::Ready(Some(Ok(Frame::data(payload))));
        }
        if this.done {
            return Poll::Ready(None);
        }
        if let Some(producer) = &mut this.producer
            && producer.as_mut().poll(cx).is_ready()
        {
            this.producer = None;
        }
        if let Some(chunk) = ready!(this.chunks.poll_recv(cx)) {
            let head = this.head(chunk.len());
            this.payload = Some(chunk).filter(|chunk| !chunk.is_empty());
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        let end = ready!(Pin::new(&mut this.end).poll(cx));
        let end = end.unwrap_or_else(|_| {
            status(ErrorKind::Internal, "the reading of the block stopped half way; read it again")
        });
        this.done = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&end)))))
    }

    fn is_end_stream(&self) -> bool {
        self.done && self.payload.is_none()
    }
}

fn trailers(end: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if end.add_header(&mut trailers).is_err() {
        // Its metadata cannot be a header; the code and the sentence can.
        trailers.clear();
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(i32::from(end.code())));
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use prost::Message;
    use proto::grpc::block::{Chunk, ReadResponse};

    #[test]
    fn heads_are_what_the_encoder_would_write() {
        for length in [0, 1, 113, 120, 125, 126, 127, 128, 16_379, 16_384, 1 << 20, MAX_CHUNK_BYTES] {
            let data = Bytes::from(vec![5; length]);
            let message = ReadResponse { chunk: Some(Chunk { data: Some(data.clone()) }) }.encode_to_vec();
            assert!(message.len() < 4 << 20);
            let mut expected = vec![0];
            expected.extend_from_slice(&u32::try_from(message.len()).expect("small").to_be_bytes());
            expected.extend_from_slice(&message);
            assert_eq!([&head(length)[..], &data[..]].concat(), expected, "{length} bytes");
        }
    }

    async fn collect(body: BlockBody) -> (Bytes, Status) {
        let whole = body.collect().await.expect("no error of its own");
        let end = Status::from_header_map(whole.trailers().expect("trailers")).expect("a status");
        (whole.to_bytes(), end)
    }

    #[tokio::test]
    async fn a_sender_that_is_dropped_does_not_look_like_success() {
        let (mut sender, body) = BlockBody::channel(4);
        sender.send_chunk(Bytes::from_static(b"half")).await.expect("there");
        drop(sender);
        assert_eq!(collect(body).await.1.code(), tonic::Code::Internal);
    }

    #[tokio::test]
    async fn chunks_come_in_order_and_then_the_end() {
        let body = BlockBody::produce(1, |mut feed| async move {
            for text in ["one", "", "two"] {
                if feed.send_chunk(Bytes::from_static(text.as_bytes())).await.is_err() {
                    break;
                }
            }
            Status::data_loss("blk-7: a piece is damaged; 100 %")
        });
        let (bytes, end) = collect(body).await;
        assert_eq!(bytes, [&head(3)[..], b"one", &head(0)[..], &head(3)[..], b"two"].concat());
        assert_eq!((end.code(), end.message()), (tonic::Code::DataLoss, "blk-7: a piece is damaged; 100 %"));
    }

    #[tokio::test]
    async fn too_long_a_chunk_leaves_as_several_messages() {
        let body = BlockBody::produce(1, |mut feed| async move {
            let sent = feed.send_chunk(Bytes::from(vec![1; MAX_CHUNK_BYTES + 5])).await;
            assert_eq!(sent, Ok(()));
            Status::ok("")
        });
        let (bytes, end) = collect(body).await;
        assert_eq!(end.code(), tonic::Code::Ok);
        assert_eq!(bytes.len(), head(MAX_CHUNK_BYTES).len() + head(5).len() + MAX_CHUNK_BYTES + 5);
    }

    #[tokio::test]
    async fn a_sender_notices_that_the_client_left() {
        let (mut sender, body) = BlockBody::channel(1);
        assert!(!sender.is_gone());
        drop(body);
        sender.gone().await;
        assert!(sender.is_gone());
        assert_eq!(sender.send_chunk(Bytes::new()).await, Err(ClientGone));
    }
}
