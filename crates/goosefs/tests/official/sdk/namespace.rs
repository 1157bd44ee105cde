//! Directories, listings, renames, removals, what the store holds besides, and the errors clients tell apart.

use super::{PATIENCE, config, config_for, connect, read, write};
use crate::{BLOCK, content, shared};
use goosefs_sdk::FileSystemContext;
use goosefs_sdk::auth::AuthType;
use goosefs_sdk::client::{CompleteFileOptions, MasterClient, WorkerManagerClient};
use goosefs_sdk::error::Error;
use goosefs_sdk::fs::{
    BaseFileSystem, CreateFileOptions, DeleteOptions, FileSystem, GetStatusOptions, ListStatusOptions, OpenFileOptions,
};
use goosefs_sdk::io::GoosefsFileWriter;
use goosefs_sdk::proto::grpc::file::file_system_master_client_service_client::FileSystemMasterClientServiceClient;
use goosefs_sdk::proto::grpc::file::{
    CreateFilePOptions, GetStatusBatchPRequest, GetStatusPOptions, LoadMetadataPType, WritePType,
};

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_made_listed_moved_and_removed() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    fs.mkdir("/tree/x/y/z", true).await.expect("made");
    fs.mkdir("/tree/x/y/z", true).await.expect("made again");
    fs.mkdir("/tree/x/w", false).await.expect("made");
    for n in 0..50 {
        write(&fs, &format!("/tree/x/y/file-{n}"), b"data", WritePType::MustCache).await;
    }
    let listed = fs.list_status("/tree/x/y", false).await.expect("listed");
    assert_eq!(listed.len(), 51);
    assert!(listed.iter().all(|entry| entry.creation_time_ms > 0 && entry.last_modification_time_ms > 0));
    let one = fs.get_status("/tree/x/y/file-7").await.expect("known");
    let same = listed.iter().find(|entry| entry.path == one.path).expect("it is listed");
    assert_eq!((&same.block_ids, same.file_id, same.length), (&one.block_ids, one.file_id, 4));
    assert!(fs.list_status("/tree/x/y/z", false).await.expect("listed").is_empty());
    let itself = fs.list_status("/tree/x/y/file-7", false).await.expect("listed");
    assert_eq!(itself.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["/tree/x/y/file-7"]);

    fs.rename("/tree/x", "/tree/moved").await.expect("renamed");
    assert!(!fs.exists("/tree/x").await.expect("answered"));
    assert_eq!(read(&fs, "/tree/moved/y/file-9").await, b"data");
    assert_eq!(fs.get_status("/tree/moved/y/file-7").await.expect("known").file_id, one.file_id);
    let all = fs.list_status_with_options("/tree", ListStatusOptions::recursive()).await.expect("listed");
    assert_eq!(all.len(), 54, "moved, w, y, z and fifty files");

    let error = fs.delete("/tree", DeleteOptions::default()).await.expect_err("it is not empty");
    assert!(error.is_directory_not_empty(), "{error}");
    fs.delete("/tree/moved/w", DeleteOptions::default()).await.expect("an empty one goes");
    fs.delete("/tree", DeleteOptions::recursive()).await.expect("removed");
    assert!(!fs.exists("/tree").await.expect("answered"));
}

