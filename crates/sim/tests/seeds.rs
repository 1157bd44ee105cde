//! Whole clusters: what every seed must keep, what seeds have found, and that planted bugs are seen.

use sim::{Bug, Clocks, Fault, Keep, Kind, Plan, Planned, Schedule, Statistics, run};

/// Seeds of one sweep: fixed ones here, many more at night.
fn seeds() -> u64 {
    testkit::rounds(20) * 4
}

/// Fails with all that is needed to look closer.
fn must_hold(plan: Plan, schedule: &Schedule) -> Statistics {
    let report = run(plan, schedule, Keep::Digest);
    if let Err(failure) = report.verdict {
        let faults: Vec<String> = schedule.0.iter().map(ToString::to_string).collect();
        panic!("seed {} fails: {failure}\nfaults:\n{}", plan.seed, faults.join("\n"));
    }
    report.statistics
}

fn at(at_ms: u64, for_ms: u64, fault: Fault) -> Planned {
    Planned { at_ms, for_ms, fault }
}

#[test]
fn every_seed_keeps_what_was_promised_and_heals() {
    let mut audits = 0;
    for seed in 1..=seeds() {
        let plan = Plan::new(seed);
        audits += must_hold(plan, &plan.schedule()).audits;
    }
    assert!(audits > 10 * seeds(), "{audits} audits came to their end");
}

#[test]
fn two_runs_of_a_seed_say_the_same_byte_for_byte() {
    for (seed, more) in [(3, false), (1_000_003, true)] {
        let workers = if more { 2 } else { 0 };
        let plan = Plan { changes: more, log_rot: more, own_clients: more, workers, ..Plan::new(seed) };
        let (first, second) = (run(plan, &plan.schedule(), Keep::Lines), run(plan, &plan.schedule(), Keep::Lines));
        assert!(first.log.lines().count() > 1_000, "a run says what happens");
        assert!(first.log == second.log, "seed {seed} says something else the second time");
        assert_eq!(first.digest, second.digest);
        assert_ne!(first.digest, run(Plan { seed: seed + 1, ..plan }, &plan.schedule(), Keep::Digest).digest);
    }
}

/// It goes on with all it has called safe, or refuses its log with words that say so and stays away.
#[test]
fn a_flipped_bit_of_a_log_costs_no_more_than_its_member() {
    let mut refused = 0;
    for seed in 1..=seeds() / 2 {
        let plan = Plan { log_rot: true, ..Plan::new(seed) };
        refused += must_hold(plan, &plan.schedule()).refused;
    }
    assert!(refused > 0, "no flip hit anything");
}

/// Masters with empty disks take the place of lost ones, and who is behind what is kept of the log gets a snapshot.
#[test]
fn members_that_are_replaced_and_snapshots_keep_every_promise() {
    let (mut admitted, mut removed, mut snapshots) = (0, 0, 0);
    for seed in 1..=seeds() / 2 {
        let plan = Plan { changes: true, log_rot: seed % 2 == 0, ..Plan::new(seed) };
        let statistics = must_hold(plan, &plan.schedule());
        (admitted, removed) = (admitted + statistics.admitted, removed + statistics.removed);
        snapshots += statistics.snapshots;
    }
    assert!(admitted > 0 && snapshots > 0, "{admitted} were taken in, {snapshots} snapshots arrived");
    assert!(removed > 0, "nobody left");
}

/// One client of each room is of the `client` crate: how it finds its master, tries again and gives up is its own.
#[test]
fn clients_of_ours_ride_through_and_nothing_of_theirs_is_lost_or_doubled() {
    let mut calls = 0;
    for seed in 1..=seeds() {
        let plan = Plan { own_clients: true, workers: if seed % 4 == 0 { 2 } else { 0 }, ..Plan::new(seed) };
        calls += must_hold(plan, &plan.schedule()).own_calls;
    }
    assert!(calls > 50 * seeds(), "{calls} calls had an outcome");
}

/// One after the other: from three to five and back, the leader among those who go, twice over.
#[test]
fn a_fourth_and_a_fifth_master_come_and_go_under_load() {
    let add = |at_ms, master| at(at_ms, 1, Fault::AddMaster { master });
    let leader_goes = |at_ms| at(at_ms, 1, Fault::RemoveLeader);
    let goes = |at_ms, master| at(at_ms, 1, Fault::RemoveMaster { master });
    let twice = [
        [add(200, 3), add(2_200, 4), leader_goes(4_200), goes(6_200, 4)],
        [add(8_200, 4), leader_goes(10_200), add(12_200, 3), goes(14_500, 2)],
    ];
    let schedule = Schedule(twice.concat());
    let (mut admitted, mut removed) = (0, 0);
    let count = seeds() / 8;
    for seed in 1..=count {
        let statistics = must_hold(Plan { changes: true, faults_ms: 17_000, ..Plan::new(seed) }, &schedule);
        (admitted, removed) = (admitted + statistics.admitted, removed + statistics.removed);
    }
    // All that have something to do: one each way may find its master there, or gone, already. None comes too late for the next.
    assert!(admitted >= 3 * count && removed >= 3 * count, "{admitted} came and {removed} went in {count} seeds");
}

