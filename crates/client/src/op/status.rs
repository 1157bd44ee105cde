//! The status of one path.

use crate::{ClientConfig, Error, FileStatus, FileSystem, Result};
use proto::convert;
use proto::grpc::file::{FileSystemMasterCommonPOptions, GetStatusPOptions, GetStatusPRequest};
use std::time::Duration;
use types::{ErrorKind, GfsPath, LoadMetadata};

/// How fresh metadata must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Freshness {
    pub load: LoadMetadata,
    /// Age at which known metadata are compared with the store; None: never.
    pub sync_interval: Option<Duration>,
}

impl Freshness {
    /// As the settings say.
    pub(crate) fn of(config: &ClientConfig) -> Freshness {
        Freshness { load: config.load, sync_interval: config.sync_interval }
    }
    /// The store is asked now.
    pub const NOW: Freshness = Freshness { load: LoadMetadata::Always, sync_interval: Some(Duration::ZERO) };

    pub(crate) fn load_to_wire(self) -> Option<i32> {
        Some(convert::load_metadata::to_wire(self.load))
    }
    pub(crate) fn common_to_wire(self) -> Option<FileSystemMasterCommonPOptions> {
        let ms = self.sync_interval.map_or(-1, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        Some(FileSystemMasterCommonPOptions { sync_interval_ms: Some(ms), operation_id: None })
    }
}

impl FileSystem {
    /// The status of `path`, as fresh as the settings say. Errors: NotFound, Denied. Cost: one call to the master.
    pub async fn status(&self, path: &GfsPath) -> Result<FileStatus> {
        self.status_with(path, Freshness::of(self.config())).await
    }

    /// The status of `path`, as fresh as the caller says.
    pub async fn status_with(&self, path: &GfsPath, freshness: Freshness) -> Result<FileStatus> {
        let request = GetStatusPRequest {
            path: Some(path.to_string()),
            options: Some(GetStatusPOptions {
                load_metadata_type: freshness.load_to_wire(),
                common_options: freshness.common_to_wire(),
                ..GetStatusPOptions::default()
            }),
            request_id: None,
        };
        let answer = self.shared.master.ask("read the status of", path.as_str(), request).await?;
        let info = answer.file_info.ok_or_else(|| Error::Message {
            verb: "read the status of",
            subject: path.to_string(),
            what: "it lacks the status".into(),
        })?;
        FileStatus::from_wire(info)
    }

    /// The status of `path`, or None if it does not exist.
    pub async fn find(&self, path: &GfsPath) -> Result<Option<FileStatus>> {
        match self.status(path).await {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
