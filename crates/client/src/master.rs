//! Calls to the leading master: finds it, asks it, finds the next one when it no longer leads.

use crate::link::{self, Link, RETRIES, Service, kind_of};
use crate::{ClientConfig, Error, Result, Way};
use futures::stream::{FuturesUnordered, StreamExt};
use proto::Unary;
use proto::grpc::version::{GetServiceVersionPRequest, ServiceType};
use rpc::{AuthType, Identity, SystemEntropy};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tonic::{Code, Status};
use types::{Entropy, ErrorKind, OperationId};

/// A call that has no answer after this long has its master asked, as often, whether it is still there.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long a master that is there may take to say so; longer in each further round of a search.
const SILENCE: Duration = Duration::from_secs(1);
/// Pauses between two rounds of a search: short for as long as an election takes, then longer and longer.
const SEARCH: rpc::RetryPolicy =
    rpc::RetryPolicy { tries: 64, base: Duration::from_millis(100), cap: Duration::from_secs(3) };
const QUICK_ROUNDS: u32 = 16;
/// A client that never reached a master gives up after this long: most likely the address is wrong or nothing runs.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);

/// The way to the leading master. One connection carries all calls.
pub(crate) struct Master {
    config: Arc<ClientConfig>,
    /// None: the network.
    way: Option<Arc<dyn Way>>,
    /// Held while connecting, so that callers wait for one connection instead of opening many.
    current: Mutex<Option<Arc<Link>>>,
    was_connected: AtomicBool,
}

impl Master {
    pub(crate) fn new(config: Arc<ClientConfig>) -> Master {
        Master { config, way: None, current: Mutex::new(None), was_connected: AtomicBool::new(false) }
    }

    pub(crate) fn over(config: Arc<ClientConfig>, way: Arc<dyn Way>) -> Master {
        Master { way: Some(way), ..Master::new(config) }
    }

    /// A fresh operation id: the same on every retry of one mutation.
    pub(crate) fn operation_id(&self) -> OperationId {
        OperationId(self.entropy().next_u128())
    }

    fn entropy(&self) -> &dyn Entropy {
        match &self.way {
            Some(way) => way.as_ref(),
            None => &SystemEntropy,
        }
    }

    /// Connects if need be. Errors: [`Error::NoMaster`] after the patience for it ran out.
    pub(crate) async fn connect(&self) -> Result<()> {
        self.link(Instant::now() + self.patience()).await.map(drop)
    }

    /// Asks a method with one answer, again and elsewhere while that may help and the deadline allows. A mutation's request must
    /// name its operation. Cancel-safe as far as the call is: a dropped mutation may have happened.
    pub(crate) async fn ask<M: Unary>(&self, verb: &'static str, subject: &str, request: M) -> Result<M::Answer> {
        let request = &request;
        let ask = |link: Arc<Link>| async move {
            if link.is_watched::<M>() {
                link.ask(request).await
            } else {
                Box::pin(watched(&link, link.ask(request))).await
            }
        };
        self.tries(verb, subject, ask).await
    }

