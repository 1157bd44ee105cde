//! What three masters and a worker of an earlier release left. Their addresses stand in their files, and the place of their
//! store, so both are the same each time: a network and a mount of the test's own.

use super::*;
use std::net::{Ipv4Addr, SocketAddr};
use testkit::process::http_get;
use testkit::{eventually, mounts};

const ARCHIVE: &str = "GROUP.tar.gz";
/// Everything lies here, in memory.
const HOME: &str = "/mnt";
const HOME_MIB: u64 = 512;
const MASTERS: u8 = 3;
/// Of each kind of write: one is longer than a piece.
const LONGEST: [usize; 3] = [LONG, 3_000, 3_000];
const PATIENCE: Duration = Duration::from_secs(90);

/// The ports of every master: clients, web, journal, workers.
const PORTS: [(&str, u16); 4] = [
    ("master.rpc.port", 9200),
    ("master.web.port", 9201),
    ("master.embedded.journal.port", 9202),
    ("master.internal.rpc.port", 9205),
];

fn host(master: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, master)
}

fn at(master: u8, port: u16) -> SocketAddr {
    (host(master), port).into()
}

/// The cluster, each part a process.
struct Cluster<'a> {
    program: &'a Path,
    logs: &'a Path,
    masters: Vec<Process>,
    worker: Option<Process>,
}

impl Cluster<'_> {
    fn spawn(&self, command: &[&str], home: &str, host: Ipv4Addr) -> Process {
        let all = |port| (1..=MASTERS).map(|n| at(n, port).to_string()).collect::<Vec<_>>().join(",");
        let (rpc, journal, internal) = (PORTS[0].1, PORTS[2].1, PORTS[3].1);
        let names = ["master.hostname", "master.bind.host", "master.web.bind.host"];
        let names = names.into_iter().chain(["worker.hostname", "worker.bind.host", "worker.web.bind.host"]);
        let settings = [
            ("work.dir", format!("{HOME}/{home}")),
            ("security.secret.key.file", format!("{HOME}/secret.key")),
            ("master.mount.table.root.ufs", format!("{HOME}/ufs")),
            ("master.rpc.addresses", all(rpc)),
            ("master.internal.rpc.addresses", all(internal)),
            ("master.embedded.journal.addresses", all(journal)),
            ("master.journal.log.size.bytes.max", "256KB".to_owned()),
            ("master.journal.checkpoint.period.entries", "40".to_owned()),
        ];
        let settings = settings.into_iter().chain(names.map(|key| (key, host.to_string())));
        let settings = settings.chain(PORTS.map(|(key, port)| (key, port.to_string())));
        Builder::new(self.program, self.logs)
            .args(command)
            .args(settings.map(|(key, value)| format!("-Dgoosefs.{key}={value}")))
            .spawn()
            .expect("the program starts")
    }

    fn run(&self, command: &[&str], home: &str, host: Ipv4Addr) {
        let process = self.spawn(command, home, host);
        let status = process.wait_exit(PATIENCE).expect("it ends");
        assert!(status.success(), "{command:?}: {}", process.output());
    }

    fn start(&mut self) {
        self.masters = (1..=MASTERS).map(|n| self.spawn(&["master"], &format!("m{n}"), host(n))).collect();
        self.leader();
        let worker = self.spawn(&["worker"], "w1", Ipv4Addr::LOCALHOST);
        worker.wait_for_line("worker ready", PATIENCE).expect("it registers");
        self.worker = Some(worker);
    }

    fn metric(&self, master: u8, name: &str) -> Option<u64> {
        let (_, text) = http_get(at(master, PORTS[1].1), "/metrics/prometheus").ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    fn leader(&self) -> u8 {
        eventually(PATIENCE, || (1..=MASTERS).find(|n| self.metric(*n, "Master_IsLeader") == Some(1)))
    }

    fn all_have_caught_up(&self) {
        let index = |n| self.metric(n, "Master_LastAppliedCommitJournalIndex");
        let target = index(self.leader()).expect("the leader answers");
        (1..=MASTERS).for_each(|n| eventually(PATIENCE, || index(n).is_some_and(|applied| applied >= target)));
    }

    fn elect(&self, master: u8) {
        if self.leader() != master {
            let address = at(master, PORTS[2].1).to_string();
            self.run(&["fsadmin", "journal", "quorum", "elect", "-address", &address], "command", Ipv4Addr::LOCALHOST);
            assert_eq!(self.leader(), master);
        }
    }

    async fn client(&self) -> FileSystem {
        let masters = (1..=MASTERS).map(|n| (host(n).to_string(), PORTS[0].1)).collect();
        let config =
            ClientConfig { masters, user: "root".into(), replicas: 1, replicas_min: 1, ..ClientConfig::default() };
        FileSystem::connect(config).await.expect("a master leads")
    }

    fn kill9(self) {
        for process in self.masters.iter().chain(&self.worker) {
            process.kill9().expect("it can be killed");
        }
    }
}

