//! `goosefs fs rm`

use super::many;
use crate::cmd::{Context, Done, PathArg};
use client::Remove;
use futures::stream;
use types::GfsPath;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs rm /data/f\n  goosefs fs rm -R /data/old\n  goosefs fs rm --goosefsOnly /data/f    the under store keeps its copy"
)]
pub struct Args {
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathArg>,
    /// Directories with everything below them
    #[arg(short = 'R', long, short_alias = 'r')]
    recursive: bool,
    /// Do not look for entries of the store that are unknown here
    #[arg(short = 'U', long)]
    unchecked: bool,
    /// From GooseFS only
    #[arg(long = "goosefsOnly", alias = "goosefs-only")]
    goosefs_only: bool,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&args.paths.iter().collect::<Vec<_>>()).await?;
    let unchecked = args.unchecked || context.settings.switch("goosefs.user.file.delete.unchecked");
    let how = Remove { recursive: args.recursive, goosefs_only: args.goosefs_only, unchecked };
    let paths: Vec<GfsPath> = args.paths.iter().map(|path| path.path.clone()).collect();
    many::report(fs.remove_many(stream::iter(paths), how), |path| format!("{path} has been removed")).await
}
