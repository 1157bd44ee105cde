//! Repairs the database of a stopped master that is alone.

use crate::config::{MasterConfig, Metastore};
use crate::error::Error;
use crate::server::open_log;
use meta::Namespace;
use store::{Repaired, RocksConfig, RocksStore};

/// Records up to which the namespace is recounted: that holds all of it in memory.
const RECOUNTED: u64 = 10_000_000;

/// What was saved, and whether it fits together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairedMetastore {
    pub repaired: Repaired,
    /// What a recount found wrong; None: it has too many records for one.
    pub wrong: Option<Vec<String>>,
}

/// Puts a fresh database with all that can be read in place of this master's, which must not run.
///
/// Errors: one sentence each for a master that runs, one of several (its state is brought back from another one), a database
/// in memory, a log or a database that cannot be read at all. Cost: reads and writes the database once.
pub fn repair_metastore(config: &MasterConfig) -> Result<RepairedMetastore, Error> {
    let dir = config.metastore_dir.display();
    if config.group.is_some() {
        return Err(Error::Start(format!(
            "the metadata database at {dir} belongs to one of several masters, and what a repair cannot save the others have: \
             remove this master from the group, format it with `goosefs formatMaster --force --join`, start it, and take it in \
             again with `goosefs fsadmin journal quorum add`"
        )));
    }
    match config.metastore {
        Metastore::Rocks => {}
        Metastore::Heap => {
            let why =
                format!("goosefs.master.metastore is HEAP: {dir} is read whole at each start and needs no repair");
            return Err(Error::Start(why));
        }
    }
    // Held until the end: no master can start meanwhile.
    let (_log, recovered) = open_log(config, None)?;
    let repaired = RocksStore::repair(&config.metastore_dir, recovered.cluster)?;
    let store = RocksStore::open(&config.metastore_dir, &RocksConfig::default(), recovered.cluster)?;
    let wrong = match repaired.records <= RECOUNTED {
        true => Some(Namespace::open(&store)?.check_invariants(&store)?),
        false => None,
    };
    Ok(RepairedMetastore { repaired, wrong })
}
