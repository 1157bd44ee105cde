//! Gives this master's state, as a checkpoint, to a member that is too far behind for the log.
//!
//! Is:     checkpoints below the metastore's directory (hard links), their files in pieces, at a bounded rate.
//! Owns:   the directory `sent`; at most [`MAX_HELD`] checkpoints in it, the oldest of which goes for a new one; one that nobody
//!         fetches goes by itself.
//! Never:  touches the state thread; reads on a thread that serves connections.

use crate::error::Error;
use crate::install::SENT;
use crate::shared::Shared;
use parking_lot::Mutex;
use proto::internal::{CheckpointFile, CheckpointResponse, FetchPiece, FetchRequest};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;
use types::{ErrorKind, LogIndex, Monotonic, Term};

/// Bytes of one piece.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces read ahead of the connection.
const AHEAD: usize = 4;
/// Members that fetch at once without delaying other messages.
pub const MAX_FETCHES: usize = 4;
/// Entries from the log that a member may have to apply behind a checkpoint: some seconds' work.
const MAX_REPLAYED: u64 = 100_000;
/// Checkpoints kept at once: each holds disk that compaction has given up.
const MAX_HELD: usize = 2;
/// A checkpoint that nobody fetched from for this long goes.
const UNUSED: Duration = Duration::from_secs(600);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A checkpoint that is here.
struct Held {
    answer: CheckpointResponse,
    used: Monotonic,
}

pub struct Sender {
    shared: Arc<Shared>,
    dir: PathBuf,
    store: &'static str,
    bytes_per_second: Option<u64>,
    held: Mutex<VecDeque<Held>>,
    /// One is made at a time.
    making: tokio::sync::Mutex<()>,
    /// When the bytes promised so far will have been sent at the allowed rate.
    free_at: Mutex<Monotonic>,
}

impl Sender {
    pub fn new(
        shared: Arc<Shared>,
        metastore_dir: PathBuf,
        store: &'static str,
        bytes_per_second: Option<u64>,
    ) -> Arc<Sender> {
        Arc::new(Sender {
            shared,
            dir: metastore_dir.join(SENT),
            store,
            bytes_per_second,
            held: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            free_at: Mutex::default(),
        })
    }

