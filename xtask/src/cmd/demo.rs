//! `cargo xtask demo`: real data from an object store, straight, cold and warm, with nothing to configure.
//!
//! The store is an S3 server in this process behind a proxy with a stated latency and bandwidth: an honest stand-in for a
//! remote bucket. GooseFS is the real binary, one `goosefs local`. Every byte that is read is compared with its source.

use crate::bucket;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use client::{ClientConfig, FileSystem};
use comfy_table::{CellAlignment, Table, presets};
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::proxy::{FaultProxy, Protocol, Stats};
use testkit::s3::{Options, S3Server};
use types::GfsPath;

/// The bucket, and the name of the namespace over it.
const BUCKET: &str = "demo";
/// Most bytes of the data set.
const DATA_BYTES: u64 = 200 << 20;
/// Files read at once in each pass.
const READERS: usize = 8;
/// How long the servers may take from start to ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long they may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// See the same files read straight from an object store, cold through GooseFS, and warm through GooseFS
#[derive(Args, Debug, Clone)]
pub struct Demo {
    /// A directory of your own to use as data (default: source archives of the cargo registry and the built binary)
    #[arg(long, env = "DATA")]
    data: Option<PathBuf>,
    /// Milliseconds before the store answers each request
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Megabytes per second the whole store gives
    #[arg(long, default_value_t = 100)]
    bandwidth_mbs: u64,
    /// End after the table instead of staying up
    #[arg(long)]
    once: bool,
    /// Port of the master's RPC; the other ports stay the standard ones unless this is given
    #[arg(long)]
    port: Option<u16>,
    /// The goosefs binary to run
    #[arg(long, env = "GOOSEFS_BIN")]
    binary: PathBuf,
}

/// One file of the data set.
struct Item {
    key: String,
    source: PathBuf,
    bytes: u64,
}

/// What one pass cost.
struct Pass {
    name: &'static str,
    took: Duration,
    bytes: u64,
    store: Stats,
}

