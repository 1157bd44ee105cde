//! The mounted under stores, opened when first needed, and the jobs the core gives them.

use crate::core::{Job, JobError, JobOk, ListFrom};
use crate::shared::Shared;
use hashbrown::HashMap;
use meta::{Found, Mount, Renewed};
use parking_lot::Mutex;
use rpc::ClusterKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Clock, Entropy, ErrorKind, Fingerprint, MountId, Name, Secret};
use ufs::{Key, LayerOptions, Layered, ObjectInfo, ObjectKind, Removal, UfsError, UnderStore};

/// Objects removed or moved between two looks at the listing of a tree.
const TREE_PAGE: usize = 1_000;
/// New versions of copied objects that the end of one move tells; well below the largest log entry.
const RENEWED_MAX: usize = 2_000;
/// Context under which a mount's secrets are sealed at rest.
pub const SECRET_CONTEXT: &str = "mount-secret";

pub struct Stores {
    shared: Arc<Shared>,
    key: Arc<ClusterKey>,
    open: Mutex<HashMap<MountId, Arc<dyn UnderStore>>>,
}

/// Opens stores, with retries and deadlines around them.
#[derive(Clone)]
pub struct Opener {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

impl Opener {
    /// The store at `uri`. Asks nothing of it yet.
    pub fn open(
        &self,
        uri: &str,
        properties: &BTreeMap<String, String>,
        secrets: &BTreeMap<String, Secret>,
    ) -> Result<Arc<dyn UnderStore>, UfsError> {
        let store = ufs::open(uri, properties, secrets)?;
        let options = LayerOptions::default();
        Ok(Arc::new(Layered::new(store, options, self.clock.clone(), self.entropy.clone())))
    }
}

impl Stores {
    pub fn new(shared: Arc<Shared>, key: Arc<ClusterKey>) -> Stores {
        Stores { shared, key, open: Mutex::default() }
    }

    /// Mounts changed: the next job opens its store anew.
    pub fn forget(&self) {
        self.open.lock().clear();
    }

    /// Uses this store for a mount.
    #[cfg(any(test, feature = "test-support"))]
    pub fn put(&self, id: MountId, store: Arc<dyn UnderStore>) {
        self.open.lock().insert(id, store);
    }

    /// The secrets of a mount, unsealed. Errors: the key file is not the one they were sealed with.
    pub fn unseal(&self, mount: &Mount) -> Result<BTreeMap<String, Secret>, JobError> {
        let open = |(name, sealed): (&String, &Vec<u8>)| {
            let secret = self.key.open(sealed, SECRET_CONTEXT.as_bytes()).map_err(|err| JobError {
                kind: ErrorKind::Precondition,
                message: format!("unseal {name} of {}: {err}", mount.path),
            })?;
            Ok((name.clone(), secret))
        };
        mount.secrets.iter().map(open).collect()
    }

    /// The store of a mount.
    pub fn get(&self, id: MountId) -> Result<Arc<dyn UnderStore>, JobError> {
        if let Some(store) = self.open.lock().get(&id) {
            return Ok(store.clone());
        }
        let mount = self
            .shared
            .read_any(|read| meta::mount(read, id))
            .map_err(|err| JobError { kind: err.kind(), message: err.to_string() })?
            .ok_or_else(|| JobError { kind: ErrorKind::NotFound, message: format!("{id} is not mounted any more") })?;
        let opener = Opener { clock: self.shared.clock.clone(), entropy: self.shared.entropy.clone() };
        let store = opener.open(&mount.uri, &mount.properties, &self.unseal(&mount)?).map_err(refused)?;
        self.open.lock().insert(id, store.clone());
        Ok(store)
    }

