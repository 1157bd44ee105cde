//! How bytes reach and leave a worker: the seam another protocol would replace.
//!
//! Is:     one read stream, one write stream, and the small questions, over gRPC.
//! Owns:   the order of messages on a stream, and that a dropped write is never taken for a finished one.
//! Never:  chooses a worker, retries.

mod breakable;

use crate::link::Service;
use breakable::Breakable;
use bytes::Bytes;
use futures::stream::{self, Stream};
use proto::admin::worker_admin_client::WorkerAdminClient;
use proto::admin::{HeldBlock, HeldBlocksRequest};
use proto::grpc::block::block_worker_client::BlockWorkerClient;
use proto::grpc::block::write_request::Value;
use proto::grpc::block::{
    Chunk, ReadRequest, ReadResponse, RequestType, SyncCacheRequest, WriteRequest, WriteRequestCommand, WriteResponse,
};
use proto::shared::dataserver::{CreateUfsFileOptions, OpenUfsBlockOptions};
use rpc::Connection;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use types::BlockId;

/// A read chunk of the largest allowed size and its frame fit.
const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// Write messages queued for one stream; with the transport's own window a few MiB are in flight.
const WRITES_QUEUED: usize = 4;
/// Receipts queued for one stream; one that does not fit is left out, the next says more.
const RECEIPTS_QUEUED: usize = 2;
/// How long the end of a stream is waited for whose bytes have all come: it is right behind them.
const END_PATIENCE: Duration = Duration::from_millis(100);

