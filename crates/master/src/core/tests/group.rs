//! Three cores and a network in one thread, under a seed: loss, delay, cuts, power cuts, slow disks. Whatever happens, two
//! members that have applied the same index have the same state, and what was acknowledged is there in the end.

use super::*;
use journal::{NewStart, Outgoing};
use meta::{Family, Read};
use store::HeapDisk;

const MEMBERS: u64 = 3;
/// Steps of one history, and milliseconds of one step.
const STEPS: usize = 3_000;
const STEP_MS: u64 = 5;
/// How long a group without faults may take until all is quiet and equal.
const HEALS_WITHIN_MS: u64 = 20_000;

struct Member {
    id: MemberId,
    disk: Arc<MemoryDisk>,
    log: MemLog,
    /// None while it is down.
    running: Option<(Core, Arc<Shared>)>,
    appends: Vec<(u64, AppendBatch)>,
    flushes: u64,
    /// Where its state was compared last.
    compared: LogIndex,
    up_again_ms: u64,
    /// When a snapshot is here, and from whom.
    fetching: Option<(u64, MemberId)>,
}

/// A message on its way.
struct Letter {
    due_ms: u64,
    from: MemberId,
    message: Outgoing,
    everywhere: LogIndex,
}

struct Group {
    dice: Dice,
    clock: Arc<TestClock>,
    members: Vec<Member>,
    letters: Vec<Letter>,
    cut: Option<MemberId>,
    faults: bool,
    next_ticket: u64,
    /// Which member was asked what.
    asked: BTreeMap<Ticket, (usize, OperationId, Op)>,
    answers: BTreeMap<Ticket, Result<Done, Error>>,
    acknowledged: Vec<(OperationId, Op)>,
    refused: BTreeMap<OperationId, Op>,
    /// What the state was at each index somebody stopped at.
    states: BTreeMap<LogIndex, u64>,
    leaders: BTreeMap<u64, MemberId>,
    digest: u64,
    /// Entries kept for others, if few; None: more than there are.
    retained: Option<u64>,
    installed: usize,
}

impl Group {
    fn new(seed: u64, retained: Option<u64>) -> Group {
        let members = (1..=MEMBERS).map(|id| {
            let disk = Arc::new(MemoryDisk::new("/db"));
            HeapStore::format(&*disk, CLUSTER).expect("an empty disk");
            let log = MemLog::new(CLUSTER);
            let (id, running) = (MemberId(id), None);
            let (compared, fetching) = (LogIndex(0), None);
            Member { id, disk, log, running, appends: Vec::new(), flushes: 0, compared, up_again_ms: 0, fetching }
        });
        Group {
            dice: Dice(AtomicU64::new(seed)),
            clock: Arc::default(),
            members: members.collect(),
            letters: Vec::new(),
            cut: None,
            faults: true,
            next_ticket: 1,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            acknowledged: Vec::new(),
            refused: BTreeMap::new(),
            states: BTreeMap::new(),
            leaders: BTreeMap::new(),
            digest: 0,
            retained,
            installed: 0,
        }
    }

    fn ms(&self) -> u64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    fn once_in(&self, times: u64) -> bool {
        self.dice.below(times) == 0
    }

    fn now(&self) -> Now {
        Now { unix: self.clock.unix(), mono: self.clock.monotonic() }
    }

    fn tell(&mut self, at: usize, event: Event) {
        let now = self.now();
        let Some((core, _)) = &mut self.members[at].running else { return };
        core.step(now, event);
    }

    fn core(&self, at: usize) -> &Core {
        &self.members[at].running.as_ref().expect("it runs").0
    }

