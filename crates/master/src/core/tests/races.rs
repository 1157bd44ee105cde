//! One client at work while directories are loaded, strangers change the store, the store takes its time, and the master
//! loses power: all drawn from a seed.

use super::sea::{Kind, ROOT_MOUNT, Sea, path};
use super::*;
use std::collections::BTreeSet;

/// Operations of the client in one history.
const OPERATIONS: usize = 60;

fn pick<'a>(sea: &Sea, from: &[&'a str]) -> &'a str {
    let count = u64::try_from(from.len()).expect("small");
    from[usize::try_from(sea.world.dice.below(count)).expect("small")]
}

fn file(sea: &Sea) -> String {
    format!("{}/{}", pick(sea, &["/a", "/b", "/a/c"]), pick(sea, &["f0", "f1", "f2"]))
}

/// Anything that may happen beside the client.
fn meanwhile(sea: &mut Sea) {
    match sea.world.dice.below(60) {
        0..=14 => drop(sea.deliver()),
        15..=29 => drop(sea.sync()),
        30..=41 => {
            let which = sea.world.dice.next_u64();
            sea.execute(which);
        }
        42..=48 => sea.tick(),
        49..=52 => {
            let at = pick(sea, &["/", "/a", "/b", "/a/c"]);
            load(sea, at);
        }
        53 | 54 => {
            let at = file(sea);
            look(sea, &at);
        }
        55..=57 => {
            let key = format!("{}{}", pick(sea, &["", "a/", "b/", "a/c/"]), pick(sea, &["x0", "x1"]));
            let content = format!("foreign {}", sea.world.dice.below(100));
            sea.put(&key, &content);
        }
        58 => {
            let key = format!("{}{}", pick(sea, &["", "a/", "b/", "a/c/"]), pick(sea, &["x0", "x1"]));
            sea.delete(&key);
        }
        _ => {
            if sea.world.dice.below(3) == 0 {
                sea.crash();
            }
        }
    }
}

fn load(sea: &mut Sea, at: &str) -> Option<Ticket> {
    let spot = sea.status(at)?.spot;
    let compare = sea.world.dice.below(2) == 0;
    Some(sea.world.want_from_store(Want::Directory { inode: spot.inode.id, mount: spot.mount, key: spot.key, compare }))
}

/// What the client's handler does before it makes or renames anything: the store may know the name.
fn look(sea: &mut Sea, at: &str) {
    let resolved = meta::resolve(&sea.world.shared.state.latest(), &Caller::system(), &path(at)).expect("readable");
    let Ok(resolved) = resolved else { return };
    if !resolved.missing.is_empty() {
        let missing: Vec<&str> = resolved.missing.iter().map(Name::as_str).collect();
        let last = resolved.spots.last().expect("a walk begins at /");
        let key = format!("{}{}", last.key, missing.join("/"));
        let unknown = last.inode.directory().is_some_and(|directory| !directory.loaded) && missing.len() == 1;
        let directory = unknown.then_some(last.inode.id);
        sea.world.want_from_store(Want::Path { path: path(at), mount: ROOT_MOUNT, key, directory });
    }
}

type Model = BTreeMap<String, String>;

