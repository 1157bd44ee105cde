//! Loads of whole directories: how often the store is asked, what is held meanwhile, what a crash leaves.

use super::*;
use meta::ROOT;
use types::MountId;

pub(super) fn root(compare: bool) -> Want {
    Want::Directory { inode: ROOT, mount: MountId(1), key: String::new(), compare }
}

/// Answers every listing with pages of `page` of `files` names, looks at the core after each step, and counts listings.
pub(super) fn serve(world: &mut World, files: usize, page: usize, look: impl FnMut(&mut World)) -> usize {
    serve_some(world, files, page, 200, look)
}

/// The same until so many were answered.
fn serve_some(world: &mut World, files: usize, page: usize, most: usize, mut look: impl FnMut(&mut World)) -> usize {
    let mut listings = 0;
    let mut at = 0;
    for _ in 0..most * 2 {
        world.sync();
        for (id, job) in std::mem::take(&mut world.jobs) {
            let Job::List { from, limit, .. } = &job else { panic!("{job:?}") };
            match from {
                ListFrom::Start => at = 0,
                ListFrom::Page(_) => {}
                ListFrom::Entry { name, .. } => at = name.as_str()[1..].parse::<usize>().expect("a number") + 1,
            }
            listings += 1;
            let items: Vec<Found> =
                (at..files).take(page.min(*limit)).map(|n| found(&format!("f{n:06}"), false)).collect();
            at += items.len();
            let next = (at < files).then(|| ufs::PageToken::of("more"));
            world.step(Event::JobDone(id, Ok(JobOk::Page { items, next, skipped: ufs::Skipped::default() })));
            look(world);
            if listings == most {
                world.sync();
                return listings;
            }
        }
        world.clock.0.fetch_add(20, Ordering::Relaxed);
        world.step(Event::Tick);
        if world.jobs.is_empty() && world.appends.is_empty() {
            return listings;
        }
    }
    panic!("the load does not end");
}

fn entries(world: &World) -> usize {
    meta::children(&world.shared.state.latest(), ROOT, None, 1_000_000).expect("readable").len()
}

#[test]
fn one_listing_serves_all_who_ask_and_who_comes_late() {
    let mut world = World::new(1);
    let mut tickets: Vec<Ticket> = (0..16).map(|_| world.want_from_store(root(false))).collect();
    let mut in_flight = 0;
    let listings = serve(&mut world, 2_500, 1_000, |world| {
        tickets.push(world.want_from_store(root(false)));
        assert_eq!(world.jobs.len(), 0, "the next page is asked for when this one is in the namespace");
        in_flight = in_flight.max(world.core.queue.len() + world.core.proposals.len());
    });
    assert_eq!(listings, 3);
    assert!(in_flight <= 2, "{in_flight} entries of a load at once");
    // It saw the directory unloaded, and asks when it is loaded.
    tickets.push(world.want_from_store(root(false)));
    assert_eq!(world.jobs.len(), 0);
    for ticket in tickets {
        assert!(matches!(world.answers.get(&ticket), Some(Ok(_))), "{ticket:?}: {:?}", world.answers.get(&ticket));
    }
    assert_eq!(entries(&world), 2_500);
}

#[test]
fn who_wants_known_entries_compared_is_not_put_off_with_a_plain_load() {
    let mut world = World::new(2);
    let plain = world.want_from_store(root(false));
    let compare: Vec<Ticket> = (0..3).map(|_| world.want_from_store(root(true))).collect();
    let listings = serve(&mut world, 1_500, 1_000, |_| {});
    assert_eq!(listings, 4, "one load, and one more that compares");
    for ticket in compare.into_iter().chain([plain]) {
        assert!(matches!(world.answers.get(&ticket), Some(Ok(_))), "{:?}", world.answers.get(&ticket));
    }
}

/// How a load of ten pages is cut off after four.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    Crash,
    /// The store fails.
    Failure,
    /// Nobody waits any more.
    GivenUp,
}

fn cut(seed: u64, cut: Cut) -> World {
    let mut world = World::new(seed);
    let ticket = world.want_from_store(root(false));
    assert_eq!(serve_some(&mut world, 10_000, 1_000, 4, |_| {}), 4);
    assert_eq!(entries(&world), 4_000);
    match cut {
        Cut::Crash => {
            world.crash();
            world.settle();
        }
        Cut::Failure => {
            let (id, _) = world.jobs.pop().expect("the fifth listing");
            let away = JobError { kind: types::ErrorKind::Unavailable, message: "the store is away".into() };
            world.step(Event::JobDone(id, Err(away)));
            assert!(matches!(world.answers.get(&ticket), Some(Err(_))), "an error is not an empty directory");
        }
        Cut::GivenUp => {
            world.clock.0.fetch_add(6_000, Ordering::Relaxed);
            world.step(Event::Tick);
            let told = world.answers.get(&ticket);
            assert!(matches!(told, Some(Ok(Done::Load(_)))), "its pages come, so it may ask again: {told:?}");
            let (id, _) = world.jobs.pop().expect("the fifth listing");
            let items = (4_000..5_000).map(|n| found(&format!("f{n:06}"), false)).collect();
            let next = Some(ufs::PageToken::of("more"));
            world.step(Event::JobDone(id, Ok(JobOk::Page { items, next, skipped: ufs::Skipped::default() })));
            world.sync();
            assert_eq!((entries(&world), world.jobs.len()), (5_000, 0), "what was asked for is taken in, no more");
        }
    }
    world
}

