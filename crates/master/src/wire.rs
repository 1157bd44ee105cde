//! The services of the master: thin adapters that turn messages into our words and back.

pub mod admin;
pub mod file_info;
pub mod file_system;
pub mod metrics;
pub mod namespace;
pub mod version;
pub mod worker_manager;
pub mod worker_master;

use crate::error::Error;
use types::{GfsPath, Principal};

/// Who called. The authentication layer put it there; without one the call is refused.
fn caller<T>(request: &tonic::Request<T>) -> Result<Principal, Error> {
    request.extensions().get::<Principal>().cloned().ok_or_else(|| {
        Error::Unauthenticated("this connection is not authenticated; do the SASL handshake first".to_owned())
    })
}

fn path(text: Option<&str>) -> Result<GfsPath, Error> {
    GfsPath::parse(text.unwrap_or("")).map_err(|err| Error::Rejected(err.into()))
}
