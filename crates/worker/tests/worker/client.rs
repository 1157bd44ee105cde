//! A client of the official protocol, message by message.

use bytes::{Bytes, BytesMut};
use futures::stream;
use proto::grpc::block::block_worker_client::BlockWorkerClient;
use proto::grpc::block::write_request::Value;
use proto::grpc::block::*;
use proto::shared::dataserver::{CreateUfsFileOptions, OpenUfsBlockOptions};
use rpc::{AuthType, Connection, Identity, Service};
use std::future::pending;
use std::net::SocketAddr;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use types::BlockId;

pub struct Client {
    pub stub: BlockWorkerClient<Service>,
    _connection: Connection,
}

/// An open read, whose request half the test ends as it likes.
pub struct Read {
    pub chunks: Streaming<ReadResponse>,
    pub requests: mpsc::UnboundedSender<Option<ReadRequest>>,
}

impl Read {
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        Ok(self.chunks.message().await?.map(|message| message.chunk.and_then(|chunk| chunk.data).unwrap_or_default()))
    }
    pub async fn rest(&mut self) -> Result<Bytes, Status> {
        let mut all = BytesMut::new();
        while let Some(data) = self.next().await? {
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    }
    /// Ends our half orderly.
    pub fn half_close(&self) {
        let _ = self.requests.send(None);
    }
}

/// An open write. Dropping it resets the stream, as long as nothing was flushed: only a client that still waits for
/// headers can reset.
pub struct Write {
    requests: mpsc::UnboundedSender<Option<Value>>,
    answers: mpsc::UnboundedReceiver<u64>,
    call: JoinHandle<Result<(), Status>>,
}

impl Drop for Write {
    fn drop(&mut self) {
        self.call.abort();
    }
}

impl Write {
    pub fn send(&self, data: Bytes) {
        let _ = self.requests.send(Some(Value::Chunk(Chunk { data: Some(data) })));
    }
    pub async fn flush(&mut self) -> Option<u64> {
        let _ =
            self.requests.send(Some(Value::Command(WriteRequestCommand { flush: Some(true), ..Default::default() })));
        self.answers.recv().await
    }
    /// Half-closes and waits for the end.
    pub async fn commit(mut self) -> Result<(), Status> {
        let _ = self.requests.send(None);
        (&mut self.call).await.expect("not aborted")
    }
}

/// Ends when the test says so, or when the sender vanishes, as the official client's streams do.
fn until_dropped<T: Send + 'static>(queue: mpsc::UnboundedReceiver<Option<T>>) -> impl stream::Stream<Item = T> + Send {
    stream::unfold(queue, |mut queue| async move { queue.recv().await.flatten().map(|message| (message, queue)) })
}

/// Ends when the test says so only.
fn until_none<T: Send + 'static>(queue: mpsc::UnboundedReceiver<Option<T>>) -> impl stream::Stream<Item = T> + Send {
    stream::unfold(queue, |mut queue| async move {
        match queue.recv().await {
            Some(Some(message)) => Some((message, queue)),
            Some(None) => None,
            // A sender that vanished must not look like an end.
            None => pending().await,
        }
    })
}

pub fn request(block: BlockId, offset: u64, length: u64) -> ReadRequest {
    let signed = |value: u64| Some(i64::try_from(value).expect("small"));
    ReadRequest {
        block_id: Some(block.to_wire()),
        offset: signed(offset),
        length: signed(length),
        chunk_size: Some(1 << 20),
        prefetch_window: Some(8),
        ..ReadRequest::default()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr, user: &str) -> Client {
        let identity = Identity { user: user.to_owned(), auth: AuthType::Simple };
        let deadline = Instant::now() + crate::cluster::PATIENCE;
        let connection = Connection::open(&address.to_string(), &identity, deadline).await.expect("the worker listens");
        Client { stub: BlockWorkerClient::new(connection.service()), _connection: connection }
    }

    pub async fn open(&self, first: ReadRequest) -> Result<Read, Status> {
        let (requests, queue) = mpsc::unbounded_channel();
        requests.send(Some(first)).expect("just made");
        let chunks = self.stub.clone().read_block(until_dropped(queue)).await?.into_inner();
        Ok(Read { chunks, requests })
    }

    pub async fn read(&self, block: BlockId, offset: u64, length: u64) -> Result<Bytes, Status> {
        self.open(request(block, offset, length)).await?.rest().await
    }

    /// A positioned read, as the official client sends it for a file with a place in a store.
    pub async fn pread(&self, block: BlockId, offset: u64, length: u64) -> Result<Bytes, Status> {
        let first = ReadRequest { position_short: Some(true), prefetch_window: None, ..request(block, offset, length) };
        self.open(first).await?.rest().await
    }

    pub async fn read_uncached(&self, block: BlockId, offset: u64, length: u64) -> Result<Bytes, Status> {
        let options = OpenUfsBlockOptions { no_cache: Some(true), ..OpenUfsBlockOptions::default() };
        let first = ReadRequest { open_ufs_block_options: Some(options), ..request(block, offset, length) };
        self.open(first).await?.rest().await
    }

    pub fn write(&self, block: BlockId) -> Write {
        self.write_command(WriteRequestCommand {
            r#type: Some(RequestType::GoosefsBlock.into()),
            id: Some(block.to_wire()),
            offset: Some(0),
            space_to_reserve: Some(64 << 20),
            ..WriteRequestCommand::default()
        })
    }

    pub fn write_store(&self, path: &str) -> Write {
        self.write_command(WriteRequestCommand {
            r#type: Some(RequestType::UfsFile.into()),
            id: Some(-1),
            offset: Some(0),
            space_to_reserve: Some(i64::MAX),
            create_ufs_file_options: Some(CreateUfsFileOptions {
                ufs_path: Some(path.to_owned()),
                mount_id: Some(1),
                ..CreateUfsFileOptions::default()
            }),
            ..WriteRequestCommand::default()
        })
    }

    fn write_command(&self, command: WriteRequestCommand) -> Write {
        let (requests, queue) = mpsc::unbounded_channel();
        requests.send(Some(Value::Command(command))).expect("just made");
        let (answered, answers) = mpsc::unbounded_channel();
        let mut stub = self.stub.clone();
        let call = tokio::spawn(async move {
            let messages = futures::StreamExt::map(until_none(queue), |value| WriteRequest { value: Some(value) });
            let mut responses = stub.write_block(messages).await?.into_inner();
            while let Some(response) = responses.message().await? {
                let _ = answered.send(u64::try_from(response.offset.unwrap_or_default()).expect("not negative"));
            }
            Ok(())
        });
        Write { requests, answers, call }
    }

    /// Writes a whole block in 1 MiB chunks.
    pub async fn put(&self, block: BlockId, data: &Bytes) -> Result<(), Status> {
        let write = self.write(block);
        data.chunks(1 << 20).for_each(|part| write.send(data.slice_ref(part)));
        write.commit().await
    }

    pub async fn resident(&self, block: BlockId) -> i64 {
        let request = CheckBlocksRequest { block_ids: vec![block.to_wire()] };
        let answer = self.stub.clone().check_blocks(request).await.expect("answered").into_inner();
        answer.block_cached_bytes.get(&block.to_wire()).copied().unwrap_or(0)
    }
}
