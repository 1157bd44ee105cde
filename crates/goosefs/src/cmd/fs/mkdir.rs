//! `goosefs fs mkdir`

use crate::cmd::{Context, Done, PathArg};
use crate::settings::roles;
use client::MakeDirectory;
use std::process::ExitCode;
use types::Mode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs mkdir /data/a/b /data/c")]
pub struct Args {
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathArg>,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let mode = Mode::new(0o777 & !roles::umask(&context.settings)?);
    let fs = context.connect_at(&args.paths.iter().collect::<Vec<_>>()).await?;
    for path in &args.paths {
        fs.make_directory(&path.path, MakeDirectory { recursive: true, allow_exists: false, mode }).await?;
        println!("Successfully created directory {}", path.path);
    }
    Ok(ExitCode::SUCCESS)
}
