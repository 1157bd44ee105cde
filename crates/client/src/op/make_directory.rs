//! Makes a directory.

use super::mutation_as;
use crate::{FileSystem, Result};
use proto::convert;
use proto::grpc::file::{CreateDirectoryPOptions, CreateDirectoryPRequest};
use types::{GfsPath, Mode, OperationId};

/// How a directory is made.
#[derive(Clone, Copy, Debug)]
pub struct MakeDirectory {
    /// Missing parents too.
    pub recursive: bool,
    /// A directory that exists already is fine.
    pub allow_exists: bool,
    pub mode: Mode,
}

impl FileSystem {
    /// Makes `path` a directory. Errors: AlreadyExists, NotFound for a missing parent, Denied.
    pub async fn make_directory(&self, path: &GfsPath, how: MakeDirectory) -> Result<()> {
        self.make_directory_as(path, how, self.operation_id()).await
    }

    pub(crate) async fn make_directory_as(
        &self,
        path: &GfsPath,
        how: MakeDirectory,
        operation: OperationId,
    ) -> Result<()> {
        let request = CreateDirectoryPRequest {
            path: Some(path.to_string()),
            options: Some(CreateDirectoryPOptions {
                recursive: Some(how.recursive),
                allow_exists: Some(how.allow_exists),
                mode: Some(convert::mode::to_wire(how.mode)),
                common_options: mutation_as(operation),
                ..CreateDirectoryPOptions::default()
            }),
        };
        self.shared.master.ask("make directory", path.as_str(), request).await.map(drop)
    }
}
