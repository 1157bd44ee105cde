//! Makes the directories of a new cluster's master.

use crate::config::{MasterConfig, Metastore};
use crate::error::Error;
use crate::install;
use crate::peers::{Group, Members};
use journal::disk::RealDisk;
use journal::{SegmentLog, SegmentOptions};
use rpc::ClusterKey;
use std::path::Path;
use store::{DirDisk, HeapStore, RocksStore};
use types::{ClusterId, Entropy};

/// Writes an empty log, an empty database and, if there is none, the cluster's key. Returns the id the log is bound to:
/// the new cluster's, or the one all masters of a group derive from their key.
///
/// Errors: a directory that is not empty (unless `force`, which removes an older log and database), not writable, or on a
/// full disk, each in one sentence. Nothing is served by it: the first start makes the namespace.
pub fn format(config: &MasterConfig, entropy: &dyn Entropy, force: bool) -> Result<ClusterId, Error> {
    make(config, entropy, force, false)
}

/// The same for a master that is to be taken into a group that is there: under which id, a leader of that will say.
///
/// Errors: also without `goosefs.master.embedded.journal.addresses`, or without the key of the group.
pub fn format_to_join(config: &MasterConfig, entropy: &dyn Entropy, force: bool) -> Result<ClusterId, Error> {
    if config.group.is_none() {
        return Err(Error::Start(
            "goosefs.master.embedded.journal.addresses names no group to join; set it to the masters of the group and this one"
                .to_owned(),
        ));
    }
    if !config.key_file.exists() {
        return Err(Error::Start(format!(
            "{} is missing; copy goosefs.security.secret.key.file from a master of the group to be joined",
            config.key_file.display()
        )));
    }
    make(config, entropy, force, true)
}

/// Removes what a directory holds. The directory stays: a disk may be mounted there.
fn empty(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

fn make(config: &MasterConfig, entropy: &dyn Entropy, force: bool, join: bool) -> Result<ClusterId, Error> {
    let key_error = |err| start("make the cluster's key", &err);
    let key = match config.key_file.exists() {
        // A group of several is bound to what it holds; a master alone need not be able to read it yet.
        true => None,
        false => Some(ClusterKey::create(&config.key_file).map_err(key_error)?),
    };
    let group = match &config.group {
        None => None,
        Some(group) => {
            let members = Members::new(&group.members).map_err(Error::Start)?;
            let own =
                members.id(&group.own).ok_or_else(|| Error::Start(format!("{} is not in its own group", group.own)))?;
            let key = key
                .map_or_else(|| ClusterKey::load(&config.key_file), Ok)
                .map_err(|err| start("read the cluster's key", &err))?;
            Some((own, members, key.group_id()))
        }
    };
    let cluster = group.as_ref().map_or_else(|| ClusterId(entropy.next_u128()), |(_, _, id)| *id);
    format_log(config, cluster, force)?;
    format_state(config, &config.metastore_dir, cluster)?;
    // Last: a journal without it belongs to a master alone, and a group refuses to start on it.
    if let Some((own, members, _)) = group {
        let disk = entropy.next_u128();
        let written = match join {
            true => Group::create_waiting(&config.journal_dir, disk),
            false => Group::create(&config.journal_dir, own, members, disk),
        };
        written.map_err(|err| start("format the journal", &err))?;
    }
    make_work_dir(config)?;
    Ok(cluster)
}

fn start(what: &str, err: &dyn std::error::Error) -> Error {
    Error::Start(format!("{what}: {}", types::sentence(err)))
}

/// An empty log. `force`: whatever an older one, its group and its database left goes.
pub fn format_log(config: &MasterConfig, cluster: ClusterId, force: bool) -> Result<(), Error> {
    if force {
        Group::remove(&config.journal_dir).map_err(|err| start("format the journal", &err))?;
        install::forget(&config.journal_dir).map_err(|err| start("format the journal", &err))?;
    }
    if force && config.metastore_dir.exists() {
        empty(&config.metastore_dir)
            .map_err(|err| start(&format!("empty {}", config.metastore_dir.display()), &err))?;
    }
    let options = SegmentOptions { segment_bytes: config.segment_bytes };
    SegmentLog::format(&RealDisk, &config.journal_dir, cluster, options, force)
        .map_err(|err| start("format the journal", &err))
}

/// An empty database at `dir`.
pub fn format_state(config: &MasterConfig, dir: &Path, cluster: ClusterId) -> Result<(), Error> {
    match config.metastore {
        Metastore::Rocks => RocksStore::format(dir, cluster)?,
        Metastore::Heap => {
            std::fs::create_dir_all(dir).map_err(|err| start(&format!("make {}", dir.display()), &err))?;
            let disk = DirDisk::open(dir).map_err(|err| start(&format!("open {}", dir.display()), &err))?;
            HeapStore::format(&disk, cluster)?;
        }
    }
    Ok(())
}

pub fn make_work_dir(config: &MasterConfig) -> Result<(), Error> {
    std::fs::create_dir_all(&config.work_dir).map_err(|err| {
        Error::Start(format!("cannot make {}: {err}; {}", config.work_dir.display(), types::remedy(&err)))
    })
}
