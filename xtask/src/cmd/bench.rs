//! `cargo xtask bench`: what docs/benchmarks.md claims, measured, and the document written anew.

use crate::bench::{
    Figure, Ground, cold, group, load, metacache, metadata, overload, rebuild, scale, slow_readers, start, warm, wire,
};
use crate::{machine, tree};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const DOCUMENT: &str = "docs/benchmarks.md";
const FILES: u64 = 1_000_000;
const MANY_FILES: u64 = 10_000_000;
const FAILOVERS: usize = 50;

/// One group of figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Part {
    /// Durable creates and warm status: CPU, syncs, latency
    Metadata,
    /// Three masters: what replication costs, and how long a change of the leader is felt
    Group,
    /// A warm sequential read against a bare server
    Warm,
    /// Cold reads against a direct GET
    Cold,
    /// Memory under slow readers
    SlowReaders,
    /// Start of a master with many files
    Start,
    /// The metadata cache and its policies: renames and heartbeats with a working set larger than the cache
    Metacache,
    /// Official clients and ours over the wire: what a CPU-second does
    Wire,
    /// The same in a master's own process, without a wire
    InProcess,
    /// A directory of a bucket with a million objects: CPU, log and memory of its load, and a kill in the middle
    Load,
    /// Twice as much asked as a master with one core can do: what it still does, and what it says of the rest
    Overload,
    /// Memory, disk and time of ten million files, a directory of as many children, as many block locations; some half an hour
    Scale,
    /// A master rebuilt from nothing beside two with many files; only when asked for, with `--files 5000000` some ten minutes
    Rebuild,
}

/// Measure speed and memory, and write docs/benchmarks.md
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  ./x bench\n  ./x bench --only cold --only warm    looks, and leaves the document alone"
)]
pub struct Bench {
    /// Measure only this; the document is left alone (may be given several times)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Files of the largest tree (default: 1000000, and 10000000 for `scale`)
    #[arg(long)]
    files: Option<u64>,
    /// How often a leader is killed; 0: nothing about failovers is measured
    #[arg(long, default_value_t = FAILOVERS)]
    failovers: usize,
    /// Directory on the disk to be measured (default: the system's temporary directory)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The goosefs binary to run
    #[arg(long, env = "GOOSEFS_BIN")]
    binary: PathBuf,
}

impl Bench {
    /// One part, on a tree of so many files.
    pub fn only(part: Part, files: u64, dir: Option<PathBuf>, binary: PathBuf) -> Bench {
        Bench { only: vec![part], files: Some(files), failovers: FAILOVERS, dir, binary }
    }

