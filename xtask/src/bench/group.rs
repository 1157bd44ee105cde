//! Three masters on this machine, and what replication costs.

use super::metadata::{BareAppends, IN_FLIGHT, create, create_one, path};
use super::{Figure, Ground, changes, cpu, float, median, ms, quantile, us_each};
use anyhow::{Context, Result};
use client::{ClientConfig, FileSystem, WriteOptions};
use goosefs_sdk::client::MasterClient;
use goosefs_sdk::config::GoosefsConfig;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::netns::Lan;
use testkit::process::{Builder, Process, http_get};
use types::{GfsPath, WriteType};

pub const MASTERS: usize = 3;
const ALONE: u64 = 2_000;
/// Files of each of the trees that are made by many at once.
const MANY: u64 = 25_000;
const TREES: [&str; 4] = ["many-1", "many-2", "many-3", "many-4"];
/// A path of 64 bytes.
const LONG: &str = "sixty-four/bytes/with/what/stands/before/and/after/it";
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Masters, each a process of its own, and a worker if one is asked for.
pub struct Masters {
    binary: PathBuf,
    dir: PathBuf,
    /// None: all on the loopback. Else each is a node of it.
    lan: Option<Lan>,
    /// Of each master: client RPC, web, internal RPC, journal.
    ports: Vec<[u16; 4]>,
    pub processes: Vec<Option<Process>>,
}

