//! Our own end of a connection to one of our servers.

use crate::error::Error;
use crate::identify::AuthType;
use crate::sasl::check_user;
use crate::server::APART;
use futures::stream::{self, StreamExt};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proto::Unary;
use proto::grpc::sasl::sasl_authentication_service_client::SaslAuthenticationServiceClient;
use proto::grpc::sasl::{ChannelAuthenticationScheme, SaslMessage, SaslMessageType};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// The header that ties a call to its handshake.
pub const CHANNEL_ID: &str = "channel-id";
/// Windows and frames for blocks: as large as the server's.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const MAX_FRAME_BYTES: u32 = 1 << 20;
/// A server that vanished without a word is noticed after about this plus nine probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Who connects.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// The name given in the handshake.
    pub user: String,
    /// Whether there is a handshake.
    pub auth: AuthType,
}

/// A channel whose calls carry the id of its handshake; give it to a generated client.
pub type Service = InterceptedService<Channel, ChannelIdHeader>;

/// Puts the channel id on a call.
#[derive(Clone, Debug)]
pub struct ChannelIdHeader(MetadataValue<Ascii>);

impl Interceptor for ChannelIdHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(CHANNEL_ID, self.0.clone());
        Ok(request)
    }
}

/// A connection that did its handshake. The transport comes back by itself after a break; the handshake does not, so
/// after [`types::ErrorKind::Unauthenticated`] open another: [`crate::Pool`] and [`crate::retry`] do.
///
/// Lives on the runtime it was opened on.
#[derive(Debug)]
pub struct Connection {
    address: String,
    channel: Channel,
    id: ChannelIdHeader,
    /// The handshake's stream: the server forgets the channel id when it ends.
    _handshake: Option<Mutex<Handshake>>,
}

#[derive(Debug)]
struct Handshake {
    /// Dropped with it: the end of our half.
    _ours: oneshot::Sender<()>,
    _theirs: Streaming<SaslMessage>,
}

impl Connection {
    /// Connects to `address`, a `host:port`, and says who we are, all before `deadline`. Cancel-safe.
    ///
    /// Errors: no address, nobody there, the handshake refused (with the server's sentence as source), the deadline.
    pub async fn open(address: &str, identity: &Identity, deadline: Instant) -> Result<Connection, Error> {
        let late = |_| Error::Timeout { what: format!("connect to {address} as {:?}", identity.user) };
        timeout_at(deadline, Connection::dial(address, identity, deadline)).await.map_err(late)?
    }

    async fn dial(address: &str, identity: &Identity, deadline: Instant) -> Result<Connection, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|source| Error::BadAddress { address: address.to_owned(), source: source.into() })?
            .connect_timeout(deadline.saturating_duration_since(Instant::now()))
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEPALIVE_IDLE))
            .tcp_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            // What still comes for a stream that was dropped counts as an error of the peer, and the default bears about a
            // thousand in the life of a connection. Readers are dropped in the middle all the time.
            .http2_max_local_error_reset_streams(None);
        let connected = endpoint.connect().await;
        let channel =
            connected.map_err(|source| Error::Connect { address: address.to_owned(), source: source.into() })?;
        let id = uuid::Uuid::new_v4().to_string();
        let handshake = match identity.auth {
            AuthType::NoSasl => None,
            AuthType::Simple => Some(Mutex::new(handshake(address, &identity.user, channel.clone(), &id).await?)),
        };
        let id = ChannelIdHeader(id.parse().expect("a UUID is a header value"));
        Ok(Connection { address: address.to_owned(), channel, id, _handshake: handshake })
    }

    /// For a generated client: `GreeterClient::new(connection.service())`. Cheap.
    pub fn service(&self) -> Service {
        InterceptedService::new(self.channel.clone(), self.id.clone())
    }

    /// Asks a method with one answer, and waits for it. Error: the server's; a message longer than `limit` bytes.
    pub async fn ask<M: Unary>(&self, request: M, limit: usize) -> Result<M::Answer, Status> {
        let mut grpc = Grpc::new(self.service()).max_decoding_message_size(limit);
        let ready = grpc.ready().await;
        // As generated clients say it.
        ready.map_err(|error| Status::unknown(format!("Service was not ready: {}", error)))?;
        let codec = ProstCodec::<M, M::Answer>::default();
        Ok(grpc.unary(Request::new(request), PathAndQuery::from_static(M::PATH), codec).await?.into_inner())
    }

    /// The `host:port` it was opened for.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What its calls carry as [`CHANNEL_ID`].
    pub fn channel_id(&self) -> &str {
        self.id.0.to_str().expect("a UUID is ASCII")
    }
}

/// How a connection of ours finds out that its server vanished.
pub(crate) fn keepalive(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let alive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&alive)
}

/// Connects and asks for a thread of the server's own ([`crate::ServerConfig::apart`]), for what would delay its other
/// connections. A server that does not know of that takes the caller for a stranger: the first call fails.
///
/// Errors: nobody there, within the endpoint's time.
pub async fn connect_apart(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    let dial = |uri: Uri| async move {
        let address = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(APART).await?;
        io::Result::Ok(TokioIo::new(stream))
    };
    endpoint.connect_with_connector(tower::service_fn(dial)).await
}

/// How a client says who it is, in both protocols. Error: nobody can have that name.
pub(crate) fn plain(user: &str) -> Result<Vec<u8>, Error> {
    check_user(user).map_err(|why| Error::BadUser { user: user.to_owned(), why })?;
    Ok(format!("\0{user}\0noPassword").into_bytes())
}

async fn handshake(address: &str, user: &str, channel: Channel, id: &str) -> Result<Handshake, Error> {
    let hello = SaslMessage {
        message_type: Some(i32::from(SaslMessageType::Challenge)),
        message: Some(plain(user)?.into()),
        client_id: Some(id.to_owned()),
        authentication_scheme: Some(i32::from(ChannelAuthenticationScheme::Simple)),
        channel_ref: Some(format!("goosefs-{}", &id[..8])),
    };
    // Our half: the one message, then open until the sender is dropped.
    let (ours, closed) = oneshot::channel::<()>();
    let open_end = stream::once(closed).filter_map(|_| std::future::ready(None));
    let outgoing = stream::once(std::future::ready(hello)).chain(open_end);
    let refused = |source: Status| Error::Handshake {
        address: address.to_owned(),
        user: user.to_owned(),
        source: Box::new(source),
    };
    let mut client = SaslAuthenticationServiceClient::new(channel);
    let mut theirs = client.authenticate(outgoing).await.map_err(refused)?.into_inner();
    let answer = theirs.message().await.map_err(refused)?;
    match answer.map(|message| message.message_type) {
        Some(Some(kind)) if kind == i32::from(SaslMessageType::Success) => {
            Ok(Handshake { _ours: ours, _theirs: theirs })
        }
        Some(_) => Err(refused(Status::unauthenticated("the server asks for more than a user's name"))),
        None => Err(Error::HandshakeEnded { address: address.to_owned() }),
    }
}