fn stub(service: Service) -> BlockWorkerClient<Service> {
    BlockWorkerClient::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// The wire counts in signed numbers; ours are lengths and offsets far below their end.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A part of a block to be read.
#[derive(Clone, Debug)]
pub(crate) struct ReadSpec {
    pub block: BlockId,
    /// Within the block.
    pub offset: u64,
    pub length: u64,
    pub chunk_bytes: usize,
    /// Where the worker may find the content if it has none; None: in no store.
    pub store: Option<OpenUfsBlockOptions>,
    /// Some: the reader goes on from here, and the worker may send this many messages ahead.
    pub prefetch_window: Option<u32>,
}

/// An open read. Dropping it ends the stream at the worker.
pub(crate) struct ReadStream {
    /// Kept: the server forgets who we are when the last holder drops it.
    connection: Arc<Connection>,
    chunks: Streaming<ReadResponse>,
    receipts: mpsc::Sender<ReadRequest>,
    at: u64,
    left: u64,
    patience: Duration,
}

impl ReadStream {
    pub(crate) async fn open(
        connection: Arc<Connection>,
        spec: ReadSpec,
        patience: Duration,
    ) -> Result<ReadStream, Status> {
        let first = ReadRequest {
            block_id: Some(spec.block.to_wire()),
            offset: Some(signed(spec.offset)),
            length: Some(signed(spec.length)),
            chunk_size: Some(i64::try_from(spec.chunk_bytes).unwrap_or(i64::MAX)),
            open_ufs_block_options: spec.store,
            position_short: spec.prefetch_window.is_none().then_some(true),
            prefetch_window: spec.prefetch_window.map(|window| i32::try_from(window).unwrap_or(i32::MAX)),
            ..ReadRequest::default()
        };
        let (receipts, queued) = mpsc::channel(RECEIPTS_QUEUED);
        receipts.try_send(first).expect("the channel was just made");
        let service = connection.service();
        let call = async move { stub(service).read_block(ReceiverStream::new(queued)).await };
        let chunks = timeout(patience, call).await.map_err(|_| silent(patience))??.into_inner();
        Ok(ReadStream { connection, chunks, receipts, at: spec.offset, left: spec.length, patience })
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The next bytes, never empty; None after all of them came or the worker ended the stream early.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        while self.left > 0 {
            let message = timeout(self.patience, self.chunks.message()).await.map_err(|_| silent(self.patience))??;
            let Some(message) = message else { return Ok(None) };
            let mut data = message.chunk.and_then(|chunk| chunk.data).unwrap_or_default();
            // An empty one only says that the worker lives.
            if data.is_empty() {
                continue;
            }
            data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            let length = u64::try_from(data.len()).expect("a message is small");
            self.at += length;
            self.left -= length;
            if self.left == 0 {
                self.finish().await;
            } else {
                let receipt = ReadRequest { offset_received: Some(signed(self.at)), ..ReadRequest::default() };
                // A receipt is advice: without room for it, the next one will do.
                let _ = self.receipts.try_send(receipt);
            }
            return Ok(Some(data));
        }
        Ok(None)
    }

    /// Lets the worker end the stream, which it does unasked. What is said after that, a half-close too, counts as an error
    /// of ours at the worker.
    async fn finish(&mut self) {
        // The bytes are all there, whatever it says.
        let _ = timeout(END_PATIENCE, self.chunks.message()).await;
    }
}

fn silent(patience: Duration) -> Status {
    Status::unavailable(format!("the worker was silent for {} s", patience.as_secs()))
}

/// What a write stream fills.
#[derive(Clone, Debug)]
pub(crate) enum WriteTarget {
    Block { block: BlockId, reserve_bytes: u64, unpersisted: bool },
    StoreFile(Box<CreateUfsFileOptions>),
}

#[allow(clippy::large_enum_variant)] // nearly all are messages
#[derive(Debug)]
enum Outgoing {
    Message(WriteRequest),
    /// Half-closes the stream, and so commits it.
    Finish,
}

/// An open write. Only [`WriteStream::finish`] commits: dropping it resets the stream, and the worker discards.
pub(crate) struct WriteStream {
    /// Kept: the server forgets who we are when the last holder drops it.
    connection: Arc<Connection>,
    outgoing: mpsc::Sender<Outgoing>,
    acknowledged: mpsc::Receiver<u64>,
    /// The call; dropped, it ends.
    call: JoinSet<Result<(), Status>>,
    /// Dropped, it breaks the request off: without that, a call that has its answer's head leaves it open for ever.
    _unbroken: oneshot::Sender<()>,
    sent: u64,
    patience: Duration,
}

impl WriteStream {
    pub(crate) fn open(connection: Arc<Connection>, target: WriteTarget, patience: Duration) -> WriteStream {
        let (outgoing, queued) = mpsc::channel(WRITES_QUEUED);
        let (answers, acknowledged) = mpsc::channel(WRITES_QUEUED);
        outgoing.try_send(Outgoing::Message(command(first_command(target)))).expect("the channel was just made");
        let (unbroken, broken) = oneshot::channel();
        let service = Breakable::new(connection.service(), broken);
        let mut call = JoinSet::new();
        call.spawn(async move {
            let mut stub = BlockWorkerClient::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let responses = stub.write_block(requests(queued)).await?.into_inner();
            drain(responses, answers).await
        });
        WriteStream { connection, outgoing, acknowledged, call, _unbroken: unbroken, sent: 0, patience }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Queues `data`, waiting while the worker is behind. Error: how the stream ended.
    pub(crate) async fn send(&mut self, data: Bytes) -> Result<(), Status> {
        let length = u64::try_from(data.len()).expect("a chunk is small");
        let message = WriteRequest { value: Some(Value::Chunk(Chunk { data: Some(data) })) };
        self.push(Outgoing::Message(message)).await?;
        self.sent += length;
        Ok(())
    }

    /// Waits until the worker has made durable what was sent.
    pub(crate) async fn flush(&mut self) -> Result<(), Status> {
        let flush = WriteRequestCommand { flush: Some(true), ..WriteRequestCommand::default() };
        self.push(Outgoing::Message(command(flush))).await?;
        let wait = async {
            while let Some(offset) = self.acknowledged.recv().await {
                if offset >= self.sent {
                    return true;
                }
            }
            false
        };
        match timeout(self.patience, wait).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.ended().await),
            Err(_) => Err(silent(self.patience)),
        }
    }

    /// Commits: returns when the worker has answered that all is in place.
    pub(crate) async fn finish(&mut self) -> Result<(), Status> {
        self.push(Outgoing::Finish).await?;
        // Answers nobody waits for would hold the call back.
        self.acknowledged.close();
        match timeout(self.patience, self.call.join_next()).await {
            Ok(Some(Ok(outcome))) => outcome,
            Ok(Some(Err(_)) | None) => Err(Status::internal("the write was aborted")),
            Err(_) => Err(silent(self.patience)),
        }
    }

    async fn push(&mut self, item: Outgoing) -> Result<(), Status> {
        match timeout(self.patience, self.outgoing.send(item)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.ended().await),
            Err(_) => Err(silent(self.patience)),
        }
    }

    /// Why the stream is over though we did not finish it.
    async fn ended(&mut self) -> Status {
        match self.call.join_next().await {
            Some(Ok(Err(status))) => status,
            Some(Ok(Ok(()))) => Status::internal("the worker ended the write before it was finished"),
            Some(Err(_)) | None => Status::internal("the write was ended before"),
        }
    }
}

