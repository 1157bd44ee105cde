//! `goosefs fsadmin`: one file per command.

mod report;

use super::{Context, Done};

/// Looks after the cluster
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Reports on the cluster
    Report(report::Args),
}

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Report(args) => report::run(&args, context).await,
        }
    }
}
