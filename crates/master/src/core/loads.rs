//! Brings metadata from under stores into the namespace: one directory, one name, or one inode we know already.
//! However many ask for the same, one answer is fetched.

use super::{Core, Job, JobError, JobId, JobOk, ListFrom, Now, Origin, Ticket};
use crate::error::Error;
use hashbrown::HashSet;
use meta::{
    Caller, Done, Family, Found, Inode, IntentKind, Load, LoadPage, LoadPath, Node, Op, OpenLoad, Read, Record, Reject,
    Resolved, Sync,
};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;
use types::{GfsPath, InodeId, IntentId, LoadId, LogIndex, Monotonic, MountId, Name, PersistenceState};

/// Entries asked of a store at once, and inserted by one log entry.
const PAGE: usize = 1_000;
/// Tries at one name whose answer went stale before it was inserted.
const STALE_RETRIES: u32 = 4;
/// Different names and directories being fetched at once.
const RUNS: usize = 10_000;
/// Children compared for having vanished in one step.
const VANISH_STEP: usize = 1_000;
/// Directories remembered for the names asked of them.
const MISSED: usize = 10_000;
/// A second unknown name of a directory within this time is taken for the beginning of many.
const TOGETHER: Duration = Duration::from_secs(10);
/// How long a directory of more than one page is asked for single names only.
const LARGE_FOR: Duration = Duration::from_secs(600);
/// A load that was cut off goes on where it was if somebody wants the directory within this time of its last page; after it,
/// what was listed is too old to be called the directory's content.
const GOES_ON_WITHIN: Duration = Duration::from_secs(120);
/// A load whose last page is older than this has a store that does not answer.
const STALLED: Duration = Duration::from_secs(30);

/// What somebody needs to know from a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Want {
    /// A path the namespace does not have: the key it would stand at. `directory`: the one it would stand in, if that is
    /// known and its entries are not.
    Path { path: GfsPath, mount: MountId, key: String, directory: Option<InodeId> },
    /// All entries of a directory. `compare`: those we know too.
    Directory { inode: InodeId, mount: MountId, key: String, compare: bool },
    /// Whether an inode we know is still what the store has.
    Inode { inode: InodeId, mount: MountId, key: String },
}

impl Want {
    /// What a store knows of a path that the namespace lacks; None: it can be in no store. `resolved`: how far it is known.
    pub fn path(path: &GfsPath, resolved: &Resolved) -> Option<Want> {
        let last = resolved.spots.last()?;
        if resolved.missing.is_empty() || !last.inode.is_directory() {
            return None;
        }
        let missing: Vec<&str> = resolved.missing.iter().map(Name::as_str).collect();
        let key = format!("{}{}", last.key, missing.join("/"));
        let in_store = |directory: &&meta::Directory| directory.persisted || directory.mount.is_some();
        let unknown = |directory: &&meta::Directory| missing.len() == 1 && in_store(directory) && !directory.loaded;
        let directory = last.inode.directory().filter(unknown).map(|_| last.inode.id);
        Some(Want::Path { path: path.clone(), mount: last.mount, key, directory })
    }
}

type Waiter = (Ticket, Monotonic);

/// Unknown names of one directory.
#[derive(Clone, Copy)]
struct Missed {
    last: Monotonic,
    large_until: Option<Monotonic>,
}

enum Stage {
    Opening,
    Listing(JobId),
    /// Entries proposed and not applied yet.
    Inserting {
        left: usize,
        next: Option<ufs::PageToken>,
    },
    /// Looking for names the store no longer has.
    Vanishing {
        left: usize,
        after: Option<Name>,
    },
}

