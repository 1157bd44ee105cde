//! `fsadmin doctor`: a healthy cluster in one sentence, an ill one by what is wrong with it.

use super::support::{BUCKET, Bucket, Local};
use super::{answer, block_on, number, refused, said};

#[test]
fn a_healthy_cluster_is_one_sentence_and_lost_storage_is_shown_by_worker() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    let healthy = Local::start(&dir.path().join("healthy"));
    let shown = said(&healthy, home, &["fsadmin", "doctor"]);
    assert!(shown.starts_with("Nothing is wrong: ") && shown.lines().count() == 1, "{shown}");
    assert_eq!(
        said(&healthy, home, &["fsadmin", "doctor", "storage", "--json"]),
        "{\"healthy\":true,\"storage\":[]}\n"
    );

    said(&healthy, home, &["fs", "mkdir", "/made"]);
    for audit in [&["fsadmin", "doctor", "metadata"][..], &["fsadmin", "doctor", "metadata", "--repair"]] {
        assert_eq!(said(&healthy, home, audit), "Nothing is wrong: the records of the metadata fit together.\n");
    }
    let shown = said(&healthy, home, &["fsadmin", "doctor", "metadata", "--json"]);
    assert!(number(&shown, "records") >= 6 && number(&shown, "wrongCount") == 0, "{shown}");
    let why = refused(&healthy, home, &["fsadmin", "doctor", "--repair"]);
    assert!(why.contains("--repair belongs to the category metadata"), "{why}");
    let stranger = ["-Dgoosefs.security.login.username=stranger", "fsadmin", "doctor", "metadata"];
    let why = refused(&healthy, home, &stranger);
    assert!(why.contains("have the metadata audited"), "{why}");

    // A second tier whose directory lies below a file.
    std::fs::write(dir.path().join("disk"), b"no directory").expect("written");
    let lost = dir.path().join("disk/cache");
    let (lost, level) = (lost.to_str().expect("a plain name"), "goosefs.worker.tieredstore.level1.dirs.path");
    let tiers = ["goosefs.worker.tieredstore.levels=2".to_owned(), format!("{level}={lost}")];
    let ill = Local::start_with(&dir.path().join("ill"), &tiers.each_ref().map(String::as_str));
    for category in [&["fsadmin", "doctor"][..], &["fsadmin", "doctor", "storage"]] {
        let (code, shown) = answer(&ill, home, category);
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains(&format!("    {}\n        {lost} (", ill.worker_addr())), "{shown}");
    }
    let (code, shown) = answer(&ill, home, &["fsadmin", "doctor", "storage", "--json"]);
    assert!(code == 1 && shown.starts_with("{\"healthy\":false") && shown.contains(lost), "{shown}");
    assert_eq!(answer(&ill, home, &["fsadmin", "doctor", "keys"]).0, 0, "its keys are well");
}

#[test]
fn keys_that_cannot_be_paths_are_listed_until_their_objects_have_other_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    let bucket = Bucket::start(&dir.path().join("s3"));
    let keys = ["good", "tree/below", "tree/./dot", "tree/sub//x", "a//b"];
    for key in keys {
        bucket.store.put(BUCKET, key, b"x").expect("put");
    }
    let local = Local::start(&dir.path().join("goosefs"));
    block_on(async { local.client().await.create_namespace(bucket.namespace("lake")).await }).expect("made");
    for directory in ["/lake", "/lake/tree", "/lake/tree/sub", "/lake/a"] {
        said(&local, home, &["fs", "ls", directory]);
    }
    let (code, shown) = answer(&local, home, &["fsadmin", "doctor"]);
    assert_eq!(code, 1, "{shown}");
    for words in ["/lake (s3://bucket", "in /lake/tree: 1\n", "in /lake/tree/sub: 1\n", "tree/./", "is not allowed"] {
        assert!(shown.contains(words), "{words:?} is missing from: {shown}");
    }
    let (_, shown) = answer(&local, home, &["fsadmin", "doctor", "keys", "--json"]);
    assert_eq!(number(&shown, "forgotten"), 0);
    assert!(shown.contains("\"mount\":\"/lake\"") && shown.contains("tree/sub//"), "{shown}");

    let stranger = ["-Dgoosefs.security.login.username=stranger", "fsadmin", "doctor", "keys"];
    let why = refused(&local, home, &stranger);
    assert!(why.contains("skipped store keys"), "{why}");

    for key in ["tree/./dot", "tree/sub//x", "a//b"] {
        bucket.store.delete(BUCKET, key).expect("deleted");
    }
    for directory in ["/lake", "/lake/tree"] {
        said(&local, home, &["fs", "ls", "-f", directory]);
    }
    assert_eq!(answer(&local, home, &["fsadmin", "doctor", "keys"]).0, 0);
}
