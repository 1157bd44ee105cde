//! `goosefs fs persist`

use super::walk;
use crate::cmd::{Context, Done, PathArg};
use crate::progress;
use crate::settings::value::duration;
use client::{FileStatus, FileSystem};
use futures::TryStreamExt;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use types::{GfsPath, PersistenceState};

/// Rest between two looks at a file.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs persist -t 5min /data/results")]
pub struct Args {
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathArg>,
    /// How long to wait for one file
    #[arg(short = 't', long, value_name = "TIME", default_value = "20min", value_parser = parse_time)]
    timeout: Duration,
    /// Rest before the upload begins
    #[arg(short = 'w', long, value_name = "TIME", default_value = "0", value_parser = parse_time)]
    wait: Duration,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    duration(text).flatten().ok_or_else(|| "it is not a time such as 30s or 5min".into())
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&args.paths.iter().collect::<Vec<_>>()).await?;
    for path in &args.paths {
        let unsaved = |s: &FileStatus| std::future::ready(!s.folder && s.persistence != PersistenceState::Persisted);
        let files: Vec<FileStatus> = walk::below(&fs, path.path.clone()).try_filter(unsaved).try_collect().await?;
        for file in &files {
            fs.schedule_persist(&file.path, args.wait).await?;
        }
        let bar = progress::bytes(files.iter().map(|file| file.length).sum(), "persist");
        for file in &files {
            await_persisted(&fs, &file.path, args.timeout + args.wait).await?;
            bar.inc(file.length);
            bar.suspend(|| println!("persisted file {} with size {}", file.path, file.length));
        }
        bar.finish_and_clear();
    }
    Ok(ExitCode::SUCCESS)
}

async fn await_persisted(fs: &FileSystem, path: &GfsPath, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match fs.status(path).await?.persistence {
            PersistenceState::Persisted => return Ok(()),
            PersistenceState::Lost => anyhow::bail!("cannot persist {path}: its cached blocks are lost"),
            PersistenceState::NotPersisted | PersistenceState::ToBePersisted => {}
        }
        if Instant::now() >= deadline {
            let seconds = limit.as_secs();
            anyhow::bail!("{path} is not persisted after {seconds} s; it stays scheduled, look again with fs stat");
        }
        sleep(LOOK_EVERY).await;
    }
}
