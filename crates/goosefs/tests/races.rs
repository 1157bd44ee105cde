//! Real processes: clients that ask again after a crash, and clients that hold on to what a file was.

#[path = "cluster/support.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod support;

use client::{FileSystem, Reader, Remove, WriteOptions};
use proto::convert;
use proto::grpc::file::file_system_master_client_service_client::FileSystemMasterClientServiceClient;
use proto::grpc::file::*;
use rpc::{AuthType, Connection, Identity, Service};
use std::path::Path;
use std::time::Duration;
use support::{Local, path};
use testkit::data::Data;
use types::{ErrorKind, OperationId, WriteType};

const BLOCK: u64 = 64 << 10;
const FILE: usize = 600_000;

async fn write(fs: &FileSystem, at: &str, seed: u64, kind: WriteType) {
    let options =
        WriteOptions { write_type: Some(kind), block_bytes: Some(BLOCK), recursive: true, ..WriteOptions::default() };
    let mut writer = fs.create(&path(at), options).await.expect("created");
    writer.write(&Data::new(seed).bytes(0, FILE)).await.expect("written");
    writer.close().await.expect("closed");
}

/// Reads to the end. Every byte it gives is of `seed`; it may fail, where the old content is nowhere any more.
async fn read_on(reader: &mut Reader, seed: u64, already: u64) -> Result<u64, client::Error> {
    let mut at = already;
    while let Some(chunk) = reader.next_chunk().await? {
        Data::new(seed).verify(at, &chunk).expect("bytes of the file that was opened");
        at += u64::try_from(chunk.len()).expect("small");
    }
    Ok(at)
}

#[test]
fn who_opened_a_file_never_reads_another_that_took_its_name() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(dir.path());
    runtime.block_on(async {
        let (stale, fresh) = (local.client().await, local.client().await);
        let all = u64::try_from(FILE).expect("small");
        for (number, kind) in
            [WriteType::MustCache, WriteType::CacheThrough, WriteType::Through].into_iter().enumerate()
        {
            let (name, moved) = (format!("/d{number}/f"), format!("/d{number}/moved"));
            write(&fresh, &name, 1, kind).await;
            let old = stale.status(&path(&name)).await.expect("known");
            let mut begun = stale.open_status(old.clone()).expect("opens");
            let first = begun.next_chunk().await.expect("read").expect("it has bytes");
            Data::new(1).verify(0, &first).expect("the first content");

            fresh.rename(&path(&name), &path(&moved)).await.expect("renamed");
            write(&fresh, &name, 2, kind).await;
            let new = fresh.status(&path(&name)).await.expect("known");
            assert_ne!(new.file, old.file, "another file has another id");
            assert_eq!(fresh.status(&path(&moved)).await.expect("known").file, old.file, "a rename keeps it");

            // What was begun goes on; what is opened by the old id finds the old content, under its new name or not at all.
            let got =
                read_on(&mut begun, 1, u64::try_from(first.len()).expect("small")).await.expect("the rest is there");
            assert_eq!(got, all);
            let mut again = stale.open_status(old.clone()).expect("opens");
            assert_eq!(read_on(&mut again, 1, 0).await.expect("read by the old id"), all);
            let mut other = fresh.open(&path(&name)).await.expect("opens");
            assert_eq!(read_on(&mut other, 2, 0).await.expect("read by the name"), all);

            // And the other way round: the new one goes, the old one comes back under its first name.
            fresh.remove(&path(&name), Remove::default()).await.expect("removed");
            fresh.rename(&path(&moved), &path(&name)).await.expect("renamed back");
            let mut gone = stale.open_status(new).expect("opens");
            if let Ok(got) = read_on(&mut gone, 2, 0).await {
                assert_eq!(got, all, "cached blocks may be read until they are freed, but whole");
            }
            let mut back = stale.open_status(old).expect("opens");
            assert_eq!(read_on(&mut back, 1, 0).await.expect("read by the first id"), all);
        }
    });
}

#[test]
fn a_tree_removed_and_made_again_shows_nothing_of_the_first() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(dir.path());
    runtime.block_on(async {
        let fs = local.client().await;
        for round in 0..5 {
            for name in ["a", "b", "c/d"] {
                write(&fs, &format!("/tree/{name}-{round}"), round, WriteType::CacheThrough).await;
            }
            let names = tree(&fs, "/tree").await;
            assert_eq!(names, [format!("a-{round}"), format!("b-{round}"), "c".to_owned(), format!("c/d-{round}")]);
            let mut reader = fs.open(&path(&format!("/tree/c/d-{round}"))).await.expect("opens");
            read_on(&mut reader, round, 0).await.expect("read");
            fs.remove(&path("/tree"), Remove { recursive: true, ..Remove::default() }).await.expect("removed");
        }
        let store = dir.path().join("state/ufs/tree");
        testkit::eventually(Duration::from_secs(30), || !store.exists());
        assert!(fs.find(&path("/tree")).await.expect("answered").is_none());
    });
}

async fn tree(fs: &FileSystem, top: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut directories = vec![top.to_owned()];
    while let Some(at) = directories.pop() {
        for entry in fs.list_all(&path(&at)).await.expect("listed") {
            if entry.folder {
                directories.push(entry.path.to_string());
            }
            out.push(entry.path.to_string()[top.len() + 1..].to_owned());
        }
    }
    out.sort();
    out
}

