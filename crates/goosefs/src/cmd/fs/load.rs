//! `goosefs fs load`

use super::walk;
use crate::cmd::{Context, Done, PathArg};
use crate::{output, progress};
use client::FileStatus;
use futures::TryStreamExt;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs load /data/model.bin\n  goosefs fs load /data            everything below"
)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&[&args.path]).await?;
    let files: Vec<FileStatus> = walk::below(&fs, args.path.path.clone())
        .try_filter(|s| std::future::ready(!s.folder && s.completed))
        .try_collect()
        .await?;
    let bytes: u64 = files.iter().map(|file| file.length).sum();
    let bar = progress::bytes(bytes, "load");
    for file in &files {
        fs.load(file, |loaded| bar.inc(loaded.bytes)).await?;
    }
    bar.finish_and_clear();
    println!("{} loaded: {} files, {}", args.path.path, files.len(), output::size(bytes));
    Ok(ExitCode::SUCCESS)
}
