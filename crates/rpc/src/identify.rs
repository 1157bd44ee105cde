//! Puts a [`Principal`] on every request, or refuses it.

use crate::channels::Channels;
use crate::connect::CHANNEL_ID;
use crate::groups::{GroupList, Groups};
use crate::routes::Answer;
use crate::status::status;
use futures::future::BoxFuture;
use http::Request;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tower::{Layer, Service};
use types::{ErrorKind, Principal, Proof};

/// What official clients call on channels they never authenticate again: answered for an unknown channel id too, as
/// the NOSASL user, unless [`IdentityRules::strict_channel`]. Every other call makes them authenticate.
pub const TOLERANT_METHODS: [&str; 4] = [
    "/com.qcloud.cos.goosefs.grpc.block.WorkerManagerMasterClientService/GetWorkerInfoList",
    "/com.qcloud.cos.goosefs.grpc.metric.MetricsMasterClientService/MetricsHeartbeat",
    "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/ReadBlock",
    "/com.qcloud.cos.goosefs.grpc.block.BlockWorker/WriteBlock",
];
/// Asked before there can be a handshake.
const OPEN_METHODS: [&str; 2] = [
    "/com.qcloud.cos.goosefs.grpc.sasl.SaslAuthenticationService/authenticate",
    "/com.qcloud.cos.goosefs.grpc.version.ServiceVersionClientService/getServiceVersion",
];

/// Whom a method answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Asked before there is a handshake.
    Anybody,
    /// One of [`TOLERANT_METHODS`].
    Tolerant,
    Identified,
}

impl Access {
    pub(crate) fn of(path: &str) -> Access {
        if OPEN_METHODS.contains(&path) {
            Access::Anybody
        } else if TOLERANT_METHODS.contains(&path) {
            Access::Tolerant
        } else {
            Access::Identified
        }
    }
}

/// Whether clients must say who they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AuthType {
    /// They name themselves in a handshake; nobody checks it.
    Simple,
    /// They need not; those who do are believed.
    NoSasl,
}

/// Who counts as whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityRules {
    /// Whether clients must say who they are.
    pub auth: AuthType,
    /// Who a client without a handshake is.
    pub nosasl_user: String,
    /// Refuse unknown channel ids on [`TOLERANT_METHODS`] too.
    pub strict_channel: bool,
}

/// The layer. Put it around the routes of a port that clients reach.
#[derive(Clone)]
pub struct Identify {
    rules: Arc<IdentityRules>,
    channels: Arc<Channels>,
    groups: Arc<Groups>,
}

/// The service [`Identify`] makes.
#[derive(Clone)]
pub struct IdentifyService<S> {
    identify: Identify,
    inner: S,
}

impl Identify {
    /// Rules, who did a handshake, and who is in which group. Cheap to clone; share it between threads.
    pub fn new(rules: IdentityRules, channels: Arc<Channels>, groups: Arc<Groups>) -> Identify {
        Identify { rules: Arc::new(rules), channels, groups }
    }

    /// `inner` with a principal on every request it gets.
    pub fn around<S>(&self, inner: S) -> IdentifyService<S> {
        IdentifyService { identify: self.clone(), inner }
    }

    pub(crate) fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Who a caller that does not say is, for a method of this kind; None: it must say.
    pub(crate) fn assumed(&self, access: Access) -> Option<&str> {
        let tolerant = access == Access::Tolerant && !self.rules.strict_channel;
        (tolerant || self.rules.auth == AuthType::NoSasl).then_some(self.rules.nosasl_user.as_str())
    }

