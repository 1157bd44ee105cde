//! The handshake every connection of an official client begins with.
//!
//! Is:     the SASL service of the contract for SIMPLE and NOSASL.
//! Owns:   open handshakes: one stream each, which stays until the client leaves or the server drains.
//! Never:  checks a password; SIMPLE has none.

mod impersonation;
mod plain;

use crate::channels::{Channels, MAX_ID_BYTES, Registration};
use crate::groups::Groups;
use crate::identify::{AuthType, IdentityRules};
use crate::server::Stopping;
use crate::status::status;
use futures::stream::{self, StreamExt};
pub use impersonation::Impersonation;
use plain::Plain;
pub(crate) use plain::check_user;
use proto::grpc::sasl::sasl_authentication_service_server::{
    SaslAuthenticationService, SaslAuthenticationServiceServer,
};
use proto::grpc::sasl::{ChannelAuthenticationScheme as Scheme, SaslMessage, SaslMessageType};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};
use types::ErrorKind;

/// Handshakes between their first byte and their answer; one more is told to come again.
pub const MAX_PENDING_HANDSHAKES: usize = 1024;
/// How long a client may take for its one message; its own patience is 30 s.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A handshake message is small.
const MAX_HANDSHAKE_BYTES: usize = 16 << 10;

/// The service. One per server, shared by its threads.
pub struct Sasl {
    rules: Arc<IdentityRules>,
    impersonation: Impersonation,
    channels: Arc<Channels>,
    groups: Arc<Groups>,
    stopping: Stopping,
    pending: Semaphore,
}

impl Sasl {
    /// `channels` and `groups` are those of the [`crate::Identify`] on the same port; `stopping` ends open handshakes.
    pub fn new(
        rules: IdentityRules,
        impersonation: Impersonation,
        channels: Arc<Channels>,
        groups: Arc<Groups>,
        stopping: Stopping,
    ) -> Arc<Sasl> {
        let pending = Semaphore::new(MAX_PENDING_HANDSHAKES);
        Arc::new(Sasl { rules: Arc::new(rules), impersonation, channels, groups, stopping, pending })
    }

    /// For [`crate::Routes::service`].
    pub fn server(self: &Arc<Sasl>) -> SaslAuthenticationServiceServer<Sasl> {
        SaslAuthenticationServiceServer::from_arc(self.clone()).max_decoding_message_size(MAX_HANDSHAKE_BYTES)
    }

    /// From the first message to a registration.
    async fn admit(&self, first: SaslMessage) -> Result<Registration, Status> {
        let claim = read_claim(&first, &self.rules)?;
        let user = acting(claim.user, claim.on_behalf_of, &self.impersonation, &self.groups).await?;
        // So that the first call need not wait for it.
        self.groups.of(&user).await;
        let channels = self.channels.clone();
        let register = move || channels.register(&claim.channel_id, &user);
        let registered = tokio::task::spawn_blocking(register).await;
        let registered = registered
            .map_err(|error| status(ErrorKind::Internal, format!("the handshake ended by a bug of ours: {error}")))?;
        registered.map_err(|why| status(why.kind(), why.to_string()))
    }
}

/// What a client says about itself.
#[derive(PartialEq, Eq, Debug)]
struct Claim {
    channel_id: String,
    user: String,
    /// Another user it wants to act for.
    on_behalf_of: Option<String>,
}

fn refused(why: impl Into<String>) -> Status {
    status(ErrorKind::Unauthenticated, why)
}

/// Whom a PLAIN message makes of its sender.
pub(crate) async fn user_of(plain: &[u8], impersonation: &Impersonation, groups: &Groups) -> Result<String, Status> {
    let Plain { authzid, user } = Plain::parse(plain).map_err(|why| refused(why.to_string()))?;
    let on_behalf_of = authzid.filter(|authzid| *authzid != user);
    acting(user, on_behalf_of, impersonation, groups).await
}

/// Who acts: the user itself, or the other one if it may act for that one.
async fn acting(
    user: String,
    on_behalf_of: Option<String>,
    impersonation: &Impersonation,
    groups: &Groups,
) -> Result<String, Status> {
    let Some(other) = on_behalf_of else { return Ok(user) };
    if impersonation.allows(&user, &other, &groups.of(&other).await) {
        return Ok(other);
    }
    Err(refused(format!(
        "user {user:?} may not act for {other:?}; allow it with goosefs.master.security.impersonation.{user}.users, or \
         connect as yourself"
    )))
}

