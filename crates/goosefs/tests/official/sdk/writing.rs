//! Every write type and size, streaming writes, and writes that are given up.

use super::{PATIENCE, config, connect, create_options, read, write};
use crate::{BLOCK, NAMES, SIZES, content, shared};
use goosefs_sdk::FileSystemContext;
use goosefs_sdk::config::{WriteType, WriterChecksumType};
use goosefs_sdk::fs::{BaseFileSystem, CreateFileOptions, DeleteOptions, FileSystem, WriteTypeXAttr};
use goosefs_sdk::io::{GoosefsFileInStream, GoosefsFileReader, GoosefsFileWriter};
use goosefs_sdk::proto::grpc::file::{CreateFilePOptions, WritePType};
use testkit::data::Data;
use testkit::eventually_async;

const KINDS: [WritePType; 7] = [
    WritePType::MustCache,
    WritePType::TryCache,
    WritePType::CacheThrough,
    WritePType::Through,
    WritePType::AsyncThrough,
    WritePType::None,
    WritePType::UnspecifiedWriteType,
];

#[tokio::test(flavor = "multi_thread")]
async fn every_write_type_keeps_every_size() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    for kind in KINDS {
        for (seed, bytes) in (1..).zip(SIZES) {
            let path = format!("/write-types/{}/{bytes} bytes", kind.as_str_name());
            let data = content(seed, bytes);
            write(&fs, &path, &data, kind).await;
            let status = fs.get_status(&path).await.expect("known");
            assert_eq!((status.length, status.completed, status.folder), (bytes as i64, true, false), "{path}");
            assert_eq!(status.block_count() as u64, bytes.div_ceil(BLOCK), "{path}");
            assert_eq!(status.mode & 0o777, 0o644, "{path}");
            assert!(read(&fs, &path).await == data, "{path} holds what was written");
            let object = shared.local.store().join(&path[1..]);
            match kind {
                WritePType::CacheThrough | WritePType::Through => {
                    assert!(status.persisted, "{path}");
                    assert!(std::fs::read(&object).expect("the object exists") == data, "{path} in the store");
                }
                WritePType::AsyncThrough => {
                    eventually_async(PATIENCE, || async { fs.get_status(&path).await.expect("known").persisted }).await;
                    assert!(std::fs::read(&object).expect("the object exists") == data, "{path} in the store");
                    assert!(read(&fs, &path).await == data, "{path} after it was persisted");
                }
                WritePType::MustCache | WritePType::TryCache | WritePType::None | WritePType::UnspecifiedWriteType => {
                    assert_eq!(status.persistence_state, "NOT_PERSISTED", "{path}");
                    assert!(!object.exists(), "{path} stays out of the store");
                }
            }
        }
    }
    fs.delete("/write-types", DeleteOptions::recursive()).await.expect("removed");
    eventually_async(PATIENCE, || async { !shared.local.store().join("write-types").exists() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_mebibytes_arrive_byte_for_byte() {
    const BYTES: u64 = 300 << 20;
    const PART: usize = 4 << 20;
    let shared = shared();
    let config =
        goosefs_sdk::config::GoosefsConfig { block_size: 64 << 20, chunk_size: 1 << 20, ..config(&shared.local) };
    let context = FileSystemContext::connect(config).await.expect("connects");
    let (path, data) = ("/large", Data::new(300));
    let options = create_options(WritePType::CacheThrough);
    let mut writer =
        GoosefsFileWriter::create_with_context(context.clone(), path, Some(options)).await.expect("created");
    for at in (0..BYTES).step_by(PART) {
        writer.write(&data.bytes(at, PART)).await.expect("written");
    }
    writer.close().await.expect("closed");
    assert_eq!(writer.bytes_written(), BYTES);

    let mut reader =
        GoosefsFileInStream::open_with_context(context.clone(), path, Default::default()).await.expect("opens");
    let (mut at, mut buffer) = (0, vec![0; PART]);
    loop {
        let got = reader.read(&mut buffer).await.expect("read");
        if got == 0 {
            break;
        }
        data.verify(at, &buffer[..got]).expect("what was written");
        at += got as u64;
    }
    assert_eq!(at, BYTES);
    for (offset, length) in [(0, 1), (64 << 20, 100), ((64 << 20) - 50, 100), (BYTES - 10, 10)] {
        let range =
            GoosefsFileReader::read_range_with_context(context.clone(), path, offset, length).await.expect("read");
        assert_eq!(range.len() as u64, length);
        data.verify(offset, &range).expect("what was written");
    }
    let object = std::fs::File::open(shared.local.store().join("large")).expect("the object exists");
    assert_eq!(object.metadata().expect("its length").len(), BYTES);
    context.acquire_master().delete(path, false).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_writer_says_how_far_it_is() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    for kind in WriteType::ALL {
        let path = format!("/streams/{kind}");
        let options = CreateFileOptions { recursive: true, ..CreateFileOptions::with_write_type(*kind) };
        let mut writer = fs.create_file(&path, options).await.expect("created");
        assert_eq!((writer.path(), writer.is_completed()), (path.as_str(), false));
        assert!(!fs.exists(&path).await.expect("answered"), "an incomplete file does not exist yet");
        for part in 0..5 {
            writer.write(&Data::new(9).bytes(part * BLOCK / 2, BLOCK as usize / 2)).await.expect("written");
            if part == 2 {
                writer.flush().await.expect("flushed");
            }
        }
        writer.close().await.expect("closed");
        assert_eq!((writer.bytes_written(), writer.is_completed()), (BLOCK / 2 * 5, true));
        assert!(writer.file_info().file_id.is_some_and(|id| id > 0));
        assert!(read(&fs, &path).await == content(9, BLOCK / 2 * 5), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_write_leaves_nothing() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    for kind in WriteType::ALL {
        for blocks in [0, 3] {
            let path = format!("/cancelled/{kind}-{blocks}");
            let options = CreateFileOptions { recursive: true, ..CreateFileOptions::with_write_type(*kind) };
            let mut writer = fs.create_file(&path, options).await.expect("created");
            writer.write(&content(1, blocks * BLOCK + 7)).await.expect("written");
            writer.cancel().await.expect("cancelled");
            assert!(writer.is_cancelled());
            assert!(!fs.exists(&path).await.expect("answered"), "{path}");
            let object = shared.local.store().join(&path[1..]);
            assert!(!object.exists(), "{path} is not in the store");
            // Where this client leaves the incomplete name, the name can be removed and used again at once.
            let removed = fs.delete(&path, DeleteOptions::for_cancel()).await;
            assert!(removed.as_ref().err().is_none_or(|err| err.is_not_found()), "{path}: {removed:?}");
            write(&fs, &path, b"again", WritePType::CacheThrough).await;
            assert_eq!(read(&fs, &path).await, b"again");
        }
    }
    // A writer that is dropped without a word: its name can be removed too.
    let options = CreateFileOptions { recursive: true, ..CreateFileOptions::with_write_type(WriteType::CacheThrough) };
    let mut writer = fs.create_file("/cancelled/dropped", options).await.expect("created");
    writer.write(&content(2, BLOCK + 1)).await.expect("written");
    drop(writer);
    assert!(!fs.exists("/cancelled/dropped").await.expect("answered"));
    fs.delete("/cancelled/dropped", DeleteOptions::default()).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_kept_as_they_are() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    for kind in [WritePType::MustCache, WritePType::CacheThrough] {
        let folder = format!("/names/{}", kind.as_str_name());
        for name in NAMES {
            let path = format!("{folder}/{name}");
            write(&fs, &path, name.as_bytes(), kind).await;
            let status = fs.get_status(&path).await.expect("known");
            assert_eq!((status.path.as_str(), status.name.as_str()), (path.as_str(), name));
            assert_eq!(read(&fs, &path).await, name.as_bytes());
            let moved = format!("{path} moved");
            fs.rename(&path, &moved).await.expect("renamed");
            assert!(fs.exists(&moved).await.expect("answered") && !fs.exists(&path).await.expect("answered"));
            assert_eq!(read(&fs, &moved).await, name.as_bytes());
        }
        let mut listed: Vec<String> =
            fs.list_status(&folder, false).await.expect("listed").into_iter().map(|entry| entry.name).collect();
        let mut expected = NAMES.map(|name| format!("{name} moved")).to_vec();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected);
        for name in NAMES {
            fs.delete(&format!("{folder}/{name} moved"), DeleteOptions::default()).await.expect("removed");
        }
        assert!(fs.list_status(&folder, false).await.expect("listed").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checksum_of_a_close_is_kept_with_the_file() {
    let shared = shared();
    for kind in WriterChecksumType::ALL {
        let config = config(&shared.local).with_writer_checksum_type(kind);
        let fs = BaseFileSystem::connect(config).await.expect("connects");
        let path = format!("/checksums-{}", kind.as_str());
        write(&fs, &path, b"123456789", WritePType::MustCache).await;
        let status = fs.get_status(&path).await.expect("known");
        let value = match kind {
            WriterChecksumType::Null => 0_u32,
            WriterChecksumType::Crc32 => 0xCBF4_3926,
            WriterChecksumType::Crc32c => 0xE306_9283,
        };
        assert_eq!(status.xattr.get("CrcType").map(Vec::as_slice), Some(&[kind.as_i32() as u8][..]));
        assert_eq!(status.xattr.get("CrcValue").map(Vec::as_slice), Some(&value.to_be_bytes()[..]));
    }
}

/// A client that names no write type writes to the cache alone. Where the namespace's policy says that data reach the
/// store, they follow.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_write_type_the_namespace_decides() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    for (name, policy) in
        [("policy-through", types::WriteType::CacheThrough), ("policy-cache", types::WriteType::MustCache)]
    {
        let store = shared.local.store().with_file_name(name);
        std::fs::create_dir(&store).expect("a directory");
        let new = client::NewNamespace {
            name: name.to_owned(),
            ufs_uri: store.to_str().expect("its name is text").to_owned(),
            read_only: false,
            shared: false,
            write_policy: Some(policy),
            read_policy: None,
            properties: Default::default(),
            secrets: Default::default(),
        };
        shared.local.client().await.create_namespace(new).await.expect("made");

        // The file system asks the directory.
        let options = CreateFileOptions { write_type: WriteTypeXAttr::Inherit, ..CreateFileOptions::default() };
        fs.write_file(&format!("/{name}/asked"), b"asked", options).await.expect("written");
        assert_eq!(store.join("asked").exists(), policy.is_through());

        // The bare writer does not.
        let path = format!("/{name}/unsaid");
        let options = CreateFilePOptions::default();
        let context = fs.context().clone();
        GoosefsFileWriter::write_file_with_context_and_options(context, &path, b"unsaid", Some(options))
            .await
            .expect("written");
        assert_eq!(read(&fs, &path).await, b"unsaid");
        if policy.is_through() {
            eventually_async(PATIENCE, || async { fs.get_status(&path).await.expect("known").persisted }).await;
            assert_eq!(std::fs::read(store.join("unsaid")).expect("the object exists"), b"unsaid");
        } else {
            assert_eq!(fs.get_status(&path).await.expect("known").persistence_state, "NOT_PERSISTED");
            assert!(!store.join("unsaid").exists());
        }
    }
}
