//! Many mutations in one entry: what each would do by itself, in order.

use super::world::*;
use crate::*;
use proptest::prelude::*;
use types::{Mode, OperationId, WriteType};

const BASE: u128 = 1 << 64;

fn with(setup: &str) -> World {
    let mut world = World::with(setup);
    world.run(Op::RaiseRules(RaiseRules { version: RULES_VERSION })).outcome.expect("this release knows them");
    world
}

/// `command` in the words of the tests, as an item.
fn item(world: &World, command: &str) -> BatchOp {
    match world.parse(command) {
        Op::CreateFile(op) => BatchOp::CreateFile(op),
        Op::CompleteFile(op) => BatchOp::CompleteFile(op),
        Op::CreateDirectory(op) => BatchOp::CreateDirectory(op),
        Op::Remove(op) => BatchOp::Remove(op),
        other => panic!("{other:?} is in no batch"),
    }
}

fn batch(world: &World, commands: &[&str]) -> Op {
    let items = commands.iter().zip(0..).map(|(command, number)| BatchItem { number, op: item(world, command) });
    Op::Batch(Batch { items: items.collect() })
}

fn outcomes(applied: &Applied) -> Vec<String> {
    match &applied.outcome {
        Ok(Done::Batch(outcomes)) => outcomes.iter().map(short).collect(),
        other => panic!("{other:?}"),
    }
}

/// Runs `commands` as one batch.
fn run(world: &mut World, commands: &[&str]) -> Vec<String> {
    let op = batch(world, commands);
    outcomes(&world.run_with(BASE, op))
}

#[test]
fn each_item_stands_alone_and_sees_those_before_it() {
    let mut world = with("/d/ /d/old");
    let told = run(
        &mut world,
        &["create /d/new", "create /no/f", "rm /d/old", "mkdir /d/sub", "create /d/sub/f", "rm /d", "create /d/new"],
    );
    assert_eq!(told, ["ok", "NotFound", "ok", "ok", "ok", "NotEmpty", "AlreadyExists"]);
    assert_eq!(world.tree(), "/d/ /d/new? /d/sub/ /d/sub/f?");
    assert_eq!(world.directory("/d").children, 2);
}

#[test]
fn a_repeat_has_each_item_once_and_refusals_anew() {
    let mut world = with("/taken");
    let commands = ["create /f", "create /taken", "mkdir /d"];
    let op = batch(&world, &commands);
    let first = world.run_with(BASE, op.clone());
    assert_eq!(outcomes(&first), ["ok", "AlreadyExists", "ok"]);
    let inode = world.inode("/f");
    world.must("mv /f /elsewhere");
    world.must("rm /taken");
    let again = world.run_with(BASE, op);
    let Ok(Done::Batch(told)) = &again.outcome else { panic!("{again:?}") };
    assert_eq!(told[0], Ok(Done::Inode(inode)));
    assert_eq!(outcomes(&again), ["ok", "ok", "ok"]);
    assert_eq!(world.tree(), "/d/ /elsewhere? /taken?");
}

#[test]
fn an_item_that_is_sent_alone_is_the_same_operation() {
    let mut world = with("");
    run(&mut world, &["create /a", "create /b"]);
    world.must("rm /b");
    let alone = item(&world, "create /b");
    let told = world.run_as(root_user(), Some(OperationId(BASE).of_item(1)), alone.into());
    assert_eq!(short(&told.outcome), "ok");
    assert_eq!(world.tree(), "/a?", "it was made, and removed since");
}

#[test]
fn every_removal_from_a_store_has_an_intent_of_its_own() {
    let mut world = with("/a! /b! /c!");
    let told = run(&mut world, &["rm /a", "create /a", "rm /b", "rm /c"]);
    assert_eq!(told, ["pending", "Covered", "pending", "pending"]);
    let intents: Vec<_> = world.namespace.intents().map(|intent| (intent.id, intent.operation)).collect();
    assert_eq!(intents.len(), 3);
    let of = |number| Some(OperationId(BASE).of_item(number));
    assert_eq!(intents.iter().map(|(_, operation)| *operation).collect::<Vec<_>>(), [of(0), of(2), of(3)]);
    world
        .run_with(7, Op::Remove(Remove { path: path("/a"), recursive: false, goosefs_only: false }))
        .outcome
        .expect_err("gone");
    for _ in 0..3 {
        world.must("done");
    }
    let record = |number| operation(&world.store, OperationId(BASE).of_item(number)).expect("a map");
    assert!(record(0).is_some_and(|record| record.pending.is_none()), "it is decided");
    assert_eq!(record(1), None, "a refusal is not remembered");
    assert_eq!(world.tree(), "");
}

