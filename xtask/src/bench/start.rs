//! 8.6: how long a master with many files takes from its start to its first answer.

use super::metadata::{create, path};
use super::servers::Servers;
use super::{Figure, Ground, cpu, float};
use anyhow::{Context, Result};
use goosefs_sdk::client::MasterClient;
use std::sync::Arc;
use std::time::{Duration, Instant};

const IN_FLIGHT: u64 = 256;
/// Created after the clean stop and not flushed when the master is killed.
const TAIL: u64 = 200_000;
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("start")?;
    let mut servers = Servers::start(&ground.binary, &dir, &[], &[])?;
    servers.stop_worker()?;
    let master = Arc::new(MasterClient::connect(&servers.official()).await?);
    let began = Instant::now();
    create(&master, "files", ground.files, IN_FLIGHT).await?;
    let rate = float(ground.files) / began.elapsed().as_secs_f64();
    let memory = cpu::memory(servers.master()?.pid())?;
    drop(master);
    servers.master.take().context("it runs")?.terminate(PATIENCE)?;

    servers.start_master()?;
    let clean = servers.first_answer(&path("files", ground.files / 2)).await?;

    let master = Arc::new(MasterClient::connect(&servers.official()).await?);
    create(&master, "tail", TAIL, IN_FLIGHT).await?;
    drop(master);
    servers.master.take().context("it runs")?.kill9()?;
    servers.start_master()?;
    let killed = servers.first_answer(&path("tail", TAIL - 1)).await?;
    let said = servers.master()?.wait_for_line("state opened", PATIENCE)?;

    let files = ground.files;
    Ok(vec![
        Figure::shown(
            "8.6",
            format!("master with {files} files: start to the first GetStatus, after a clean stop"),
            format!("{:.2} s", clean.as_secs_f64()),
        )
        .held("≤ 2 s", clean <= Duration::from_secs(2)),
        Figure::shown(
            "8.6",
            "the same after kill −9",
            format!(
                "{:.2} s; tail {} entries, opened and replayed in {}",
                killed.as_secs_f64(),
                field(&said, "tail"),
                field(&said, "took")
            ),
        ),
        Figure::shown(
            "8.6",
            format!("creating them, {IN_FLIGHT} in flight; memory of the master with {files} files"),
            format!("{rate:.0}/s; {:.0} MiB", float(memory) / 1024.0 / 1024.0),
        ),
    ])
}

/// The value of `name=value` in a line of the log.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_log_line_are_found() {
        let line = "2030-01-02T03:04:05Z  INFO state opened tail=12 took=1.5s applied=40";
        assert_eq!((field(line, "tail"), field(line, "took"), field(line, "nothing")), ("12", "1.5s", "?"));
    }
}
