//! `goosefs ns update`

use super::parse_secret;
use crate::cmd::{Context, Done, key_value};
use client::NamespaceChange;
use std::process::ExitCode;
use types::Secret;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  goosefs ns update cos --attribute fs.cosn.bucket.region=ap-guangzhou \\\n      --secret fs.cosn.userinfo.secretId=... --secret fs.cosn.userinfo.secretKey=... \\\n      --secret fs.cosn.userinfo.sessionToken=...\n\nProperties that are left out go back to their defaults."
)]
pub struct Args {
    #[arg(value_name = "NAMESPACE")]
    name: String,
    #[command(flatten)]
    changes: Changes,
}

/// At least one.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = true)]
struct Changes {
    /// A credential; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_secret)]
    secret: Vec<(String, Secret)>,
    /// A property of the store; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    attribute: Vec<(String, String)>,
}

pub async fn run(args: Args, context: &Context) -> Done {
    let name = args.name.trim_matches('/');
    let plain = args.changes.attribute.into_iter().map(|(key, value)| (key, Secret::new(value)));
    let change =
        NamespaceChange { read_only: None, shared: None, properties: plain.chain(args.changes.secret).collect() };
    context.connect().await?.update_namespace(name, change).await?;
    println!("Namespace {name} updated");
    Ok(ExitCode::SUCCESS)
}
