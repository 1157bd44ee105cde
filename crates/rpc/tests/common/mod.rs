//! A server with the services a client needs to connect, for tests over real sockets.
#![allow(dead_code)]

use proto::Calls;
use proto::grpc::WorkerNetAddress;
use proto::grpc::block::worker_manager_master_client_service_server::{
    WorkerManagerMasterClientService, WorkerManagerMasterClientServiceServer,
};
use proto::grpc::block::{GetWorkerInfoListPOptions, GetWorkerInfoListPResponse, WorkerInfo};
use proto::grpc::file::file_system_master_client_service_server::{
    FileSystemMasterClientService, FileSystemMasterClientServiceServer,
};
use proto::grpc::file::{FileInfo, GetStatusPRequest, GetStatusPResponse};
use proto::grpc::metric::metrics_master_client_service_server::{
    MetricsMasterClientService, MetricsMasterClientServiceServer,
};
use proto::grpc::metric::{MetricsHeartbeatPRequest, MetricsHeartbeatPResponse};
use proto::grpc::version::service_version_client_service_calls;
use proto::grpc::version::service_version_client_service_server::{
    ServiceVersionClientService, ServiceVersionClientServiceServer,
};
use proto::grpc::version::{GetServiceVersionPRequest, GetServiceVersionPResponse};
use rpc::{
    AuthType, Channels, FrameService, Groups, Identify, IdentityRules, Impersonation, Routes, Running, Sasl, Server,
    ServerConfig, SystemClock, caller,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(20);

/// Answers GetStatus with the caller as owner, and what else a client asks when it connects.
pub struct Stub;

#[tonic::async_trait]
impl FileSystemMasterClientService for Stub {
    async fn get_status(&self, request: Request<GetStatusPRequest>) -> Result<Response<GetStatusPResponse>, Status> {
        let who = caller(request.extensions())?;
        let info = FileInfo {
            file_id: Some((1 << 24) | 0xff_ffff),
            path: request.get_ref().path.clone(),
            owner: Some(who.user.clone()),
            group: Some(who.group().to_owned()),
            folder: Some(true),
            completed: Some(true),
            ..FileInfo::default()
        };
        Ok(Response::new(GetStatusPResponse { file_info: Some(info) }))
    }
}

#[tonic::async_trait]
impl WorkerManagerMasterClientService for Stub {
    async fn get_worker_info_list(
        &self,
        request: Request<GetWorkerInfoListPOptions>,
    ) -> Result<Response<GetWorkerInfoListPResponse>, Status> {
        let who = caller(request.extensions())?;
        let worker = WorkerInfo {
            id: Some(1),
            address: Some(WorkerNetAddress { host: Some(who.user.clone()), ..WorkerNetAddress::default() }),
            virtual_node_num: Some(10),
            ..WorkerInfo::default()
        };
        Ok(Response::new(GetWorkerInfoListPResponse { worker_infos: vec![worker], ..Default::default() }))
    }
}

#[tonic::async_trait]
impl MetricsMasterClientService for Stub {
    async fn metrics_heartbeat(
        &self,
        _: Request<MetricsHeartbeatPRequest>,
    ) -> Result<Response<MetricsHeartbeatPResponse>, Status> {
        Ok(Response::new(MetricsHeartbeatPResponse::default()))
    }
}

#[tonic::async_trait]
impl ServiceVersionClientService for Stub {
    async fn get_service_version(
        &self,
        _: Request<GetServiceVersionPRequest>,
    ) -> Result<Response<GetServiceVersionPResponse>, Status> {
        Ok(Response::new(GetServiceVersionPResponse { version: Some(2) }))
    }
}

/// How a test server differs from the usual.
pub struct Setup<'a> {
    pub address: String,
    pub auth: AuthType,
    pub strict_channel: bool,
    pub channel_file: Option<&'a Path>,
    pub impersonation: Impersonation,
    pub config: ServerConfig,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup {
            address: "127.0.0.1:0".to_owned(),
            auth: AuthType::Simple,
            strict_channel: false,
            channel_file: None,
            impersonation: Impersonation::none(),
            config: ServerConfig {
                name: "GooseFS master RPC".to_owned(),
                hint: "The web pages are on port 9201.".to_owned(),
                threads: 2,
                ..ServerConfig::default()
            },
        }
    }
}

pub struct TestServer {
    pub running: Running,
    pub channels: Arc<Channels>,
}

impl TestServer {
    pub fn address(&self) -> String {
        self.running.local_addr().to_string()
    }
}

pub fn start(setup: Setup<'_>) -> TestServer {
    start_with(setup, |routes| routes)
}

/// `more` adds routes.
pub fn start_with(setup: Setup<'_>, more: impl Fn(Routes) -> Routes + Send + Sync + 'static) -> TestServer {
    start_with_frames(setup, more, None)
}

/// A server that has the methods `more` adds to frames, beside the version and GetStatus.
pub fn start_frames(setup: Setup<'_>, more: impl FnOnce(FrameService) -> FrameService) -> TestServer {
    start_with_frames(setup, |routes| routes, Some(Box::new(more)))
}

type MoreFrames<'a> = Box<dyn FnOnce(FrameService) -> FrameService + 'a>;

fn start_with_frames(
    setup: Setup<'_>,
    more: impl Fn(Routes) -> Routes + Send + Sync + 'static,
    frames: Option<MoreFrames<'_>>,
) -> TestServer {
    let channels = match setup.channel_file {
        Some(path) => Channels::open(path).expect("a channel file"),
        None => Channels::in_memory(),
    };
    let rules =
        IdentityRules { auth: setup.auth, nosasl_user: "nobody".to_owned(), strict_channel: setup.strict_channel };
    let groups = Groups::system(Arc::new(SystemClock));
    // A port that was just freed may need a moment.
    let server = testkit::eventually(LONG, || Server::bind(&setup.address, setup.config.clone()));
    let sasl =
        Sasl::new(rules.clone(), setup.impersonation.clone(), channels.clone(), groups.clone(), server.stopping());
    let identify = Identify::new(rules, channels.clone(), groups);
    let server = match frames {
        Some(more) => {
            let frames = FrameService::new(identify.clone(), setup.impersonation);
            let frames = service_version_client_service_calls(&Arc::new(Stub), frames);
            let status = |request| async move { FileSystemMasterClientService::get_status(&Stub, request).await };
            server.with_frames(more(frames.with::<GetStatusPRequest, _>(status)))
        }
        None => server,
    };
    let running = server.serve(move |_| {
        let routes = Routes::new()
            .service(sasl.server())
            .service(ServiceVersionClientServiceServer::new(Stub))
            .service(FileSystemMasterClientServiceServer::new(Stub))
            .service(WorkerManagerMasterClientServiceServer::new(Stub))
            .service(MetricsMasterClientServiceServer::new(Stub));
        identify.around(more(routes))
    });
    TestServer { running: running.expect("threads"), channels }
}
