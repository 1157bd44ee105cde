//! `goosefs fs cp`, `copyFromLocal` and `copyToLocal`

use super::copy::{self, How, Place, Tally};
use super::head::parse_size;
use crate::cmd::{Context, Done};
use crate::output;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs cp /data/a /data/b\n  goosefs fs cp -R /data/dir /archive\n  goosefs fs cp file:///tmp/x /data/x"
)]
pub struct Args {
    #[arg(value_name = "SOURCE")]
    from: Place,
    #[arg(value_name = "DESTINATION")]
    to: Place,
    /// Directories with everything below them
    #[arg(short = 'R', long, short_alias = 'r')]
    recursive: bool,
    #[command(flatten)]
    pace: Pace,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs copyFromLocal ./model.bin /models/model.bin\n  goosefs fs copyFromLocal --thread 8 ./dataset /data/dataset\n\nThe content of a directory goes into the directory named. A copy that was interrupted goes on\nwhen it is called again: files that are there already with the same content are skipped, and\nhalf-written ones of the interrupted copy are written again. Any other file that is there\nalready ends the copy."
)]
pub struct FromLocalArgs {
    #[command(flatten)]
    places: LocalArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs copyToLocal /data/part-0 .\n  goosefs fs copyToLocal --thread 8 /data/result ./result"
)]
pub struct LocalArgs {
    #[arg(value_name = "SOURCE")]
    from: String,
    #[arg(value_name = "DESTINATION")]
    to: String,
    #[command(flatten)]
    pace: Pace,
}

/// How fast and how large.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Pace {
    /// Files copied at once
    #[arg(long = "thread", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Bytes read from a local file at once
    #[arg(long = "buffersize", value_name = "SIZE", default_value = "1MB", value_parser = parse_buffer)]
    pub buffer_bytes: u64,
}

fn parse_buffer(text: &str) -> Result<u64, String> {
    parse_size(text).and_then(|bytes| match bytes {
        1..=0x1000_0000 => Ok(bytes),
        _ => Err("a buffer has 1 byte to 256MB".into()),
    })
}

pub async fn run(args: Args, context: &Context) -> Done {
    let how = How { recursive: args.recursive, resumes: false, pace: args.pace };
    run_copy(args.from, args.to, how, context).await
}

pub async fn run_from_local(args: FromLocalArgs, context: &Context) -> Done {
    let FromLocalArgs { places: LocalArgs { from, to, pace }, json } = args;
    let from = Place::Local(local(&from)?);
    let to = Place::Goose(to.parse().map_err(anyhow::Error::msg)?);
    let (shown_from, shown_to) = (from.to_string(), to.to_string());
    let tally = copy::run(from, to, How { recursive: true, resumes: true, pace }, context).await?;
    if json {
        println!("{}", document(&shown_from, &shown_to, tally));
    } else {
        print!("{}", layout(&shown_from, &shown_to, tally));
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn run_to_local(args: LocalArgs, context: &Context) -> Done {
    let from = args.from.parse().map_err(anyhow::Error::msg)?;
    let how = How { recursive: true, resumes: false, pace: args.pace };
    run_copy(Place::Goose(from), Place::Local(local(&args.to)?), how, context).await
}

fn local(text: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = text.strip_prefix("file://").unwrap_or(text);
    Ok(std::path::absolute(Path::new(path))?)
}

async fn run_copy(from: Place, to: Place, how: How, context: &Context) -> Done {
    let (shown_from, shown_to) = (from.to_string(), to.to_string());
    let tally = copy::run(from, to, how, context).await?;
    print!("{}", layout(&shown_from, &shown_to, tally));
    Ok(ExitCode::SUCCESS)
}

fn layout(from: &str, to: &str, tally: Tally) -> String {
    let mut out = format!("Copied {from} to {to}\n");
    if tally.skipped > 0 {
        let (files, size) = (tally.skipped, output::size(tally.skipped_bytes));
        out.push_str(&format!("Skipped {files} file(s) ({size}) that were there already\n"));
    }
    out
}

fn document(from: &str, to: &str, tally: Tally) -> serde_json::Value {
    json!({
        "source": from,
        "destination": to,
        "copied": tally.copied,
        "copiedBytes": tally.copied_bytes,
        "skipped": tally.skipped,
        "skippedBytes": tally.skipped_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_skipped_is_told() {
        let whole = Tally { copied: 3, copied_bytes: 30, ..Tally::default() };
        assert_eq!(layout("file:///d", "/d", whole), "Copied file:///d to /d\n");
        let resumed = Tally { skipped: 2, skipped_bytes: 10 << 20, ..whole };
        assert_eq!(
            layout("file:///d", "/d", resumed),
            "Copied file:///d to /d\nSkipped 2 file(s) (10.00MB) that were there already\n"
        );
        assert_eq!(
            document("file:///d", "/d", resumed).to_string(),
            "{\"copied\":3,\"copiedBytes\":30,\"destination\":\"/d\",\"skipped\":2,\"skippedBytes\":10485760,\"source\":\"file:///d\"}"
        );
    }
}
