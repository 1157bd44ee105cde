//! Without a majority of the masters nothing is decided, but what is cached is read.

use crate::support::{Group, MASTERS, PATIENCE};
use crate::{content, path};
use client::{ClientConfig, FileStatus, FileSystem, Reader, WriteOptions};
use testkit::eventually;
use types::WriteType;

/// Blocks of the file that is read.
const BLOCKS: u64 = 4;
/// Reads of the whole file while nobody leads, at least: more streams than a connection bears that are left without an end.
const READS: usize = 1000;

/// Readers that are dropped before the end: more than a connection bears by default.
const DROPPED: usize = 5000;

async fn read_all(mut reader: Reader) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(chunk) = reader.next_chunk().await.unwrap_or_else(|error| panic!("a cached block is read: {error}"))
    {
        data.extend_from_slice(&chunk);
    }
    data
}

async fn cached_in_blocks(fs: &FileSystem, data: &[u8]) -> FileStatus {
    let block_bytes = Some(u64::try_from(data.len()).expect("64 bits").div_ceil(BLOCKS));
    let options = WriteOptions { write_type: Some(WriteType::MustCache), block_bytes, ..WriteOptions::default() };
    let mut writer = fs.create(&path("/cached"), options).await.expect("created");
    writer.write(data).await.expect("written");
    writer.close().await.expect("closed");
    let status = fs.status(&path("/cached")).await.expect("found");
    assert_eq!(u64::try_from(status.blocks.len()).expect("few"), BLOCKS);
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_readers_dropped_in_the_middle_leave_the_connection_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let group = Group::start(dir.path(), &[]);
    let config = ClientConfig { read_chunk_bytes: 4096, ..group.client_config() };
    let fs = FileSystem::connect(config).await.expect("a master leads");
    let data = content(1);
    let status = cached_in_blocks(&fs, &data).await;
    let reader = || fs.open_status(status.clone()).expect("a complete file");
    for number in 0..DROPPED {
        let first = reader().next_chunk().await.unwrap_or_else(|error| panic!("reader {number}: {error}"));
        assert!(first.is_some_and(|first| data.starts_with(&first)));
    }
    assert!(read_all(reader()).await == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_blocks_are_read_while_no_master_leads() {
    let dir = tempfile::tempdir().expect("a directory");
    // Rights run out while nobody leads.
    let mut group = Group::start(dir.path(), &["goosefs.master.right.lifetime=500ms"]);
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    let data = content(1);
    let status = cached_in_blocks(&fs, &data).await;
    let read_now = || read_all(fs.open_status(status.clone()).expect("a complete file"));
    assert!(read_now().await == data);
    // One connection that was there before, one reader in the middle of the file.
    let mut under_way = fs.open_status(status.clone()).expect("a complete file");
    let first = under_way.next_chunk().await.expect("read").expect("not empty");
    let leader = group.leader();
    let gone = [leader, (leader + 1) % MASTERS];
    gone.iter().for_each(|n| group.kill9(*n));
    let survivor = (leader + 2) % MASTERS;
    eventually(PATIENCE, || group.metric(survivor, "Master.IsLeader") == Some(0));
    let asked = || group.worker_metric("resolves").expect("the worker answers");
    let before = asked();
    let mut reads = 0;
    // Until the worker has asked for its rights again, twice, and nobody was there to confirm them.
    while reads < READS || asked() < before + 2 {
        assert!(read_now().await == data, "read {reads}");
        reads += 1;
    }
    let rest = read_all(under_way).await;
    assert!([first.to_vec(), rest].concat() == data, "the reader under way");
    assert_eq!(group.metric(survivor, "Master.IsLeader"), Some(0), "all that while nobody led");
    gone.iter().for_each(|n| group.start_master(*n));
    group.leader();
    assert!(read_all(fs.open(&path("/cached")).await.expect("a master leads again")).await == data);
}
