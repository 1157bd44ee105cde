//! Metadata that nobody uses: what the leader has noted and forgotten, how fast, and what a new one knows of it.

use super::loads::{root, serve};
use super::*;
use crate::holds::Hold;
use meta::ROOT;

const FILES: usize = 50;
const UNUSED: Duration = Duration::from_secs(4);

/// A store has given it files, which go when they are not used.
fn loaded(seed: u64, per_second: u64) -> World {
    let mut world = World::new(seed);
    world.expire(ExpiryConfig { unused: UNUSED, per_second });
    world.want_from_store(root(false));
    serve(&mut world, FILES, 1_000, |_| {});
    assert_eq!(left(&world).len(), FILES);
    world
}

fn left(world: &World) -> Vec<String> {
    let names = meta::children(&world.shared.state.latest(), ROOT, None, 1_000).expect("readable");
    names.into_iter().map(|(name, _)| name.as_str().to_owned()).collect()
}

/// Time passes, and the disk keeps up.
fn live(world: &mut World, ms: u64) {
    for _ in 0..ms / 50 {
        world.clock.0.fetch_add(50, Ordering::Relaxed);
        world.step(Event::Tick);
        world.sync();
    }
}

fn container(world: &World, name: &str) -> ContainerId {
    let found = meta::status(&world.shared.state.latest(), &Caller::system(), &in_root(name)).expect("readable");
    found.expect("it is there").spot.inode.container
}

/// As the wire notes it.
fn used(world: &World, name: &str) {
    world.shared.uses.note(container(world, name));
}

fn expired(world: &World) -> u64 {
    world.shared.metrics.metadata_expired.load(Ordering::Relaxed)
}

#[test]
fn what_nobody_uses_goes_and_what_is_used_stays_as_long_as_it_is() {
    let mut world = loaded(41, 1_000);
    live(&mut world, 3_000);
    assert_eq!(left(&world).len(), FILES, "it was loaded not so long ago");
    for _ in 0..20 {
        used(&world, "f000007");
        live(&mut world, 500);
    }
    assert_eq!((left(&world), expired(&world)), (vec!["f000007".to_owned()], 49));
    live(&mut world, 10_000);
    assert_eq!((left(&world).len(), expired(&world)), (0, 50));
    assert!(!world.core.is_loaded(ROOT), "its names are asked for again");
    world.want(in_root("f000003"));
    world.answer(JobOk::Chain(vec![found("f000003", false)]));
    assert_eq!(left(&world), ["f000003"], "whoever asks has it again");
}

#[test]
fn a_new_leader_knows_what_was_used() {
    let mut world = loaded(42, 1_000);
    live(&mut world, 3_000);
    used(&world, "f000007");
    live(&mut world, 1_500);
    world.crash();
    world.settle();
    live(&mut world, 2_500);
    assert_eq!(left(&world), ["f000007"]);
    live(&mut world, 10_000);
    assert_eq!(left(&world).len(), 0);
}

#[test]
fn what_a_request_is_about_to_change_stays_until_it_was_changed() {
    let mut world = loaded(44, 1_000);
    let container = container(&world, "f000007");
    let holds = [(); 2].map(|()| Hold::of(&world.shared, container).expect("it is there to stay"));
    live(&mut world, 10_000);
    assert_eq!(left(&world), ["f000007"]);
    let [first, second] = holds;
    drop(first);
    live(&mut world, 5_000);
    assert_eq!(left(&world), ["f000007"], "another one is not done yet");
    drop(second);
    live(&mut world, 5_000);
    assert_eq!(left(&world).len(), 0);
}

#[test]
fn what_is_about_to_expire_is_held_by_nobody_until_that_has_ended() {
    let mut world = loaded(45, 1_000);
    let container = container(&world, "f000007");
    // Up to the moment when the entry is proposed, and not yet on disk.
    while Hold::of(&world.shared, container).is_some() {
        world.sync();
        world.clock.0.fetch_add(50, Ordering::Relaxed);
        world.step(Event::Tick);
        assert!(world.clock.0.load(Ordering::Relaxed) < 60_000, "it expires");
    }
    assert_eq!(left(&world).len(), FILES, "whoever looks now still sees it");
    world.sync();
    assert!(!left(&world).contains(&"f000007".to_owned()));
    assert!(Hold::of(&world.shared, container).is_some(), "that is over");
}

#[test]
fn no_more_go_in_a_second_than_were_told() {
    const PER_SECOND: usize = 5;
    let mut world = loaded(43, 5);
    let (mut seconds, mut most) = (0, 0);
    while !left(&world).is_empty() {
        let before = left(&world).len();
        live(&mut world, 1_000);
        (seconds, most) = (seconds + 1, most.max(before - left(&world).len()));
        assert!(seconds < 60, "{:?} are left", left(&world));
    }
    // What was not taken in the second before may be, but no more.
    assert!((1..=2 * PER_SECOND).contains(&most), "{most} in one second");
}
