//! Audits of a master that serves, over records that were damaged while it was stopped.

use super::*;
use crate::config::{GroupConfig, MasterConfig, Metastore};
use crate::fsck::tests::{damage, made, named, start_master, twin};
use crate::server::Master;
use meta::CreateDirectory;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use types::{GfsPath, Mode};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a leader deals with as soon as it leads, before anybody can ask for an audit.
const DEALT_WITH: [&str; 5] =
    ["detached-attached", "detached-empty", "load-miscounted", "load-of-nothing", "intent-of-no-mount"];

/// All findings of an audit, of its last pass only if `last`.
async fn audited(audits: &Audits, repair: bool) -> (Vec<AuditFinding>, Vec<AuditFinding>) {
    // The one before has been told to end, and may still be about to.
    let begin = || async { audits.begin(repair).ok() };
    let mut reports = testkit::eventually_async(PATIENCE, begin).await;
    let (mut all, mut last, mut pass) = (Vec::new(), Vec::new(), 0);
    while let Some(report) = reports.recv().await {
        let report = report.expect("it goes on");
        if report.pass != pass {
            pass = report.pass;
            last.clear();
        }
        last.extend(report.findings.clone());
        all.extend(report.findings);
        if report.done {
            return (all, last);
        }
    }
    panic!("it ended before its end");
}

async fn ready(config: &MasterConfig) -> (Master, Audits) {
    let master = start_master(config).await.expect("started");
    let audits = Audits::new(master.handle().clone());
    let rules = || async { master.handle().shared.counters().is_some_and(|counters| counters.rules >= REPAIRS) };
    testkit::eventually_async(PATIENCE, rules).await;
    (master, audits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named_while_the_master_serves_and_repaired_through_its_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = made(dir.path(), Metastore::Rocks).await;
    {
        let (master, audits) = ready(&base).await;
        assert_eq!(audited(&audits, false).await.0, [], "nothing is wrong");
        master.stop(Duration::ZERO).await.expect("stopped");
    }
    let plants = crate::fsck::tests::plants(&base);
    let mut seen = BTreeSet::new();
    for (number, plant) in plants.into_iter().enumerate() {
        if !plant.is_repairable || DEALT_WITH.contains(&plant.kind) || !seen.insert(plant.kind) {
            continue;
        }
        let config = twin(&base, &dir.path().join(format!("twin-{number}")));
        damage(&config, |_| plant.changes);
        let (master, audits) = ready(&config).await;
        let (all, _) = audited(&audits, false).await;
        assert!(all.iter().any(|finding| finding.kind == plant.kind), "{}: {all:#?}", plant.kind);
        assert!(all.iter().all(|finding| !finding.repaired), "nobody asked for a repair");
        let (all, last) = audited(&audits, true).await;
        assert!(all.iter().any(|finding| finding.kind == plant.kind && finding.repaired), "{}: {all:#?}", plant.kind);
        assert_eq!(last, [], "{}: the last pass finds nothing", plant.kind);
        // It goes on as if nothing had been: with ids that nobody has.
        let path = GfsPath::parse("/after").expect("a path");
        let op = CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) };
        master.handle().submit(&Principal::system(), None, Op::CreateDirectory(op)).await.expect("made");
        assert_eq!(audited(&audits, false).await.0, [], "{}", plant.kind);
        drop(audits);
        master.stop(Duration::ZERO).await.expect("stopped");
        assert_eq!(named(&config), [], "{}", plant.kind);
    }
    assert!(seen.len() >= 18, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_audit_runs_at_a_time_and_ends_when_nobody_listens() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = made(dir.path(), Metastore::Heap).await;
    let (master, audits) = ready(&config).await;
    for n in 0..2_000 {
        let path = GfsPath::parse(&format!("/d{n}")).expect("a path");
        let op = CreateDirectory { path, recursive: false, allow_exists: false, mode: Mode::new(0o755) };
        master.handle().submit(&Principal::system(), None, Op::CreateDirectory(op)).await.expect("made");
    }
    let first = audits.begin(false).expect("it begins");
    let refused = audits.begin(false).map(drop).expect_err("one at a time").to_string();
    assert!(refused.contains("another audit is running"), "{refused}");
    drop(first);
    assert_eq!(audited(&audits, false).await.0, [], "the first one made room");
    master.stop(Duration::ZERO).await.expect("stopped");
}

