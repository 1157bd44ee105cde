//! Persisting: uploading a file that so far exists only in the cache.
//!
//! Is:     one task a file: its blocks, from here or from other workers, streamed to the store; the master's grant just
//!         before it becomes visible; the outcome told to the master.
//! Owns:   the uploads under way.
//! Never:  retries a whole attempt (the master decides and fences that), completes without a grant.

use crate::budget::BUFFER_BYTES;
use crate::error::WorkerError;
use crate::master_link::MasterLink;
use crate::metrics::Metrics;
use crate::mounts::{Mounts, parse_key};
use crate::peers::Peers;
use crate::report::{take_back, told};
use crate::store::{BlockStore, ReadOutcome};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use types::{Attempt, BlockId, ContainerId, Fingerprint, Mode, MountId};
use ufs::{WriteOptions, Writer};

/// One file to upload, as the master asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    pub container: ContainerId,
    pub attempt: Attempt,
    pub mount: MountId,
    pub key: String,
    pub length: u64,
    pub block_bytes: u64,
    /// Of every block, in order, the workers that hold it, as host:port.
    pub places: Vec<Vec<String>>,
    pub owner: String,
    pub group: String,
    pub mode: Mode,
}

impl Task {
    /// From the wire.
    pub fn read(wire: proto::internal::PersistTask) -> Task {
        Task {
            container: ContainerId(wire.container),
            attempt: Attempt(wire.attempt),
            mount: MountId(wire.mount),
            key: wire.key,
            length: wire.length,
            block_bytes: wire.block_bytes.max(1),
            places: wire.blocks.into_iter().map(|place| place.addresses).collect(),
            owner: wire.owner,
            group: wire.group,
            mode: Mode::new(u16::try_from(wire.mode & 0o7777).expect("twelve bits fit")),
        }
    }
}

/// Uploads files, a few at a time.
pub struct Persister {
    store: BlockStore,
    mounts: Arc<Mounts>,
    link: Arc<MasterLink>,
    metrics: Arc<Metrics>,
    peers: Arc<dyn Peers>,
    slots: Semaphore,
}

impl Persister {
    pub fn new(
        store: BlockStore,
        mounts: Arc<Mounts>,
        link: Arc<MasterLink>,
        metrics: Arc<Metrics>,
        peers: Arc<dyn Peers>,
        concurrency: usize,
    ) -> Persister {
        Persister { store, mounts, link, metrics, peers, slots: Semaphore::new(concurrency.max(1)) }
    }

    /// Uploads one file and tells the master how it went. Ends early and silently when `cancelled` becomes true, without a
    /// trace in the store if that was before the grant.
    pub async fn run(&self, task: Task, mut cancelled: watch::Receiver<bool>) {
        let Ok(_slot) = self.slots.acquire().await else { return };
        if *cancelled.borrow() {
            return;
        }
        self.metrics.active_persists.inc();
        let outcome = self.upload(&task, &mut cancelled).await;
        self.metrics.active_persists.dec();
        let (container, attempt) = (task.container, task.attempt);
        let told = match outcome {
            Ok(Some((fingerprint, length))) => {
                self.metrics.persisted_files.inc();
                let told = told(|| self.link.end_persist(container, attempt, Ok((fingerprint.clone(), length)))).await;
                if matches!(told, Ok(false)) {
                    self.take_back(&task, fingerprint.as_ref()).await;
                }
                told
            }
            Ok(None) => return,
            Err(error) => {
                self.metrics.persist_failures.inc();
                tracing::warn!(%container, %attempt, error = %error.sentence(), "file not persisted");
                told(|| self.link.end_persist(container, attempt, Err(&error))).await
            }
        };
        if let Err(error) = told {
            // The attempt is fenced: the master asks again when it hears nothing.
            tracing::warn!(%container, %attempt, error = %error.sentence(), "cannot tell the master about a persist");
        }
    }

    /// The file was removed, renamed or given to another attempt before this one was heard of.
    async fn take_back(&self, task: &Task, written: Option<&Fingerprint>) {
        if let (Ok(mounted), Ok(key)) = (self.mounts.get(task.mount).await, parse_key(&task.key)) {
            take_back(&self.link, mounted.store.as_ref(), task.mount, &key, written).await;
        }
    }

