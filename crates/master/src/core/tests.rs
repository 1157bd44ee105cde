//! The core in one thread, under a seed: a log in memory, a database with crash rules, a store that answers at random.

use super::*;
use crate::config::MasterConfig;
use journal::{Boot, JournalLog, LogEntry, MemLog, MemberId, NodeConfig};
use meta::{BatchOp, CreateDirectory, CreateFile, Found, MountSpec, Remove, Rename};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};
use store::{HeapStore, MemoryDisk};
use types::{Clock, ClusterId, Entropy, Fingerprint, GfsPath, Mode, Name, WriteType};

mod batches;
mod behind;
mod blocks;
mod expiry;
mod flushes;
mod group;
mod late;
mod loads;
mod sea;

mod crash_points;
mod landing;
mod persists;
mod races;

const CLUSTER: ClusterId = ClusterId(7);
const CHECKPOINT_ENTRIES: u64 = 50;
/// Steps of one history.
const STEPS: usize = 400;

#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn unix(&self) -> UnixMs {
        UnixMs(1_700_000_000_000 + i64::try_from(self.0.load(Ordering::Relaxed)).expect("small"))
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
}

struct Dice(AtomicU64);

impl Entropy for Dice {
    fn next_u64(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

fn format() -> meta::Format {
    let root = MountSpec::plain("mem://root");
    meta::Format { cluster: CLUSTER, owner: "root".into(), group: "root".into(), mode: Mode::new(0o755), root }
}

/// Everything outside the core, and a digest of what the core asked of it.
struct World {
    dice: Dice,
    clock: Arc<TestClock>,
    disk: Arc<MemoryDisk>,
    log: MemLog,
    core: Core,
    shared: Arc<Shared>,
    /// Given out, not answered yet.
    appends: Vec<AppendBatch>,
    jobs: Vec<(JobId, Job)>,
    next_ticket: u64,
    acknowledged: BTreeMap<Ticket, Op>,
    asked: BTreeMap<Ticket, Op>,
    answers: BTreeMap<Ticket, Result<Done, Error>>,
    /// What leaders are told of metadata that nobody uses.
    expiry: Option<ExpiryConfig>,
    /// Entries between two flushes.
    checkpoint_entries: u64,
    /// All that was ever written to the log and not lost.
    written: BTreeMap<LogIndex, LogEntry>,
    power: Power,
    digest: u64,
}

/// Moments of a flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// It was asked for.
    Asked,
    /// The database is on its disk.
    Written,
    /// The core knows, and the log is not cut yet.
    Told,
    Over,
}

#[derive(Default)]
struct Power {
    flushes: usize,
    /// Where in which flush it fails.
    fails_at: Option<(usize, Moment)>,
    is_off: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let clock = Arc::new(TestClock::default());
        let disk = Arc::new(MemoryDisk::new("/db"));
        HeapStore::format(&*disk, CLUSTER).expect("an empty disk");
        let log = MemLog::new(CLUSTER);
        let dice = Dice(AtomicU64::new(seed));
        let (core, shared) = boot(&clock, &disk, &log, dice.next_u64());
        let mut world = World {
            dice,
            clock,
            disk,
            log,
            core,
            shared,
            appends: Vec::new(),
            jobs: Vec::new(),
            next_ticket: 1,
            acknowledged: BTreeMap::new(),
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            expiry: None,
            checkpoint_entries: CHECKPOINT_ENTRIES,
            written: BTreeMap::new(),
            power: Power::default(),
            digest: 0,
        };
        world.settle();
        world
    }

    fn now(&self) -> Now {
        Now { unix: self.clock.unix(), mono: self.clock.monotonic() }
    }

