//! Block streams between our bodies and a plain tonic client.

mod common;

use bytes::Bytes;
use common::{LONG, Setup, TestServer, start_with};
use proto::grpc::block::block_worker_client::BlockWorkerClient;
use proto::grpc::block::{Chunk, ReadRequest, WriteRequest, WriteRequestCommand, WriteResponse, write_request::Value};
use rpc::block::{BlockBody, Requests};
use rpc::{AuthType, Body, MAX_MESSAGE_BYTES};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

const READ: &str = "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/ReadBlock";
const WRITE: &str = "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/WriteBlock";

/// What a write stream ended with, as the server saw it.
type Ends = mpsc::UnboundedSender<Result<usize, Code>>;

/// Reads: `length` bytes of the block id's low byte in chunks, then OK; length −1 hangs. Writes: counted.
fn serve(released: Arc<Notify>, ends: Ends) -> TestServer {
    let setup = Setup { auth: AuthType::NoSasl, ..Setup::default() };
    start_with(setup, move |routes| {
        let (released, ends) = (released.clone(), ends.clone());
        routes
            .method(READ, move |request| {
                let released = released.clone();
                async move { read(request.into_body(), released).await }
            })
            .method(WRITE, move |request| {
                let ends = ends.clone();
                async move { write(request.into_body(), ends).await }
            })
    })
}

