//! A connection with a thread of its own: what it carries delays no other, and shows apart in the system's accounts.
//!
//! Is:     one thread and one runtime for each such connection, as long as it lasts; a bound on how many.
//! Never:  outlives the server: who waits for its end waits for these threads, too.

use super::{ENDS_WITHIN, ServerConfig};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// The threads' name.
const NAME: &str = "rpc-apart";

/// The threads a server may have for single connections.
#[derive(Clone)]
pub(super) struct Threads {
    free: Arc<Semaphore>,
    blocking: usize,
    /// Held until a thread has ended.
    alive: mpsc::Sender<Infallible>,
}

impl Threads {
    /// None: the server has none.
    pub(super) fn new(config: &ServerConfig, alive: mpsc::Sender<Infallible>) -> Option<Threads> {
        let free = Arc::new(Semaphore::new(config.apart));
        (config.apart > 0).then(|| Threads { free, blocking: config.blocking_threads.max(1), alive })
    }

    /// One of them, if not all are taken.
    pub(super) fn free(&self) -> Option<Thread> {
        let taken = self.free.clone().try_acquire_owned().ok()?;
        Some(Thread { taken, blocking: self.blocking, alive: self.alive.clone() })
    }
}

/// A thread that was not begun yet.
pub(super) struct Thread {
    taken: OwnedSemaphorePermit,
    blocking: usize,
    alive: mpsc::Sender<Infallible>,
}

impl Thread {
    /// Does `work` there until it ends. Dropping it cuts the work. A thread that cannot be made ends it at once, with a warning.
    pub(super) async fn run(self, work: impl FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send + 'static) {
        let (_cut, is_cut) = oneshot::channel::<()>();
        let (ends, ended) = oneshot::channel::<()>();
        let Thread { taken, blocking, alive } = self;
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(blocking)
                .thread_name(format!("{NAME}-io"))
                .build();
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(async {
                        tokio::select! {
                            () = work() => {}
                            _ = is_cut => {}
                        }
                    });
                    runtime.shutdown_timeout(ENDS_WITHIN);
                }
                Err(error) => tracing::warn!(%error, "cannot serve a connection on a thread of its own"),
            }
            drop((taken, ends, alive));
        };
        if let Err(error) = std::thread::Builder::new().name(NAME.to_owned()).spawn(body) {
            tracing::warn!(%error, "cannot start a thread for a connection");
        }
        // Nothing is sent: the thread's end drops the other half.
        let _ = ended.await;
    }
}
