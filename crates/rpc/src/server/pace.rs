//! Whether a thread keeps up with what its connections ask of it, and what it refuses while it does not.
//!
//! Is:     the time in which a thread comes round once: all that was ready had its turn, and the sockets were looked at. Who
//!         asks something waits for that long before it is begun.
//! Owns:   the meter, a task per thread that runs while calls come; the layer that refuses.
//! Never:  reads a request it refuses: that is what makes refusing cheaper than doing it.

use super::Core;
use crate::identify::Access;
use crate::routes::Answer;
use crate::status::status;
use futures::future::{BoxFuture, Either, Ready, ready};
use http::{HeaderMap, Request};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tonic::Status;
use tower::Service;
use types::{Clock, ErrorKind, Monotonic, Patience};

/// Calls of a thread before its meter begins: a quiet one is spared it.
const FEW_CALLS: u32 = 16;
/// How long a client is willing to wait, by gRPC.
const TIMEOUT: &str = "grpc-timeout";

/// When a server refuses calls, and how many it refused.
#[derive(Clone, Debug)]
pub struct Overload {
    /// The longest that calls wait to be begun and it is nothing unusual. Where that lasts, each round of a thread begins calls for half of it,
    /// and refuses the others. Zero: it refuses nothing.
    pub late: Duration,
    /// Counts calls that were refused.
    pub refused: Arc<AtomicU64>,
}

impl Default for Overload {
    fn default() -> Overload {
        Overload { late: Duration::ZERO, refused: Arc::default() }
    }
}

/// The pace of one thread. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pace(Arc<Thread>);

struct Thread {
    overload: Overload,
    clock: Arc<dyn Clock>,
    /// Calls of the present round.
    calls: AtomicU32,
    woken: Notify,
    /// Rounds have been too long for too long.
    is_over: AtomicBool,
    /// When the present round began, in nanoseconds.
    round: AtomicU64,
}

impl fmt::Debug for Pace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pace").field("overload", &self.0.overload).finish_non_exhaustive()
    }
}

impl Pace {
    pub(super) fn new(overload: &Overload, clock: Arc<dyn Clock>) -> Pace {
        Pace(Arc::new(Thread {
            overload: overload.clone(),
            clock,
            calls: AtomicU32::new(0),
            woken: Notify::new(),
            is_over: AtomicBool::new(false),
            round: AtomicU64::new(0),
        }))
    }

    /// Measures rounds while calls come, as a task of the thread. Ends when it is dropped, or at once if there is no bound.
    pub(super) async fn measure(&self) {
        let thread = &*self.0;
        if thread.overload.late.is_zero() {
            return;
        }
        loop {
            thread.woken.notified().await;
            let mut patience = self.patience();
            loop {
                let began = self.now();
                thread.round.store(nanos(began), Ordering::Relaxed);
                thread.calls.store(0, Ordering::Relaxed);
                tokio::task::yield_now().await;
                let now = self.now();
                thread.is_over.store(patience.is_over(now, now - began), Ordering::Relaxed);
                if thread.calls.load(Ordering::Relaxed) == 0 {
                    break;
                }
            }
            thread.is_over.store(false, Ordering::Relaxed);
        }
    }

    /// Whether a call may begin now.
    pub(crate) fn admits(&self) -> bool {
        let thread = &*self.0;
        // Its own thread alone counts here, so that one of them is the one that wakes the meter.
        if thread.calls.fetch_add(1, Ordering::Relaxed) == FEW_CALLS {
            thread.woken.notify_one();
        }
        !thread.is_over.load(Ordering::Relaxed)
            || self.has_time_since(Monotonic(Duration::from_nanos(thread.round.load(Ordering::Relaxed))))
    }

    /// Whether calls that came at `came` may still begin, where too many come.
    pub(crate) fn has_time_since(&self, came: Monotonic) -> bool {
        self.now() - came < self.0.overload.late / 2
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.0.overload.late)
    }

    pub(crate) fn now(&self) -> Monotonic {
        self.0.clock.monotonic()
    }

    /// What a call that may not begin is told.
    pub(crate) fn refusal(&self) -> Status {
        self.0.overload.refused.fetch_add(1, Ordering::Relaxed);
        status(
            ErrorKind::Busy,
            "this server is asked more than it can do and did not begin this; try again in a moment",
        )
    }
}

fn nanos(at: Monotonic) -> u64 {
    u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX)
}

