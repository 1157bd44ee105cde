//! Every chore, written in Rust: one file per command in `cmd`.
//!
//! Is:     what `./x` and `.ci/run` call.
//! Never:  part of the product.

// Chores measure time and run once; a simulated clock would tell them nothing.
#![allow(clippy::disallowed_methods)]

mod cmd;
mod machine;
mod suite;
mod tree;

use clap::{Parser, Subcommand};

/// Chores of the GooseFS repository
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Lint(cmd::lint::Lint),
    Nightly(cmd::nightly::Nightly),
    Test(cmd::test::Test),
    Tidy(cmd::tidy::Tidy),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Lint(lint) => lint.run(),
        Command::Nightly(nightly) => nightly.run(),
        Command::Test(test) => test.run(),
        Command::Tidy(tidy) => tidy.run(),
    }
}

/// The names of all commands, for the check of documents.
fn command_names() -> Vec<String> {
    use clap::CommandFactory;
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}
