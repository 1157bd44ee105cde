//! Runs test programs, shows what they print as they print it, and counts what they say.

use crate::tree;
use anyhow::{Context, Result};
use rustix::process::Pid;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the end of a program is looked for while it prints nothing.
const LOOK: Duration = Duration::from_millis(50);
/// How long output may still arrive after the program has ended: something it left behind may hold the pipe open.
const DRAIN: Duration = Duration::from_secs(2);
/// In what rustc says when it fails itself.
const COMPILER_BROKE: &str = "internal compiler error";

/// What one suite came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suite {
    pub name: String,
    pub took: Duration,
    pub passed: u64,
    pub failed: u64,
}

/// All suites of a run.
#[derive(Default)]
pub struct Report {
    pub suites: Vec<Suite>,
}

impl Report {
    pub fn passed(&self) -> u64 {
        self.suites.iter().map(|suite| suite.passed).sum()
    }

    pub fn failed(&self) -> u64 {
        self.suites.iter().map(|suite| suite.failed).sum()
    }

    /// A check that has no tests to count: one failure, or none.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> Result<bool>) -> Result<()> {
        println!("--- {name}");
        let start = Instant::now();
        let good = check()?;
        self.suites.push(Suite { name: name.into(), took: start.elapsed(), passed: 0, failed: u64::from(!good) });
        Ok(())
    }

    /// Runs a program whose output counts tests, as `cargo test` and pytest do. Every binary of `cargo test` is a
    /// suite. A program that fails without counting a failure is one.
    pub fn run(&mut self, name: &str, command: Command, limit: Duration) -> Result<()> {
        println!("--- {name}");
        let mut counter = Counter::new(name);
        let status = run(command, limit, |line| counter.line(line))?;
        self.suites.extend(counter.finish(status.success()));
        Ok(())
    }

    /// The same, with all it counts as one suite.
    pub fn run_as_one(&mut self, name: &str, command: Command, limit: Duration) -> Result<()> {
        let (before, start) = (self.suites.len(), Instant::now());
        self.run(name, command, limit)?;
        self.sum_up(name, before, start.elapsed());
        Ok(())
    }

    /// Makes one suite of all from the one numbered `from` on.
    fn sum_up(&mut self, name: &str, from: usize, took: Duration) {
        let parts = self.suites.split_off(from);
        let sum = |count: fn(&Suite) -> u64| parts.iter().map(count).sum();
        let (passed, failed) = (sum(|suite| suite.passed), sum(|suite| suite.failed));
        self.suites.push(Suite { name: name.into(), took, passed, failed });
    }

    /// The times, and the closing line.
    pub fn print(&self) {
        println!("\n{}", self.table());
        println!("{} passed, {} failed", self.passed(), self.failed());
    }

    fn table(&self) -> String {
        let width = self.suites.iter().map(|suite| suite.name.chars().count()).max().unwrap_or(0).max("suite".len());
        let mut out = format!("{:<width$}  {:>9}  {:>7}  {:>7}\n", "suite", "time", "passed", "failed");
        for Suite { name, took, passed, failed } in &self.suites {
            let took = format!("{:.1} s", took.as_secs_f64());
            writeln!(out, "{name:<width$}  {took:>9}  {passed:>7}  {failed:>7}").expect("a string takes everything");
        }
        out
    }
}

/// Runs a program to its end and hands over each line it prints, on either stream, after echoing it. After `limit` it
/// is killed with all it started; so is what it leaves behind when it ends.
///
/// Where it is the compiler that breaks, it is run once more without what the compiler kept of earlier builds: that is what
/// it breaks over, and a checkout that is built where another one was finds a lot of it.
pub fn run(command: Command, limit: Duration, on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    run_in(command, limit, on_line, &tree::target(&tree::root()?), COMPILER_BROKE)
}

