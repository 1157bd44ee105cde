//! What can go wrong between two processes.

use crate::status::kind_of;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use types::ErrorKind;

/// What a library said.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failure of listening, connecting, authenticating, calling, or of the key files.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{address:?} is not an address to listen on; write host:port, such as 0.0.0.0:9200")]
    BadListenAddress { address: String, source: io::Error },
    #[error("cannot listen on {address}: the port is in use; stop the process that has it, or set another port")]
    PortInUse { address: SocketAddr },
    #[error(
        "cannot listen on {address}: no permission; ports below 1024 need the capability to bind them, \
         use a higher port or grant it"
    )]
    NoPermission { address: SocketAddr },
    #[error("cannot listen on {address}: no interface of this host has the address; use one of its own or 0.0.0.0")]
    NotOurAddress { address: SocketAddr },
    #[error("listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("start thread {name} of the RPC server")]
    StartThread { name: String, source: io::Error },

    #[error("{address:?} is not an address to connect to; write host:port, such as 10.0.0.7:9200")]
    BadAddress { address: String, source: Cause },
    #[error("connect to {address}: nobody answers there; check that the server runs and the address is its own")]
    Connect { address: String, source: Cause },
    #[error("authenticate as {user:?} at {address}")]
    Handshake { address: String, user: String, source: Box<tonic::Status> },
    #[error("{address} ended the handshake without an answer; it is no GooseFS server, or it stops")]
    HandshakeEnded { address: String },
    #[error("{user:?} cannot be a user name: {why}")]
    BadUser { user: String, why: &'static str },
    #[error("connections to {MAX} servers are in use at once; close some", MAX = crate::MAX_ADDRESSES)]
    TooManyAddresses,
    #[error("{what} took longer than its deadline; whether it happened is not known")]
    Timeout { what: String },
    #[error("{}", .0.message())]
    Answer(Box<tonic::Status>),

    #[error("the {what} {path} does not exist; {hint}")]
    KeyMissing { what: &'static str, path: PathBuf, hint: &'static str, source: io::Error },
    #[error("the {what} {path} already exists; keep it, or move it away to make another")]
    KeyExists { what: &'static str, path: PathBuf, source: io::Error },
    #[error("others may read the {what} {path} (mode {mode:o}); make it private: chmod 600 {path}")]
    KeyNotPrivate { what: &'static str, path: PathBuf, mode: u32 },
    #[error("{path} holds no {what}: {why}; copy the file again from a master, whole and unchanged")]
    KeyDamaged { what: &'static str, path: PathBuf, why: String },
    #[error("{verb} the {what} {path}")]
    KeyIo { verb: &'static str, what: &'static str, path: PathBuf, source: io::Error },
    #[error("open the sealed {context}: it was sealed with another key, for another purpose, or it is damaged")]
    Unsealable { context: String },
    #[error("{0} does not hold this cluster's key: its proof is wrong; give both sides the same key file")]
    BadProof(&'static str),
    #[error("{what} is {bytes} bytes long, {expected} are needed")]
    BadProofLength { what: &'static str, bytes: usize, expected: usize },

    #[error("{path} is no channel file of this release; move it away, clients authenticate again by themselves")]
    ChannelFileForeign { path: PathBuf },
    #[error("{verb} the channel file {path}")]
    ChannelFile { verb: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::BadListenAddress { .. }
            | Error::NotOurAddress { .. }
            | Error::BadAddress { .. }
            | Error::BadUser { .. }
            | Error::BadProofLength { .. } => ErrorKind::Invalid,
            Error::PortInUse { .. } | Error::KeyExists { .. } => ErrorKind::AlreadyExists,
            Error::NoPermission { .. } | Error::KeyNotPrivate { .. } | Error::BadProof(_) => ErrorKind::Denied,
            Error::Listen { source, .. }
            | Error::StartThread { source, .. }
            | Error::KeyIo { source, .. }
            | Error::ChannelFile { source, .. } => kind_of_io(source),
            Error::Connect { .. } | Error::HandshakeEnded { .. } => ErrorKind::Unavailable,
            Error::Handshake { source, .. } | Error::Answer(source) => kind_of(source),
            Error::TooManyAddresses => ErrorKind::Busy,
            Error::Timeout { .. } => ErrorKind::Timeout,
            Error::KeyMissing { .. } => ErrorKind::NotFound,
            Error::KeyDamaged { .. } | Error::Unsealable { .. } | Error::ChannelFileForeign { .. } => {
                ErrorKind::Corrupt
            }
        }
    }
}

fn kind_of_io(source: &io::Error) -> ErrorKind {
    match source.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        _ => ErrorKind::Internal,
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        Error::Answer(Box::new(status))
    }
}
