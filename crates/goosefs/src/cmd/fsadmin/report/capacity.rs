//! `goosefs fsadmin report capacity`

use super::Args;
use crate::output;
use client::{FileSystem, WorkerStatus};
use serde_json::json;

pub async fn run(fs: &FileSystem, args: &Args) -> anyhow::Result<()> {
    let mut workers = fs.worker_report().await?;
    workers.retain(|worker| if args.live { worker.alive } else { !args.lost || !worker.alive });
    workers.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
    if args.json {
        println!("{}", json!({ "workers": workers.iter().map(document).collect::<Vec<_>>() }));
    } else {
        let which = if args.live {
            "live"
        } else if args.lost {
            "lost"
        } else {
            "all"
        };
        print!("{}", layout(&workers, which));
    }
    Ok(())
}

fn layout(workers: &[WorkerStatus], which: &str) -> String {
    let live = || workers.iter().filter(|worker| worker.alive);
    let capacity: u64 = live().map(|worker| worker.capacity_bytes).sum();
    let used: u64 = live().map(|worker| worker.used_bytes).sum();
    let percent = if capacity == 0 { 0 } else { output::percent(used, capacity) };
    let mut out = format!("Capacity information for {which} workers:\n");
    out.push_str(&format!("    Total Capacity: {}\n", output::size(capacity)));
    out.push_str(&format!("    Used Capacity: {}\n", output::size(used)));
    out.push_str(&format!("    Used Percentage: {percent}%\n    Free Percentage: {}%\n\n", 100 - percent.min(100)));
    let head = ["Worker Name", "State", "Last Heartbeat", "Capacity", "Used", "Unpersisted"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(workers.iter().map(|worker| {
        let share =
            if worker.capacity_bytes == 0 { 0 } else { output::percent(worker.used_bytes, worker.capacity_bytes) };
        vec![
            format!("{}:{}", worker.host, worker.port),
            if worker.alive { "LIVE" } else { "LOST" }.to_owned(),
            worker.last_contact_s.to_string(),
            output::size(worker.capacity_bytes),
            format!("{} ({share}%)", output::size(worker.used_bytes)),
            output::size(worker.persist_used_bytes),
        ]
    }));
    out.push_str(&output::columns(&rows));
    out
}

fn document(worker: &WorkerStatus) -> serde_json::Value {
    json!({
        "workerId": worker.worker.0,
        "host": worker.host,
        "rpcPort": worker.port,
        "alive": worker.alive,
        "lastContactSeconds": worker.last_contact_s,
        "capacityBytes": worker.capacity_bytes,
        "usedBytes": worker.used_bytes,
        "persistUsedBytes": worker.persist_used_bytes,
        "startedMs": worker.started.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::WorkerState;
    use types::{UnixMs, WorkerId};

    #[test]
    fn layout_with_a_lost_worker() {
        let worker = |id: u64, alive: bool| WorkerStatus {
            worker: WorkerId(id),
            host: format!("h{id}"),
            port: 9203,
            state: WorkerState::Active,
            alive,
            last_contact_s: if alive { 0 } else { 90 },
            capacity_bytes: 10 << 30,
            used_bytes: 1 << 30,
            persist_used_bytes: 0,
            started: UnixMs(0),
            virtual_nodes: 1000,
            forbid_write: false,
        };
        assert_eq!(
            layout(&[worker(1, true), worker(2, false)], "all"),
            "Capacity information for all workers:
    Total Capacity: 10.00GB
    Used Capacity: 1024.00MB
    Used Percentage: 10%
    Free Percentage: 90%

Worker Name  State  Last Heartbeat  Capacity  Used             Unpersisted
h1:9203      LIVE   0               10.00GB   1024.00MB (10%)  0B
h2:9203      LOST   90              10.00GB   1024.00MB (10%)  0B
"
        );
    }
}
