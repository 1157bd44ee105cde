//! A whole master in process: real log, database and ports. Files come through the driver's handle, a worker's reports
//! over the wire.

mod damage;
mod fuzz;

use super::*;
use meta::{CompleteFile, CreateFile, Done, Op, Remove};
use proto::internal::worker_master_client::WorkerMasterClient;
use proto::internal::{
    BlockReport, HeartbeatRequest, HeartbeatResponse, HelloRequest, HelloResponse, ProveRequest, RegisterBlocks,
    RegisterHead, RegisterRequest, register_request,
};
use rpc::{Side, SystemClock, SystemEntropy, Transcript};
use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tonic::Request;
use tonic::metadata::{Binary, MetadataValue};
use tonic::transport::Channel;
use types::{BlockId, ContainerId, GfsPath, Principal, SessionEpoch, WorkerId, WriteType};

/// Files that stand there all the time, and those of one directory.
const STANDING: usize = 10_000;
const PER_DIRECTORY: usize = 1_000;
/// Of so many files one is completed; the others are still being written when they go.
const COMPLETED: usize = 10;
/// Requests in flight.
const IN_FLIGHT: usize = 1_024;
/// Blocks in one report.
const REPORT: usize = 10_000;
const BLOCK_BYTES: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(3600);

/// How many files come and go each time: a million at night, when the random tests repeat often.
fn files() -> usize {
    usize::try_from(testkit::rounds(20) * 5_000).expect("64 bits").clamp(10_000, 1_000_000)
}

impl Master {
    /// The way to its core, for tests of what is built on it.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

fn config(dir: &Path) -> MasterConfig {
    MasterConfig {
        metastore: Metastore::Rocks,
        backup_dir: "/goosefs_backups".to_owned(),
        segment_bytes: 16 << 20,
        checkpoint_entries: 100_000,
        cache: store::CacheConfig::of_bytes(64 << 20),
        memory_budget_bytes: 256 << 20,
        request_timeout: Duration::from_secs(60),
        worker_timeout: Duration::from_secs(3600),
        ..MasterConfig::for_tests().below(dir)
    }
}

async fn start(config: &MasterConfig) -> Master {
    std::fs::create_dir_all(&config.root_ufs).expect("a root store");
    crate::format(config, &SystemEntropy, false).expect("empty directories");
    Master::start(config.clone(), Arc::new(SystemClock), Arc::new(SystemEntropy)).await.expect("a fresh master")
}

/// A worker that is nothing but its reports.
struct Reporter {
    client: WorkerMasterClient<Channel>,
    session: MetadataValue<Binary>,
    id: WorkerId,
    epoch: SessionEpoch,
    sequence: u64,
    /// What it was told to free.
    freed: BTreeSet<ContainerId>,
}

/// A worker's first word, and the challenge in it.
fn hello() -> (HelloRequest, rpc::Challenge) {
    let challenge = Transcript::challenge();
    let version = crate::wire::worker_master::VERSION;
    (HelloRequest { version, challenge: challenge.to_vec().into(), ..HelloRequest::default() }, challenge)
}

/// What a worker proves to the master that answered its hello.
fn transcript(challenge: rpc::Challenge, answer: &HelloResponse) -> Transcript {
    Transcript {
        versions: (crate::wire::worker_master::VERSION, answer.version),
        cluster: answer.cluster.to_vec(),
        incarnation: answer.incarnation,
        worker: challenge,
        master: Transcript::read_challenge(&answer.challenge).expect("a challenge"),
    }
}

impl Reporter {
    async fn join(master: &Master, key_file: &Path, blocks: Vec<BlockReport>) -> Reporter {
        let address = format!("http://{}", master.internal_addr());
        let mut client = WorkerMasterClient::connect(address).await.expect("the internal port");
        let token = ClusterKey::load(key_file).expect("the cluster's key").token();
        let (hello, challenge) = hello();
        let answer = client.hello(hello).await.expect("a hello").into_inner();
        let proof = token.prove(Side::Worker, &transcript(challenge, &answer)).to_vec().into();
        client.prove(ProveRequest { session: answer.session.clone(), proof }).await.expect("the same key");
        let session = MetadataValue::from_bytes(&answer.session);
        let head = RegisterHead {
            identity: vec![7; 16].into(),
            host: "worker".into(),
            rpc_port: 1,
            web_port: 2,
            ..RegisterHead::default()
        };
        let mut parts = vec![RegisterRequest { part: Some(register_request::Part::Head(head)) }];
        parts.extend(blocks.chunks(REPORT).map(|blocks| RegisterRequest {
            part: Some(register_request::Part::Blocks(RegisterBlocks { blocks: blocks.to_vec() })),
        }));
        let mut request = Request::new(tokio_stream::iter(parts));
        request.metadata_mut().insert_bin(crate::wire::worker_master::SESSION, session.clone());
        let answer = client.register(request).await.expect("a registration").into_inner();
        let (id, epoch) = (WorkerId(answer.worker), SessionEpoch(answer.epoch));
        Reporter { client, session, id, epoch, sequence: 0, freed: BTreeSet::new() }
    }

    /// One heartbeat. What it says may be long out of date.
    async fn beat(&mut self, added: &[BlockReport]) -> HeartbeatResponse {
        self.sequence += 1;
        let (worker, epoch, sequence) = (self.id.0, self.epoch.0, self.sequence);
        let beat = HeartbeatRequest { worker, epoch, sequence, added: added.to_vec(), ..HeartbeatRequest::default() };
        let mut request = Request::new(beat);
        request.metadata_mut().insert_bin(crate::wire::worker_master::SESSION, self.session.clone());
        let answer = self.client.heartbeat(request).await.expect("a heartbeat").into_inner();
        assert!(!answer.register, "its session is in force");
        self.freed.extend(answer.free.iter().copied().map(ContainerId));
        answer
    }

