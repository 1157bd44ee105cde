//! `goosefs fs tail`

use super::cat::print_up_to;
use super::head::parse_size;
use crate::cmd::{Context, Done, PathArg};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs tail -c 4KB /logs/today")]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// How much to print
    #[arg(short = 'c', long = "bytes", value_name = "SIZE", default_value = "1KB", value_parser = parse_size)]
    bytes: u64,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let mut reader = context.connect_at(&[&args.path]).await?.open(&args.path.path).await?;
    let end = reader.status().length;
    reader.seek(end.saturating_sub(args.bytes));
    print_up_to(&mut reader, end).await?;
    Ok(ExitCode::SUCCESS)
}
