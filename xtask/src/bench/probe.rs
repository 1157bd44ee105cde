//! The bare server: `ReadBlock` of one file from the page cache with tonic's service on hyper's HTTP/2, as tonic's own
//! transport serves it, and nothing else. What a worker is held against, with the same chunks, checksums and client.

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use clap::Args;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use proto::grpc::block::block_worker_server::{BlockWorker, BlockWorkerServer};
use proto::grpc::block::{Chunk, ReadRequest, ReadResponse};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use testkit::process::{Builder, Process};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

/// Bytes of one block.
pub const BLOCK_BYTES: u64 = 64 << 20;
/// Chunks read ahead of the transport.
const AHEAD: usize = 2;
/// Checksums are over pieces of this size, as in the worker's store.
const PIECE_BYTES: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// Serve one file's blocks to the benchmarks (started by them)
#[derive(Args, Debug)]
pub struct BenchProbe {
    /// The file; block n begins at n × 64 MiB
    #[arg(long)]
    file: PathBuf,
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
}

struct Probe {
    file: Arc<std::fs::File>,
}

#[tonic::async_trait]
impl BlockWorker for Probe {
    async fn read_block(
        &self,
        request: Request<Streaming<ReadRequest>>,
    ) -> Result<Response<BoxStream<ReadResponse>>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.ok_or_else(|| Status::invalid_argument("no request"))?;
        let (number, length) = (u64::try_from(first.block_id()), usize::try_from(first.length()));
        let chunk = usize::try_from(first.chunk_size());
        let (Ok(number), Ok(length), Ok(chunk)) = (number, length, chunk) else {
            return Err(Status::invalid_argument("a negative number"));
        };
        // Acknowledgements come while the answer goes out.
        tokio::spawn(async move { while let Ok(Some(_)) = requests.message().await {} });
        let (sender, receiver) = mpsc::channel(AHEAD);
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || {
            let mut sent = 0;
            while sent < length {
                let answer = read(&file, number * BLOCK_BYTES + sent as u64, chunk.min(length - sent))
                    .map(|data| {
                        sent += data.len();
                        ReadResponse { chunk: Some(Chunk { data: Some(data) }) }
                    })
                    .map_err(|error| Status::unavailable(error.to_string()));
                let failed = answer.is_err();
                if sender.blocking_send(answer).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Bytes of the file, each piece checksummed.
fn read(file: &std::fs::File, offset: u64, bytes: usize) -> std::io::Result<Bytes> {
    let mut data = BytesMut::zeroed(bytes);
    file.read_exact_at(&mut data, offset)?;
    for piece in data.chunks(PIECE_BYTES) {
        std::hint::black_box(crc32c::crc32c(piece));
    }
    Ok(data.freeze())
}

impl BenchProbe {
    pub fn run(self) -> Result<()> {
        let file = std::fs::File::open(&self.file).with_context(|| format!("open {}", self.file.display()))?;
        let service = BlockWorkerServer::new(Probe { file: Arc::new(file) });
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind(self.listen).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let service = TowerToHyperService::new(service.clone());
                let connection = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        })
    }
}

/// The probe as a process of its own. Returns it and its address.
pub fn start(file: &Path, log_dir: &Path) -> Result<(Process, String)> {
    let address = format!("127.0.0.1:{}", testkit::ports::free_ports(1)?[0]);
    let program = std::env::current_exe()?;
    let arguments = ["bench-probe", "--listen", &address, "--file"];
    let process = Builder::new(program, log_dir).args(arguments).arg(file).spawn()?;
    testkit::try_eventually(PATIENCE, || std::net::TcpStream::connect(&address).is_ok())?;
    Ok((process, address))
}
