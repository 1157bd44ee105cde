//! A group of three to five members in one thread: virtual time, drifting clocks, lossy network, crashing disks, pauses;
//! short logs, so that who was away needs snapshots; members that come and go.
//!
//! Checked at every step: one leader per term; no committed entry lost, changed or reordered; at most one member holds a
//! lease, and it has applied everything acknowledged; a read index covers everything acknowledged before it was asked.
//! Afterwards the faults end and the group must heal. One seed decides everything, two runs of it are identical.

use bytes::Bytes;
use journal::disk::SimDisk;
use journal::{
    AppendBatch, BatchSeq, Boot, Change, Committed, JournalLog, MemberId, Membership, NewStart, Node, NodeConfig,
    Output, Role, SegmentLog, SegmentOptions, SnapshotMark,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use types::{ClusterId, LogIndex, Monotonic, Term};

/// Founders of a group, and members it may grow to.
const MEMBERS: u64 = 3;
const MOST: usize = 5;
/// Entries kept for others.
const RETAINED: u64 = 60;
const OPTIONS: SegmentOptions = SegmentOptions { segment_bytes: 16 << 10 };
const STEP_US: u64 = 1000;

/// A small seeded generator (splitmix64).
struct Dice(u64);
impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    /// True once in `times`.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// FNV-1a over everything the members said.
struct Digest(u64);
impl std::fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        Ok(())
    }
}

/// A state machine that is durable up to its last flush.
#[derive(Clone, Default)]
struct Store {
    applied: Vec<(Term, Bytes)>,
    flushed: usize,
    /// Who the members were from which length on.
    members: Vec<(usize, Membership)>,
}

impl Store {
    fn members(&self) -> Membership {
        let founders = (1..=MEMBERS).map(|id| (MemberId(id), format!("m{id}")));
        self.members.last().map_or_else(|| Membership::founding(founders), |(_, members)| members.clone())
    }

    /// Loses what was not flushed.
    fn crash(&mut self) {
        self.applied.truncate(self.flushed);
        self.members.retain(|(from, _)| *from <= self.flushed);
    }
}

struct Member {
    id: MemberId,
    disk: SimDisk,
    running: Option<(Node, SegmentLog<SimDisk>)>,
    store: Store,
    /// Parts per thousand that its clock runs fast or slow.
    drift: i64,
    paused_until_us: u64,
    /// The outstanding batch and when its sync is over.
    writing: Option<(BatchSeq, u64)>,
    restart_at_us: u64,
    /// From whom a snapshot is fetched, and when it is here.
    fetching: Option<(MemberId, u64)>,
}

/// What users were told.
#[derive(Default)]
struct Promises {
    committed: Vec<(Term, Bytes)>,
    acked: u64,
    leaders: BTreeMap<u64, MemberId>,
    reads: BTreeMap<u64, u64>,
    reads_answered: u64,
    lease_ms: u64,
    transfers: u64,
    snapshots: u64,
    changes: u64,
}

struct World {
    members: Vec<Member>,
    now_us: u64,
    dice: Dice,
    /// Only where it is compared: formatting everything that is said takes most of the time.
    digest: Option<Digest>,
    /// Arrival time and a tie-breaker, then receiver and bytes.
    network: BTreeMap<(u64, u64), (MemberId, Bytes)>,
    sent: u64,
    cut: BTreeSet<(MemberId, MemberId)>,
    faults: bool,
    promises: Promises,
    next_ticket: u64,
    next_read: u64,
}

fn config(id: MemberId, members: Membership) -> NodeConfig {
    NodeConfig {
        tick: Duration::from_millis(10),
        heartbeat_ticks: 2,
        election_ticks: 20,
        lease: Duration::from_millis(150),
        max_entry_bytes: 2000,
        max_pending_entries: 200,
        max_pending_bytes: 100_000,
        max_committed_bytes: 3000,
        cache_bytes: 4000,
        retained_entries: RETAINED,
        members,
        ..NodeConfig::new(id, vec![id])
    }
}

fn dir() -> &'static Path {
    Path::new("/journal")
}

