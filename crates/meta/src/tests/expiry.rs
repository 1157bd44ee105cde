//! What was not used for a time and what becomes of it.

use super::loads::load;
use super::world::*;
use crate::*;
use types::{AgeMs, InodeId, UnixMs};

const UNUSED_MS: u64 = 4_000;

/// A world whose rules bring expiry, and in which a time of use has begun.
fn noted(setup: &str) -> World {
    let mut world = World::with(setup);
    world.run(Op::RaiseRules(RaiseRules { version: RULES_VERSION })).outcome.expect("it is known");
    begin(&mut world);
    world
}

fn begin(world: &mut World) {
    world.run(Op::NoteUse(NoteUse { begins: true, containers: Vec::new() })).outcome.expect("it is taken");
}

/// So much later, a time of use having begun every quarter of what may be unused.
fn later(world: &mut World, ms: u64) {
    for _ in 0..ms / (UNUSED_MS / 4) {
        world.age = AgeMs(world.age.0 + UNUSED_MS / 4);
        begin(world);
    }
}

fn used(world: &mut World, at: &str) {
    let containers = vec![world.container(at)];
    world.run(Op::NoteUse(NoteUse { begins: false, containers })).outcome.expect("it is taken");
}

/// Tries to expire everything; how many went.
fn expire(world: &mut World) -> Result<u32, Reject> {
    let InodeId(end) = world.namespace.counters().next_inode;
    let inodes: Vec<InodeId> = (1..end).map(InodeId).collect();
    let mut went = 0;
    for some in inodes.chunks(1_000) {
        match world.run(Op::Expire(Expire { unused_ms: UNUSED_MS, inodes: some.to_vec() })).outcome? {
            Done::Collected { freed, more: false } => went += freed,
            other => panic!("{other:?}"),
        }
    }
    Ok(went)
}

#[test]
fn what_the_store_can_give_again_goes_and_comes_back_and_nothing_else_does() {
    let mut world = noted("/cached /written! /waits~ /open? /own/ /own/cached");
    load(&mut world, "/", &["a", "b", "d/"]);
    load(&mut world, "/d", &["x", "y"]);
    for (command, at) in [("chmod 600", "/b"), ("xattr /d/y", "k=v")] {
        world.must(&format!("{command} {at}"));
    }
    let all = world.tree();
    later(&mut world, 2 * UNUSED_MS);
    assert_eq!(expire(&mut world), Ok(2));
    assert_eq!(world.tree(), "/b! /cached /d/ /d/y! /open? /own/ /own/cached /waits~ /written!");
    assert!(!world.directory("/d").loaded && !world.directory("/").loaded, "names there are asked for again");
    assert!(world.effects.iter().any(|effect| matches!(effect, Effect::FreeContainer(_))));
    load(&mut world, "/", &["a", "b", "d/"]);
    load(&mut world, "/d", &["x", "y"]);
    assert_eq!(world.tree(), all);
}

#[test]
fn use_keeps_a_file_for_the_whole_time_and_a_load_counts_as_one() {
    let mut world = noted("");
    load(&mut world, "/", &["a", "b"]);
    assert!(matches!(expire(&mut world), Err(Reject::Stale(_))), "nobody knows yet");
    later(&mut world, UNUSED_MS / 2);
    used(&mut world, "/a");
    load(&mut world, "/", &["c"]);
    later(&mut world, UNUSED_MS * 3 / 4);
    assert_eq!(expire(&mut world), Ok(1), "only b is that old");
    assert_eq!(world.tree(), "/a! /c!");
    later(&mut world, UNUSED_MS);
    assert_eq!(expire(&mut world), Ok(2));
    // What is known of old times goes with them.
    later(&mut world, 4 * UNUSED_MS);
    let notes = world.store.scan(Family::State, b"use/", b"use0", 100).expect("a map answers");
    assert_eq!(notes, []);
    assert_eq!(uses(&world.store).expect("a map answers").times.len(), Uses::KEPT);
}

