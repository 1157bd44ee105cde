//! `goosefs fs getCapacityBytes` and `getUsedBytes`

use crate::cmd::{Context, Done};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  goosefs fs getCapacityBytes\n  goosefs fs getUsedBytes --json")]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run_capacity(args: &Args, context: &Context) -> Done {
    let bytes = context.connect().await?.capacity_bytes().await?;
    show(args, "Capacity Bytes", "capacityBytes", bytes)
}

pub async fn run_used(args: &Args, context: &Context) -> Done {
    let bytes = context.connect().await?.used_bytes().await?;
    show(args, "Used Bytes", "usedBytes", bytes)
}

fn show(args: &Args, label: &str, name: &str, bytes: u64) -> Done {
    if args.json {
        println!("{}", serde_json::json!({ name: bytes }));
    } else {
        println!("{label}: {bytes}");
    }
    Ok(ExitCode::SUCCESS)
}
