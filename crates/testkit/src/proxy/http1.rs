//! One HTTP/1 connection: requests one after the other, each with its faults.

use super::fault::{Fault, Faults, Side};
use super::frame::{BadChunk, Chunk, Frame};
use super::{End, Shared};
use bytes::{Buf, BytesMut};
use std::io;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The longest head of a message, and the most headers in it.
const HEAD_BYTES: usize = 256 << 10;
const HEADERS: usize = 256;
/// Bytes read at once without a limit: large for little work per byte.
const PIECE_BYTES: usize = 512 << 10;

/// What of a message's head the proxy needs.
struct Head {
    /// Bytes of the head, its empty line included.
    len: usize,
    method: String,
    target: String,
    status: u16,
    content_length: Option<u64>,
    chunked: bool,
    /// The sender closes after this message.
    closes: bool,
}

/// How a body went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Whole,
    /// It stops short, and the connection is to end in good order.
    Truncated,
    /// The connection is to be reset.
    Cut,
}

pub(super) async fn serve(client: &mut TcpStream, shared: &Shared) -> io::Result<End> {
    let mut server: Option<(TcpStream, BytesMut)> = None;
    let mut from_client = BytesMut::new();
    loop {
        let Some(request) = next_request(client, &mut from_client, &mut server).await? else { return Ok(End::Clean) };
        let faults = shared.admit(&request.method, &request.target);
        shared.delay(&faults).await;
        if let Some(status) =
            faults.list.iter().find_map(|fault| if let Fault::Status(code) = fault { Some(*code) } else { None })
        {
            from_client.advance(request.len);
            refuse(client, &mut from_client, &request, status, &faults, shared).await?;
            continue;
        }
        if faults.list.contains(&Fault::Late) {
            return late(client, &mut from_client, &request, &faults, shared).await;
        }
        let (mut upstream, mut from_server) = match server.take() {
            Some(connected) => connected,
            None => (shared.connect().await?, BytesMut::new()),
        };
        let end =
            exchange(client, &mut from_client, &mut upstream, &mut from_server, &request, &faults, shared).await?;
        match end {
            Some(end) => return Ok(end),
            None => server = Some((upstream, from_server)),
        }
    }
}

/// Waits for the next request. None when the client, or the server behind it, has closed the idle connection: a client
/// then knows, as it would without us, that this connection takes no further request.
async fn next_request(
    client: &mut TcpStream,
    from_client: &mut BytesMut,
    server: &mut Option<(TcpStream, BytesMut)>,
) -> io::Result<Option<Head>> {
    let request = read_head(client, from_client, Kind::Request);
    let Some((server, from_server)) = server else { return request.await };
    tokio::pin!(request);
    loop {
        tokio::select! {
            biased;
            request = &mut request => return request,
            read = server.read_buf(from_server) => if read? == 0 { return Ok(None) },
        }
    }
}

/// One request and its answer. None when both connections can carry another.
async fn exchange(
    client: &mut TcpStream,
    from_client: &mut BytesMut,
    upstream: &mut TcpStream,
    from_server: &mut BytesMut,
    request: &Head,
    faults: &Faults,
    shared: &Shared,
) -> io::Result<Option<End>> {
    let (mut client_in, mut client_out) = client.split();
    let (mut server_in, mut server_out) = upstream.split();

    shared.limit.pass(request.len).await;
    server_out.write_all(&from_client[..request.len]).await?;
    from_client.advance(request.len);
    let up = async {
        let mut body = Body::new(shared, Side::Request, request.frame(), faults);
        body.forward(&mut client_in, &mut server_out, from_client).await
    };
    let down = answer(&mut server_in, from_server, &mut client_out, request, faults, shared);
    tokio::pin!(up, down);

    // An answer may come before the request's body is through: a refusal, or "100 Continue".
    let (up, (down, closes)) = tokio::select! {
        up = &mut up => match up {
            Ok(Outcome::Whole) => (Outcome::Whole, down.await?),
            Ok(outcome) => (outcome, (Outcome::Whole, true)),
            // The server has stopped listening: what it says of that is for the client.
            Err(_) => match down.await? {
                (Outcome::Whole, _) => return Ok(Some(End::Early)),
                (outcome, closes) => (Outcome::Whole, (outcome, closes)),
            },
        },
        down = &mut down => {
            // With the answer out, the request's last bytes may be on their way still.
            let (outcome, closes) = down?;
            match futures::poll!(&mut up) {
                std::task::Poll::Ready(up) => (up?, (outcome, closes)),
                std::task::Poll::Pending if outcome == Outcome::Cut => (Outcome::Cut, (outcome, true)),
                std::task::Poll::Pending => return Ok(Some(End::Early)),
            }
        }
    };
    Ok(match (up, down) {
        (Outcome::Cut, _) | (_, Outcome::Cut) => Some(End::Reset),
        (Outcome::Truncated, _) | (_, Outcome::Truncated) => Some(End::Clean),
        (Outcome::Whole, Outcome::Whole) => (closes || request.closes).then_some(End::Clean),
    })
}

