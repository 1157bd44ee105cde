//! Commands end to end: the program of a user against a cluster of real processes.

mod copy;
mod doctor;
mod du;
mod expiry;
mod fsck;
mod many;
mod metastore;
mod read_journal;
mod report;
#[path = "../cluster/support.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::Local;

/// A command as a user with this home calls it.
fn goosefs(local: &Local, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goosefs"));
    command.env_clear().env("HOME", home).current_dir(home).args(definitions(local)).args(args);
    command
}

fn definitions(local: &Local) -> [String; 2] {
    [
        format!("-Dgoosefs.master.rpc.addresses={}", local.master_addr()),
        "-Dgoosefs.security.login.username=root".to_owned(),
    ]
}

fn run(local: &Local, home: &Path, args: &[&str]) -> Output {
    goosefs(local, home, args).output().expect("the program starts")
}

/// Exit code and standard output; a failure of ours would be on standard error.
#[track_caller]
fn answer(local: &Local, home: &Path, args: &[&str]) -> (i32, String) {
    let output = run(local, home, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.is_empty(), "{args:?}: {said}");
    (output.status.code().expect("it ends by itself"), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Standard output of a command that succeeds.
#[track_caller]
fn said(local: &Local, home: &Path, args: &[&str]) -> String {
    let (code, text) = answer(local, home, args);
    assert_eq!(code, 0, "{args:?}: {text}");
    text
}

/// The one sentence of a command that fails.
#[track_caller]
fn refused(local: &Local, home: &Path, args: &[&str]) -> String {
    let output = run(local, home, args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    assert_eq!(text.lines().count(), 1, "one sentence: {text}");
    text
}

/// The number behind `"name":` in a JSON document.
#[track_caller]
fn number(json: &str, name: &str) -> u64 {
    let behind = json.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("{name} is in {json}"));
    let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
    behind[..end].parse().unwrap_or_else(|_| panic!("{name} is a number in {json}"))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(future)
}