/// - `broke`: words of a compiler that breaks.
fn run_in(
    mut command: Command,
    limit: Duration,
    mut on_line: impl FnMut(&str),
    target: &Path,
    broke: &str,
) -> Result<ExitStatus> {
    let mut compiler_broke = false;
    let status = run_once(&mut command, limit, |line| {
        compiler_broke |= line.contains(broke);
        on_line(line);
    })?;
    if status.success() || !compiler_broke {
        return Ok(status);
    }
    println!("the compiler broke: once more without what it kept of earlier builds");
    for profile in ["debug", "release"] {
        let kept = target.join(profile).join("incremental");
        match std::fs::remove_dir_all(&kept) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", kept.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    run_once(&mut command, limit, on_line)
}

fn run_once(command: &mut Command, limit: Duration, mut on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    let shown = format!("{command:?}");
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    command.stdout(Stdio::null()).stderr(Stdio::null()); // it held the writing end
    let group = Group::new(child.id());

    let (lines, inbox) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n') {
            let Ok(line) = line else { return };
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match inbox.recv_timeout(LOOK) {
            Ok(line) => {
                // A closed terminal must not end the run before it has cleaned up.
                drop(writeln!(std::io::stdout(), "{line}"));
                on_line(&line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if ended.is_none() => std::thread::sleep(LOOK),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ended.is_none() {
            ended = child.try_wait()?.map(|status| (status, Instant::now()));
        }
        if ended.is_some_and(|(_, at)| at.elapsed() > DRAIN) {
            break;
        }
        if ended.is_none() && start.elapsed() > limit {
            println!("{shown} has run for {} s: killed", limit.as_secs());
            group.kill();
        }
    }
    let (status, _) = ended.expect("the loop ends after the program");
    Ok(status)
}

/// The processes of a running program, which must not outlive us.
struct Group(Pid);

/// All there are.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

impl Group {
    fn new(leader: u32) -> Group {
        static WATCH: std::sync::Once = std::sync::Once::new();
        WATCH.call_once(|| drop(std::thread::spawn(end_with_a_signal)));
        let leader = Pid::from_raw(leader.cast_signed()).expect("a child has a number");
        groups().push(leader);
        Group(leader)
    }

    fn kill(&self) {
        kill_group(self.0);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        groups().retain(|group| *group != self.0);
    }
}

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kill_group(leader: Pid) {
    // Nobody left is the usual case.
    let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
}

/// The program has a process group of its own, so the terminal's Ctrl-C reaches only us.
fn end_with_a_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        let code = tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        };
        groups().iter().for_each(|group| kill_group(*group));
        std::process::exit(code);
    });
}

/// Finds suites and counts in the output of `cargo test` or pytest.
struct Counter {
    /// What the whole program is called; its only suite, if its output names none.
    program: String,
    start: Instant,
    suites: Vec<Suite>,
    current: Option<Running>,
}

struct Running {
    name: String,
    start: Instant,
    counts: Option<(u64, u64)>,
}

impl Counter {
    fn new(program: &str) -> Counter {
        Counter { program: program.into(), start: Instant::now(), suites: Vec::new(), current: None }
    }

    fn line(&mut self, line: &str) {
        if let Some(name) = suite_name(line) {
            self.close();
            self.current = Some(Running { name, start: Instant::now(), counts: None });
        } else if let Some((passed, failed)) = counts(line) {
            let (program, start) = (&self.program, self.start);
            let running = self.current.get_or_insert_with(|| Running { name: program.clone(), start, counts: None });
            let (sum_passed, sum_failed) = running.counts.unwrap_or((0, 0));
            running.counts = Some((sum_passed + passed, sum_failed + failed));
        }
    }

    fn close(&mut self) {
        let Some(Running { name, start, counts }) = self.current.take() else { return };
        // A suite that began and never counted has crashed.
        let (passed, failed) = counts.unwrap_or((0, 1));
        if passed + failed > 0 {
            self.suites.push(Suite { name, took: start.elapsed(), passed, failed });
        }
    }

    fn finish(mut self, success: bool) -> Vec<Suite> {
        self.close();
        if !success && self.suites.iter().all(|suite| suite.failed == 0) {
            let name = format!("{} (did not run to its end)", self.program);
            self.suites.push(Suite { name, took: self.start.elapsed(), passed: 0, failed: 1 });
        }
        self.suites
    }
}

/// `     Running tests/proxy.rs (…/deps/proxy-0361)`, `   Doc-tests testkit`.
fn suite_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(krate) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{krate}: documentation"));
    }
    let (source, program) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let program = program.rsplit('/').next()?.rsplit_once('-')?.0;
    Some(if source.starts_with("unittests") { format!("{program}: unit") } else { source.to_owned() })
}

