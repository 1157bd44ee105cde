//! `goosefs local`: master and worker in one process.

use super::role::{self, DRAIN, Stop};
use super::{Done, ServerArgs, format};
use crate::settings::{Settings, roles};
use ::master::{Master, MasterConfig};
use ::worker::{Env, Worker, WorkerConfig};
use anyhow::{Context as _, bail};
use rpc::{SystemClock, SystemEntropy};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the worker may take to register.
const REGISTERS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Everybody on the machine may make files and directories of their own in `/`.
const ROOT_MODE: u16 = 0o1777;
/// What `--dir` decides, below that directory.
const PLACES: [(&str, &str); 5] = [
    ("goosefs.master.journal.folder", "journal"),
    ("goosefs.master.metastore.dir", "metastore"),
    ("goosefs.worker.tieredstore.level0.dirs.path", "cache"),
    ("goosefs.security.secret.key.file", "secret.key"),
    ("goosefs.logs.dir", "logs"),
];

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs local --dir /tmp/goose\n  goosefs local --dir /tmp/goose --root-ufs s3://bucket/ -Ds3a.accessKeyId=... -Ds3a.secretKey=...\n\nListens on 127.0.0.1 unless goosefs.master.bind.host and goosefs.worker.bind.host say otherwise."
)]
pub struct Args {
    /// Directory of all state; made and formatted at the first start
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Store behind /; without it, DIR/ufs
    #[arg(long = "root-ufs", value_name = "URI")]
    root_ufs: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub fn run(args: Args, mut settings: Settings) -> Done {
    let directory = arrange(&args, &mut settings)?;
    role::run("local", args.server.log_dir.as_deref(), &settings, || {
        let master =
            MasterConfig { root_mode: ROOT_MODE, ready_with_worker: true, group: None, ..roles::master(&settings)? };
        let worker = roles::worker(&settings)?;
        prepare(&master, &directory)?;
        Ok(serve(master, worker, directory))
    })
}

/// Puts all state below the directory and both roles on this machine. Returns the directory, absolute.
fn arrange(args: &Args, settings: &mut Settings) -> anyhow::Result<PathBuf> {
    let directory = std::path::absolute(&args.dir).with_context(|| format!("cannot use {}", args.dir.display()))?;
    let text =
        directory.to_str().with_context(|| format!("cannot use {}: the name is not UTF-8", directory.display()))?;
    if text.contains([',', '$']) {
        bail!("cannot use {text}: a comma or a dollar sign in its name would be taken for a list or a reference");
    }
    settings.set_by_option("--dir", "goosefs.work.dir", text)?;
    for (key, below) in PLACES {
        settings.set_by_option("--dir", key, format!("{text}/{below}"))?;
    }
    match &args.root_ufs {
        Some(uri) => settings.set_by_option("--root-ufs", "goosefs.master.mount.table.root.ufs", uri.clone())?,
        None => settings.set_default("goosefs.master.mount.table.root.ufs", format!("{text}/ufs"))?,
    }
    for key in [
        "master.hostname",
        "master.bind.host",
        "master.web.bind.host",
        "worker.hostname",
        "worker.bind.host",
        "worker.web.bind.host",
    ] {
        settings.set_default(&format!("goosefs.{key}"), "127.0.0.1")?;
    }
    Ok(directory)
}

/// Makes what the first start needs; later starts find it.
fn prepare(master: &MasterConfig, directory: &std::path::Path) -> anyhow::Result<()> {
    format::make(directory)?;
    if master.root_ufs == format!("{}/ufs", directory.display()) {
        format::make(master.root_ufs.as_ref())?;
    }
    if format::is_empty(&master.journal_dir)? && format::is_empty(&master.metastore_dir)? {
        ::master::format(master, &SystemEntropy, false)?;
        tracing::info!(directory = %directory.display(), "formatted a new cluster");
    }
    Ok(())
}

async fn serve(config: MasterConfig, worker: WorkerConfig, directory: PathBuf) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let root_ufs = config.root_ufs.clone();
    let master = Master::start(config, Arc::new(SystemClock), Arc::new(SystemEntropy)).await?;
    let worker = WorkerConfig { masters: vec![reachable(master.internal_addr()).to_string()], ..worker };
    let worker = match Worker::start(worker, Env::system()).await {
        Ok(worker) => worker,
        Err(error) => {
            master.stop(Duration::ZERO).await?;
            return Err(error.into());
        }
    };
    let asked = match registered(&master, &worker).await {
        Ok(()) => {
            println!("{}", welcome(&master, &worker, &root_ufs, &directory));
            stop.asked(master.failed()).await
        }
        Err(error) => Err(error),
    };
    let stopping = async {
        // The worker first: it still tells the master what it finished.
        worker.stop(DRAIN).await;
        master.stop(DRAIN).await?;
        anyhow::Ok(())
    };
    let stopped = stop.while_stopping(stopping).await;
    asked?;
    stopped
}

