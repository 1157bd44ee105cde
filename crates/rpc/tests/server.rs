//! The server against strangers, limits and its own end.

mod common;

use common::{LONG, Setup, start, start_with};
use http::{Request, Response};
use rpc::{Answer, AuthType, Body, Connection, Error, Identity, Routes, Server, ServerConfig};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use types::ErrorKind;

/// Sends `bytes` and reads until the server closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    stream.write_all(bytes).expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer, then the end");
    answer
}

fn identity() -> Identity {
    Identity { user: "ann".to_owned(), auth: AuthType::Simple }
}

#[tokio::test]
async fn strangers_are_told_what_this_port_is() {
    let server = start(Setup::default());
    let address = server.running.local_addr();
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /metrics HTTP/1.0\r\n\r\nbody",
        "PUT /big HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
        "PRI * HTTP/1.1\r\n\r\n",
    ] {
        let answer = String::from_utf8(exchange(address, request.as_bytes())).expect("text");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("port of GooseFS master RPC: it speaks gRPC over HTTP/2"), "{answer}");
        assert!(answer.ends_with("The web pages are on port 9201.\n"), "{answer}");
    }
    let alert = exchange(address, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]);
    assert_eq!(alert, [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46], "a TLS alert");
    let text = String::from_utf8(exchange(address, b"SSH-2.0-OpenSSH_9.2\r\n")).expect("text");
    assert!(text.contains("it speaks gRPC"), "{text}");
    exchange(address, &[0xff; 5000]);
    exchange(address, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".map(|byte| byte ^ 1));
    // Right at first, then no HTTP/2.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0xff; 300]);
    exchange(address, &bytes);
    // A frame larger than any we take: SETTINGS first, then DATA of 16 MiB − 1 on stream 1.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    let answer = exchange(address, &bytes);
    assert!(answer.windows(5).any(|window| window == [7, 0, 0, 0, 0]), "a GOAWAY: {answer:?}");
    // And the server is well.
    Connection::open(&server.address(), &identity(), Instant::now() + LONG).await.expect("connects");
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_stay() {
    let mut setup = Setup::default();
    setup.config.opening_timeout = Duration::from_millis(50);
    let server = start(setup);
    assert!(exchange(server.running.local_addr(), b"").is_empty());
    assert!(exchange(server.running.local_addr(), b"PRI * HTTP/2").is_empty());
    testkit::eventually_async(LONG, || async { server.running.open_connections() == 0 }).await;
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let mut setup = Setup::default();
    setup.config.max_connections = 2;
    let server = start(setup);
    let address = server.address();
    let who = identity();
    let open = || Connection::open(&address, &who, Instant::now() + LONG);
    let (first, _second) = (open().await.expect("one"), open().await.expect("two"));
    let answer = exchange(server.running.local_addr(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.ends_with("this server has 2 connections already; close some, or raise the limit"), "{text}");
    assert!(open().await.is_err());
    drop(first);
    let third = testkit::eventually_async(LONG, open).await;
    drop(third);
    server.running.stop(Duration::ZERO).await;
}

#[test]
fn ports_that_cannot_be_had_are_named() {
    let taken = Server::bind("127.0.0.1:0", ServerConfig::default()).expect("a free port");
    for (address, kind, says) in [
        (taken.local_addr().to_string(), ErrorKind::AlreadyExists, "the port is in use"),
        ("192.0.2.1:9200".to_owned(), ErrorKind::Invalid, "no interface of this host has the address"),
        ("9200".to_owned(), ErrorKind::Invalid, "write host:port"),
        ("host:port:9200".to_owned(), ErrorKind::Invalid, "write host:port"),
        ("127.0.0.1:99999".to_owned(), ErrorKind::Invalid, "write host:port"),
    ] {
        let error = Server::bind(&address, ServerConfig::default()).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
}

const SLOW: &str = "/test.Slow/Call";

/// A method that answers when told to.
fn slow(begun: Arc<Notify>, go_on: Arc<Notify>) -> impl Fn(Routes) -> Routes + Send + Sync + 'static {
    move |routes| {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        routes.method(SLOW, move |_request: Request<rpc::Incoming>| {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            async move {
                begun.notify_one();
                go_on.notified().await;
                let mut answer: Answer = Response::new(Body::empty());
                answer.headers_mut().insert("grpc-status", 0.into());
                answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
                answer
            }
        })
    }
}

async fn call_slow<S>(service: S) -> Result<(), tonic::Status>
where
    S: tonic::client::GrpcService<tonic::body::Body>,
    S::Error: std::fmt::Display,
    S::ResponseBody: http_body::Body + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut client = tonic::client::Grpc::new(service);
    client.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let codec: tonic_prost::ProstCodec<(), ()> = tonic_prost::ProstCodec::default();
    let answer = client.server_streaming(tonic::Request::new(()), http::uri::PathAndQuery::from_static(SLOW), codec);
    answer.await.map(|_| ())
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_takes_no_new_ones() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = start_with(Setup { auth: AuthType::NoSasl, ..Setup::default() }, slow(begun.clone(), go_on.clone()));
    let address = server.address();
    let connection = Connection::open(&address, &identity(), Instant::now() + LONG).await.expect("connects");
    let call = tokio::spawn(async move { call_slow(connection.service()).await });
    begun.notified().await;
    let stop = tokio::spawn(server.running.stop(LONG));
    testkit::eventually_async(LONG, || async {
        match Connection::open(&address, &identity(), Instant::now() + LONG).await {
            Err(Error::Connect { .. } | Error::Handshake { .. } | Error::HandshakeEnded { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("still connects".to_owned()),
        }
    })
    .await;
    assert!(!stop.is_finished(), "a call is under way");
    go_on.notify_one();
    call.await.expect("no panic").expect("answered during the drain");
    assert_eq!(stop.await.expect("no panic"), 0);
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = start_with(Setup { auth: AuthType::NoSasl, ..Setup::default() }, slow(begun.clone(), go_on));
    let connection = Connection::open(&server.address(), &identity(), Instant::now() + LONG).await.expect("connects");
    let call = tokio::spawn(async move { call_slow(connection.service()).await });
    begun.notified().await;
    assert_eq!(server.running.stop(Duration::from_millis(50)).await, 1, "one connection cut");
    assert!(call.await.expect("no panic").is_err());
}

#[tokio::test]
async fn a_dropped_server_frees_its_port() {
    let server = start(Setup::default());
    let address = server.address();
    drop(server);
    testkit::eventually_async(LONG, || async { Server::bind(&address, ServerConfig::default()).map(|_| ()) }).await;
}

#[tokio::test]
async fn a_long_sentence_and_long_headers_do_not_break_the_connection() {
    let server = start_with(Setup { auth: AuthType::NoSasl, ..Setup::default() }, |routes| {
        routes.method(SLOW, |_| async { rpc::status(ErrorKind::Invalid, "ü".repeat(100_000)).into_http() })
    });
    let connection = Connection::open(&server.address(), &identity(), Instant::now() + LONG).await.expect("connects");
    let error = call_slow(connection.service()).await.expect_err("refused");
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().ends_with("ü…"), "{}", error.message().len());
    let mut client = tonic::client::Grpc::new(connection.service());
    client.ready().await.expect("connected");
    let mut request = tonic::Request::new(());
    request.metadata_mut().insert("x-long", "x".repeat(40 << 10).parse().expect("a header"));
    let codec: tonic_prost::ProstCodec<(), ()> = tonic_prost::ProstCodec::default();
    let path = http::uri::PathAndQuery::from_static(SLOW);
    // HTTP/2 answers 431 by itself, which a gRPC client sees at the end of the stream.
    let answer = client.server_streaming(request, path, codec).await.expect("an answer");
    assert!(answer.into_inner().message().await.is_err());
    assert_eq!(call_slow(connection.service()).await.expect_err("as before").code(), tonic::Code::InvalidArgument);
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn connections_are_spread_over_the_threads() {
    let threads = Arc::new(parking_lot::Mutex::new(std::collections::BTreeMap::<String, usize>::new()));
    let seen = threads.clone();
    let server = start_with(Setup { auth: AuthType::NoSasl, ..Setup::default() }, move |routes| {
        let seen = seen.clone();
        routes.method(SLOW, move |_| {
            let name = std::thread::current().name().unwrap_or("").to_owned();
            *seen.lock().entry(name).or_default() += 1;
            async { tonic::Status::ok("").into_http() }
        })
    });
    let mut connections = Vec::new();
    for _ in 0..6 {
        let connection = Connection::open(&server.address(), &identity(), Instant::now() + LONG).await;
        connections.push(connection.expect("connects"));
    }
    for connection in &connections {
        call_slow(connection.service()).await.expect("answered");
    }
    let counts: Vec<(String, usize)> = threads.lock().clone().into_iter().collect();
    assert_eq!(counts, [("rpc-0".to_owned(), 3), ("rpc-1".to_owned(), 3)]);
    drop(connections);
    server.running.stop(LONG).await;
}

/// The names of this process's threads that begin so.
fn threads(name: &str) -> usize {
    let all =
        std::fs::read_dir("/proc/self/task").expect("Linux").map(|task| task.expect("readable").path().join("comm"));
    all.filter(|comm| std::fs::read_to_string(comm).is_ok_and(|comm| comm.trim() == name)).count()
}

#[tokio::test]
async fn a_connection_that_asks_for_it_has_a_thread_of_its_own_as_long_as_there_are_some() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut setup = Setup { auth: AuthType::NoSasl, ..Setup::default() };
    setup.config.apart = 1;
    let server = start_with(setup, slow(begun.clone(), go_on.clone()));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address())).expect("an address");
    let call = async || tokio::spawn(call_slow(rpc::connect_apart(&endpoint).await.expect("connects")));
    let first = call().await;
    begun.notified().await;
    assert_eq!(threads("rpc-apart"), 1);
    go_on.notify_one();
    first.await.expect("no panic").expect("answered");
    testkit::eventually_async(LONG, || async { threads("rpc-apart") == 0 }).await;

    let first = call().await;
    begun.notified().await;
    let second = call().await;
    begun.notified().await;
    assert_eq!(threads("rpc-apart"), 1, "one more is served among the others");
    assert_eq!(server.running.stop(Duration::ZERO).await, 2, "both are cut");
    // Its work has ended; the system may need a moment for the thread.
    testkit::eventually_async(LONG, || async { threads("rpc-apart") == 0 }).await;
    assert!(first.await.expect("no panic").is_err() && second.await.expect("no panic").is_err());
}

#[tokio::test]
async fn a_port_without_threads_for_single_connections_takes_who_asks_for_a_stranger() {
    let server = start(Setup::default());
    let text = exchange(server.running.local_addr(), b"GOOSEFS APART\r\n");
    assert!(String::from_utf8_lossy(&text).contains("it speaks gRPC"), "{text:?}");
    server.running.stop(Duration::ZERO).await;
}
