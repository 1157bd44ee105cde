//! Three masters and workers as processes on free ports, and ways to kill them.

use client::ClientConfig;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::line::Line;
use testkit::netns::Lan;
use testkit::process::{Builder, Process};

/// How long a start, an election or a catching up may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
pub const MASTERS: usize = 3;
/// Commands run so far: each has a log of its own.
static COMMANDS: AtomicUsize = AtomicUsize::new(0);

/// Ports of one master.
#[derive(Clone, Copy)]
struct Ports {
    rpc: u16,
    web: u16,
    internal: u16,
    journal: u16,
}

pub struct Group {
    dir: PathBuf,
    /// None: all on the loopback.
    lan: Option<Lan>,
    /// On a network: from each master to each other one.
    lines: Vec<Between>,
    /// On a network: from clients to each master.
    client_lines: Vec<Line>,
    /// What is started from now on.
    pub program: PathBuf,
    /// A library each master is started with.
    pub preload: Option<PathBuf>,
    /// How many workers are started.
    pub worker_count: usize,
    ports: Vec<Ports>,
    worker_ports: Vec<[u16; 2]>,
    extra: Vec<String>,
    masters: Vec<Option<Process>>,
    workers: Vec<Process>,
}

/// What one master says to another goes this way.
struct Between {
    masters: [usize; 2],
    line: Line,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where on its own loopback a master of a network, or a client, finds the line to the first one; the others follow.
const FIRST_LINE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
const WORKERS: usize = 2;

impl Group {
    /// Formats a cluster and starts all of it. `extra`: further settings, `key=value`.
    pub fn start(dir: &Path, extra: &[&str]) -> Group {
        let mut group = Group::format(dir, extra);
        group.start_all();
        group
    }

    /// Starts everything that was formatted.
    pub fn start_all(&mut self) {
        (0..MASTERS).for_each(|n| self.start_master(n));
        self.leader();
        (0..self.worker_count).for_each(|n| self.start_worker(n));
    }

    /// Formats a cluster.
    pub fn format(dir: &Path, extra: &[&str]) -> Group {
        Group::format_on(None, dir, extra)
    }

    /// Formats a cluster by another program than the one under test.
    pub fn format_by(program: PathBuf, dir: &Path) -> Group {
        Group::formatted(program, None, dir, &[])
    }

    /// Formats a cluster whose masters are the nodes of a network, with lines between them.
    pub fn format_on(lan: Option<Lan>, dir: &Path, extra: &[&str]) -> Group {
        Group::formatted(own_program(), lan, dir, extra)
    }

    fn formatted(program: PathBuf, lan: Option<Lan>, dir: &Path, extra: &[&str]) -> Group {
        std::fs::create_dir_all(dir.join("ufs")).expect("a directory of the test's own");
        let free = testkit::ports::free_ports(4 * MASTERS + 2 * WORKERS).expect("free ports");
        let (masters, workers) = free.split_at(4 * MASTERS);
        let ports: Vec<Ports> =
            masters.chunks_exact(4).map(|p| Ports { rpc: p[0], web: p[1], internal: p[2], journal: p[3] }).collect();
        let lines = lan.as_ref().map_or_else(Vec::new, |lan| lines(lan, &ports));
        let client_lines = lan.as_ref().map_or_else(Vec::new, |_| client_lines(&ports));
        let group = Group {
            dir: dir.to_owned(),
            lan,
            lines,
            client_lines,
            program,
            preload: None,
            worker_count: 1,
            ports,
            worker_ports: workers.chunks_exact(2).map(|p| [p[0], p[1]]).collect(),
            extra: extra.iter().map(|&text| text.to_owned()).collect(),
            masters: (0..MASTERS).map(|_| None).collect(),
            workers: Vec::new(),
        };
        (0..MASTERS).for_each(|n| group.format_master(n, &[]));
        group
    }

    pub fn format_master(&self, n: usize, how: &[&str]) {
        let formatted = self.spawn_master("formatMaster", n, how).wait_exit(PATIENCE).expect("the format ends");
        assert!(formatted.success(), "the format ends with {formatted}");
    }

    /// Starts a master and does not wait: others may be missing.
    pub fn start_master(&mut self, n: usize) {
        self.start_master_with(n, &[]);
    }

    pub fn start_master_with(&mut self, n: usize, how: &[&str]) {
        self.masters[n] = Some(self.spawn_master("master", n, how));
    }