fn first_command(target: WriteTarget) -> WriteRequestCommand {
    match target {
        WriteTarget::Block { block, reserve_bytes, unpersisted } => WriteRequestCommand {
            r#type: Some(RequestType::GoosefsBlock.into()),
            id: Some(block.to_wire()),
            offset: Some(0),
            space_to_reserve: Some(signed(reserve_bytes)),
            async_write: unpersisted.then_some(true),
            ..WriteRequestCommand::default()
        },
        WriteTarget::StoreFile(options) => WriteRequestCommand {
            r#type: Some(RequestType::UfsFile.into()),
            id: Some(-1),
            offset: Some(0),
            space_to_reserve: Some(i64::MAX),
            create_ufs_file_options: Some(*options),
            ..WriteRequestCommand::default()
        },
    }
}

fn command(command: WriteRequestCommand) -> WriteRequest {
    WriteRequest { value: Some(Value::Command(command)) }
}

/// The request stream. It ends at `Finish` only: a writer that vanished leaves it open, so that the reset which
/// follows, not a half-close, is what the worker sees.
fn requests(queued: mpsc::Receiver<Outgoing>) -> impl Stream<Item = WriteRequest> + Send + 'static {
    stream::unfold(queued, |mut queued| async move {
        match queued.recv().await {
            Some(Outgoing::Message(message)) => Some((message, queued)),
            Some(Outgoing::Finish) => None,
            None => pending().await,
        }
    })
}

async fn drain(mut responses: Streaming<WriteResponse>, answers: mpsc::Sender<u64>) -> Result<(), Status> {
    while let Some(response) = responses.message().await? {
        let offset = u64::try_from(response.offset.unwrap_or(0)).unwrap_or(0);
        // Nobody waits for a flush any more: then the end of the stream is all that matters.
        let _ = answers.send(offset).await;
    }
    Ok(())
}

/// Those of `blocks` the worker has.
pub(crate) async fn held_blocks(service: Service, blocks: &[BlockId]) -> Result<Vec<(BlockId, HeldBlock)>, Status> {
    let blocks = blocks.iter().map(|block| block.to_wire().cast_unsigned()).collect();
    let mut stub = WorkerAdminClient::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answer = stub.held_blocks(HeldBlocksRequest { blocks }).await?.into_inner();
    let named = |held: HeldBlock| Some((BlockId::from_wire(held.block.cast_signed())?, held));
    Ok(answer.blocks.into_iter().filter_map(named).filter(|(_, held)| held.resident_bytes > 0).collect())
}

/// Makes the worker fetch a whole block from the store. False: it could not, and says no more.
pub(crate) async fn sync_cache(
    service: Service,
    block: BlockId,
    length: u64,
    store: OpenUfsBlockOptions,
) -> Result<bool, Status> {
    let request = SyncCacheRequest {
        block_id: Some(block.to_wire()),
        offset: Some(0),
        length: Some(signed(length)),
        open_ufs_block_options: Some(store),
        ..SyncCacheRequest::default()
    };
    Ok(stub(service).sync_cache(request).await?.into_inner().result.unwrap_or(false))
}
