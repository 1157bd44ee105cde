//! Writes a backup of this master's state while it serves.
//!
//! Is:     a checkpoint, read by a thread of its own, as an archive to a local file or an object of the root store.
//! Owns:   one checkpoint below the metastore's directory while it runs; the unfinished file.
//! Never:  touches the state thread; leaves a file under its name that is not whole.

use super::archive::{Encoder, Head};
use crate::core;
use crate::error::Error;
use crate::install::SENT;
use crate::server::open_state;
use crate::shared::Shared;
use crate::stores::Stores;
use bytes::Bytes;
use meta::{Family, ROOT_MOUNT};
use proto::admin::BackupResponse;
use rpc::ClusterKey;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::fs::{DirBuilder, File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tonic::Status;
use types::{ClusterId, ErrorKind, LogIndex};
use ufs::{Condition, Key, WriteOptions};

/// Blocks read ahead of whoever writes them.
const AHEAD: usize = 8;
/// Bytes between two reports.
const REPORT_BYTES: u64 = 8 << 20;
/// Behind every key of every family.
const END: &[u8] = &[0xff; 16];

/// Where a backup goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// A directory of the root under store, as a path in it.
    Store(String),
    /// A directory of this master's machine.
    Local(PathBuf),
}

/// Backups this master writes, one at a time.
pub struct Backups {
    shared: Arc<Shared>,
    stores: Arc<Stores>,
    key: Arc<ClusterKey>,
    writing: Arc<tokio::sync::Mutex<()>>,
}

pub type Reports = mpsc::Receiver<Result<BackupResponse, Status>>;

fn failed(verb: &str, path: &Path) -> impl Fn(io::Error) -> Error {
    let (verb, path) = (verb.to_owned(), path.to_owned());
    move |error| {
        let message = format!("cannot {verb} {}: {error}; {}", path.display(), types::remedy(&error));
        Error::UnderStore { kind: ErrorKind::Unavailable, message }
    }
}

impl Backups {
    pub fn new(shared: Arc<Shared>, stores: Arc<Stores>, key: Arc<ClusterKey>) -> Backups {
        Backups { shared, stores, key, writing: Arc::default() }
    }

    /// Begins one. What was acknowledged before the call is in it. Reports come as it is written, the last one says where it
    /// is; who drops them gives it up. Errors, at once: another one is being written.
    pub fn begin(&self, destination: Destination) -> Result<Reports, Error> {
        let alone = Arc::clone(&self.writing).try_lock_owned();
        let alone =
            alone.map_err(|_| Error::Refused("another backup is being written; wait for its end".to_owned()))?;
        let (reports, receiver) = mpsc::channel(AHEAD);
        let source = Source { shared: self.shared.clone(), key: self.key.group_id() };
        let stores = self.stores.clone();
        tokio::spawn(async move {
            let outcome = write(source, &stores, destination, &reports).await;
            if let Err(error) = &outcome {
                tracing::warn!(%error, "a backup was not written");
            }
            let _ = reports.send(outcome.map_err(Status::from)).await;
            drop(alone);
        });
        Ok(receiver)
    }
}

/// What is read.
struct Source {
    shared: Arc<Shared>,
    key: ClusterId,
}

/// A checkpoint; it goes with this value.
struct Checkpoint(PathBuf);

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, dir = %self.0.display(), "the checkpoint of a backup cannot be removed; the next start does");
        }
    }
}

/// The bytes of an archive, as they are made.
enum Piece {
    Head(Head, Bytes),
    Block(Bytes),
    End(Bytes, u64),
}

