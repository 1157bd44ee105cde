//! Names of files in a storage directory, and who the directory belongs to.
//!
//! ```text
//! <dir>/identity.json                 format, worker, cluster
//! <dir>/lock                          held while a worker runs
//! <dir>/blocks/<shard>/<stem>.data    the bytes
//! <dir>/blocks/<shard>/<stem>.meta    the sidecar: what of it is here, checksums
//! <dir>/damaged/                      blocks with an unreadable sidecar that may exist nowhere else
//! ```
//! A stem is `<container>-<index>.<serial>` in hexadecimal. The serial is new for each copy, so that removing an old
//! copy late never hits a new one of the same block. What ends in `.tmp` is being written.

use super::io::BlockIo;
use crate::error::WorkerError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use types::{BlockId, ClusterId, ContainerId, DirIndex, Incarnation, WorkerId};

/// Version of everything in a storage directory.
pub const FORMAT: u32 = 1;
/// Directories below `blocks`.
pub const SHARDS: u64 = 256;
/// An identity file is a few hundred bytes.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// Who a worker is; the same in all its directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Random, made with the worker's first directory.
    pub identity: u128,
    /// None until a master gave one.
    pub worker: Option<WorkerId>,
    /// None until the worker joined one.
    pub cluster: Option<ClusterId>,
    pub incarnation: Incarnation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    identity: String,
    worker: u64,
    cluster: String,
    incarnation: u64,
    /// Of the other fields; the first release wrote none.
    #[serde(skip_serializing_if = "Option::is_none")]
    crc32c: Option<String>,
}

impl IdentityFile {
    fn sum(&self) -> String {
        let IdentityFile { format, identity, worker, cluster, incarnation, crc32c: _ } = self;
        let fields = format!("{format} {identity} {worker} {cluster} {incarnation}");
        format!("{:08x}", crc32c::crc32c(fields.as_bytes()))
    }
}

/// One storage directory.
#[derive(Clone, Debug)]
pub struct Dir {
    pub index: DirIndex,
    pub root: PathBuf,
}

/// One copy of a block on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Copy {
    pub block: BlockId,
    pub serial: u64,
}

/// What a file in a shard is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    Data,
    Meta,
    /// Being written when the worker died.
    Unfinished,
}

impl Dir {
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    pub fn blocks(&self) -> PathBuf {
        self.root.join("blocks")
    }
    pub fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }
    pub fn shard(&self, shard: u64) -> PathBuf {
        self.blocks().join(format!("{shard:02x}"))
    }
    pub fn shard_of(&self, block: BlockId) -> PathBuf {
        self.shard(block.container().0.wrapping_add(block.index()) % SHARDS)
    }
    pub fn data(&self, copy: Copy) -> PathBuf {
        self.shard_of(copy.block).join(format!("{}.data", stem(copy)))
    }
    pub fn meta(&self, copy: Copy) -> PathBuf {
        self.shard_of(copy.block).join(format!("{}.meta", stem(copy)))
    }

    /// Reads who the directory belongs to; None when it is new. Errors: damaged, or of another format.
    pub fn identity(&self, io: &dyn BlockIo) -> Result<Option<Identity>, WorkerError> {
        let path = self.root.join("identity.json");
        let bytes = match io.read(&path, IDENTITY_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(WorkerError::disk("read", &path, error)),
        };
        let damaged = |why: String| WorkerError::Layout {
            why: format!(
                "{} is damaged ({why}); restore it from another directory of this worker, or empty the directory",
                path.display()
            ),
        };
        let file: IdentityFile = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if file.format != FORMAT {
            return Err(WorkerError::Layout {
                why: format!(
                    "{} has format {}, this release knows {FORMAT}; use the release that wrote it, or empty the directory",
                    path.display(),
                    file.format
                ),
            });
        }
        if file.crc32c.as_ref().is_some_and(|sum| *sum != file.sum()) {
            return Err(damaged("its checksum is wrong".into()));
        }
        let hex = |text: &str, what: &str| {
            u128::from_str_radix(text, 16).map_err(|error| damaged(format!("{what} {text:?}: {error}")))
        };
        let cluster = hex(&file.cluster, "cluster")?;
        Ok(Some(Identity {
            identity: hex(&file.identity, "identity")?,
            worker: (file.worker > 0).then_some(WorkerId(file.worker)),
            cluster: (cluster > 0).then_some(ClusterId(cluster)),
            incarnation: Incarnation(file.incarnation),
        }))
    }

    /// Writes who the directory belongs to, durably and in one step.
    pub fn set_identity(&self, io: &dyn BlockIo, identity: &Identity) -> Result<(), WorkerError> {
        let mut file = IdentityFile {
            format: FORMAT,
            identity: format!("{:032x}", identity.identity),
            worker: identity.worker.map_or(0, |worker| worker.0),
            cluster: format!("{:032x}", identity.cluster.map_or(0, |cluster| cluster.0)),
            incarnation: identity.incarnation.0,
            crc32c: None,
        };
        file.crc32c = Some(file.sum());
        let bytes = serde_json::to_vec_pretty(&file).map_err(|error| WorkerError::Bug(error.to_string()))?;
        write_whole(io, &self.root.join("identity.json"), &bytes, Durable::Yes)
    }
}

