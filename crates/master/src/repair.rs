//! Repairs the database of a stopped master that is alone.

use crate::config::{MasterConfig, Metastore};
use crate::error::Error;
use crate::fsck::{Finding, Fsck};
use crate::peers::Group;
use crate::server::open_log;
use store::{Repaired, RocksStore};

/// Findings kept; of more only the number.
const KEPT: usize = 10_000;

/// What was saved, and whether it fits together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairedMetastore {
    pub repaired: Repaired,
    /// What a look through all of it found wrong, the first of it, and how much that is together.
    pub wrong: Vec<Finding>,
    pub wrong_count: u64,
}

/// Puts a fresh database with all that can be read in place of this master's, which must not run, and looks through it as
/// [`Fsck::look`] does.
///
/// - `progress`: told how many records that look has seen.
/// - Errors: one sentence each for a master that runs, one of several (its state is brought back from another one), a database
///   in memory, a log or a database that cannot be read at all. Cost: reads and writes the database once, then looks at each
///   record.
pub fn repair_metastore(config: &MasterConfig, progress: impl FnMut(u64)) -> Result<RepairedMetastore, Error> {
    let dir = config.metastore_dir.display();
    // Held until the end: no master can start meanwhile.
    let (_log, recovered) = open_log(config, None)?;
    let group = Group::open(&config.journal_dir).map_err(|err| Error::Start(types::sentence(&err)))?;
    if config.group.is_some() || group.is_some() {
        return Err(Error::Start(format!(
            "the metadata database at {dir} belongs to one of several masters, and what a repair cannot save the others have: \
             format it with `goosefs formatMaster --force --join`, start it, and run `goosefs fsadmin journal quorum replace` \
             with its address"
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
    let repaired = RocksStore::repair(&config.metastore_dir, recovered.cluster)?;
    let (mut wrong, mut wrong_count) = (Vec::new(), 0);
    let keep = |finding: &Finding| {
        wrong_count += 1;
        if wrong.len() < KEPT {
            wrong.push(finding.clone());
        }
    };
    Fsck::open(config)?.look(keep, progress)?;
    Ok(RepairedMetastore { repaired, wrong, wrong_count })
}
