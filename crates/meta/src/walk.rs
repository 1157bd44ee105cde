//! From a path to inodes and to the store's key.

use crate::key::{ABOVE_ROOT, ROOT, ROOT_MOUNT, edge_key, inode_key, mount_key, place_key};
use crate::permission::Caller;
use crate::record::{Inode, Mount, Parent};
use crate::reject::Reject;
use crate::store::{Family, Read, StoreError};
use crate::txn::{expect, fetch};
use types::{GfsPath, InodeId, LogIndex, MountId, Name, PathError, Right, WriteType};

/// The extended attribute of a directory that says how files made below it are written.
pub const INNER_WRITE_TYPE: &str = "innerWriteType";

/// Levels walked up from an inode. Only trees moved into each other again and again are deeper; what is in there can be
/// listed and removed from above, but not found by its id.
pub(crate) const MAX_LEVELS: usize = 4096;

/// Why an operation stopped: an answer, or a database that gave none.
#[derive(Debug)]
pub(crate) enum Stop {
    Reject(Reject),
    Store(StoreError),
}
impl From<Reject> for Stop {
    fn from(reject: Reject) -> Stop {
        Stop::Reject(reject)
    }
}
impl From<StoreError> for Stop {
    fn from(err: StoreError) -> Stop {
        Stop::Store(err)
    }
}
impl From<PathError> for Stop {
    fn from(err: PathError) -> Stop {
        Stop::Reject(Reject::Path(err))
    }
}

/// Sorts an answer from a failure, as public signatures have them.
pub(crate) fn settle<T>(result: Result<T, Stop>) -> Result<Result<T, Reject>, StoreError> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(Stop::Reject(reject)) => Ok(Err(reject)),
        Err(Stop::Store(err)) => Err(err),
    }
}

/// One inode on the way down a path, with what the levels above it say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spot {
    pub inode: Inode,
    /// Where its edge stands; `/` stands under inode 0 with an empty name and has no name of its own.
    pub parent: InodeId,
    pub name: Option<Name>,
    pub path: GfsPath,
    /// The mount it lies in, and its key there, without a leading slash; a directory's ends in `/` unless it is the
    /// mount's root, whose key is empty.
    pub mount: MountId,
    pub key: String,
}

impl Spot {
    /// What `inode` under `name` in this directory is.
    pub(crate) fn below(&self, name: Name, inode: Inode) -> Spot {
        let (mount, key) = match (inode.directory().and_then(|directory| directory.mount), &inode.store_key) {
            (Some(mount), _) => (mount, String::new()),
            (None, Some(key)) => (self.mount, key.clone()),
            (None, None) => (self.mount, self.key_of(&name, inode.is_directory())),
        };
        Spot { parent: self.inode.id, path: self.path.child(&name), name: Some(name), mount, key, inode }
    }

    /// The key that an entry `name` of this directory has unless it says otherwise.
    pub(crate) fn key_of(&self, name: &Name, directory: bool) -> String {
        [self.key.as_str(), name.as_str(), if directory { "/" } else { "" }].concat()
    }

    pub(crate) fn edge_key(&self) -> bytes::Bytes {
        place_key(self.parent, self.name.as_ref())
    }

    /// `/`, or the root of a namespace.
    pub(crate) fn is_mount_root(&self) -> bool {
        self.inode.directory().is_some_and(|directory| directory.mount.is_some())
    }
}

/// How far a path leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Every inode from `/` down to the last that exists. Never empty in a formatted store.
    pub spots: Vec<Spot>,
    /// The names that are missing, in order; empty when the path exists.
    pub missing: Vec<Name>,
    pub mount: Mount,
}

impl Resolved {
    /// The deepest inode that exists.
    pub fn last(&self) -> &Spot {
        self.spots.last().expect("a walk begins at /")
    }

    /// The inode of `path`, which is the path that was resolved. Errors: it does not exist.
    pub fn found(&self, path: &GfsPath) -> Result<&Spot, Reject> {
        if self.missing.is_empty() { Ok(self.last()) } else { Err(Reject::NotFound(path.clone())) }
    }

    /// The key that what is missing will have, without a slash at its end.
    pub(crate) fn missing_key(&self) -> String {
        let names: Vec<&str> = self.missing.iter().map(Name::as_str).collect();
        format!("{}{}", self.last().key, names.join("/"))
    }

    /// Whether this inode, or a directory above it, was made, moved or replaced after `seen`.
    pub(crate) fn changed_since(&self, seen: LogIndex) -> bool {
        self.spots.iter().any(|spot| spot.inode.changed > seen)
    }

