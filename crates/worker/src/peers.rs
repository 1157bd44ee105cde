//! Blocks of other workers.
//!
//! Is:     a trait that reads one, and its implementation by the official protocol.
//! Owns:   the connection of each read under way.

use crate::budget::BUFFER_BYTES;
use crate::error::WorkerError;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, try_unfold};
use proto::grpc::block::block_worker_client::BlockWorkerClient;
use proto::grpc::block::{ReadRequest, ReadResponse};
use rpc::{AuthType, Identity, Pool};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};
use types::BlockId;

/// How long another worker may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
const MESSAGE_BYTES: usize = 8 << 20;
const VERB: &str = "read a block from another worker";

/// A block as it arrives. Dropping it ends the read.
pub type Arriving = BoxStream<'static, Result<Bytes, WorkerError>>;

/// Reads blocks of other workers.
#[tonic::async_trait]
pub trait Peers: Send + Sync + 'static {
    /// The first `length` bytes of a block, in order, or fewer if the worker has fewer.
    ///
    /// - `address`: `host:port` of the worker.
    /// - `user`: in whose name it is read.
    ///
    /// Errors: nobody answers, or the worker's own reason. Cancel-safe.
    async fn read(&self, address: &str, user: &str, block: BlockId, length: u64) -> Result<Arriving, WorkerError>;
}

/// Over TCP.
pub struct Sockets {
    auth: AuthType,
}

struct Reading {
    address: String,
    block: BlockId,
    chunks: Streaming<ReadResponse>,
    _pool: Pool,
}

impl Sockets {
    /// `nosasl`: other workers ask for no name.
    pub fn new(nosasl: bool) -> Sockets {
        Sockets { auth: if nosasl { AuthType::NoSasl } else { AuthType::Simple } }
    }
}

#[tonic::async_trait]
impl Peers for Sockets {
    async fn read(&self, address: &str, user: &str, block: BlockId, length: u64) -> Result<Arriving, WorkerError> {
        let pool = Pool::new(Identity { user: user.to_owned(), auth: self.auth }, 1);
        let connection = pool.get(address, Instant::now() + PATIENCE).await.map_err(|error| {
            let words = format!("worker {address}: {error}");
            WorkerError::Master { verb: VERB, kind: error.kind(), words }
        })?;
        let request = ReadRequest {
            block_id: Some(block.to_wire()),
            offset: Some(0),
            length: Some(i64::try_from(length).unwrap_or(i64::MAX)),
            chunk_size: Some(i64::try_from(BUFFER_BYTES).unwrap_or(i64::MAX)),
            ..ReadRequest::default()
        };
        let mut client = BlockWorkerClient::new(connection.service()).max_decoding_message_size(MESSAGE_BYTES);
        let call = timeout(PATIENCE, client.read_block(tokio_stream::iter([request]))).await;
        let answer = call.map_err(|_| silent(address))?.map_err(|status| refused(address, block, &status))?;
        let reading = Reading { address: address.to_owned(), block, chunks: answer.into_inner(), _pool: pool };
        Ok(try_unfold(reading, next).boxed())
    }
}

async fn next(mut reading: Reading) -> Result<Option<(Bytes, Reading)>, WorkerError> {
    let message = timeout(PATIENCE, reading.chunks.message()).await.map_err(|_| silent(&reading.address))?;
    let message = message.map_err(|status| refused(&reading.address, reading.block, &status))?;
    Ok(message.map(|message| (message.chunk.and_then(|chunk| chunk.data).unwrap_or_default(), reading)))
}

fn silent(address: &str) -> WorkerError {
    WorkerError::NoMaster { verb: VERB, words: format!("worker {address} was silent for {} s", PATIENCE.as_secs()) }
}

fn refused(address: &str, block: BlockId, status: &Status) -> WorkerError {
    WorkerError::Master {
        verb: VERB,
        kind: rpc::kind_of(status),
        words: format!("worker {address} about {block}: {}", status.message()),
    }
}
