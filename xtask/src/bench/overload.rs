//! Scale 10: twice as much is asked as a master can do, light calls beside heavy ones, and connections that ask nothing. The
//! master has one core, who asks it the other one.

use super::flood::{Flood, PATIENCE};
use super::metadata::{IN_FLIGHT, create, path};
use super::servers::Servers;
use super::{Figure, Ground, cpu, float, ms, quantile};
use anyhow::{Context, Result, ensure};
use client::{FileSystem, WriteOptions};
use futures::stream::{self, StreamExt};
use goosefs_sdk::client::MasterClient;
use proto::Unary;
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
use types::{GfsPath, WriteType};

const POINT: &str = "scale 10";
/// Of the master, and of who asks it.
const ITS_CORE: &str = "0";
const OUR_CORE: &str = "1";
const PEAK_FOR: Duration = Duration::from_secs(5);
/// How long more is asked than can be done, and how much of that is not counted yet: until it is clear that it is no burst.
const OVER_FOR: Duration = Duration::from_secs(20);
const SETTLES: Duration = Duration::from_secs(5);
/// How much more is asked than at the peak.
const TIMES: f64 = 2.0;
const GOODPUT: f64 = 0.8;
/// `goosefs.master.process.memory.budget`.
const BUDGET: u64 = 2 << 30;
const FILES: u64 = 20_000;
/// Entries of the directory that is listed, those who stop reading its listing, and light calls beside.
const LISTED: u64 = 100_000;
const LISTERS: usize = 64;
const LIGHT: u64 = 1_000;
const EXCESS: Duration = Duration::from_millis(10);
/// Connections that ask nothing, of official clients and of ours each: together what a master takes, about.
const IDLE: u64 = 4_900;
const IDLE_KIB: f64 = 48.0;
const MIB: f64 = 1024.0 * 1024.0;

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    {
        let servers = started(&ground.binary, &ground.directory("overload")?, &[])?;
        let (pid, address) = (servers.master()?.pid(), servers.master_address());
        figures.extend(on_our_core(async move || too_much(&address, pid)).await?);
    }
    {
        // Light calls of a client that repeats nothing and opens nothing anew: without a handshake.
        let settings = ["goosefs.security.authentication.type=NOSASL", "goosefs.security.login.username=root"];
        let servers = started(&ground.binary, &ground.directory("heavy")?, &settings)?;
        let (pid, address, config) = (servers.master()?.pid(), servers.master_address(), servers.config());
        figures.extend(on_our_core(async move || beside_heavy_ones(&address, config, pid).await).await?);
    }
    let servers = started(&ground.binary, &ground.directory("idle")?, &[])?;
    figures.extend(idle(&servers).await?);
    Ok(figures)
}

/// A master that has one core.
fn started(binary: &Path, dir: &Path, settings: &[&str]) -> Result<Servers> {
    let one_thread = ["goosefs.master.rpc.executor.core.pool.size=1"];
    let mut servers = Servers::start(binary, dir, &[&one_thread[..], settings].concat(), &[])?;
    servers.stop_worker()?;
    pin(&["-a"], ITS_CORE, &servers.master()?.pid().to_string())?;
    Ok(servers)
}

fn too_much(address: &str, pid: u32) -> Result<Vec<Figure>> {
    let mut flood = Flood::connect(address)?;
    let create = |tree: &'static str| move |n| new_file(tree, n);
    let status = |n| GetStatusPRequest { path: Some(path("peak", n % FILES)), ..GetStatusPRequest::default() };
    flood.at_peak(create("warm-up"), Duration::from_secs(1))?;
    let peak = flood.at_peak(create("peak"), PEAK_FOR)?;
    let mut figures = over(&mut flood, pid, "durable create", peak, create("over"))?;
    let peak = flood.at_peak(status, PEAK_FOR)?;
    figures.extend(over(&mut flood, pid, "GetStatus", peak, status)?);
    Ok(figures)
}

