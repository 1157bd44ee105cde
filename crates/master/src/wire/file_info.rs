//! What the official wire says of an inode.

use crate::shared::Shared;
use meta::{Node, Spot, Status};
use proto::grpc::file::{FileBlockInfo, FileInfo};
use proto::grpc::{BlockInfo, BlockLocation, WorkerNetAddress};
use std::collections::HashMap;
use types::{PersistenceState, WorkerId};

/// Block size shown for directories.
const NO_BLOCKS: i64 = 0;

/// Builds the message. Cost: one look into the location table for files.
pub fn file_info(shared: &Shared, status: &Status) -> FileInfo {
    let Spot { inode, path, .. } = &status.spot;
    let mut info = FileInfo {
        file_id: Some(inode.container.file().to_wire()),
        name: Some(path.file_name().to_owned()),
        path: Some(path.as_str().to_owned()),
        ufs_path: Some(status.ufs_path()),
        creation_time_ms: Some(inode.created.0),
        last_modification_time_ms: Some(inode.modified.0),
        last_access_time_ms: Some(inode.modified.0),
        owner: Some(inode.owner.clone()),
        group: Some(inode.group.clone()),
        mode: Some(i32::from(inode.mode.bits())),
        mount_id: Some(status.mount.id.0.cast_signed()),
        mount_point: Some(status.mount.path == *path),
        cacheable: Some(true),
        in_memory_percentage: Some(0),
        in_goose_fs_percentage: Some(0),
        xattr: status.xattrs().into_iter().map(|(name, value)| (name, value.into())).collect(),
        ..FileInfo::default()
    };
    match &inode.node {
        Node::Directory(directory) => {
            info.folder = Some(true);
            info.completed = Some(true);
            info.length = Some(directory.children.cast_signed());
            info.block_size_bytes = Some(NO_BLOCKS);
            info.persisted = Some(directory.persisted);
            let state = if directory.persisted { PersistenceState::Persisted } else { PersistenceState::NotPersisted };
            info.persistence_state = Some(state.name().to_owned());
        }
        Node::File(file) => {
            info.folder = Some(false);
            info.completed = Some(file.complete);
            info.length = Some(file.length.cast_signed());
            info.block_size_bytes = Some(file.block_bytes.cast_signed());
            info.persisted = Some(file.persistence == PersistenceState::Persisted);
            info.persistence_state = Some(file.persistence.name().to_owned());
            info.ufs_fingerprint = file.fingerprint.as_ref().map(ToString::to_string);
            blocks(shared, status, &mut info);
        }
    }
    info
}

/// Fills the block list, in index order with real lengths, and the percentage that is cached.
fn blocks(shared: &Shared, status: &Status, info: &mut FileInfo) {
    let reported = shared.locations.of(status.spot.inode.container);
    let mut places: Vec<(u64, WorkerId, u64)> = Vec::new();
    for block in status.blocks() {
        let index = block.id.index();
        let here = reported.iter().filter(|(at, _, _)| *at == index);
        let journaled = block.workers.iter().filter(|worker| !here.clone().any(|(_, held, _)| held == *worker));
        places.extend(journaled.map(|worker| (index, *worker, block.length)));
        places.extend(here);
    }
    let addresses = addresses(shared, &places);
    let (mut cached_bytes, mut length) = (0, 0);
    for block in status.blocks() {
        let here = places.iter().filter(|(at, _, _)| *at == block.id.index());
        length += block.length;
        cached_bytes += here.clone().map(|(_, _, bytes)| *bytes).max().unwrap_or(0).min(block.length);
        let locations = here
            .filter_map(|(_, worker, _)| {
                let address = addresses.get(worker)?.clone();
                Some(BlockLocation { worker_id: Some(worker.0.cast_signed()), worker_address: Some(address) })
            })
            .collect();
        info.block_ids.push(block.id.to_wire());
        info.file_block_infos.push(FileBlockInfo {
            block_info: Some(BlockInfo {
                block_id: Some(block.id.to_wire()),
                length: Some(block.length.cast_signed()),
                locations,
                ..BlockInfo::default()
            }),
            offset: Some(block.offset.cast_signed()),
            ..FileBlockInfo::default()
        });
    }
    let complete = status.spot.inode.file().is_some_and(|file| file.complete);
    let percent = (cached_bytes * 100).checked_div(length).unwrap_or(if complete { 100 } else { 0 });
    info.in_goose_fs_percentage = i32::try_from(percent).ok();
}

fn addresses(shared: &Shared, places: &[(u64, WorkerId, u64)]) -> HashMap<WorkerId, WorkerNetAddress> {
    if places.is_empty() {
        return HashMap::new();
    }
    let registry = shared.registry.lock();
    places.iter().filter_map(|(_, id, _)| registry.get(*id)).map(|worker| (worker.id, net_address(worker))).collect()
}

pub fn net_address(worker: &crate::registry::Worker) -> WorkerNetAddress {
    WorkerNetAddress {
        host: Some(worker.host.clone()),
        rpc_port: Some(i32::from(worker.rpc_port)),
        data_port: Some(i32::from(worker.rpc_port)),
        web_port: Some(i32::from(worker.web_port)),
        ..WorkerNetAddress::default()
    }
}
