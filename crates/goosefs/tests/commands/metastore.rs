//! `fsadmin metastore`: the database of a serving master is compacted, that of a stopped one repaired.

use super::support::Local;
use super::{answer, number, refused, run, said};
use std::fs;

#[test]
fn a_database_is_compacted_while_it_serves_and_saved_when_its_manifest_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    let mut local = Local::start(&home.join("goosefs"));
    for number in 0..10 {
        said(&local, home, &["fs", "mkdir", &format!("/made/d{number}")]);
    }
    said(&local, home, &["fs", "rm", "-R", "/made/d3"]);
    let shown = said(&local, home, &["fsadmin", "metastore", "compact"]);
    assert!(shown.starts_with("The tables of the metadata database took "), "{shown}");
    assert!(number(&said(&local, home, &["fsadmin", "metastore", "compact", "--json"]), "bytes") > 0);
    let stranger = ["-Dgoosefs.security.login.username=stranger", "fsadmin", "metastore", "compact"];
    let why = refused(&local, home, &stranger);
    assert!(why.contains("have the metadata database compacted"), "{why}");

    let state = home.join("goosefs/state");
    let place = format!("-Dgoosefs.work.dir={}", state.display());
    let repair = [place.as_str(), "fsadmin", "metastore", "repair"];
    let why = refused(&local, home, &repair);
    assert!(why.contains("another process"), "a running master has its database: {why}");
    local.stop();
    let (code, shown) = answer(&local, home, &repair);
    assert!(code == 0 && shown.starts_with("Records saved  "), "nothing was wrong: {shown}");
    assert!(refused(&local, home, &repair).contains("holds what an earlier repair left"));
    let metastore = state.join("metastore");
    fs::remove_dir_all(metastore.join("damaged")).expect("it was left there");

    for file in fs::read_dir(&metastore).expect("list").map(|file| file.expect("list").path()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST")) {
            fs::remove_file(file).expect("remove");
        }
    }
    let told = run(&local, home, &repair);
    let shown = String::from_utf8_lossy(&told.stdout).into_owned();
    let why = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(1), "{shown}{why}");
    assert!(why.contains("MANIFEST"), "RocksDB's own words are passed on: {why}");
    assert!(shown.contains("The manifest was of no use") && !shown.contains("Wrong: "), "{shown}");
    local.restart();
    let shown = said(&local, home, &["fs", "ls", "/made"]);
    assert!(shown.contains("/made/d9") && !shown.contains("/made/d3"), "{shown}");
}
