//! The files of one master for whatever moves whole snapshots: as the product has them in two directories.
//!
//! Is:     [`Home`], what an installation does with files; [`Basket`], where a snapshot gathers before that.
//! Owns:   nothing; the disks are the machine's.

use crate::database::FileDisk;
use journal::disk::SimDisk;
use master::rig::{Arrivals, Files, InstallError, SENT};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use store::HeapDisk;

/// Where the log is.
pub const JOURNAL: &str = "/journal";
/// The only file beside the log.
const INSTALL: &str = "install";

/// Clones are the same files.
#[derive(Clone)]
pub struct Home {
    pub log: SimDisk,
    pub metastore: FileDisk,
    incoming: FileDisk,
    records: FileDisk,
}

impl Home {
    /// Of one machine: `metastore` is the directory of its database.
    pub fn new(log: SimDisk, metastore: FileDisk) -> Home {
        let incoming = metastore.beside(&metastore.place().join("incoming"));
        let records = metastore.beside(Path::new(JOURNAL));
        Home { log, metastore, incoming, records }
    }

    /// Where what is fetched gathers.
    pub fn basket(&self) -> Basket {
        Basket { incoming: self.incoming.clone(), unsynced: BTreeMap::new(), open: String::new() }
    }

    /// Where a checkpoint of this name lies.
    pub fn sent(&self, id: &str) -> PathBuf {
        self.metastore.place().join(SENT).join(id)
    }

    /// All directories but the log's, for a crash.
    pub fn dirs(&self) -> [&FileDisk; 3] {
        [&self.metastore, &self.incoming, &self.records]
    }

    /// Whether an installation was begun and is not done.
    pub fn is_installing(&self) -> bool {
        self.records.read(INSTALL).is_ok()
    }
}

fn failed(verb: &'static str, disk: &FileDisk, name: &str) -> impl FnOnce(io::Error) -> InstallError {
    let path = disk.place().join(name);
    move |source| InstallError::Io { verb, path, source }
}

fn length(disk: &FileDisk, name: &str) -> Result<Option<u64>, InstallError> {
    match disk.read(name) {
        Ok(bytes) => Ok(Some(u64::try_from(bytes.len()).expect("short"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", disk, name)(error)),
    }
}

fn remove_all(disk: &FileDisk) -> Result<(), InstallError> {
    let names = disk.list().map_err(failed("list", disk, ""))?;
    names.iter().try_for_each(|name| disk.remove(name).map_err(failed("remove", disk, name)))
}

impl Files for Home {
    type Disk = SimDisk;

    fn log(&self) -> (SimDisk, &Path) {
        (self.log.clone(), Path::new(JOURNAL))
    }

    fn record(&self) -> Result<Option<String>, InstallError> {
        match self.records.read(INSTALL) {
            Ok(bytes) => Ok(Some(String::from_utf8(bytes).expect("what was written"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &self.records, INSTALL)(error)),
        }
    }

    fn set_record(&self, text: &str) -> Result<(), InstallError> {
        self.records.replace(INSTALL, text.as_bytes()).map_err(failed("write", &self.records, INSTALL))
    }

    fn forget_record(&self) -> Result<(), InstallError> {
        if self.is_installing() {
            self.records.remove(INSTALL).map_err(failed("remove", &self.records, INSTALL))?;
        }
        self.records.sync();
        Ok(())
    }

    fn arrived(&self, name: &str) -> Result<Option<u64>, InstallError> {
        length(&self.incoming, name)
    }

    fn placed(&self, name: &str) -> Result<Option<u64>, InstallError> {
        length(&self.metastore, name)
    }

    fn move_up(&self, name: &str) -> Result<(), InstallError> {
        let bytes = match self.incoming.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(failed("read", &self.incoming, name))?,
        };
        self.metastore.replace(name, &bytes).map_err(failed("move", &self.incoming, name))?;
        self.incoming.remove(name).map_err(failed("move", &self.incoming, name))
    }

    fn settle(&self) -> Result<(), InstallError> {
        self.metastore.sync();
        Ok(())
    }

    fn clear(&self) -> Result<(), InstallError> {
        remove_all(&self.metastore)?;
        self.settle()
    }

    fn drop_arrived(&self) -> Result<(), InstallError> {
        remove_all(&self.incoming)
    }

    /// Nobody finds them again: each has a name of its own, and whoever made it is gone.
    fn drop_sent(&self) -> Result<(), InstallError> {
        Ok(())
    }
}

/// What has arrived of a snapshot. What was not synced goes with the process: a start does away with it in any case.
pub struct Basket {
    incoming: FileDisk,
    unsynced: BTreeMap<String, Vec<u8>>,
    open: String,
}

impl Basket {
    fn file(&mut self) -> &mut Vec<u8> {
        self.unsynced.get_mut(&self.open).expect("a file was opened")
    }
}

impl Arrivals for Basket {
    fn clear(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        self.unsynced.clear();
        let names = self.incoming.list();
        let removed = names.and_then(|names| names.iter().try_for_each(|name| self.incoming.remove(name)));
        std::future::ready(removed)
    }

    fn open(&mut self, name: &str) -> impl Future<Output = io::Result<u64>> + Send {
        name.clone_into(&mut self.open);
        let there = self.incoming.read(name).unwrap_or_default();
        let file = self.unsynced.entry(name.to_owned()).or_insert(there);
        std::future::ready(Ok(u64::try_from(file.len()).expect("short")))
    }

    fn append(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send {
        self.file().extend_from_slice(bytes);
        std::future::ready(Ok(()))
    }

    fn sync(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        let bytes = self.file().clone();
        std::future::ready(self.incoming.replace(&self.open, &bytes))
    }

    fn settle(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        self.incoming.sync();
        std::future::ready(Ok(()))
    }
}
