//! Data directories that cannot be used: foreign, damaged, newer than the program, in use, not writable. Each is refused by
//! one sentence and left as it was.

use super::{goes_on, local_refusal, program, read, refusal, says, sentence, write};
use crate::support::Local;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use types::WriteType;

/// The only file of `dir` whose name begins and ends so.
fn only(dir: &Path, begin: &str, end: &str) -> PathBuf {
    let entries = fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path());
    let name = |path: &Path| path.file_name().expect("it has one").to_string_lossy().into_owned();
    let mut found = entries.filter(|path| name(path).starts_with(begin) && name(path).ends_with(end));
    let one = found.next().unwrap_or_else(|| panic!("{begin}…{end} is in {}", dir.display()));
    assert!(found.next().is_none(), "one {begin}…{end} in {}", dir.display());
    one
}

/// Two clusters that were stopped, each with a file in its cache alone.
struct Clusters {
    dir: tempfile::TempDir,
}

impl Clusters {
    fn new() -> Clusters {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["ours", "theirs"] {
            let mut local = Local::start(&dir.path().join(name));
            super::block_on(async {
                let fs = local.client().await;
                write(&fs, "/kept", name.as_bytes(), WriteType::MustCache).await.expect("written");
            });
            local.stop();
        }
        Clusters { dir }
    }

    fn state(&self, cluster: &str) -> PathBuf {
        self.dir.path().join(cluster).join("state")
    }

    /// A start with `file` spoilt is refused with all of `words`; then the file is as it was.
    #[track_caller]
    fn refuses(&self, file: &Path, spoil: impl FnOnce(&mut Vec<u8>), words: &[&str]) {
        let whole = fs::read(file).expect("readable");
        let mut bytes = whole.clone();
        spoil(&mut bytes);
        fs::write(file, &bytes).expect("written");
        let said = local_refusal(&self.state("ours"), &[]);
        says(&said, words);
        assert!(fs::read(file).expect("readable") == bytes, "{} is left as it was", file.display());
        fs::write(file, whole).expect("written");
    }

    /// A start with directory `name` of the other cluster in place of our own is refused with all of `words`.
    #[track_caller]
    fn refuses_theirs(&self, name: &str, words: &[&str]) {
        let (ours, theirs, aside) =
            (self.state("ours").join(name), self.state("theirs").join(name), self.state("ours").join("aside"));
        fs::rename(&ours, &aside).expect("moved");
        fs::rename(&theirs, &ours).expect("moved");
        let said = local_refusal(&self.state("ours"), &[]);
        says(&said, words);
        fs::rename(&ours, &theirs).expect("moved");
        fs::rename(&aside, &ours).expect("moved");
    }

    /// Both start, and have what they had.
    fn are_whole(self) {
        for name in ["ours", "theirs"] {
            let mut local = Local::start(&self.dir.path().join(name));
            super::block_on(async {
                assert_eq!(read(&local.client().await, "/kept").await.expect("read"), name.as_bytes());
                goes_on(&local).await;
            });
            local.stop();
        }
    }
}

#[test]
fn a_journal_that_is_damaged_newer_foreign_or_missing_is_refused() {
    let clusters = Clusters::new();
    let journal = clusters.state("ours").join("journal");
    let segment = only(&journal, "segment-", ".log");
    let newer = |bytes: &mut Vec<u8>| {
        bytes[8..12].copy_from_slice(&9_u32.to_le_bytes());
        // Its header is whole, or else the version is what is damaged.
        let sum = crc32c::crc32c(&bytes[..508]).to_le_bytes();
        bytes[508..512].copy_from_slice(&sum);
    };
    clusters.refuses(
        &segment,
        newer,
        &["segment-", "format version 9", "knows versions up to", "start a newer program"],
    );
    let restore = "restore this member from a healthy one or from a backup";
    clusters.refuses(&segment, |bytes| bytes[40] ^= 1, &["is damaged", "checksum of its header is wrong", restore]);
    clusters.refuses(
        &segment,
        |bytes| bytes[..8].fill(0),
        &["is damaged", "does not begin as a journal segment does", restore],
    );
    clusters.refuses(&segment, |bytes| bytes.truncate(100), &["is damaged", "it has only 100 bytes", restore]);
    let first_batch = |bytes: &mut Vec<u8>| bytes[512 + 100] ^= 1;
    clusters.refuses(&segment, first_batch, &["is damaged at byte 512", "nothing was changed", "Restore this member"]);

    // A segment of another cluster beside our own.
    let theirs = only(&clusters.state("theirs").join("journal"), "segment-", ".log");
    let generation = segment.file_name().and_then(|name| name.to_str()).expect("text");
    let generation = u64::from_str_radix(&generation["segment-".len()..][..16], 16).expect("a number");
    let stray = journal.join(format!("segment-{:016x}.log", generation + 1));
    let mut bytes = fs::read(theirs).expect("readable");
    bytes[32..40].copy_from_slice(&(generation + 1).to_le_bytes());
    fs::write(&stray, bytes).expect("written");
    let said = local_refusal(&clusters.state("ours"), &[]);
    says(&said, &[stray.to_str().expect("text")]);
    fs::remove_file(&stray).expect("removed");

    let aside = journal.with_file_name("journal-aside");
    fs::rename(&journal, &aside).expect("moved");
    let said = local_refusal(&clusters.state("ours"), &[]);
    says(
        &said,
        &[journal.to_str().expect("text"), "holds no journal", "goosefs format", "restore the directory from a backup"],
    );
    fs::rename(&aside, &journal).expect("moved");
    clusters.refuses_theirs(
        "journal",
        &["metastore", "belongs to cluster-", "and this is cluster-", "goosefs.master.metastore.dir"],
    );
    clusters.are_whole();
}

