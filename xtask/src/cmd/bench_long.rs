//! `cargo xtask bench-long`: the figures of size for a namespace that takes hours to fill.

use super::bench::{Bench, Part};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Measure what a namespace of a hundred million files takes; needs some 60 GB of disk and several hours
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  cargo xtask bench-long --dir /mnt/disk")]
pub struct BenchLong {
    /// Files of the tree
    #[arg(long, default_value_t = 100_000_000)]
    files: u64,
    /// Directory on the disk to be measured (default: the system's temporary directory)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The goosefs binary to run
    #[arg(long, env = "GOOSEFS_BIN")]
    binary: PathBuf,
}

impl BenchLong {
    pub fn run(self) -> Result<()> {
        Bench::only(Part::Scale, self.files, self.dir, self.binary).run()
    }
}
