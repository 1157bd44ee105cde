//! Namespaces over stores of their own.

use super::files::update;
use super::world::*;
use crate::*;
use types::{PersistenceState, ReadPolicy, WriteType};

fn with(setup: &str) -> World {
    let mut world = World::with("");
    world
        .run(Op::CreateMount(CreateMount { name: name("n"), spec: spec("s3://bucket/n") }))
        .outcome
        .expect("a new one");
    for word in setup.split_whitespace() {
        match word.strip_suffix('/') {
            Some(directory) => world.must(&format!("mkdir -p {directory}")),
            None => world.must(&format!("create -p {word}")),
        }
    }
    world
}

fn mount(name_: &str, uri: &str) -> Op {
    Op::CreateMount(CreateMount { name: name(name_), spec: spec(uri) })
}

#[test]
fn a_namespace_has_its_own_keys() {
    let world = with("/n/a/f /x/");
    let status = world.status("/n/a/f");
    assert_eq!((status.spot.key.as_str(), status.ufs_path().as_str()), ("a/f", "s3://bucket/n/a/f"));
    assert_eq!(world.status("/n").spot.key, "");
    assert_eq!(world.status("/n").ufs_path(), "s3://bucket/n");
    assert_eq!(world.status("/x").ufs_path(), "mem://root/x");
    let found = by_key(&world.store, status.spot.mount, "a/f").expect("a map").expect("it stands there");
    assert_eq!(found.spot.path, path("/n/a/f"));
    let all: Vec<_> = mounts(&world.store).expect("a map").into_iter().map(|mount| mount.path).collect();
    assert_eq!(all, [path("/"), path("/n")]);
}

#[test]
fn nested_stores_taken_names_and_strangers_are_refused() {
    let mut world = with("/x/");
    for (op, outcome) in [
        (mount("n", "s3://other"), "AlreadyExists"),
        (mount("x", "s3://other"), "AlreadyExists"),
        (mount("m", "s3://bucket"), "Refused"),
        (mount("m", "s3://bucket/n/"), "Refused"),
        (mount("m", "s3://bucket/n/deep"), "Refused"),
        (mount("m", "mem://root/sub"), "Refused"),
    ] {
        assert_eq!(short(&world.run(op.clone()).outcome), outcome, "{op:?}");
    }
    assert_eq!(short(&world.run_as(user("bob"), None, mount("m", "s3://other")).outcome), "NotSuperuser");
    assert_eq!(short(&world.run(mount("m", "s3://bucket/nn")).outcome), "ok");
}

#[test]
fn nothing_moves_across_stores_and_roots_stay() {
    let mut world = with("/n/f /x/");
    assert_eq!(short(&world.command("mv /n/f /x/f")), "AcrossStores");
    assert_eq!(short(&world.command("mv /x /n/x")), "AcrossStores");
    assert_eq!(short(&world.command("mv /n /m")), "MountRoot");
    assert_eq!(short(&world.command("rm -r /n")), "MountRoot");
    world.must("complete /n/f 1");
    world.must("mv /n/f /n/g");
}

#[test]
fn a_read_only_namespace_takes_no_change() {
    let mut world = with("/n/f /n/d/");
    let op = UpdateMount { read_only: Some(true), ..update("n") };
    world.run(Op::UpdateMount(op)).outcome.expect("it exists");
    for command in
        ["create /n/g", "mkdir /n/e", "rm /n/f", "mv /n/f /n/g", "chmod 700 /n/f", "rm -r /n/d", "xattr /n a=b"]
    {
        assert_eq!(short(&world.command(command)), "ReadOnly", "{command}");
    }
    world.must("mkdir /elsewhere");
    world.must("rm -g /n/f");
}

#[test]
fn policies_reach_clients_through_directories() {
    let mut world = with("/n/a/");
    let inner = |world: &World, at: &str| {
        world.status(at).xattrs().get(INNER_WRITE_TYPE).map(|value| String::from_utf8_lossy(value).into_owned())
    };
    assert_eq!(inner(&world, "/n/a"), None);
    let op = UpdateMount {
        write_policy: Some(Some(WriteType::CacheThrough)),
        read_policy: Some(Some(ReadPolicy::Cache)),
        ..update("n")
    };
    world.run(Op::UpdateMount(op)).outcome.expect("it exists");
    assert_eq!(inner(&world, "/n/a").as_deref(), Some("CACHE_THROUGH"));
    assert_eq!(inner(&world, "/").as_deref(), None);
    world.must("create /n/a/f");
    // Whoever names no type writes to the cache alone: the store follows.
    assert_eq!(world.file("/n/a/f").write_type, WriteType::AsyncThrough);
    world.must("complete /n/a/f 3");
    assert_eq!(world.file("/n/a/f").persistence, PersistenceState::ToBePersisted);
    world.must("xattr /n/a innerWriteType=THROUGH");
    assert_eq!(inner(&world, "/n/a").as_deref(), Some("THROUGH"));
    assert_eq!(inner(&world, "/n").as_deref(), Some("CACHE_THROUGH"));
    let page = list(&world.store, &Caller::system(), &path("/n"), None, 10).expect("a map").expect("a directory");
    let listed = page.entries[0].xattrs();
    assert_eq!(listed.get(INNER_WRITE_TYPE).map(Vec::as_slice), Some(&b"THROUGH"[..]));
    let op = UpdateMount { write_policy: Some(None), ..update("n") };
    world.run(Op::UpdateMount(op)).outcome.expect("it exists");
    assert_eq!(inner(&world, "/n"), None);
}

#[test]
fn unmounting_drops_what_we_knew_and_leaves_the_store() {
    let mut world = with("/n/a/ /n/f");
    world.must("create /n/a/g THROUGH");
    world.close_stream("/n/a/g", 3).expect("it is being written");
    world.must("complete /n/a/g 3");
    let remove = Op::Remove(Remove { path: path("/n/a/g"), recursive: false, goosefs_only: false });
    world.run_with(9, remove).outcome.expect("it exists");
    let intent = world.intent().id;
    let directory = world.inode("/n");
    world.run(Op::OpenLoad(OpenLoad { directory, seen: world.namespace.applied() })).outcome.expect("none is open");
    world.effects.clear();
    world.run(Op::DeleteMount(DeleteMount { name: name("n") })).outcome.expect("it exists");
    assert_eq!(world.effects, [Effect::ClosedIntent(intent), Effect::Collect(directory), Effect::MountsChanged]);
    assert_eq!((world.tree().as_str(), world.namespace.loads().count()), ("", 0));
    assert_eq!(operation(&world.store, types::OperationId(9)).expect("a map"), None);
    assert_eq!(short(&world.run(Op::DeleteMount(DeleteMount { name: name("n") })).outcome), "NoNamespace");
    while !detached(&world.store, None, 1).expect("a map").is_empty() {
        world.command("collect").expect("something is detached");
    }
    assert_eq!(world.store.count(Family::Edges), 1);
    world.run(mount("n", "s3://bucket/n")).outcome.expect("the name is free again");
}
