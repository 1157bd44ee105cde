//! A whole master on the tree: what other requests feel of a snapshot, of a delete that is collected behind, and of
//! registrations; and what walks over the tree take.

use crate::clients::Client;
use crate::world::{Ground, LARGE, World, rocks, runtime};
use crate::{Plan, blocks, float, ms, probe, process, quantile};
use master::Master;
use meta::{Family, KEYS_END, for_each_between};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::CacheConfig;
use tokio::runtime::Runtime;
use types::ContainerId;

/// How long others are asked in each run.
const RUN: Duration = Duration::from_secs(20);
/// Pairs of runs, of which the middle one by excess counts.
const PAIRS: usize = 3;
/// Bytes of a snapshot that leave in a second, as a sender is allowed by default.
const SENT_PER_SECOND: u64 = 100 << 20;
const CHUNK_BYTES: usize = 1 << 20;
const PAGES: usize = 50;
/// What a walk may take, of the command's memory and of the master's.
const WALK_BYTES: u64 = 100 << 20;
/// A master that starts has looked at what is left to collect after this long.
const LOOKED: Duration = Duration::from_secs(1);
/// How often a number is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(7_200);

/// A master, the runtime it lives on, and one for who calls it from this thread.
pub struct Served {
    pub master: Option<Master>,
    theirs: Runtime,
    pub ours: Runtime,
    pub client: Client,
}

impl Served {
    fn start(ground: &Ground) -> Served {
        let (theirs, ours) = (runtime(), tokio::runtime::Builder::new_current_thread().enable_all().build());
        let ours = ours.expect("a runtime");
        let master = theirs.block_on(ground.start());
        let client = ours.block_on(Client::connect(master.rpc_addr()));
        Served { master: Some(master), theirs, ours, client }
    }

    pub fn master(&self) -> &Master {
        self.master.as_ref().expect("it runs")
    }

    pub fn metric(&mut self, name: &str) -> u64 {
        self.ours.block_on(self.client.metric(name))
    }

