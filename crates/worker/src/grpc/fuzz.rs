//! What a client may send on the two block streams: sequences of messages mutated from sound ones, whole, cut anywhere, ended
//! in order or broken off, to all parts of a worker. A read gives nothing but what stands there; a write is kept whole, as it
//! was sent, or not at all.

use super::*;
use crate::assembly::tests::master::block;
use crate::assembly::tests::{Parts, being_written};
use crate::store::ReadOutcome;
use bytes::{BufMut, Bytes};
use http_body::Frame;
use http_body_util::{BodyExt, Collected};
use prost::Message;
use proto::grpc::block::write_request::Value;
use proto::grpc::block::{
    Chunk, ReadRequest, ReadResponse, RequestType, WriteRequest, WriteRequestCommand, WriteResponse,
};
use proto::shared::dataserver::{CreateUfsFileOptions, OpenUfsBlockOptions};
use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use testkit::data::Data;
use tonic::Code;
use types::{BlockId, Principal, Proof};
use ufs::Key;

/// The file that is read: a block and a half, of several pieces.
const FILE: u64 = 1;
const BLOCK_BYTES: u64 = 200_000;
const FILE_BYTES: usize = 300_000;
/// Files that are written: in the cache, and in the store.
const CACHED: u64 = 2;
const STORED: u64 = 3;
const STORED_KEY: &str = "data/written";
const HEAD_BYTES: usize = 5;
/// Turns a stream gets to end after its answer has.
const TURNS: usize = 1_000;

/// The first byte of an input: how the stream ends, and in pieces of what size it comes. The rest is what is sent.
const BROKEN_OFF: u8 = 1;

/// What a client sends: pieces, then an end in order or a reset.
struct Sent {
    pieces: VecDeque<Bytes>,
    broken_off: bool,
}

impl Sent {
    fn new(how: u8, bytes: &[u8]) -> Sent {
        let size = 1 + usize::from(how >> 1) * 97;
        Sent { pieces: bytes.chunks(size).map(Bytes::copy_from_slice).collect(), broken_off: how & BROKEN_OFF != 0 }
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    /// As hyper tells them apart: after a reset it has ended, and yet not in order.
    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && !self.broken_off
    }
}

/// Messages in their gRPC frames, behind a first byte.
fn stream(how: u8, messages: &[&dyn ErasedMessage]) -> Vec<u8> {
    let mut bytes = vec![how];
    for message in messages {
        let message = message.bytes();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.len()).expect("small"));
        bytes.extend_from_slice(&message);
    }
    bytes
}

trait ErasedMessage {
    fn bytes(&self) -> Vec<u8>;
}

impl<M: Message> ErasedMessage for M {
    fn bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

/// Takes the messages of a stream apart, as far as they are whole.
fn messages<M: Message + Default>(mut bytes: &[u8]) -> Vec<M> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) {
        let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes"));
        let Some((body, rest)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) else {
            break;
        };
        let Ok(message) = M::decode(body) else { break };
        found.push(message);
        bytes = rest;
    }
    found
}

/// A worker, and what it must be like after each stream.
struct Judged {
    parts: Parts,
    content: Bytes,
}

impl Judged {
    async fn new() -> Judged {
        let parts = Parts::new(|under| under);
        let content = Data::new(1).bytes(0, FILE_BYTES);
        parts.object(FILE, &content, BLOCK_BYTES).await;
        parts.master.add(CACHED, being_written("", BLOCK_BYTES));
        parts.master.add(STORED, being_written(STORED_KEY, BLOCK_BYTES));
        Judged { parts, content }
    }

    fn request(input: &[u8]) -> http::Request<Sent> {
        let (how, bytes) = input.split_first().map_or((0, &[][..]), |(how, bytes)| (*how, bytes));
        let mut request = http::Request::new(Sent::new(how, bytes));
        let who = Principal { user: "ann".to_owned(), groups: Vec::new(), proof: Proof::Claimed };
        request.extensions_mut().insert(Arc::new(who));
        request
    }