/// Reads the one message of a handshake.
fn read_claim(message: &SaslMessage, rules: &IdentityRules) -> Result<Claim, Status> {
    // An absent type is CHALLENGE, an absent scheme NOSASL: their first numbers.
    match SaslMessageType::try_from(message.message_type.unwrap_or(0)) {
        Ok(SaslMessageType::Challenge) => {}
        Ok(SaslMessageType::Success) | Err(_) => {
            return Err(refused("a handshake begins with a CHALLENGE message of the client"));
        }
    }
    let channel_id = message.client_id.as_deref().unwrap_or("");
    if channel_id.is_empty()
        || channel_id.len() > MAX_ID_BYTES
        || !channel_id.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(refused(format!(
            "the handshake's clientId must be 1 to {MAX_ID_BYTES} visible ASCII characters, such as a UUID"
        )));
    }
    let number = message.authentication_scheme.unwrap_or(0);
    let scheme = Scheme::try_from(number)
        .map_err(|_| refused(format!("authentication scheme {number} is unknown here; use SIMPLE")))?;
    match (scheme, rules.auth) {
        (Scheme::Simple, AuthType::Simple | AuthType::NoSasl) => {
            let plain =
                Plain::parse(message.message.as_deref().unwrap_or(&[])).map_err(|why| refused(why.to_string()))?;
            let on_behalf_of = plain.authzid.filter(|authzid| *authzid != plain.user);
            Ok(Claim { channel_id: channel_id.to_owned(), user: plain.user, on_behalf_of })
        }
        (Scheme::Nosasl, AuthType::NoSasl) => {
            Ok(Claim { channel_id: channel_id.to_owned(), user: rules.nosasl_user.clone(), on_behalf_of: None })
        }
        (Scheme::Nosasl, AuthType::Simple) => Err(refused(
            "this server wants to know who connects: set goosefs.security.authentication.type=SIMPLE on the client",
        )),
        (Scheme::Custom | Scheme::Kerberos | Scheme::DelegationToken | Scheme::CapabilityToken, _) => {
            Err(refused(format!("authentication scheme {} is not served here; use SIMPLE", scheme.as_str_name())))
        }
    }
}

/// SUCCESS must be set explicitly: a client reads an absent type as CHALLENGE and sends its message again, for ever.
fn success() -> SaslMessage {
    SaslMessage { message_type: Some(i32::from(SaslMessageType::Success)), ..SaslMessage::default() }
}