impl Demo {
    pub fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.show())
    }

    async fn show(self) -> Result<()> {
        let dir = tempfile::Builder::new().prefix("goosefs-demo-").tempdir().context("make a temporary directory")?;
        let items = self.choose()?;
        let total: u64 = items.iter().map(|item| item.bytes).sum();
        ensure!(!items.is_empty(), "there is nothing to show: the data set is empty; pass DATA=directory");
        println!("Data: {} files, {:.1} MB.", items.len(), mb(total));

        let server = S3Server::start(&dir.path().join("s3"), Options::default()).context("start the object store")?;
        server.create_bucket(BUCKET)?;
        fill(&server, &items)?;
        let proxy = FaultProxy::start(server.addr(), Protocol::Http1).context("start the proxy")?;
        proxy.set_latency(Duration::from_millis(self.latency_ms));
        proxy.set_bandwidth(Some(self.bandwidth_mbs * 1_000_000));
        println!(
            "Store: S3 at {}, {} ms per request, {} MB/s in all: a stand-in for a remote bucket.",
            proxy.endpoint(),
            self.latency_ms,
            self.bandwidth_mbs
        );

        let mut cluster = Cluster::start(&self.binary, &dir.path().join("goosefs"), self.port)?;
        let outcome = self.passes(&cluster, &server, &proxy, &items).await;
        let shown = match outcome {
            Ok(passes) => {
                println!("\n{}", table(&passes));
                println!("Every byte was compared with its source.");
                if self.once { Ok(()) } else { self.stay(&cluster, &proxy).await }
            }
            Err(err) => Err(err),
        };
        cluster.stop();
        shown
    }

    /// The data set: what every checkout has, or the reader's own, up to [`DATA_BYTES`].
    fn choose(&self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        if let Some(data) = &self.data {
            ensure!(data.is_dir(), "DATA={} is not a directory", data.display());
            walk(data, data, &mut items)?;
        } else {
            let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
            let home = std::env::var_os("HOME").map(PathBuf::from);
            let cargo =
                cargo.or_else(|| home.map(|home| home.join(".cargo"))).context("neither CARGO_HOME nor HOME is set")?;
            let bytes = self.binary.metadata().with_context(|| format!("look at {}", self.binary.display()))?.len();
            items.push(Item { key: "bin/goosefs".into(), source: self.binary.clone(), bytes });
            let archives = cargo.join("registry/cache");
            if archives.is_dir() {
                let mut found = Vec::new();
                walk(&archives, &archives, &mut found)?;
                for item in found {
                    // Drop the directory that names the registry.
                    let name = item.key.split_once('/').map_or(item.key.as_str(), |(_, name)| name).to_owned();
                    items.push(Item { key: format!("crates/{name}"), ..item });
                }
            }
        }
        let mut left = DATA_BYTES;
        items.retain(|item| {
            let keep = item.bytes <= left;
            left -= if keep { item.bytes } else { 0 };
            keep
        });
        Ok(items)
    }

    async fn passes(
        &self,
        cluster: &Cluster,
        server: &S3Server,
        proxy: &FaultProxy,
        items: &[Item],
    ) -> Result<Vec<Pass>> {
        let new = bucket::namespace(BUCKET, server, proxy);
        let (uri, store) = (new.ufs_uri.clone(), ufs::open(&new.ufs_uri, &new.properties, &new.secrets)?);
        let fs = cluster.client().await?;
        fs.create_namespace(new).await.context("create the namespace")?;
        println!("Namespace: /{BUCKET} over {uri}.\n");

        let straight = pass("straight from the store", proxy, items, |item| {
            let store = store.clone();
            async move {
                let key = ufs::Key::parse(&item.key)?;
                let body = store.read(&key, 0..item.bytes, None).await?.body;
                Ok(body.map_err(anyhow::Error::from).boxed())
            }
        })
        .await?;
        let mut passes = vec![straight];
        for name in ["GooseFS, cold", "GooseFS, warm"] {
            let read = pass(name, proxy, items, |item| {
                let fs = fs.clone();
                async move {
                    let path = GfsPath::parse(&format!("/{BUCKET}/{}", item.key))?;
                    let reader = fs.open(&path).await?;
                    let chunks = stream::try_unfold(reader, |mut reader| async move {
                        Ok(reader.next_chunk().await?.map(|chunk| (chunk, reader)))
                    });
                    Ok(chunks.boxed_local())
                }
            });
            passes.push(read.await?);
        }
        Ok(passes)
    }

    async fn stay(&self, cluster: &Cluster, proxy: &FaultProxy) -> Result<()> {
        let binary = self.binary.display();
        let option = if cluster.rpc == 9200 {
            String::new()
        } else {
            format!(" -Dgoosefs.master.rpc.addresses=127.0.0.1:{}", cluster.rpc)
        };
        println!(
            "\nIt is up: master 127.0.0.1:{}, web http://127.0.0.1:{}, store {}",
            cluster.rpc,
            cluster.web,
            proxy.endpoint()
        );
        println!("Try:");
        println!("  {binary} fs ls /{BUCKET}{option}");
        println!("  {binary} fs stat /{BUCKET}/bin/goosefs{option}");
        println!("  {binary} fsadmin report{option}");
        println!("Stop with Ctrl-C; nothing is left behind.");
        tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
        println!("\nStopping.");
        Ok(())
    }
}

fn walk(root: &Path, dir: &Path, items: &mut Vec<Item>) -> Result<()> {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            walk(root, &path, items)?;
        } else if kind.is_file() {
            let Some(key) = path.strip_prefix(root)?.to_str().map(str::to_owned) else { continue };
            items.push(Item { key, bytes: entry.metadata()?.len(), source: path });
        }
    }
    Ok(())
}

fn fill(server: &S3Server, items: &[Item]) -> Result<()> {
    for item in items {
        let bytes = std::fs::read(&item.source).with_context(|| format!("read {}", item.source.display()))?;
        server.put(BUCKET, &item.key, &bytes).with_context(|| format!("put {}", item.key))?;
    }
    Ok(())
}

