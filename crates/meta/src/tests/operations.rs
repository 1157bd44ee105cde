//! An operation runs once, however often it is asked for.

use super::world::*;
use crate::*;
use types::{AgeMs, OperationId};

#[test]
fn a_repeat_is_told_the_first_outcome() {
    let mut world = World::with("");
    let first = world.run_with(1, create("/f", false, None));
    let tree = world.store.clone();
    let again = world.run_with(1, create("/f", false, None));
    assert_eq!(first.outcome, again.outcome);
    assert_eq!(again.effects, []);
    assert_eq!(tree.count(Family::Edges), world.store.count(Family::Edges));
    world.must("mv /f /g");
    assert_eq!(world.run_with(1, create("/f", false, None)).outcome, first.outcome);
    assert_eq!(world.tree(), "/g?");
}

#[test]
fn a_refusal_is_not_remembered() {
    let mut world = World::with("/f");
    assert_eq!(short(&world.run_with(1, create("/f", false, None)).outcome), "AlreadyExists");
    world.must("rm /f");
    assert_eq!(short(&world.run_with(1, create("/f", false, None)).outcome), "ok");
}

#[test]
fn a_repeat_waits_for_the_intent_and_then_knows_its_outcome() {
    let mut world = World::with("/f!");
    let op = || Op::Rename(Rename { path: path("/f"), to: path("/g") });
    let first = world.run_with(1, op()).outcome;
    assert_eq!(world.run_with(1, op()).outcome, first);
    assert_eq!(world.intent().operation, Some(OperationId(1)));
    let inode = world.inode("/f");
    world.must("done");
    assert_eq!(world.run_with(1, op()).outcome, Ok(Done::Inode(inode)));
    let record = operation(&world.store, OperationId(1)).expect("a map").expect("it is remembered");
    assert_eq!((record.pending, record.inode), (None, Some(inode)));

    let mut world = World::with("/f!");
    world.run_with(1, op()).outcome.expect("a good rename");
    world.must("refused");
    assert_eq!(operation(&world.store, OperationId(1)).expect("a map"), None);
    assert_eq!(short(&world.run_with(1, op()).outcome), "pending", "it may run again");
}

#[test]
fn outcomes_are_forgotten_by_age_unless_undecided() {
    let mut world = World::with("/f!");
    world.run_with(1, Op::Remove(Remove { path: path("/f"), recursive: false, goosefs_only: false }));
    for id in 2..6 {
        world.run_with(id, mkdir(&format!("/{id}"), false)).outcome.expect("a new name");
    }
    let oldest = world.namespace.oldest_operation(&world.store).expect("a map").expect("five are known");
    let forget = |before, limit| Op::ForgetOperations(ForgetOperations { before, limit });
    world.run(forget(AgeMs(oldest.0 + 3), 100));
    let known: Vec<u128> =
        (1..6).filter(|id| operation(&world.store, OperationId(*id)).expect("a map").is_some()).collect();
    assert_eq!(known, [1, 4, 5], "2 and 3 are old, 1 is not decided");
    world.must("done");
    let young = world.namespace.oldest_operation(&world.store).expect("a map");
    assert!(young > Some(oldest), "it is young again once decided");
    world.run(forget(AgeMs(u64::MAX), 2));
    world.run(forget(AgeMs(u64::MAX), 2));
    assert_eq!(world.store.count(Family::Operations), 0);
}

#[test]
fn a_namespace_made_twice_by_one_operation_is_one() {
    let mut world = World::with("");
    let op = || Op::CreateMount(CreateMount { name: name("n"), spec: spec("s3://bucket") });
    let first = world.run_with(1, op()).outcome;
    assert!(matches!(first, Ok(Done::Mount(_))));
    assert_eq!(world.run_with(1, op()).outcome, first);
}

/// A member that never stopped knows where to go on; one that was just started looks for it. Both do the same.
#[test]
fn collecting_and_forgetting_go_on_as_they_would_after_a_restart() {
    let mut world = World::with("/d/ /d/a /d/b /d/c /d/e/ /d/e/x /d/f /d/g /keep");
    for id in 1..12 {
        world.run_with(id, mkdir(&format!("/made-{id}"), false)).outcome.expect("a new name");
    }
    world.must("rm -r /d");
    for step in 0..20 {
        let mut fresh = Namespace::open(&world.store).expect("readable");
        let forget = ForgetOperations { before: world.age, limit: 2 };
        let op = if step % 2 == 0 { world.parse("collect") } else { Op::ForgetOperations(forget) };
        let (at, entry) = world.entry(root_user(), None, op);
        let (changes, _) = fresh.apply(&world.store, &[(at, entry.clone())]).expect("a map answers");
        let mut expected = world.store.clone();
        expected.apply(&changes);
        world.apply(at, entry);
        assert_eq!(world.store, expected, "step {step}");
    }
    assert_eq!((world.store.count(Family::Detached), world.store.count(Family::Operations)), (0, 0));
    assert!(world.tree().starts_with("/keep /made-1/"), "{}", world.tree());
}

/// A repair puts an outcome back into the index that is older than those which were forgotten since.
#[test]
fn an_outcome_that_a_repair_put_back_is_forgotten_as_it_would_be_after_a_restart() {
    let mut world = World::with("");
    world.run(Op::RaiseRules(RaiseRules { version: RULES_VERSION })).outcome.expect("this release knows them");
    for id in 1..6 {
        world.run_with(id, mkdir(&format!("/{id}"), false)).outcome.expect("a new name");
    }
    let known = |world: &World, id| operation(&world.store, OperationId(id)).expect("a map");
    let age = known(&world, 1).expect("it is remembered").age;
    let key = bytes::Bytes::copy_from_slice(&crate::key::operation_age_key(age, OperationId(1)));
    let applied = world.namespace.applied();
    let lost = Change { family: Family::Operations, key, value: None };
    world.store.apply(&Changes { applied, changes: vec![lost] });
    let before = world.age;
    let forget = |limit| Op::ForgetOperations(ForgetOperations { before, limit });
    let repair = Op::Repair(Repair { fault: Fault::OutcomeUnindexed { operation: OperationId(1) } });
    for op in [forget(2), repair, forget(1)] {
        let mut fresh = Namespace::open(&world.store).expect("readable");
        let (at, entry) = world.entry(root_user(), None, op);
        let (expected, _) = fresh.apply(&world.store, &[(at, entry.clone())]).expect("a map answers");
        let (changes, applied) = world.namespace.apply(&world.store, &[(at, entry)]).expect("a map answers");
        assert!(applied[0].outcome.is_ok(), "{applied:?}");
        assert_eq!(changes.changes, expected.changes);
        world.store.apply(&changes);
    }
    let left: Vec<u128> = (1..6).filter(|id| known(&world, *id).is_some()).collect();
    assert_eq!(left, [4, 5], "what was put back is the oldest");
}
