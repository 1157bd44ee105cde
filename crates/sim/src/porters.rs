//! Clients that bring files to workers and read them again, and what they know of the contents.
//!
//! Each name has one porter that writes and removes it; everybody reads. So what must be there follows from what its porter
//! was told, without a search. Some names belong to nobody: they are replaced in the store, from outside.

use crate::Plan;
use crate::calls::{Answer, Heard, Refusal, Service, asked};
use crate::dice::Dice;
use crate::judge::{Failure, Kind};
use crate::time::Clocks;
use crate::under::{Gone, URI, Under};
use bytes::{Bytes, BytesMut};
use proto::grpc::file::{
    CompleteFilePOptions, CompleteFilePRequest, CreateFilePOptions, CreateFilePRequest, DeletePOptions, DeletePRequest,
    FileInfo, FileSystemMasterCommonPOptions, GetStatusPOptions, GetStatusPRequest, LoadMetadataPType, RenamePOptions,
    RenamePRequest, ScheduleAsyncPersistencePOptions, WritePType,
};
use std::collections::{BTreeMap, BTreeSet};
use tonic::{Code, Status};
use types::{BlockId, Entropy, FileId, OperationId};

/// All names lie below this directory.
pub const BELOW: &str = "w";
const WRITERS: usize = 4;
const READERS: usize = 2;
const NAMES_EACH: usize = 3;
/// Names that are replaced from outside.
const OUTSIDE: usize = 2;
/// Objects that nobody ever names, beside those that are named.
const FOREIGN: [&str; 5] = ["foreign", "wide", "w/p0-0mm", "w/p1", "w/x0-0"];
const BLOCK_BYTES: u64 = 64 << 10;
const LENGTH_MAX: u64 = 170_000;
/// What a name that was moved ends with.
const MOVED: &str = "m";
/// Workers asked for one thing, one after the other, before it is given up.
const TRIES: u32 = 4;
const REST_US: u64 = 80_000;

/// What a file is written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    MustCache,
    CacheThrough,
    AsyncThrough,
}

#[derive(Clone, Debug)]
pub enum MasterAsk {
    Create { path: String, write: Write },
    Complete { path: String, file: i64, length: u64, persist: bool },
    Remove { path: String },
    Rename { from: String, to: String },
    Status { path: String, anew: bool },
}

#[derive(Clone, Debug)]
pub enum WorkerAsk {
    Block { block: BlockId, data: Bytes },
    Store { path: String, data: Bytes },
    Read { block: BlockId, offset: u64, length: u64 },
    Evict { block: BlockId },
}

#[derive(Clone, Debug)]
pub enum Ask {
    Master(MasterAsk, OperationId),
    Worker(usize, WorkerAsk),
}

/// A file as a status shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub file: i64,
    pub length: u64,
    pub block_bytes: u64,
    pub complete: bool,
    /// Of each block, the workers that are said to hold it.
    pub places: Vec<Vec<usize>>,
}

/// What an answer came to.
#[derive(Clone, Debug)]
pub enum Reply {
    Made(i64),
    Done,
    Seen(Seen),
    Content(Bytes),
    Refused(Refusal),
    /// Try again, elsewhere.
    Again(#[allow(dead_code, reason = "for the log of events")] String),
    /// What was written is damaged on the disk it is on.
    Damaged(String),
    /// Nothing a healthy cluster says.
    Wrong(String),
}

impl Reply {
    pub fn of_master(result: Result<Reply, Status>) -> Reply {
        match result {
            Ok(reply) => reply,
            Err(status) => match Heard::of(Err(status)) {
                Heard::Outcome(Answer::Refused(refusal)) => Reply::Refused(refusal),
                Heard::Outcome(_) => Reply::Refused(Refusal::NotFound),
                Heard::Again(why) => Reply::Again(why),
                Heard::Wrong(what) => Reply::Wrong(what),
            },
        }
    }

