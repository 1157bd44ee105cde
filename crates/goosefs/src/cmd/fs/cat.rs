//! `goosefs fs cat`

use crate::cmd::{Context, Done, PathArg};
use client::Reader;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs cat /data/part-0 | wc -c")]
pub struct Args {
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathArg>,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&args.paths.iter().collect::<Vec<_>>()).await?;
    for path in &args.paths {
        let mut reader = fs.open(&path.path).await?;
        let end = reader.status().length;
        print_up_to(&mut reader, end).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the file from the reader's position up to `end` to standard output.
pub async fn print_up_to(reader: &mut Reader, end: u64) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    while reader.position() < end {
        let left = usize::try_from(end - reader.position()).unwrap_or(usize::MAX);
        let Some(chunk) = reader.next_chunk().await? else { break };
        out.write_all(&chunk[..chunk.len().min(left)])?;
    }
    out.flush()?;
    Ok(())
}
