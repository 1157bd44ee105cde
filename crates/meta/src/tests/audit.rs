//! What an audit names, and what repairs leave.

use super::world::World;
use crate::*;
use bytes::Bytes;
use std::collections::BTreeSet;
use types::{InodeId, LogIndex};

/// The tree that faults are planted in.
fn planted_tree() -> World {
    let mut world = World::with("");
    for op in plant::tree("mem://n") {
        world.run(op).outcome.expect("it is taken");
    }
    let changes = plant::settle(&world.store);
    change(&mut world, changes);
    world.run(Op::RaiseRules(RaiseRules { version: RULES_VERSION })).outcome.expect("it is known");
    assert_eq!(world.namespace.check_invariants(&world.store).expect("a map answers"), Vec::<String>::new());
    world
}

fn change(world: &mut World, changes: Vec<Change>) {
    let applied = world.namespace.applied();
    world.store.apply(&Changes { applied, changes });
    // What is in memory is a fold over the records, also over damaged ones.
    world.namespace = Namespace::open(&world.store).expect("these records can be read");
}

/// Everything that is wrong, `limit` records at a time.
fn audit(read: &dyn Read, limit: usize) -> Vec<Fault> {
    let (mut audit, mut faults) = (Audit::default(), Vec::new());
    while !audit.is_done() {
        faults.extend(audit.step(read, limit).expect("a map answers"));
    }
    faults
}

/// Repairs through the log whatever is named, again and again while that helps.
fn repair(world: &mut World) {
    for _ in 0..5 {
        for fault in audit(&world.store, 100).into_iter().filter(Fault::is_repairable) {
            let (at, entry) = world.entry(super::world::root_user(), None, Op::Repair(Repair { fault }));
            let (changes, _) = world.namespace.apply(&world.store, &[(at, entry)]).expect("a map answers");
            world.store.apply(&changes);
        }
    }
}

#[test]
fn every_kind_is_named_and_what_can_be_is_repaired_by_entries() {
    let world = planted_tree();
    let mut kinds = BTreeSet::new();
    for plant in plant::all(&world.store) {
        let mut world = world.clone();
        change(&mut world, plant.changes);
        for limit in [1, 3, 1_000] {
            let named = audit(&world.store, limit);
            assert!(named.iter().any(|fault| fault.kind() == plant.kind), "{}: {named:?}", plant.kind);
        }
        repair(&mut world);
        let left = audit(&world.store, 7);
        match plant.is_repairable {
            true => {
                assert_eq!(left, [], "{}", plant.kind);
                let wrong = world.namespace.check_invariants(&world.store).expect("a map answers");
                assert!(wrong.is_empty(), "{}: {wrong:?}", plant.kind);
            }
            false => assert!(left.iter().any(|fault| fault.kind() == plant.kind), "{}: {left:?}", plant.kind),
        }
        kinds.insert(plant.kind);
    }
    assert!(kinds.len() >= 30, "{kinds:?}");
}

/// As a stopped master is repaired: without entries, by ids above all that were given out.
#[test]
fn mending_without_a_log_leaves_the_same() {
    let world = planted_tree();
    for plant in plant::all(&world.store).into_iter().filter(|plant| plant.is_repairable) {
        let mut world = world.clone();
        change(&mut world, plant.changes);
        let taken = (InodeId(5_000), types::ContainerId(6_000));
        for _ in 0..5 {
            let faults = audit(&world.store, 100);
            let (changes, _) = world.namespace.mend(&world.store, &faults, taken).expect("a map answers");
            world.store.apply(&changes);
        }
        let wrong = world.namespace.check_invariants(&world.store).expect("a map answers");
        assert!(wrong.is_empty(), "{}: {wrong:?}", plant.kind);
    }
}

#[test]
fn entries_whose_directory_is_lost_come_to_stand_in_the_root_and_none_is_lost() {
    let mut world = planted_tree();
    let lost = world.inode("/d/e");
    let plant = plant::all(&world.store).into_iter().find(|plant| plant.kind == "orphans").expect("one of each");
    change(&mut world, plant.changes);
    assert!(world.find("/d/e/x").is_err());
    repair(&mut world);
    assert_eq!(world.file(&format!("/lost+found-{lost}/x")).length, 10);
    world.must(&format!("mv /lost+found-{lost} /d/e"));
    assert_eq!(world.file("/d/e/x").length, 10);
}

