//! `goosefs fs free`

use crate::cmd::{Context, Done, PathArg};
use client::Free;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs free /data/old")]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Free what is held on to, too
    #[arg(short = 'f', long)]
    force: bool,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&[&args.path]).await?;
    fs.free(&args.path.path, Free { recursive: true, forced: args.force }).await?;
    println!("{} was successfully freed from GooseFS space.", args.path.path);
    Ok(ExitCode::SUCCESS)
}
