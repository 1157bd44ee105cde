//! Fetches another master's checkpoint into `incoming`, file by file.
//!
//! Is:     one task at a time, with tries; what has arrived stays while this process lives.
//! Owns:   the directory `incoming` below the metastore's directory.
//! Never:  calls a snapshot whole before every file is there, has its length, and is synced.

use super::SESSION;
use super::lane::{Course, Line, open};
use crate::install::{INCOMING, Snapshot};
use journal::SnapshotOffer;
use parking_lot::Mutex;
use proto::internal::{CheckpointRequest, CheckpointResponse, FetchRequest};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::{self, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tonic::Request;
use tonic::metadata::MetadataValue;
use types::{LogIndex, Term};

/// Tries in a row without a new byte; then the next offer decides from whom to fetch.
const TRIES: u32 = 5;
/// Rest between two.
const PAUSE: Duration = Duration::from_millis(300);
/// A sender that says nothing for so long is given up.
const PIECE_WITHIN: Duration = Duration::from_secs(20);
/// A checkpoint may have to be flushed first.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(600);

/// Tells that a snapshot is here, whole.
pub type Fetched = watch::Sender<Option<Snapshot>>;

pub struct Fetch {
    dir: PathBuf,
    store: &'static str,
    fetched: Fetched,
    applied: Arc<dyn Fn() -> LogIndex + Send + Sync>,
    running: Arc<Mutex<bool>>,
}

impl Fetch {
    /// - `applied`: what this member has applied when it is asked.
    pub fn new(
        metastore_dir: PathBuf,
        store: &'static str,
        fetched: Fetched,
        applied: impl Fn() -> LogIndex + Send + Sync + 'static,
    ) -> Fetch {
        let (dir, applied) = (metastore_dir.join(INCOMING), Arc::new(applied));
        Fetch { dir, store, fetched, applied, running: Arc::default() }
    }

    /// Begins, unless something is being fetched or was.
    pub fn begin(&self, course: Course, offer: SnapshotOffer, runtime: &tokio::runtime::Handle) {
        let mut running = self.running.lock();
        if *running || self.fetched.borrow().is_some() {
            return;
        }
        *running = true;
        tracing::warn!(from = %offer.from, mark = %offer.mark.index, "this master is too far behind for the log: fetching a snapshot");
        let (dir, store, fetched, running) = (self.dir.clone(), self.store, self.fetched.clone(), self.running.clone());
        let applied = self.applied.clone();
        // Ends with its runtime, which the owner of all lanes shuts down.
        runtime.spawn(async move {
            match (Visit { dir, store, course, bytes: 0 }).run().await {
                Ok(snapshot) if snapshot.index <= applied() => {
                    tracing::info!(index = %snapshot.index, "the snapshot is not needed any more: the log was there after all");
                }
                Ok(snapshot) => {
                    tracing::info!(index = %snapshot.index, files = snapshot.files.len(), "the snapshot is here");
                    fetched.send_replace(Some(snapshot));
                }
                Err(why) => tracing::warn!(%why, "the snapshot was not fetched; it will be offered again"),
            }
            *running.lock() = false;
        });
    }
}

struct Visit {
    dir: PathBuf,
    store: &'static str,
    course: Course,
    /// Bytes that have arrived, over all tries.
    bytes: u64,
}

impl Visit {
    async fn run(mut self) -> Result<Snapshot, String> {
        let mut have: Option<CheckpointResponse> = None;
        let (mut tries, mut before) = (0, 0);
        loop {
            let why = match self.attempt(&mut have).await {
                Ok(snapshot) => return Ok(snapshot),
                Err(why) => why,
            };
            tries = if self.bytes > before { 1 } else { tries + 1 };
            before = self.bytes;
            if tries >= TRIES {
                return Err(why);
            }
            tracing::warn!(%why, bytes = self.bytes, "fetching the snapshot was interrupted, going on");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&mut self, have: &mut Option<CheckpointResponse>) -> Result<Snapshot, String> {
        let mut line = open(&self.course).await?;
        let known = have.as_ref().map(|have| have.id.clone()).unwrap_or_default();
        let request = line.ask(CheckpointRequest { have: known.clone() });
        let answer = tokio::time::timeout(CHECKPOINT_WITHIN, line.client.checkpoint(request)).await;
        let answer = answer.map_err(|_| "no checkpoint within ten minutes".to_owned())?;
        let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
        if answer.store != self.store {
            return Err(format!(
                "the other master keeps its metadata as {}, this one as {}; goosefs.master.metastore must be the same",
                answer.store, self.store
            ));
        }
        if let Some(odd) = answer.files.iter().find(|file| !is_plain(&file.name)) {
            return Err(format!("{:?} is no name of a file of a metastore", odd.name));
        }
        if answer.id != known {
            clear(&self.dir).await.map_err(|error| format!("clear {}: {error}", self.dir.display()))?;
        }
        *have = Some(answer.clone());
        for file in &answer.files {
            self.file(&mut line, &answer.id, &file.name, file.length).await?;
        }
        crate::install::sync(&self.dir).map_err(|error| types::sentence(&error))?;
        Ok(Snapshot {
            index: LogIndex(answer.index),
            term: Term(answer.term),
            files: answer.files.into_iter().map(|file| (file.name, file.length)).collect(),
        })
    }

    /// Goes on with a file where it was left.
    async fn file(&mut self, line: &mut Line, id: &str, name: &str, length: u64) -> Result<(), String> {
        let path = self.dir.join(name);
        let failed = |error: std::io::Error| format!("write {}: {error}; {}", path.display(), types::remedy(&error));
        let mut file = OpenOptions::new().create(true).append(true).open(&path).await.map_err(failed)?;
        let mut offset = file.metadata().await.map_err(failed)?.len();
        if offset < length {
            let request = line.ask(FetchRequest { id: id.to_owned(), name: name.to_owned(), offset });
            let pieces = line.client.fetch(request).await.map_err(|status| status.message().to_owned())?;
            let mut pieces = pieces.into_inner();
            while offset < length {
                let piece = tokio::time::timeout(PIECE_WITHIN, pieces.message()).await;
                let piece = piece.map_err(|_| format!("nothing of {name} came for {PIECE_WITHIN:?}"))?;
                let piece = piece.map_err(|status| status.message().to_owned())?;
                let piece = piece.ok_or_else(|| format!("{name} ended at {offset} of {length} bytes"))?;
                if crc32c::crc32c(&piece.data) != piece.crc32c {
                    return Err(format!("{name} was damaged on its way at byte {offset}"));
                }
                file.write_all(&piece.data).await.map_err(failed)?;
                file.flush().await.map_err(failed)?;
                let bytes = u64::try_from(piece.data.len()).expect("a piece is small");
                offset += bytes;
                self.bytes += bytes;
            }
        }
        if offset != length {
            return Err(format!("{name} has {offset} bytes instead of {length}"));
        }
        file.sync_all().await.map_err(failed)
    }
}

impl Line {
    fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert_bin(SESSION, MetadataValue::from_bytes(&self.session));
        request
    }
}

/// Whether a name stays within its directory.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\n', '\0'])
}

async fn clear(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(dir).await
}