    /// The checkpoint named `have` if it is still here, else a new one.
    pub async fn checkpoint(self: &Arc<Self>, have: &str) -> Result<CheckpointResponse, Error> {
        let _alone = self.making.lock().await;
        if let Some(known) = self.held.lock().iter().find(|held| held.answer.id == have) {
            return Ok(known.answer.clone());
        }
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.make()).await.map_err(|_| Error::Stopping)?
    }

    /// Removes checkpoints that nobody fetches, as long as anybody has the sender.
    pub async fn look_after(this: Weak<Sender>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(sender) = this.upgrade() else { return };
            // Files are removed.
            let _ = tokio::task::spawn_blocking(move || sender.remove_unused()).await;
        }
    }

    fn remove_unused(&self) {
        let now = self.shared.clock.monotonic();
        self.held.lock().retain(|held| {
            let keep = now - held.used < UNUSED;
            if !keep {
                self.remove(&held.answer.id);
            }
            keep
        });
    }

    fn remove(&self, id: &str) {
        if let Err(error) = fs::remove_dir_all(self.dir.join(id)) {
            tracing::warn!(%error, checkpoint = id, "an old checkpoint cannot be removed; the next start does");
        }
    }

    fn make(&self) -> Result<CheckpointResponse, Error> {
        let failed = |error: io::Error| under_way("write a checkpoint to", &self.dir.display().to_string(), &error);
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let id = format!("{:016x}", self.shared.entropy.next_u64());
        let place = self.dir.join(&id);
        let (index, term) = take(&self.shared, &place)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&place).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let length = entry.metadata().map_err(failed)?.len();
            let name = entry.file_name().into_string().map_err(|_| Error::Starting("a file has no plain name"))?;
            files.push(CheckpointFile { name, length });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let bytes: u64 = files.iter().map(|file| file.length).sum();
        tracing::info!(%index, files = files.len(), bytes, "made a checkpoint for a master that is far behind");
        let made = CheckpointResponse { id, index: index.0, term: term.0, store: self.store.to_owned(), files };
        let mut held = self.held.lock();
        held.push_back(Held { answer: made.clone(), used: self.shared.clock.monotonic() });
        while held.len() > MAX_HELD {
            let old = held.pop_front().expect("it was just counted");
            self.remove(&old.answer.id);
        }
        Ok(made)
    }

    /// One file from an offset on. Reads on a thread of its own, no further ahead than the receiver takes.
    pub fn fetch(
        self: &Arc<Self>,
        request: &FetchRequest,
    ) -> Result<mpsc::Receiver<Result<FetchPiece, Status>>, Error> {
        let now = self.shared.clock.monotonic();
        let mut all = self.held.lock();
        let found = all.iter_mut().find(|held| held.answer.id == request.id);
        let found = found.filter(|held| held.answer.files.iter().any(|file| file.name == request.name));
        let Some(found) = found else {
            return Err(Error::NotFound(format!("checkpoint {} is not kept any more; ask for a new one", request.id)));
        };
        found.used = now;
        drop(all);
        let path = self.dir.join(&request.id).join(&request.name);
        let failed = |error| under_way("read", &path.display().to_string(), &error);
        let mut file = File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(request.offset)).map_err(failed)?;
        let (pieces, receiver) = mpsc::channel(AHEAD);
        let (this, runtime) = (self.clone(), tokio::runtime::Handle::current());
        tokio::task::spawn_blocking(move || {
            loop {
                let mut data = Vec::with_capacity(PIECE_BYTES);
                let limit = u64::try_from(PIECE_BYTES).expect("a constant");
                let piece = match (&mut file).take(limit).read_to_end(&mut data) {
                    Ok(0) => return,
                    Ok(_) => Ok(FetchPiece { crc32c: crc32c::crc32c(&data), data: data.into() }),
                    Err(error) => Err(Status::from(under_way("read", &path.display().to_string(), &error))),
                };
                let wait = this.promise(piece.as_ref().map_or(0, |piece| piece.data.len()));
                if !wait.is_zero() {
                    runtime.block_on(tokio::time::sleep(wait));
                }
                let last = piece.is_err();
                if pieces.blocking_send(piece).is_err() || last {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Takes so many bytes out of the allowed rate; how long to wait before they go.
    fn promise(&self, bytes: usize) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let now = self.shared.clock.monotonic();
        let mut free_at = self.free_at.lock();
        let begins = (*free_at).max(now);
        let nanos = u128::try_from(bytes).expect("usize is at most 64 bits") * 1_000_000_000 / u128::from(rate.max(1));
        *free_at = begins + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        begins - now
    }
}

/// Makes a checkpoint of the state at `place`, which must not exist. Returns its last entry and that one's term. Errors: as the
/// database's; the term is not known any more, then a later one may be made.
pub fn take(shared: &Shared, place: &Path) -> Result<(LogIndex, Term), Error> {
    let store = shared.state.store();
    // What was flushed costs hard links alone. From there on the log is kept, and its entries are as good as a snapshot's, if
    // they are few.
    let behind = shared.applied().0.saturating_sub(store.flushed().0);
    if behind > MAX_REPLAYED || shared.term_of(store.flushed()).is_none() {
        store.flush()?;
    }
    let index = store.checkpoint(place)?;
    let term = shared.term_of(index);
    let term = term.ok_or(Error::Starting("the term of the checkpoint's last entry is not known any more"))?;
    Ok((index, term))
}

fn under_way(verb: &str, what: &str, error: &io::Error) -> Error {
    let message = format!("cannot {verb} {what}: {error}; {}", types::remedy(error));
    Error::UnderStore { kind: ErrorKind::Unavailable, message }
}
