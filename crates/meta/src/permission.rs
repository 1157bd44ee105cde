//! POSIX permissions: pure checks of a caller against an inode.
//!
//! Who is a superuser is decided by the leader when it stamps an entry, so that replicas with different settings agree.

use crate::record::Inode;
use crate::reject::Reject;
use serde::{Deserialize, Serialize};
use types::{GfsPath, Principal, Proof, Right};

/// Who asks, as an entry carries it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Caller {
    pub user: String,
    pub groups: Vec<String>,
    /// Passes every check: the operating-system user that runs the master, the supergroup's members, the cluster itself,
    /// and everybody while permissions are off.
    pub superuser: bool,
}

/// Whom this master takes for a superuser.
#[derive(Clone, Debug)]
pub struct Authority {
    pub superuser: String,
    pub supergroup: String,
    /// `goosefs.security.authorization.permission.enabled`
    pub enabled: bool,
}

impl Authority {
    /// Stamps `principal` with what this master knows. Cost: a look through its groups.
    pub fn caller(&self, principal: &Principal) -> Caller {
        let superuser = !self.enabled
            || principal.proof == Proof::System
            || principal.user == self.superuser
            || principal.groups.contains(&self.supergroup);
        Caller { user: principal.user.clone(), groups: principal.groups.clone(), superuser }
    }
}

impl Caller {
    /// The cluster itself.
    pub fn system() -> Caller {
        Caller { user: String::new(), groups: Vec::new(), superuser: true }
    }

    /// Refuses unless this caller holds all of `right` on `inode`, of which `path` is the name for the sentence.
    pub fn check(&self, right: Right, inode: &Inode, path: &GfsPath) -> Result<(), Reject> {
        let class = if self.user == inode.owner {
            inode.mode.owner()
        } else if self.groups.contains(&inode.group) {
            inode.mode.group()
        } else {
            inode.mode.other()
        };
        if self.superuser || class & right.bits() == right.bits() {
            return Ok(());
        }
        Err(Reject::Denied { user: self.user.clone(), right, path: path.clone() })
    }

    /// Refuses to take `entry` out of a sticky `parent` unless the caller owns one of them.
    pub fn check_sticky(&self, parent: &Inode, entry: &Inode, path: &GfsPath) -> Result<(), Reject> {
        let free = self.superuser || !parent.mode.is_sticky() || self.user == parent.owner || self.user == entry.owner;
        if free { Ok(()) } else { Err(Reject::Sticky { user: self.user.clone(), path: path.clone() }) }
    }

    /// Refuses unless the caller owns `inode`.
    pub fn check_owner(&self, what: &'static str, inode: &Inode, path: &GfsPath) -> Result<(), Reject> {
        if self.superuser || self.user == inode.owner {
            return Ok(());
        }
        Err(Reject::NotOwner { user: self.user.clone(), what, path: path.clone() })
    }

    /// Refuses unless the caller is a superuser.
    pub fn check_superuser(&self, what: &'static str) -> Result<(), Reject> {
        if self.superuser { Ok(()) } else { Err(Reject::NotSuperuser { user: self.user.clone(), what }) }
    }
}