impl Member {
    fn new(id: u64, dice: &mut Dice) -> Member {
        let disk = SimDisk::new();
        SegmentLog::format(&disk, dir(), ClusterId(1), OPTIONS, false).expect("an empty disk");
        let drift = i64::try_from(dice.below(81)).unwrap() - 40;
        Member {
            id: MemberId(id),
            disk,
            running: None,
            store: Store::default(),
            drift,
            paused_until_us: 0,
            writing: None,
            restart_at_us: 0,
            fetching: None,
        }
    }

    /// What its own clock says.
    fn clock(&self, now_us: u64) -> Monotonic {
        let now = i64::try_from(now_us).unwrap();
        Monotonic(Duration::from_micros(u64::try_from(now + now * self.drift / 1000).unwrap()))
    }

    fn start(&mut self, now_us: u64, seed: u64) {
        let (log, recovered) = SegmentLog::open(self.disk.clone(), dir(), Some(ClusterId(1)), OPTIONS)
            .unwrap_or_else(|error| panic!("{} cannot start: {error}", self.id));
        let applied = LogIndex(u64::try_from(self.store.applied.len()).unwrap());
        let boot = Boot { applied, now: self.clock(now_us), seed };
        let node = Node::new(config(self.id, self.store.members()), recovered, log.reader(), boot)
            .unwrap_or_else(|error| panic!("{} cannot start: {error}", self.id));
        self.running = Some((node, log));
    }

    fn crash(&mut self, seed: u64) {
        self.running = None;
        self.writing = None;
        self.fetching = None;
        self.store.crash();
        self.disk.crash(seed);
    }

    /// Takes a snapshot in place of its state, and begins anew: as a start that finds a whole one does.
    fn install(&mut self, snapshot: Store, now_us: u64, seed: u64) {
        (self.running, self.writing) = (None, None);
        let applied = &snapshot.applied;
        let (after, after_term) = (LogIndex(u64::try_from(applied.len()).unwrap()), applied.last().expect("one").0);
        self.store = snapshot;
        let (log, recovered) =
            SegmentLog::open(self.disk.clone(), dir(), Some(ClusterId(1)), OPTIONS).expect("a healthy log");
        let generation = log.next_generation();
        drop(log);
        if recovered.last() < after || recovered.terms.term(after) != Some(after_term) {
            let hard_state = recovered.hard_state;
            let start = NewStart { after, after_term, hard_state, generation };
            SegmentLog::reset(&self.disk, dir(), ClusterId(1), OPTIONS, start).expect("a healthy disk");
        }
        // What it has got may say that it is a member no longer.
        if !self.store.members().was_removed(self.id) {
            self.start(now_us, seed);
        }
    }

    fn active(&self, now_us: u64) -> bool {
        self.running.is_some() && self.paused_until_us <= now_us
    }

    fn node(&mut self) -> Option<&mut Node> {
        self.running.as_mut().map(|(node, _)| node)
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let members = (1..=MEMBERS).map(|id| Member::new(id, &mut dice)).collect();
        World {
            members,
            now_us: 1_000_000,
            dice,
            digest: None,
            network: BTreeMap::new(),
            sent: 0,
            cut: BTreeSet::new(),
            faults: true,
            promises: Promises::default(),
            next_ticket: 1,
            next_read: 1,
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_us += STEP_US;
            if self.faults {
                self.misfortune();
            }
            self.deliver();
            for at in 0..self.members.len() {
                self.live(at);
            }
            self.check();
        }
    }

    // --- faults ---

    fn misfortune(&mut self) {
        let count = u64::try_from(self.members.len()).unwrap();
        let victim = usize::try_from(self.dice.below(count)).unwrap();
        if self.dice.once_in(3000) && self.members[victim].running.is_some() {
            let seed = self.dice.next();
            self.members[victim].crash(seed);
            self.members[victim].restart_at_us = self.now_us + self.dice.below(800_000);
        }
        if self.dice.once_in(2000) {
            self.members[victim].paused_until_us = self.now_us + self.dice.below(600_000);
        }
        if self.dice.once_in(1000) {
            let other = self.dice.below(count) + 1;
            self.cut.insert((MemberId(other), self.members[victim].id));
            if self.dice.once_in(2) {
                self.cut.insert((self.members[victim].id, MemberId(other)));
            }
        }
        if self.dice.once_in(700) {
            self.cut.clear();
        }
    }