struct DirectoryRun {
    waiters: Vec<Waiter>,
    /// Who asked for a name that the first page may bring.
    names: Vec<(Want, Waiter)>,
    /// Who wants known entries compared too, which this run does not do.
    compare_next: Vec<Waiter>,
    stage: Stage,
    /// Pages whose entries are applied, and when the last one was.
    pages: u64,
    moved: Monotonic,
    /// Somebody asked for all of it.
    is_wanted: bool,
    load: LoadId,
    mount: MountId,
    key: String,
    seen: LogIndex,
    compare: bool,
    /// Hashes of the names the store listed, kept only to find what vanished.
    listed: HashSet<u64>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum LookKey {
    Path(GfsPath),
    Inode(InodeId),
}

struct Look {
    want: Want,
    waiters: Vec<Waiter>,
    seen: LogIndex,
    tries: u32,
    job: Option<JobId>,
}

#[derive(Default)]
pub struct Loads {
    directories: BTreeMap<InodeId, DirectoryRun>,
    looks: BTreeMap<u64, Look>,
    by_key: BTreeMap<LookKey, u64>,
    jobs: BTreeMap<JobId, Asked>,
    missed: BTreeMap<InodeId, Missed>,
    /// Names below a directory that is being moved in its store: until it is there, nobody can say what it holds.
    moving: BTreeMap<IntentId, Vec<(GfsPath, Waiter)>>,
    next: u64,
    /// Sessions of runs that failed: still open in the state until the next moment that has a clock.
    left_open: Vec<(InodeId, LoadId)>,
    /// Sessions whose end is on its way into the log.
    ending: BTreeSet<LoadId>,
}

enum Asked {
    Directory(InodeId),
    Look(u64),
}

impl DirectoryRun {
    fn first_page_is_in(&self) -> bool {
        matches!(self.stage, Stage::Inserting { .. } | Stage::Vanishing { .. }) || self.pages > 0
    }
}

impl Core {
    pub(super) fn want(&mut self, now: Now, ticket: Ticket, want: Want, deadline: Monotonic) {
        if !self.leading {
            return self.reply(ticket, Err(Error::NotLeader));
        }
        let moving: usize = self.loads.moving.values().map(Vec::len).sum();
        if self.loads.directories.len() + self.loads.looks.len() + moving >= RUNS {
            return self.reply(ticket, Err(Error::Overloaded(RUNS)));
        }
        self.abort_left_open(now);
        let waiter = (ticket, deadline);
        if let Some((intent, path)) = self.moves(&want) {
            return self.loads.moving.entry(intent).or_default().push((path, waiter));
        }
        match want {
            Want::Directory { inode, mount, key, compare } => {
                if let Some(run) = self.loads.directories.get_mut(&inode) {
                    run.is_wanted = true;
                    let waiters = if run.compare || !compare { &mut run.waiters } else { &mut run.compare_next };
                    waiters.push(waiter);
                } else if !compare && self.is_loaded(inode) {
                    // Who asked just before the last page came needs no second listing.
                    self.reply(ticket, Ok(Done::Nothing));
                } else {
                    let run = self.new_run(mount, key, compare);
                    self.start_run(now, inode, DirectoryRun { waiters: vec![waiter], is_wanted: true, ..run });
                }
            }
            Want::Path { directory: Some(directory), mount, ref key, .. } if self.comes_in_numbers(now, directory) => {
                let prefix = key[..key.rfind('/').map_or(0, |slash| slash + 1)].to_owned();
                if let Some(run) = self.loads.directories.get_mut(&directory) {
                    run.names.push((want, waiter));
                } else {
                    let run = self.new_run(mount, prefix, false);
                    self.start_run(now, directory, DirectoryRun { names: vec![(want, waiter)], ..run });
                }
            }
            Want::Path { ref path, .. } => self.look(LookKey::Path(path.clone()), want.clone(), waiter),
            Want::Inode { inode, .. } => self.look(LookKey::Inode(inode), want, waiter),
        }
    }

    /// The intent that is moving the directory below which the wanted path lies, if one is.
    fn moves(&self, want: &Want) -> Option<(IntentId, GfsPath)> {
        let Want::Path { path, mount, key, .. } = want else { return None };
        let intent = self.namespace.covering(*mount, key)?;
        let IntentKind::MoveTree { inode, .. } = &self.namespace.intent(intent)?.kind else { return None };
        let moved = meta::by_inode(&self.shared.state.latest(), *inode).ok()??;
        path.is_within(&moved.spot.path).then(|| (intent, path.clone()))
    }

    /// A directory was moved, or moved back: what was asked below it is looked for where it is now.
    pub(super) fn moved(&mut self, now: Now, intent: IntentId) {
        for (path, (ticket, deadline)) in self.loads.moving.remove(&intent).unwrap_or_default() {
            let resolved = meta::resolve(&self.shared.state.latest(), &Caller::system(), &path);
            match resolved.ok().and_then(Result::ok).and_then(|resolved| Want::path(&path, &resolved)) {
                Some(want) => self.want(now, ticket, want, deadline),
                None => self.reply(ticket, Ok(Done::Nothing)),
            }
        }
    }

