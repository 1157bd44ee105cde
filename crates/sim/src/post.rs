//! What a worker asks of masters and of other workers, on its way out of its process.
//!
//! Is:     the worker's ways to the outside ([`Dial`], [`Peers`]): each request waits in a box for the world to carry it.
//! Never:  touches a byte of it, unless a planted bug wants it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use parking_lot::Mutex;
use prost::Message;
use proto::grpc::block::{ReadRequest, ReadResponse};
use std::sync::Arc;
use tokio::sync::oneshot;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use types::{BlockId, Principal, Proof};
use worker::WorkerError;
use worker::rig::{Arriving, Dial, Peers, Whole, Wire};

pub const READ_BLOCK: &str = "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/ReadBlock";
pub const WRITE_BLOCK: &str = "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/WriteBlock";
pub const REMOVE_BLOCK: &str = "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/RemoveBlock";

/// Whom a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    Master(usize),
    Worker(usize),
}

/// Told the answer, or that the connection broke.
pub type Tell = oneshot::Sender<Result<Whole, Status>>;

/// A request on its way out.
pub struct Letter {
    pub to: To,
    pub request: http::Request<Bytes>,
    pub tell: Tell,
}

/// Where letters wait. Clones are the same box.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<Vec<Letter>>>);

impl Outbox {
    pub fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut self.0.lock())
    }

    async fn ask(&self, to: To, request: http::Request<Bytes>) -> Result<Whole, Status> {
        let (tell, answer) = oneshot::channel();
        self.0.lock().push(Letter { to, request, tell });
        answer.await.unwrap_or_else(|_| Err(broken()))
    }
}

pub fn broken() -> Status {
    Status::unavailable("the connection broke")
}

/// The place behind a name like `master-2:19998`, counted from 0.
fn place(address: &str) -> Option<usize> {
    let (name, _port) = address.split_once(':')?;
    name.rsplit_once('-')?.1.parse::<usize>().ok()?.checked_sub(1)
}

#[tonic::async_trait]
impl Dial for Outbox {
    async fn dial(&self, address: &str) -> Result<Wire, WorkerError> {
        let nobody =
            || WorkerError::NoMaster { verb: "say hello to the master", words: format!("{address}: no such name") };
        let to = To::Master(place(address).ok_or_else(nobody)?);
        let outbox = self.clone();
        let ask = move |request: http::Request<rpc::Body>| {
            let outbox = outbox.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect().await?.to_bytes();
                let answer = outbox.ask(to, http::Request::from_parts(head, bytes)).await?;
                Ok(answer.map(rpc::Body::new))
            }
        };
        Ok(BoxCloneSyncService::new(tower::service_fn(ask)))
    }
}

#[tonic::async_trait]
impl Peers for Outbox {
    async fn read(&self, address: &str, user: &str, block: BlockId, length: u64) -> Result<Arriving, WorkerError> {
        let verb = "read a block from another worker";
        let nobody = || WorkerError::NoMaster { verb, words: format!("{address}: no such name") };
        let to = To::Worker(place(address).ok_or_else(nobody)?);
        let request = read_block(user, block, 0, Some(length));
        let answer = self.ask(to, request).await.and_then(content_of);
        let content = answer.map_err(|status| WorkerError::Master {
            verb,
            kind: rpc::kind_of(&status),
            words: format!("worker {address} about {block}: {}", status.message()),
        })?;
        Ok(futures::stream::iter([Ok(content)]).boxed())
    }
}

/// A request as a connection hands it over that belongs to this user.
pub fn request(path: &str, user: &str, body: Bytes) -> http::Request<Bytes> {
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = path.parse().expect("a path of ours");
    let kind = http::HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    let who = Principal { user: user.to_owned(), groups: Vec::new(), proof: Proof::Claimed };
    request.extensions_mut().insert(Arc::new(who));
    request
}

/// The rest of a block from `offset` on, or `length` bytes of it.
pub fn read_block(user: &str, block: BlockId, offset: u64, length: Option<u64>) -> http::Request<Bytes> {
    let signed = |value: u64| i64::try_from(value).expect("blocks are small");
    let message = ReadRequest {
        block_id: Some(block.to_wire()),
        offset: Some(signed(offset)),
        length: Some(length.map_or(-1, signed)),
        chunk_size: Some(1 << 20),
        ..ReadRequest::default()
    };
    request(READ_BLOCK, user, frame(&message))
}

/// A message in its gRPC frame.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("messages are small"));
    message.encode(&mut frame).expect("the buffer grows");
    frame.freeze()
}

/// The status of an answer, unless it is OK.
pub fn refusal(answer: &Whole) -> Option<Status> {
    let end = Status::from_header_map(answer.headers())
        .or_else(|| answer.body().trailers().and_then(Status::from_header_map))
        .unwrap_or_else(|| Status::unavailable("the answer has no end"));
    (end.code() != Code::Ok).then_some(end)
}

/// The messages of an answer. Errors: its status, unless it is OK.
pub fn messages<M: Message + Default>(answer: Whole) -> Result<Vec<M>, Status> {
    if let Some(refusal) = refusal(&answer) {
        return Err(refusal);
    }
    let mut bytes = answer.into_body().to_bytes();
    let mut messages = Vec::new();
    while bytes.len() >= 5 {
        bytes.advance(1);
        let length = usize::try_from(bytes.get_u32()).expect("32 bits fit a length").min(bytes.len());
        let message = M::decode(bytes.split_to(length));
        messages.push(message.map_err(|error| Status::internal(format!("an answer cannot be read: {error}")))?);
    }
    Ok(messages)
}

/// The bytes of a read.
pub fn content_of(answer: Whole) -> Result<Bytes, Status> {
    let mut content = BytesMut::new();
    for message in messages::<ReadResponse>(answer)? {
        content.extend_from_slice(&message.chunk.and_then(|chunk| chunk.data).unwrap_or_default());
    }
    Ok(content.freeze())
}

/// Bytes as a body.
pub fn body(bytes: Bytes) -> rpc::Body {
    rpc::Body::new(Full::new(bytes))
}

/// The first `bytes` of a body whose sender then resets the stream.
pub fn torn_body(content: Bytes, bytes: usize) -> rpc::Body {
    let part = content.slice(..bytes.min(content.len()));
    let frames = futures::stream::iter([Ok::<_, Status>(Frame::data(part))]);
    // Unlike a full one it never says that it has ended.
    rpc::Body::new(StreamBody::new(frames))
}
