//! One operation of [`crate::FileSystem`] per file.

pub(crate) mod batch;
pub(crate) mod cluster;
pub(crate) mod free;
mod list;
pub(crate) mod load;
pub(crate) mod make_directory;
pub(crate) mod namespace;
mod persist;
pub(crate) mod remove;
mod rename;
pub(crate) mod set_attributes;
pub(crate) mod status;

use crate::FileSystem;
use proto::convert;
use proto::grpc::file::FileSystemMasterCommonPOptions;
use types::OperationId;

impl FileSystem {
    pub(crate) fn operation_id(&self) -> OperationId {
        self.shared.master.operation_id()
    }

    /// Options every mutation carries: a fresh operation id, to be sent alike on each retry.
    pub(crate) fn mutation(&self) -> Option<FileSystemMasterCommonPOptions> {
        mutation_as(self.operation_id())
    }
}

/// The same for a mutation that was perhaps sent before.
pub(crate) fn mutation_as(operation: OperationId) -> Option<FileSystemMasterCommonPOptions> {
    let operation_id = Some(convert::operation_id::to_wire(operation));
    Some(FileSystemMasterCommonPOptions { operation_id, sync_interval_ms: None })
}

/// Cuts a string map into messages' own map type.
pub(crate) fn map<K, V, M: FromIterator<(K, V)>>(entries: impl IntoIterator<Item = (K, V)>) -> M {
    entries.into_iter().collect()
}
