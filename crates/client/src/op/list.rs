//! The entries of a directory.

use super::status::Freshness;
use crate::link::{MAX_MESSAGE_BYTES, Service};
use crate::{Error, FileStatus, FileSystem, Result};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use proto::grpc::file::file_system_master_client_service_client::FileSystemMasterClientServiceClient;
use proto::grpc::file::{ListStatusPOptions, ListStatusPRequest};
use types::GfsPath;

fn stub(service: Service) -> FileSystemMasterClientServiceClient<Service> {
    FileSystemMasterClientServiceClient::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

fn list_options(freshness: Freshness) -> ListStatusPOptions {
    ListStatusPOptions {
        load_metadata_type: freshness.load_to_wire(),
        common_options: freshness.common_to_wire(),
        ..ListStatusPOptions::default()
    }
}

impl FileSystem {
    /// The children of `path` as they arrive, or the file itself if it is one. The stream ends at the first error.
    ///
    /// Errors: NotFound, Denied, and whatever breaks the stream: a listing is never silently short.
    pub async fn list(&self, path: &GfsPath) -> Result<impl Stream<Item = Result<FileStatus>> + Send + use<>> {
        self.list_with(path, Freshness::of(self.config())).await
    }

    /// As [`FileSystem::list`], as fresh as the caller says.
    pub async fn list_with(
        &self,
        path: &GfsPath,
        freshness: Freshness,
    ) -> Result<impl Stream<Item = Result<FileStatus>> + Send + use<>> {
        const VERB: &str = "list";
        let request = ListStatusPRequest {
            path: Some(path.to_string()),
            options: Some(list_options(freshness)),
            request_id: None,
        };
        // The first message belongs to the call: an error before it is one that another try may mend.
        let call = |service| {
            let request = request.clone();
            async move {
                let mut messages = stub(service).list_status(request).await?.into_inner();
                let first = messages.message().await?;
                Ok((first, messages))
            }
        };
        let (first, rest) = self.shared.master.call(VERB, path.as_str(), call).await?;
        let subject = path.to_string();
        let messages = stream::iter(first.map(Ok)).chain(rest);
        let entries = messages
            .map_err(move |status| Error::refused(VERB, &subject, &status))
            .map_ok(|message| stream::iter(message.file_infos).map(FileStatus::from_wire))
            .try_flatten();
        Ok(entries)
    }

    /// Has the master take in what the store lists in `path`, and sends none of it here: of a directory of millions that is
    /// most of the way to its first listing. A file is looked at.
    ///
    /// Errors: NotFound, Denied, the store's. Whoever asks again goes on where a load was cut off not long ago.
    /// Cost: one call, however long it takes.
    pub async fn load_listing(&self, path: &GfsPath, freshness: Freshness) -> Result<()> {
        let request = ListStatusPRequest {
            path: Some(path.to_string()),
            options: Some(ListStatusPOptions { load_metadata_only: Some(true), ..list_options(freshness) }),
            request_id: None,
        };
        let call = |service| {
            let request = request.clone();
            async move {
                let mut none = stub(service).list_status(request).await?.into_inner();
                while none.message().await?.is_some() {}
                Ok(())
            }
        };
        self.shared.master.call("load the listing of", path.as_str(), call).await
    }

    /// All children of `path` at once. Cost: memory for all of them; prefer [`FileSystem::list`] for large directories.
    pub async fn list_all(&self, path: &GfsPath) -> Result<Vec<FileStatus>> {
        self.list(path).await?.try_collect().await
    }
}