#[test]
fn empty_directories_of_the_store_follow_their_files_and_others_stay() {
    let mut world = noted("/own/");
    load(&mut world, "/", &["d/"]);
    load(&mut world, "/d", &["e/"]);
    load(&mut world, "/d/e", &["x"]);
    later(&mut world, 2 * UNUSED_MS);
    assert_eq!(expire(&mut world), Ok(1), "each step takes what is empty when it comes by");
    assert_eq!(expire(&mut world), Ok(1));
    assert_eq!(expire(&mut world), Ok(1));
    assert_eq!(world.tree(), "/own/");
}

/// A store of objects has a directory only as long as something lies below it: one that was changed here may be no more there.
#[test]
fn a_directory_that_was_changed_here_stays_and_one_whose_files_expired_has_its_time() {
    let mut world = noted("");
    load(&mut world, "/", &["d/", "e/"]);
    load(&mut world, "/d", &["x"]);
    load(&mut world, "/e", &["y"]);
    world.must("create /d/mine MUST_CACHE");
    world.must("rm /d/mine");
    let modified = |world: &World| ["/", "/d", "/e"].map(|at| world.status(at).spot.inode.modified);
    let before = modified(&world);
    later(&mut world, 2 * UNUSED_MS);
    assert_eq!(expire(&mut world), Ok(2), "both files");
    assert_eq!(modified(&world), before, "nobody changed anything");
    assert_eq!(expire(&mut world), Ok(1));
    assert_eq!((expire(&mut world), world.tree().as_str()), (Ok(0), "/d/"));
}

/// Somebody has set the wall clock back: the masters' stands still until it has caught up.
#[test]
fn a_directory_that_was_changed_here_stays_though_the_wall_clock_stands_still() {
    let mut world = noted("");
    world.run(mkdir("/d", false)).outcome.expect("a new name");
    let made = world.status("/d").spot.inode.created;
    world.wall = Some(made);
    world.must("create /d/mine MUST_CACHE");
    world.must("rm /d/mine");
    let inode = world.status("/d").spot.inode;
    assert_eq!((inode.created, inode.modified), (made, UnixMs(made.0 + 1)));
    assert!(!is_as_loaded(&inode), "that tells it from one that its store gives again");
}

#[test]
fn what_an_operation_on_the_store_covers_stays_until_that_has_ended() {
    let mut world = noted("");
    load(&mut world, "/", &["d/"]);
    load(&mut world, "/d", &["x"]);
    later(&mut world, 2 * UNUSED_MS);
    world.must("mv /d /e");
    assert_eq!(expire(&mut world), Ok(0));
    world.must("done");
    assert_eq!(world.tree(), "/e/ /e/x!");
}

#[test]
fn expiry_waits_for_the_rules_that_bring_it() {
    let mut world = World::with("/a!");
    for op in [
        Op::NoteUse(NoteUse { begins: true, containers: Vec::new() }),
        Op::Expire(Expire { unused_ms: 1, inodes: vec![InodeId(2)] }),
    ] {
        let refused = world.run(op).outcome.expect_err("refused");
        assert!(refused.to_string().contains("rules 1 are in force"), "{refused}");
    }
}

/// The same entries over the same records leave the same, on whatever member and however they are cut into batches.
#[test]
fn every_member_expires_the_same() {
    let mut world = noted("");
    load(&mut world, "/", &["a", "b", "c", "d/"]);
    later(&mut world, UNUSED_MS);
    used(&mut world, "/b");
    later(&mut world, UNUSED_MS);
    expire(&mut world).expect("it is that old");
    let mut other = World::unformatted();
    for batch in world.log.chunks(7) {
        let (changes, _) = other.namespace.apply(&other.store, batch).expect("a map answers");
        other.store.apply(&changes);
    }
    assert_eq!(other.store, world.store);
    assert_eq!(world.tree(), "/b!");
}
