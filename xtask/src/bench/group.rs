//! Three masters on this machine: what replication costs, and how long a change of the leader is felt.

use super::metadata::{BareAppends, IN_FLIGHT, create, create_one, path};
use super::{Figure, Ground, cpu, float, median, ms, quantile, us_each};
use anyhow::{Context, Result};
use client::{ClientConfig, FileSystem, MakeDirectory};
use goosefs_sdk::client::MasterClient;
use goosefs_sdk::config::GoosefsConfig;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use testkit::process::{Builder, Process, http_get};
use types::{GfsPath, Mode};

const MASTERS: usize = 3;
const ALONE: u64 = 2_000;
const MANY: u64 = 100_000;
/// A path of 64 bytes.
const LONG: &str = "sixty-four/bytes/with/what/stands/before/and/after/it";
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Times the lead is handed over, and a leader is stopped for a while.
const TRANSFERS: usize = 10;
const HANGS: usize = 5;
/// How long a leader that hangs does so.
const HANG: Duration = Duration::from_secs(4);
/// What clients do before and after each change of the leader, so that each finds a settled group.
const BETWEEN: usize = 100;

/// Masters, each a process of its own, and no worker.
pub struct Masters {
    binary: PathBuf,
    dir: PathBuf,
    /// Of each master: client RPC, web, internal RPC, journal.
    pub ports: Vec<[u16; 4]>,
    pub processes: Vec<Option<Process>>,
}

pub fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

impl Masters {
    pub async fn start(binary: &Path, dir: &Path, count: usize) -> Result<Masters> {
        std::fs::create_dir_all(dir.join("ufs"))?;
        let free = testkit::ports::free_ports(4 * count)?;
        let ports = free.chunks_exact(4).map(|p| [p[0], p[1], p[2], p[3]]).collect();
        let mut masters = Masters { binary: binary.to_owned(), dir: dir.to_owned(), ports, processes: Vec::new() };
        for n in 0..count {
            let formatted = masters.spawn("formatMaster", n)?.wait_exit(PATIENCE)?;
            anyhow::ensure!(formatted.success(), "goosefs formatMaster failed; see {}", dir.display());
        }
        for n in 0..count {
            masters.processes.push(Some(masters.spawn("master", n)?));
        }
        masters.leader().await?;
        Ok(masters)
    }

    /// Where a master keeps everything.
    pub fn place(&self, n: usize) -> PathBuf {
        self.dir.join(format!("master{n}"))
    }

    pub fn spawn(&self, command: &str, n: usize) -> Result<Process> {
        self.spawn_with(command, n, &[])
    }

    pub fn spawn_with(&self, command: &str, n: usize, how: &[&str]) -> Result<Process> {
        let [rpc, web, internal, journal] = self.ports[n];
        let list = |which: usize| {
            let addresses: Vec<String> = self.ports.iter().map(|ports| at(ports[which]).to_string()).collect();
            addresses.join(",")
        };
        let place = |name: &str| self.dir.join(name).display().to_string();
        let mut settings = vec![
            ("work.dir", self.place(n).display().to_string()),
            ("security.secret.key.file", place("secret.key")),
            ("master.mount.table.root.ufs", place("ufs")),
            ("master.hostname", "127.0.0.1".to_owned()),
            ("master.bind.host", "127.0.0.1".to_owned()),
            ("master.rpc.port", rpc.to_string()),
            ("master.web.port", web.to_string()),
            ("master.internal.rpc.port", internal.to_string()),
        ];
        if self.ports.len() > 1 {
            settings.push(("master.embedded.journal.port", journal.to_string()));
            settings.push(("master.embedded.journal.addresses", list(3)));
            settings.push(("master.rpc.addresses", list(0)));
        }
        let settings = settings.into_iter().map(|(key, value)| format!("-Dgoosefs.{key}={value}"));
        Ok(Builder::new(&self.binary, &self.dir).arg(command).args(how).args(settings).spawn()?)
    }

