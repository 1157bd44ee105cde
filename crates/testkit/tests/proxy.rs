//! The fault proxy in front of a plain server: what each fault looks like from outside.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use testkit::data::Data;
use testkit::eventually;
use testkit::proxy::{Fault, FaultProxy, Protocol, Rule, Side};

const LONG: Duration = Duration::from_secs(20);
const DATA: Data = Data::new(9);
const LEN: usize = 1 << 20;

/// Answers `GET /n` with n bytes of data, `GET /chunked/n` the same in chunks, `PUT` with the count of bytes received.
fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    addr
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let head = read_head(&mut stream)?;
        let target = head.split(' ').nth(1).unwrap().to_owned();
        if head.starts_with("PUT") {
            if head.contains("100-continue") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let mut body = vec![0; length(&head).unwrap()];
            stream.read_exact(&mut body)?;
            let text = format!("{} {}", body.len(), DATA.verify(0, &body).is_ok());
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
        } else if let Some(len) = target.strip_prefix("/chunked/") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let body = DATA.bytes(0, len.parse().unwrap());
            for chunk in body.chunks(1000) {
                write!(stream, "{:x}\r\n", chunk.len())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\n\r\n")?;
        } else {
            let len: usize = target[1..].parse().unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n")?;
            if !head.starts_with("HEAD") {
                stream.write_all(&DATA.bytes(0, len))?;
            }
        }
    }
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn length(head: &str) -> Option<usize> {
    let value = head.to_ascii_lowercase();
    value.split_once("content-length: ")?.1.split("\r\n").next()?.parse().ok()
}

/// A client that keeps its connection.
struct Client(TcpStream);