/// Which of a master's ports.
#[derive(Clone, Copy)]
pub enum Port {
    Rpc,
    Web,
    Internal,
    Journal,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Masters {
    pub async fn start(binary: &Path, dir: &Path, count: usize) -> Result<Masters> {
        Masters::start_on(None, binary, dir, count).await
    }

    /// Masters that are the nodes of a network.
    pub async fn start_on(lan: Option<Lan>, binary: &Path, dir: &Path, count: usize) -> Result<Masters> {
        std::fs::create_dir_all(dir.join("ufs"))?;
        let free = testkit::ports::free_ports(4 * count)?;
        let ports = free.chunks_exact(4).map(|p| [p[0], p[1], p[2], p[3]]).collect();
        let mut masters = Masters { binary: binary.to_owned(), dir: dir.to_owned(), lan, ports, processes: Vec::new() };
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
        let home = self.place(n);
        let spawn = || self.spawn_at(command, &home, self.host(n), &self.own_ports(n), how);
        match &self.lan {
            None => spawn(),
            Some(lan) => lan.within(node(n), || Ok(spawn()))?,
        }
    }

    fn own_ports(&self, n: usize) -> Vec<(&'static str, u16)> {
        let [rpc, web, internal, journal] = self.ports[n];
        let own = [("master.rpc.port", rpc), ("master.web.port", web), ("master.internal.rpc.port", internal)];
        let journal = (self.ports.len() > 1).then_some(("master.embedded.journal.port", journal));
        own.into_iter().chain(journal).collect()
    }

    /// A worker of these masters, ready.
    pub fn start_worker(&self) -> Result<Process> {
        let ports = testkit::ports::free_ports(2)?;
        let own = [("worker.rpc.port", ports[0]), ("worker.web.port", ports[1])];
        let worker = self.spawn_at("worker", &self.dir.join("worker"), LOOPBACK, &own, &[])?;
        worker.wait_for_http((LOOPBACK, ports[1]).into(), "/readyz", PATIENCE)?;
        Ok(worker)
    }

    fn spawn_at(
        &self,
        command: &str,
        home: &Path,
        host: IpAddr,
        own: &[(&'static str, u16)],
        how: &[&str],
    ) -> Result<Process> {
        let list = |port| (0..self.ports.len()).map(|n| self.at(n, port).to_string()).collect::<Vec<_>>().join(",");
        let place = |name: &str| self.dir.join(name).display().to_string();
        let mut settings = vec![
            ("work.dir", home.display().to_string()),
            ("security.secret.key.file", place("secret.key")),
            ("master.mount.table.root.ufs", place("ufs")),
            ("master.rpc.addresses", list(Port::Rpc)),
            ("master.internal.rpc.addresses", list(Port::Internal)),
        ];
        let hosts =
            ["master.hostname", "master.bind.host", "master.web.bind.host", "worker.hostname", "worker.bind.host"];
        settings.extend(hosts.map(|key| (key, host.to_string())));
        settings.extend(own.iter().map(|(key, port)| (*key, port.to_string())));
        if self.ports.len() > 1 {
            settings.push(("master.embedded.journal.addresses", list(Port::Journal)));
        }
        let settings = settings.into_iter().map(|(key, value)| format!("-Dgoosefs.{key}={value}"));
        Ok(Builder::new(&self.binary, &self.dir).arg(command).args(how).args(settings).spawn()?)
    }

    fn host(&self, n: usize) -> IpAddr {
        self.lan.as_ref().map_or(LOOPBACK, |_| IpAddr::V4(Lan::address(node(n))))
    }

    pub fn at(&self, n: usize, port: Port) -> SocketAddr {
        let [rpc, web, internal, journal] = self.ports[n];
        let port = match port {
            Port::Rpc => rpc,
            Port::Web => web,
            Port::Internal => internal,
            Port::Journal => journal,
        };
        (self.host(n), port).into()
    }

    /// Pulls the cable of a master that is a node of a network.
    pub fn cut(&self, n: usize) -> Result<()> {
        Ok(self.lan.as_ref().context("a network")?.cut(node(n))?)
    }

    pub fn mend(&self, n: usize) -> Result<()> {
        Ok(self.lan.as_ref().context("a network")?.mend(node(n))?)
    }

    fn figures(&self, n: usize) -> Option<BTreeMap<String, f64>> {
        let (_, text) = http_get(self.at(n, Port::Web), "/metrics/json").ok()?;
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
        let masters = (0..self.ports.len()).map(|n| self.at(n, Port::Rpc));
        let masters = masters.map(|at| (at.ip().to_string(), at.port())).collect();
        ClientConfig { masters, user: "root".to_owned(), replicas: 1, replicas_min: 1, ..ClientConfig::default() }
    }

    pub fn official(&self, leader: usize) -> GoosefsConfig {
        GoosefsConfig::new(self.at(leader, Port::Rpc).to_string())
            .with_auth_username("root")
            .with_metrics_enabled(false)
    }
}

fn node(n: usize) -> u8 {
    u8::try_from(n).expect("few masters")
}

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let masters = Masters::start(&ground.binary, &ground.directory("three")?, MASTERS).await?;
    let leader = masters.leader().await?;
    let master = Arc::new(MasterClient::connect(&masters.official(leader)).await?);
    // One client at a time first: the leader's quantiles are over all since its start.
    create(&master, "warm-up", ALONE / 10, 1).await?;
    figures.extend(alone(ground, &masters, leader).await?);
    let lone = Masters::start(&ground.binary, &ground.directory("one")?, 1).await?;
    let mut one = Many::of(&lone).await?;
    let mut three = Many::of(&masters).await?;
    // In turns: a machine is quicker at one time than at another.
    for tree in TREES {
        one.create(tree).await?;
        three.create(tree).await?;
    }
    let (lone_cpu, group_cpu) = (one.cpu_us(), three.cpu_us());
    let times = group_cpu / lone_cpu;
    let (rate, batch) = (float(three.made) / three.took.as_secs_f64(), float(three.made) / three.batches);
    figures.push(
        Figure::shown(
            "HA 4.1",
            format!("durable create, {IN_FLIGHT} in flight: CPU of all three masters each, against a lone one's"),
            format!("{group_cpu:.0} against {lone_cpu:.0} µs: {times:.1} × ({rate:.0}/s, {batch:.0} in a batch)"),
        )
        .held("≤ 2 ×", times <= 2.0),
    );
    drop(one);
    drop(lone);
    drop(three);
    if ground.failovers > 0 {
        figures.extend(changes::of_the_leader(masters, ground.failovers).await?);
        figures.push(changes::by_a_cut(ground).await?);
    }
    Ok(figures)
}

/// What many creates at once cost.
struct Many<'a> {
    masters: &'a Masters,
    leader: usize,
    client: Arc<MasterClient>,
    made: u64,
    /// Of all masters, with what is left to do when the last one was answered.
    cpu: Duration,
    took: Duration,
    /// Of the leader.
    batches: f64,
}

impl Many<'_> {
    async fn of(masters: &Masters) -> Result<Many<'_>> {
        let leader = masters.leader().await?;
        let client = Arc::new(MasterClient::connect(&masters.official(leader)).await?);
        create(&client, "warm-up-many", 2_000, IN_FLIGHT).await?;
        let (cpu, took) = (Duration::ZERO, Duration::ZERO);
        Ok(Many { masters, leader, client, made: 0, cpu, took, batches: 0.0 })
    }

    fn synced(&self) -> Result<f64> {
        let figures = self.masters.figures(self.leader);
        figures.and_then(|figures| figures.get("Master.JournalSyncs").copied()).context("the leader answers")
    }

    async fn create(&mut self, tree: &'static str) -> Result<()> {
        self.masters.settled().await?;
        let (synced, cpu, began) = (self.synced()?, self.masters.cpu()?, Instant::now());
        create(&self.client, tree, MANY, IN_FLIGHT).await?;
        self.took += began.elapsed();
        self.batches += self.synced()? - synced;
        self.masters.settled().await?;
        self.cpu += self.masters.cpu()?.saturating_sub(cpu);
        self.made += MANY;
        Ok(())
    }

    fn cpu_us(&self) -> f64 {
        us_each(self.cpu, self.made)
    }
}

