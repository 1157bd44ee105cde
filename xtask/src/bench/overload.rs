//! Scale 10: light calls beside heavy ones, and connections that ask nothing. The master has one core, who asks it the other one.

use super::metadata::{create, path};
use super::servers::Servers;
use super::{Figure, Ground, cpu, float, ms, quantile};
use anyhow::{Context, Result, ensure};
use client::FileSystem;
use goosefs_sdk::client::MasterClient;
use proto::grpc::file::file_system_master_client_service_client::FileSystemMasterClientServiceClient;
use proto::grpc::file::{
    CreateFilePOptions, CreateFilePRequest, GetStatusPRequest, ListStatusPOptions, ListStatusPRequest,
};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;
use tonic::transport::{Channel, Endpoint};

const POINT: &str = "scale 10";
/// Of the master, and of who asks it.
const ITS_CORE: &str = "0";
const OUR_CORE: &str = "1";
/// Connections that ask nothing, of official clients and of ours each; a master takes 10,000.
const IDLE: u64 = 4_900;
const IDLE_KIB: f64 = 48.0;
/// Entries of the directory that is listed by those who hardly read.
const LISTED: u64 = 100_000;
const LISTERS: usize = 64;
/// Light calls beside heavy ones.
const LIGHT: usize = 20_000;
const MIB: f64 = 1024.0 * 1024.0;

type Master = FileSystemMasterClientServiceClient<Channel>;

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    {
        let dir = ground.directory("overload")?;
        // Without a handshake: a client that repeats nothing and opens nothing anew.
        let settings = [
            "goosefs.security.authentication.type=NOSASL",
            "goosefs.security.login.username=root",
            "goosefs.master.rpc.executor.core.pool.size=1",
        ];
        let servers = started(&ground.binary, &dir, &settings)?;
        let pid = servers.master()?.pid();
        pin(pid, ITS_CORE)?;
        figures.extend(
            on_our_core({
                let address = servers.master_address();
                async move || beside_heavy_ones(&address, pid).await
            })
            .await?,
        );
    }
    let servers = started(&ground.binary, &ground.directory("idle")?, &[])?;
    figures.extend(idle(&servers).await?);
    Ok(figures)
}

fn started(binary: &Path, dir: &Path, settings: &[&str]) -> Result<Servers> {
    let mut servers = Servers::start(binary, dir, settings, &[])?;
    servers.stop_worker()?;
    Ok(servers)
}

/// Has all threads of a process run on one core.
fn pin(pid: u32, core: &str) -> Result<()> {
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", core, &pid.to_string()]).output();
    let pinned = pinned.context("run taskset (package util-linux)")?;
    ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    Ok(())
}

/// Runs `work` on a thread of its own that has our core.
async fn on_our_core<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: AsyncFnOnce() -> Result<T> + Send + 'static,
{
    let thread = std::thread::Builder::new().name("asks".to_owned()).spawn(move || {
        let own = std::fs::read_link("/proc/thread-self").context("find the number of a thread")?;
        let own = own.file_name().and_then(|number| number.to_str()).context("a thread has a number")?.to_owned();
        let pinned = Command::new("taskset").args(["-c", "-p", OUR_CORE, &own]).output();
        ensure!(pinned.context("run taskset (package util-linux)")?.status.success(), "taskset fails");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, work())
    })?;
    let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
    joined.map_err(|_| anyhow::anyhow!("who asks panicked"))?
}

async fn connect(address: &str, count: usize) -> Result<Vec<Master>> {
    let mut masters = Vec::new();
    for _ in 0..count {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        masters.push(Master::new(channel));
    }
    Ok(masters)
}

fn new_file(tree: &str, n: u64) -> CreateFilePRequest {
    let options = CreateFilePOptions { block_size_bytes: Some(64 << 20), recursive: Some(true), ..Default::default() };
    CreateFilePRequest { path: Some(path(tree, n)), options: Some(options) }
}

