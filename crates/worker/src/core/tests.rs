use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn at(ms: u64) -> Monotonic {
    Monotonic(Duration::from_millis(ms))
}

fn block(number: u64) -> BlockId {
    ContainerId(1 + number / 10).block(number % 10).expect("small")
}

fn here(number: u64, resident_bytes: u64) -> Change {
    Change::Here(Report { block: block(number), resident_bytes, unpersisted: false })
}

fn joined(core: &mut Core, now: Monotonic) {
    assert_eq!(core.step(now, Event::Tick), [Action::Register]);
    let actions = core.step(now, registered(1));
    let [Action::Beat(beat)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(beat.sequence, 1, "a new session is confirmed at once");
    core.step(now, Event::Answered { sequence: 1, orders: Orders::default() });
}

fn registered(epoch: u64) -> Event {
    Event::Registered { worker: WorkerId(7), epoch: SessionEpoch(epoch), interval: Duration::from_secs(1) }
}

fn task(container: u64, attempt: u32) -> Task {
    Task {
        container: ContainerId(container),
        attempt: Attempt(attempt),
        mount: types::MountId(1),
        key: "k".into(),
        length: 1,
        block_bytes: 1,
        places: Vec::new(),
        owner: String::new(),
        group: String::new(),
        mode: types::Mode::new(0o644),
    }
}

#[test]
fn a_beat_is_repeated_unchanged_until_it_is_answered() {
    let mut core = Core::new(1);
    joined(&mut core, at(0));
    core.step(at(1), Event::Changes(vec![here(1, 5), Change::Gone(block(2))]));
    let sent = core.step(at(60), Event::Tick);
    let [Action::Beat(beat)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((beat.sequence, beat.added.len(), &beat.removed[..]), (2, 1, &[block(2)][..]));
    assert_eq!(core.wants_changes(), 0, "what happens meanwhile stays in the store");
    let quiet = core.step(at(70), Event::NotAnswered { sequence: 2, kind: ErrorKind::Unavailable });
    assert_eq!(quiet, [], "a pause first");
    assert_eq!(core.step(at(400), Event::Tick), sent);
    core.step(at(401), Event::Answered { sequence: 2, orders: Orders::default() });
    assert_eq!(core.wants_changes(), CHANGES_MAX);
}

#[test]
fn a_master_that_forgot_the_session_gets_a_registration() {
    let mut core = Core::new(1);
    joined(&mut core, at(0));
    core.step(at(2000), Event::Tick);
    let orders = Orders { register: true, ..Orders::default() };
    assert_eq!(core.step(at(2001), Event::Answered { sequence: 2, orders }), [Action::Register]);
    assert!(!core.is_registered());
    assert_eq!(core.step(at(2002), Event::NotRegistered(ErrorKind::Unavailable)), []);
    assert_eq!(core.step(at(9000), Event::Tick), [Action::Register]);
    let stale = core.step(
        at(9001),
        Event::Answered { sequence: 2, orders: Orders { free: vec![ContainerId(1)], ..Orders::default() } },
    );
    assert_eq!(stale, [], "an answer to an old session orders nothing");
}

#[test]
fn persists_run_once_an_attempt_and_newer_attempts_replace_older_ones() {
    let mut core = Core::new(1);
    joined(&mut core, at(0));
    let mut order = |ms, sequence, orders| {
        core.step(at(ms), Event::Tick);
        core.step(at(ms), Event::Answered { sequence, orders })
    };
    let persist = |tasks| Orders { persist: tasks, ..Orders::default() };
    assert_eq!(order(1000, 2, persist(vec![task(4, 1)])), [Action::Persist(task(4, 1))]);
    assert_eq!(order(2000, 3, persist(vec![task(4, 1)])), [], "told twice, run once");
    assert_eq!(
        order(3000, 4, persist(vec![task(4, 2)])),
        [Action::CancelPersist(ContainerId(4), Attempt(1)), Action::Persist(task(4, 2))]
    );
    let cancel = Orders { cancel_persist: vec![ContainerId(4), ContainerId(9)], ..Orders::default() };
    assert_eq!(order(4000, 5, cancel), [Action::CancelPersist(ContainerId(4), Attempt(2))]);
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Change(u64, bool),
    /// The master hears the beat and its answer arrives.
    Answer,
    /// The master hears it, the answer is lost.
    Lost,
    /// The master hears nothing.
    Unheard,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..2000).prop_map(Step::Pass),
        6 => (0u64..30, any::<bool>()).prop_map(|(number, add)| Step::Change(number, add)),
        4 => Just(Step::Answer),
        1 => Just(Step::Lost),
        1 => Just(Step::Unheard),
        1 => Just(Step::Forget),
    ]
}

