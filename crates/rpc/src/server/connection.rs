//! One connection: what it speaks, then HTTP/2 until it ends.

use super::opening::{self, Opening};
use super::{Core, apart};
use crate::frames;
use bytes::{Buf, Bytes};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tower::Service;

/// Frames for streams that have ended which a connection may bring in its life. A reader's receipts cross the end of the
/// stream all the time, so it is far above the default of 1024; each costs some memory if the client does not read.
const LATE_FRAMES: usize = 100_000;

/// Serves until the client leaves or the drain lets it go.
///
/// - `said`: what was read of it already.
pub(super) async fn serve<S, B>(
    stream: std::net::TcpStream,
    mut said: Vec<u8>,
    service: S,
    core: &Core,
    mut threads: Option<&apart::Threads>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Ok(mut stream) = TcpStream::from_std(stream) else { return };
    let peer = stream.connect_info();
    loop {
        let opening = tokio::select! {
            opening = tokio::time::timeout(core.config.opening_timeout,
                opening::read(&mut stream, said, threads.is_some(), core.frames.is_some())) => opening,
            _ = core.stopping.begun() => return,
        };
        match opening {
            Ok(Ok(Opening::Apart(more))) => {
                let Some(thread) = threads.and_then(apart::Threads::free) else {
                    // It is served among the others.
                    (said, threads) = (more, None);
                    continue;
                };
                let Ok(stream) = stream.into_std() else { return };
                let core = core.clone();
                return thread
                    .run(move || Box::pin(async move { serve(stream, more, service, &core, None).await }))
                    .await;
            }
            Ok(Ok(Opening::Frames(more))) => {
                let frames = core.frames.clone().expect("only a port with frames knows of them");
                return frames::serve(stream, &more, frames, core).await;
            }
            Ok(Ok(Opening::Http2(head))) => return http2(Prefixed { head, stream }, peer, service, core).await,
            Ok(Ok(Opening::Stranger(stranger))) => {
                tracing::debug!(peer = ?peer.remote_addr, ?stranger, "a client of another protocol");
                return opening::answer(stream, stranger, &core.config).await;
            }
            Ok(Ok(Opening::Left)) | Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn http2<S, B>(stream: Prefixed, peer: TcpConnectInfo, service: S, core: &Core)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let config = &core.config;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        .max_frame_size(config.max_frame_bytes)
        .max_send_buf_size(config.send_buffer_bytes)
        .max_concurrent_streams(config.max_streams)
        .max_header_list_size(config.max_header_bytes)
        .max_local_error_reset_streams(LATE_FRAMES);
    let remote = peer.remote_addr;
    let call = service_fn(move |mut request: Request<Incoming>| {
        // For handlers that log who called.
        request.extensions_mut().insert(peer.clone());
        service.clone().call(request)
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), call));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = core.stopping.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = ?remote, %error, "connection ended");
    }
}

/// A stream whose first bytes were read already.
struct Prefixed {
    head: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head[..count]);
        self.head.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
    /// Lets h2 send a payload from where it lies.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
