//! A store that is mounted read-only.

use crate::capability::Capabilities;
use crate::error::{Failure, UfsError, Verb};
use crate::key::Key;
use crate::store::{Attributes, ObjectInfo, Page, PageToken, ReadStream, Removal, UnderStore, WriteOptions, Writer};
use async_trait::async_trait;
use std::ops::Range;
use std::sync::Arc;
use types::{Fingerprint, Mode, UnixMs};

/// Passes on what looks, refuses what changes with [`Failure::ReadOnly`].
pub struct ReadOnly(pub Arc<dyn UnderStore>);

impl ReadOnly {
    fn refuse<T>(&self, verb: Verb, key: Option<&Key>) -> Result<T, UfsError> {
        Err(UfsError::new(verb, self.0.uri(), key, Failure::ReadOnly))
    }
}

#[async_trait]
impl UnderStore for ReadOnly {
    fn uri(&self) -> &str {
        self.0.uri()
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    async fn check(&self) -> Result<(), UfsError> {
        self.0.check().await
    }
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, UfsError> {
        self.0.stat(key).await
    }
    async fn list(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.0.list(dir, after, limit).await
    }
    fn behind(&self, entry: &Key) -> PageToken {
        self.0.behind(entry)
    }
    async fn list_recursive(&self, dir: &Key, after: Option<&PageToken>, limit: usize) -> Result<Page, UfsError> {
        self.0.list_recursive(dir, after, limit).await
    }
    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
        condition: Option<&Fingerprint>,
    ) -> Result<ReadStream, UfsError> {
        self.0.read(key, range, condition).await
    }
    async fn write(&self, key: &Key, _: WriteOptions) -> Result<Box<dyn Writer>, UfsError> {
        self.refuse(Verb::Write, Some(key))
    }
    async fn delete(&self, key: &Key, _: Option<&Fingerprint>) -> Result<Removal, UfsError> {
        self.refuse(Verb::Delete, Some(key))
    }
    async fn delete_dir(&self, dir: &Key) -> Result<Removal, UfsError> {
        self.refuse(Verb::Delete, Some(dir))
    }
    async fn make_dir(&self, dir: &Key, _: Option<Mode>) -> Result<(), UfsError> {
        self.refuse(Verb::MakeDir, Some(dir))
    }
    async fn rename(&self, from: &Key, _: &Key) -> Result<(), UfsError> {
        self.refuse(Verb::Rename, Some(from))
    }
    async fn copy(&self, from: &Key, _: &Key, _: Option<&Fingerprint>) -> Result<ObjectInfo, UfsError> {
        self.refuse(Verb::Copy, Some(from))
    }
    async fn set_attributes(&self, key: &Key, _: &Attributes) -> Result<(), UfsError> {
        self.refuse(Verb::SetAttributes, Some(key))
    }
    /// Nothing of ours can have been left there.
    async fn sweep(&self, _: UnixMs) -> Result<u64, UfsError> {
        Ok(0)
    }
}
