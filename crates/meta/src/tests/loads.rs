//! What the store says, against what happened meanwhile.

use super::world::*;
use crate::*;
use types::{LoadId, LogIndex, PersistenceState, UnixMs};

pub fn found(text: &str) -> Found {
    let directory = text.ends_with('/');
    let (name_, tag) = text.trim_end_matches('/').split_once('=').unwrap_or((text.trim_end_matches('/'), "v1"));
    Found {
        name: name(name_),
        directory,
        length: 10,
        modified: Some(UnixMs(77)),
        fingerprint: if directory { None } else { etag(tag) },
        owner: None,
        group: None,
        mode: None,
    }
}

pub fn open(world: &mut World, at: &str) -> LoadId {
    let op = OpenLoad { directory: world.inode(at), seen: world.namespace.applied() };
    match world.run(Op::OpenLoad(op)).outcome {
        Ok(Done::Load(load)) => load,
        other => panic!("{other:?}"),
    }
}

pub fn page(world: &mut World, at: &str, load: LoadId, items: &[&str], last: bool) -> Result<Done, Reject> {
    let items = items.iter().map(|item| found(item)).collect();
    world.run(Op::LoadPage(LoadPage { directory: world.inode(at), load, items, last })).outcome
}

/// A whole load in one page.
pub fn load(world: &mut World, at: &str, items: &[&str]) {
    let load = open(world, at);
    page(world, at, load, items, true).expect("nothing came between");
}

fn load_path(world: &World, at: &str, chain: &[&str], seen: LogIndex) -> Op {
    let path = path(at);
    let key = path.as_str().trim_start_matches('/').to_owned();
    let chain = chain.iter().map(|item| found(item)).collect();
    Op::LoadPath(LoadPath { path, mount: world.status("/").spot.mount, key, chain, seen })
}

fn sync(world: &World, at: &str, says: Option<&str>, seen: LogIndex) -> Op {
    let spot = world.status(at).spot;
    Op::Sync(Sync { inode: spot.inode.id, key: spot.key, found: says.map(found), seen })
}

#[test]
fn a_load_brings_in_what_is_not_known() {
    let mut world = World::with("/mine /d/");
    load(&mut world, "/", &["a", "b/", "d/", "mine"]);
    assert_eq!(world.tree(), "/a! /b/ /d/ /mine");
    let status = world.status("/a");
    let (inode, file) = (&status.spot.inode, world.file("/a"));
    assert_eq!((inode.owner.as_str(), inode.mode.bits(), inode.modified), ("root", 0o644, UnixMs(77)));
    assert_eq!((file.length, file.block_bytes, file.fingerprint), (10, 64 << 20, etag("v1")));
    assert_eq!(world.status("/b").spot.inode.mode.bits(), 0o755);
    assert!(world.directory("/").loaded && !world.directory("/b").loaded);
    assert!(world.directory("/d").persisted, "the store has it too");
    assert_eq!(world.directory("/").children, 4);
}

#[test]
fn a_load_remembers_how_far_it_came() {
    let mut world = World::with("");
    let first = open(&mut world, "/");
    page(&mut world, "/", first, &["a"], false).expect("it is open");
    let reached = |world: &World| world.namespace.load(ROOT).expect("it is open").reached.clone();
    assert_eq!(reached(&world), None, "members of the first rules could not read it");
    world.run(Op::RaiseRules(RaiseRules { version: RULES_VERSION })).outcome.expect("this release knows them");
    page(&mut world, "/", first, &["b", "c/"], false).expect("it is open");
    let behind_c = reached(&world).expect("a page came");
    assert_eq!((behind_c.name.as_str(), behind_c.directory, behind_c.at), ("c", true, world.age));
    page(&mut world, "/", first, &[], false).expect("it is open");
    assert_eq!(reached(&world), Some(behind_c), "a page without entries leads no further");
    assert_eq!(Namespace::open(&world.store).expect("a map"), world.namespace);
    page(&mut world, "/", first, &["d"], true).expect("it is open");
    assert!(world.namespace.load(ROOT).is_none() && world.directory("/").loaded);
}