/// Keeps what has the number `id` on one core.
fn pin(more: &[&str], core: &str, id: &str) -> Result<()> {
    let pinned = Command::new("taskset").args(more).args(["-c", "-p", core, id]).output();
    let pinned = pinned.context("run taskset (package util-linux)")?;
    ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    Ok(())
}

/// Runs `work` on a thread of its own that has our core.
async fn on_our_core<T: Send + 'static>(work: impl AsyncFnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::Builder::new().name("asks".to_owned()).spawn(move || {
        let own = std::fs::read_link("/proc/thread-self").context("find the number of a thread")?;
        let own = own.file_name().and_then(|number| number.to_str()).context("a thread has a number")?.to_owned();
        pin(&[], OUR_CORE, &own)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, work())
    })?;
    let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
    joined.map_err(|_| anyhow::anyhow!("who asks panicked"))?
}

fn new_file(tree: &str, n: u64) -> CreateFilePRequest {
    let options = CreateFilePOptions { block_size_bytes: Some(64 << 20), recursive: Some(true), ..Default::default() };
    CreateFilePRequest { path: Some(path(tree, n)), options: Some(options) }
}

/// Asks for [`TIMES`] of the peak, whatever becomes of it.
fn over<M: Unary>(
    flood: &mut Flood,
    pid: u32,
    what: &str,
    peak: f64,
    request: impl Fn(u64) -> M,
) -> Result<Vec<Figure>> {
    flood.open_loop(peak * TIMES, SETTLES, &request, || Ok(()))?;
    flood.ended();
    let (began, cpu_before, mut memory) = (Instant::now(), cpu::of(pid)?, 0);
    let mut look = || {
        memory = memory.max(cpu::memory(pid)?);
        Ok(())
    };
    flood.open_loop(peak * TIMES, OVER_FOR - SETTLES, |n| request((1 << 32) + n), &mut look)?;
    let lasted = began.elapsed();
    let spent = cpu::of(pid)?.saturating_sub(cpu_before);
    let per_second = |count: u64| float(count) / lasted.as_secs_f64();
    let (mut ended, unanswered) = (flood.ended(), flood.under_way());
    flood.wait()?;
    ended.late += flood.ended().late;
    let goodput = per_second(ended.done) / peak;
    let times = per_second(ended.asked) / peak;
    let measured = format!(
        "{:.0} % of {peak:.0}/s while {:.1} times that is asked; {:.0} % of a core; {:.0}/s refused",
        100.0 * goodput,
        times,
        100.0 * spent.as_secs_f64() / lasted.as_secs_f64(),
        per_second(ended.refused),
    );
    let quantiles = |times: &mut Vec<Duration>| {
        if times.is_empty() {
            return "none".to_owned();
        }
        format!("p50 {:.0} ms, p99 {:.0} ms", ms(quantile(times, 50)), ms(quantile(times, 99)))
    };
    let waits = format!(
        "done after {}; refused after {}; {unanswered} under way in the end",
        quantiles(&mut ended.took),
        quantiles(&mut ended.refused_after)
    );
    Ok(vec![
        Figure::shown(POINT, format!("{what}, one core, twice what it can: goodput"), measured)
            .held(format!("≥ {:.0} %", 100.0 * GOODPUT), goodput >= GOODPUT),
        Figure::shown(
            POINT,
            format!("the same: {:.0} s without an answer", PATIENCE.as_secs_f64()),
            format!("{} ({waits})", ended.late),
        )
        .held("0", ended.late == 0),
        Figure::shown(POINT, "the same: memory of the master", format!("{:.0} MiB", float(memory) / MIB))
            .held(format!("≤ {:.0} MiB", float(BUDGET) / MIB), memory <= BUDGET),
    ])
}

type Master = FileSystemMasterClientServiceClient<Channel>;

