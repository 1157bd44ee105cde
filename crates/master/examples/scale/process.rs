//! What this process takes of the machine, as its allocator and Linux count it.

use std::time::Duration;

/// CPU time of all threads, RocksDB's among them.
pub fn cpu() -> Duration {
    clock(rustix::time::ClockId::ProcessCPUTime)
}

/// CPU time of this thread.
pub fn thread_cpu() -> Duration {
    clock(rustix::time::ClockId::ThreadCPUTime)
}

fn clock(of: rustix::time::ClockId) -> Duration {
    Duration::try_from(rustix::time::clock_gettime(of)).expect("it does not run backwards")
}

/// Bytes that are allocated and not freed, by Rust and by RocksDB's C++, in all arenas.
pub fn allocated_bytes() -> u64 {
    // SAFETY: it reads counters of the C library, each arena's under its lock, and has no precondition.
    let info = unsafe { libc::mallinfo2() };
    u64::try_from(info.uordblks + info.hblkhd).expect("64 bits")
}

/// Bytes the allocator has of the system, free ones among them.
pub fn arena_bytes() -> u64 {
    // SAFETY: as above.
    let info = unsafe { libc::mallinfo2() };
    u64::try_from(info.arena + info.hblkhd).expect("64 bits")
}

/// Has the allocator give back what is free.
pub fn trim() {
    // SAFETY: it gives pages back that hold nothing allocated, and has no precondition.
    unsafe { libc::malloc_trim(0) };
}

/// Bytes in memory of this process' own: what it allocated, without the files it maps.
pub fn resident_bytes() -> u64 {
    resident_of(std::process::id(), "RssAnon:").expect("this process runs")
}

/// A line of `/proc/PID/status`, in bytes. None: that process has ended.
pub fn resident_of(pid: u32, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let text = status.lines().find_map(|text| text.strip_prefix(line))?;
    let kib: u64 = text.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}