/// Where clocks run at any rate, reads may be old. Nothing else may be wrong.
#[test]
fn clocks_that_run_at_any_rate_cost_nothing_that_was_acknowledged() {
    for seed in 1..=seeds() / 4 {
        let plan = Plan { clocks: Clocks::Wild, ..Plan::new(seed) };
        must_hold(plan, &plan.schedule());
    }
}

/// What `cargo xtask sim` runs when it is told nothing: rooms, workers, masters that come and go, rot and clocks, in turn and at once.
#[test]
fn every_mix_keeps_what_was_promised_and_heals() {
    for seed in 1..=seeds() / 2 {
        let plan = Plan::mixed(seed);
        must_hold(plan, &plan.schedule());
    }
}

/// The first master leads, and is cut off as soon as it holds a lease.
fn leader_cut_off() -> Schedule {
    let once = |at_ms| [at(at_ms, 1, Fault::HandOver { to: 0 }), at(at_ms + 400, 2_000, Fault::Isolate { master: 0 })];
    Schedule([once(500), once(3_500), once(6_500)].concat())
}

/// Nothing but the bound on the drift of clocks stands between a lease and the next one: the judge of leases sees that.
#[test]
fn two_leases_at_once_are_seen_where_clocks_drift_further_than_a_lease_allows() {
    let wild = |seed| Plan { clocks: Clocks::Set { first: -700, others: 1_000 }, ..Plan::new(seed) };
    let verdicts = (1..=5).map(|seed| run(wild(seed), &leader_cut_off(), Keep::Digest).verdict);
    let kinds: Vec<_> = verdicts.map(|verdict| verdict.err().map(|failure| failure.kind)).collect();
    assert!(kinds.contains(&Some(Kind::TwoLeases)), "{kinds:?}");
    for seed in 1..=5 {
        must_hold(Plan { clocks: Clocks::Set { first: -47, others: 47 }, ..Plan::new(seed) }, &leader_cut_off());
    }
}

// --- what seeds have found ---

/// A name that the store does not have was refused, because the directory above it was only in the store. And while the
/// first leader of a group made the namespace, clients were told that it is empty, or not formatted.
#[test]
fn a_group_without_faults_makes_names_in_directories_that_only_the_store_knows() {
    for seed in 1..=seeds() / 4 {
        must_hold(Plan { faults_ms: 3_000, ..Plan::new(seed) }, &Schedule::default());
    }
}

/// It was made over an object that the move was just bringing there, and what asked for it meanwhile heard of nothing.
#[test]
fn a_name_below_a_directory_that_is_being_moved_is_looked_for_where_it_is_afterwards() {
    let found = |seed| Plan { first_rules: true, ..Plan::new(seed) };
    for plan in [found(218), Plan { log_rot: true, ..found(1100) }] {
        must_hold(plan, &Schedule(Vec::new()));
        must_hold(plan, &plan.schedule());
    }
}

/// A leader that was told to hand over to a member that cannot answer led on without a lease, and open intents stayed open.
#[test]
fn a_hand_over_to_a_member_that_is_cut_off_does_not_stop_work_at_the_store() {
    let twice =
        |to, at_ms| [at(at_ms, 2_500, Fault::Isolate { master: to }), at(at_ms + 100, 1, Fault::HandOver { to })];
    let schedule = Schedule([twice(0, 500), twice(1, 3_500), twice(2, 6_500)].concat());
    for seed in 1..=5 {
        must_hold(Plan::new(seed), &schedule);
    }
}

/// The log was cut below what its leader had on its own, slow disk; after a power cut nobody could catch it up.
#[test]
fn a_leader_with_a_slow_disk_finds_its_way_back_after_a_power_cut() {
    let slow = |master, at_ms| {
        [at(at_ms, 2_500, Fault::SlowDisk { master, ms: 700 }), at(at_ms + 1_500, 100, Fault::PowerCut { master })]
    };
    let schedule = Schedule([slow(0, 300), slow(1, 3_300), slow(2, 6_300)].concat());
    for seed in 1..=5 {
        must_hold(Plan::new(seed), &schedule);
    }
}

