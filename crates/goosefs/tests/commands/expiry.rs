//! Metadata that nobody uses go, and come back when somebody asks.

use super::support::{BUCKET, Bucket, Local};
use super::{block_on, number, said};
use std::time::Duration;
use testkit::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn unused_files_of_a_store_are_forgotten_and_read_again_and_cached_ones_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    let bucket = Bucket::start(&dir.path().join("s3"));
    for key in ["a", "sub/b", "changed"] {
        bucket.store.put(BUCKET, key, b"of the store").expect("put");
    }
    let settings = ["goosefs.master.metadata.walk.interval=50ms", "goosefs.master.metadata.expiry.unused.time=1s"];
    let local = Local::start_with(&dir.path().join("goosefs"), &settings);
    block_on(async { local.client().await.create_namespace(bucket.namespace("lake")).await }).expect("made");
    said(&local, home, &["fs", "ls", "-R", "/lake"]);
    said(&local, home, &["fs", "touch", "/cached"]);
    said(&local, home, &["fs", "chmod", "600", "/lake/changed"]);

    let report = || said(&local, home, &["fsadmin", "report", "metadata", "--json"]);
    // /, /lake, /cached, and what was changed here: its mode is not the store's to give.
    eventually(PATIENCE, || number(&report(), "inodes") == 4);
    assert!(said(&local, home, &["fsadmin", "report", "metrics"]).contains("Master.MetadataExpired  3\n"));
    assert_eq!(said(&local, home, &["fs", "cat", "/lake/sub/b"]), "of the store");
    let listed = said(&local, home, &["fs", "ls", "-R", "/lake"]);
    for name in ["/lake/a\n", "/lake/changed\n", "/lake/sub\n", "/lake/sub/b\n"] {
        assert!(listed.contains(name), "{name:?} is missing from: {listed}");
    }
    assert_eq!(bucket.keys(), ["a", "changed", "sub/b"], "nothing was asked of the store");
}