    /// Does one job. A mutation is sent only while this master holds its lease.
    pub async fn execute(&self, job: Job) -> Result<JobOk, JobError> {
        match job {
            Job::Stat { mount, key } => {
                let store = self.get(mount)?;
                let info = store.stat(&parse(&key)?).await.map_err(refused)?;
                Ok(JobOk::Found(info.as_ref().and_then(found)))
            }
            Job::Chain { mount, key } => {
                let store = self.get(mount)?;
                chain(&*store, &parse(&key)?).await.map(JobOk::Chain)
            }
            Job::List { mount, key, from, limit } => {
                let store = self.get(mount)?;
                let key = directory(&key);
                let after = match from {
                    ListFrom::Start => None,
                    ListFrom::Page(token) => Some(token),
                    ListFrom::Entry { name, directory } => {
                        let slash = if directory { "/" } else { "" };
                        Some(store.behind(&parse(&format!("{key}{name}{slash}"))?))
                    }
                };
                let page = match store.list(&parse(&key)?, after.as_ref(), limit).await {
                    Ok(page) => page,
                    // A directory the namespace knows and the store does not have is empty there.
                    Err(err) if err.is_not_found() && after.is_none() => ufs::Page::default(),
                    Err(err) => return Err(refused(err)),
                };
                let items = page.entries.iter().filter_map(found).collect();
                Ok(JobOk::Page { items, next: page.next, skipped: page.skipped })
            }
            Job::DeleteFile { mount, key, fingerprint } => {
                let store = self.get(mount)?;
                self.check_lease()?;
                match store.delete(&parse(&key)?, fingerprint.as_ref()).await {
                    Ok(Removal::Deleted | Removal::Missing) => Ok(JobOk::Done(None)),
                    // Somebody else wrote another object there: it is not ours to delete.
                    Err(err) if err.is_changed() => Ok(JobOk::Done(None)),
                    Err(err) if err.is_not_found() => Ok(JobOk::Done(None)),
                    Err(err) => Err(refused(err)),
                }
            }
            Job::DeleteTree { mount, key } => self.delete_tree(mount, &key).await,
            Job::MoveFile { mount, from, to, fingerprint } => self.move_file(mount, &from, &to, fingerprint).await,
            Job::MoveTree { mount, from, to, again } => self.move_tree(mount, &from, &to, again).await,
            Job::MakeDirectory { mount, key } => {
                let store = self.get(mount)?;
                self.check_lease()?;
                store.make_dir(&parse(&directory(&key))?, None).await.map_err(refused)?;
                Ok(JobOk::Done(None))
            }
        }
    }

    fn check_lease(&self) -> Result<(), JobError> {
        if self.shared.has_lease() {
            return Ok(());
        }
        Err(JobError { kind: ErrorKind::Unavailable, message: "this master no longer leads".to_owned() })
    }

