//! Makes the directories of a new cluster's master from a backup.
//!
//! Is:     the records of an archive in a fresh database, settled: what the old cluster had under way is not done again.
//! Owns:   `restoring` below the metastore's directory while it runs.
//! Never:  asks a store to change anything; leaves directories that a master would start on before all of it is there.
//!
//! What follows on the backup in the old cluster's history is not known here, and in part it happened: in the stores and on the
//! workers. So the new history begins apart from it: a new incarnation, containers and log indexes far above, no operation on a
//! store taken up, no file persisted unasked.

use super::archive::{Decoder, Head, Part, Record};
use crate::config::MasterConfig;
use crate::error::Error;
use crate::format::{format_log, format_state, make_work_dir};
use crate::install::{self, Dirs, INCOMING, Place, Snapshot};
use crate::peers::{Group, Members};
use crate::server::open_state;
use crate::stores::Opener;
use bytes::Bytes;
use journal::SegmentOptions;
use meta::{BeginIncarnation, Caller, Change, Changes, CloseIntent, Entry, Family, HoldPersist, Ids, IntentEnd, Mount};
use meta::{Namespace, Op, Record as _, Store, StoreError};
use rpc::ClusterKey;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio_stream::StreamExt as _;
use types::{Clock, ClusterId, Entropy, GfsPath, LogIndex};
use ufs::Key;

/// Where the database is filled, below the metastore's directory.
const RESTORING: &str = "restoring";
/// Log indexes left out: more than another history writes in years. Worker sessions are numbered by them.
const JUMP: u64 = 1 << 32;
/// Bytes asked of a file or a store at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Commits between two flushes: what is not flushed is in memory.
const FLUSH_EVERY: u32 = 64;
/// Entries and persists settled at once.
const STEP: usize = 1_000;
/// Files named in the outcome.
const NAMED: usize = 20;

/// What was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// What the log is bound to.
    pub cluster: ClusterId,
    /// Of the backup.
    pub records: u64,
    pub written: types::UnixMs,
    /// Operations on stores that were under way and are not taken up.
    pub intents: u64,
    /// Files that were on their way to their store and stay in the cache.
    pub held: u64,
    /// The first of these.
    pub held_paths: Vec<GfsPath>,
}

