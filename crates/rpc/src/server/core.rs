//! One thread: takes connections from its inbox and drives them. The first one also accepts, for all.

use super::apart;
use super::connection;
use super::opening;
use super::{Core, Counts};
use http::{Request, Response};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::Service;

/// Connections over the limit that are being told so; more are closed without a word.
const MAX_REFUSALS: usize = 64;
/// Pause after the system refused to accept (no file descriptors left): trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Listening = (std::net::TcpListener, Vec<mpsc::Sender<TcpStream>>);

/// Runs until the drain is over.
pub(super) async fn run<S, B>(
    core: Core,
    mut inbox: mpsc::Receiver<TcpStream>,
    accepting: Option<Listening>,
    factory: &(impl Fn(&Core) -> S + Send + Sync),
    counts: Arc<Counts>,
    threads: Option<apart::Threads>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = factory(&core);
    let mut tasks = JoinSet::new();
    if let Some(listening) = accepting {
        tasks.spawn(accept(listening, core.clone(), counts.clone()));
    }
    // A task like the others: it comes round as they do. It ends with this.
    let mut meter = JoinSet::new();
    let pace = core.pace.clone();
    meter.spawn(async move { pace.measure().await });
    let deadline = loop {
        tokio::select! {
            biased;
            deadline = core.stopping.begun() => break deadline,
            Some(ended) = tasks.join_next() => report(ended),
            Some(stream) = inbox.recv() => {
                let open = Open { counts: counts.clone(), index: core.index };
                let (core, service, threads) = (core.clone(), service.clone(), threads.clone());
                tasks.spawn(async move {
                    let _open = open;
                    connection::serve(stream, Vec::new(), service, &core, threads.as_ref()).await;
                });
            }
        }
    };
    // What was handed over and not begun is closed, and not counted any more.
    inbox.close();
    while inbox.try_recv().is_ok() {
        counts.by_core[core.index].fetch_sub(1, Ordering::Relaxed);
    }
    let drained = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout_at(deadline, drained).await.is_err() {
        counts.cut.fetch_add(tasks.len(), Ordering::Relaxed);
        tasks.shutdown().await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a bug; the others go on");
    }
}

/// An open connection in the counts; the acceptor adds it when it hands it over.
struct Open {
    counts: Arc<Counts>,
    index: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.by_core[self.index].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hands each new connection to the thread with the fewest.
async fn accept((listener, inboxes): Listening, core: Core, counts: Arc<Counts>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a non-blocking listener in a runtime with IO");
    let mut refusals = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = core.stopping.begun() => return,
            Some(_) = refusals.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !is_about_one_connection(&error) {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        if counts.open() >= core.config.max_connections {
            if refusals.len() < MAX_REFUSALS {
                let limit = core.config.max_connections;
                refusals.spawn(opening::refuse_one_too_many(stream, limit));
            }
            continue;
        }
        let fewest = (0..inboxes.len())
            .min_by_key(|index| counts.by_core[*index].load(Ordering::Relaxed))
            .expect("a server has at least one thread");
        let Ok(stream) = stream.into_std() else { continue };
        counts.by_core[fewest].fetch_add(1, Ordering::Relaxed);
        if inboxes[fewest].send(stream).await.is_err() {
            counts.by_core[fewest].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The peer hung up before we took it; the next accept may succeed at once.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
