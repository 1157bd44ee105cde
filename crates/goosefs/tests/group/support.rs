//! Three masters and a worker as four processes on free ports, and ways to kill them.

use client::ClientConfig;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
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
    /// A library each master is started with.
    pub preload: Option<PathBuf>,
    ports: Vec<Ports>,
    worker_ports: [u16; 2],
    extra: Vec<String>,
    masters: Vec<Option<Process>>,
    worker: Option<Process>,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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
        self.start_worker();
    }

    /// Formats a cluster.
    pub fn format(dir: &Path, extra: &[&str]) -> Group {
        Group::format_on(None, dir, extra)
    }

    /// Formats a cluster whose masters are the nodes of a network.
    pub fn format_on(lan: Option<Lan>, dir: &Path, extra: &[&str]) -> Group {
        std::fs::create_dir_all(dir.join("ufs")).expect("a directory of the test's own");
        let free = testkit::ports::free_ports(4 * MASTERS + 2).expect("free ports");
        let ports =
            free.chunks_exact(4).map(|p| Ports { rpc: p[0], web: p[1], internal: p[2], journal: p[3] }).collect();
        let worker_ports = [free[4 * MASTERS], free[4 * MASTERS + 1]];
        let extra = extra.iter().map(|&text| text.to_owned()).collect();
        let masters = (0..MASTERS).map(|_| None).collect();
        let group =
            Group { dir: dir.to_owned(), lan, preload: None, ports, worker_ports, extra, masters, worker: None };
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

    pub fn metric(&self, n: usize, name: &str) -> Option<u64> {
        let (_, text) = testkit::process::http_get(self.at(n, |p| p.web), "/metrics/prometheus").ok()?;
        let name = name.replace('.', "_");
        text.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' ')?.parse().ok())
    }

    pub fn is_ready(&self, n: usize) -> bool {
        testkit::process::http_get(self.at(n, |p| p.web), "/readyz").is_ok_and(|(status, _)| status == 200)
    }

    pub fn start_worker(&mut self) {
        let [rpc, web] = self.worker_ports;
        let own = [("worker.rpc.port", rpc.to_string()), ("worker.web.port", web.to_string())];
        let worker = self.spawn("worker", "worker", LOOPBACK, &own, &[]);
        worker.wait_for_http((LOOPBACK, web).into(), "/readyz", PATIENCE).expect("the worker registers");
        self.worker = Some(worker);
    }

    pub fn rpc_addrs(&self) -> Vec<SocketAddr> {
        (0..MASTERS).map(|n| self.at(n, |p| p.rpc)).collect()
    }

    /// As `goosefs.master.embedded.journal.addresses` names it.
    pub fn journal_address(&self, n: usize) -> String {
        self.at(n, |p| p.journal).to_string()
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
        let list = |port: fn(&Ports) -> u16| {
            let addresses: Vec<String> = (0..MASTERS).map(|n| self.at(n, port).to_string()).collect();
            addresses.join(",")
        };
        let place = |name: &str| self.dir.join(name).display().to_string();
        let hosts = ["master.hostname", "master.bind.host", "master.web.bind.host"];
        let hosts = hosts.into_iter().chain(["worker.hostname", "worker.bind.host", "worker.web.bind.host"]);
        let common = [
            ("work.dir", place(home)),
            ("security.secret.key.file", place("secret.key")),
            ("master.mount.table.root.ufs", place("ufs")),
            ("master.rpc.addresses", list(|ports| ports.rpc)),
            ("master.internal.rpc.addresses", list(|ports| ports.internal)),
            ("master.embedded.journal.addresses", list(|ports| ports.journal)),
        ];
        let settings = hosts.map(|key| (key, host.to_string())).chain(common).chain(own.iter().cloned());
        let mut builder = Builder::new(env!("CARGO_BIN_EXE_goosefs"), &self.dir);
        if let Some(library) = &self.preload {
            builder = builder.env("LD_PRELOAD", library).env("CLOCK_OFFSET", self.dir.join(format!("{home}.offset")));
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

fn node(n: usize) -> u8 {
    u8::try_from(n).expect("few masters")
}