/// One client: creates, three bare appends side by side, bare round trips, and status calls in turns.
async fn alone(ground: &Ground, masters: &Masters, leader: usize) -> Result<Vec<Figure>> {
    let before = masters.figures(leader).context("the leader answers")?;
    let (official, own) = (masters.official(leader), masters.config());
    let dir = ground.directory("bare")?;
    let mut took = tokio::task::spawn_blocking(move || turns(&official, own, &dir)).await??;
    let after = masters.figures(leader).context("the leader answers")?;
    let grown = |name: &str| after.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0);
    let bytes = grown("Master.JournalEntryBytes") / grown("Master.JournalEntries");
    let micros = |name: &str| Duration::from_micros(after.get(name).map_or(0, |us| *us as u64));
    let (bare_p50, round_trip) = (median(&mut took.bare), median(&mut took.round_trips));
    let times_bare = |time: Duration| time.as_secs_f64() / bare_p50.as_secs_f64();
    let commit = micros("Master.JournalFlushTimer.P50Us");
    let within = times_bare(commit.saturating_sub(round_trip));
    let at_the_client = |whose: &str, calls: &mut Calls| {
        let p50 = median(&mut calls.creates);
        let times = times_bare(p50);
        let shown = Figure::shown(
            "HA 4.1",
            format!("durable create by one {whose}: p50 against three bare appends + fdatasync side by side"),
            format!(
                "{:.2} ms against {:.2} ms: {times:.1} × (p99 {:.2} ms; a GetStatus takes {:.2} ms)",
                ms(p50),
                ms(bare_p50),
                ms(quantile(&mut calls.creates, 99)),
                ms(median(&mut calls.statuses))
            ),
        );
        (shown, times)
    };
    let (own, own_times) = at_the_client("client of ours", &mut took.own);
    let (official, _) = at_the_client("official client", &mut took.official);
    Ok(vec![
        own.held("≤ 3 ×", own_times <= 3.0),
        official,
        Figure::shown(
            "HA 4.1",
            "the same from proposal to commit within the leader, less a bare round trip",
            format!("{:.2} ms less {:.3} ms: {within:.1} ×", ms(commit), ms(round_trip)),
        )
        .held("≤ 2 ×", within <= 2.0),
        Figure::shown("HA 4.2", "encoded bytes of a create with a path of 64 bytes", format!("{bytes:.0}"))
            .held("≤ 300", bytes <= 300.0),
    ])
}

/// How long calls of one client took.
#[derive(Default)]
struct Calls {
    creates: Vec<Duration>,
    statuses: Vec<Duration>,
}

/// How long each of them took.
#[derive(Default)]
struct Took {
    official: Calls,
    own: Calls,
    bare: Vec<Duration>,
    round_trips: Vec<Duration>,
}

/// How long something took.
async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<Duration> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

fn turns(official: &GoosefsConfig, own: ClientConfig, dir: &Path) -> Result<Took> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut files = Vec::new();
    for n in 0..MASTERS {
        let place = dir.join(n.to_string());
        std::fs::create_dir_all(&place)?;
        files.push(BareAppends::new(&place, 512)?);
    }
    let mut echo = echo()?;
    runtime.block_on(async {
        let master = MasterClient::connect(official).await?;
        let fs = FileSystem::connect(own).await?;
        let how = WriteOptions { write_type: Some(WriteType::MustCache), ..WriteOptions::default() };
        let mut took = Took::default();
        for n in 0..ALONE {
            let own = GfsPath::parse(&format!("{}-own", path(LONG, n)))?;
            // What one left behind in caches and on the disk, the other finds as often.
            for is_own in [n % 2 == 0, n % 2 != 0] {
                match is_own {
                    true => took.own.creates.push(timed(async { Ok(fs.create(&own, how).await?) }).await?),
                    false => took.official.creates.push(timed(create_one(&master, LONG, n)).await?),
                }
                took.bare.push(side_by_side(&mut files)?);
                let began = Instant::now();
                round_trip(&mut echo)?;
                took.round_trips.push(began.elapsed());
            }
            took.official.statuses.push(timed(async { Ok(master.get_status(&path(LONG, n)).await?) }).await?);
            took.own.statuses.push(timed(async { Ok(fs.status(&own).await?) }).await?);
        }
        Ok(took)
    })
}

/// What leader and follower say to each other about one entry, in size.
const MESSAGE_BYTES: usize = 256;

/// A peer on the loopback that says again what it is told.
fn echo() -> Result<TcpStream> {
    let listener = TcpListener::bind((LOOPBACK, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    std::thread::spawn(move || {
        let mut message = [0; MESSAGE_BYTES];
        // It ends with the other end.
        while far.read_exact(&mut message).and_then(|()| far.write_all(&message)).is_ok() {}
    });
    Ok(near)
}

fn round_trip(echo: &mut TcpStream) -> Result<()> {
    let mut message = [0; MESSAGE_BYTES];
    echo.write_all(&message)?;
    Ok(echo.read_exact(&mut message)?)
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
