//! `goosefs version`

use super::Done;
use std::process::ExitCode;

/// The release of this program.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs version")]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Done {
    if args.json {
        println!("{}", serde_json::json!({ "version": RELEASE }));
    } else {
        println!("{RELEASE}");
    }
    Ok(ExitCode::SUCCESS)
}
