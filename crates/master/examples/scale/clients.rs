//! Who calls a running master: an official client's requests, and workers that are nothing but their reports.

use master::Master;
use proto::admin::CheckpointNowRequest;
use proto::admin::admin_client::AdminClient;
use proto::grpc::file::file_system_master_client_service_client::FileSystemMasterClientServiceClient;
use proto::grpc::file::{
    CreateFilePOptions, CreateFilePRequest, DeletePOptions, DeletePRequest, GetStatusPRequest, ListStatusPRequest,
};
use proto::grpc::metric::GetMetricsPOptions;
use proto::grpc::metric::metrics_master_client_service_client::MetricsMasterClientServiceClient;
use proto::internal::worker_master_client::WorkerMasterClient;
use proto::internal::{
    BlockReport, HeartbeatRequest, HeartbeatResponse, HelloRequest, ProveRequest, RegisterBlocks, RegisterHead,
    RegisterRequest, register_request,
};
use rpc::{ClusterKey, Side, Transcript};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tonic::Request;
use tonic::metadata::{Binary, MetadataValue};
use tonic::transport::Channel;
use types::{ContainerId, GfsPath};

/// The version of the internal protocol, and the metadata that names a session.
const VERSION: u32 = 1;
const SESSION: &str = "goosefs-session-bin";
/// Blocks in one message of a registration, as our worker sends them.
const REGISTER_CHUNK: usize = 10_000;
const MESSAGE_BYTES: usize = 64 << 20;

async fn connect(address: SocketAddr) -> Channel {
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
    channel.connect().await.expect("the master listens")
}

/// One connection of an official client.
#[derive(Clone)]
pub struct Client {
    files: FileSystemMasterClientServiceClient<Channel>,
    metrics: MetricsMasterClientServiceClient<Channel>,
    admin: AdminClient<Channel>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        let channel = connect(address).await;
        Client {
            files: FileSystemMasterClientServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES),
            metrics: MetricsMasterClientServiceClient::new(channel.clone()),
            admin: AdminClient::new(channel),
        }
    }

    pub async fn status(&mut self, path: &GfsPath) {
        let request = GetStatusPRequest { path: Some(path.as_str().to_owned()), ..GetStatusPRequest::default() };
        self.files.get_status(request).await.expect("it is there");
    }

    pub async fn create(&mut self, path: &str) {
        let options = CreateFilePOptions { recursive: Some(true), ..CreateFilePOptions::default() };
        let request = CreateFilePRequest { path: Some(path.to_owned()), options: Some(options) };
        self.files.create_file(request).await.expect("a new name");
    }

    pub async fn remove_tree(&mut self, path: &str) {
        let options = DeletePOptions { recursive: Some(true), ..DeletePOptions::default() };
        let request = DeletePRequest { path: Some(path.to_owned()), options: Some(options) };
        self.files.remove(request).await.expect("it is there");
    }

    /// How long the first message of a listing takes; the rest is given up.
    pub async fn first_page(&mut self, path: &str) -> Duration {
        let began = Instant::now();
        let request = ListStatusPRequest { path: Some(path.to_owned()), ..ListStatusPRequest::default() };
        let mut listing = self.files.list_status(request).await.expect("it is there").into_inner();
        let first = listing.message().await.expect("a page").expect("it has children");
        assert!(!first.file_infos.is_empty());
        began.elapsed()
    }

    /// Has the master flush its database and cut its log.
    pub async fn checkpoint(&mut self) {
        self.admin.checkpoint_now(CheckpointNowRequest {}).await.expect("a checkpoint");
    }

    pub async fn metric(&mut self, name: &str) -> u64 {
        let all = self.metrics.get_metrics(GetMetricsPOptions {}).await.expect("metrics").into_inner().metrics;
        let value = all.get(name).and_then(|metric| metric.double_value).unwrap_or_else(|| panic!("no metric {name}"));
        whole(value)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole, and exact up to 2^53")]
fn whole(value: f64) -> u64 {
    value as u64
}

/// A worker that is nothing but its reports.
pub struct Reporter {
    client: WorkerMasterClient<Channel>,
    session: MetadataValue<Binary>,
    number: u64,
    id: u64,
    epoch: u64,
    sequence: u64,
}

impl Reporter {
    /// Says hello and proves the cluster's key. `number` tells its disks and its address from others.
    pub async fn meet(master: &Master, key_file: &Path, number: u64) -> Reporter {
        let mut client = WorkerMasterClient::new(connect(master.internal_addr()).await);
        let token = ClusterKey::load(key_file).expect("the cluster's key").token();
        let challenge = Transcript::challenge();
        let hello = HelloRequest { version: VERSION, challenge: challenge.to_vec().into(), ..HelloRequest::default() };
        let answer = client.hello(hello).await.expect("a hello").into_inner();
        let transcript = Transcript {
            versions: (VERSION, answer.version),
            cluster: answer.cluster.to_vec(),
            incarnation: answer.incarnation,
            worker: challenge,
            master: Transcript::read_challenge(&answer.challenge).expect("a challenge"),
        };
        let proof = token.prove(Side::Worker, &transcript).to_vec().into();
        client.prove(ProveRequest { session: answer.session.clone(), proof }).await.expect("the same key");
        let session = MetadataValue::from_bytes(&answer.session);
        Reporter { client, session, number, id: 0, epoch: 0, sequence: 0 }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert_bin(SESSION, self.session.clone());
        request
    }

    /// Registers anew, with these blocks.
    pub async fn register(&mut self, containers: &[ContainerId]) {
        let head = RegisterHead {
            worker: self.id,
            identity: u128::from(self.number).to_be_bytes().to_vec().into(),
            host: format!("worker-{}", self.number),
            rpc_port: 1,
            web_port: 2,
            ..RegisterHead::default()
        };
        let head = RegisterRequest { part: Some(register_request::Part::Head(head)) };
        let chunks: Vec<Vec<BlockReport>> =
            containers.chunks(REGISTER_CHUNK).map(|chunk| chunk.iter().copied().map(report).collect()).collect();
        let blocks = chunks
            .into_iter()
            .map(|blocks| RegisterRequest { part: Some(register_request::Part::Blocks(RegisterBlocks { blocks })) });
        let parts = tokio_stream::iter(std::iter::once(head).chain(blocks));
        let request = self.request(parts);
        let answer = self.client.register(request).await.expect("a registration").into_inner();
        (self.id, self.epoch, self.sequence) = (answer.worker, answer.epoch, 0);
    }

    /// The next heartbeat.
    pub async fn beat(&mut self, added: &[ContainerId], removed: &[ContainerId]) -> HeartbeatResponse {
        self.sequence += 1;
        self.beat_as(self.sequence, added, removed).await
    }

    /// A heartbeat of any number: repeated, or out of order.
    pub async fn beat_as(
        &mut self,
        sequence: u64,
        added: &[ContainerId],
        removed: &[ContainerId],
    ) -> HeartbeatResponse {
        let beat = HeartbeatRequest {
            worker: self.id,
            epoch: self.epoch,
            sequence,
            added: added.iter().copied().map(report).collect(),
            removed: removed.iter().map(|container| report(*container).block).collect(),
            ..HeartbeatRequest::default()
        };
        let request = self.request(beat);
        self.client.heartbeat(request).await.expect("a heartbeat").into_inner()
    }

    /// The number of its last heartbeat.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// The first block of a file, wholly there.
fn report(container: ContainerId) -> BlockReport {
    let block = container.block(0).expect("the first block");
    BlockReport { block: block.to_wire().cast_unsigned(), resident_bytes: 64 << 20, unpersisted: false }
}