#[test]
fn only_the_last_page_makes_a_directory_loaded() {
    let mut world = World::with("");
    let load = open(&mut world, "/");
    page(&mut world, "/", load, &["a"], false).expect("it is open");
    assert!(!world.directory("/").loaded);
    let again = Op::OpenLoad(OpenLoad { directory: ROOT, seen: world.namespace.applied() });
    assert_eq!(short(&world.run(again).outcome), "Busy");
    page(&mut world, "/", load, &["b"], true).expect("it is open");
    assert!(world.directory("/").loaded);
    assert_eq!(short(&page(&mut world, "/", load, &["c"], true)), "Stale");
}

#[test]
fn an_aborted_load_leaves_the_directory_not_loaded() {
    let mut world = World::with("/x");
    let load = open(&mut world, "/");
    world.must("rm /x");
    world.run(Op::AbortLoad(AbortLoad { directory: ROOT, load })).outcome.expect("it is open");
    assert!(!world.directory("/").loaded);
    assert_eq!(world.store.count(Family::Loads), 0);
    assert_eq!(short(&world.run(Op::AbortLoad(AbortLoad { directory: ROOT, load })).outcome), "Stale");
}

#[test]
fn what_was_removed_or_renamed_during_a_load_is_not_brought_back() {
    let mut world = World::with("/a! /b! /c");
    let load = open(&mut world, "/");
    for command in ["rm /a", "done", "mv /b /b2", "done", "rm /c"] {
        world.must(command);
    }
    page(&mut world, "/", load, &["a", "b", "c", "d"], true).expect("it is open");
    assert_eq!(world.tree(), "/b2! /c! /d!", "c was never the store's, so this one is another");
    assert_eq!(world.store.count(Family::Loads), 0);
}

#[test]
fn an_object_that_goes_while_it_is_listed_stays_away() {
    // The intent was open when the load began, and closed after the store was listed.
    let mut world = World::with("/a!");
    world.must("rm /a");
    let load = open(&mut world, "/");
    world.must("done");
    page(&mut world, "/", load, &["a"], true).expect("it is open");
    assert_eq!(world.tree(), "");
}

#[test]
fn what_an_intent_covers_is_hidden() {
    let mut world = World::with("/a! /d/x!");
    world.must("rm /a");
    world.must("mv /d /e");
    load(&mut world, "/", &["a", "d/", "b"]);
    assert_eq!(world.tree(), "/b! /e/ /e/x!");
    let inside = Op::OpenLoad(OpenLoad { directory: world.inode("/e"), seen: world.namespace.applied() });
    assert_eq!(short(&world.run(inside).outcome), "Covered");
}

#[test]
fn dropping_a_name_here_only_leaves_the_directory_not_loaded() {
    let mut world = World::with("/a!");
    let load = open(&mut world, "/");
    page(&mut world, "/", load, &["a"], false).expect("it is open");
    world.must("rm -g /a");
    page(&mut world, "/", load, &["b"], true).expect("it is open");
    assert!(!world.directory("/").loaded, "its listing passed a already");
}

#[test]
fn too_many_removals_end_the_session() {
    let mut world = World::with("/x!");
    let load = open(&mut world, "/");
    let inode = world.inode("/");
    let mut record: Load =
        Load::decode(&world.store.get(Family::Loads, &inode_key(inode)).expect("a map").expect("open"))
            .expect("our own");
    record.removed = MAX_REMOVED;
    let change = Change { family: Family::Loads, key: inode_key(inode).to_vec().into(), value: Some(record.encode()) };
    world.store.apply(&Changes { applied: LogIndex(0), changes: vec![change] });
    world.namespace = Namespace::open(&world.store).expect("a map");
    let counters = world.namespace.counters().clone();
    let op = world.parse("rm /x");
    let ids = Ids { inode: counters.next_inode, container: counters.next_container, count: 1 };
    let entry = Entry { wall: counters.wall, age: counters.age, who: root_user(), operation: None, ids, op };
    let batch = [(LogIndex(counters.applied.0 + 1), entry)];
    let (changes, _) = world.namespace.apply(&world.store, &batch).expect("a map");
    world.store.apply(&changes);
    assert_eq!((world.namespace.loads().count(), world.store.count(Family::Loads)), (0, 0));
    assert_eq!(short(&page(&mut world, "/", load, &["a"], true)), "Stale");
}

