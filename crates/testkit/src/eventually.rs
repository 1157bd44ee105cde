//! The one way to wait: ask again until it holds or the deadline has passed.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// First pause between two looks; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What a condition may answer: a `bool`, an `Option` or a `Result`.
pub trait Verdict {
    /// What a wait that succeeded returns.
    type Value;
    /// The value, or why not yet (empty when there is nothing to say).
    fn settle(self) -> Result<Self::Value, String>;
}

impl Verdict for bool {
    type Value = ();
    fn settle(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<T> Verdict for Option<T> {
    type Value = T;
    fn settle(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T, E: fmt::Display> Verdict for Result<T, E> {
    type Value = T;
    fn settle(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// A condition did not come true in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimedOut {
    pub deadline: Duration,
    /// How often the condition was looked at.
    pub looks: u64,
    /// What the last look said; empty when it had nothing to say.
    pub last: String,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not within {:?} ({} looks)", self.deadline, self.looks)?;
        if self.last.is_empty() { Ok(()) } else { write!(f, "; the last one said: {}", self.last) }
    }
}

impl std::error::Error for TimedOut {}

/// Waits until `condition` holds and returns its value.
///
/// Panics, naming the caller's line and the condition's last answer, when `deadline` has passed without it.
#[track_caller]
pub fn eventually<V: Verdict>(deadline: Duration, condition: impl FnMut() -> V) -> V::Value {
    match try_eventually(deadline, condition) {
        Ok(value) => value,
        Err(timed_out) => panic!("{timed_out}"),
    }
}

/// [`eventually`] with the failure as a value.
pub fn try_eventually<V: Verdict>(deadline: Duration, mut condition: impl FnMut() -> V) -> Result<V::Value, TimedOut> {
    let mut wait = Wait::new(deadline);
    loop {
        match condition().settle() {
            Ok(value) => return Ok(value),
            Err(why) => std::thread::sleep(wait.pause_after(why)?),
        }
    }
}

/// [`eventually`] for async conditions. Each look is also cut off at the deadline. Cancel-safe if `condition` is.
#[track_caller]
pub fn eventually_async<V: Verdict, F: Future<Output = V>>(
    deadline: Duration,
    condition: impl FnMut() -> F,
) -> impl Future<Output = V::Value> {
    let caller = Location::caller();
    let waiting = try_eventually_async(deadline, condition);
    async move {
        match waiting.await {
            Ok(value) => value,
            Err(timed_out) => panic!("{caller}: {timed_out}"),
        }
    }
}

/// [`eventually_async`] with the failure as a value.
pub async fn try_eventually_async<V: Verdict, F: Future<Output = V>>(
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<V::Value, TimedOut> {
    let mut wait = Wait::new(deadline);
    loop {
        let left = deadline.saturating_sub(wait.start.elapsed()).max(FIRST_PAUSE);
        let why = match tokio::time::timeout(left, condition()).await {
            Ok(answer) => match answer.settle() {
                Ok(value) => return Ok(value),
                Err(why) => why,
            },
            Err(_) => "the look itself did not return".to_owned(),
        };
        tokio::time::sleep(wait.pause_after(why)?).await;
    }
}

struct Wait {
    start: Instant,
    deadline: Duration,
    pause: Duration,
    looks: u64,
}

impl Wait {
    fn new(deadline: Duration) -> Wait {
        Wait { start: Instant::now(), deadline, pause: FIRST_PAUSE, looks: 0 }
    }

    fn pause_after(&mut self, last: String) -> Result<Duration, TimedOut> {
        self.looks += 1;
        let left = self.deadline.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return Err(TimedOut { deadline: self.deadline, looks: self.looks, last });
        }
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn returns_the_value_of_the_first_look_that_holds() {
        let mut looks = 0;
        let value = eventually(LONG, || {
            looks += 1;
            (looks == 3).then_some("third")
        });
        assert_eq!((value, looks), ("third", 3));
    }

    #[test]
    fn says_what_the_last_look_said() {
        let error = try_eventually(SHORT, || Err::<(), _>("the door is closed")).expect_err("it never opens");
        assert!(error.to_string().ends_with("the last one said: the door is closed"), "{error}");
        assert!(try_eventually(Duration::ZERO, || false).expect_err("false stays false").looks == 1);
    }

    #[tokio::test]
    async fn cuts_off_a_look_that_hangs() {
        let error = try_eventually_async(SHORT, std::future::pending::<bool>).await.expect_err("it hangs");
        assert_eq!(error.last, "the look itself did not return");
    }
}