#[test]
fn a_metadata_database_that_is_damaged_newer_or_foreign_is_refused() {
    let clusters = Clusters::new();
    let metastore = clusters.state("ours").join("metastore");
    let marker = metastore.join("FORMAT");
    let newer =
        |bytes: &mut Vec<u8>| *bytes = String::from_utf8_lossy(bytes).replace("format 1", "format 9").into_bytes();
    clusters.refuses(&marker, newer, &["it has format 9", "reads up to 1", "start the newer program"]);
    clusters.refuses(&marker, |bytes| bytes.reverse(), &[metastore.to_str().expect("text"), "restore"]);
    clusters.refuses(&marker, Vec::clear, &[metastore.to_str().expect("text"), "restore"]);
    clusters.refuses(
        &only(&metastore, "MANIFEST-", ""),
        |bytes| bytes[20] ^= 1,
        &[metastore.to_str().expect("text"), "restore"],
    );
    clusters.refuses(&metastore.join("CURRENT"), Vec::clear, &[metastore.to_str().expect("text"), "restore"]);
    clusters.refuses_theirs(
        "metastore",
        &["metastore", "belongs to cluster-", "and this is cluster-", "goosefs.master.metastore.dir"],
    );
    let elsewhere = clusters.dir.path().join("another store");
    fs::create_dir(&elsewhere).expect("made");
    let elsewhere = elsewhere.to_str().expect("text");
    let said = local_refusal(&clusters.state("ours"), &["--root-ufs", elsewhere]);
    says(
        &said,
        &["state/ufs", elsewhere, "goosefs.master.mount.table.root.ufs", "set it back, or format a new cluster"],
    );
    clusters.are_whole();
}

#[test]
fn a_cache_that_is_damaged_newer_or_foreign_is_refused() {
    let clusters = Clusters::new();
    let identity = clusters.state("ours").join("cache/identity.json");
    let newer = |bytes: &mut Vec<u8>| {
        *bytes = String::from_utf8_lossy(bytes).replace("\"format\": 1", "\"format\": 2").into_bytes()
    };
    clusters.refuses(
        &identity,
        newer,
        &["has format 2", "knows 1", "use the release that wrote it, or empty the directory"],
    );
    clusters.refuses(
        &identity,
        |bytes| bytes.truncate(10),
        &["is damaged", "restore it from another directory of this worker, or empty"],
    );
    clusters.refuses_theirs("cache", &["another cluster", "its own master", "give it empty directories"]);
    clusters.are_whole();
}