/// Writes a log and a database that go on from the backup `from`: a file of this machine, or the address of one in the root
/// under store. One of several masters becomes a group of its own, into which others are taken.
///
/// - `progress`: called with the bytes read so far.
///
/// Errors: as those of [`crate::format`]; a backup that is damaged, cut short, or of a newer release; secrets in it that this
/// cluster's key does not open. Cost: reads the backup once.
pub async fn format_from_backup(
    config: &MasterConfig,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    force: bool,
    from: &str,
    mut progress: impl FnMut(u64),
) -> Result<Restored, Error> {
    let refuse = |why: &dyn std::fmt::Display| Error::Start(format!("cannot restore from {from}: {why}"));
    let mut source = Source::open(config, Opener { clock, entropy: entropy.clone() }, from).await?;
    let mut decoder = Decoder::default();
    let head = loop {
        match decoder.part().map_err(|why| refuse(&why))? {
            Some(Part::Head(head)) => break head,
            Some(Part::Records(_)) => unreachable!("the head comes first"),
            None => match source.read().await? {
                Some(chunk) => decoder.feed(&chunk),
                None => return Err(refuse(&decoder.finish().expect_err("it has no head"))),
            },
        }
    };
    if head.rules > meta::RULES_VERSION {
        let why = format!("its master applied rules {}, this release knows up to {}", head.rules, meta::RULES_VERSION);
        return Err(refuse(&format!("{why}; use release {} or a later one", head.release)));
    }
    let key = match config.key_file.exists() {
        true => ClusterKey::load(&config.key_file),
        false => ClusterKey::create(&config.key_file),
    };
    let key = key.map_err(start("read the cluster's key"))?.group_id();
    let cluster = if config.group.is_some() { key } else { head.cluster };
    format_log(config, cluster, force)?;

    let restoring = config.metastore_dir.join(RESTORING);
    remove(&restoring)?;
    let mut filled = Filled::begin(config, &restoring, cluster, &head)?;
    let records = loop {
        while let Some(part) = decoder.part().map_err(|why| refuse(&why))? {
            if let Part::Records(records) = part {
                filled.take(records)?;
            }
        }
        progress(source.bytes);
        match source.read().await? {
            Some(chunk) => decoder.feed(&chunk),
            None => break decoder.finish().map_err(|why| refuse(&why))?,
        }
    };
    if let Some(sealed) = filled.sealed.first().filter(|_| head.key != key) {
        let (count, file) = (filled.sealed.len(), config.key_file.display());
        let why =
            format!("{count} of its stores ({sealed} …) have secrets that were sealed with another key than {file}");
        return Err(refuse(&format!(
            "{why}; put the key file of the cluster it was written by there, and run this again"
        )));
    }
    let mut restored =
        Restored { cluster, records, written: head.written, intents: 0, held: 0, held_paths: Vec::new() };
    let index = settle(&*filled.store, &mut restored).map_err(|why| refuse(&why))?;
    let incoming = config.metastore_dir.join(INCOMING);
    remove(&incoming)?;
    filled.store.flush()?;
    filled.store.checkpoint(&incoming)?;
    drop(filled);
    let dirs = Dirs { journal: &config.journal_dir, metastore: &config.metastore_dir };
    let options = SegmentOptions { segment_bytes: config.segment_bytes };
    let place = Place { files: dirs, cluster, options };
    place.begin(&Snapshot { index, term: head.term, files: files(&incoming)? }).map_err(start("restore"))?;
    place.finish().map_err(start("restore"))?;
    if let Some(group) = &config.group {
        // It is the only one that knows this state; others learn it from here.
        let members = Members::new(std::slice::from_ref(&group.own)).map_err(Error::Start)?;
        let own = members.id(&group.own).expect("it is the only one");
        Group::create(&config.journal_dir, own, members, entropy.next_u128()).map_err(start("format the journal"))?;
    }
    make_work_dir(config)?;
    Ok(restored)
}

fn remove(dir: &Path) -> Result<(), Error> {
    install::remove_all(dir).map_err(|why| Error::Start(types::sentence(&why)))
}

/// Every file of a checkpoint with its length, synced.
fn files(dir: &Path) -> Result<Vec<(String, u64)>, Error> {
    let list = || -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            fs::File::open(entry.path())?.sync_all()?;
            files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
        }
        Ok(files)
    };
    list().map_err(start(&format!("read {}", dir.display())))
}

/// The database as it fills.
struct Filled {
    store: Arc<dyn Store>,
    index: LogIndex,
    commits: u32,
    /// Mounts with secrets.
    sealed: Vec<GfsPath>,
}

impl Filled {
    fn begin(config: &MasterConfig, dir: &Path, cluster: ClusterId, head: &Head) -> Result<Filled, Error> {
        format_state(config, dir, cluster)?;
        let store = open_state(config, dir, cluster)?;
        Ok(Filled { store, index: head.index, commits: 0, sealed: Vec::new() })
    }

    fn take(&mut self, records: Vec<Record>) -> Result<(), Error> {
        for (_, _, value) in records.iter().filter(|(family, _, _)| *family == Family::Mounts) {
            let mount = Mount::decode(value)?;
            self.sealed.extend((!mount.secrets.is_empty()).then_some(mount.path));
        }
        let change = |(family, key, value)| Change { family, key, value: Some(value) };
        let changes = records.into_iter().map(change).collect();
        self.store.commit(&Changes { changes, applied: self.index })?;
        self.commits += 1;
        if self.commits.is_multiple_of(FLUSH_EVERY) {
            self.store.flush()?;
        }
        Ok(())
    }
}

