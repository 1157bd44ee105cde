//! From being written to complete, and where the content then is.

use super::world::*;
use crate::*;
use types::{PersistenceState, WorkerId, WriteType};

#[test]
fn completing_gives_length_and_blocks() {
    let mut world = World::with("/f?");
    let container = world.container("/f");
    world.must("complete /f 10");
    let status = world.status("/f");
    let blocks: Vec<_> = status.blocks().map(|block| (block.id.to_wire(), block.offset, block.length)).collect();
    let base = container.file().to_wire() >> 24 << 24;
    assert_eq!(blocks, [(base, 0, 4), (base + 1, 4, 4), (base + 2, 8, 2)]);
    assert_eq!(world.file("/f").persistence, PersistenceState::NotPersisted);
}

#[test]
fn completing_again_is_fine_with_the_same_length_only() {
    check("/f", "complete /f 10", "ok");
    check("/f", "complete /f 11", "Length");
    check("", "complete /f 1", "NotFound");
    check("/a/", "complete /a 1", "IsDirectory");
    check("/f?", "complete /f 0", "ok");
}

#[test]
fn the_id_wins_over_the_path() {
    let mut world = World::with("/f?");
    let file = Some(world.container("/f").file());
    world.must("mv /f /g");
    world.must("create /f");
    world.run(Op::CompleteFile(CompleteFile { file, ..complete_file("/f", 3) })).outcome.expect("by its id");
    assert_eq!(world.tree(), "/f? /g");
    let gone = types::ContainerId(9_999).file();
    let op = CompleteFile { file: Some(gone), ..complete_file("/f", 3) };
    assert_eq!(world.run(Op::CompleteFile(op)).outcome, Err(Reject::NotFound(path("/f"))));
}

#[test]
fn a_file_with_more_blocks_than_ids_is_refused() {
    let mut world = World::with("/f?");
    assert_eq!(short(&world.run(complete("/f", 4 << 24)).outcome), "TooManyBlocks");
    assert_eq!(short(&world.run(complete("/f", 4 * ((1 << 24) - 1))).outcome), "ok");
}

#[test]
fn a_through_write_is_complete_only_with_what_the_store_took() {
    let mut world = World::with("/a/f??");
    assert_eq!(short(&world.run(complete("/a/f", 10)).outcome), "Refused", "nobody wrote to the store");
    assert!(world.directory("/a").persisted, "its object may be there before anybody hears of it");
    world.close_stream("/a/f", 10).expect("the stream of the file being written");
    assert_eq!(short(&world.run(complete("/a/f", 9)).outcome), "StreamLength");
    world.must("complete /a/f 10");
    let file = world.file("/a/f");
    assert_eq!((file.persistence, file.fingerprint), (PersistenceState::Persisted, etag("written")));
    assert_eq!(world.effects, [Effect::Evictable(world.container("/a/f"))]);
    assert_eq!(short(&world.close_stream("/a/f", 10)), "Stale", "a late report of a complete file");
}

#[test]
fn an_empty_file_is_written_through_too() {
    let mut world = World::with("/f??");
    assert_eq!(short(&world.run(complete("/f", 0)).outcome), "Refused");
    world.close_stream("/f", 0).expect("an empty stream");
    world.must("complete /f 0");
    assert_eq!(world.tree(), "/f!");
}

#[test]
fn a_file_of_the_cache_has_no_stream_to_the_store() {
    let mut world = World::with("/f?");
    assert_eq!(short(&world.close_stream("/f", 1)), "Refused");
}

#[test]
fn a_degraded_asynchronous_write_is_in_the_store_at_once() {
    let mut world = World::with("");
    world.must("create /f ASYNC_THROUGH");
    let op = || Op::CompleteFile(CompleteFile { force_persisted: true, ..complete_file("/f", 5) });
    assert_eq!(short(&world.run(op()).outcome), "Refused");
    world.close_stream("/f", 5).expect("the stream it fell back to");
    assert_eq!(short(&world.run(op()).outcome), "ok");
    assert_eq!(world.tree(), "/f!");
}

