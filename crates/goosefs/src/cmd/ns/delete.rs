//! `goosefs ns delete`

use crate::cmd::{Context, Done};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs ns delete lake        the store keeps its data")]
pub struct Args {
    #[arg(value_name = "NAMESPACE")]
    name: String,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let name = args.name.trim_matches('/');
    context.connect().await?.delete_namespace(name).await?;
    println!("Namespace {name} deleted; its store keeps its data");
    Ok(ExitCode::SUCCESS)
}
