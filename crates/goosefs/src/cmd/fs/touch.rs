//! `goosefs fs touch`

use crate::cmd::{Context, Done, PathArg};
use crate::settings::roles;
use client::WriteOptions;
use std::process::ExitCode;
use types::Mode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs touch /data/_SUCCESS")]
pub struct Args {
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathArg>,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let mode = Mode::new(0o666 & !roles::umask(&context.settings)?);
    let fs = context.connect_at(&args.paths.iter().collect::<Vec<_>>()).await?;
    for path in &args.paths {
        fs.create(&path.path, WriteOptions { mode, ..WriteOptions::default() }).await?.close().await?;
        println!("{} has been created", path.path);
    }
    Ok(ExitCode::SUCCESS)
}
