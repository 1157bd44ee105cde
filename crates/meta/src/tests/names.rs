//! Making, moving and removing names that exist only here.

use super::world::*;
use crate::*;
use types::ContainerId;

#[test]
fn directories_are_made_with_or_without_what_is_above() {
    check("", "mkdir /a", "ok");
    check("", "mkdir /a/b", "NotFound");
    check("", "mkdir -p /a/b/c", "ok");
    check("/a/", "mkdir /a", "ok");
    check("/a", "mkdir /a", "AlreadyExists");
    check("/a", "mkdir -p /a/b", "ParentIsFile");
    leaves("", &["mkdir -p /a/b/c"], "/a/ /a/b/ /a/b/c/");
}

#[test]
fn a_directory_that_must_not_exist_is_refused_when_it_does() {
    let mut world = World::with("/a/");
    let op = CreateDirectory { path: path("/a"), recursive: false, allow_exists: false, mode: types::Mode::new(0o755) };
    assert_eq!(short(&world.run(Op::CreateDirectory(op)).outcome), "AlreadyExists");
}

#[test]
fn create_never_replaces_and_makes_nothing_when_refused() {
    check("/f", "create /f", "AlreadyExists");
    check("/a/", "create /a", "AlreadyExists");
    check("/f?", "create /f", "AlreadyExists");
    check("", "create /a/b/f", "NotFound");
    check("/f", "create -p /f/g", "ParentIsFile");
    let mut world = World::with("");
    assert_eq!(world.command("create /a/b/f"), Err(Reject::NotFound(path("/a/b"))));
    assert_eq!(world.tree(), "");
    leaves("", &["create -p /a/b/f"], "/a/ /a/b/ /a/b/f?");
}

#[test]
fn a_block_size_of_zero_is_invalid() {
    let mut world = World::with("");
    let op = CreateFile {
        path: path("/f"),
        block_bytes: 0,
        recursive: false,
        mode: types::Mode::new(0o644),
        write_type: None,
    };
    assert_eq!(world.run(Op::CreateFile(op)).outcome, Err(Reject::BlockSize(0)));
}

#[test]
fn a_new_entry_changes_its_parent_and_counts() {
    let mut world = World::with("/a/");
    let before = world.status("/a").spot.inode;
    world.must("create /a/f");
    let after = world.status("/a").spot.inode;
    assert_eq!(after.directory().map(|directory| directory.children), Some(1));
    assert!(after.modified > before.modified && after.id == before.id);
    assert_eq!(world.status("/a/f").spot.inode.modified, after.modified);
}

#[test]
fn rename_moves_one_edge_and_keeps_the_ids() {
    leaves("/a/ /a/f /b/", &["mv /a/f /b/g"], "/a/ /b/ /b/g");
    leaves("/a/b/c/ /a/b/f /d/", &["mv /a/b /d/e"], "/a/ /d/ /d/e/ /d/e/c/ /d/e/f");
    let mut world = World::with("/a/f");
    let (inode, container) = (world.inode("/a/f"), world.container("/a/f"));
    world.must("mv /a /b");
    assert_eq!((world.inode("/b/f"), world.container("/b/f")), (inode, container));
    assert_eq!(by_container(&world.store, container).expect("a map").map(|s| s.spot.path), Some(path("/b/f")));
}

#[test]
fn rename_never_replaces() {
    check("/a /b", "mv /a /b", "AlreadyExists");
    check("/a /b/", "mv /a /b", "AlreadyExists");
    check("/a/ /b/", "mv /a /b", "AlreadyExists");
    check("/a", "mv /a /a", "AlreadyExists");
    check("", "mv /a /b", "NotFound");
    check("/a", "mv /a /c/b", "NotFound");
    check("/a /c", "mv /a /c/b", "ParentIsFile");
}

#[test]
fn a_directory_does_not_move_into_itself() {
    check("/a/b/", "mv /a /a/b/c", "IntoItself");
    check("/a/", "mv /a /a/b", "IntoItself");
    check("/a/ /ab/", "mv /a /ab/a", "ok");
    check("", "mv / /a", "MountRoot");
}

#[test]
fn remove_takes_files_and_empty_directories() {
    leaves("/a/ /f", &["rm /a", "rm /f"], "");
    check("/a/f", "rm /a", "NotEmpty");
    check("", "rm /a", "NotFound");
    check("", "rm -r /", "MountRoot");
    leaves("/f?", &["rm /f"], "");
    leaves("/f??", &["rm /f"], "");
}

