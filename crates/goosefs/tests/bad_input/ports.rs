//! Ports that are taken, and clients of another protocol on ours.

use super::{goes_on, local_refusal, says};
use crate::support::Local;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use testkit::process::http_get;

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    for key in [
        "goosefs.master.rpc.port",
        "goosefs.master.web.port",
        "goosefs.master.internal.rpc.port",
        "goosefs.worker.rpc.port",
        "goosefs.worker.web.port",
    ] {
        let said = local_refusal(&dir.path().join("state"), &[&format!("-D{key}={port}")]);
        says(&said, &[&format!("127.0.0.1:{port}"), "in use", key]);
    }
    // The state is whole: with ports of its own it starts.
    drop(taken);
    Local::start(dir.path()).stop();
}

/// Sends `bytes`, says that no more comes, and reads to the end.
fn converse(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(40))).expect("a timeout");
    let mut answer = Vec::new();
    // A peer that has had enough may close while we still send or before we read.
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let read = stream.read_to_end(&mut answer);
    for error in [sent.err(), read.err()].into_iter().flatten() {
        let kind = error.kind();
        assert!(
            !matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
            "it stays open: {error}"
        );
    }
    answer
}

#[test]
fn clients_of_other_protocols_are_told_or_closed_and_the_service_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(dir.path());
    let [rpc, web, internal, worker, worker_web] = <[SocketAddr; 5]>::try_from(local.addrs()).expect("five ports");
    let get = b"GET / HTTP/1.1\r\nHost: goosefs\r\nConnection: close\r\n\r\n";
    // A ClientHello without a single extension.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
    let noise = testkit::data::Data::new(1).bytes(0, 10_000);
    let banner = b"SSH-2.0-OpenSSH_9.9\r\n";
    let (web_hint, worker_hint) = (format!("port {}", web.port()), format!("port {}", worker_web.port()));
    for (address, name, hint) in [
        (rpc, "GooseFS master RPC", &web_hint),
        (internal, "GooseFS internal RPC", &web_hint),
        (worker, "GooseFS worker RPC", &worker_hint),
    ] {
        let answer = converse(address, get);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        says(&text, &[name, "gRPC over HTTP/2 without TLS", "web pages", hint]);
        assert_eq!(converse(address, &hello).first(), Some(&0x15), "a TLS alert");
        let answer = converse(address, banner);
        says(&String::from_utf8_lossy(&answer), &[name, "gRPC over HTTP/2"]);
    }
    for address in [web, worker_web] {
        let (status, _) = http_get(address, "/").expect("answered");
        assert_eq!(status, 404);
        for strange in [&hello[..], banner, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let answer = converse(address, strange);
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(&[0]), "{answer:?}");
        }
    }
    for address in [rpc, web, internal, worker, worker_web] {
        for bytes in [
            &noise[..],
            &noise[..1],
            b"",
            b"\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish after a good beginning",
        ] {
            converse(address, bytes);
        }
    }
    super::block_on(goes_on(&local));
}