    /// Loses all that a master had on its disk.
    pub fn lose_disk(&self, n: usize) {
        std::fs::remove_dir_all(self.dir.join(format!("master{n}"))).expect("it was there");
    }

    pub fn kill9(&mut self, n: usize) {
        self.masters[n].take().expect("it runs").kill9().expect("it can be killed");
    }

    /// Stops a master; what it said in its life.
    pub fn stop_master(&mut self, n: usize) -> String {
        let master = self.masters[n].take().expect("it runs");
        let status = master.terminate(PATIENCE).expect("it stops");
        assert!(status.success(), "a clean stop ends with {status}: {}", master.output());
        master.output()
    }

    /// Ends a master that may have ended by itself.
    pub fn stop_or_ended(&mut self, n: usize) {
        drop(self.masters[n].take());
    }

    /// Pulls the cable of a master that is a node of a network.
    pub fn cut(&self, n: usize) {
        self.lan.as_ref().expect("a network").cut(node(n)).expect("cut");
    }

    pub fn mend(&self, n: usize) {
        self.lan.as_ref().expect("a network").mend(node(n)).expect("mended");
    }

    /// Has everything between a master of a network and the others, both ways, take so much longer.
    pub fn set_delay(&self, n: usize, delay: Duration) {
        self.lines
            .iter()
            .filter(|between| between.masters.contains(&n))
            .for_each(|between| between.line.set_delay(delay));
    }

    /// Has everything between clients and a master of a network, both ways, take so much longer.
    pub fn set_client_delay(&self, n: usize, delay: Duration) {
        self.client_lines[n].set_delay(delay);
    }

    /// Nothing gets from clients to a master of a network or back, and connections do not break.
    pub fn cut_from_clients(&self, n: usize) {
        self.client_lines[n].hold();
    }

    /// What was under way arrives after all, late.
    pub fn mend_to_clients(&self, n: usize) {
        self.client_lines[n].release();
    }

    /// The disk of a master's journal.
    pub fn journal_disk(dir: &Path, n: usize) -> PathBuf {
        dir.join(format!("master{n}")).join("journal")
    }

    /// Has a master's wall clock be wrong by so many seconds from now on. It was started with the library for that.
    pub fn set_clock(&self, n: usize, seconds: i64) {
        let mut file = std::fs::OpenOptions::new().write(true).open(self.dir.join(format!("master{n}.offset")));
        file.as_mut().expect("made by the library").write_all(&seconds.to_ne_bytes()).expect("written");
    }

    fn host(&self, n: usize) -> IpAddr {
        self.lan.as_ref().map_or(LOOPBACK, |_| IpAddr::V4(Lan::address(node(n))))
    }

    fn at(&self, n: usize, port: impl Fn(&Ports) -> u16) -> SocketAddr {
        (self.host(n), port(&self.ports[n])).into()
    }

    pub fn master(&self, n: usize) -> &Process {
        self.masters[n].as_ref().expect("it runs")
    }

    /// Waits until a master says that it leads; which.
    pub fn leader(&self) -> usize {
        testkit::eventually(PATIENCE, || {
            (0..MASTERS).find(|n| self.masters[*n].is_some() && self.metric(*n, "Master.IsLeader") == Some(1))
        })
    }

    /// Waits until a master has applied at least what the leader has now.
    pub fn caught_up(&self, n: usize) {
        let index = |n: usize| self.metric(n, "Master.LastAppliedCommitJournalIndex");
        let target = index(self.leader()).expect("the leader answers");
        testkit::eventually(PATIENCE, || index(n).is_some_and(|applied| applied >= target));
    }

    /// Whether a master has applied what the leader has.
    pub fn has_caught_up(&self, n: usize) -> bool {
        let index = |n: usize| self.metric(n, "Master.LastAppliedCommitJournalIndex");
        index(self.leader()).is_some_and(|target| index(n).is_some_and(|applied| applied >= target))
    }

