//! 8.4: cold reads of a store 20 ms away that gives 200 MB/s in all, against one direct GET of the same object.

use super::servers::Servers;
use super::{Figure, Ground, float, median, ms};
use crate::bucket;
use anyhow::{Context, Result, ensure};
use client::FileSystem;
use futures::TryStreamExt;
use goosefs_sdk::context::FileSystemContext;
use goosefs_sdk::io::GoosefsFileReader;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::data::Data;
use testkit::proxy::{FaultProxy, Protocol};
use testkit::s3::{Options, S3Server};
use types::GfsPath;
use ufs::{Key, UnderStore};

const BUCKET: &str = "bench";
const LATENCY: Duration = Duration::from_millis(20);
const BYTES_PER_S: u64 = 200_000_000;
const LARGE_BYTES: u64 = 1 << 30;
/// Large objects, each read once from the store and once cold.
const LARGE: u64 = 3;
const SMALL_BYTES: u64 = 256 << 10;
const SMALL: u64 = 40;
/// At once in the pass over many objects.
const READERS: usize = 8;
const MANY: u64 = 400;

struct World {
    store: Arc<dyn UnderStore>,
    proxy: FaultProxy,
    fs: FileSystem,
    official: Arc<FileSystemContext>,
    /// Dropped last: the processes, and the store behind the proxy.
    _servers: Servers,
    _s3: S3Server,
}

impl World {
    async fn new(ground: &Ground) -> Result<World> {
        let dir = ground.directory("cold")?;
        let s3 = S3Server::start(&dir.join("s3"), Options::default())?;
        s3.create_bucket(BUCKET)?;
        for n in 0..LARGE {
            s3.put(BUCKET, &format!("large/{n}"), &Data::new(n).bytes(0, usize::try_from(LARGE_BYTES)?))?;
        }
        for (group, count) in [("first", SMALL), ("many", MANY)] {
            for n in 0..count {
                s3.put(BUCKET, &format!("{group}/{n}"), &Data::new(n).bytes(0, usize::try_from(SMALL_BYTES)?))?;
            }
        }
        let proxy = FaultProxy::start(s3.addr(), Protocol::Http1)?;
        proxy.set_latency(LATENCY);
        proxy.set_bandwidth(Some(BYTES_PER_S));
        let servers = Servers::start(&ground.binary, &dir, &[], &[])?;
        let fs = FileSystem::connect(servers.config()).await?;
        let new = bucket::namespace(BUCKET, &s3, &proxy);
        let store = ufs::open(&new.ufs_uri, &new.properties, &new.secrets)?;
        fs.create_namespace(new).await.context("create the namespace")?;
        let official = FileSystemContext::connect(servers.official()).await?;
        Ok(World { store, proxy, fs, official, _servers: servers, _s3: s3 })
    }

    /// One GET of a whole object: time to the first byte, and to the last.
    async fn direct(&self, key: &str, bytes: u64) -> Result<(Duration, Duration)> {
        let began = Instant::now();
        let mut body = self.store.read(&Key::parse(key)?, 0..bytes, None).await?.body;
        let mut first = None;
        let mut came = 0;
        while let Some(chunk) = body.try_next().await? {
            first.get_or_insert_with(|| began.elapsed());
            came += u64::try_from(chunk.len())?;
        }
        ensure!(came == bytes, "{key}: {came} of {bytes} bytes came from the store");
        Ok((first.context("no byte came")?, began.elapsed()))
    }

    /// The official client reads a large object; every byte is compared afterwards.
    async fn official(&self, n: u64) -> Result<Duration> {
        let began = Instant::now();
        let path = format!("/{BUCKET}/large/{n}");
        let mut reader = GoosefsFileReader::open_with_context(self.official.clone(), &path).await?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.read_next_block().await? {
            blocks.push(block);
        }
        let took = began.elapsed();
        let mut position = 0;
        for block in blocks {
            Data::new(n).verify(position, &block).map_err(|mismatch| anyhow::anyhow!("{path}: {mismatch}"))?;
            position += u64::try_from(block.len())?;
        }
        ensure!(position == LARGE_BYTES, "{path}: {position} of {LARGE_BYTES} bytes came");
        Ok(took)
    }

