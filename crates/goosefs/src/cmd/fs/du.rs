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

/// The tier `-m` counts, as workers spell it.
const MEMORY: &str = "MEM";

#[derive(clap::Args, Debug)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  goosefs fs du -h /data\n  goosefs fs du -g -m /data        by worker, and how much of it in memory\n\nPrints:\n  File Size     In GooseFS       Path\n  10.00MB       5120.00KB (50%)  /data/f\n\nWith -m:\n  File Size     In GooseFS       In Memory        Path\n  10.00MB       10.00MB (100%)   5120.00KB (50%)  /data/f"
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
    /// Cached bytes in memory (MEM tiers), as workers themselves report them
    #[arg(short = 'm')]
    memory: bool,
    /// Print one JSON document per line
    #[arg(long)]
    json: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Of a file or a tree.
#[derive(Default)]
struct Row {
    path: String,
    bytes: u64,
    cached: Cached,
    /// Only with `-g`.
    by_worker: BTreeMap<String, Cached>,
}

/// Cached bytes, and how many of them lie in memory: known only when workers were asked.
#[derive(Clone, Copy, Default)]
struct Cached {
    bytes: u64,
    memory_bytes: u64,
}

impl std::ops::AddAssign for Cached {
    fn add_assign(&mut self, more: Cached) {
        self.bytes += more.bytes;
        self.memory_bytes += more.memory_bytes;
    }
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&[&args.path]).await?;
    let asks_workers = args.group || args.memory;
    let workers = if args.group { hosts(&fs).await? } else { BTreeMap::new() };
    let mut total = Row { path: args.path.path.to_string(), ..Row::default() };
    let mut entries = pin!(walk::below(&fs, args.path.path.clone()));
    if !args.json {
        println!("{}", head(args.memory));
    }
    while let Some(status) = entries.try_next().await? {
        if status.folder {
            continue;
        }
        let mut row = if asks_workers { row_of_workers(&fs, &status, &workers).await? } else { row(&status) };
        if !args.group {
            row.by_worker.clear();
        }
        if args.summary {
            total.bytes += row.bytes;
            total.cached += row.cached;
            for (worker, cached) in row.by_worker {
                *total.by_worker.entry(worker).or_default() += cached;
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
    let cached = Cached { bytes: u64::try_from(share).expect("a share of a u64 is no larger"), memory_bytes: 0 };
    Row { path: status.path.to_string(), bytes: status.length, cached, by_worker: BTreeMap::new() }
}

/// A block that several workers hold counts once, as the fullest of them has it.
async fn row_of_workers(
    fs: &FileSystem,
    status: &FileStatus,
    hosts: &BTreeMap<WorkerId, String>,
) -> client::Result<Row> {
    let blocks: Vec<BlockId> = status.blocks.iter().map(|block| block.block).collect();
    let held = fs.held_blocks(&blocks).await?;
    let mut row = Row { cached: Cached::default(), ..row(status) };
    for block in &status.blocks {
        let mut fullest = Cached::default();
        for here in held.get(&block.block).map_or(&[][..], Vec::as_slice) {
            let memory_bytes = if here.tier == MEMORY { here.bytes } else { 0 };
            let host = hosts.get(&here.worker).cloned().unwrap_or_else(|| here.worker.to_string());
            *row.by_worker.entry(host).or_default() += Cached { bytes: here.bytes, memory_bytes };
            fullest.bytes = fullest.bytes.max(here.bytes.min(block.length));
            fullest.memory_bytes = fullest.memory_bytes.max(memory_bytes.min(block.length));
        }
        row.cached += fullest;
    }
    Ok(row)
}

fn head(memory: bool) -> String {
    let memory = if memory { format!("{:<16} ", "In Memory") } else { String::new() };
    format!("{:<13} {:<16} {memory}Path", "File Size", "In GooseFS")
}

fn print(args: &Args, row: &Row) {
    if args.json {
        println!("{}", document(row, args.memory));
    } else {
        print!("{}", layout(row, args.human, args.memory));
    }
}

fn document(row: &Row, memory: bool) -> serde_json::Value {
    let by_worker = |of: fn(&Cached) -> u64| -> BTreeMap<&String, u64> {
        row.by_worker.iter().map(|(worker, cached)| (worker, of(cached))).collect()
    };
    let workers = by_worker(|cached| cached.bytes);
    let mut out = json!({ "path": row.path, "bytes": row.bytes, "cachedBytes": row.cached.bytes, "workers": workers });
    if memory {
        out["memoryBytes"] = json!(row.cached.memory_bytes);
        out["workersMemory"] = json!(by_worker(|cached| cached.memory_bytes));
    }
    out
}

fn layout(row: &Row, human: bool, memory: bool) -> String {
    let size = |bytes| output::size_or_bytes(bytes, human);
    let share = |bytes| format!("{} ({}%)", size(bytes), output::percent(bytes, row.bytes));
    let columns = |cached: String, in_memory: String| match memory {
        true => format!("{cached:<16} {in_memory:<16} "),
        false => format!("{cached:<16} "),
    };
    let cached = columns(share(row.cached.bytes), share(row.cached.memory_bytes));
    let mut out = format!("{:<13} {cached}{}\n", size(row.bytes), row.path);
    for (worker, cached) in &row.by_worker {
        let cached = columns(size(cached.bytes), size(cached.memory_bytes));
        out.push_str(&format!("{:<13} {cached}  {worker}\n", ""));
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
        assert_eq!(head(false), "File Size     In GooseFS       Path");
        assert_eq!(layout(&half, false, false), "10485760      5242880 (50%)    /data/f\n");
        let by_worker = BTreeMap::from([("h1:9203".to_owned(), Cached { bytes: 5242880, memory_bytes: 0 })]);
        let grouped = Row { by_worker, ..half };
        assert_eq!(
            layout(&grouped, true, false),
            "10.00MB       5120.00KB (50%)  /data/f\n              5120.00KB          h1:9203\n"
        );
    }

    #[test]
    fn layouts_with_memory() {
        let of = |bytes, memory_bytes| Cached { bytes, memory_bytes };
        let by_worker = [("h1:9203", of(10 << 20, 5 << 20)), ("h2:9203", of(1000, 0))];
        let row = Row {
            path: "/data/f".into(),
            bytes: 10 << 20,
            cached: of(10 << 20, 5 << 20),
            by_worker: by_worker.map(|(worker, cached)| (worker.to_owned(), cached)).into(),
        };
        assert_eq!(
            format!("{}\n{}", head(true), layout(&row, true, true)),
            "File Size     In GooseFS       In Memory        Path\n\
             10.00MB       10.00MB (100%)   5120.00KB (50%)  /data/f\n\
             \x20             10.00MB          5120.00KB          h1:9203\n\
             \x20             1000B            0B                 h2:9203\n"
        );
        let alone = Row { by_worker: BTreeMap::new(), ..row };
        assert_eq!(layout(&alone, false, true), "10485760      10485760 (100%)  5242880 (50%)    /data/f\n");
        assert_eq!(
            document(&alone, true).to_string(),
            "{\"bytes\":10485760,\"cachedBytes\":10485760,\"memoryBytes\":5242880,\"path\":\"/data/f\",\"workers\":{},\"workersMemory\":{}}"
        );
    }

    #[test]
    fn an_empty_file_is_wholly_cached() {
        assert_eq!(layout(&row(&file("/e", 0)), false, false), "0             0 (100%)         /e\n");
    }
}