    /// Workers refuse for many good reasons; a bug of their own is none.
    pub fn of_worker(result: Result<Reply, Status>) -> Reply {
        match result {
            Ok(reply) => reply,
            Err(status) if status.code() == Code::DataLoss => Reply::Damaged(status.message().to_owned()),
            Err(status) if status.message().contains("bug") => {
                Reply::Wrong(format!("{:?}: {}", status.code(), status.message()))
            }
            Err(status) => Reply::Again(status.message().to_owned()),
        }
    }
}

/// What a porter does next.
pub enum Then {
    Ask,
    /// The same again, after a pause.
    Again,
    Rest(u64),
}

struct Writing {
    slot: usize,
    write: Write,
    data: Bytes,
    file: Option<i64>,
    blocks_done: u64,
    is_stored: bool,
}

enum Job {
    Write(Writing),
    Remove {
        slot: usize,
    },
    Rename {
        slot: usize,
    },
    /// `slot`: of its own.
    Look {
        path: String,
        slot: Option<usize>,
    },
    Read {
        path: String,
        slot: Option<usize>,
        seen: Seen,
        index: u64,
        range: (u64, u64),
        whole: bool,
    },
    Evict {
        block: BlockId,
        worker: usize,
    },
}

struct Doing {
    job: Job,
    operation: OperationId,
    /// Workers tried for the present step.
    tries: u32,
    asking: Option<Ask>,
}

enum State {
    Absent,
    /// Something may be there: it is removed before anything else.
    Dirty,
    Stored {
        file: i64,
        write: Write,
        data: Bytes,
    },
}

struct Slot {
    path: String,
    state: State,
}

pub struct Porter {
    /// Tries so far. What belongs to an earlier one is void.
    pub attempt: u64,
    master: usize,
    dice: Dice,
    doing: Option<Doing>,
    slots: Vec<Slot>,
    /// What is still to be read when all is over.
    to_read: Vec<(String, Option<usize>)>,
}

struct Content {
    data: Bytes,
    /// Where any of it was sent.
    workers: BTreeSet<usize>,
    /// It was on a disk that was lost, and perhaps nowhere else.
    is_excused: bool,
}

/// All porters.
pub struct Crew {
    pub porters: Vec<Porter>,
    workers: usize,
    contents: BTreeMap<i64, Content>,
    /// What was put at each name from outside.
    outside: BTreeMap<String, Vec<Bytes>>,
    dice: Dice,
    /// Leaders that lead no more may answer reads.
    is_wild: bool,
    is_final: bool,
    /// Read and found right.
    pub read_bytes: u64,
}

/// Bytes that no other tag has.
fn content(tag: u64, length: u64) -> Bytes {
    let dice = Dice::new(tag, "content");
    let mut bytes = BytesMut::new();
    while u64::try_from(bytes.len()).expect("short") < length {
        bytes.extend_from_slice(&dice.next_u64().to_le_bytes());
    }
    bytes.truncate(usize::try_from(length).expect("short"));
    bytes.freeze()
}

fn part(data: &Bytes, from: u64, to: u64) -> Bytes {
    let index = |offset: u64| usize::try_from(offset).expect("short").min(data.len());
    data.slice(index(from)..index(to))
}

fn block_of(file: i64, index: u64) -> BlockId {
    let file = FileId::from_wire(file).expect("masters give ids of files");
    file.container().block(index).expect("files are short")
}

fn key_of(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Every file has two names, and is moved from one to the other.
fn other_name(path: &str) -> String {
    path.strip_suffix(MOVED).map_or_else(|| format!("{path}{MOVED}"), str::to_owned)
}

fn outside_path(number: usize) -> String {
    format!("/{BELOW}/x{number}")
}

impl Crew {
    pub fn new(plan: &Plan, under: &Under) -> Crew {
        let (seed, workers) = (plan.seed, plan.workers);
        let count = if workers == 0 { 0 } else { WRITERS + READERS };
        let porter = |number: usize| {
            let names = if number < WRITERS { NAMES_EACH } else { 0 };
            let slot = |name| Slot { path: format!("/{BELOW}/p{number}-{name}"), state: State::Absent };
            Porter {
                attempt: 0,
                master: number,
                dice: Dice::new(seed, &format!("porter {number}")),
                doing: None,
                slots: (0..names).map(slot).collect(),
                to_read: Vec::new(),
            }
        };
        let mut crew = Crew {
            porters: (0..count).map(porter).collect(),
            workers,
            contents: BTreeMap::new(),
            outside: BTreeMap::new(),
            dice: Dice::new(seed, "outside"),
            is_wild: plan.clocks == Clocks::Wild,
            is_final: false,
            read_bytes: 0,
        };
        if workers > 0 {
            (0..OUTSIDE).for_each(|number| crew.replace(number, under));
            FOREIGN.iter().for_each(|key| under.put(key, *key));
        }
        crew
    }

    /// Somebody replaces one of the names from outside.
    pub fn replace_any(&mut self, under: &Under) {
        let number = self.dice.index(OUTSIDE);
        self.replace(number, under);
    }

    /// Every version has a length of its own, by which it is known again.
    fn replace(&mut self, number: usize, under: &Under) {
        let path = outside_path(number);
        let versions = self.outside.entry(path.clone()).or_default();
        let count = u64::try_from(versions.len()).expect("few");
        let length = 1_000 + 128 * self.dice.below(1_200) + count % 128;
        let data = content(self.dice.next_u64(), length);
        versions.push(data.clone());
        under.put(key_of(&path), data);
    }

    /// Begins a porter's next job. False if there is none.
    pub fn begin(&mut self, at: usize) -> bool {
        let is_final = self.is_final;
        let porter = &mut self.porters[at];
        if porter.doing.is_some() {
            return false;
        }
        let job = if let Some(slot) = porter.slots.iter().position(|slot| matches!(slot.state, State::Dirty)) {
            Job::Remove { slot }
        } else if is_final {
            let Some((path, slot)) = porter.to_read.pop() else { return false };
            Job::Look { path, slot }
        } else {
            self.draw(at)
        };
        let porter = &mut self.porters[at];
        let operation = OperationId(porter.dice.next_u128());
        porter.doing = Some(Doing { job, operation, tries: 0, asking: None });
        true
    }

    fn draw(&mut self, at: usize) -> Job {
        let paths: Vec<String> = (self.porters.iter().flat_map(|porter| &porter.slots).map(|slot| slot.path.clone()))
            .chain((0..OUTSIDE).map(outside_path))
            .collect();
        let porter = &mut self.porters[at];
        if porter.slots.is_empty() || porter.dice.once_in(4) {
            let path = porter.dice.pick(&paths).clone();
            let slot = porter.slots.iter().position(|slot| slot.path == path);
            return Job::Look { path, slot };
        }
        let slot = porter.dice.index(porter.slots.len());
        let dice = &porter.dice;
        match &mut porter.slots[slot].state {
            state @ State::Absent => {
                *state = State::Dirty;
                let write = *dice.pick(&[Write::MustCache, Write::CacheThrough, Write::AsyncThrough]);
                let length = if dice.once_in(12) { 0 } else { dice.below(LENGTH_MAX) };
                let data = content(dice.next_u64(), length);
                Job::Write(Writing { slot, write, data, file: None, blocks_done: 0, is_stored: false })
            }
            State::Stored { file, data, .. } if dice.once_in(3) && !data.is_empty() => {
                let blocks = u64::try_from(data.len()).expect("short").div_ceil(BLOCK_BYTES);
                let (block, worker) = (block_of(*file, dice.below(blocks)), dice.index(self.workers));
                Job::Evict { block, worker }
            }
            State::Stored { .. } if dice.once_in(4) => Job::Rename { slot },
            State::Stored { .. } if dice.once_in(2) => {
                Job::Look { path: porter.slots[slot].path.clone(), slot: Some(slot) }
            }
            state @ (State::Stored { .. } | State::Dirty) => {
                *state = State::Dirty;
                Job::Remove { slot }
            }
        }
    }

    /// The next try of the present step: its number, what is asked, and the master it goes to if it is one's.
    pub fn try_again(&mut self, at: usize, masters: usize) -> Option<(u64, Ask, usize)> {
        let workers = self.workers;
        let porter = &mut self.porters[at];
        porter.attempt += 1;
        if porter.dice.once_in(6) {
            porter.master = porter.dice.index(masters);
        }
        let any = porter.dice.index(workers);
        let doing = porter.doing.as_mut()?;
        let dice = &porter.dice;
        let ask = match &mut doing.job {
            Job::Write(writing) => {
                let path = porter.slots[writing.slot].path.clone();
                let length = u64::try_from(writing.data.len()).expect("short");
                match writing.file {
                    None => Ask::Master(MasterAsk::Create { path, write: writing.write }, doing.operation),
                    Some(file) if writing.blocks_done * BLOCK_BYTES < length => {
                        let from = writing.blocks_done * BLOCK_BYTES;
                        let data = part(&writing.data, from, from + BLOCK_BYTES);
                        if let Some(content) = self.contents.get_mut(&file) {
                            content.workers.insert(any);
                        }
                        Ask::Worker(any, WorkerAsk::Block { block: block_of(file, writing.blocks_done), data })
                    }
                    Some(_) if writing.write == Write::CacheThrough && !writing.is_stored => {
                        let path = format!("{URI}/{}", key_of(&path));
                        Ask::Worker(any, WorkerAsk::Store { path, data: writing.data.clone() })
                    }
                    Some(file) => {
                        let persist = writing.write == Write::AsyncThrough;
                        Ask::Master(MasterAsk::Complete { path, file, length, persist }, doing.operation)
                    }
                }
            }
            Job::Remove { slot } => {
                Ask::Master(MasterAsk::Remove { path: porter.slots[*slot].path.clone() }, doing.operation)
            }
            Job::Rename { slot } => {
                let from = porter.slots[*slot].path.clone();
                let to = other_name(&from);
                Ask::Master(MasterAsk::Rename { from, to }, doing.operation)
            }
            Job::Look { path, .. } => {
                let anew = path.contains('x') && dice.once_in(2);
                Ask::Master(MasterAsk::Status { path: path.clone(), anew }, doing.operation)
            }
            Job::Read { seen, index, range, .. } => {
                let places = usize::try_from(*index).ok().and_then(|index| seen.places.get(index));
                let known = places.filter(|places| !places.is_empty() && doing.tries % 2 == 0);
                let worker = known.map_or(any, |places| *dice.pick(places));
                let read = WorkerAsk::Read { block: block_of(seen.file, *index), offset: range.0, length: range.1 };
                Ask::Worker(worker, read)
            }
            Job::Evict { block, worker } => Ask::Worker(*worker, WorkerAsk::Evict { block: *block }),
        };
        doing.asking = Some(ask.clone());
        Some((porter.attempt, ask, porter.master % masters))
    }

    /// What this try asks of a master; None if it was given up.
    pub fn asks_master(&self, at: usize, attempt: u64) -> Option<(MasterAsk, OperationId)> {
        let porter = &self.porters[at];
        match porter.doing.as_ref().filter(|_| porter.attempt == attempt)?.asking.as_ref()? {
            Ask::Master(ask, operation) => Some((ask.clone(), *operation)),
            Ask::Worker(..) => None,
        }
    }

    /// The same of a worker.
    pub fn asks_worker(&self, at: usize, attempt: u64) -> Option<WorkerAsk> {
        let porter = &self.porters[at];
        match porter.doing.as_ref().filter(|_| porter.attempt == attempt)?.asking.as_ref()? {
            Ask::Worker(_, ask) => Some(ask.clone()),
            Ask::Master(..) => None,
        }
    }

    pub fn is_asking_master(&self, at: usize, masters: usize, master: usize) -> bool {
        let porter = &self.porters[at];
        let asks = matches!(porter.doing.as_ref().and_then(|doing| doing.asking.as_ref()), Some(Ask::Master(..)));
        asks && porter.master % masters == master
    }

    pub fn is_asking_worker(&self, at: usize, worker: usize) -> bool {
        let asking = self.porters[at].doing.as_ref().and_then(|doing| doing.asking.as_ref());
        matches!(asking, Some(Ask::Worker(asked, _)) if *asked == worker)
    }

    /// The try is over without an outcome. Returns the number under which the pause before the next one goes.
    pub fn give_up_try(&mut self, at: usize) -> u64 {
        let porter = &mut self.porters[at];
        porter.attempt += 1;
        if let Some(doing) = &mut porter.doing
            && let Some(Ask::Master(..)) = doing.asking.take()
        {
            porter.master += 1;
        }
        porter.attempt
    }

    /// A porter hears an answer to its present try.
    pub fn heard(&mut self, at: usize, reply: Reply) -> Result<Then, Failure> {
        let porter = &mut self.porters[at];
        let rest_us = 1_000 + porter.dice.below(REST_US);
        let Some(doing) = &mut porter.doing else { return Ok(Then::Rest(rest_us)) };
        let asked = doing.asking.clone();
        // Where a bit of a disk flipped, what was there and perhaps nowhere else may be refused.
        let file = match &doing.job {
            Job::Read { seen, .. } => Some(seen.file),
            Job::Evict { block, .. } => Some(block.container().file().to_wire()),
            _ => None,
        };
        let content = file.and_then(|file| self.contents.get(&file));
        let is_excused = content.is_some_and(|content| content.is_excused);
        let reply = match reply {
            Reply::Damaged(what) if is_excused => Reply::Again(what),
            Reply::Damaged(what) => Reply::Wrong(what),
            reply => reply,
        };
        match (reply, &asked) {
            (Reply::Wrong(what), _) => {
                let what = format!("porter {at} asked {} and was told {what}", told(&asked));
                Err(Failure::new(Kind::Answer, what))
            }
            // Official clients do not send a file to its store again: it is given up.
            (Reply::Again(_), Some(Ask::Worker(_, WorkerAsk::Store { .. }))) => Ok(self.give_up_step(at, rest_us)),
            (Reply::Again(_), Some(Ask::Worker(..))) => {
                doing.tries += 1;
                Ok(if doing.tries < TRIES { Then::Again } else { self.give_up_step(at, rest_us) })
            }
            (Reply::Again(_), _) => Ok(Then::Again),
            (reply, _) => self.went_on(at, reply, rest_us),
        }
    }

    /// No worker does it.
    fn give_up_step(&mut self, at: usize, rest_us: u64) -> Then {
        let is_final = self.is_final;
        let porter = &mut self.porters[at];
        let operation = OperationId(porter.dice.next_u128());
        let Some(doing) = porter.doing.take() else { return Then::Rest(rest_us) };
        let job = match doing.job {
            Job::Write(writing) => Job::Remove { slot: writing.slot },
            // Where its blocks are is asked once more.
            Job::Read { path, slot, .. } if is_final => Job::Look { path, slot },
            Job::Read { .. } | Job::Remove { .. } | Job::Rename { .. } | Job::Look { .. } | Job::Evict { .. } => {
                return Then::Rest(rest_us);
            }
        };
        porter.doing = Some(Doing { job, operation, tries: 0, asking: None });
        Then::Again
    }

    fn went_on(&mut self, at: usize, reply: Reply, rest_us: u64) -> Result<Then, Failure> {
        let porter = &mut self.porters[at];
        let operation = OperationId(porter.dice.next_u128());
        let Some(doing) = porter.doing.take() else { return Ok(Then::Rest(rest_us)) };
        let next = match doing.job {
            Job::Write(writing) => self.written(at, writing, reply),
            Job::Remove { slot } => {
                self.porters[at].slots[slot].state = match reply {
                    Reply::Done | Reply::Refused(Refusal::NotFound) => State::Absent,
                    _ => State::Dirty,
                };
                None
            }
            Job::Rename { slot } => {
                self.renamed(at, slot, &reply)?;
                None
            }
            Job::Look { path, slot } => self.looked(at, path, slot, reply)?,
            Job::Read { path, slot, seen, index, range, whole } => {
                self.read(&path, &seen, index, range, reply)?;
                let more = (index + 1) * seen.block_bytes < seen.length;
                let length = seen.length.saturating_sub((index + 1) * seen.block_bytes).min(seen.block_bytes);
                (whole && more).then_some(Job::Read { path, slot, seen, index: index + 1, range: (0, length), whole })
            }
            Job::Evict { .. } => None,
        };
        Ok(match next {
            Some(job) => {
                self.porters[at].doing = Some(Doing { job, operation, tries: 0, asking: None });
                Then::Ask
            }
            None => Then::Rest(rest_us),
        })
    }

    fn written(&mut self, at: usize, mut writing: Writing, reply: Reply) -> Option<Job> {
        let length = u64::try_from(writing.data.len()).expect("short");
        let remove = Some(Job::Remove { slot: writing.slot });
        match (writing.file, reply) {
            (None, Reply::Made(file)) => {
                let known = Content { data: writing.data.clone(), workers: BTreeSet::new(), is_excused: false };
                self.contents.insert(file, known);
                writing.file = Some(file);
                Some(Job::Write(writing))
            }
            (Some(_), Reply::Done) if writing.blocks_done * BLOCK_BYTES < length => {
                writing.blocks_done += 1;
                Some(Job::Write(writing))
            }
            (Some(_), Reply::Done) if writing.write == Write::CacheThrough && !writing.is_stored => {
                writing.is_stored = true;
                Some(Job::Write(writing))
            }
            (Some(file), Reply::Done) => {
                let state = State::Stored { file, write: writing.write, data: writing.data };
                self.porters[at].slots[writing.slot].state = state;
                None
            }
            _ => remove,
        }
    }

    /// Nobody else touches either name, so only a file that is being moved already can be in the way.
    fn renamed(&mut self, at: usize, slot: usize, reply: &Reply) -> Result<(), Failure> {
        let slot = &mut self.porters[at].slots[slot];
        match reply {
            Reply::Done => slot.path = other_name(&slot.path),
            Reply::Refused(Refusal::Precondition) => {}
            other => {
                let what = format!("porter {at} renames {} and is told {other:?}", slot.path);
                return Err(Failure::new(Kind::NotLinearisable, what));
            }
        }
        Ok(())
    }

    /// A status shows what its porter was told, and begins a read.
    fn looked(&mut self, at: usize, path: String, slot: Option<usize>, reply: Reply) -> Result<Option<Job>, Failure> {
        if let Some(slot) = slot.filter(|_| self.is_final || !self.is_wild)
            && let State::Stored { file, .. } = &self.porters[at].slots[slot].state
        {
            let is_there = matches!(&reply, Reply::Seen(seen) if seen.file == *file && seen.complete);
            if !is_there {
                let what = format!("porter {at} completed file {file} at {path}, and is told {reply:?}");
                return Err(Failure::new(Kind::NotLinearisable, what));
            }
        }
        let Reply::Seen(seen) = reply else { return Ok(None) };
        let is_readable = seen.complete && seen.length > 0;
        if !is_readable || (self.is_final && self.is_excused(seen.file)) {
            return Ok(None);
        }
        let dice = &self.porters[at].dice;
        let index = if self.is_final { 0 } else { dice.below(seen.length.div_ceil(seen.block_bytes)) };
        let length = (seen.length - index * seen.block_bytes).min(seen.block_bytes);
        let whole = self.is_final || dice.once_in(2);
        let offset = if whole { 0 } else { dice.below(length) };
        let range = (offset, if whole { length } else { 1 + dice.below(length - offset) });
        Ok(Some(Job::Read { path, slot, seen, index, range, whole }))
    }

    /// Compares what was read with what was written.
    fn read(&mut self, path: &str, seen: &Seen, index: u64, range: (u64, u64), reply: Reply) -> Result<(), Failure> {
        let Reply::Content(bytes) = reply else { return Ok(()) };
        let by_length = || {
            let versions = self.outside.get(path)?;
            versions.iter().find(|data| u64::try_from(data.len()) == Ok(seen.length))
        };
        let known = self.contents.get(&seen.file).map(|content| &content.data).or_else(by_length);
        let Some(data) = known else { return Ok(()) };
        let from = index * seen.block_bytes + range.0;
        let expected = part(data, from, from + range.1);
        if bytes == expected {
            self.read_bytes += u64::try_from(bytes.len()).expect("short");
            return Ok(());
        }
        let differs = bytes.iter().zip(&expected).position(|(read, written)| read != written);
        let what = format!(
            "{} bytes at {from} of {path}, file {}, are not those that were written ({} read, the first that differs is {differs:?})",
            expected.len(),
            seen.file,
            bytes.len()
        );
        Err(Failure::new(Kind::Content, what))
    }

    /// A worker's disk is gone. What was sent there may have been nowhere else.
    pub fn disk_lost(&mut self, worker: usize) {
        self.contents.values_mut().filter(|content| content.workers.contains(&worker)).for_each(|content| {
            content.is_excused = true;
        });
    }

    /// From now on everything is read once more.
    pub fn read_all(&mut self) {
        self.is_final = true;
        for porter in &mut self.porters {
            let stored = porter.slots.iter().enumerate().filter(|(_, slot)| matches!(slot.state, State::Stored { .. }));
            porter.to_read = stored.map(|(at, slot)| (slot.path.clone(), Some(at))).collect();
        }
        if let Some(porter) = self.porters.last_mut() {
            porter.to_read = (0..OUTSIDE).map(|number| (outside_path(number), None)).collect();
        }
    }

    pub fn has_read_all(&self) -> bool {
        self.porters.iter().all(|porter| porter.to_read.is_empty() && porter.doing.is_none())
    }

    /// Whether a porter has something to put right before it may rest.
    pub fn must_go_on(&self, at: usize) -> bool {
        self.porters[at].slots.iter().any(|slot| matches!(slot.state, State::Dirty))
    }

    /// What is under way, and what is still to come to the store.
    pub fn restless(&self, under: &Under) -> Vec<String> {
        let mut restless = Vec::new();
        for (at, porter) in self.porters.iter().enumerate() {
            if let Some(doing) = &porter.doing {
                restless.push(format!("porter {at} waits for {}", told(&doing.asking)));
            } else if self.must_go_on(at) {
                restless.push(format!("porter {at} has something to remove"));
            }
        }
        for slot in self.porters.iter().flat_map(|porter| &porter.slots) {
            if let State::Stored { file, write: Write::AsyncThrough, .. } = &slot.state
                && !self.is_excused(*file)
                && under.content(key_of(&slot.path)).is_none()
            {
                restless.push(format!("{} is not persisted", slot.path));
            }
        }
        restless
    }

    fn is_excused(&self, file: i64) -> bool {
        self.contents.get(&file).is_some_and(|content| content.is_excused)
    }

    /// A version of an object went just now: it may not if nobody but strangers put it there, nor if it is a file that its
    /// porter wants to stay where it is.
    pub fn judge_gone(&self, gone: &Gone, under: &Under) -> Result<(), Failure> {
        let is_foreign = is_foreign(&gone.key) || self.outside.keys().any(|path| key_of(path) == gone.key);
        let moves = |porter: &Porter, slot: usize| {
            let job = porter.doing.as_ref().map(|doing| &doing.job);
            matches!(job, Some(Job::Rename { slot: at } | Job::Remove { slot: at }) if *at == slot)
        };
        let stays = |porter: &Porter| {
            porter.slots.iter().enumerate().any(|(at, slot)| {
                let State::Stored { data, .. } = &slot.state else { return false };
                let is_its = key_of(&slot.path) == gone.key && gone.content.as_ref() == Some(data);
                is_its && !moves(porter, at) && under.content(&gone.key).as_ref() != Some(data)
            })
        };
        if is_foreign || self.porters.iter().any(stays) {
            let what = format!("{:?} took {} of {}, and nobody asked for that", gone.verb, gone.version, gone.key);
            return Err(Failure::new(Kind::Store, what));
        }
        Ok(())
    }

    /// At the end the store holds what was acknowledged, and nothing else.
    pub fn judge_store(&self, under: &Under) -> Result<(), Failure> {
        if self.porters.is_empty() {
            return Ok(());
        }
        if let Some(key) = FOREIGN.iter().find(|key| under.content(key).as_deref() != Some(key.as_bytes())) {
            return Err(Failure::new(Kind::Store, format!("{key} is not what strangers put there")));
        }
        let mut expected: BTreeSet<String> = FOREIGN.iter().map(|key| (*key).to_owned()).collect();
        for slot in self.porters.iter().flat_map(|porter| &porter.slots) {
            let key = key_of(&slot.path);
            let there = under.content(key);
            let is_right = match (&slot.state, &there) {
                (State::Stored { write: Write::MustCache, .. } | State::Absent | State::Dirty, there) => {
                    there.is_none()
                }
                (State::Stored { data, .. }, Some(there)) => data == there,
                (State::Stored { file, write, .. }, None) => *write == Write::AsyncThrough && self.is_excused(*file),
            };
            if !is_right {
                let wanted = match &slot.state {
                    State::Absent | State::Dirty => "nothing".to_owned(),
                    State::Stored { file, write, data } => format!("{write:?} file {file} of {} bytes", data.len()),
                };
                let what = format!("at {key} the store holds {:?} bytes, not {wanted}", there.map(|there| there.len()));
                return Err(Failure::new(Kind::Store, what));
            }
            expected.insert(key.to_owned());
        }
        expected.extend(self.outside.keys().map(|path| key_of(path).to_owned()));
        let strange: Vec<String> =
            under.keys().into_iter().filter(|key| is_porters(key) && !expected.contains(key)).collect();
        if strange.iter().any(|key| !key.ends_with('/')) {
            return Err(Failure::new(
                Kind::Store,
                format!("the store holds what nobody wrote: {}", strange.join(", ")),
            ));
        }
        Ok(())
    }
}

/// Whether the object at a key is a porter's, or strange to everybody.
pub fn is_porters(key: &str) -> bool {
    is_foreign(key) || key.strip_prefix(BELOW).is_some_and(|rest| rest.starts_with('/'))
}

fn is_foreign(key: &str) -> bool {
    FOREIGN.contains(&key)
}

fn told(ask: &Option<Ask>) -> String {
    match ask {
        None => "its next try".to_owned(),
        Some(Ask::Master(ask, _)) => format!("{ask:?}"),
        Some(Ask::Worker(worker, ask)) => format!("{} of worker {}", ask.name(), worker + 1),
    }
}

impl WorkerAsk {
    /// Without the bytes.
    pub fn name(&self) -> String {
        match self {
            WorkerAsk::Block { block, data } => format!("a write of {} bytes to {block}", data.len()),
            WorkerAsk::Store { path, data } => format!("a write of {} bytes to {path}", data.len()),
            WorkerAsk::Read { block, offset, length } => format!("{length} bytes at {offset} of {block}"),
            WorkerAsk::Evict { block } => format!("an eviction of {block}"),
        }
    }
}

/// Carries out one try at one master.
pub async fn perform(fs: Service, ask: MasterAsk, operation: OperationId) -> Result<Reply, Status> {
    let common = || {
        Some(FileSystemMasterCommonPOptions {
            operation_id: Some(proto::convert::operation_id::to_wire(operation)),
            ..Default::default()
        })
    };
    match ask {
        MasterAsk::Create { path, write } => {
            let kind = match write {
                Write::MustCache => WritePType::MustCache,
                Write::CacheThrough => WritePType::CacheThrough,
                Write::AsyncThrough => WritePType::AsyncThrough,
            };
            let options = CreateFilePOptions {
                recursive: Some(true),
                block_size_bytes: Some(i64::try_from(BLOCK_BYTES).expect("small")),
                write_type: Some(i32::from(kind)),
                common_options: common(),
                ..Default::default()
            };
            let request = CreateFilePRequest { path: Some(path), options: Some(options) };
            let answer = fs.create_file(asked(request)).await?.into_inner();
            Ok(Reply::Made(answer.file_info.and_then(|info| info.file_id).unwrap_or_default()))
        }
        MasterAsk::Complete { path, file, length, persist } => {
            let options = CompleteFilePOptions {
                ufs_length: Some(i64::try_from(length).expect("short")),
                async_persist_options: persist.then(ScheduleAsyncPersistencePOptions::default),
                common_options: common(),
                ..Default::default()
            };
            let request = CompleteFilePRequest { path: Some(path), options: Some(options), inode_id: Some(file) };
            fs.complete_file(asked(request)).await?;
            Ok(Reply::Done)
        }
        MasterAsk::Remove { path } => {
            let options = DeletePOptions { common_options: common(), ..Default::default() };
            fs.remove(asked(DeletePRequest { path: Some(path), options: Some(options) })).await?;
            Ok(Reply::Done)
        }
        MasterAsk::Rename { from, to } => {
            let options = RenamePOptions { common_options: common(), ..Default::default() };
            let request = RenamePRequest { path: Some(from), dst_path: Some(to), options: Some(options) };
            fs.rename(asked(request)).await?;
            Ok(Reply::Done)
        }
        MasterAsk::Status { path, anew } => {
            let fresh = if anew { LoadMetadataPType::Always } else { LoadMetadataPType::Once };
            let options = GetStatusPOptions { load_metadata_type: Some(i32::from(fresh)), ..Default::default() };
            let request = GetStatusPRequest { path: Some(path), options: Some(options), ..Default::default() };
            let answer = fs.get_status(asked(request)).await?.into_inner();
            Ok(Reply::Seen(seen(answer.file_info.unwrap_or_default())))
        }
    }
}

fn seen(info: FileInfo) -> Seen {
    let place = |host: &str| host.strip_prefix("worker-")?.parse::<usize>().ok()?.checked_sub(1);
    let hosts = |block: &proto::grpc::BlockInfo| {
        let hosts = block.locations.iter().filter_map(|at| at.worker_address.as_ref()?.host.as_deref());
        hosts.filter_map(place).collect()
    };
    let blocks = info.file_block_infos.iter().filter_map(|entry| entry.block_info.as_ref());
    Seen {
        file: info.file_id.unwrap_or_default(),
        length: info.length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default(),
        block_bytes: info.block_size_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default().max(1),
        complete: info.completed.unwrap_or_default(),
        places: blocks.map(hosts).collect(),
    }
}
