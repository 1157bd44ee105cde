//! `goosefs ns setPolicy` and `unsetPolicy`

use super::{parse_read, parse_write};
use crate::cmd::{Context, Done};
use std::process::ExitCode;
use types::{ReadPolicy, WriteType};

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs ns setPolicy --wPolicy 5 --rPolicy CACHE_CONSISTENT lake")]
pub struct SetArgs {
    #[arg(value_name = "NAMESPACE")]
    name: String,
    #[command(flatten)]
    policies: Policies,
}

/// One of these, or both.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = true)]
struct Policies {
    /// Where writes go, 1 to 6 or by name
    #[arg(long = "wPolicy", value_name = "POLICY", value_parser = parse_write)]
    write: Option<WriteType>,
    /// How reads cache and check, 1 to 5 or by name
    #[arg(long = "rPolicy", value_name = "POLICY", value_parser = parse_read)]
    read: Option<ReadPolicy>,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs ns unsetPolicy lake")]
pub struct UnsetArgs {
    #[arg(value_name = "NAMESPACE")]
    name: String,
}

pub async fn run_set(args: &SetArgs, context: &Context) -> Done {
    let name = args.name.trim_matches('/');
    context.connect().await?.set_policy(name, args.policies.write.map(Some), args.policies.read.map(Some)).await?;
    println!("Policy of namespace {name} set");
    Ok(ExitCode::SUCCESS)
}

pub async fn run_unset(args: &UnsetArgs, context: &Context) -> Done {
    let name = args.name.trim_matches('/');
    context.connect().await?.set_policy(name, Some(None), Some(None)).await?;
    println!("Policy of namespace {name} unset");
    Ok(ExitCode::SUCCESS)
}