    pub fn metric(&self, n: usize, name: &str) -> Option<u64> {
        let (_, text) = testkit::process::http_get(self.at(n, |p| p.web), "/metrics/prometheus").ok()?;
        let name = name.replace('.', "_");
        text.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' ')?.parse().ok())
    }

    pub fn is_ready(&self, n: usize) -> bool {
        testkit::process::http_get(self.at(n, |p| p.web), "/readyz").is_ok_and(|(status, _)| status == 200)
    }

    fn start_worker(&mut self, n: usize) {
        let [rpc, web] = self.worker_ports[n];
        let own = [("worker.rpc.port", rpc.to_string()), ("worker.web.port", web.to_string())];
        let worker = self.spawn("worker", &format!("worker{n}"), LOOPBACK, &own, &[]);
        worker.wait_for_http((LOOPBACK, web).into(), "/readyz", PATIENCE).expect("the worker registers");
        self.workers.push(worker);
    }

    /// Stops every worker and starts it again.
    pub fn restart_workers(&mut self) {
        for (n, worker) in std::mem::take(&mut self.workers).into_iter().enumerate() {
            let status = worker.terminate(PATIENCE).expect("it stops");
            assert!(status.success(), "a clean stop ends with {status}: {}", worker.output());
            self.start_worker(n);
        }
    }

    /// A counter of the first worker.
    pub fn worker_metric(&self, name: &str) -> Option<u64> {
        let [_, web] = self.worker_ports[0];
        let (_, text) = testkit::process::http_get((LOOPBACK, web).into(), "/metrics/prometheus").ok()?;
        text.lines().find_map(|line| {
            line.strip_prefix("goosefs_worker_")?.strip_prefix(name)?.strip_prefix("_total ")?.parse().ok()
        })
    }

    /// Where clients find the masters.
    pub fn rpc_addrs(&self) -> Vec<SocketAddr> {
        let address = |n: usize| self.client_lines.get(n).map_or_else(|| self.at(n, |p| p.rpc), Line::addr);
        (0..MASTERS).map(address).collect()
    }

    /// As `goosefs.master.embedded.journal.addresses` names it.
    pub fn journal_address(&self, n: usize) -> String {
        SocketAddr::from((self.journal_host(n), self.ports[n].journal)).to_string()
    }

    fn journal_host(&self, n: usize) -> IpAddr {
        self.lan.as_ref().map_or(LOOPBACK, |_| IpAddr::V4(line_to(n)))
    }

    pub fn client_config(&self) -> ClientConfig {
        ClientConfig {
            masters: self.rpc_addrs().iter().map(|at| (at.ip().to_string(), at.port())).collect(),
            user: "root".to_owned(),
            replicas: 1,
            replicas_min: 1,
            rpc_timeout: Duration::from_secs(60),
            polling_timeout: Duration::from_secs(30),
            ..ClientConfig::default()
        }
    }

    /// Runs a command to its end; what it printed.
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|output| panic!("{args:?} failed: {output}"))
    }

    /// The same; what it printed, or what it printed and failed.
    pub fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let process =
            self.spawn_args(args, &format!("command{}", COMMANDS.fetch_add(1, Ordering::Relaxed)), LOOPBACK, &[]);
        let status = process.wait_exit(PATIENCE).expect("the command ends");
        if status.success() { Ok(process.output()) } else { Err(process.output()) }
    }

    fn spawn_master(&self, command: &str, n: usize, how: &[&str]) -> Process {
        let Ports { rpc, web, internal, journal } = self.ports[n];
        let own = [
            ("master.rpc.port", rpc),
            ("master.web.port", web),
            ("master.internal.rpc.port", internal),
            ("master.embedded.journal.port", journal),
        ];
        let own = own.map(|(key, port)| (key, port.to_string()));
        // By this it knows which of the journals' addresses is its own.
        let own: Vec<_> = own.into_iter().chain([("master.hostname", self.journal_host(n).to_string())]).collect();
        let spawn = || self.spawn(command, &format!("master{n}"), self.host(n), &own, how);
        match &self.lan {
            None => spawn(),
            Some(lan) => lan.within(node(n), || Ok(spawn())).expect("a node of the network"),
        }
    }

    fn spawn(&self, command: &str, home: &str, host: IpAddr, own: &[(&str, String)], how: &[&str]) -> Process {
        self.spawn_args(&[&[command], how].concat(), home, host, own)
    }

    fn spawn_args(&self, args: &[&str], home: &str, host: IpAddr, own: &[(&str, String)]) -> Process {
        let all = |address: &dyn Fn(usize) -> String| (0..MASTERS).map(address).collect::<Vec<_>>().join(",");
        let list = |port: fn(&Ports) -> u16| all(&|n| self.at(n, port).to_string());
        let place = |name: &str| self.dir.join(name).display().to_string();
        let hosts = ["master.bind.host", "master.web.bind.host"];
        let hosts = hosts.into_iter().chain(["worker.hostname", "worker.bind.host", "worker.web.bind.host"]);
        let common = [
            ("work.dir", place(home)),
            ("security.secret.key.file", place("secret.key")),
            ("master.mount.table.root.ufs", place("ufs")),
            ("master.rpc.addresses", list(|ports| ports.rpc)),
            ("master.internal.rpc.addresses", list(|ports| ports.internal)),
            ("master.embedded.journal.addresses", all(&|n| self.journal_address(n))),
        ];
        let settings = hosts.map(|key| (key, host.to_string())).chain(common).chain(own.iter().cloned());
        let mut builder = Builder::new(&self.program, &self.dir);
        if let Some(library) = &self.preload {
            let told = [("LD_PRELOAD", library.clone()), ("CLOCK_OFFSET", self.dir.join(format!("{home}.offset")))];
            let disk = [("DISK", self.dir.join(home)), ("DISK_ERRORS", disk_errors(&self.dir, home))];
            builder = told.into_iter().chain(disk).fold(builder, |builder, (name, value)| builder.env(name, value));
        }
        builder
            .args(args)
            .args(settings.map(|(key, value)| format!("-Dgoosefs.{key}={value}")))
            .args(self.extra.iter().map(|setting| format!("-D{setting}")))
            .log(&self.dir.join(format!("{home}.log")))
            .spawn()
            .expect("the binary starts")
    }
}

