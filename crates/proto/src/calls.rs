//! Methods with one request and one answer, for transports other than HTTP/2.

use prost::Message;
use std::future::Future;
use tonic::{Request, Response, Status};

/// A request that names its method: one message, one answer. Made for every such method that our own clients call.
pub trait Unary: Message + Clone + Default + 'static {
    /// `/package.Service/Method`, as gRPC says it.
    const PATH: &'static str;
    /// What comes back.
    type Answer: Message + Default + 'static;
}

/// Who takes the methods of a service: see the functions `…_calls` beside the services.
pub trait Calls: Sized {
    /// Takes one method in.
    fn with<M, F>(self, method: impl Fn(Request<M>) -> F + Send + Sync + 'static) -> Self
    where
        M: Unary,
        F: Future<Output = Result<Response<M::Answer>, Status>> + Send + 'static;
}
