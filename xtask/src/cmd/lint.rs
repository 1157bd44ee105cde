//! `cargo xtask lint`: formatting, clippy, tidy.

use crate::cmd::tidy::Tidy;
use crate::suite::{self, Report};
use crate::tree;
use anyhow::{Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long clippy may take on a cold machine.
const CHECK_LIMIT: Duration = Duration::from_secs(40 * 60);

/// Check formatting, clippy and the rules of the house
#[derive(Args, Debug)]
pub struct Lint {}

impl Lint {
    pub fn run(self) -> Result<()> {
        let mut report = Report::default();
        checks(&mut report, &tree::root()?)?;
        match report.failed() {
            0 => Ok(()),
            failed => bail!("{failed} of {} checks failed", report.suites.len()),
        }
    }
}

/// The checks that are no tests.
pub fn checks(report: &mut Report, root: &Path) -> Result<()> {
    report.check("formatting", || cargo(root, &["fmt", "--all", "--check"]))?;
    report.check("clippy", || {
        cargo(root, &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
    })?;
    report.check("tidy", || Tidy { write: false }.is_clean(root))
}

fn cargo(root: &Path, args: &[&str]) -> Result<bool> {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(root);
    Ok(suite::run(command, CHECK_LIMIT, |_| {})?.success())
}
