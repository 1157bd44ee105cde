//! Files that are uploaded by one worker: whom it is told to, and how often.

use super::*;
use meta::{CompleteFile, FinishPersist};
use proto::internal::PersistTask;
use types::{Attempt, ContainerId, SessionEpoch, WorkerId};

const EPOCH: SessionEpoch = SessionEpoch(1);
const WORKER: WorkerId = WorkerId(1);

/// A worker, and an empty file that it was told to upload.
struct Upload {
    world: World,
    container: ContainerId,
    beats: u64,
}

impl Upload {
    fn new() -> Upload {
        let mut world = World::new(61);
        let record = meta::WorkerRecord {
            id: WORKER,
            host: "worker".to_owned(),
            rpc_port: 1,
            web_port: 2,
            epoch: EPOCH,
            identity: 1,
        };
        let (rows, now) = (world.shared.locations.open(WORKER), world.shared.clock.monotonic());
        assert!(world.shared.registry.lock().begin(&record, rows, 0, now).is_none());
        assert!(world.shared.registry.lock().finish(WORKER, EPOCH, now));
        let path = GfsPath::parse("/f").expect("a path");
        world.request(Op::CreateFile(CreateFile {
            path: path.clone(),
            block_bytes: 1 << 20,
            recursive: false,
            mode: Mode::new(0o644),
            write_type: Some(WriteType::AsyncThrough),
        }));
        world.settle();
        let status = meta::status(&world.shared.state.latest(), &Caller::system(), &path);
        let container = status.expect("readable").expect("made").spot.inode.container;
        world.request(Op::CompleteFile(CompleteFile {
            path,
            file: Some(container.file()),
            length: 0,
            checksum: None,
            locations: Vec::new(),
            persist_after_ms: Some(0),
            force_persisted: false,
        }));
        world.settle();
        Upload { world, container, beats: 0 }
    }

    /// What the worker is told while this many seconds pass, a heartbeat each.
    fn told(&mut self, seconds: u64) -> Vec<PersistTask> {
        let mut told = Vec::new();
        for _ in 0..seconds {
            self.world.clock.0.fetch_add(1_000, Ordering::Relaxed);
            self.world.step(Event::Tick);
            self.world.sync();
            self.beats += 1;
            let mut registry = self.world.shared.registry.lock();
            registry.beat(WORKER, EPOCH, self.beats, self.world.shared.clock.monotonic());
            told.extend(registry.commands(WORKER, EPOCH).persist);
        }
        told
    }
}

#[test]
fn an_upload_of_which_nothing_is_heard_is_told_again_until_it_has_ended() {
    let mut upload = Upload::new();
    let first = upload.told(9);
    let [task] = &first[..] else { panic!("told {first:?}") };
    assert_eq!((task.container, task.attempt), (upload.container.0, 1));
    assert_eq!(upload.told(20), [task.clone(), task.clone()], "the same attempt, a worker that is at it goes on");
    let (container, attempt) = (upload.container, Attempt(1));
    upload.world.request(Op::GrantPersist(meta::GrantPersist { container, attempt }));
    upload.world.settle();
    let finish = FinishPersist { container, attempt, fingerprint: None, length: 0 };
    upload.world.request(Op::FinishPersist(finish));
    upload.world.settle();
    assert_eq!(upload.told(30), []);
}
