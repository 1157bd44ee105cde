//! ReadBlock: one request, then receipts; chunks back.

use super::service::Service;
use super::{block_of, read_status};
use crate::budget::BUFFER_BYTES;
use crate::error::WorkerError;
use crate::read::{BlockRead, ReadSpec};
use bytes::Bytes;
use http::Request;
use http_body::Body;
use proto::grpc::block::ReadRequest;
use rpc::Answer;
use rpc::block::{BlockBody, BlockFeed, Requests};
use std::fmt::Display;
use std::future::pending;
use std::sync::Arc;
use tonic::Status;
use types::Principal;

/// Largest request: a path in a store, a few numbers.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Chunks between the reader and the connection.
const CHUNKS_QUEUED: usize = 1;
/// Smallest chunk that is honoured; below it the heads would outweigh the data.
const CHUNK_BYTES_MIN: u64 = 64;

/// Serves one stream. The work runs inside the answer's body: it is dropped, with lease and flight, when the client resets
/// the stream or leaves.
pub async fn serve<B>(service: Arc<Service>, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Display,
{
    let who = match rpc::caller(request.extensions()) {
        Ok(who) => Principal::clone(who),
        Err(refused) => return refused.into_http(),
    };
    let mut requests = Requests::<ReadRequest, B>::new(request.into_body(), REQUEST_BYTES_MAX);
    let first = match requests.next().await {
        Ok(Some(first)) => first,
        Ok(None) => return Status::invalid_argument("the stream ends without a read request").into_http(),
        Err(broken) => return broken.into_http(),
    };
    let body = BlockBody::produce(CHUNKS_QUEUED, |feed| async move {
        let receipts = async {
            // Advice only. An orderly end says that the client has nothing more to say, not that it stops reading.
            while let Ok(Some(_)) = requests.next().await {}
            pending::<()>().await;
        };
        let metrics = Arc::clone(&service.reads.metrics);
        let end = tokio::select! {
            biased;
            end = send(service, who, &first, feed) => end,
            () = receipts => Ok(()),
        };
        match end {
            Ok(()) => Status::ok(""),
            Err(error) => {
                metrics.read_failures.inc();
                tracing::debug!(block = first.block_id, error = %error.sentence(), "read refused or broken off");
                read_status(&error)
            }
        }
    });
    body.into_answer()
}

async fn send(
    service: Arc<Service>,
    who: Principal,
    request: &ReadRequest,
    mut feed: BlockFeed,
) -> Result<(), WorkerError> {
    let spec = spec_of(request)?;
    let chunk_bytes = request
        .chunk_size
        .and_then(|size| u64::try_from(size).ok())
        .filter(|size| *size > 0)
        .map_or(BUFFER_BYTES, |size| size.clamp(CHUNK_BYTES_MIN, BUFFER_BYTES));
    let chunk_bytes = usize::try_from(chunk_bytes).expect("at most a MiB");
    let mut read = BlockRead::open(Arc::clone(&service.reads), who, spec).await?;
    while let Some(mut bytes) = read.next().await? {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(chunk_bytes));
            if feed.send_chunk(chunk).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn spec_of(request: &ReadRequest) -> Result<ReadSpec, WorkerError> {
    let block = block_of(request.block_id)?;
    let offset = request.offset.unwrap_or_default();
    let offset = u64::try_from(offset)
        .map_err(|_| WorkerError::Invalid(format!("{block} cannot be read at {offset}; offsets begin at 0")))?;
    let no_cache = request.open_ufs_block_options.as_ref().and_then(|options| options.no_cache).unwrap_or(false);
    // A negative length means all that is left.
    let length = request.length.and_then(|length| u64::try_from(length).ok());
    Ok(ReadSpec { block, offset, length, positioned: request.position_short.unwrap_or(false), no_cache })
}