    /// One member does what there is to do.
    fn turn(&mut self, at: usize) {
        let now = self.now();
        let Some((core, _)) = &mut self.members[at].running else { return };
        let actions = core.turn(now).expect("no disk fails here");
        for action in actions {
            let line = std::fmt::format(format_args!("{} {at} {action:?}", now.mono.0.as_millis()));
            self.digest = BuildHasherDefault::<DefaultHasher>::default().hash_one((self.digest, line));
            self.act(at, action);
        }
        self.compare(at);
    }

    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Append(batch) => {
                let slow = if self.faults && self.once_in(20) { self.dice.below(200) } else { self.dice.below(6) };
                let due = self.ms() + slow;
                self.members[at].appends.push((due, batch));
            }
            Action::Send(message, everywhere) => self.post(self.members[at].id, message, everywhere),
            Action::Reply(ticket, result) => {
                self.answered(ticket, &result);
                self.answers.insert(ticket, result);
            }
            Action::Job(id, job) => self.tell(at, Event::JobDone(id, Ok(well(&job)))),
            Action::Flush => {
                let shared = &self.members[at].running.as_ref().expect("it acts").1;
                let index = shared.state.store().flush().expect("the disk is well");
                self.members[at].flushes += 1;
                self.tell(at, Event::Flushed(index));
            }
            Action::Purge(below) => self.members[at].log.purge_below(below).expect("the disk is well"),
            Action::MountsChanged | Action::Members(_) => {}
            Action::Fetch(offer) => {
                assert!(self.retained.is_some(), "nobody is that far behind: {at} {offer:?}");
                let due = self.ms() + self.dice.below(200);
                self.members[at].fetching.get_or_insert((due, offer.from));
            }
        }
    }

    fn post(&mut self, from: MemberId, message: Outgoing, everywhere: LogIndex) {
        let to = message.to;
        let is_cut = self.cut.is_some_and(|cut| cut == from || cut == to);
        if is_cut || (self.faults && self.once_in(30)) {
            let sender = usize::try_from(from.0 - 1).expect("small");
            return self.tell(sender, Event::Unreachable(to));
        }
        let late = if self.faults && self.once_in(50) { self.dice.below(300) } else { self.dice.below(8) };
        self.letters.push(Letter { due_ms: self.ms() + late, from, message, everywhere });
    }

    fn answered(&mut self, ticket: Ticket, result: &Result<Done, Error>) {
        let Some((_, operation, op)) = self.asked.remove(&ticket) else { return };
        match result {
            Ok(_) => self.acknowledged.push((operation, op)),
            // The client asks again with the same operation id, whoever leads then.
            Err(error) if error.kind().is_transient() => {
                self.refused.insert(operation, op);
            }
            Err(_) => {}
        }
    }

    fn compare(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some((_, shared)) = &member.running else { return };
        let applied = shared.applied();
        if std::mem::replace(&mut member.compared, applied) == applied {
            return;
        }
        let state = state_of(shared);
        let known = *self.states.entry(applied).or_insert(state);
        assert_eq!(known, state, "{} at {applied}: another state than a member before", member.id);
        if shared.leads() {
            let (term, id) = (shared.group().term.0, member.id);
            assert_eq!(*self.leaders.entry(term).or_insert(id), id, "two leaders of term {term}");
        }
    }

    fn deliver(&mut self) {
        let now = self.ms();
        let (due, later) = std::mem::take(&mut self.letters).into_iter().partition(|letter| letter.due_ms <= now);
        self.letters = later;
        for Letter { from, message, everywhere, .. } in due {
            let at = usize::try_from(message.to.0 - 1).expect("small");
            self.tell(at, Event::PeerMessage { from, message: message.bytes, everywhere });
        }
    }

    fn sync(&mut self, at: usize) {
        let now = self.ms();
        while self.members[at].appends.first().is_some_and(|(due, _)| *due <= now) {
            let member = &mut self.members[at];
            let (_, batch) = member.appends.remove(0);
            member.log.append(&batch).expect("in order");
            member.log.sync().expect("the disk is well");
            self.tell(at, Event::Persisted(batch.seq));
        }
    }

    /// A snapshot has arrived: the member begins anew with it, as a start that finds a whole one does.
    fn install(&mut self, at: usize) {
        let now = self.ms();
        let Some((_, from)) = self.members[at].fetching.take_if(|(due, _)| *due <= now) else { return };
        let source = &self.members[usize::try_from(from.0 - 1).expect("small")];
        let Some((core, shared)) = &source.running else { return };
        let after = shared.state.store().flush().expect("the disk is well");
        let after_term = shared.term_of(after).expect("applied just now");
        assert_eq!(core.node.term_at(after).unwrap_or(after_term), after_term);
        let disk = MemoryDisk::new("/db");
        for name in source.disk.list().expect("readable") {
            disk.replace(&name, &source.disk.read(&name).expect("readable")).expect("written");
        }
        let (seed, member) = (self.dice.next_u64(), &mut self.members[at]);
        if member.running.as_ref().is_none_or(|(_, shared)| shared.applied() >= after) {
            return;
        }
        // Its clients see the connection break, and ask again.
        let unanswered = self.asked.extract_if(.., |_, (asked, ..)| *asked == at);
        self.refused.extend(unanswered.map(|(_, (_, operation, op))| (operation, op)));
        member.running = None;
        member.appends.clear();
        member.disk = Arc::new(disk);
        let recovered = member.log.recovered();
        if recovered.terms.term(after) != Some(after_term) {
            member.log.reset(NewStart { after, after_term, hard_state: recovered.hard_state, generation: 0 });
        }
        member.running = Some(boot_member(member.id, self.retained, &self.clock, &member.disk, &member.log, seed));
        self.installed += 1;
    }

    fn misfortune(&mut self) {
        if self.once_in(150) {
            self.cut = (!self.once_in(3)).then(|| MemberId(1 + self.dice.below(MEMBERS)));
        }
        if self.once_in(250) {
            let at = usize::try_from(self.dice.below(MEMBERS)).expect("small");
            let up_again_ms = self.ms() + self.dice.below(3_000);
            if self.members[at].running.take().is_some() {
                self.ended(at, up_again_ms);
            }
        }
    }

    /// A member runs no more; what was not synced is lost.
    fn ended(&mut self, at: usize, up_again_ms: u64) {
        let member = &mut self.members[at];
        member.log.crash();
        member.appends.clear();
        member.fetching = None;
        member.up_again_ms = up_again_ms;
        // Its clients see the connection break, and ask again.
        let unanswered = self.asked.extract_if(.., |_, (asked, ..)| *asked == at);
        self.refused.extend(unanswered.map(|(_, (_, operation, op))| (operation, op)));
    }

    /// Lives until one leads.
    fn leader(&mut self) -> usize {
        let until = self.ms() + HEALS_WITHIN_MS;
        loop {
            let leads = |member: &Member| member.running.as_ref().is_some_and(|(_, shared)| shared.leads());
            if let Some(at) = self.members.iter().position(leads) {
                return at;
            }
            assert!(self.ms() < until, "nobody leads");
            self.live();
        }
    }

    fn request(&mut self, operation: OperationId, op: Op) {
        let up: Vec<usize> = (0..self.members.len()).filter(|at| self.members[*at].running.is_some()).collect();
        let leads = |at: &&usize| self.members[**at].running.as_ref().is_some_and(|(_, shared)| shared.leads());
        // Clients ask whoever says that it leads; now and then they ask another.
        let chosen = up.iter().find(leads).filter(|_| !self.once_in(20)).or(up.first()).copied();
        match chosen {
            Some(at) => self.request_of(at, operation, op),
            None => drop(self.refused.insert(operation, op)),
        }
    }

    fn request_of(&mut self, at: usize, operation: OperationId, op: Op) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.asked.insert(ticket, (at, operation, op.clone()));
        let came = self.clock.monotonic();
        let deadline = came + Duration::from_secs(5);
        let request = Request { who: Caller::system(), operation: Some(operation), op, came, deadline };
        self.tell(at, Event::Request(ticket, request));
    }

    fn new_request(&mut self) {
        let operation = OperationId(u128::from(self.dice.next_u64()));
        let path = GfsPath::parse(&format!("/d{}/f{}", self.dice.below(5), self.next_ticket)).expect("a path");
        let create = CreateFile {
            path,
            block_bytes: 1,
            recursive: true,
            mode: Mode::new(0o644),
            write_type: Some(WriteType::MustCache),
        };
        self.request(operation, Op::CreateFile(create));
    }

    fn live(&mut self) {
        self.clock.0.fetch_add(STEP_MS, Ordering::Relaxed);
        if self.faults {
            self.misfortune();
        }
        self.deliver();
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            if member.running.is_none() && (member.up_again_ms <= self.clock.0.load(Ordering::Relaxed)) {
                let seed = self.dice.next_u64();
                let retained = self.retained;
                member.running = Some(boot_member(member.id, retained, &self.clock, &member.disk, &member.log, seed));
            }
            self.sync(at);
            self.install(at);
            self.tell(at, Event::Tick);
            self.turn(at);
            while self.members[at].running.as_ref().is_some_and(|(core, _)| core.is_unfinished()) {
                self.turn(at);
            }
        }
    }

    /// Without faults: everybody comes to the same state.
    fn heal(&mut self) {
        (self.faults, self.cut) = (false, None);
        let until = self.ms() + HEALS_WITHIN_MS;
        while self.ms() < until {
            self.live();
            if let Some((operation, op)) = self.refused.pop_first() {
                self.request(operation, op);
            }
            let applied: Vec<LogIndex> =
                self.members.iter().filter_map(|member| Some(member.running.as_ref()?.1.applied())).collect();
            let equal = applied.len() == self.members.len() && applied.iter().all(|index| *index == applied[0]);
            if equal && self.refused.is_empty() && self.asked.is_empty() {
                return;
            }
        }
        panic!("the group does not come to rest within {HEALS_WITHIN_MS} ms");
    }
}

