//! `fsadmin report metadata`: figures of a real master, and how fresh they are.

use super::support::Local;
use super::{refused, said};
use std::time::Duration;
use testkit::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_report_on_metadata_follows_what_there_is_and_says_of_when_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    let local = Local::start_with(&dir.path().join("goosefs"), &["goosefs.master.metadata.walk.interval=100ms"]);
    for number in 0..30 {
        said(&local, home, &["fs", "mkdir", &format!("/many/d{number}")]);
    }
    for name in ["/a", "/b", "/many/d7/c"] {
        said(&local, home, &["fs", "touch", name]);
    }
    let report = || -> serde_json::Value {
        let text = said(&local, home, &["fsadmin", "report", "metadata", "--json"]);
        serde_json::from_str(&text).expect("one document")
    };
    eventually(PATIENCE, || report()["census"]["files"] == 3);
    let report = report();
    let census = &report["census"];
    // /, /many, and what is in it.
    assert_eq!((&census["directories"], &report["inodes"]), (&32.into(), &35.into()));
    assert_eq!(census["largest"][0], serde_json::json!({ "path": "/many", "entries": 30 }));
    let young = &census["ages"][0];
    assert_eq!((&young["belowDays"], &young["files"]), (&1.into(), &3.into()));
    assert!(census["endedMs"].as_i64() >= census["beganMs"].as_i64());
    let edges = report["families"].as_array().expect("a list").iter().find(|family| family["name"] == "edges");
    assert!(edges.is_some_and(|edges| edges["keys"].as_u64() >= Some(35)), "{report}");
    assert!(
        report["caches"].as_array().is_some_and(|caches| caches.iter().any(|kind| kind["hits"].as_u64() > Some(0)))
    );

    let shown = said(&local, home, &["fsadmin", "report", "metadata"]);
    for words in ["    Files: 3\n", "    Figures Of Files: as of ", "    30  /many\n", "    Stalls: none\n"] {
        assert!(shown.contains(words), "{words:?} is missing from: {shown}");
    }
    let why = refused(&local, home, &["-Dgoosefs.security.login.username=stranger", "fsadmin", "report", "metadata"]);
    assert!(why.contains("have the metadata reported on"), "{why}");
}
