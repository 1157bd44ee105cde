//! What a client and a worker may send: their calls with messages mutated from sound ones, to a whole master.

use super::*;
use crate::wire::batches::Batches;
use prost::Message;
use proto::admin::batch_item::Change;
use proto::admin::batches_server::Batches as _;
use proto::admin::{BatchCreateFile, BatchItem, BatchRequest, OperationId};
use proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientService;
use proto::grpc::file::*;
use proto::internal::worker_master_server::WorkerMaster;
use proto::internal::{
    CloseStreamRequest, EndPersistRequest, GrantPersistRequest, MountRequest, ReportChangedRequest, ResolveRequest,
};
use std::cell::RefCell;
use tonic::Status;

/// The call's number, then its message.
fn call(number: u8, message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![number];
    message.encode(&mut bytes).expect("a vector grows");
    bytes
}

/// One item of each kind.
fn batch() -> BatchRequest {
    let item = |path: &str, change| BatchItem { path: path.into(), change: Some(change) };
    let create = BatchCreateFile { block_bytes: 64 << 20, recursive: true, mode: 0o644, write_type: 1 };
    let items = vec![
        item("/a/b", Change::CreateFile(create)),
        item("/a/b", Change::CompleteFile(Default::default())),
        item("/d", Change::CreateDirectory(Default::default())),
        item("/d", Change::Remove(Default::default())),
    ];
    BatchRequest { operation: Some(OperationId { high: 1, low: 2 }), items }
}

fn samples() -> Vec<Vec<u8>> {
    let path = || Some("/a/b".to_owned());
    let create = CreateFilePOptions { recursive: Some(true), block_size_bytes: Some(64 << 20), ..Default::default() };
    let complete = CompleteFilePOptions { ufs_length: Some(5), ..Default::default() };
    let directory = CreateDirectoryPOptions { recursive: Some(true), allow_exists: Some(true), ..Default::default() };
    let remove = DeletePOptions { recursive: Some(true), unchecked: Some(true), ..Default::default() };
    let attributes = SetAttributePOptions { owner: Some("ann".into()), recursive: Some(true), ..Default::default() };
    vec![
        call(0, &GetStatusPRequest { path: path(), ..Default::default() }),
        call(1, &ListStatusPRequest { path: Some("/".into()), ..Default::default() }),
        call(2, &CreateFilePRequest { path: path(), options: Some(create) }),
        call(3, &CompleteFilePRequest { path: path(), options: Some(complete), inode_id: None }),
        call(4, &CreateDirectoryPRequest { path: Some("/d/e".into()), options: Some(directory) }),
        call(5, &DeletePRequest { path: path(), options: Some(remove) }),
        call(6, &RenamePRequest { path: path(), dst_path: Some("/d/c".into()), options: None }),
        call(7, &SetAttributePRequest { path: path(), options: Some(attributes) }),
        call(8, &CommitLocationPRequest { path: path(), ..Default::default() }),
        call(9, &GetFilePathPRequest { file_id: Some(5 << 24 | 0xFF_FFFF) }),
        call(10, &CheckAccessPRequest { path: path(), ..Default::default() }),
        call(11, &RemoveBlocksPRequest::default()),
        call(12, &GetStatusBatchPRequest::default()),
        call(13, &FreePRequest { path: path(), ..Default::default() }),
        call(14, &batch()),
    ]
}

/// A client's request with this message. Bytes that are none are refused before any of our code sees them.
fn asked<M: Message + Default>(bytes: &[u8]) -> Result<Request<M>, Status> {
    let message = M::decode(bytes).map_err(|_| Status::invalid_argument("no message"))?;
    let mut request = Request::new(message);
    request.extensions_mut().insert(Arc::new(Principal::system()));
    Ok(request)
}

/// Decodes the message and makes the call.
async fn make_call(fs: &FileSystem, bytes: &[u8]) -> Result<(), Status> {
    let Some((number, body)) = bytes.split_first() else { return Ok(()) };
    match number % 15 {
        0 => fs.get_status(asked(body)?).await.map(drop),
        1 => fs.list_status(asked(body)?).await.map(drop),
        2 => fs.create_file(asked(body)?).await.map(drop),
        3 => fs.complete_file(asked(body)?).await.map(drop),
        4 => fs.create_directory(asked(body)?).await.map(drop),
        5 => fs.remove(asked(body)?).await.map(drop),
        6 => fs.rename(asked(body)?).await.map(drop),
        7 => fs.set_attribute(asked(body)?).await.map(drop),
        8 => fs.commit_location(asked(body)?).await.map(drop),
        9 => fs.get_file_path(asked(body)?).await.map(drop),
        10 => fs.check_access(asked(body)?).await.map(drop),
        11 => fs.remove_blocks(asked(body)?).await.map(drop),
        12 => fs.get_status_batch(asked(body)?).await.map(drop),
        14 => Batches(fs.clone()).apply(asked(body)?).await.map(drop),
        _ => fs.free(asked(body)?).await.map(drop),
    }
}

/// A worker's way to a master, proven.
struct Proven {
    gate: WorkerGate,
    session: MetadataValue<Binary>,
}

