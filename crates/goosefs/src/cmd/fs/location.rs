//! `goosefs fs location`

use crate::cmd::{Context, Done, PathArg};
use client::FileStatus;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  goosefs fs location /data/part-0\n\nPrints each block and the workers that hold it:\n  /data/part-0 with file id 134217727 is on workers:\n  blk-117440512  0+67108864  h1:9203, h2:9203"
)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let status = context.connect_at(&[&args.path]).await?.status(&args.path.path).await?;
    if status.folder {
        anyhow::bail!("{} is a directory; only files have blocks", status.path);
    }
    print!("{}", if args.json { document(&status) } else { layout(&status) });
    Ok(ExitCode::SUCCESS)
}

fn places(block: &client::BlockStatus) -> Vec<String> {
    block.locations.iter().map(|at| format!("{}:{}", at.host, at.port)).collect()
}

fn layout(status: &FileStatus) -> String {
    let mut out = format!("{} with file id {} is on workers:\n", status.path, status.file.to_wire());
    for block in &status.blocks {
        let places = places(block);
        let at = if places.is_empty() { "no worker".into() } else { places.join(", ") };
        out.push_str(&format!("{}  {}+{}  {at}\n", block.block, block.offset, block.length));
    }
    out
}

fn document(status: &FileStatus) -> String {
    let blocks: Vec<_> = status
        .blocks
        .iter()
        .map(|b| json!({ "blockId": b.block.to_wire(), "offset": b.offset, "length": b.length, "workers": places(b) }))
        .collect();
    format!("{}\n", json!({ "path": status.path.as_str(), "fileId": status.file.to_wire(), "blocks": blocks }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fs::ls::tests::file;
    use client::Location;
    use types::WorkerId;

    #[test]
    fn layouts() {
        let mut status = file("/data/f", 5);
        assert_eq!(layout(&status), "/data/f with file id 134217727 is on workers:\nblk-117440512  0+5  no worker\n");
        status.blocks[0].locations = vec![
            Location { worker: WorkerId(1), host: "h1".into(), port: 9203 },
            Location { worker: WorkerId(2), host: "h2".into(), port: 9203 },
        ];
        assert!(layout(&status).ends_with("0+5  h1:9203, h2:9203\n"));
    }
}