/// Light calls alone and beside listings that nobody reads fast or slowly enough.
async fn beside_heavy_ones(address: &str, pid: u32) -> Result<Vec<Figure>> {
    let masters = connect(address, LISTERS + 2).await?;
    for n in 0..LISTED {
        // Of one directory.
        let mut master = masters[usize::try_from(n)? % masters.len()].clone();
        let mut file = new_file("listed", 0);
        file.path = Some(format!("/listed/file-{n}"));
        if n % 256 == 0 {
            master.create_file(file).await?;
        } else {
            tokio::task::spawn_local(async move { master.create_file(file).await });
        }
    }
    let alone = light(&masters[0]).await?;
    let before = cpu::memory(pid)?;
    let mut slow = Vec::new();
    for master in &masters[2..] {
        let mut stream = listing(master).await?;
        ensure!(stream.message().await?.is_some(), "a listing has a first message");
        slow.push(stream);
    }
    let held = cpu::memory(pid)?.saturating_sub(before);
    let heavy = tokio::task::spawn_local({
        let master = masters[1].clone();
        async move {
            loop {
                let mut stream = listing(&master).await?;
                while stream.message().await?.is_some() {}
            }
            #[expect(unreachable_code, reason = "it says of which kind the errors are")]
            Ok::<(), anyhow::Error>(())
        }
    });
    let beside = light(&masters[0]).await?;
    ensure!(!heavy.is_finished(), "listings end: {:?}", heavy.await);
    heavy.abort();
    drop(slow);
    let shown = |times: &mut [Duration]| {
        format!(
            "p50 {:.2} ms, p99 {:.1} ms, longest {:.0} ms",
            ms(quantile(times, 50)),
            ms(quantile(times, 99)),
            ms(quantile(times, 100))
        )
    };
    let (mut alone, mut beside) = (alone, beside);
    let excess = quantile(&mut beside, 99).saturating_sub(quantile(&mut alone, 99));
    Ok(vec![
        Figure::shown(POINT, "GetStatus, one core, alone", shown(&mut alone)),
        Figure::shown(
            POINT,
            format!("the same beside one who lists {LISTED} entries again and again, and {LISTERS} who stopped reading such a listing"),
            shown(&mut beside),
        )
        .held("p99 ≤ 10 ms more", excess <= Duration::from_millis(10)),
        Figure::shown(
            POINT,
            format!("memory that the {LISTERS} hold in the master, each"),
            format!("{:.2} MiB", float(held) / MIB / float(u64::try_from(LISTERS)?)),
        ),
    ])
}

async fn listing(master: &Master) -> Result<tonic::Streaming<proto::grpc::file::ListStatusPResponse>> {
    let request = ListStatusPRequest {
        path: Some("/listed".to_owned()),
        options: Some(ListStatusPOptions::default()),
        ..ListStatusPRequest::default()
    };
    Ok(master.clone().list_status(request).await?.into_inner())
}

async fn light(master: &Master) -> Result<Vec<Duration>> {
    let mut master = master.clone();
    let mut times = Vec::with_capacity(LIGHT);
    for n in 0..LIGHT {
        let began = Instant::now();
        let path = Some(format!("/listed/file-{}", u64::try_from(n)? % LISTED));
        master.get_status(GetStatusPRequest { path, ..GetStatusPRequest::default() }).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// What a connection costs whose client asks nothing.
async fn idle(servers: &Servers) -> Result<Vec<Figure>> {
    let pid = servers.master()?.pid();
    let master = Arc::new(MasterClient::connect(&servers.official()).await?);
    create(&master, "warm-up", 2_000, 64).await?;
    let before = cpu::memory(pid)?;
    let mut official = Vec::new();
    for _ in 0..IDLE {
        official.push(MasterClient::connect(&servers.official()).await?);
    }
    let with_official = cpu::memory(pid)?;
    let mut own = Vec::new();
    for _ in 0..IDLE {
        let fs = FileSystem::connect(servers.config()).await?;
        fs.status(&types::GfsPath::parse("/warm-up")?).await?;
        own.push(fs);
    }
    let with_own = cpu::memory(pid)?;
    let figure = |whose: &str, from: u64, to: u64| {
        let each = float(to.saturating_sub(from)) / 1024.0 / float(IDLE);
        let what = format!("{IDLE} connections of {whose} that ask nothing: memory of the master, each");
        Figure::shown(POINT, what, format!("{each:.1} KiB")).held(format!("≤ {IDLE_KIB:.0} KiB"), each <= IDLE_KIB)
    };
    Ok(vec![figure("official clients", before, with_official), figure("clients of ours", with_official, with_own)])
}