/// No released client calls it, so the stub generated from their contract does.
#[tokio::test(flavor = "multi_thread")]
async fn many_statuses_come_in_one_call_each_path_answered_by_itself() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    fs.mkdir("/batch/d", true).await.expect("made");
    write(&fs, "/batch/f", b"content", WritePType::MustCache).await;
    std::fs::create_dir_all(shared.local.store().join("batch")).expect("made");
    std::fs::write(shared.local.store().join("batch/unknown"), b"of the store").expect("written");
    let identity = rpc::Identity { user: "root".to_owned(), auth: rpc::AuthType::Simple };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let address = shared.local.master_addr().to_string();
    let connection = rpc::Connection::open(&address, &identity, deadline).await.expect("it answers");
    let mut stub = FileSystemMasterClientServiceClient::new(connection.service());
    let ask = |paths: Vec<String>, load: LoadMetadataPType| GetStatusBatchPRequest {
        paths,
        options: Some(GetStatusPOptions { load_metadata_type: Some(load.into()), ..GetStatusPOptions::default() }),
        request_id: None,
    };
    let paths = || {
        let paths =
            ["/batch/f", "/batch/none", "relative", "/batch/d/", "/batch/f/below", "/batch/unknown", "/batch/f"];
        paths.map(str::to_owned).to_vec()
    };
    let once = stub.get_status_batch(ask(paths(), LoadMetadataPType::Once)).await.expect("answered").into_inner();
    let found: Vec<&str> = once.file_infos.iter().map(|info| info.path()).collect();
    assert_eq!(found, ["/batch/f", "/batch/d", "/batch/unknown", "/batch/f"], "in the order asked");
    assert_eq!(once.failed_paths, ["/batch/none", "relative", "/batch/f/below"]);
    let one = fs.get_status("/batch/f").await.expect("known");
    assert_eq!((once.file_infos[0].file_id(), once.file_infos[0].length()), (one.file_id, one.length));
    let never = ask(vec!["/batch/later".to_owned()], LoadMetadataPType::Never);
    std::fs::write(shared.local.store().join("batch/later"), b"x").expect("written");
    let never = stub.get_status_batch(never).await.expect("answered").into_inner();
    assert_eq!(never.failed_paths, ["/batch/later"], "the store is not asked");

    let many = vec!["/batch/f".to_owned(); 3_000];
    let many = stub.get_status_batch(ask(many, LoadMetadataPType::Once)).await.expect("answered").into_inner();
    assert_eq!(many.file_infos.len(), 3_000);
    let too_many = stub.get_status_batch(ask(vec!["/batch/f".to_owned(); 10_001], LoadMetadataPType::Once)).await;
    let refused = too_many.expect_err("more than a call takes");
    assert_eq!(rpc::kind_of(&refused), types::ErrorKind::Invalid);
    assert!(refused.message().contains("10001 paths") && refused.message().contains("split"), "{refused}");
    let long = format!("/batch/{}", "x".repeat(250));
    let too_long = stub.get_status_batch(ask(vec![format!("{long}{long}"); 10_000], LoadMetadataPType::Never)).await;
    let refused = too_long.expect_err("more than an answer holds");
    assert_eq!(rpc::kind_of(&refused), types::ErrorKind::Invalid);
    assert!(refused.message().contains("fit; split the call"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_moves_the_object_and_never_replaces() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    write(&fs, "/renames/from", b"content", WritePType::CacheThrough).await;
    let before = fs.get_status("/renames/from").await.expect("known").file_id;
    fs.rename("/renames/from", "/renames/to").await.expect("renamed");
    assert_eq!(fs.get_status("/renames/to").await.expect("known").file_id, before);
    let store = shared.local.store().join("renames");
    assert_eq!(std::fs::read(store.join("to")).expect("the object exists"), b"content");
    assert!(!store.join("from").exists());
    for round in 0..10 {
        let target = format!("/renames/{round}");
        let mut moves = Vec::new();
        for n in 0..8 {
            write(&fs, &format!("/renames/{round}-{n}"), &[n], WritePType::MustCache).await;
            let (fs, target) = (fs.clone(), target.clone());
            moves.push(tokio::spawn(async move { fs.rename(&format!("/renames/{round}-{n}"), &target).await }));
        }
        let mut won = Vec::new();
        for (n, moved) in (0..).zip(moves) {
            match moved.await.expect("no panic") {
                Ok(()) => won.push(n),
                Err(error) => assert!(error.is_already_exists(), "{error}"),
            }
        }
        assert_eq!(won.len(), 1, "of eight renames onto one name one wins");
        assert_eq!(read(&fs, &target).await, won);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_store_holds_is_found() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    let outside = shared.local.store().join("outside");
    std::fs::create_dir_all(outside.join("below")).expect("a directory");
    std::fs::write(outside.join("one"), b"first").expect("written");
    std::fs::write(outside.join("below/two"), b"second").expect("written");
    assert_eq!(read(&fs, "/outside/one").await, b"first");
    let all = fs.list_status("/outside", true).await.expect("listed");
    let mut paths: Vec<&str> = all.iter().map(|entry| entry.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/outside/below", "/outside/below/two", "/outside/one"]);
    assert!(all.iter().all(|entry| entry.persisted || entry.folder));

    // Changed behind our back: known until the store is asked again.
    std::fs::write(outside.join("one"), b"changed meanwhile").expect("written");
    let never = GetStatusOptions { load_metadata_type: Some(LoadMetadataPType::Never), ..Default::default() };
    assert_eq!(fs.get_status_with_options("/outside/one", never).await.expect("known").length, 5);
    let always =
        GetStatusOptions { load_metadata_type: Some(LoadMetadataPType::Always), ..GetStatusOptions::always_sync() };
    assert_eq!(fs.get_status_with_options("/outside/one", always).await.expect("known").length, 17);
    assert_eq!(read(&fs, "/outside/one").await, b"changed meanwhile");

    std::fs::write(outside.join("three"), b"3").expect("written");
    let options = ListStatusOptions {
        load_metadata_type: Some(LoadMetadataPType::Always),
        sync_interval_ms: Some(0),
        ..ListStatusOptions::new()
    };
    assert_eq!(fs.list_status_with_options("/outside", options).await.expect("listed").len(), 3);

    // Removed here only, it is found again; removed for good, it is not.
    fs.delete("/outside/one", DeleteOptions::goosefs_only_unchecked()).await.expect("removed");
    assert_eq!(std::fs::read(outside.join("one")).expect("it stays"), b"changed meanwhile");
    assert_eq!(read(&fs, "/outside/one").await, b"changed meanwhile");
    fs.delete("/outside/one", DeleteOptions::default()).await.expect("removed");
    assert!(!outside.join("one").exists() && !fs.exists("/outside/one").await.expect("answered"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_the_ones_this_client_tells_apart() {
    let shared = shared();
    let fs = connect(&shared.local).await;
    write(&fs, "/errors/a", b"1", WritePType::MustCache).await;
    write(&fs, "/errors/b", b"2", WritePType::MustCache).await;
    let context = fs.context().clone();
    let create = |path: &'static str, recursive: bool| {
        let options = CreateFilePOptions { recursive: Some(recursive), ..CreateFilePOptions::default() };
        GoosefsFileWriter::create_with_context(context.clone(), path, Some(options))
    };
    let missing = [
        fs.get_status("/errors/nothing").await.map(drop),
        fs.open_file("/errors/nothing", OpenFileOptions::new()).await.map(drop),
        fs.list_status("/errors/nothing", false).await.map(drop),
        fs.delete("/errors/nothing", DeleteOptions::default()).await,
        fs.rename("/errors/nothing", "/errors/c").await,
        fs.rename("/errors/a", "/errors/no/such/parent").await,
        create("/errors/no/such/parent", false).await.map(drop),
    ];
    for (n, result) in missing.into_iter().enumerate() {
        let error = result.expect_err("something is missing");
        assert!(error.is_not_found(), "{n}: {error}");
    }
    assert!(!fs.exists("/errors/no").await.expect("answered"), "a refused create makes no parent");
    for result in [
        create("/errors/a", true).await.map(drop),
        fs.rename("/errors/a", "/errors/b").await,
        fs.mkdir("/errors/a", true).await,
    ] {
        let error = result.expect_err("something is there");
        assert!(error.is_already_exists(), "{error}");
    }
    let error = fs.open_file("/errors", OpenFileOptions::new()).await.map(drop).expect_err("a directory");
    assert!(matches!(error, Error::OpenDirectory { .. }), "{error}");
    let mut half = create("/errors/half", true).await.expect("created");
    let error = fs.open_file("/errors/half", OpenFileOptions::new()).await.map(drop).expect_err("incomplete");
    assert!(error.is_file_incomplete(), "{error}");
    half.cancel().await.expect("cancelled");
    for path in ["", "relative", "/errors/../b"] {
        let error = fs.get_status(path).await.expect_err("no path");
        assert!(matches!(error, Error::InvalidArgument { .. }), "{path:?}: {error}");
    }
    let options = CreateFilePOptions { block_size_bytes: Some(-1), ..CreateFilePOptions::default() };
    let error = context.acquire_master().create_file("/errors/negative", options).await.expect_err("no block size");
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
}

/// The calls below the file system, as other clients make them.
#[tokio::test(flavor = "multi_thread")]
async fn the_masters_calls_one_by_one() {
    let shared = shared();
    let config = config(&shared.local);
    let master = MasterClient::connect(&config).await.expect("connects");
    let workers = WorkerManagerClient::connect(&config).await.expect("connects");
    let workers = workers.get_worker_info_list().await.expect("answered");
    assert_eq!(workers.len(), 1);
    let address = workers[0].address.clone().expect("it has one");
    assert_eq!(address.rpc_port, Some(i32::from(shared.local.worker_addr().port())));
    assert!(workers[0].capacity_bytes > Some(0));

    master.create_directory("/calls", true).await.expect("made");
    // Metadata alone: a length without data is no concern of the master.
    let options = CreateFilePOptions { block_size_bytes: Some(BLOCK as i64), ..CreateFilePOptions::default() };
    let made = master.create_file("/calls/empty-words", options).await.expect("created");
    let block = (made.file_id.expect("an id") >> 24) << 24;
    master.commit_location("/calls/empty-words", made.file_id, block, Vec::new()).await.expect("nothing to say");
    master.complete_file("/calls/empty-words", Some(169), None).await.expect("completed");
    master.complete_file("/calls/empty-words", Some(169), None).await.expect("completed again, the same");
    let status = master.get_status("/calls/empty-words").await.expect("known");
    assert_eq!((status.length, status.completed), (Some(169), Some(true)));
    assert_eq!(status.file_block_infos.len(), 1);
    master.remove_blocks(vec![block, 1 << 40]).await.expect("unknown ones are no error");

    // The inode wins over the path it was made at.
    let options = CreateFilePOptions { block_size_bytes: Some(BLOCK as i64), ..CreateFilePOptions::default() };
    let made = master.create_file("/calls/renamed", options).await.expect("created");
    master.rename("/calls/renamed", "/calls/elsewhere").await.expect("renamed");
    let done = CompleteFileOptions { ufs_length: Some(0), inode_id: made.file_id, ..CompleteFileOptions::default() };
    master.complete_file_with_options("/calls/renamed", done).await.expect("completed");
    assert_eq!(master.get_status("/calls/elsewhere").await.expect("known").completed, Some(true));

    let fs = connect(&shared.local).await;
    write(&fs, "/calls/cached", b"later", WritePType::MustCache).await;
    master.schedule_async_persistence("/calls/cached", Some(0)).await.expect("scheduled");
    testkit::eventually_async(super::PATIENCE, || async {
        master.get_status("/calls/cached").await.expect("known").persisted == Some(true)
    })
    .await;
    assert_eq!(std::fs::read(shared.local.store().join("calls/cached")).expect("the object exists"), b"later");
    let listed = master.list_status("/calls", false).await.expect("listed");
    let (load, sync) = (Some(LoadMetadataPType::Once), Some(-1));
    assert_eq!(master.list_status_with_load_type("/calls", true, load).await.expect("listed").len(), listed.len());
    assert_eq!(master.list_status_with_options("/calls", false, load, sync).await.expect("listed").len(), listed.len());
    assert_eq!(
        master.get_status_with_load_type("/calls/cached", load, sync).await.expect("known").length,
        Some(5),
        "a known file is not asked of the store"
    );
    master.delete_with_options("/calls", DeleteOptions::recursive()).await.expect("removed");
    assert!(master.get_status("/calls").await.is_err_and(|error| error.is_not_found()));
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_finds_the_master_and_proves_the_user() {
    let shared = shared();
    // Two addresses: the first is dead, the version service of the second says it leads.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let fs = BaseFileSystem::connect(config_for(&[dead, shared.local.master_addr()])).await.expect("the second leads");
    let options = CreateFileOptions { recursive: true, ..CreateFileOptions::default() };
    assert_eq!(fs.write_file("/connected/file", b"seven b", options).await.expect("written"), 7);
    assert_eq!(fs.get_status("/connected/file").await.expect("known").owner, "root");
    fs.context().close().await.expect("its last metrics are taken");
    assert!(fs.context().is_closed());

    let user = config(&shared.local).with_auth_username("somebody");
    let fs = BaseFileSystem::connect(user).await.expect("connects");
    write(&fs, "/somebodys", &content(1, 10), WritePType::MustCache).await;
    assert_eq!(fs.get_status("/somebodys").await.expect("known").owner, "somebody");
    let error = fs.delete("/connected/file", DeleteOptions::default()).await.expect_err("not theirs");
    assert!(error.is_access_denied(), "{error}");

    // Without a handshake a SIMPLE master serves no metadata.
    let nosasl = config(&shared.local).with_auth_type(AuthType::NoSasl);
    let context = FileSystemContext::connect(nosasl).await.expect("connects");
    let error = context.acquire_master().get_status("/").await.expect_err("who is it?");
    assert!(error.is_authentication_failed(), "{error}");
}
