//! The unary calls of BlockWorker.

use super::{block_of, status_of};
use crate::error::WorkerError;
use crate::read::{BlockRead, ReadSpec, Reads};
use crate::write::Writes;
use proto::grpc::block::block_worker_server::BlockWorker;
use proto::grpc::block::{
    AsyncCacheRequest, AsyncCacheResponse, CheckBlocksRequest, CheckBlocksResponse, RemoveBlockRequest,
    RemoveBlockResponse, SyncCacheRequest, SyncCacheResponse,
};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use types::{BlockId, Principal};

/// Blocks one call may ask about.
const CHECK_BLOCKS_MAX: usize = 100_000;
/// Blocks loaded in the background at once; one more is told to come again.
pub const ASYNC_CACHES_MAX: usize = 256;

/// What all calls share.
pub struct Service {
    pub reads: Arc<Reads>,
    pub writes: Arc<Writes>,
    pub tasks: TaskTracker,
    /// One permit a block that is loaded in the background.
    pub loads: Arc<Semaphore>,
}

/// Refuses a question about more blocks than one call may ask about.
pub(super) fn few_enough(blocks: usize) -> Result<(), Status> {
    if blocks <= CHECK_BLOCKS_MAX {
        return Ok(());
    }
    let why = format!("{blocks} blocks are asked about at once; at most {CHECK_BLOCKS_MAX} may be");
    Err(status_of(&WorkerError::Invalid(why)))
}

/// Reads a whole block, so that the cache has it.
async fn load(reads: Arc<Reads>, who: Principal, block: BlockId) -> Result<(), WorkerError> {
    let spec = ReadSpec { block, offset: 0, length: None, positioned: false, no_cache: false };
    let mut read = BlockRead::open(Arc::clone(&reads), who, spec).await?;
    while read.next().await?.is_some() {}
    drop(read);
    reads.fetcher.settled(block).await;
    Ok(())
}

#[tonic::async_trait]
impl BlockWorker for Service {
    async fn check_blocks(
        &self,
        request: Request<CheckBlocksRequest>,
    ) -> Result<Response<CheckBlocksResponse>, Status> {
        let asked = request.into_inner().block_ids;
        few_enough(asked.len())?;
        let resident = |raw: i64| {
            let bytes = self.reads.store.resident(BlockId::from_wire(raw)?)?;
            Some((raw, i64::try_from(bytes).unwrap_or(i64::MAX)))
        };
        let block_cached_bytes = asked.into_iter().filter_map(resident).collect();
        Ok(Response::new(CheckBlocksResponse { block_cached_bytes }))
    }

    /// Drops a cached block that can be had again.
    async fn remove_block(
        &self,
        request: Request<RemoveBlockRequest>,
    ) -> Result<Response<RemoveBlockResponse>, Status> {
        let who = Principal::clone(rpc::caller(request.extensions())?);
        let answer = async {
            let block = block_of(request.get_ref().block_id)?;
            let Some(lease) = self.reads.store.lease(block).await? else { return Ok(()) };
            self.reads.resolver.for_read(&who, block.container()).await?;
            if lease.class() != tier::Class::Evictable {
                return Err(WorkerError::Refused(format!("{block} exists nowhere else; remove its file instead")));
            }
            self.reads.store.remove(block);
            Ok(())
        };
        answer.await.map_err(|error| status_of(&error))?;
        Ok(Response::new(RemoveBlockResponse {}))
    }

    /// Loads a block in the background; answers at once.
    async fn async_cache(&self, request: Request<AsyncCacheRequest>) -> Result<Response<AsyncCacheResponse>, Status> {
        let who = Principal::clone(rpc::caller(request.extensions())?);
        let block = block_of(request.get_ref().block_id).map_err(|error| status_of(&error))?;
        let busy = WorkerError::Busy { what: "blocks loaded in the background", limit: ASYNC_CACHES_MAX };
        let permit = Arc::clone(&self.loads).try_acquire_owned().map_err(|_| status_of(&busy))?;
        let reads = Arc::clone(&self.reads);
        self.tasks.spawn(async move {
            let _permit = permit;
            if let Err(error) = load(reads, who, block).await {
                tracing::warn!(%block, error = %error.sentence(), "block not loaded");
            }
        });
        Ok(Response::new(AsyncCacheResponse {}))
    }

    /// Loads a block; answers when it is here.
    async fn sync_cache(&self, request: Request<SyncCacheRequest>) -> Result<Response<SyncCacheResponse>, Status> {
        let who = Principal::clone(rpc::caller(request.extensions())?);
        let block = block_of(request.get_ref().block_id).map_err(|error| status_of(&error))?;
        load(Arc::clone(&self.reads), who, block).await.map_err(|error| super::read_status(&error))?;
        let whole = match self.reads.store.lease(block).await {
            Ok(lease) => lease.is_some_and(|lease| lease.is_whole()),
            Err(error) => return Err(super::read_status(&error)),
        };
        Ok(Response::new(SyncCacheResponse { result: Some(whole) }))
    }
}
