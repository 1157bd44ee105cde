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
/// file's own upload replaces it, or has. What a store made for it above goes too, unless it is known or holds more.
pub async fn take_back(
    link: &MasterLink,
    store: &dyn UnderStore,
    mount: MountId,
    key: &Key,
    written: Option<&Fingerprint>,
) {
    match standing(link, mount, key).await {
        Ok(None) => {}
        // An object of this version is not one of a file that stays in the cache.
        Ok(Some(Standing::InCache)) if written.is_some() => {}
        // Of a file that is to be in the store it may be, though not by this upload: equal bytes may be one version.
        Ok(Some(_)) => return,
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
    if store.capabilities().directories {
        take_back_directories(link, store, mount, key).await;
    }
}

/// Its directory had been moved or removed when the object came, and was made anew for it. Left there, it would stand in
/// the way of whatever is renamed to its name.
async fn take_back_directories(link: &MasterLink, store: &dyn UnderStore, mount: MountId, key: &Key) {
    let mut above = key.parent();
    while let Some(directory) = above.filter(|directory| !directory.is_root()) {
        if !matches!(standing(link, mount, &directory).await, Ok(None)) {
            return;
        }
        if let Err(error) = store.delete_dir(&directory).await {
            tracing::debug!(%mount, key = %directory, %error, "a directory made for an object that was taken back stays");
            return;
        }
        above = directory.parent();
    }
}

/// What the master knows of at a key.
enum Standing {
    /// Something that is in the store, or will be.
    InStore,
    /// A file that is not, nor is meant to be.
    InCache,
}

async fn standing(link: &MasterLink, mount: MountId, key: &Key) -> Result<Option<Standing>, WorkerError> {
    let question = ResolveRequest {
        mount: mount.0,
        key: key.as_str().to_owned(),
        access: Access::Read.into(),
        ..ResolveRequest::default()
    };
    match link.resolve(question).await {
        Ok(file) => Ok(Some(if file.stays_in_cache { Standing::InCache } else { Standing::InStore })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
