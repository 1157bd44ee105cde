//! `goosefs fs ls`

use super::walk;
use crate::cmd::{Context, Done, PathArg};
use crate::output;
use clap::ValueEnum;
use client::{FileStatus, Freshness};
use futures::{Stream, StreamExt, TryStreamExt};
use jiff::tz::TimeZone;
use serde_json::json;
use std::io::Write;
use std::pin::pin;
use std::process::ExitCode;
use types::UnixMs;

#[derive(clap::Args, Debug)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  goosefs fs ls /data\n  goosefs fs ls -R -h --sort size -r /data\n\nPrints permissions, owner, group, size (entries of a directory), persistence, modification time, cached share\n(DIR for a directory) and path:\n  -rw-r--r--  alice          staff                   1048576       PERSISTED 11-22-2026 19:17:39:123 100% /data/f"
)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// The directory itself instead of its entries
    #[arg(short = 'd')]
    directory: bool,
    /// Compare with the under store now
    #[arg(short = 'f')]
    force: bool,
    /// Sizes with units
    #[arg(short = 'h')]
    human: bool,
    /// Order; without it, as the master lists
    #[arg(long, value_enum)]
    sort: Option<Order>,
    /// Largest or last first
    #[arg(short = 'r')]
    reverse: bool,
    /// Which time to show
    #[arg(long, value_enum, default_value = "lastModificationTime")]
    timestamp: Timestamp,
    /// Print one JSON document per line
    #[arg(long)]
    json: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
#[value(rename_all = "camelCase")]
enum Order {
    Name,
    Path,
    Size,
    CreationTime,
    LastModificationTime,
    #[value(name = "inGooseFSPercentage")]
    Cached,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
#[value(rename_all = "camelCase")]
enum Timestamp {
    CreationTime,
    LastModificationTime,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&[&args.path]).await?;
    let path = &args.path.path;
    if args.directory {
        let status = if args.force { fs.status_with(path, Freshness::NOW).await? } else { fs.status(path).await? };
        return show(args, futures::stream::iter([Ok(status)])).await;
    }
    if args.recursive {
        if args.force {
            fs.list_with(path, Freshness::NOW).await?.try_for_each(|_| async { Ok(()) }).await?;
        }
        show(args, walk::below(&fs, path.clone())).await
    } else if args.force {
        show(args, fs.list_with(path, Freshness::NOW).await?).await
    } else {
        show(args, fs.list(path).await?).await
    }
}

