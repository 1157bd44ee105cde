//! `cargo xtask fuzz`: the fuzz targets of `./x test`, for longer and from another place. Stable compiler, no other tool.
//!
//! A target is a test named `fuzz_…` that hands a decoder to `testkit::fuzz`; this runs those tests one after the other.

use crate::tree;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where failing inputs are kept, below the target directory.
const KEPT: &str = "fuzz";
const PREFIX: &str = "fuzz_";

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
        let kept = target_dir(&root).join(KEPT);
        std::fs::create_dir_all(&kept).with_context(|| format!("make {}", kept.display()))?;
        let seed = self.seed.unwrap_or_else(another_seed);
        println!("seed {seed}; failing inputs are kept in {}", kept.display());
        let status = Command::new("cargo")
            .args(["test", "--workspace", "--locked", "--lib", "--bins", "--no-fail-fast", "--", "--nocapture"])
            .args(["--test-threads", "1", &format!("{PREFIX}{}", self.target)])
            .env(testkit::fuzz::SECONDS, (self.minutes * 60).to_string())
            .env(testkit::fuzz::SEED, seed.to_string())
            .env(testkit::fuzz::KEEP, &kept)
            .current_dir(&root)
            .status()
            .context("start cargo")?;
        match status.success() {
            true => Ok(()),
            false => bail!("a target failed: make its input a test beside the target, then mend the decoder"),
        }
    }
}

fn another_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs())
}

fn target_dir(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}
