//! Clients of ours: those of the `client` crate, with their own search for a leader, retries and deadlines, in a cluster
//! without a network.
//!
//! Is:     [`Own`], one client with the call it has under way; [`Ways`], what all of them ask and have not heard of yet.
//! Never:  tries anything again: that is what is simulated.

use crate::calls::{Answer, Call, Refusal, Room, Shown, VANISHED, owner_name, owner_of};
use crate::dice::Dice;
use bytes::Bytes;
use client::{ClientConfig, Error, FileStatus, FileSystem, MakeDirectory, Remove, SetAttributes, Way, WriteOptions};
use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::Status;
use types::{Entropy, ErrorKind, GfsPath, LoadMetadata, Mode, WriteType};

/// How long one of its calls may take, and how long it looks for a leader: within what a cluster may take to heal.
const CALL: Duration = Duration::from_secs(12);
const SEARCH: Duration = Duration::from_secs(6);
const PORT: u16 = 9200;

/// A question on its way to a master.
pub struct Asked {
    pub number: u64,
    pub master: usize,
    pub method: &'static str,
    pub request: Bytes,
}

#[derive(Default)]
struct State {
    next: u64,
    asked: Vec<Asked>,
    /// Who waits for an answer, and of which master.
    waiting: BTreeMap<u64, (usize, oneshot::Sender<Result<Bytes, Status>>)>,
}

/// Clones are the same.
#[derive(Clone, Default)]
pub struct Ways(Arc<Mutex<State>>);

impl Ways {
    /// What was asked since the last call.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.0.lock().asked)
    }

    /// Brings an answer, or the end of its connection, to who asked, if somebody still waits.
    pub fn end(&self, number: u64, answer: Result<Bytes, Status>) {
        let waiting = self.0.lock().waiting.remove(&number);
        if let Some((_, sender)) = waiting {
            // The client may have given up.
            let _ = sender.send(answer);
        }
    }

    /// What waits for this master.
    pub fn at(&self, master: usize) -> Vec<u64> {
        let state = self.0.lock();
        state.waiting.iter().filter(|(_, (of, _))| *of == master).map(|(number, _)| *number).collect()
    }
}

/// The way of one client.
struct WayOf {
    ways: Ways,
    dice: Dice,
}

impl Entropy for WayOf {
    fn next_u64(&self) -> u64 {
        self.dice.next_u64()
    }
}

impl Way for WayOf {
    fn ask(&self, address: &str, method: &'static str, request: Bytes) -> BoxFuture<'static, Result<Bytes, Status>> {
        let master = address.strip_prefix('m').and_then(|rest| rest.split(':').next()?.parse().ok());
        let master = master.expect("an address of ours");
        let (sender, answer) = oneshot::channel();
        let mut state = self.ways.0.lock();
        let number = state.next;
        state.next += 1;
        state.asked.push(Asked { number, master, method, request });
        state.waiting.insert(number, (master, sender));
        async move { answer.await.unwrap_or_else(|_| Err(broken())) }.boxed()
    }
}

/// How a connection ends.
pub fn broken() -> Status {
    rpc::status(ErrorKind::Unavailable, "the connection broke")
}

type Work = Pin<Box<dyn Future<Output = Result<Option<Answer>, Error>>>>;

pub struct Own {
    fs: FileSystem,
    room: Room,
    pub work: Option<Work>,
}

impl Own {
    pub fn new(room: &Room, masters: usize, ways: &Ways, dice: Dice) -> Own {
        let config = ClientConfig {
            masters: (0..masters).map(|master| (format!("m{master}"), PORT)).collect(),
            user: "root".to_owned(),
            rpc_timeout: CALL,
            polling_timeout: SEARCH,
            write_type: Some(WriteType::MustCache),
            load: if room.is_stored { LoadMetadata::Once } else { LoadMetadata::Never },
            ..ClientConfig::default()
        };
        let fs = FileSystem::over(config, Arc::new(WayOf { ways: ways.clone(), dice }));
        Own { fs, room: room.clone(), work: None }
    }

    pub fn begin(&mut self, call: Call) {
        self.work = Some(Box::pin(perform(self.fs.clone(), self.room.clone(), call)));
    }
}

/// None: the call was given up without an outcome. Errors: what no healthy cluster says.
async fn perform(fs: FileSystem, room: Room, call: Call) -> Result<Option<Answer>, Error> {
    let at = |below: &str| GfsPath::parse(&room.path(below)).expect("a path");
    let done = match call {
        Call::Create { path } => {
            let how = WriteOptions { recursive: false, ..WriteOptions::default() };
            fs.create(&at(&path), how).await.map(|writer| Answer::Made(writer.file().to_wire()))
        }
        Call::MakeDirectory { path } => {
            let how = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
            fs.make_directory(&at(&path), how).await.map(|()| Answer::Done)
        }
        Call::Rename { from, to } => fs.rename(&at(&from), &at(&to)).await.map(|()| Answer::Done),
        Call::Remove { path } => {
            let how = Remove { recursive: true, goosefs_only: false, unchecked: true };
            fs.remove(&at(&path), how).await.map(|()| Answer::Done)
        }
        Call::SetOwner { path, owner, recursive } => {
            let change = SetAttributes { owner: Some(owner_name(owner)), recursive, ..SetAttributes::default() };
            fs.set_attributes(&at(&path), change).await.map(|()| Answer::Done)
        }
        Call::Status { path } => fs.status(&at(&path)).await.map(|status| Answer::Entry(shown(&status))),
        Call::Complete { .. } | Call::List { .. } => unreachable!("a client of ours is not asked for it here"),
    };
    let Err(error) = done else { return done.map(Some) };
    let refusal = match (&error, error.kind()) {
        (Error::Refused { message, .. }, ErrorKind::NotFound) if message.contains(VANISHED) => {
            return Ok(Some(Answer::Vanished));
        }
        (Error::Refused { .. }, ErrorKind::NotFound) => Refusal::NotFound,
        (Error::Refused { .. }, ErrorKind::AlreadyExists) => Refusal::AlreadyExists,
        (Error::Refused { .. }, ErrorKind::Precondition) => Refusal::Precondition,
        (Error::Refused { .. }, ErrorKind::Invalid) => Refusal::Invalid,
        (_, ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::Timeout) => return Ok(None),
        _ => return Err(error),
    };
    Ok(Some(Answer::Refused(refusal)))
}

fn shown(status: &FileStatus) -> Shown {
    Shown {
        name: status.path.names().next_back().unwrap_or_default().to_owned(),
        id: status.file.to_wire(),
        directory: status.folder,
        owner: owner_of(&status.owner),
        length: (status.completed && !status.folder).then(|| i64::try_from(status.length).unwrap_or(i64::MAX)),
    }
}
