//! `cargo xtask nightly`: the full counts of what `./x test` samples. The last summary is kept in `docs/nightly.md`.

use crate::cmd::test::{Part, Run};
use crate::cmd::{fuzz, sim};
use crate::suite::Report;
use crate::{machine, tree};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

/// After this one program of the run is given up.
const SUITE_LIMIT: Duration = Duration::from_secs(12 * 60 * 60);
/// Seeds of the simulator for each round.
const SIM_SEEDS: u64 = 10;
/// The last version that landed before the present work: masters are upgraded from it. It is built once.
const RELEASED: &str = "7b8001f0e675";
/// The long tests are those that kill processes and wait for their starts.
const TESTS_PER_CORE: usize = 2;
/// The program of tests that takes longest: the others run beside it.
const LONGEST: &str = "group";
const SUMMARY: &str = "docs/nightly.md";

/// Run all tests with their full counts and write docs/nightly.md
#[derive(Args, Debug)]
pub struct Nightly {
    /// How often each random test repeats (GOOSEFS_TEST_ROUNDS)
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// Test what is shipped instead: optimised, without debug assertions and overflow checks
    #[arg(long)]
    release: bool,
    /// How long the fuzz targets run, all together
    #[arg(long, default_value_t = 10)]
    fuzz_minutes: u64,
}

impl Nightly {
    pub fn run(self) -> Result<()> {
        let root = tree::root()?;
        let start = Instant::now();
        let mut report = Report::default();
        let threads = std::thread::available_parallelism().map_or(1, usize::from) * TESTS_PER_CORE;
        let (rounds, threads) = (Some(self.rounds), Some(threads));
        let run = Run { release: self.release, rounds, threads, limit: SUITE_LIMIT };
        run.build(&mut report, &root)?;
        let old = run.released(&root, RELEASED)?;
        // Most tests wait for processes and disks: what only computes goes on beside them.
        let lanes: [&Lane; 4] = [
            &|report| run.rust(report, &root, Part::AllBut(LONGEST)),
            &|report| {
                run.upgrade(report, &root, &old)?;
                run.rust(report, &root, Part::Only(LONGEST))
            },
            &|report| run.python(report, &root),
            &|report| {
                sim::seeds(report, &root, self.release, self.rounds * SIM_SEEDS, run.limit)?;
                fuzz::all(report, &root, self.release, self.fuzz_minutes)
            },
        ];
        for lane in beside_each_other(lanes) {
            report.suites.extend(lane?.suites);
        }
        let commit = machine::said("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
        let date = machine::said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
        let text = self.summary(&report, &date, &commit, &machine::describe(), start.elapsed());
        fs::write(root.join(SUMMARY), text).with_context(|| format!("write {SUMMARY}"))?;
        report.print();
        match report.failed() {
            0 => Ok(()),
            failed => bail!("{failed} tests failed"),
        }
    }

    fn summary(&self, report: &Report, date: &str, commit: &str, machine: &str, took: Duration) -> String {
        let rounds = self.rounds;
        let profile = if self.release { "release" } else { "test" };
        let mut out = format!(
            "# The last nightly run\n\nWritten by `cargo xtask nightly --rounds {rounds}`: every test in the {profile} \
             profile, the random ones {rounds} times, and the fuzz targets for {} minutes from a new seed.\n\n\
             | | |\n|---|---|\n| when | {date} |\n| commit | {commit} |\n| machine | {machine} |\n| time | {:.0} min |\n\
             | result | {} passed, {} failed |\n\n| suite | time | passed | failed |\n|---|--:|--:|--:|\n",
            self.fuzz_minutes,
            took.as_secs_f64() / 60.0,
            report.passed(),
            report.failed(),
        );
        for suite in &report.suites {
            let seconds = suite.took.as_secs_f64();
            writeln!(out, "| {} | {seconds:.1} s | {} | {} |", suite.name, suite.passed, suite.failed)
                .expect("a string takes everything");
        }
        out
    }
}

/// A part of the run.
type Lane<'a> = dyn Fn(&mut Report) -> Result<()> + Sync + 'a;

/// Runs all of them at once, each with a report of its own.
fn beside_each_other<const N: usize>(lanes: [&Lane<'_>; N]) -> [Result<Report>; N] {
    std::thread::scope(|scope| {
        let begun = lanes.map(|lane| {
            scope.spawn(move || {
                let mut report = Report::default();
                lane(&mut report).map(|()| report)
            })
        });
        begun.map(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    #[test]
    fn the_summary_says_what_ran_where_and_how_it_went() {
        let suite = Suite { name: "tests/crash.rs".into(), took: Duration::from_secs(90), passed: 7, failed: 1 };
        let report = Report { suites: vec![suite] };
        let nightly = Nightly { rounds: 200, release: false, fuzz_minutes: 10 };
        let text = nightly.summary(&report, "2030-01-02", "abc", "2 × cpu", Duration::from_secs(120));
        for part in [
            "--rounds 200",
            "test profile",
            "fuzz targets for 10 minutes",
            "| commit | abc |",
            "2 min",
            "7 passed, 1 failed",
            "| tests/crash.rs | 90.0 s | 7 | 1 |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
