//! Scale 7: what a CPU-second of the master does for official clients, over gRPC and real sockets, and the same in process;
//! what one of both ends does for clients of ours.

use super::metadata::{IN_FLIGHT, create, flood, path};
use super::servers::Servers;
use super::{Figure, Ground, cpu, example, float};
use anyhow::{Context, Result, ensure};
use client::{FileSystem, WriteOptions};
use futures::stream::{self, StreamExt};
use goosefs_sdk::client::MasterClient;
use std::sync::Arc;
use std::time::{Duration, Instant};
use types::{GfsPath, WriteType};

const POINT: &str = "scale 7";
/// Files that are made, looked at, renamed and removed; in the bench of a million files.
const SHARE: u64 = 25;
/// Calls of one client alone for one of many at once.
const ALONE: u64 = 20;
/// GetStatus calls for each file, and listings of each directory.
const LOOKS: u64 = 5;
/// Files of one directory, as [`path`] lays them out.
const PER_DIRECTORY: u64 = 1_000;

/// Something a client asks for, with what is promised of it in a CPU-second of the master.
struct Kind {
    what: &'static str,
    floor: f64,
}

/// The tree of our own client, and what it is promised.
const OWN: &str = "own";
const OWN_FLOOR: f64 = 150_000.0;
const STATUS: Kind = Kind { what: "GetStatus", floor: 45_000.0 };
const LIST: Kind = Kind { what: "entries of ListStatus", floor: 400_000.0 };
const CREATE: Kind = Kind { what: "durable create", floor: 15_000.0 };
const RENAME: Kind = Kind { what: "rename", floor: 15_000.0 };
const DELETE: Kind = Kind { what: "delete", floor: 15_000.0 };

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("wire")?;
    let mut servers = Servers::start(&ground.binary, &dir, &[], &[])?;
    servers.stop_worker()?;
    let master = Arc::new(MasterClient::connect(&servers.official()).await?);
    let pid = servers.master()?.pid();
    create(&master, "warm-up", 2_000, IN_FLIGHT).await?;
    let count = files(ground);
    let mut figures = Vec::new();
    for (tree, to, in_flight, count) in
        [("many", "moved", IN_FLIGHT, count), ("alone", "moved-alone", 1, (count / ALONE).max(100))]
    {
        let mut shown = |kind: &Kind, done: u64, spent: Spent| figures.push(figure(kind, in_flight, done, spent));
        for directory in (0..count).step_by(usize::try_from(PER_DIRECTORY)?) {
            for tree in [tree, to] {
                let above = path(tree, directory);
                let above = above.rsplit_once('/').context("a file has a directory")?.0;
                master.create_directory(above, true).await?;
            }
        }
        let spent = spend(pid, async { create(&master, tree, count, in_flight).await.map(drop) }).await?;
        shown(&CREATE, count, spent);
        let looks = count * LOOKS;
        let spent = spend(
            pid,
            each(&master, looks, in_flight, move |master, n| async move {
                master.get_status(&path(tree, n % count)).await.map(drop).map_err(Into::into)
            }),
        );
        shown(&STATUS, looks, spent.await?);
        let directories = count.div_ceil(PER_DIRECTORY);
        let spent = spend(
            pid,
            each(&master, directories * LOOKS, in_flight, move |master, n| async move {
                let first = n % directories * PER_DIRECTORY;
                let file = path(tree, first);
                let above = file.rsplit_once('/').context("a file has a directory")?.0;
                let listed = master.list_status(above, false).await?.len();
                let expected = PER_DIRECTORY.min(count - first);
                ensure!(u64::try_from(listed)? == expected, "{listed} of {expected} entries of {above} are listed");
                Ok(())
            }),
        );
        shown(&LIST, count * LOOKS, spent.await?);
        let spent = spend(
            pid,
            each(&master, count, in_flight, move |master, n| async move {
                master.rename(&path(tree, n), &path(to, n)).await.map_err(Into::into)
            }),
        );
        shown(&RENAME, count, spent.await?);
        let spent = spend(
            pid,
            each(&master, count, in_flight, move |master, n| async move {
                master.delete(&path(to, n), false).await.map_err(Into::into)
            }),
        );
        shown(&DELETE, count, spent.await?);
    }
    for (in_flight, looks) in [(IN_FLIGHT, count * LOOKS), (1, count)] {
        figures.push(own(&servers, in_flight, looks, count).await?);
    }
    Ok(figures)
}

/// How many are made.
fn files(ground: &Ground) -> u64 {
    (ground.files / SHARE).max(PER_DIRECTORY)
}

/// What something took of the master's CPU, and of everybody's time.
struct Spent {
    cpu: Duration,
    time: Duration,
}