    fn step(&mut self, event: Event) {
        if self.power.is_off {
            return;
        }
        let now = self.now();
        self.core.step(now, event);
        let actions = self.core.turn(now).expect("no disk fails here");
        for action in actions {
            if self.power.is_off {
                return;
            }
            let mut line = String::new();
            write!(line, "{} {action:?}", now.mono.0.as_millis()).expect("strings grow");
            self.digest = BuildHasherDefault::<DefaultHasher>::default().hash_one((self.digest, line));
            match action {
                Action::Append(batch) => self.appends.push(batch),
                Action::Job(id, job) => self.jobs.push((id, job)),
                Action::Reply(ticket, result) => {
                    if let Some(op) = self.asked.get(&ticket).filter(|_| result.is_ok()) {
                        self.acknowledged.insert(ticket, op.clone());
                    }
                    self.answers.insert(ticket, result);
                }
                Action::Send(..) => panic!("there is nobody to send to"),
                Action::Purge(below) => self.purge(below),
                Action::MountsChanged | Action::Members(_) => {}
                Action::Fetch(offer) => panic!("nobody is that far behind: {offer:?}"),
                Action::Flush => self.flush(),
            }
        }
    }

    fn flush(&mut self) {
        self.power.flushes += 1;
        if self.power_fails(Moment::Asked) {
            return;
        }
        let index = self.shared.state.store().flush().expect("the disk is well");
        if self.power_fails(Moment::Written) {
            return;
        }
        self.step(Event::Flushed(index));
        self.power_fails(Moment::Over);
    }

    fn purge(&mut self, below: LogIndex) {
        if !self.power_fails(Moment::Told) {
            self.log.purge_below(below).expect("the disk is well");
        }
    }

    fn power_fails(&mut self, moment: Moment) -> bool {
        self.power.is_off |= self.power.fails_at == Some((self.power.flushes, moment));
        self.power.is_off
    }

    /// The disk catches up with everything written.
    fn sync(&mut self) {
        for batch in std::mem::take(&mut self.appends) {
            if self.power.is_off {
                return;
            }
            self.log.append(&batch).expect("in order");
            self.log.sync().expect("the disk is well");
            self.written.extend(batch.entries.iter().map(|entry| (entry.index, entry.clone())));
            self.step(Event::Persisted(batch.seq));
        }
    }