    fn heal(&mut self) {
        self.faults = false;
        self.cut.clear();
        for member in &mut self.members {
            member.paused_until_us = 0;
            member.restart_at_us = 0;
        }
    }

    // --- network ---

    fn send(&mut self, from: MemberId, to: MemberId, bytes: Bytes) {
        let copies = if self.faults && self.dice.once_in(50) { 2 } else { 1 };
        for _ in 0..copies {
            let lost = self.faults && (self.dice.once_in(30) || self.cut.contains(&(from, to)));
            let slow = if self.faults && self.dice.once_in(40) { 300_000 } else { 8_000 };
            let arrival = self.now_us + 500 + self.dice.below(slow);
            self.sent += 1;
            if !lost {
                self.network.insert((arrival, self.sent), (to, bytes.clone()));
            }
        }
    }

    fn deliver(&mut self) {
        let later = self.network.split_off(&(self.now_us + 1, 0));
        for (_, (to, bytes)) in std::mem::replace(&mut self.network, later) {
            let now_us = self.now_us;
            // Nobody may be there yet.
            let Some(member) = self.members.iter_mut().find(|member| member.id == to) else { continue };
            if member.paused_until_us > now_us {
                // A paused process finds its mail when it wakes.
                self.sent += 1;
                self.network.insert((member.paused_until_us, self.sent), (to, bytes));
                continue;
            }
            let clock = member.clock(now_us);
            if let Some(node) = member.node() {
                // Who was removed is refused.
                node.step(clock, &bytes).unwrap_or_else(|error| assert!(!error.is_fatal(), "{to}: {error}"));
            }
        }
    }

    // --- a member's turn ---

    fn live(&mut self, at: usize) {
        let now_us = self.now_us;
        let retired = self.members[at].store.members().was_removed(self.members[at].id);
        if self.members[at].running.is_none() && self.members[at].restart_at_us <= now_us && !retired {
            let seed = self.dice.next();
            self.members[at].start(now_us, seed);
        }
        if !self.members[at].active(now_us) {
            return;
        }
        self.finish_write(at);
        self.finish_fetch(at);
        if !self.members[at].active(now_us) {
            return;
        }
        let clock = self.members[at].clock(now_us);
        let member = &mut self.members[at];
        member.node().expect("active").tick(clock);
        self.load(at);
        for _ in 0..50 {
            let node = self.members[at].node().expect("active");
            let output = node.drain().unwrap_or_else(|error| panic!("a healthy log: {error}"));
            node.check_invariants();
            let more = output.more;
            self.carry_out(at, output);
            if !more {
                return;
            }
        }
    }

    fn finish_write(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some((seq, _)) = member.writing.take_if(|(_, done_us)| *done_us <= self.now_us) else { return };
        let (node, log) = member.running.as_mut().expect("active");
        log.sync().expect("a healthy disk");
        node.persisted(seq);
    }

    fn finish_fetch(&mut self, at: usize) {
        let Some((from, _)) = self.members[at].fetching.take_if(|(_, done_us)| *done_us <= self.now_us) else { return };
        let Some(source) = self.members.iter_mut().find(|member| member.id == from) else { return };
        if source.running.is_none() || source.store.applied.len() <= self.members[at].store.applied.len() {
            return;
        }
        let source = self.members.iter_mut().find(|member| member.id == from).expect("it was just found");
        source.store.flushed = source.store.applied.len();
        let snapshot = source.store.clone();
        let seed = self.dice.next();
        self.members[at].install(snapshot, self.now_us, seed);
        self.promises.snapshots += 1;
    }

    /// Members come and go, one step at a time.
    fn change(&mut self, at: usize) {
        let (add, remove, promote) = (self.dice.once_in(1200), self.dice.once_in(1500), self.dice.once_in(50));
        let ticket = self.next_ticket;
        let node = self.members[at].node().expect("active");
        let members = node.members().clone();
        if node.role() != Role::Leader {
            return;
        }
        let caught_up =
            |id| node.followers().iter().any(|f| f.id == id && f.active && f.acknowledged.0 + 20 >= node.committed().0);
        let learner = members.learners().find(|id| caught_up(*id));
        let change = if let Some(id) = learner.filter(|_| promote) {
            Change::Promote(id)
        } else if add && members.iter().count() < MOST {
            Change::AddLearner { address: format!("m{}", members.next_id().0), replaces: None }
        } else if remove && members.voters().count() > 3 {
            Change::Remove(members.voters().next().expect("four"))
        } else {
            return;
        };
        if node.propose_change(ticket, &change).is_ok() {
            self.next_ticket += 1;
        }
    }

