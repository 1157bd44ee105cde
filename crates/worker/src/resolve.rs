//! What the master says about a container, and who may read or write it.
//!
//! Is:     questions to the master, with their answers kept for the time it named.
//! Owns:   facts by container, rights by container and user; both bounded.
//! Never:  believes a client about anything the master knows.

use crate::error::WorkerError;
use crate::master_link::MasterLink;
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::store::Origin;
use parking_lot::Mutex;
use proto::internal::{Access, ResolveRequest, ResolveResponse};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use types::{
    BlockId, Clock, ContainerId, ErrorKind, Fingerprint, Mode, Monotonic, MountId, Principal, Proof, WriteType,
};

/// Containers whose facts are kept; at most twice as many.
const FACTS_KEPT: usize = 50_000;
/// Rights kept; at most twice as many.
const RIGHTS_KEPT: usize = 100_000;

/// How long a write waits for a master: it cannot begin without, and a restart is over soon.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a read waits for one that was granted no right before: longer than an election, and shorter than a write, since
/// another worker may know.
const READ_PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
/// How long a read waits for a right to be confirmed that was granted before: about an election.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(1);
/// How long such a right is not asked about again when no master answered.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(5);

/// What the master says about one generation of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub container: ContainerId,
    pub mount: MountId,
    /// Where its content is, or will be, in the mount's store. None: in no store.
    pub key: Option<String>,
    pub fingerprint: Option<Fingerprint>,
    pub length: u64,
    pub block_bytes: u64,
    pub complete: bool,
    pub write_type: WriteType,
    pub cacheable: bool,
    pub owner: String,
    pub group: String,
    pub mode: Mode,
}

impl Facts {
    fn read(answer: ResolveResponse) -> Result<Facts, WorkerError> {
        let bad = |what: String| WorkerError::Bug(format!("the master's answer about a file has {what}"));
        let fingerprint = match answer.fingerprint.as_str() {
            "" => None,
            text => Some(Fingerprint::parse(text).ok_or_else(|| bad(format!("the fingerprint {text:?}")))?),
        };
        let write_type = WriteType::from_number(answer.write_type)
            .ok_or_else(|| bad(format!("write type {}", answer.write_type)))?;
        if answer.block_bytes == 0 {
            return Err(bad("blocks of 0 bytes".into()));
        }
        Ok(Facts {
            container: ContainerId(answer.container),
            mount: MountId(answer.mount),
            key: (!answer.key.is_empty()).then_some(answer.key),
            fingerprint,
            length: answer.length,
            block_bytes: answer.block_bytes,
            complete: answer.complete,
            write_type,
            cacheable: answer.cacheable,
            owner: answer.owner,
            group: answer.group,
            mode: Mode::new(u16::try_from(answer.mode & 0o7777).expect("twelve bits fit")),
        })
    }

    /// Where in the file a block lies; empty when the file is too short to have it.
    pub fn range_of(&self, block: BlockId) -> Range<u64> {
        let start = block.index().saturating_mul(self.block_bytes).min(self.length);
        start..start.saturating_add(self.block_bytes).min(self.length)
    }

    /// Where its blocks can be read again. None: in no store.
    pub fn origin(&self) -> Option<Origin> {
        let key = self.key.clone()?;
        Some(Origin { mount: self.mount, key, fingerprint: self.fingerprint.clone() })
    }
}

/// A right, until when it was granted.
type Right = (ContainerId, Arc<str>);

/// Asks and remembers.
pub struct Resolver {
    link: Arc<MasterLink>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    facts: Mutex<Recent<ContainerId, Arc<Facts>>>,
    rights: Mutex<Recent<Right, Monotonic>>,
}

