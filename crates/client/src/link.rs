//! Connections, as this crate opens and judges them.

use crate::{Auth, ClientConfig, Way};
use prost::Message;
use proto::Unary;
use rpc::{AuthType, Connection, Frames, Identity};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::Status;
use types::ErrorKind;

pub(crate) use rpc::{Service, kind_of};

/// Messages of the master may be this long; ours stay below 4 MiB, as the official clients need.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// When a call to a master is tried again. The deadline of the call ends it earlier than the tries do.
pub(crate) const RETRIES: rpc::RetryPolicy =
    rpc::RetryPolicy { tries: 64, base: Duration::from_millis(50), cap: Duration::from_secs(3) };

/// The way to one master: frames if it knows them, and gRPC for what they do not carry and for older masters.
pub(crate) struct Link {
    address: String,
    identity: Identity,
    connect_timeout: Duration,
    /// Instead of all that follows.
    way: Option<Arc<dyn Way>>,
    frames: Option<Frames>,
    /// Opened when first needed.
    grpc: OnceCell<Connection>,
}

impl Link {
    /// Connects and says who we are. Error: what went wrong, with a kind that tells whether it may pass.
    pub(crate) async fn open(
        host: &str,
        port: u16,
        identity: Identity,
        config: &ClientConfig,
        way: Option<&Arc<dyn Way>>,
        until: Instant,
    ) -> Result<Link, rpc::Error> {
        let until = until.min(Instant::now() + config.connect_timeout);
        let (address, way, grpc) = (address(host, port), way.cloned(), OnceCell::new());
        let frames = if way.is_some() { None } else { Frames::open(&address, &identity, until).await? };
        let link = Link { address, identity, connect_timeout: config.connect_timeout, way, frames, grpc };
        if link.way.is_none() && link.frames.is_none() {
            link.connection(until).await?;
        }
        Ok(link)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether nothing can be asked here any more.
    pub(crate) fn is_over(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::is_over)
    }

    /// Whether it finds out by itself that the master went silent.
    pub(crate) fn is_watched<M: Unary>(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::has::<M>)
    }

    /// Asks a method with one answer.
    pub(crate) async fn ask<M: Unary>(&self, request: &M) -> Result<M::Answer, Status> {
        if let Some(way) = &self.way {
            let answer = way.ask(&self.address, M::PATH, request.encode_to_vec().into()).await?;
            return M::Answer::decode(answer).map_err(|error| rpc::status(ErrorKind::Internal, error.to_string()));
        }
        match &self.frames {
            Some(frames) if frames.has::<M>() => frames.call(request).await,
            Some(_) | None => {
                Box::pin(async { self.grpc().await?.ask(request.clone(), MAX_MESSAGE_BYTES).await }).await
            }
        }
    }

    /// For a generated client, for what is more than one answer.
    pub(crate) async fn service(&self) -> Result<Service, Status> {
        if self.way.is_some() {
            return Err(rpc::status(ErrorKind::Unimplemented, "this way carries only what has one answer"));
        }
        Ok(self.grpc().await?.service())
    }

    async fn grpc(&self) -> Result<&Connection, Status> {
        self.connection(Instant::now() + self.connect_timeout).await.map_err(|error| status_of(&error))
    }

    async fn connection(&self, until: Instant) -> Result<&Connection, rpc::Error> {
        self.grpc.get_or_try_init(|| Connection::open(&self.address, &self.identity, until)).await
    }
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