    /// None: cancelled.
    async fn upload(
        &self,
        task: &Task,
        cancelled: &mut watch::Receiver<bool>,
    ) -> Result<Option<(Option<Fingerprint>, u64)>, WorkerError> {
        let mounted = self.mounts.get(task.mount).await?;
        let key = parse_key(&task.key)?;
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let options = WriteOptions {
            owner: text(&task.owner),
            group: text(&task.group),
            mode: Some(task.mode),
            length_hint: Some(task.length),
            ..WriteOptions::default()
        };
        let failed = |source| WorkerError::StoreWrite { key: task.key.clone(), source };
        let mut writer = mounted.store.write(&key, options).await.map_err(failed)?;
        let copied = tokio::select! {
            biased;
            _ = cancelled.wait_for(|cancelled| *cancelled) => Ok(false),
            copied = self.copy(task, writer.as_mut()) => copied.map(|()| true),
        };
        let granted = match copied {
            Ok(true) => self.link.grant_persist(task.container, task.attempt).await,
            Ok(false) => {
                give_up(writer.as_mut(), task).await;
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        if let Err(error) = granted {
            give_up(writer.as_mut(), task).await;
            return Err(error);
        }
        let finished = tokio::select! {
            biased;
            finished = writer.finish() => finished,
            // Dropped in the middle, the upload is cut off: the master gave the file to another attempt.
            _ = cancelled.wait_for(|cancelled| *cancelled) => return Ok(None),
        };
        let object = finished.map_err(failed)?;
        if object.length != task.length {
            return Err(WorkerError::Bug(format!(
                "the store has {} bytes at {}, the file has {}",
                object.length, task.key, task.length
            )));
        }
        Ok(Some((object.fingerprint, object.length)))
    }

    async fn copy(&self, task: &Task, writer: &mut dyn Writer) -> Result<(), WorkerError> {
        let blocks = task.length.div_ceil(task.block_bytes);
        for index in 0..blocks {
            let block = task.container.block(index).ok_or_else(|| {
                WorkerError::Bug(format!(
                    "{} cannot have {blocks} blocks of {} bytes",
                    task.container, task.block_bytes
                ))
            })?;
            let length = task.block_bytes.min(task.length - index * task.block_bytes);
            if !self.copy_local(task, block, length, writer).await? {
                let places = usize::try_from(index).ok().and_then(|index| task.places.get(index));
                self.copy_remote(task, block, length, places.map_or(&[], Vec::as_slice), writer).await?;
            }
        }
        Ok(())
    }

    /// Whether the block is here, whole.
    async fn copy_local(
        &self,
        task: &Task,
        block: BlockId,
        length: u64,
        writer: &mut dyn Writer,
    ) -> Result<bool, WorkerError> {
        let Some(lease) = self.store.lease(block).await? else { return Ok(false) };
        if lease.length() != length || !lease.is_whole() {
            return Ok(false);
        }
        let mut at = 0;
        while at < length {
            let end = (at + BUFFER_BYTES).min(length);
            match lease.read(at..end).await? {
                ReadOutcome::Bytes(bytes) => write(task, writer, bytes).await?,
                ReadOutcome::Missing { .. } => return Err(WorkerError::Damaged { block, offset: at }),
            }
            at = end;
        }
        Ok(true)
    }

    /// From the first of `places` that has it. Once bytes were written another place cannot take over: the attempt fails.
    async fn copy_remote(
        &self,
        task: &Task,
        block: BlockId,
        length: u64,
        places: &[String],
        writer: &mut dyn Writer,
    ) -> Result<(), WorkerError> {
        let mut why = WorkerError::NotHere { block };
        for address in places {
            let mut written = 0;
            match self.copy_from(address, task, block, length, writer, &mut written).await {
                Ok(()) => return Ok(()),
                Err(error) if written > 0 => return Err(error),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn copy_from(
        &self,
        address: &str,
        task: &Task,
        block: BlockId,
        length: u64,
        writer: &mut dyn Writer,
        written: &mut u64,
    ) -> Result<(), WorkerError> {
        // In the owner's name, who may read the file.
        let mut arriving = self.peers.read(address, &task.owner, block, length).await?;
        while *written < length {
            let Some(data) = arriving.next().await.transpose()? else { return Err(WorkerError::NotHere { block }) };
            let bytes = u64::try_from(data.len()).expect("a message is small");
            if *written + bytes > length {
                return Err(WorkerError::Bug(format!("worker {address} sent more of {block} than was asked for")));
            }
            let hold = self.store.budget().hold(bytes).await;
            write(task, writer, hold.attach(data)).await?;
            *written += bytes;
        }
        Ok(())
    }
}

async fn write(task: &Task, writer: &mut dyn Writer, bytes: Bytes) -> Result<(), WorkerError> {
    writer.write(bytes).await.map_err(|source| WorkerError::StoreWrite { key: task.key.clone(), source })
}

async fn give_up(writer: &mut dyn Writer, task: &Task) {
    if let Err(error) = writer.abort().await {
        tracing::warn!(key = task.key, %error, "cannot remove an unfinished upload, it expires by itself");
    }
}