    fn figures(&self, n: usize) -> Option<BTreeMap<String, f64>> {
        let (_, text) = http_get(at(self.ports[n][1]), "/metrics/json").ok()?;
        serde_json::from_str(&text).ok()
    }

    pub async fn leader(&self) -> Result<usize> {
        let began = Instant::now();
        loop {
            let leads = |n: &usize| {
                self.processes[*n].is_some() && self.figures(*n).is_some_and(|f| f.get("Master.IsLeader") == Some(&1.0))
            };
            if let Some(leader) = (0..self.ports.len()).find(leads) {
                return Ok(leader);
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "no master leads; see {}", self.dir.display());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every running master has applied what the leader has now.
    pub async fn settled(&self) -> Result<()> {
        let applied = |n: usize| self.figures(n)?.get("Master.LastAppliedCommitJournalIndex").copied();
        let leader = self.leader().await?;
        let target = applied(leader).context("the leader answers")?;
        let began = Instant::now();
        for n in (0..self.ports.len()).filter(|n| self.processes[*n].is_some()) {
            while applied(n).is_none_or(|index| index < target) {
                anyhow::ensure!(began.elapsed() < PATIENCE, "master {n} does not catch up; see {}", self.dir.display());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    pub fn process(&self, n: usize) -> Result<&Process> {
        self.processes[n].as_ref().context("it was stopped")
    }

    fn cpu(&self) -> Result<Duration> {
        self.processes.iter().flatten().map(|process| cpu::of(process.pid())).sum()
    }

    pub fn config(&self) -> ClientConfig {
        let masters = self.ports.iter().map(|ports| ("127.0.0.1".to_owned(), ports[0])).collect();
        ClientConfig { masters, user: "root".to_owned(), ..ClientConfig::default() }
    }

    pub fn official(&self, leader: usize) -> GoosefsConfig {
        GoosefsConfig::new(at(self.ports[leader][0]).to_string()).with_auth_username("root").with_metrics_enabled(false)
    }
}

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let lone_cpu = {
        let lone = Masters::start(&ground.binary, &ground.directory("one")?, 1).await?;
        let master = Arc::new(MasterClient::connect(&lone.official(0)).await?);
        create(&master, "warm-up", 2_000, IN_FLIGHT).await?;
        many(&lone, &master).await?.0
    };
    let masters = Masters::start(&ground.binary, &ground.directory("three")?, MASTERS).await?;
    let leader = masters.leader().await?;
    let master = Arc::new(MasterClient::connect(&masters.official(leader)).await?);
    create(&master, "warm-up", 2_000, IN_FLIGHT).await?;
    masters.settled().await?;

    figures.extend(alone(ground, &masters, leader).await?);
    let (group_cpu, rate, batch) = many(&masters, &master).await?;
    let times = group_cpu / lone_cpu;
    figures.push(
        Figure::shown(
            "HA 4.1",
            format!("durable create, {IN_FLIGHT} in flight: CPU of all three masters each, against a lone one's"),
            format!("{group_cpu:.0} against {lone_cpu:.0} µs: {times:.1} × ({rate:.0}/s, {batch:.0} in a batch)"),
        )
        .held("≤ 2 ×", times <= 2.0),
    );
    figures.extend(changes(masters, ground.failovers).await?);
    Ok(figures)
}

/// Many creates at once: CPU of all masters each in µs, how many a second, how many in one of the leader's batches.
async fn many(masters: &Masters, master: &Arc<MasterClient>) -> Result<(f64, f64, f64)> {
    let leader = masters.leader().await?;
    let batches = || masters.figures(leader).and_then(|figures| figures.get("Master.JournalSyncs").copied());
    let batches_before = batches().context("the leader answers")?;
    let (before, began) = (masters.cpu()?, Instant::now());
    create(master, "many", MANY, IN_FLIGHT).await?;
    let took = began.elapsed();
    let written = batches().context("the leader answers")? - batches_before;
    masters.settled().await?;
    let each = us_each(masters.cpu()?.saturating_sub(before), MANY);
    Ok((each, float(MANY) / took.as_secs_f64(), float(MANY) / written))
}

/// One client: creates, three bare appends side by side, and status calls in turns.
async fn alone(ground: &Ground, masters: &Masters, leader: usize) -> Result<Vec<Figure>> {
    let before = masters.figures(leader).context("the leader answers")?;
    let config = masters.official(leader);
    let dir = ground.directory("bare")?;
    let (mut creates, mut bare, mut statuses) = tokio::task::spawn_blocking(move || turns(&config, &dir)).await??;
    let after = masters.figures(leader).context("the leader answers")?;
    let grown = |name: &str| after.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0);
    let bytes = grown("Master.JournalEntryBytes") / grown("Master.JournalEntries");
    let micros = |name: &str| Duration::from_micros(after.get(name).map_or(0, |us| *us as u64));
    let (p50, bare_p50) = (median(&mut creates), median(&mut bare));
    let times = p50.as_secs_f64() / bare_p50.as_secs_f64();
    // Of all entries since the start; nearly all were proposed alone.
    let commit = micros("Master.JournalFlushTimer.P50Us");
    Ok(vec![
        Figure::shown(
            "HA 4.1",
            "durable create by one client: p50 against three bare appends + fdatasync side by side",
            format!(
                "{:.2} ms against {:.2} ms: {times:.1} × (p99 {:.2} ms; a GetStatus takes {:.2} ms)",
                ms(p50),
                ms(bare_p50),
                ms(quantile(&mut creates, 99)),
                ms(median(&mut statuses))
            ),
        )
        .held("≤ 3 ×", times <= 3.0),
        Figure::shown(
            "HA 4.1",
            "from proposal to commit within the leader, p50 of all so far (one client and 64)",
            format!("{:.2} ms", ms(commit)),
        ),
        Figure::shown("HA 4.2", "encoded bytes of a create with a path of 64 bytes", format!("{bytes:.0}"))
            .held("≤ 300", bytes <= 300.0),
    ])
}

type Times = Vec<Duration>;

fn turns(config: &GoosefsConfig, dir: &Path) -> Result<(Times, Times, Times)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut files = Vec::new();
    for n in 0..MASTERS {
        let place = dir.join(n.to_string());
        std::fs::create_dir_all(&place)?;
        files.push(BareAppends::new(&place, 512)?);
    }
    runtime.block_on(async {
        let master = MasterClient::connect(config).await?;
        let (mut creates, mut bare, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..ALONE {
            let began = Instant::now();
            create_one(&master, LONG, n).await?;
            creates.push(began.elapsed());
            bare.push(side_by_side(&mut files)?);
            let began = Instant::now();
            master.get_status(&path(LONG, n)).await?;
            statuses.push(began.elapsed());
        }
        Ok((creates, bare, statuses))
    })
}

/// One append to each file by a thread of its own; how long until all of them were safe, from when all had begun.
fn side_by_side(files: &mut [BareAppends]) -> Result<Duration> {
    let gate = std::sync::Barrier::new(files.len());
    std::thread::scope(|scope| {
        let gate = &gate;
        let writers: Vec<_> = files
            .iter_mut()
            .map(|file| {
                scope.spawn(move || {
                    gate.wait();
                    file.append()
                })
            })
            .collect();
        let mut longest = Duration::ZERO;
        for writer in writers {
            longest = longest.max(writer.join().expect("an append does not panic")?);
        }
        Ok(longest)
    })
}

/// A client that makes one directory after the other, and when each was acknowledged.
struct Prober {
    acknowledged: Arc<Moments>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<()>>,
}

/// Moments, in order.
#[derive(Default)]
struct Moments(Mutex<Vec<Instant>>);

impl Moments {
    fn all(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().expect("nobody panics with it in hand")
    }

    fn count(&self) -> usize {
        self.all().len()
    }

    /// The longest time between two of them from `moment` on, from the last one before it.
    fn longest_gap(&self, moment: Instant) -> Duration {
        let all = self.all();
        let from = all.partition_point(|at| *at < moment).saturating_sub(1);
        all[from..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl Prober {
    fn start(fs: FileSystem, name: String) -> Prober {
        let (acknowledged, stop): (Arc<Moments>, Arc<AtomicBool>) = Default::default();
        let (moments, ends) = (acknowledged.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let how = MakeDirectory { recursive: true, allow_exists: true, mode: Mode::new(0o755) };
            for n in 0_u64.. {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                fs.make_directory(&GfsPath::parse(&format!("/{name}/d{n}"))?, how).await?;
                moments.all().push(Instant::now());
            }
            Ok(())
        });
        Prober { acknowledged, stop, task }
    }

    /// Waits until so many more were acknowledged.
    async fn more(&self, count: usize) -> Result<()> {
        let (target, began) = (self.acknowledged.count() + count, Instant::now());
        while self.acknowledged.count() < target {
            anyhow::ensure!(!self.task.is_finished() && began.elapsed() < PATIENCE, "the client got no further");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Kills, hangs and hand-overs under a client.
async fn changes(mut masters: Masters, failovers: usize) -> Result<Vec<Figure>> {
    let fs = FileSystem::connect(masters.config()).await?;
    let (mut killed, mut handed, mut hung) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..TRANSFERS {
        let prober = Prober::start(fs.clone(), format!("handed-{n}"));
        prober.more(BETWEEN).await?;
        let to = (masters.leader().await? + 1) % MASTERS;
        let began = Instant::now();
        fs.elect(&at(masters.ports[to][3]).to_string()).await?;
        prober.more(BETWEEN).await?;
        handed.push(prober.acknowledged.longest_gap(began));
        prober.end().await?;
        masters.settled().await?;
    }
    for n in 0..failovers {
        let prober = Prober::start(fs.clone(), format!("killed-{n}"));
        prober.more(BETWEEN).await?;
        let leader = masters.leader().await?;
        let began = Instant::now();
        masters.processes[leader].take().context("it runs")?.kill9()?;
        prober.more(BETWEEN).await?;
        killed.push(prober.acknowledged.longest_gap(began));
        prober.end().await?;
        masters.processes[leader] = Some(masters.spawn("master", leader)?);
        masters.settled().await?;
    }
    for n in 0..HANGS {
        let prober = Prober::start(fs.clone(), format!("hung-{n}"));
        prober.more(BETWEEN).await?;
        let leader = masters.leader().await?;
        masters.process(leader)?.pause()?;
        let began = Instant::now();
        let went_on = prober.more(BETWEEN).await;
        tokio::time::sleep(HANG.saturating_sub(began.elapsed())).await;
        masters.process(leader)?.resume()?;
        went_on?;
        hung.push(prober.acknowledged.longest_gap(began));
        prober.end().await?;
        masters.settled().await?;
    }
    let shown = |times: &mut Vec<Duration>| {
        let (p50, p96, most) = (median(times), quantile(times, 95), quantile(times, 100));
        (
            format!("p50 {:.0} ms, p96 {:.0} ms, longest {:.0} ms, of {}", ms(p50), ms(p96), ms(most), times.len()),
            p96,
            most,
        )
    };
    let (kills, p96, most) = shown(&mut killed);
    let (hands, _, longest_hand) = shown(&mut handed);
    let (hangs, _, longest_hang) = shown(&mut hung);
    let second = Duration::from_secs(1);
    Ok(vec![
        Figure::shown("HA 3.2", "kill −9 of the leader: a client's longest wait for a write", kills)
            .held("48 of 50 ≤ 1 s, none > 3 s", p96 <= second && most <= 3 * second),
        Figure::shown("HA 3.2", "the leader hangs: our client's longest wait for a write", hangs)
            .held("≤ 2 s", longest_hang <= 2 * second),
        Figure::shown("HA 3.2", "the lead is handed over: a client's longest wait for a write", hands)
            .held("≤ 100 ms", longest_hand <= Duration::from_millis(100)),
    ])
}