    /// Lets disk and stores answer until nothing is open.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.sync();
            for (id, job) in std::mem::take(&mut self.jobs) {
                self.step(Event::JobDone(id, Ok(well(&job))));
            }
            self.clock.0.fetch_add(50, Ordering::Relaxed);
            self.step(Event::Tick);
            if self.appends.is_empty() && self.jobs.is_empty() && self.core.namespace().intents().next().is_none() {
                return;
            }
        }
        panic!("the core does not come to rest");
    }

    /// A power cut: what was not synced is gone, and everything starts again from the disks.
    fn crash(&mut self) {
        self.log.crash();
        self.power.is_off = false;
        let last = self.log.recovered().last();
        self.written.retain(|index, _| *index <= last);
        self.appends.clear();
        self.jobs.clear();
        self.asked.clear();
        let (core, shared) = boot(&self.clock, &self.disk, &self.log, self.dice.next_u64());
        (self.core, self.shared) = (core, shared);
        self.core.config.expiry = self.expiry;
        self.core.config.checkpoint_entries = self.checkpoint_entries;
        self.step(Event::Tick);
    }

    /// From now on metadata expire.
    fn expire(&mut self, expiry: ExpiryConfig) {
        self.expiry = Some(expiry);
        self.core.config.expiry = self.expiry;
        self.core.begin_expiry();
    }

    fn request(&mut self, op: Op) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let operation = Some(OperationId(u128::from(self.dice.next_u64())));
        let came = self.clock.monotonic();
        let deadline = came + Duration::from_secs(5);
        self.asked.insert(ticket, op.clone());
        self.step(Event::Request(ticket, Request { who: Caller::system(), operation, op, came, deadline }));
    }

    /// Asks for an unknown name, as the wire does.
    fn want(&mut self, path: GfsPath) -> Ticket {
        let parent = path.parent().expect("below the root");
        let above = meta::status(&self.shared.state.latest(), &Caller::system(), &parent).expect("readable");
        let directory = above.ok().map(|status| status.spot.inode.id);
        let key = path.as_str()[1..].to_owned();
        self.want_from_store(Want::Path { path, mount: types::MountId(1), key, directory })
    }

    fn want_from_store(&mut self, want: Want) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let deadline = self.clock.monotonic() + Duration::from_secs(5);
        self.step(Event::Want(ticket, want, deadline));
        ticket
    }

    /// The only open job, answered like this.
    fn answer(&mut self, result: JobOk) {
        assert_eq!(self.jobs.len(), 1, "{:?}", self.jobs);
        let (id, _) = self.jobs.remove(0);
        self.step(Event::JobDone(id, Ok(result)));
        while !self.appends.is_empty() {
            self.sync();
        }
    }

    fn random_step(&mut self) {
        let path = |dice: &Dice| GfsPath::parse(&format!("/d{}/f{}", dice.below(3), dice.below(4))).expect("a path");
        match self.dice.below(20) {
            0..=4 => {
                let op = CreateFile {
                    path: path(&self.dice),
                    block_bytes: 1 << 20,
                    recursive: true,
                    mode: Mode::new(0o644),
                    write_type: Some(WriteType::MustCache),
                };
                if self.dice.below(4) > 0 {
                    return self.request(Op::CreateFile(op));
                }
                let remove = Remove { path: path(&self.dice), recursive: false, goosefs_only: false };
                let again = CreateFile { path: path(&self.dice), ..op.clone() };
                let operation = u128::from(self.dice.next_u64()) << 32;
                let all = [BatchOp::CreateFile(op), BatchOp::Remove(remove), BatchOp::CreateFile(again)];
                self.batch(operation, all.into());
            }
            5 | 6 => {
                let path = GfsPath::parse(&format!("/d{}", self.dice.below(3))).expect("a path");
                let op = CreateDirectory { path, recursive: true, allow_exists: true, mode: Mode::new(0o755) };
                self.request(Op::CreateDirectory(op));
            }
            7 | 8 => {
                let op = Rename { path: path(&self.dice), to: path(&self.dice) };
                self.request(Op::Rename(op));
            }
            9 | 10 => {
                let path = path(&self.dice);
                let path = if self.dice.below(3) == 0 { path.parent().expect("two levels") } else { path };
                self.request(Op::Remove(Remove { path, recursive: true, goosefs_only: self.dice.below(2) == 0 }));
            }
            11 | 12 => {
                let path = path(&self.dice);
                self.want(path);
            }
            13..=15 => self.sync(),
            16 | 17 => {
                if !self.jobs.is_empty() {
                    let at = usize::try_from(self.dice.below(u64::try_from(self.jobs.len()).expect("small")))
                        .expect("small");
                    let (id, job) = self.jobs.remove(at);
                    let result = if self.dice.below(4) == 0 {
                        Err(JobError { kind: types::ErrorKind::Unavailable, message: "the store is away".into() })
                    } else {
                        Ok(well(&job))
                    };
                    self.step(Event::JobDone(id, result));
                }
            }
            18 => {
                self.clock.0.fetch_add(1 + self.dice.below(400), Ordering::Relaxed);
                self.step(Event::Tick);
            }
            _ => {
                if self.dice.below(4) == 0 {
                    self.crash();
                }
            }
        }
    }
}

fn boot(clock: &Arc<TestClock>, disk: &Arc<MemoryDisk>, log: &MemLog, seed: u64) -> (Core, Arc<Shared>) {
    boot_as(NodeConfig::new(MemberId(1), vec![MemberId(1)]), clock, disk, log, seed)
}

fn boot_as(
    node: NodeConfig,
    clock: &Arc<TestClock>,
    disk: &Arc<MemoryDisk>,
    log: &MemLog,
    seed: u64,
) -> (Core, Arc<Shared>) {
    boot_on(node, Arc::new(HeapStore::open(disk.clone(), CLUSTER).expect("formatted")), clock, log, seed)
}

