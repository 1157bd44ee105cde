//! `readJournal`: the log as JSON lines, beside a running master and from a damaged directory.

use super::support::{BUCKET, Bucket, Local};
use super::{block_on, goosefs, said};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Sector and batch of the log's format.
const SECTOR: u64 = 512;

/// Exit code, lines and words on standard error of a call that needs no cluster.
fn lines(local: &Local, home: &Path, args: &[&str]) -> (i32, Vec<String>, String) {
    let output = goosefs(local, home, args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = text(&output.stdout).lines().map(str::to_owned).collect();
    (output.status.code().expect("it ends by itself"), shown, text(&output.stderr))
}

/// Where the cluster of these tests has its log.
fn journal(dir: &Path) -> PathBuf {
    dir.join("goosefs/state/journal")
}

fn value(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn the_log_is_shown_beside_a_running_master_and_damage_by_file_and_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    let mut local = Local::start(&dir.path().join("goosefs"));
    let journal = journal(home);
    let place = journal.to_str().expect("text");
    for number in 0..20 {
        said(&local, home, &["fs", "mkdir", &format!("/made/d{number}")]);
    }
    let (code, shown, notes) = lines(&local, home, &["readJournal", place]);
    assert!(code == 0 && (notes.is_empty() || notes.contains("is not whole")), "{notes}");
    let entries: Vec<serde_json::Value> = shown.iter().map(|line| value(line)).collect();
    assert_eq!(entries[0]["index"], 1);
    let made = entries.iter().filter(|entry| entry["op"]["CreateDirectory"]["path"] == "/made/d7").collect::<Vec<_>>();
    assert_eq!(made.len(), 1, "{shown:#?}");
    assert_eq!(made[0]["who"]["user"], "root");
    assert_eq!(made[0]["operation"].as_str().map(str::len), Some(32), "{}", made[0]);
    assert!(made[0]["wall"].as_i64().is_some_and(|wall| wall > 1_600_000_000_000), "{}", made[0]);

    let index = made[0]["index"].as_u64().expect("a number");
    let range = [index.to_string(), (index + 1).to_string()];
    let args = ["readJournal", "--batches", "--from", &range[0], "--to", &range[1], place];
    let (_, shown, _) = lines(&local, home, &args);
    let (batches, entries): (Vec<_>, Vec<_>) =
        shown.iter().map(|line| value(line)).partition(|line| line["batch"].is_u64());
    assert_eq!(entries.iter().map(|entry| entry["index"].as_u64()).collect::<Vec<_>>(), [Some(index), Some(index + 1)]);
    assert!(batches.iter().all(|batch| batch["commit"].is_u64() && batch["term"].is_u64()), "{batches:?}");
    said(&local, home, &["fs", "ls", "/made"]);

    local.stop();
    let segment = journal.join("segment-0000000000000001.log");
    let before = std::fs::read(&segment).expect("a segment");
    let file = File::options().write(true).open(&segment).expect("a segment");
    let at = 4 * SECTOR;
    file.write_all_at(&[before[usize::try_from(at).expect("small")] ^ 1], at).expect("damaged");
    let (code, shown, why) = lines(&local, home, &["readJournal", place]);
    assert!(code == 1 && why.lines().count() == 1, "{why}");
    assert!(!shown.is_empty(), "what stands before the damage is shown");
    assert!(why.contains(&format!("{} is damaged: the batch at byte {at} cannot be read", segment.display())), "{why}");
}

#[test]
fn secrets_of_a_mount_are_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(&dir.path().join("goosefs"));
    let bucket = Bucket::start(&dir.path().join("s3"));
    block_on(async { local.client().await.create_namespace(bucket.namespace("lake")).await }).expect("made");
    let (_, shown, _) = lines(&local, dir.path(), &["readJournal", journal(dir.path()).to_str().expect("text")]);
    let mount = shown.iter().find(|line| line.contains("CreateMount")).map(|line| value(line)).expect("it is logged");
    let spec = &mount["op"]["CreateMount"]["spec"];
    assert_eq!(spec["uri"], format!("s3://{BUCKET}"));
    let secrets = spec["secrets"].as_object().expect("they are named");
    assert!(!secrets.is_empty() && secrets.values().all(|value| value == &serde_json::json!([])), "{spec}");
}
