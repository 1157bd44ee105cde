//! Connections, as this crate opens and judges them.

use crate::{Auth, ClientConfig};
use rpc::{AuthType, Connection, Identity};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use types::{Entropy, ErrorKind};

pub(crate) use rpc::{Service, kind_of};

/// When a call to a master is tried again. The deadline of the call ends it earlier than the tries do.
pub(crate) const RETRIES: rpc::RetryPolicy =
    rpc::RetryPolicy { tries: 64, base: Duration::from_millis(50), cap: Duration::from_secs(3) };

/// Opens a connection and says who we are. Error: what went wrong, with a kind that tells whether it may pass.
pub(crate) async fn open(
    host: &str,
    port: u16,
    config: &ClientConfig,
    until: Instant,
) -> Result<Arc<Connection>, rpc::Error> {
    connect(host, port, identity(config), config, until).await
}

/// Opens a connection without a handshake.
pub(crate) async fn open_plain(
    host: &str,
    port: u16,
    config: &ClientConfig,
    until: Instant,
) -> Result<Arc<Connection>, rpc::Error> {
    connect(host, port, Identity { user: config.user.clone(), auth: AuthType::NoSasl }, config, until).await
}

async fn connect(
    host: &str,
    port: u16,
    identity: Identity,
    config: &ClientConfig,
    until: Instant,
) -> Result<Arc<Connection>, rpc::Error> {
    let until = until.min(Instant::now() + config.connect_timeout);
    Connection::open(&address(host, port), &identity, until).await.map(Arc::new)
}

/// Who we are, to workers and masters alike.
pub(crate) fn identity(config: &ClientConfig) -> Identity {
    let auth = match config.auth {
        Auth::Simple => AuthType::Simple,
        Auth::Nosasl => AuthType::NoSasl,
    };
    Identity { user: config.user.clone(), auth }
}

/// `host:port`, with brackets around an IPv6 host.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A failure of a connection as the answer to a call, so that both are judged alike.
pub(crate) fn status_of(error: &rpc::Error) -> Status {
    rpc::status(error.kind(), types::sentence(error))
}

/// Whether the connection itself is in doubt after such an answer.
pub(crate) fn spoils_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Unauthenticated)
}

pub(crate) fn chance() -> u64 {
    rpc::SystemEntropy.next_u64()
}
