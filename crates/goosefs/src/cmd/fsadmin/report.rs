//! `goosefs fsadmin report`: one file per report.

mod capacity;
mod metadata;
mod metrics;
mod stores;
mod summary;

use crate::cmd::{Context, Done};
use clap::ValueEnum;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fsadmin report\n  goosefs fsadmin report capacity -live\n  goosefs fsadmin report metrics --json\n  goosefs fsadmin report metadata"
)]
pub struct Args {
    /// Which report
    #[arg(value_enum, default_value = "summary")]
    report: Report,
    /// Only live workers (capacity)
    #[arg(long, conflicts_with = "lost")]
    live: bool,
    /// Only lost workers (capacity)
    #[arg(long)]
    lost: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Report {
    /// The master, the workers and their room
    Summary,
    /// Room of every worker
    Capacity,
    /// Every metric the master has
    Metrics,
    /// The under stores
    Ufs,
    /// Files, directories, caches and the database of the metadata
    Metadata,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    if (args.live || args.lost) && args.report != Report::Capacity {
        anyhow::bail!("--live and --lost belong to the report on capacity");
    }
    let fs = context.connect().await?;
    match args.report {
        Report::Summary => summary::run(&fs, args.json).await?,
        Report::Capacity => capacity::run(&fs, args).await?,
        Report::Metrics => metrics::run(&fs, args.json).await?,
        Report::Ufs => stores::run(&fs, args.json).await?,
        Report::Metadata => metadata::run(&fs, args.json).await?,
    }
    Ok(ExitCode::SUCCESS)
}