/// Whether a write waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durable {
    Yes,
    /// A crash may lose it, which its checksum will show.
    No,
}

/// Writes a small file beside its place and renames it there: readers see the old or the new one, whole.
pub fn write_whole(io: &dyn BlockIo, path: &Path, bytes: &[u8], durable: Durable) -> Result<(), WorkerError> {
    let unfinished = unfinished(path);
    io.remove(&unfinished).map_err(|error| WorkerError::disk("remove", &unfinished, error))?;
    let file = io.create(&unfinished).map_err(|error| WorkerError::disk("create", &unfinished, error))?;
    file.write_at(bytes, 0).map_err(|error| WorkerError::disk("write", &unfinished, error))?;
    if durable == Durable::Yes {
        file.sync().map_err(|error| WorkerError::disk("sync", &unfinished, error))?;
    }
    io.rename(&unfinished, path).map_err(|error| WorkerError::disk("rename into place", path, error))?;
    if durable == Durable::Yes {
        let parent = path.parent().unwrap_or(Path::new("."));
        io.sync_dir(parent).map_err(|error| WorkerError::disk("sync", parent, error))?;
    }
    Ok(())
}

/// Where a file is written before it takes its name.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn stem(copy: Copy) -> String {
    format!("{:010x}-{:06x}.{:012x}", copy.block.container().0, copy.block.index(), copy.serial)
}

