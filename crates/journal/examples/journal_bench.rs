//! How fast the log is: syncs per second and CPU per entry, at 1, 16 and 64 entries per sync, beside a bare
//! append + fdatasync of the same bytes.
//!
//! ```text
//! cargo run --release -p journal --example journal_bench [DIR] [SECONDS]
//! ```
//! Each row runs the whole path of a group of one: propose, drain, writer thread, fdatasync, commit, apply.

use bytes::Bytes;
use journal::disk::{Aligned, Disk, DiskFile, RealDisk, SECTOR_BYTES};
use journal::{Boot, LogWriter, MemberId, Node, NodeConfig, SegmentLog, SegmentOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use types::{Clock, ClusterId, Entropy, LogIndex, Monotonic, UnixMs};

const PAYLOAD_BYTES: usize = 264;

struct Watch(Instant);
impl Clock for Watch {
    fn unix(&self) -> UnixMs {
        UnixMs(0)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }
}
impl Entropy for Watch {
    fn next_u64(&self) -> u64 {
        1
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let ticks = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = ticks.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

fn row(name: &str, syncs: u64, entries: u64, took: Duration, cpu: Duration) {
    let per_second = |count: u64| count * 1_000_000 / u64::try_from(took.as_micros()).expect("a short bench").max(1);
    let cpu_ns = u64::try_from(cpu.as_nanos()).expect("a short bench") / entries.max(1);
    println!(
        "{name:28} {:8} syncs/s {:9} entries/s {:7}.{} us CPU per entry",
        per_second(syncs),
        per_second(entries),
        cpu_ns / 1000,
        cpu_ns % 1000 / 100
    );
}

/// - `through`: past the page cache, as the log is written.
fn bare(dir: &Path, for_time: Duration, through: bool) {
    let path = dir.join("bare");
    let file = RealDisk.create(&path).expect("a free name");
    let zeros = vec![0; 1 << 20];
    (0..64u64).for_each(|step| file.write_at(&zeros, step << 20).expect("room"));
    file.sync().expect("a healthy disk");
    let mut sector = Aligned::default();
    let one = usize::try_from(SECTOR_BYTES).expect("small");
    let sector = sector.fill(one, |out| out.resize(out.len() + one, 7));
    let (begin, cpu_before, mut syncs) = (Instant::now(), cpu(), 0u64);
    while begin.elapsed() < for_time {
        let at = syncs * SECTOR_BYTES % (63 << 20);
        match through {
            true => file.write_through(sector, at).expect("room"),
            false => file.write_at(sector, at).expect("room"),
        }
        file.sync().expect("a healthy disk");
        syncs += 1;
    }
    RealDisk.remove(&path).expect("nobody else's");
    let name = if through { "bare append past the page cache" } else { "bare append + fdatasync" };
    row(name, syncs, syncs, begin.elapsed(), cpu() - cpu_before);
}

fn member(dir: &Path, at_once: u64, for_time: Duration) {
    let options = SegmentOptions::default();
    let clock = Arc::new(Watch(Instant::now()));
    let cluster = ClusterId(clock.next_u128());
    SegmentLog::format(&RealDisk, dir, cluster, options, false).expect("an empty directory");
    let (log, recovered) = SegmentLog::open(RealDisk, dir, None, options).expect("formatted");
    let (sender, done) = channel();
    let writer = LogWriter::start(log, clock, move |seq, safe| drop(sender.send((seq, safe)))).expect("a thread");
    let boot = Boot { applied: LogIndex(0), now: Monotonic::default(), seed: 1 };
    let config = NodeConfig::new(MemberId(1), vec![MemberId(1)]);
    let mut node = Node::new(config, recovered, writer.reader(), boot).expect("a fresh member");
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let (mut waiting, mut entries, mut purge_at) = (0, 0u64, 100_000);
    let (begin, cpu_before) = (Instant::now(), cpu());
    while begin.elapsed() < for_time {
        while node.established().is_some() && waiting < at_once {
            node.propose(entries, &payload).expect("room");
            waiting += 1;
        }
        loop {
            let output = node.drain().expect("a healthy log");
            if let Some(batch) = output.append {
                writer.append(batch).expect("one at a time");
            }
            for entry in output.committed {
                let ours = u64::from(entry.ticket.is_some());
                (waiting, entries) = (waiting - ours, entries + ours);
                node.advance_applied(entry.index);
            }
            if !output.more {
                break;
            }
        }
        if entries > purge_at {
            purge_at += 100_000;
            writer.purge_below(node.applied()).expect("room in the inbox");
        }
        if waiting == at_once || node.established().is_none() {
            let (seq, safe) = done.recv().expect("the writer lives");
            safe.expect("a healthy disk");
            node.persisted(seq);
        }
    }
    let syncs = writer.stats().syncs.load(std::sync::atomic::Ordering::Relaxed);
    row(&format!("member, {at_once} at once"), syncs, entries, begin.elapsed(), cpu() - cpu_before);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("journal-bench");
    let seconds = arguments.next().map_or(2, |text| text.parse().expect("seconds, a whole number"));
    let for_time = Duration::from_secs(seconds);
    std::fs::create_dir(&base).expect("DIR/journal-bench must not exist yet");
    bare(&base, for_time, false);
    bare(&base, for_time, true);
    for at_once in [1, 16, 64] {
        member(&base.join(at_once.to_string()), at_once, for_time);
    }
    std::fs::remove_dir_all(&base).expect("our own directory");
}