impl Resolver {
    pub fn new(link: Arc<MasterLink>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Resolver {
        let (facts, rights) = (Mutex::new(Recent::new(FACTS_KEPT)), Mutex::new(Recent::new(RIGHTS_KEPT)));
        Resolver { link, clock, metrics, facts, rights }
    }

    /// The facts for a read by `who`. Asks the master unless the right was granted lately; while no master answers, a
    /// right once granted stays valid, and costs a read [`CONFIRM_PATIENCE`] every [`UNCONFIRMED_FOR`] at most. Without one it
    /// waits a while for a master.
    pub async fn for_read(&self, who: &Principal, container: ContainerId) -> Result<Arc<Facts>, WorkerError> {
        let user = user_of(who)?;
        let right = (container, Arc::clone(&user));
        let until = self.rights.lock().get(&right);
        let known = self.facts.lock().get(&container).filter(|_| until.is_some());
        if let (Some(until), Some(facts)) = (until, &known)
            && self.clock.monotonic() < until
        {
            return Ok(Arc::clone(facts));
        }
        let ask = || self.ask(container, &user, Access::Read);
        let Some(known) = known else { return patiently(READ_PATIENCE, ask).await };
        match timeout(CONFIRM_PATIENCE, ask()).await {
            Ok(Ok(facts)) => Ok(facts),
            Ok(Err(error)) if !is_silence(&error) => {
                self.rights.lock().remove(&right);
                Err(error)
            }
            Ok(Err(_)) | Err(_) => {
                self.rights.lock().insert(right, self.clock.monotonic() + UNCONFIRMED_FOR);
                Ok(known)
            }
        }
    }

    /// The same, asked anew: the store contradicts what is known.
    pub async fn again(&self, who: &Principal, container: ContainerId) -> Result<Arc<Facts>, WorkerError> {
        self.forget(container);
        let user = user_of(who)?;
        patiently(READ_PATIENCE, || self.ask(container, &user, Access::Read)).await
    }

    /// The facts for a write by `who`, who waits a while for a master.
    pub async fn for_write(&self, who: &Principal, container: ContainerId) -> Result<Arc<Facts>, WorkerError> {
        let user = user_of(who)?;
        patiently(WRITE_PATIENCE, || self.ask(container, &user, Access::Write)).await
    }

    /// Lets the master hear that a stream lives, without waiting.
    pub async fn renew_write(&self, who: &Principal, container: ContainerId) -> Result<(), WorkerError> {
        self.ask(container, &user_of(who)?, Access::Write).await.map(drop)
    }

    /// The file that is being written at a key of a store. Waits a while for a master.
    pub async fn for_store_write(&self, who: &Principal, mount: MountId, key: &str) -> Result<Arc<Facts>, WorkerError> {
        self.ask_for_writer(&writer_of(who, mount, key)?).await
    }

    /// The same just before its object becomes visible, and while it may: the master remembers that.
    pub async fn for_completion(&self, who: &Principal, mount: MountId, key: &str) -> Result<Arc<Facts>, WorkerError> {
        let question = ResolveRequest { completing: true, ..writer_of(who, mount, key)? };
        self.ask_for_writer(&question).await
    }

    async fn ask_for_writer(&self, question: &ResolveRequest) -> Result<Arc<Facts>, WorkerError> {
        patiently(WRITE_PATIENCE, || async {
            self.metrics.resolves.inc();
            Facts::read(self.link.resolve(question.clone()).await?).map(Arc::new)
        })
        .await
    }

    /// Drops what is known of a container.
    pub fn forget(&self, container: ContainerId) {
        self.facts.lock().remove(&container);
    }

    pub fn link(&self) -> &Arc<MasterLink> {
        &self.link
    }

    async fn ask(&self, container: ContainerId, user: &Arc<str>, access: Access) -> Result<Arc<Facts>, WorkerError> {
        self.metrics.resolves.inc();
        let asked_at = self.clock.monotonic();
        let question = ResolveRequest {
            container: container.0,
            user: user.to_string(),
            access: access.into(),
            ..ResolveRequest::default()
        };
        let answer = self.link.resolve(question).await?;
        let valid = Duration::from_millis(u64::from(answer.right_valid_ms));
        let facts = Arc::new(Facts::read(answer)?);
        if facts.container != container {
            return Err(WorkerError::Bug(format!(
                "asked about {container}, the master answers about {}",
                facts.container
            )));
        }
        // An incomplete file's facts change at its close, so a read asks again; rights count from the question.
        if facts.complete {
            self.facts.lock().insert(container, Arc::clone(&facts));
            if access == Access::Read {
                self.rights.lock().insert((container, Arc::clone(user)), asked_at + valid);
            }
        }
        Ok(facts)
    }
}

/// Who writes at a key?
fn writer_of(who: &Principal, mount: MountId, key: &str) -> Result<ResolveRequest, WorkerError> {
    Ok(ResolveRequest {
        mount: mount.0,
        key: key.to_owned(),
        user: user_of(who)?.to_string(),
        access: Access::Write.into(),
        ..ResolveRequest::default()
    })
}

/// Asks until a master answers, whatever it says.
async fn patiently<F>(patience: Duration, ask: impl Fn() -> F) -> Result<Arc<Facts>, WorkerError>
where
    F: Future<Output = Result<Arc<Facts>, WorkerError>>,
{
    let give_up = Instant::now() + patience;
    loop {
        match ask().await {
            Err(WorkerError::NoMaster { .. }) if Instant::now() < give_up => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

/// No master answered: not a no.
fn is_silence(error: &WorkerError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Busy)
}

/// An empty name means the worker itself to the master, so a client must not get through with one.
fn user_of(who: &Principal) -> Result<Arc<str>, WorkerError> {
    if who.user.is_empty() && who.proof != Proof::System {
        return Err(WorkerError::Master {
            verb: "read the caller's name",
            kind: ErrorKind::Unauthenticated,
            words: "it is empty; connect with a user name".into(),
        });
    }
    Ok(who.user.as_str().into())
}
