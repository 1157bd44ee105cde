//! A master whose files are no longer what it wrote. It may repair and say so, or refuse by name; never may it panic, give
//! other records than were acknowledged, or go on as if nothing were missing.

use super::*;
use crate::config::GroupConfig;
use bytes::Bytes;
use meta::{CreateDirectory, Family, Rename, SetXattr};
use std::collections::BTreeMap;
use std::path::PathBuf;
use testkit::Chance;
use testkit::damage::{copy_tree, damage};

/// Entries between two flushes of the database.
const CHECKPOINT: u64 = 40;
/// What stands in the last batch of the log: of one master alone it may be taken for torn (SEMANTICS.md).
const LAST: &str = "/last/one";
/// Longest key of any family.
const KEY_BYTES_MAX: usize = 512;

type Records = BTreeMap<(Family, Bytes), Bytes>;

/// What kind of master it is.
#[derive(Clone)]
struct Kind {
    metastore: Metastore,
    /// The last member of a group of several, which goes on alone by an operator's word; None: it was always alone.
    group: Option<GroupConfig>,
}

fn small(dir: &Path, root: &Path, kind: &Kind) -> MasterConfig {
    MasterConfig {
        metastore: kind.metastore,
        group: kind.group.clone(),
        root_ufs: root.to_str().expect("a plain name").to_owned(),
        segment_bytes: 64 << 10,
        checkpoint_entries: CHECKPOINT,
        memory_budget_bytes: 16 << 20,
        ..config(dir)
    }
}

async fn opened(config: &MasterConfig) -> Result<Master, Error> {
    if let Some(group) = &config.group {
        // The one before it may be about to end.
        testkit::eventually_async(PATIENCE, || async { std::net::TcpListener::bind(group.listen) }).await;
    }
    let master = Master::start(config.clone(), Arc::new(SystemClock), Arc::new(SystemEntropy)).await?;
    if config.group.is_some() {
        // One alone has the lead when it has started.
        let leads_or_ends = || async { master.handle.shared.leads() || master.fatal.borrow().is_some() };
        testkit::eventually_async(PATIENCE, leads_or_ends).await;
        // By then it has applied all that is committed. Why it cannot, it says again when it is asked for more.
        drop(master.handle.read(|_| Ok(())).await);
    }
    Ok(master)
}

/// Every record but the counters, each found twice: by a scan and by its key.
fn records(master: &Master) -> Result<Records, Error> {
    master.handle.shared.read_any(|read| {
        let mut all = Records::new();
        for family in Family::ALL.into_iter().filter(|family| *family != Family::State) {
            for (key, value) in read.scan(family, &[], &[0xff; KEY_BYTES_MAX], usize::MAX)? {
                assert_eq!(read.get(family, &key)?.as_ref(), Some(&value), "a scan and a lookup agree");
                all.insert((family, key), value);
            }
        }
        Ok(all)
    })
}

fn directory(path: &str) -> Op {
    let path = GfsPath::parse(path).expect("a path");
    Op::CreateDirectory(CreateDirectory { path, recursive: true, allow_exists: false, mode: Mode::new(0o755) })
}

/// A namespace with a past: flushed more than once, with a tail in the log that the database does not hold.
async fn work(handle: &Handle, round: u64) {
    for n in 0..12 {
        submit(handle, directory(&format!("/r{round}/d{n}"))).await;
        let path = GfsPath::parse(&format!("/r{round}/d{n}/f")).expect("a path");
        let (mode, write_type) = (Mode::new(0o644), Some(WriteType::MustCache));
        let file = CreateFile { path: path.clone(), block_bytes: BLOCK_BYTES, recursive: false, mode, write_type };
        submit(handle, Op::CreateFile(file)).await;
        let value = Some(vec![7; 300 * usize::try_from(n).expect("small")]);
        submit(handle, Op::SetXattr(SetXattr { path: path.clone(), name: "note".into(), value })).await;
        let to = GfsPath::parse(&format!("/r{round}/d{n}/renamed")).expect("a path");
        submit(handle, Op::Rename(Rename { path, to })).await;
    }
    let path = GfsPath::parse(&format!("/r{round}/d3")).expect("a path");
    submit(handle, Op::Remove(Remove { path, recursive: true, goosefs_only: false })).await;
}

/// The files of a master that was killed, and what it had acknowledged, without and with its last batch.
struct Killed {
    dir: PathBuf,
    root: PathBuf,
    acknowledged: [Records; 2],
}

async fn killed(dir: &Path, kind: &Kind) -> Killed {
    let (live, root, image) = (dir.join("live"), dir.join("ufs"), dir.join("image"));
    std::fs::create_dir_all(&live).expect("a directory");
    let config = small(&live, &root, kind);
    std::fs::create_dir_all(&config.root_ufs).expect("a root store");
    crate::format(&config, &SystemEntropy, false).expect("empty directories");
    let mut first = config.clone();
    if let Some(group) = &mut first.group {
        group.recover = true;
    }
    let master = opened(&first).await.expect("a fresh master");
    for round in 0..4 {
        work(&master.handle, round).await;
    }
    submit(&master.handle, directory("/last")).await;
    master.stop(Duration::from_secs(10)).await.expect("a clean stop");
    let master = opened(&config).await.expect("its own files");
    work_little(&master.handle).await;
    let is_settled = || async {
        let all = records(&master).expect("healthy");
        !all.keys().any(|(family, _)| matches!(family, Family::Detached | Family::Intents))
    };
    testkit::eventually_async(PATIENCE, is_settled).await;
    let before = records(&master).expect("healthy");
    submit(&master.handle, directory(LAST)).await;
    let after = records(&master).expect("healthy");
    copy_tree(&live, &image).expect("copied");
    master.stop(Duration::from_secs(10)).await.expect("a clean stop");
    assert!(before != after);
    Killed { dir: image, root, acknowledged: [before, after] }
}

