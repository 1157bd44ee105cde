//! Loads of whole directories: how often the store is asked, what is held meanwhile, what a crash leaves.

use super::*;
use meta::ROOT;
use types::MountId;

fn root(compare: bool) -> Want {
    Want::Directory { inode: ROOT, mount: MountId(1), key: String::new(), compare }
}

/// Answers every listing with pages of `page` of `files` names, looks at the core after each step, and counts listings.
fn serve(world: &mut World, files: usize, page: usize, mut look: impl FnMut(&mut World)) -> usize {
    let mut listings = 0;
    let mut at = 0;
    for _ in 0..200 {
        world.sync();
        for (id, job) in std::mem::take(&mut world.jobs) {
            let Job::List { after, limit, .. } = &job else { panic!("{job:?}") };
            if after.is_none() {
                at = 0;
            }
            listings += 1;
            let items: Vec<Found> =
                (at..files).take(page.min(*limit)).map(|n| found(&format!("f{n:06}"), false)).collect();
            at += items.len();
            let next = (at < files).then(|| ufs::PageToken::of("more"));
            world.step(Event::JobDone(id, Ok(JobOk::Page { items, next, skipped: ufs::Skipped::default() })));
            look(world);
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

#[test]
fn a_directory_whose_load_a_crash_cut_short_can_be_loaded_again() {
    let mut world = World::new(3);
    world.want_from_store(root(false));
    let mut pages = 0;
    while pages < 2 {
        world.sync();
        let jobs = std::mem::take(&mut world.jobs);
        for (id, _) in jobs {
            let items = vec![found(&format!("f{pages:06}"), false)];
            pages += 1;
            world.step(Event::JobDone(
                id,
                Ok(JobOk::Page { items, next: Some(ufs::PageToken::of("more")), skipped: ufs::Skipped::default() }),
            ));
        }
    }
    world.sync();
    world.crash();
    world.settle();
    let ticket = world.want_from_store(root(false));
    let listings = serve(&mut world, 2_500, 1_000, |_| {});
    assert_eq!(listings, 3);
    assert!(matches!(world.answers.get(&ticket), Some(Ok(_))), "{:?}", world.answers.get(&ticket));
    assert_eq!(entries(&world), 2_500);
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
