//! Changes owner, group or mode.

use crate::{FileSystem, Result};
use proto::convert;
use proto::grpc::file::{SetAttributePOptions, SetAttributePRequest};
use types::{GfsPath, Mode};

/// What changes; None stays as it is.
#[derive(Clone, Default, Debug)]
pub struct SetAttributes {
    pub owner: Option<String>,
    pub group: Option<String>,
    pub mode: Option<Mode>,
    /// Everything below a directory too.
    pub recursive: bool,
}

impl FileSystem {
    /// Changes attributes of `path`. Errors: NotFound, Denied.
    pub async fn set_attributes(&self, path: &GfsPath, change: SetAttributes) -> Result<()> {
        let request = SetAttributePRequest {
            path: Some(path.to_string()),
            options: Some(SetAttributePOptions {
                owner: change.owner,
                group: change.group,
                mode: change.mode.map(convert::mode::to_wire),
                recursive: Some(change.recursive),
                common_options: self.mutation(),
                ..SetAttributePOptions::default()
            }),
        };
        self.shared.master.ask("change the attributes of", path.as_str(), request).await.map(drop)
    }
}