impl Client {
    fn new(proxy: &FaultProxy) -> Client {
        let stream = TcpStream::connect(proxy.addr()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client(stream)
    }

    fn head(&mut self, method: &str, target: &str) -> io::Result<String> {
        write!(self.0, "{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        read_head(&mut self.0)
    }

    /// The head, and the body as far as it came with what ended it early.
    fn get(&mut self, target: &str) -> io::Result<(String, Vec<u8>, io::Result<()>)> {
        let head = self.head("GET", target)?;
        let mut body = vec![0; length(&head).unwrap()];
        let mut got = 0;
        let end = loop {
            if got == body.len() {
                break Ok(());
            }
            match self.0.read(&mut body[got..]) {
                Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => got += count,
                Err(error) => break Err(error),
            }
        };
        body.truncate(got);
        Ok((head, body, end))
    }

    fn put(&mut self, len: usize, headers: &str) -> io::Result<String> {
        write!(self.0, "PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n{headers}\r\n")?;
        if headers.contains("100-continue") {
            assert!(read_head(&mut self.0)?.starts_with("HTTP/1.1 100"));
        }
        self.0.write_all(&DATA.bytes(0, len))?;
        let head = read_head(&mut self.0)?;
        let mut body = vec![0; length(&head).unwrap()];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8(body).unwrap())
    }
}

fn proxy() -> FaultProxy {
    FaultProxy::start(server(), Protocol::Http1).unwrap()
}

fn ended_by(end: io::Result<()>) -> io::ErrorKind {
    end.unwrap_err().kind()
}

#[test]
fn without_faults_nothing_changes_and_everything_is_counted() {
    let proxy = proxy();
    let mut client = Client::new(&proxy);
    for len in [0, 1, 1000, LEN] {
        let (_, body, end) = client.get(&format!("/{len}")).unwrap();
        end.unwrap();
        assert_eq!(body, DATA.bytes(0, len));
        assert_eq!(client.put(len, "").unwrap(), format!("{len} true"));
    }
    assert_eq!(client.put(10, "Expect: 100-continue\r\n").unwrap(), "10 true");
    client.head("HEAD", "/500").unwrap();
    let stats = proxy.reset_stats();
    assert_eq!((stats.connections, stats.total_requests(), stats.faults), (1, 10, 0));
    assert_eq!((stats.of("GET"), stats.of("PUT"), stats.of("HEAD")), (4, 5, 1));
    assert_eq!(stats.up_bytes, (1 + 1000 + LEN + 10) as u64);
    assert_eq!(stats.down_bytes, (1 + 1000 + LEN) as u64 + "0 true1 true1000 true1048576 true10 true".len() as u64);
    assert_eq!(proxy.stats().total_requests(), 0);
}

#[test]
fn chunked_answers_pass_and_are_flipped_in_their_data_only() {
    let proxy = proxy();
    let mut client = Client::new(&proxy);
    let mut chunked = |len: usize| {
        client.head("GET", &format!("/chunked/{len}")).unwrap();
        let mut wire = Vec::new();
        while !wire.ends_with(b"\r\n0\r\n\r\n") {
            let mut some = [0; 4096];
            let count = client.0.read(&mut some).unwrap();
            wire.extend_from_slice(&some[..count]);
        }
        wire
    };
    let plain = chunked(2500);
    assert_eq!(proxy.stats().down_bytes, 2500);
    proxy.inject(Rule::once(Fault::Flip { side: Side::Response, at: 2000 }));
    let flipped = chunked(2500);
    let differ: Vec<usize> = (0..plain.len()).filter(|at| plain[*at] != flipped[*at]).collect();
    // Three sizes ("3e8", "3e8", "1f4") with their line ends, and two line ends after data, stand before byte 2000.
    assert_eq!(differ, [2000 + 3 * 5 + 2 * 2]);
}

#[test]
fn a_cut_is_a_reset_after_exactly_so_many_bytes() {
    let proxy = proxy();
    for after_bytes in [0u64, 1, 700_000] {
        proxy.inject(Rule::once(Fault::Cut { side: Side::Response, after_bytes }));
        let (_, body, end) = Client::new(&proxy).get(&format!("/{LEN}")).unwrap();
        assert_eq!(ended_by(end), io::ErrorKind::ConnectionReset);
        // What the kernel had not handed over when the reset came is lost with it.
        assert!(body.len() as u64 <= after_bytes, "{} of {after_bytes}", body.len());
        assert_eq!(proxy.reset_stats().down_bytes, after_bytes);
    }
    proxy.inject(Rule::once(Fault::Cut { side: Side::Request, after_bytes: 1000 }));
    let error = Client::new(&proxy).put(LEN, "").unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
    assert_eq!(proxy.stats().up_bytes, 1000);
}

#[test]
fn a_truncated_answer_keeps_its_length_and_ends_politely() {
    let proxy = proxy();
    proxy.inject(Rule::once(Fault::Truncate { after_bytes: 700_000 }));
    let (head, body, end) = Client::new(&proxy).get(&format!("/{LEN}")).unwrap();
    assert_eq!(length(&head), Some(LEN));
    assert_eq!((body.len(), ended_by(end)), (700_000, io::ErrorKind::UnexpectedEof));
    DATA.verify(0, &body).unwrap();
}

#[test]
fn lies_are_flipped_bytes_and_wrong_lengths() {
    let proxy = proxy();
    let rule = proxy.inject(Rule::always(Fault::Flip { side: Side::Response, at: 600_000 }));
    let (_, body, end) = Client::new(&proxy).get(&format!("/{LEN}")).unwrap();
    end.unwrap();
    assert_eq!(DATA.verify(0, &body).unwrap_err().offset, 600_000);
    assert!(DATA.verify(600_001, &body[600_001..]).is_ok());
    proxy.remove(rule);

    proxy.inject(Rule::once(Fault::Flip { side: Side::Request, at: 0 }));
    assert_eq!(Client::new(&proxy).put(LEN, "").unwrap(), format!("{LEN} false"));

    proxy.inject(Rule::once(Fault::Length(-100)));
    let (_, body, end) = Client::new(&proxy).get(&format!("/{LEN}")).unwrap();
    end.unwrap();
    assert_eq!(body.len(), LEN - 100);
    proxy.inject(Rule::once(Fault::Length(100)));
    let (head, body, end) = Client::new(&proxy).get(&format!("/{LEN}")).unwrap();
    assert_eq!((length(&head), body.len()), (Some(LEN + 100), LEN));
    assert_eq!(ended_by(end), io::ErrorKind::UnexpectedEof);
}

#[test]
fn refusals_come_in_the_place_of_the_server_and_keep_the_connection() {
    let proxy = proxy();
    let rule = proxy.inject(Rule::times(2, Fault::Status(503)).method("PUT"));
    let mut client = Client::new(&proxy);
    assert!(client.get("/10").unwrap().2.is_ok());
    for _ in 0..2 {
        assert!(client.put(LEN, "").unwrap().contains("<Code>SlowDown</Code>"));
    }
    assert_eq!(client.put(LEN, "").unwrap(), format!("{LEN} true"));
    assert_eq!(proxy.hits(rule), 2);
    assert_eq!(proxy.stats().connections, 1);
}

#[test]
fn a_hanging_answer_hangs_until_the_rules_are_cleared() {
    let proxy = proxy();
    proxy.inject(Rule::once(Fault::Hang { side: Side::Response, after_bytes: 1000 }));
    let mut client = Client::new(&proxy);
    let head = client.head("GET", &format!("/{LEN}")).unwrap();
    assert_eq!(length(&head), Some(LEN));
    client.0.read_exact(&mut [0; 1000]).unwrap();
    client.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = client.0.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    proxy.clear();
    client.0.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn rules_cleared_before_an_answer_comes_to_its_hang_end_the_hang() {
    let proxy = proxy();
    let rule = proxy.inject(Rule::once(Fault::Hang { side: Side::Response, after_bytes: 1000 }));
    // Between the hit that is counted and the bytes that hang.
    proxy.set_latency(Duration::from_millis(200));
    let mut client = Client::new(&proxy);
    write!(client.0, "GET /{LEN} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    eventually(LONG, || proxy.hits(rule) == 1);
    proxy.clear();
    client.0.set_read_timeout(Some(LONG)).unwrap();
    let error = client.0.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_late_request_is_done_when_its_client_has_gone() {
    let proxy = proxy();
    proxy.inject(Rule::once(Fault::Late));
    let mut client = Client::new(&proxy);
    write!(client.0, "PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: {LEN}\r\n\r\n").unwrap();
    client.0.write_all(&DATA.bytes(0, LEN)).unwrap();
    eventually(LONG, || proxy.stats().kept == 1);
    drop(client);
    assert_eq!(proxy.stats().late, 0);
    proxy.clear();
    eventually(LONG, || proxy.stats().late == 1);
}

#[test]
fn connections_are_cut_and_refused_and_taken_again() {
    let proxy = proxy();
    let mut client = Client::new(&proxy);
    client.get("/10").unwrap().2.unwrap();
    proxy.refuse();
    assert_eq!(TcpStream::connect(proxy.addr()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    client.get("/10").unwrap().2.unwrap(); // open ones live on
    proxy.cut_all();
    assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    proxy.accept().unwrap();
    Client::new(&proxy).get("/10").unwrap().2.unwrap();
}

#[test]
fn a_server_that_goes_takes_the_idle_connection_with_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap(), Protocol::Http1).unwrap();
    let mut client = Client::new(&proxy);
    let server = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    client.get("/x").unwrap().2.unwrap();
    server.join().unwrap();
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0, "closed, before a request is lost on it");
    let error = Client::new(&proxy).get("/x").map(drop).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "nobody is there");
}

#[test]
fn an_answer_before_the_end_of_the_request_arrives() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap(), Protocol::Http1).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_head(&mut stream).unwrap();
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            drop(io::copy(&mut stream, &mut io::sink()));
        }
    });
    let mut client = Client::new(&proxy);
    write!(client.0, "PUT /k HTTP/1.1\r\nHost: x\r\nContent-Length: {LEN}\r\n\r\nonly a part").unwrap();
    assert!(read_head(&mut client.0).unwrap().starts_with("HTTP/1.1 403"));
}