impl Source {
    /// Makes a checkpoint and sends what is in it.
    fn read(self, pieces: &mpsc::Sender<Result<Piece, Error>>) -> Result<(), Error> {
        let shared = &self.shared;
        let sent = shared.config.metastore_dir.join(SENT);
        fs::create_dir_all(&sent).map_err(failed("make", &sent))?;
        let place = sent.join(format!("backup-{:016x}", shared.entropy.next_u64()));
        // All that was acknowledged before it was asked for.
        shared.state.store().flush()?;
        let index = shared.state.store().checkpoint(&place)?;
        let place = Checkpoint(place);
        let term = shared.term_of(index).ok_or(Error::Starting("the term of its last entry is not known any more"))?;
        let counters = shared.counters();
        let cluster = counters.and_then(|counters| counters.cluster);
        let cluster = cluster.ok_or(Error::Starting("it has no namespace yet"))?;
        let bound_to = if shared.config.group.is_some() { self.key } else { cluster };
        let state = open_state(&shared.config, &place.0, bound_to)?;
        let counters = meta::Namespace::open(&*state)?.counters().clone();
        let head = Head {
            index,
            term,
            cluster,
            key: self.key,
            incarnation: counters.incarnation,
            rules: counters.rules,
            written: shared.clock.unix(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let bytes = head.encode();
        // Nobody waits any more: whoever took the pieces gave up.
        let send = |piece| pieces.blocking_send(Ok(piece)).map_err(|_| Error::Stopping);
        send(Piece::Head(head, bytes))?;
        let mut encoder = Encoder::default();
        for family in Family::ALL {
            meta::for_each_between(&*state, family, (&[], END), |key, value| {
                // Of this history's log and group; a new one has its own.
                let is_left_out = store::is_own(family, key) || (family == Family::State && key == core::MEMBERS_KEY);
                match if is_left_out { None } else { encoder.push(family, key, value) } {
                    Some(block) => send(Piece::Block(block)),
                    None => Ok(()),
                }
            })?;
        }
        let (end, records) = encoder.finish();
        send(Piece::End(end, records))
    }
}

/// Where the bytes go.
enum Sink {
    Local { file: File, part: PathBuf, path: PathBuf },
    Store { writer: Box<dyn ufs::Writer>, uri: String },
}

impl Sink {
    async fn open(destination: Destination, name: &str, stores: &Stores) -> Result<Sink, Error> {
        match destination {
            Destination::Local(dir) => {
                DirBuilder::new().recursive(true).mode(0o700).create(&dir).await.map_err(failed("make", &dir))?;
                let (path, part) = (dir.join(name), dir.join(format!(".{name}.part")));
                // It holds every name, and secrets, though sealed.
                let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part).await;
                Ok(Sink::Local { file: file.map_err(failed("make", &part))?, part, path })
            }
            Destination::Store(dir) => {
                let store = stores.get(ROOT_MOUNT)?;
                let dir = dir.trim_matches('/');
                let key = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
                let uri = format!("{}/{key}", store.uri().trim_end_matches('/'));
                let key =
                    Key::parse(&key).map_err(|why| Error::Invalid(format!("{key} is no place for a backup: {why}")))?;
                let options = WriteOptions { condition: Condition::Absent, ..WriteOptions::default() };
                let writer = store.write(&key, options).await.map_err(crate::stores::refused)?;
                Ok(Sink::Store { writer, uri })
            }
        }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        match self {
            Sink::Local { file, part, .. } => file.write_all(&bytes).await.map_err(failed("write", part)),
            Sink::Store { writer, .. } => Ok(writer.write(bytes).await.map_err(crate::stores::refused)?),
        }
    }

    /// Makes it visible, whole and safe; where it is.
    async fn finish(&mut self) -> Result<String, Error> {
        match self {
            Sink::Local { file, part, path } => {
                let dir = path.parent().unwrap_or(Path::new("/"));
                file.sync_all().await.map_err(failed("write", part))?;
                tokio::fs::rename(&*part, &*path).await.map_err(failed("rename", part))?;
                let synced = async { File::open(dir).await?.sync_all().await };
                synced.await.map_err(failed("sync", dir))?;
                Ok(path.display().to_string())
            }
            Sink::Store { writer, uri } => {
                writer.finish().await.map_err(crate::stores::refused)?;
                Ok(uri.clone())
            }
        }
    }

    async fn abort(&mut self) {
        let outcome = match self {
            Sink::Local { part, .. } => fs::remove_file(&*part).map_err(|error| error.to_string()),
            Sink::Store { writer, .. } => writer.abort().await.map_err(|error| error.to_string()),
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "what was written of a backup cannot be removed");
        }
    }
}

/// Sorts by time; says what it is without its content.
fn name(head: &Head) -> Result<String, Error> {
    let written = jiff::Timestamp::from_millisecond(head.written.0)
        .map_err(|error| Error::Refused(format!("this machine's clock says what is no time: {error}")))?;
    Ok(format!("goosefs-backup-{}-{}.bak", written.strftime("%Y-%m-%dT%H-%M-%SZ"), head.index.0))
}

async fn write(
    source: Source,
    stores: &Stores,
    destination: Destination,
    reports: &mpsc::Sender<Result<BackupResponse, Status>>,
) -> Result<BackupResponse, Error> {
    let host = source.shared.config.hostname.clone();
    let (sender, mut pieces) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = source.read(&sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let Some(Piece::Head(head, bytes)) = pieces.recv().await.transpose()? else { return Err(Error::Stopping) };
    let mut sink = Sink::open(destination, &name(&head)?, stores).await?;
    match copy(&mut sink, bytes, &mut pieces, reports).await {
        Ok(done) => {
            let place = sink.finish().await?;
            let LogIndex(index) = head.index;
            tracing::info!(%place, index, records = done.records, bytes = done.bytes, "a backup was written");
            Ok(BackupResponse { host, place, index, ..done })
        }
        Err(error) => {
            sink.abort().await;
            Err(error)
        }
    }
}

/// Everything from the head on; how much it was.
async fn copy(
    sink: &mut Sink,
    head: Bytes,
    pieces: &mut mpsc::Receiver<Result<Piece, Error>>,
    reports: &mpsc::Sender<Result<BackupResponse, Status>>,
) -> Result<BackupResponse, Error> {
    let (mut done, mut reported) = (BackupResponse::default(), 0);
    let mut next = Some(head);
    loop {
        if let Some(bytes) = next.take() {
            done.bytes += u64::try_from(bytes.len()).expect("usize is at most 64 bits");
            sink.write(bytes).await?;
        }
        if done.bytes - reported >= REPORT_BYTES {
            reported = done.bytes;
            // One who reads slowly misses some.
            let _ = reports.try_send(Ok(done.clone()));
        }
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            () = reports.closed() => None,
        };
        match piece {
            Some(Ok(Piece::Block(bytes))) => next = Some(bytes),
            Some(Ok(Piece::End(bytes, records))) => {
                done.bytes += u64::try_from(bytes.len()).expect("usize is at most 64 bits");
                sink.write(bytes).await?;
                return Ok(BackupResponse { records, ..done });
            }
            Some(Ok(Piece::Head(..))) => unreachable!("the head comes once"),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::Stopping),
        }
    }
}