#[test]
fn an_intent_of_a_batch_is_older_than_those_of_later_entries() {
    let mut world = with("/a! /b! /c!");
    run(&mut world, &["rm /a", "rm /b"]);
    world.must("rm /c");
    let ids: Vec<_> = world.namespace.intents().map(|intent| intent.id).collect();
    let opened: Vec<_> = world.namespace.intents().map(|intent| intent.opened).collect();
    assert!(ids.is_sorted() && opened.is_sorted() && opened[0] == opened[1] && opened[1] < opened[2], "{opened:?}");
}

#[test]
fn rights_are_those_of_the_caller() {
    let mut world = with("/d/ /d/mine /open/");
    world.must("chmod 777 /open");
    let op = batch(&world, &["create /d/f", "create /open/f", "rm /d/mine"]);
    let applied = world.run_as(user("bob"), None, op);
    assert_eq!(outcomes(&applied), ["Denied", "ok", "Denied"]);
    assert_eq!(world.status("/open/f").spot.inode.owner, "bob");
}

#[test]
fn batches_wait_for_rules_that_every_member_knows() {
    let mut world = World::with("");
    let op = batch(&world, &["create /f"]);
    let refused = world.run(op).outcome.expect_err("older members cannot read it");
    assert!(refused.to_string().contains("one at a time"), "{refused}");
    assert_eq!(world.tree(), "");
}

#[test]
fn all_items_together_take_no_more_ids_than_the_entry_has() {
    let mut world = with("");
    let op = batch(&world, &["create -p /a/b/c", "create -p /a/b/d"]);
    let (at, mut entry) = world.entry(root_user(), None, op);
    entry.ids.count = 4;
    let next = entry.ids.inode.0 + 4;
    assert_eq!(outcomes(&world.apply(at, entry)), ["ok", "ok"]);
    assert_eq!(world.namespace.counters().next_inode.0, next);
    let ids: std::collections::BTreeSet<_> =
        ["/a", "/a/b", "/a/b/c", "/a/b/d"].map(|at| world.inode(at)).into_iter().collect();
    assert_eq!(ids.len(), 4, "each has its own");
}

fn op() -> impl Strategy<Value = BatchOp> {
    let at = proptest::collection::vec(prop::sample::select(vec!["a", "b"]), 1..4)
        .prop_map(|names| format!("/{}", names.join("/")));
    let mode = Mode::new(0o755);
    (at, 0..6_u8, any::<bool>()).prop_map(move |(at, kind, flag)| {
        let at = path(&at);
        match kind {
            0 => BatchOp::CreateDirectory(CreateDirectory { path: at, recursive: flag, allow_exists: !flag, mode }),
            1 | 2 => BatchOp::CreateFile(CreateFile {
                path: at,
                block_bytes: 4,
                recursive: flag,
                mode,
                write_type: Some(if kind == 1 { WriteType::MustCache } else { WriteType::CacheThrough }),
            }),
            3 => BatchOp::CompleteFile(complete_file(at.as_str(), 0)),
            _ => BatchOp::Remove(Remove { path: at, recursive: flag, goosefs_only: kind == 5 }),
        }
    })
}

proptest! {
    /// A batch is its items, one after the other: same answers, same tree, same records but for times and ids of intents.
    #[test]
    fn a_batch_does_what_its_items_do_one_by_one(
        before in proptest::collection::vec(op(), 0..8), items in proptest::collection::vec(op(), 1..16),
    ) {
        let (mut together, mut apart) = (with("/a/"), with("/a/"));
        for world in [&mut together, &mut apart] {
            for op in before.clone() {
                world.run(op.into()).outcome.ok();
            }
        }
        let batch = items.iter().cloned().zip(0..).map(|(op, number)| BatchItem { number, op }).collect();
        let told = outcomes(&together.run_with(BASE, Op::Batch(Batch { items: batch })));
        let operations = (0..).map(|number| OperationId(BASE).of_item(number));
        let one_by_one: Vec<String> = items
            .into_iter()
            .zip(operations)
            .map(|(op, operation)| short(&apart.run_as(root_user(), Some(operation), op.into()).outcome))
            .collect();
        prop_assert_eq!(told, one_by_one);
        prop_assert_eq!(together.tree(), apart.tree());
        prop_assert_eq!(together.namespace.intents().count(), apart.namespace.intents().count());
        for family in Family::ALL {
            prop_assert_eq!(together.store.count(family), apart.store.count(family), "{:?}", family);
        }
        let reopened = Namespace::open(&together.store).expect("a map answers");
        prop_assert_eq!(&reopened, &together.namespace, "what is kept in memory is what the records say");
    }
}
