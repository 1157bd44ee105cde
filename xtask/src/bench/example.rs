//! Measurements that are examples of the master's crate: run, and their lines read.

use super::Figure;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// What a line can belong to.
const POINTS: [&str; 5] = ["scale 2", "scale 3", "scale 4", "scale 5", "scale 6"];

/// The figures of the example `name` with these arguments.
pub async fn run(name: &'static str, mut arguments: Vec<OsString>) -> Result<Vec<Figure>> {
    arguments.insert(0, "--figures".into());
    lines(name, arguments).await?.lines().map(|line| figure(name, line)).collect()
}

/// What the example `name` prints with these arguments.
pub async fn lines(name: &'static str, arguments: Vec<OsString>) -> Result<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--locked", "--quiet", "--package", "master", "--features", "test-support"]);
    cargo.args(["--example", name, "--"]).args(arguments);
    let run = move || cargo.stderr(Stdio::inherit()).output();
    let ended = tokio::task::spawn_blocking(run).await?.context("run cargo")?;
    ensure!(ended.status.success(), "the example {name} ended with {}", ended.status);
    Ok(String::from_utf8(ended.stdout)?)
}

/// A line of an example: point, what, measured, floor, and whether that holds, apart by tabs.
fn figure(name: &str, line: &str) -> Result<Figure> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [point, what, measured, floor, holds] = fields[..] else { bail!("the example {name} says {line:?}") };
    let Some(point) = POINTS.into_iter().find(|known| *known == point) else {
        bail!("the example {name} says {line:?}")
    };
    let shown = Figure::shown(point, what, measured);
    Ok(if floor.is_empty() { shown } else { shown.held(floor, holds == "holds") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_example_are_figures() {
        let held = figure("any", "scale 2\trenames\t6.1 ×\t≥ 5 ×\tholds").expect("a figure");
        assert_eq!((held.what.as_str(), held.floor), ("renames", Some(("≥ 5 ×".to_owned(), true))));
        assert!(figure("any", "scale 4\trenames\t4 ×\t\t").expect("a figure").floor.is_none());
        assert!(figure("any", "scale 2\trenames").is_err());
        assert!(figure("any", "8.1\trenames\t4 ×\t\t").is_err(), "no such point");
    }
}