fn boot_member(
    id: MemberId,
    retained: Option<u64>,
    clock: &Arc<TestClock>,
    disk: &Arc<MemoryDisk>,
    log: &MemLog,
    seed: u64,
) -> (Core, Arc<Shared>) {
    let node = NodeConfig {
        tick: Duration::from_millis(20),
        heartbeat_ticks: 5,
        election_ticks: 25,
        lease: Duration::from_millis(400),
        max_committed_bytes: 1 << 10,
        retained_entries: retained.unwrap_or(u64::MAX),
        ..NodeConfig::new(id, (1..=MEMBERS).map(MemberId).collect())
    };
    boot_as(node, clock, disk, log, seed)
}

/// A digest of every record.
fn state_of(shared: &Shared) -> u64 {
    let view = shared.state.latest();
    let mut digest = 0_u64;
    for family in Family::ALL.into_iter().filter(|family| *family != Family::State) {
        let records = view.scan(family, &[], &[0xff; 64], 1_000_000).expect("readable");
        digest = BuildHasherDefault::<DefaultHasher>::default().hash_one((digest, family, records));
    }
    digest
}

fn run_group(seed: u64, retained: Option<u64>) -> (u64, usize, usize) {
    let mut group = Group::new(seed, retained);
    for _ in 0..STEPS {
        group.live();
        if group.once_in(3) {
            group.new_request();
        }
        if group.once_in(3)
            && let Some((operation, op)) = group.refused.pop_first()
        {
            group.request(operation, op);
        }
    }
    group.heal();
    for member in &group.members {
        let (core, shared) = member.running.as_ref().expect("all are up");
        core.namespace().check_invariants(&shared.state.latest()).expect("readable");
    }
    let (_, shared) = group.members[0].running.as_ref().expect("all are up");
    for (operation, op) in &group.acknowledged {
        let Op::CreateFile(create) = op else { continue };
        let found = meta::status(&shared.state.latest(), &Caller::system(), &create.path).expect("readable");
        assert!(found.is_ok(), "seed {seed}: {} ({operation:?}) was acknowledged and is gone", create.path);
    }
    assert!(group.members.iter().all(|member| member.flushes > 0), "followers flush, too");
    assert!(group.leaders.len() > 1, "seed {seed} saw no failover");
    (group.digest, group.acknowledged.len(), group.installed)
}

