//! `goosefs fs count`

use super::walk;
use crate::cmd::{Context, Done, PathArg};
use crate::{output, progress};
use client::FileStatus;
use futures::TryStreamExt;
use std::pin::pin;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    disable_help_flag = true,
    after_help = "Example:\n  goosefs fs count -h /data\n\nPrints:\n  File Count               Folder Count             Folder Size\n  12                       3                        1.50GB"
)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Sizes with units
    #[arg(short = 'h')]
    human: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Counts {
    files: u64,
    folders: u64,
    bytes: u64,
}

impl Counts {
    fn add(&mut self, status: &FileStatus) {
        if status.folder {
            self.folders += 1;
        } else {
            self.files += 1;
            self.bytes += status.length;
        }
    }
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&[&args.path]).await?;
    // A directory counts itself, as the lineage does.
    let root = fs.status(&args.path.path).await?;
    let mut counts = Counts::default();
    let bar = progress::counter("counted");
    if root.folder {
        counts.add(&root);
    }
    let mut entries = pin!(walk::below(&fs, args.path.path.clone()));
    while let Some(status) = entries.try_next().await? {
        counts.add(&status);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.json {
        let Counts { files, folders, bytes } = counts;
        println!("{}", serde_json::json!({ "files": files, "folders": folders, "bytes": bytes }));
    } else {
        print!("{}", table(&counts, args.human));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(counts: &Counts, human: bool) -> String {
    let line = |a: &str, b: &str, c: &str| format!("{a:<25}{b:<25}{c}\n");
    let size = output::size_or_bytes(counts.bytes, human);
    line("File Count", "Folder Count", "Folder Size")
        + &line(&counts.files.to_string(), &counts.folders.to_string(), &size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let counts = Counts { files: 12, folders: 3, bytes: 10 << 20 };
        assert_eq!(
            table(&counts, false),
            "File Count               Folder Count             Folder Size\n\
             12                       3                        10485760\n"
        );
        assert!(table(&counts, true).ends_with("10.00MB\n"));
    }
}