/// A listing lacked what had expired since its directory was loaded; and a directory of the store that was emptied here expired, while the
/// wall clock stood still: its store does not have it any more.
#[test]
fn what_expires_is_never_missing_where_its_store_has_it_and_what_is_made_here_never_expires() {
    let forgets = |seed| Plan { forgets: true, ..Plan::new(seed) };
    let plans = [
        Plan::new(2_377),
        Plan { changes: true, log_rot: true, ..forgets(2_646) },
        Plan { workers: 2, ..forgets(5_157) },
        Plan { workers: 2, ..forgets(5_232) },
    ];
    for plan in plans {
        must_hold(plan, &plan.schedule());
    }
}

// --- planted bugs ---

/// The first seed, of at most `within`, that shows the bug must fail as one of `kinds`.
fn is_found(bug: Bug, within: u64, kinds: &[Kind], schedule: impl Fn(&Plan) -> Schedule) {
    for seed in 1..=within {
        let plan = Plan { bug: Some(bug), changes: bug.needs_changes(), ..Plan::new(seed) };
        if let Err(failure) = run(plan, &schedule(&plan), Keep::Digest).verdict {
            assert!(kinds.contains(&failure.kind), "seed {seed} shows {bug:?} as {failure}");
            return;
        }
    }
    panic!("{within} seeds do not show {bug:?}");
}

/// Each master stands still in turn, for longer than an election takes.
fn pauses(plan: &Plan) -> Schedule {
    let pause = |number: u64| {
        let master = usize::try_from(number).expect("few") % plan.masters;
        at(200 + 3_100 * number, 2_500, Fault::Pause { master })
    };
    Schedule((0..3).map(pause).collect())
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    is_found(Bug::AckBeforeFsync, 20, &[Kind::Start, Kind::Diverged, Kind::NotLinearisable], Plan::schedule);
}

#[test]
fn a_vote_that_is_not_kept_is_found() {
    is_found(Bug::VoteForgotten, 20, &[Kind::Start, Kind::TwoLeaders], Plan::schedule);
}

#[test]
fn entries_that_are_applied_twice_are_found() {
    is_found(Bug::AppliedTwice, 20, &[Kind::Panic, Kind::Diverged], Plan::schedule);
}

#[test]
fn a_leader_that_slept_and_answers_is_found() {
    is_found(Bug::StaleLease, 60, &[Kind::NotLinearisable, Kind::TwoLeases], pauses);
}

#[test]
fn a_forgotten_operation_id_is_found() {
    is_found(Bug::OperationForgotten, 20, &[Kind::NotLinearisable], Plan::schedule);
}

#[test]
fn a_log_that_is_cut_above_the_flushed_index_is_found() {
    is_found(Bug::LogCutEarly, 20, &[Kind::Start, Kind::NotHealed], Plan::schedule);
}

#[test]
fn an_intent_that_is_forgotten_at_a_start_is_found() {
    is_found(Bug::IntentForgotten, 20, &[Kind::Recount, Kind::Diverged, Kind::NotHealed], Plan::schedule);
}

#[test]
fn a_load_that_brings_back_what_was_removed_is_found() {
    let kinds = [Kind::NotLinearisable, Kind::Diverged, Kind::Store];
    is_found(Bug::LoadResurrects, 100, &kinds, Plan::schedule);
}

#[test]
fn a_deletion_that_comes_after_its_name_was_free_again_is_found() {
    is_found(Bug::CollectorLate, 20, &[Kind::Store, Kind::NotLinearisable], Plan::schedule);
}

#[test]
fn an_old_value_in_the_cache_is_found() {
    let kinds = [Kind::Diverged, Kind::NotLinearisable, Kind::Panic, Kind::Answer];
    is_found(Bug::OldCache, 30, &kinds, Plan::schedule);
}

#[test]
fn a_snapshot_without_its_last_file_is_found() {
    is_found(Bug::SnapshotShort, 20, &[Kind::Start, Kind::NotHealed], Plan::schedule);
}

#[test]
fn an_empty_disk_that_votes_under_an_old_id_is_found() {
    let kinds = [Kind::NotLinearisable, Kind::TwoLeaders, Kind::Diverged, Kind::Panic, Kind::NotHealed];
    is_found(Bug::OldId, 20, &kinds, Plan::schedule);
}

#[test]
fn a_failing_schedule_shrinks_to_what_it_needs() {
    let plan = Plan { bug: Some(Bug::VoteForgotten), ..Plan::new(2) };
    let failure = run(plan, &plan.schedule(), Keep::Digest).verdict.expect_err("a restart shows it");
    let small = sim::shrink(plan, &plan.schedule(), failure.kind);
    assert!(small.0.len() <= 2, "a master that starts again is all it takes: {small:?}");
    assert_eq!(run(plan, &small, Keep::Digest).verdict.expect_err("it fails as before").kind, failure.kind);
}