#[test]
fn members_of_a_group_agree_and_keep_what_was_acknowledged() {
    for seed in 1..=seeds() {
        let (_, acknowledged, _) = run_group(seed, None);
        assert!(acknowledged > 200, "seed {seed} acknowledged only {acknowledged}");
    }
}

#[test]
fn members_that_need_snapshots_come_to_the_same_state() {
    let mut installed = 0;
    for seed in 1..=seeds() {
        let (_, acknowledged, snapshots) = run_group(seed, Some(20));
        assert!(acknowledged > 200, "seed {seed} acknowledged only {acknowledged}");
        installed += snapshots;
    }
    assert!(installed > 0, "nobody was ever too far behind");
}

#[test]
fn a_group_repeats_itself_under_a_seed() {
    assert_eq!(run_group(77, None), run_group(77, None));
    assert_eq!(run_group(78, Some(20)), run_group(78, Some(20)));
}

/// Nobody waits for what a standby applies, but for what it acknowledges.
#[test]
fn a_standby_acknowledges_first_and_applies_many_entries_together_or_at_a_tick() {
    let mut group = Group::new(9, None);
    group.faults = false;
    let leader = group.leader();
    let standby = (leader + 1) % group.members.len();
    let applied = |group: &Group, at: usize| group.members[at].running.as_ref().expect("it runs").1.applied();
    let step = |group: &mut Group| {
        group.clock.0.fetch_add(STEP_MS, Ordering::Relaxed);
        group.deliver();
        for at in 0..group.members.len() {
            group.sync(at);
            if at != standby {
                group.tell(at, Event::Tick);
            }
            group.turn(at);
            while group.core(at).is_unfinished() {
                group.turn(at);
            }
        }
    };
    let before = applied(&group, standby);
    for acknowledged in 1..=10 {
        group.new_request();
        while group.acknowledged.len() < acknowledged {
            step(&mut group);
        }
    }
    assert!(applied(&group, leader) > before);
    assert_eq!(applied(&group, standby), before, "ten entries can wait");
    group.tell(standby, Event::Tick);
    group.turn(standby);
    let at_a_tick = applied(&group, standby);
    assert!(at_a_tick > before);
    for acknowledged in 11..=100 {
        group.new_request();
        while group.acknowledged.len() < acknowledged {
            step(&mut group);
        }
    }
    assert!(applied(&group, standby) > at_a_tick, "they do not wait without bound");
}

