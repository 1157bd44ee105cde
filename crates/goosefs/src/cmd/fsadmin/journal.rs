//! `goosefs fsadmin journal`

mod quorum;

use crate::cmd::{Context, Done};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// The group of masters
    #[command(subcommand)]
    Quorum(quorum::Command),
}

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Quorum(command) => command.run(context).await,
        }
    }
}
