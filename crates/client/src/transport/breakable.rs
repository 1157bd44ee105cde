//! A call whose request can be broken off in the middle, so that its server sees a reset and never an end.

use crate::link::Service;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tonic::codegen::Service as Calls;
use tonic::codegen::http::Request;

/// Carries one call, which breaks off when the other end of `broken` is dropped.
pub(super) struct Breakable {
    service: Service,
    broken: Option<oneshot::Receiver<()>>,
}

impl Breakable {
    pub(super) fn new(service: Service, broken: oneshot::Receiver<()>) -> Breakable {
        Breakable { service, broken: Some(broken) }
    }
}

impl Calls<Request<tonic::body::Body>> for Breakable {
    type Response = <Service as Calls<Request<tonic::body::Body>>>::Response;
    type Error = <Service as Calls<Request<tonic::body::Body>>>::Error;
    type Future = <Service as Calls<Request<tonic::body::Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Calls::<Request<tonic::body::Body>>::poll_ready(&mut self.service, cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let broken = self.broken.take();
        self.service.call(request.map(|body| tonic::body::Body::new(Breaking { body, broken })))
    }
}

struct Breaking {
    body: tonic::body::Body,
    broken: Option<oneshot::Receiver<()>>,
}

impl Body for Breaking {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(broken) = &mut self.broken
            && Pin::new(broken).poll(cx).is_ready()
        {
            self.broken = None;
            return Poll::Ready(Some(Err(tonic::Status::cancelled("the writer was dropped"))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
