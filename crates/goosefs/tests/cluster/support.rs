//! What the integration tests start: real processes on free ports, as one `goosefs local` or as a master and a worker
//! apart, and an S3 server behind a fault proxy.

use client::{ClientConfig, FileSystem, NewNamespace};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::process::{Builder, Process};
use testkit::proxy::{FaultProxy, Protocol};
use testkit::s3::{Options, S3Server};
use types::{GfsPath, Secret, WriteType};

/// How long a start may take on a loaded machine.
const START: Duration = Duration::from_secs(90);

/// A cluster in one process, its state under one directory.
pub struct Local {
    dir: PathBuf,
    ports: Vec<u16>,
    extra: Vec<String>,
    process: Option<Process>,
}

impl Local {
    /// Starts it with default settings.
    pub fn start(dir: &Path) -> Local {
        Local::start_with(dir, &[])
    }

    /// `extra`: further settings, `key=value`.
    pub fn start_with(dir: &Path, extra: &[&str]) -> Local {
        std::fs::create_dir_all(dir).expect("a directory of the test's own");
        let ports = testkit::ports::free_ports(5).expect("free ports");
        let extra = extra.iter().map(|&text| text.to_owned()).collect();
        let mut local = Local { dir: dir.to_owned(), ports, extra, process: None };
        local.restart();
        local
    }

    /// Starts the process again after it ended.
    pub fn restart(&mut self) {
        let settings = testkit::ports::options(&self.ports);
        let hosts = ["-Dgoosefs.master.hostname=127.0.0.1", "-Dgoosefs.worker.hostname=127.0.0.1"].map(str::to_owned);
        let extra = self.extra.iter().map(|setting| format!("-D{setting}"));
        let process = Builder::new(env!("CARGO_BIN_EXE_goosefs"), &self.dir)
            .arg("local")
            .arg("--dir")
            .arg(self.dir.join("state"))
            .args(settings.chain(hosts).chain(extra))
            .spawn()
            .expect("the binary starts");
        process.wait_for_http(self.web(), "/readyz", START).expect("it becomes ready");
        self.process = Some(process);
    }

    pub fn kill9(&mut self) {
        self.process.take().expect("it runs").kill9().expect("it can be killed");
    }

    pub fn stop(&mut self) {
        let status = self.process.take().expect("it runs").terminate(Duration::from_secs(60)).expect("it stops");
        assert!(status.success(), "a clean stop ends with {status}");
    }

    fn web(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[1]).into()
    }

    /// What the process has printed since it was started.
    pub fn output(&self) -> String {
        self.process.as_ref().expect("it runs").output()
    }

    /// Waits for the process to end by itself; what it printed.
    pub fn ended(&mut self, deadline: Duration) -> String {
        let process = self.process.take().expect("it runs");
        let status = process.wait_exit(deadline).expect("it ends");
        assert_eq!(status.code(), Some(1), "it ends by itself, and says that it failed");
        process.output()
    }

    /// All its ports: the master's for clients, its web port, its port for workers; the worker's, its web port.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect()
    }

    /// Where clients reach the master.
    pub fn master_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[0]).into()
    }

    /// Where clients reach the worker.
    pub fn worker_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[3]).into()
    }

    /// The directory that is the root store.
    pub fn store(&self) -> PathBuf {
        self.dir.join("state/ufs")
    }

    pub async fn client(&self) -> FileSystem {
        FileSystem::connect(self.client_config()).await.expect("the master answers")
    }

    pub fn client_config(&self) -> ClientConfig {
        client_config(self.ports[0])
    }
}

fn client_config(master_port: u16) -> ClientConfig {
    ClientConfig {
        masters: vec![("127.0.0.1".to_owned(), master_port)],
        user: "root".to_owned(),
        replicas: 1,
        replicas_min: 1,
        rpc_timeout: Duration::from_secs(30),
        polling_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(5),
        ..ClientConfig::default()
    }
}

/// A master and a worker as two processes, each with ports and directories of its own; the key file is all they share.
pub struct Pair {
    dir: PathBuf,
    /// The master's for clients, web and workers, then the worker's for clients and web.
    ports: Vec<u16>,
    extra: Vec<String>,
    master: Option<Process>,
    worker: Option<Process>,
}

impl Pair {
    pub fn start(dir: &Path) -> Pair {
        Pair::start_with(dir, &[])
    }

    /// Formats a cluster and starts both. `extra`: further settings, `key=value`.
    pub fn start_with(dir: &Path, extra: &[&str]) -> Pair {
        for below in ["master", "worker", "ufs"] {
            std::fs::create_dir_all(dir.join(below)).expect("a directory of the test's own");
        }
        let ports = testkit::ports::free_ports(5).expect("free ports");
        let extra = extra.iter().map(|&text| text.to_owned()).collect();
        let mut pair = Pair { dir: dir.to_owned(), ports, extra, master: None, worker: None };
        let formatted = pair.spawn("formatMaster").wait_exit(START).expect("the format ends");
        assert!(formatted.success(), "the format ends with {formatted}");
        pair.start_master();
        pair.start_worker();
        pair
    }

    /// The store behind `/`, as a directory.
    pub fn root_store(&self) -> PathBuf {
        self.dir.join("ufs")
    }

    /// What its master and its worker have logged.
    pub fn logs(&self) -> [PathBuf; 2] {
        ["master", "worker"].map(|role| self.dir.join(format!("{role}.log")))
    }

