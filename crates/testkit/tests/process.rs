//! Child processes: output, signals, ends.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use testkit::process::{Builder, Process, ProcessError};
use testkit::{eventually, netns};

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str) -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Builder::new("sh", dir.path()).arg("-c").arg(script).spawn().unwrap(), dir)
}

fn state(process: &Process) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

#[test]
fn a_line_of_output_is_found() {
    let (process, _dir) = shell("echo starting; echo 'listening on 4711' >&2; exec tail -f /dev/null");
    assert_eq!(process.wait_for_line("listening", LONG).unwrap(), "listening on 4711");
    assert_eq!(process.kill9().unwrap().signal(), Some(9));
}

#[test]
fn a_process_that_ends_first_is_reported_with_its_output() {
    let (process, _dir) = shell("echo the disk is on fire; exit 3");
    let error = process.wait_for_line("ready", LONG).unwrap_err();
    assert!(matches!(&error, ProcessError::Exited { status, .. } if status.code() == Some(3)), "{error}");
    assert!(error.to_string().contains("the disk is on fire"), "{error}");
}

#[test]
fn term_is_graceful_and_stop_freezes() {
    let (process, _dir) = shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done");
    process.wait_for_line("up", LONG).unwrap();
    process.pause().unwrap();
    eventually(LONG, || state(&process) == Some('T'));
    process.resume().unwrap();
    assert_eq!(process.terminate(LONG).unwrap().code(), Some(7));
    assert!(process.output().contains("bye"));
    assert!(matches!(process.pause(), Err(ProcessError::Signal { .. })), "it is gone");
}

#[test]
fn a_dropped_handle_leaves_nothing() {
    let (process, _dir) = shell("exec tail -f /dev/null");
    let pid = process.pid();
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_child_outlives_the_thread_that_started_it() {
    let (process, _dir) = std::thread::spawn(|| shell("echo up; exec tail -f /dev/null")).join().unwrap();
    process.wait_for_line("up", LONG).unwrap();
    assert!(process.exit_status().unwrap().is_none());
}

#[test]
fn a_child_starts_in_the_network_of_its_starter() {
    if !netns::available() {
        return; // without privilege there is nothing to test
    }
    let outside = std::fs::read_link("/proc/self/ns/net").unwrap();
    let link = |process: &Process| std::fs::read_link(format!("/proc/{}/ns/net", process.pid())).unwrap();
    let inside = netns::isolated(|| {
        let (process, _dir) = shell("echo up; exec tail -f /dev/null");
        process.wait_for_line("up", LONG).unwrap();
        link(&process)
    });
    assert_ne!(inside.unwrap(), outside);
    let (process, _dir) = shell("echo up; exec tail -f /dev/null");
    process.wait_for_line("up", LONG).unwrap();
    assert_eq!(link(&process), outside);
}