#[test]
fn a_page_for_a_directory_that_went_elsewhere_is_stale() {
    let mut world = World::with("/a/x!");
    let session = open(&mut world, "/a");
    let directory = world.inode("/a");
    let late = |items: &[&str]| {
        Op::LoadPage(LoadPage { directory, load: session, items: items.iter().map(|i| found(i)).collect(), last: true })
    };
    world.must("mv /a /b");
    assert_eq!(short(&world.run(late(&["y"])).outcome), "Stale");
    world.must("done");
    assert_eq!(short(&world.run(late(&["y"])).outcome), "Stale");
    world.must("mv /b /a");
    world.must("done");
    assert_eq!(short(&world.run(late(&["y"])).outcome), "Stale", "it was away in between");
    world.must("rm -r /a");
    assert_eq!(short(&world.run(late(&["y"])).outcome), "Stale");
}

#[test]
fn one_path_is_loaded_with_what_is_above_it() {
    let mut world = World::with("/a/");
    let op = load_path(&world, "/a/b/f", &["a/", "b/", "f"], world.namespace.applied());
    world.run(op.clone()).outcome.expect("nothing came between");
    assert_eq!(world.tree(), "/a/ /a/b/ /a/b/f!");
    assert!(world.directory("/a").persisted && !world.directory("/a/b").loaded);
    let inode = world.inode("/a/b/f");
    assert_eq!(world.run(op).outcome, Ok(Done::Inode(inode)), "it is there already");
    let op = load_path(&world, "/a/c", &["a/"], world.namespace.applied());
    assert_eq!(short(&world.run(op).outcome), "Invalid");
    let op = load_path(&world, "/q/c", &["q", "c"], world.namespace.applied());
    assert_eq!(short(&world.run(op).outcome), "Invalid");
}

#[test]
fn an_answer_older_than_a_removal_brings_nothing_back() {
    let mut world = World::with("/a/f!");
    let before = world.namespace.applied();
    world.must("rm /a/f");
    let asked = world.namespace.applied();
    let op = |world: &World, seen| load_path(world, "/a/f", &["a/", "f"], seen);
    assert_eq!(short(&world.run(op(&world, before)).outcome), "Stale");
    assert_eq!(short(&world.run(op(&world, asked)).outcome), "Covered");
    world.must("done");
    assert_eq!(short(&world.run(op(&world, asked)).outcome), "Stale", "asked before the object went");
    assert_eq!(short(&world.run(op(&world, world.namespace.applied())).outcome), "ok");
}

#[test]
fn an_answer_about_a_directory_that_was_replaced_is_stale() {
    let mut world = World::with("/a/f!");
    let asked = world.namespace.applied();
    for command in ["rm -r /a", "done", "mkdir /a"] {
        world.must(command);
    }
    let op = load_path(&world, "/a/f", &["a/", "f"], asked);
    assert_eq!(short(&world.run(op).outcome), "Stale");
}

#[test]
fn a_changed_object_begins_a_new_generation() {
    let mut world = World::with("/f!");
    let (inode, old) = (world.inode("/f"), world.container("/f"));
    let seen = world.namespace.applied();
    world.run(sync(&world, "/f", Some("f=written"), seen)).outcome.expect("the same");
    assert_eq!(world.container("/f"), old);
    world.run(sync(&world, "/f", Some("f=v2"), seen)).outcome.expect("another");
    assert_eq!(world.inode("/f"), inode);
    assert!(world.container("/f") > old);
    assert_eq!(world.effects, [Effect::FreeContainer(old)]);
    assert_eq!((world.file("/f").fingerprint, world.status("/f").spot.inode.modified), (etag("v2"), UnixMs(77)));
    assert_eq!(by_container(&world.store, old).expect("a map"), None);
}

