//! Looks through the directories of a stopped master for what does not fit together, and repairs what can be.
//!
//! Is:     an audit of the database beside its journal, under the database's lock; repairs are commits of their own, each
//!         told to its caller before it is made.
//! Owns:   the database while it is open.
//! Never:  repairs one of several masters: its records would be others than theirs under the same log. Writes to the journal.
//!
//! Why it is built so: docs/design/0012-audit-and-fsck.md.

use crate::config::{MasterConfig, Metastore};
use crate::error::Error;
use crate::install::{Dirs, Files as _};
use crate::peers::Group;
use crate::server::open_state;
use bytes::Bytes;
use meta::{Audit, Change, Changes, Entry, Family, Fault, Namespace, Record as _, Store};
use serde::Serialize;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use store::{DirDisk, HeapStore, RocksStore};
use types::{ClusterId, ContainerId, ErrorKind, InodeId, LogIndex};

/// Records looked at between two reports.
const STEP: usize = 1_000;
/// Looks through everything while it is repaired: what one repair brings to light the next one finds.
const PASSES: u32 = 8;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// One word a kind.
    pub kind: &'static str,
    /// What is wrong, as a sentence without its full stop.
    pub what: String,
    /// What a repair does, or what to do without one.
    pub advice: String,
    pub is_repairable: bool,
}

impl From<&Fault> for Finding {
    fn from(fault: &Fault) -> Finding {
        Finding {
            kind: fault.kind(),
            what: fault.to_string(),
            advice: fault.advice().to_owned(),
            is_repairable: fault.is_repairable(),
        }
    }
}

/// What one commit of repairs changed.
#[derive(Serialize, Debug)]
pub struct Altered {
    /// What was wrong: kind and sentence.
    pub faults: Vec<(&'static str, String)>,
    pub changes: Vec<AlteredRecord>,
}

/// One record, in hexadecimal digits; None: there was, or is, none.
#[derive(Serialize, Debug)]
pub struct AlteredRecord {
    pub family: &'static str,
    pub key: String,
    pub was: Option<String>,
    pub is: Option<String>,
}

/// The opened directories of a master that does not run.
pub struct Fsck {
    store: Arc<dyn Store>,
    cluster: ClusterId,
    is_member: bool,
    journal: Journal,
}

/// What the journal says about itself and the database.
#[derive(Default)]
struct Journal {
    findings: Vec<Finding>,
    notes: Vec<String>,
    /// The highest ids that an entry came with.
    taken: (InodeId, ContainerId),
    is_whole: bool,
}

impl Fsck {
    /// Takes the lock of the database and reads the journal.
    ///
    /// Errors: one sentence each for directories that are missing or were never formatted, in use by a master, of a newer
    /// release, or so damaged that they cannot be opened; a snapshot that waits to be installed. Cost: reads the journal once.
    pub fn open(config: &MasterConfig) -> Result<Fsck, Error> {
        let files = Dirs { journal: &config.journal_dir, metastore: &config.metastore_dir };
        if files.record().map_err(start)?.is_some() {
            return Err(Error::Start(format!(
                "a snapshot waits in {} to take the place of this state; start the master, which installs it, and stop it again",
                config.metastore_dir.display()
            )));
        }
        let cluster = cluster_of(config)?;
        let store = open_state(config, &config.metastore_dir, cluster)?;
        let is_member = Group::open(&config.journal_dir).map_err(start)?.is_some();
        let journal = Journal::read(&config.journal_dir, cluster, store.applied());
        Ok(Fsck { store, cluster, is_member, journal })
    }

    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The last entry in the database.
    pub fn applied(&self) -> LogIndex {
        self.store.applied()
    }

    /// What is worth knowing and wrong in no way.
    pub fn notes(&self) -> &[String] {
        &self.journal.notes
    }

