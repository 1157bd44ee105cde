//! Operations that reach the store: what they reserve, and what their end does.

use super::world::*;
use crate::*;
use types::{Attempt, Fingerprint, IntentId};

#[test]
fn a_persisted_file_moves_when_the_store_has_moved_its_object() {
    let mut world = World::with("/a/f! /b/");
    let inode = world.inode("/a/f");
    assert_eq!(short(&world.command("mv /a/f /b/g")), "pending");
    assert_eq!(world.tree(), "/a/ /a/f! /b/");
    let intent = world.intent().clone();
    assert!(matches!(&intent.kind, IntentKind::RenameFile { from, to, .. } if from == "a/f" && to == "b/g"));
    for command in ["create /b/g", "mkdir /b/g", "rm /a/f", "mv /a/f /c", "mv /b /c", "rm -r /a", "rm -r /b"] {
        assert_eq!(short(&world.command(command)), "Covered", "{command}");
    }
    world.must("create /b/h");
    world.must("done");
    assert_eq!(world.tree(), "/a/ /b/ /b/g! /b/h?");
    assert_eq!((world.inode("/b/g"), world.file("/b/g").fingerprint), (inode, etag("moved")));
    assert!(world.directory("/b").persisted);
    assert_eq!(world.effects.last(), Some(&Effect::ClosedIntent(intent.id)));
}

#[test]
fn a_refused_move_leaves_the_file_where_it_was() {
    leaves("/f!", &["mv /f /g", "refused", "create /g"], "/f! /g?");
    let mut world = World::with("/f!");
    world.must("mv /f /g");
    world.must("refused");
    assert_eq!(world.file("/f").fingerprint, etag("written"));
    // The store makes the directories above before it can refuse.
    let mut world = World::with("/f! /a/b/");
    world.must("mv /f /a/b/f");
    world.must("refused");
    assert!(world.directory("/a").persisted && world.directory("/a/b").persisted);
}

#[test]
fn a_persisted_tree_moves_at_once_and_keeps_its_keys_until_the_store_followed() {
    let mut world = World::with("/a/b/f! /c/");
    world.must("mv /a /c/d");
    assert_eq!(world.tree(), "/c/ /c/d/ /c/d/b/ /c/d/b/f!");
    assert_eq!(world.status("/c/d/b/f").spot.key, "a/b/f");
    assert_eq!(world.status("/c/d/b/f").ufs_path(), "mem://root/a/b/f");
    let root = types::MountId(1);
    let at = |world: &World, key: &str| by_key(&world.store, root, key).expect("a map").map(|s| s.spot.path);
    assert_eq!(at(&world, "a/b/f"), Some(path("/c/d/b/f")));
    assert_eq!(at(&world, "a"), Some(path("/c/d")));
    assert_eq!(at(&world, "c/d/b/f"), None);
    for command in ["mkdir /a", "create /c/d/b/g", "rm /c/d/b/f", "mv /c/d /e", "mv /c /e", "rm -r /c", "rm -r -g /c/d"]
    {
        assert_eq!(short(&world.command(command)), "Covered", "{command}");
    }
    world.must("done");
    assert_eq!(world.status("/c/d/b/f").spot.key, "c/d/b/f");
    assert_eq!(at(&world, "c/d/b/f"), Some(path("/c/d/b/f")));
    assert_eq!(at(&world, "a/b/f"), None);
    world.must("mkdir /a");
    world.must("mv /c/d /e");
}

#[test]
fn a_refused_move_of_a_tree_is_undone() {
    leaves("/a/f! /c/", &["mv /a /c/d", "refused"], "/a/ /a/f! /c/");
    leaves("/a/f! /c/", &["mv /a /c/d", "refused", "mv /a /c/d", "done"], "/c/ /c/d/ /c/d/f!");
}

#[test]
fn a_tree_only_we_know_moves_without_the_store() {
    let mut world = World::with("/a/b/f /c/");
    world.must("mv /a /c/d");
    assert_eq!(world.namespace.intents().count(), 0);
    assert_eq!(world.status("/c/d/b/f").spot.key, "c/d/b/f");
}

#[test]
fn a_persisted_file_is_removed_with_its_object() {
    let mut world = World::with("/a/f!");
    let container = world.container("/a/f");
    assert_eq!(short(&world.command("rm /a/f")), "pending");
    assert_eq!(world.tree(), "/a/");
    let id = world.intent().id;
    assert_eq!(world.effects, [Effect::FreeContainer(container), Effect::OpenedIntent(id)]);
    assert_eq!(short(&world.command("create /a/f")), "Covered");
    assert_eq!(short(&world.command("rm -r /a")), "Covered");
    world.must("done");
    world.must("create /a/f");
}