    /// The end of an answer and its bytes, once nothing of the stream is left.
    async fn ended(&self, answer: rpc::Answer) -> (Status, Bytes) {
        let (head, body) = answer.into_parts();
        let body: Collected<Bytes> = body.collect().await.expect("an answer ends with a status");
        let end = Status::from_header_map(&head.headers).or_else(|| body.trailers().and_then(Status::from_header_map));
        let end = end.expect("an answer has an end: without one, its task has panicked");
        let metrics = &self.parts.metrics;
        let busy = || metrics.active_writes.get() + metrics.active_reads.get() + metrics.active_fetches.get();
        for _ in 0..TURNS {
            if busy() == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_micros(10)).await;
        }
        assert_eq!(busy(), 0, "the stream goes on without a client");
        self.parts.store.check_invariants();
        assert!(!end.message().contains("bug"), "{end}");
        (end, body.to_bytes())
    }

    async fn read(&self, input: &[u8]) -> Code {
        let service = Arc::clone(&self.parts.assembly.service);
        let (end, bytes) = self.ended(read_block::serve(service, Self::request(input)).await).await;
        assert_ne!(end.code(), Code::Unknown, "{end}");
        let data = messages::<ReadResponse>(&bytes);
        let data: Vec<Bytes> = data.into_iter().filter_map(|message| message.chunk?.data).collect();
        let data = data.concat();
        let wanted = messages::<ReadRequest>(input.get(1..).unwrap_or_default()).into_iter().next();
        let Some(wanted) = wanted else {
            assert!(data.is_empty() && end.code() != Code::Ok, "an answer to no question");
            return end.code();
        };
        let all = wanted.block_id.and_then(BlockId::from_wire).map_or(&[][..], |id| self.content_of(id));
        let start = usize::try_from(wanted.offset.unwrap_or_default()).unwrap_or(usize::MAX).min(all.len());
        let length = wanted.length.and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
        let there = &all[start..start.saturating_add(length).min(all.len())];
        assert!(there.starts_with(&data), "bytes that do not stand there");
        assert!(end.code() != Code::Ok || data.len() == there.len(), "a short read that looks whole");
        end.code()
    }

    fn content_of(&self, id: BlockId) -> &[u8] {
        if id.container() != types::ContainerId(FILE) {
            return &[];
        }
        let block = usize::try_from(BLOCK_BYTES).expect("small");
        let start = usize::try_from(id.index()).unwrap_or(usize::MAX).saturating_mul(block).min(FILE_BYTES);
        &self.content[start..(start + block).min(FILE_BYTES)]
    }

    async fn write(&self, input: &[u8]) -> Code {
        let service = Arc::clone(&self.parts.assembly.service);
        let (end, bytes) = self.ended(write_block::serve(service, Self::request(input)).await).await;
        assert!(!matches!(end.code(), Code::Unknown | Code::Internal), "{end}");
        let sent = messages::<WriteRequest>(input.get(1..).unwrap_or_default());
        let data = sent.iter().filter_map(|message| match &message.value {
            Some(Value::Chunk(chunk)) => chunk.data.clone(),
            Some(Value::Command(_)) | None => None,
        });
        let data = data.collect::<Vec<Bytes>>().concat();
        let told = messages::<WriteResponse>(&bytes);
        let written = end.code() == Code::Ok;
        if written {
            let last = told.last().and_then(|message| message.offset).expect("the length is told");
            assert_eq!(usize::try_from(last), Ok(data.len()), "what is told is not what was sent");
        }
        let first = sent.into_iter().find_map(|message| message.value);
        let command = match first {
            Some(Value::Command(command)) => command,
            Some(Value::Chunk(_)) | None => {
                assert!(!written, "written without a command");
                return end.code();
            }
        };
        let to_store = command.r#type == Some(RequestType::UfsFile.into());
        self.check_cached(command.id.and_then(BlockId::from_wire), (written && !to_store).then_some(&data)).await;
        self.check_stored((written && to_store).then_some(&data)).await;
        end.code()
    }

    /// The block is there with this content, or not at all; then it goes. Without a byte there is none.
    async fn check_cached(&self, id: Option<BlockId>, data: Option<&Vec<u8>>) {
        let (store, data) = (&self.parts.store, data.filter(|data| !data.is_empty()));
        let written = store.reports().into_iter().filter(|report| report.block.container().0 != FILE);
        assert_eq!(written.count(), data.iter().count(), "a block that nobody wrote, or none");
        let (Some(id), Some(data)) = (id, data) else { return };
        let length = u64::try_from(data.len()).expect("small");
        let lease = store.lease(id).await.expect("its head is readable").expect("it was committed");
        assert_eq!(lease.length(), length);
        let mut found = Vec::new();
        while found.len() < data.len() {
            let at = u64::try_from(found.len()).expect("small");
            match lease.read(at..length).await.expect("memory") {
                ReadOutcome::Bytes(bytes) => found.extend_from_slice(&bytes),
                ReadOutcome::Missing { piece } => panic!("piece {piece} of what was acknowledged is missing"),
            }
        }
        assert!(found == *data, "other bytes than were sent");
        drop(lease);
        assert!(store.remove(id), "nobody uses it");
        store.tidy();
    }

    async fn check_stored(&self, data: Option<&Vec<u8>>) {
        let (under, key) = (&self.parts.under, Key::parse(STORED_KEY).expect("a key"));
        let found = under.stat(&key).await.expect("memory");
        assert_eq!(found.is_some(), data.is_some(), "an object that nobody wrote, or none");
        if let (Some(info), Some(data)) = (found, data) {
            let stream = under.read(&key, 0..info.length, None).await.expect("memory");
            assert!(stream.collect().await.expect("memory") == *data, "another object than was sent");
            under.delete(&key, None).await.expect("memory");
        }
        let mut state = self.parts.master.state.lock();
        state.closed.clear();
        state.announced.clear();
    }
}