async fn spend(pid: u32, work: impl Future<Output = Result<()>>) -> Result<Spent> {
    let (cpu, began) = (cpu::of(pid)?, Instant::now());
    work.await?;
    Ok(Spent { cpu: cpu::of(pid)?.saturating_sub(cpu), time: began.elapsed() })
}

async fn each<F: Future<Output = Result<()>> + Send + 'static>(
    master: &Arc<MasterClient>,
    count: u64,
    in_flight: u64,
    call: impl Fn(Arc<MasterClient>, u64) -> F + Send + Sync + 'static,
) -> Result<()> {
    let master = master.clone();
    flood(count, in_flight, move |n| call(master.clone(), n)).await.map(drop)
}

fn figure(kind: &Kind, in_flight: u64, done: u64, spent: Spent) -> Figure {
    let per_cpu = float(done) / spent.cpu.as_secs_f64();
    let shown = Figure::shown(
        POINT,
        format!("{}, official client, {in_flight} in flight: in a CPU-second of the master", kind.what),
        format!("{per_cpu:.0} ({:.0}/s)", float(done) / spent.time.as_secs_f64()),
    );
    // One at a time every call pays for its own sync and wake-ups: printed.
    if in_flight == 1 { shown } else { shown.held(format!("≥ {:.0}", kind.floor), per_cpu >= kind.floor) }
}

/// GetStatus of a client of ours on one thread, over frames; CPU of both ends.
async fn own(servers: &Servers, in_flight: u64, looks: u64, files: u64) -> Result<Figure> {
    let (config, pid) = (servers.config(), servers.master()?.pid());
    let spent = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let fs = FileSystem::connect(config).await?;
            let tree = (0..files).map(|n| Ok(GfsPath::parse(&path(OWN, n))?)).collect::<Result<Vec<_>>>()?;
            let how = WriteOptions { write_type: Some(WriteType::MustCache), ..WriteOptions::default() };
            let made = fs.create_many(stream::iter(tree.clone()), how);
            made.for_each(async |(_, made)| drop(made)).await;
            let (both, began) = (|| Ok::<_, anyhow::Error>(cpu::of(pid)? + cpu::own()), Instant::now());
            let before = both()?;
            let tree = &tree;
            let asked = (0..in_flight).map(|first| {
                let fs = &fs;
                let step = usize::try_from(in_flight).expect("few");
                async move {
                    for n in (first..looks).step_by(step) {
                        fs.status(&tree[usize::try_from(n % files)?]).await?;
                    }
                    Ok::<_, anyhow::Error>(())
                }
            });
            futures::future::try_join_all(asked).await?;
            Ok::<_, anyhow::Error>(Spent { cpu: both()?.saturating_sub(before), time: began.elapsed() })
        })
    });
    let spent = spent.await??;
    let per_cpu = float(looks) / spent.cpu.as_secs_f64();
    let shown = Figure::shown(
        POINT,
        format!("GetStatus, client of ours, {in_flight} in flight: in a CPU-second of both ends"),
        format!("{per_cpu:.0} ({:.0}/s)", float(looks) / spent.time.as_secs_f64()),
    );
    Ok(if in_flight == 1 { shown } else { shown.held(format!("≥ {OWN_FLOOR:.0}"), per_cpu >= OWN_FLOOR) })
}

/// The same calls to a master in the same process: an example of the master's crate, run and read.
pub async fn in_process(ground: &Ground) -> Result<Vec<Figure>> {
    let count = files(ground);
    let dir = ground.directory("in-process")?;
    let arguments = ["--files".into(), count.to_string().into(), "--dir".into(), dir.into()];
    example::lines("in_process", arguments.into()).await?.lines().map(in_process_figure).collect()
}

/// A line of the example: what, and what was measured, apart by a tab.
fn in_process_figure(line: &str) -> Result<Figure> {
    let (what, measured) = line.split_once('\t').with_context(|| format!("the example in_process says {line:?}"))?;
    Ok(Figure::shown(POINT, format!("{what}, in process, {IN_FLIGHT} in flight: in a CPU-second"), measured))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_the_floor_holds_but_for_a_client_alone() {
        let spent = |ms| Spent { cpu: Duration::from_millis(ms), time: Duration::from_secs(2) };
        let held = figure(&STATUS, 64, 45_000, spent(1_000));
        assert_eq!((held.measured.as_str(), held.floor), ("45000 (22500/s)", Some(("≥ 45000".to_owned(), true))));
        assert!(figure(&STATUS, 64, 45_000, spent(1_100)).floor.is_some_and(|(_, holds)| !holds));
        assert!(figure(&STATUS, 1, 45_000, spent(9_000)).floor.is_none());
        assert_eq!(in_process_figure("rename\t9").expect("a figure").measured, "9");
        assert!(in_process_figure("rename").is_err());
    }
}
