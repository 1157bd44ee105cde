//! A follower that lost its disk is rebuilt while the leader serves: how long, how many bytes, and what it costs the leader.

use super::group::{Masters, Port};
use super::metadata::{IN_FLIGHT, create, create_one};
use super::{Figure, Ground, cpu, float, us_each};
use anyhow::{Context, Result};
use client::FileSystem;
use goosefs_sdk::client::MasterClient;
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Clients that create files meanwhile, each with a pause after each.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);
/// How often the leader is asked whether the follower is there: asking is to cost little.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often the senders' threads are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the load is watched without anything else.
const WATCHED: Duration = Duration::from_secs(15);
/// The threads that send a snapshot: they serve its connection, and read its files.
const SENDERS: &str = "rpc-apart";

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut masters = Masters::start(&ground.binary, &ground.directory("rebuild")?, 3).await?;
    let leader = masters.leader().await?;
    let master = Arc::new(MasterClient::connect(&masters.official(leader)).await?);
    create(&master, "tree", ground.files, IN_FLIGHT).await?;
    masters.settled().await?;
    let fs = FileSystem::connect(masters.config()).await?;
    // What lies further back than the log is kept comes as a snapshot.
    fs.checkpoint_now().await?;
    let pid = masters.process(leader)?.pid();

    at_rest(pid).await?;
    let load = Load::start(&master);
    let nothing = async || {
        tokio::time::sleep(WATCHED).await;
        Ok(())
    };
    let quiet = load.watch(pid, nothing).await?;
    let lost = (0..3).find(|n| *n != leader).context("three masters")?;
    let address = masters.at(lost, Port::Journal).to_string();
    masters.processes[lost].take().context("it runs")?.kill9()?;
    std::fs::remove_dir_all(masters.place(lost))?;
    let formatted = masters.spawn_with("formatMaster", lost, &["--join"])?.wait_exit(super::group::PATIENCE)?;
    anyhow::ensure!(formatted.success(), "goosefs formatMaster --join failed");
    masters.processes[lost] = Some(masters.spawn("master", lost)?);
    let began = Instant::now();
    let rebuilding = async || {
        fs.replace_master(&address).await?;
        loop {
            let info = fs.master_info().await?;
            // The founders are 1 to 3: it comes back under a new id.
            if info.members.len() == 3
                && info.members.iter().any(|member| member.id > 3 && !member.learner && member.active)
            {
                return masters.settled().await;
            }
            anyhow::ensure!(began.elapsed() < Duration::from_secs(1800), "the follower does not catch up");
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let busy = load.watch(pid, rebuilding).await?;
    let took = began.elapsed();
    load.end().await?;
    let bytes = bytes_below(&masters.place(lost).join("metastore"))?;
    let more = busy.each / quiet.each * 100.0 - 100.0;
    Ok(vec![
        Figure::shown(
            "HA 3.3",
            format!("a follower rebuilt from nothing, {} files", ground.files),
            format!("{:.1} s, {:.0} MB of metadata", took.as_secs_f64(), bytes as f64 / 1e6),
        ),
        Figure::shown(
            "HA 1.1",
            "the leader's CPU for a create meanwhile, without the threads that send the snapshot, against before",
            format!(
                "{:.0} against {:.0} µs at {:.0} and {:.0} a second: {more:+.0} % (those threads: {:.1} s)",
                busy.each,
                quiet.each,
                busy.per_second,
                quiet.per_second,
                busy.senders.as_secs_f64()
            ),
        )
        .held("≤ 10 %", more <= 10.0),
    ])
}

/// What the leader used while something went on.
struct Used {
    /// For each create, in µs.
    each: f64,
    per_second: f64,
    senders: Duration,
}

/// Clients that create one file after the other, at rest in between.
struct Load {
    made: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Load {
    fn start(master: &Arc<MasterClient>) -> Load {
        let (made, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let task = |client: usize| {
            let (master, made, stop) = (master.clone(), made.clone(), stop.clone());
            let tree = format!("load-{client}");
            tokio::spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    create_one(&master, &tree, number).await?;
                    made.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            })
        };
        let tasks = (0..CLIENTS).map(task).collect();
        Load { made, stop, tasks }
    }

    async fn watch(&self, pid: u32, during: impl AsyncFnOnce() -> Result<()>) -> Result<Used> {
        let made = || self.made.load(Ordering::Relaxed);
        let (began, before, all) = (Instant::now(), made(), cpu::of(pid)?);
        let mut during = pin!(during());
        // They end with what they send: what the last look did not see counts against the rest.
        let mut senders = BTreeMap::new();
        loop {
            let ended = tokio::time::timeout(LOOK_EVERY, &mut during).await;
            senders.extend(cpu::of_threads(pid, SENDERS)?);
            if let Ok(ended) = ended {
                ended?;
                break;
            }
        }
        let (count, all) = (made() - before, cpu::of(pid)?.saturating_sub(all));
        let senders = senders.into_values().sum();
        let per_second = float(count) / began.elapsed().as_secs_f64();
        Ok(Used { each: us_each(all.saturating_sub(senders), count.max(1)), per_second, senders })
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}

/// Waits until the database has done what so many files leave behind.
async fn at_rest(pid: u32) -> Result<()> {
    for _ in 0..300 {
        let before = cpu::of(pid)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if cpu::of(pid)?.saturating_sub(before) <= Duration::from_millis(30) {
            return Ok(());
        }
    }
    anyhow::bail!("the leader does not come to rest")
}

fn bytes_below(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let (entry, meta) = entry.and_then(|entry| entry.metadata().map(|meta| (entry, meta)))?;
        bytes += if meta.is_dir() { bytes_below(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}
