//! `goosefs fs loadMetadata`

use crate::cmd::{Context, Done, PathArg};
use crate::progress;
use client::Freshness;
use futures::TryStreamExt;
use std::pin::pin;
use std::process::ExitCode;
use types::{GfsPath, LoadMetadata};

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs loadMetadata /data\n  goosefs fs loadMetadata -R -F /data    everything below, known entries compared too"
)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Directories below, too
    #[arg(short = 'R', long, short_alias = 'r')]
    recursive: bool,
    /// Compare what is known with the store
    #[arg(short = 'F', long)]
    force: bool,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&[&args.path]).await?;
    let (once, known) = (LoadMetadata::Once, LoadMetadata::Never);
    let freshness = if args.force { Freshness::NOW } else { Freshness { load: once, sync_interval: None } };
    let known = Freshness { load: known, sync_interval: None };
    let bar = progress::counter("directories loaded");
    let mut open: Vec<GfsPath> = vec![args.path.path.clone()];
    while let Some(directory) = open.pop() {
        fs.load_listing(&directory, freshness).await?;
        bar.inc(1);
        if args.recursive {
            let mut entries = pin!(fs.list_with(&directory, known).await?);
            while let Some(entry) = entries.try_next().await? {
                // A file lists itself.
                open.extend(Some(entry).filter(|entry| entry.folder).map(|entry| entry.path));
            }
        }
    }
    let loaded = bar.position();
    bar.finish_and_clear();
    println!("{} is loaded: {loaded} {}", args.path.path, if loaded == 1 { "directory" } else { "directories" });
    Ok(ExitCode::SUCCESS)
}
