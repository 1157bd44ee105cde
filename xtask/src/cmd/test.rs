//! `cargo xtask test`: the checks, every Rust test, and the official Python clients against real processes.

use crate::cmd::lint;
use crate::suite::{self, Report};
use crate::tree::{self, Tree};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Nothing hangs longer than this; all of it is meant to take twenty minutes.
const SUITE_LIMIT: Duration = Duration::from_secs(60 * 60);
/// Builds all that the tests use.
pub const BUILD: [&str; 5] = ["build", "--workspace", "--bins", "--tests", "--locked"];
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
        run.rust(&mut report, &root, Part::All)?;
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

/// Which Rust tests are run.
#[derive(Clone, Copy)]
pub enum Part {
    All,
    /// A program of tests under some crate's `tests`.
    Only(&'static str),
    AllBut(&'static str),
}

impl Run {
    /// The Rust tests.
    pub fn rust(&self, report: &mut Report, root: &Path, part: Part) -> Result<()> {
        let mut cargo = self.cargo(root, &["test", "--workspace", "--locked", "--no-fail-fast"]);
        match part {
            Part::All => {}
            Part::Only(program) => drop(cargo.args(["--test", program])),
            Part::AllBut(program) => {
                let others = programs_of_tests(&Tree::of_git(root)?).into_iter().filter(|name| name != program);
                cargo.args(["--lib", "--bins"]).args(others.flat_map(|name| ["--test".to_owned(), name]));
            }
        }
        report.run("cargo test", cargo, self.limit)
    }

    /// Masters of an older program are upgraded under load.
    pub fn upgrade(&self, report: &mut Report, root: &Path, old: &Path) -> Result<()> {
        let words = ["test", "--workspace", "--locked", "--test", "group", "rolling_upgrade"];
        let mut cargo = self.cargo(root, &words);
        cargo.env("GOOSEFS_OLD_BIN", old);
        report.run_as_one("rolling upgrade", cargo, self.limit)
    }

    /// The program of an older commit, which is built if it is not there yet: in a directory of its own, since cargo takes files
    /// of the same crates in another checkout for built when they are older.
    pub fn released(&self, root: &Path, commit: &str) -> Result<PathBuf> {
        let kept = self.binary(&tree::target(root)).with_file_name(format!("goosefs-{commit}"));
        if kept.is_file() {
            return Ok(kept);
        }
        let place = tempfile::tempdir().context("make a directory for an older commit")?;
        let (checkout, target) = (place.path().join("checkout"), place.path().join("target"));
        let git = |words: &[&str], commit: Option<&str>| {
            let mut git = Command::new("git");
            git.args(["worktree"]).args(words).arg(&checkout).args(commit).current_dir(root);
            git.status().context("run git worktree")
        };
        let is_there = git(&["add", "--quiet", "--detach"], Some(commit))?.success();
        ensure!(is_there, "git has no commit {commit}: a shallow clone has to be made whole");
        let mut cargo = self.cargo(&checkout, &["build", "--locked", "--bin", "goosefs"]);
        cargo.env("CARGO_TARGET_DIR", &target);
        let built = suite::run(cargo, self.limit, |_| {});
        git(&["remove", "--force"], None)?;
        ensure!(built?.success(), "commit {commit}, from which masters are upgraded, does not build");
        std::fs::copy(self.binary(&target), &kept).with_context(|| format!("keep {}", kept.display()))?;
        Ok(kept)
    }

    /// Builds all that the tests use: the same selection as theirs, so nothing is built with other features.
    pub fn build(&self, report: &mut Report, root: &Path) -> Result<()> {
        report.run("build", self.cargo(root, &BUILD), self.limit)
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
        pytest.env("GOOSEFS_BIN", self.binary(&tree::target(root))).env("PYTHONDONTWRITEBYTECODE", "1");
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

    /// - `target`: cargo's.
    fn binary(&self, target: &Path) -> PathBuf {
        target.join(if self.release { "release" } else { "debug" }).join("goosefs")
    }
}

/// The names of all programs of tests, each once: `tests/NAME.rs` and `tests/NAME/main.rs` of every crate.
fn programs_of_tests(tree: &Tree) -> BTreeSet<String> {
    let name = |file: &str| {
        let (_krate, inside) = file.strip_prefix("crates/")?.split_once('/')?;
        let path = inside.strip_prefix("tests/")?;
        let name = path.strip_suffix("/main.rs").or_else(|| path.strip_suffix(".rs"))?;
        (!name.contains('/')).then(|| name.to_owned())
    };
    tree.files().filter_map(name).collect()
}

fn has_python_tests(root: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(root.join(PYTHON_TESTS)) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("test_") && name.ends_with(".py")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_tests_is_a_file_or_a_directory_with_a_main_file() {
        let files = [
            ("crates/a/tests/one.rs", ""),
            ("crates/a/tests/two/main.rs", ""),
            ("crates/a/tests/two/support.rs", ""),
            ("crates/b/tests/one.rs", ""),
            ("crates/b/src/tests/three.rs", ""),
            ("crates/b/tests/data.json", ""),
        ];
        let (tree, _dir) = Tree::fixture(&files);
        assert_eq!(programs_of_tests(&tree).into_iter().collect::<Vec<_>>(), ["one", "two"]);
    }
}
