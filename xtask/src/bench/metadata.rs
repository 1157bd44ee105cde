//! 8.1 and 8.2: durable creates and warm status, in CPU-seconds of the master.

use super::servers::Servers;
use super::{Figure, Ground, cpu, median, ms, quantile, us_each, used_bytes};
use anyhow::{Context, Result};
use goosefs_sdk::client::MasterClient;
use goosefs_sdk::config::GoosefsConfig;
use goosefs_sdk::proto::grpc::file::{CreateFilePOptions, WritePType};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Requests under way at once.
pub const IN_FLIGHT: u64 = 64;
const CREATES: u64 = 40_000;
const ALONE: u64 = 3_000;
const SLOW_CREATES: u64 = 6_400;
const STATUSES: u64 = 200_000;
/// Files of one directory.
const PER_DIRECTORY: u64 = 1_000;
const SLOW_SYNC: &str = include_str!("slow_sync.c");
const SLOW_SYNC_US: &str = "5000";
/// What the bare probe allocates ahead, as a journal segment does.
const PROBE_BYTES: u64 = 64 << 20;

/// Runs `request(n)` for every n below `count`, `in_flight` at once, and returns how long each took.
pub async fn flood<F: Future<Output = Result<()>> + Send + 'static>(
    count: u64,
    in_flight: u64,
    request: impl Fn(u64) -> F + Send + Sync + 'static,
) -> Result<Vec<Duration>> {
    let (next, request) = (Arc::new(AtomicU64::new(0)), Arc::new(request));
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (next, request) = (next.clone(), request.clone());
            let work = async move {
                let mut times = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return Ok::<_, anyhow::Error>(times);
                    }
                    let began = Instant::now();
                    request(n).await?;
                    times.push(began.elapsed());
                }
            };
            tokio::spawn(work)
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(times)
}

/// The path of file `n` of a tree.
pub fn path(tree: &str, n: u64) -> String {
    format!("/{tree}/{}/file-{n}", n / PER_DIRECTORY)
}

/// Creates files `[0, count)` of a tree, `in_flight` at once, parents included.
pub async fn create(
    master: &Arc<MasterClient>,
    tree: &'static str,
    count: u64,
    in_flight: u64,
) -> Result<Vec<Duration>> {
    let master = master.clone();
    flood(count, in_flight, move |n| {
        let master = master.clone();
        async move { create_one(&master, tree, n).await }
    })
    .await
}

/// Creates file `n` of a tree.
pub async fn create_one(master: &MasterClient, tree: &str, n: u64) -> Result<()> {
    let options = CreateFilePOptions {
        block_size_bytes: Some(64 << 20),
        recursive: Some(true),
        write_type: Some(WritePType::MustCache.into()),
        ..CreateFilePOptions::default()
    };
    master.create_file(&path(tree, n), options).await?;
    Ok(())
}

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("metadata")?;
    let mut servers = Servers::start(&ground.binary, &dir, &[], &[])?;
    servers.stop_worker()?;
    let master = Arc::new(MasterClient::connect(&servers.official()).await?);
    let pid = servers.master()?.pid();
    create(&master, "warm-up", 2_000, IN_FLIGHT).await?;

    let (before, began) = (cpu::of(pid)?, Instant::now());
    create(&master, "many", CREATES, IN_FLIGHT).await?;
    let (many, took) = (us_each(cpu::of(pid)?.saturating_sub(before), CREATES), began.elapsed());

    let (before, used) = (cpu::of(pid)?, used_bytes(&servers.journal())?);
    create(&master, "alone", ALONE, 1).await?;
    let alone = us_each(cpu::of(pid)?.saturating_sub(before), ALONE);
    let entry_bytes = used_bytes(&servers.journal())?.saturating_sub(used) / ALONE;
    let config = servers.official();
    let (mut alone_times, mut bare, mut asked_alone) =
        tokio::task::spawn_blocking(move || turns(&config, &dir, entry_bytes)).await??;
    let (p50, bare_p50) = (median(&mut alone_times), median(&mut bare));
    let ratio = p50.as_secs_f64() / bare_p50.as_secs_f64();

    let before = cpu::of(pid)?;
    let began = Instant::now();
    let asking = master.clone();
    flood(STATUSES, IN_FLIGHT, move |n| {
        let master = asking.clone();
        async move {
            master.get_status(&path("many", n % CREATES)).await?;
            Ok(())
        }
    })
    .await?;
    let (status, asked) = (us_each(cpu::of(pid)?.saturating_sub(before), STATUSES), began.elapsed());

    let rate = |count: u64, took: Duration| format!("{:.0}/s", super::float(count) / took.as_secs_f64());
    Ok(vec![
        Figure::shown(
            "8.1",
            format!("durable create, {IN_FLIGHT} in flight: CPU of the master each"),
            format!("{many:.0} µs ({})", rate(CREATES, took)),
        )
        .held("≤ 120 µs", many <= 120.0),
        Figure::shown("8.1", "durable create, 1 in flight: CPU of the master each", format!("{alone:.0} µs")),
        Figure::shown(
            "8.1",
            format!("durable create by one client: p50 against a bare append of {entry_bytes} bytes + fdatasync"),
            format!(
                "{:.2} ms against {:.2} ms: {ratio:.1} × (p99 {:.2} ms; a GetStatus takes {:.2} ms)",
                ms(p50),
                ms(bare_p50),
                ms(quantile(&mut alone_times, 99)),
                ms(median(&mut asked_alone))
            ),
        )
        .held("≤ 3 ×", ratio <= 3.0),
        slow_disk(ground).await?,
        Figure::shown(
            "8.2",
            format!("warm GetStatus, {IN_FLIGHT} in flight: CPU of the master each"),
            format!("{status:.1} µs ({})", rate(STATUSES, asked)),
        )
        .held("≤ 40 µs", status <= 40.0),
    ])
}