    async fn report(&mut self, blocks: &[BlockReport]) {
        for blocks in blocks.chunks(REPORT) {
            self.beat(blocks).await;
        }
    }
}

async fn submit(handle: &Handle, op: Op) -> Done {
    handle.submit(&Principal::system(), None, op).await.expect("nothing is in its way")
}

/// Makes files of one block below `top` and returns what their worker reports.
async fn make(master: &Master, top: &str, worker: Option<WorkerId>, count: usize) -> Vec<BlockReport> {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..IN_FLIGHT.min(count) {
        let (handle, top) = (master.handle.clone(), top.to_owned());
        tasks.spawn(async move {
            let mut made = Vec::new();
            for n in (lane..count).step_by(IN_FLIGHT) {
                let path = GfsPath::parse(&format!("{top}/{}/{n}", n / PER_DIRECTORY)).expect("a path");
                let op = CreateFile {
                    path: path.clone(),
                    block_bytes: BLOCK_BYTES,
                    recursive: true,
                    mode: Mode::new(0o644),
                    write_type: Some(WriteType::MustCache),
                };
                let done = submit(&handle, Op::CreateFile(op)).await;
                let Done::Inode(inode) = done else { panic!("{done:?}") };
                let status =
                    handle.read(|read| meta::by_inode(read, inode)).await.expect("it leads").expect("just made");
                let container = status.spot.inode.container;
                let block = container.block(0).expect("a small index");
                if n.is_multiple_of(COMPLETED) {
                    let op = CompleteFile {
                        path,
                        file: Some(container.file()),
                        length: 1,
                        checksum: None,
                        locations: worker.map(|worker| (block, vec![worker])).into_iter().collect(),
                        persist_after_ms: None,
                        force_persisted: false,
                    };
                    submit(&handle, Op::CompleteFile(op)).await;
                }
                made.push(report(block));
            }
            made
        });
    }
    let mut all: Vec<BlockReport> = tasks.join_all().await.into_iter().flatten().collect();
    all.sort_by_key(|report| report.block);
    all
}

fn report(block: BlockId) -> BlockReport {
    BlockReport { block: block.to_wire().cast_unsigned(), resident_bytes: 1, unpersisted: true }
}

async fn remove(master: &Master, path: String) {
    let path = GfsPath::parse(&path).expect("a path");
    submit(&master.handle, Op::Remove(Remove { path, recursive: true, goosefs_only: false })).await;
}

#[test]
fn files_that_come_and_go_leave_no_block_location_behind() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(dir.path());
        let master = start(&config).await;
        let shared = master.handle.shared.clone();
        let standing = make(&master, "/standing", None, STANDING).await;
        let mut worker = Reporter::join(&master, &config.key_file, standing).await;
        let start_bytes = shared.locations.memory_bytes();
        assert_eq!(shared.locations.count(), STANDING);
        let files = files();
        for round in 0..3 {
            let began = Instant::now();
            let top = format!("/churn-{round}");
            let made = make(&master, &top, Some(worker.id), files).await;
            worker.report(&made).await;
            assert_eq!(shared.locations.count(), STANDING + files, "every block is reported");

            // While the files go, the worker goes on telling of their blocks, as one does that hears of it late.
            for (directory, blocks) in made.chunks(PER_DIRECTORY).enumerate() {
                tokio::join!(remove(&master, format!("{top}/{directory}")), worker.beat(blocks));
            }
            remove(&master, top).await;
            let gone: BTreeSet<ContainerId> =
                made.iter().filter_map(|r| BlockId::from_wire(r.block.cast_signed())).map(BlockId::container).collect();
            while !gone.is_subset(&worker.freed) {
                worker.beat(&[]).await;
                assert!(began.elapsed() < PATIENCE, "the worker is told to free {} of {files}", worker.freed.len());
            }
            // A heartbeat made before all that, delivered after it.
            assert_eq!(shared.locations.count(), STANDING, "every file is gone");
            worker.report(&made).await;
            while !worker.beat(&[]).await.free.is_empty() {}

            shared.locations.check_invariants();
            assert_eq!(shared.locations.count(), STANDING, "no row came back");
            let bytes = shared.locations.memory_bytes();
            let drift = bytes.abs_diff(start_bytes) * 100;
            assert!(drift <= start_bytes * 2, "round {round}: {start_bytes} bytes before, {bytes} after");
        }
        let figures = crate::metrics::values(&shared);
        assert_eq!(figures["Master.BlockLocationDrift"], 0.0);
        master.stop(Duration::from_secs(10)).await.expect("a clean stop");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_caller_needs_no_other_thread() {
    // On memory: a slow disk is left to the log's thread.
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let master = start(&config(dir.path())).await;
    let create = |n: usize| {
        let path = GfsPath::parse(&format!("/alone-{n}")).expect("a path");
        let op = meta::CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) };
        (Principal::system(), Op::CreateDirectory(op))
    };
    // It may find the core being driven by a tick; it asks again.
    let mut directories = 0..100_000;
    loop {
        let (who, op) =
            create(directories.next().expect("a core with nothing else to do answers a lone caller at once"));
        let mut asked = std::pin::pin!(master.handle.submit(&who, None, op));
        if let Poll::Ready(done) = asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            done.expect("a directory");
            break;
        }
        asked.await.expect("a directory");
    }

    let handle = master.handle.clone();
    master.stop(Duration::from_secs(10)).await.expect("a clean stop");
    let (who, op) = create(directories.next().expect("room"));
    let refused = handle.submit(&who, None, op).await.expect_err("a master that has stopped");
    assert!(matches!(refused, Error::Stopping), "{refused}");
}
