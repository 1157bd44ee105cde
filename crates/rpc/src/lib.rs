//! Connections: a server for gRPC over HTTP/2, who is at the other end, block streams without copies, our own client
//! side, and keys.
//!
//! Is:     one kind of IO, sockets, and what every service on them shares.
//! Owns:   connections, the registry of channel ids, the group cache, the status-code table, the cluster's key.
//! Never:  knows what a service does; roles hand in their services and get a principal with each request.
//! See:    `docs/design/0005-rpc.md`.

pub mod block;
mod channels;
mod clock;
mod connect;
mod error;
mod frames;
mod groups;
mod identify;
mod pool;
mod retry;
mod routes;
mod sasl;
mod seal;
mod server;
mod status;
mod unimplemented;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

pub use channels::{Channels, MAX_KNOWN, MAX_OPEN, Registration};
pub use clock::{SystemClock, SystemEntropy};
pub use connect::{CHANNEL_ID, Connection, Identity, Service, connect_apart};
pub use error::{Cause, Error};
pub use frames::{FrameService, Frames, MAX_CALLS, Watch, wire};
pub use groups::{GROUPS_TTL, Groups, MAX_CACHED_USERS};
pub use identify::{AuthType, Identify, IdentifyService, IdentityRules, TOLERANT_METHODS, caller};
pub use pool::{MAX_ADDRESSES, Pool};
pub use retry::{RetryPolicy, Try, retry};
pub use routes::{Answer, Body, Routes};
pub use sasl::{Impersonation, MAX_PENDING_HANDSHAKES, Sasl};
pub use seal::{Challenge, ClusterKey, Proof, SessionKey, Side, Transcript, WorkerToken};
pub use server::{Core, MAX_ANSWER_BYTES, MAX_MESSAGE_BYTES, Overload, Paced, Running, Server, ServerConfig, Stopping};
pub use status::{MAX_STATUS_BYTES, kind_of, status};

#[doc(hidden)]
pub use hyper::body::Incoming;