/// What a file name in a shard says; None when it is not one of ours.
pub fn parse_name(name: &str) -> Option<(Copy, Part)> {
    let (name, unfinished) = match name.strip_suffix(".tmp") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (stem, part) = match (name.strip_suffix(".data"), name.strip_suffix(".meta")) {
        (Some(stem), None) => (stem, Part::Data),
        (None, Some(stem)) => (stem, Part::Meta),
        (None, None) | (Some(_), Some(_)) => return None,
    };
    let (id, serial) = stem.split_once('.')?;
    let (container, index) = id.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let block = ContainerId(hex(container)?).block(hex(index)?)?;
    let copy = Copy { block, serial: hex(serial)? };
    Some((copy, if unfinished { Part::Unfinished } else { part }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::io::memory::MemoryIo;

    #[test]
    fn names_lead_back() {
        let dir = Dir { index: DirIndex(0), root: "/d".into() };
        let copy = Copy { block: ContainerId(5092).block(3).expect("small"), serial: 17 };
        let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
        assert_eq!(parse_name(&name(&dir.data(copy))), Some((copy, Part::Data)));
        assert_eq!(parse_name(&name(&dir.meta(copy))), Some((copy, Part::Meta)));
        assert_eq!(parse_name(&name(&unfinished(&dir.meta(copy)))), Some((copy, Part::Unfinished)));
        assert_eq!(dir.data(copy), Path::new("/d/blocks/e7/00000013e4-000003.000000000011.data"));
        for other in ["lost+found", "x.data", "1-2.3", "zz-1.1.data"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn identities_lead_back_and_strange_ones_are_refused() {
        let io = MemoryIo::default();
        let dir = Dir { index: DirIndex(0), root: "/d".into() };
        io.make_dir(&dir.root).expect("memory");
        assert_eq!(dir.identity(&io).expect("new"), None);
        let who = Identity {
            identity: 7,
            worker: Some(WorkerId(3)),
            cluster: Some(ClusterId(9)),
            incarnation: Incarnation(1),
        };
        dir.set_identity(&io, &who).expect("memory");
        assert_eq!(dir.identity(&io).expect("read"), Some(who));
        let newer = br#"{"format":2,"identity":"7","worker":3,"cluster":"9","incarnation":1}"#;
        write_whole(&io, Path::new("/d/identity.json"), newer, Durable::No).expect("memory");
        let refused = dir.identity(&io).expect_err("newer").to_string();
        assert!(refused.contains("has format 2, this release knows 1"), "{refused}");
        write_whole(&io, Path::new("/d/identity.json"), b"{", Durable::No).expect("memory");
        assert!(dir.identity(&io).expect_err("cut").to_string().contains("is damaged"));
    }

    #[test]
    fn an_identity_of_the_first_release_is_read_and_a_flipped_bit_makes_nobody_else() {
        let io = MemoryIo::default();
        let dir = Dir { index: DirIndex(0), root: "/d".into() };
        io.make_dir(&dir.root).expect("memory");
        let first = br#"{"format":1,"identity":"7","worker":3,"cluster":"9","incarnation":1}"#;
        let path = Path::new("/d/identity.json");
        write_whole(&io, path, first, Durable::No).expect("memory");
        let who = dir.identity(&io).expect("read").expect("there");
        dir.set_identity(&io, &who).expect("memory");
        let whole = io.read(path, IDENTITY_BYTES_MAX).expect("memory");
        for at in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            write_whole(&io, path, &bytes, Durable::No).expect("memory");
            match dir.identity(&io) {
                Ok(read) => assert_eq!(read, Some(who), "bit {at}"),
                Err(why) => assert!(why.to_string().contains("identity.json"), "{why}"),
            }
        }
    }

    #[test]
    fn fuzz_worker_files() {
        let dir = Dir { index: DirIndex(0), root: "/d".into() };
        let copy = Copy { block: ContainerId(5092).block(3).expect("small"), serial: 17 };
        let identity = br#"{"format":1,"identity":"7","worker":3,"cluster":"9","incarnation":1}"#.to_vec();
        let name = |path: PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
        let samples = [identity, name(dir.data(copy)).into_bytes(), name(unfinished(&dir.meta(copy))).into_bytes()];
        testkit::fuzz::fuzz("worker_files", &samples, |bytes| {
            if let Some((copy, part)) = parse_name(&String::from_utf8_lossy(bytes)) {
                let path = if part == Part::Meta { dir.meta(copy) } else { dir.data(copy) };
                assert_eq!(parse_name(&name(path)).expect("it leads back").0, copy);
            }
            let io = MemoryIo::default();
            io.make_dir(&dir.root).expect("memory");
            io.create(&dir.root.join("identity.json")).and_then(|file| file.write_at(bytes, 0)).expect("memory");
            if let Ok(Some(who)) = dir.identity(&io) {
                dir.set_identity(&io, &who).expect("memory");
                assert_eq!(dir.identity(&io).expect("its own"), Some(who));
            }
        });
    }
}
