//! What a store does for a worker that is gone, after what it wrote was removed.

use super::*;
use crate::uploads::LANDING;
use meta::{AnnounceStream, IntentKind};
use types::{ContainerId, MountId};

const ROOT_MOUNT: MountId = MountId(1);

fn file(at: &str) -> GfsPath {
    GfsPath::parse(at).expect("a path")
}

impl World {
    fn pass(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("short");
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
        self.step(Event::Tick);
        self.sync_all();
    }

    fn sync_all(&mut self) {
        while !self.appends.is_empty() {
            self.sync();
        }
    }

    fn ask(&mut self, op: Op) {
        self.request(op);
        self.sync_all();
    }

    /// A file whose stream to the store is open.
    fn create(&mut self, at: &str) -> ContainerId {
        self.ask(Op::CreateFile(CreateFile {
            path: file(at),
            block_bytes: 1 << 20,
            recursive: true,
            mode: Mode::new(0o644),
            write_type: Some(WriteType::Through),
        }));
        let found = meta::status(&self.shared.state.latest(), &Caller::system(), &file(at)).expect("readable");
        found.expect("just made").spot.inode.container
    }

    /// A worker says that an upload may land from now on.
    fn hear(&self, container: ContainerId, key: &str) {
        self.shared.uploads.lock().heard(container, ROOT_MOUNT, key, self.clock.monotonic());
    }

    /// A worker says that it is about to complete its upload, the first one below that directory.
    fn announce(&mut self, container: ContainerId, key: &str) {
        self.hear(container, key);
        self.ask(Op::AnnounceStream(AnnounceStream { container }));
    }

    fn remove(&mut self, at: &str) {
        self.ask(Op::Remove(Remove { path: file(at), recursive: true, goosefs_only: false }));
    }

    fn removals(&self) -> usize {
        self.acknowledged.values().filter(|op| matches!(op, Op::Remove(_))).count()
    }

    /// The open intent, if it is there to remove once more.
    fn held(&self) -> Option<String> {
        self.core.namespace().intents().find_map(|intent| match &intent.kind {
            IntentKind::DeleteAgain { key, .. } => Some(key.clone()),
            _ => None,
        })
    }
}

/// One that has led for long.
fn leader() -> World {
    let mut world = World::new(11);
    world.pass(LANDING);
    world
}

#[test]
fn a_file_goes_once_more_when_nothing_can_land_any_more() {
    let mut world = leader();
    let container = world.create("/d/f");
    world.announce(container, "d/f");
    world.remove("/d/f");
    assert!(matches!(&world.jobs[..], [(_, Job::DeleteFile { key, .. })] if key == "d/f"), "{:?}", world.jobs);
    world.answer(JobOk::Done(None));
    assert_eq!((world.removals(), world.held().as_deref()), (1, Some("d/f")), "answered, and not over");
    world.pass(LANDING - Duration::from_millis(100));
    assert!(world.jobs.is_empty(), "{:?}", world.jobs);
    world.pass(Duration::from_millis(100));
    let again = Job::DeleteFile { mount: ROOT_MOUNT, key: "d/f".into(), fingerprint: None };
    assert!(matches!(&world.jobs[..], [(_, job)] if *job == again), "{:?}", world.jobs);
    world.answer(JobOk::Done(None));
    assert_eq!(world.core.namespace().intents().count(), 0);
}

#[test]
fn a_worker_that_is_still_at_it_is_waited_for() {
    let mut world = leader();
    let container = world.create("/d/f");
    world.announce(container, "d/f");
    world.remove("/d");
    world.answer(JobOk::Done(None));
    assert_eq!(world.held().as_deref(), Some("d/"));
    world.pass(LANDING);
    world.hear(container, "d/f");
    world.answer(JobOk::Done(None));
    assert_eq!(world.held().as_deref(), Some("d/"), "held for as long again");
    world.pass(LANDING);
    world.answer(JobOk::Done(None));
    assert_eq!(world.held(), None);
}

#[test]
fn what_no_upload_can_reach_is_removed_once() {
    let mut world = leader();
    world.create("/d/never-completed");
    world.remove("/d/never-completed");
    world.answer(JobOk::Done(None));
    let container = world.create("/d/landed");
    world.announce(container, "d/landed");
    world.shared.uploads.lock().landed(container);
    world.remove("/d");
    world.answer(JobOk::Done(None));
    assert_eq!((world.removals(), world.held()), (2, None));
}

#[test]
fn a_new_leader_does_not_know_what_may_land() {
    let mut world = leader();
    world.create("/d/f");
    world.crash();
    world.sync_all();
    world.remove("/d/f");
    world.answer(JobOk::Done(None));
    assert_eq!(world.held().as_deref(), Some("d/f"));
    // The time it was held before a crash counts: a master that dies often still comes to an end.
    world.pass(LANDING / 2);
    world.create("/noted-how-late-it-is");
    world.crash();
    world.sync_all();
    world.pass(LANDING / 2);
    assert!(matches!(&world.jobs[..], [(_, Job::DeleteFile { .. })]), "{:?}", world.jobs);
    world.answer(JobOk::Done(None));
    assert_eq!(world.held(), None);
}