/// Passed and failed, from `test result: ok. 17 passed; 0 failed; …` or `==== 3 passed, 1 failed, 2 errors in 1.2s ====`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let text = match line.strip_prefix("test result: ") {
        Some(text) => text,
        None => line.trim_matches('=').trim().rsplit_once(" in ").filter(|(_, time)| time.contains('s'))?.0,
    };
    let (mut passed, mut failed, mut found) = (0, 0, false);
    let words: Vec<&str> = text.split([' ', ',', ';', '.']).filter(|word| !word.is_empty()).collect();
    for pair in words.windows(2) {
        let Ok(count) = pair[0].parse::<u64>() else { continue };
        match pair[1] {
            "passed" => passed += count,
            "failed" | "error" | "errors" => failed += count,
            _ => continue,
        }
        found = true;
    }
    found.then_some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(output: &str, success: bool) -> Vec<(String, u64, u64)> {
        let mut counter = Counter::new("program");
        output.lines().for_each(|line| counter.line(line));
        let suites = counter.finish(success).into_iter();
        suites.map(|suite| (suite.name, suite.passed, suite.failed)).collect()
    }

    #[test]
    fn cargo_test_is_counted_by_binary() {
        let output = "     Running unittests src/lib.rs (/t/debug/deps/tier-c6b9)\n\
                      test result: ok. 17 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                      \x20    Running tests/proxy.rs (/t/debug/deps/proxy-0361)\n\
                      test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n\
                      \x20    Running tests/crash.rs (/t/debug/deps/crash-0361)\n\
                      \x20  Doc-tests tier\n\
                      test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        let expected = [("tier: unit", 17, 0), ("tests/proxy.rs", 3, 2), ("tests/crash.rs", 0, 1)];
        assert_eq!(count(output, false), expected.map(|(name, passed, failed)| (name.to_owned(), passed, failed)));
    }

    #[test]
    fn pytest_is_counted_as_a_whole() {
        let failed = "tests/a.py ..F\n==== 3 passed, 1 failed, 2 errors, 1 warning in 1.20s ====";
        assert_eq!(count(failed, false), [("program".to_owned(), 3, 3)]);
        assert_eq!(count("12 passed in 0.10s", true), [("program".to_owned(), 12, 0)]);
        assert_eq!(count("", true), []);
    }

    #[test]
    fn several_binaries_make_one_suite_if_they_are_to() {
        // Not by a program that prints such lines: whoever runs these tests counts them, too.
        let suite = |name: &str, passed, failed| Suite { name: name.into(), took: Duration::ZERO, passed, failed };
        let mut report = Report { suites: vec![suite("before", 1, 1), suite("a", 3, 1), suite("b", 3, 0)] };
        report.sum_up("all", 1, Duration::ZERO);
        assert_eq!(report.suites, [suite("before", 1, 1), suite("all", 6, 1)]);
    }

    #[test]
    fn what_does_not_come_to_its_end_has_failed() {
        let suites = count("error: could not compile `tier`\n", false);
        assert_eq!(suites, [("program (did not run to its end)".to_owned(), 0, 1)]);
    }

    #[test]
    fn a_compiler_that_breaks_is_run_again_without_what_it_kept() {
        let target = tempfile::tempdir().unwrap();
        let kept = target.path().join("debug/incremental/krate");
        std::fs::create_dir_all(&kept).unwrap();
        let mut command = Command::new("sh");
        // Not in the compiler's own words: whoever runs these tests looks for them.
        command.args(["-c", "[ ! -e \"$0\" ] || { echo 'it broke: evaluate'; exit 101; }"]).arg(&kept);
        let (mut lines, limit) = (Vec::new(), Duration::from_secs(60));
        let status = run_in(command, limit, |line| lines.push(line.to_owned()), target.path(), "it broke").unwrap();
        assert!(status.success());
        assert_eq!(lines, ["it broke: evaluate"]);
        assert!(!kept.exists());
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_all_it_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "tail -f /dev/null & echo $!; tail -f /dev/null"]);
        let mut pid = String::new();
        let status = run(command, Duration::from_millis(300), |line| pid.push_str(line)).unwrap();
        assert!(!status.success());
        let stat = format!("/proc/{pid}/stat");
        let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        testkit::eventually(Duration::from_secs(5), gone);
    }
}
