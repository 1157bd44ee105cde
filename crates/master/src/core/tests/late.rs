//! More is asked than can be done.

use super::*;

/// Asks for a directory that waits `wait_ms` before the core turns; what it is told.
fn asked(world: &mut World, n: u64, wait_ms: u64, deadline_ms: u64) -> Result<Done, Error> {
    let path = GfsPath::parse(&format!("/d{n}")).expect("a path");
    let op =
        Op::CreateDirectory(CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) });
    let (ticket, now) = (Ticket(1_000 + n), world.now());
    let deadline = now.mono + Duration::from_millis(deadline_ms);
    world.core.step(now, Event::Request(ticket, Request { who: Caller::system(), operation: None, op, deadline }));
    world.clock.0.fetch_add(wait_ms, Ordering::Relaxed);
    world.settle();
    world.answers.remove(&ticket).expect("it was answered")
}

fn exists(world: &World, n: u64) -> bool {
    let path = GfsPath::parse(&format!("/d{n}")).expect("a path");
    meta::status(&world.shared.state.latest(), &Caller::system(), &path).expect("readable").is_ok()
}

#[test]
fn waits_that_stay_long_are_told_at_once_that_nothing_was_begun() {
    let mut world = World::new(31);
    let late = |answer: &Result<Done, Error>| matches!(answer, Err(why @ Error::Late(_)) if why.kind() == types::ErrorKind::Busy);
    assert!(asked(&mut world, 0, 250, 60_000).is_ok(), "a burst passes");
    assert!(asked(&mut world, 1, 10, 60_000).is_ok());
    assert!(asked(&mut world, 2, 250, 60_000).is_ok());
    assert!(asked(&mut world, 3, 250, 60_000).is_ok());
    assert!(late(&asked(&mut world, 4, 250, 60_000)));
    assert!(late(&asked(&mut world, 5, 250, 60_000)));
    assert!(!exists(&world, 4) && !exists(&world, 5));
    assert_eq!(world.shared.metrics.refused.load(Ordering::Relaxed), 2);
    assert!(asked(&mut world, 6, 10, 60_000).is_ok(), "it keeps up again");
    assert!(asked(&mut world, 7, 250, 60_000).is_ok());
}

#[test]
fn what_nobody_waits_for_any_more_is_not_begun() {
    let mut world = World::new(32);
    assert!(matches!(asked(&mut world, 0, 150, 100), Err(Error::Late(_))));
    assert!(!exists(&world, 0));
    assert!(asked(&mut world, 1, 150, 1_000).is_ok());
}
