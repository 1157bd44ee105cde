//! Every way this client reads: whole, by range, by position, as a stream, and block by block.

use super::{config, connect, read, write};
use crate::{BLOCK, content, shared};
use goosefs_sdk::FileSystemContext;
use goosefs_sdk::fs::{FileSystem, OpenFileOptions};
use goosefs_sdk::io::{GoosefsAsyncReader, GoosefsFileInStream, GoosefsFileReader};
use goosefs_sdk::proto::grpc::file::WritePType;
use std::io::SeekFrom;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

const BYTES: u64 = 4 * BLOCK + 99;
/// Ranges within a block, across edges, at the end, and empty.
const RANGES: [(u64, u64); 8] =
    [(0, 1), (0, BYTES), (BLOCK - 5, 10), (BLOCK, BLOCK), (BLOCK + 3, 2 * BLOCK), (BYTES - 1, 1), (BYTES, 0), (70, 0)];

fn part(data: &[u8], (offset, length): (u64, u64)) -> &[u8] {
    &data[usize::try_from(offset).expect("small")..usize::try_from(offset + length).expect("small")]
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_files_ranges_and_many_ranges_at_once() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    let data = content(3, BYTES);
    // From the cache, and from the store with the cache filled on the way.
    for kind in [WritePType::MustCache, WritePType::Through] {
        let path = &format!("/ranges/{}", kind.as_str_name());
        write(&fs, path, &data, kind).await;
        let context = fs.context().clone();
        for range in RANGES {
            let got = GoosefsFileReader::read_range_with_context(context.clone(), path, range.0, range.1).await;
            assert_eq!(got.expect("read"), part(&data, range), "{range:?}");
        }
        for coalesce in [false, true] {
            let config = config(&shared.local).with_range_coalesce_enabled(coalesce);
            let context = FileSystemContext::connect(config).await.expect("connects");
            let got = GoosefsFileReader::read_ranges_with_context(context, path, &RANGES).await.expect("read");
            assert_eq!(got.len(), RANGES.len());
            for (got, range) in got.iter().zip(RANGES) {
                assert_eq!(got, part(&data, range), "{range:?}, coalesced: {coalesce}");
            }
        }
        let mut reader = GoosefsFileReader::open_with_context(context.clone(), path).await.expect("opens");
        assert_eq!((reader.file_length(), reader.block_count()), (BYTES, 5));
        let mut all = Vec::new();
        while let Some(block) = reader.read_next_block().await.expect("read") {
            all.extend_from_slice(&block);
        }
        assert!(all == data && reader.is_complete() && reader.bytes_read() == BYTES);
        let (offset, length) = (BLOCK - 9, BLOCK + 50);
        let mut reader =
            GoosefsFileReader::open_range_with_context(context.clone(), path, offset, length).await.expect("opens");
        assert_eq!((reader.offset(), reader.length()), (offset, length));
        assert_eq!(reader.read_all().await.expect("read"), part(&data, (offset, length)));
        // No session of an earlier read stands in the way of a later one.
        for _ in 0..12 {
            assert!(read(&fs, path).await == data);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_seek_and_read_by_position() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    let data = content(4, BYTES);
    for (kind, options) in [
        (WritePType::MustCache, OpenFileOptions::new()),
        (WritePType::Through, OpenFileOptions::no_cache()),
        (WritePType::Through, OpenFileOptions::new()),
    ] {
        let path = &format!("/streams-read/{}", kind.as_str_name());
        if !fs.exists(path).await.expect("answered") {
            write(&fs, path, &data, kind).await;
        }
        let mut stream = fs.open_file(path, options.clone()).await.expect("opens");
        assert_eq!((stream.len() as u64, stream.pos(), stream.is_eof()), (BYTES, 0, false));
        let mut buffer = [0; 10];
        assert_eq!(stream.read(&mut buffer).await.expect("read"), 10);
        assert_eq!(buffer, data[..10]);
        for target in [2 * BLOCK - 5, 17, BYTES - 10, BLOCK] {
            stream.seek(target as i64).await.expect("seeks");
            let (mut got, mut buffer) = (Vec::new(), [0; 10]);
            while got.len() < 10 {
                let read = stream.read(&mut buffer[..10 - got.len()]).await.expect("read");
                assert_ne!(read, 0, "ten bytes are left at {target}");
                got.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(got, part(&data, (target, 10)), "at {target}");
        }
        stream.seek_from(SeekFrom::End(-20)).await.expect("seeks");
        assert_eq!(stream.remaining(), 20);
        for (offset, length) in [(BLOCK + 3, BLOCK), (0, 1), (BYTES - 1, 1), (2 * BLOCK - 7, 14)] {
            let got = stream.read_at(offset as i64, usize::try_from(length).expect("small")).await.expect("read");
            assert_eq!(got, part(&data, (offset, length)));
        }
        stream.seek_from(SeekFrom::Start(5)).await.expect("seeks");
        assert_eq!(stream.read_all().await.expect("read"), data[5..]);
        assert!(stream.is_eof() && stream.read(&mut buffer).await.expect("read") == 0);

        let stream = GoosefsFileInStream::open(&config(&shared.local), path, options).await.expect("opens by itself");
        let mut reader = GoosefsAsyncReader::new(stream);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.expect("read");
        assert!(all == data);
        reader.seek(SeekFrom::Start(BLOCK - 3)).await.expect("seeks");
        let mut six = [0; 6];
        reader.read_exact(&mut six).await.expect("read");
        assert_eq!(six, part(&data, (BLOCK - 3, 6)));
    }
}