#[test]
fn a_refused_removal_can_be_loaded_again() {
    let mut world = World::with("/a/ /a/f!");
    super::loads::load(&mut world, "/a", &[]);
    assert!(world.directory("/a").loaded);
    world.must("rm /a/f");
    world.must("refused");
    assert!(!world.directory("/a").loaded);
    assert_eq!(world.tree(), "/a/");
}

#[test]
fn a_persisted_tree_is_removed_with_everything_below_its_prefix() {
    let mut world = World::with("/a/b/f! /a/g");
    let top = world.inode("/a");
    assert_eq!(short(&world.command("rm -r /a")), "ok", "answered at the intent");
    let intent = world.intent().clone();
    assert!(matches!(&intent.kind, IntentKind::DeleteTree { key, .. } if key == "a/"));
    assert_eq!(world.effects, [Effect::Collect(top), Effect::OpenedIntent(intent.id)]);
    assert_eq!(short(&world.command("mkdir /a")), "Covered");
    assert_eq!(short(&world.command("create -p /a/x")), "Covered");
    world.must("done");
    world.must("mkdir /a");
}

#[test]
fn only_our_knowledge_goes_when_asked() {
    let mut world = World::with("/a/f! /a/g!");
    super::loads::load(&mut world, "/a", &[]);
    world.must("rm -g /a/f");
    assert_eq!(world.namespace.intents().count(), 0);
    assert!(!world.directory("/a").loaded, "the store may have it still");
    world.must("rm -r -g /a");
    assert_eq!((world.tree().as_str(), world.namespace.intents().count()), ("", 0));
}

#[test]
fn a_directory_of_the_store_is_not_taken_for_empty_before_it_was_loaded() {
    let mut world = World::with("/a/f!");
    world.must("rm /a/f");
    world.must("done");
    assert_eq!(short(&world.command("rm /a")), "Busy");
    super::loads::load(&mut world, "/a", &[]);
    world.must("rm /a");
    assert!(matches!(&world.intent().kind, IntentKind::DeleteTree { key, .. } if key == "a/"));
}

