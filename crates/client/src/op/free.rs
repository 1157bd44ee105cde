//! Drops cached blocks.

use crate::{FileSystem, Result};
use proto::grpc::file::{FreePOptions, FreePRequest};
use types::GfsPath;

/// How a cache is freed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Free {
    pub recursive: bool,
    /// What is held on to, too.
    pub forced: bool,
}

impl FileSystem {
    /// Drops the cached blocks of `path`; the store keeps the data.
    /// Errors: NotFound, Precondition when the cache holds the only copy, Denied.
    pub async fn free(&self, path: &GfsPath, how: Free) -> Result<()> {
        let request = FreePRequest {
            path: Some(path.to_string()),
            options: Some(FreePOptions {
                recursive: Some(how.recursive),
                forced: Some(how.forced),
                common_options: self.mutation(),
                ..FreePOptions::default()
            }),
        };
        self.shared.master.ask("free", path.as_str(), request).await.map(drop)
    }
}
