//! What follows a completed upload: the master hears of it, and what belongs to nobody by then is taken back.
//!
//! Is:     a report repeated over a master's restart, and the removal of an object whose file went away meanwhile.
//! Never:  removes an object that is another by now, or that somebody's file stands for.

use crate::error::WorkerError;
use crate::master_link::MasterLink;
use proto::internal::{Access, ResolveRequest};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use types::{ErrorKind, Fingerprint, MountId};
use ufs::{Key, UnderStore};

/// How long a report is repeated while no master takes it.
const REPORT_PATIENCE: Duration = Duration::from_secs(120);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Repeats a report until a master has an opinion about it. Whether it counted.
pub async fn told<F>(report: impl Fn() -> F) -> Result<bool, WorkerError>
where
    F: Future<Output = Result<bool, WorkerError>>,
{
    let give_up = Instant::now() + REPORT_PATIENCE;
    let mut pause = PAUSE_FIRST;
    loop {
        match report().await {
            Err(error) if error.kind().is_transient() && Instant::now() + pause < give_up => {
                tracing::debug!(error = %error.sentence(), "a report to the master is repeated");
            }
            outcome => return outcome,
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Removes an object of ours whose file went away before it was reported, unless another file stands there by now: that
/// file's own upload replaces it, or has.
pub async fn take_back(
    link: &MasterLink,
    store: &dyn UnderStore,
    mount: MountId,
    key: &Key,
    written: Option<&Fingerprint>,
) {
    let question = ResolveRequest {
        container: 0,
        mount: mount.0,
        key: key.as_str().to_owned(),
        user: String::new(),
        access: Access::Read.into(),
        completes: false,
    };
    match link.resolve(question).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Ok(_) => return,
        Err(error) => {
            tracing::warn!(%mount, %key, error = %error.sentence(), "an object of a file that is gone stays in its store");
            return;
        }
    }
    match store.delete(key, written).await {
        Ok(_) => tracing::info!(%mount, %key, "an object whose file went away while it was written is taken back"),
        Err(error) if error.is_not_found() || error.is_changed() => {}
        Err(error) => tracing::warn!(%mount, %key, %error, "an object of a file that is gone stays in its store"),
    }
}
