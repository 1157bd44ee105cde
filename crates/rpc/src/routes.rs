//! Which handler serves which path.

use crate::unimplemented::{name_it, unimplemented};
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::server::NamedService;
use tower::Service;

/// What handlers answer with: tonic's body, which any `http_body::Body` of `Bytes` becomes.
pub type Body = tonic::body::Body;
/// An answer under way.
pub type Answer = Response<Body>;

type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A table of services, and of single methods served without tonic. An exact path wins over its service; what nobody
/// serves answers UNIMPLEMENTED with its name.
///
/// Cheap to clone; always ready, as [`crate::Server`] needs.
#[derive(Clone, Default)]
pub struct Routes {
    table: Arc<Table>,
}

#[derive(Clone, Default)]
struct Table {
    services: HashMap<&'static str, Handler>,
    methods: HashMap<&'static str, Handler>,
}

impl Routes {
    /// A table that serves nothing.
    pub fn new() -> Routes {
        Routes::default()
    }

    /// Adds a generated server. Set its message limits before: `max_decoding_message_size(`[`crate::MAX_MESSAGE_BYTES`]`)`.
    /// Panics if the service is there already: that is a mistake in the program.
    pub fn service<S>(mut self, service: S) -> Routes
    where
        S: Service<Request<Incoming>, Response = Answer, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| {
            let answer = service.clone().call(request);
            Box::pin(async move { never_fails(answer.await) })
        });
        let old = Arc::make_mut(&mut self.table).services.insert(S::NAME, handler);
        assert!(old.is_none(), "service {} is routed twice", S::NAME);
        self
    }

    /// Serves one method, `/package.Service/Method`, by hand: block streams, see [`crate::block`].
    /// Panics if the path is there already.
    pub fn method<F>(
        mut self,
        path: &'static str,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Routes
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let old = Arc::make_mut(&mut self.table).methods.insert(path, handler);
        assert!(old.is_none(), "method {path} is routed twice");
        self
    }

    fn find(&self, path: &str) -> Option<&Handler> {
        self.table.methods.get(path).or_else(|| {
            let (service, _method) = path.strip_prefix('/')?.split_once('/')?;
            self.table.services.get(service)
        })
    }
}

impl Service<Request<Incoming>> for Routes {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let uri = request.uri().clone();
        match self.find(uri.path()) {
            Some(handler) => {
                let answer = handler(request);
                Box::pin(async move {
                    let mut answer = answer.await;
                    name_it(uri.path(), &mut answer);
                    Ok(answer)
                })
            }
            None => Box::pin(async move { Ok(unimplemented(uri.path()).into_http()) }),
        }
    }
}

fn never_fails<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