#[test]
fn latency_and_delay_are_per_request() {
    let proxy = proxy();
    proxy.set_latency(Duration::from_millis(30));
    proxy.inject(Rule::once(Fault::Delay(Duration::from_millis(100))));
    let mut client = Client::new(&proxy);
    let mut timed = || {
        let start = Instant::now();
        client.get("/10").unwrap().2.unwrap();
        start.elapsed()
    };
    let (first, second) = (timed(), timed());
    assert!(first >= Duration::from_millis(130), "{first:?}");
    assert!(second >= Duration::from_millis(30) && second < Duration::from_millis(120), "{second:?}");
}

#[test]
fn the_bandwidth_is_that_of_all_connections_together() {
    const RATE: u64 = 40_000_000;
    let proxy = proxy();
    proxy.set_bandwidth(Some(RATE));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| Client::new(&proxy).get("/10000000").unwrap().2.unwrap());
        }
    });
    let took = start.elapsed().as_secs_f64();
    assert!((0.99..1.5).contains(&took), "40 MB at 40 MB/s took {took} s");
}

#[test]
fn in_front_of_tcp_a_connection_is_a_request() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap(), Protocol::Tcp).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut echo = stream.try_clone().unwrap();
            thread::spawn(move || {
                io::copy(&mut stream, &mut echo).and_then(|_| echo.shutdown(std::net::Shutdown::Write))
            });
        }
    });
    let talk = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(proxy.addr())?;
        stream.write_all(b"hello, you")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back)?;
        Ok(back)
    };
    assert_eq!(talk().unwrap(), b"hello, you");
    assert_eq!(proxy.stats().of("TCP"), 1);
    assert_eq!((proxy.stats().up_bytes, proxy.stats().down_bytes), (10, 10));
    proxy.inject(Rule::once(Fault::Flip { side: Side::Response, at: 0 }));
    assert_eq!(talk().unwrap()[0], b'h' ^ 0xFF);
    proxy.inject(Rule::once(Fault::Cut { side: Side::Response, after_bytes: 5 }));
    assert_eq!(talk().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    eventually(LONG, || proxy.stats().down_bytes == 25);
}
