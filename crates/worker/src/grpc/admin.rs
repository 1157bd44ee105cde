//! goosefs.v1 of a worker: what operators ask and the contract does not carry.

use super::service::{Service, few_enough};
use proto::admin::worker_admin_server::WorkerAdmin;
use proto::admin::{HeldBlock, HeldBlocksRequest, HeldBlocksResponse};
use tonic::{Request, Response, Status};
use types::BlockId;

#[tonic::async_trait]
impl WorkerAdmin for Service {
    /// CheckBlocks with the tier.
    async fn held_blocks(&self, request: Request<HeldBlocksRequest>) -> Result<Response<HeldBlocksResponse>, Status> {
        let asked = request.into_inner().blocks;
        few_enough(asked.len())?;
        let held = |block: u64| {
            let (resident_bytes, medium) = self.reads.store.resident_on(BlockId::from_wire(block.cast_signed())?)?;
            Some(HeldBlock { block, resident_bytes, tier_alias: medium.name().to_owned() })
        };
        Ok(Response::new(HeldBlocksResponse { blocks: asked.into_iter().filter_map(held).collect() }))
    }
}