impl Proven {
    async fn new(master: &Master, key: &Arc<ClusterKey>) -> Proven {
        let shared = master.handle.shared.clone();
        let (stores, groups) = (Stores::new(shared.clone(), key.clone()), Groups::system(shared.clock.clone()));
        let gate = WorkerGate::new(master.handle.clone(), Arc::new(stores), key, groups);
        let (hello, challenge) = hello();
        let answer = gate.hello(Request::new(hello)).await.expect("a hello").into_inner();
        let proof = key.token().prove(Side::Worker, &transcript(challenge, &answer)).to_vec().into();
        gate.prove(Request::new(ProveRequest { session: answer.session.clone(), proof })).await.expect("the same key");
        Proven { gate, session: MetadataValue::from_bytes(&answer.session) }
    }

    fn asked<M: Message + Default>(&self, bytes: &[u8]) -> Result<Request<M>, Status> {
        let mut request = asked(bytes)?;
        request.metadata_mut().insert_bin(crate::wire::worker_master::SESSION, self.session.clone());
        Ok(request)
    }

    async fn make_call(&self, bytes: &[u8]) -> Result<(), Status> {
        let Some((number, body)) = bytes.split_first() else { return Ok(()) };
        match number % 8 {
            0 => self.gate.heartbeat(self.asked(body)?).await.map(drop),
            1 => self.gate.resolve(self.asked(body)?).await.map(drop),
            2 => self.gate.mount(self.asked(body)?).await.map(drop),
            3 => self.gate.close_stream(self.asked(body)?).await.map(drop),
            4 => self.gate.grant_persist(self.asked(body)?).await.map(drop),
            5 => self.gate.end_persist(self.asked(body)?).await.map(drop),
            6 => self.gate.report_changed(self.asked(body)?).await.map(drop),
            _ => self.gate.prove(self.asked(body)?).await.map(drop),
        }
    }
}

fn worker_samples(worker: &Reporter) -> Vec<Vec<u8>> {
    let (worker, epoch) = (worker.id.0, worker.epoch.0);
    let added = vec![report(ContainerId(5).block(0).expect("a small index"))];
    let fingerprint = || "etag:9b2c".to_owned();
    vec![
        call(0, &HeartbeatRequest { worker, epoch, sequence: 1, added, ..HeartbeatRequest::default() }),
        call(1, &ResolveRequest { container: 5, user: "ann".into(), ..ResolveRequest::default() }),
        call(1, &ResolveRequest { mount: 1, key: "a/b".into(), ..ResolveRequest::default() }),
        call(2, &MountRequest { mount: 1 }),
        call(3, &CloseStreamRequest { container: 5, fingerprint: fingerprint(), length: 7 }),
        call(4, &GrantPersistRequest { container: 5, attempt: 1 }),
        call(5, &EndPersistRequest { container: 5, attempt: 1, fingerprint: fingerprint(), ..Default::default() }),
        call(6, &ReportChangedRequest { container: 5, fingerprint: fingerprint() }),
        call(7, &ProveRequest::default()),
    ]
}

/// Runs a target against a whole master, which must be well afterwards.
fn against_a_master(
    name: &str,
    samples: impl FnOnce(&Master, &MasterConfig) -> Vec<Vec<u8>>,
    call: impl Fn(&Master, &Arc<ClusterKey>, &[u8]) -> Result<(), Status>,
) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let config =
        MasterConfig { metastore: Metastore::Heap, request_timeout: Duration::from_secs(10), ..config(dir.path()) };
    let master = runtime.block_on(start(&config));
    let key = Arc::new(ClusterKey::load(&config.key_file).expect("the cluster's key"));
    let codes = RefCell::new(BTreeSet::new());
    testkit::fuzz::fuzz(name, &samples(&master, &config), |bytes| {
        if let Err(status) = call(&master, &key, bytes) {
            let code = status.code();
            assert!(!matches!(code, tonic::Code::Internal | tonic::Code::Unknown), "{status}");
            codes.borrow_mut().insert(i32::from(code));
        }
    });
    assert!(codes.borrow().contains(&i32::from(tonic::Code::InvalidArgument)));
    assert_eq!(*master.fatal.borrow(), None);
    runtime.block_on(master.stop(Duration::from_secs(10))).expect("a clean stop");
}

#[test]
fn fuzz_calls_of_a_client() {
    against_a_master(
        "calls_of_a_client",
        |_, _| samples(),
        |master, key, bytes| {
            let (handle, checks) = (master.handle.clone(), Arc::new(Checks::default()));
            let fs = FileSystem { handle, checks, key: key.clone() };
            tokio::runtime::Handle::current().block_on(make_call(&fs, bytes))
        },
    );
}

#[test]
fn fuzz_calls_of_a_worker() {
    let proven = std::cell::OnceCell::new();
    against_a_master(
        "calls_of_a_worker",
        |master, config| {
            let runtime = tokio::runtime::Handle::current();
            let worker = runtime.block_on(Reporter::join(master, &config.key_file, Vec::new()));
            worker_samples(&worker)
        },
        |master, key, bytes| {
            let runtime = tokio::runtime::Handle::current();
            let proven = proven.get_or_init(|| runtime.block_on(Proven::new(master, key)));
            runtime.block_on(proven.make_call(bytes))
        },
    );
}
