//! One block on its way to one or more workers.

use super::open_first;
use crate::transport::{WriteStream, WriteTarget, signed};
use crate::{ClientConfig, Error, FileStatus, FileSystem, Result, WorkerStatus, link};
use bytes::Bytes;
use proto::convert;
use proto::shared::shared::FileLocation;
use tonic::Status;
use types::{BlockId, WriteType};

/// A block being written: one stream for most write types, several for ASYNC_THROUGH.
pub(crate) struct BlockWrite {
    fs: FileSystem,
    path: String,
    block: BlockId,
    replicas: Vec<(WorkerStatus, WriteStream)>,
    /// Fewer than this, and the block is lost.
    replicas_min: usize,
    sent: u64,
}

impl BlockWrite {
    /// Opens streams to the workers the ring names.
    pub(crate) async fn open(
        fs: &FileSystem,
        file: &FileStatus,
        block: BlockId,
        kind: WriteType,
    ) -> Result<BlockWrite> {
        let (shared, path) = (&fs.shared, file.path.as_str());
        let config = fs.config();
        let live = shared.workers.live(&shared.master, "write", path).await?;
        let target =
            WriteTarget::Block { block, reserve_bytes: file.block_bytes, unpersisted: kind == WriteType::AsyncThrough };
        let failed = |worker: &WorkerStatus| shared.workers.has_failed(worker.worker);
        let mut replicas = Vec::new();
        let replicas_min;
        if kind == WriteType::AsyncThrough {
            replicas_min = config.replicas_min.max(1);
            let fit = |worker: &WorkerStatus| !failed(worker) && has_room(worker, config);
            for worker in live.targets(block, config.replicas.max(replicas_min), fit) {
                // One that cannot be reached is one fewer; whether that is enough is decided below.
                if let Ok(opened) = open_first(fs, path, std::iter::once(worker), target.clone()).await {
                    replicas.push(opened);
                }
            }
        } else {
            replicas_min = 1;
            let mut candidates = live.targets(block, config.read_workers.max(1), |worker| !failed(worker));
            if candidates.is_empty() {
                candidates = live.targets(block, 1, |_| true);
            }
            replicas.push(open_first(fs, path, candidates.into_iter(), target).await?);
        }
        let opened = BlockWrite { fs: fs.clone(), path: path.to_owned(), block, replicas, replicas_min, sent: 0 };
        opened.check_enough()?;
        Ok(opened)
    }

    pub(crate) fn id(&self) -> BlockId {
        self.block
    }

    /// Sends `part` to every replica. One that fails is left behind while enough remain.
    pub(crate) async fn send(&mut self, part: Bytes) -> Result<()> {
        self.sent += u64::try_from(part.len()).expect("a chunk is small");
        let sends = self.replicas.iter_mut().map(|(_, stream)| stream.send(part.clone()));
        let outcomes = futures::future::join_all(sends).await;
        self.keep_good(outcomes, "write")
    }

    /// Makes durable what was sent.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        let outcomes = futures::future::join_all(self.replicas.iter_mut().map(|(_, stream)| stream.flush())).await;
        self.keep_good(outcomes, "flush")
    }

    /// Commits, and says where the block is now.
    pub(crate) async fn finish(mut self, block_bytes: u64) -> Result<FileLocation> {
        let mut replicas = std::mem::take(&mut self.replicas);
        let outcomes = futures::future::join_all(replicas.iter_mut().map(|(_, stream)| stream.finish())).await;
        let mut kept = Vec::new();
        let mut failure = None;
        for ((worker, stream), outcome) in replicas.iter().zip(outcomes) {
            match outcome {
                Ok(()) => kept.push(worker.worker),
                Err(status) => failure = Some(self.failed(worker, stream, &status, "commit")),
            }
        }
        if kept.len() < self.replicas_min {
            return Err(failure.unwrap_or_else(|| self.too_few(kept.len())));
        }
        Ok(FileLocation {
            block_id: Some(self.block.to_wire()),
            offset: Some(signed(self.block.index() * block_bytes)),
            length: Some(signed(self.sent)),
            worker_id: kept.into_iter().map(convert::id::worker_to_wire).collect(),
        })
    }

    fn keep_good(&mut self, outcomes: Vec<std::result::Result<(), Status>>, verb: &'static str) -> Result<()> {
        let mut failure = None;
        let mut outcomes = outcomes.into_iter();
        for (worker, stream) in std::mem::take(&mut self.replicas) {
            match outcomes.next().expect("one outcome per replica") {
                Ok(()) => self.replicas.push((worker, stream)),
                Err(status) => failure = Some(self.failed(&worker, &stream, &status, verb)),
            }
        }
        match failure {
            Some(failure) if self.replicas.len() < self.replicas_min => Err(failure),
            Some(_) | None => self.check_enough(),
        }
    }

    fn failed(&self, worker: &WorkerStatus, stream: &WriteStream, status: &Status, verb: &'static str) -> Error {
        self.fs.shared.workers.note_failure(worker, stream.connection(), status);
        let kind = link::kind_of(status);
        let message = format!("worker {}:{}: {}", worker.host, worker.port, status.message());
        Error::Refused { verb, subject: format!("{} ({})", self.path, self.block), kind, message }
    }

    fn check_enough(&self) -> Result<()> {
        if self.replicas.len() < self.replicas_min { Err(self.too_few(self.replicas.len())) } else { Ok(()) }
    }

    fn too_few(&self, found: usize) -> Error {
        Error::TooFewWorkers { path: self.path.clone(), found, needed: self.replicas_min }
    }
}

/// Whether a worker may take blocks that nothing else holds yet: not forbidden to, and with room left below nine
/// tenths of its capacity, in bytes and as a share.
fn has_room(worker: &WorkerStatus, config: &ClientConfig) -> bool {
    let usable = worker.capacity_bytes - worker.capacity_bytes / 10;
    let left = usable.saturating_sub(worker.persist_used_bytes);
    #[allow(clippy::cast_precision_loss)] // a ratio needs no exact bytes
    let share = left as f64 / worker.capacity_bytes.max(1) as f64;
    !worker.forbid_write
        && worker.capacity_bytes > 0
        && left >= config.worker_remain_bytes
        && share >= config.worker_remain_ratio
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerState;
    use types::{UnixMs, WorkerId};

    #[test]
    fn workers_without_room_take_no_unpersisted_blocks() {
        let config = ClientConfig::default();
        let worker = |capacity_mib: u64, used_mib: u64, forbid_write| WorkerStatus {
            worker: WorkerId(1),
            host: "h".into(),
            port: 1,
            state: WorkerState::Active,
            alive: true,
            last_contact_s: 0,
            capacity_bytes: capacity_mib << 20,
            used_bytes: 0,
            persist_used_bytes: used_mib << 20,
            started: UnixMs(0),
            virtual_nodes: 1,
            forbid_write,
        };
        assert!(has_room(&worker(150, 0, false), &config));
        assert!(!has_room(&worker(140, 0, false), &config), "126 MiB are left of 140");
        assert!(!has_room(&worker(0, 0, false), &config));
        assert!(!has_room(&worker(1000, 0, true), &config));
        assert!(!has_room(&worker(1 << 20, 930_000, false), &config), "below 1.5 % of a terabyte");
        assert!(has_room(&worker(10_000, 8000, false), &config));
    }
}
