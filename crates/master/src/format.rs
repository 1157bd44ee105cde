//! Makes the directories of a new cluster's master.

use crate::config::{MasterConfig, Metastore};
use crate::error::Error;
use journal::disk::RealDisk;
use journal::{SegmentLog, SegmentOptions};
use rpc::ClusterKey;
use store::{DirDisk, HeapStore, RocksStore};
use types::{ClusterId, Entropy};

/// Writes an empty log, an empty database and, if there is none, the cluster's key. Returns the new cluster's id.
///
/// Errors: a directory that is not empty (unless `force`, which removes an older log and database), not writable, or on a
/// full disk, each in one sentence. Nothing is served by it: the first start makes the namespace.
pub fn format(config: &MasterConfig, entropy: &dyn Entropy, force: bool) -> Result<ClusterId, Error> {
    let cluster = ClusterId(entropy.next_u128());
    let start = |what: &str, err: &dyn std::error::Error| Error::Start(format!("{what}: {}", types::sentence(err)));
    if force && config.metastore_dir.exists() {
        std::fs::remove_dir_all(&config.metastore_dir)
            .map_err(|err| start(&format!("remove {}", config.metastore_dir.display()), &err))?;
    }
    let options = SegmentOptions { segment_bytes: config.segment_bytes };
    SegmentLog::format(&RealDisk, &config.journal_dir, cluster, options, force)
        .map_err(|err| start("format the journal", &err))?;
    match config.metastore {
        Metastore::Rocks => RocksStore::format(&config.metastore_dir, cluster)?,
        Metastore::Heap => {
            let disk = DirDisk::open(&config.metastore_dir)
                .map_err(|err| start(&format!("open {}", config.metastore_dir.display()), &err))?;
            HeapStore::format(&disk, cluster)?;
        }
    }
    if !config.key_file.exists() {
        ClusterKey::create(&config.key_file).map_err(|err| start("make the cluster's key", &err))?;
    }
    std::fs::create_dir_all(&config.work_dir).map_err(|err| {
        Error::Start(format!("cannot make {}: {err}; {}", config.work_dir.display(), types::remedy(&err)))
    })?;
    Ok(cluster)
}
