//! What every server has in common: its log, its runtime, how it is told to stop.

use crate::logging;
use crate::settings::Settings;
use anyhow::Context as _;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long calls under way may take to end once a server was told to stop.
pub const DRAIN: Duration = Duration::from_secs(10);
/// What a shell expects of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Starts the log, tells what of the settings has no effect, and runs `serve` on a runtime of its own.
pub fn run<F>(
    name: &str,
    log_dir: Option<&Path>,
    settings: &Settings,
    serve: impl FnOnce() -> anyhow::Result<F>,
) -> anyhow::Result<ExitCode>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let directory = log_dir.map(Path::to_owned).or_else(|| settings.word_if_set("goosefs.logs.dir").map(Into::into));
    logging::start("info", directory.as_deref(), name)?;
    // Several crates bring TLS; this is the one provider. A second call cannot happen: a process runs one role.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let serve = serve()?;
    // After what refuses the start: a key is either fatal or warned about, not both.
    settings.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    settings.unneeded().iter().for_each(|note| tracing::info!("{note}"));
    runtime.block_on(serve)?;
    Ok(ExitCode::SUCCESS)
}

/// The signals that end a server. The first asks it to stop; the second, while it stops, ends the process at once.
pub struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    /// From now on both signals are ours.
    pub fn listen() -> anyhow::Result<Stop> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Runs `starting` to its end; None if somebody asks to stop before.
    pub async fn unless_asked<T>(&mut self, starting: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = starting => Some(done),
            () = self.next() => None,
        }
    }

    /// Waits until somebody asks to stop, or `failed` tells why the server cannot go on.
    pub async fn asked(&mut self, failed: impl Future<Output = String>) -> anyhow::Result<()> {
        tokio::select! {
            () = self.next() => {
                tracing::info!("stopping; a second signal ends it at once");
                Ok(())
            }
            why = failed => Err(anyhow::anyhow!("stopped by itself: {why}")),
        }
    }

    /// Runs `stopping` to its end; a signal meanwhile ends the process.
    pub async fn while_stopping<T>(&mut self, stopping: impl Future<Output = T>) -> T {
        tokio::select! {
            done = stopping => done,
            () = self.next() => {
                eprintln!("goosefs: ended at once; the next start replays the journal");
                std::process::exit(INTERRUPTED)
            }
        }
    }
}
