//! How much CPU a gigabyte of block costs: tonic's encoder against our body, a tonic client against a bare one.
//!
//! `cargo run --release -p rpc --example block_stream [GiB per row]`. One stream, 1 MiB chunks from memory, one server
//! thread and one client thread in this process, over loopback.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::grpc::block::block_worker_client::BlockWorkerClient;
use proto::grpc::block::block_worker_server::{BlockWorker, BlockWorkerServer};
use proto::grpc::block::{Chunk, ReadRequest, ReadResponse};
use rpc::block::{BlockBody, Requests};
use rpc::{MAX_MESSAGE_BYTES, Routes, Running, Server, ServerConfig};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};
use tonic::codegen::BoxStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

const READ: &str = "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/ReadBlock";
const CHUNK_BYTES: usize = 1 << 20;
/// What official clients leave at its default, and what our own set.
const DEFAULT_WINDOWS: (u32, u32, u32) = (65_535, 65_535, 16 << 10);
const LARGE_WINDOWS: (u32, u32, u32) = (8 << 20, 16 << 20, 1 << 20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Tonic;

#[tonic::async_trait]
impl BlockWorker for Tonic {
    async fn read_block(
        &self,
        request: Request<Streaming<ReadRequest>>,
    ) -> Result<Response<BoxStream<ReadResponse>>, Status> {
        let first = request.into_inner().message().await?.ok_or_else(|| Status::invalid_argument("no request"))?;
        let data = Bytes::from(vec![7; CHUNK_BYTES]);
        let chunks =
            (0..first.length()).map(move |_| Ok(ReadResponse { chunk: Some(Chunk { data: Some(data.clone()) }) }));
        Ok(Response::new(Box::pin(futures::stream::iter(chunks))))
    }
}

async fn ours(request: http::Request<rpc::Incoming>) -> rpc::Answer {
    let mut requests: Requests<ReadRequest, _> = Requests::new(request.into_body(), MAX_MESSAGE_BYTES);
    let first = match requests.next().await {
        Ok(first) => first.unwrap_or_default(),
        Err(status) => return status.into_http(),
    };
    let produce = |mut feed: rpc::block::BlockFeed| async move {
        let data = Bytes::from(vec![7; CHUNK_BYTES]);
        for _ in 0..first.length() {
            if feed.send_chunk(data.clone()).await.is_err() {
                break;
            }
        }
        Status::ok("")
    };
    BlockBody::produce(2, produce).into_answer()
}

fn serve(with_tonic: bool) -> Result<Running, rpc::Error> {
    let server = Server::bind("127.0.0.1:0", ServerConfig { threads: 1, ..ServerConfig::default() })?;
    server.serve(move |_| {
        if with_tonic { Routes::new().service(BlockWorkerServer::new(Tonic)) } else { Routes::new().method(READ, ours) }
    })
}

async fn tonic_client(address: String, chunks: i64, windows: (u32, u32, u32)) -> Result<usize, Failure> {
    let channel = Channel::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(windows.0)
        .initial_connection_window_size(windows.1)
        .max_frame_size(windows.2)
        .connect()
        .await?;
    let request = ReadRequest { length: Some(chunks), ..ReadRequest::default() };
    let mut answers = BlockWorkerClient::new(channel).read_block(futures::stream::iter([request])).await?.into_inner();
    let mut bytes = 0;
    while let Some(message) = answers.message().await? {
        bytes += message.chunk.and_then(|chunk| chunk.data).map_or(0, |data| data.len());
    }
    Ok(bytes)
}

/// Takes frames as they come: what a reader of our own costs.
async fn bare_client(address: String, chunks: i64, windows: (u32, u32, u32)) -> Result<usize, Failure> {
    let stream = tokio::net::TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(windows.0)
        .initial_connection_window_size(windows.1)
        .max_frame_size(windows.2)
        .handshake(TokioIo::new(stream))
        .await?;
    let driver = tokio::spawn(connection);
    let message = prost::Message::encode_to_vec(&ReadRequest { length: Some(chunks), ..ReadRequest::default() });
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
    framed.extend_from_slice(&message);
    let request = http::Request::post(format!("http://{address}{READ}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(framed)))?;
    let mut body = sender.send_request(request).await?.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    drop(sender);
    driver.abort();
    Ok(bytes)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn main() -> Result<(), Failure> {
    let gib: i64 = std::env::args().nth(1).map_or(Ok(4), |text| text.parse())?;
    let chunks = gib << 10;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{gib} GiB per row, one stream, 1 MiB chunks; GB per CPU-second, both ends and the server's thread alone");
    println!("{:<14} {:<7} {:<16} {:>6} {:>6} {:>7}", "server", "client", "windows", "both", "server", "GB/s");
    for (windows, label) in [(DEFAULT_WINDOWS, "64 KiB, 16 KiB"), (LARGE_WINDOWS, "8 MiB, 1 MiB")] {
        for bare in [false, true] {
            for with_tonic in [true, false] {
                let running = serve(with_tonic)?;
                let address = running.local_addr().to_string();
                let before = (Instant::now(), cpu(ClockId::ProcessCPUTime), cpu(ClockId::ThreadCPUTime));
                let bytes = runtime.block_on(async {
                    if bare {
                        bare_client(address, chunks, windows).await
                    } else {
                        tonic_client(address, chunks, windows).await
                    }
                })?;
                let wall = before.0.elapsed();
                let both = cpu(ClockId::ProcessCPUTime) - before.1;
                let client = cpu(ClockId::ThreadCPUTime) - before.2;
                runtime.block_on(running.stop(Duration::ZERO));
                #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
                let gigabytes = bytes as f64 / 1e9;
                println!(
                    "{:<14} {:<7} {:<16} {:>6.2} {:>6.2} {:>7.2}",
                    if with_tonic { "tonic encoder" } else { "block body" },
                    if bare { "bare" } else { "tonic" },
                    label,
                    gigabytes / both.as_secs_f64(),
                    gigabytes / (both.saturating_sub(client)).as_secs_f64(),
                    gigabytes / wall.as_secs_f64(),
                );
            }
        }
    }
    Ok(())
}