fn cluster<'a>(program: &'a Path, logs: &'a Path) -> Cluster<'a> {
    mounts::in_memory(Path::new(HOME), HOME_MIB);
    Cluster { program, logs, masters: Vec::new(), worker: None }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn make(release: &str) {
    let (program, logs) = (maker(), tempfile::tempdir().expect("a directory"));
    let mut cluster = cluster(&program, logs.path());
    std::fs::create_dir_all(Path::new(HOME).join("ufs")).expect("made");
    (1..=MASTERS).for_each(|n| cluster.run(&["formatMaster"], &format!("m{n}"), host(n)));
    cluster.start();
    runtime().block_on(async {
        let fs = cluster.client().await;
        write(&fs, &files(LONGEST, true)).await;
        // Terms change, and one of them ends within what the state holds.
        for n in 1..=MASTERS {
            cluster.elect(n);
            make_directory(&fs, &format!("/led/by{n}")).await;
        }
    });
    cluster.all_have_caught_up();
    cluster.kill9();
    for n in 1..=MASTERS {
        // What it said is no data.
        let _ = std::fs::remove_dir_all(format!("{HOME}/m{n}/logs"));
    }
    std::fs::create_dir_all(fixtures().join(release)).expect("made");
    let archive = fixtures().join(release).join(ARCHIVE);
    // With the nanoseconds of times: the master knows objects of a directory by them.
    tar(&["--format=posix", "--owner=0", "--group=0", "--sparse", "-czf"], &archive, Path::new(HOME));
}

fn open(archive: &Path) {
    let logs = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster(env!("CARGO_BIN_EXE_goosefs").as_ref(), logs.path());
    tar(&["--no-same-owner", "-xzpf"], archive, Path::new(HOME));
    cluster.start();
    runtime().block_on(async {
        let fs = cluster.client().await;
        // Each of them has all of it.
        for n in 1..=MASTERS {
            cluster.all_have_caught_up();
            cluster.elect(n);
            check(&fs, &files(LONGEST, true)).await;
            assert_eq!(fs.list_all(&path("/led")).await.expect("listed").len(), usize::from(MASTERS));
        }
        write_more(&fs).await;
        cluster.all_have_caught_up();
    });
    for process in cluster.worker.iter().chain(&cluster.masters) {
        let status = process.terminate(PATIENCE).expect("it stops");
        assert!(status.success(), "a clean stop ends with {status}: {}", process.output());
    }
}

#[test]
fn a_group_of_every_earlier_release_opens_with_every_file_and_block_at_every_master() {
    let name = "group::a_group_of_every_earlier_release_opens_with_every_file_and_block_at_every_master";
    if let Ok(release) = std::env::var(MAKE) {
        return mounts::own(name, || make(&release));
    }
    let releases = std::fs::read_dir(fixtures()).expect("fixtures").map(|entry| entry.expect("readable").path());
    let archives: Vec<PathBuf> = releases.map(|release| release.join(ARCHIVE)).filter(|at| at.exists()).collect();
    assert!(!archives.is_empty(), "there is at least one");
    mounts::own(name, || archives.iter().for_each(|archive| open(archive)));
}
