//! Calls by frames, over real sockets.

mod common;

use bytes::{BufMut, BytesMut};
use common::{LONG, Setup, start, start_frames};
use prost::Message;
use proto::Calls;
use proto::grpc::file::{DeletePRequest, GetStatusPRequest, RenamePRequest, RenamePResponse};
use proto::grpc::version::GetServiceVersionPRequest;
use rpc::{AuthType, FrameService, Frames, Identity, Impersonation, MAX_CALLS, Watch};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Code, Response, Status};

fn ann() -> Identity {
    Identity { user: "ann".to_owned(), auth: AuthType::Simple }
}

fn unsaid() -> Identity {
    Identity { auth: AuthType::NoSasl, ..ann() }
}

async fn open(address: &str, identity: &Identity) -> Frames {
    Frames::open(address, identity, Instant::now() + LONG).await.expect("connects").expect("it knows frames")
}

fn status_of(path: &str) -> GetStatusPRequest {
    GetStatusPRequest { path: Some(path.to_owned()), ..GetStatusPRequest::default() }
}

async fn owner(frames: &Frames, path: &str) -> Result<String, tonic::Status> {
    let info = frames.call(&status_of(path)).await?.file_info.expect("a status");
    assert_eq!(info.path.as_deref(), Some(path));
    Ok(info.owner.unwrap_or_default())
}

/// Renames wait for a permit; counts those that wait, and those that were begun.
#[derive(Clone)]
struct Held {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
}

impl Held {
    fn new() -> Held {
        Held { permits: Arc::new(Semaphore::new(0)), waiting: Arc::default(), begun: Arc::default() }
    }