    /// Files first, then the directories they leave empty, deepest first. Safe to repeat.
    async fn delete_tree(&self, mount: MountId, key: &str) -> Result<JobOk, JobError> {
        let store = self.get(mount)?;
        let root = parse(&directory(key))?;
        let mut directories = vec![root.clone()];
        let mut after = None;
        loop {
            let page = match store.list_recursive(&root, after.as_ref(), TREE_PAGE).await {
                Ok(page) => page,
                Err(err) if err.is_not_found() => break,
                Err(err) => return Err(refused(err)),
            };
            for entry in &page.entries {
                self.check_lease()?;
                match entry.kind {
                    ObjectKind::Dir => directories.push(entry.key.clone()),
                    ObjectKind::File => match store.delete(&entry.key, None).await {
                        Ok(_) => {}
                        Err(err) if err.is_not_found() => {}
                        Err(err) => return Err(refused(err)),
                    },
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        // Parents come before what they hold in key order, so backwards is deepest first.
        directories.sort();
        for directory in directories.iter().rev().filter(|directory| !directory.is_root()) {
            self.check_lease()?;
            match store.delete_dir(directory).await {
                Ok(_) => {}
                Err(err) if err.is_not_found() => {}
                Err(err) => return Err(refused(err)),
            }
        }
        Ok(JobOk::Done(None))
    }

    async fn move_file(
        &self,
        mount: MountId,
        from: &str,
        to: &str,
        fingerprint: Option<Fingerprint>,
    ) -> Result<JobOk, JobError> {
        let store = self.get(mount)?;
        let (from, to) = (parse(from)?, parse(to)?);
        let source = store.stat(&from).await.map_err(refused)?.filter(|info| info.kind == ObjectKind::File);
        if source.is_none() {
            // An earlier attempt may have got this far.
            let target = store.stat(&to).await.map_err(refused)?;
            return match target {
                Some(info) if info.kind == ObjectKind::File => Ok(JobOk::Done(info.fingerprint)),
                Some(_) | None => Err(JobError {
                    kind: ErrorKind::Precondition,
                    message: format!("cannot move {}/{from}: it is no longer in the store", store.uri()),
                }),
            };
        }
        self.check_lease()?;
        if store.capabilities().rename {
            store.rename(&from, &to).await.map_err(refused)?;
            let info = store.stat(&to).await.map_err(refused)?;
            return Ok(JobOk::Done(info.and_then(|info| info.fingerprint)));
        }
        let copy = store.copy(&from, &to, fingerprint.as_ref()).await.map_err(refused)?;
        Ok(JobOk::Copied(copy.fingerprint))
    }

    /// One rename where the store has it; else object by object, each copied before its source goes. Safe to repeat.
    async fn move_tree(&self, mount: MountId, from: &str, to: &str, again: bool) -> Result<JobOk, JobError> {
        let store = self.get(mount)?;
        let (source, target) = (parse(&directory(from))?, parse(&directory(to))?);
        self.check_lease()?;
        if store.capabilities().rename {
            if store.stat(&source).await.map_err(refused)?.is_none() {
                return Ok(JobOk::Done(None));
            }
            match store.rename(&source, &target).await {
                Ok(()) => return Ok(JobOk::Done(None)),
                // An earlier attempt moved the tree, and a late upload made its old place anew: the rest follows.
                Err(err) if again && err.kind() == ErrorKind::AlreadyExists => {}
                Err(err) => return Err(refused(err)),
            }
        }
        let (mut after, mut renewed) = (None, Vec::new());
        loop {
            let page = match store.list_recursive(&source, after.as_ref(), TREE_PAGE).await {
                Ok(page) => page,
                Err(err) if err.is_not_found() => break,
                Err(err) => return Err(refused(err)),
            };
            for entry in &page.entries {
                self.check_lease()?;
                let below = entry.key.as_str().strip_prefix(source.as_str()).unwrap_or(entry.key.as_str());
                let target = parse(&format!("{}{below}", target.as_str()))?;
                match entry.kind {
                    ObjectKind::Dir => {
                        store.make_dir(&target, entry.mode).await.map_err(refused)?;
                    }
                    ObjectKind::File => {
                        let copy =
                            store.copy(&entry.key, &target, entry.fingerprint.as_ref()).await.map_err(refused)?;
                        // What does not fit is found to be another version when it is read, and read anew.
                        if renewed.len() < RENEWED_MAX
                            && let (Some(was), Some(is)) = (&entry.fingerprint, copy.fingerprint)
                            && *was != is
                        {
                            renewed.push(Renewed { key: below.to_owned(), was: was.clone(), is });
                        }
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(JobOk::CopiedTree(renewed))
    }
}

fn directory(key: &str) -> String {
    if key.is_empty() || key.ends_with('/') { key.to_owned() } else { format!("{key}/") }
}

fn parse(key: &str) -> Result<Key, JobError> {
    Key::parse(key).map_err(|err| JobError { kind: ErrorKind::Invalid, message: format!("key {key:?}: {err}") })
}

pub fn refused(err: UfsError) -> JobError {
    JobError { kind: err.kind(), message: err.to_string() }
}

/// None for what cannot be a name of ours.
fn found(info: &ObjectInfo) -> Option<Found> {
    Some(Found {
        name: Name::new(info.key.name()).ok()?,
        directory: info.kind == ObjectKind::Dir,
        length: info.length,
        modified: info.mtime(),
        fingerprint: info.fingerprint.clone(),
        owner: info.owner.clone(),
        group: info.group.clone(),
        mode: info.mode,
    })
}

/// What stands at `key` with its parents: each level is asked for, so that a file in the middle is seen.
async fn chain(store: &dyn UnderStore, key: &Key) -> Result<Vec<Found>, JobError> {
    let Some(last) = store.stat(key).await.map_err(refused)? else { return Ok(Vec::new()) };
    let trimmed = key.as_str().trim_end_matches('/');
    let mut out = Vec::new();
    for (at, _) in trimmed.match_indices('/') {
        let above = parse(&trimmed[..=at])?;
        // Its parents exist because it does; what the store says of them is asked only where it says more.
        let info = if store.capabilities().modes { store.stat(&above).await.map_err(refused)? } else { None };
        out.extend(found(&info.unwrap_or_else(|| ObjectInfo::dir(above))));
    }
    out.extend(found(&last));
    Ok(out)
}
