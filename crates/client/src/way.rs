//! Another way to masters than the network.
//!
//! Is:     the seam that lets a simulated cluster run this crate's own search, retries and deadlines.
//! Never:  used by a process that talks to real masters.

use bytes::Bytes;
use futures::future::BoxFuture;
use tonic::Status;
use types::Entropy;

/// Brings a call to a master and its answer back, and chance with it: operation ids and the length of pauses.
pub trait Way: Entropy + 'static {
    /// Asks the master at `address`, a `host:port`, the method of this path with one encoded message for one. Dropped, nobody
    /// waits for the answer any more. Errors: the master's; UNAVAILABLE when the connection broke.
    fn ask(&self, address: &str, method: &'static str, request: Bytes) -> BoxFuture<'static, Result<Bytes, Status>>;
}
