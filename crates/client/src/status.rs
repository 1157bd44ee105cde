//! What the cluster says about files and workers, in our words.

use crate::Error;
use proto::convert;
use proto::grpc::WorkerStatus as WireState;
use proto::grpc::block::WorkerInfo;
use proto::grpc::file::FileInfo;
use std::collections::BTreeMap;
use types::{BlockId, FileId, GfsPath, Mode, PersistenceState, UnixMs, WorkerId, WriteType};

/// The wire's number of the checksum that files get unless their writer is told otherwise.
const CRC32C: u8 = 2;

/// A file or directory as the master described it.
#[derive(Clone, PartialEq, Debug)]
pub struct FileStatus {
    pub file: FileId,
    pub path: GfsPath,
    /// Where the store has it, or would have it; empty: in no store.
    pub ufs_path: String,
    /// Bytes of a file; entries of a directory, 0 if the master does not say.
    pub length: u64,
    pub block_bytes: u64,
    pub created: UnixMs,
    pub modified: UnixMs,
    pub completed: bool,
    pub folder: bool,
    pub cacheable: bool,
    pub persistence: PersistenceState,
    pub mount_point: bool,
    pub mount_id: i64,
    pub owner: String,
    pub group: String,
    pub mode: Mode,
    /// In file order.
    pub blocks: Vec<BlockStatus>,
    /// Share of the content that is cached, 0 to 100.
    pub cached_percent: u8,
    /// As the store told it; empty: unknown.
    pub fingerprint: String,
    pub xattr: BTreeMap<String, Vec<u8>>,
    pub symlink: Option<String>,
}

/// One block of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct BlockStatus {
    pub block: BlockId,
    /// Within the file.
    pub offset: u64,
    pub length: u64,
    pub locations: Vec<Location>,
}

/// A worker said to hold a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    pub worker: WorkerId,
    pub host: String,
    pub port: u16,
}

impl FileStatus {
    /// `innerWriteType`: the write type new entries of this directory get unless a call says otherwise.
    pub fn inner_write_type(&self) -> Option<WriteType> {
        self.xattr.get("innerWriteType").and_then(|name| WriteType::from_name(std::str::from_utf8(name).ok()?))
    }

    /// CRC32C of the whole content, as its writer told the master; None: it told none, or the file comes from a store.
    pub fn crc32c(&self) -> Option<u32> {
        let is_crc32c = self.xattr.get("CrcType").is_some_and(|kind| kind[..] == [CRC32C]);
        let value = self.xattr.get("CrcValue").filter(|_| is_crc32c)?;
        Some(u32::from_be_bytes(value[..].try_into().ok()?))
    }

    pub(crate) fn from_wire(info: FileInfo) -> Result<FileStatus, Error> {
        let shown = info.path.clone().unwrap_or_default();
        let bad = |what: String| Error::Message { verb: "read the status of", subject: shown.clone(), what };
        let words = |e: convert::WireError| bad(e.to_string());
        let unsigned = |number: Option<i64>, what| {
            u64::try_from(number.unwrap_or(0)).map_err(|_| bad(format!("its {what} is negative")))
        };
        let blocks = info.file_block_infos.into_iter().map(|entry| {
            let block = entry.block_info.ok_or_else(|| bad("a block has no description".into()))?;
            Ok::<_, Error>(BlockStatus {
                block: convert::id::block(block.block_id()).map_err(words)?,
                offset: unsigned(entry.offset, "block offset")?,
                length: unsigned(block.length, "block length")?,
                locations: block.locations.into_iter().filter_map(location).collect(),
            })
        });
        let persistence = match info.persistence_state.as_deref() {
            Some("PERSISTED") => PersistenceState::Persisted,
            Some("TO_BE_PERSISTED") => PersistenceState::ToBePersisted,
            Some("LOST") => PersistenceState::Lost,
            Some("NOT_PERSISTED") | None => PersistenceState::NotPersisted,
            Some(other) => return Err(bad(format!("its persistence state is {other:?}"))),
        };
        Ok(FileStatus {
            file: convert::id::file(info.file_id.unwrap_or(0)).map_err(words)?,
            path: GfsPath::parse(&shown).map_err(|e| bad(e.to_string()))?,
            ufs_path: info.ufs_path.unwrap_or_default(),
            length: unsigned(info.length, "length")?,
            block_bytes: unsigned(info.block_size_bytes, "block size")?,
            created: UnixMs(info.creation_time_ms.unwrap_or(0)),
            modified: UnixMs(info.last_modification_time_ms.unwrap_or(0)),
            completed: info.completed.unwrap_or(false),
            folder: info.folder.unwrap_or(false),
            cacheable: info.cacheable.unwrap_or(true),
            persistence,
            mount_point: info.mount_point.unwrap_or(false),
            mount_id: info.mount_id.unwrap_or(0),
            owner: info.owner.unwrap_or_default(),
            group: info.group.unwrap_or_default(),
            mode: convert::mode::from_number(i64::from(info.mode.unwrap_or(0))).map_err(words)?,
            blocks: blocks.collect::<Result<_, _>>()?,
            cached_percent: info.in_goose_fs_percentage.and_then(|p| u8::try_from(p).ok()).unwrap_or(0),
            fingerprint: info.ufs_fingerprint.unwrap_or_default(),
            xattr: info.xattr.into_iter().map(|(name, value)| (name, value.to_vec())).collect(),
            symlink: info.symlink.filter(|target| !target.is_empty()),
        })
    }
}