    pub fn run(self) -> Result<()> {
        let began = Instant::now();
        let mut builder = tempfile::Builder::new();
        builder.prefix("goosefs-bench-");
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = builder.tempdir_in(&parent).with_context(|| format!("make a directory in {}", parent.display()))?;
        let ground = Ground {
            binary: self.binary.clone(),
            dir: dir.path().to_owned(),
            files: self.files.unwrap_or(FILES),
            many_files: self.files.unwrap_or(MANY_FILES),
            failovers: self.failovers,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut figures = Vec::new();
        for part in Part::value_variants() {
            let is_meant = if self.only.is_empty() { *part != Part::Rebuild } else { self.only.contains(part) };
            if !is_meant {
                continue;
            }
            eprintln!("measuring {} …", part.to_possible_value().expect("no part is hidden").get_name());
            let measured = runtime.block_on(async {
                match part {
                    Part::Metadata => Box::pin(metadata::measure(&ground)).await,
                    Part::Group => Box::pin(group::measure(&ground)).await,
                    Part::Warm => Box::pin(warm::measure(&ground)).await,
                    Part::Cold => Box::pin(cold::measure(&ground)).await,
                    Part::SlowReaders => Box::pin(slow_readers::measure(&ground)).await,
                    Part::Start => Box::pin(start::measure(&ground)).await,
                    Part::Metacache => Box::pin(metacache::measure(&ground)).await,
                    Part::Wire => Box::pin(wire::measure(&ground)).await,
                    Part::InProcess => Box::pin(wire::in_process(&ground)).await,
                    Part::Load => Box::pin(load::measure(&ground)).await,
                    Part::Overload => Box::pin(overload::measure(&ground)).await,
                    Part::Scale => Box::pin(scale::measure(&ground)).await,
                    Part::Rebuild => Box::pin(rebuild::measure(&ground)).await,
                }
            });
            figures.extend(measured.with_context(|| format!("measure {part:?}"))?);
            // The next one gets the whole disk.
            for entry in std::fs::read_dir(dir.path())? {
                std::fs::remove_dir_all(entry?.path())?;
            }
        }
        println!("{}", table(&figures));
        if self.only.is_empty() {
            let date = machine::said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
            let commit = machine::said("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
            let text = document(&figures, &date, &commit, &machine::describe(), began.elapsed());
            std::fs::write(tree::root()?.join(DOCUMENT), text).with_context(|| format!("write {DOCUMENT}"))?;
            println!("{DOCUMENT} is written.");
        }
        match figures.iter().filter(|figure| figure.floor.as_ref().is_some_and(|(_, holds)| !holds)).count() {
            0 => Ok(()),
            missed => bail!("{missed} figures miss their floor"),
        }
    }
}

fn verdict(figure: &Figure) -> (&str, &str) {
    match &figure.floor {
        Some((floor, true)) => (floor, "holds"),
        Some((floor, false)) => (floor, "MISSED"),
        None => ("", ""),
    }
}

fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(vec!["", "what", "measured", "floor", ""]);
    for figure in figures {
        let (floor, holds) = verdict(figure);
        table.add_row(vec![figure.point, &figure.what, &figure.measured, floor, holds]);
    }
    table
}

fn document(figures: &[Figure], date: &str, commit: &str, machine: &str, took: Duration) -> String {
    let mut out = format!(
        "# Benchmarks\n\nWritten by `./x bench`: one run, everything on one machine, master, worker, client and store on \
         its loopback. Ratios compare with a bare probe in the same run; CPU is that of the processes named, user and \
         system. Nothing here says how fast another machine is.\n\n\
         | | |\n|---|---|\n| when | {date} |\n| commit | {commit} |\n| machine | {machine} |\n| time | {:.0} min |\n\n\
         | point | what | measured | floor | |\n|---|---|---|---|---|\n",
        took.as_secs_f64() / 60.0
    );
    for figure in figures {
        let (floor, holds) = verdict(figure);
        writeln!(out, "| {} | {} | {} | {floor} | {holds} |", figure.point, figure.what, figure.measured)
            .expect("a string takes everything");
    }
    out.push_str(PROBES);
    out
}

const PROBES: &str = "
## What the probes are

- **Bare append**: one `pwrite` of the bytes a create adds to the journal, into a file allocated ahead on the same disk,
  and one `fdatasync`, one after the other.
- **Three bare appends**: the same by three threads, each to a file of its own, begun together; the slowest counts.
- **A change of the leader**: a client (ours, default settings) makes one directory after the other; the longest time between two
  answers counts, from the last one before the change on.
  For a cut each master is a machine of its own on one bridge, and its cable is pulled; it hangs or is cut off for 4 s.
- **Slow disk**: a library loaded into the master (`xtask/src/bench/slow_sync.c`) makes every `fdatasync` and `fsync` take
  5 ms longer and counts them, RocksDB's own among them.
- **Bare tonic server**: a process that answers `ReadBlock` with tonic's service on hyper's HTTP/2 server, from a file in the
  page cache, with the chunks the client asks for and a CRC32C of every 64 KiB, as a worker computes it. The client is the
  official one's block reader, called as its file stream calls it.
- **Store**: an S3 server over files in the page cache, in the process of the bench, behind a proxy that delays every
  request by 20 ms and passes 200 MB/s in all. A direct GET goes through the same proxy by our own store client.
- **Metadata cache** (scale 2; `crates/master/examples/metacache`): in one process and one thread, what a master does for a rename, without the wire:
  the operation is looked up, both paths are resolved, the entry is encoded, 64 of them are appended to the journal and synced, decoded,
  applied and published, over RocksDB with the block cache of a default master. Files are drawn by Zipf's law (exponent 0.99), the cache holds
  a quarter as many entries as there are files, and is full when the measurement begins. CPU is that of the process, RocksDB's threads among
  it; waits for the disk use none and are told apart.
  The baseline RANDOM is **our reading of the vendor's release notes**, fixed in docs/design/0011-metadata-cache.md before any figure: victims
  drawn uniformly, found by walking half a segment on the inserting thread. It is not the vendor's code, which is not public, nor Java, nor
  Alluxio's cache, which evicts in batches from a thread of its own. Its price per eviction grows with the cache, so the ratio does,
  too; a walk that evicts a batch would divide it by the batch. `RANDOM, no walk` evicts the same victims at no price: what is left of the
  ratio then is what the hit ratio is worth. quick_cache stands in the same place with neither versions nor guarded fills, which one thread does not need.
- **Heartbeats** (scale 2): 100 workers report 200 blocks added and 200 removed of the same files, as encoded messages; decoding and the location
  table are part of all of them. The baseline looks the record of every block's container up through the cache, one record per block,
  as our master did for added blocks before it had the bitmap; the ancestor looked at more.
- **Wire** (scale 7): the official client's calls, 64 or one at a time over one connection; each path is below a directory of 1000 files. CPU is
  the master's, system time, journal, syncs and RocksDB's threads among it. In process (`crates/master/examples/in_process`): the same
  services called in the master's own process, without sockets and HTTP/2; CPU is that of the process, callers among it.
- **Load** (scale 8): an S3 server in the process of the bench with a million empty objects in one directory, behind a proxy that counts requests.
  Our client asks for the listing to be loaded and for no entry to be sent.
- **Scale** (scale 4 to 6; `crates/master/examples/scale`): in one process. A tree of directories of 1000 files, names of 30 bytes with four that do
  not compress, is made by entries for creating and completing, 512 at once, applied and published over RocksDB; a directory of as many
  children by pages of a store's listing, with entity tags. *Cold*: a fresh process with caches of 32 MiB each looks at files all over the tree
  until both are full; what malloc then has given out beside the caches, the memtables and the bitmap is compared between a tenth of the files
  and all of them. *Cached*: malloc before and after 400,000 more inodes are in the cache, each looked at twice. *Start*: a whole master, from the
  call to the moment it serves. *Replay*: a start on a log of creates with operation ids and an empty database; CPU of the whole process,
  RocksDB's flushes and compactions among it.
- **What others feel** (scale 4 to 6): a client on connections of its own asks a whole master 1000 times a second at fixed times, three of four times for
  a file's status, else for a new file; a time counts from when the request was due. 20 s without and 20 s with the work, three times; the pair in the
  middle counts.
- **Registration** (scale 6): encoded by the thread that calls, over the wire; CPU of all other threads of the process.
- Memory is the process's anonymous pages (`RssAnon`).

Smaller benches, each an example that prints its own comparison:

| what | command |
|---|---|
| block stream: our body against the tonic encoder | `cargo run --release -p rpc --example block_stream` |
| reads of records: raw, published, cached | `cargo run --release -p store --example reads` |
| ways to write RocksDB's tables | `cargo run --release -p master --features test-support --example scale -- --only tables` |
| allocators under a master's reads and writes | `cargo run --release -p master --features test-support --example scale -- --only allocator` |
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_what_was_measured_where_and_whether_it_holds() {
        let figures = [
            Figure::shown("8.1", "create", "90 µs").held("≤ 120 µs", true),
            Figure::shown("8.3", "read", "80 %").held("≥ 90 %", false),
            Figure::shown("8.6", "replay", "1 s"),
        ];
        let text = document(&figures, "2030-01-02", "abc", "2 × cpu", Duration::from_secs(600));
        for part in [
            "| commit | abc |",
            "10 min",
            "| 8.1 | create | 90 µs | ≤ 120 µs | holds |",
            "≥ 90 % | MISSED |",
            "| 8.6 | replay | 1 s |  |  |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