/// A service that refuses what its thread has no time for, and answers the rest before the caller's time is over.
#[derive(Clone, Debug)]
pub struct Paced<S> {
    pace: Pace,
    inner: S,
}

impl Core {
    /// `inner`, as far as this thread keeps up. Put it around all else.
    pub fn paced<S>(&self, inner: S) -> Paced<S> {
        Paced { pace: self.pace.clone(), inner }
    }
}

type Answered = Result<Answer, Infallible>;

impl<S, B> Service<Request<B>> for Paced<S>
where
    S: Service<Request<B>, Response = Answer, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, Either<BoxFuture<'static, Answered>, S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if Access::of(request.uri().path()) != Access::Anybody && !self.pace.admits() {
            return Either::Left(ready(Ok(self.pace.refusal().into_http())));
        }
        let patience = patience_of(request.headers());
        let answer = self.inner.call(request);
        Either::Right(match patience {
            None => Either::Right(answer),
            Some(patience) => Either::Left(Box::pin(within(patience, answer))),
        })
    }
}

/// How long the caller waits, if it says.
fn patience_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // Eight digits at most, by the protocol.
    let count = u64::from(count.parse::<u32>().ok()?);
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

async fn within(patience: Duration, answer: impl Future<Output = Answered>) -> Answered {
    tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| {
        let why = format!("no outcome within {patience:?}, which is how long this client waits: it is unknown");
        Ok(status(ErrorKind::Timeout, why).into_http())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::UnixMs;

    #[test]
    fn how_long_a_client_waits_is_read_as_the_protocol_has_it() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("7", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1x", None),
            ("1ü", None),
            ("99999999999S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, http::HeaderValue::from_bytes(text.as_bytes()).expect("a header"));
            assert_eq!(patience_of(&headers), expected, "{text}");
        }
    }

    /// A clock that a test moves.
    #[derive(Default)]
    struct Moved(AtomicU64);

    impl Moved {
        fn by(&self, us: u64) {
            self.0.fetch_add(us, Ordering::Relaxed);
        }
    }

    impl Clock for Moved {
        fn unix(&self) -> UnixMs {
            UnixMs(0)
        }
        fn monotonic(&self) -> Monotonic {
            Monotonic(Duration::from_micros(self.0.load(Ordering::Relaxed)))
        }
    }

    fn pace(late_ms: u64) -> (Pace, Arc<Moved>) {
        let clock = Arc::new(Moved::default());
        let overload = Overload { late: Duration::from_millis(late_ms), ..Overload::default() };
        (Pace::new(&overload, clock.clone()), clock)
    }

    /// Has the thread come round so often, with calls that take `call_us` each; how many were admitted in the last round.
    async fn rounds((pace, clock): &(Pace, Arc<Moved>), rounds: usize, calls: usize, call_us: u64) -> usize {
        let mut admitted = 0;
        for _ in 0..rounds {
            let call = || {
                clock.by(call_us);
                pace.admits()
            };
            admitted = (0..calls).filter(|_| call()).count();
            tokio::task::yield_now().await;
        }
        admitted
    }

    #[tokio::test]
    async fn rounds_that_stay_long_begin_half_of_what_is_late_and_short_ones_everything() {
        let thread = pace(20);
        let measured = thread.0.clone();
        let meter = tokio::spawn(async move { measured.measure().await });
        tokio::task::yield_now().await;
        assert_eq!(rounds(&thread, 1, 60, 1_000).await, 60, "a burst passes");
        let admitted = rounds(&thread, 10, 60, 1_000).await;
        assert!((5..=15).contains(&admitted), "{admitted} of 60 ms, of which 10 are for calls");
        assert_eq!(rounds(&thread, 3, 60, 10).await, 60, "it keeps up again");
        rounds(&thread, 10, 60, 1_000).await;
        // Nobody asks anything for two rounds: it begins anew.
        rounds(&thread, 3, 0, 0).await;
        assert_eq!(rounds(&thread, 1, 60, 1_000).await, 60);
        meter.abort();
    }

    #[tokio::test]
    async fn what_came_at_once_has_half_of_what_is_late_too() {
        let (pace, clock) = pace(20);
        let came = pace.now();
        clock.by(9_999);
        assert!(pace.has_time_since(came));
        clock.by(1);
        assert!(!pace.has_time_since(came));
    }

    #[tokio::test]
    async fn without_a_bound_nothing_is_refused() {
        let thread = pace(0);
        thread.0.measure().await;
        assert_eq!(rounds(&thread, 10, 60, 1_000_000).await, 60);
    }
}