    fn judge(&self, path: &str, channel_id: Option<&[u8]>) -> Verdict {
        let access = Access::of(path);
        if access == Access::Anybody {
            return Verdict::Anybody;
        }
        let channel_id = channel_id.and_then(|id| std::str::from_utf8(id).ok());
        if let Some(user) = channel_id.and_then(|id| self.channels.user_of(id)) {
            return Verdict::Is(user.to_string(), Proof::Claimed);
        }
        match self.assumed(access) {
            Some(user) => Verdict::Is(user.to_owned(), Proof::Assumed),
            None => Verdict::Refused(channel_id.is_some()),
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Anybody,
    Is(String, Proof),
    /// Whether the request had a channel id at all.
    Refused(bool),
}

fn refusal(had_id: bool) -> Status {
    let sentence = if had_id {
        "the channel id of this call is unknown here: the server restarted or the handshake ended; authenticate again"
    } else {
        "this call carries no channel id: do the SASL handshake first, or connect to a server with \
         goosefs.security.authentication.type=NOSASL"
    };
    status(ErrorKind::Unauthenticated, sentence)
}

impl<S> Layer<S> for Identify {
    type Service = IdentifyService<S>;
    fn layer(&self, inner: S) -> IdentifyService<S> {
        self.around(inner)
    }
}

impl<S, B> Service<Request<B>> for IdentifyService<S>
where
    S: Service<Request<B>, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let channel_id = request.headers().get(CHANNEL_ID).map(http::HeaderValue::as_bytes);
        match self.identify.judge(request.uri().path(), channel_id) {
            Verdict::Anybody => Box::pin(self.inner.call(request)),
            Verdict::Refused(had_id) => Box::pin(async move { Ok(refusal(had_id).into_http()) }),
            Verdict::Is(user, proof) => match self.identify.groups.cached(&user) {
                Some(groups) => {
                    request.extensions_mut().insert(principal(user, &groups, proof));
                    Box::pin(self.inner.call(request))
                }
                None => {
                    let (groups, mut inner) = (self.identify.groups.clone(), self.inner.clone());
                    Box::pin(async move {
                        let list = groups.of(&user).await;
                        request.extensions_mut().insert(principal(user, &list, proof));
                        inner.call(request).await
                    })
                }
            },
        }
    }
}

fn principal(user: String, groups: &GroupList, proof: Proof) -> Arc<Principal> {
    Arc::new(Principal { user, groups: groups.to_vec(), proof })
}

/// Who sent a request that passed [`Identify`], or came by frames: an `Arc<Principal>` among its extensions. Errors:
/// UNAUTHENTICATED if there is none.
pub fn caller(extensions: &http::Extensions) -> Result<&Arc<Principal>, Status> {
    extensions.get().ok_or_else(|| refusal(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const TOLERANT: &str = TOLERANT_METHODS[2];
    const STRICT: &str = "/com.qcloud.cos.goosefs.grpc.file.FileSystemMasterClientService/GetStatus";

    #[test]
    fn who_is_who() {
        for (auth, strict_channel, path, id, expected) in [
            (AuthType::Simple, false, STRICT, Some("known"), "ann"),
            (AuthType::Simple, true, STRICT, Some("known"), "ann"),
            (AuthType::Simple, false, TOLERANT, Some("known"), "ann"),
            (AuthType::Simple, false, TOLERANT, Some("unknown"), "nobody?"),
            (AuthType::Simple, false, TOLERANT, None, "nobody?"),
            (AuthType::Simple, true, TOLERANT, Some("unknown"), "refused"),
            (AuthType::Simple, false, STRICT, Some("unknown"), "refused"),
            (AuthType::Simple, false, STRICT, None, "refused"),
            (AuthType::Simple, true, OPEN_METHODS[0], None, "anybody"),
            (AuthType::Simple, true, OPEN_METHODS[1], None, "anybody"),
            (AuthType::Simple, false, &TOLERANT.to_lowercase(), None, "refused"),
            (AuthType::Simple, false, &format!("{TOLERANT}/"), None, "refused"),
            (AuthType::NoSasl, false, STRICT, None, "nobody?"),
            (AuthType::NoSasl, true, STRICT, Some("unknown"), "nobody?"),
            (AuthType::NoSasl, false, STRICT, Some("known"), "ann"),
        ] {
            let channels = Channels::in_memory();
            let _ann = channels.register("known", "ann").expect("free");
            let rules = IdentityRules { auth, nosasl_user: "nobody".into(), strict_channel };
            let identify = Identify::new(rules, channels, Groups::system(Arc::new(SystemClock)));
            let said = match identify.judge(path, id.map(str::as_bytes)) {
                Verdict::Anybody => "anybody".to_owned(),
                Verdict::Is(user, Proof::Claimed) => user,
                Verdict::Is(user, _) => format!("{user}?"),
                Verdict::Refused(_) => "refused".to_owned(),
            };
            assert_eq!(said, expected, "{auth:?} strict={strict_channel} {path} {id:?}");
        }
    }
}
