//! Bad input, one test per kind, through the real program: the sentence says what, where, why and what to do, nothing
//! panics, and the service goes on.

mod calls;
mod directories;
mod full;
mod names;
mod ports;
mod stores;
#[allow(dead_code)] // the program it belongs to uses all of it
#[path = "../cluster/support.rs"]
mod support;

use client::{FileSystem, Remove, WriteOptions};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{Local, path, read_all};
use testkit::process::Builder;
use types::WriteType;

/// How long a program that refuses may take to end on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, told nothing by the machine it runs on.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goosefs"));
    command
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("TZ", "UTC")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Runs a command to its end: its exit code and what it said on standard error.
fn run(command: &mut Command) -> (i32, String) {
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.stdout.is_empty(), "a refusal goes to standard error: {}", String::from_utf8_lossy(&output.stdout));
    (output.status.code().unwrap_or_else(|| panic!("it ends by itself: {said}")), said)
}

/// The one sentence of a command that failed.
fn sentence(command: &mut Command) -> String {
    let (code, said) = run(command);
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    said.strip_prefix("goosefs: ").unwrap_or_else(|| panic!("it says who speaks: {said}")).trim_end().to_owned()
}

/// Starts a server that must refuse to start; its last sentence.
fn refusal(logs: &Path, args: &[&str]) -> String {
    let process = Builder::new(env!("CARGO_BIN_EXE_goosefs"), logs).args(args).spawn().expect("the program starts");
    let status = process.wait_exit(PATIENCE).expect("it does not start");
    let said = process.output();
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(status.code(), Some(1), "{said}");
    let last = said.lines().rev().find_map(|line| line.strip_prefix("goosefs: "));
    last.unwrap_or_else(|| panic!("its last words are for a person: {said}")).to_owned()
}

/// `goosefs local` on free ports.
fn local_args(state: &Path) -> Vec<String> {
    let ports = testkit::ports::free_ports(5).expect("free ports");
    ["local".to_owned(), "--dir".to_owned(), state.to_str().expect("text").to_owned()]
        .into_iter()
        .chain(testkit::ports::options(&ports))
        .collect()
}

/// As [`refusal`], of `goosefs local` with its state at `state`.
fn local_refusal(state: &Path, more: &[&str]) -> String {
    let logs = tempfile::tempdir().expect("a directory");
    let args = local_args(state);
    refusal(logs.path(), &args.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
}

/// All of `words` are there, so that somebody who reads it knows what to do.
#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing from: {text}");
    }
}

async fn write(fs: &FileSystem, at: &str, bytes: &[u8], write_type: WriteType) -> client::Result<()> {
    let options = WriteOptions { write_type: Some(write_type), ..WriteOptions::default() };
    let mut writer = fs.create(&path(at), options).await?;
    writer.write(bytes).await?;
    writer.close().await
}

async fn read(fs: &FileSystem, at: &str) -> client::Result<Vec<u8>> {
    read_all(fs, &path(at)).await
}

/// The service goes on: a new client writes, reads and removes, and nothing has panicked.
async fn goes_on(local: &Local) {
    let fs = local.client().await;
    write(&fs, "/goes-on", b"it does", WriteType::CacheThrough).await.expect("written");
    assert_eq!(read(&fs, "/goes-on").await.expect("read"), b"it does");
    fs.remove(&path("/goes-on"), Remove::default()).await.expect("removed");
    let said = local.output();
    assert!(!said.contains("panicked"), "{said}");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(future)
}