fn boot_on(
    node: NodeConfig,
    state: Arc<dyn meta::Store>,
    clock: &Arc<TestClock>,
    log: &MemLog,
    seed: u64,
) -> (Core, Arc<Shared>) {
    let applied = state.applied();
    let entropy = Arc::new(Dice(AtomicU64::new(seed)));
    let (shared, namespace) = crate::server::publish(&MasterConfig::for_tests(), state, clock.clone(), entropy)
        .expect("what was written is readable");
    let boot = Boot { applied, now: clock.monotonic(), seed };
    let node = Node::new(node, log.recovered(), log.reader(), boot).expect("log and store fit");
    let core_config = CoreConfig {
        checkpoint_entries: CHECKPOINT_ENTRIES,
        intent_wait: Duration::from_secs(2),
        operation_retention: Duration::from_secs(900),
        incomplete_expiry: Duration::from_secs(3600),
        walk: Some(WalkConfig { per_second: 1_000, every: Duration::from_secs(1) }),
        late: Duration::from_millis(200),
        expiry: None,
        persist_concurrency: 4,
        worker_timeout: Duration::from_secs(10),
        task_timeout: Duration::from_secs(60),
        format: format(),
        intent_rest: Duration::from_secs(2),
        recover: false,
    };
    (Core::new(core_config, node, namespace, shared.clone()), shared)
}

fn found(name: &str, directory: bool) -> Found {
    Found {
        name: Name::new(name).expect("a name"),
        directory,
        length: 5,
        modified: Some(UnixMs(1)),
        fingerprint: (!directory).then(|| Fingerprint::Etag("e".into())),
        owner: None,
        group: None,
        mode: None,
    }
}

/// A store that has every object it is asked for, and does what it is told.
fn well(job: &Job) -> JobOk {
    match job {
        Job::Chain { key, .. } => {
            let names: Vec<&str> = key.split('/').collect();
            names
                .iter()
                .enumerate()
                .map(|(at, name)| found(name, at + 1 < names.len()))
                .collect::<Vec<_>>()
                .into_chain()
        }
        Job::Stat { key, .. } => {
            let name = key.trim_end_matches('/').rsplit('/').next().expect("split gives one");
            JobOk::Found(Name::new(name).is_ok().then(|| found(name, key.ends_with('/'))))
        }
        Job::List { .. } => JobOk::Page { items: Vec::new(), next: None, skipped: ufs::Skipped::default() },
        Job::DeleteFile { .. }
        | Job::DeleteTree { .. }
        | Job::MoveFile { .. }
        | Job::MoveTree { .. }
        | Job::MakeDirectory { .. } => JobOk::Done(Some(Fingerprint::Etag("moved".into()))),
    }
}

trait IntoChain {
    fn into_chain(self) -> JobOk;
}
impl IntoChain for Vec<Found> {
    fn into_chain(self) -> JobOk {
        JobOk::Chain(self)
    }
}

fn run(seed: u64) -> (u64, usize) {
    let mut world = World::new(seed);
    let recount = |world: &World| {
        let wrong = world.core.namespace().check_invariants(&world.shared.state.latest()).expect("readable");
        assert_eq!(wrong, Vec::<String>::new(), "seed {seed}");
    };
    if seed.is_multiple_of(2) {
        world.expire(ExpiryConfig { unused: Duration::from_secs(1), per_second: 1_000 });
    }
    for _ in 0..STEPS {
        world.random_step();
        recount(&world);
        world.shared.locations.check_invariants();
    }
    world.settle();
    recount(&world);
    (world.digest, world.acknowledged.len())
}

/// How many seeds; the nightly run asks for more.
fn seeds() -> u64 {
    testkit::rounds(10)
}