/// Light calls alone, and beside listings that are read as fast as can be or not at all.
async fn beside_heavy_ones(address: &str, config: client::ClientConfig, pid: u32) -> Result<Vec<Figure>> {
    let fs = FileSystem::connect(config).await?;
    let files = (0..LISTED).map(|n| Ok(GfsPath::parse(&format!("/listed/file-{n}"))?)).collect::<Result<Vec<_>>>()?;
    let how = WriteOptions { write_type: Some(WriteType::MustCache), ..WriteOptions::default() };
    fs.create_many(stream::iter(files), how).for_each(async |(_, made)| drop(made)).await;
    let mut masters = Vec::new();
    for _ in 0..LISTERS + 2 {
        masters.push(Master::new(Endpoint::from_shared(format!("http://{address}"))?.connect().await?));
    }
    let mut alone = light(&masters[0]).await?;
    let before = cpu::memory(pid)?;
    let mut unread = Vec::new();
    for master in &masters[2..] {
        let mut listing = listing(master).await?;
        ensure!(listing.message().await?.is_some(), "a listing has a first message");
        unread.push(listing);
    }
    let held = cpu::memory(pid)?.saturating_sub(before);
    let heavy = tokio::task::spawn_local({
        let master = masters[1].clone();
        async move {
            loop {
                let mut listing = listing(&master).await?;
                while listing.message().await?.is_some() {}
            }
            #[expect(unreachable_code, reason = "it says of which kind the errors are")]
            Ok::<(), anyhow::Error>(())
        }
    });
    let mut beside = light(&masters[0]).await?;
    ensure!(!heavy.is_finished(), "listings end: {:?}", heavy.await);
    heavy.abort();
    drop(unread);
    let excess = quantile(&mut beside, 99).saturating_sub(quantile(&mut alone, 99));
    let shown = |times: &mut [Duration]| {
        let (p50, p99, longest) = (quantile(times, 50), quantile(times, 99), quantile(times, 100));
        format!("p50 {:.2} ms, p99 {:.2} ms, longest {:.1} ms", ms(p50), ms(p99), ms(longest))
    };
    let beside_what = format!(
        "the same beside one who lists {LISTED} entries again and again, and {LISTERS} who stopped reading such a listing"
    );
    let each = float(held) / MIB / float(u64::try_from(LISTERS)?);
    Ok(vec![
        Figure::shown(POINT, "GetStatus, one core, one client alone", shown(&mut alone)),
        Figure::shown(POINT, beside_what, shown(&mut beside))
            .held(format!("p99 ≤ {:.0} ms more", ms(EXCESS)), excess <= EXCESS),
        Figure::shown(POINT, "a listing that nobody reads on: memory of the master", format!("{each:.2} MiB")),
    ])
}

async fn listing(master: &Master) -> Result<tonic::Streaming<proto::grpc::file::ListStatusPResponse>> {
    let options = Some(ListStatusPOptions::default());
    let request = ListStatusPRequest { path: Some("/listed".to_owned()), options, ..ListStatusPRequest::default() };
    Ok(master.clone().list_status(request).await?.into_inner())
}

async fn light(master: &Master) -> Result<Vec<Duration>> {
    let (mut master, mut times) = (master.clone(), Vec::new());
    for n in 0..LIGHT {
        let began = Instant::now();
        let path = Some(format!("/listed/file-{}", n % LISTED));
        master.get_status(GetStatusPRequest { path, ..GetStatusPRequest::default() }).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// What a connection costs whose client asks nothing any more.
async fn idle(servers: &Servers) -> Result<Vec<Figure>> {
    let pid = servers.master()?.pid();
    let master = Arc::new(MasterClient::connect(&servers.official()).await?);
    create(&master, "warm-up", 2_000, IN_FLIGHT).await?;
    let before = cpu::memory(pid)?;
    let mut official = Vec::new();
    for _ in 0..IDLE {
        official.push(MasterClient::connect(&servers.official()).await?);
    }
    let with_official = cpu::memory(pid)?;
    let mut own = Vec::new();
    for _ in 0..IDLE {
        let fs = FileSystem::connect(servers.config()).await?;
        fs.status(&GfsPath::parse("/warm-up")?).await?;
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
