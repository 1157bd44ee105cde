//! What a directory holds when the worker starts, and what a crash left there.

use super::io::BlockIo;
use super::layout::{Copy, Dir, Part, SHARDS, parse_name};
use super::sidecar::{SIDECAR_BYTES_MAX, Sidecar};
use crate::error::WorkerError;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tier::Class;
use tracing::{info, warn};

/// Blocks with an unreadable sidecar kept for a person to look at, a directory.
const DAMAGED_MAX: usize = 1000;

/// One block found whole enough to be used.
pub struct FoundBlock {
    pub copy: Copy,
    pub class: Class,
    pub length: u64,
    pub resident_bytes: u64,
}

/// The answer of a scan.
#[derive(Default)]
pub struct Scan {
    pub blocks: Vec<FoundBlock>,
    pub serial_max: u64,
    /// Files of streams and fetches that were cut off.
    pub swept: u64,
    /// Blocks whose sidecar could not be read.
    pub damaged: u64,
}

#[derive(Default)]
struct Pair {
    data_bytes: Option<u64>,
    has_meta: bool,
}

/// Reads all sidecars of a directory, removes what was never committed. Cost: one listing a shard and one small read a
/// block; memory for one shard's names and the answer.
pub fn scan(io: &dyn BlockIo, dir: &Dir) -> Result<Scan, WorkerError> {
    let mut found = Scan::default();
    for shard in 0..SHARDS {
        let path = dir.shard(shard);
        io.make_dir(&path).map_err(|error| WorkerError::disk("create", &path, error))?;
        let names = io.list(&path).map_err(|error| WorkerError::disk("list", &path, error))?;
        let mut pairs: BTreeMap<Copy, Pair> = BTreeMap::new();
        for entry in names.into_iter().filter(|entry| !entry.is_dir) {
            match parse_name(&entry.name) {
                Some((copy, Part::Data)) => pairs.entry(copy).or_default().data_bytes = Some(entry.length),
                Some((copy, Part::Meta)) => pairs.entry(copy).or_default().has_meta = true,
                Some((copy, Part::Unfinished)) => {
                    found.serial_max = found.serial_max.max(copy.serial);
                    sweep(io, path.join(&entry.name), &mut found);
                }
                None => warn!(file = %path.join(&entry.name).display(), "not a file of ours, left alone"),
            }
        }
        for (copy, pair) in pairs {
            found.serial_max = found.serial_max.max(copy.serial);
            judge(io, dir, copy, &pair, &mut found);
        }
    }
    if found.swept > 0 {
        info!(dir = %dir.root.display(), files = found.swept, "removed what was never committed");
    }
    Ok(found)
}

fn judge(io: &dyn BlockIo, dir: &Dir, copy: Copy, pair: &Pair, found: &mut Scan) {
    let (data, meta) = (dir.data(copy), dir.meta(copy));
    let Some(data_bytes) = pair.data_bytes else { return sweep(io, meta, found) };
    if !pair.has_meta {
        return sweep(io, data, found);
    }
    let read = io.read(&meta, SIDECAR_BYTES_MAX).map_err(|error| error.to_string());
    match read.and_then(|bytes| Sidecar::decode(&bytes)) {
        Ok(sidecar) if sidecar.block == copy.block => {
            let short = sidecar.class == Class::Evictable && data_bytes < present_end(&sidecar);
            if short || (sidecar.presence.resident_bytes() == 0 && sidecar.presence.length() > 0) {
                sweep(io, data, found);
                return sweep(io, meta, found);
            }
            found.blocks.push(FoundBlock {
                copy,
                class: sidecar.class,
                length: sidecar.presence.length(),
                resident_bytes: sidecar.presence.resident_bytes(),
            });
        }
        Ok(sidecar) => set_aside(io, dir, copy, &format!("it speaks of {}", sidecar.block), found),
        Err(why) => set_aside(io, dir, copy, &why, found),
    }
}

/// End of the last piece that is here.
fn present_end(sidecar: &Sidecar) -> u64 {
    let last = (0..sidecar.presence.pieces()).rev().find(|piece| sidecar.presence.has(*piece));
    last.map_or(0, |piece| u64::from(piece) * tier::PIECE_BYTES + sidecar.presence.bytes_of(piece))
}

fn sweep(io: &dyn BlockIo, path: PathBuf, found: &mut Scan) {
    found.swept += 1;
    if let Err(error) = io.remove(&path) {
        warn!(file = %path.display(), %error, "cannot remove what was never committed");
    }
}

/// It may have been the only copy, so a person decides.
fn set_aside(io: &dyn BlockIo, dir: &Dir, copy: Copy, why: &str, found: &mut Scan) {
    found.damaged += 1;
    let aside = dir.damaged();
    warn!(block = %copy.block, to = %aside.display(), why, "sidecar cannot be read, block set aside");
    let room = io.make_dir(&aside).and_then(|()| io.list(&aside)).is_ok_and(|names| names.len() < 2 * DAMAGED_MAX);
    for path in [dir.data(copy), dir.meta(copy)] {
        let moved = match path.file_name() {
            Some(name) if room => io.rename(&path, &aside.join(name)),
            Some(_) | None => io.remove(&path),
        };
        if let Err(error) = moved {
            warn!(file = %path.display(), %error, "cannot set a damaged block aside");
        }
    }
}
