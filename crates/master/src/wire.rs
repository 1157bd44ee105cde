//! The services of the master: thin adapters that turn messages into our words and back.

pub mod admin;
pub mod batches;
pub mod file_info;
pub mod file_system;
mod metadata;
pub mod metrics;
pub mod namespace;
pub mod version;
pub mod worker_manager;
pub mod worker_master;

use crate::error::Error;
use std::sync::Arc;
use tonic::{Request, Status};
use types::{GfsPath, Principal};

/// Who called.
fn caller<T>(request: &Request<T>) -> Result<Arc<Principal>, Status> {
    rpc::caller(request.extensions()).cloned()
}

fn path(text: Option<&str>) -> Result<GfsPath, Error> {
    GfsPath::parse(text.unwrap_or("")).map_err(|err| Error::Rejected(err.into()))
}
