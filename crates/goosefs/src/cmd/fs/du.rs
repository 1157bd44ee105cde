//! `goosefs fs du`

use super::walk;
use crate::cmd::{Context, Done, PathArg};
use crate::output;
use client::{FileStatus, FileSystem};
use futures::TryStreamExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::pin;
use std::process::ExitCode;
use types::{BlockId, WorkerId};

#[derive(clap::Args, Debug)]
#[command(
    disable_help_flag = true,
    after_help = "Example:\n  goosefs fs du -h /data\n\nPrints:\n  File Size     In GooseFS       Path\n  10.00MB       5120.00KB (50%)  /data/f"
)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Sizes with units
    #[arg(short = 'h')]
    human: bool,
    /// One line for everything
    #[arg(short = 's')]
    summary: bool,
    /// Cached bytes of each worker, as workers themselves report them
    #[arg(short = 'g')]
    group: bool,
    /// Bytes in memory; not served
    #[arg(short = 'm', hide = true)]
    memory: bool,
    /// Print one JSON document per line
    #[arg(long)]
    json: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// One line of the table.
struct Row {
    path: String,
    bytes: u64,
    cached_bytes: u64,
    /// Only with `-g`.
    by_worker: BTreeMap<String, u64>,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    if args.memory {
        anyhow::bail!("du -m cannot be answered: workers do not say which tier holds a block; use du -g");
    }
    let fs = context.connect_at(&[&args.path]).await?;
    let workers = if args.group { hosts(&fs).await? } else { BTreeMap::new() };
    let mut total = Row { path: args.path.path.to_string(), bytes: 0, cached_bytes: 0, by_worker: BTreeMap::new() };
    let mut entries = pin!(walk::below(&fs, args.path.path.clone()));
    if !args.json {
        println!("{}", head());
    }
    while let Some(status) = entries.try_next().await? {
        if status.folder {
            continue;
        }
        let row = if args.group { row_of_workers(&fs, &status, &workers).await? } else { row(&status) };
        if args.summary {
            total.bytes += row.bytes;
            total.cached_bytes += row.cached_bytes;
            for (worker, bytes) in row.by_worker {
                *total.by_worker.entry(worker).or_default() += bytes;
            }
        } else {
            print(args, &row);
        }
    }
    if args.summary {
        print(args, &total);
    }
    Ok(ExitCode::SUCCESS)
}

async fn hosts(fs: &FileSystem) -> client::Result<BTreeMap<WorkerId, String>> {
    Ok(fs.workers().await?.into_iter().map(|w| (w.worker, format!("{}:{}", w.host, w.port))).collect())
}

fn row(status: &FileStatus) -> Row {
    let share = u128::from(status.length) * u128::from(status.cached_percent.min(100)) / 100;
    let cached_bytes = u64::try_from(share).expect("a share of a u64 is no larger");
    Row { path: status.path.to_string(), bytes: status.length, cached_bytes, by_worker: BTreeMap::new() }
}

async fn row_of_workers(
    fs: &FileSystem,
    status: &FileStatus,
    hosts: &BTreeMap<WorkerId, String>,
) -> client::Result<Row> {
    let blocks: Vec<BlockId> = status.blocks.iter().map(|block| block.block).collect();
    let held = fs.check_blocks(&blocks).await?;
    let mut row = Row { cached_bytes: 0, ..row(status) };
    for block in &status.blocks {
        let at = held.get(&block.block).map_or(&[][..], Vec::as_slice);
        row.cached_bytes += at.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0).min(block.length);
        for (worker, bytes) in at {
            let host = hosts.get(worker).cloned().unwrap_or_else(|| worker.to_string());
            *row.by_worker.entry(host).or_default() += bytes;
        }
    }
    Ok(row)
}

fn head() -> String {
    format!("{:<13} {:<16} Path", "File Size", "In GooseFS")
}

fn print(args: &Args, row: &Row) {
    if args.json {
        let (bytes, cached) = (row.bytes, row.cached_bytes);
        println!("{}", json!({ "path": row.path, "bytes": bytes, "cachedBytes": cached, "workers": row.by_worker }));
    } else {
        print!("{}", layout(row, args.human));
    }
}

fn layout(row: &Row, human: bool) -> String {
    let size = output::size_or_bytes(row.bytes, human);
    let percent = output::percent(row.cached_bytes, row.bytes);
    let cached = format!("{} ({percent}%)", output::size_or_bytes(row.cached_bytes, human));
    let mut out = format!("{size:<13} {cached:<16} {}\n", row.path);
    for (worker, bytes) in &row.by_worker {
        let cached = output::size_or_bytes(*bytes, human);
        out.push_str(&format!("{:<13} {cached:<16}   {worker}\n", ""));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fs::ls::tests::file;

    #[test]
    fn layouts() {
        let half = row(&FileStatus { cached_percent: 50, ..file("/data/f", 10 << 20) });
        assert_eq!(head(), "File Size     In GooseFS       Path");
        assert_eq!(layout(&half, false), "10485760      5242880 (50%)    /data/f\n");
        let by_worker = BTreeMap::from([("h1:9203".to_owned(), 5242880)]);
        let grouped = Row { by_worker, ..half };
        assert_eq!(
            layout(&grouped, true),
            "10.00MB       5120.00KB (50%)  /data/f\n              5120.00KB          h1:9203\n"
        );
    }

    #[test]
    fn an_empty_file_is_wholly_cached() {
        assert_eq!(layout(&row(&file("/e", 0)), false), "0             0 (100%)         /e\n");
    }
}