    pub(super) fn is_loaded(&self, inode: InodeId) -> bool {
        let known = meta::by_inode(&self.shared.state.latest(), inode).ok().flatten();
        known.is_some_and(|status| status.spot.inode.directory().is_some_and(|directory| directory.loaded))
    }

    /// Ends sessions that nobody works on and that nobody can go on with: of earlier leaders, of callers who went away.
    pub(super) fn abort_stale_loads(&mut self, now: Now) {
        let namespace = &self.namespace;
        let is_open = |id: &LoadId| namespace.loads().any(|(_, load)| load.id == *id);
        self.loads.ending.retain(is_open);
        let stale = self.namespace.loads().filter(|(inode, load)| {
            !self.loads.directories.contains_key(inode)
                && !self.loads.ending.contains(&load.id)
                && !self.is_fresh(now, load)
        });
        let stale: Vec<(InodeId, LoadId)> = stale.map(|(inode, load)| (inode, load.id)).collect();
        self.loads.left_open.extend(stale);
        self.abort_left_open(now);
    }

    /// Whether a session has got somewhere, not long ago.
    fn is_fresh(&self, now: Now, load: &Load) -> bool {
        let within = u64::try_from(GOES_ON_WITHIN.as_millis()).expect("minutes");
        load.reached.as_ref().is_some_and(|reached| self.stamper.age(now).0.saturating_sub(reached.at.0) <= within)
    }

    /// Where this run goes on with a session that was cut off; None: it has to begin anew.
    fn goes_on(&self, now: Now, load: &Load, run: &DirectoryRun) -> Option<ListFrom> {
        let is_the_same = load.mount == run.mount && load.key == run.key;
        // What was not compared, or has holes already, would have to be listed again all the same.
        let is_enough = run.is_wanted && !run.compare && !load.holes && !self.loads.ending.contains(&load.id);
        let reached = load.reached.as_ref().filter(|_| is_the_same && is_enough && self.is_fresh(now, load))?;
        Some(ListFrom::Entry { name: reached.name.clone(), directory: reached.directory })
    }

    fn abort_left_open(&mut self, now: Now) {
        for (directory, load) in std::mem::take(&mut self.loads.left_open) {
            self.loads.ending.insert(load);
            self.task(now, Origin::Housekeeping, Op::AbortLoad(meta::AbortLoad { directory, load }));
        }
    }

    fn new_run(&self, mount: MountId, key: String, compare: bool) -> DirectoryRun {
        DirectoryRun {
            waiters: Vec::new(),
            names: Vec::new(),
            compare_next: Vec::new(),
            stage: Stage::Opening,
            pages: 0,
            moved: Monotonic::default(),
            is_wanted: false,
            load: LoadId(0),
            mount,
            key,
            seen: self.shared.applied(),
            compare,
            listed: HashSet::new(),
        }
    }

    fn start_run(&mut self, now: Now, inode: InodeId, mut run: DirectoryRun) {
        let seen = run.seen;
        if let Some(load) = self.namespace.load(inode).cloned() {
            if let Some(from) = self.goes_on(now, &load, &run) {
                tracing::info!(directory = %inode, load = %load.id, ?from, "a load goes on where it was cut off");
                (run.load, run.pages, run.moved) = (load.id, 1, now.mono);
                self.loads.directories.insert(inode, run);
                return self.list(inode, from);
            }
            self.loads.left_open.push((inode, load.id));
            self.abort_left_open(now);
        }
        self.loads.directories.insert(inode, run);
        self.task(now, Origin::OpenLoad(inode), Op::OpenLoad(OpenLoad { directory: inode, seen }));
    }

    /// Notes an unknown name of a directory; tells whether a page of its listing may bring it and its neighbours for the
    /// price of asking for one.
    fn comes_in_numbers(&mut self, now: Now, directory: InodeId) -> bool {
        if self.loads.missed.len() >= MISSED {
            self.loads.missed.clear();
        }
        let fresh = Missed { last: now.mono, large_until: None };
        let Some(known) = self.loads.missed.get_mut(&directory) else {
            self.loads.missed.insert(directory, fresh);
            return false;
        };
        let together = now.mono - known.last < TOGETHER;
        let large = known.large_until.is_some_and(|until| now.mono < until);
        known.last = now.mono;
        // A page that is in already will not bring more, and a load that was cut off is left to who wants all of it.
        let late = match self.loads.directories.get(&directory) {
            Some(run) => run.first_page_is_in(),
            None => self.namespace.load(directory).is_some(),
        };
        together && !large && !late
    }

