//! `goosefs fs cp`, `copyFromLocal` and `copyToLocal`

use super::copy::{self, Place};
use super::head::parse_size;
use crate::cmd::{Context, Done};
use std::path::Path;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs cp /data/a /data/b\n  goosefs fs cp -R /data/dir /archive\n  goosefs fs cp file:///tmp/x /data/x"
)]
pub struct Args {
    #[arg(value_name = "SOURCE")]
    from: Place,
    #[arg(value_name = "DESTINATION")]
    to: Place,
    /// Directories with everything below them
    #[arg(short = 'R', long, short_alias = 'r')]
    recursive: bool,
    #[command(flatten)]
    pace: Pace,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs copyFromLocal --thread 8 ./dataset /data/dataset\n  goosefs fs copyToLocal /data/result ./result"
)]
pub struct LocalArgs {
    #[arg(value_name = "SOURCE")]
    from: String,
    #[arg(value_name = "DESTINATION")]
    to: String,
    #[command(flatten)]
    pace: Pace,
}

/// How fast and how large.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Pace {
    /// Files copied at once
    #[arg(long = "thread", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Bytes read from a local file at once
    #[arg(long = "buffersize", value_name = "SIZE", default_value = "1MB", value_parser = parse_buffer)]
    pub buffer_bytes: u64,
}

fn parse_buffer(text: &str) -> Result<u64, String> {
    parse_size(text).and_then(|bytes| match bytes {
        1..=0x1000_0000 => Ok(bytes),
        _ => Err("a buffer has 1 byte to 256MB".into()),
    })
}

pub async fn run(args: Args, context: &Context) -> Done {
    run_copy(args.from, args.to, args.recursive, args.pace, context).await
}

pub async fn run_from_local(args: LocalArgs, context: &Context) -> Done {
    let from = Place::Local(local(&args.from)?);
    let to = args.to.parse().map_err(anyhow::Error::msg)?;
    run_copy(from, Place::Goose(to), true, args.pace, context).await
}

pub async fn run_to_local(args: LocalArgs, context: &Context) -> Done {
    let from = args.from.parse().map_err(anyhow::Error::msg)?;
    run_copy(Place::Goose(from), Place::Local(local(&args.to)?), true, args.pace, context).await
}

fn local(text: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = text.strip_prefix("file://").unwrap_or(text);
    Ok(std::path::absolute(Path::new(path))?)
}

async fn run_copy(from: Place, to: Place, recursive: bool, pace: Pace, context: &Context) -> Done {
    let (shown_from, shown_to) = (from.to_string(), to.to_string());
    copy::run(from, to, recursive, pace, context).await?;
    println!("Copied {shown_from} to {shown_to}");
    Ok(ExitCode::SUCCESS)
}