struct Release(Arc<Notify>);
impl Drop for Release {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn read(body: rpc::Incoming, released: Arc<Notify>) -> rpc::Answer {
    let mut requests: Requests<ReadRequest, _> = Requests::new(body, MAX_MESSAGE_BYTES);
    let first = match requests.next().await {
        Ok(Some(first)) => first,
        Ok(None) => return Status::invalid_argument("no request").into_http(),
        Err(status) => return status.into_http(),
    };
    let lock = Release(released);
    let body = BlockBody::produce(2, move |mut feed| async move {
        let _lock = lock;
        if first.length() < 0 {
            // As a read whose store never answers.
            return std::future::pending().await;
        }
        let byte = first.block_id().to_le_bytes()[0];
        let mut left = usize::try_from(first.length()).expect("not negative");
        let chunk = usize::try_from(first.chunk_size()).expect("not negative");
        while left > 0 {
            let data = Bytes::from(vec![byte; chunk.min(left)]);
            left -= data.len();
            if feed.send_chunk(data).await.is_err() {
                break;
            }
        }
        Status::ok("")
    });
    body.into_answer()
}

async fn write(body: rpc::Incoming, ends: Ends) -> rpc::Answer {
    let mut requests: Requests<WriteRequest, _> = Requests::new(body, MAX_MESSAGE_BYTES);
    let mut bytes = 0;
    let end = loop {
        match requests.next().await {
            Ok(Some(WriteRequest { value: Some(Value::Chunk(chunk)) })) => bytes += chunk.data().len(),
            Ok(Some(_)) => {}
            Ok(None) => break Ok(bytes),
            Err(status) => break Err(status),
        }
    };
    ends.send(end.clone().map_err(|status| status.code())).expect("the test listens");
    match end {
        Ok(bytes) => {
            let answer = WriteResponse { offset: i64::try_from(bytes).ok() };
            let mut framed = vec![0];
            let message = prost::Message::encode_to_vec(&answer);
            framed.extend_from_slice(&u32::try_from(message.len()).expect("small").to_be_bytes());
            framed.extend_from_slice(&message);
            let whole = http_body_util::Full::new(Bytes::from(framed));
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", 0.into());
            let body = http_body_util::BodyExt::with_trailers(whole, std::future::ready(Some(Ok(trailers))));
            let mut answer = http::Response::new(Body::new(body));
            answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
            answer
        }
        Err(status) => status.into_http(),
    }
}

async fn client(server: &TestServer) -> BlockWorkerClient<Channel> {
    let channel = Channel::from_shared(format!("http://{}", server.address())).expect("a URI");
    BlockWorkerClient::new(channel.connect().await.expect("connects"))
}

fn request(block_id: i64, length: i64, chunk_size: i64) -> ReadRequest {
    ReadRequest { block_id: Some(block_id), length: Some(length), chunk_size: Some(chunk_size), ..Default::default() }
}

#[tokio::test]
async fn a_plain_client_reads_what_our_body_sends() {
    let server = serve(Arc::default(), mpsc::unbounded_channel().0);
    let mut client = client(&server).await;
    for (length, chunk_size) in [(0, 1), (1, 1 << 20), (3 << 20, 1 << 20), ((5 << 20) + 7, 700_001), (9 << 20, 9 << 20)]
    {
        let requests = tokio_stream::iter([request(0x0107, length, chunk_size)]);
        let mut answers = client.read_block(requests).await.expect("accepted").into_inner();
        let mut received = 0;
        while let Some(message) = answers.message().await.expect("no error") {
            let data = message.chunk.expect("a chunk").data.expect("data");
            assert!(data.iter().all(|byte| *byte == 7));
            received += data.len();
        }
        assert_eq!(i64::try_from(received), Ok(length));
    }
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_reader_that_leaves_releases_what_the_read_held() {
    let released = Arc::new(Notify::new());
    let server = serve(released.clone(), mpsc::unbounded_channel().0);
    let mut client = client(&server).await;
    // One that waits for its store, and one held up by the client's window.
    for length in [-1, 64 << 20] {
        let (ours, requests) = mpsc::channel(1);
        ours.send(request(7, length, 1 << 20)).await.expect("room");
        let mut answers = client.read_block(ReceiverStream::new(requests)).await.expect("accepted").into_inner();
        if length > 0 {
            answers.message().await.expect("no error").expect("a chunk");
        }
        drop((ours, answers));
        tokio::time::timeout(LONG, released.notified()).await.expect("released when the client reset the stream");
    }
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_write_that_is_reset_is_told_from_one_that_ends() {
    let (ends_in, mut ends) = mpsc::unbounded_channel();
    let server = serve(Arc::default(), ends_in);
    let mut client = client(&server).await;
    let command =
        WriteRequest { value: Some(Value::Command(WriteRequestCommand { id: Some(5), ..Default::default() })) };
    let chunk = WriteRequest { value: Some(Value::Chunk(Chunk { data: Some(Bytes::from(vec![1; 3 << 20])) })) };
    let messages = tokio_stream::iter([command.clone(), chunk.clone(), chunk.clone()]);
    let mut answers = client.write_block(messages).await.expect("accepted").into_inner();
    assert_eq!(answers.message().await.expect("no error").expect("an answer").offset, Some(6 << 20));
    assert!(answers.message().await.expect("OK").is_none());
    assert_eq!(ends.recv().await, Some(Ok(6 << 20)));

    let (ours, messages) = mpsc::channel(4);
    ours.send(command).await.expect("room");
    ours.send(chunk).await.expect("room");
    let mut reset = client.clone();
    let call = tokio::spawn(async move { reset.write_block(ReceiverStream::new(messages)).await.map(|_| ()) });
    // Dropping the call resets the stream; the sender outlives it, so there is no orderly end.
    testkit::eventually_async(LONG, || async { ours.capacity() == 4 }).await;
    call.abort();
    assert_eq!(ends.recv().await, Some(Err(Code::Cancelled)));
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_it_is_read() {
    let (ends_in, mut ends) = mpsc::unbounded_channel();
    let server = serve(Arc::default(), ends_in);
    let mut client = client(&server).await;
    let data = Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1]);
    let chunk = WriteRequest { value: Some(Value::Chunk(Chunk { data: Some(data) })) };
    let error = client.write_block(tokio_stream::iter([chunk])).await.map(|_| ()).expect_err("too long");
    assert_eq!(ends.recv().await, Some(Err(Code::ResourceExhausted)));
    assert!(error.message().contains("at most 67108864 are taken") || error.code() != Code::Ok, "{error}");
    server.running.stop(Duration::ZERO).await;
}
