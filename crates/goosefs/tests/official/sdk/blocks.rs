//! Block streams at a worker, without the file readers and writers above them.

use super::{config, connect, write};
use crate::{BLOCK, content, shared};
use goosefs_sdk::client::{MasterClient, WorkerClient, WorkerClientPool, WriteBlockOptions};
use goosefs_sdk::error::Error;
use goosefs_sdk::io::reader::ReadTuning;
use goosefs_sdk::io::{GrpcBlockReader, GrpcBlockWriter};
use goosefs_sdk::proto::grpc::file::{CreateFilePOptions, WritePType};

const CHUNK: i64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_written_checked_and_read_by_hand() {
    let shared = shared();
    let config = config(&shared.local);
    let master = MasterClient::connect(&config).await.expect("connects");
    let worker = WorkerClient::connect(&shared.local.worker_addr().to_string(), &config).await.expect("connects");
    master.create_directory("/by-hand", true).await.expect("made");
    let options = CreateFilePOptions {
        block_size_bytes: Some(BLOCK as i64),
        write_type: Some(WritePType::MustCache as i32),
        ..CreateFilePOptions::default()
    };
    // One given up. This client ends its half before it resets the stream, so the block may count as written; its file
    // does not.
    let made = master.create_file("/by-hand/given-up", options).await.expect("created");
    let block = (made.file_id.expect("an id") >> 24) << 24;
    let mut writer =
        GrpcBlockWriter::open(&worker, block, BLOCK as i64, WriteBlockOptions::default()).await.expect("opens");
    writer.write_chunk(vec![0; 100]).await.expect("sent");
    writer.cancel().await;
    assert!(!master.get_status("/by-hand/given-up").await.expect("known").completed());
    master.delete("/by-hand/given-up", false).await.expect("removed");

    let made = master.create_file("/by-hand/file", options).await.expect("created");
    let block = (made.file_id.expect("an id") >> 24) << 24;
    let data = content(5, BLOCK);
    let mut writer =
        GrpcBlockWriter::open(&worker, block, BLOCK as i64, WriteBlockOptions::default()).await.expect("opens");
    writer.write_chunk(data[..100].to_vec()).await.expect("sent");
    assert_eq!(writer.flush().await.expect("flushed"), 100);
    writer.write_all(&data[100..], 4096).await.expect("sent");
    assert_eq!((writer.block_id(), writer.bytes_written()), (block, BLOCK as i64));
    writer.close().await.expect("committed");
    master.complete_file("/by-hand/file", Some(BLOCK as i64), None).await.expect("completed");
    assert_eq!(worker.check_blocks(&[block, block + 1]).await.expect("answered").get(&block), Some(&(BLOCK as i64)));

    let all = BLOCK as i64;
    let mut reader = GrpcBlockReader::open(&worker, block, 0, all, CHUNK, None).await.expect("opens");
    assert!(reader.read_all().await.expect("read") == data);
    assert!(reader.is_complete() && reader.bytes_received() == all);
    let tuning = ReadTuning::from_config(&config);
    let mut reader =
        GrpcBlockReader::open_sequential(&worker, block, 500, 30_000, CHUNK, None, tuning).await.expect("opens");
    let mut got = Vec::new();
    while let Some(chunk) = reader.read_chunk().await.expect("read") {
        assert!(chunk.len() as i64 <= CHUNK);
        got.extend_from_slice(&chunk);
    }
    assert!(got == data[500..30_500]);
    let part = GrpcBlockReader::positioned_read(&worker, block, all - 7, 7, CHUNK, None).await.expect("read");
    assert_eq!(part, data[data.len() - 7..]);
    // A reader that is left half-way stands in nobody's way.
    for _ in 0..12 {
        let mut reader = GrpcBlockReader::open(&worker, block, 0, all, CHUNK, None).await.expect("opens");
        assert!(reader.read_chunk().await.expect("read").is_some());
    }
    master.delete("/by-hand/file", false).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_connections_is_renewed() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    let data = content(6, 1000);
    write(&fs, "/pooled", &data, WritePType::MustCache).await;
    let block = (fs_block(&fs).await >> 24) << 24;
    let address = shared.local.worker_addr().to_string();
    let pool = WorkerClientPool::new_shared(config(&shared.local));
    let first = pool.acquire(&address).await.expect("connects");
    pool.invalidate(&address).await;
    let second = pool.acquire(&address).await.expect("connects again");
    let third = pool.reconnect_if_stale(&address, second.generation()).await.expect("connects again");
    let fourth = pool.reconnect(&address).await.expect("connects again");
    for worker in [first, second, third, fourth] {
        let read = GrpcBlockReader::positioned_read(&worker, block, 0, 1000, CHUNK, None).await.expect("read");
        assert_eq!(read, data);
    }
}

async fn fs_block(fs: &goosefs_sdk::fs::BaseFileSystem) -> i64 {
    use goosefs_sdk::fs::FileSystem as _;
    fs.get_status("/pooled").await.expect("known").file_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_nobody_knows_is_an_rpc_error() {
    let shared = shared();
    let config = config(&shared.local);
    let worker = WorkerClient::connect(&shared.local.worker_addr().to_string(), &config).await.expect("connects");
    let error =
        GrpcBlockReader::positioned_read(&worker, 9_999_999_999, 0, 10, CHUNK, None).await.expect_err("unknown");
    assert!(matches!(error, Error::GrpcError { .. }), "{error}");
    let unknown = WriteBlockOptions::default();
    let refused = match GrpcBlockWriter::open(&worker, 9_999_999_999, 10, unknown).await {
        Ok(writer) => writer.close().await,
        Err(error) => Err(error),
    };
    refused.expect_err("no file has this block");
    assert!(worker.check_blocks(&[9_999_999_999]).await.expect("answered").values().all(|&bytes| bytes == 0));
}
