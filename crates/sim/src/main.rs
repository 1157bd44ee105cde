//! `sim`: runs seeds, shrinks what fails, replays one with everything it says. Started by `cargo xtask sim`.

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use sim::{Bug, Clocks, HEALS_WITHIN_MS, Keep, Plan, Schedule, run, shrink};
use std::time::{Duration, Instant};

/// Simulated time of the idle cluster whose speed is measured.
const IDLE_MS: u64 = 60_000;

/// Whole clusters under seeds. Unless told which, seeds take all mixes of what may happen in turn
#[derive(Parser)]
#[command(name = "sim")]
struct Cli {
    /// How many seeds to run
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Stop after so many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run one seed and print all that happens
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
    /// With --replay: shrink the schedule first if the seed fails
    #[arg(long)]
    shrunk: bool,
    /// Plant a bug
    #[arg(long)]
    bug: Option<Bug>,
    /// Besides all else, flip bits of the logs of masters that are down
    #[arg(long)]
    log_rot: bool,
    /// Besides all else, masters lose their disks and are replaced, others come and go, and little of the log is kept
    #[arg(long)]
    changes: bool,
    /// Besides all else, masters forget what was not used for a moment and can be had from the store again
    #[arg(long)]
    forgets: bool,
    /// Masters never apply newer rules than the first, as beside one of an older release
    #[arg(long)]
    first_rules: bool,
    /// One client of each room is one of ours, as they are, instead of one that asks as official clients do
    #[arg(long)]
    own_clients: bool,
    /// Let masters' clocks drift further than a lease allows: reads may then be old, nothing else may be wrong
    #[arg(long)]
    wild_clocks: bool,
    /// How many masters
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=7))]
    masters: u8,
    /// How many workers; with any, files are written through them and read
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=5))]
    workers: Option<u8>,
    /// Nothing of all that: masters and rooms alone
    #[arg(long, conflicts_with_all = ["log_rot", "changes", "forgets", "first_rules", "own_clients", "wild_clocks", "workers"])]
    plain: bool,
    /// How long there are faults, in simulated milliseconds
    #[arg(long, default_value_t = 10_000)]
    faults_ms: u64,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.replay {
        Some(seed) => cli.replay(seed),
        None => cli.sweep(),
    }
}

impl Cli {
    fn plan(&self, seed: u64) -> Plan {
        let (masters, faults_ms) = (usize::from(self.masters), self.faults_ms);
        if !self.is_told() {
            return Plan { masters, faults_ms, ..Plan::mixed(seed) };
        }
        Plan {
            bug: self.bug,
            masters,
            faults_ms,
            workers: self.workers.map_or(if self.bug.is_some_and(Bug::needs_workers) { 2 } else { 0 }, usize::from),
            clocks: if self.wild_clocks { Clocks::Wild } else { Clocks::Bounded },
            log_rot: self.log_rot,
            forgets: self.forgets,
            first_rules: self.first_rules,
            own_clients: self.own_clients,
            changes: self.changes || self.bug.is_some_and(Bug::needs_changes),
            ..Plan::new(seed)
        }
    }

    /// Whether it was said what the plan is. Bugs are looked for where that is.
    fn is_told(&self) -> bool {
        let more = [self.log_rot, self.changes, self.forgets, self.first_rules, self.own_clients, self.wild_clocks];
        let more = more.contains(&true);
        self.plain || more || self.workers.is_some() || self.bug.is_some()
    }

    /// What else is to be said for the plan of this seed.
    fn flags(&self, seed: u64) -> String {
        let plan = self.plan(seed);
        let Plan { masters, workers, faults_ms, clocks, log_rot, changes, .. } = plan;
        let usual = Plan::new(seed);
        let mut flags = String::new();
        let mut flag = |is_meant: bool, text: String| flags.push_str(if is_meant { &text } else { "" });
        flag(log_rot, " --log-rot".to_owned());
        flag(changes, " --changes".to_owned());
        flag(plan.forgets, " --forgets".to_owned());
        flag(plan.first_rules, " --first-rules".to_owned());
        flag(plan.own_clients, " --own-clients".to_owned());
        flag(clocks != usual.clocks, " --wild-clocks".to_owned());
        flag(workers != usual.workers, format!(" --workers {workers}"));
        if let Some(bug) = self.bug.as_ref().and_then(ValueEnum::to_possible_value) {
            flag(true, format!(" --bug {}", bug.get_name()));
        }
        let is_plain = flags.is_empty();
        let mut flag = |is_meant: bool, text: String| flags.push_str(if is_meant { &text } else { "" });
        flag(is_plain, " --plain".to_owned());
        flag(masters != usual.masters, format!(" --masters {masters}"));
        flag(faults_ms != usual.faults_ms, format!(" --faults-ms {faults_ms}"));
        flags
    }

