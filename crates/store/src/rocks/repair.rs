//! Saves what can be read of a damaged database.
//!
//! Is:     a copy of every readable record into a fresh database, which then takes the old one's place. A table with a bad
//!         block loses the records of that block, no more. Without a manifest the tables that are there are taken for all.
//! Owns:   `repairing`, `repaired` and `rescue` in the database's directory while it runs, and `damaged`, where the old files stay.
//! Never:  changes or removes a byte of the old files; says that what it saved belongs together: a recount does.

use super::{RocksConfig, RocksStore, Tuning};
use crate::error::{check_dir, damaged, from_io, from_rocks};
use crate::{durable, live, marker};
use meta::{Family, Store as _, StoreError};
use rocksdb::{DB, ReadOptions, WriteBatch};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use types::{ClusterId, ErrorKind, LogIndex};

/// Where the fresh database is made, its name when the old files are out of its way, where tables without a manifest are
/// opened, and where the old files go.
const REPAIRING: &str = "repairing";
const REPAIRED: &str = "repaired";
const RESCUE: &str = "rescue";
const DAMAGED: &str = "damaged";
/// Records written at once.
const STEP: usize = 1_000;

/// What was saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repaired {
    pub applied: LogIndex,
    pub records: u64,
    /// Stretches of keys that could not be read, in order.
    pub gaps: Vec<Gap>,
    /// The manifest could not be used: files that were removed already may have come back.
    pub without_manifest: bool,
    /// Where the old files are.
    pub kept: PathBuf,
}

/// Keys of one family between which nothing could be read: after the first, before the second.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    pub family: Family,
    pub after: Vec<u8>,
    /// None: up to the end of the family.
    pub before: Option<Vec<u8>>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records of {} after {}", self.family.name(), Shown(&self.after))?;
        match &self.before {
            Some(before) => write!(f, " and before {}", Shown(before)),
            None => f.write_str(", up to the last"),
        }
    }
}

/// A key for people: the number it begins with, and what follows.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_first_chunk() {
            Some((number, [])) => write!(f, "{}", u64::from_be_bytes(*number)),
            Some((number, rest)) => write!(f, "{} {}", u64::from_be_bytes(*number), rest.escape_ascii()),
            None => write!(f, "{:?}", self.0.escape_ascii().to_string()),
        }
    }
}

impl RocksStore {
    /// Puts a fresh database with all that can be read in place of the one in `dir`, which nobody may have open. What a crash
    /// cut short is finished by calling it again.
    ///
    /// Errors: as those of [`RocksStore::open`] but for damage; `AlreadyExists` while an earlier repair's old files are there;
    /// `Corrupt` if the applied index cannot be read: nothing could be built on what else there is. Then nothing has changed. Of
    /// a run that was cut short after it had said so, what was left out is not known any more.
    /// Cost: reads and writes all of it once; as much room again.
    pub fn repair(dir: &Path, cluster: ClusterId) -> Result<Repaired, StoreError> {
        check_dir(dir)?;
        let place = Place::new(dir);
        let config = RocksConfig::default();
        if place.finish_earlier()? {
            let store = RocksStore::open(dir, &config, cluster)?;
            let (applied, records) = (store.applied(), store.usage().keys());
            return Ok(Repaired { applied, records, gaps: Vec::new(), without_manifest: false, kept: place.kept });
        }
        if place.kept.exists() {
            let what = format!(
                "{} holds what an earlier repair left: move it to another disk, or remove it, and run this again",
                place.kept.display()
            );
            return Err(StoreError { what, kind: ErrorKind::AlreadyExists });
        }
        let (old, without_manifest) = match RocksStore::open_tuned(dir, Tuning::new(&config, false).still(), cluster) {
            Ok(old) => (old, false),
            Err(error) if error.kind == ErrorKind::Corrupt => (place.rescue(cluster, &error)?, true),
            Err(error) => return Err(error),
        };
        durable::remove_dir(&place.fresh).map_err(place.failed("empty", &place.fresh))?;
        RocksStore::format(&place.fresh, cluster)?;
        let fresh = RocksStore::open(&place.fresh, &config, cluster)?;
        let (mut records, mut gaps) = (0, Vec::new());
        for family in Family::ALL {
            records += old.salvage(family, &fresh, &mut gaps)?;
        }
        let applied = fresh.stored_applied()?;
        if applied == LogIndex(0) && records > 0 {
            let what = format!("the applied index of the metadata database at {} is lost", dir.display());
            return Err(damaged(what));
        }
        fresh.flush()?;
        drop((old, fresh));
        place.swap()?;
        Ok(Repaired { applied, records, gaps, without_manifest, kept: place.kept })
    }

