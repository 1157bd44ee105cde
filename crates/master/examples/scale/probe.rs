//! What other requests feel: a client that asks at fixed times, whatever became of its earlier requests.

use crate::clients::Client;
use crate::world::{file, mixed};
use crate::{ms, quantile};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Requests a second: three of four ask for a file's status, the fourth makes one.
const RATE: u32 = 1_000;
const CONNECTIONS: usize = 4;
/// Names made are different in each run.
static RUN: AtomicU64 = AtomicU64::new(0);

/// What a run of it found.
pub struct Felt {
    pub p999: Duration,
    pub p50: Duration,
    pub longest: Duration,
}

/// Asks `master` while `work` goes on, at least for `least`, about files of the tree of `files` files.
pub fn beside<R>(master: SocketAddr, files: u64, least: Duration, work: impl FnOnce() -> R) -> (R, Felt) {
    let done = Arc::new(AtomicBool::new(false));
    let seen = done.clone();
    let asking = std::thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let mut times = runtime.block_on(ask(master, files, least, seen));
            let p999 = quantile(&mut times, 999);
            let p50 = quantile(&mut times, 500);
            let longest = quantile(&mut times, 1000);
            Felt { p999, p50, longest }
        })
        .expect("a thread");
    let result = work();
    done.store(true, Ordering::Release);
    (result, asking.join().expect("every request is answered"))
}

async fn ask(master: SocketAddr, files: u64, least: Duration, done: Arc<AtomicBool>) -> Vec<Duration> {
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(master).await);
    }
    let mut asked = JoinSet::new();
    let began = tokio::time::Instant::now();
    for turn in 0.. {
        if done.load(Ordering::Acquire) && began.elapsed() >= least {
            break;
        }
        let due = began + Duration::from_secs(1) / RATE * turn;
        tokio::time::sleep_until(due).await;
        let number = u64::from(turn);
        let mut client = clients[usize::try_from(number).expect("64 bits") % CONNECTIONS].clone();
        let (due, path) = (due.into_std(), file(mixed(number) % files));
        asked.spawn(async move {
            match number % 4 {
                3 => client.create(&format!("/bench/probe-{run}/{}/file-{number}", number / 4_000)).await,
                _ => client.status(&path).await,
            }
            // From when it was due: a late beginning is a wait, too.
            Instant::now() - due
        });
    }
    asked.join_all().await
}

/// `with` against `without`, and the excess.
pub fn compare(with: &Felt, without: &Felt) -> (String, Duration) {
    let excess = with.p999.saturating_sub(without.p999);
    let text = format!(
        "{:.1} ms: p99.9 {:.1} against {:.1}, p50 {:.2} against {:.2}, longest {:.0} against {:.0} ms",
        ms(excess),
        ms(with.p999),
        ms(without.p999),
        ms(with.p50),
        ms(without.p50),
        ms(with.longest),
        ms(without.longest),
    );
    (text, excess)
}