    fn look(&mut self, key: LookKey, want: Want, waiter: Waiter) {
        // A name under an open intent is what we say it is, not what the store still shows.
        let (Want::Path { mount, key: at, .. }
        | Want::Inode { mount, key: at, .. }
        | Want::Directory { mount, key: at, .. }) = &want;
        if self.namespace.covering(*mount, at).is_some() {
            return self.reply(waiter.0, Ok(Done::Nothing));
        }
        if let Some(look) = self.loads.by_key.get(&key).and_then(|number| self.loads.looks.get_mut(number)) {
            look.waiters.push(waiter);
            return;
        }
        self.loads.next += 1;
        let number = self.loads.next;
        self.loads.by_key.insert(key, number);
        self.loads.looks.insert(number, Look { want, waiters: vec![waiter], seen: LogIndex(0), tries: 0, job: None });
        self.ask(number);
    }

    fn ask(&mut self, number: u64) {
        let seen = self.shared.applied();
        let Some(look) = self.loads.looks.get_mut(&number) else { return };
        look.seen = seen;
        look.tries += 1;
        let job = match &look.want {
            Want::Path { mount, key, .. } => Job::Chain { mount: *mount, key: key.clone() },
            Want::Inode { mount, key, .. } | Want::Directory { mount, key, .. } => {
                Job::Stat { mount: *mount, key: key.clone() }
            }
        };
        let id = self.job(job);
        self.loads.jobs.insert(id, Asked::Look(number));
        if let Some(look) = self.loads.looks.get_mut(&number) {
            look.job = Some(id);
        }
    }

    pub(super) fn store_answered(&mut self, now: Now, job: JobId, result: Result<JobOk, JobError>) {
        match self.loads.jobs.remove(&job) {
            Some(Asked::Directory(inode)) => self.page_arrived(now, inode, result),
            Some(Asked::Look(number)) => self.look_answered(now, number, result),
            None => {}
        }
    }

    fn look_answered(&mut self, now: Now, number: u64, result: Result<JobOk, JobError>) {
        let Some(look) = self.loads.looks.get(&number) else { return };
        let seen = look.seen;
        let op = match (&look.want, result) {
            (_, Err(err)) => return self.fail_look(number, err.into()),
            (Want::Path { path, mount, key, .. }, Ok(JobOk::Chain(chain))) => {
                if chain.is_empty() {
                    return self.end_look(number, Ok(Done::Nothing));
                }
                Op::LoadPath(LoadPath { path: path.clone(), mount: *mount, key: key.clone(), chain, seen })
            }
            (Want::Inode { inode, key, .. }, Ok(JobOk::Found(found))) => {
                let known = meta::by_inode(&self.shared.state.latest(), *inode);
                let same =
                    matches!((&known, &found), (Ok(Some(status)), Some(found)) if agrees(&status.spot.inode, found));
                if same {
                    return self.end_look(number, Ok(Done::Nothing));
                }
                Op::Sync(Sync { inode: *inode, key: key.clone(), found, seen })
            }
            (want, Ok(other)) => {
                let what = format!("a store answered {other:?} to {want:?}");
                return self.fail_look(number, Error::Refused(what));
            }
        };
        self.task(now, Origin::Look(number), op);
    }

    pub(super) fn looked(&mut self, number: u64, outcome: Result<Done, Reject>) {
        let tries = self.loads.looks.get(&number).map_or(0, |look| look.tries);
        match outcome {
            Err(Reject::Stale(_)) if tries < STALE_RETRIES => self.ask(number),
            Err(Reject::Stale(_) | Reject::Covered { .. }) | Ok(_) => self.end_look(number, Ok(Done::Nothing)),
            Err(reject) => self.end_look(number, Err(reject.into())),
        }
    }

    pub(super) fn fail_look(&mut self, number: u64, err: Error) {
        self.end_look(number, Err(err));
    }

