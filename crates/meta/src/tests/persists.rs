//! On the way to the store: attempts, grants, and what comes too late.

use super::world::*;
use crate::*;
use types::{Attempt, ContainerId, PersistenceState};

pub fn begin(container: ContainerId, attempt: u32) -> Op {
    Op::BeginPersist(BeginPersist { container, attempt: Attempt(attempt) })
}
pub fn grant(container: ContainerId, attempt: u32) -> Op {
    Op::GrantPersist(GrantPersist { container, attempt: Attempt(attempt) })
}
pub fn finish(container: ContainerId, attempt: u32) -> Op {
    let fingerprint = etag("persisted");
    Op::FinishPersist(FinishPersist { container, attempt: Attempt(attempt), fingerprint, length: 10 })
}
fn fail(container: ContainerId, attempt: u32) -> Op {
    let error = "no room".to_owned();
    Op::FailPersist(FailPersist { container, attempt: Attempt(attempt), retry_after_ms: 500, error })
}

#[track_caller]
fn run(world: &mut World, op: Op, outcome: &str) {
    let applied = world.run(op);
    assert_eq!(short(&applied.outcome), outcome, "{:?}", world.log.last());
}

#[test]
fn a_persist_runs_to_its_end() {
    let mut world = World::with("/a/f~");
    let container = world.container("/a/f");
    run(&mut world, begin(container, 1), "ok");
    assert!(!world.directory("/a").persisted);
    run(&mut world, grant(container, 1), "ok");
    run(&mut world, grant(container, 1), "ok");
    assert!(world.directory("/a").persisted, "the object may appear now");
    run(&mut world, finish(container, 1), "ok");
    let file = world.file("/a/f");
    assert_eq!((file.persistence, file.fingerprint), (PersistenceState::Persisted, etag("persisted")));
    assert_eq!(world.effects, [Effect::Evictable(container)]);
    run(&mut world, finish(container, 1), "Stale");
}

#[test]
fn attempts_are_fenced() {
    let mut world = World::with("/f~");
    let container = world.container("/f");
    run(&mut world, grant(container, 1), "Stale");
    run(&mut world, begin(container, 2), "Stale");
    run(&mut world, begin(container, 1), "ok");
    run(&mut world, finish(container, 1), "Stale"); // never granted
    run(&mut world, begin(container, 2), "ok");
    run(&mut world, grant(container, 1), "Stale");
    run(&mut world, grant(container, 2), "ok");
    run(&mut world, fail(container, 1), "Stale");
    run(&mut world, fail(container, 2), "ok");
    let record = persist(&world.store, container).expect("a map").expect("it goes on");
    assert_eq!((record.failures, record.uncertain, record.granted), (1, true, false));
    assert_eq!((record.due, record.last_error.as_str()), (types::AgeMs(world.age.0 + 500), "no room"));
}

#[test]
fn scheduling_twice_is_once() {
    let mut world = World::with("/f /g! /a/");
    world.must("persist /f");
    let scheduled = [Effect::Persist(world.container("/f"))];
    assert_eq!(world.effects, scheduled);
    world.must("persist /f");
    world.must("persist /g");
    assert_eq!(world.effects, scheduled);
    check("/f?", "persist /f", "Incomplete");
    check("/a/", "persist /a", "IsDirectory");
}

#[test]
fn a_persist_that_waits_for_another_try_is_hastened_from_rules_2_on() {
    let mut world = World::with("/f~");
    let container = world.container("/f");
    run(&mut world, begin(container, 1), "ok");
    run(&mut world, fail(container, 1), "ok");
    let due = |world: &World| persist(&world.store, container).expect("a map").expect("it goes on").due;
    let later = due(&world);
    world.effects.clear();
    world.must("persist /f");
    assert_eq!((due(&world), world.effects.len()), (later, 0), "rules 1 leave it alone");
    run(&mut world, Op::RaiseRules(RaiseRules { version: 2 }), "ok");
    world.must("persist /f");
    assert_eq!((due(&world), &world.effects[..]), (world.age, &[Effect::Persist(container)][..]));
    run(&mut world, begin(container, 2), "ok");
    world.effects.clear();
    world.must("persist /f");
    assert_eq!(world.effects, [], "a try is under way");
}

#[test]
fn removing_here_only_cancels_the_persist() {
    let mut world = World::with("/f~");
    let container = world.container("/f");
    run(&mut world, begin(container, 1), "ok");
    world.must("rm -g /f");
    assert_eq!(world.effects, [Effect::CancelPersist(container), Effect::FreeContainer(container)]);
    run(&mut world, grant(container, 1), "Stale");
    assert_eq!(world.namespace.intents().count(), 0);
}

#[test]
fn an_upload_that_may_complete_at_any_moment_holds_names_still() {
    let mut world = World::with("/a/f~ /b/");
    let container = world.container("/a/f");
    run(&mut world, begin(container, 1), "ok");
    run(&mut world, grant(container, 1), "ok");
    for command in ["mv /a/f /g", "mv /a /c", "rm /a/f", "rm -g /a/f", "rm -r /a", "rm -r -g /a"] {
        assert_eq!(short(&world.command(command)), "Busy", "{command}");
    }
    world.must("mv /b /d");
    run(&mut world, finish(container, 1), "ok");
    assert_eq!(short(&world.command("mv /a/f /g")), "pending");
}

#[test]
fn a_rename_makes_the_running_attempt_stale() {
    let mut world = World::with("/a/f~");
    let container = world.container("/a/f");
    run(&mut world, begin(container, 1), "ok");
    world.must("mv /a /b");
    run(&mut world, grant(container, 1), "Stale");
    run(&mut world, begin(container, 2), "ok");
    run(&mut world, grant(container, 2), "ok");
    let record = persist(&world.store, container).expect("a map").expect("it goes on");
    assert_eq!(record.key, "b/f");
}

#[test]
fn an_attempt_that_may_have_left_an_object_is_cleaned_up() {
    for (command, outcome) in [("mv /a/f /a/g", "ok"), ("rm /a/f", "pending")] {
        let mut world = World::with("/a/f~");
        let container = world.container("/a/f");
        run(&mut world, begin(container, 1), "ok");
        run(&mut world, grant(container, 1), "ok");
        run(&mut world, fail(container, 1), "ok");
        assert_eq!(short(&world.command(command)), outcome, "{command}");
        let kind = world.intent().kind.clone();
        assert!(matches!(&kind, IntentKind::DeleteFile { key, .. } if key == "a/f"), "{kind:?}");
        assert_eq!(short(&world.command("create /a/f")), "Covered");
        world.must("done");
        world.must("create /a/f");
    }
}

#[test]
fn nothing_is_persisted_under_a_running_move() {
    let mut world = World::with("/a/f~ /a/g!");
    let container = world.container("/a/f");
    world.must("mv /a /b");
    run(&mut world, begin(container, 1), "Covered");
    world.must("done");
    run(&mut world, begin(container, 1), "ok");
}
