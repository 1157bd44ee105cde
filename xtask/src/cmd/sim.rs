//! `cargo xtask sim`: whole clusters under seeds (docs/design/0009-simulation.md).

use crate::cmd::test::BUILD;
use crate::suite::{self, Report};
use crate::tree;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Simulate whole clusters: --seeds N, --minutes M, --from SEED, --replay SEED [--shrunk], --plain, --workers N, --changes, --log-rot, --wild-clocks, --bug BUG
#[derive(Args, Debug)]
pub struct Sim {
    /// Optimised, without debug assertions and overflow checks
    #[arg(long)]
    release: bool,
    /// What the simulator is told; `--help` shows it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

impl Sim {
    pub fn run(self) -> Result<()> {
        let root = tree::root()?;
        match run(&root, self.release, &self.rest)?.success() {
            true => Ok(()),
            false => bail!("the simulator found what must be mended"),
        }
    }
}

/// So many seeds as one check of a report, after those of the tests: all mixes in turn.
///
/// - `limit`: after it they are given up.
pub fn seeds(report: &mut Report, root: &Path, release: bool, seeds: u64, limit: Duration) -> Result<()> {
    let count = seeds.to_string();
    let args: Vec<String> = ["--from", "10001", "--seeds", &count].into_iter().map(str::to_owned).collect();
    let mut program = built(root, release)?;
    program.args(args);
    report
        .check(&format!("simulator, {seeds} seeds of all mixes"), || Ok(suite::run(program, limit, |_| {})?.success()))
}

fn run(root: &Path, release: bool, args: &[String]) -> Result<ExitStatus> {
    built(root, release)?.args(args).status().context("start the simulator")
}

/// The program, built as the tests are, so that nothing is built with other features.
fn built(root: &Path, release: bool) -> Result<Command> {
    let mut build = Command::new("cargo");
    build.args(BUILD).current_dir(root);
    if release {
        build.arg("--release");
    }
    if !build.status().context("start cargo")?.success() {
        bail!("the simulator does not build");
    }
    let program = tree::target(root).join(if release { "release" } else { "debug" }).join("sim");
    Ok(Command::new(program))
}