    fn end_look(&mut self, number: u64, result: Result<Done, Error>) {
        let Some(look) = self.loads.looks.remove(&number) else { return };
        if let Some(job) = look.job {
            self.loads.jobs.remove(&job);
        }
        let key = match look.want {
            Want::Path { path, .. } => LookKey::Path(path),
            Want::Inode { inode, .. } | Want::Directory { inode, .. } => LookKey::Inode(inode),
        };
        self.loads.by_key.remove(&key);
        for (ticket, _) in look.waiters {
            self.reply(ticket, result.clone());
        }
    }

    pub(super) fn load_opened(&mut self, now: Now, inode: InodeId, outcome: Result<Done, Reject>) {
        match outcome {
            Ok(Done::Load(load)) => {
                if let Some(run) = self.loads.directories.get_mut(&inode) {
                    run.load = load;
                }
                self.list(inode, ListFrom::Start);
            }
            Ok(_) => self.end_load(now, inode, Ok(Done::Nothing)),
            Err(reject) => self.end_load(now, inode, Err(reject.into())),
        }
    }

    fn list(&mut self, inode: InodeId, from: ListFrom) {
        let seen = self.shared.applied();
        let Some(run) = self.loads.directories.get_mut(&inode) else { return };
        if from == ListFrom::Start {
            self.shared.skipped.lock().begin(inode);
        }
        run.seen = seen;
        let job = Job::List { mount: run.mount, key: run.key.clone(), from, limit: PAGE };
        let id = self.job(job);
        self.loads.jobs.insert(id, Asked::Directory(inode));
        if let Some(run) = self.loads.directories.get_mut(&inode) {
            run.stage = Stage::Listing(id);
        }
    }

    fn page_arrived(&mut self, now: Now, inode: InodeId, result: Result<JobOk, JobError>) {
        let Some(run) = self.loads.directories.get_mut(&inode) else { return };
        let (items, next) = match result {
            Ok(JobOk::Page { items, next, skipped }) => {
                if skipped.count > 0 {
                    let (mount, prefix, count) = (run.mount, &run.key, skipped.count);
                    let such_as: Vec<&str> = skipped.samples.iter().map(|sample| sample.key.as_str()).collect();
                    tracing::warn!(
                        %mount, prefix, count, such_as = such_as.join(" "),
                        "keys that cannot be paths are not shown; give their objects other names"
                    );
                    self.shared.skipped.lock().add(inode, &skipped);
                    self.shared.metrics.skipped_keys.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
                }
                (items, next)
            }
            Ok(other) => {
                return self.abort_load(now, inode, Error::Refused(format!("a store answered {other:?} to a listing")));
            }
            Err(err) => return self.abort_load(now, inode, err.into()),
        };
        let (load, seen, key) = (run.load, run.seen, run.key.clone());
        let mut ops = Vec::new();
        if run.compare {
            run.listed.extend(items.iter().map(|found| hash(found.name.as_str())));
            for found in &items {
                ops.extend(self.changed(inode, found, &key, seen));
            }
        }
        ops.push(Op::LoadPage(LoadPage { directory: inode, load, items, last: next.is_none() }));
        if let Some(run) = self.loads.directories.get_mut(&inode) {
            run.stage = Stage::Inserting { left: ops.len(), next };
        }
        for op in ops {
            self.task(now, Origin::LoadStep(inode), op);
        }
    }

    /// The sync of a child we know, if the store has another version of it.
    fn changed(&self, directory: InodeId, found: &Found, prefix: &str, seen: LogIndex) -> Option<Op> {
        let key = meta::edge_key(directory, &found.name);
        let bytes = self.shared.state.latest().get(Family::Edges, &key).ok()??;
        let child = Inode::decode(&bytes).ok()?;
        if agrees(&child, found) {
            return None;
        }
        let slash = if child.is_directory() { "/" } else { "" };
        let key = child.store_key.clone().unwrap_or_else(|| format!("{prefix}{}{slash}", found.name));
        Some(Op::Sync(Sync { inode: child.id, key, found: Some(found.clone()), seen }))
    }