fn location(at: proto::grpc::BlockLocation) -> Option<Location> {
    let address = at.worker_address?;
    Some(Location {
        worker: convert::id::worker(at.worker_id?).ok()?,
        port: u16::try_from(address.rpc_port?).ok()?,
        host: address.host?,
    })
}

/// What a worker is doing, as the master sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerState {
    Starting,
    Active,
    Inactive,
    WarmingUp,
}

/// A worker as the master described it.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkerStatus {
    pub worker: WorkerId,
    pub host: String,
    pub port: u16,
    pub state: WorkerState,
    /// False for workers the master has lost.
    pub alive: bool,
    pub last_contact_s: u32,
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub persist_used_bytes: u64,
    pub started: UnixMs,
    /// Points on the ring.
    pub virtual_nodes: u32,
    /// Takes no writes.
    pub forbid_write: bool,
}

impl WorkerStatus {
    pub(crate) fn from_wire(info: WorkerInfo) -> Result<WorkerStatus, Error> {
        let state = info.state();
        let address = info.address.unwrap_or_default();
        let host = address.host.unwrap_or_default();
        let bad = |what: String| Error::Message { verb: "read the status of worker", subject: host.clone(), what };
        let unsigned = |number: Option<i64>| u64::try_from(number.unwrap_or(0)).unwrap_or(0);
        Ok(WorkerStatus {
            worker: convert::id::worker(info.id.unwrap_or(0)).map_err(|e| bad(e.to_string()))?,
            port: address
                .rpc_port
                .and_then(|port| u16::try_from(port).ok())
                .ok_or_else(|| bad("it has no port".into()))?,
            state: match state {
                WireState::Init => WorkerState::Starting,
                WireState::Active => WorkerState::Active,
                WireState::Inactive => WorkerState::Inactive,
                WireState::WarmingUp => WorkerState::WarmingUp,
            },
            alive: info.alive.unwrap_or(true),
            last_contact_s: info.last_contact_sec.and_then(|s| u32::try_from(s).ok()).unwrap_or(0),
            capacity_bytes: unsigned(info.capacity_bytes),
            used_bytes: unsigned(info.used_bytes),
            persist_used_bytes: unsigned(info.persist_used_bytes),
            started: UnixMs(info.start_time_ms.unwrap_or(0)),
            virtual_nodes: info
                .virtual_node_num
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n > 0)
                .unwrap_or(placement::VIRTUAL_NODES),
            forbid_write: info.forbid_write.unwrap_or(false),
            host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use proto::grpc::file::FileBlockInfo;
    use proto::grpc::{BlockInfo, BlockLocation, WorkerNetAddress};

    fn sample() -> FileInfo {
        let address = WorkerNetAddress { host: Some("w".into()), rpc_port: Some(9203), ..WorkerNetAddress::default() };
        let location = BlockLocation { worker_id: Some(4), worker_address: Some(address) };
        let info =
            BlockInfo { block_id: Some(5 << 24), length: Some(9), locations: vec![location], ..BlockInfo::default() };
        let block = FileBlockInfo { block_info: Some(info), offset: Some(0), ..FileBlockInfo::default() };
        FileInfo {
            file_id: Some(5 << 24 | 0xFF_FFFF),
            path: Some("/a/b".into()),
            length: Some(9),
            persistence_state: Some("PERSISTED".into()),
            file_block_infos: vec![block],
            mode: Some(0o644),
            ..FileInfo::default()
        }
    }

    #[test]
    fn fuzz_answers_of_a_master() {
        let worker = WorkerInfo { id: Some(4), ..WorkerInfo::default() };
        let samples = [sample().encode_to_vec(), worker.encode_to_vec()];
        testkit::fuzz::fuzz("answers_of_a_master", &samples, |bytes| {
            if let Ok(status) =
                FileInfo::decode(bytes).map_err(drop).and_then(|info| FileStatus::from_wire(info).map_err(drop))
            {
                assert!(status.path.as_str().starts_with('/'));
            }
            let _ = WorkerInfo::decode(bytes).map(WorkerStatus::from_wire);
        });
    }
}
