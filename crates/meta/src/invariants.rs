//! A full recount of the records: what must be true of every committed state.
//!
//! - All that an [`Audit`] looks at.
//! - No two inodes share a store key; each mount has one directory, at its path.
//! - What is kept in memory is what the records say.

use crate::audit::Audit;
use crate::key::ROOT;
use crate::namespace::Namespace;
use crate::read::children;
use crate::record::Node;
use crate::store::{Read, StoreError};
use crate::walk::{Spot, locate};
use std::collections::BTreeSet;
use types::MountId;

/// Entries read at once.
const PAGE: usize = 1_000;

impl Namespace {
    /// What is broken, as sentences; empty when all is well. For tests and audits of small trees.
    /// Cost: the whole state; store keys are held in memory.
    pub fn check_invariants(&self, read: &dyn Read) -> Result<Vec<String>, StoreError> {
        let mut wrong = Vec::new();
        let mut audit = Audit::default();
        while !audit.is_done() {
            wrong.extend(audit.step(read, PAGE)?.iter().map(|fault| format!("{}: {fault}", fault.kind())));
        }
        // The walk from / may end in an error where a record is missing.
        if wrong.is_empty() && self.cluster().is_some() {
            self.check_keys(read, &mut wrong)?;
        }
        if wrong.is_empty() && Namespace::open(read)? != *self {
            wrong.push("what is in memory is not what the records say".to_owned());
        }
        Ok(wrong)
    }

    /// Walks the tree from `/`.
    fn check_keys(&self, read: &dyn Read, wrong: &mut Vec<String>) -> Result<(), StoreError> {
        let mut keys: BTreeSet<(MountId, String)> = BTreeSet::new();
        let mut mounts: BTreeSet<MountId> = BTreeSet::new();
        let mut next: Vec<Spot> = locate(read, ROOT)?.map(|root| root.spots).unwrap_or_default();
        while let Some(spot) = next.pop() {
            if !keys.insert((spot.mount, crate::index::plain(&spot.key).to_owned())) {
                wrong.push(format!("{} shares its store key {}", spot.path, spot.key));
            }
            let Node::Directory(directory) = &spot.inode.node else { continue };
            if let Some(mount) = directory.mount {
                let is_known = self.mounts().get(&mount).is_some_and(|mount| mount.path == spot.path);
                if !is_known || !mounts.insert(mount) {
                    wrong.push(format!("{} is the root of no mount, or one too many", spot.path));
                }
            }
            next.extend(entries(read, &spot)?);
        }
        if mounts.len() != self.mounts().len() {
            wrong.push("a mount has no directory".to_owned());
        }
        Ok(())
    }
}

/// All entries of a directory.
fn entries(read: &dyn Read, directory: &Spot) -> Result<Vec<Spot>, StoreError> {
    let mut spots: Vec<Spot> = Vec::new();
    loop {
        let after = spots.last().and_then(|spot| spot.name.as_ref());
        let page = children(read, directory.inode.id, after, PAGE)?;
        let more = page.len() == PAGE;
        spots.extend(page.into_iter().map(|(name, inode)| directory.below(name, inode)));
        if !more {
            return Ok(spots);
        }
    }
}
