//! `goosefs fs mv`

use crate::cmd::{Context, Done, PathArg};
use std::process::ExitCode;
use types::Name;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs mv /data/a /data/b\n  goosefs fs mv /data/a /archive        into the directory, if /archive is one"
)]
pub struct Args {
    #[arg(value_name = "SOURCE")]
    from: PathArg,
    #[arg(value_name = "DESTINATION")]
    to: PathArg,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&[&args.from, &args.to]).await?;
    let into = fs.find(&args.to.path).await?.filter(|there| there.folder);
    let to = match into {
        Some(directory) => directory.path.join(&Name::new(args.from.path.file_name())?)?,
        None => args.to.path.clone(),
    };
    fs.rename(&args.from.path, &to).await?;
    println!("Renamed {} to {to}", args.from.path);
    Ok(ExitCode::SUCCESS)
}
