//! Writing: one block of a file into the cache, or a whole file into its under store.
//!
//! Is:     the two kinds of write stream, message by message, without their transport.
//! Owns:   what was received and is not visible yet; dropping a stream discards it.
//! Never:  takes a length, a place in a store or a write type from the client.

use crate::error::WorkerError;
use crate::master_link::MasterLink;
use crate::metrics::Metrics;
use crate::mounts::{Mounted, Mounts};
use crate::report::{take_back, told};
use crate::resolve::{Facts, Resolver};
use crate::store::{BlockStore, BlockStream};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tier::Class;
use tokio::time::sleep;
use types::{BlockId, Clock, ContainerId, Monotonic, MountId, Principal, WriteType};
use ufs::{Key, WriteOptions, Writer};

/// How often the master hears that a stream lives, so that it does not expire the incomplete file.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// How often a slow upload looks whether its file is still there, and tells the master that it may land.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What writes need of the worker.
pub struct Writes {
    pub store: BlockStore,
    pub resolver: Arc<Resolver>,
    pub mounts: Arc<Mounts>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
}

/// Keeps a block that was written as its file's write type says.
fn class_of(write_type: WriteType) -> Class {
    match write_type {
        WriteType::AsyncThrough => Class::Unpersisted,
        WriteType::MustCache => Class::Pinned,
        WriteType::TryCache | WriteType::CacheThrough | WriteType::Through | WriteType::None => Class::Evictable,
    }
}

/// Tells the master now and then that the stream lives.
struct Renewal {
    who: Principal,
    renewed_at: Monotonic,
}