#[test]
fn a_load_that_was_cut_off_goes_on_where_it_was() {
    for (seed, how) in [(31, Cut::Crash), (32, Cut::Failure), (33, Cut::GivenUp)] {
        let mut world = cut(seed, how);
        let known = entries(&world);
        let ticket = world.want_from_store(root(false));
        let listings = serve(&mut world, 10_000, 1_000, |_| {});
        assert_eq!(listings, 10 - known / 1_000, "{how:?}");
        assert!(matches!(world.answers.get(&ticket), Some(Ok(Done::Nothing))), "{:?}", world.answers.get(&ticket));
        assert_eq!(entries(&world), 10_000, "{how:?}");
        assert!(world.core.is_loaded(ROOT) && world.core.namespace().loads().next().is_none());
    }
}

#[test]
fn what_is_removed_while_a_load_is_cut_off_does_not_come_back() {
    let mut world = cut(34, Cut::Crash);
    // One that was listed, and one that was not yet.
    world.want(in_root("f007777"));
    world.answer(JobOk::Chain(vec![found("f007777", false)]));
    for name in ["f000003", "f007777"] {
        world.request(Op::Remove(Remove { path: in_root(name), recursive: false, goosefs_only: false }));
    }
    world.settle();
    world.want_from_store(root(false));
    // The store still shows both, as one that answers late does.
    serve(&mut world, 10_000, 1_000, |_| {});
    assert_eq!(entries(&world), 9_998);
    assert!(world.core.is_loaded(ROOT));
}

#[test]
fn a_load_that_was_cut_off_long_ago_begins_anew() {
    let mut world = cut(35, Cut::Crash);
    assert_eq!(world.core.namespace().loads().count(), 1);
    world.clock.0.fetch_add(121_000, Ordering::Relaxed);
    world.settle();
    assert_eq!(world.core.namespace().loads().count(), 0, "what removals it remembered is given back");
    world.want_from_store(root(false));
    assert_eq!(serve(&mut world, 10_000, 1_000, |_| {}), 10);
    assert!(world.core.is_loaded(ROOT));
}

#[test]
fn who_wants_everything_compared_does_not_go_on_with_half_of_it() {
    let mut world = cut(36, Cut::Crash);
    let ticket = world.want_from_store(root(true));
    assert_eq!(serve(&mut world, 10_000, 1_000, |_| {}), 10);
    assert!(matches!(world.answers.get(&ticket), Some(Ok(_))), "{:?}", world.answers.get(&ticket));
    assert!(world.core.is_loaded(ROOT));
}

#[test]
fn a_few_unknown_names_leave_a_load_that_was_cut_off_to_who_wants_all_of_it() {
    let mut world = cut(37, Cut::Crash);
    for name in ["f009001", "f009002", "f009003"] {
        world.want(in_root(name));
        world.answer(JobOk::Chain(vec![found(name, false)]));
    }
    world.want_from_store(root(false));
    assert_eq!(serve(&mut world, 10_000, 1_000, |_| {}), 6);
    assert_eq!(entries(&world), 10_000);
}

#[test]
fn a_failed_listing_fails_who_waits_and_is_forgotten() {
    let mut world = World::new(4);
    let first = world.want_from_store(root(false));
    world.sync();
    let (id, _) = world.jobs.pop().expect("a listing");
    let away = JobError { kind: types::ErrorKind::Unavailable, message: "the store is away".into() };
    world.step(Event::JobDone(id, Err(away)));
    assert!(matches!(world.answers.get(&first), Some(Err(_))), "an error is not an empty directory");
    let second = world.want_from_store(root(false));
    serve(&mut world, 3, 1_000, |_| {});
    assert!(matches!(world.answers.get(&second), Some(Ok(_))), "{:?}", world.answers.get(&second));
    assert_eq!(entries(&world), 3);
}

#[test]
fn a_row_of_a_container_that_is_gone_is_found_counted_and_dropped() {
    let mut world = World::new(5);
    let path = GfsPath::parse("/f").expect("a path");
    let op = CreateFile {
        path: path.clone(),
        block_bytes: 1,
        recursive: true,
        mode: Mode::new(0o644),
        write_type: Some(WriteType::MustCache),
    };
    world.request(Op::CreateFile(op));
    world.settle();
    let status = meta::status(&world.shared.state.latest(), &Caller::system(), &path).expect("readable").expect("made");
    let container = status.spot.inode.container;
    let worker = world.shared.locations.open(WorkerId(1));
    world.shared.locations.add(worker, container.block(0).expect("small"), 1);
    let rounds = |world: &mut World| {
        for _ in 0..3 {
            world.clock.0.fetch_add(21_000, Ordering::Relaxed);
            world.step(Event::Tick);
        }
    };
    rounds(&mut world);
    let drift = |world: &World| world.shared.metrics.location_drift.load(Ordering::Relaxed);
    assert_eq!((world.shared.locations.count(), drift(&world)), (1, 0));
    world.request(Op::Remove(Remove { path, recursive: false, goosefs_only: false }));
    world.settle();
    assert_eq!((world.shared.locations.count(), drift(&world)), (0, 0));
    world.shared.locations.add(worker, container.block(0).expect("small"), 1);
    rounds(&mut world);
    assert_eq!((world.shared.locations.count(), drift(&world)), (0, 1));
}
