//! `goosefs fsadmin`: one file per command.

mod backup;
mod doctor;
mod journal;
mod metastore;
mod report;

use super::{Context, Done};

/// Looks after the cluster
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Writes a backup of the metadata while the cluster serves
    Backup(backup::Args),
    /// Looks for what is wrong with the cluster
    Doctor(doctor::Args),
    /// Shows and moves the lead among several masters
    #[command(subcommand)]
    Journal(journal::Command),
    /// Looks after the metadata database
    #[command(subcommand)]
    Metastore(metastore::Command),
    /// Reports on the cluster
    Report(report::Args),
}

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Backup(args) => backup::run(&args, context).await,
            Command::Doctor(args) => doctor::run(&args, context).await,
            Command::Journal(command) => command.run(context).await,
            Command::Metastore(command) => command.run(context).await,
            Command::Report(args) => report::run(&args, context).await,
        }
    }
}