    /// Tells everything that is wrong to `found`, as it is come upon, and to `progress` how many records were looked at.
    /// Returns that number. Changes nothing.
    ///
    /// Errors: the database cannot be read. Cost: some lookups for each record, memory for none of them.
    pub fn look(&self, mut found: impl FnMut(&Finding), mut progress: impl FnMut(u64)) -> Result<u64, Error> {
        self.journal.findings.iter().for_each(&mut found);
        let mut audit = Audit::default();
        while !audit.is_done() {
            let faults = audit.step(&*self.store, STEP)?;
            faults.iter().map(Finding::from).for_each(|finding| found(&finding));
            progress(audit.looked_at());
        }
        self.live()?.iter().for_each(found);
        Ok(audit.looked_at())
    }

    /// Where the bitmap of containers that live is wrong.
    fn live(&self) -> Result<Option<Finding>, Error> {
        let advice = "a repair drops the bitmap: the next start makes it from the containers".to_owned();
        let what = match store::live_drift(&*self.store) {
            Ok(drift) => match &drift[..] {
                [] => return Ok(None),
                [first, rest @ ..] => {
                    format!("the bitmap of containers that live is wrong: {first}, and {} more", rest.len())
                }
            },
            Err(err) if err.kind == ErrorKind::Corrupt => err.what,
            Err(err) => return Err(err.into()),
        };
        Ok(Some(Finding { kind: "live-drift", what, advice, is_repairable: true }))
    }

    /// Why nothing here may be repaired; None: it may.
    pub fn objection(&self) -> Option<String> {
        if self.is_member {
            return Some(
                "this is one of several masters: repaired alone, its records would be others than theirs under the same \
                 log. Repair them all through the log, with `goosefs fsadmin doctor metadata --repair` while they run; or, \
                 if only this one is damaged, format it with `goosefs formatMaster --force --join`, start it, and run \
                 `goosefs fsadmin journal quorum replace` with its address"
                    .to_owned(),
            );
        }
        (!self.journal.is_whole).then(|| {
            "the journal cannot be read to its end, so nobody knows which ids were given out; restore a backup"
                .to_owned()
        })
    }

