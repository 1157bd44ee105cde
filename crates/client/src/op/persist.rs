//! Asks for a cached file to be uploaded.

use crate::{FileSystem, Result};
use proto::grpc::file::{ScheduleAsyncPersistencePOptions, ScheduleAsyncPersistencePRequest};
use std::time::Duration;
use types::GfsPath;

impl FileSystem {
    /// Schedules the upload of `path`, `wait` from now; [`crate::FileStatus::persistence`] tells when it is done.
    /// Errors: NotFound, Precondition for an incomplete file or one without a store, Denied.
    pub async fn schedule_persist(&self, path: &GfsPath, wait: Duration) -> Result<()> {
        let request = ScheduleAsyncPersistencePRequest {
            path: Some(path.to_string()),
            options: Some(ScheduleAsyncPersistencePOptions {
                common_options: self.mutation(),
                persistence_wait_time: Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
            }),
        };
        self.shared.master.ask("persist", path.as_str(), request).await.map(drop)
    }
}
