//! The under stores of the namespace, opened when first needed.
//!
//! Is:     for each mount, the store as the master describes it, with retries, deadlines and limits around it.
//! Owns:   the open stores; their descriptions are asked for again now and then.
//! Never:  prints a credential.

use crate::error::WorkerError;
use crate::master_link::{MasterLink, MountFacts};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use types::{Clock, Entropy, Monotonic, MountId};
use ufs::{Key, LayerOptions, Layered, UfsError, UnderStore};

/// How long a description is believed. A new credential is used within this time.
const BELIEVED: Duration = Duration::from_secs(30);

/// Opens the store of a mount, without retries or deadlines.
pub type OpenStore = dyn Fn(&MountFacts) -> Result<Arc<dyn UnderStore>, UfsError> + Send + Sync;

/// As the master describes it.
pub fn open_described(facts: &MountFacts) -> Result<Arc<dyn UnderStore>, UfsError> {
    ufs::open(&facts.uri, &facts.properties, &facts.secrets)
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Mounted {
    pub store: Arc<dyn UnderStore>,
    facts: Arc<MountFacts>,
    asked_at: Monotonic,
}

impl Mounted {
    /// The key of a path in the store as clients are shown it: the store's address, a slash, the key.
    pub fn key_of(&self, store_path: &str) -> Result<Key, WorkerError> {
        let base = self.facts.uri.trim_end_matches('/');
        let outside = || {
            WorkerError::Invalid(format!(
                "{store_path:?} does not lie in the under store {base}; a client may only name its own file's place there"
            ))
        };
        let below = store_path.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')).ok_or_else(outside)?;
        parse_key(below)
    }

    pub fn read_only(&self) -> bool {
        self.facts.read_only
    }
}

/// A key as the master or a sidecar spells it.
pub fn parse_key(text: &str) -> Result<Key, WorkerError> {
    Key::parse(text)
        .map_err(|error| WorkerError::Invalid(format!("{text:?} cannot be a key of an under store: {error}")))
}

/// All mounts.
pub struct Mounts {
    link: Arc<MasterLink>,
    opens: Arc<OpenStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    streams_per_store: usize,
    open: Mutex<HashMap<MountId, Mounted>>,
}

impl Mounts {
    pub fn new(
        link: Arc<MasterLink>,
        opens: Arc<OpenStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        streams_per_store: usize,
    ) -> Mounts {
        Mounts { link, opens, clock, entropy, streams_per_store, open: Mutex::default() }
    }

    /// The store of a mount. An open one is used on while no master answers.
    pub async fn get(&self, mount: MountId) -> Result<Mounted, WorkerError> {
        let known = self.open.lock().get(&mount).cloned();
        let now = self.clock.monotonic();
        if let Some(mounted) = known.as_ref().filter(|mounted| now - mounted.asked_at < BELIEVED) {
            return Ok(mounted.clone());
        }
        let facts = match (self.link.mount(mount).await, known) {
            (Ok(facts), Some(mounted)) if *mounted.facts == facts => {
                let mounted = Mounted { asked_at: now, ..mounted };
                self.open.lock().insert(mount, mounted.clone());
                return Ok(mounted);
            }
            (Ok(facts), _) => facts,
            (Err(error), Some(mounted)) if error.kind().is_transient() => {
                tracing::warn!(%mount, %error, "cannot look the mount up, its store is used as it was");
                return Ok(mounted);
            }
            (Err(error), _) => return Err(error),
        };
        let store = (self.opens)(&facts).map_err(|source| WorkerError::StoreOpen { mount: mount.0, source })?;
        let options = LayerOptions { streams_max: self.streams_per_store, ..LayerOptions::default() };
        let layered = Layered::new(store, options, Arc::clone(&self.clock), Arc::clone(&self.entropy));
        let mounted = Mounted { store: Arc::new(layered), facts: Arc::new(facts), asked_at: now };
        self.open.lock().insert(mount, mounted.clone());
        Ok(mounted)
    }
}