    /// Returns when the master leads.
    pub fn start_master(&mut self) {
        let master = self.spawn("master");
        master.wait_for_http(self.web(1), "/readyz", START).expect("the master becomes ready");
        self.master = Some(master);
    }

    /// Returns when the worker is registered, so a master must run.
    pub fn start_worker(&mut self) {
        self.spawn_worker();
        self.await_worker();
    }

    /// Starts the worker and does not wait: it may find no master yet.
    pub fn spawn_worker(&mut self) {
        self.worker = Some(self.spawn("worker"));
    }

    pub fn await_worker(&self) {
        let worker = self.worker.as_ref().expect("it runs");
        worker.wait_for_http(self.web(4), "/readyz", START).expect("the worker registers");
    }

    pub fn kill9_master(&mut self) {
        self.master.take().expect("it runs").kill9().expect("it can be killed");
    }

    pub fn kill9_worker(&mut self) {
        self.worker.take().expect("it runs").kill9().expect("it can be killed");
    }

    pub fn stop_master(&mut self) {
        stop(self.master.take());
    }

    pub fn stop_worker(&mut self) {
        stop(self.worker.take());
    }

    pub async fn client(&self) -> FileSystem {
        FileSystem::connect(self.client_config()).await.expect("the master answers")
    }

    pub fn client_config(&self) -> ClientConfig {
        client_config(self.ports[0])
    }

    /// What the worker counts under this name now.
    pub fn worker_metric(&self, name: &str) -> Option<i64> {
        let (_, text) = testkit::process::http_get(self.web(4), "/metrics/prometheus").ok()?;
        let value = |line: &str| line.strip_prefix("goosefs_worker_")?.strip_prefix(name)?.trim().parse().ok();
        text.lines().find_map(value)
    }

    fn web(&self, port: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[port]).into()
    }

    fn spawn(&self, command: &str) -> Process {
        let role = if command == "worker" { "worker" } else { "master" };
        let hosts = ["master.hostname", "master.bind.host", "master.web.bind.host"];
        let hosts = hosts.into_iter().chain(["worker.hostname", "worker.bind.host", "worker.web.bind.host"]);
        let at = |place: &str| self.dir.join(place).display().to_string();
        let places = [
            ("work.dir", at(role)),
            ("security.secret.key.file", at("secret.key")),
            ("master.mount.table.root.ufs", at("ufs")),
        ];
        let hosts = hosts.map(|key| (key, "127.0.0.1".to_owned()));
        let settings = hosts.chain(places).map(|(key, value)| format!("-Dgoosefs.{key}={value}"));
        Builder::new(env!("CARGO_BIN_EXE_goosefs"), &self.dir)
            .arg(command)
            .args(testkit::ports::options(&self.ports))
            .args(settings)
            .args(self.extra.iter().map(|setting| format!("-D{setting}")))
            .log(&self.dir.join(format!("{command}.log")))
            .spawn()
            .expect("the binary starts")
    }
}

fn stop(process: Option<Process>) {
    let status = process.expect("it runs").terminate(Duration::from_secs(60)).expect("it stops");
    assert!(status.success(), "a clean stop ends with {status}");
}

/// The one bucket of [`Bucket`].
pub const BUCKET: &str = "bucket";

/// A real S3 server with one bucket, and the proxy in front of it that everybody but the test goes through.
pub struct Bucket {
    pub store: S3Server,
    pub proxy: FaultProxy,
}

impl Bucket {
    pub fn start(dir: &Path) -> Bucket {
        let store = S3Server::start(dir, Options::default()).expect("the store starts");
        store.create_bucket(BUCKET).expect("a bucket");
        let proxy = FaultProxy::start(store.addr(), Protocol::Http1).expect("the proxy starts");
        Bucket { store, proxy }
    }

    /// `/name` over the bucket.
    pub fn namespace(&self, name: &str) -> NewNamespace {
        namespace(name, BUCKET, &self.store, &self.proxy, self.store.secret_key())
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.store.get(BUCKET, key).expect("the store's files are readable")
    }

    pub fn keys(&self) -> Vec<String> {
        self.store.keys(BUCKET, "")
    }
}

/// A namespace over a bucket of `store`, reached through `proxy`.
pub fn namespace(name: &str, bucket: &str, store: &S3Server, proxy: &FaultProxy, secret: &str) -> NewNamespace {
    let properties = S3Server::properties(proxy.endpoint());
    let secrets = [("s3a.accessKeyId", store.access_key()), ("s3a.secretKey", secret)];
    NewNamespace {
        name: name.to_owned(),
        ufs_uri: format!("s3://{bucket}"),
        read_only: false,
        shared: false,
        write_policy: Some(WriteType::CacheThrough),
        read_policy: None,
        properties: properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        secrets: secrets.into_iter().map(|(key, value)| (key.to_owned(), Secret::new(value))).collect(),
    }
}

pub fn path(text: &str) -> GfsPath {
    GfsPath::parse(text).expect("a path")
}

/// All of a file, or the first error.
pub async fn read_all(fs: &FileSystem, at: &GfsPath) -> client::Result<Vec<u8>> {
    let mut reader = fs.open(at).await?;
    let mut all = Vec::new();
    while let Some(chunk) = reader.next_chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}
