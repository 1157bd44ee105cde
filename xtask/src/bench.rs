//! The measurements behind `docs/benchmarks.md`: each one starts real processes, compares them with a bare probe of the
//! same shape, or counts CPU-seconds.

pub mod changes;
pub mod cold;
pub mod cpu;
mod example;
mod flood;
pub mod group;
pub mod load;
pub mod metacache;
pub mod metadata;
pub mod overload;
pub mod probe;
pub mod rebuild;
pub mod scale;
pub mod servers;
pub mod slow_readers;
pub mod start;
pub mod warm;
pub mod wire;

use anyhow::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a measurement needs to know.
pub struct Ground {
    pub binary: PathBuf,
    /// A directory on the disk to be measured, for this run alone.
    pub dir: PathBuf,
    /// Files of the largest tree.
    pub files: u64,
    /// Files of the tree that is there for its size.
    pub many_files: u64,
    /// How often a leader is killed.
    pub failovers: usize,
}

impl Ground {
    /// A new directory of one measurement.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// One line of the result.
pub struct Figure {
    /// The point of the milestone it belongs to.
    pub point: &'static str,
    pub what: String,
    pub measured: String,
    /// What is promised of it, and whether that holds; None: only printed.
    pub floor: Option<(String, bool)>,
}

impl Figure {
    pub fn shown(point: &'static str, what: impl Into<String>, measured: impl Into<String>) -> Figure {
        Figure { point, what: what.into(), measured: measured.into(), floor: None }
    }

    pub fn held(mut self, floor: impl Into<String>, holds: bool) -> Figure {
        self.floor = Some((floor.into(), holds));
        self
    }
}

/// The middle of the sorted values. At least one is given.
pub fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    quantile(values, 50)
}

/// The value that `percent` of the values do not exceed.
pub fn quantile<T: Ord + Copy>(values: &mut [T], percent: usize) -> T {
    values.sort_unstable();
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Microseconds each of `count` took of `whole`.
pub fn us_each(whole: Duration, count: u64) -> f64 {
    whole.as_secs_f64() * 1e6 / float(count)
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A file's bytes that are in use: up to the last one that is not zero, for files that are allocated ahead.
pub fn used_bytes(dir: &Path) -> Result<u64> {
    let mut used = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let bytes = std::fs::read(entry.path())?;
            used += u64::try_from(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1))?;
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        assert_eq!(median(&mut [3, 1, 2]), 2);
        assert_eq!(quantile(&mut [5, 1, 4, 2, 3], 99), 5);
        assert_eq!(quantile(&mut [7], 0), 7);
    }
}
