//! What a client may send: every call of the file system with messages mutated from sound ones, to a whole master.

use super::*;
use prost::Message;
use proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientService;
use proto::grpc::file::*;
use std::cell::RefCell;
use tonic::Status;

/// The call's number, then its message.
fn call(number: u8, message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![number];
    message.encode(&mut bytes).expect("a vector grows");
    bytes
}

fn samples() -> Vec<Vec<u8>> {
    let path = || Some("/a/b".to_owned());
    let create = CreateFilePOptions { recursive: Some(true), block_size_bytes: Some(64 << 20), ..Default::default() };
    let complete = CompleteFilePOptions { ufs_length: Some(5), ..Default::default() };
    let directory = CreateDirectoryPOptions { recursive: Some(true), allow_exists: Some(true), ..Default::default() };
    let remove = DeletePOptions { recursive: Some(true), unchecked: Some(true), ..Default::default() };
    let attributes = SetAttributePOptions { owner: Some("ann".into()), recursive: Some(true), ..Default::default() };
    vec![
        call(0, &GetStatusPRequest { path: path(), ..Default::default() }),
        call(1, &ListStatusPRequest { path: Some("/".into()), ..Default::default() }),
        call(2, &CreateFilePRequest { path: path(), options: Some(create) }),
        call(3, &CompleteFilePRequest { path: path(), options: Some(complete), inode_id: None }),
        call(4, &CreateDirectoryPRequest { path: Some("/d/e".into()), options: Some(directory) }),
        call(5, &DeletePRequest { path: path(), options: Some(remove) }),
        call(6, &RenamePRequest { path: path(), dst_path: Some("/d/c".into()), options: None }),
        call(7, &SetAttributePRequest { path: path(), options: Some(attributes) }),
        call(8, &CommitLocationPRequest { path: path(), ..Default::default() }),
        call(9, &GetFilePathPRequest { file_id: Some(5 << 24 | 0xFF_FFFF), ..Default::default() }),
        call(10, &CheckAccessPRequest { path: path(), ..Default::default() }),
        call(11, &RemoveBlocksPRequest::default()),
        call(12, &GetStatusBatchPRequest::default()),
        call(13, &FreePRequest { path: path(), ..Default::default() }),
    ]
}

/// Decodes the message and makes the call. Bytes that are no message are refused before any of our code sees them.
async fn make_call(fs: &FileSystem, bytes: &[u8]) -> Result<(), Status> {
    fn asked<M: Message + Default>(bytes: &[u8]) -> Result<Request<M>, Status> {
        let message = M::decode(bytes).map_err(|_| Status::invalid_argument("no message"))?;
        let mut request = Request::new(message);
        request.extensions_mut().insert(Principal::system());
        Ok(request)
    }
    let Some((number, body)) = bytes.split_first() else { return Ok(()) };
    match number % 14 {
        0 => fs.get_status(asked(body)?).await.map(drop),
        1 => fs.list_status(asked(body)?).await.map(drop),
        2 => fs.create_file(asked(body)?).await.map(drop),
        3 => fs.complete_file(asked(body)?).await.map(drop),
        4 => fs.create_directory(asked(body)?).await.map(drop),
        5 => fs.remove(asked(body)?).await.map(drop),
        6 => fs.rename(asked(body)?).await.map(drop),
        7 => fs.set_attribute(asked(body)?).await.map(drop),
        8 => fs.commit_location(asked(body)?).await.map(drop),
        9 => fs.get_file_path(asked(body)?).await.map(drop),
        10 => fs.check_access(asked(body)?).await.map(drop),
        11 => fs.remove_blocks(asked(body)?).await.map(drop),
        12 => fs.get_status_batch(asked(body)?).await.map(drop),
        _ => fs.free(asked(body)?).await.map(drop),
    }
}

#[test]
fn fuzz_calls_of_a_client() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let config =
        MasterConfig { metastore: Metastore::Heap, request_timeout: Duration::from_secs(10), ..config(dir.path()) };
    let master = runtime.block_on(start(&config));
    let key = Arc::new(ClusterKey::load(&config.key_file).expect("the cluster's key"));
    let fs = FileSystem { handle: master.handle.clone(), checks: Arc::new(Checks::default()), key };
    let codes = RefCell::new(BTreeSet::new());
    testkit::fuzz::fuzz("calls_of_a_client", &samples(), |bytes| {
        if let Err(status) = runtime.block_on(make_call(&fs, bytes)) {
            let code = status.code();
            assert!(!matches!(code, tonic::Code::Internal | tonic::Code::Unknown), "{status}");
            codes.borrow_mut().insert(i32::from(code));
        }
    });
    assert!(codes.borrow().contains(&i32::from(tonic::Code::InvalidArgument)));
    assert_eq!(*master.fatal.borrow(), None);
    runtime.block_on(master.stop(Duration::from_secs(10))).expect("a clean stop");
}
