//! `goosefs fs head`

use super::cat::print_up_to;
use crate::cmd::{Context, Done, PathArg};
use crate::settings::value::bytes;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs head -c 4KB /data/part-0")]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// How much to print
    #[arg(short = 'c', long = "bytes", value_name = "SIZE", default_value = "1KB", value_parser = parse_size)]
    bytes: u64,
}

/// A size such as 4KB.
pub fn parse_size(text: &str) -> Result<u64, String> {
    bytes(text).ok_or_else(|| "it is not a size such as 512, 4KB or 1MB".into())
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let mut reader = context.connect_at(&[&args.path]).await?.open(&args.path.path).await?;
    let end = args.bytes.min(reader.status().length);
    print_up_to(&mut reader, end).await?;
    Ok(ExitCode::SUCCESS)
}