    /// The same for what is more than one answer. `call` must send the same operation id every time.
    pub(crate) async fn call<T, F>(&self, verb: &'static str, subject: &str, call: impl Fn(Service) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Status>>,
    {
        let call = &call;
        let call = |link: Arc<Link>| async move {
            let service = link.service().await?;
            watched(&link, call(service)).await
        };
        self.tries(verb, subject, call).await
    }

    async fn tries<T, F>(&self, verb: &'static str, subject: &str, call: impl Fn(Arc<Link>) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Status>>,
    {
        let deadline = Instant::now() + self.config.rpc_timeout;
        let mut give_up: Option<Instant> = None;
        let mut last = None;
        for number in 0..RETRIES.tries {
            let until = give_up.unwrap_or_else(|| Instant::now() + self.patience()).min(deadline);
            let link = self.link(until).await?;
            let Ok(answer) = timeout_at(deadline, call(link.clone())).await else { break };
            let status = match answer {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            let kind = kind_of(&status);
            if link::spoils_connection(kind) {
                self.forget(&link).await;
            }
            let give_up = *give_up.get_or_insert_with(|| Instant::now() + self.config.polling_timeout);
            let pause = RETRIES.pause(number, kind, self.entropy().next_u64()).map(|pause| Instant::now() + pause);
            let Some(next) = pause.filter(|next| *next < give_up.min(deadline)) else {
                return Err(Error::refused(verb, subject, &status));
            };
            tracing::debug!(verb, subject, number, code = ?status.code(), message = status.message(), "asking again");
            last = Some(status.message().to_owned());
            sleep_until(next).await;
        }
        Err(Error::Timeout { verb, subject: subject.to_owned(), seconds: self.config.rpc_timeout.as_secs(), last })
    }

    fn patience(&self) -> Duration {
        if self.was_connected.load(Ordering::Relaxed) { self.config.polling_timeout } else { FIRST_PATIENCE }
    }

    async fn forget(&self, link: &Arc<Link>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|there| Arc::ptr_eq(there, link)) {
            *current = None;
        }
    }

    async fn link(&self, until: Instant) -> Result<Arc<Link>> {
        let mut current = self.current.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_over()) {
            return Ok(link.clone());
        }
        *current = None;
        // Rare and large: it does not belong into every call.
        let link = Box::pin(self.search(until)).await?;
        Ok(current.insert(link).clone())
    }

    /// Looks for the leading master, round by round.
    async fn search(&self, until: Instant) -> Result<Arc<Link>> {
        for number in 0..SEARCH.tries {
            let (why, kind) = match self.find(number, until).await {
                Ok(link) => {
                    self.was_connected.store(true, Ordering::Relaxed);
                    return Ok(link);
                }
                Err(sought) => sought,
            };
            let pause = SEARCH.pause(number.saturating_sub(QUICK_ROUNDS), kind, self.entropy().next_u64());
            match pause.map(|pause| Instant::now() + pause).filter(|next| *next < until) {
                Some(next) => sleep_until(next).await,
                None => return Err(self.no_master(why)),
            }
        }
        Err(self.no_master("too many tries".into()))
    }

    fn no_master(&self, why: String) -> Error {
        let masters: Vec<_> = self.config.masters.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        Error::NoMaster { masters: masters.join(","), why }
    }

    /// One round over all masters at once: one that hangs holds up nobody. With a single one nothing is polled: it leads, or
    /// its answers will say so. Error: why the last one was not it; a kind that is not transient ends the search, for what
    /// answers is no master.
    async fn find(&self, round: u32, until: Instant) -> std::result::Result<Arc<Link>, Sought> {
        let mut sought = (String::from("none is configured"), ErrorKind::Invalid);
        let open = async |host: &str, port: u16| {
            let (config, way) = (&self.config, self.way.as_ref());
            let opened = Link::open(host, port, link::identity(config), config, way, until).await.map(Arc::new);
            opened.map_err(|error| (types::sentence(&error), error.kind()))
        };
        if let [(host, port)] = self.config.masters.as_slice() {
            return open(host, *port).await;
        }
        let patience = self.config.polling_timeout.min(SILENCE * (round + 1));
        let until_answer = until.min(Instant::now() + patience);
        let ask = async |host, port| (host, port, self.leads(host, port, until_answer).await);
        let mut asked: FuturesUnordered<_> = self.config.masters.iter().map(|(host, port)| ask(host, *port)).collect();
        while let Some((host, port, answer)) = asked.next().await {
            match answer {
                Ok(true) => match open(host, port).await {
                    Ok(link) => return Ok(link),
                    Err(why) => sought = why,
                },
                Ok(false) => sought = (format!("{host}:{port} stands by"), ErrorKind::Unavailable),
                Err((why, kind)) if kind.is_transient() => sought = (why, kind),
                Err(last) => return Err(last),
            }
        }
        Err(sought)
    }

    /// Whether the master at this address leads, asked without a handshake.
    async fn leads(&self, host: &str, port: u16, until: Instant) -> std::result::Result<bool, Sought> {
        let unproven = Identity { user: self.config.user.clone(), auth: AuthType::NoSasl };
        let opened = Link::open(host, port, unproven, &self.config, self.way.as_ref(), until).await;
        let link = opened.map_err(|error| (types::sentence(&error), error.kind()))?;
        match timeout_at(until, ask_whether_it_leads(&link)).await {
            Ok(Ok(leads)) => Ok(leads),
            Ok(Err(status)) => Err((format!("{host}:{port}: {}", status.message()), kind_of(&status))),
            Err(_) => Err((format!("{host}:{port} does not answer"), ErrorKind::Unavailable)),
        }
    }
}

/// Does `work` while the master answers other questions: one that hangs, or to which the way is cut, does not, though its
/// connection stands.
async fn watched<T>(
    link: &Link,
    work: impl Future<Output = std::result::Result<T, Status>>,
) -> std::result::Result<T, Status> {
    let silence = async {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            if timeout(SILENCE, ask_whether_it_leads(link)).await.is_err() {
                return Status::unavailable(format!("{} is silent", link.address()));
            }
        }
    };
    tokio::select! {
        done = work => done,
        silent = silence => Err(silent),
    }
}

/// The official clients' question.
async fn ask_whether_it_leads(link: &Link) -> std::result::Result<bool, Status> {
    let request = GetServiceVersionPRequest {
        service_type: Some(ServiceType::MetaMasterClientService.into()),
        allowed_on_standby_masters: Some(false),
    };
    match link.ask(&request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(status),
    }
}

/// Why a round found no leader, and whether another may.
type Sought = (String, ErrorKind);