    /// Proposals, reads, transfers, flushes.
    fn load(&mut self, at: usize) {
        let acked = self.promises.acked;
        let ticket = self.next_ticket;
        let (propose, read) = (self.dice.once_in(4), self.dice.once_in(40));
        let (transfer, flush) = (self.faults && self.dice.once_in(1500), self.dice.once_in(300));
        let to = MemberId(self.dice.below(u64::try_from(self.members.len()).unwrap()) + 1);
        let size = usize::try_from(self.dice.below(600) + 8).unwrap();
        let node = self.members[at].node().expect("active");
        if propose {
            let mut payload = ticket.to_le_bytes().to_vec();
            payload.resize(size, 0xA5);
            if node.propose(ticket, &Bytes::from(payload)).is_ok() {
                self.next_ticket += 1;
            }
        }
        if read && node.read_index(self.next_read).is_ok() {
            self.promises.reads.insert(self.next_read, acked);
            self.next_read += 1;
        }
        if transfer && node.transfer_leadership(to).is_ok() {
            self.promises.transfers += 1;
        }
        if flush {
            self.flush(at);
        }
        if self.faults {
            self.change(at);
        }
    }

    /// Flushes a store, takes a snapshot, and gives up what lies further back than is kept for others.
    fn flush(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.store.flushed = member.store.applied.len();
        let flushed = LogIndex(u64::try_from(member.store.flushed).unwrap());
        let (node, log) = member.running.as_mut().expect("active");
        node.set_snapshot(SnapshotMark { index: flushed, term: node.term() });
        if let Some(below) = node.compact(flushed, LogIndex(0)) {
            log.purge_below(below).expect("a healthy disk");
        }
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        let id = self.members[at].id;
        if let Some(digest) = &mut self.digest {
            write!(digest, "{} {id} {output:?}", self.now_us).expect("a digest takes everything");
        }
        if let Some(batch) = &output.append {
            self.begin_write(at, batch);
        }
        for message in output.messages {
            self.send(id, message.to, message.bytes);
        }
        if let Some(change) = output.role.filter(|change| change.role == Role::Leader) {
            let known = *self.promises.leaders.entry(change.term.0).or_insert(id);
            assert_eq!(known, id, "two leaders of {}", change.term);
        }
        for committed in output.committed {
            self.apply(at, committed);
        }
        for (ticket, index) in output.reads {
            let asked_at = self.promises.reads.remove(&ticket).expect("a read is answered once");
            assert!(index.0 >= asked_at, "read index {index} but log-{asked_at} was acknowledged before it was asked");
            self.promises.reads_answered += 1;
        }
        for ticket in output.dropped_reads {
            self.promises.reads.remove(&ticket);
        }
        assert!(output.snapshots_wanted.is_empty(), "whoever cuts its log has a snapshot");
        if let Some(offer) = output.snapshot_offered {
            let done_us = self.now_us + 1000 + self.dice.below(200_000);
            self.members[at].fetching.get_or_insert((offer.from, done_us));
        }
    }

    fn begin_write(&mut self, at: usize, batch: &AppendBatch) {
        let longest_us = if self.dice.once_in(20) { 60_000 } else { 3_000 };
        let took_us = 200 + self.dice.below(longest_us);
        let member = &mut self.members[at];
        assert!(member.writing.is_none(), "one batch is outstanding");
        let (node, log) = member.running.as_mut().expect("active");
        let last = batch.entries.last().map_or(node.last_index(), |entry| entry.index);
        assert!(batch.hard_state.commit <= last, "a stored commit index lies within the stored log");
        log.append(batch).unwrap_or_else(|error| panic!("{batch:?}: {error}"));
        member.writing = Some((batch.seq, self.now_us + took_us));
    }

