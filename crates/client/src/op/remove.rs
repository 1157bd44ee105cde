//! Removes a file or directory.

use super::mutation_as;
use crate::{FileSystem, Result};
use proto::grpc::file::{DeletePOptions, DeletePRequest};
use types::{GfsPath, OperationId};

/// How something is removed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Remove {
    /// A directory with all that is below it.
    pub recursive: bool,
    /// From GooseFS only; the store keeps its copy.
    pub goosefs_only: bool,
    /// Without looking whether the store holds entries below that are unknown here.
    pub unchecked: bool,
}

impl FileSystem {
    /// Removes `path`. Errors: NotFound, Precondition for a directory with entries, Denied.
    pub async fn remove(&self, path: &GfsPath, how: Remove) -> Result<()> {
        self.remove_as(path, how, self.operation_id()).await
    }

    pub(crate) async fn remove_as(&self, path: &GfsPath, how: Remove, operation: OperationId) -> Result<()> {
        let request = DeletePRequest {
            path: Some(path.to_string()),
            options: Some(DeletePOptions {
                recursive: Some(how.recursive),
                goosefs_only: Some(how.goosefs_only),
                unchecked: Some(how.unchecked),
                common_options: mutation_as(operation),
                ..DeletePOptions::default()
            }),
        };
        self.shared.master.ask("remove", path.as_str(), request).await.map(drop)
    }
}
