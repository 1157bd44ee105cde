//! A namespace of many files in one master: what an inode takes in memory and on disk, how a start and a replay go, directories
//! of millions of children, and ten million block locations of a hundred workers.
//!
//! `cargo run --release -p master --features test-support --example scale -- [--files N] [--only PART]... [--dir DIR]
//! [--goosefs PROGRAM] [--figures]`; `./x bench --only scale` runs it and puts its figures into the table. What is measured, and
//! how, stands in docs/benchmarks.md; PART is one of growth, replay, directory, serving, tables, allocator.

mod allocator;
mod blocks;
mod child;
mod clients;
mod directory;
mod growth;
mod probe;
mod process;
mod replay;
mod serving;
mod tables;
mod world;

use std::path::PathBuf;
use std::time::Duration;

/// What is measured, and where.
pub struct Plan {
    /// Files of the tree, and children of the large directory.
    pub files: u64,
    pub dir: PathBuf,
    /// The program whose commands walk the tree; None: they are left out.
    pub goosefs: Option<PathBuf>,
    /// Empty: all that the issue asks for.
    only: Vec<String>,
    /// Figures for a program instead of words.
    figures: bool,
}

/// The parts that run when none is named.
const PARTS: [&str; 4] = ["growth", "replay", "directory", "serving"];
/// Those that decided about settings, and run when asked for.
const LABORATORY: [&str; 2] = ["tables", "allocator"];

impl Plan {
    fn from_arguments() -> Plan {
        let dir = std::env::temp_dir();
        let mut plan = Plan { files: 10_000_000, dir, goosefs: None, only: Vec::new(), figures: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{name} takes a value"));
            match name.as_str() {
                "--files" => plan.files = value().parse().expect("--files takes a whole number"),
                "--dir" => plan.dir = value().into(),
                "--goosefs" => plan.goosefs = Some(value().into()),
                "--only" => plan.only.push(value()),
                "--figures" => plan.figures = true,
                _ => panic!("{name} is not known; see the head of this example"),
            }
        }
        for part in &plan.only {
            let known = PARTS.iter().chain(&LABORATORY);
            assert!(known.clone().any(|one| one == part), "{part} is none of {:?}", known.collect::<Vec<_>>());
        }
        plan
    }

    pub fn does(&self, part: &str) -> bool {
        if self.only.is_empty() { PARTS.contains(&part) } else { self.only.iter().any(|one| one == part) }
    }

    /// A tenth of the files: what the whole tree is compared with.
    pub fn few(&self) -> u64 {
        (self.files / 10).max(1)
    }

    /// One line of the result: the point, what, the value, and the floor with whether it holds.
    pub fn figure(&self, point: &str, what: &str, measured: &str, floor: Option<(&str, bool)>) {
        let (floor, holds) = floor.map_or(("", ""), |(floor, holds)| (floor, if holds { "holds" } else { "missed" }));
        if self.figures {
            println!("scale {point}\t{what}\t{measured}\t{floor}\t{holds}");
        } else {
            println!("{point} {what}: {measured} {floor} {holds}");
        }
    }
}

/// Microseconds each of `count` took of `whole`.
pub fn us_each(whole: Duration, count: u64) -> f64 {
    whole.as_secs_f64() * 1e6 / float(count.max(1))
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// How much more `now` is than `before`, of each of `count`.
pub fn growth_each(before: u64, now: u64, count: u64) -> f64 {
    (float(now) - float(before)) / float(count.max(1))
}

/// The value that `per_mille` of the values do not exceed.
pub fn quantile(values: &mut [Duration], per_mille: usize) -> Duration {
    values.sort_unstable();
    values[(values.len() * per_mille / 1000).min(values.len() - 1)]
}

fn main() {
    if std::env::args().nth(1).is_some_and(|first| first == child::NAME) {
        return child::run();
    }
    let plan = Plan::from_arguments();
    let place = tempfile::Builder::new().prefix("scale-").tempdir_in(&plan.dir).expect("a directory");
    let at = |name: &str| place.path().join(name);
    let is_grown = ["growth", "directory", "serving"].iter().any(|part| plan.does(part));
    if is_grown {
        let ground = world::Ground::make(&at("master"));
        growth::measure(&plan, &ground);
        if plan.does("directory") || plan.does("serving") {
            directory::measure(&plan, &ground);
        }
        if plan.does("serving") {
            serving::measure(&plan, &ground);
        }
    }
    if plan.does("replay") {
        replay::measure(&plan, &at("replay"));
    }
    if plan.does("tables") {
        tables::measure(&plan, &at("tables"));
    }
    if plan.does("allocator") {
        allocator::measure(&plan, &at("allocator"));
    }
}