impl Renewal {
    /// Errors: the file is gone, or another generation took its place.
    async fn renew(&mut self, writes: &Writes, facts: &Facts) -> Result<(), WorkerError> {
        let now = writes.clock.monotonic();
        if now - self.renewed_at < RENEW_EVERY {
            return Ok(());
        }
        self.renewed_at = now;
        match writes.resolver.renew_write(&self.who, facts.container).await {
            Ok(()) => Ok(()),
            // No master at the moment: the stream goes on, the close will tell.
            Err(error) if error.kind().is_transient() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A block being written into the cache.
pub struct BlockWrite {
    writes: Arc<Writes>,
    facts: Arc<Facts>,
    renewal: Renewal,
    stream: BlockStream,
}

impl BlockWrite {
    /// Errors: no such incomplete file, no right, no room.
    pub async fn open(writes: Arc<Writes>, who: Principal, block: BlockId) -> Result<BlockWrite, WorkerError> {
        let facts = writes.resolver.for_write(&who, block.container()).await?;
        if facts.complete {
            return Err(WorkerError::Refused(format!("{block} belongs to a file that is complete; write a new file")));
        }
        let stream = writes.store.create(block, class_of(facts.write_type), facts.block_bytes).await?;
        writes.metrics.write_streams.inc();
        let renewal = Renewal { who, renewed_at: writes.clock.monotonic() };
        Ok(BlockWrite { writes, facts, renewal, stream })
    }

    pub async fn append(&mut self, data: Bytes) -> Result<(), WorkerError> {
        self.renewal.renew(&self.writes, &self.facts).await?;
        let bytes = u64::try_from(data.len()).expect("a message is smaller than 2^64");
        let _held = self.writes.store.budget().hold(bytes).await;
        self.stream.append(data).await?;
        self.writes.metrics.write_bytes.inc_by(bytes);
        Ok(())
    }

    /// Bytes that are safe in the unfinished block.
    pub async fn flush(&mut self) -> Result<u64, WorkerError> {
        self.stream.flush().await
    }

    /// The block is visible, durably if it exists nowhere else, when this returns. Not cancel-safe.
    pub async fn commit(self) -> Result<u64, WorkerError> {
        let length = self.stream.commit().await?;
        self.writes.metrics.write_commits.inc();
        Ok(length)
    }
}

/// Returns when a file that is being completed at a key is no longer the one that stands there.
async fn lost(resolver: &Resolver, who: &Principal, mount: MountId, key: &Key, container: ContainerId) {
    loop {
        sleep(LOOK_EVERY).await;
        match resolver.for_completion(who, mount, key.as_str()).await {
            Ok(facts) if facts.container == container => {}
            Err(error) if error.kind().is_transient() => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn went_away(key: &Key) -> WorkerError {
    WorkerError::Refused(format!("the file at {key} went away while it was written; write it again"))
}

/// A file being written into its under store.
pub struct StoreWrite {
    writes: Arc<Writes>,
    facts: Arc<Facts>,
    renewal: Renewal,
    mount: MountId,
    mounted: Mounted,
    key: Key,
    writer: Box<dyn Writer>,
    written_bytes: u64,
}

impl StoreWrite {
    /// `store_path`: where the client was told its file lies. Errors: it is not the place of an incomplete file this
    /// caller may write, the mount is read-only, or the store's own reason.
    pub async fn open(
        writes: Arc<Writes>,
        who: Principal,
        mount: MountId,
        store_path: &str,
    ) -> Result<StoreWrite, WorkerError> {
        let mounted = writes.mounts.get(mount).await?;
        let key = mounted.key_of(store_path)?;
        let facts = writes.resolver.for_store_write(&who, mount, key.as_str()).await?;
        if facts.complete {
            return Err(WorkerError::Refused(format!(
                "{store_path} belongs to a file that is complete; write a new file"
            )));
        }
        if mounted.read_only() {
            return Err(WorkerError::Refused(format!("{mount} is mounted read-only; {store_path} cannot be written")));
        }
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let options = WriteOptions {
            owner: text(&facts.owner),
            group: text(&facts.group),
            mode: Some(facts.mode),
            ..WriteOptions::default()
        };
        let failed = |source| WorkerError::StoreWrite { key: key.to_string(), source };
        let writer = mounted.store.write(&key, options).await.map_err(failed)?;
        writes.metrics.store_write_streams.inc();
        let renewal = Renewal { who, renewed_at: writes.clock.monotonic() };
        Ok(StoreWrite { writes, facts, renewal, mount, mounted, key, writer, written_bytes: 0 })
    }

    pub async fn append(&mut self, data: Bytes) -> Result<(), WorkerError> {
        self.renewal.renew(&self.writes, &self.facts).await?;
        let bytes = u64::try_from(data.len()).expect("a message is smaller than 2^64");
        let _held = self.writes.store.budget().hold(bytes).await;
        self.writer.write(data).await.map_err(|source| self.failed(source))?;
        self.written_bytes += bytes;
        self.writes.metrics.store_write_bytes.inc_by(bytes);
        Ok(())
    }

    /// Bytes handed to the store. Nothing is visible there before [`StoreWrite::commit`].
    pub fn flush(&self) -> u64 {
        self.written_bytes
    }

    /// The object is whole and visible in the store, and the master knows its version, when this returns. An empty
    /// stream makes an empty object. Not cancel-safe.
    pub async fn commit(mut self) -> Result<u64, WorkerError> {
        // The fence: nobody else became the owner of this place meanwhile.
        let now = self.writes.resolver.for_completion(&self.renewal.who, self.mount, self.key.as_str()).await;
        let current = match now {
            Ok(facts) => facts.container == self.facts.container && !facts.complete,
            Err(error) => {
                self.abort().await;
                return Err(error);
            }
        };
        if !current {
            let key = self.key.to_string();
            self.abort().await;
            return Err(WorkerError::Refused(format!("{key} belongs to another file by now; this one is not written")));
        }
        let lost = lost(&self.writes.resolver, &self.renewal.who, self.mount, &self.key, self.facts.container);
        let finished = tokio::select! {
            biased;
            finished = self.writer.finish() => finished,
            // Dropped in the middle, the upload is cut off: a slow one must not land on what took the name meanwhile.
            () = lost => return Err(went_away(&self.key)),
        };
        let object = finished.map_err(|source| self.failed(source))?;
        if object.length != self.written_bytes {
            return Err(WorkerError::Bug(format!(
                "the store has {} bytes at {}, but {} were written",
                object.length, self.key, self.written_bytes
            )));
        }
        let link: &MasterLink = self.writes.resolver.link();
        let written = object.fingerprint.as_ref();
        if told(|| link.close_stream(self.facts.container, written, self.written_bytes)).await? {
            return Ok(self.written_bytes);
        }
        take_back(link, self.mounted.store.as_ref(), self.mount, &self.key, written).await;
        Err(went_away(&self.key))
    }

    /// Gives up; nothing remains in the store.
    pub async fn abort(mut self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(key = %self.key, %error, "cannot remove an unfinished write, it expires by itself");
        }
    }

    fn failed(&self, source: ufs::UfsError) -> WorkerError {
        WorkerError::StoreWrite { key: self.key.to_string(), source }
    }
}