    /// Copies what can be read of a family. Returns how many records.
    fn salvage(&self, family: Family, into: &RocksStore, gaps: &mut Vec<Gap>) -> Result<u64, StoreError> {
        let (mut from, mut records) = (Vec::new(), 0);
        loop {
            let (mut last, mut batch) = (from.clone(), WriteBatch::default());
            let mut cursor = self.db.raw_iterator_cf_opt(self.family(family), whole_family());
            cursor.seek(&from);
            while let Some((key, value)) = cursor.item() {
                // What follows from other records is made anew.
                if !live::is_derived(family, key) {
                    batch.put_cf(into.family(family), key, value);
                    records += 1;
                }
                last.clear();
                last.extend_from_slice(key);
                if batch.len() >= STEP {
                    into.write(std::mem::take(&mut batch))?;
                }
                cursor.next();
            }
            into.write(batch)?;
            let Err(error) = cursor.status() else { return Ok(records) };
            tracing::warn!(family = family.name(), after = %last.escape_ascii(), %error, "records cannot be read and are left out");
            let next = self.readable_after(family, &last)?;
            gaps.push(Gap { family, after: last, before: next.clone() });
            match next {
                Some(next) => from = next,
                None => return Ok(records),
            }
        }
    }

    /// Where reading can go on behind a bad block that follows `key`: to the first table's end from which it can, then back,
    /// by halves.
    fn readable_after(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let files =
            self.db.live_files().map_err(|error| from_rocks("cannot list the tables of the database", &error))?;
        let own = files.into_iter().filter(|file| file.column_family_name == family.name());
        let bounds = own.flat_map(|file| [file.start_key, file.end_key.map(|end| [&end[..], &[0]].concat())]);
        let mut bounds: Vec<Vec<u8>> = bounds.flatten().filter(|bound| bound.as_slice() > key).collect();
        bounds.sort();
        let Some(bound) = bounds.into_iter().find(|bound| self.is_readable_from(family, bound)) else {
            return Ok(None);
        };
        // All keys between the two begin with what these have in common: what follows that is told apart as a number.
        let common = key.iter().zip(&bound).take_while(|(one, other)| one == other).count();
        let at = |number: u128| [&bound[..common], &number.to_be_bytes()].concat();
        let (mut low, mut high) = (number(&key[common..]), number(&bound[common..]));
        let mut next = bound.clone();
        while high.saturating_sub(low) > 1 {
            let middle = low + (high - low) / 2;
            if self.is_readable_from(family, &at(middle)) {
                (high, next) = (middle, at(middle));
            } else {
                low = middle;
            }
        }
        Ok(Some(next))
    }

    fn is_readable_from(&self, family: Family, key: &[u8]) -> bool {
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(family), whole_family());
        cursor.seek(key);
        cursor.status().is_ok()
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let dir = self.dir.display();
        self.db
            .write_opt(batch, &self.unlogged)
            .map_err(|error| from_rocks(format_args!("cannot write the repaired metadata database at {dir}"), &error))
    }
}

fn whole_family() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_total_order_seek(true);
    options.fill_cache(false);
    options
}

/// Its first bytes as a number, zeros behind them.
fn number(bytes: &[u8]) -> u128 {
    let mut first = [0; size_of::<u128>()];
    let length = bytes.len().min(first.len());
    first[..length].copy_from_slice(&bytes[..length]);
    u128::from_be_bytes(first)
}

/// The directories of a repair.
struct Place<'a> {
    dir: &'a Path,
    kept: PathBuf,
    fresh: PathBuf,
    ready: PathBuf,
    rescue: PathBuf,
}