/// Too little for a flush: it stands in the log alone.
async fn work_little(handle: &Handle) {
    for n in 0..CHECKPOINT / 4 {
        submit(handle, directory(&format!("/tail/d{n}"))).await;
    }
}

/// Starts a master on wounded files. Error: what it did that it may not.
async fn outcome(killed: &Killed, dir: &Path, kind: &Kind) -> Result<&'static str, String> {
    let place = dir.to_str().expect("a plain name");
    let told = |words: &str| match words.contains(place) && !words.contains("panicked") && words.contains(';') {
        true => Ok(()),
        false => Err(format!("it does not say what is wrong where and what to do: {words}")),
    };
    let master = match opened(&small(dir, &killed.root, kind)).await {
        Ok(master) => master,
        Err(why) => return told(&why.to_string()).map(|()| "refused at the start"),
    };
    let (end, is_whole) = used(killed, &master, told).await;
    // Whatever it did: what goes on would stand in the way of the next one.
    match master.stop(Duration::from_secs(10)).await {
        Err(why) if end.is_ok() && is_whole => Err(format!("it does not stop cleanly: {why}")),
        Err(why) if why.to_string().contains("panicked") => Err(why.to_string()),
        Ok(()) | Err(_) => end,
    }
}

/// What a started master does that is read and written; whether it stayed whole.
async fn used(
    killed: &Killed,
    master: &Master,
    told: impl Fn(&str) -> Result<(), String>,
) -> (Result<&'static str, String>, bool) {
    let found = records(master);
    let end = match &found {
        Err(why) => told(&why.to_string()).map(|()| "refused when read"),
        Ok(all) if *all == killed.acknowledged[1] => Ok("unharmed or repaired"),
        Ok(all) if *all == killed.acknowledged[0] => Ok("without the last batch"),
        Ok(all) => Err(difference(all, &killed.acknowledged[1])),
    };
    // It goes on as far as it can, or says why it stops.
    for round in 0..4 {
        let who = Principal::system();
        let refused = match master.handle.submit(&who, None, directory(&format!("/r{round}/d1/new"))).await {
            Ok(_) | Err(Error::Stopping) => Ok(()),
            Err(why @ (Error::Database(_) | Error::Start(_))) => told(&why.to_string()),
            Err(why) => Err(format!("a new directory is refused: {why}")),
        };
        if let Err(why) = refused {
            return (Err(why), false);
        }
    }
    let fatal = master.fatal.borrow().clone();
    let is_whole = fatal.is_none() && found.is_ok();
    match fatal.as_deref().map_or(Ok(()), told) {
        Ok(()) => (end, is_whole),
        Err(why) => (Err(why), is_whole),
    }
}

fn difference(found: &Records, expected: &Records) -> String {
    let lost = expected.keys().filter(|key| !found.contains_key(*key)).count();
    let strange = found.iter().filter(|(key, value)| expected.get(*key) != Some(value)).count();
    format!("it lost {lost} of {} records and holds {strange} that nobody wrote", expected.len())
}

fn campaign(kind: &Kind, times: u64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    runtime.block_on(async {
        let killed = killed(dir.path(), kind).await;
        let unharmed = dir.path().join("unharmed");
        copy_tree(&killed.dir, &unharmed).expect("copied");
        assert_eq!(outcome(&killed, &unharmed, kind).await, Ok("unharmed or repaired"));
        let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
        let mut failed = Vec::new();
        for seed in 0..times {
            let copy = dir.path().join(format!("seed-{seed}"));
            copy_tree(&killed.dir, &copy).expect("copied");
            let done = damage(&copy, &mut Chance::new(seed)).expect("files").expect("one with bytes");
            match outcome(&killed, &copy, kind).await {
                Ok("without the last batch") if !done.file.starts_with(copy.join("journal")) => {
                    failed.push(format!("seed {seed}: {done}: the last batch is lost"));
                }
                Ok(end) => *ends.entry(end).or_default() += 1,
                Err(why) => failed.push(format!("seed {seed}: {done}: {why}")),
            }
            // One that could not go on may be about to end.
            testkit::eventually_async(PATIENCE, || async { std::fs::remove_dir_all(&copy) }).await;
        }
        assert!(failed.is_empty(), "{} of {times} fail:\n{}", failed.len(), failed.join("\n"));
        println!("{:?}: {ends:?}", kind.metastore);
    });
}

#[test]
fn a_damaged_file_is_repaired_or_refused_by_name_with_a_database_on_disk() {
    campaign(&Kind { metastore: Metastore::Rocks, group: None }, 5 * testkit::rounds(10));
}

#[test]
fn a_damaged_file_is_repaired_or_refused_by_name_with_a_database_in_memory() {
    campaign(&Kind { metastore: Metastore::Heap, group: None }, 2 * testkit::rounds(10));
}

/// It has one file more, which says which member it is.
#[test]
fn a_damaged_file_of_a_member_of_a_group_is_repaired_or_refused_by_name() {
    let ports = testkit::ports::free_ports(3).expect("free ports");
    let members: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let group = GroupConfig {
        own: members[0].clone(),
        listen: members[0].parse().expect("an address"),
        members,
        election_timeout: Duration::from_millis(100),
        heartbeat: Duration::from_millis(20),
        retained_entries: 1_000,
        snapshot_bandwidth: None,
        priority: 0,
        recover: false,
    };
    campaign(&Kind { metastore: Metastore::Heap, group: Some(group) }, testkit::rounds(10));
}