/// Prints entries as they come, or sorted once all came.
async fn show(args: &Args, entries: impl Stream<Item = client::Result<FileStatus>>) -> Done {
    let zone = TimeZone::system();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut entries = pin!(entries);
    if args.sort.is_some() || args.reverse {
        let mut all: Vec<FileStatus> = entries.try_collect().await?;
        sort(&mut all, args.sort.unwrap_or(Order::Path), args.reverse);
        for status in &all {
            writeln!(out, "{}", line(args, status, &zone))?;
        }
    } else {
        while let Some(status) = entries.next().await {
            writeln!(out, "{}", line(args, &status?, &zone))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn sort(all: &mut [FileStatus], order: Order, reverse: bool) {
    match order {
        Order::Name => all.sort_by(|a, b| a.path.file_name().cmp(b.path.file_name())),
        Order::Path => all.sort_by(|a, b| a.path.cmp(&b.path)),
        Order::Size => all.sort_by_key(|status| status.length),
        Order::CreationTime => all.sort_by_key(|status| status.created),
        Order::LastModificationTime => all.sort_by_key(|status| status.modified),
        Order::Cached => all.sort_by_key(|status| status.cached_percent),
    }
    if reverse {
        all.reverse();
    }
}

fn line(args: &Args, status: &FileStatus, zone: &TimeZone) -> String {
    if args.json {
        return document(status).to_string();
    }
    let at = match args.timestamp {
        Timestamp::CreationTime => status.created,
        Timestamp::LastModificationTime => status.modified,
    };
    layout(status, at, args.human, zone)
}

fn layout(status: &FileStatus, at: UnixMs, human: bool, zone: &TimeZone) -> String {
    let kind = if status.folder { 'd' } else { '-' };
    let permissions = format!("{kind}{}", status.mode);
    let size = if status.folder { status.length.to_string() } else { output::size_or_bytes(status.length, human) };
    let cached = if status.folder { "DIR".into() } else { format!("{}%", status.cached_percent) };
    let (owner, group, persistence) = (&status.owner, &status.group, status.persistence.name());
    let time = output::time(at, zone);
    format!("{permissions:<12}{owner:<15}{group:<15}{size:>15}{persistence:>16}{time:>24}{cached:>5} {}", status.path)
}

/// An entry as JSON, the same in every command.
pub fn document(status: &FileStatus) -> serde_json::Value {
    json!({
        "path": status.path.as_str(),
        "folder": status.folder,
        "length": status.length,
        "owner": status.owner,
        "group": status.group,
        "mode": format!("{:03o}", status.mode.bits()),
        "completed": status.completed,
        "persistence": status.persistence.name(),
        "cachedPercent": status.cached_percent,
        "creationTimeMs": status.created.0,
        "lastModificationTimeMs": status.modified.0,
        "fileId": status.file.to_wire(),
        "blockSizeBytes": status.block_bytes,
        "ufsPath": status.ufs_path,
        "mountPoint": status.mount_point,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use client::BlockStatus;
    use std::collections::BTreeMap;
    use types::{ContainerId, GfsPath, Mode, PersistenceState};

    /// A file of `length` bytes, as a master might describe it.
    pub fn file(path: &str, length: u64) -> FileStatus {
        let container = ContainerId(7);
        let block = container.block(0).expect("a small index");
        FileStatus {
            file: container.file(),
            path: GfsPath::parse(path).expect("a path"),
            ufs_path: format!("s3://bucket{path}"),
            length,
            block_bytes: 64 << 20,
            created: UnixMs(1_763_838_000_007),
            modified: UnixMs(1_763_838_001_123),
            completed: true,
            folder: false,
            cacheable: true,
            persistence: PersistenceState::Persisted,
            mount_point: false,
            mount_id: 1,
            owner: "alice".into(),
            group: "staff".into(),
            mode: Mode::new(0o644),
            blocks: vec![BlockStatus { block, offset: 0, length, locations: Vec::new() }],
            cached_percent: 100,
            fingerprint: "etag:9b2c".into(),
            xattr: BTreeMap::new(),
            symlink: None,
        }
    }

    #[test]
    fn layout_of_files_and_directories() {
        let status = file("/data/f", 1 << 20);
        let shown = layout(&status, status.modified, false, &TimeZone::UTC);
        assert_eq!(
            shown,
            "-rw-r--r--  alice          staff                  1048576       PERSISTED 11-22-2025 19:00:01:123 100% /data/f"
        );
        let directory = FileStatus {
            folder: true,
            length: 3,
            mode: Mode::new(0o1777),
            persistence: PersistenceState::NotPersisted,
            ..file("/data", 0)
        };
        let shown = layout(&directory, directory.created, true, &TimeZone::UTC);
        assert_eq!(
            shown,
            "drwxrwxrwt  alice          staff                        3   NOT_PERSISTED 11-22-2025 19:00:00:007  DIR /data"
        );
    }

    #[test]
    fn sorting() {
        let names = |all: &[FileStatus]| all.iter().map(|s| s.path.to_string()).collect::<Vec<_>>();
        let mut all = vec![file("/b", 1), file("/c", 3), file("/a", 2)];
        sort(&mut all, Order::Size, true);
        assert_eq!(names(&all), ["/c", "/a", "/b"]);
        sort(&mut all, Order::Name, false);
        assert_eq!(names(&all), ["/a", "/b", "/c"]);
    }
}