    /// The directory above [`Resolved::last`]; `/` itself for `/`.
    pub(crate) fn parent(&self) -> &Spot {
        &self.spots[self.spots.len().saturating_sub(2)]
    }

    /// The write type of files made in the deepest directory when nothing is asked for.
    pub(crate) fn write_type(&self) -> Option<WriteType> {
        inherited_write_type(&self.spots, &self.mount)
    }

    pub(crate) fn check_writable(&self) -> Result<(), Reject> {
        if self.mount.read_only { Err(Reject::ReadOnly(self.mount.path.clone())) } else { Ok(()) }
    }
}

/// What the nearest directory of the same mount says, else the mount's policy.
pub(crate) fn inherited_write_type(spots: &[Spot], mount: &Mount) -> Option<WriteType> {
    let nearest =
        spots.iter().rev().take_while(|spot| spot.mount == mount.id).find_map(|spot| own_write_type(&spot.inode));
    nearest.or(mount.write_policy)
}

/// What was set on this very directory.
pub(crate) fn own_write_type(inode: &Inode) -> Option<WriteType> {
    let value = inode.xattrs.get(INNER_WRITE_TYPE).filter(|_| inode.is_directory())?;
    WriteType::from_name(std::str::from_utf8(value).ok()?)
}

/// Walks `path`. The caller needs execute on every directory passed. A file in the middle of the path is
/// `Reject::ParentIsFile`. Cost: one point lookup per level, and one for the mount.
pub fn resolve(read: &dyn Read, who: &Caller, path: &GfsPath) -> Result<Result<Resolved, Reject>, StoreError> {
    settle(walk(read, who, path))
}

pub(crate) fn walk(read: &dyn Read, who: &Caller, path: &GfsPath) -> Result<Resolved, Stop> {
    let mut spots = vec![root(read)?];
    let mut names = path.names().map(|name| Name::new(name).expect("a path holds checked names"));
    let mut missing = Vec::new();
    for name in names.by_ref() {
        let above = spots.last().expect("a walk begins at /");
        if !above.inode.is_directory() {
            return Err(Reject::ParentIsFile(above.path.clone()).into());
        }
        who.check(Right::EXECUTE, &above.inode, &above.path)?;
        match child(read, above, &name)? {
            Some(spot) => spots.push(spot),
            None => {
                missing.push(name);
                break;
            }
        }
    }
    missing.extend(names);
    let last = spots.last().expect("a walk begins at /");
    let mount = expect(read, Family::Mounts, mount_key(last.mount))?;
    Ok(Resolved { spots, missing, mount })
}

/// `/`. Errors: nothing was formatted yet.
fn root(read: &dyn Read) -> Result<Spot, Stop> {
    let inode: Option<Inode> = fetch(read, Family::Edges, place_key(ABOVE_ROOT, None))?;
    let inode = inode.ok_or_else(|| Reject::Refused("this cluster was not formatted yet".to_owned()))?;
    let (path, key) = (GfsPath::root(), String::new());
    Ok(Spot { inode, parent: ABOVE_ROOT, name: None, path, mount: ROOT_MOUNT, key })
}

/// The entry `name` of a directory.
pub(crate) fn child(read: &dyn Read, directory: &Spot, name: &Name) -> Result<Option<Spot>, StoreError> {
    let inode: Option<Inode> = fetch(read, Family::Edges, edge_key(directory.inode.id, name))?;
    Ok(inode.map(|inode| directory.below(name.clone(), inode)))
}

/// The way from `/` to an inode. None: it is gone, or detached with a directory above it. Cost: two point lookups per
/// level.
pub(crate) fn locate(read: &dyn Read, inode: InodeId) -> Result<Option<Resolved>, StoreError> {
    let mut names = Vec::new();
    let mut at = inode;
    while at != ROOT {
        let parent: Option<Parent> = fetch(read, Family::Inodes, inode_key(at))?;
        match parent {
            Some(parent) if names.len() < MAX_LEVELS => {
                names.push(parent.name);
                at = parent.parent;
            }
            Some(_) | None => return Ok(None),
        }
    }
    let mut spots = match root(read) {
        Ok(root) => vec![root],
        Err(Stop::Reject(_)) => return Ok(None),
        Err(Stop::Store(err)) => return Err(err),
    };
    for name in names.into_iter().rev() {
        let above = spots.last().expect("a walk begins at /");
        let inode = expect(read, Family::Edges, edge_key(above.inode.id, &name))?;
        spots.push(above.below(name, inode));
    }
    let mount = expect(read, Family::Mounts, mount_key(spots.last().expect("a walk begins at /").mount))?;
    Ok(Some(Resolved { spots, missing: Vec::new(), mount }))
}