    /// Our client: time to the first byte, and to the last.
    async fn ours(&self, path: &str) -> Result<(Duration, Duration)> {
        let path = GfsPath::parse(path)?;
        let began = Instant::now();
        let mut reader = self.fs.open(&path).await?;
        let mut first = None;
        while reader.next_chunk().await?.is_some() {
            first.get_or_insert_with(|| began.elapsed());
        }
        Ok((first.context("no byte came")?, began.elapsed()))
    }
}

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let world = World::new(ground).await?;
    let (mut direct, mut cold) = (Vec::new(), Vec::new());
    world.direct("first/0", SMALL_BYTES).await?;
    world.ours(&format!("/{BUCKET}/first/0")).await?;
    for n in 0..LARGE {
        direct.push(world.direct(&format!("large/{n}"), LARGE_BYTES).await?.1);
        world.proxy.reset_stats();
        cold.push(world.official(n).await?);
    }
    let requests = world.proxy.stats().total_requests();
    let (direct, cold) = (median(&mut direct), median(&mut cold));
    let more = cold.as_secs_f64() / direct.as_secs_f64() - 1.0;

    // What is asked about is the miss of data, so that the names are known.
    world.fs.list_all(&GfsPath::parse(&format!("/{BUCKET}/first"))?).await?;
    let (mut bare, mut missed) = (Vec::new(), Vec::new());
    for n in 1..SMALL {
        bare.push(world.direct(&format!("first/{n}"), SMALL_BYTES).await?.0);
        missed.push(world.ours(&format!("/{BUCKET}/first/{n}")).await?.0);
    }
    let (bare, missed) = (median(&mut bare), median(&mut missed));
    let added = ms(missed) - ms(bare);

    Ok(vec![
        Figure::shown(
            "8.4",
            "cold sequential read of 1 GiB, official Rust client, against one direct GET (20 ms, 200 MB/s)",
            format!(
                "{:+.1} %: {:.2} against {:.2} s, {requests} requests",
                more * 100.0,
                cold.as_secs_f64(),
                direct.as_secs_f64()
            ),
        )
        .held("≤ +10 %", more <= 0.1),
        Figure::shown(
            "8.4",
            "a miss: first byte of 256 KiB against a direct GET",
            format!("{added:+.1} ms: {:.1} against {:.1} ms", ms(missed), ms(bare)),
        )
        .held("≤ +5 ms", added <= 5.0),
        many(&world).await?,
    ])
}

/// A directory nobody looked at yet, read whole by [`READERS`] readers: names and data are missing.
async fn many(world: &World) -> Result<Figure> {
    use futures::StreamExt;
    let began = Instant::now();
    let names = futures::stream::iter(0..MANY);
    names
        .map(|n| async move { world.direct(&format!("many/{n}"), SMALL_BYTES).await })
        .buffer_unordered(READERS)
        .try_collect::<Vec<_>>()
        .await?;
    let direct = began.elapsed();
    world.proxy.reset_stats();
    let began = Instant::now();
    futures::stream::iter(0..MANY)
        .map(|n| async move { world.ours(&format!("/{BUCKET}/many/{n}")).await })
        .buffer_unordered(READERS)
        .try_collect::<Vec<_>>()
        .await?;
    let cold = began.elapsed();
    let requests = world.proxy.stats().total_requests();
    let what = format!("{MANY} unknown files of 256 KiB, {READERS} readers, cold against direct");
    let measured = format!(
        "{:.2} against {:.2} s, {:.2} requests each",
        cold.as_secs_f64(),
        direct.as_secs_f64(),
        float(requests) / float(MANY)
    );
    Ok(Figure::shown("8.4", what, measured))
}