/// Entries come and go beside an audit: none of that is a fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_beside_a_busy_master_names_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = made(dir.path(), Metastore::Rocks).await;
    let (master, audits) = ready(&config).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let work = tokio::spawn({
        let handle = master.handle().clone();
        async move {
            let mut n = 0_u64;
            while !*stopped.borrow() {
                let name = |n: u64| GfsPath::parse(&format!("/d/x{n}")).expect("a path");
                let mode = Mode::new(0o755);
                let op = CreateDirectory { path: name(n), recursive: false, allow_exists: false, mode };
                handle.submit(&Principal::system(), None, Op::CreateDirectory(op)).await.expect("made");
                if n >= 40 {
                    let op = meta::Remove { path: name(n - 40), recursive: true, goosefs_only: true };
                    handle.submit(&Principal::system(), None, Op::Remove(op)).await.expect("removed");
                }
                n += 1;
            }
            n
        }
    });
    for _ in 0..5 {
        assert_eq!(audited(&audits, true).await.0, []);
    }
    stop.send_replace(true);
    assert!(work.await.expect("it worked") > 10);
    drop(audits);
    master.stop(Duration::ZERO).await.expect("stopped");
    assert_eq!(named(&config), []);
}

/// Three masters below `dir`, formatted.
fn three(dir: &Path) -> Vec<MasterConfig> {
    let ports = testkit::ports::free_ports(3).expect("free ports");
    let members: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let root = dir.join("root").to_str().expect("a plain name").to_owned();
    std::fs::create_dir_all(&root).expect("a root store");
    std::fs::create_dir_all(dir.join("n")).expect("another store");
    let member = |own: &String| MasterConfig {
        group: Some(GroupConfig {
            members: members.clone(),
            own: own.clone(),
            listen: own.parse().expect("an address"),
            election_timeout: Duration::from_millis(500),
            heartbeat: Duration::from_millis(100),
            retained_entries: 10_000,
            snapshot_bandwidth: None,
            priority: 1,
            recover: false,
        }),
        key_file: dir.join("key"),
        root_ufs: root.clone(),
        ..crate::fsck::tests::config(&dir.join(own.rsplit(':').next().expect("a port")), Metastore::Rocks)
    };
    let configs: Vec<MasterConfig> = members.iter().map(member).collect();
    for config in &configs {
        crate::format(config, &rpc::SystemEntropy, false).expect("formatted");
    }
    configs
}

/// Starts them all; which leads.
async fn together(configs: &[MasterConfig]) -> (Vec<Master>, usize) {
    let mut masters = Vec::new();
    for config in configs {
        masters.push(start_master(config).await.expect("started"));
    }
    let masters_seen = &masters;
    let leads = || async { masters_seen.iter().position(|master| master.handle().shared.leads()) };
    let leader = testkit::eventually_async(PATIENCE, leads).await;
    (masters, leader)
}

/// Waits until all of them have applied what the leader has, and stops them.
async fn apart(masters: Vec<Master>, leader: usize) {
    let target = masters[leader].handle().shared.applied();
    let masters_seen = &masters;
    let caught_up = || async { masters_seen.iter().all(|master| master.handle().shared.applied() >= target) };
    testkit::eventually_async(PATIENCE, caught_up).await;
    for master in masters {
        master.stop(Duration::ZERO).await.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_reaches_every_master_of_a_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let configs = three(dir.path());
    let (masters, leader) = together(&configs).await;
    for op in meta::plant::tree(&format!("file://{}", dir.path().join("n").display())) {
        masters[leader].handle().submit(&Principal::system(), None, op).await.expect("it is taken");
    }
    apart(masters, leader).await;
    configs.iter().for_each(|config| damage(config, meta::plant::settle));

    let mut repaired = BTreeSet::new();
    while repaired.len() < 3 {
        let plants = crate::fsck::tests::plants(&configs[0]);
        let fits = |plant: &meta::plant::Plant| {
            let is_shared = plant.changes.iter().all(|change| change.family != meta::Family::State);
            plant.is_repairable && is_shared && !DEALT_WITH.contains(&plant.kind) && !repaired.contains(plant.kind)
        };
        let plant = plants.into_iter().find(fits).expect("there are more kinds");
        configs.iter().for_each(|config| damage(config, |_| plant.changes.clone()));
        let (masters, leader) = together(&configs).await;
        let shared = &masters[leader].handle().shared;
        let rules = || async { shared.counters().is_some_and(|counters| counters.rules >= REPAIRS) };
        testkit::eventually_async(PATIENCE, rules).await;
        let audits = Audits::new(masters[leader].handle().clone());
        let (all, last) = audited(&audits, true).await;
        assert!(all.iter().any(|finding| finding.kind == plant.kind && finding.repaired), "{}: {all:#?}", plant.kind);
        assert_eq!(last, [], "{}: the last pass finds nothing", plant.kind);
        drop(audits);
        apart(masters, leader).await;
        for config in &configs {
            assert_eq!(named(config), [], "{} at {:?}", plant.kind, config.group);
        }
        repaired.insert(plant.kind);
    }
}
