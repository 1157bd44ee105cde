//! Renames and deletes of what stands in a store, with a power cut after each single step: of the log, of the store, of an
//! answer. The client asks again, and everything ends as if nothing had happened.

use super::sea::{Kind, Sea, path};
use super::*;

/// Runs `op` with a crash after its `at`-th step, then lets the client insist. False: it ended before that.
fn run(sea: &mut Sea, op: &Op, at: usize) -> bool {
    let operation = sea.operation();
    let ticket = sea.ask(operation, op);
    for step in 0.. {
        if step == at {
            sea.crash();
            break;
        }
        if sea.is_quiet() && sea.world.answers.contains_key(&ticket) {
            return false;
        }
        sea.one_step();
    }
    sea.insist(operation, op, Sea::one_step).unwrap_or_else(|err| panic!("{op:?} with a crash at {at}: {err}"));
    sea.settle();
    true
}

/// Every crash point of `op` on a fresh tree; `check` looks at what is there in the end. Returns how many there are.
fn every_crash(kind: Kind, op: &Op, check: impl Fn(&mut Sea, usize)) -> usize {
    for at in 0..1_000 {
        let mut sea = Sea::new(7, kind);
        for (file, content) in [("/a/f", "one"), ("/a/sub/g", "two"), ("/b/h", "three")] {
            sea.write(file, content, Sea::one_step);
        }
        sea.settle();
        let crashed = run(&mut sea, op, at);
        let read = sea.world.shared.state.latest();
        sea.world.core.namespace().check_invariants(&read).expect("readable");
        check(&mut sea, at);
        sea.persisted();
        if !crashed {
            return at;
        }
    }
    panic!("there are always more steps");
}

fn objects(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(key, content)| ((*key).to_owned(), (*content).to_owned())).collect()
}

fn names(sea: &Sea) -> Vec<String> {
    let tree = sea.tree();
    let files = tree.iter().filter(|status| status.spot.inode.file().is_some());
    let mut names: Vec<String> = files.map(|status| status.spot.path.as_str().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_renamed_file_is_one_object_under_its_new_name_wherever_the_crash_fell() {
    for kind in [Kind::Objects, Kind::Files] {
        let op = Op::Rename(Rename { path: path("/a/f"), to: path("/b/moved") });
        let points = every_crash(kind, &op, |sea, at| {
            let expected = objects(&[("a/sub/g", "two"), ("b/h", "three"), ("b/moved", "one")]);
            assert_eq!(sea.objects(), expected, "{kind:?}, crash at {at}");
            assert_eq!(names(sea), ["/a/sub/g", "/b/h", "/b/moved"], "{kind:?}, crash at {at}");
        });
        assert!(points >= 6, "{kind:?}: log, begin, store, close and answer are {points} steps");
    }
}

#[test]
fn a_renamed_tree_is_whole_under_its_new_name_wherever_the_crash_fell() {
    for kind in [Kind::Objects, Kind::Files] {
        let op = Op::Rename(Rename { path: path("/a"), to: path("/b/a") });
        let points = every_crash(kind, &op, |sea, at| {
            // What a store copied may be another version of the same content.
            sea.refresh();
            let expected = objects(&[("b/a/f", "one"), ("b/a/sub/g", "two"), ("b/h", "three")]);
            assert_eq!(sea.objects(), expected, "{kind:?}, crash at {at}");
            assert_eq!(names(sea), ["/b/a/f", "/b/a/sub/g", "/b/h"], "{kind:?}, crash at {at}");
        });
        assert!(points >= 6, "{kind:?}: {points} steps");
    }
}

#[test]
fn a_removed_file_and_a_removed_tree_are_gone_wherever_the_crash_fell() {
    for kind in [Kind::Objects, Kind::Files] {
        let op = Op::Remove(Remove { path: path("/a/f"), recursive: false, goosefs_only: false });
        every_crash(kind, &op, |sea, at| {
            assert_eq!(sea.objects(), objects(&[("a/sub/g", "two"), ("b/h", "three")]), "{kind:?}, crash at {at}");
            assert_eq!(names(sea), ["/a/sub/g", "/b/h"], "{kind:?}, crash at {at}");
        });
        let op = Op::Remove(Remove { path: path("/a"), recursive: true, goosefs_only: false });
        every_crash(kind, &op, |sea, at| {
            assert_eq!(sea.objects(), objects(&[("b/h", "three")]), "{kind:?}, crash at {at}");
            assert_eq!(names(sea), ["/b/h"], "{kind:?}, crash at {at}");
        });
    }
}

#[test]
fn a_tree_that_was_moved_stays_moved_though_a_late_upload_made_its_old_place_anew() {
    let mut sea = Sea::new(7, Kind::Files);
    for (file, content) in [("/a/f", "one"), ("/a/sub/g", "two"), ("/b/h", "three")] {
        sea.write(file, content, Sea::one_step);
    }
    sea.settle();
    let (operation, op) = (sea.operation(), Op::Rename(Rename { path: path("/a"), to: path("/b/a") }));
    sea.insist(operation, &op, Sea::one_step).expect("nothing is in its way");
    while sea.objects().contains_key("a/f") {
        sea.one_step();
    }
    // A worker had asked whether the name is its own before the rename, and its object comes now.
    sea.put("a/sub/late", "late");
    sea.crash();
    sea.settle();
    assert_eq!(names(&sea), ["/b/a/f", "/b/a/sub/g", "/b/h"]);
    let expected = objects(&[("b/a/f", "one"), ("b/a/sub/g", "two"), ("b/a/sub/late", "late"), ("b/h", "three")]);
    assert_eq!(sea.objects(), expected);
    sea.persisted();
}