    /// Waits until a metric is as wanted.
    pub fn wait_for(&mut self, name: &str, is_wanted: impl Fn(u64) -> bool) -> u64 {
        let began = Instant::now();
        loop {
            let value = self.metric(name);
            if is_wanted(value) {
                return value;
            }
            assert!(began.elapsed() < PATIENCE, "{name} stays at {value}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn stop(&mut self) {
        if let Some(master) = self.master.take() {
            self.theirs.block_on(master.stop(Duration::from_secs(30))).expect("it stops");
        }
    }

    fn restart(&mut self, ground: &Ground) {
        self.stop();
        let master = self.theirs.block_on(ground.start());
        self.client = self.ours.block_on(Client::connect(master.rpc_addr()));
        self.master = Some(master);
    }
}

pub fn measure(plan: &Plan, ground: &Ground) {
    let containers = containers(plan, ground);
    let mut served = Served::start(ground);
    walks(plan, &mut served);
    snapshot(plan, ground, &mut served);
    blocks::measure(plan, ground, &mut served, &containers);
    delete(plan, ground, &mut served);
    served.stop();
}

/// The containers of as many files.
fn containers(plan: &Plan, ground: &Ground) -> Vec<ContainerId> {
    let world = World::open(ground, &rocks(&ground.config), &CacheConfig::of_bytes(0));
    let mut found = Vec::with_capacity(usize::try_from(plan.files).expect("64 bits"));
    let store = world.state.store();
    for_each_between(&**store, Family::Containers, (&[], KEYS_END), |key, _| {
        found.push(ContainerId(u64::from_be_bytes(key.as_ref().try_into().expect("eight bytes"))));
        Ok::<_, meta::StoreError>(())
    })
    .expect("the database answers");
    // Directories have one as well, and no blocks: few among so many that they change nothing.
    found.truncate(usize::try_from(plan.files).expect("64 bits"));
    found
}

/// The first page of the large directory, and commands that walk all of it.
fn walks(plan: &Plan, served: &mut Served) {
    let mut times: Vec<Duration> = (0..PAGES).map(|_| served.ours.block_on(served.client.first_page(LARGE))).collect();
    let (p50, p99) = (quantile(&mut times, 500), quantile(&mut times, 990));
    let what = format!("first page of a listing of {} children, over the wire: p50", plan.files);
    let text = format!("{:.1} ms (p99 {:.1} ms of {PAGES})", ms(p50), ms(p99));
    plan.figure("5", &what, &text, Some(("≤ 10 ms", p50 <= Duration::from_millis(10))));
    let Some(program) = &plan.goosefs else { return };
    for command in [&["count", LARGE][..], &["du", "-s", LARGE], &["ls", "-R", LARGE], &["count", "/bench/tree"]] {
        walk(plan, served, program, command);
    }
    cancel(plan, served, program);
}

fn command(served: &Served, program: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    let port = served.master().rpc_addr().port();
    command
        .arg("fs")
        .args(words)
        .args(["-Dgoosefs.master.hostname=127.0.0.1", &format!("-Dgoosefs.master.rpc.port={port}")]);
    command.arg("-Dgoosefs.security.authentication.type=NOSASL");
    command.stdout(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// Memory of the command and of the master while it runs.
fn walk(plan: &Plan, served: &Served, program: &Path, words: &[&str]) {
    process::trim();
    let (before, began) = (process::resident_bytes(), Instant::now());
    let mut child = command(served, program, words).spawn().expect("run goosefs");
    let (mut own, mut most) = (0, before);
    let status = loop {
        own = process::resident_of(child.id(), "VmHWM:").unwrap_or(own);
        most = most.max(process::resident_bytes());
        if let Some(status) = child.try_wait().expect("it is ours") {
            break status;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    assert!(status.success(), "{words:?} ended with {status}");
    let mib = |bytes: u64| bytes >> 20;
    let took = began.elapsed().as_secs_f64();
    let what = format!("goosefs fs {} ({} files): memory of the command", words.join(" "), plan.files);
    let text = format!("{} MiB; the master took {} MiB more; {took:.0} s", mib(own), mib(most - before));
    plan.figure("5", &what, &text, Some(("≤ 100 MiB each", own.max(most - before) <= WALK_BYTES)));
}

/// A walk that is given up.
fn cancel(plan: &Plan, served: &mut Served, program: &Path) {
    let mut child = command(served, program, &["ls", "-R", LARGE]).spawn().expect("run goosefs");
    std::thread::sleep(Duration::from_secs(1));
    let before = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .expect("it is ours");
    child.wait().expect("it is ours");
    let took = before.elapsed();
    let rest = process::cpu();
    std::thread::sleep(Duration::from_secs(1));
    let idle = process::cpu() - rest;
    let text = format!("{:.0} ms; the master used {:.0} ms of CPU in the second after", ms(took), ms(idle));
    plan.figure("5", "goosefs fs ls -R interrupted after a second: ends within", &text, None);
}

/// What is felt of `work`: pairs of runs without and with it, the middle one by excess.
pub fn felt(
    plan: &Plan,
    served: &mut Served,
    point: &str,
    what: &str,
    floor: Option<(&str, Duration)>,
    mut work: impl FnMut(&mut Served),
) {
    let address = served.master().rpc_addr();
    let mut pairs: Vec<_> = (0..PAIRS)
        .map(|_| {
            let ((), without) = probe::beside(address, plan.files, RUN, || {});
            let ((), with) = probe::beside(address, plan.files, RUN, || work(served));
            let (text, excess) = probe::compare(&with, &without);
            eprintln!("{what}: {text}");
            (excess, text)
        })
        .collect();
    pairs.sort();
    let (excess, text) = pairs.swap_remove(PAIRS / 2);
    plan.figure(point, what, &text, floor.map(|(words, bound)| (words, excess <= bound)));
}

/// A snapshot, as another master is sent one: the database is flushed, its files are linked, and leave at a bounded rate.
fn snapshot(plan: &Plan, ground: &Ground, served: &mut Served) {
    let what = "what others feel of a snapshot that is made and sent: excess p99.9 of 1000 requests a second";
    let floor = Some(("≤ 10 ms", Duration::from_millis(10)));
    felt(plan, served, "4", what, floor, |served| {
        served.ours.block_on(served.client.checkpoint());
        send(&ground.config.metastore_dir, RUN);
    });
}

/// Reads the tables, as fast as a sender may, for no longer than `most`.
fn send(dir: &Path, most: Duration) {
    let (began, mut sent) = (Instant::now(), 0u64);
    let mut chunk = vec![0; CHUNK_BYTES];
    for file in std::fs::read_dir(dir).expect("the database").filter_map(Result::ok) {
        if file.path().extension().is_none_or(|kind| kind != "sst") {
            continue;
        }
        // A compaction may have removed it; a sender has links of its own.
        let Ok(mut table) = File::open(file.path()) else { continue };
        while let Ok(length @ 1..) = table.read(&mut chunk) {
            sent += u64::try_from(length).expect("64 bits");
            let due = Duration::from_secs_f64(float(sent) / float(SENT_PER_SECOND));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            if began.elapsed() > most {
                return;
            }
        }
    }
}

/// The large directory goes at once; its children are collected behind, while others are served and over a restart.
fn delete(plan: &Plan, ground: &Ground, served: &mut Served) {
    let address = served.master().rpc_addr();
    let ((), without) = probe::beside(address, plan.files, RUN, || {});
    let began = Instant::now();
    served.ours.block_on(served.client.remove_tree("/bench/large"));
    let answered = began.elapsed();
    let what = format!("delete of a directory of {} children: answered after", plan.files);
    plan.figure("5", &what, &format!("{:.1} ms", ms(answered)), Some(("≤ 1 s", answered <= Duration::from_secs(1))));
    let (before, cpu, began) = (served.metric("Master.CollectedInodes"), process::cpu(), Instant::now());
    let (used, with) = probe::beside(address, plan.files, RUN, || {
        std::thread::sleep(RUN);
        process::cpu() - cpu
    });
    let collected = served.metric("Master.CollectedInodes") - before;
    let rate = float(collected) / began.elapsed().as_secs_f64();
    let what = "inodes collected behind in a second while others are served";
    let share = 100.0 * used.as_secs_f64() / RUN.as_secs_f64();
    plan.figure("5", what, &format!("{rate:.0}, {share:.0} % of a core for all of it, who asks among it"), None);
    let (text, _) = probe::compare(&with, &without);
    plan.figure("5", "what others feel of that: excess p99.9 of 1000 requests a second", &text, None);
    let left = served.metric("Master.DetachedDirectories");
    served.restart(ground);
    let began = Instant::now();
    std::thread::sleep(LOOKED);
    served.wait_for("Master.DetachedDirectories", |left| left == 0);
    let rest = served.metric("Master.CollectedInodes");
    let what = "collected after a restart amid that";
    let text = format!(
        "{rest} of {} in {:.0} s; directories left before it: {left}",
        plan.files,
        began.elapsed().as_secs_f64()
    );
    plan.figure("5", what, &text, None);
}