#[test]
fn a_key_or_channel_file_that_cannot_be_used_is_refused() {
    let clusters = Clusters::new();
    let key = clusters.state("ours").join("secret.key");
    let shown = key.to_str().expect("text").to_owned();
    clusters.refuses(
        &key,
        |bytes| bytes.truncate(5),
        &[&shown, "copy the file again from a master, whole and unchanged"],
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    says(&local_refusal(&clusters.state("ours"), &[]), &[&shown, "others may read", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");
    let aside = key.with_file_name("aside");
    fs::rename(&key, &aside).expect("moved");
    says(&local_refusal(&clusters.state("ours"), &[]), &[&shown, "does not exist"]);
    fs::rename(&aside, &key).expect("moved");
    for role in ["master", "worker"] {
        let file = clusters.state("ours").join(role).join("channels");
        let stranger = |bytes: &mut Vec<u8>| *bytes = b"something else entirely".to_vec();
        clusters.refuses(
            &file,
            stranger,
            &[file.to_str().expect("text"), "no channel file of this release", "move it away"],
        );
    }
    clusters.are_whole();
}

#[test]
fn directories_in_use_are_refused_and_the_owner_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(dir.path());
    let state = dir.path().join("state");
    says(&local_refusal(&state, &[]), &["journal", "in use by another process", "stop that master first"]);
    let work = format!("-Dgoosefs.work.dir={}", state.display());
    let master = format!("-Dgoosefs.master.internal.rpc.port={}", local.addrs()[2].port());
    let free = ["-Dgoosefs.worker.rpc.port=0", "-Dgoosefs.worker.web.port=0", "-Dgoosefs.master.hostname=127.0.0.1"];
    let args = ["worker", &work, &master].into_iter().chain(free).collect::<Vec<_>>();
    says(&refusal(dir.path(), &args), &["state/cache", "in use by another worker", "give each worker its own"]);
    for how in [&["format"][..], &["formatMaster"], &["formatWorker"]] {
        says(&sentence(program().arg(&work).args(how)), &["cannot format", "is not empty", "--force"]);
    }
    super::block_on(goes_on(&local));
}

/// A program that has no right to anything here: its user is known to nobody, so not even root's rights count.
fn powerless(args: &[&str]) -> String {
    let mut command = Command::new("unshare");
    command.args(["--user", "--", env!("CARGO_BIN_EXE_goosefs")]).args(args);
    let output = command.env_clear().env("HOME", "/nonexistent").output().expect("unshare starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    said.lines().rev().find_map(|line| line.strip_prefix("goosefs: ")).unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_directory_without_permission_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("changed");
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).expect("made");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("changed");
    let below = locked.join("below").to_str().expect("text").to_owned();
    let work = format!("-Dgoosefs.work.dir={}", dir.path().join("work").display());
    let denied = "Permission denied";
    let remedy = "give this user the right to it, or choose a directory you may write to";
    says(&powerless(&["local", "--dir", &below]), &[&below, denied, remedy]);
    for (command, key) in [
        ("formatMaster", "goosefs.master.journal.folder"),
        ("formatMaster", "goosefs.master.metastore.dir"),
        ("formatWorker", "goosefs.worker.tieredstore.level0.dirs.path"),
    ] {
        let told = format!("-D{key}={below}");
        says(&powerless(&[command, &work, &told]), &[&below, denied]);
    }
    says(&powerless(&["master", &work, "--log-dir", &below]), &[&below, denied, remedy]);
    // A file where a directory must be: not even root gets past that.
    let file = dir.path().join("file");
    fs::write(&file, b"a file").expect("written");
    let file = file.to_str().expect("text");
    let remedy = "move it away, or choose another directory";
    says(&local_refusal(Path::new(file), &[]), &[file, remedy]);
    for place in ["journal", "metastore", "cache", "logs", "ufs", "master", "worker"] {
        let state = dir.path().join(format!("with a file as {place}"));
        fs::create_dir(&state).expect("made");
        fs::write(state.join(place), b"a file").expect("written");
        says(&local_refusal(&state, &[]), &[state.join(place).to_str().expect("text"), remedy]);
        fs::remove_file(state.join(place)).expect("removed");
    }
}

#[test]
fn a_read_only_disk_is_named() {
    testkit::mounts::own("directories::a_read_only_disk_is_named", || {
        let dir = tempfile::tempdir().expect("a directory");
        testkit::mounts::in_memory(dir.path(), 256);
        let mut local = Local::start_with(dir.path(), &["goosefs.master.journal.log.size.bytes.max=1MB"]);
        super::block_on(goes_on(&local));
        local.stop();
        let remount = |how: &str| {
            let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(dir.path()).status();
            assert!(status.expect("mount starts").success());
        };
        remount("ro");
        let said = local_refusal(&dir.path().join("state"), &[]);
        says(&said, &[dir.path().join("state").to_str().expect("text"), "Read-only file system"]);
        remount("rw");
        local.restart();
        super::block_on(goes_on(&local));
        local.stop();
    });
}