#[test]
fn an_asynchronous_write_waits_for_its_persist_with_its_locations() {
    let mut world = World::with("");
    world.must("create /f ASYNC_THROUGH");
    let container = world.container("/f");
    let block = |index| container.block(index).expect("a small index");
    let commit = |locations| CommitLocation { path: path("/f"), file: Some(container.file()), locations };
    let op = commit(vec![(block(1), vec![WorkerId(5)]), (block(0), vec![WorkerId(3), WorkerId(4)])]);
    world.run(Op::CommitLocation(op)).outcome.expect("blocks of this file");
    let other = types::ContainerId(container.0 + 1).block(0).expect("a small index");
    assert_eq!(short(&world.run(Op::CommitLocation(commit(vec![(other, Vec::new())]))).outcome), "Stale");
    let op = CompleteFile {
        persist_after_ms: Some(1_000),
        locations: vec![(block(2), vec![WorkerId(3)]), (block(1), vec![WorkerId(5)])],
        ..complete_file("/f", 10)
    };
    world.run(Op::CompleteFile(op)).outcome.expect("it is being written");
    assert_eq!(world.tree(), "/f~");
    let (three, four, five) = (WorkerId(3), WorkerId(4), WorkerId(5));
    assert_eq!(world.file("/f").locations, [(0, vec![three, four]), (1, vec![five]), (2, vec![three])]);
    let workers: Vec<_> = world.status("/f").blocks().map(|block| block.workers.len()).collect();
    assert_eq!(workers, [2, 1, 1]);
    let due = persist(&world.store, container).expect("a map").expect("it waits").due;
    assert_eq!(due, types::AgeMs(world.age.0 + 1_000));
}

#[test]
fn the_write_type_comes_from_the_call_the_directory_or_the_namespace() {
    let mut world = World::with("/a/b/");
    let kind = |world: &World, at: &str| world.file(at).write_type;
    world.must("create /a/b/1");
    assert_eq!(kind(&world, "/a/b/1"), WriteType::MustCache);
    let policy = UpdateMount { write_policy: Some(Some(WriteType::Through)), ..update("x") };
    assert_eq!(short(&world.run(Op::UpdateMount(policy)).outcome), "NoNamespace");
    world.must("xattr /a innerWriteType=ASYNC_THROUGH");
    world.must("create /a/b/2");
    assert_eq!(kind(&world, "/a/b/2"), WriteType::AsyncThrough);
    world.must("create /a/b/3 TRY_CACHE");
    assert_eq!(kind(&world, "/a/b/3"), WriteType::TryCache);
    check("/a/", "xattr /a innerWriteType=SOMETIMES", "Invalid");
    check("/a/f", "xattr /a/f innerWriteType=THROUGH", "Invalid");
    check("/f", "xattr /f CrcType=1", "Invalid");
}

pub fn update(name_: &str) -> UpdateMount {
    UpdateMount {
        name: name(name_),
        read_only: None,
        shared: None,
        properties: None,
        secrets: None,
        write_policy: None,
        read_policy: None,
    }
}

#[test]
fn what_nobody_writes_any_more_expires() {
    let mut world = World::with("/f? /g /h??");
    let open = incomplete_before(&world.store, types::AgeMs(u64::MAX), None, 10).expect("a map");
    assert_eq!(open.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [world.container("/f"), world.container("/h")]);
    assert_eq!(incomplete_before(&world.store, types::AgeMs(u64::MAX), Some(open[0]), 10).expect("a map"), open[1..]);
    assert_eq!(incomplete_before(&world.store, open[1].0, None, 10).expect("a map"), open[..1]);
    let expire = |container| Op::ExpireIncomplete(ExpireIncomplete { container });
    assert_eq!(short(&world.run(expire(world.container("/g"))).outcome), "Stale");
    assert_eq!(short(&world.run(expire(world.container("/f"))).outcome), "ok");
    assert_eq!(world.tree(), "/g /h?");
    // A closed stream left a whole object, and one whose worker died before it reported may have: it can be loaded again.
    for is_reported in [true, false] {
        let mut world = World::with("/a/h??");
        let mark = LoadPage { directory: world.inode("/a"), load: types::LoadId(0), items: Vec::new(), last: true };
        let load = world.run(Op::OpenLoad(OpenLoad { directory: mark.directory, seen: world.namespace.applied() }));
        let Ok(Done::Load(load)) = load.outcome else { panic!("{load:?}") };
        world.run(Op::LoadPage(LoadPage { load, ..mark })).outcome.expect("an open load");
        assert!(world.directory("/a").loaded);
        if is_reported {
            world.close_stream("/a/h", 4).expect("it is being written");
        }
        world.run(expire(world.container("/a/h"))).outcome.expect("it is incomplete");
        assert!(!world.directory("/a").loaded);
    }
}

#[test]
fn a_lost_file_says_so_and_is_not_persisted_any_more() {
    let mut world = World::with("/f~ /g!");
    let container = world.container("/f");
    world.run(Op::MarkLost(MarkLost { container })).outcome.expect("its only copies are gone");
    assert_eq!(world.tree(), "/f† /g!");
    assert_eq!(world.effects, [Effect::CancelPersist(container)]);
    assert_eq!(short(&world.command("persist /f")), "Refused");
    let container = world.container("/g");
    assert_eq!(short(&world.run(Op::MarkLost(MarkLost { container })).outcome), "Stale");
    world.must("rm /f");
}