/// The program under test.
pub fn own_program() -> PathBuf {
    env!("CARGO_BIN_EXE_goosefs").into()
}

/// Compiles a library that masters are to be started with.
pub fn library(dir: &Path, name: &str, source: &str) -> PathBuf {
    let (file, library) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    std::fs::write(&file, source).expect("written");
    let cc = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&file).arg("-ldl").status();
    assert!(cc.expect("a C compiler").success(), "{} does not compile", file.display());
    library
}

/// What tells a master's library which calls to its disk fail.
fn disk_errors(dir: &Path, home: &str) -> PathBuf {
    dir.join(format!("{home}.errors"))
}

/// Kinds of calls to a disk.
#[derive(Clone, Copy)]
pub enum Call {
    Write,
    Sync,
    Read,
}

/// Has the next call of a kind fail that a master makes to a file with `part` in its path. It was started with the library
/// for that.
pub fn fail_next(dir: &Path, n: usize, call: Call, part: &str) {
    let file = std::fs::OpenOptions::new().write(true).open(disk_errors(dir, &format!("master{n}")));
    let file = file.expect("made by the library");
    // As `disk.c` numbers them.
    let kind: i64 = match call {
        Call::Write => 1,
        Call::Sync => 2,
        Call::Read => 3,
    };
    file.write_all_at(&kind.to_ne_bytes(), 0).expect("written");
    file.write_all_at(&[part.as_bytes(), &[0]].concat(), 16).expect("written");
    // Last: from here on it counts.
    file.write_all_at(&1_i64.to_ne_bytes(), 8).expect("written");
}

/// Whether the call that was to fail has failed.
pub fn has_failed(dir: &Path, n: usize) -> bool {
    let order = std::fs::read(disk_errors(dir, &format!("master{n}"))).expect("made by the library");
    i64::from_ne_bytes(order[8..16].try_into().expect("eight bytes")) <= 0
}

/// What each master takes for the address of one of them.
fn line_to(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_LINE.to_bits() + u32::from(node(n)))
}

fn lines(lan: &Lan, ports: &[Ports]) -> Vec<Between> {
    let pairs = (0..MASTERS).flat_map(|from| (0..MASTERS).map(move |to| [from, to])).filter(|[from, to]| from != to);
    let between = |masters: [usize; 2]| {
        let [from, to] = masters;
        let (near, far) = (line_to(to), Lan::address(node(to)));
        let start = || Line::start_at((near, ports[to].journal).into(), (far, ports[to].journal).into());
        Between { masters, line: lan.within(node(from), start).expect("a line") }
    };
    pairs.map(between).collect()
}

fn client_lines(ports: &[Ports]) -> Vec<Line> {
    let line = |(n, ports): (usize, &Ports)| {
        let (near, far) = (line_to(n), Lan::address(node(n)));
        Line::start_at((near, ports.rpc).into(), (far, ports.rpc).into()).expect("a line")
    };
    ports.iter().enumerate().map(line).collect()
}

fn node(n: usize) -> u8 {
    u8::try_from(n).expect("few masters")
}