/// Reads every file once, [`READERS`] at a time, and compares it with its source.
async fn pass<'a, F, S>(
    name: &'static str,
    proxy: &FaultProxy,
    items: &'a [Item],
    open: impl Fn(&'a Item) -> F,
) -> Result<Pass>
where
    F: Future<Output = Result<S>>,
    S: stream::Stream<Item = Result<bytes::Bytes>> + Unpin,
{
    let total: u64 = items.iter().map(|item| item.bytes).sum();
    let bar = bar(name, total);
    proxy.reset_stats();
    let began = Instant::now();
    let (open, progress) = (&open, &bar);
    stream::iter(items)
        .map(|item| async move {
            let mut chunks = open(item).await.with_context(|| format!("open {}", item.key))?;
            let source = Arc::new(std::fs::File::open(&item.source)?);
            let mut offset = 0;
            while let Some(chunk) = chunks.try_next().await.with_context(|| format!("read {}", item.key))? {
                compare(&source, offset, &chunk).with_context(|| item.key.clone())?;
                offset += u64::try_from(chunk.len())?;
                progress.inc(u64::try_from(chunk.len())?);
            }
            ensure!(offset == item.bytes, "{}: {offset} of {} bytes came", item.key, item.bytes);
            Ok(())
        })
        .buffer_unordered(READERS)
        .try_collect::<()>()
        .await?;
    let took = began.elapsed();
    bar.finish_and_clear();
    println!("{name}: {:.1} s", took.as_secs_f64());
    Ok(Pass { name, took, bytes: total, store: proxy.stats() })
}

fn compare(source: &std::fs::File, offset: u64, chunk: &[u8]) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let mut expected = vec![0; chunk.len()];
    source.read_exact_at(&mut expected, offset)?;
    if expected != chunk {
        bail!("bytes from {offset} on differ from the source");
    }
    Ok(())
}

fn bar(name: &'static str, total: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{msg:26} {bar:30} {bytes:>10} {bytes_per_sec:>12} {eta:>5} left")
        .expect("the template is a constant");
    ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(name)
}

fn table(passes: &[Pass]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(vec![
        "read",
        "seconds",
        "MB/s",
        "store requests",
        "MB from the store",
    ]);
    for column in 1..5 {
        table.column_mut(column).expect("five columns").set_cell_alignment(CellAlignment::Right);
    }
    for pass in passes {
        let seconds = pass.took.as_secs_f64();
        table.add_row(vec![
            pass.name.to_owned(),
            format!("{seconds:.2}"),
            format!("{:.1}", mb(pass.bytes) / seconds),
            pass.store.total_requests().to_string(),
            format!("{:.1}", mb(pass.store.down_bytes)),
        ]);
    }
    table
}

fn mb(bytes: u64) -> f64 {
    let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    f64::from(kib) * 1024.0 / 1e6
}

/// `goosefs local` as a child of ours.
struct Cluster {
    child: Child,
    rpc: u16,
    web: u16,
    log: PathBuf,
}

impl Cluster {
    fn start(binary: &Path, dir: &Path, port: Option<u16>) -> Result<Cluster> {
        std::fs::create_dir_all(dir)?;
        let log = dir.join("output.log");
        let output = std::fs::File::create(&log)?;
        let mut command = Command::new(binary);
        command.arg("local").arg("--dir").arg(dir).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let (mut rpc, mut web) = (9200, 9201);
        if let Some(port) = port {
            let others = testkit::ports::free_ports(4)?;
            command.args(testkit::ports::options(&[&[port], others.as_slice()].concat()));
            (rpc, web) = (port, others[0]);
        }
        let child = command.spawn().with_context(|| format!("start {}", binary.display()))?;
        let mut cluster = Cluster { child, rpc, web, log };
        let began = Instant::now();
        let ready = testkit::try_eventually(READY_WITHIN, || {
            let ended = cluster.child.try_wait().ok().flatten().is_some();
            ended
                || testkit::process::http_get(([127, 0, 0, 1], web).into(), "/readyz")
                    .is_ok_and(|(status, _)| status == 200)
        });
        if ready.is_err() || cluster.child.try_wait()?.is_some() {
            let output = std::fs::read_to_string(&cluster.log).unwrap_or_default();
            cluster.stop();
            bail!("goosefs local did not become ready; it said:\n{output}");
        }
        println!("GooseFS: ready after {:.1} s.", began.elapsed().as_secs_f64());
        Ok(cluster)
    }

    async fn client(&self) -> Result<FileSystem> {
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        let config =
            ClientConfig { masters: vec![("127.0.0.1".to_owned(), self.rpc)], user, ..ClientConfig::default() };
        FileSystem::connect(config).await.context("connect to the master")
    }

    /// Asks it to stop, then insists.
    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        // A child that has ended already needs no signal.
        let _ = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let ended = testkit::try_eventually(STOP_WITHIN, || self.child.try_wait().ok().flatten().is_some());
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}
