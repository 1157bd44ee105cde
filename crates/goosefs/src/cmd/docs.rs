//! `goosefs docs`: the documents made from tables in the program.

use super::{Cli, Done};
use crate::settings;
use clap::{CommandFactory, ValueEnum};
use std::fmt::Write;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which document
    document: Document,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Document {
    Settings,
    Cli,
}

pub fn run(args: &Args) -> Done {
    match args.document {
        Document::Settings => print!("{}", settings::markdown()),
        Document::Cli => print!("{}", cli()),
    }
    Ok(ExitCode::SUCCESS)
}

/// `docs/cli.md`, whole.
fn cli() -> String {
    let mut out = String::from(include_str!("docs/cli_head.md"));
    let mut root = Cli::command().term_width(100);
    root.build();
    chapter(&mut out, &mut root);
    out
}

fn chapter(out: &mut String, command: &mut clap::Command) {
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        if sub.has_subcommands() {
            chapter(out, sub);
        } else {
            let name = sub.get_bin_name().unwrap_or_default().to_owned();
            let help = sub.render_help().to_string();
            let help: Vec<&str> = help.lines().map(str::trim_end).collect();
            write!(out, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()).expect("a string");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_manual_of_commands_is_up_to_date() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(committed == super::cli(), "run: cargo run -p goosefs -- docs cli > docs/cli.md");
    }
}
