//! What users see.

use super::world::*;
use crate::*;

#[test]
fn listing_goes_page_by_page_in_name_order() {
    let world = World::with("/a/ /a/1 /a/2 /a/3/ /a/10");
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page =
            list(&world.store, &Caller::system(), &path("/a"), after.as_ref(), 2).expect("a map").expect("there");
        assert_eq!(page.parent.spot.path, path("/a"));
        names.extend(page.entries.iter().map(|entry| entry.spot.path.file_name().to_owned()));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(names, ["1", "10", "2", "3"]);
}

#[test]
fn a_file_lists_itself_and_what_is_missing_is_missing() {
    let world = World::with("/a/f");
    let page = list(&world.store, &Caller::system(), &path("/a/f"), None, 10).expect("a map").expect("there");
    assert_eq!((page.entries.len(), page.next), (1, None));
    assert_eq!(page.entries[0], page.parent);
    assert_eq!(world.find("/b").err(), Some(Reject::NotFound(path("/b"))));
    assert_eq!(world.find("/a/f/g").err(), Some(Reject::ParentIsFile(path("/a/f"))));
}

#[test]
fn checksums_show_in_one_and_four_bytes() {
    let mut world = World::with("/f?");
    let checksum = Some(Checksum { kind: 2, value: 0x0102_0304 });
    world.run(Op::CompleteFile(CompleteFile { checksum, ..complete_file("/f", 3) })).outcome.expect("it is open");
    let xattrs = world.status("/f").xattrs();
    assert_eq!((xattrs[CRC_TYPE].as_slice(), xattrs[CRC_VALUE].as_slice()), (&[2][..], &[1, 2, 3, 4][..]));
}

#[test]
fn an_inode_is_found_by_its_ids_wherever_it_went() {
    let mut world = World::with("/a/b/f~");
    let (inode, container) = (world.inode("/a/b/f"), world.container("/a/b/f"));
    world.must("mv /a /c");
    let found = by_inode(&world.store, inode).expect("a map").expect("it stands");
    assert_eq!(found.spot.path, path("/c/b/f"));
    assert_eq!(by_container(&world.store, container).expect("a map"), Some(found));
    assert_eq!(persists(&world.store, None, 9).expect("a map").len(), 1);
    assert_eq!(persists(&world.store, Some(container), 9).expect("a map").len(), 0);
    let root = by_inode(&world.store, ROOT).expect("a map").expect("it always stands");
    assert_eq!((root.spot.path, root.spot.name), (path("/"), None));
}

#[test]
fn a_tree_moved_deeper_than_paths_may_go_can_still_be_listed() {
    let deep = |top: &str| format!("/{top}{}", "/x".repeat(types::MAX_DEPTH - 3));
    let mut world = World::with(&format!("{}/f /b/", deep("a")));
    world.must("mkdir -p /b/1/2/3/4/5");
    world.must("mv /a /b/1/2/3/4/5/a");
    let inode = {
        let mut at = world.inode("/b/1/2/3/4/5/a");
        loop {
            match children(&world.store, at, None, 1).expect("a map").pop() {
                Some((_, child)) => at = child.id,
                None => break at,
            }
        }
    };
    let leaf = by_inode(&world.store, inode).expect("a map").expect("it stands");
    assert!(leaf.spot.path.depth() > types::MAX_DEPTH);
    world.must("rm -r /b");
}

#[test]
fn a_store_without_a_namespace_says_so() {
    let world = World::unformatted();
    assert_eq!(short(&world.find("/").map(|_| Done::Nothing)), "Refused");
    assert_eq!(by_inode(&world.store, ROOT).expect("a map"), None);
}
