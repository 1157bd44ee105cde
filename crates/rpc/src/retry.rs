//! Tries again what may succeed the second time.

use crate::error::Error;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use types::{Entropy, ErrorKind, OperationId};

/// How often and how soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Tries in all, the first one counted.
    pub tries: u32,
    /// Longest pause after the first failure; doubles with each.
    pub base: Duration,
    /// No pause is longer.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy { tries: 8, base: Duration::from_millis(50), cap: Duration::from_secs(3) }
    }
}

/// One try, as the call sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Try {
    /// 0 for the first.
    pub number: u32,
    /// The same in every try: a server that did it already answers from memory.
    pub operation: OperationId,
    /// When the whole must be over, not this try alone.
    pub deadline: Instant,
}

impl RetryPolicy {
    /// The pause after try `number` (from 0) failed with `kind`; None if it was the last, or nothing would change.
    /// `chance` picks a point in the upper half of the range, so that callers that failed together come back apart.
    pub fn pause(&self, number: u32, kind: ErrorKind, chance: u64) -> Option<Duration> {
        if number + 1 >= self.tries {
            return None;
        }
        let longest = self.base.saturating_mul(2u32.saturating_pow(number)).min(self.cap);
        match kind {
            // A new handshake mends it at once, or not at all.
            ErrorKind::Unauthenticated => (number == 0).then_some(Duration::ZERO),
            // A timeout's outcome is unknown: the operation id keeps it from happening twice.
            ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Timeout => {
                let half_ns = u64::try_from(longest.as_nanos() / 2).unwrap_or(u64::MAX);
                Some(Duration::from_nanos(half_ns.saturating_add(chance % half_ns.saturating_add(1))))
            }
            ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Denied
            | ErrorKind::Precondition
            | ErrorKind::Full
            | ErrorKind::Corrupt
            | ErrorKind::Unimplemented
            | ErrorKind::Internal => None,
        }
    }
}

/// Calls until it succeeds, fails for good, or `deadline` comes. The call must be idempotent or send
/// [`Try::operation`], and take its connection anew in each try (from a [`crate::Pool`]).
///
/// Returns the last error. Cancel-safe as far as the call is: dropping it leaves the outcome unknown.
pub async fn retry<T, C, F>(
    policy: RetryPolicy,
    operation: OperationId,
    deadline: Instant,
    entropy: &dyn Entropy,
    mut call: C,
) -> Result<T, Error>
where
    C: FnMut(Try) -> F,
    F: Future<Output = Result<T, Error>>,
{
    let mut number = 0;
    loop {
        let error = match timeout_at(deadline, call(Try { number, operation, deadline })).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => return Err(Error::Timeout { what: format!("{operation}, try {}", number + 1) }),
        };
        let Some(pause) = policy.pause(number, error.kind(), entropy.next_u64()) else { return Err(error) };
        if Instant::now() + pause >= deadline {
            return Err(error);
        }
        tracing::debug!(%operation, number, ?pause, %error, "trying again");
        sleep(pause).await;
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tonic::Status;

    struct Lowest;
    impl Entropy for Lowest {
        fn next_u64(&self) -> u64 {
            0
        }
    }

    const POLICY: RetryPolicy =
        RetryPolicy { tries: 4, base: Duration::from_millis(100), cap: Duration::from_millis(250) };

    #[test]
    fn pauses_double_up_to_the_cap_and_end() {
        let pause = |number, chance| POLICY.pause(number, ErrorKind::Unavailable, chance);
        assert_eq!(pause(0, 0), Some(Duration::from_millis(50)));
        assert_eq!(pause(1, 0), Some(Duration::from_millis(100)));
        assert_eq!(pause(2, 0), Some(Duration::from_millis(125)), "half of the cap");
        assert_eq!(pause(3, 0), None, "the fourth try was the last");
        for chance in [1, 77, u64::MAX, u64::MAX / 2] {
            let jittered = pause(0, chance).expect("a pause");
            assert!((50..=100).contains(&jittered.as_millis()), "{jittered:?}");
        }
        assert_eq!(POLICY.pause(0, ErrorKind::NotFound, 0), None);
        assert_eq!(POLICY.pause(0, ErrorKind::Unauthenticated, 9), Some(Duration::ZERO));
        assert_eq!(POLICY.pause(1, ErrorKind::Unauthenticated, 9), None, "a new handshake did not help");
    }

    #[tokio::test(start_paused = true)]
    async fn the_operation_keeps_its_id_and_the_deadline_its_instant() {
        let (deadline, seen) = (Instant::now() + Duration::from_secs(10), RefCell::new(Vec::new()));
        let result = retry(POLICY, OperationId(7), deadline, &Lowest, |attempt| {
            seen.borrow_mut().push(attempt);
            async move {
                match attempt.number {
                    0 => Err(Error::from(Status::unavailable("standby"))),
                    1 => Err(Error::from(Status::deadline_exceeded("slow"))),
                    _ => Ok("done"),
                }
            }
        })
        .await;
        assert_eq!(result.expect("the third try"), "done");
        let expected = [0, 1, 2].map(|number| Try { number, operation: OperationId(7), deadline });
        assert_eq!(*seen.borrow(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_runs_past_the_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(1);
        let hang = retry(POLICY, OperationId(1), deadline, &Lowest, |_| std::future::pending::<Result<(), _>>()).await;
        assert_eq!(hang.expect_err("hangs").kind(), ErrorKind::Timeout);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        let deadline = Instant::now() + Duration::from_millis(60);
        let busy = || async { Err::<(), _>(Error::from(Status::unavailable("busy"))) };
        let result = retry(POLICY, OperationId(1), deadline, &Lowest, |_| busy()).await;
        assert_eq!(result.expect_err("busy").kind(), ErrorKind::Unavailable, "no pause that ends too late");
    }
}
