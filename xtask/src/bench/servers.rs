//! Master and worker as two real processes, so that their CPU time can be told apart.

use anyhow::{Context, Result};
use client::{ClientConfig, FileSystem};
use goosefs_sdk::config::GoosefsConfig;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::process::{Builder, Process};

/// How long a start or a stop may take; far more than what is measured.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a starting master is asked.
const ASK_EVERY: Duration = Duration::from_millis(2);

pub struct Servers {
    binary: PathBuf,
    dir: PathBuf,
    ports: Vec<u16>,
    settings: Vec<String>,
    env: Vec<(String, String)>,
    pub master: Option<Process>,
    pub worker: Option<Process>,
}

impl Servers {
    /// A new cluster below `dir`, formatted and ready. `settings`: `key=value`. `env`: for the master.
    pub fn start(binary: &Path, dir: &Path, settings: &[&str], env: &[(&str, &str)]) -> Result<Servers> {
        let mut servers = Servers {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            ports: testkit::ports::free_ports(5)?,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            env: env.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            master: None,
            worker: None,
        };
        let formatted = servers.command("format").spawn()?.wait_exit(PATIENCE)?;
        anyhow::ensure!(formatted.success(), "goosefs format failed; see {}", dir.display());
        servers.start_master()?;
        servers.master()?.wait_for_http(servers.web(1), "/healthz", PATIENCE)?;
        servers.start_worker()?;
        Ok(servers)
    }

    fn command(&self, role: &str) -> Builder {
        let ports = testkit::ports::options(&self.ports);
        let places = [
            "-Dgoosefs.master.hostname=127.0.0.1".to_owned(),
            "-Dgoosefs.worker.hostname=127.0.0.1".to_owned(),
            format!("-Dgoosefs.work.dir={}", self.dir.join("state").display()),
        ];
        let own = self.settings.iter().map(|setting| format!("-D{setting}"));
        Builder::new(&self.binary, &self.dir).arg(role).args(ports.chain(places).chain(own))
    }

    /// Starts the master and returns at once.
    pub fn start_master(&mut self) -> Result<()> {
        let mut command = self.command("master");
        for (key, value) in &self.env {
            command = command.env(key, value);
        }
        self.master = Some(command.spawn()?);
        Ok(())
    }

    fn start_worker(&mut self) -> Result<()> {
        let worker = self.command("worker").spawn()?;
        worker.wait_for_http(self.web(4), "/readyz", PATIENCE)?;
        self.worker = Some(worker);
        Ok(())
    }

    /// Stops the worker; what follows needs only the master.
    pub fn stop_worker(&mut self) -> Result<()> {
        if let Some(worker) = self.worker.take() {
            worker.terminate(PATIENCE)?;
        }
        Ok(())
    }

    /// Waits until a starting master answers a first GetStatus.
    pub async fn first_answer(&self, path: &str) -> Result<Duration> {
        let path = types::GfsPath::parse(path)?;
        let began = Instant::now();
        loop {
            let asked = async { FileSystem::connect(self.config()).await?.status(&path).await };
            match asked.await {
                Ok(_) => return Ok(began.elapsed()),
                Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    pub fn master(&self) -> Result<&Process> {
        self.master.as_ref().context("the master was stopped")
    }

    pub fn worker(&self) -> Result<&Process> {
        self.worker.as_ref().context("the worker was stopped")
    }

    pub fn master_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    pub fn worker_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[3])
    }

    pub fn journal(&self) -> PathBuf {
        self.dir.join("state/journal")
    }

    fn web(&self, index: usize) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.ports[index]).into()
    }

    /// For our client.
    pub fn config(&self) -> ClientConfig {
        ClientConfig {
            masters: vec![("127.0.0.1".to_owned(), self.ports[0])],
            user: "root".to_owned(),
            ..ClientConfig::default()
        }
    }

    /// For the official client, with its defaults.
    pub fn official(&self) -> GoosefsConfig {
        GoosefsConfig::new(self.master_address()).with_auth_username("root").with_metrics_enabled(false)
    }
}