impl<'a> Place<'a> {
    fn new(dir: &'a Path) -> Place<'a> {
        let [kept, fresh, ready, rescue] = [DAMAGED, REPAIRING, REPAIRED, RESCUE].map(|name| dir.join(name));
        Place { dir, kept, fresh, ready, rescue }
    }

    /// Ends a swap that a crash cut short; whether there was one.
    fn finish_earlier(&self) -> Result<bool, StoreError> {
        if !self.ready.exists() {
            let is_between = |place: &Path| place.join(marker::NAME).exists();
            if is_between(self.dir) || !is_between(&self.fresh) || !is_between(&self.kept) {
                return Ok(false);
            }
            self.move_away()?;
        }
        self.move_up()?;
        Ok(true)
    }

    fn failed(&self, verb: &'static str, path: &Path) -> impl Fn(std::io::Error) -> StoreError {
        let what = format!("cannot {verb} {} for the repair of the metadata database", path.display());
        move |error| from_io(&what, &error)
    }

    /// Opens the tables without the manifest that does not fit them.
    fn rescue(&self, cluster: ClusterId, why: &StoreError) -> Result<RocksStore, StoreError> {
        marker::check(self.dir, fs::read(self.dir.join(marker::NAME)), marker::Kind::Rocks, cluster)?;
        tracing::warn!(%why, "the manifest of the metadata database is of no use: its tables are taken for all there is");
        durable::remove_dir(&self.rescue).map_err(self.failed("empty", &self.rescue))?;
        fs::create_dir(&self.rescue).map_err(self.failed("make", &self.rescue))?;
        for path in self.files(self.dir)? {
            let name = path.file_name().expect("a file has one");
            if path.extension().is_some_and(|kind| kind == "sst") {
                fs::hard_link(&path, self.rescue.join(name)).map_err(self.failed("link", &path))?;
            }
        }
        let what = format!("cannot read the tables of the metadata database at {}", self.dir.display());
        let tuning = Tuning::new(&RocksConfig::default(), false).still();
        DB::repair(&tuning.database(), &self.rescue).map_err(|error| from_rocks(&what, &error))?;
        RocksStore::start(&self.rescue, tuning, cluster, |dir, tuning| {
            let mut options = tuning.database();
            // Of a family without a table there is no trace.
            options.create_missing_column_families(true);
            DB::open_cf_descriptors(&options, dir, tuning.families()).map_err(|error| from_rocks(&what, &error))
        })
    }

    fn files(&self, dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let failed = self.failed("list", dir);
        let entries = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(&failed)?;
        let mut files: Vec<PathBuf> =
            entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
        Ok(files)
    }

    /// The fresh database takes the old one's place. From when the old marker is gone until the new one is there, last of all,
    /// nothing opens it, and [`Place::finish_earlier`] goes on.
    fn swap(&self) -> Result<(), StoreError> {
        durable::remove_dir(&self.rescue).map_err(self.failed("remove", &self.rescue))?;
        fs::create_dir(&self.kept).map_err(self.failed("make", &self.kept))?;
        let marker = self.dir.join(marker::NAME);
        durable::rename(&marker, &self.kept.join(marker::NAME)).map_err(self.failed("move", &marker))?;
        self.move_away()?;
        self.move_up()
    }

    /// The old files.
    fn move_away(&self) -> Result<(), StoreError> {
        for path in self.files(self.dir)? {
            let name = path.file_name().expect("a file has one");
            fs::rename(&path, self.kept.join(name)).map_err(self.failed("move", &path))?;
        }
        durable::sync_parent(&self.kept.join(marker::NAME)).map_err(self.failed("sync", &self.kept))?;
        durable::rename(&self.fresh, &self.ready).map_err(self.failed("move", &self.fresh))
    }

    /// The fresh files, the marker last.
    fn move_up(&self) -> Result<(), StoreError> {
        let marker = self.ready.join(marker::NAME);
        for path in self.files(&self.ready)?.into_iter().filter(|path| *path != marker) {
            let name = path.file_name().expect("a file has one");
            fs::rename(&path, self.dir.join(name)).map_err(self.failed("move", &path))?;
        }
        if marker.exists() {
            durable::rename(&marker, &self.dir.join(marker::NAME)).map_err(self.failed("move", &marker))?;
        }
        durable::remove_dir(&self.ready).map_err(self.failed("remove", &self.ready))
    }
}

#[cfg(test)]
mod tests;