    /// Repairs what can be, in as many looks through everything as that takes. Returns how many findings were repaired.
    ///
    /// - `keep`: told what a commit will change, before it is made; it is not made if that fails.
    /// - Errors: see [`Fsck::objection`]; what `keep` says; the database's. What was committed before stays.
    pub fn repair(
        &self,
        mut keep: impl FnMut(&Altered) -> io::Result<()>,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, Error> {
        if let Some(why) = self.objection() {
            return Err(Error::Refused(why));
        }
        let mut repaired = 0;
        if let Some(finding) = self.live()? {
            self.commit(vec![(finding.kind, finding.what)], Vec::new(), &mut keep)?;
            repaired += 1;
        }
        let mut namespace = Namespace::open(&*self.store)?;
        for _ in 0..PASSES {
            let (mut audit, before) = (Audit::default(), repaired);
            while !audit.is_done() {
                let mut faults = audit.step(&*self.store, STEP)?;
                faults.retain(Fault::is_repairable);
                if !faults.is_empty() {
                    repaired += self.mend(&mut namespace, &faults, &mut keep)?;
                }
                progress(audit.looked_at());
            }
            if repaired == before {
                break;
            }
        }
        self.store.flush()?;
        Ok(repaired)
    }

    fn mend(
        &self,
        namespace: &mut Namespace,
        faults: &[Fault],
        keep: &mut impl FnMut(&Altered) -> io::Result<()>,
    ) -> Result<u64, Error> {
        let (changes, outcomes) = namespace.mend(&*self.store, faults, self.journal.taken)?;
        let mended: Vec<(&'static str, String)> = faults
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(fault, _)| (fault.kind(), fault.to_string()))
            .collect();
        let count = u64::try_from(mended.len()).expect("usize is at most 64 bits");
        if count > 0 {
            self.commit(mended, changes.changes, keep)?;
        }
        Ok(count)
    }

    fn commit(
        &self,
        faults: Vec<(&'static str, String)>,
        mut changes: Vec<Change>,
        keep: &mut impl FnMut(&Altered) -> io::Result<()>,
    ) -> Result<(), Error> {
        // It would be of this index still, and not know of what changes.
        changes.push(store::forget_live());
        let mut records = Vec::with_capacity(changes.len());
        for change in &changes {
            let was = self.store.get(change.family, &change.key)?;
            if was != change.value {
                let (key, was, is) = (hex(&change.key), was.as_ref().map(hex), change.value.as_ref().map(hex));
                records.push(AlteredRecord { family: Family::name(change.family), key, was, is });
            }
        }
        keep(&Altered { faults, changes: records })
            .map_err(|err| Error::Start(format!("the record of what is changed cannot be written: {err}")))?;
        Ok(self.store.commit(&Changes { changes, applied: self.store.applied() })?)
    }
}

fn hex(bytes: &Bytes) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn start(err: impl std::error::Error) -> Error {
    Error::Start(types::sentence(&err))
}

/// Whose database it is, by its own word.
fn cluster_of(config: &MasterConfig) -> Result<ClusterId, Error> {
    let dir = &config.metastore_dir;
    Ok(match config.metastore {
        Metastore::Rocks => RocksStore::cluster_of(dir)?,
        Metastore::Heap => {
            let disk = DirDisk::open(dir).map_err(|err| Error::Start(format!("open {}: {err}", dir.display())))?;
            HeapStore::cluster_of(&disk)?
        }
    })
}

impl Journal {
    fn read(dir: &Path, cluster: ClusterId, applied: LogIndex) -> Journal {
        let mut journal = Journal { is_whole: true, ..Journal::default() };
        let head = match journal::head(dir) {
            Ok(head) => head,
            Err(err) => {
                journal.unreadable(types::sentence(&err));
                return journal;
            }
        };
        if head.cluster != cluster {
            let what = format!("the journal belongs to {}, the metadata to {cluster}", head.cluster);
            journal.name(
                "journal-foreign",
                what,
                "correct goosefs.master.journal.folder or goosefs.master.metastore.dir",
            );
        }
        let mut last = LogIndex(head.first.0.saturating_sub(1));
        let mut odd = None;
        let looked = journal::look(dir, |batch| {
            for entry in batch.entries {
                last = entry.index;
                if entry.kind != journal::EntryKind::Normal || entry.payload.is_empty() {
                    continue;
                }
                match Entry::decode(&entry.payload) {
                    Ok(decoded) => journal.note_ids(&decoded),
                    Err(err) => {
                        odd = Some(format!("{} of the journal: {}", entry.index, err.what));
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        });
        match (looked, odd) {
            (_, Some(what)) => journal.unreadable(what),
            (Err(err), None) => journal.unreadable(types::sentence(&err)),
            (Ok(cut), None) => journal.notes.extend(cut.map(|cut| {
                let (file, at) = (cut.path.display(), cut.offset);
                format!("the batch at byte {at} of {file} is not whole: it was never acknowledged, the next start cuts it off")
            })),
        }
        if head.first.0 > applied.0 + 1 {
            let what = format!("the journal begins with {}, and the metadata end with {applied}", head.first);
            journal.name("journal-gap", what, "what lies between is lost: restore a backup, or replace this master");
        }
        if journal.is_whole && applied > last {
            let what = format!("the journal ends with {last}, before the metadata, which hold {applied}");
            journal.name(
                "journal-behind",
                what,
                "the journal is not the one it was: put that back, or restore a backup",
            );
        }
        journal
    }

    fn name(&mut self, kind: &'static str, what: String, advice: &str) {
        self.findings.push(Finding { kind, what, advice: advice.to_owned(), is_repairable: false });
    }

    fn unreadable(&mut self, what: String) {
        self.is_whole = false;
        self.name("journal-unreadable", what, "restore a backup, or replace this master if it is one of several");
    }

    fn note_ids(&mut self, entry: &Entry) {
        let ids = entry.ids;
        if ids.count > 0 {
            let more = u64::from(ids.count - 1);
            let (inode, container) = self.taken;
            self.taken = (
                inode.max(InodeId(ids.inode.0.saturating_add(more))),
                container.max(ContainerId(ids.container.0.saturating_add(more))),
            );
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