#[test]
fn a_standby_refuses_at_once_and_names_the_reason() {
    let mut group = Group::new(5, None);
    group.faults = false;
    let at = (group.leader() + 1) % group.members.len();
    group.live();
    let op = CreateDirectory { path: in_root("a"), recursive: false, allow_exists: false, mode: Mode::new(0o755) };
    let came = group.clock.monotonic();
    let deadline = came + Duration::from_secs(5);
    let request = Request { who: Caller::system(), operation: None, op: Op::CreateDirectory(op), came, deadline };
    for event in [Event::Request(Ticket(1), request), Event::Confirm(Ticket(2))] {
        group.tell(at, event);
    }
    let now = group.now();
    let (core, shared) = group.members[at].running.as_mut().expect("it runs");
    assert!(shared.is_ready() && !shared.leads(), "it follows");
    let replies = core
        .turn(now)
        .expect("well")
        .into_iter()
        .filter(|action| matches!(action, Action::Reply(_, Err(Error::NotLeader))));
    assert_eq!(replies.count(), 2);
}

fn said(member: MemberId, rules: u32, priority: u32) -> Event {
    Event::Met(member, Said { rules, priority })
}

#[test]
fn the_lead_is_offered_to_a_master_that_may_take_it_at_once() {
    let mut group = Group::new(10, None);
    group.faults = false;
    let leader = group.leader();
    let (first, last) = (group.members[(leader + 1) % 3].id, group.members[(leader + 2) % 3].id);
    for (begins, other) in [(last, first), (first, last)] {
        let until = group.ms() + 1_000;
        while group.ms() < until {
            group.live();
        }
        group.tell(leader, said(begins, meta::FIRST_RULES, 0));
        group.live();
        let (_, shared) = group.members[leader].running.as_ref().expect("it runs");
        assert_eq!(shared.group().successor, Some(other), "{begins} has just begun");
    }
}