fn read_samples(_: &Judged) -> Vec<Vec<u8>> {
    let wanted = |index| ReadRequest {
        block_id: Some(block(FILE, index).to_wire()),
        offset: Some(0),
        length: Some(i64::try_from(BLOCK_BYTES).expect("small")),
        chunk_size: Some(70_000),
        ..ReadRequest::default()
    };
    let receipt = ReadRequest { offset_received: Some(70_000), ..ReadRequest::default() };
    let options = OpenUfsBlockOptions { no_cache: Some(true), ..OpenUfsBlockOptions::default() };
    let passing = ReadRequest { open_ufs_block_options: Some(options), offset: Some(99_000), ..wanted(0) };
    let positioned = ReadRequest { position_short: Some(true), offset: Some(65_530), length: Some(20), ..wanted(1) };
    vec![
        stream(0xFE, &[&wanted(0), &receipt, &receipt]),
        stream(0xFE, &[&wanted(1)]),
        stream(0xFE | BROKEN_OFF, &[&wanted(1), &receipt]),
        stream(0x02, &[&passing]),
        stream(0xFE, &[&positioned]),
    ]
}

fn write_samples(judged: &Judged) -> Vec<Vec<u8>> {
    let command = |command| WriteRequest { value: Some(Value::Command(command)) };
    let chunk = |length| {
        let data = Some(Data::new(2).bytes(0, length));
        WriteRequest { value: Some(Value::Chunk(Chunk { data })) }
    };
    let flush = command(WriteRequestCommand { flush: Some(true), ..WriteRequestCommand::default() });
    let to_cache = command(WriteRequestCommand {
        r#type: Some(RequestType::GoosefsBlock.into()),
        id: Some(block(CACHED, 0).to_wire()),
        offset: Some(0),
        ..WriteRequestCommand::default()
    });
    let options = CreateUfsFileOptions {
        ufs_path: Some(format!("{}/{STORED_KEY}", judged.parts.under.uri())),
        mount_id: Some(1),
        ..CreateUfsFileOptions::default()
    };
    let to_store = command(WriteRequestCommand {
        r#type: Some(RequestType::UfsFile.into()),
        id: Some(-1),
        offset: Some(0),
        create_ufs_file_options: Some(options),
        ..WriteRequestCommand::default()
    });
    vec![
        stream(0xFE, &[&to_cache, &chunk(30), &flush, &chunk(5_000)]),
        stream(0x02, &[&to_cache, &chunk(30), &chunk(1)]),
        stream(0xFE | BROKEN_OFF, &[&to_cache, &chunk(300), &flush]),
        stream(0xFE, &[&to_store, &chunk(3_000), &flush, &chunk(30)]),
        stream(0xFE | BROKEN_OFF, &[&to_store, &chunk(30)]),
    ]
}

/// Gives a stream many inputs. Some end well and some are refused, or it tests nothing.
fn campaign(name: &str, samples: fn(&Judged) -> Vec<Vec<u8>>, serve: impl AsyncFn(&Judged, &[u8]) -> Code) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let judged = runtime.block_on(Judged::new());
    let (well, refused) = (Cell::new(0_u64), Cell::new(0_u64));
    testkit::fuzz::fuzz(name, &samples(&judged), |input| {
        let count = if runtime.block_on(serve(&judged, input)) == Code::Ok { &well } else { &refused };
        count.set(count.get() + 1);
    });
    assert!(well.get() > 0 && refused.get() > 0, "{} end well, {} are refused", well.get(), refused.get());
}

#[test]
fn fuzz_read_stream() {
    campaign("read_stream", read_samples, Judged::read);
}

#[test]
fn fuzz_write_stream() {
    campaign("write_stream", write_samples, Judged::write);
}