#[test]
fn a_recursive_remove_detaches_at_once_and_is_collected_in_steps() {
    let mut world = World::with("/a/1 /a/2 /a/3 /a/d/4 /a/e/");
    let containers: Vec<_> = ["/a/1", "/a/2", "/a/3", "/a/d/4"].iter().map(|at| world.container(at)).collect();
    let top = world.inode("/a");
    world.must("rm -r /a");
    assert_eq!(world.tree(), "");
    assert_eq!(world.effects, [Effect::Collect(top)]);
    assert_eq!(by_container(&world.store, containers[3]).expect("a map"), None, "detached with what was above");
    world.must("mkdir /a");
    let mut freed = 0;
    while !detached(&world.store, None, 10).expect("a map").is_empty() {
        match world.command("collect") {
            Ok(Done::Collected { freed: some, .. }) => freed += some,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(freed, 6);
    let gone: Vec<_> =
        world.effects.iter().filter_map(|e| if let Effect::FreeContainer(c) = e { Some(*c) } else { None }).collect();
    assert_eq!(gone, containers);
    assert_eq!(world.store.count(Family::Edges), 2);
    assert_eq!(short(&world.command("collect")), "Collected { freed: 0, more: false }", "again does nothing");
}

#[test]
fn containers_are_never_reused() {
    let mut world = World::with("/f");
    let first = world.container("/f");
    world.must("rm /f");
    assert_eq!(world.effects, [Effect::FreeContainer(first)]);
    world.must("create /f");
    assert!(world.container("/f") > first);
}

#[test]
fn a_refused_entry_consumes_its_ids() {
    let mut world = World::with("/f");
    let before = world.namespace.counters().clone();
    assert_eq!(short(&world.command("create /f")), "AlreadyExists");
    let after = world.namespace.counters();
    assert!(after.next_inode > before.next_inode && after.next_container > before.next_container);
    assert!(after.applied > before.applied && after.wall > before.wall && after.age > before.age);
}

#[test]
fn times_never_run_backwards() {
    let mut world = World::with("/f");
    let newest = world.namespace.counters().wall;
    let (at, mut entry) = world.log.last().cloned().expect("a history");
    entry.wall = types::UnixMs(5);
    entry.age = types::AgeMs(0);
    entry.op = mkdir("/late", false);
    entry.ids.inode = world.namespace.counters().next_inode;
    entry.ids.container = world.namespace.counters().next_container;
    world.apply(types::LogIndex(at.0 + 1), entry).outcome.expect("a good entry");
    assert_eq!(world.status("/late").spot.inode.created, newest);
}

#[test]
fn nothing_happens_before_format_and_format_happens_once() {
    let mut world = World::unformatted();
    assert_eq!(short(&world.command("mkdir /a")), "Refused");
    assert_eq!(short(&world.run(format()).outcome), "ok");
    assert_eq!(short(&world.run(format()).outcome), "Refused");
    assert_eq!(world.namespace.cluster(), Some(types::ClusterId(7)));
}

#[test]
fn rules_are_raised_but_not_beyond_what_this_release_knows() {
    let mut world = World::with("");
    assert_eq!(world.namespace.counters().rules, FIRST_RULES, "whatever release made it");
    let raise = |version| Op::RaiseRules(RaiseRules { version });
    assert_eq!(short(&world.run(raise(RULES_VERSION)).outcome), "ok");
    assert_eq!(short(&world.run(raise(FIRST_RULES)).outcome), "Stale");
    let newer = world.entry(root_user(), None, raise(RULES_VERSION + 1));
    let stops = world.namespace.apply(&world.store, &[newer]).expect_err("not ours to apply");
    assert!(stops.what.contains(&format!("rules {}", RULES_VERSION + 1)), "{stops}");
}

#[test]
fn a_new_incarnation_leaves_out_containers_and_begins_once() {
    let mut world = World::with("");
    let before = world.namespace.counters().clone();
    let begin = Op::BeginIncarnation(BeginIncarnation { after: before.incarnation });
    assert_eq!(short(&world.run(begin.clone()).outcome), "ok");
    let after = world.namespace.counters();
    assert_eq!(after.incarnation.0, before.incarnation.0 + 1);
    assert!(after.next_container.0 >= before.next_container.0 + (1 << 32));
    let (next, left_out) = (after.next_container.0, left_out(&world.store).expect("memory answers"));
    let holds = |container| left_out.holds(ContainerId(container));
    assert!(holds(next - (1 << 32)) && holds(next - 1));
    assert!(!holds(next) && !holds(before.next_container.0 - 1));
    assert_eq!(short(&world.run(begin).outcome), "Stale");
}
