//! The official BlockWorker service on this worker's blocks, and our own beside it.
//!
//! Is:     messages in, calls of [`crate::read`] and [`crate::write`], messages out.
//! Owns:   nothing: a stream's state is dropped with it, however it ends.
//! Never:  takes a client's reset for an orderly end; decides anything.

mod admin;
#[cfg(test)]
mod fuzz;
pub(crate) mod read_block;
mod replies;
mod service;
pub(crate) mod write_block;

pub use service::{ASYNC_CACHES_MAX, Service};

use crate::error::WorkerError;
use tonic::Status;
use types::ErrorKind;

/// Full names of the two methods served without tonic's codec.
pub const READ_BLOCK: &str = "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/ReadBlock";
pub const WRITE_BLOCK: &str = "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/WriteBlock";

/// The status of a failure.
fn status_of(error: &WorkerError) -> Status {
    rpc::status(error.kind(), error.sentence())
}

/// The status of a failed read. Official clients give some codes a meaning of their own that fits files, not blocks:
/// those become INTERNAL.
fn read_status(error: &WorkerError) -> Status {
    let kind = match error.kind() {
        ErrorKind::NotFound | ErrorKind::AlreadyExists => ErrorKind::Internal,
        kind @ (ErrorKind::Invalid
        | ErrorKind::Denied
        | ErrorKind::Precondition
        | ErrorKind::Unauthenticated
        | ErrorKind::Full
        | ErrorKind::Busy
        | ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Corrupt
        | ErrorKind::Unimplemented
        | ErrorKind::Internal) => kind,
    };
    rpc::status(kind, error.sentence())
}

/// A block id from the wire.
fn block_of(raw: Option<i64>) -> Result<types::BlockId, WorkerError> {
    let raw = raw.unwrap_or_default();
    types::BlockId::from_wire(raw)
        .ok_or_else(|| WorkerError::Invalid(format!("{raw} is no block id; ids are positive and name a container")))
}
