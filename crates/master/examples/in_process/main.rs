//! What a CPU-second of a master does for its callers without sockets and HTTP/2: the official services called in its own
//! process, over a real log and RocksDB.
//!
//! `cargo run --release -p master --features test-support --example in_process -- [--files N] [--dir DIR]`; `./x bench --only
//! wire` runs it beside the same calls over the wire. CPU is that of the process, callers among it.

use master::{CacheConfig, Master, MasterConfig, Metastore, WalkConfig};
use proto::convert;
use proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientService;
use proto::grpc::file::{
    CreateDirectoryPOptions, CreateDirectoryPRequest, CreateFilePOptions, CreateFilePRequest, DeletePOptions,
    DeletePRequest, FileSystemMasterCommonPOptions, GetStatusPRequest, ListStatusPRequest, RenamePOptions,
    RenamePRequest, WritePType,
};
use rpc::{SystemClock, SystemEntropy};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_stream::StreamExt;
use tonic::Request;
use types::{OperationId, Principal};

/// Callers at once.
const IN_FLIGHT: u64 = 64;
const PER_DIRECTORY: u64 = 1_000;
/// GetStatus calls for each file, and listings of each directory.
const LOOKS: u64 = 5;

type Service = Arc<dyn FileSystemMasterClientService>;

struct Plan {
    files: u64,
    dir: PathBuf,
}

impl Plan {
    fn from_arguments() -> Plan {
        let mut plan = Plan { files: 40_000, dir: std::env::temp_dir().join("goosefs-in-process") };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            match name.as_str() {
                "--files" => plan.files = value.parse().expect("--files takes a whole number"),
                "--dir" => plan.dir = value.into(),
                _ => panic!("{name} is not known; see the head of this example"),
            }
        }
        plan
    }
}

fn config(dir: &Path) -> MasterConfig {
    MasterConfig {
        metastore: Metastore::Rocks,
        segment_bytes: 64 << 20,
        checkpoint_entries: 2_000_000,
        cache: CacheConfig::of_bytes(256 << 20),
        late: Duration::ZERO,
        request_timeout: Duration::from_secs(60),
        walk: Some(WalkConfig { per_second: 5_000, every: Duration::from_secs(3_600) }),
        ..MasterConfig::for_tests().below(dir)
    }
}

fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Arc::new(Principal::system()));
    request
}

/// A fresh operation id, as every change of an official client has one.
fn common() -> Option<FileSystemMasterCommonPOptions> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = OperationId(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)));
    let operation_id = Some(convert::operation_id::to_wire(id));
    Some(FileSystemMasterCommonPOptions { operation_id, sync_interval_ms: None })
}

fn path(tree: &str, n: u64) -> Option<String> {
    Some(format!("/{tree}/{}/file-{n}", n / PER_DIRECTORY))
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).expect("it does not run backwards")
}

/// Runs `call(n)` for every n below `count`, [`IN_FLIGHT`] at once, and prints how many of `done` a CPU-second does.
async fn each<F>(
    service: &Service,
    what: &str,
    count: u64,
    done: u64,
    call: impl Fn(Service, u64) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Result<(), tonic::Status>> + Send,
{
    let (next, call, before) = (Arc::new(AtomicU64::new(0)), Arc::new(call), cpu());
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (next, call, service) = (next.clone(), call.clone(), service.clone());
        callers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return;
                }
                call(service.clone(), n).await.unwrap_or_else(|status| panic!("call {n}: {status}"));
            }
        });
    }
    callers.join_all().await;
    let spent = (cpu() - before).as_micros().max(1);
    println!("{what}\t{}", u128::from(done) * 1_000_000 / spent);
}

async fn measure(service: &Service, files: u64) {
    for directory in 0..files.div_ceil(PER_DIRECTORY) {
        for tree in ["many", "moved"] {
            let options = CreateDirectoryPOptions {
                recursive: Some(true),
                allow_exists: Some(true),
                common_options: common(),
                ..CreateDirectoryPOptions::default()
            };
            let path = Some(format!("/{tree}/{directory}"));
            let request = CreateDirectoryPRequest { path, options: Some(options) };
            service.create_directory(asked(request)).await.expect("a directory is made");
        }
    }
    each(service, "durable create", files, files, |service, n| async move {
        let options = CreateFilePOptions {
            block_size_bytes: Some(64 << 20),
            recursive: Some(true),
            write_type: Some(WritePType::MustCache.into()),
            common_options: common(),
            ..CreateFilePOptions::default()
        };
        let request = CreateFilePRequest { path: path("many", n), options: Some(options) };
        service.create_file(asked(request)).await.map(drop)
    })
    .await;
    each(service, "GetStatus", files * LOOKS, files * LOOKS, move |service, n| async move {
        let request = GetStatusPRequest { path: path("many", n % files), ..GetStatusPRequest::default() };
        service.get_status(asked(request)).await.map(drop)
    })
    .await;
    let directories = files.div_ceil(PER_DIRECTORY);
    each(service, "entries of ListStatus", directories * LOOKS, files * LOOKS, move |service, n| async move {
        let path = Some(format!("/many/{}", n % directories));
        let request = ListStatusPRequest { path, ..ListStatusPRequest::default() };
        let mut messages = service.list_status(asked(request)).await?.into_inner();
        while messages.next().await.transpose()?.is_some() {}
        Ok(())
    })
    .await;
    each(service, "rename", files, files, |service, n| async move {
        let options = RenamePOptions { common_options: common(), ..RenamePOptions::default() };
        let request = RenamePRequest { path: path("many", n), dst_path: path("moved", n), options: Some(options) };
        service.rename(asked(request)).await.map(drop)
    })
    .await;
    each(service, "delete", files, files, |service, n| async move {
        let options = DeletePOptions { common_options: common(), ..DeletePOptions::default() };
        let request = DeletePRequest { path: path("moved", n), options: Some(options) };
        service.remove(asked(request)).await.map(drop)
    })
    .await;
}

fn main() {
    let plan = Plan::from_arguments();
    let config = config(&plan.dir);
    std::fs::create_dir_all(&config.root_ufs).expect("a root store");
    master::format(&config, &SystemEntropy, false).expect("empty directories");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let started = Master::start(config, Arc::new(SystemClock), Arc::new(SystemEntropy)).await;
        let master = started.expect("a fresh master");
        measure(&master.file_system().expect("the cluster's key"), plan.files).await;
        master.stop(Duration::from_secs(10)).await.expect("a clean stop");
    });
}
