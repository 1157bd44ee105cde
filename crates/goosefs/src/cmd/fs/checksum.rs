//! `goosefs fs checksum`

use crate::cmd::{Context, Done, PathArg};
use crate::progress;
use md5::{Digest, Md5};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  goosefs fs checksum /data/part-0\n\nPrints:\n  md5sum: 900150983cd24fb0d6963f7d28e17f72"
)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let mut reader = context.connect_at(&[&args.path]).await?.open(&args.path.path).await?;
    let bar = progress::bytes(reader.status().length, "read");
    let mut digest = Md5::new();
    while let Some(chunk) = reader.next_chunk().await? {
        digest.update(&chunk);
        bar.set_position(reader.position());
    }
    bar.finish_and_clear();
    let sum: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if args.json {
        println!("{}", serde_json::json!({ "path": args.path.path.as_str(), "md5": sum }));
    } else {
        println!("md5sum: {sum}");
    }
    Ok(ExitCode::SUCCESS)
}
