//! `goosefs fs mkdir`

use super::many;
use crate::cmd::{Context, Done, PathArg};
use crate::settings::roles;
use client::MakeDirectory;
use futures::stream;
use types::{GfsPath, Mode};

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs mkdir /data/a/b /data/c")]
pub struct Args {
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathArg>,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let mode = Mode::new(0o777 & !roles::umask(&context.settings)?);
    let fs = context.connect_at(&args.paths.iter().collect::<Vec<_>>()).await?;
    let how = MakeDirectory { recursive: true, allow_exists: false, mode };
    let paths: Vec<GfsPath> = args.paths.iter().map(|path| path.path.clone()).collect();
    let made = fs.make_directories(stream::iter(paths), how);
    many::report(made, |path| format!("Successfully created directory {path}")).await
}
