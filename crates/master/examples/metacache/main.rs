//! The metadata cache against its neighbours: renames and heartbeats over RocksDB with a working set larger than the cache.
//!
//! `cargo run --release -p master --features test-support --example metacache -- [--files N] [--capacity ENTRIES] [--renames N]
//! [--beats N] [--dir DIR] [--figures]`; `./x bench --only metacache` runs it and puts its figures into the table. What is
//! compared with what stands in docs/benchmarks.md.

mod front;
mod heartbeat;
mod library;
mod rename;
mod tree;

use std::path::PathBuf;
use std::time::Duration;

/// What is measured, and where.
pub struct Plan {
    pub files: u64,
    /// Entries of each cache.
    pub capacity: usize,
    pub renames: u64,
    pub beats: u64,
    pub dir: PathBuf,
    /// Figures for a program instead of words.
    figures: bool,
}

impl Plan {
    fn from_arguments() -> Plan {
        let mut plan = Plan {
            files: 4_000_000,
            capacity: 0,
            renames: 100_000,
            beats: 1_000,
            dir: std::env::temp_dir(),
            figures: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut number = || -> u64 {
                let text = arguments.next().unwrap_or_default();
                text.parse().unwrap_or_else(|_| panic!("{name} takes a whole number, not {text:?}"))
            };
            match name.as_str() {
                "--files" => plan.files = number(),
                "--capacity" => plan.capacity = usize::try_from(number()).expect("it fits memory"),
                "--renames" => plan.renames = number(),
                "--beats" => plan.beats = number(),
                "--dir" => plan.dir = arguments.next().expect("--dir takes a directory").into(),
                "--figures" => plan.figures = true,
                _ => panic!("{name} is not known; see the head of this example"),
            }
        }
        if plan.capacity == 0 {
            plan.capacity = usize::try_from(plan.files / 4).expect("it fits memory");
        }
        plan
    }

    /// One line of the result: the point, what, the value, and the floor with whether it holds.
    pub fn figure(&self, point: &str, what: &str, measured: &str, floor: Option<(&str, bool)>) {
        let (floor, holds) = floor.map_or(("", ""), |(floor, holds)| (floor, if holds { "holds" } else { "missed" }));
        if self.figures {
            println!("{point}\t{what}\t{measured}\t{floor}\t{holds}");
        } else {
            println!("{what}: {measured} {floor} {holds}");
        }
    }
}

/// CPU time of this process, its background threads among them.
pub fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).expect("it does not run backwards")
}

/// Microseconds each of `count` took of `whole`.
pub fn us_each(whole: Duration, count: u64) -> f64 {
    whole.as_secs_f64() * 1e6 / float(count)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// The value that `per_mille` of the values do not exceed.
pub fn quantile(values: &mut [Duration], per_mille: usize) -> Duration {
    values.sort_unstable();
    values[(values.len() * per_mille / 1000).min(values.len() - 1)]
}

fn main() {
    let plan = Plan::from_arguments();
    let place = tempfile::Builder::new().prefix("metacache-").tempdir_in(&plan.dir).expect("a directory");
    let tree = tree::Tree::grow(place.path(), plan.files);
    rename::measure(&plan, &tree);
    heartbeat::measure(&plan, &tree);
}
