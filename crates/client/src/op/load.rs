//! What workers hold, and making them hold more.

use crate::link::kind_of;
use crate::status::BlockStatus;
use crate::workers::Live;
use crate::{Error, FileStatus, FileSystem, Result, WorkerStatus, read, transport};
use futures::stream::{self, StreamExt};
use proto::admin::HeldBlock;
use std::collections::HashMap;
use tonic::Status;
use types::{BlockId, ErrorKind, WorkerId};

/// Blocks asked about in one call.
const BLOCKS_PER_CHECK: usize = 10_000;
/// Blocks of one file fetched at once.
const PARALLEL_LOADS: usize = 4;
/// Workers asked at once.
const PARALLEL_CHECKS: usize = 16;

/// One block that a load brought into the cache, or found there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loaded {
    pub block: BlockId,
    pub bytes: u64,
}

/// What a worker has of a block.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Held {
    pub worker: WorkerId,
    pub bytes: u64,
    /// MEM, SSD or HDD.
    pub tier: String,
}

impl FileSystem {
    /// The live workers, as the read path sees them: asked of the master at most every 30 s.
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>> {
        let live = self.shared.workers.live(&self.shared.master, "list", "workers").await?;
        Ok(live.members.clone())
    }

    /// What live workers hold of `blocks`, as they themselves say, in the order of their ids; blocks nobody has are left
    /// out.
    ///
    /// Errors: NoWorker. A worker that cannot be asked counts as holding nothing. Cost: a call per live worker and
    /// 10,000 blocks.
    pub async fn held_blocks(&self, blocks: &[BlockId]) -> Result<HashMap<BlockId, Vec<Held>>> {
        let live = self.shared.workers.live(&self.shared.master, "check", "blocks").await?;
        let calls = live.members.iter().flat_map(|w| blocks.chunks(BLOCKS_PER_CHECK).map(move |part| (w, part)));
        let mut answers = stream::iter(calls)
            .map(|(worker, part)| async move { self.held_at(worker, part).await })
            .buffer_unordered(PARALLEL_CHECKS);
        let mut held: HashMap<BlockId, Vec<Held>> = HashMap::new();
        while let Some(answer) = answers.next().await {
            for (block, here) in answer {
                held.entry(block).or_default().push(here);
            }
        }
        held.values_mut().for_each(|at| at.sort());
        Ok(held)
    }

    async fn held_at(&self, worker: &WorkerStatus, blocks: &[BlockId]) -> Vec<(BlockId, Held)> {
        let workers = &self.shared.workers;
        let answer = match workers.connection(worker).await {
            Ok(connection) => {
                let answer = transport::held_blocks(connection.service(), blocks).await;
                answer.inspect_err(|status| workers.note_failure(worker, &connection, status))
            }
            Err(status) => Err(status),
        };
        let answer = answer.unwrap_or_else(|status| {
            tracing::debug!(worker = %worker.worker, why = status.message(), "could not be asked about blocks");
            Vec::new()
        });
        let held = |held: HeldBlock| Held { worker: worker.worker, bytes: held.resident_bytes, tier: held.tier_alias };
        answer.into_iter().map(|(block, here)| (block, held(here))).collect()
    }

    /// `block` with its locations replaced by what workers say, if the settings want that.
    pub(crate) async fn verified(&self, block: &BlockStatus, live: &Live) -> BlockStatus {
        let probes = self.config().check_replicas;
        if probes == 0 {
            return block.clone();
        }
        let probed = live.sources(block, probes, |_| false);
        let mut answers = stream::iter(&probed)
            .map(|worker| async move { (worker, self.held_at(worker, &[block.block]).await) })
            .buffered(PARALLEL_CHECKS);
        let mut locations = Vec::new();
        while let Some((worker, held)) = answers.next().await {
            if !held.is_empty() {
                let (host, port) = (worker.host.clone(), worker.port);
                locations.push(crate::Location { worker: worker.worker, host, port });
            }
        }
        BlockStatus { locations, ..block.clone() }
    }

    /// Brings a file's blocks into the cache of the workers the ring names, calling `progress` after each.
    ///
    /// Errors: Precondition for a file in no store or incomplete; the first block that cannot be loaded.
    /// Cost: whatever is not cached crosses the network once, from the store to a worker.
    pub async fn load(&self, file: &FileStatus, mut progress: impl FnMut(Loaded)) -> Result<()> {
        let path = || file.path.to_string();
        if file.folder {
            return Err(Error::IsDirectory { verb: "load", path: path() });
        }
        if !file.completed {
            return Err(Error::Incomplete { verb: "load", path: path() });
        }
        if file.blocks.is_empty() {
            return Ok(());
        }
        let live = self.shared.workers.live(&self.shared.master, "load", file.path.as_str()).await?;
        let live = &*live;
        let mut loads = stream::iter(0..file.blocks.len())
            .map(|index| async move { self.load_block(file, index, live).await })
            .buffer_unordered(PARALLEL_LOADS);
        while let Some(loaded) = loads.next().await {
            progress(loaded?);
        }
        Ok(())
    }

    async fn load_block(&self, file: &FileStatus, index: usize, live: &Live) -> Result<Loaded> {
        let block = &file.blocks[index];
        let refused = |message: String| Error::Refused {
            verb: "load",
            subject: format!("{} ({})", file.path, block.block),
            kind: ErrorKind::Precondition,
            message,
        };
        let store = read::store_options(file, index, true)
            .ok_or_else(|| refused("it lies in no under store, so it is in the cache or nowhere".into()))?;
        let mut error = Error::NoWorker { verb: "load", subject: file.path.to_string() };
        for worker in live.sources(block, self.config().read_workers.max(1), |id| self.shared.workers.has_failed(id)) {
            let answer = match self.shared.workers.connection(&worker).await {
                Ok(connection) => {
                    let service = connection.service();
                    let answer = transport::sync_cache(service, block.block, block.length, store.clone()).await;
                    answer.inspect_err(|status| self.shared.workers.note_failure(&worker, &connection, status))
                }
                Err(status) => Err(status),
            };
            match answer {
                Ok(true) => return Ok(Loaded { block: block.block, bytes: block.length }),
                Ok(false) => error = refused(format!("worker {}:{} could not cache it", worker.host, worker.port)),
                Err(status) => error = load_failed(file, block.block, &worker, &status),
            }
        }
        Err(error)
    }
}

fn load_failed(file: &FileStatus, block: BlockId, worker: &WorkerStatus, status: &Status) -> Error {
    let message = format!("worker {}:{}: {}", worker.host, worker.port, status.message());
    Error::Refused { verb: "load", subject: format!("{} ({block})", file.path), kind: kind_of(status), message }
}