/// Ends what was under way, by entries that follow on the backup. The index of the last one.
fn settle(store: &dyn Store, restored: &mut Restored) -> Result<LogIndex, StoreError> {
    let mut namespace = Namespace::open(store)?;
    let mut last = LogIndex(namespace.applied().0 + JUMP);
    // How many of them were accepted.
    let mut run = |namespace: &mut Namespace, ops: Vec<Op>| -> Result<u64, StoreError> {
        let (wall, age) = (namespace.counters().wall, namespace.counters().age);
        let mut batch = Vec::with_capacity(ops.len());
        for op in ops {
            last = LogIndex(last.0 + 1);
            let who = Caller { user: String::new(), groups: Vec::new(), superuser: true };
            batch.push((last, Entry { wall, age, who, operation: None, ids: Ids::default(), op }));
        }
        let (changes, outcomes) = namespace.apply(store, &batch)?;
        store.commit(&changes)?;
        let accepted = outcomes.iter().filter(|applied| applied.outcome.is_ok()).count();
        Ok(u64::try_from(accepted).expect("usize is at most 64 bits"))
    };

    let close = |intent: &meta::Intent| {
        let why = "the cluster was restored from a backup, which does not know whether this was done".to_owned();
        Op::CloseIntent(CloseIntent { intent: intent.id, attempt: intent.attempt, end: IntentEnd::Refused { why } })
    };
    loop {
        let ops: Vec<Op> = namespace.intents().take(STEP).map(close).collect();
        if ops.is_empty() {
            break;
        }
        restored.intents += run(&mut namespace, ops)?;
    }
    let mut after = None;
    loop {
        let page = meta::persists(store, after, STEP)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (container, _) in page.iter().take(NAMED.saturating_sub(restored.held_paths.len())) {
            let file = meta::by_container(store, *container)?;
            restored.held_paths.extend(file.map(|file| file.spot.path));
        }
        // One whose directory was removed, and is being collected, is refused and goes with that.
        let hold = |(container, _)| Op::HoldPersist(HoldPersist { container });
        restored.held += run(&mut namespace, page.into_iter().map(hold).collect())?;
    }
    let after = namespace.counters().incarnation;
    run(&mut namespace, vec![Op::BeginIncarnation(BeginIncarnation { after })])?;
    store.flush()?;
    Ok(last)
}

/// Where a backup is read from.
struct Source {
    from: From,
    bytes: u64,
}

enum From {
    File(tokio::fs::File),
    Store(ufs::ReadStream),
}

impl Source {
    async fn open(config: &MasterConfig, opener: Opener, from: &str) -> Result<Source, Error> {
        let what = format!("read the backup {from}");
        if !from.contains("://") {
            let file = tokio::fs::File::open(from).await.map_err(start(&what))?;
            return Ok(Source { from: From::File(file), bytes: 0 });
        }
        let store = opener
            .open(&config.root_ufs, &config.root_properties, &config.root_secrets)
            .map_err(start("open the root under store"))?;
        let root = store.uri().trim_end_matches('/');
        let key = from.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')).ok_or_else(|| {
            Error::Start(format!(
                "{from} does not lie in {root}, the root under store (goosefs.master.mount.table.root.ufs); copy the \
                 backup to this machine and name the file"
            ))
        })?;
        let key = Key::parse(key).map_err(start(&format!("understand {from}")))?;
        let found = store.stat(&key).await.map_err(start(&what))?;
        let Some(length) =
            found.filter(|found| !key.is_dir() && found.kind == ufs::ObjectKind::File).map(|found| found.length)
        else {
            return Err(Error::Start(format!("there is no backup {from}; see what fsadmin backup printed")));
        };
        let stream = store.read(&key, 0..length, None).await.map_err(start(&what))?;
        Ok(Source { from: From::Store(stream), bytes: 0 })
    }

    /// None at its end.
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = match &mut self.from {
            From::File(file) => {
                let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
                let read = file.read_buf(&mut chunk).await.map_err(start("read the backup"))?;
                (read > 0).then(|| chunk.freeze())
            }
            From::Store(stream) => stream.body.next().await.transpose().map_err(start("read the backup"))?,
        };
        self.bytes += chunk.as_ref().map_or(0, |chunk| u64::try_from(chunk.len()).expect("usize is at most 64 bits"));
        Ok(chunk)
    }
}

/// Why it cannot go on, with all causes.
fn start<E: std::error::Error>(what: &str) -> impl Fn(E) -> Error {
    let what = format!("cannot {what}");
    move |error| Error::Start(format!("{what}: {}", types::sentence(&error)))
}
