//! `fsck --offline`: refused beside a master, one sentence of a healthy one, and what is wrong by kind.

use super::support::Local;
use super::{goosefs, said};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

fn fsck(local: &Local, home: &Path, args: &[&str]) -> (i32, String, String) {
    let work = format!("-Dgoosefs.work.dir={}", home.join("goosefs/state").display());
    let args: Vec<&str> = [&["fsck"][..], args, &[&work]].concat();
    let output = goosefs(local, home, &args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it ends by itself"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_stopped_master_is_looked_through_and_a_running_one_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    let mut local = Local::start(&dir.path().join("goosefs"));
    for number in 0..20 {
        said(&local, home, &["fs", "mkdir", &format!("/made/d{number}")]);
    }
    let (code, shown, why) = fsck(&local, home, &["--offline", "--repair", "--force"]);
    assert_eq!((code, shown.as_str()), (1, ""));
    assert!(why.contains("another process holds its lock; stop that master"), "{why}");
    let (code, _, why) = fsck(&local, home, &[]);
    assert!(code == 2 && why.contains("--offline"), "{why}");

    local.stop();
    let (code, shown, why) = fsck(&local, home, &["--offline"]);
    assert_eq!((code, why.as_str()), (0, ""), "{shown}");
    assert!(shown.starts_with("cluster-") && shown.contains("\nNothing is wrong with "), "{shown}");
    let (code, shown, _) = fsck(&local, home, &["--offline", "--repair", "--json"]);
    let summary: serde_json::Value = serde_json::from_str(shown.trim_end()).expect("one document");
    assert_eq!((code, &summary["healthy"], &summary["repaired"]), (0, &true.into(), &0.into()));
    assert!(summary["records"].as_u64().is_some_and(|records| records > 60), "{summary}");

    let segment = home.join("goosefs/state/journal/segment-0000000000000001.log");
    let file = File::options().read(true).write(true).open(&segment).expect("a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 2048).expect("read");
    file.write_all_at(&[byte[0] ^ 1], 2048).expect("damaged");
    let (code, shown, _) = fsck(&local, home, &["--offline"]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("journal-unreadable: ") && shown.contains("batch at byte 2048"), "{shown}");
    let (_, shown, _) = fsck(&local, home, &["--offline", "--json"]);
    assert!(shown.starts_with("{\"advice\":") && shown.contains("\"kind\":\"journal-unreadable\""), "{shown}");
}