#[test]
fn a_master_of_higher_priority_gets_the_lead_when_it_has_caught_up() {
    let mut group = Group::new(8, None);
    group.faults = false;
    let before = group.leader();
    let preferred = (before + 1) % group.members.len();
    let (id, other) = (group.members[preferred].id, group.members[(before + 2) % group.members.len()].id);
    group.tell(before, said(other, meta::FIRST_RULES, 0));
    let live_long = |group: &mut Group| (0..2_000).for_each(|_| group.live());
    live_long(&mut group);
    assert_eq!(group.leader(), before, "nobody is preferred");
    for at in 0..group.members.len() {
        group.tell(at, said(id, meta::FIRST_RULES, 1));
    }
    live_long(&mut group);
    assert_eq!(group.leader(), preferred);
    live_long(&mut group);
    assert_eq!(group.leader(), preferred, "it keeps the lead");
}

#[test]
fn newer_rules_come_into_force_by_an_entry_when_every_member_can_apply_them() {
    let mut group = Group::new(6, None);
    group.faults = false;
    let leader = group.leader();
    let all = [MemberId(1), MemberId(2), MemberId(3)];
    let others: Vec<MemberId> = all.into_iter().filter(|id| *id != group.members[leader].id).collect();
    let in_force = |group: &mut Group| {
        (0..200).for_each(|_| group.live());
        group.heal();
        let of = |member: &Member| member.running.as_ref().expect("it runs").0.namespace().counters().rules;
        group.members.iter().map(of).collect::<Vec<u32>>()
    };
    assert_eq!(in_force(&mut group), [meta::FIRST_RULES; 3], "nobody has said anything");
    group.tell(leader, said(others[0], meta::RULES_VERSION, 0));
    assert_eq!(in_force(&mut group), [meta::FIRST_RULES; 3], "one has not");
    group.tell(leader, said(others[1], meta::FIRST_RULES, 0));
    assert_eq!(in_force(&mut group), [meta::FIRST_RULES; 3], "one is of an earlier release");
    let batch = |group: &Group, ticket| {
        let directory = |name: &str| meta::CreateDirectory {
            path: GfsPath::parse(name).expect("a path"),
            recursive: false,
            allow_exists: false,
            mode: Mode::new(0o755),
        };
        let op = meta::BatchOp::CreateDirectory(directory("/in-a-batch"));
        let op = Op::Batch(meta::Batch { items: vec![meta::BatchItem { number: 0, op }] });
        let came = group.now().mono;
        let deadline = came + Duration::from_secs(5);
        Event::Batch(
            vec![ticket],
            Request { who: Caller::system(), operation: Some(OperationId(9)), op, came, deadline },
        )
    };
    group.tell(leader, batch(&group, Ticket(9_001)));
    group.tell(leader, said(others[1], meta::RULES_VERSION, 0));
    assert_eq!(in_force(&mut group), [meta::RULES_VERSION; 3]);
    let told = group.answers.get(&Ticket(9_001));
    assert!(matches!(told, Some(Err(Error::NotYet(_)))), "what that one could not read was not proposed: {told:?}");
    group.tell(leader, batch(&group, Ticket(9_002)));
    (0..200).for_each(|_| group.live());
    let told = group.answers.get(&Ticket(9_002));
    assert!(matches!(told, Some(Ok(_))), "{told:?}");
}

