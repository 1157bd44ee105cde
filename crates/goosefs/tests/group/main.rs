//! Three masters as real processes: elections, troubles under load, official clients, refusals.

mod backup;
#[path = "../cluster/support.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod cluster;
mod disk_reads;
mod disks;
mod members;
mod page;
mod reads;
mod support;
mod troubles;
mod unfinished;

use client::{FileSystem, MakeDirectory, WriteOptions};
use goosefs_sdk::client::WorkerManagerClient;
use goosefs_sdk::config::GoosefsConfig;
use goosefs_sdk::fs::BaseFileSystem;
use goosefs_sdk::io::{GoosefsFileReader, GoosefsFileWriter};
use goosefs_sdk::proto::grpc::file::{CreateFilePOptions, WritePType};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::{Group, MASTERS, PATIENCE};
use testkit::data::Data;
use types::{ErrorKind, GfsPath, Mode, WriteType};

/// Calls an official client gives up around one trouble at most: it goes on with the broken connection for a few.
const GIVEN_UP: usize = 8;
const FILE_BYTES: usize = 100_000;

fn path(text: &str) -> GfsPath {
    GfsPath::parse(text).expect("a path")
}

fn content(seed: u64) -> Vec<u8> {
    Data::new(seed).bytes(0, FILE_BYTES).to_vec()
}

async fn official(group: &Group) -> Arc<BaseFileSystem> {
    let masters: Vec<String> = group.rpc_addrs().iter().map(ToString::to_string).collect();
    let properties = format!(
        "goosefs.master.rpc.addresses={}\n\
         goosefs.security.authentication.type=SIMPLE\n\
         goosefs.security.login.username=root\n\
         goosefs.user.file.replication.durable=1\n\
         goosefs.user.file.replication.durable.min=1\n",
        masters.join(",")
    );
    BaseFileSystem::connect(GoosefsConfig::from_properties_str(&properties))
        .await
        .expect("the official client connects")
}

/// What an official client calls a connection that broke: under a call, before it, or while its answer was read.
fn was_given_up(error: &str) -> bool {
    ["transport error", "transport::Error", "hyper::Error"].iter().any(|words| error.contains(words))
}

/// False: the client gave up a call that was on the wire when its master died. It repeats what is UNAVAILABLE, but not what
/// its own connection calls a transport error.
async fn write(fs: &BaseFileSystem, path: &str, data: &[u8], write_type: WritePType) -> bool {
    let options = Some(CreateFilePOptions { write_type: Some(write_type as i32), ..CreateFilePOptions::default() });
    let context = fs.context().clone();
    match GoosefsFileWriter::write_file_with_context_and_options(context, path, data, options).await {
        Ok(written) => assert_eq!(written, data.len() as u64),
        Err(err) if was_given_up(&err.to_string()) => return false,
        Err(err) => panic!("{path} is written: {err}"),
    }
    true
}

/// Reads a file; again when the client gave up a call as above.
async fn read(fs: &BaseFileSystem, path: &str) -> Vec<u8> {
    for _ in 0..GIVEN_UP {
        match GoosefsFileReader::read_file_with_context(fs.context().clone(), path).await {
            Ok(bytes) => return bytes.to_vec(),
            Err(err) if was_given_up(&err.to_string()) => {}
            Err(err) => panic!("{path} is read: {err}"),
        }
    }
    panic!("{path} is read: given up {GIVEN_UP} times");
}

/// An official client that writes files and reads each again, until told to stop; the numbers of those acknowledged, and
/// how many it gave up.
async fn write_and_read(fs: Arc<BaseFileSystem>, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> (Vec<u64>, usize) {
    let (mut acknowledged, mut given_up) = (Vec::new(), 0);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (name, data) = (format!("/official/f{number}"), content(number));
        let kind = if number.is_multiple_of(2) { WritePType::MustCache } else { WritePType::CacheThrough };
        if write(&fs, &name, &data, kind).await {
            assert!(read(&fs, &name).await == data, "{name}");
            acknowledged.push(number);
            done.fetch_add(1, Ordering::Relaxed);
        } else {
            given_up += 1;
        }
    }
    (acknowledged, given_up)
}

