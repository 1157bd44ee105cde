//! `goosefs fsadmin journal`

mod quorum;

use crate::cmd::{Context, Done};
use std::process::ExitCode;

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Has the leading master flush its state and cut its log
    Checkpoint(Checkpoint),
    /// The group of masters
    #[command(subcommand)]
    Quorum(quorum::Command),
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fsadmin journal checkpoint")]
pub struct Checkpoint {}

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Checkpoint(Checkpoint {}) => {
                let index = context.connect().await?.checkpoint_now().await?;
                println!("Everything up to {index} is flushed");
                Ok(ExitCode::SUCCESS)
            }
            Command::Quorum(command) => command.run(context).await,
        }
    }
}