    fn add(&self, frames: FrameService) -> FrameService {
        struct Waits(Arc<AtomicUsize>);
        impl Drop for Waits {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let held = self.clone();
        frames.with::<RenamePRequest, _>(move |_| {
            let held = held.clone();
            async move {
                held.begun.fetch_add(1, Ordering::SeqCst);
                held.waiting.fetch_add(1, Ordering::SeqCst);
                let _waits = Waits(held.waiting.clone());
                held.permits.acquire().await.expect("open").forget();
                Ok(Response::new(RenamePResponse {}))
            }
        })
    }

    async fn until_waiting(&self, count: usize) {
        testkit::eventually_async(LONG, || async {
            let now = self.waiting.load(Ordering::SeqCst);
            if now == count { Ok(()) } else { Err(format!("{now} wait, not {count}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn calls_are_answered_and_the_caller_is_who_it_says() {
    let server = start_frames(Setup::default(), |frames| frames);
    let frames = open(&server.address(), &ann()).await;
    assert_eq!(owner(&frames, "/a").await.expect("answered"), "ann");
    let version = frames.call(&GetServiceVersionPRequest::default()).await.expect("answered");
    assert_eq!(version.version, Some(2));
    let unknown = frames.call(&DeletePRequest::default()).await.expect_err("not served");
    assert_eq!(unknown.code(), Code::Unimplemented);
    assert!(!frames.has::<DeletePRequest>() && frames.has::<GetStatusPRequest>());
}

#[tokio::test]
async fn who_does_not_say_who_it_is_may_ask_for_the_version_only() {
    let server = start_frames(Setup::default(), |frames| frames);
    let frames = open(&server.address(), &unsaid()).await;
    frames.call(&GetServiceVersionPRequest::default()).await.expect("for anybody");
    let refused = owner(&frames, "/").await.expect_err("who?");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("authentication.type=SIMPLE"), "{}", refused.message());
    let tolerant = start_frames(Setup { auth: AuthType::NoSasl, ..Setup::default() }, |frames| frames);
    let frames = open(&tolerant.address(), &unsaid()).await;
    assert_eq!(owner(&frames, "/").await.expect("a server that does not ask"), "nobody");
}

#[tokio::test]
async fn a_user_that_cannot_be_is_refused_with_the_servers_words() {
    let impersonation = Impersonation::none().for_users("ann", "bob");
    let server = start_frames(Setup { impersonation, ..Setup::default() }, |frames| frames);
    // PLAIN has the user for whom one acts before the first NUL: a client of ours has none, another may.
    for (plain, expected) in [("bob\0ann\0x", None), ("eve\0ann\0x", Some("may not act for")), ("\0ann", Some("parts"))]
    {
        let mut stream = TcpStream::connect(server.address()).expect("connects");
        let mut hello = vec![8, 1, 16, 1, 34, u8::try_from(plain.len()).expect("short")];
        hello.extend_from_slice(plain.as_bytes());
        stream.write_all(b"GOOSEFS FRAMES\r\n").expect("sent");
        stream.write_all(&frame(1, 0, 0, &hello)).expect("sent");
        let (kind, body) = read_frame(&mut stream);
        match expected {
            None => assert_eq!(kind, 2, "a welcome"),
            Some(words) => {
                let said = String::from_utf8_lossy(&body);
                assert!(kind == 5 && said.contains(words), "{kind}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_without_frames_is_told_from_one_that_is_not_there() {
    let server = start(Setup::default());
    let none = Frames::open(&server.address(), &ann(), Instant::now() + LONG).await.expect("something is there");
    assert!(none.is_none());
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string();
    let nobody = Frames::open(&free, &ann(), Instant::now() + LONG).await;
    assert!(nobody.is_err_and(|error| error.kind() == types::ErrorKind::Unavailable));
    let bad = Frames::open("no address", &ann(), Instant::now() + LONG).await;
    assert!(bad.is_err());
}

#[tokio::test]
async fn many_calls_at_once_each_have_their_own_answer() {
    let server = start_frames(Setup::default(), |frames| frames);
    let frames = Arc::new(open(&server.address(), &ann()).await);
    let calls = (0..3 * MAX_CALLS).map(|n| {
        let frames = frames.clone();
        tokio::spawn(async move { owner(&frames, &format!("/{n}")).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("no panic").expect("answered"), "ann");
    }
}

#[tokio::test]
async fn one_that_waits_holds_up_no_other_and_no_more_than_the_bound_are_begun() {
    let held = Held::new();
    let server = start_frames(Setup::default(), |frames| held.add(frames));
    let frames = Arc::new(open(&server.address(), &ann()).await);
    let rename = |frames: Arc<Frames>| async move { frames.call(&RenamePRequest::default()).await };
    let first = tokio::spawn(rename(frames.clone()));
    held.until_waiting(1).await;
    owner(&frames, "/beside").await.expect("answered meanwhile");
    let more: Vec<_> = (0..MAX_CALLS + 50).map(|_| tokio::spawn(rename(frames.clone()))).collect();
    held.until_waiting(MAX_CALLS).await;
    held.permits.add_permits(MAX_CALLS + 51);
    first.await.expect("no panic").expect("answered");
    for call in more {
        call.await.expect("no panic").expect("answered");
    }
    assert_eq!(held.begun.load(Ordering::SeqCst), MAX_CALLS + 51);
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_at_the_server() {
    let held = Held::new();
    let server = start_frames(Setup::default(), |frames| held.add(frames));
    let frames = open(&server.address(), &ann()).await;
    let request = RenamePRequest::default();
    {
        let mut call = std::pin::pin!(frames.call(&request));
        assert!(futures::poll!(call.as_mut()).is_pending());
        held.until_waiting(1).await;
    }
    held.until_waiting(0).await;
    owner(&frames, "/after").await.expect("the connection goes on");
    drop(frames);
    let frames = open(&server.address(), &ann()).await;
    let call = tokio::spawn(async move { frames.call(&RenamePRequest::default()).await });
    held.until_waiting(1).await;
    call.abort();
    held.until_waiting(0).await;
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_sends_the_client_elsewhere() {
    let held = Held::new();
    let server = start_frames(Setup::default(), |frames| held.add(frames));
    let frames = Arc::new(open(&server.address(), &ann()).await);
    let call = tokio::spawn({
        let frames = frames.clone();
        async move { frames.call(&RenamePRequest::default()).await }
    });
    held.until_waiting(1).await;
    let stop = tokio::spawn(server.running.stop(LONG));
    testkit::eventually_async(LONG, || async { if frames.is_over() { Ok(()) } else { Err("it goes on") } }).await;
    let refused = owner(&frames, "/").await.expect_err("it leaves");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(!stop.is_finished(), "a call is under way");
    held.permits.add_permits(1);
    call.await.expect("no panic").expect("answered during the drain");
    assert_eq!(stop.await.expect("no panic"), 0);
}

#[tokio::test]
async fn when_the_server_goes_all_that_wait_are_told() {
    let held = Held::new();
    let server = start_frames(Setup::default(), |frames| held.add(frames));
    let frames = Arc::new(open(&server.address(), &ann()).await);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let frames = frames.clone();
            tokio::spawn(async move { frames.call(&RenamePRequest::default()).await })
        })
        .collect();
    held.until_waiting(3).await;
    server.running.stop(Duration::ZERO).await;
    for call in calls {
        let lost = call.await.expect("no panic").expect_err("cut");
        assert_eq!(lost.code(), Code::Unavailable, "{lost}");
    }
    assert!(frames.is_over());
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed() {
    let (address, silent) = silent(|stream| {
        let mut asked = Vec::new();
        while asked.last() != Some(&7) {
            asked.push(read_frame(stream).0);
        }
        asked
    });
    let frames = open(&address, &ann()).await;
    let lost = owner(&frames, "/").await.expect_err("no answer");
    assert!(lost.code() == Code::Unavailable && lost.message().contains("is silent"), "{lost}");
    drop(frames);
    assert_eq!(silent.join().expect("no panic"), [3, 7], "the call, then whether it is there");
}

#[tokio::test]
async fn one_that_vanishes_is_noticed_though_nobody_asks_it_anything() {
    let (address, silent) = silent(|stream| read_frame(stream).0);
    let watch = Watch { ask_after: Duration::from_millis(20), silence: Duration::from_millis(100), always: true };
    let frames = Frames::open_unnamed(&address, watch, Instant::now() + LONG).await.expect("connects");
    let frames = frames.expect("it knows frames");
    let why = frames.over().await;
    assert!(why.code() == Code::Unavailable && why.message().contains("is silent"), "{why}");
    drop(frames);
    assert_eq!(silent.join().expect("no panic"), 7, "whether it is there");
}

#[tokio::test]
async fn a_client_that_was_held_up_reads_what_has_come_before_it_calls_a_server_silent() {
    let (asked, is_asked) = tokio::sync::oneshot::channel();
    let (asked_again, is_asked_again) = tokio::sync::oneshot::channel();
    let (answered, is_answered) = std::sync::mpsc::channel();
    let (address, silent) = silent(move |stream| {
        assert_eq!(read_frame(stream).0, 7, "whether it is there");
        asked.send(()).expect("somebody waits");
        stream.write_all(&frame(8, 0, 0, &[])).expect("sent");
        answered.send(()).expect("somebody waits");
        assert_eq!(read_frame(stream).0, 7, "it goes on");
        asked_again.send(()).expect("somebody waits");
    });
    let watch = Watch { ask_after: Duration::from_millis(20), silence: LONG, always: true };
    let frames = Frames::open_unnamed(&address, watch, Instant::now() + LONG).await.expect("connects");
    let frames = frames.expect("it knows frames");
    is_asked.await.expect("no panic");
    // Nothing else runs on this thread, until more time has passed than a server may take.
    is_answered.recv().expect("no panic");
    tokio::time::pause();
    tokio::time::advance(2 * LONG).await;
    tokio::time::resume();
    is_asked_again.await.expect("no panic");
    assert!(!frames.is_over());
    drop(frames);
    tokio::task::spawn_blocking(|| silent.join().expect("no panic")).await.expect("no panic");
}

#[tokio::test]
async fn notes_to_one_that_does_not_read_wait_up_to_a_bound() {
    let (leave, stays) = std::sync::mpsc::channel::<()>();
    let (address, silent) = silent(move |_| stays.recv().is_err());
    let frames = open(&address, &ann()).await;
    let note = status_of(&"a".repeat(1 << 20));
    let said = (0..1000).take_while(|_| frames.note(&note, 16 << 20).expect("open")).count();
    assert!((15..100).contains(&said), "{said} notes: 16 MiB, and what the system holds");
    assert!(!frames.note(&status_of("/"), 16 << 10).expect("open"), "whoever wants less to wait is told so");
    drop((frames, leave));
    let stayed = tokio::task::spawn_blocking(|| silent.join().expect("no panic"));
    assert!(stayed.await.expect("no panic"), "it stayed until it was let go");
}

#[tokio::test]
async fn notes_arrive_in_order_and_one_that_fails_ends_the_connection() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let server = start_frames(Setup::default(), |frames| {
        let heard = heard.clone();
        frames.with::<RenamePRequest, _>(move |request| {
            let path = request.into_inner().path.unwrap_or_default();
            std::future::ready(if path == "/unknown" {
                Err(Status::not_found("there is no /unknown"))
            } else {
                heard.lock().expect("no panic").push(path);
                Ok(Response::new(RenamePResponse {}))
            })
        })
    });
    let note = |path: &str| RenamePRequest { path: Some(path.to_owned()), ..RenamePRequest::default() };
    let frames = open(&server.address(), &ann()).await;
    // Short ones and long ones, by a thread without a runtime.
    let paths: Vec<String> = (0..100_usize).map(|n| format!("/{n}{}", "x".repeat(n % 3 * 40_000))).collect();
    let told = paths.clone();
    let frames = tokio::task::spawn_blocking(move || {
        for path in &told {
            assert!(frames.note(&note(path), 16 << 20).expect("open"));
        }
        frames
    });
    let frames = frames.await.expect("no panic");
    testkit::eventually_async(LONG, || async { heard.lock().expect("no panic").len() == paths.len() }).await;
    assert_eq!(*heard.lock().expect("no panic"), paths);
    owner(&frames, "/beside").await.expect("calls go on beside them");
    assert!(frames.note(&note("/unknown"), 1 << 20).expect("open"));
    let why = frames.over().await;
    assert_eq!((why.code(), why.message()), (Code::NotFound, "there is no /unknown"));
    assert_eq!(frames.note(&note("/late"), 1 << 20).expect_err("over").code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_no_frame_is_named_and_ends_that_connection_alone() {
    let server = start_frames(Setup::default(), |frames| frames);
    let frames = open(&server.address(), &ann()).await;
    let greeted = |address: &str| {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.write_all(b"GOOSEFS FRAMES\r\n").expect("sent");
        stream.write_all(&frame(1, 0, 0, &[8, 1, 16, 1])).expect("sent");
        assert_eq!(read_frame(&mut stream).0, 2);
        stream
    };
    let mut flipped = frame(3, 0, 1, b"x");
    *flipped.last_mut().expect("not empty") ^= 1;
    let mut long = frame(3, 0, 1, b"");
    long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    for (bytes, words) in [
        (flipped, "checksum"),
        (long, "at most"),
        (frame(77, 0, 0, b""), "kind 77"),
        (frame(2, 0, 0, b""), "no place here"),
        (frame(3, 0, 0, b""), "no place here"),
    ] {
        let mut stream = greeted(&server.address());
        stream.write_all(&bytes).expect("sent");
        let (kind, said) = read_frame(&mut stream);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(kind == 9 && said.contains(words), "{kind}: {said}");
        assert_eq!(stream.read(&mut [0; 1]).expect("an orderly end"), 0);
    }
    // A method that is not there, and a request that cannot be read, are answered.
    let mut stream = greeted(&server.address());
    for (method, body, words) in [(999, &b""[..], "none of those"), (0, &b"\xff"[..], "cannot be read")] {
        stream.write_all(&frame(3, method, 5, body)).expect("sent");
        let (kind, said) = read_frame(&mut stream);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(kind == 5 && said.contains(words), "{kind}: {said}");
    }
    owner(&frames, "/still").await.expect("the others go on");
}

#[tokio::test]
async fn a_client_that_does_not_read_has_no_more_calls_begun() {
    let server = start_frames(Setup::default(), |frames| frames);
    let address: SocketAddr = server.running.local_addr();
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.write_all(b"GOOSEFS FRAMES\r\n").expect("sent");
    stream.write_all(&frame(1, 0, 0, &[8, 1, 16, 1, 34, 6, 0, b'a', b'n', b'n', 0, b'x'])).expect("sent");
    assert_eq!(read_frame(&mut stream).0, 2);
    // Full for this long: the server takes no more.
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
    // Answers are as long as their questions.
    let path = "a".repeat(1 << 20);
    let call = frame(3, 1, 7, &status_of(&path).encode_to_vec());
    let mut sent = 0;
    while stream.write_all(&call).is_ok() {
        sent += call.len();
        assert!(sent < 256 << 20, "the server takes whatever comes");
    }
    let frames = open(&server.address(), &ann()).await;
    owner(&frames, "/other").await.expect("others go on");
}

/// A server that welcomes one client, does so much with it, and waits until it leaves; what that came to.
fn silent<T: Send + 'static>(
    then: impl FnOnce(&mut TcpStream) -> T + Send + 'static,
) -> (String, std::thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.read_exact(&mut [0; 16]).expect("the preface");
        read_frame(&mut stream);
        let method = b"/com.qcloud.cos.goosefs.grpc.file.FileSystemMasterClientService/GetStatus";
        let mut welcome = vec![8, 1, 26, u8::try_from(method.len()).expect("short")];
        welcome.extend_from_slice(method);
        stream.write_all(&frame(2, 0, 0, &welcome)).expect("sent");
        let came = then(&mut stream);
        stream.read_to_end(&mut Vec::new()).ok();
        came
    });
    (address, server)
}

/// A frame as `docs/design/0015-frames.md` has it.
fn frame(kind: u8, number: u16, call: u32, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u32_le(u32::try_from(body.len()).expect("short"));
    out.put_u8(kind);
    out.put_u8(0);
    out.put_u16_le(number);
    out.put_u32_le(call);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.put_u32_le(crc);
    out.extend_from_slice(body);
    out.to_vec()
}

/// Kind and body of the next frame.
fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 16];
    stream.read_exact(&mut head).expect("a head");
    let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes"));
    let mut body = vec![0; usize::try_from(length).expect("fits")];
    stream.read_exact(&mut body).expect("a body");
    (head[4], body)
}
