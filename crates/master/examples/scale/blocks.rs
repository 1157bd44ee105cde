//! Locations of as many blocks as there are files, on a hundred workers.

use crate::clients::Reporter;
use crate::serving::{Served, felt};
use crate::world::Ground;
use crate::{Plan, growth_each, ms, process};
use std::time::{Duration, Instant};
use types::ContainerId;

const WORKERS: usize = 100;
/// Blocks that a worker brings back though their files are gone.
const STALE: usize = 10_000;
/// What the audit finds is judged a round later.
const ROUNDS: Duration = Duration::from_secs(45);

pub fn measure(plan: &Plan, ground: &Ground, served: &mut Served, containers: &[ContainerId]) {
    let key = &ground.config.key_file;
    process::trim();
    let (before, resident) = (process::allocated_bytes(), process::resident_bytes());
    // Each block on a worker of its own by hash, as clients place them.
    let mut reporters = Vec::with_capacity(WORKERS);
    let (mut cpu, mut took) = (Duration::ZERO, Duration::ZERO);
    for number in 0..WORKERS {
        let held: Vec<ContainerId> = containers.iter().copied().filter(|one| worker_of(*one) == number).collect();
        let mut reporter = served.ours.block_on(Reporter::meet(served.master(), key, number_of(number)));
        let (used, began) = (theirs(), Instant::now());
        served.ours.block_on(reporter.register(&held));
        cpu += theirs() - used;
        took += began.elapsed();
        reporters.push((reporter, held));
    }
    for (_, held) in &mut reporters {
        *held = Vec::new();
    }
    process::trim();
    let blocks = served.metric("Master.BlockLocations");
    let each = growth_each(before, process::allocated_bytes(), blocks);
    let of_table = crate::float(served.metric("Master.BlockLocationBytes")) / crate::float(blocks.max(1));
    let anonymous = growth_each(resident, process::resident_bytes(), blocks);
    let what = format!("bytes of a block location, {blocks} on {WORKERS} workers, of the allocator");
    let text = format!("{each:.1} (the table counts {of_table:.1}; {anonymous:.1} of anonymous pages)");
    plan.figure("6", &what, &text, Some(("≤ 24", each <= 24.0)));
    let what = "registering them all: CPU of the master for a million";
    let million = cpu.as_secs_f64() * 1e6 / crate::float(blocks.max(1));
    plan.figure("6", what, &format!("{million:.2} s ({:.1} s by the clock)", took.as_secs_f64()), None);

    registration(plan, ground, served, containers);
    disorder(plan, served, &mut reporters[0].0, containers);

    let audits = served.metric("Master.BlockLocationAudits");
    let began = Instant::now();
    served.wait_for("Master.BlockLocationAudits", |now| now > audits + 1);
    let pass = began.elapsed();
    std::thread::sleep(ROUNDS);
    let drift = served.metric("Master.BlockLocationDrift");
    let text = format!("{drift} (a pass over the table takes {:.0} s)", pass.as_secs_f64() / 2.0);
    plan.figure("6", "drift the self-audit found after all that", &text, Some(("0", drift == 0)));
}

/// A worker with a million blocks, which registers again and again.
fn registration(plan: &Plan, ground: &Ground, served: &mut Served, containers: &[ContainerId]) {
    let held = &containers[..containers.len().min(1_000_000)];
    let number = number_of(WORKERS);
    let mut reporter = served.ours.block_on(Reporter::meet(served.master(), &ground.config.key_file, number));
    let mut used = Vec::new();
    let mut register = |served: &mut Served| {
        let (before, began) = (theirs(), Instant::now());
        served.ours.block_on(reporter.register(held));
        used.push((theirs() - before, began.elapsed()));
    };
    register(served);
    register(served);
    let [(first, took), (again, _)] = used[..] else { unreachable!("it registered twice") };
    let what = format!("full registration of {} blocks: CPU of the master", held.len());
    let text = format!(
        "{:.0} ms ({:.0} ms by the clock; a second one, which drops the first: {:.0} ms)",
        ms(first),
        ms(took),
        ms(again)
    );
    plan.figure("6", &what, &text, Some(("≤ 1 s", first <= Duration::from_secs(1))));
    let mut again = |served: &mut Served| {
        served.ours.block_on(reporter.register(held));
    };
    let floor = Some(("≤ 10 ms", Duration::from_millis(10)));
    let what = "what others feel of registrations one after the other: excess p99.9 of 1000 requests a second";
    felt(plan, served, "6", what, floor, |served| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(15) {
            again(served);
        }
    });
}

/// A worker that brings back what is gone, repeats itself, and skips a heartbeat.
fn disorder(plan: &Plan, served: &mut Served, reporter: &mut Reporter, containers: &[ContainerId]) {
    let before = served.metric("Master.BlockLocations");
    // Of the ids given out for one path the file takes one: those between never had a file.
    let live: std::collections::BTreeSet<ContainerId> = containers.iter().take(2 * STALE).copied().collect();
    let stale: Vec<ContainerId> =
        containers.iter().map(|one| ContainerId(one.0 + 1)).filter(|one| !live.contains(one)).take(STALE).collect();
    let told = served.ours.block_on(async {
        let mut freed = reporter.beat(&stale, &[]).await.free;
        let repeated = reporter.beat_as(reporter.sequence(), &stale, &[]).await;
        assert_eq!(repeated.free, freed, "a repeated heartbeat is answered alike");
        while freed.len() < stale.len() {
            let more = reporter.beat(&[], &[]).await.free;
            assert!(!more.is_empty(), "told to free {} of {}", freed.len(), stale.len());
            freed.extend(more);
        }
        let skipped = reporter.beat_as(reporter.sequence() + 5, &[], &[]).await;
        assert!(skipped.register, "a heartbeat that skips one has it register again");
        freed.len()
    });
    let after = served.metric("Master.BlockLocations");
    let text = format!("{told} of {} are to be freed, {} rows more than before", stale.len(), after - before);
    plan.figure(
        "6",
        "blocks of files that are gone, reported, and reported again",
        &text,
        Some(("0 rows", after == before)),
    );
}

/// CPU of all threads but this one, which is who calls.
fn theirs() -> Duration {
    process::cpu() - process::thread_cpu()
}

fn worker_of(container: ContainerId) -> usize {
    let workers = u64::try_from(WORKERS).expect("few");
    usize::try_from(crate::world::mixed(container.0) % workers).expect("few")
}

/// Of a worker's disks: none is 0.
fn number_of(worker: usize) -> u64 {
    u64::try_from(worker).expect("few") + 1
}
