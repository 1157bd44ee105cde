//! `cargo xtask test`: the checks, every Rust test, and the official Python clients against real processes.

use crate::cmd::lint;
use crate::suite::Report;
use crate::tree;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Nothing hangs longer than this; all of it is meant to take twenty minutes.
const SUITE_LIMIT: Duration = Duration::from_secs(60 * 60);
/// Where the tests with the official Python clients are.
const PYTHON_TESTS: &str = "tests/python";

/// Run the checks and all tests; the closing line counts them
#[derive(Args, Debug)]
pub struct Test {}

impl Test {
    pub fn run(self) -> Result<()> {
        let root = tree::root()?;
        let mut report = Report::default();
        lint::checks(&mut report, &root)?;
        let run = Run { release: false, rounds: None, threads: None, limit: SUITE_LIMIT };
        run.rust(&mut report, &root)?;
        run.build(&mut report, &root)?;
        run.python(&mut report, &root)?;
        report.print();
        match report.failed() {
            0 => Ok(()),
            failed => bail!("{failed} tests or checks failed"),
        }
    }
}

/// How the suites are run.
pub struct Run {
    pub release: bool,
    /// How often tests repeat what is random in them; None leaves it to each.
    pub rounds: Option<u64>,
    /// Tests of one program at once; None: one a core.
    pub threads: Option<usize>,
    /// After which one program is given up.
    pub limit: Duration,
}

impl Run {
    /// Every Rust test there is.
    pub fn rust(&self, report: &mut Report, root: &Path) -> Result<()> {
        report.run("cargo test", self.cargo(root, &["test", "--workspace", "--locked", "--no-fail-fast"]), self.limit)
    }

    /// Builds all that the tests use: the same selection as theirs, so nothing is built with other features.
    pub fn build(&self, report: &mut Report, root: &Path) -> Result<()> {
        let cargo = self.cargo(root, &["build", "--workspace", "--bins", "--tests", "--locked"]);
        report.run("build", cargo, self.limit)
    }

    /// The official Python clients, against what was built.
    pub fn python(&self, report: &mut Report, root: &Path) -> Result<()> {
        if !has_python_tests(root) {
            return Ok(());
        }
        let python = std::env::var_os("GOOSEFS_PYTHON")
            .context("GOOSEFS_PYTHON does not name a Python with the packages of tests/python: call ./x test")?;
        let mut pytest = Command::new(python);
        pytest.args(["-m", "pytest", PYTHON_TESTS, "-q", "--color=no", "-p", "no:cacheprovider"]).current_dir(root);
        pytest.env("GOOSEFS_BIN", self.binary(root)).env("PYTHONDONTWRITEBYTECODE", "1");
        self.pass_on(&mut pytest);
        report.run("official Python clients", pytest, self.limit)
    }

    fn cargo(&self, root: &Path, args: &[&str]) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.args(args).current_dir(root);
        if self.release {
            cargo.arg("--release");
        }
        self.pass_on(&mut cargo);
        cargo
    }

    fn pass_on(&self, command: &mut Command) {
        if let Some(rounds) = self.rounds {
            command.env("GOOSEFS_TEST_ROUNDS", rounds.to_string());
        }
        if let Some(threads) = self.threads {
            command.env("RUST_TEST_THREADS", threads.to_string());
        }
    }

    fn binary(&self, root: &Path) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        root.join(target).join(if self.release { "release" } else { "debug" }).join("goosefs")
    }
}

fn has_python_tests(root: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(root.join(PYTHON_TESTS)) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("test_") && name.ends_with(".py")
    })
}
