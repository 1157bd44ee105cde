//! A runtime of a server's own, so that it answers whatever the test's threads are doing.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Threads of one background runtime; more would only take cores from what is under test.
const THREADS: usize = 2;

/// Tasks that live as long as this handle. Dropping it aborts them at their next await and returns at once, also
/// inside an async function.
pub(crate) struct Background(Option<Runtime>);

impl Background {
    pub(crate) fn start(name: &str) -> io::Result<Background> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name(name).enable_all().build()?;
        Ok(Background(Some(runtime)))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime().spawn(task)
    }

    /// Listens at `addr`, also while connections of an earlier listener are still open there. The sockets belong to this
    /// runtime; works within another one.
    pub(crate) fn listen(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let _inside = self.runtime().enter();
        TcpListener::from_std(listener)
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("taken only by drop")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