async fn registered(master: &Master, worker: &Worker) -> anyhow::Result<()> {
    let deadline = Instant::now() + REGISTERS_WITHIN;
    while master.live_workers() == 0 {
        if let Some(why) = worker.refusal().await {
            bail!("the master does not take the worker: {why}");
        }
        if Instant::now() >= deadline {
            bail!("the worker did not register within {} s; its log says why", REGISTERS_WITHIN.as_secs());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// An address one can connect to, for one that was listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        std::net::IpAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], address.port())),
        std::net::IpAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
    }
}

fn welcome(master: &Master, worker: &Worker, root_ufs: &str, directory: &std::path::Path) -> String {
    let rpc = reachable(master.rpc_addr());
    format!(
        "GooseFS is ready.
  clients     gfs://{rpc}/        GOOSEFS_MASTER_ADDR={rpc}
  worker      {}
  health      http://{}/readyz  http://{}/readyz
  root store  {root_ufs}
  state       {}
Try: goosefs -Dgoosefs.master.rpc.addresses={rpc} fs ls /
Stop with Ctrl-C.",
        reachable(worker.rpc_addr()),
        reachable(master.web_addr()),
        reachable(worker.web_addr()),
        directory.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Inputs;

    fn arranged(flags: &[(&str, &str)], root_ufs: Option<&str>) -> (MasterConfig, WorkerConfig) {
        let flags = flags.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let mut settings = Settings::load(&Inputs { flags, ..Inputs::default() }).expect("good settings");
        let server = ServerArgs { log_dir: None };
        let args = Args { dir: "/d".into(), root_ufs: root_ufs.map(str::to_owned), server };
        arrange(&args, &mut settings).expect("arranged");
        (roles::master(&settings).expect("a master"), roles::worker(&settings).expect("a worker"))
    }

    #[test]
    fn all_state_lies_below_the_directory_and_both_roles_on_this_machine() {
        let (master, worker) = arranged(&[], None);
        for place in [&master.journal_dir, &master.metastore_dir, &master.work_dir, &master.key_file, &worker.work_dir]
        {
            assert!(place.starts_with("/d"), "{}", place.display());
        }
        assert!(worker.directories.iter().all(|directory| directory.path.starts_with("/d")));
        assert_eq!(master.root_ufs, "/d/ufs");
        assert_eq!(master.rpc_addr, SocketAddr::from(([127, 0, 0, 1], 9200)));
        assert_eq!(worker.hostname, "127.0.0.1");
    }

    #[test]
    fn what_was_said_elsewhere_still_counts() {
        let flags = [
            ("goosefs.master.bind.host", "0.0.0.0"),
            ("goosefs.master.rpc.port", "0"),
            ("goosefs.worker.hostname", "w"),
        ];
        let (master, worker) = arranged(&flags, Some("s3://b/"));
        assert_eq!(master.rpc_addr, SocketAddr::from(([0, 0, 0, 0], 0)));
        assert_eq!((worker.hostname.as_str(), master.root_ufs.as_str()), ("w", "s3://b/"));
        let (master, _) = arranged(&[("goosefs.master.mount.table.root.ufs", "/elsewhere")], None);
        assert_eq!(master.root_ufs, "/elsewhere");
    }

    #[test]
    fn everywhere_is_reached_on_this_machine() {
        assert_eq!(reachable(SocketAddr::from(([0, 0, 0, 0], 7))), SocketAddr::from(([127, 0, 0, 1], 7)));
        assert_eq!(reachable(SocketAddr::from(([10, 0, 0, 1], 7))), SocketAddr::from(([10, 0, 0, 1], 7)));
    }
}