    fn replay(&self, seed: u64) -> Result<()> {
        let plan = self.plan(seed);
        let mut schedule = plan.schedule();
        if self.shrunk
            && let Err(failure) = run(plan, &schedule, Keep::Digest).verdict
        {
            schedule = shrink(plan, &schedule, failure.kind);
        }
        show(&schedule);
        let report = run(plan, &schedule, Keep::Print);
        println!("{:?}", report.statistics);
        match report.verdict {
            Ok(()) => Ok(()),
            Err(failure) => bail!("seed {seed} fails: {failure}"),
        }
    }

    fn sweep(&self) -> Result<()> {
        println!("idle: {}", idle_speed());
        let began = Instant::now();
        let until = self.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let (mut ran, mut failed, mut simulated_ms, mut calls, mut slowest_ms) = (0, 0_u64, 0, 0, 0);
        let (mut refused, mut admitted, mut removed, mut snapshots, mut read_bytes) = (0, 0, 0, 0, 0);
        let (mut expired, mut own_calls, mut audits) = (0, 0, 0);
        for seed in self.from..self.from.saturating_add(self.seeds) {
            if until.is_some_and(|until| began.elapsed() >= until) {
                break;
            }
            let plan = self.plan(seed);
            let report = run(plan, &plan.schedule(), Keep::Digest);
            ran += 1;
            simulated_ms += report.statistics.simulated_ms;
            calls += report.statistics.calls;
            refused += report.statistics.refused;
            admitted += report.statistics.admitted;
            removed += report.statistics.removed;
            read_bytes += report.statistics.read_bytes;
            snapshots += report.statistics.snapshots;
            expired += report.statistics.expired;
            own_calls += report.statistics.own_calls;
            audits += report.statistics.audits;
            slowest_ms = slowest_ms.max(report.statistics.healed_after_ms);
            if let Err(failure) = report.verdict {
                failed += 1;
                println!("seed {seed} fails: {failure}");
                println!(
                    "it fails with these of its faults; replay with --replay {seed} --shrunk{}:",
                    self.flags(seed)
                );
                show(&shrink(plan, &plan.schedule(), failure.kind));
            }
        }
        let took = began.elapsed();
        let wild_ms = Plan { clocks: Clocks::Wild, ..Plan::new(0) }.heals_within_ms();
        println!(
            "{ran} seeds, {calls} calls, {:.0} simulated s in {:.0} s ({:.0} × real time); healed within {slowest_ms} ms, \
             at most {HEALS_WITHIN_MS} are allowed, {wild_ms} by wild clocks; {failed} failed",
            Duration::from_millis(simulated_ms).as_secs_f64(),
            took.as_secs_f64(),
            Duration::from_millis(simulated_ms).as_secs_f64() / took.as_secs_f64()
        );
        println!(
            "{refused} logs refused for a flipped bit, {admitted} masters taken in, {removed} removed, {snapshots} snapshots \
             installed, {read_bytes} bytes read through workers, {expired} inodes forgotten, {own_calls} calls of clients of ours, {audits} audits"
        );
        if failed > 0 { bail!("{failed} of {ran} seeds failed") } else { Ok(()) }
    }
}

fn show(schedule: &Schedule) {
    schedule.0.iter().for_each(|planned| println!("  {planned}"));
}

/// How much faster than time a cluster lives that nobody asks anything: by the wall, and by the processor where others use it.
fn idle_speed() -> String {
    let (began, cpu_before) = (Instant::now(), cpu_time());
    let plan = Plan { rooms: 0, faults_ms: IDLE_MS, ..Plan::new(1) };
    let report = run(plan, &Schedule::default(), Keep::Digest);
    let simulated = Duration::from_millis(report.statistics.simulated_ms).as_secs_f64();
    let (wall, cpu) = (began.elapsed(), cpu_time() - cpu_before);
    let times = |took: Duration| simulated / took.as_secs_f64();
    format!("{:.0} × real time, {:.0} × by processor time", times(wall), times(cpu))
}

fn cpu_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}
