//! One connection of any protocol: bytes both ways.

use super::fault::{Fault, Faults, Side};
use super::frame::Frame;
use super::http1::{Body, Outcome};
use super::{End, Shared};
use bytes::BytesMut;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) async fn serve(client: &mut TcpStream, shared: &Shared) -> io::Result<End> {
    let faults = shared.admit("TCP", "");
    shared.delay(&faults).await;
    if faults.list.iter().any(|fault| matches!(fault, Fault::Status(_))) {
        return Ok(End::Reset); // there is no status to answer with
    }
    let mut server = shared.connect().await?;
    let (mut client_in, mut client_out) = client.split();
    let (mut server_in, mut server_out) = server.split();
    let up = one_way(shared, Side::Request, &faults, &mut client_in, &mut server_out);
    let down = one_way(shared, Side::Response, &faults, &mut server_in, &mut client_out);
    // Each side may end before the other; a cut of one is the end of both.
    let ends = tokio::try_join!(up, down);
    Ok(if ends.is_ok() { End::Clean } else { End::Reset })
}

async fn one_way(
    shared: &Shared,
    side: Side,
    faults: &Faults,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut body = Body::new(shared, side, Frame::UntilClose, faults);
    match body.forward(from, to, &mut BytesMut::new()).await? {
        Outcome::Whole | Outcome::Truncated => to.shutdown().await,
        Outcome::Cut => Err(io::ErrorKind::ConnectionReset.into()),
    }
}