#[tonic::async_trait]
impl SaslAuthenticationService for Sasl {
    async fn authenticate(
        &self,
        request: Request<Streaming<SaslMessage>>,
    ) -> Result<Response<BoxStream<SaslMessage>>, Status> {
        let Ok(_pending) = self.pending.try_acquire() else {
            let why = format!("{MAX_PENDING_HANDSHAKES} handshakes are under way; connect again in a moment");
            return Err(status(ErrorKind::Busy, why));
        };
        let mut incoming = request.into_inner();
        let handshake = async {
            match incoming.message().await? {
                Some(first) => self.admit(first).await,
                None => Err(refused("the handshake ended before the client said who it is")),
            }
        };
        let registration = tokio::select! {
            result = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => result.map_err(|_| {
                let why = format!("no handshake message within {} s; connect again", HANDSHAKE_TIMEOUT.as_secs());
                status(ErrorKind::Timeout, why)
            })??,
            _ = self.stopping.begun() => return Err(stops()),
        };
        let farewell = stay(incoming, registration, self.stopping.clone());
        let answers =
            stream::once(async { Ok(success()) }).chain(stream::once(farewell).filter_map(std::future::ready));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn stops() -> Status {
    status(ErrorKind::Unavailable, "this server stops; connect to another, or again in a moment")
}

/// Holds the registration until the client leaves (then nothing more is said) or must be sent away.
async fn stay(
    mut incoming: Streaming<SaslMessage>,
    registration: Registration,
    stopping: Stopping,
) -> Option<Result<SaslMessage, Status>> {
    let farewell = tokio::select! {
        message = incoming.message() => match message {
            Ok(Some(_)) => Some(Err(status(
                ErrorKind::Invalid,
                "the handshake is over; a channel is authenticated once, open another for another user",
            ))),
            Ok(None) | Err(_) => None,
        },
        _ = stopping.begun() => Some(Err(stops())),
    };
    drop(registration);
    farewell
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(auth: AuthType) -> IdentityRules {
        IdentityRules { auth, nosasl_user: "nobody".into(), strict_channel: false }
    }

    /// Recorded from the official client 0.2.2: user `testuser`.
    fn golden() -> SaslMessage {
        SaslMessage {
            message_type: Some(0),
            message: Some(b"\0testuser\0noPassword"[..].into()),
            client_id: Some("5e0d6a1c-8f0a-4a55-9d0b-0c1f7b3ad001".into()),
            authentication_scheme: Some(1),
            channel_ref: Some("rust-client-5e0d6a1c".into()),
        }
    }

    #[test]
    fn golden_bytes_of_a_handshake() {
        use prost::Message;
        let mut bytes = vec![0x08, 0x00, 0x12, 0x14];
        bytes.extend_from_slice(b"\0testuser\0noPassword");
        bytes.extend_from_slice(&[0x1a, 36]);
        bytes.extend_from_slice(b"5e0d6a1c-8f0a-4a55-9d0b-0c1f7b3ad001");
        bytes.extend_from_slice(&[0x20, 0x01, 0x2a, 20]);
        bytes.extend_from_slice(b"rust-client-5e0d6a1c");
        assert_eq!(SaslMessage::decode(&bytes[..]).expect("whole"), golden());
        assert_eq!(success().encode_to_vec(), [0x08, 0x01], "the type of SUCCESS is on the wire");
    }

    #[test]
    fn a_client_is_who_it_says() {
        let claim = read_claim(&golden(), &rules(AuthType::Simple)).expect("a good handshake");
        assert_eq!((claim.user.as_str(), claim.on_behalf_of), ("testuser", None));
        let claim = read_claim(&golden(), &rules(AuthType::NoSasl)).expect("believed too");
        assert_eq!(claim.user, "testuser");
        let equal = SaslMessage { message: Some(b"ann\0ann\0x"[..].into()), ..golden() };
        assert_eq!(read_claim(&equal, &rules(AuthType::Simple)).expect("itself").on_behalf_of, None);
        let other = SaslMessage { message: Some(b"bob\0ann\0x"[..].into()), ..golden() };
        let claim = read_claim(&other, &rules(AuthType::Simple)).expect("to be judged");
        assert_eq!((claim.user.as_str(), claim.on_behalf_of.as_deref()), ("ann", Some("bob")));
        let open = SaslMessage { authentication_scheme: Some(0), message: None, ..golden() };
        assert_eq!(read_claim(&open, &rules(AuthType::NoSasl)).expect("an open server").user, "nobody");
    }

    #[test]
    fn bad_handshakes_get_a_sentence() {
        for (message, says) in [
            (SaslMessage { authentication_scheme: Some(3), ..golden() }, "KERBEROS is not served here"),
            (SaslMessage { authentication_scheme: Some(2), ..golden() }, "CUSTOM is not served here"),
            (SaslMessage { authentication_scheme: Some(4), ..golden() }, "DELEGATION_TOKEN is not served here"),
            (SaslMessage { authentication_scheme: Some(5), ..golden() }, "CAPABILITY_TOKEN is not served here"),
            (SaslMessage { authentication_scheme: Some(77), ..golden() }, "scheme 77 is unknown"),
            (SaslMessage { authentication_scheme: None, ..golden() }, "wants to know who connects"),
            (SaslMessage { message_type: Some(1), ..golden() }, "begins with a CHALLENGE"),
            (SaslMessage { message_type: Some(9), ..golden() }, "begins with a CHALLENGE"),
            (SaslMessage { client_id: None, ..golden() }, "visible ASCII"),
            (SaslMessage { client_id: Some("x".repeat(129)), ..golden() }, "visible ASCII"),
            (SaslMessage { client_id: Some("a b".into()), ..golden() }, "visible ASCII"),
            (SaslMessage { message: None, ..golden() }, "three parts"),
        ] {
            let status = read_claim(&message, &rules(AuthType::Simple)).expect_err(says);
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
            assert!(status.message().contains(says), "{}", status.message());
        }
    }
}
