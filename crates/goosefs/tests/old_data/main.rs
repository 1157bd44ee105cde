//! Directories written by earlier releases: masters and a worker of this release start on them and find every file and every
//! block. `fixtures/<release>/<metastore>.tar.gz` holds what `goosefs local` left when it was killed, `GROUP.tar.gz` what
//! three masters and a worker left; CONTRIBUTING.md says when and how others are made.

mod group;
#[path = "../cluster/support.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod support;

use client::{ClientConfig, FileSystem, MakeDirectory, WriteOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::{path, read_all};
use testkit::data::Data;
use testkit::process::{Builder, Process};
use types::{Mode, WriteType};

/// Set to a release: its fixtures are made, by the program that [`PROGRAM`] names, else by this one.
const MAKE: &str = "GOOSEFS_MAKE_FIXTURE";
const PROGRAM: &str = "GOOSEFS_FIXTURE_PROGRAM";
const START: Duration = Duration::from_secs(90);
const METASTORES: [&str; 2] = ["ROCKS", "HEAP"];
/// Longer than a piece, so that a block has two.
const LONG: usize = 70_000;
/// Renamed at the end of the history that is kept.
const MOVED: (&str, &str) = ("/work/moved", "/work/there");

/// A file of the history: where, how written, how long.
type Written = (String, WriteType, usize);

/// Every file of the history.
///
/// - `longest`: of each kind of write.
/// - `keeps_store`: the under store is kept too, with what lies there alone.
fn files(longest: [usize; 3], keeps_store: bool) -> Vec<Written> {
    let kinds = [WriteType::MustCache, WriteType::CacheThrough, WriteType::Through];
    let mut files = Vec::new();
    for (number, (kind, longest)) in kinds.into_iter().zip(longest).enumerate() {
        for (name, length) in [("empty", 0), ("byte", 1), ("long", longest)] {
            if keeps_store || kind != WriteType::Through || length == 0 {
                files.push((format!("/work/k{number}/{name}"), kind, length));
            }
        }
    }
    files.push((MOVED.0.to_owned(), WriteType::MustCache, 5_000));
    files
}

/// Of a cluster whose store is gone with its process.
fn local_files() -> Vec<Written> {
    files([LONG; 3], false)
}

fn seed(path: &str) -> u64 {
    path.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// One `goosefs local`, its state at `dir`, its stores in memory.
fn start(program: &Path, logs: &Path, dir: &Path, metastore: &str) -> (Process, u16) {
    let ports = testkit::ports::free_ports(5).expect("free ports");
    let settings = [
        "-Dgoosefs.master.journal.log.size.bytes.max=256KB".to_owned(),
        "-Dgoosefs.master.journal.checkpoint.period.entries=40".to_owned(),
        format!("-Dgoosefs.master.metastore={metastore}"),
    ];
    let process = Builder::new(program, logs)
        .args(["local", "--root-ufs", "mem://root", "--dir"])
        .arg(dir)
        .args(testkit::ports::options(&ports))
        .args(settings)
        .spawn()
        .expect("the program starts");
    process.wait_for_http(([127, 0, 0, 1], ports[1]).into(), "/readyz", START).expect("it becomes ready");
    (process, ports[0])
}

async fn connect(port: u16) -> FileSystem {
    let masters = vec![("127.0.0.1".to_owned(), port)];
    let config = ClientConfig { masters, user: "root".into(), replicas: 1, replicas_min: 1, ..ClientConfig::default() };
    FileSystem::connect(config).await.expect("the master answers")
}

async fn make_directory(fs: &FileSystem, at: &str) {
    let how = MakeDirectory { recursive: true, allow_exists: false, mode: Mode::new(0o755) };
    fs.make_directory(&path(at), how).await.expect("made");
}

async fn write(fs: &FileSystem, files: &[Written]) {
    for number in 0..30 {
        make_directory(fs, &format!("/made/d{number}")).await;
    }
    for (at, kind, length) in files {
        let options = WriteOptions { write_type: Some(*kind), recursive: true, ..WriteOptions::default() };
        let mut writer = fs.create(&path(at), options).await.expect("created");
        writer.write(&Data::new(seed(at)).bytes(0, *length)).await.expect("written");
        writer.close().await.expect("closed");
    }
    fs.rename(&path(MOVED.0), &path(MOVED.1)).await.expect("renamed");
}

async fn check(fs: &FileSystem, files: &[Written]) {
    assert_eq!(fs.list_all(&path("/made")).await.expect("listed").len(), 30);
    for (at, _, length) in files {
        let now = if at == MOVED.0 { MOVED.1 } else { at };
        let status = fs.status(&path(now)).await.unwrap_or_else(|why| panic!("{now}: {why}"));
        assert_eq!((status.length, status.completed), (u64::try_from(*length).expect("small"), true), "{now}");
        let content = read_all(fs, &path(now)).await.unwrap_or_else(|why| panic!("{now}: {why}"));
        assert!(content == Data::new(seed(at)).bytes(0, *length), "{now} holds what was written");
    }
    assert!(fs.find(&path(MOVED.0)).await.expect("answered").is_none(), "it was renamed");
}

/// It is not only for reading.
async fn write_more(fs: &FileSystem) {
    make_directory(fs, "/made/later").await;
    assert_eq!(fs.list_all(&path("/made")).await.expect("listed").len(), 31);
}

/// The program that makes fixtures.
fn maker() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| env!("CARGO_BIN_EXE_goosefs").into(), PathBuf::from)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[track_caller]
fn tar(arguments: &[&str], archive: &Path, dir: &Path) {
    let status = Command::new("tar").args(arguments).arg(archive).arg("-C").arg(dir).arg(".").status();
    assert!(status.expect("tar starts").success(), "tar {}", archive.display());
}

/// Makes the fixtures of a release.
fn make(release: &str) {
    let program = maker();
    let target = fixtures().join(release);
    std::fs::create_dir_all(&target).expect("made");
    for metastore in METASTORES {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        // The first release did not make it for HEAP.
        std::fs::create_dir_all(state.join("metastore")).expect("made");
        let (process, port) = start(&program, dir.path(), &state, metastore);
        tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(async { write(&connect(port).await, &local_files()).await });
        process.kill9().expect("it can be killed");
        std::fs::remove_dir_all(state.join("logs")).expect("the log is no data");
        tar(&["--owner=0", "--group=0", "--sparse", "-czf"], &target.join(format!("{metastore}.tar.gz")), &state);
    }
}

#[test]
fn directories_of_every_earlier_release_open_with_every_file_and_block() {
    if let Ok(release) = std::env::var(MAKE) {
        return make(&release);
    }
    let releases = std::fs::read_dir(fixtures()).expect("fixtures").map(|entry| entry.expect("readable").path());
    let mut opened = 0;
    for release in releases {
        for metastore in METASTORES {
            let archive = release.join(format!("{metastore}.tar.gz"));
            if !archive.exists() {
                continue;
            }
            let dir = tempfile::tempdir().expect("a directory");
            let state = dir.path().join("state");
            std::fs::create_dir_all(&state).expect("made");
            tar(&["--no-same-owner", "-xzpf"], &archive, &state);
            let (process, port) = start(env!("CARGO_BIN_EXE_goosefs").as_ref(), dir.path(), &state, metastore);
            tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
                let fs = connect(port).await;
                check(&fs, &local_files()).await;
                write_more(&fs).await;
            });
            let status = process.terminate(Duration::from_secs(60)).expect("it stops");
            assert!(status.success(), "a clean stop ends with {status}");
            opened += 1;
        }
    }
    assert!(opened >= METASTORES.len(), "there is at least the first release");
}