#[test]
fn the_same_seed_asks_the_same_of_the_world_twice() {
    for seed in 1..=seeds() {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first, second, "seed {seed}");
        assert!(first.1 > 20, "seed {seed} acknowledged only {}", first.1);
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut() {
    for seed in 1..=seeds() {
        let mut world = World::new(seed);
        let path = |n: u64| GfsPath::parse(&format!("/kept/file-{n}")).expect("a path");
        for n in 0..20 {
            let op = CreateFile {
                path: path(n),
                block_bytes: 1,
                recursive: true,
                mode: Mode::new(0o644),
                write_type: Some(WriteType::MustCache),
            };
            world.request(Op::CreateFile(op));
            if world.dice.below(2) == 0 {
                world.sync();
            }
        }
        let kept = world.acknowledged.clone();
        world.crash();
        world.settle();
        for op in kept.values() {
            let Op::CreateFile(create) = op else { continue };
            let found = meta::status(&world.shared.state.latest(), &Caller::system(), &create.path).expect("readable");
            assert!(found.is_ok(), "seed {seed}: {} was acknowledged and is gone", create.path);
        }
    }
}

#[test]
fn a_read_without_a_lease_is_answered_once_the_group_confirmed_this_master() {
    let mut world = World::new(7);
    world.step(Event::Confirm(Ticket(900)));
    assert!(world.answers.contains_key(&Ticket(900)), "a group of one confirms at once");
}

/// A page of a listing with these files.
fn page(names: &[&str], next: Option<&str>) -> JobOk {
    let items = names.iter().map(|name| found(name, false)).collect();
    JobOk::Page { items, next: next.map(ufs::PageToken::of), skipped: ufs::Skipped::default() }
}

fn in_root(name: &str) -> GfsPath {
    GfsPath::parse(&format!("/{name}")).expect("a path")
}

#[test]
fn a_second_unknown_name_of_a_directory_brings_its_neighbours() {
    let mut world = World::new(5);
    world.want(in_root("a"));
    assert!(matches!(&world.jobs[..], [(_, Job::Chain { .. })]), "the first is asked for alone: {:?}", world.jobs);
    world.answer(JobOk::Chain(vec![found("a", false)]));
    let (second, third, absent) = (world.want(in_root("b")), world.want(in_root("c")), world.want(in_root("x")));
    while !world.appends.is_empty() {
        world.sync();
    }
    assert!(matches!(&world.jobs[..], [(_, Job::List { .. })]), "one listing for all: {:?}", world.jobs);
    world.answer(page(&["a", "b", "c", "d"], None));
    assert!(world.answers.contains_key(&second) && world.answers.contains_key(&third));
    // The listing may have begun before the question, so what it lacks is asked for by itself.
    assert!(!world.answers.contains_key(&absent));
    assert!(matches!(&world.jobs[..], [(_, Job::Chain { key, .. })] if key == "x"), "{:?}", world.jobs);
    world.answer(JobOk::Chain(Vec::new()));
    assert!(world.answers.contains_key(&absent));
    let neighbour = meta::status(&world.shared.state.latest(), &Caller::system(), &in_root("d")).expect("readable");
    assert!(neighbour.is_ok(), "it came along");
}

#[test]
fn a_large_directory_is_not_listed_for_a_few_names() {
    let mut world = World::new(6);
    world.want(in_root("a"));
    world.answer(JobOk::Chain(vec![found("a", false)]));
    let second = world.want(in_root("y"));
    while !world.appends.is_empty() {
        world.sync();
    }
    world.answer(page(&["a", "b"], Some("more")));
    assert!(matches!(&world.jobs[..], [(_, Job::Chain { key, .. })] if key == "y"), "{:?}", world.jobs);
    world.answer(JobOk::Chain(vec![found("y", false)]));
    assert!(world.answers.contains_key(&second));
    world.want(in_root("z"));
    assert!(matches!(&world.jobs[..], [(_, Job::Chain { .. })]), "it is known to be large: {:?}", world.jobs);
}

#[test]
fn an_answer_never_leaves_before_its_sync() {
    let mut world = World::new(3);
    let path = GfsPath::parse("/a").expect("a path");
    let op = CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) };
    world.request(Op::CreateDirectory(op));
    assert!(world.acknowledged.is_empty(), "nothing is on disk yet");
    assert_eq!(world.appends.len(), 1);
    world.sync();
    assert_eq!(world.acknowledged.len(), 1);
}

#[test]
fn requests_that_arrive_during_a_sync_share_the_next_one() {
    let mut world = World::new(4);
    let mkdir = |n: u64| {
        let path = GfsPath::parse(&format!("/dir-{n}")).expect("a path");
        Op::CreateDirectory(CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) })
    };
    for n in 0..64 {
        world.request(mkdir(n));
    }
    assert_eq!(world.appends.len(), 1, "one batch is under way, the rest waits");
    world.sync();
    assert_eq!(world.appends.len(), 1, "all that waited is in one batch");
    assert_eq!(world.appends[0].entries.len(), 63);
    world.sync();
    assert_eq!(world.acknowledged.len(), 64);
}
