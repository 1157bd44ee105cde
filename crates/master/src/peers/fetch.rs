//! Fetches another master's checkpoint into `incoming`, file by file.
//!
//! Is:     one task at a time, with tries; what has arrived stays while this process lives. Whom it asks and where it puts
//!         what it gets are behind [`Source`] and [`Arrivals`].
//! Owns:   the directory `incoming` below the metastore's directory.
//! Never:  calls a snapshot whole before every file is there, has its length, and is synced.

use super::SESSION;
use super::lane::{Course, Line, open_apart};
use crate::install::{INCOMING, Snapshot};
use journal::SnapshotOffer;
use parking_lot::Mutex;
use proto::internal::{CheckpointRequest, CheckpointResponse, FetchPiece, FetchRequest};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::{Request, Streaming};
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
            let source = Peer { course, line: None, sending: None };
            match Visit::new(source, Folder { dir, file: None }, store).run().await {
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

/// Whom a snapshot is fetched from. What failed may be asked again after a rest.
pub trait Source: Send {
    /// Its checkpoint named `have` if it still has that, else a new one. Errors: what went wrong, in words.
    fn checkpoint(&mut self, have: &str) -> impl Future<Output = Result<CheckpointResponse, String>> + Send;
    /// Some bytes of a file of the checkpoint `id` from `offset` on, at least one. Errors: as before.
    fn piece(&mut self, id: &str, name: &str, offset: u64) -> impl Future<Output = Result<FetchPiece, String>> + Send;
    /// Gives up the way that failed, and lets some time pass.
    fn rest(&mut self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// Where what is fetched gathers. Errors: what the disk said.
pub trait Arrivals: Send {
    /// Removes all that has arrived.
    fn clear(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// Goes on with a file, or begins it: how many bytes of it have arrived.
    fn open(&mut self, name: &str) -> impl Future<Output = io::Result<u64>> + Send;
    /// Adds to the file that was opened last.
    fn append(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// The file that was opened last is safe when it returns.
    fn sync(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// The names of all files are safe when it returns.
    fn settle(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// One snapshot on its way.
pub struct Visit<S, A> {
    source: S,
    arrivals: A,
    /// Who keeps his metadata otherwise has nothing of use.
    store: &'static str,
    /// Bytes that have arrived, over all tries.
    bytes: u64,
}

impl<S: Source, A: Arrivals> Visit<S, A> {
    /// - `store`: how this master keeps its metadata, as the other one names it.
    pub fn new(source: S, arrivals: A, store: &'static str) -> Visit<S, A> {
        Visit { source, arrivals, store, bytes: 0 }
    }

    /// Fetches every file, and goes on where a try was broken off. Returns when all are whole and safe. Errors: [`TRIES`] tries
    /// in a row brought nothing; why the last one failed.
    pub async fn run(mut self) -> Result<Snapshot, String> {
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
            self.source.rest(PAUSE).await;
        }
    }

    async fn attempt(&mut self, have: &mut Option<CheckpointResponse>) -> Result<Snapshot, String> {
        let known = have.as_ref().map(|have| have.id.clone()).unwrap_or_default();
        let answer = self.source.checkpoint(&known).await?;
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
            self.arrivals.clear().await.map_err(|error| unwritable("what has arrived", &error))?;
        }
        *have = Some(answer.clone());
        for file in &answer.files {
            self.file(&answer.id, &file.name, file.length).await?;
        }
        self.arrivals.settle().await.map_err(|error| unwritable("what has arrived", &error))?;
        Ok(Snapshot {
            index: LogIndex(answer.index),
            term: Term(answer.term),
            files: answer.files.into_iter().map(|file| (file.name, file.length)).collect(),
        })
    }

    /// Goes on with a file where it was left.
    async fn file(&mut self, id: &str, name: &str, length: u64) -> Result<(), String> {
        let failed = |error: io::Error| unwritable(name, &error);
        let mut offset = self.arrivals.open(name).await.map_err(failed)?;
        while offset < length {
            let piece = self.source.piece(id, name, offset).await?;
            if crc32c::crc32c(&piece.data) != piece.crc32c {
                return Err(format!("{name} was damaged on its way at byte {offset}"));
            }
            self.arrivals.append(&piece.data).await.map_err(failed)?;
            let bytes = u64::try_from(piece.data.len()).expect("a piece is small");
            offset += bytes;
            self.bytes += bytes;
        }
        if offset != length {
            return Err(format!("{name} has {offset} bytes instead of {length}"));
        }
        self.arrivals.sync().await.map_err(failed)
    }
}

fn unwritable(what: &str, error: &io::Error) -> String {
    format!("write {what}: {error}; {}", types::remedy(error))
}

/// Another master, over port 9202.
struct Peer {
    course: Course,
    line: Option<Line>,
    /// The file that is being sent, and from where on its next piece is.
    sending: Option<(FetchRequest, Streaming<FetchPiece>)>,
}

impl Peer {
    /// The connection, opened if there is none.
    async fn line(&mut self) -> Result<&mut Line, String> {
        if self.line.is_none() {
            // What is sent of a checkpoint delays nothing else there.
            self.line = Some(open_apart(&self.course).await?);
        }
        Ok(self.line.as_mut().expect("it was just opened"))
    }
}

impl Source for Peer {
    async fn checkpoint(&mut self, have: &str) -> Result<CheckpointResponse, String> {
        let line = self.line().await?;
        let request = line.ask(CheckpointRequest { have: have.to_owned() });
        let answer = tokio::time::timeout(CHECKPOINT_WITHIN, line.client.checkpoint(request)).await;
        let answer = answer.map_err(|_| "no checkpoint within ten minutes".to_owned())?;
        Ok(answer.map_err(|status| status.message().to_owned())?.into_inner())
    }

    async fn piece(&mut self, id: &str, name: &str, offset: u64) -> Result<FetchPiece, String> {
        let wanted = FetchRequest { id: id.to_owned(), name: name.to_owned(), offset };
        let mut sending = match self.sending.take() {
            Some((next, pieces)) if next == wanted => pieces,
            Some(_) | None => {
                let line = self.line().await?;
                let request = line.ask(wanted);
                line.client.fetch(request).await.map_err(|status| status.message().to_owned())?.into_inner()
            }
        };
        let piece = tokio::time::timeout(PIECE_WITHIN, sending.message()).await;
        let piece = piece.map_err(|_| format!("nothing of {name} came for {PIECE_WITHIN:?}"))?;
        let piece = piece.map_err(|status| status.message().to_owned())?;
        let piece =
            piece.filter(|piece| !piece.data.is_empty()).ok_or_else(|| format!("{name} ended at byte {offset}"))?;
        let offset = offset + u64::try_from(piece.data.len()).expect("a piece is small");
        self.sending = Some((FetchRequest { id: id.to_owned(), name: name.to_owned(), offset }, sending));
        Ok(piece)
    }

    async fn rest(&mut self, time: Duration) {
        (self.line, self.sending) = (None, None);
        tokio::time::sleep(time).await;
    }
}

/// A directory, and the file in it that was opened last.
struct Folder {
    dir: PathBuf,
    file: Option<File>,
}

impl Folder {
    fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("a file was opened")
    }
}

impl Arrivals for Folder {
    async fn clear(&mut self) -> io::Result<()> {
        self.file = None;
        match fs::remove_dir_all(&self.dir).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&self.dir).await
    }

    async fn open(&mut self, name: &str) -> io::Result<u64> {
        let file = OpenOptions::new().create(true).append(true).open(self.dir.join(name)).await?;
        let length = file.metadata().await?.len();
        self.file = Some(file);
        Ok(length)
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file().write_all(bytes).await?;
        self.file().flush().await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.file().sync_all().await
    }

    async fn settle(&mut self) -> io::Result<()> {
        File::open(&self.dir).await?.sync_all().await
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