#[test]
fn a_repair_of_what_is_well_by_now_changes_nothing() {
    let world = planted_tree();
    for plant in plant::all(&world.store) {
        let mut ill = world.clone();
        change(&mut ill, plant.changes);
        for fault in audit(&ill.store, 100) {
            let mut well = world.clone();
            let outcome = well.run(Op::Repair(Repair { fault: fault.clone() })).outcome;
            let reject = outcome.expect_err(plant.kind);
            assert!(matches!(reject, Reject::Stale(_) | Reject::Refused(_)), "{fault:?}: {reject}");
        }
    }
}

#[test]
fn repairs_wait_for_the_rules_that_bring_them() {
    let mut world = World::with("/a");
    let fault = Fault::DetachedEmpty { directory: InodeId(99) };
    let refused = world.run(Op::Repair(Repair { fault })).outcome.expect_err("refused");
    assert!(refused.to_string().contains("rules 1 are in force"), "{refused}");
}

/// Between the steps of an audit the state moves on: what came and went meanwhile is no fault.
#[test]
fn an_audit_beside_changes_names_nothing() {
    let mut world = World::with("/a/ /b/");
    for name in 0..20 {
        world.must(&format!("create /a/f{name:02}"));
    }
    let mut audit = Audit::default();
    let mut turn = 0_u32;
    while !audit.is_done() {
        let faults = audit.step(&world.store, 2).expect("a map answers");
        assert_eq!(faults, [], "after {turn} changes");
        turn += 1;
        if turn > 200 {
            continue;
        }
        match turn % 4 {
            0 => world.must(&format!("create /a/g{turn}")),
            1 => drop(world.command(&format!("mv /a/f{:02} /b/f{:02}x{turn}", turn % 20, turn % 20))),
            2 => drop(world.command("rm /a/g4")),
            _ => drop(world.command(&format!("rm -r /a/f{:02}", turn % 20))),
        }
    }
    assert!(audit.looked_at() > 40);
}

/// A wrong count is one member's damage: what an entry does to all of them must not depend on it.
#[test]
fn a_directory_that_counts_too_few_loses_its_entries_all_the_same_and_is_named() {
    let mut world = planted_tree();
    let mut spot = world.status("/d").spot;
    let key = Bytes::copy_from_slice(spot.edge_key().as_ref());
    if let Node::Directory(directory) = &mut spot.inode.node {
        directory.children = 1;
    }
    change(&mut world, vec![Change { family: Family::Edges, key, value: Some(spot.inode.encode()) }]);
    for command in ["rm /d/c", "mv /d/e /e"] {
        let op = world.parse(command);
        let (at, entry) = world.entry(super::world::root_user(), None, op);
        let (changes, applied) = world.namespace.apply(&world.store, &[(at, entry)]).expect("a map answers");
        assert!(applied[0].outcome.is_ok(), "{command}: {applied:?}");
        world.store.apply(&changes);
    }
    assert!(world.find("/d/c").is_err() && world.find("/e/x").is_ok() && world.find("/d/s").is_ok());
    let named = audit(&world.store, 100);
    assert!(matches!(named[..], [Fault::Miscounted { says: 0, counted: 1, .. }]), "{named:?}");
    repair(&mut world);
    assert_eq!((world.directory("/d").children, audit(&world.store, 100)), (1, Vec::new()));
}

#[test]
fn notes_of_uses_that_cannot_be_read_are_named() {
    let mut world = planted_tree();
    let containers = vec![world.container("/d/c")];
    world.run(Op::NoteUse(NoteUse { begins: true, containers })).outcome.expect("it is taken");
    let notes = world.store.scan(Family::State, b"use", b"usf", 10).expect("a map answers");
    assert_eq!(notes.len(), 2);
    for (key, _) in notes {
        let mut ill = world.clone();
        change(&mut ill, vec![Change { family: Family::State, key, value: Some(Bytes::from_static(&[9])) }]);
        let named = audit(&ill.store, 3);
        assert!(matches!(named[..], [Fault::Unreadable { family: Family::State, .. }]), "{named:?}");
    }
}

#[test]
fn a_count_that_was_found_before_the_directory_changed_is_not_taken() {
    let mut world = planted_tree();
    let directory = world.inode("/d");
    let plants = plant::all(&world.store);
    let plant = plants.into_iter().find(|plant| plant.kind == "miscounted").expect("one of each");
    change(&mut world, plant.changes);
    // A leader that counted wrongly is not believed where the entry can count for itself.
    let fault = Fault::Miscounted { directory, says: 6, counted: 77, removed_at: LogIndex(0) };
    let (at, entry) = world.entry(super::world::root_user(), None, Op::Repair(Repair { fault }));
    let (changes, _) = world.namespace.apply(&world.store, &[(at, entry)]).expect("a map answers");
    world.store.apply(&changes);
    assert_eq!(world.directory("/d").children, 3);
}