    pub(super) fn load_stepped(&mut self, now: Now, inode: InodeId, op: Op, outcome: Result<Done, Reject>) {
        if let (Op::LoadPage(_), Err(reject)) = (&op, outcome) {
            // The directory went away, or the session was replaced.
            return self.end_load(now, inode, Err(reject.into()));
        }
        let Some(run) = self.loads.directories.get_mut(&inode) else { return };
        match &mut run.stage {
            Stage::Inserting { left, next } => {
                *left -= 1;
                if *left > 0 {
                    return;
                }
                let next = next.take();
                run.pages += 1;
                run.moved = now.mono;
                let (names, compare) = (std::mem::take(&mut run.names), run.compare);
                let goes_on = compare || !run.waiters.is_empty() || !run.compare_next.is_empty();
                let asked_for_names = !names.is_empty();
                self.answer_names(inode, names);
                match next {
                    Some(after) if goes_on => self.list(inode, ListFrom::Page(after)),
                    // Who asked for it may ask again.
                    Some(_) if self.can_go_on(inode) => self.end_load(now, inode, Ok(Done::Nothing)),
                    Some(_) => {
                        if asked_for_names && let Some(missed) = self.loads.missed.get_mut(&inode) {
                            missed.large_until = Some(now.mono + LARGE_FOR);
                        }
                        self.close_session(now, inode);
                        self.end_load(now, inode, Ok(Done::Nothing));
                    }
                    None if compare => self.look_for_vanished(now, inode, None),
                    None => self.end_load(now, inode, Ok(Done::Nothing)),
                }
            }
            Stage::Vanishing { left, after } => {
                *left -= 1;
                if *left == 0 {
                    let after = after.take();
                    match after {
                        Some(after) => self.look_for_vanished(now, inode, Some(after)),
                        None => self.end_load(now, inode, Ok(Done::Nothing)),
                    }
                }
            }
            Stage::Opening | Stage::Listing(_) => {}
        }
    }

    /// Proposes the removal of children the store did not list. What changed since it was asked is left alone by the
    /// entry itself.
    fn look_for_vanished(&mut self, now: Now, inode: InodeId, mut after: Option<Name>) {
        loop {
            let page = match meta::children(&self.shared.state.latest(), inode, after.as_ref(), VANISH_STEP) {
                Ok(page) => page,
                Err(err) => return self.end_load(now, inode, Err(err.into())),
            };
            let Some(run) = self.loads.directories.get_mut(&inode) else { return };
            let more = (page.len() == VANISH_STEP).then(|| page.last().map(|(name, _)| name.clone())).flatten();
            let ops: Vec<Op> = page
                .iter()
                .filter(|(name, child)| !run.listed.contains(&hash(name.as_str())) && may_vanish(child))
                .map(|(name, child)| {
                    let slash = if child.is_directory() { "/" } else { "" };
                    let key = child.store_key.clone().unwrap_or_else(|| format!("{}{name}{slash}", run.key));
                    Op::Sync(Sync { inode: child.id, key, found: None, seen: run.seen })
                })
                .collect();
            if ops.is_empty() {
                match more {
                    Some(_) => {
                        after = more;
                        continue;
                    }
                    None => return self.end_load(now, inode, Ok(Done::Nothing)),
                }
            }
            run.stage = Stage::Vanishing { left: ops.len(), after: more };
            for op in ops {
                self.task(now, Origin::LoadStep(inode), op);
            }
            return;
        }
    }

    fn abort_load(&mut self, now: Now, inode: InodeId, err: Error) {
        self.fail_load(inode, err);
        self.abort_left_open(now);
    }

    fn close_session(&mut self, now: Now, inode: InodeId) {
        if let Some(run) = self.loads.directories.get(&inode) {
            self.loads.left_open.push((inode, run.load));
            self.abort_left_open(now);
        }
    }

    /// Whether the session of a run that ends is of use to a later one.
    fn can_go_on(&self, inode: InodeId) -> bool {
        let session = self.namespace.load(inode);
        let run = self.loads.directories.get(&inode).filter(|run| run.is_wanted && !run.compare);
        matches!((run, session), (Some(run), Some(load)) if load.id == run.load && load.reached.is_some())
    }

    pub(super) fn fail_load(&mut self, inode: InodeId, err: Error) {
        let late = self.finish_run(inode, &Err(err.clone()));
        for (ticket, _) in late.into_iter().flat_map(|run| run.waiters) {
            self.reply(ticket, Err(err.clone()));
        }
    }

    fn end_load(&mut self, now: Now, inode: InodeId, result: Result<Done, Error>) {
        if let Some(next) = self.finish_run(inode, &result) {
            self.start_run(now, inode, next);
        }
    }