/// A master that keeps what it was told, and a store, around the core.
#[derive(Default)]
struct World {
    now: u64,
    store: BTreeSet<BlockId>,
    changed: BTreeSet<BlockId>,
    master: BTreeSet<BlockId>,
    epoch: u64,
    applied: u64,
    in_flight: Option<Beat>,
    log: Vec<String>,
}

impl World {
    fn tell(&mut self, core: &mut Core, event: Event) {
        let changes: Vec<Change> = {
            let take = core.wants_changes().min(self.changed.len());
            let taken: Vec<BlockId> = self.changed.iter().take(take).copied().collect();
            taken.iter().for_each(|block| {
                self.changed.remove(block);
            });
            let state = |block: &BlockId| match self.store.contains(block) {
                true => Change::Here(Report { block: *block, resident_bytes: 1, unpersisted: false }),
                false => Change::Gone(*block),
            };
            taken.iter().map(state).collect()
        };
        let mut actions = Vec::new();
        if !changes.is_empty() {
            actions.extend(core.step(at(self.now), Event::Changes(changes)));
        }
        actions.extend(core.step(at(self.now), event));
        core.check_invariants();
        for action in actions {
            self.log.push(format!("{} {action:?}", self.now));
            match action {
                Action::Register => {
                    self.changed.clear();
                    self.master = self.store.clone();
                    (self.epoch, self.applied, self.in_flight) = (self.epoch + 1, 0, None);
                    let event = registered(self.epoch);
                    self.tell(core, event);
                }
                Action::Beat(beat) => self.in_flight = Some(beat),
                Action::Free(_) | Action::MakeEvictable(_) | Action::Persist(_) | Action::CancelPersist(..) => {}
            }
        }
    }

    /// The master hears what is in flight, once.
    fn hear(&mut self) -> Option<u64> {
        let beat = self.in_flight.take()?;
        if beat.sequence == self.applied + 1 {
            self.applied += 1;
            beat.removed.iter().for_each(|block| {
                self.master.remove(block);
            });
            self.master.extend(beat.added.iter().map(|report| report.block));
        } else {
            assert_eq!(beat.sequence, self.applied, "a repeat, nothing else");
        }
        Some(beat.sequence)
    }

    fn act(&mut self, core: &mut Core, step: &Step) {
        match step {
            Step::Pass(ms) => self.now += ms,
            Step::Change(number, add) => {
                if *add {
                    self.store.insert(block(*number))
                } else {
                    self.store.remove(&block(*number))
                };
                self.changed.insert(block(*number));
            }
            Step::Answer => {
                if let Some(sequence) = self.hear() {
                    self.tell(core, Event::Answered { sequence, orders: Orders::default() });
                }
            }
            Step::Lost => {
                if let Some(sequence) = self.hear() {
                    self.tell(core, Event::NotAnswered { sequence, kind: ErrorKind::Timeout });
                }
            }
            Step::Unheard => {
                if let Some(beat) = self.in_flight.take() {
                    self.tell(core, Event::NotAnswered { sequence: beat.sequence, kind: ErrorKind::Unavailable });
                }
            }
            Step::Forget => {
                if let Some(beat) = self.in_flight.take() {
                    let orders = Orders { register: true, ..Orders::default() };
                    self.tell(core, Event::Answered { sequence: beat.sequence, orders });
                }
            }
        }
        self.tell(core, Event::Tick);
    }
}

fn run(seed: u64, steps: &[Step]) -> (World, Core) {
    let (mut world, mut core) = (World::default(), Core::new(seed));
    steps.iter().for_each(|step| world.act(&mut core, step));
    (world, core)
}

proptest! {
    /// Whatever is lost or repeated, in the end the master knows exactly what is here.
    #[test]
    fn nothing_is_lost_or_doubled(seed: u64, steps in proptest::collection::vec(step(), 0..150)) {
        let (mut world, mut core) = run(seed, &steps);
        for _ in 0..10 {
            world.act(&mut core, &Step::Pass(10_000));
            world.act(&mut core, &Step::Answer);
        }
        prop_assert_eq!(&world.master, &world.store);
        prop_assert!(core.is_registered());
    }

    /// One seed decides all.
    #[test]
    fn two_runs_of_a_seed_are_alike(seed: u64, steps in proptest::collection::vec(step(), 0..150)) {
        prop_assert_eq!(run(seed, &steps).0.log, run(seed, &steps).0.log);
    }
}
