//! What the integration tests start: one `goosefs local` as a real process on free ports.

use client::{ClientConfig, FileSystem};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::process::{Builder, Process};

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
        let keys =
            ["master.rpc.port", "master.web.port", "master.internal.rpc.port", "worker.rpc.port", "worker.web.port"];
        let settings = keys.iter().zip(&self.ports).map(|(key, port)| format!("-Dgoosefs.{key}={port}"));
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
    pub async fn client(&self) -> FileSystem {
        FileSystem::connect(self.client_config()).await.expect("the master answers")
    }

    pub fn client_config(&self) -> ClientConfig {
        ClientConfig {
            masters: vec![("127.0.0.1".to_owned(), self.ports[0])],
            user: "root".to_owned(),
            replicas: 1,
            replicas_min: 1,
            rpc_timeout: Duration::from_secs(30),
            polling_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            ..ClientConfig::default()
        }
    }
}
