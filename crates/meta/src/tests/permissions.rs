//! Who may do what.

use super::world::*;
use crate::*;

/// `/` is root's, 0755; `/home` belongs to bob, `/tmp` is sticky and everybody's.
const HOMES: &str = "/home/ /tmp/ /root/f";

fn world() -> World {
    let mut world = World::with(HOMES);
    for command in ["chown bob /home", "chmod 1777 /tmp", "bob: create /tmp/bobs", "bob: create /home/f"] {
        world.must(command);
    }
    world
}

#[track_caller]
fn may(command: &str, outcome: &str) {
    assert_eq!(short(&world().command(command)), outcome, "{command}");
}

#[test]
fn names_are_made_and_removed_with_write_on_the_directory() {
    may("bob: mkdir /x", "Denied");
    may("bob: create /home/g", "ok");
    may("eve: create /home/g", "Denied");
    may("eve: rm /home/f", "Denied");
    may("bob: rm /home/f", "ok");
    may("bob: mv /home/f /tmp/f", "ok");
    may("bob: mv /home/f /root/f2", "Denied");
    may("bob: mv /root/f /tmp/f", "Denied");
}

#[test]
fn a_sticky_directory_keeps_entries_from_others() {
    may("eve: rm /tmp/bobs", "Sticky");
    may("eve: mv /tmp/bobs /tmp/mine", "Sticky");
    may("bob: rm /tmp/bobs", "ok");
    may("rm /tmp/bobs", "ok");
}

#[test]
fn owners_change_modes_and_superusers_owners() {
    may("bob: chmod 600 /home/f", "ok");
    may("eve: chmod 600 /home/f", "NotOwner");
    may("bob: chown eve /home/f", "NotSuperuser");
    may("bob: chgrp staff /home", "ok");
    may("bob: chgrp audio /home", "Refused");
    may("chgrp audio /home", "ok");
    may("eve: chgrp staff /home", "NotOwner");
}

#[test]
fn the_way_needs_execute_and_listing_needs_read() {
    let mut world = world();
    world.must("chmod 700 /home");
    let ask = |world: &World, who: &str, at: &str| {
        let outcome = status(&world.store, &user(who), &path(at)).expect("a map");
        short(&outcome.map(|_| Done::Nothing))
    };
    assert_eq!(ask(&world, "bob", "/home/f"), "ok");
    assert_eq!(ask(&world, "eve", "/home/f"), "Denied");
    assert_eq!(ask(&world, "eve", "/home/none"), "Denied", "not even whether it exists");
    assert_eq!(ask(&world, "eve", "/home"), "ok");
    world.must("chmod 711 /home");
    assert_eq!(ask(&world, "eve", "/home/f"), "ok");
    let listed = list(&world.store, &user("eve"), &path("/home"), None, 10).expect("a map");
    assert_eq!(short(&listed.map(|_| Done::Nothing)), "Denied");
}

#[test]
fn a_recursive_remove_needs_write_on_what_it_empties() {
    let mut world = world();
    world.must("bob: mkdir /home/d");
    world.must("chown eve /home/d");
    world.must("eve: create /home/d/f");
    assert_eq!(short(&world.command("bob: rm -r /home/d")), "Denied");
    world.must("eve: rm /home/d/f");
    world.must("bob: rm -r /home/d");
}

#[test]
fn a_writer_goes_on_whatever_the_mode_says() {
    let mut world = world();
    world.must("chmod 400 /home/f");
    assert_eq!(short(&world.command("eve: complete /home/f 3")), "Denied");
    world.must("bob: complete /home/f 3");
}

#[test]
fn new_inodes_belong_to_who_makes_them() {
    let world = world();
    let inode = world.status("/home/f").spot.inode;
    assert_eq!((inode.owner.as_str(), inode.group.as_str()), ("bob", "staff"));
    let mut world = world;
    let who = Caller { user: "ann".into(), groups: Vec::new(), superuser: true };
    world.run_as(who, None, create("/tmp/g", false, None)).outcome.expect("a superuser may");
    assert_eq!(world.status("/tmp/g").spot.inode.group, "wheel", "the directory's, for want of one");
}

#[test]
fn a_recursive_change_reaches_everything_or_nothing() {
    let mut world = World::with("/a/b/f /a/g");
    world.must("chmod -R 700 /a");
    for at in ["/a", "/a/b", "/a/b/f", "/a/g"] {
        assert_eq!(world.status(at).spot.inode.mode.bits(), 0o700, "{at}");
    }
    world.must("chmod 777 /a");
    world.must("chown bob /a");
    assert_eq!(short(&world.command("bob: chmod -R 755 /a")), "NotOwner", "of what is below");
    assert_eq!(world.status("/a").spot.inode.mode.bits(), 0o777);
}
