//! Namespaces: stores mounted under a top-level name.

use super::map;
use crate::{Error, FileSystem, Result};
use proto::admin::{CreateNamespaceRequest, ListNamespacesRequest, Namespace, SetPolicyRequest};
use proto::convert;
use proto::grpc::file::{
    DeleteNamespacePOptions, DeleteNamespacePRequest, UpdateNamespacePOptions, UpdateNamespacePRequest,
};
use std::collections::BTreeMap;
use types::{ErrorKind, ReadPolicy, Secret, WriteType};

/// A namespace to be.
#[derive(Clone, Debug)]
pub struct NewNamespace {
    pub name: String,
    pub ufs_uri: String,
    pub read_only: bool,
    pub shared: bool,
    /// None: CACHE_THROUGH.
    pub write_policy: Option<WriteType>,
    /// None: CACHE.
    pub read_policy: Option<ReadPolicy>,
    pub properties: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
}

/// What changes about a namespace.
#[derive(Clone, Debug)]
pub struct NamespaceChange {
    pub read_only: Option<bool>,
    pub shared: Option<bool>,
    /// All of them: what is left out goes back to its default. Secrets stand among them.
    pub properties: BTreeMap<String, Secret>,
}

fn text(name: &str, secret: &Secret) -> Result<String> {
    secret.expose_str().map(str::to_owned).ok_or_else(|| Error::Refused {
        verb: "read property",
        subject: name.to_owned(),
        kind: ErrorKind::Invalid,
        message: "its value is not UTF-8".into(),
    })
}

impl FileSystem {
    /// Mounts a store. Errors: AlreadyExists, Precondition with the store's own reason, Invalid, Denied.
    pub async fn create_namespace(&self, new: NewNamespace) -> Result<()> {
        let secrets = new.secrets.iter().map(|(name, secret)| Ok((name.clone(), text(name, secret)?)));
        let request = CreateNamespaceRequest {
            secrets: secrets.collect::<Result<_>>()?,
            ufs_uri: new.ufs_uri,
            read_only: new.read_only,
            shared: new.shared,
            write_policy: convert::write_type::to_wire(new.write_policy),
            read_policy: convert::read_policy::to_admin(new.read_policy),
            properties: map(new.properties),
            operation: Some(convert::operation_id::to_admin(self.operation_id())),
            name: new.name.clone(),
        };
        self.shared.master.ask("create namespace", &new.name, request).await.map(drop)
    }

    /// Unmounts a store: cache and metadata go, the store's data stay. Errors: NotFound, Invalid for the root, Denied.
    pub async fn delete_namespace(&self, name: &str) -> Result<()> {
        let request = DeleteNamespacePRequest {
            namespace: Some(name.to_owned()),
            options: Some(DeleteNamespacePOptions { common_options: self.mutation() }),
        };
        self.shared.master.ask("delete namespace", name, request).await.map(drop)
    }

    /// Every namespace, the root among them.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>> {
        Ok(self.shared.master.ask("list", "namespaces", ListNamespacesRequest {}).await?.namespaces)
    }

    /// Sets or clears policies: None leaves one as it is, `Some(None)` clears it. Errors: NotFound, Denied.
    pub async fn set_policy(
        &self,
        name: &str,
        write: Option<Option<WriteType>>,
        read: Option<Option<ReadPolicy>>,
    ) -> Result<()> {
        let request = SetPolicyRequest {
            name: name.to_owned(),
            write_policy: write.map(convert::write_type::to_wire),
            read_policy: read.map(convert::read_policy::to_admin),
            operation: Some(convert::operation_id::to_admin(self.operation_id())),
        };
        self.shared.master.ask("set the policy of namespace", name, request).await.map(drop)
    }

    /// Replaces the properties and flags of a namespace, credentials above all, while it stays mounted.
    /// Errors: NotFound, Precondition with the store's own reason, Denied.
    pub async fn update_namespace(&self, name: &str, change: NamespaceChange) -> Result<()> {
        let properties = change.properties.iter().map(|(key, value)| Ok((key.clone(), text(key, value)?)));
        let request = UpdateNamespacePRequest {
            namespace: Some(name.to_owned()),
            options: Some(UpdateNamespacePOptions {
                properties: properties.collect::<Result<_>>()?,
                read_only: change.read_only,
                shared: change.shared,
                common_options: self.mutation(),
            }),
        };
        self.shared.master.ask("update namespace", name, request).await.map(drop)
    }
}