#[test]
fn a_vanished_object_takes_its_file_along_but_not_what_is_ours() {
    let mut world = World::with("/f! /g /h? /i~ /d/x! /e/x! /e/y");
    let seen = world.namespace.applied();
    for at in ["/f", "/g", "/h", "/i", "/d", "/e"] {
        world.run(sync(&world, at, None, seen)).outcome.expect("nothing came between");
    }
    assert_eq!(world.tree(), "/e/ /e/x! /e/y /g /h? /i~");
    assert_eq!(world.namespace.intents().count(), 0, "the store is not touched");
    assert!(!world.directory("/e").loaded);
}

#[test]
fn what_changed_since_the_store_was_asked_is_left_alone() {
    let mut world = World::with("/f! /d/ /d/x!");
    let seen = world.namespace.applied();
    world.must("mv /f /g");
    assert_eq!(short(&world.run(sync(&world, "/f", None, seen)).outcome), "Covered");
    world.must("done");
    world.must("mv /g /f");
    world.must("done");
    world.run(sync(&world, "/f", None, seen)).outcome.expect("left alone");
    world.must("mv /d /e");
    let late = Sync { inode: world.inode("/e"), key: "d/".into(), found: None, seen };
    assert_eq!(short(&world.run(Op::Sync(late.clone())).outcome), "ok", "it changed");
    world.must("done");
    assert_eq!(short(&world.run(Op::Sync(late)).outcome), "Stale", "another key");
    world.must("mv /e /d");
    world.must("done");
    world.run(sync(&world, "/d/x", None, seen)).outcome.expect("left alone");
    assert_eq!(world.tree(), "/d/ /d/x! /f!");
}

#[test]
fn a_directory_that_lost_a_name_since_the_store_was_asked_is_left_alone() {
    let mut world = World::with("/a/f??");
    let late = sync(&world, "/a", None, world.namespace.applied());
    world.close_stream("/a/f", 10).expect("it is being written");
    world.must("rm -g /a/f");
    world.run(late).outcome.expect("left alone");
    assert_eq!(world.tree(), "/a/", "the store has a/f now");
}

#[test]
fn a_tree_moved_to_where_not_every_name_is_known_is_not_loaded_either() {
    let mut world = World::with("/a/f! /b/ /c/");
    load(&mut world, "/a", &[]);
    load(&mut world, "/c", &[]);
    world.must("mv /a /c/a");
    world.must("done");
    assert!(world.directory("/c/a").loaded);
    world.must("mv /c/a /b/a");
    assert!(!world.directory("/b/a").loaded);
}

#[test]
fn a_file_that_became_a_directory_goes_and_is_loaded_anew() {
    let mut world = World::with("/f! /d/x!");
    load(&mut world, "/", &[]);
    let seen = world.namespace.applied();
    world.run(sync(&world, "/f", Some("f/"), seen)).outcome.expect("nothing came between");
    world.run(sync(&world, "/d", Some("d"), seen)).outcome.expect("nothing came between");
    assert_eq!(world.tree(), "");
    assert!(!world.directory("/").loaded);
    load(&mut world, "/", &["f/", "d"]);
    assert_eq!(world.tree(), "/d! /f/");
}

#[test]
fn a_persisted_file_learns_the_version_the_store_did_not_tell_before() {
    let mut world = World::with("");
    let mut item = found("f");
    item.fingerprint = None;
    let session = open(&mut world, "/");
    let op = LoadPage { directory: ROOT, load: session, items: vec![item], last: true };
    world.run(Op::LoadPage(op)).outcome.expect("it is open");
    let old = world.container("/f");
    world.run(sync(&world, "/f", Some("f=v9"), world.namespace.applied())).outcome.expect("same length and time");
    assert_eq!((world.container("/f"), world.file("/f").fingerprint), (old, etag("v9")));
    assert_eq!(world.file("/f").persistence, PersistenceState::Persisted);
}