    /// Answers everybody a run was for. Returns the run that those want who came too late for this one.
    fn finish_run(&mut self, inode: InodeId, result: &Result<Done, Error>) -> Option<DirectoryRun> {
        // A session that an entry was refused for is over; the store's failures pass.
        let stays = !matches!(result, Err(Error::Rejected(_))) && self.can_go_on(inode);
        let run = self.loads.directories.remove(&inode)?;
        if result.is_err() && !stays && run.load != LoadId(0) {
            self.loads.left_open.push((inode, run.load));
        }
        if let Stage::Listing(job) = run.stage {
            self.loads.jobs.remove(&job);
        }
        for (ticket, _) in run.waiters {
            self.reply(ticket, result.clone());
        }
        self.answer_names(inode, run.names);
        let next = self.new_run(run.mount, run.key, true);
        (!run.compare_next.is_empty()).then_some(DirectoryRun { waiters: run.compare_next, is_wanted: true, ..next })
    }

    /// Names the page brought are there; each other one is asked for by itself, as a listing that began before the
    /// question proves nothing.
    fn answer_names(&mut self, directory: InodeId, names: Vec<(Want, Waiter)>) {
        for (want, waiter) in names {
            let Want::Path { path, .. } = &want else { continue };
            let name = Name::new(path.file_name()).ok();
            let key = name.map(|name| meta::edge_key(directory, &name));
            let found = key.map(|key| self.shared.state.latest().get(Family::Edges, &key));
            match found {
                Some(Ok(Some(_))) => self.reply(waiter.0, Ok(Done::Nothing)),
                _ => self.look(LookKey::Path(path.clone()), want, waiter),
            }
        }
    }

    /// Callers whose deadline passed are told so; the fetch goes on for the others.
    pub(super) fn tick_loads(&mut self, now: Now) {
        self.abort_left_open(now);
        let mut late = Vec::new();
        let mut in_time = |(ticket, deadline): &Waiter| {
            let keep = now.mono < *deadline;
            if !keep {
                late.push(*ticket);
            }
            keep
        };
        let mut go_on = Vec::new();
        for run in self.loads.directories.values_mut() {
            if run.pages > 0 && now.mono - run.moved < STALLED {
                let load = run.load;
                go_on.extend(
                    run.waiters.extract_if(.., |(_, deadline)| now.mono >= *deadline).map(|late| (late.0, load)),
                );
            }
            run.waiters.retain(&mut in_time);
            run.names.retain(|(_, waiter)| in_time(waiter));
            run.compare_next.retain(&mut in_time);
        }
        for look in self.loads.looks.values_mut() {
            look.waiters.retain(&mut in_time);
        }
        for waiting in self.loads.moving.values_mut() {
            waiting.retain(|(_, waiter)| in_time(waiter));
        }
        for (ticket, load) in go_on {
            self.reply(ticket, Ok(Done::Load(load)));
        }
        for ticket in late {
            let message = "the under store has not answered in time; try again".to_owned();
            self.reply(ticket, Err(Error::UnderStore { kind: types::ErrorKind::Unavailable, message }));
        }
    }

    pub(super) fn drop_loads(&mut self) {
        let loads = std::mem::take(&mut self.loads);
        let directories = loads.directories.into_values().flat_map(|run| {
            let names = run.names.into_iter().map(|(_, waiter)| waiter);
            run.waiters.into_iter().chain(names).chain(run.compare_next)
        });
        let looks = loads.looks.into_values().flat_map(|look| look.waiters);
        let moving = loads.moving.into_values().flatten().map(|(_, waiter)| waiter);
        for (ticket, _) in directories.chain(looks).chain(moving) {
            self.reply(ticket, Err(Error::NotLeader));
        }
    }
}

/// Whether the store's answer is the version we know.
fn agrees(inode: &Inode, found: &Found) -> bool {
    match &inode.node {
        Node::Directory(_) => found.directory,
        Node::File(file) if found.directory => !file.complete,
        Node::File(file) => match (&file.fingerprint, &found.fingerprint) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, _) | (_, None) => file.length == found.length,
        },
    }
}

/// Only what the store is supposed to hold can vanish from it.
fn may_vanish(inode: &Inode) -> bool {
    match &inode.node {
        Node::Directory(directory) => directory.persisted && directory.mount.is_none(),
        Node::File(file) => file.complete && file.persistence == PersistenceState::Persisted,
    }
}

fn hash(name: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}
