//! CPU time and memory of processes, as Linux counts them.

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::Duration;

/// `/proc` counts in hundredths of a second on every architecture (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process and its threads, ended ones among them.
pub fn of(pid: u32) -> Result<Duration> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("look at process {pid}"))?;
    // The name is in parentheses and may hold anything; utime and stime are the 12th and 13th fields after it.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1.split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    Ok(TICK * ticks)
}

/// User and system time of the threads of a process whose name begins so and that live, by their ids.
pub fn of_threads(pid: u32, name: &str) -> Result<BTreeMap<u32, Duration>> {
    let mut times = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("look at process {pid}"))? {
        let task = task?.path();
        let thread = task.file_name().and_then(|name| name.to_str()).context("a thread has a number")?.parse()?;
        // It may have ended since.
        let Ok(stat) = std::fs::read_to_string(task.join("stat")) else { continue };
        let Some((head, fields)) = stat.rsplit_once(')') else { continue };
        if head.contains(&format!("({name}")) {
            let fields: Vec<&str> = fields.split_whitespace().collect();
            times.insert(thread, TICK * (fields[11].parse::<u32>()? + fields[12].parse::<u32>()?));
        }
    }
    Ok(times)
}

/// CPU time of this process.
pub fn own() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes a process has in memory of its own: what it allocated, without the files it maps.
pub fn memory(pid: u32) -> Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("look at process {pid}"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon in /proc/PID/status")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
