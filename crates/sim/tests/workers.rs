//! Workers with masters: what every seed must keep, what seeds have found, and that planted bugs are seen.

use sim::{Bug, Clocks, Fault, Keep, Kind, Plan, Planned, Schedule, WorkerFault, run};

/// Seeds of one sweep: fixed ones here, many more at night.
fn seeds() -> u64 {
    testkit::rounds(20) * 2
}

/// Fails with all that is needed to look closer. Returns the bytes that were read and found right.
fn must_hold(plan: Plan, schedule: &Schedule) -> u64 {
    let report = run(plan, schedule, Keep::Digest);
    if let Err(failure) = report.verdict {
        let faults: Vec<String> = schedule.0.iter().map(ToString::to_string).collect();
        panic!("seed {} fails: {failure}\nfaults:\n{}", plan.seed, faults.join("\n"));
    }
    report.statistics.read_bytes
}

fn at(at_ms: u64, for_ms: u64, fault: WorkerFault) -> Planned {
    Planned { at_ms, for_ms, fault: Fault::Worker(fault) }
}

#[test]
fn what_was_written_is_read_again_and_everybody_finds_back() {
    for seed in 1..=seeds() {
        let plan = Plan::with_workers(seed);
        assert!(must_hold(plan, &plan.schedule()) > 0, "seed {seed} reads something");
    }
}

#[test]
fn two_runs_of_a_seed_with_workers_say_the_same_byte_for_byte() {
    for seed in [5, 1_000_005] {
        let plan = Plan::with_workers(seed);
        let (first, second) = (run(plan, &plan.schedule(), Keep::Lines), run(plan, &plan.schedule(), Keep::Lines));
        assert!(first.log.lines().any(|line| line.contains("/Heartbeat")), "workers take part");
        let differs = first.log.lines().zip(second.log.lines()).find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed} says something else the second time");
        assert_eq!(first.digest, second.digest);
    }
}

#[test]
fn power_that_goes_in_the_middle_of_a_write_takes_nothing_that_was_acknowledged() {
    for seed in 1..=seeds() / 8 {
        let plan = Plan::with_workers(seed);
        let cut = |number: usize| {
            let at_ms = 300 + 900 * u64::try_from(number).expect("few");
            at(at_ms, 100, WorkerFault::PowerCut { worker: number % 2 })
        };
        must_hold(plan, &Schedule((0..10).map(cut).collect()));
    }
}

/// A master began anew between a worker's hello and its proof. The worker took that for a refusal, gave up an upload and
/// could tell nobody, and the leader waited for it.
#[test]
fn an_upload_that_a_restart_of_a_master_cuts_off_is_done_all_the_same() {
    let plan = Plan::with_workers(103);
    must_hold(plan, &plan.schedule());
}

/// A worker that stood still wrote to the store for a file that was gone by then: by its name it took another one for it, which
/// is in no store. The object stayed.
#[test]
fn a_write_that_comes_late_leaves_no_object_to_a_file_that_is_in_no_store() {
    let plan = Plan { own_clients: true, ..Plan::with_workers(516) };
    must_hold(plan, &plan.schedule());
}

/// What was taken back from a file that stays in the cache was taken from one that was still to be persisted, too: by another
/// attempt, which equal bytes give the same version.
#[test]
fn an_upload_that_does_not_count_leaves_the_object_to_the_file_that_is_to_have_it() {
    let changing = Plan { changes: true, forgets: true, first_rules: true, ..Plan::with_workers(10_131) };
    for plan in [Plan::with_workers(10_220), Plan { own_clients: true, ..changing }] {
        must_hold(plan, &plan.schedule());
    }
}

/// A worker had evicted one block of a file that went, and the standby that came to lead then forgot the others.
#[test]
fn what_a_worker_holds_of_a_file_that_is_gone_goes_whoever_leads_by_then() {
    let mix = Plan { changes: true, log_rot: true, first_rules: true, ..Plan::with_workers(11_387) };
    let plan = Plan { clocks: Clocks::Wild, ..mix };
    must_hold(plan, &plan.schedule());
}

#[test]
fn heartbeats_and_registrations_that_come_twice_and_late_leave_no_location_behind() {
    for seed in 1..=seeds() / 8 {
        let plan = Plan::with_workers(seed);
        let mut planned = vec![at(0, 9_900, WorkerFault::Echo { per_mille: 400 })];
        planned.extend((0..4).map(|number| at(1_000 + 2_000 * number, 100, WorkerFault::Kill { worker: 0 })));
        must_hold(plan, &Schedule(planned));
    }
}

/// A worker that refuses its identity for a flipped bit gets an empty disk, and what came to the old one since the flip is gone too.
#[test]
fn disks_of_workers_that_rot_fail_or_fill_cost_no_more_than_what_they_alone_held() {
    let faults = |worker, at_ms| {
        [
            at(at_ms, 100, WorkerFault::BitFlip { worker }),
            at(at_ms + 700, 50, WorkerFault::Kill { worker }),
            at(at_ms + 900, 600, WorkerFault::ReadErrors { worker, times: 20 }),
            at(at_ms + 1_600, 500, WorkerFault::WriteErrors { worker, times: 3 }),
            at(at_ms + 2_200, 500, WorkerFault::DiskFull { worker }),
        ]
    };
    for seed in 1..=seeds() / 8 {
        let schedule = [faults(0, 200), faults(1, 1_700), faults(0, 4_200), faults(1, 6_000)].concat();
        must_hold(Plan::with_workers(seed), &Schedule(schedule));
    }
}

/// What one of them alone does not hear, or is not heard to say.
#[test]
fn a_worker_that_one_master_does_not_hear_is_known_there_in_the_end() {
    let cut = |number: usize| {
        let (worker, master) = (number % 2, number % 3);
        let at_ms = 200 + 1_500 * u64::try_from(number).expect("few");
        let fault =
            if number < 3 { WorkerFault::Deaf { worker, master } } else { WorkerFault::Unheard { worker, master } };
        [at(at_ms, 1_400, fault), at(at_ms + 300, 50, WorkerFault::Kill { worker })]
    };
    for seed in 1..=seeds() / 8 {
        must_hold(Plan::with_workers(seed), &Schedule((0..6).flat_map(cut).collect()));
    }
}

// --- planted bugs ---

/// The first seed, of at most `within`, that shows the bug must fail as `kind`.
fn is_found(bug: Bug, within: u64, kind: Kind) {
    for seed in 1..=within {
        let plan = Plan { bug: Some(bug), changes: bug.needs_changes(), ..Plan::with_workers(seed) };
        if let Err(failure) = run(plan, &plan.schedule(), Keep::Digest).verdict {
            assert_eq!(failure.kind, kind, "seed {seed} shows {bug:?} as {failure}");
            return;
        }
    }
    panic!("{within} seeds do not show {bug:?}");
}

#[test]
fn a_location_that_comes_back_is_found() {
    is_found(Bug::LocationResurrected, 30, Kind::Places);
}

#[test]
fn a_master_that_workers_do_not_tell_is_found() {
    is_found(Bug::NewcomerUntold, 20, Kind::Places);
}

#[test]
fn a_block_filled_with_an_old_value_is_found() {
    is_found(Bug::OldBlock, 10, Kind::Content);
}