#[test]
fn an_incomplete_file_goes_at_once_and_with_it_what_its_stream_left() {
    let mut world = World::with("/f??");
    world.close_stream("/f", 10).expect("it is being written");
    assert_eq!(short(&world.command("rm /f")), "pending");
    let fingerprint = match &world.intent().kind {
        IntentKind::DeleteFile { fingerprint, .. } => fingerprint.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(fingerprint, etag("written"));
    // Nobody reported a close, but a worker that was killed may have made the object.
    check("/f??", "rm /f", "pending");
    check("/f?", "rm /f", "ok");
}

#[test]
fn what_is_being_written_to_the_store_keeps_its_name() {
    check("/f??", "mv /f /g", "Incomplete");
    check("/f?", "mv /f /g", "ok");
    let mut world = World::with("/a/f??");
    world.must("mv /a /b");
    assert_eq!(short(&world.close_stream("/b/f", 10)), "Stale", "its stream went to the old name");
    let mut world = World::with("/a/f?? /a/g!");
    world.must("mv /a /b");
    assert_eq!(short(&world.close_stream("/b/f", 10)), "Stale");
}

#[test]
fn attempts_at_an_intent_are_fenced() {
    let mut world = World::with("/f!");
    world.must("rm /f");
    let intent = world.intent().id;
    let begin = |attempt| Op::BeginAttempt(BeginAttempt { intent, attempt: Attempt(attempt) });
    let done = || IntentEnd::Done { fingerprint: None };
    assert_eq!(short(&world.run(begin(0)).outcome), "Stale");
    assert_eq!(short(&world.run(begin(2)).outcome), "ok");
    assert_eq!(short(&world.run(begin(1)).outcome), "Stale");
    assert_eq!(short(&world.run(close(intent, Attempt(1), done())).outcome), "Stale");
    assert_eq!(short(&world.run(close(intent, Attempt(2), done())).outcome), "ok");
    assert_eq!(short(&world.run(close(intent, Attempt(2), done())).outcome), "Stale");
    assert_eq!(short(&world.run(close(IntentId(999), Attempt(0), done())).outcome), "Stale");
}

#[test]
fn files_of_a_tree_moved_by_copying_stay_the_generations_they_are() {
    let mut world = World::with("/a/ /a/b/ /a/b/f! /a/g!");
    world.must("mv /a /c");
    let containers = [world.container("/c/b/f"), world.container("/c/g")];
    let was = world.file("/c/b/f").fingerprint.expect("it has one");
    let one = |key: &str, was: &Fingerprint| Renewed {
        key: key.into(),
        was: was.clone(),
        is: Fingerprint::Etag("copy".into()),
    };
    let other = Fingerprint::Etag("overwritten behind our back".into());
    let renewed = vec![one("b/f", &was), one("g", &other), one("gone", &was), one("g/no", &was), one("b", &was)];
    let intent = world.intent().id;
    let end = IntentEnd::CopiedTree { renewed };
    assert_eq!(short(&world.run(close(intent, Attempt(0), end)).outcome), "ok");
    assert_eq!(world.file("/c/b/f").fingerprint, etag("copy"));
    assert_ne!(world.file("/c/g").fingerprint, etag("copy"), "not the object the namespace knows");
    assert_eq!([world.container("/c/b/f"), world.container("/c/g")], containers);
}

#[test]
fn what_a_copy_left_at_the_old_key_goes_under_an_intent_of_its_own() {
    let mut world = World::with("/f!");
    world.must("mv /f /g");
    let intent = world.intent().id;
    let copied = IntentEnd::Copied { fingerprint: None };
    assert_eq!(short(&world.run(close(intent, Attempt(0), copied)).outcome), "ok");
    assert!(matches!(&world.intent().kind, IntentKind::DeleteFile { key, .. } if key == "f"), "{:?}", world.intent());
    let mut world = World::with("/a/f!");
    world.must("mv /a /b");
    let intent = world.intent().id;
    let copied = IntentEnd::CopiedTree { renewed: Vec::new() };
    assert_eq!(short(&world.run(close(intent, Attempt(0), copied)).outcome), "ok");
    assert!(matches!(&world.intent().kind, IntentKind::DeleteTree { key, .. } if key == "a/"), "{:?}", world.intent());
}

#[test]
fn what_lands_after_a_removal_goes_once_more_and_its_name_is_held_until_then() {
    for (setup, command, key) in
        [("/a/f??", "rm /a/f", "a/f"), ("/a/f?? /a/g!", "rm -r /a", "a/"), ("/a/f?? /a/g!", "mv /a /b", "a/")]
    {
        let mut world = World::with(setup);
        world.must(command);
        let first = world.intent().id;
        world.must("for-now");
        assert_eq!(world.effects.last(), Some(&Effect::OpenedIntent(world.intent().id)), "{command}");
        assert_ne!(world.intent().id, first);
        let held = |world: &World| match &world.intent().kind {
            IntentKind::DeleteAgain { key, .. } => key.clone(),
            other => panic!("{command}: {other:?}"),
        };
        assert_eq!(held(&world), key);
        assert_eq!(short(&world.command("create -p /a/f")), "Covered", "{command}");
        // As often as need be.
        world.must("for-now");
        assert_eq!(held(&world), key);
        world.must("done");
        world.must("create -p /a/f");
    }
}

#[test]
fn a_removal_is_decided_by_its_first_end() {
    let mut world = World::with("/f??");
    let rm = world.parse("rm /f");
    assert_eq!(short(&world.run_with(1, rm.clone()).outcome), "pending");
    world.must("for-now");
    assert_eq!(short(&world.run_with(1, rm).outcome), "ok");
}

#[test]
fn a_file_written_before_its_tree_was_moved_by_copying_is_removed_with_its_copy() {
    let mut world = World::with("/a/f??");
    world.close_stream("/a/f", 10).expect("it is being written");
    world.must("mv /a /b");
    let was = Fingerprint::Etag("written".into());
    let renewed = vec![Renewed { key: "f".into(), was, is: Fingerprint::Etag("copy".into()) }];
    let intent = world.intent().id;
    world.run(close(intent, Attempt(0), IntentEnd::CopiedTree { renewed })).outcome.expect("it is open");
    world.must("done");
    world.must("rm /b/f");
    match &world.intent().kind {
        IntentKind::DeleteFile { fingerprint, .. } => assert_eq!(*fingerprint, etag("copy")),
        other => panic!("{other:?}"),
    }
}