/// Takes the whole request, and passes it on much later, whether or not its client is still there to be answered.
async fn late(
    client: &mut TcpStream,
    from_client: &mut BytesMut,
    request: &Head,
    faults: &Faults,
    shared: &Shared,
) -> io::Result<End> {
    let mut kept = from_client[..request.len].to_vec();
    from_client.advance(request.len);
    let mut none = faults.none();
    let mut body = Body::new(shared, Side::Request, request.frame(), &none);
    if body.forward(client, &mut kept, from_client).await? != Outcome::Whole {
        return Ok(End::Reset);
    }
    shared.counters.kept.fetch_add(1, Ordering::Relaxed);
    drop(none.cleared.changed().await);
    let mut server = shared.connect().await?;
    server.write_all(&kept).await?;
    let mut from_server = BytesMut::new();
    let answered = read_head(&mut server, &mut from_server, Kind::Response).await?;
    shared.counters.late.fetch_add(u64::from(answered.is_some()), Ordering::Relaxed);
    answer(&mut server, &mut from_server, client, request, &none, shared).await?;
    Ok(End::Clean)
}

/// Forwards the server's answer, interim ones included. Says how it went, and whether the server closes after it.
async fn answer(
    server: &mut (impl AsyncRead + Unpin),
    from_server: &mut BytesMut,
    client: &mut (impl AsyncWrite + Unpin),
    request: &Head,
    faults: &Faults,
    shared: &Shared,
) -> io::Result<(Outcome, bool)> {
    loop {
        let Some(head) = read_head(server, from_server, Kind::Response).await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let mut frame = head.frame();
        if request.method == "HEAD" || head.status / 100 == 1 || matches!(head.status, 204 | 304) {
            frame = Frame::Length(0);
        }
        let lie = faults.list.iter().find_map(|fault| if let Fault::Length(off) = fault { Some(*off) } else { None });
        let told = match (lie, &frame) {
            (Some(off), Frame::Length(length)) if head.status / 100 != 1 => Some(length.saturating_add_signed(off)),
            _ => None,
        };
        shared.limit.pass(head.len).await;
        match told {
            Some(told) => client.write_all(&with_content_length(&from_server[..head.len], told)).await?,
            None => client.write_all(&from_server[..head.len]).await?,
        }
        from_server.advance(head.len);
        if head.status / 100 == 1 && head.status != 101 {
            continue;
        }
        let mut body = Body::new(shared, Side::Response, frame, faults);
        if let Some(told) = told {
            body.plan.truncate_at = Some(body.plan.truncate_at.map_or(told, |at| at.min(told)));
        }
        let outcome = body.forward(server, client, from_server).await?;
        // A body that was declared longer than it is leaves the client waiting for bytes that only the end denies.
        let outcome = if told.is_some() && outcome == Outcome::Whole { Outcome::Truncated } else { outcome };
        return Ok((outcome, head.closes));
    }
}

