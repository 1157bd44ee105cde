//! The metadata cache against its neighbours: an example of the master's crate, run and read.

use super::{Figure, Ground};
use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Stdio};

/// What every line belongs to.
const POINT: &str = "scale 2";
/// Files, as so many of the largest tree of other parts: the price of the baseline grows with its cache.
const TREES: u64 = 8;

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("metacache")?;
    let files = (ground.files * TREES).to_string();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--locked", "--quiet", "--package", "master", "--features", "test-support"]);
    cargo.args(["--example", "metacache", "--", "--figures", "--files", &files, "--dir"]).arg(&dir);
    let run = move || cargo.stderr(Stdio::inherit()).output();
    let ended = tokio::task::spawn_blocking(run).await?.context("run cargo")?;
    ensure!(ended.status.success(), "the example metacache ended with {}", ended.status);
    String::from_utf8(ended.stdout)?.lines().map(figure).collect()
}

/// A line of the example: point, what, measured, floor, and whether that holds, apart by tabs.
fn figure(line: &str) -> Result<Figure> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [POINT, what, measured, floor, holds] = fields[..] else { bail!("the example metacache says {line:?}") };
    let shown = Figure::shown(POINT, what, measured);
    Ok(if floor.is_empty() { shown } else { shown.held(floor, holds == "holds") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_example_are_figures() {
        let held = figure("scale 2\trenames\t6.1 ×\t≥ 5 ×\tholds").expect("a figure");
        assert_eq!((held.what.as_str(), held.floor), ("renames", Some(("≥ 5 ×".to_owned(), true))));
        assert!(figure("scale 2\trenames\t4 ×\t\t").expect("a figure").floor.is_none());
        assert!(figure("scale 2\trenames").is_err());
    }
}
