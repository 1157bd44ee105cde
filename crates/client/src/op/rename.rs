//! Moves a file or directory to another name.

use crate::{FileSystem, Result};
use proto::grpc::file::{RenamePOptions, RenamePRequest};
use types::GfsPath;

impl FileSystem {
    /// Renames `from` to `to`, atomically and never over something.
    /// Errors: NotFound (the source, or the destination's parent), AlreadyExists, Precondition across stores, Denied.
    pub async fn rename(&self, from: &GfsPath, to: &GfsPath) -> Result<()> {
        let request = RenamePRequest {
            path: Some(from.to_string()),
            dst_path: Some(to.to_string()),
            options: Some(RenamePOptions {
                common_options: self.mutation(),
                persist: Some(self.config().persist_on_rename),
            }),
        };
        self.shared.master.ask("rename", &format!("{from} to {to}"), request).await.map(drop)
    }
}