/// Creates, bare appends and status calls of one client in turns, so that whatever else the machine does falls on all of
/// them. The client runs in one thread, as one caller does.
fn turns(
    config: &GoosefsConfig,
    dir: &Path,
    entry_bytes: u64,
) -> Result<(Vec<Duration>, Vec<Duration>, Vec<Duration>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bare_file = BareAppends::new(dir, usize::try_from(entry_bytes.clamp(1, 4096))?)?;
    runtime.block_on(async {
        let master = MasterClient::connect(config).await?;
        let (mut creates, mut bare, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..ALONE {
            let began = Instant::now();
            create_one(&master, "turns", n).await?;
            creates.push(began.elapsed());
            bare.push(bare_file.append()?);
            let began = Instant::now();
            master.get_status(&path("turns", n)).await?;
            statuses.push(began.elapsed());
        }
        Ok((creates, bare, statuses))
    })
}

/// What the disk alone takes for the journal's bytes: one write into allocated room, one fdatasync.
pub struct BareAppends {
    file: std::fs::File,
    data: Vec<u8>,
    at: u64,
}

impl BareAppends {
    pub fn new(dir: &Path, bytes: usize) -> Result<BareAppends> {
        let file = std::fs::File::create(dir.join("bare"))?;
        file.write_all_at(&vec![0; usize::try_from(PROBE_BYTES)?], 0)?;
        file.sync_all()?;
        Ok(BareAppends { file, data: vec![7; bytes], at: 0 })
    }

    /// How long it took until the bytes were safe.
    pub fn append(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.file.write_all_at(&self.data, self.at)?;
        self.file.sync_data()?;
        self.at += u64::try_from(self.data.len())?;
        Ok(began.elapsed())
    }
}

/// How many syncs a disk that takes 5 ms for each gets to see.
async fn slow_disk(ground: &Ground) -> Result<Figure> {
    let dir = ground.directory("slow-disk")?;
    let (source, library, counted) = (dir.join("slow_sync.c"), dir.join("slow_sync.so"), dir.join("count"));
    std::fs::write(&source, SLOW_SYNC)?;
    let compiled = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    anyhow::ensure!(compiled.context("run cc; install gcc")?.success(), "{} did not compile", source.display());
    let [library, count_file] = [&library, &counted].map(|path| path.to_string_lossy().into_owned());
    let env = [("LD_PRELOAD", library.as_str()), ("SLOW_SYNC_US", SLOW_SYNC_US), ("SLOW_SYNC_COUNT", &count_file)];
    let mut servers = Servers::start(&ground.binary, &dir, &[], &env)?;
    servers.stop_worker()?;
    let master = Arc::new(MasterClient::connect(&servers.official()).await?);
    create(&master, "warm-up", 640, IN_FLIGHT).await?;
    let syncs = || -> Result<u64> {
        let bytes = std::fs::read(&counted)?;
        Ok(u64::from_ne_bytes(bytes.as_slice().try_into().context("the slow disk's counter has 8 bytes")?))
    };
    let before = syncs()?;
    let began = Instant::now();
    create(&master, "slow", SLOW_CREATES, IN_FLIGHT).await?;
    let took = began.elapsed();
    let seen = syncs()? - before;
    let each = super::float(seen) * super::float(IN_FLIGHT) / super::float(SLOW_CREATES);
    let what = format!("syncs for {IN_FLIGHT} creates on a disk of 5 ms a sync, {IN_FLIGHT} in flight");
    let measured = format!("{each:.1} ({seen} for {SLOW_CREATES}, {:.1} s)", took.as_secs_f64());
    Ok(Figure::shown("8.1", what, measured).held("≤ 4", each <= 4.0 && seen > 0))
}
