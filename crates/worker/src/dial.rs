//! The way to a master's internal port.
//!
//! Is:     a trait that opens it, and its implementation over TCP.
//! Never:  says anything on it: [`crate::master_link`] does.

use crate::error::WorkerError;
use std::time::Duration;
use tokio::runtime::Handle;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// Takes requests to one master. A request without an answer ends with a status.
pub type Wire = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// Opens ways to masters.
#[tonic::async_trait]
pub trait Dial: Send + Sync + 'static {
    /// - `address`: `host:port`, as the settings name it.
    ///
    /// Errors: what is wrong with the address, or why nobody answers there. Cancel-safe.
    async fn dial(&self, address: &str) -> Result<Wire, WorkerError>;
}

/// Over TCP.
pub struct Tcp {
    patience: Duration,
    /// Connections live here, however short-lived the runtime of a caller is.
    runtime: Handle,
}

impl Tcp {
    /// Connections belong to the present runtime. `patience`: how long opening one may take.
    pub fn new(patience: Duration) -> Tcp {
        Tcp { patience, runtime: Handle::current() }
    }
}

#[tonic::async_trait]
impl Dial for Tcp {
    async fn dial(&self, address: &str) -> Result<Wire, WorkerError> {
        let verb = "say hello to the master";
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| WorkerError::Invalid(format!("{address:?} is no address of a master: {error}")))?
            .connect_timeout(self.patience)
            .tcp_nodelay(true);
        // The connection's task must not end with the runtime of whoever asked first.
        match self.runtime.spawn(async move { endpoint.connect().await }).await {
            Ok(Ok(channel)) => {
                Ok(BoxCloneSyncService::new(channel.map_err(|error| Status::from_error(Box::new(error)))))
            }
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                Err(WorkerError::NoMaster { verb, words: format!("{address}: {error}{cause}") })
            }
            Err(_) => Err(WorkerError::Stopping),
        }
    }
}
