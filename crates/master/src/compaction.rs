//! Compactions of the metadata database that an operator asks for.
//!
//! Is:     one at a time, in the background, in steps that can be given up between.
//! Never:  keeps anybody from reading or writing; touches the database of another master.

use crate::error::Error;
use crate::shared::Shared;
use proto::admin::CompactMetastoreResponse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Reports ahead of whoever reads them.
const AHEAD: usize = 4;
const REPORT_EVERY: Duration = Duration::from_secs(1);

pub type Reports = mpsc::Receiver<Result<CompactMetastoreResponse, Status>>;

#[derive(Default)]
pub struct Compactions {
    running: Arc<AtomicBool>,
}

/// The one that runs; its end is the end of this value.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Compactions {
    /// Begins one. Reports come as it runs, the last one when it is done; who drops them gives it up. Errors, at once: another
    /// one runs.
    pub fn begin(&self, shared: &Arc<Shared>) -> Result<Reports, Error> {
        if self.running.swap(true, Ordering::AcqRel) {
            return Err(Error::Refused("another compaction runs; wait for its end".to_owned()));
        }
        let running = Running(self.running.clone());
        let (reports, receiver) = mpsc::channel(AHEAD);
        let (ended, end) = oneshot::channel();
        let (shared, listener) = (shared.clone(), reports.clone());
        let bytes_before = disk_bytes(&shared);
        let store = shared.state.store().clone();
        tokio::task::spawn_blocking(move || {
            let outcome = store.compact(&mut || !listener.is_closed());
            drop(running);
            // Nobody may be left who wants to know.
            let _ = ended.send(outcome);
        });
        tokio::spawn(report(shared, bytes_before, reports, end));
        Ok(receiver)
    }
}

async fn report(
    shared: Arc<Shared>,
    bytes_before: u64,
    reports: mpsc::Sender<Result<CompactMetastoreResponse, Status>>,
    mut end: oneshot::Receiver<Result<bool, meta::StoreError>>,
) {
    let said = |done| CompactMetastoreResponse { bytes_before, bytes: disk_bytes(&shared), done };
    loop {
        let report = tokio::select! {
            outcome = &mut end => match outcome {
                Ok(Ok(true)) => {
                    let done = said(true);
                    tracing::info!(before = bytes_before, now = done.bytes, "the metadata database was compacted");
                    Ok(done)
                }
                Ok(Ok(false)) | Err(_) => Err(Status::from(Error::Stopping)),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a compaction was given up");
                    Err(Status::from(Error::from(error)))
                }
            },
            () = tokio::time::sleep(REPORT_EVERY) => Ok(said(false)),
        };
        let is_last = report.as_ref().map_or(true, |report| report.done);
        if reports.send(report).await.is_err() || is_last {
            return;
        }
    }
}

fn disk_bytes(shared: &Shared) -> u64 {
    shared.state.store().usage().disk_bytes()
}