/// Our own client makes directories and renames them, each exactly once: a doubled or lost operation is an error here.
async fn make_and_rename(fs: FileSystem, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> u64 {
    let how = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let (made, renamed) = (path(&format!("/own/made{count}")), path(&format!("/own/renamed{count}")));
        fs.make_directory(&made, how).await.unwrap_or_else(|err| panic!("{made} is made once: {err}"));
        fs.rename(&made, &renamed).await.unwrap_or_else(|err| panic!("{made} is renamed once: {err}"));
        count += 1;
        done.store(count, Ordering::Relaxed);
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_go_on_and_the_third_catches_up_from_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::start(dir.path(), &["goosefs.master.journal.checkpoint.period.entries=20"]);
    let leader = group.leader();
    let away = (leader + 1) % MASTERS;
    for n in 0..MASTERS {
        testkit::eventually(PATIENCE, || group.is_ready(n));
    }
    group.kill9(away);
    let fs = FileSystem::connect(group.client_config()).await.expect("two of three");
    let how = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
    // Several checkpoints pass: the log is kept for who is away.
    for n in 0..200 {
        fs.make_directory(&path(&format!("/d{n}")), how).await.expect("made");
    }
    testkit::eventually(PATIENCE, || group.master(leader).output().contains("a master is far behind or away"));
    group.start_master(away);
    group.caught_up(away);
    // Now it counts: with the old leader gone, its vote and its log are needed.
    group.kill9(leader);
    group.leader();
    assert_eq!(fs.list_all(&path("/")).await.expect("listed").len(), 200);
    fs.make_directory(&path("/after"), how).await.expect("the two go on");
    // One of three does not: it refuses rather than guesses.
    let survivor = group.leader();
    let other = (0..MASTERS).find(|n| *n != survivor && *n != leader).expect("three");
    group.kill9(other);
    let alone = client::ClientConfig { rpc_timeout: std::time::Duration::from_secs(3), ..group.client_config() };
    let refused = match FileSystem::connect(alone).await {
        Ok(fs) => fs.make_directory(&path("/never"), how).await.expect_err("no quorum"),
        Err(error) => error,
    };
    assert!(matches!(refused.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_shown_and_handed_over_and_a_new_leader_knows_where_blocks_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let group = Group::start(dir.path(), &[]);
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    let data = content(1);
    let options = WriteOptions { write_type: Some(WriteType::MustCache), ..WriteOptions::default() };
    let mut writer = fs.create(&path("/cached"), options).await.expect("created");
    writer.write(&data).await.expect("written");
    writer.close().await.expect("closed");
    for n in 0..MASTERS {
        testkit::eventually(PATIENCE, || group.metric(n, "Master.BlockLocations") == Some(1));
        testkit::eventually(PATIENCE, || group.metric(n, "Cluster.Workers") == Some(1));
    }
    let old = group.leader();
    let next = (old + 1) % MASTERS;
    let info = group.run(&["fsadmin", "journal", "quorum", "info"]);
    assert!(info.contains(&format!("{}  LEADER", group.journal_address(old))), "{info}");
    let elected = group.run(&["fsadmin", "journal", "quorum", "elect", "-address", &group.journal_address(next)]);
    assert!(elected.contains("leads"), "{elected}");
    assert_eq!(group.leader(), next);
    let status = fs.status(&path("/cached")).await.expect("found");
    assert!(status.blocks.iter().all(|block| !block.locations.is_empty()), "known at once: {status:?}");
    let sdk = official(&group).await;
    assert!(read(&sdk, "/cached").await == data);
    let report = group.run(&["fsadmin", "report"]);
    assert!(report.contains(&format!("Journal Member: {} (leads)", group.journal_address(next))), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_follows_tells_official_clients_the_workers_and_that_it_does_not_lead() {
    let dir = tempfile::tempdir().expect("a directory");
    let group = Group::start(dir.path(), &[]);
    let leader = group.leader();
    for n in (0..MASTERS).filter(|n| *n != leader) {
        testkit::eventually(PATIENCE, || group.metric(n, "Cluster.Workers") == Some(1));
        let config = GoosefsConfig::new(group.rpc_addrs()[n].to_string()).with_auth_username("root");
        let workers = WorkerManagerClient::connect(&config).await.expect("it answers");
        assert_eq!(workers.get_worker_info_list().await.expect("told by every master").len(), 1);
        let (at, patience) = (group.rpc_addrs()[n], std::time::Duration::from_secs(2));
        let masters = vec![(at.ip().to_string(), at.port())];
        let config = client::ClientConfig { masters, rpc_timeout: patience, ..group.client_config() };
        let refused = match FileSystem::connect(config).await {
            Ok(fs) => fs.status(&path("/")).await.expect_err("only the leader knows"),
            Err(error) => error,
        };
        assert!(matches!(refused.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{refused}");
    }
}

#[test]
fn a_master_that_does_not_belong_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = Group::format(dir.path(), &[]);
    (0..MASTERS).for_each(|n| group.start_master(n));
    let leader = group.leader();
    let blank = (leader + 1) % MASTERS;
    testkit::eventually(PATIENCE, || group.is_ready(blank));
    // Its disk is replaced: it may have forgotten what it promised.
    group.stop_master(blank);
    group.format_master(blank, &["--force"]);
    group.start_master(blank);
    group.master(blank).wait_for_line("comes with another disk than before", PATIENCE).expect("the others say why");
    assert!(!group.is_ready(blank));
    assert_eq!(group.leader(), leader, "the others go on");
}

/// Our own client makes directories in the root, each once, until told to stop; how many. A call that fails is an error here.
async fn write_and_count(fs: FileSystem, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> u64 {
    let how = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = path(&format!("/load{count}"));
        fs.make_directory(&name, how).await.unwrap_or_else(|err| panic!("{name} is made once: {err}"));
        count += 1;
        done.store(count, Ordering::Relaxed);
    }
    count
}
