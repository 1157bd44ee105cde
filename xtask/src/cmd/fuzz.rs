//! `cargo xtask fuzz`: the fuzz targets of `./x test`, for longer and from another place. Stable compiler, no other tool.
//!
//! A target is a test named `fuzz_…` that hands a decoder to `testkit::fuzz`; this runs those tests one after the other.

use crate::suite::Report;
use crate::tree;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where failing inputs are kept, below the target directory.
const KEPT: &str = "fuzz";
const PREFIX: &str = "fuzz_";
/// How much later than meant all targets may have ended.
const LATER: Duration = Duration::from_secs(30 * 60);

/// Give decoders of outside bytes hostile ones, for long; a failing input is shown and kept
#[derive(Args, Debug)]
pub struct Fuzz {
    /// Targets whose name begins so, such as log_entry; all without it
    #[arg(long, default_value = "")]
    target: String,
    /// How long each target runs
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Begin where an earlier run did
    #[arg(long)]
    seed: Option<u64>,
}

impl Fuzz {
    pub fn run(self) -> Result<()> {
        let root = tree::root()?;
        let kept = tree::target(&root).join(KEPT);
        std::fs::create_dir_all(&kept).with_context(|| format!("make {}", kept.display()))?;
        let seed = self.seed.unwrap_or_else(another_seed);
        println!("seed {seed}; failing inputs are kept in {}", kept.display());
        let mut cargo = targets(&root, false, &self.target, 1);
        let status = long(&mut cargo, self.minutes * 60, seed, &kept).status().context("start cargo")?;
        match status.success() {
            true => Ok(()),
            false => bail!("a target failed: make its input a test beside the target, then mend the decoder"),
        }
    }
}

/// All targets as one suite of a report, `minutes` all together, from another place each time.
pub fn all(report: &mut Report, root: &Path, release: bool, minutes: u64) -> Result<()> {
    let kept = tree::target(root).join(KEPT);
    std::fs::create_dir_all(&kept).with_context(|| format!("make {}", kept.display()))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut list = targets(root, release, "", threads);
    let listed = list.arg("--list").output().context("start cargo")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let count = listed.lines().filter(|line| line.ends_with(": test")).count();
    anyhow::ensure!(count > 0, "no fuzz target is listed");
    let seconds = (minutes * 60 * u64::try_from(threads)? / u64::try_from(count)?).max(1);
    let seed = another_seed();
    let mut cargo = targets(root, release, "", threads);
    long(&mut cargo, seconds, seed, &kept);
    let limit = Duration::from_secs(minutes * 60) + LATER;
    report.run_as_one(&format!("{count} fuzz targets, {seconds} s each, seed {seed}"), cargo, limit)
}

/// Runs targets whose name begins so. Built as the tests are, so that nothing is built with other features.
fn targets(root: &Path, release: bool, name: &str, threads: usize) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--workspace", "--locked", "--lib", "--bins", "--no-fail-fast"]).current_dir(root);
    if release {
        cargo.arg("--release");
    }
    cargo.args(["--", "--nocapture", "--test-threads", &threads.to_string(), &format!("{PREFIX}{name}")]);
    cargo
}

fn long<'a>(cargo: &'a mut Command, seconds: u64, seed: u64, kept: &Path) -> &'a mut Command {
    cargo
        .env(testkit::fuzz::SECONDS, seconds.to_string())
        .env(testkit::fuzz::SEED, seed.to_string())
        .env(testkit::fuzz::KEEP, kept)
}

fn another_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs())
}