    fn apply(&mut self, at: usize, entry: Committed) {
        let member = &mut self.members[at];
        let position = member.store.applied.len();
        assert_eq!(entry.index.0, u64::try_from(position).unwrap() + 1, "in order, without holes");
        let payload = entry.members.as_ref().map_or(entry.payload.clone(), Membership::encode);
        let fact = (entry.term, payload);
        match self.promises.committed.get(position) {
            Some(known) => assert_eq!(*known, fact, "{} was committed differently", entry.index),
            None => self.promises.committed.push(fact.clone()),
        }
        if let Some(ticket) = entry.ticket {
            let own = entry.members.is_some() || entry.payload[..8] == ticket.to_le_bytes();
            assert!(own, "a ticket finds its own entry");
            self.promises.acked = self.promises.acked.max(entry.index.0);
        }
        member.store.applied.push(fact);
        if let Some(members) = &entry.members {
            member.store.members.push((position + 1, members.clone()));
        }
        member.node().expect("active").advance_applied(entry.index);
        if let Some(members) = entry.members {
            self.promises.changes += 1;
            for (id, _) in members.iter() {
                if self.members.iter().all(|member| member.id != id) {
                    self.members.push(Member::new(id.0, &mut self.dice));
                }
            }
        }
    }

    // --- what must always hold ---

    fn check(&mut self) {
        let now_us = self.now_us;
        let mut holders = Vec::new();
        for member in &self.members {
            let Some((node, _)) = &member.running else { continue };
            if node.lease_valid(member.clock(now_us)) {
                holders.push(member.id);
                let (applied, acked) = (node.applied().0, self.promises.acked);
                assert!(applied >= acked, "{} would answer from log-{applied}, log-{acked} is acknowledged", member.id);
            }
        }
        assert!(holders.len() <= 1, "{holders:?} hold a lease at once");
        self.promises.lease_ms += u64::try_from(holders.len()).unwrap();
    }

    /// After the faults: everybody agrees, and new work commits.
    fn check_healed(&mut self) {
        let acked_before = self.promises.acked;
        self.run(1500);
        assert!(self.promises.acked > acked_before, "a healed group commits new work");
        let complete = self.promises.committed.len();
        let furthest = self.members.iter().max_by_key(|member| member.store.applied.len()).expect("some");
        let now = furthest.store.members();
        for member in &self.members {
            let applied = &member.store.applied;
            let caught_up = applied.len() + 100 > complete || now.was_removed(member.id);
            assert!(caught_up, "{} caught up: {} of {complete}", member.id, applied.len());
            assert_eq!(applied[..], self.promises.committed[..applied.len()]);
        }
    }
}

fn simulate(seed: u64, ms: u64) -> Promises {
    let mut world = World::new(seed);
    world.run(ms);
    world.heal();
    world.run(2000);
    world.check_healed();
    world.promises
}

/// Runs seeds and makes sure that they did something.
fn campaign(seeds: std::ops::Range<u64>) {
    let runs = seeds.end - seeds.start;
    let (mut acked, mut leaders, mut lease_ms, mut reads, mut transfers) = (0, 0, 0, 0, 0);
    let (mut snapshots, mut changes) = (0, 0);
    for seed in seeds {
        let promises = simulate(seed, 12_000);
        acked += promises.acked;
        leaders += u64::try_from(promises.leaders.len()).unwrap();
        lease_ms += promises.lease_ms;
        reads += promises.reads_answered;
        transfers += promises.transfers;
        snapshots += promises.snapshots;
        changes += promises.changes;
    }
    println!("{acked} entries, {leaders} leaders, {reads} reads, {transfers} transfers, a lease for {lease_ms} ms");
    assert!(acked > 1500 * runs && leaders > 4 * runs && reads > 100 * runs && transfers > runs, "too little happened");
    println!("{snapshots} snapshots, {changes} changes of the members, counted where they were applied");
    assert!(snapshots > runs && changes > 3 * runs, "too little happened");
    assert!(lease_ms > 6000 * runs, "a lease is held most of the time");
}

#[test]
fn three_members_keep_every_promise_under_faults() {
    campaign(0..testkit::rounds(20));
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let digest = |seed| {
        let mut world = World::new(seed);
        world.digest = Some(Digest(0xCBF2_9CE4_8422_2325));
        world.run(4000);
        world.digest.expect("it was set").0
    };
    assert_eq!([digest(3), digest(4)], [digest(3), digest(4)]);
    assert_ne!(digest(3), digest(4));
}
