//! `goosefs fs touch`

use super::many;
use crate::cmd::{Context, Done, PathArg};
use crate::settings::roles;
use client::WriteOptions;
use futures::stream;
use types::{GfsPath, Mode};

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs touch /data/_SUCCESS")]
pub struct Args {
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathArg>,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let mode = Mode::new(0o666 & !roles::umask(&context.settings)?);
    let fs = context.connect_at(&args.paths.iter().collect::<Vec<_>>()).await?;
    let options = WriteOptions { mode, ..WriteOptions::default() };
    let paths: Vec<GfsPath> = args.paths.iter().map(|path| path.path.clone()).collect();
    many::report(fs.create_empty(stream::iter(paths), options), |path| format!("{path} has been created")).await
}
