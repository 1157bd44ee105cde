//! Batches through the core: everybody is answered by himself, in his own time.

use super::*;
use meta::{Batch, BatchItem, BatchOp};

fn create(name: &str) -> BatchOp {
    BatchOp::CreateFile(CreateFile {
        path: in_root(name),
        block_bytes: 1,
        recursive: false,
        mode: Mode::new(0o644),
        write_type: Some(WriteType::MustCache),
    })
}

fn remove(name: &str) -> BatchOp {
    BatchOp::Remove(Remove { path: in_root(name), recursive: false, goosefs_only: false })
}

impl World {
    /// Sends a batch; who waits for each item.
    pub(super) fn batch(&mut self, operation: u128, ops: Vec<BatchOp>) -> Vec<Ticket> {
        let tickets: Vec<Ticket> = ops.iter().zip(self.next_ticket..).map(|(_, ticket)| Ticket(ticket)).collect();
        self.next_ticket += u64::try_from(ops.len()).expect("a few");
        let items = ops.into_iter().zip(0..).map(|(op, number)| BatchItem { number, op }).collect();
        let came = self.clock.monotonic();
        let deadline = came + Duration::from_secs(5);
        let (operation, op) = (Some(OperationId(operation)), Op::Batch(Batch { items }));
        let request = Request { who: Caller::system(), operation, op, came, deadline };
        self.step(Event::Batch(tickets.clone(), request));
        tickets
    }

    fn is_done(&self, ticket: Ticket) -> bool {
        matches!(self.answers.get(&ticket), Some(Ok(_)))
    }

    /// A file that its store has.
    fn stored(&mut self, name: &str) {
        // Not so soon after another one that a listing would be asked for.
        self.clock.0.fetch_add(11_000, Ordering::Relaxed);
        self.want(in_root(name));
        self.answer(JobOk::Chain(vec![found(name, false)]));
    }
}

#[test]
fn a_batch_is_one_entry_and_one_sync_and_each_item_has_its_own_answer() {
    let mut world = World::new(1);
    let before = world.shared.applied();
    let tickets = world.batch(1, vec![create("a"), create("b"), create("a"), remove("none")]);
    assert_eq!(world.appends.len(), 1);
    assert_eq!(world.appends[0].entries.len(), 1);
    assert!(tickets.iter().all(|ticket| !world.answers.contains_key(ticket)), "nothing is on disk yet");
    world.sync();
    assert_eq!(world.shared.applied().0, before.0 + 1);
    let told: Vec<bool> = tickets.iter().map(|ticket| world.is_done(*ticket)).collect();
    assert_eq!(told, [true, true, false, false]);
    assert_eq!(world.core.batched, 0);
}

#[test]
fn what_the_store_has_to_do_first_holds_up_its_own_item_only() {
    let mut world = World::new(2);
    world.stored("old");
    world.stored("older");
    let tickets = world.batch(1, vec![remove("old"), create("new"), create("old"), remove("older")]);
    world.sync();
    let done = |world: &World| tickets.iter().map(|ticket| world.is_done(*ticket)).collect::<Vec<_>>();
    assert_eq!(done(&world), [false, true, false, false], "two wait for the store, and one for the name it leaves");
    world.settle();
    assert_eq!(done(&world), [true; 4]);
    let found = meta::status(&world.shared.state.latest(), &Caller::system(), &in_root("old")).expect("readable");
    assert!(found.is_ok_and(|status| status.spot.inode.file().is_some_and(|file| !file.complete)), "the new one");
}

#[test]
fn a_batch_that_a_crash_came_between_is_had_once_when_it_is_asked_again() {
    let mut world = World::new(3);
    let ops = || vec![create("a"), create("b"), remove("a")];
    world.batch(9, ops());
    world.sync();
    world.crash();
    world.settle();
    let tickets = world.batch(9, ops());
    world.settle();
    assert!(tickets.iter().all(|ticket| world.is_done(*ticket)));
    let names = meta::children(&world.shared.state.latest(), meta::ROOT, None, 10).expect("readable");
    assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn more_batches_than_the_core_holds_are_busy() {
    let mut world = World::new(4);
    let mut tickets = Vec::new();
    // Nothing is synced meanwhile, so all of them wait.
    for operation in 0..70 {
        tickets.push(world.batch(operation << 32, vec![remove("none"); meta::BATCH_ITEMS]));
    }
    let busy = |ticket: &Ticket| matches!(world.answers.get(ticket), Some(Err(Error::Overloaded(_))));
    assert_eq!(tickets.iter().filter(|all| all.iter().all(busy)).count(), 6, "64 are held");
    world.settle();
    assert_eq!(world.core.batched, 0);
    assert!(tickets.iter().flatten().all(|ticket| world.answers.contains_key(ticket)));
}

#[test]
fn a_stopped_leader_answers_every_item() {
    let mut world = World::new(5);
    let tickets = world.batch(1, vec![create("a"), create("b")]);
    world.core.lay_down_duties();
    world.step(Event::Tick);
    world.sync();
    assert!(tickets.iter().all(|ticket| world.answers.contains_key(ticket)));
    assert_eq!(world.core.batched, 0);
}