#[test]
fn what_is_asked_while_the_lead_is_handed_over_is_refused_only_when_that_is_done() {
    for (seed, reachable) in (1..=seeds()).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut group = Group::new(seed, None);
        group.faults = false;
        let old = group.leader();
        group.new_request();
        group.heal();
        let next = (old + 1) % group.members.len();
        // Who does not answer takes no lead: when the time for that is up, who leads is found out anew.
        group.cut = (!reachable).then(|| group.members[next].id);
        group.tell(old, Event::HandOver(Ticket(u64::MAX), group.members[next].id));
        group.turn(old);
        let op = CreateDirectory { path: in_root("a"), recursive: false, allow_exists: false, mode: Mode::new(0o755) };
        group.request_of(old, OperationId(u128::MAX), Op::CreateDirectory(op));
        let leads = |group: &Group, at: usize| group.members[at].running.as_ref().is_some_and(|(core, _)| core.leading);
        let until = group.ms() + HEALS_WITHIN_MS;
        while !group.asked.is_empty() {
            group.live();
            assert!(group.refused.is_empty() || !leads(&group, old), "seed {seed}: it leads and refuses");
            assert!(group.ms() < until, "seed {seed}: no answer");
        }
        group.heal();
        assert_eq!(group.acknowledged.len(), 2, "seed {seed}");
    }
}

/// Less than the shortest silence after which a group without faults elects another leader.
const WELL_BEFORE_AN_ELECTION_MS: u64 = 300;

#[test]
fn a_leader_whose_disk_is_full_has_another_one_lead_and_keeps_the_lead_if_all_are_full() {
    for seed in 1..=seeds() {
        let mut group = Group::new(seed, None);
        group.faults = false;
        let full = group.leader();
        group.new_request();
        group.heal();
        group.tell(full, Event::ShortOfRoom(true));
        let began = group.ms();
        while group.leader() == full {
            group.live();
            assert!(group.ms() - began < WELL_BEFORE_AN_ELECTION_MS, "seed {seed}: it still leads");
        }
        group.heal();
        for at in 0..group.members.len() {
            group.tell(at, Event::ShortOfRoom(true));
        }
        let before = group.acknowledged.len();
        // Longer than the lead goes to the next one every ten seconds.
        for _ in 0..5 {
            for _ in 0..1_000 {
                group.live();
            }
            group.new_request();
            group.heal();
        }
        assert_eq!(group.acknowledged.len(), before + 5, "seed {seed}: somebody leads however full all are");
        let leader = group.leader();
        for at in 0..group.members.len() {
            group.tell(at, Event::ShortOfRoom(false));
        }
        for _ in 0..4_000 {
            group.live();
        }
        assert_eq!(group.leader(), leader, "seed {seed}: with room nobody is in a hurry to hand over");
    }
}

#[test]
fn a_leader_that_cannot_go_on_has_another_one_lead_before_it_ends_and_nothing_acknowledged_is_lost() {
    for seed in 1..=seeds() {
        let mut group = Group::new(seed, None);
        group.faults = false;
        let broken = group.leader();
        group.new_request();
        group.heal();
        for _ in 0..5 {
            group.new_request();
        }
        group.live();
        let (id, began) = (group.members[broken].id, group.ms());
        let (mut core, _shared) = group.members[broken].running.take().expect("it leads");
        group.ended(broken, u64::MAX);
        let mut asked = false;
        while let Some(messages) = core.leave(asked) {
            asked = true;
            for (message, everywhere) in messages {
                group.post(id, message, everywhere);
            }
            group.live();
            let now = group.now();
            let (own, others) = std::mem::take(&mut group.letters).into_iter().partition(|l| l.message.to == id);
            group.letters = others;
            for Letter { from, message, everywhere, .. } in own {
                core.step(now, Event::PeerMessage { from, message: message.bytes, everywhere });
            }
            assert!(group.ms() - began < WELL_BEFORE_AN_ELECTION_MS, "seed {seed}: nobody takes over");
        }
        assert!(asked, "seed {seed}");
        assert_ne!(group.leader(), broken);
        assert!(group.ms() - began < WELL_BEFORE_AN_ELECTION_MS, "seed {seed}: elected after a silence");
        group.members[broken].up_again_ms = group.ms();
        group.heal();
        assert_eq!(group.acknowledged.len(), 6, "seed {seed}");
    }
}
