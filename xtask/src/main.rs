//! Every chore, written in Rust: one file per command in `cmd`.
//!
//! Is:     what `./x` and `.ci/run` call.
//! Never:  part of the product.

mod bench;
mod bucket;
mod cmd;
mod machine;
mod suite;
mod tree;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Chores of the GooseFS repository
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(cmd::bench::Bench),
    BenchLong(cmd::bench_long::BenchLong),
    #[command(hide = true)]
    BenchProbe(bench::probe::BenchProbe),
    Demo(cmd::demo::Demo),
    Fuzz(cmd::fuzz::Fuzz),
    Lint(cmd::lint::Lint),
    Nightly(cmd::nightly::Nightly),
    Sim(cmd::sim::Sim),
    Test(cmd::test::Test),
    Tidy(cmd::tidy::Tidy),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Bench(bench) => bench.run(),
        Command::BenchLong(bench) => bench.run(),
        Command::BenchProbe(probe) => probe.run(),
        Command::Demo(demo) => demo.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Lint(lint) => lint.run(),
        Command::Nightly(nightly) => nightly.run(),
        Command::Sim(sim) => sim.run(),
        Command::Test(test) => test.run(),
        Command::Tidy(tidy) => tidy.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The names of all commands, for the check of documents.
fn command_names() -> Vec<String> {
    use clap::CommandFactory;
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}