/// One thing the client does; false if what was drawn cannot be done now.
fn operate(sea: &mut Sea, model: &mut Model, number: usize) -> bool {
    let (from, to) = (file(sea), file(sea));
    let operation = sea.operation();
    match sea.world.dice.below(10) {
        0..=4 if !model.contains_key(&from) => {
            let content = format!("content {number}");
            look(sea, &from);
            sea.write(&from, &content, meanwhile);
            model.insert(from, content);
        }
        5 | 6 if model.contains_key(&from) && !model.contains_key(&to) => {
            // The directory may have gone with the last file of it.
            let parent = path(&to).parent().expect("two levels");
            let op = CreateDirectory { path: parent, recursive: true, allow_exists: true, mode: Mode::new(0o755) };
            let mkdir = sea.operation();
            sea.insist(mkdir, &Op::CreateDirectory(op), meanwhile).unwrap_or_else(|err| panic!("mkdir: {err}"));
            let op = Op::Rename(Rename { path: path(&from), to: path(&to) });
            match sea.insist(operation, &op, meanwhile) {
                Ok(_) => {
                    let content = model.remove(&from).expect("looked");
                    model.insert(to, content);
                }
                // A directory the store had goes when a stranger removed the last object below it.
                Err(err) if err.kind() == types::ErrorKind::NotFound => {}
                Err(err) => panic!("mv {from} {to}: {err}"),
            }
        }
        7 if model.contains_key(&from) => {
            let op = Op::Remove(Remove { path: path(&from), recursive: false, goosefs_only: false });
            sea.insist(operation, &op, meanwhile).unwrap_or_else(|err| panic!("rm {from}: {err}"));
            model.remove(&from);
        }
        8 => {
            let top = pick(sea, &["/a", "/b", "/a/c"]);
            if sea.status(top).is_some() {
                let op = Op::Remove(Remove { path: path(top), recursive: true, goosefs_only: false });
                match sea.insist(operation, &op, meanwhile) {
                    Ok(_) => {}
                    // What a stranger deleted went with a load.
                    Err(err) if err.kind() == types::ErrorKind::NotFound => {}
                    Err(err) => panic!("rm -r {top}: {err}"),
                }
                model.retain(|at, _| !at.starts_with(&format!("{top}/")));
            }
        }
        _ => return false,
    }
    for (at, content) in model.iter() {
        let status = sea.status(at).unwrap_or_else(|| panic!("{at} with {content:?} is lost"));
        assert!(status.spot.inode.file().is_some_and(|file| file.complete), "{at} is half-done");
    }
    true
}

fn run(seed: u64, kind: Kind) {
    let mut sea = Sea::new(seed, kind);
    let mut model = Model::new();
    let mut done = 0;
    for number in 0..OPERATIONS {
        done += usize::from(operate(&mut sea, &mut model, number));
        sea.world.core.namespace().check_invariants(&sea.world.shared.state.latest()).expect("readable");
    }
    assert!(done >= OPERATIONS / 10, "seed {seed} did {done} operations");
    sea.settle();
    // The store is asked about everything, until there is nothing new.
    for _ in 0..4 {
        let tree = sea.tree();
        let directories = tree.iter().filter(|status| status.spot.inode.is_directory());
        let mut all: Vec<String> = directories.map(|status| status.spot.path.as_str().to_owned()).collect();
        all.push("/".to_owned());
        for at in all {
            let Some(status) = sea.status(&at) else { continue };
            let spot = status.spot;
            sea.world.want_from_store(Want::Directory {
                inode: spot.inode.id,
                mount: spot.mount,
                key: spot.key,
                compare: true,
            });
            sea.settle();
        }
    }
    let (objects, known) = (sea.objects(), sea.persisted());
    for (at, content) in &model {
        let spot = sea.status(at).unwrap_or_else(|| panic!("seed {seed}: {at} is lost")).spot;
        assert_eq!(objects.get(&spot.key), Some(content), "seed {seed}: {at} is not what was written");
    }
    let (keys, names): (BTreeSet<_>, BTreeSet<_>) = (objects.keys().collect(), known.keys().collect());
    assert_eq!(names, keys, "seed {seed}, {kind:?}: the namespace and the store say different things");
    let ours = known.values().filter(|status| status.spot.path.file_name().starts_with('f')).count();
    assert_eq!(ours, model.len(), "seed {seed}: a removed or renamed file came back");
}

#[test]
fn loads_and_strangers_race_with_creates_renames_and_removes() {
    for seed in 1..=seeds() {
        run(seed, Kind::Objects);
        run(seed, Kind::Files);
    }
}