/// Calls as an official client sends them, with operation ids of our choice.
struct Raw {
    stub: FileSystemMasterClientServiceClient<Service>,
    _connection: Connection,
}

fn common(operation: u128) -> Option<FileSystemMasterCommonPOptions> {
    let operation_id = Some(convert::operation_id::to_wire(OperationId(operation)));
    Some(FileSystemMasterCommonPOptions { operation_id, sync_interval_ms: None })
}

impl Raw {
    async fn new(local: &Local) -> Raw {
        let config = local.client_config();
        let (host, port) = &config.masters[0];
        let identity = Identity { user: config.user.clone(), auth: AuthType::Simple };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let connection = Connection::open(&format!("{host}:{port}"), &identity, deadline).await.expect("it answers");
        Raw { stub: FileSystemMasterClientServiceClient::new(connection.service()), _connection: connection }
    }

    async fn create(&mut self, at: &str, operation: u128) -> Result<FileInfo, ErrorKind> {
        let options = CreateFilePOptions {
            recursive: Some(true),
            common_options: common(operation),
            ..CreateFilePOptions::default()
        };
        let request = CreateFilePRequest { path: Some(at.into()), options: Some(options) };
        let answer = self.stub.create_file(request).await.map_err(|status| rpc::kind_of(&status))?;
        Ok(answer.into_inner().file_info.expect("the file made"))
    }

    async fn mkdir(&mut self, at: &str, operation: u128) -> Result<(), ErrorKind> {
        let options = CreateDirectoryPOptions {
            recursive: Some(true),
            allow_exists: Some(false),
            common_options: common(operation),
            ..CreateDirectoryPOptions::default()
        };
        let request = CreateDirectoryPRequest { path: Some(at.into()), options: Some(options) };
        self.stub.create_directory(request).await.map(drop).map_err(|status| rpc::kind_of(&status))
    }

    async fn rename(&mut self, from: &str, to: &str, operation: u128) -> Result<(), ErrorKind> {
        let options = RenamePOptions { common_options: common(operation), ..RenamePOptions::default() };
        let request = RenamePRequest { path: Some(from.into()), dst_path: Some(to.into()), options: Some(options) };
        self.stub.rename(request).await.map(drop).map_err(|status| rpc::kind_of(&status))
    }

    async fn remove(&mut self, at: &str, operation: u128) -> Result<(), ErrorKind> {
        let options =
            DeletePOptions { recursive: Some(true), common_options: common(operation), ..DeletePOptions::default() };
        let request = DeletePRequest { path: Some(at.into()), options: Some(options) };
        self.stub.remove(request).await.map(drop).map_err(|status| rpc::kind_of(&status))
    }
}

#[test]
fn an_operation_asked_again_after_kill_9_gets_its_first_answer() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = Local::start(dir.path());
    let first = runtime.block_on(async {
        let fs = local.client().await;
        for name in ["/stored", "/gone", "/tree/one", "/tree/two"] {
            write(&fs, name, 3, WriteType::CacheThrough).await;
        }
        let mut raw = Raw::new(&local).await;
        let made = raw.create("/made/f", 1).await.expect("made");
        raw.mkdir("/made/d", 2).await.expect("made");
        raw.rename("/made/d", "/made/e", 3).await.expect("renamed");
        raw.rename("/stored", "/moved", 4).await.expect("renamed with its object");
        raw.remove("/gone", 5).await.expect("removed with its object");
        raw.remove("/tree", 6).await.expect("removed");
        // The name is free again once the store has done it all.
        raw.mkdir("/tree", 10).await.expect("made");
        raw.remove("/tree", 11).await.expect("removed");
        made
    });
    let ufs = dir.path().join("state/ufs");
    assert!(!ufs.join("tree").exists());
    local.kill9();
    // Somebody else puts something where the removed tree was: a first look at it would refuse the removal.
    std::fs::create_dir(ufs.join("tree")).expect("a directory");
    std::fs::write(ufs.join("tree/foreign"), "foreign").expect("written");
    local.restart();
    runtime.block_on(async {
        let fs = local.client().await;
        let mut raw = Raw::new(&local).await;
        for _ in 0..2 {
            let again = raw.create("/made/f", 1).await.expect("the same answer");
            assert_eq!(again.file_id, first.file_id, "the file made the first time");
            raw.mkdir("/made/d", 2).await.expect("the same answer");
            raw.rename("/made/d", "/made/e", 3).await.expect("the same answer");
            raw.rename("/stored", "/moved", 4).await.expect("the same answer");
            raw.remove("/gone", 5).await.expect("the same answer");
            raw.remove("/tree", 6).await.expect("the same answer");
        }
        assert_eq!(tree(&fs, "/made").await, ["e", "f"], "nothing was done twice");
        let mut moved = fs.open(&path("/moved")).await.expect("opens");
        read_on(&mut moved, 3, 0).await.expect("its content came along");
        assert!(foreign(&ufs).is_ok_and(|text| text == "foreign"), "what came later was not removed");
        // Another operation is another matter.
        assert_eq!(raw.create("/made/f", 7).await.expect_err("it exists"), ErrorKind::AlreadyExists);
        assert_eq!(raw.rename("/stored", "/moved", 8).await.expect_err("it went"), ErrorKind::NotFound);
    });
}

fn foreign(ufs: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(ufs.join("tree/foreign"))
}