/// Takes the request's body away and answers in the server's place.
async fn refuse(
    client: &mut TcpStream,
    from_client: &mut BytesMut,
    request: &Head,
    status: u16,
    faults: &Faults,
    shared: &Shared,
) -> io::Result<()> {
    let mut body = Body::new(shared, Side::Request, request.frame(), &faults.none());
    body.forward(client, &mut tokio::io::sink(), from_client).await?;
    let (reason, code) = match status {
        500 => ("Internal Server Error", "InternalError"),
        503 => ("Slow Down", "SlowDown"),
        403 => ("Forbidden", "AccessDenied"),
        404 => ("Not Found", "NoSuchKey"),
        _ => ("Injected", "InjectedFault"),
    };
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>injected by the fault proxy</Message></Error>"
    );
    let body = if request.method == "HEAD" { "" } else { &text };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
}

/// Reads until `buffer` begins with a whole head, which stays in it. None when the peer closed before the first byte.
async fn read_head(from: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, kind: Kind) -> io::Result<Option<Head>> {
    loop {
        if !buffer.is_empty()
            && let Some(head) = parse(buffer, kind)?
        {
            return Ok(Some(head));
        }
        if buffer.len() > HEAD_BYTES {
            return Err(bad("the head of a message is too long"));
        }
        buffer.reserve(8 << 10);
        match from.read_buf(buffer).await? {
            0 if buffer.is_empty() => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

fn parse(bytes: &[u8], kind: Kind) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let not_http = |error: httparse::Error| bad(&format!("not HTTP/1: {error}"));
    let (len, mut head) = match kind {
        Kind::Request => {
            let mut request = httparse::Request::new(&mut headers);
            let httparse::Status::Complete(len) = request.parse(bytes).map_err(not_http)? else { return Ok(None) };
            let (method, target) = (request.method.unwrap_or("").to_owned(), request.path.unwrap_or("").to_owned());
            (len, Head { method, target, ..Head::new(request.version) })
        }
        Kind::Response => {
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(len) = response.parse(bytes).map_err(not_http)? else { return Ok(None) };
            (len, Head { status: response.code.unwrap_or(0), ..Head::new(response.version) })
        }
    };
    head.len = len;
    for header in headers.iter().take_while(|header| !header.name.is_empty()) {
        let value = std::str::from_utf8(header.value).unwrap_or("").trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            head.content_length = Some(value.parse().map_err(|_| bad("Content-Length is not a number"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.to_ascii_lowercase().contains("chunked");
        } else if header.name.eq_ignore_ascii_case("connection") {
            let value = value.to_ascii_lowercase();
            head.closes = value.contains("close") || head.closes && !value.contains("keep-alive");
        }
    }
    Ok(Some(head))
}

impl Head {
    fn new(version: Option<u8>) -> Head {
        Head {
            len: 0,
            method: String::new(),
            target: String::new(),
            status: 0,
            content_length: None,
            chunked: false,
            closes: version == Some(0),
        }
    }

    fn frame(&self) -> Frame {
        match (self.chunked, self.content_length) {
            (true, _) => Frame::Chunked(Chunk::Size(String::new())),
            (false, Some(length)) => Frame::Length(length),
            // A request without a length has no body; an answer without one ends with the connection.
            (false, None) if self.status == 0 => Frame::Length(0),
            (false, None) => Frame::UntilClose,
        }
    }
}

fn with_content_length(head: &[u8], told: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 8);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or(line);
        if name.eq_ignore_ascii_case(b"content-length") {
            out.extend_from_slice(format!("Content-Length: {told}\r\n").as_bytes());
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

/// A body on its way, and what befalls it.
pub(super) struct Body<'a> {
    shared: &'a Shared,
    side: Side,
    frame: Frame,
    plan: Plan,
    /// Ends a hang.
    cleared: watch::Receiver<u64>,
    /// Bytes of the body that have passed.
    passed: u64,
}

/// The faults of one body, by position.
#[derive(Default)]
struct Plan {
    cut_at: Option<u64>,
    truncate_at: Option<u64>,
    hang_at: Option<u64>,
    flips: Vec<u64>,
}

impl<'a> Body<'a> {
    pub(super) fn new(shared: &'a Shared, side: Side, frame: Frame, faults: &Faults) -> Body<'a> {
        let mut plan = Plan::default();
        for fault in &faults.list {
            match fault {
                Fault::Cut { side: of, after_bytes } if *of == side => plan.cut_at = Some(*after_bytes),
                Fault::Hang { side: of, after_bytes } if *of == side => plan.hang_at = Some(*after_bytes),
                Fault::Flip { side: of, at } if *of == side => plan.flips.push(*at),
                Fault::Truncate { after_bytes } if side == Side::Response => plan.truncate_at = Some(*after_bytes),
                Fault::Cut { .. }
                | Fault::Hang { .. }
                | Fault::Flip { .. }
                | Fault::Truncate { .. }
                | Fault::Delay(_)
                | Fault::Late
                | Fault::Status(_)
                | Fault::Length(_) => {}
            }
        }
        Body { shared, side, frame, plan, cleared: faults.cleared.clone(), passed: 0 }
    }

    /// Forwards until the body ends or a fault ends it. `buffer` holds what was read already, and afterwards what
    /// belongs to the next message. Errors: the receiver is gone.
    pub(super) async fn forward(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        buffer: &mut BytesMut,
    ) -> io::Result<Outcome> {
        loop {
            if let Some(outcome) = self.drain(to, buffer).await? {
                return Ok(outcome);
            }
            let piece = self.shared.limit.piece_bytes(PIECE_BYTES);
            let wanted = match &self.frame {
                // No further than the body: what follows is for the next turn.
                Frame::Length(left) => usize::try_from(*left).map_or(piece, |left| left.min(piece)),
                Frame::Chunked(_) | Frame::UntilClose => piece,
            };
            buffer.reserve(wanted);
            let mut limited = (&mut *from).take(wanted as u64);
            match (limited.read_buf(buffer).await, &self.frame) {
                (Ok(1..), _) => {}
                (Ok(0), Frame::UntilClose) => return self.end().await,
                // The sender broke off: so do we.
                (Ok(0), Frame::Length(_) | Frame::Chunked(_)) | (Err(_), _) => return Ok(Outcome::Cut),
            }
        }
    }

    /// Sends what `buffer` holds of the body. Some when the body is over.
    async fn drain(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        buffer: &mut BytesMut,
    ) -> io::Result<Option<Outcome>> {
        // The bytes that leave: all of the framing, and the body as far as the first fault that stops it.
        let (mut taken, mut body_bytes) = (0, 0u64);
        let stop = [self.plan.cut_at, self.plan.truncate_at, self.plan.hang_at].into_iter().flatten().min();
        let mut stopped = stop == Some(self.passed);
        while !stopped && let Some(span) = self.frame.next(buffer, taken).map_err(|BadChunk| bad("a broken chunk"))? {
            let mut end = span.range.end;
            if span.is_body {
                let at = self.passed + body_bytes;
                if let Some(stop) = stop
                    && at + span.range.len() as u64 >= stop
                {
                    end = span.range.start + usize::try_from(stop - at).expect("within this span");
                    stopped = true;
                }
                let len = (end - span.range.start) as u64;
                for flip in self.plan.flips.iter().filter(|flip| (at..at + len).contains(flip)) {
                    buffer[span.range.start + usize::try_from(flip - at).expect("within this span")] ^= 0xFF;
                }
                body_bytes += len;
            }
            taken = end;
        }
        if taken > 0 {
            self.shared.limit.pass(taken).await;
            to.write_all(&buffer[..taken]).await?;
            buffer.advance(taken);
            self.passed += body_bytes;
            self.shared.count_body(self.side, usize::try_from(body_bytes).expect("at most the buffer"));
        }
        Ok(match stopped || self.frame.is_done() {
            true => Some(self.end().await?),
            false => None,
        })
    }

    /// What happens where the body stops, or ends before the place of the fault.
    async fn end(&mut self) -> io::Result<Outcome> {
        let reached = |at: Option<u64>| at.is_some_and(|at| at <= self.passed);
        if reached(self.plan.truncate_at) {
            return Ok(Outcome::Truncated);
        }
        if reached(self.plan.hang_at) {
            drop(self.cleared.changed().await);
            return Ok(Outcome::Cut);
        }
        Ok(if self.plan.cut_at.is_some() { Outcome::Cut } else { Outcome::Whole })
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
