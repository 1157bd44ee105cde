//! More is asked than can be done.

use super::*;

/// Asks for a directory that waits `wait_ms` before the core turns; what it is told.
fn asked(world: &mut World, n: u64, wait_ms: u64, deadline_ms: u64) -> Result<Done, Error> {
    let path = GfsPath::parse(&format!("/d{n}")).expect("a path");
    let op =
        Op::CreateDirectory(CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) });
    let (ticket, now) = (Ticket(1_000 + n), world.now());
    let deadline = now.mono + Duration::from_millis(deadline_ms);
    world.core.step(
        now,
        Event::Request(ticket, Request { who: Caller::system(), operation: None, op, came: now.mono, deadline }),
    );
    world.clock.0.fetch_add(wait_ms, Ordering::Relaxed);
    world.settle();
    world.answers.remove(&ticket).expect("it was answered")
}

fn exists(world: &World, n: u64) -> bool {
    let path = GfsPath::parse(&format!("/d{n}")).expect("a path");
    meta::status(&world.shared.state.latest(), &Caller::system(), &path).expect("readable").is_ok()
}

/// The core takes up what has waited so long by now, and what it is asked then may wait or not.
fn took(world: &mut World, n: u64, waited_ms: u64) -> Result<(), Error> {
    world.clock.0.fetch_add(200, Ordering::Relaxed);
    let now = world.now().mono;
    let path = GfsPath::parse(&format!("/d{n}")).expect("a path");
    let op =
        Op::CreateDirectory(CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) });
    let came = Monotonic(now.0 - Duration::from_millis(waited_ms));
    let deadline = now + Duration::from_secs(60);
    let request = Request { who: Caller::system(), operation: None, op, came, deadline };
    world.step(Event::Request(Ticket(1_000 + n), request));
    world.shared.waits.admit(now, LATE)
}

const LATE: Duration = Duration::from_millis(200);

#[test]
fn waits_that_stay_long_refuse_what_comes_until_hardly_anything_waits() {
    let mut world = World::new(31);
    let late =
        |answer: Result<(), Error>| matches!(answer, Err(why @ Error::Late(_)) if why.kind() == types::ErrorKind::Busy);
    for (n, waited_ms) in [250, 250, 10, 250, 250].into_iter().enumerate() {
        assert!(took(&mut world, u64::try_from(n).expect("few"), waited_ms).is_ok(), "a burst passes");
    }
    assert!(late(took(&mut world, 5, 250)));
    assert!(took(&mut world, 6, 99).is_ok(), "it would wait for less than half of what is nothing unusual");
    assert!(late(took(&mut world, 7, 100)), "more is still asked than can be done");
    assert!(took(&mut world, 8, 50).is_ok());
    assert!(took(&mut world, 9, 150).is_ok(), "it kept up in between");
    world.settle();
    assert!((0..10).all(|n| exists(&world, n)), "what was let in is done");
}

#[test]
fn what_comes_when_nothing_is_left_to_do_is_let_in() {
    let mut world = World::new(33);
    let last = (0..4).map(|n| took(&mut world, n, 250)).last().expect("some");
    assert!(last.is_err());
    world.settle();
    assert!(world.shared.waits.admit(world.now().mono, LATE).is_ok());
}

#[test]
fn what_nobody_waits_for_any_more_is_not_begun() {
    let mut world = World::new(32);
    assert!(matches!(asked(&mut world, 0, 150, 100), Err(Error::Late(_))));
    assert!(!exists(&world, 0));
    assert!(asked(&mut world, 1, 150, 1_000).is_ok());
}
