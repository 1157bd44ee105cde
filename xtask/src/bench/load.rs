//! Scale 8: a directory of a bucket with a million objects is loaded: CPU of the master, bytes of its log, its memory, how
//! many requests many askers cost, and what a killed master asks again.

use super::servers::Servers;
use super::{Figure, Ground, cpu, float, used_bytes};
use crate::bucket;
use anyhow::{Context, Result, ensure};
use client::{FileSystem, Freshness};
use std::time::{Duration, Instant};
use testkit::proxy::{FaultProxy, Protocol};
use testkit::s3::{Options, S3Server};
use types::{GfsPath, LoadMetadata};

const POINT: &str = "scale 8";
const BUCKET: &str = "bench";
/// Who wants the directory at the same time.
const ASKERS: usize = 16;
/// Objects of one answer of the store.
const ANSWER: u64 = 1_000;
/// The second directory, whose load is cut off, is so much smaller.
const SMALLER: u64 = 4;
/// A shared master reaches this many objects in a CPU-second, at least.
const FLOOR: f64 = 40_000.0;
/// How often memory is looked at, and a load that is to be cut off.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ONCE: Freshness = Freshness { load: LoadMetadata::Once, sync_interval: None };
const MIB: f64 = 1024.0 * 1024.0;

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("load")?;
    let s3 = S3Server::start(&dir.join("s3"), Options::default())?;
    s3.create_bucket(BUCKET)?;
    let (whole, part) = (ground.files, (ground.files / SMALLER).max(20 * ANSWER));
    for (directory, count) in [("whole", whole), ("part", part)] {
        for n in 0..count {
            s3.put(BUCKET, &format!("{directory}/part-{n:08}.parquet"), b"")?;
        }
    }
    let proxy = FaultProxy::start(s3.addr(), Protocol::Http1)?;
    let mut servers = Servers::start(&ground.binary, &dir, &[], &[])?;
    servers.stop_worker()?;
    let fs = FileSystem::connect(servers.config()).await?;
    fs.create_namespace(bucket::namespace(BUCKET, &s3, &proxy)).await.context("create the namespace")?;
    let mut figures = all_at_once(&servers, &fs, &proxy, whole).await?;
    figures.push(cut_off(&mut servers, &fs, &proxy, part).await?);
    Ok(figures)
}

/// Many want the same directory.
async fn all_at_once(servers: &Servers, fs: &FileSystem, proxy: &FaultProxy, count: u64) -> Result<Vec<Figure>> {
    let (pid, path) = (servers.master()?.pid(), GfsPath::parse(&format!("/{BUCKET}/whole"))?);
    fs.status(&path).await?;
    let (used, memory, cpu, began) =
        (used_bytes(&servers.journal())?, cpu::memory(pid)?, cpu::of(pid)?, Instant::now());
    proxy.reset_stats();
    let asked = (0..ASKERS).map(|_| {
        let (fs, path) = (fs.clone(), path.clone());
        tokio::spawn(async move { fs.load_listing(&path, ONCE).await })
    });
    let asked = futures::future::try_join_all(asked.collect::<Vec<_>>());
    let mut asked = std::pin::pin!(asked);
    let mut most = memory;
    let done = loop {
        most = most.max(cpu::memory(pid)?);
        if let Ok(done) = tokio::time::timeout(LOOK_EVERY, &mut asked).await {
            break done?;
        }
    };
    done.into_iter().collect::<client::Result<Vec<()>>>()?;
    let (took, cpu) = (began.elapsed(), cpu::of(pid)?.saturating_sub(cpu));
    let (requests, used) = (proxy.stats().total_requests(), used_bytes(&servers.journal())?.saturating_sub(used));
    let known = fs.status(&path).await?.length;
    ensure!(known == count, "{known} of {count} objects are known");
    let per_second = float(count) / cpu.as_secs_f64();
    let pages = count.div_ceil(ANSWER);
    Ok(vec![
        Figure::shown(
            POINT,
            format!("load of a directory with {count} objects: objects in a CPU-second of the master"),
            format!("{per_second:.0} ({:.1} s of CPU, {:.1} s)", cpu.as_secs_f64(), took.as_secs_f64()),
        )
        .held("≥ 40000", per_second >= FLOOR),
        Figure::shown(
            POINT,
            format!("the same: requests to the store for {ASKERS} who ask at once"),
            format!("{requests}, of {ANSWER} objects each"),
        )
        .held("one listing", requests <= pages + 1),
        Figure::shown(
            POINT,
            "the same: bytes of the log for each object",
            format!("{:.0}", float(used) / float(count)),
        ),
        Figure::shown(
            POINT,
            "the same: how much the master's memory grows",
            format!(
                "{:.0} MiB, {:.0} bytes an object",
                float(most - memory) / MIB,
                float(most - memory) / float(count)
            ),
        ),
    ])
}

/// The master is killed in the middle: whoever wants the directory asks again, and the load goes on.
async fn cut_off(servers: &mut Servers, fs: &FileSystem, proxy: &FaultProxy, count: u64) -> Result<Figure> {
    let (path, pages) = (GfsPath::parse(&format!("/{BUCKET}/part"))?, count.div_ceil(ANSWER));
    fs.status(&path).await?;
    proxy.reset_stats();
    let asking = {
        let (fs, path) = (fs.clone(), path.clone());
        tokio::spawn(async move { fs.load_listing(&path, ONCE).await })
    };
    while proxy.stats().total_requests() < pages / 2 {
        ensure!(!asking.is_finished(), "it ended before it could be cut off");
        tokio::time::sleep(LOOK_EVERY / 10).await;
    }
    servers.master.take().context("it runs")?.kill9()?;
    let before = proxy.stats().total_requests();
    servers.start_master()?;
    asking.await??;
    let known = fs.status(&path).await?.length;
    ensure!(known == count, "{known} of {count} objects are known");
    let all = proxy.stats().total_requests();
    let again = all.saturating_sub(pages);
    Ok(Figure::shown(
        POINT,
        format!("load of {count} objects, the master killed (−9) after {before} of {pages} pages: pages listed again"),
        again.to_string(),
    )
    .held("≤ 5", again <= 5))
}
